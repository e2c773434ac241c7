//! What the plan needs to know of the host. Plain data: tests make it up, launches gather it.

use std::path::PathBuf;

use oci_spec::runtime::Process;

use crate::Error;
use crate::cgroup;
use crate::passwd;
use crate::plan::process::lacks_home;
use crate::request::{CgroupManager, LaunchRequest, Network};
use crate::spec::Bundle;

/// The host as a plan sees it.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// The effective uid of the runtime.
    pub uid: u32,
    /// Its control groups; none when no cgroup file system is mounted.
    pub cgroups: Option<cgroup::Layout>,
    /// The cgroup of the systemd that makes scopes, for its own user; empty for that of the system.
    pub scopes_below: String,
    /// Whether the executable of the runtime can be written through the mount it was started
    /// from, by somebody with the right to.
    pub executable_is_writable: bool,
    /// The security modules of the host.
    pub modules: SecurityModules,
    /// The home of the process in the root of the container, if its configuration does not say.
    pub home: Option<String>,
    /// The network of the host, when a network is asked for.
    pub network: Option<metactl_netns::facts::HostFacts>,
}

/// Which security modules label processes here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecurityModules {
    /// apparmor(7).
    pub apparmor: bool,
    /// selinux(8).
    pub selinux: bool,
}

impl SecurityModules {
    /// Looks at this host.
    pub fn detect() -> SecurityModules {
        let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled");
        SecurityModules {
            apparmor: enabled.is_ok_and(|text| text.first() == Some(&b'Y')),
            selinux: std::path::Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }
}

impl HostFacts {
    /// Looks at this host, at no more than `request` makes necessary.
    pub fn gather(request: &LaunchRequest, bundle: &Bundle) -> Result<HostFacts, Error> {
        let mut facts = HostFacts::local()?;
        facts.look_for_modules(bundle.spec.process().as_ref(), bundle);
        facts.home = bundle.spec.process().as_ref().and_then(|process| {
            let root = lacks_home(process).then(|| std::fs::File::open(bundle.rootfs()));
            // That there is no root, the launch tells.
            let root = root?.ok()?;
            Some(passwd::home(&root.into(), process.user().uid()))
        });
        if request.cgroup_manager == CgroupManager::Systemd && facts.uid != 0 {
            facts.scopes_below = crate::systemd::control_group(true)?;
        }
        if let Network::Spec(files) = &request.network {
            facts.network = Some(metactl_netns::facts::gather(files.uplink.as_deref())?);
        }
        Ok(facts)
    }

    /// Looks at this host without its network.
    pub fn local() -> Result<HostFacts, Error> {
        let uid = rustix::process::geteuid();
        let cgroups = if uid.is_root() {
            match cgroup::Layout::detect() {
                Ok(layout) => Some(layout),
                Err(cgroup::CgroupError::NotMounted) => None,
                Err(e) => return Err(e.into()),
            }
        } else {
            cgroup::Layout::detect_delegated()?
        };
        Ok(HostFacts {
            uid: uid.as_raw(),
            cgroups,
            scopes_below: String::new(),
            executable_is_writable: executable_is_writable(),
            modules: SecurityModules::default(),
            home: None,
            network: None,
        })
    }

    /// Looks for security modules if `process` or `bundle` asks for a label.
    pub fn look_for_modules(&mut self, process: Option<&Process>, bundle: &Bundle) {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
        let linux = bundle.spec.linux().as_ref();
        if process.is_some_and(|p| said(p.apparmor_profile()) || said(p.selinux_label()))
            || linux.is_some_and(|l| said(l.mount_label()))
        {
            self.modules = SecurityModules::detect();
        }
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
