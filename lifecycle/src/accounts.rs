//! Which user ids of this server belong to somebody already.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::{LifecycleError, Result};
use crate::files;

/// Ids that accounts, groups and subordinate ranges use.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    single: BTreeSet<u32>,
    ranges: Vec<RangeInclusive<u32>>,
}

impl Accounts {
    /// Reads `passwd` and `group` (passwd(5), group(5)), `subuid` and `subgid` (subuid(5)) in `etc`.
    pub(crate) fn read(etc: &Path) -> Result<Accounts> {
        let mut accounts = Accounts::default();
        for name in ["passwd", "group"] {
            for fields in lines(&etc.join(name))? {
                accounts
                    .single
                    .extend(fields.get(2).and_then(|id| id.parse::<u32>().ok()));
            }
        }
        for name in ["subuid", "subgid"] {
            for fields in lines(&etc.join(name))? {
                let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok());
                if let (Some(first), Some(count @ 1..)) = (number(1), number(2)) {
                    accounts
                        .ranges
                        .push(first..=first.saturating_add(count - 1));
                }
            }
        }
        Ok(accounts)
    }

    /// Whether an id of these files is `id`. Directories (LDAP) are asked by [`has_name`].
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.single.contains(&id) || self.ranges.iter().any(|range| range.contains(&id))
    }
}

/// Whether the system's name service knows the id, as a user or as a group.
pub(crate) fn has_name(id: u32) -> bool {
    let user = nix::unistd::User::from_uid(id.into());
    let group = nix::unistd::Group::from_gid(id.into());
    // When nobody can tell, it is safer not to use it.
    !matches!((user, group), (Ok(None), Ok(None)))
}

/// The ids of an existing account that an instance runs as. Root is refused.
pub(crate) fn of_name(name: &str) -> Result<(u32, u32)> {
    let wrong = |what: String| LifecycleError::Setting {
        what,
        hint: "[sandbox] user = an existing account that is not root, or leave it out".to_owned(),
    };
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Err(wrong(format!("[sandbox] user = {name} is root")))
        }
        Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(None) => Err(wrong(format!(
            "[sandbox] user = {name}: there is no such account"
        ))),
        Err(error) => Err(wrong(format!("[sandbox] user = {name}: {error}"))),
    }
}

fn lines(path: &Path) -> Result<Vec<Vec<String>>> {
    let text = files::read(path)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text
        .lines()
        .map(|line| line.split(':').map(str::to_owned).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_and_ranges_are_taken() {
        let etc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(etc.path().join(name), text).unwrap();
        write(
            "passwd",
            "root:x:0:0::/:/bin/sh\nbroken\nweb:x:66003:66004::/:/bin/sh\n",
        );
        write("group", "web:x:66005:\n");
        write("subuid", "alice:66100:100\nzero:5:0\n");
        let accounts = Accounts::read(etc.path()).unwrap();
        for taken in [0, 66003, 66005, 66100, 66199] {
            assert!(accounts.contains(taken), "{taken}");
        }
        for free in [66004, 66099, 66200, 5] {
            assert!(!accounts.contains(free), "{free}");
        }
    }

    #[test]
    fn root_is_no_account_for_an_instance() {
        assert!(of_name("root").is_err());
        assert!(of_name("no-such-account-here").is_err());
    }
}
