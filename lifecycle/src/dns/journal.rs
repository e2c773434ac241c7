//! Which records of an instance may be in the DNS: a file, `<state>/.dns/<instance>.json`.
//!
//! A record is in it before it is sent, and until a name server has said that it is gone. Without a
//! record there is no file. It holds no key, only where that is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use metactl_bundles::app::Dns;
use metactl_netns::dns_update::Record;
use serde::{Deserialize, Serialize};

use crate::error::{LifecycleError, Result};
use crate::files;

/// The format number of the file.
const FORMAT: u32 = 1;

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Content {
    format: u32,
    /// By zone.
    pub(super) zones: BTreeMap<String, Zone>,
    /// How the last attempt to remove them failed, when nobody supervises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
}

/// What is registered in one zone, and in the reverse zones along with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Zone {
    /// With whom.
    pub(super) via: Dns,
    /// What may be there.
    pub(super) records: BTreeSet<Record>,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Failure {
    /// Why.
    pub(super) why: String,
    /// How many there were in a row.
    pub(super) tries: u32,
    /// When it is worth trying again, in RFC 3339.
    pub(super) next: String,
}

/// The file, and what is in it.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    pub(super) content: Content,
    written: Content,
}

impl Journal {
    /// Reads the file; an empty journal without it.
    pub(super) fn read(path: &Path) -> Result<Journal> {
        let content = files::read_json::<Content>(path)?.unwrap_or(Content {
            format: FORMAT,
            zones: BTreeMap::new(),
            failure: None,
        });
        if content.format != FORMAT {
            return Err(LifecycleError::Record {
                path: path.to_path_buf(),
                why: format!("format {} is not known to this metactl", content.format),
            });
        }
        Ok(Journal {
            path: path.to_path_buf(),
            written: content.clone(),
            content,
        })
    }

    /// Whether there is a file.
    pub(super) fn exists(path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    /// Writes what has changed; without a record, the file goes.
    pub(super) fn write(&mut self) -> Result<()> {
        self.content
            .zones
            .retain(|_, zone| !zone.records.is_empty());
        if self.content == self.written {
            return Ok(());
        }
        if self.content.zones.is_empty() {
            files::remove_file(&self.path)?;
            if let Some(dir) = self.path.parent() {
                files::remove_empty_dir(dir);
            }
        } else {
            if let Some(dir) = self.path.parent() {
                files::make_dir(dir, 0o700)?;
            }
            files::replace_json(&self.path, &self.content, 0o600)?;
        }
        self.written = self.content.clone();
        Ok(())
    }

    /// What other instances of this server may have registered. Who has got the address and the application of
    /// one that is gone has the same record, and keeps it.
    pub(super) fn of_others(&self) -> Result<BTreeSet<Record>> {
        let mut found = BTreeSet::new();
        let Some(dir) = self.path.parent() else {
            return Ok(found);
        };
        for path in files::entries(dir)? {
            if path != self.path && name_of_instance(&path).is_some() {
                found.extend(Journal::read(&path)?.records().cloned());
            }
        }
        Ok(found)
    }

    /// Whether nothing can be registered any more.
    pub(super) fn is_empty(&self) -> bool {
        self.content.zones.is_empty()
    }

    /// Everything that may be registered.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.content.zones.values().flat_map(|zone| &zone.records)
    }
}

/// Whose journal a file is; nothing for one that is still being written.
pub(super) fn name_of_instance(path: &Path) -> Option<&str> {
    let name = files::name_of(path).strip_suffix(".json")?;
    (!name.starts_with('.')).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use metactl_netns::dns_update::{Data, Name};

    use super::*;

    fn record(owner: &str) -> Record {
        Record {
            owner: Name::parse(owner).unwrap(),
            data: Data::Address("10.0.0.5".parse().unwrap()),
        }
    }

    fn journal(path: &Path, records: &[&str]) -> Journal {
        let mut journal = Journal::read(path).unwrap();
        let zone = Zone {
            via: super::super::registration::tests::dns(),
            records: records.iter().map(|owner| record(owner)).collect(),
        };
        journal.content.zones.insert("example.org".to_owned(), zone);
        journal.write().unwrap();
        journal
    }

    #[test]
    fn without_records_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dns/a.json");
        let mut written = journal(&path, &["a.example.org"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(Journal::read(&path).unwrap().content, written.content);
        for zone in written.content.zones.values_mut() {
            zone.records.clear();
        }
        written.write().unwrap();
        assert!(!Journal::exists(&path) && !path.parent().unwrap().exists());
        assert!(Journal::read(&path).unwrap().is_empty());
    }

    #[test]
    fn others_have_journals_too() {
        let dir = tempfile::tempdir().unwrap();
        let own = journal(
            &dir.path().join("a.json"),
            &["a.example.org", "app.example.org"],
        );
        journal(
            &dir.path().join("b.json"),
            &["b.example.org", "app.example.org"],
        );
        // Half written, by somebody who is at it.
        fs::write(dir.path().join(".c.json.new"), "{").unwrap();
        let expected = BTreeSet::from([record("b.example.org"), record("app.example.org")]);
        assert_eq!(own.of_others().unwrap(), expected);
        fs::write(dir.path().join("d.json"), "{").unwrap();
        assert!(own.of_others().unwrap_err().to_string().contains("d.json"));
    }
}
