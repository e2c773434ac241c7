//! The network of a container as the `netns` crate makes it, and pinned network namespaces.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use metactl_bundles::network::{FORMAT, Mode, NetworkSpec};
use metactl_bundles::paths::unfinished;
use metactl_netns::apply::Applied;
use metactl_netns::facts::HostFacts;
use metactl_netns::plan::{LinkIds, NetPlan};
use metactl_netns::{NetError, Resolved};
use rustix::fs::{CWD, FlockOperation, OFlags, flock, fstatfs, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::journal::{self, Intent, Journal, JournalError};
use crate::request::{LaunchRequest, Network, NetworkFiles};
use crate::state::write_atomically;
use crate::sys;

/// What must be undone, beside a pin.
const JOURNAL: &str = ".journal";
/// `NSFS_MAGIC`.
pub(crate) const NSFS: i64 = 0x6e73_6673;

/// Why a network namespace could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `network.json` or the file of names could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not in the form that this version knows.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Another format.
    #[error("{}: format {found}, this version knows {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The network itself.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The record of a pin.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The files of a network, read.
#[derive(Debug, Clone)]
pub struct NetworkInput {
    /// `network.json`.
    pub spec: NetworkSpec,
    /// The addresses of the names in it.
    pub names: Resolved,
    ids: LinkIds,
}

impl NetworkInput {
    /// What `request` says of the network, if it does so in files.
    pub fn of(request: &LaunchRequest) -> Result<Option<NetworkInput>, NetworkError> {
        match &request.network {
            Network::Spec(files) => NetworkInput::load(files).map(Some),
            Network::Config | Network::Join(_) => Ok(None),
        }
    }

    /// Reads the files.
    pub fn load(files: &NetworkFiles) -> Result<NetworkInput, NetworkError> {
        let spec: NetworkSpec = read(&files.spec)?;
        if spec.format != FORMAT {
            return Err(NetworkError::Format {
                path: files.spec.clone(),
                found: spec.format,
            });
        }
        let names = files
            .names
            .as_deref()
            .map(read)
            .transpose()?
            .unwrap_or_default();
        Ok(NetworkInput {
            spec,
            names,
            ids: LinkIds::fresh(None),
        })
    }

    /// Plans it. The same devices are named every time; `pid` gives the outer one another name.
    pub fn plan(&self, facts: &HostFacts, pid: Option<u32>) -> Result<NetPlan, NetError> {
        let ids = LinkIds {
            pid,
            ..self.ids.clone()
        };
        metactl_netns::plan::plan(&self.spec, &self.names, facts, &ids)
    }

    /// Plans it and carries the plan out. Instances whose names begin alike differ in the names of their devices by
    /// four random letters; when another one has these already, others are taken.
    pub fn apply(
        &self,
        facts: &HostFacts,
        pid: Option<u32>,
        netns: BorrowedFd<'_>,
        server_dir: &Path,
        user: &str,
    ) -> Result<Applied, NetError> {
        let mut input = self.clone();
        let mut tries = 0;
        loop {
            let plan = input.plan(facts, pid)?;
            match metactl_netns::apply::apply(&plan, netns, server_dir, user) {
                Err(NetError::NameTaken { .. }) if tries < 5 => {
                    tries += 1;
                    input.ids = LinkIds::fresh(None);
                }
                result => return result,
            }
        }
    }

    /// Whether it is a network of its own.
    pub fn is_own(&self) -> bool {
        self.spec.mode != Mode::Host
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, NetworkError> {
    let text = fs::read(path);
    let text = text.map_err(|source| NetworkError::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| NetworkError::Parse {
        path: path.to_owned(),
        source,
    })
}

fn system(what: impl Into<String>, source: impl Into<io::Error>) -> NetworkError {
    NetworkError::System {
        what: what.into(),
        source: source.into(),
    }
}

/// Makes a network namespace with its loopback device up. The calling thread is in it for a
/// moment only. `born` is told of it as soon as it is there, before the device is up.
pub fn new_namespace<E>(born: impl FnOnce(BorrowedFd<'_>) -> Result<(), E>) -> Result<OwnedFd, E>
where
    E: From<NetworkError>,
{
    let own = own_namespace().map_err(|e| system("open the runtime's network namespace", e))?;
    sys::unshare(libc::CLONE_NEWNET).map_err(|e| system("make a network namespace", e))?;
    let fill = || {
        let made = own_namespace().map_err(|e| system("open the new network namespace", e))?;
        born(made.as_fd())?;
        sys::loopback_up().map_err(|e| system("switch the loopback device on", e))?;
        Ok(made)
    };
    let made = fill();
    // Back first: whatever happened, the caller must not stay there.
    sys::setns(&own, libc::CLONE_NEWNET)
        .map_err(|e| system("return to the runtime's network namespace", e))?;
    made
}

/// The one of the calling thread.
fn own_namespace() -> Result<OwnedFd, Errno> {
    openat(
        CWD,
        c"/proc/thread-self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
}

/// Gives back what `user` holds on the server.
pub fn release(server_dir: &Path, user: &str) -> Result<(), NetError> {
    metactl_netns::server::release(server_dir, user)
}

/// What a pin was made from, to see whether it is still what is wanted.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinRecord {
    spec: NetworkSpec,
    names: Resolved,
    boot_id: String,
    outer: Option<String>,
    altnames: Vec<String>,
}

/// A network namespace that lives without a process, bound to a file.
#[derive(Debug)]
pub struct Pin {
    path: PathBuf,
    server_dir: PathBuf,
    user: String,
    lock: fs::File,
}

impl Pin {
    /// The pin at `path`, locked. Its directory is made when it is missing.
    pub fn lock(path: &Path, server_dir: &Path, user: &str) -> Result<Pin, NetworkError> {
        let path = std::path::absolute(path).map_err(|e| system("find the pin", e))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let name = || format!("lock {}", dir.display());
        fs::create_dir_all(dir).map_err(|e| system(format!("create {}", dir.display()), e))?;
        let lock = fs::File::open(dir).map_err(|e| system(name(), e))?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive))
            .map_err(|e| system(name(), e))?;
        Ok(Pin {
            path,
            server_dir: server_dir.to_owned(),
            user: user.to_owned(),
            lock,
        })
    }

    /// Whether anything may be there for [`down`](Pin::down) to take away: it is written down before it is made.
    pub fn is_left(path: &Path) -> bool {
        // What cannot be looked at may be there.
        let journal = fs::symlink_metadata(beside(path, JOURNAL));
        !matches!(journal, Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.path, ending)
    }

    /// The namespace, if it is there.
    pub fn open(&self) -> Option<OwnedFd> {
        pinned(&self.path)
    }

    /// Makes the namespace and its network. When it is there, whole, and made from the same
    /// files, nothing happens and `false` is returned; anything else is taken down first.
    pub fn up(&self, input: &NetworkInput, uplink: Option<&str>) -> Result<bool, NetworkError> {
        let boot_id = crate::process::boot_id().map_err(|e| system("read the boot id", e))?;
        let record = fs::read(self.beside(".json")).ok();
        let record = record.and_then(|text| serde_json::from_slice::<PinRecord>(&text).ok());
        let same =
            |r: &PinRecord| r.spec == input.spec && r.names == input.names && r.boot_id == boot_id;
        if self.open().is_some() && record.as_ref().is_some_and(same) {
            return Ok(false);
        }
        self.down()?;
        let made = self.make(input, uplink, boot_id);
        if made.is_err() {
            // The first error is the one to report; what cannot be undone stays in the journal.
            self.down().map(drop).unwrap_or_default();
        }
        made.map(|()| true)
    }

    fn make(
        &self,
        input: &NetworkInput,
        uplink: Option<&str>,
        boot_id: String,
    ) -> Result<(), NetworkError> {
        let facts = metactl_netns::facts::gather(uplink)?;
        let mut journal = Journal::open(&self.beside(JOURNAL))?;
        let path = self.path.clone();
        journal.record_all(&[
            Intent::Network {
                server_dir: self.server_dir.clone(),
                user: self.user.clone(),
            },
            Intent::File {
                path: self.beside(".json"),
            },
            Intent::File {
                path: unfinished(&self.beside(".json")),
            },
            Intent::File { path: path.clone() },
            Intent::Mount { path, above: None },
        ])?;
        let netns = new_namespace(|_| Ok::<(), NetworkError>(()))?;
        fs::File::create(&self.path)
            .map_err(|e| system(format!("create {}", self.path.display()), e))?;
        let bind = || -> Result<(), rustix::io::Errno> {
            let target = openat(
                CWD,
                &self.path,
                OFlags::PATH | OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?;
            let tree = crate::rootfs::clone_fd(&netns, false)?;
            crate::rootfs::attach(tree, target)
        };
        bind().map_err(|e| system(format!("pin the namespace at {}", self.path.display()), e))?;
        let (server_dir, user) = (&self.server_dir, &self.user);
        let applied = input.apply(&facts, None, netns.as_fd(), server_dir, user)?;
        let record = PinRecord {
            spec: input.spec.clone(),
            names: input.names.clone(),
            boot_id,
            outer: applied.outer,
            altnames: applied.altnames,
        };
        let file = self.beside(".json");
        let text = serde_json::to_vec(&record).map_err(|source| NetworkError::Parse {
            path: file.clone(),
            source,
        })?;
        write_atomically(&file, &text, 0o600)
            .map_err(|e| system(format!("write {}", file.display()), e))
    }

    /// Takes everything away. Returns what was there; nothing when nothing was.
    pub fn down(&self) -> Result<Vec<String>, NetworkError> {
        // The lock is what makes replaying safe.
        let _held = &self.lock;
        Ok(journal::replay(&self.beside(JOURNAL))?)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The namespace that is mounted at `path`, if one is.
pub(crate) fn pinned(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, rustix::fs::Mode::empty()).ok()?;
    (fstatfs(&fd).ok()?.f_type == NSFS).then_some(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_pin_that_was_never_written_down() {
        let dir = tempfile::tempdir().unwrap();
        let pin = dir.path().join("netns");
        assert!(!Pin::is_left(&pin) && !Pin::is_left(&dir.path().join("none/netns")));
        let held = Pin::lock(&pin, dir.path(), "web").unwrap();
        assert!(!Pin::is_left(&pin));
        let mut journal = Journal::open(&held.beside(JOURNAL)).unwrap();
        journal.record(&Intent::File { path: pin.clone() }).unwrap();
        assert!(Pin::is_left(&pin), "it may have been made");
        held.down().unwrap();
        assert!(!Pin::is_left(&pin));
    }
}
