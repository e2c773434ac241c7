//! The command that takes a change back, exactly.

use metactl_bundles::edit::Said;

use super::{Done, is_secret};

/// The arguments of `metactl APP` that undo all of it at once. A value that must not be printed is not in
/// it: then the copy that is kept of the file is what leads back.
pub(super) fn command(done: &[Done]) -> Option<String> {
    let (mut set, mut inherit, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for one in done.iter().filter(|one| one.before != one.wrote) {
        let address = one.address.to_string();
        match &one.before {
            Some(Said::Value(value)) => {
                if is_secret(&one.address.section, &one.address.key, value) {
                    return Some("revert --last".to_owned());
                }
                set.push(quoted(&format!("{address}={value}")));
            }
            Some(Said::Unset) => gone.push(quoted(&address)),
            None => inherit.push((quoted(&address), one.wrote == Some(Said::Unset))),
        }
    }
    let all = |keys: &[String], option: &str| -> String {
        keys.iter().map(|key| format!(" {option} {key}")).collect()
    };
    let new: Vec<String> = inherit.iter().map(|(key, _)| key.clone()).collect();
    let plain = !inherit.iter().any(|(_, was_unset)| *was_unset);
    match (set.as_slice(), new.as_slice(), gone.as_slice()) {
        ([], [], []) => None,
        ([], new, []) if plain => Some(format!("unset {}", new.join(" "))),
        ([], new, []) => Some(format!("unset --inherit {}", new.join(" "))),
        ([], [], gone) => Some(format!("unset --gone {}", gone.join(" "))),
        (set, new, gone) => {
            let set: String = set.iter().map(|word| format!(" {word}")).collect();
            Some(format!(
                "set{set}{}{}",
                all(new, "--inherit"),
                all(gone, "--gone")
            ))
        }
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use metactl_bundles::edit::Address;

    use super::*;

    fn done(key: &str, before: Option<Said>, wrote: Option<Said>) -> Done {
        let (section, key) = key.split_once(':').unwrap();
        let address = Address {
            section: section.to_owned(),
            key: key.to_owned(),
        };
        Done {
            address,
            before,
            wrote,
        }
    }

    fn value(text: &str) -> Option<Said> {
        Some(Said::Value(text.to_owned()))
    }

    #[test]
    fn one_command_takes_everything_back() {
        let of = |done: &[Done]| command(done).unwrap_or_default();
        let gone = || Some(Said::Unset);
        assert_eq!(of(&[done("env:A", None, value("1"))]), "unset env:A");
        assert_eq!(of(&[done("env:A", value("1"), value("1"))]), "");
        assert_eq!(
            of(&[done("env:A", value("it's"), None)]),
            r"set 'env:A=it'\''s'"
        );
        assert_eq!(of(&[done("env:A", None, gone())]), "unset --inherit env:A");
        assert_eq!(
            of(&[done("env:A", gone(), value("1"))]),
            "unset --gone env:A"
        );
        let mixed = [
            done("env:A", value("1"), value("2")),
            done("crontab:a b", None, value("x")),
            done("env:C", gone(), None),
        ];
        assert_eq!(
            of(&mixed),
            "set env:A=1 --inherit 'crontab:a b' --gone env:C"
        );
        let secret = [done("env:DB_PASSWORD", value("x"), value("y"))];
        assert_eq!(of(&secret), "revert --last");
    }
}
