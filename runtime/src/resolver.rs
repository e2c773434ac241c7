//! The resolver of the server ([`metactl_netns::resolver`]) as a process: where instances are, and how little it may.

mod filter;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use caps::{CapSet, Capability};
use metactl_bundles::network::{FORMAT, Mode, NetworkSpec, Verdict};
use metactl_netns::resolver::Places;

use crate::network::pinned;
use crate::state::{self, StateError};

/// Instances as metactl keeps them: the policy in `<run>/<user>/network.json`, the namespace pinned beside it,
/// or that of the container of this name.
#[derive(Debug, Clone)]
pub struct OnDisk {
    /// metactl's run directory.
    pub run: PathBuf,
    /// The state of containers.
    pub root: PathBuf,
}

impl OnDisk {
    fn file(&self, user: &str) -> Option<PathBuf> {
        // A user is the name of an instance or container, and never a path.
        let plain = !user.is_empty() && !user.starts_with('.') && !user.contains('/');
        plain.then(|| self.run.join(user).join("network.json"))
    }

    /// Whether its firewall lets everything out for a while (`metactl APP firewall learn`): then it may ask for
    /// everything, too.
    fn learns(&self, user: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Learning {
            until: u64,
        }
        let text = self
            .file(user)
            .and_then(|file| fs::read(file.with_file_name("learning.json")).ok());
        let learning = text.and_then(|text| serde_json::from_slice::<Learning>(&text).ok());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(u64::MAX, |now| now.as_secs());
        learning.is_some_and(|learning| learning.until > now)
    }
}

impl Places for OnDisk {
    fn policy(&self, user: &str) -> io::Result<Option<(NetworkSpec, String)>> {
        // The version first: what is replaced meanwhile is read again.
        let (Some(version), Some(path)) = (self.version(user), self.file(user)) else {
            return Ok(None);
        };
        let mut spec: NetworkSpec = serde_json::from_slice(&fs::read(path)?)?;
        if self.learns(user) {
            spec.out.policy = Verdict::Accept;
        }
        let has_policy = matches!(spec.mode, Mode::Routed | Mode::Nat) && spec.format == FORMAT;
        Ok(has_policy.then_some((spec, version)))
    }

    fn version(&self, user: &str) -> Option<String> {
        let meta = fs::metadata(self.file(user)?).ok()?;
        let (ino, size, time, nanos) = (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
        let learns = if self.learns(user) { "-learns" } else { "" };
        Some(format!("{ino}-{size}-{time}-{nanos}{learns}"))
    }

    fn namespace(&self, user: &str) -> io::Result<OwnedFd> {
        if let Some(pin) = pinned(&self.run.join(user).join("netns")) {
            return Ok(pin);
        }
        let gone = || io::Error::new(io::ErrorKind::NotFound, "its network namespace is gone");
        let state = match state::read(&self.root, user) {
            Ok(state) => state,
            Err(StateError::NotFound { .. }) => return Err(gone()),
            Err(error) => return Err(io::Error::other(error)),
        };
        let process = state.process.ok_or_else(gone)?;
        process.open()?.ok_or_else(gone)
    }
}

/// Gives up what the resolver does not need for the rest of its life: it keeps entering namespaces (CAP_SYS_ADMIN, and
/// CAP_SYS_PTRACE for those of processes) and changing sets (CAP_NET_ADMIN), as root who may read root's files; and of
/// system calls those that answering takes. For a process with one thread.
///
/// # Errors
/// The kernel refuses. Nothing may be answered then.
pub fn give_up_privileges() -> io::Result<()> {
    let kept = HashSet::from([
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_NET_ADMIN,
        Capability::CAP_SYS_PTRACE,
    ]);
    let refused = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    for capability in caps::all() {
        let supported = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if supported && !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(refused)?;
        }
    }
    caps::clear(None, CapSet::Inheritable).map_err(refused)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused)?;
    rustix::thread::set_no_new_privs(true)?;
    filter::confine()
}
