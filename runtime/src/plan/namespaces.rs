//! Which namespaces a container gets.

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType};

/// Where a namespace of a container comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// It is the one of the runtime.
    #[default]
    Host,
    /// A new one.
    New,
    /// The one that this file refers to.
    Join(PathBuf),
}

/// The namespaces of a container, beside the mount namespace, which is always new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Processes.
    pub pid: Place,
    /// Devices, addresses, firewall.
    pub network: Place,
    /// System V IPC and POSIX message queues.
    pub ipc: Place,
    /// Host name.
    pub uts: Place,
    /// The view of the control groups.
    pub cgroup: Place,
}

impl Namespaces {
    /// As `linux.namespaces` says.
    pub fn new(linux: &Linux) -> Namespaces {
        let mut all = Namespaces::default();
        for namespace in linux.namespaces().iter().flatten() {
            let slot = match namespace.typ() {
                LinuxNamespaceType::Pid => &mut all.pid,
                LinuxNamespaceType::Network => &mut all.network,
                LinuxNamespaceType::Ipc => &mut all.ipc,
                LinuxNamespaceType::Uts => &mut all.uts,
                LinuxNamespaceType::Cgroup => &mut all.cgroup,
                // Always new; refused when the bundle was checked.
                LinuxNamespaceType::Mount | LinuxNamespaceType::User | LinuxNamespaceType::Time => {
                    continue;
                }
            };
            *slot = match namespace.path() {
                Some(path) => Place::Join(path.clone()),
                None => Place::New,
            };
        }
        all
    }

    /// Each with its name and its `CLONE_NEW*` flag.
    pub fn each(&self) -> [(&'static str, &Place, i32); 5] {
        [
            ("pid", &self.pid, libc::CLONE_NEWPID),
            ("network", &self.network, libc::CLONE_NEWNET),
            ("ipc", &self.ipc, libc::CLONE_NEWIPC),
            ("uts", &self.uts, libc::CLONE_NEWUTS),
            ("cgroup", &self.cgroup, libc::CLONE_NEWCGROUP),
        ]
    }
}
