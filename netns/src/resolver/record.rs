//! What instances asked for, as a small file each: for people, and for nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use metactl_bundles::paths::unfinished;
use serde::{Deserialize, Serialize};

/// The format number of the file.
const FORMAT: u32 = 1;
/// So many names are remembered, and so many that were refused; those asked for last.
const NAMES_MOST: usize = 256;
/// So many addresses of each, as many as one answer has.
const ADDRESSES_MOST: usize = 64;

/// The names that an instance asked for. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamesAsked {
    format: u32,
    /// Those with an answer, by name.
    pub names: BTreeMap<String, NameAsked>,
    /// Those that got none, because the policy does not list them, or because of what they lead to.
    pub refused: BTreeMap<String, NameRefused>,
}

/// A name with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameAsked {
    /// Its addresses, and until when they are accepted.
    pub addresses: BTreeMap<IpAddr, u64>,
    /// When it was asked for last.
    pub last: u64,
}

/// A name that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameRefused {
    /// How often.
    pub count: u64,
    /// When it was asked for last.
    pub last: u64,
    /// Why.
    pub why: String,
}

impl Default for NamesAsked {
    fn default() -> NamesAsked {
        NamesAsked {
            format: FORMAT,
            names: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }
}

impl NamesAsked {
    /// Reads what instance (or container) `user` asked for; none when there is no record.
    ///
    /// # Errors
    /// What keeps the file from being read, or makes no sense in it.
    pub fn read(server_dir: &Path, user: &str) -> io::Result<Option<NamesAsked>> {
        match fs::read(path(server_dir, user)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn answered(&mut self, name: &str, addresses: &[IpAddr], until: u64, now: u64) {
        if !self.names.contains_key(name) && self.names.len() >= NAMES_MOST {
            drop_oldest(&mut self.names, |one| one.last);
        }
        let known = self
            .names
            .entry(name.to_owned())
            .or_insert_with(|| NameAsked {
                addresses: BTreeMap::new(),
                last: now,
            });
        known.last = now;
        known.addresses.retain(|_, until| *until > now);
        known
            .addresses
            .extend(addresses.iter().map(|address| (*address, until)));
        while known.addresses.len() > ADDRESSES_MOST {
            let oldest = known.addresses.iter().min_by_key(|(_, until)| **until);
            let Some(oldest) = oldest.map(|(address, _)| *address) else {
                break;
            };
            known.addresses.remove(&oldest);
        }
    }

    pub(super) fn refuse(&mut self, name: &str, why: &str, now: u64) {
        if !self.refused.contains_key(name) && self.refused.len() >= NAMES_MOST {
            drop_oldest(&mut self.refused, |one| one.last);
        }
        let known = self
            .refused
            .entry(name.to_owned())
            .or_insert_with(|| NameRefused {
                count: 0,
                last: now,
                why: String::new(),
            });
        known.count += 1;
        known.last = now;
        why.clone_into(&mut known.why);
    }

    /// Writes it as a whole.
    pub(super) fn write(&self, server_dir: &Path, user: &str) -> io::Result<()> {
        let path = path(server_dir, user);
        fs::create_dir_all(dir(server_dir))?;
        let new = unfinished(&path);
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, path)
    }
}

fn drop_oldest<T>(map: &mut BTreeMap<String, T>, last: impl Fn(&T) -> u64) {
    let oldest = map.iter().min_by_key(|(_, one)| last(one));
    if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
        map.remove(&oldest);
    }
}

fn dir(server_dir: &Path) -> PathBuf {
    server_dir.join("names")
}

fn path(server_dir: &Path, user: &str) -> PathBuf {
    dir(server_dir).join(format!("{user}.json"))
}

/// Nobody wants to know any more.
pub(super) fn remove(server_dir: &Path, user: &str) {
    // What is not there is removed.
    fs::remove_file(path(server_dir, user)).unwrap_or_default();
}

/// Removes what is left of a process before this one.
pub(super) fn remove_all(server_dir: &Path) {
    fs::remove_dir_all(dir(server_dir)).unwrap_or_default();
}

/// Seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_read_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut asked = NamesAsked::default();
        for number in 0..1000u64 {
            asked.answered(&format!("n{number}"), &[[10, 0, 0, 1].into()], 5000, number);
            asked.refuse(&format!("r{number}"), "no entry", number);
        }
        asked.refuse("r999", "no entry", 1000);
        assert_eq!(
            (asked.names.len(), asked.refused.len()),
            (NAMES_MOST, NAMES_MOST)
        );
        assert!(asked.names.contains_key("n999") && !asked.names.contains_key("n0"));
        assert_eq!(asked.refused["r999"].count, 2);
        assert_eq!(NamesAsked::read(dir.path(), "a").unwrap(), None);
        asked.write(dir.path(), "a").unwrap();
        assert_eq!(NamesAsked::read(dir.path(), "a").unwrap(), Some(asked));
        remove_all(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
