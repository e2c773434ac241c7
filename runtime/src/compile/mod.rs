//! A plan becomes a program: everything the new process needs, flat, made before the clone.
//!
//! After the clone the new process may not allocate and must not fail for reasons that could have
//! been known before. So texts are turned into C strings in one arena, descriptors are opened, and
//! each step becomes one or a few [`Op`]s that [`crate::init`] carries out.

mod offers;
mod program;

pub use offers::offers;
pub use program::{Device, Offer, Op, Program, Slot, Span, Text, Tree};

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::plan::mounts::{MountKind, MountStep};
use crate::plan::namespaces::flag;
use crate::plan::{Plan, Step, devices, step};

/// Descriptors that steps need, opened by the launcher.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// `tasks` files.
    pub tasks: Vec<OwnedFd>,
    /// Namespaces to join, in the order of the steps.
    pub namespaces: Vec<(OwnedFd, i32)>,
    /// The socket on which `start` connects.
    pub start: Option<OwnedFd>,
    /// Trees that the runtime opened: the root and the sources of mounts that are `prepared`, in
    /// the order of the steps.
    pub trees: Vec<OwnedFd>,
    /// To the helper that opens them when asked, instead.
    pub helper: Option<OwnedFd>,
    /// What a hook reads, and where its words go.
    pub stdio: Option<(OwnedFd, OwnedFd)>,
    /// How many descriptors from 3 on the program keeps.
    pub preserve: u32,
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
        trees: descriptors.trees.into_iter(),
        helper: None,
        joined: false,
    };
    compiler.program.preserve = descriptors.preserve;
    if let Some(helper) = descriptors.helper {
        compiler.helper = Some(compiler.slot(helper));
    }
    if let Some((input, output)) = descriptors.stdio {
        let (input, output) = (compiler.slot(input), compiler.slot(output));
        compiler.program.ops.push((0, Op::Stdio { input, output }));
    }
    for (index, step) in plan.sandbox_steps() {
        compiler
            .step(index, step)
            .map_err(|problem| problem.of(step))?;
    }
    Ok(compiler.program)
}

enum Problem {
    Nul(String),
    Descriptor,
}

impl Problem {
    fn of(self, step: &Step) -> CompileError {
        let step = step.to_string();
        match self {
            Problem::Nul(text) => CompileError::Nul { step, text },
            Problem::Descriptor => CompileError::Descriptor { step },
        }
    }
}

#[derive(Default)]
struct Compiler {
    program: Program,
    tasks: Vec<OwnedFd>,
    namespaces: std::vec::IntoIter<(OwnedFd, i32)>,
    start: Option<OwnedFd>,
    trees: std::vec::IntoIter<OwnedFd>,
    helper: Option<Slot>,
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
            Step::Scope(_)
            | Step::Cgroup(_)
            | Step::Shield
            | Step::Clone { .. }
            | Step::NewNetwork
            | Step::Network(_)
            | Step::NetDevice { .. }
            | Step::MapIds(_)
            | Step::Hooks { .. }
            | Step::OomScore(_) => return Ok(()),
            Step::AwaitMapping | Step::AwaitHooks => Op::Await {
                announce: matches!(step, Step::AwaitHooks),
            },
            Step::AwaitRuntime => Op::Await { announce: false },
            Step::AwaitStartHooks { apart } => Op::AwaitStartHooks { apart: *apart },
            Step::Hide => Op::Hide,
            Step::Show => Op::Show,
            Step::UserRoot { uid, gid } => Op::UserRoot {
                uid: *uid,
                gid: *gid,
            },
            Step::NewNamespaces(names) => {
                Op::Unshare(names.iter().fold(0, |all, name| all | flag(name)))
            }
            Step::TimeOffsets(text) => Op::TimeOffsets(self.text(text.as_bytes())?),
            Step::Rebirth => Op::Rebirth,
            Step::LoopbackUp => Op::LoopbackUp,
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
            Step::Root {
                path,
                prepared,
                propagation,
            } => {
                if let Some(helper) = self.helper {
                    self.program.ops.push((index, Op::Introduce(helper)));
                }
                Op::Root {
                    path: self.path(path)?,
                    tree: self.tree(*prepared)?,
                    propagation: *propagation,
                }
            }
            Step::Mount(mount) => self.mount(mount)?,
            Step::Attributes { path, attr } => Op::Attributes {
                path: self.path(path)?,
                attr: *attr,
            },
            Step::Device(device) => self.device(device)?,
            Step::DeviceBind { path, number } => Op::DeviceBind {
                path: self.path(path)?,
                number: *number,
            },
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
            Step::Console { uid, relayed, size } => Op::Console {
                uid: *uid,
                relayed: *relayed,
                size: *size,
                bind: !self.joined,
            },
            Step::RootReadOnly => Op::RootReadOnly,
            Step::Pivot(how) => Op::Pivot(*how),
            Step::EnterRoot => match self.tree(true)? {
                Some(Tree::Opened(root)) => Op::EnterRoot(root),
                _ => return Err(Problem::Descriptor),
            },
            Step::Find(program) => Op::Find {
                candidates: self.candidates(program)?,
            },
            Step::AwaitStart { apart } => {
                let fd = self.start.take().ok_or(Problem::Descriptor)?;
                Op::AwaitStart {
                    socket: self.slot(fd),
                    apart: *apart,
                }
            }
            Step::Session { terminal } => Op::Session {
                terminal: *terminal,
            },
            Step::Keyring(name) => Op::Keyring(self.text(name.as_bytes())?),
            Step::Affinity(set) => Op::Affinity(*set),
            Step::Scheduler(scheduler) => Op::Scheduler(*scheduler),
            Step::IoPriority(value) => Op::IoPriority(*value),
            Step::Personality(value) => Op::Personality(*value),
            Step::MemoryPolicy(policy) => Op::MemoryPolicy(*policy),
            Step::Label { module, text } => self.label(*module, text)?,
            Step::Limit(limit) => Op::Limit {
                resource: limit.resource,
                soft: limit.soft,
                hard: limit.hard,
            },
            Step::Filter {
                program,
                flags,
                last,
                notify,
                shown,
                by_shield,
            } => {
                self.program.filter.clone_from(program);
                match by_shield {
                    true => Op::LateFilter {
                        flags: *flags,
                        notify: *notify,
                    },
                    false => Op::Filter {
                        flags: *flags,
                        last: *last,
                        notify: *notify,
                        shown: *shown,
                    },
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

    /// A tree that the runtime opened, if this one was.
    fn tree(&mut self, prepared: bool) -> Result<Option<Tree>, Problem> {
        if !prepared {
            return Ok(None);
        }
        if let Some(helper) = self.helper {
            return Ok(Some(Tree::Served(helper)));
        }
        let tree = self.trees.next().ok_or(Problem::Descriptor)?;
        Ok(Some(Tree::Opened(self.slot(tree))))
    }

    /// Which file below /proc/thread-self a label is written to, and in which form.
    fn label(&mut self, module: step::SecurityModule, text: &str) -> Result<Op, Problem> {
        let (path, text) = match module {
            step::SecurityModule::AppArmor => (&b"attr/apparmor/exec"[..], format!("exec {text}")),
            step::SecurityModule::SeLinux => (&b"attr/exec"[..], text.to_owned()),
        };
        Ok(Op::Label {
            path: self.text(path)?,
            text: self.text(text.as_bytes())?,
        })
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
                let inside = mount.inside.as_ref().filter(|_| mount.from_inside);
                Ok(Op::Bind {
                    source: self.path(inside.unwrap_or(source))?,
                    inside: inside.is_some(),
                    tree: self.tree(mount.prepared)?,
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
                    copy_up: mount.copy_up,
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
        let candidates = self.candidates(program)?;
        self.program.candidates = Some(candidates);
        Ok(Op::Execute { candidates })
    }

    fn candidates(&mut self, program: &step::Program) -> Result<Span, Problem> {
        let mut candidates = self.texts(&program.candidates())?;
        let start = self.program.texts.len();
        self.program.texts.append(&mut candidates);
        Ok(Span {
            start,
            end: self.program.texts.len(),
        })
    }
}

/// Mount points of which a symlink in the rootfs must not make another place (CVE-2019-19921,
/// CVE-2023-27561, CVE-2026-41579): no component may be a link.
fn is_sensitive(target: &Path) -> bool {
    ["/proc", "/sys", "/dev"]
        .iter()
        .any(|top| target.starts_with(top))
}
