//! A plan becomes a program: everything the new process needs, flat, made before the clone.
//!
//! After the clone the new process may not allocate and must not fail for reasons that could have
//! been known before. So texts are turned into C strings in one arena, descriptors are opened, and
//! each step becomes one or a few [`Op`]s that [`crate::init`] carries out.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Resource;
use seccompiler::sock_filter;

use crate::capabilities::CapabilitySets;
use crate::plan::devices::DeviceKind;
use crate::plan::mounts::{Attributes, MountKind, MountStep};
use crate::plan::{Plan, Step, devices, step};
use crate::sys::MountAttr;

/// A C string in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text(usize);

/// A descriptor that the program owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// A range of one of the program's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: usize,
    end: usize,
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
    /// Clone the tree at a host path and make it the root.
    Root(Text),
    /// A new file system.
    Mount {
        fstype: Text,
        parameters: Span,
        target: Text,
        strict: bool,
        attributes: Attributes,
    },
    /// A tree of the host.
    Bind {
        source: Text,
        recursive: bool,
        target: Text,
        strict: bool,
        attributes: Attributes,
    },
    /// Attributes of what is mounted at a path.
    Attributes { path: Text, attr: MountAttr },
    /// A device node; `parent` is empty for `/dev` itself.
    Device {
        parent: Text,
        name: Text,
        device: Device,
    },
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
    Console { uid: u32, bind: bool },
    /// The root mount becomes read-only.
    RootReadOnly,
    /// pivot_root(2).
    Pivot,
    /// Wait for the go of the runtime.
    AwaitRuntime,
    /// Say that everything is prepared, wait for a connection to this socket.
    AwaitStart(Slot),
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
    Filter { flags: u32, last: bool },
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

/// What the new process carries out.
#[derive(Debug, Default)]
pub struct Program {
    arena: Vec<u8>,
    ops: Vec<(usize, Op)>,
    parameters: Vec<(Text, Option<Text>)>,
    texts: Vec<Text>,
    groups: Vec<rustix::fs::Gid>,
    descriptors: Vec<OwnedFd>,
    filter: Vec<sock_filter>,
    arguments: Vec<Text>,
    environment: Vec<Text>,
    candidates: Option<Span>,
}

/// Descriptors that steps need, opened by the launcher.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// `tasks` files.
    pub tasks: Vec<OwnedFd>,
    /// Namespaces to join, in the order of the steps.
    pub namespaces: Vec<(OwnedFd, i32)>,
    /// The socket on which `start` connects.
    pub start: Option<OwnedFd>,
}

/// Why a plan cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A text with a NUL byte, which no system call takes.
    #[error("{step}: {text:?} contains a NUL byte")]
    Nul {
        /// The step.
        step: String,
        /// The text.
        text: String,
    },
    /// The launcher did not open what a step needs.
    #[error("{step}: internal error, its descriptor is missing")]
    Descriptor {
        /// The step.
        step: String,
    },
}

/// Compiles the sandbox's part of a plan.
pub fn compile(plan: &Plan, descriptors: Descriptors) -> Result<Program, CompileError> {
    let mut compiler = Compiler {
        program: Program {
            arena: Vec::with_capacity(8192),
            ops: Vec::with_capacity(plan.steps.len() + 8),
            ..Program::default()
        },
        tasks: descriptors.tasks,
        namespaces: descriptors.namespaces.into_iter(),
        start: descriptors.start,
        joined: false,
    };
    for (index, step) in plan.sandbox_steps() {
        compiler
            .step(index, step)
            .map_err(|problem| match problem {
                Problem::Nul(text) => CompileError::Nul {
                    step: step.to_string(),
                    text,
                },
                Problem::Descriptor => CompileError::Descriptor {
                    step: step.to_string(),
                },
            })?;
    }
    Ok(compiler.program)
}

enum Problem {
    Nul(String),
    Descriptor,
}

struct Compiler {
    program: Program,
    tasks: Vec<OwnedFd>,
    namespaces: std::vec::IntoIter<(OwnedFd, i32)>,
    start: Option<OwnedFd>,
    /// Inside a container that runs already: nothing is mounted.
    joined: bool,
}

impl Compiler {
    fn text(&mut self, bytes: &[u8]) -> Result<Text, Problem> {
        if bytes.contains(&0) {
            return Err(Problem::Nul(String::from_utf8_lossy(bytes).into_owned()));
        }
        let at = self.program.arena.len();
        self.program.arena.extend_from_slice(bytes);
        self.program.arena.push(0);
        Ok(Text(at))
    }

    fn path(&mut self, path: &Path) -> Result<Text, Problem> {
        self.text(path.as_os_str().as_bytes())
    }

    fn slot(&mut self, fd: OwnedFd) -> Slot {
        self.program.descriptors.push(fd);
        Slot(self.program.descriptors.len() - 1)
    }

    fn texts(&mut self, strings: &[String]) -> Result<Vec<Text>, Problem> {
        strings.iter().map(|s| self.text(s.as_bytes())).collect()
    }

    fn step(&mut self, index: usize, step: &Step) -> Result<(), Problem> {
        let op = match step {
            Step::Cgroup(_)
            | Step::Shield
            | Step::Clone { .. }
            | Step::NewNetwork
            | Step::Network(_)
            | Step::OomScore(_) => return Ok(()),
            Step::JoinCgroups { .. } => {
                for fd in std::mem::take(&mut self.tasks) {
                    let slot = self.slot(fd);
                    self.program.ops.push((index, Op::JoinCgroup(slot)));
                }
                return Ok(());
            }
            Step::NewCgroupNamespace => Op::Unshare(libc::CLONE_NEWCGROUP),
            Step::JoinNamespace { .. } | Step::JoinContainer { .. } => {
                self.joined |= matches!(step, Step::JoinContainer { .. });
                let (fd, flags) = self.namespaces.next().ok_or(Problem::Descriptor)?;
                Op::Enter {
                    fd: self.slot(fd),
                    flags,
                }
            }
            Step::JoinNewNetwork => Op::EnterSent,
            Step::Hostname(name) => Op::Hostname(self.text(name.as_bytes())?),
            Step::Domainname(name) => Op::Domainname(self.text(name.as_bytes())?),
            Step::HostPropagation { flag } => Op::Propagation(*flag),
            Step::Root(path) => Op::Root(self.path(path)?),
            Step::Mount(mount) => self.mount(mount)?,
            Step::Attributes { path, attr } => Op::Attributes {
                path: self.path(path)?,
                attr: *attr,
            },
            Step::Device(device) => self.device(device)?,
            Step::DeviceLinks => {
                for (name, target) in devices::LINKS {
                    let name = self.text(name.as_bytes())?;
                    let target = self.text(target.as_bytes())?;
                    self.program
                        .ops
                        .push((index, Op::DeviceLink { name, target }));
                }
                return Ok(());
            }
            Step::Link { path, target } => {
                let (parent, name) = self.split(path)?;
                Op::Link {
                    parent,
                    name,
                    target: self.text(target.as_bytes())?,
                }
            }
            Step::Sysctl { path, value } => Op::Sysctl {
                path: self.text(format!("sys/{path}").as_bytes())?,
                value: self.text(value.as_bytes())?,
            },
            Step::Mask(path) => Op::Mask(self.path(path)?),
            Step::ReadOnly(path) => Op::ReadOnly(self.path(path)?),
            Step::Directory(path) => Op::Directory(self.path(path)?),
            Step::Console { uid } => Op::Console {
                uid: *uid,
                bind: !self.joined,
            },
            Step::RootReadOnly => Op::RootReadOnly,
            Step::Pivot => Op::Pivot,
            Step::AwaitRuntime => Op::AwaitRuntime,
            Step::AwaitStart => {
                let fd = self.start.take().ok_or(Problem::Descriptor)?;
                Op::AwaitStart(self.slot(fd))
            }
            Step::Session { terminal } => Op::Session {
                terminal: *terminal,
            },
            Step::Limit(limit) => Op::Limit {
                resource: limit.resource,
                soft: limit.soft,
                hard: limit.hard,
            },
            Step::Filter {
                program,
                flags,
                last,
            } => {
                self.program.filter.clone_from(program);
                Op::Filter {
                    flags: *flags,
                    last: *last,
                }
            }
            Step::Identity(identity) => self.identity(identity),
            Step::Capabilities(sets) => Op::Capabilities(*sets),
            Step::NoNewPrivileges => Op::NoNewPrivileges,
            Step::WorkingDirectory(path) => Op::WorkingDirectory(self.path(path)?),
            Step::DieWithRuntime => Op::DieWithRuntime,
            Step::Init => Op::Init,
            Step::Fork => Op::Fork,
            Step::Execute(program) => self.execute(program)?,
        };
        // The bounding set can only shrink while CAP_SETPCAP is there: before the identity.
        if let (Step::Capabilities(sets), Some(at)) = (step, self.identity_at()) {
            self.program
                .ops
                .insert(at, (index, Op::BoundingSet(sets.bounding)));
        }
        self.program.ops.push((index, op));
        Ok(())
    }

    fn identity_at(&self) -> Option<usize> {
        self.program
            .ops
            .iter()
            .rposition(|(_, op)| matches!(op, Op::Identity { .. }))
    }

    fn mount(&mut self, mount: &MountStep) -> Result<Op, Problem> {
        let target = self.path(&mount.target)?;
        let strict = is_sensitive(&mount.target);
        let attributes = mount.attributes;
        match &mount.kind {
            MountKind::Bind { source, recursive } => {
                let source = self.path(source)?;
                Ok(Op::Bind {
                    source,
                    recursive: *recursive,
                    target,
                    strict,
                    attributes,
                })
            }
            MountKind::New {
                fstype,
                source,
                parameters,
            } => {
                let fstype = self.text(fstype.as_bytes())?;
                let mut list = Vec::with_capacity(parameters.len() + 1);
                if let Some(source) = source {
                    list.push((self.text(b"source")?, Some(self.text(source.as_bytes())?)));
                }
                for (key, value) in parameters {
                    let key = self.text(key.as_bytes())?;
                    let value = value
                        .as_ref()
                        .map(|v| self.text(v.as_bytes()))
                        .transpose()?;
                    list.push((key, value));
                }
                let start = self.program.parameters.len();
                self.program.parameters.append(&mut list);
                let parameters = Span {
                    start,
                    end: self.program.parameters.len(),
                };
                Ok(Op::Mount {
                    fstype,
                    parameters,
                    target,
                    strict,
                    attributes,
                })
            }
        }
    }

    /// Parent directory and name; the parent is empty when it is `/dev`, which is opened once.
    fn split(&mut self, path: &Path) -> Result<(Text, Text), Problem> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or_default();
        Ok((self.path(parent)?, self.text(name.as_bytes())?))
    }

    fn device(&mut self, device: &devices::DeviceStep) -> Result<Op, Problem> {
        let (parent, name) = self.split(&device.path)?;
        let parent = if device.path.parent() == Some(Path::new("/dev")) {
            self.text(b"")?
        } else {
            parent
        };
        let &devices::DeviceStep {
            kind,
            number,
            mode,
            uid,
            gid,
            ..
        } = device;
        Ok(Op::Device {
            parent,
            name,
            device: Device {
                kind,
                number,
                mode,
                uid,
                gid,
            },
        })
    }

    fn identity(&mut self, identity: &step::Identity) -> Op {
        let start = self.program.groups.len();
        let groups = identity
            .groups
            .iter()
            .map(|g| rustix::fs::Gid::from_raw(*g));
        self.program.groups.extend(groups);
        Op::Identity {
            uid: identity.uid,
            gid: identity.gid,
            groups: Span {
                start,
                end: self.program.groups.len(),
            },
            umask: identity.umask,
        }
    }

    fn execute(&mut self, program: &step::Program) -> Result<Op, Problem> {
        self.program.arguments = self.texts(&program.arguments)?;
        self.program.environment = self.texts(&program.environment)?;
        let mut candidates = self.texts(&program.candidates())?;
        let start = self.program.texts.len();
        self.program.texts.append(&mut candidates);
        let candidates = Span {
            start,
            end: self.program.texts.len(),
        };
        self.program.candidates = Some(candidates);
        Ok(Op::Execute { candidates })
    }
}

/// Mount points of which a symlink in the rootfs must not make another place (CVE-2019-19921,
/// CVE-2023-27561, CVE-2026-41579): no component may be a link.
fn is_sensitive(target: &Path) -> bool {
    ["/proc", "/sys", "/dev"]
        .iter()
        .any(|top| target.starts_with(top))
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
