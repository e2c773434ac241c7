//! Which namespaces a container gets.

use std::path::{Path, PathBuf};

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

/// The namespaces of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Mounts. In that of the host they are undone when the container is deleted.
    pub mount: Place,
    /// Users, groups and capabilities.
    pub user: Place,
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
    /// The offsets of two clocks.
    pub time: Place,
}

/// `CLONE_NEWTIME`; libc has it for few targets.
pub const NEW_TIME: i32 = 0x80;

impl Namespaces {
    /// As `linux.namespaces` says. An empty path means the same as none: a new namespace.
    pub fn new(linux: &Linux) -> Namespaces {
        let mut all = Namespaces::default();
        for namespace in linux.namespaces().iter().flatten() {
            let slot = match namespace.typ() {
                LinuxNamespaceType::User => &mut all.user,
                LinuxNamespaceType::Pid => &mut all.pid,
                LinuxNamespaceType::Network => &mut all.network,
                LinuxNamespaceType::Ipc => &mut all.ipc,
                LinuxNamespaceType::Uts => &mut all.uts,
                LinuxNamespaceType::Cgroup => &mut all.cgroup,
                LinuxNamespaceType::Time => &mut all.time,
                LinuxNamespaceType::Mount => &mut all.mount,
            };
            *slot = match namespace.path().as_deref() {
                Some(path) if path != Path::new("") => Place::Join(path.to_owned()),
                _ => Place::New,
            };
        }
        all
    }

    /// Each but the mount namespace, with its name and its `CLONE_NEW*` flag, in the order in which
    /// they are joined: the user namespace first, since the others may belong to it.
    pub fn each(&self) -> [(&'static str, &Place, i32); 7] {
        [
            ("user", &self.user, libc::CLONE_NEWUSER),
            ("pid", &self.pid, libc::CLONE_NEWPID),
            ("network", &self.network, libc::CLONE_NEWNET),
            ("ipc", &self.ipc, libc::CLONE_NEWIPC),
            ("uts", &self.uts, libc::CLONE_NEWUTS),
            ("cgroup", &self.cgroup, libc::CLONE_NEWCGROUP),
            ("time", &self.time, NEW_TIME),
        ]
    }

    /// Whether the container has a user namespace that is not the runtime's.
    pub fn other_users(&self) -> bool {
        self.user != Place::Host
    }

    /// A network namespace takes longest of all: the runtime makes it while the new
    /// process mounts. One that shall belong to another user namespace has to be made in there.
    pub fn runtime_makes_network(&self) -> bool {
        self.network == Place::New && !self.other_users()
    }

    /// Whether the namespaces cannot all be had by one clone. A new process cannot be born into a
    /// user namespace that exists already, and the clocks of a new time namespace must be set
    /// before anybody is in it (time_namespaces(7)): then a first process enters, unshares and
    /// sets, and forks the one that goes on.
    pub fn in_two_stages(&self) -> bool {
        matches!(self.user, Place::Join(_)) || self.time == Place::New
    }
}

/// The `CLONE_NEW*` flag of a namespace by its name.
pub fn flag(name: &str) -> i32 {
    if name == "mount" {
        return libc::CLONE_NEWNS;
    }
    let all = Namespaces::default();
    let found = all.each().into_iter().find(|(known, ..)| *known == name);
    found.map_or(0, |(_, _, flag)| flag)
}
