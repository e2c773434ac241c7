//! What the plan needs to know of the host. Plain data: tests make it up, launches gather it.

use std::path::PathBuf;

use crate::Error;
use crate::cgroup;
use crate::request::{LaunchRequest, Network};

/// The host as a plan sees it.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The effective uid of the runtime.
    pub uid: u32,
    /// Its control groups; none when no cgroup file system is mounted.
    pub cgroups: Option<cgroup::Layout>,
    /// Whether the executable of the runtime can be written through the mount it was started
    /// from, by somebody with the right to.
    pub executable_is_writable: bool,
    /// The network of the host, when a network is asked for.
    pub network: Option<metactl_netns::facts::HostFacts>,
}

impl HostFacts {
    /// Looks at this host, at no more than `request` makes necessary.
    pub fn gather(request: &LaunchRequest) -> Result<HostFacts, Error> {
        let mut facts = HostFacts::local()?;
        if let Network::Spec(files) = &request.network {
            facts.network = Some(metactl_netns::facts::gather(files.uplink.as_deref())?);
        }
        Ok(facts)
    }

    /// Looks at this host without its network.
    pub fn local() -> Result<HostFacts, Error> {
        let cgroups = match cgroup::Layout::detect() {
            Ok(layout) => Some(layout),
            Err(cgroup::CgroupError::NotMounted) => None,
            Err(e) => return Err(e.into()),
        };
        Ok(HostFacts {
            uid: rustix::process::geteuid().as_raw(),
            cgroups,
            executable_is_writable: executable_is_writable(),
            network: None,
        })
    }
}

/// A read-only mount cannot be written through whoever tries (statvfs(3), `ST_RDONLY`), nor can a
/// sealed anonymous file; anything that cannot be found out counts as writable.
fn executable_is_writable() -> bool {
    /// `TMPFS_MAGIC` of statfs(2): where anonymous files are.
    const TMPFS: i64 = 0x0102_1994;
    match rustix::fs::statfs("/proc/self/exe") {
        Ok(fs) if fs.f_flags.cast_unsigned() & libc::ST_RDONLY != 0 => false,
        Ok(fs) if fs.f_type == TMPFS => !crate::shield::is_sealed_copy(),
        _ => true,
    }
}

/// The executable itself.
pub fn executable() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}
