//! The record on disk and its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use metactl_bundles::paths::unfinished;
use serde::{Deserialize, Serialize};

use crate::NetError;
use crate::plan::ServerEffect;

const FORMAT: u32 = 1;
const NAME: &str = "network.json";

/// What is shared, and by whom.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Record {
    format: u32,
    boot: String,
    netns: String,
    /// Sysctls in the order in which they were changed.
    pub originals: Vec<Original>,
    /// The table on the server, as text.
    pub table: Option<String>,
    /// The numbers of the devices towards the physical network, by their names: a renamed one is known by it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uplinks: BTreeMap<String, u32>,
    /// The published ports that the table knows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub published: BTreeSet<ServerEffect>,
    /// Who needs what.
    pub users: BTreeMap<String, User>,
}

/// Who needs something.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct User {
    /// Its outer devices. One that is nobody's belongs to a sandbox that is over.
    pub devices: BTreeSet<String>,
    pub needs: BTreeSet<ServerEffect>,
}

/// A sysctl that was looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Original {
    pub key: String,
    /// What it was before us.
    pub original: String,
    /// What we need it to be.
    pub value: String,
    /// What changes along with it and has to be set again after it: (key, value).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<(String, String)>,
}

/// The record while nobody else can change it.
pub(super) struct Locked {
    pub record: Record,
    path: PathBuf,
    /// Closing it gives the lock back.
    _lock: File,
}

pub(super) fn exists(server_dir: &Path) -> bool {
    server_dir.join(NAME).exists()
}

/// Takes away what somebody left who was killed while writing the first record.
pub(super) fn forget_unfinished(server_dir: &Path) -> Result<(), NetError> {
    match unfinished(&server_dir.join(NAME)).exists() {
        // Somebody else may be writing it just now: then there is a record when the lock is free.
        true => Locked::open(server_dir)?.save(),
        false => Ok(()),
    }
}

/// The record as it is, without a lock: it is replaced as a whole. None when there is none of this boot.
pub(super) fn read(server_dir: &Path) -> Result<Option<Record>, NetError> {
    let path = server_dir.join(NAME);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let what = "read";
            return Err(NetError::File { what, path, source });
        }
    };
    let record = parse(&path, &bytes)?;
    Ok((record.boot == boot_id()).then_some(record))
}

fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_string()
}

impl Locked {
    pub(super) fn open(server_dir: &Path) -> Result<Locked, NetError> {
        let file = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| NetError::File { what, path, source }
        };
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(server_dir)
            .map_err(file("make", server_dir))?;
        let lock_path = server_dir.join("network.lock");
        let mut options = OpenOptions::new();
        let lock = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path);
        let lock = lock.map_err(file("open", &lock_path))?;
        lock.lock().map_err(file("lock", &lock_path))?;

        let path = server_dir.join(NAME);
        let boot = boot_id();
        let netns = fs::read_link("/proc/thread-self/ns/net")
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let fresh = || Record {
            format: FORMAT,
            boot: boot.clone(),
            netns: netns.clone(),
            ..Record::default()
        };
        let record = match fs::read(&path) {
            Ok(bytes) => parse(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh(),
            Err(error) => return Err(file("read", &path)(error)),
        };
        // A reboot has taken everything away that an older record tells of.
        let record = if record.boot == boot { record } else { fresh() };
        if record.netns != netns {
            let reason = format!(
                "it is about the network namespace {}, this is {netns}",
                record.netns
            );
            return Err(NetError::Record { path, reason });
        }
        Ok(Locked {
            record,
            path,
            _lock: lock,
        })
    }

    /// All or nothing; the directory is on a tmpfs, so there is nothing to sync. A record of nothing
    /// is no file: the last instance leaves none behind.
    pub(super) fn save(&self) -> Result<(), NetError> {
        let failed = |source| NetError::File {
            what: "write",
            path: self.path.clone(),
            source,
        };
        let Record {
            originals,
            table,
            users,
            ..
        } = &self.record;
        let temporary = unfinished(&self.path);
        if originals.is_empty() && table.is_none() && users.is_empty() {
            // The second one: of somebody who was killed while writing.
            for path in [&self.path, &temporary] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed(error));
                    }
                    _ => {}
                }
            }
            return Ok(());
        }
        let bytes = serde_json::to_vec_pretty(&self.record)
            .map_err(io::Error::other)
            .map_err(failed)?;
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file = options
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&bytes)?;
            fs::rename(&temporary, &self.path)
        };
        write().map_err(failed)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Record, NetError> {
    let bad = |reason: String| NetError::Record {
        path: path.to_path_buf(),
        reason,
    };
    let record: Record = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    if record.format != FORMAT {
        return Err(bad(format!(
            "its format is {}, this metactl reads {FORMAT}",
            record.format
        )));
    }
    Ok(record)
}
