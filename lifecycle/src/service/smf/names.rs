//! What the services of an instance are called.
//!
//! An instance of metactl is a service of SMF, `svc:/site/metactl/<instance>`, and each of its entry points an instance
//! of that: so `svcadm restart myapp:web` reads as one says it, one manifest is imported whole, and one `svccfg delete`
//! takes everything away. (`site/` is where smf(7) has what an administrator adds.)

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The instance of the service that stands for all of them: enabled at boot when they are, and online while cron jobs
/// run. SMF makes one of this name (`create_default_instance`).
pub(super) const WHOLE: &str = "default";

/// The longest name of a part of an FMRI (`scf_limit(SCF_LIMIT_MAX_NAME_LENGTH)`).
const MAX: usize = 119;

/// `svc:/site/metactl/myapp`
pub(super) fn service(instance: &str) -> String {
    format!("svc:/{}", service_name(instance))
}

/// `site/metactl/myapp`, as a manifest has it.
pub(super) fn service_name(instance: &str) -> String {
    // The whole name is held to the limit, not its parts.
    let before = "site/metactl/";
    format!(
        "{before}{}",
        limited(identifier(instance), MAX - before.len())
    )
}

/// The name of an entry point below its service: `web`, `cron_2edaily`.
pub(super) fn entry(name: &str) -> String {
    if name == WHOLE {
        // No letter is written so otherwise.
        return "d_65fault".to_owned();
    }
    limited(identifier(name), MAX)
}

/// `svc:/site/metactl/myapp:web`
pub(super) fn fmri(instance: &str, entry_name: &str) -> String {
    format!("{}:{}", service(instance), entry(entry_name))
}

/// `svc:/site/metactl/myapp:default`
pub(super) fn whole(instance: &str) -> String {
    format!("{}:{WHOLE}", service(instance))
}

/// The name of a group of properties about an entry point: `requires-db`.
pub(super) fn group(what: &str, entry_name: &str) -> String {
    limited(format!("{what}-{}", identifier(entry_name)), MAX)
}

/// The file of a log in the folder of all of them: that of the FMRI, with dashes.
pub(super) fn log_file(instance: &str, entry_name: &str) -> String {
    let service = service_name(instance).replace('/', "-");
    format!("{service}:{}.log", entry(entry_name))
}

/// A name as SMF has them: a letter, then letters, digits, dashes and underlines. What else there is becomes `_` and
/// two hexadecimal digits, and so does a `_` that could be taken for the beginning of that: two names never become one.
fn identifier(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut text = String::new();
    // What follows is the escape of something that has none elsewhere: a digit, or the `x` itself.
    match bytes.first() {
        Some(first) if first.is_ascii_alphabetic() => {}
        Some(first) if first.is_ascii_digit() => text.push('x'),
        _ => text.push_str("x_78"),
    }
    for (at, byte) in bytes.iter().enumerate() {
        let is_first = at == 0 && !byte.is_ascii_alphabetic();
        let rest = bytes.get(at + 1..).unwrap_or_default();
        let is_plain = match byte {
            b'_' => !matches!(rest, [a, b, ..] if is_hex(*a) && is_hex(*b)),
            b'-' => true,
            other => other.is_ascii_alphanumeric(),
        };
        match is_plain && !is_first {
            true => text.push(char::from(*byte)),
            // Writing to a string cannot fail.
            false => write!(text, "_{byte:02x}").unwrap_or_default(),
        }
    }
    text
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// One that is too long ends with a digest of the whole.
fn limited(name: String, most: usize) -> String {
    if name.len() <= most {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let mut short: String = name.chars().take(most - 17).collect();
    short.push('-');
    for byte in digest.iter().take(8) {
        write!(short, "{byte:02x}").unwrap_or_default();
    }
    short
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_of_smf() {
        for (name, expected) in [
            ("myapp", "myapp"),
            ("my-app_2", "my-app_2"),
            ("my.app+x", "my_2eapp_2bx"),
            ("1app", "x_31app"),
            ("a_2eb", "a_5f2eb"),
            ("_x", "x_78_5fx"),
            ("cron.daily-housekeeping", "cron_2edaily-housekeeping"),
        ] {
            assert_eq!(identifier(name), expected);
        }
        assert_eq!(fmri("my.app", "web"), "svc:/site/metactl/my_2eapp:web");
        assert_eq!(entry("default"), "d_65fault");
        assert_eq!(log_file("a", "web"), "site-metactl-a:web.log");
    }

    #[test]
    fn two_names_never_become_one() {
        let parts = [
            "", "a", "x", "_", ".", "2e", "5f", "31", "1", "-", "+", "default",
        ];
        let mut names = BTreeSet::new();
        for a in parts {
            for b in parts {
                for c in parts {
                    names.insert(format!("{a}{b}{c}"));
                }
            }
        }
        // As `metactl_bundles` has names.
        names.retain(|name| !name.is_empty() && !name.starts_with(['.', '-']));
        let of_smf: BTreeSet<String> = names.iter().map(|name| entry(name)).collect();
        assert_eq!(of_smf.len(), names.len());
        assert!(!of_smf.contains(WHOLE));
    }

    #[test]
    fn long_names_stay_different_and_within_the_limit() {
        let long = |end: &str| format!("{}{end}", ".".repeat(99).replace('.', "a."));
        let (a, b) = (entry(&long("a")), entry(&long("b")));
        assert_ne!(a, b);
        assert!(a.len() <= MAX && service_name(&long("a")).len() <= MAX);
        assert!(group("requires", &long("a")).len() <= MAX);
    }
}
