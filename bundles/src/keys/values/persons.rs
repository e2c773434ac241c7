//! Persons in `[access]`.

use super::{Parsed, list};

/// One entry of such a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Somebody<'a> {
    /// An account.
    Account(&'a str),
    /// Every member of a group.
    Group(&'a str),
}

/// Accounts, and groups with an `@`, separated by spaces or commas. None at all is a list too: nobody's.
///
/// # Errors
/// A word that can be neither. Numbers are none: an account of that name and the account of that number are two.
pub fn persons(text: &str) -> Parsed<Vec<Somebody<'_>>> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let fits = |name: &str| name.len() <= 32 && name.starts_with(first) && name.chars().all(good);
    let somebody = |word| {
        let (name, somebody) = match str::strip_prefix(word, "@") {
            Some(name) => (name, Somebody::Group(name)),
            None => (word, Somebody::Account(word)),
        };
        match fits(name) {
            true => Ok(somebody),
            false => Err(format!(
                "must be names of accounts, and of groups with an `@`, not `{word}`"
            )),
        }
    };
    list(text).map(somebody).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_groups() {
        use Somebody::{Account, Group};
        assert_eq!(
            persons("@web, alice bob.b").unwrap(),
            [Group("web"), Account("alice"), Account("bob.b")]
        );
        assert_eq!(persons(" , ").unwrap(), []);
        for bad in ["1000", "@", "-a", "a;b", "@@web", "%wheel", "a/b", "../x"] {
            let why = persons(bad).unwrap_err();
            assert!(why.contains(bad), "{why}");
        }
    }
}
