//! The steps of a plan: what is done, in words that a person can check.

use std::path::PathBuf;

use seccompiler::sock_filter;

use crate::capabilities::CapabilitySets;
use crate::cgroup::CgroupStep;
use crate::plan::devices::DeviceStep;
use crate::plan::mounts::MountStep;
use crate::sys::MountAttr;

pub use crate::plan::values::{
    Affinity, Hook, IdMap, IdMaps, Identity, Limit, MemoryPolicy, Pivot, Program, Scheduler,
    SecurityModule,
};

/// Who carries a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The runtime, outside.
    Runtime,
    /// The new process, on its way into the sandbox.
    Sandbox,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    // ---- the runtime, before the clone
    /// A scope of systemd, in which the control groups are.
    Scope(crate::systemd::Scope),
    /// A directory, limit or membership of control groups.
    Cgroup(CgroupStep),
    /// CVE-2019-5736: the container could rewrite the runtime, so it gets a small program of its
    /// own to execute from, see [`crate::shield`].
    Shield,
    /// The new process, in new namespaces (and in its v2 cgroup).
    Clone {
        /// Names of the new namespaces.
        namespaces: Vec<&'static str>,
        /// A pid namespace to be born into.
        join_pid: Option<PathBuf>,
    },

    // ---- the runtime, while the new process mounts
    /// A new network namespace, its loopback device switched on.
    NewNetwork,
    /// A step of the network's own plan.
    Network(metactl_netns::plan::Step),
    /// A network device of the host, which the container gets.
    NetDevice {
        /// Its name on the host.
        from: String,
        /// Its name in the container.
        to: String,
    },
    /// How ready the kernel shall be to kill it when memory runs out (proc_pid_oom_score_adj(5)).
    OomScore(i32),
    /// Which ids outside the ids of the new user namespace are (user_namespaces(7)).
    MapIds(IdMaps),
    /// Programs that are told of the container (runtime-spec, config, "POSIX-platform Hooks").
    Hooks {
        /// Their kind, as the specification calls it.
        kind: &'static str,
        /// They, in order.
        hooks: Vec<Hook>,
    },

    // ---- the new process: its surroundings
    /// Wait for the ids of its user namespace.
    AwaitMapping,
    /// Nobody may look into this process from now on (CVE-2016-9962).
    Hide,
    /// Its user may look into this process, where nobody else could come near it.
    Show,
    /// Into a user namespace, if the path is that of one, and become its root.
    UserRoot {
        /// The user that has the capabilities: 0, or the first that is mapped.
        uid: u32,
        /// Likewise.
        gid: u32,
    },
    /// New namespaces of a process that could not be born into them.
    NewNamespaces(Vec<&'static str>),
    /// Offsets of the clocks of the new time namespace.
    TimeOffsets(String),
    /// A second process goes on, in all of the new namespaces.
    Rebirth,
    /// The loopback device of the new network namespace.
    LoopbackUp,
    /// Into its v1 control groups.
    JoinCgroups {
        /// In how many hierarchies.
        hierarchies: usize,
    },
    /// A cgroup namespace whose root is the cgroup just joined.
    NewCgroupNamespace,
    /// An existing namespace.
    JoinNamespace {
        /// Which.
        kind: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// All namespaces of a running container.
    JoinContainer {
        /// Their names.
        namespaces: Vec<&'static str>,
    },
    /// The network namespace that the runtime made.
    JoinNewNetwork,
    /// `hostname`.
    Hostname(String),
    /// `domainname`.
    Domainname(String),
    /// How mount events of the host reach the new mount namespace.
    HostPropagation {
        /// `MS_PRIVATE` or `MS_SLAVE`.
        flag: u64,
    },
    /// The root directory.
    Root {
        /// Where it is on the host.
        path: PathBuf,
        /// The runtime opens it: its user may not get there.
        prepared: bool,
        /// How its mount events travel (`MS_SHARED` and so on); 0 leaves it private.
        propagation: u64,
    },
    /// One mount.
    Mount(MountStep),
    /// New attributes for what is mounted somewhere.
    Attributes {
        /// Inside the root.
        path: PathBuf,
        /// Which.
        attr: MountAttr,
    },
    /// One device node.
    Device(DeviceStep),
    /// The host's own device node, where no node may be made.
    DeviceBind {
        /// Absolute path, the same outside and inside.
        path: PathBuf,
        /// Its number, to be sure.
        number: (u32, u32),
    },
    /// The links in /dev.
    DeviceLinks,
    /// A kernel parameter of its own namespaces.
    Sysctl {
        /// Path below `/proc/sys`.
        path: String,
        /// Value.
        value: String,
    },
    /// A path nobody inside may look into.
    Mask(PathBuf),
    /// A path nobody inside may change.
    ReadOnly(PathBuf),
    /// The working directory, should it be missing.
    Directory(PathBuf),
    /// A symbolic link inside the root.
    Link {
        /// Where.
        path: PathBuf,
        /// What it says.
        target: String,
    },
    /// A terminal of the container's own.
    Console {
        /// Its owner.
        uid: u32,
        /// The runtime carries its bytes to a terminal of its own, or to a file: line ends are left
        /// to that one.
        relayed: bool,
        /// Rows and columns, when they are said.
        size: Option<(u16, u16)>,
    },
    /// The root becomes read-only.
    RootReadOnly,
    /// The root takes the place of the host's.
    Pivot(Pivot),
    /// The root of a container that shares the host's mounts.
    EnterRoot,
    /// Wait for the hooks that come before the pivot.
    AwaitHooks,

    // ---- the new process: itself
    /// Wait until the runtime is ready.
    AwaitRuntime,
    /// Look whether the program is there.
    Find(Program),
    /// Wait for `start`.
    AwaitStart {
        /// In the shield: nothing of the runtime is in it to be seen, and a runtime that is not root
        /// can look at it (`exec`, hooks). What comes after the wait, the shield does too.
        apart: bool,
    },
    /// Wait for the hooks that come between everything else and the program.
    AwaitStartHooks {
        /// As above.
        apart: bool,
    },
    /// A session of its own: no controlling terminal of the host (CVE-2017-5226, TIOCSTI).
    Session {
        /// Its own terminal, if there is one, becomes the controlling one.
        terminal: bool,
    },
    /// A session keyring of its own, so that it cannot get at the keys of whoever started it
    /// (session-keyring(7)).
    Keyring(String),
    /// A resource limit.
    Limit(Limit),
    /// Which processors it may use.
    Affinity(Affinity),
    /// sched_setattr(2).
    Scheduler(Scheduler),
    /// ioprio_set(2): the class and the level in one number.
    IoPriority(i32),
    /// personality(2).
    Personality(u32),
    /// set_mempolicy(2).
    MemoryPolicy(MemoryPolicy),
    /// The label that the program gets from a security module.
    Label {
        /// The module.
        module: SecurityModule,
        /// The profile or context.
        text: String,
    },
    /// The filter of system calls.
    Filter {
        /// The compiled filter.
        program: Vec<sock_filter>,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// Nothing but the program comes after it.
        last: bool,
        /// Some calls are decided by a program outside, which gets a descriptor for it.
        notify: bool,
        /// While the runtime takes that descriptor, the process may be looked into.
        shown: bool,
        /// The shield loads it.
        by_shield: bool,
    },
    /// User, groups, file creation mask.
    Identity(Identity),
    /// The five capability sets.
    Capabilities(CapabilitySets),
    /// No exec can gain privileges.
    NoNewPrivileges,
    /// The working directory.
    WorkingDirectory(PathBuf),
    /// Dies when the runtime does.
    DieWithRuntime,
    /// The built-in init stays behind as PID 1.
    Init,
    /// The final process is born into the pid namespace of the container, with nothing left that
    /// the container could take from it.
    Fork,
    /// The program.
    Execute(Program),
}

impl Step {
    /// Who carries it out.
    pub fn side(&self) -> Side {
        match self {
            Step::Scope(_)
            | Step::Cgroup(_)
            | Step::Shield
            | Step::Clone { .. }
            | Step::NewNetwork
            | Step::Network(_)
            | Step::NetDevice { .. }
            | Step::MapIds(_)
            | Step::Hooks { .. }
            | Step::OomScore(_) => Side::Runtime,
            _ => Side::Sandbox,
        }
    }
}
