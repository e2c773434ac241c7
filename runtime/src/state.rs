//! What the runtime knows about its containers: `<root>/<id>/`.
//!
//! | file | meaning |
//! | --- | --- |
//! | `state.json` | [`State`], replaced atomically |
//! | `config.json` | the configuration the container was made from; `exec` reads this copy |
//! | `journal` | what must be undone, see [`crate::journal`] |
//! | `start` | socket on which a created container waits for `start` |
//!
//! The directory itself is the lock (flock(2)): whoever changes anything holds it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use metactl_bundles::paths::unfinished;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::cgroup::freezer as cgroup;
use crate::id::ContainerId;
use crate::process::ProcessId;

mod oci;
mod owner;

pub use oci::{OCI_VERSION, OciState, Status};
use owner::{check_root, own};

/// The format number of `state.json`.
pub const FORMAT: u32 = 1;

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// The container.
    pub id: String,
    /// The bundle directory, absolute.
    pub bundle: PathBuf,
    /// When it was made, RFC 3339, UTC.
    pub created: String,
    /// Whether `start` happened: the user's program runs or ran.
    pub started: bool,
    /// Its first process; none before the clone.
    pub process: Option<ProcessId>,
    /// Its cgroup directories, absolute host paths.
    pub cgroups: Vec<PathBuf>,
    /// Its scope, if systemd's cgroup driver made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<ScopeRecord>,
    /// Whether the built-in init is PID 1.
    pub init: bool,
    /// The annotations of the configuration.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Whether it has hooks that come later; they are in the copy of its configuration.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hooks: bool,
    /// Whether it has no pid namespace of its own: its other processes do not end with the first.
    #[serde(default, skip_serializing_if = "is_false")]
    pub shared_pids: bool,
    /// Whether a process joined that may trace others (CAP_SYS_PTRACE).
    #[serde(default, skip_serializing_if = "is_false")]
    pub tracers: bool,
    /// The session keyring of its processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<String>,
    /// Of a created container: the steps of its plan, in words, for the errors of `start`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// The systemd scope of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeRecord {
    /// The unit, such as `metactl-web.scope`.
    pub unit: String,
    /// Whether it belongs to the manager of a user.
    pub user: bool,
    /// Where it is in every hierarchy.
    pub path: String,
}

impl State {
    /// The status right now; looks at the process and at its cgroups.
    pub fn status(&self) -> Status {
        match (&self.process, self.started) {
            (None, _) => Status::Creating,
            (Some(process), _) if !process.is_alive() => Status::Stopped,
            (Some(_), _) if cgroup::is_frozen(&self.cgroups) => Status::Paused,
            (Some(_), false) => Status::Created,
            (Some(_), true) => Status::Running,
        }
    }
}

/// An error about the state of a container.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is no such container.
    #[error("container {id} does not exist (looked in {}; `list` tells which do)", root.display())]
    NotFound {
        /// The id.
        id: String,
        /// The state root.
        root: PathBuf,
    },
    /// There is one already.
    #[error("container {id} exists already; `delete {id}` removes it")]
    Exists {
        /// The id.
        id: String,
    },
    /// The state directory or a file in it could not be read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Somebody else could have written it.
    #[error(
        "{} belongs to uid {owner}, who could have written anything there, and things are removed and killed as it \
         says; run this as that user, or choose another --root", path.display()
    )]
    Foreign {
        /// The directory or file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// Anybody could have written it.
    #[error(
        "anybody may write to {}, where containers are recorded; take that right away (chmod o-w), or choose \
         another --root", path.display()
    )]
    Open {
        /// The directory.
        path: PathBuf,
    },
    /// It is the state of another container.
    #[error("{}: the state of container {found}; `delete --force` removes this one", path.display())]
    Other {
        /// Which file.
        path: PathBuf,
        /// Whose state it is.
        found: String,
    },
    /// `state.json` is not one of ours.
    #[error(
        "{}: not a state file of format {FORMAT}: {source}; `delete --force` removes the container all the same",
        path.display()
    )]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Not a container id.
    #[error(transparent)]
    Id(#[from] crate::id::IdError),
}

/// The state directory of one container, locked by whoever holds this value.
#[derive(Debug)]
pub struct StateDir {
    lock: File,
    path: PathBuf,
    id: ContainerId,
}

impl StateDir {
    /// Makes the directory of a new container and locks it.
    pub fn create(root: &Path, id: &ContainerId) -> Result<StateDir, StateError> {
        let path = id.dir(root);
        check_root(root)?;
        let mut made = DirBuilder::new().mode(0o700).create(&path);
        if matches!(&made, Err(e) if e.kind() == io::ErrorKind::NotFound) {
            let all = DirBuilder::new().recursive(true).mode(0o700).create(root);
            all.map_err(|source| io_error(root, "create", source))?;
            made = DirBuilder::new().mode(0o700).create(&path);
        }
        match made {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StateError::Exists { id: id.to_string() });
            }
            Err(source) => return Err(io_error(&path, "create", source)),
        }
        StateDir::lock(root, path, id)
    }

    /// Opens and locks the directory of an existing container; waits for whoever holds it.
    pub fn open(root: &Path, id: &ContainerId) -> Result<StateDir, StateError> {
        check_root(root)?;
        StateDir::lock(root, id.dir(root), id)
    }

    fn lock(root: &Path, path: PathBuf, id: &ContainerId) -> Result<StateDir, StateError> {
        loop {
            let dir = StateDir {
                lock: open_dir(root, &path, id)?,
                path: path.clone(),
                id: id.clone(),
            };
            dir.relock()?;
            // Between open and flock somebody may have deleted it and made it anew.
            if dir.is_current() {
                return Ok(dir);
            }
        }
    }

    /// Takes the lock again after [`StateDir::unlock`]. The directory may have been removed
    /// meanwhile: see [`StateDir::is_current`].
    pub fn relock(&self) -> Result<(), StateError> {
        loop {
            match flock(&self.lock, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io_error(&self.path, "lock", e.into())),
            }
        }
    }

    /// Lets others work on the container while this process keeps the directory in mind.
    pub fn unlock(&self) -> Result<(), StateError> {
        flock(&self.lock, FlockOperation::Unlock)
            .map_err(|e| io_error(&self.path, "unlock", e.into()))
    }

    /// Whether the path still leads to this very directory (and not to that of a later container
    /// with the same id).
    pub fn is_current(&self) -> bool {
        match (self.lock.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
            _ => false,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal of this container.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Replaces a file in it atomically. Not synced: what a crash of the machine takes away
    /// describes processes that it took away as well.
    pub fn write(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        write_atomically(&path, text, 0o600).map_err(|source| io_error(&path, "write", source))
    }

    /// Writes a file of a container that nobody else can open yet.
    pub fn write_first(&self, name: &str, text: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(text))
            .map_err(|source| io_error(&path, "write", source))
    }

    /// Writes `state.json`.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let mut text = serde_json::to_vec(state).map_err(|source| StateError::Format {
            path: self.path.join("state.json"),
            source,
        })?;
        text.push(b'\n');
        self.write("state.json", &text)
    }

    /// Reads `state.json`; `None` when the making of the container was interrupted before it.
    pub fn load(&self) -> Result<Option<State>, StateError> {
        load(&self.path, &self.id)
    }

    /// Undoes everything in the journal and removes the directory. Idempotent. Returns what was
    /// undone.
    pub fn destroy(&self) -> Result<Vec<String>, crate::Error> {
        let undone = crate::journal::replay(&self.journal())?;
        // Mostly these two are all that is there.
        for name in ["state.json", "config.json"] {
            remove_if_there(&self.path.join(name))?;
        }
        let mut removed = fs::remove_dir(&self.path);
        if matches!(&removed, Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty) {
            for name in ["start", "state.json", "config.json"] {
                let path = self.path.join(name);
                remove_if_there(&unfinished(&path))?;
                remove_if_there(&path)?;
            }
            removed = fs::remove_dir(&self.path);
        }
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&self.path, "remove", e).into())
            }
            _ => Ok(undone),
        }
    }

    /// The number of the descriptor of the directory.
    pub fn raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.lock)
    }

    /// Whose it is.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }
}

/// Reads the state of one container without locking it.
pub fn read(root: &Path, id: &str) -> Result<State, StateError> {
    let id = ContainerId::new(id)?;
    let path = id.dir(root);
    match load(&path, &id)? {
        Some(state) => Ok(state),
        None if path.is_dir() => Ok(State {
            format: FORMAT,
            id: id.to_string(),
            bundle: PathBuf::new(),
            created: String::new(),
            started: false,
            process: None,
            cgroups: Vec::new(),
            scope: None,
            init: false,
            annotations: BTreeMap::new(),
            hooks: false,
            shared_pids: false,
            tracers: false,
            keyring: None,
            steps: Vec::new(),
        }),
        None => Err(StateError::NotFound {
            id: id.to_string(),
            root: root.to_owned(),
        }),
    }
}

/// The states of all containers below `root`, by id. Entries that are no containers are skipped;
/// one that cannot be read is an error.
pub fn list(root: &Path) -> Result<Vec<State>, StateError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(io_error(root, "list", source)),
    };
    let mut states = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io_error(root, "list", source))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().filter(|n| ContainerId::new(n).is_ok()) else {
            continue;
        };
        match read(root, id) {
            Ok(state) => states.push(state),
            // Deleted while we looked.
            Err(StateError::NotFound { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    states.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(states)
}

/// Writes a file under a temporary name beside it and renames it into place.
pub fn write_atomically(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let new = unfinished(path);
    let make = || {
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)
    };
    let mut file = match make() {
        // Left by a crash; or somebody else's link, fifo or file, which is not to be written to.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&new)?;
            make()?
        }
        made => made?,
    };
    file.write_all(text)?;
    fs::rename(&new, path)
}

fn load(dir: &Path, id: &ContainerId) -> Result<Option<State>, StateError> {
    let path = dir.join("state.json");
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, "read", source)),
    };
    own(&path, &file)?;
    let mut text = Vec::with_capacity(4096);
    file.read_to_end(&mut text)
        .map_err(|source| io_error(&path, "read", source))?;
    let state: State = match serde_json::from_slice(&text) {
        Ok(state) => state,
        Err(source) => return Err(StateError::Format { path, source }),
    };
    if state.id != id.as_str() {
        let found = state.id;
        return Err(StateError::Other { path, found });
    }
    Ok(Some(state))
}

fn open_dir(root: &Path, path: &Path, id: &ContainerId) -> Result<File, StateError> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path);
    let opened = opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => StateError::NotFound {
            id: id.to_string(),
            root: root.to_owned(),
        },
        _ => io_error(path, "open", source),
    })?;
    own(path, &opened)?;
    Ok(opened)
}

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error(path, "remove", e)),
        _ => Ok(()),
    }
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

/// The present moment as RFC 3339 in UTC, to the second.
pub fn now_rfc3339() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    rfc3339(since.map_or(0, |d| d.as_secs()))
}

/// Seconds since the epoch as RFC 3339 (proleptic Gregorian calendar, counted in eras of 400
/// years that begin on 1 March).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_564_799), "2026-11-24T23:59:59Z");
    }

    #[test]
    fn a_container_is_made_once_found_and_destroyed() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::new("shop.web").unwrap();
        assert!(matches!(
            read(root.path(), "shop.web"),
            Err(StateError::NotFound { .. })
        ));
        let dir = StateDir::create(&root.path().join("oci"), &id).unwrap();
        let root = root.path().join("oci");
        assert!(matches!(
            StateDir::create(&root, &id),
            Err(StateError::Exists { .. })
        ));
        assert_eq!(read(&root, "shop.web").unwrap().status(), Status::Creating);
        let state = State {
            format: FORMAT,
            id: id.to_string(),
            bundle: "/b".into(),
            created: now_rfc3339(),
            started: false,
            process: Some(ProcessId::current().unwrap()),
            cgroups: vec![],
            scope: None,
            init: false,
            annotations: BTreeMap::new(),
            hooks: false,
            shared_pids: false,
            tracers: false,
            keyring: None,
            steps: Vec::new(),
        };
        dir.save(&state).unwrap();
        let listed = list(&root).unwrap();
        assert_eq!(listed, [state]);
        assert_eq!(listed[0].status(), Status::Created);
        dir.destroy().unwrap();
        assert!(!dir.is_current() && list(&root).unwrap().is_empty());
        dir.destroy().unwrap();
    }

    #[test]
    fn the_lock_excludes_others() {
        let root = tempfile::tempdir().unwrap();
        let id = ContainerId::new("a").unwrap();
        let dir = StateDir::create(root.path(), &id).unwrap();
        let other = File::open(dir.path()).unwrap();
        let try_lock = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert!(try_lock().is_err());
        dir.unlock().unwrap();
        assert!(try_lock().is_ok());
    }
}
