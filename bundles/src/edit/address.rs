//! How people name a key: `env:DB_HOST`, `webapp:jvm.heap.max`, or `jvm.heap.max` alone where only one
//! section can be meant.

use super::{Config, Diagnostic, Report, SectionMeaning, Selector, keys};

/// A section and a key, by their canonical names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// `daemon.webapp`.
    pub section: String,
    /// `jvm.heap.max`.
    pub key: String,
}

impl Address {
    /// Understands `SECTION:KEY`, or `KEY` when it stands in one section only.
    ///
    /// # Errors
    /// A section or key that there cannot be, and a key of several sections, with a suggestion.
    pub fn find(config: &Config, text: &str) -> Result<Address, Report> {
        if text.contains(':') {
            let Selector { section, key } = config.select(text)?;
            let key = key.filter(|key| !key.is_empty()).ok_or_else(|| {
                Diagnostic::error(format!("`{text}` names no key"))
                    .hint(format!("write {section}:KEY"))
            })?;
            return Ok(Address { section, key });
        }
        let mut found = candidates(config, text.trim());
        match (found.pop(), found.as_slice()) {
            (Some(address), []) => Ok(address),
            (Some(last), others) => {
                let all = others.iter().chain(std::iter::once(&last));
                let all: Vec<String> = all.map(Address::to_string).collect();
                Err(Diagnostic::error(format!("`{text}` can mean several keys"))
                    .hint(format!("say which one: {}", all.join(", ")))
                    .into())
            }
            (None, _) => Err(unknown(config, text)),
        }
    }
}

/// `env:DB_HOST`.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.section, self.key)
    }
}

/// Everything that a key without its section can mean: where it is set, else where it could be.
fn candidates(config: &Config, key: &str) -> Vec<Address> {
    let mut set = Vec::new();
    let mut possible = Vec::new();
    for section in config.sections() {
        let SectionMeaning::Known(spec) = keys::section(section) else {
            continue;
        };
        let Some((row, key)) = keys::find(spec, key) else {
            continue;
        };
        let address = Address {
            section: section.to_owned(),
            key: key.into_owned(),
        };
        let is_set = config.get(section, &address.key).is_some();
        let serves = match config.get(section, "platform") {
            Some(platform) if spec == "daemon.*" => row.serves(&platform.text),
            _ => true,
        };
        if is_set {
            set.push(address);
        } else if !row.name.contains('*') && serves && section != "daemon.*" {
            possible.push(address);
        }
    }
    for spec in keys::SECTIONS.iter().filter(|spec| spec.name != "server") {
        let known = config.section(spec.name).is_some() || spec.name.contains('*');
        if let (false, Some((row, key))) = (known, keys::find(spec.name, key))
            && !row.name.contains('*')
        {
            possible.push(Address {
                section: spec.name.to_owned(),
                key: key.into_owned(),
            });
        }
    }
    // A key of the table is meant as that: `ip` is no variable although every name could be one.
    if set.is_empty() {
        possible
    } else {
        set.extend(possible);
        set
    }
}

fn unknown(config: &Config, text: &str) -> Report {
    // `port`, where there is no daemon yet.
    if let Some(row) = keys::KEYS.iter().find(|row| row.name == text) {
        let section = row.section.replace('*', "NAME");
        return Diagnostic::error(format!("no section here can have a key `{text}`"))
            .hint(format!("it is one of [{section}]: {section}:{text}"))
            .into();
    }
    let names = config.sections().flat_map(|section| {
        let keys = config.section(section).into_iter().flatten();
        keys.map(|(key, _)| key)
    });
    let table = keys::KEYS.iter().map(|row| row.name);
    let hint = match keys::suggest::nearest(text, names.chain(table)) {
        Some(near) => format!("did you mean `{near}`? A new one needs its section: env:{text}"),
        None => format!("a new one needs its section: env:{text}"),
    };
    Diagnostic::error(format!("no section has a key `{text}`"))
        .hint(hint)
        .into()
}
