//! What differs between two configurations of one application, key by key.

use crate::diagnostics::Report;
use crate::layers::{Config, Needed, Origin, Source};

/// What two configurations say differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The keys with different values, in the order of the key table.
    pub differences: Vec<Difference>,
    /// Names that the left side leaves to a further layer.
    pub needed_left: Vec<Needed>,
    /// Names that the right side leaves to a further layer.
    pub needed_right: Vec<Needed>,
}

/// A key that the two sides do not agree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// What the left side says, if anything.
    pub left: Option<Side>,
    /// What the right side says, if anything.
    pub right: Option<Side>,
}

/// A value on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// The value, without what must not be printed.
    pub value: String,
    /// Whether something is not printed.
    pub sensitive: bool,
    /// Where it was written.
    pub origin: Origin,
}

impl Difference {
    /// Whether what differs is what must not be printed: both sides look the same.
    pub fn is_hidden(&self) -> bool {
        match (&self.left, &self.right) {
            (Some(left), Some(right)) => left.value == right.value,
            _ => false,
        }
    }
}

/// Merges both sides and compares the effective values. Names that no layer defines stay as they
/// are written.
///
/// # Errors
/// Everything that is wrong on either side, in one report.
pub fn compare(left: Vec<Source>, right: Vec<Source>) -> Result<Comparison, Report> {
    let (left, right) = match (Config::check(left), Config::check(right)) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(left), Err(right)) => return Err(left.join(right)),
        (Err(report), Ok(_)) | (Ok(_), Err(report)) => return Err(report),
    };
    let mut differences = Vec::new();
    let sides = left
        .rows(None)
        .into_iter()
        .map(|row| (row.section, row.key));
    for (section, key) in sides {
        let differs = match (left.get(&section, &key), right.get(&section, &key)) {
            (Some(left), Some(right)) => left.text != right.text,
            _ => true,
        };
        if differs {
            differences.push(difference(&left, &right, section, key));
        }
    }
    let only_right = right
        .rows(None)
        .into_iter()
        .map(|row| (row.section, row.key));
    for (section, key) in only_right {
        if left.get(&section, &key).is_none() {
            // Beside the others of its section.
            let after = differences
                .iter()
                .rposition(|other| other.section == section);
            let at = after.map_or(differences.len(), |index| index + 1);
            differences.insert(at, difference(&left, &right, section, key));
        }
    }
    Ok(Comparison {
        differences,
        needed_left: left.needed().to_vec(),
        needed_right: right.needed().to_vec(),
    })
}

fn difference(left: &Config, right: &Config, section: String, key: String) -> Difference {
    let side = |config: &Config| {
        let value = config.get(&section, &key)?;
        Some(Side {
            value: config.shown(&section, &key)?.to_owned(),
            sensitive: value.sensitive,
            origin: value.origin.clone(),
        })
    };
    Difference {
        left: side(left),
        right: side(right),
        section,
        key,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::layers::LayerKind;

    fn sources(site: &str, text: &str) -> Vec<Source> {
        let source = |layer, path: &str, text: &str| {
            Source::new(layer, PathBuf::from(path), text.to_owned())
        };
        let app =
            "[firewall.out.accept]\ndatabase = %(DB_HOST):3306\n[env]\nA = 1\nDB_PASSWORD = x\n";
        vec![
            source(LayerKind::App, ".metactl", app),
            source(LayerKind::Site, &format!("sites/{site}/myapp.conf"), text),
        ]
    }

    #[test]
    fn values_differ_by_their_effect() {
        let prod = "[env]\nDB_HOST = db.prod\nDB_PASSWORD = one\n[sandbox.limits]\nmemory = 2g\n";
        let test = "[env]\nDB_HOST = db.test\nDB_PASSWORD = two\nDEBUG = 1\n";
        let found = compare(sources("prod", prod), sources("test", test)).unwrap();
        let keys: Vec<_> = found
            .differences
            .iter()
            .map(|difference| format!("{}:{}", difference.section, difference.key))
            .collect();
        assert_eq!(
            keys,
            [
                "env:DB_PASSWORD",
                "env:DB_HOST",
                "env:DEBUG",
                "firewall.out.accept:database",
                "sandbox.limits:memory"
            ]
        );
        let password = &found.differences[0];
        assert!(password.is_hidden());
        assert_eq!(password.left.as_ref().unwrap().value, "***");
        assert!(found.differences[2].left.is_none());
        let database = found.differences[3].right.as_ref().unwrap();
        assert_eq!(database.value, "db.test:3306");
        assert_eq!(database.origin.to_string(), ".metactl:2");
        let memory = found.differences[4].right.as_ref().unwrap();
        assert_eq!(
            (memory.value.as_str(), memory.origin.to_string().as_str()),
            ("1g", "default")
        );
    }

    #[test]
    fn what_a_side_lacks_is_told_and_faults_of_both_are() {
        let found = compare(sources("a", "[env]\nDB_HOST = x\n"), sources("b", "")).unwrap();
        assert_eq!(found.needed_right[0].name, "DB_HOST");
        assert!(found.needed_left.is_empty());
        let report = compare(sources("a", "[bulid]\n"), sources("b", "[evn]\n")).unwrap_err();
        assert_eq!(report.diagnostics().len(), 2);
    }
}
