//! What a plan is compiled into.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::Resource;
use seccompiler::sock_filter;

use crate::capabilities::CapabilitySets;
use crate::plan::attributes::Attributes;
use crate::plan::devices::DeviceKind;
use crate::plan::step::{Affinity, MemoryPolicy, Pivot, Scheduler};
use crate::sys::MountAttr;

/// A C string in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text(pub(super) usize);

/// A descriptor that the program owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub(super) usize);

/// A tree of the host that the runtime opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// It is open.
    Opened(Slot),
    /// A helper at the other end of this socket opens it when asked, see [`crate::launch`].
    Served(Slot),
}

/// A range of one of the program's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// One operation of the new process. Plain data.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// Write `0` to a `tasks` file.
    JoinCgroup(Slot),
    /// unshare(2).
    Unshare(i32),
    /// setns(2) to a namespace file or, with several flags, to the namespaces of a pidfd.
    Enter { fd: Slot, flags: i32 },
    /// setns(2) to the network namespace that the runtime sends.
    EnterSent,
    /// sethostname(2).
    Hostname(Text),
    /// setdomainname(2).
    Domainname(Text),
    /// Propagation of the whole old tree.
    Propagation(u64),
    /// Clone the tree at a host path, or take the one that was opened, and make it the root.
    Root {
        path: Text,
        tree: Option<Tree>,
        propagation: u64,
    },
    /// A new file system.
    Mount {
        fstype: Text,
        parameters: Span,
        target: Text,
        strict: bool,
        attributes: Attributes,
        copy_up: bool,
    },
    /// A tree of the host.
    Bind {
        source: Text,
        /// The source is a path inside the root, and `tree` the user namespace whose ids it shows.
        inside: bool,
        tree: Option<Tree>,
        recursive: bool,
        target: Text,
        strict: bool,
        attributes: Attributes,
    },
    /// Tell the helper at the other end of this socket where the trees shall be mounted.
    Introduce(Slot),
    /// A helper: go to where the trees shall be mounted.
    EnterView,
    /// A helper: open a tree and hand it over.
    Offer(Offer),
    /// Attributes of what is mounted at a path.
    Attributes { path: Text, attr: MountAttr },
    /// A device node; `parent` is empty for `/dev` itself.
    Device {
        parent: Text,
        name: Text,
        device: Device,
    },
    /// A device node of the host.
    DeviceBind { path: Text, number: (u32, u32) },
    /// A symbolic link in `/dev`.
    DeviceLink { name: Text, target: Text },
    /// A symbolic link anywhere in the root.
    Link {
        parent: Text,
        name: Text,
        target: Text,
    },
    /// A kernel parameter.
    Sysctl { path: Text, value: Text },
    /// Hide a path.
    Mask(Text),
    /// Make a path read-only.
    ReadOnly(Text),
    /// Make a directory if it is missing.
    Directory(Text),
    /// Open a terminal, send its other end to the runtime.
    Console {
        uid: u32,
        bind: bool,
        relayed: bool,
        size: Option<(u16, u16)>,
    },
    /// The root mount becomes read-only.
    RootReadOnly,
    /// pivot_root(2), mount(8) with `--move`, or chroot(2).
    Pivot(Pivot),
    /// chroot(2).
    EnterRoot(Slot),
    /// Wait for the go of the runtime; with `announce` say first that this point is reached.
    Await { announce: bool },
    /// prctl(2), PR_SET_DUMPABLE: not any more.
    Hide,
    /// The same: again.
    Show,
    /// setresuid(2) to the user that has the capabilities of the user namespace.
    UserRoot { uid: u32, gid: u32 },
    /// Offsets of the clocks of the new time namespace.
    TimeOffsets(Text),
    /// Fork; the child goes on, the parent ends.
    Rebirth,
    /// The loopback device of the network namespace.
    LoopbackUp,
    /// Standard input, and standard output and error.
    Stdio { input: Slot, output: Slot },
    /// A new session keyring.
    Keyring(Text),
    /// sched_setaffinity(2).
    Affinity(Affinity),
    /// sched_setattr(2).
    Scheduler(Scheduler),
    /// ioprio_set(2).
    IoPriority(i32),
    /// personality(2).
    Personality(u32),
    /// set_mempolicy(2).
    MemoryPolicy(MemoryPolicy),
    /// A label for the program, written below /proc/thread-self.
    Label { path: Text, text: Text },
    /// Look whether the program is there.
    Find { candidates: Span },
    /// Say that everything is prepared, wait for the go; `apart`: in the shield.
    AwaitStartHooks { apart: bool },
    /// Say that everything is prepared, wait for a connection to this socket; `apart`: in the shield.
    AwaitStart { socket: Slot, apart: bool },
    /// setsid(2); with `terminal`, the one of the process becomes the controlling one.
    Session { terminal: bool },
    /// setrlimit(2).
    Limit {
        resource: Resource,
        soft: u64,
        hard: u64,
    },
    /// seccomp(2). With `last`, the program comes next, and the runtime is told before the filter
    /// could keep that from it.
    Filter {
        flags: u32,
        last: bool,
        notify: bool,
        shown: bool,
    },
    /// The shield loads the filter.
    LateFilter { flags: u32, notify: bool },
    /// Groups, user, mask.
    Identity {
        uid: u32,
        gid: u32,
        groups: Span,
        umask: u32,
    },
    /// Drop what the bounding set must not have, while it is still allowed to.
    BoundingSet(u64),
    /// capset(2) and the ambient set.
    Capabilities(CapabilitySets),
    /// prctl(2).
    NoNewPrivileges,
    /// chdir(2), checked.
    WorkingDirectory(Text),
    /// PR_SET_PDEATHSIG.
    DieWithRuntime,
    /// Fork; the parent stays as init.
    Init,
    /// Fork; the parent tells the pid of the child and ends.
    Fork,
    /// execve(2) of each candidate.
    Execute { candidates: Span },
}

/// What a device node shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its kind.
    pub kind: DeviceKind,
    /// Major and minor number.
    pub number: (u32, u32),
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A tree that a helper opens for others.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Its host path.
    pub source: Text,
    /// With the mounts below it.
    pub recursive: bool,
    /// How mount events of it travel; 0 leaves it.
    pub propagation: u64,
    /// The attributes that it gets.
    pub attributes: Attributes,
    /// Only when asked, and for the mount namespace in which it is mounted.
    pub asked: bool,
}

/// What a process that waits in the shield needs there.
#[derive(Debug)]
pub struct Wait<'p> {
    /// The socket on which `start` connects.
    pub listener: Option<BorrowedFd<'p>>,
}

/// A seccomp filter that the shield loads.
#[derive(Debug)]
pub struct LateFilter<'p> {
    /// The index of its step in the plan.
    pub step: usize,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// It asks somebody, who gets a descriptor for it.
    pub notify: bool,
    /// The instructions.
    pub program: &'p [sock_filter],
}

/// What the new process carries out.
#[derive(Debug, Default)]
pub struct Program {
    pub(super) arena: Vec<u8>,
    pub(super) ops: Vec<(usize, Op)>,
    pub(super) parameters: Vec<(Text, Option<Text>)>,
    pub(super) texts: Vec<Text>,
    pub(super) groups: Vec<rustix::fs::Gid>,
    pub(super) descriptors: Vec<OwnedFd>,
    pub(super) filter: Vec<sock_filter>,
    pub(super) arguments: Vec<Text>,
    pub(super) environment: Vec<Text>,
    pub(super) candidates: Option<Span>,
    /// How many descriptors from 3 on the program of the user keeps.
    pub preserve: u32,
}

impl Program {
    /// The operations, each with the index of its step in the plan.
    pub fn ops(&self) -> &[(usize, Op)] {
        &self.ops
    }

    /// A text. An impossible reference reads as the empty string, which no call accepts.
    pub fn text(&self, text: Text) -> &CStr {
        let bytes = self.arena.get(text.0..).unwrap_or_default();
        CStr::from_bytes_until_nul(bytes).unwrap_or_default()
    }

    /// The parameters of a mount.
    pub fn parameters(&self, span: Span) -> impl Iterator<Item = (&CStr, Option<&CStr>)> {
        let list = self
            .parameters
            .get(span.start..span.end)
            .unwrap_or_default();
        list.iter()
            .map(|(key, value)| (self.text(*key), value.map(|v| self.text(v))))
    }

    /// The texts of a list.
    pub fn texts(&self, span: Span) -> impl Iterator<Item = &CStr> {
        let list = self.texts.get(span.start..span.end).unwrap_or_default();
        list.iter().map(|text| self.text(*text))
    }

    /// Additional groups.
    pub fn groups(&self, span: Span) -> &[rustix::fs::Gid] {
        self.groups.get(span.start..span.end).unwrap_or_default()
    }

    /// A descriptor.
    pub fn descriptor(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        self.descriptors.get(slot.0).map(AsFd::as_fd)
    }

    /// How the shield waits, if the process waits in it.
    pub fn waits_apart(&self) -> Option<Wait<'_>> {
        let at = |op: &Op| {
            matches!(
                op,
                Op::AwaitStart { apart: true, .. } | Op::AwaitStartHooks { apart: true }
            )
        };
        let wait = self.ops.iter().find(|(_, op)| at(op))?;
        Some(Wait {
            listener: match wait.1 {
                Op::AwaitStart { socket, .. } => self.descriptor(socket),
                _ => None,
            },
        })
    }

    /// The filter that the shield loads.
    pub fn late_filter(&self) -> Option<LateFilter<'_>> {
        self.ops.iter().find_map(|(step, op)| match op {
            Op::LateFilter { flags, notify } => Some(LateFilter {
                step: *step,
                flags: *flags,
                notify: *notify,
                program: &self.filter,
            }),
            _ => None,
        })
    }

    /// The seccomp filter.
    pub fn filter(&self) -> &[sock_filter] {
        &self.filter
    }

    /// The arguments of the program.
    pub fn arguments(&self) -> impl Iterator<Item = &CStr> {
        self.arguments.iter().map(|text| self.text(*text))
    }

    /// The arguments of the shield: candidates, an empty string, the arguments of the program.
    pub fn shielded_arguments(&self) -> impl Iterator<Item = &CStr> {
        let candidates = self
            .candidates
            .into_iter()
            .flat_map(|span| self.texts(span));
        candidates.chain([c""]).chain(self.arguments())
    }

    /// The environment of the program.
    pub fn environment(&self) -> impl Iterator<Item = &CStr> {
        self.environment.iter().map(|text| self.text(*text))
    }
}
