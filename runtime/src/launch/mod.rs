//! The runtime's side of a launch.
//!
//! [`launch`] does what must be done before the new process exists (record what is about to be
//! made, cgroups, descriptors), makes it, and then works beside it: network, state, pid file. When
//! all is ready it says go, and listens until the program runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode as FileMode, OFlags, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::cgroup::Joined;
use crate::compile::{Descriptors, compile};
use crate::facts::HostFacts;
use crate::journal::{Intent, Journal};
use crate::network::{self, NetworkInput};
use crate::plan::{self, Plan, Step};
use crate::process::ProcessId;
use crate::report::Message;
use crate::request::{LaunchRequest, Mode, Network};
use crate::spec::Bundle;
use crate::state::{self, State, StateDir};
use crate::{Error, sys};

mod error;
pub mod exec;
pub mod exit;
pub mod signals;
pub mod spawn;

pub use error::LaunchError;
pub use exec::{ExecOptions, Joiner, exec};
pub use exit::Exit;

use signals::Signals;
use spawn::{Birth, Child, Heard};

/// A container whose program runs (or, with [`Mode::Create`], is ready to).
#[derive(Debug)]
pub struct Launched {
    /// Its first process.
    pub process: ProcessId,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// Whether it is a child of this process, so that its end can be waited for.
    pub own: bool,
    /// The outer end of its terminal, if it has one.
    pub console: Option<OwnedFd>,
    dir: StateDir,
}

/// Launches a container. When it fails, everything is undone.
pub fn launch(request: &LaunchRequest) -> Result<Launched, Error> {
    launch_interruptibly(request, None)
}

/// Launches a container; a signal that would end a program ends the launch.
pub fn launch_interruptibly(
    request: &LaunchRequest,
    signals: Option<&mut Signals>,
) -> Result<Launched, Error> {
    let bundle = Bundle::load(&request.bundle)?;
    let (network, facts, plan) = prepare(&bundle, request)?;
    let dir = StateDir::create(&request.root, &request.id)?;
    let launch = Launch {
        request,
        bundle,
        network,
        facts,
        plan,
        dir,
    };
    match launch.carry_out(signals) {
        Ok(parts) => {
            launch.dir.unlock()?;
            Ok(Launched {
                process: parts.process,
                pidfd: parts.child.pidfd,
                own: parts.child.own,
                console: parts.heard.console,
                dir: launch.dir,
            })
        }
        Err(error) => {
            // The first error is the one to report. What cannot be undone now stays in the
            // journal, for `delete --force`.
            launch.dir.destroy().map(drop).unwrap_or_default();
            Err(error)
        }
    }
}

/// Everything up to the plan: what `plan` prints and `run` carries out.
pub fn prepare(
    bundle: &Bundle,
    request: &LaunchRequest,
) -> Result<(Option<NetworkInput>, HostFacts, Plan), Error> {
    let network = match &request.network {
        Network::Spec(files) => Some(NetworkInput::load(files)?),
        Network::Config | Network::Join(_) => None,
    };
    let facts = HostFacts::gather(request)?;
    let plan = plan::plan(bundle, network.as_ref(), &facts, request)?;
    Ok((network, facts, plan))
}

impl Launched {
    /// Waits for the end of the container.
    pub fn wait(&self) -> Result<Exit, LaunchError> {
        exit::wait(&self.pidfd, self.own)
    }

    /// Sends a signal to its first process.
    pub fn signal(&self, signal: i32) -> Result<(), LaunchError> {
        match sys::pidfd_kill(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(LaunchError::system(format!("send signal {signal}"), e)),
        }
    }

    /// Removes everything of it, running or not.
    pub fn remove(self) -> Result<Vec<String>, Error> {
        self.dir.relock()?;
        // Somebody else may have deleted it meanwhile, and launched another with the same id.
        if self.dir.is_current() {
            self.dir.destroy()
        } else {
            Ok(Vec::new())
        }
    }
}

struct Launch<'a> {
    request: &'a LaunchRequest,
    bundle: Bundle,
    network: Option<NetworkInput>,
    facts: HostFacts,
    plan: Plan,
    dir: StateDir,
}

/// What a successful launch leaves in the hands of the runtime.
struct Parts {
    process: ProcessId,
    child: Child,
    heard: Heard,
}

impl Launch<'_> {
    fn carry_out(&self, signals: Option<&mut Signals>) -> Result<Parts, Error> {
        self.check_cgroups()?;
        let mut journal = Journal::open(&self.dir.journal())?;
        journal.record_all(&self.intents())?;
        let Joined { tasks, directory } = self.plan.cgroup.apply()?;
        let mut join_pid = None;
        let descriptors = Descriptors {
            tasks,
            namespaces: self.open_namespaces(&mut join_pid)?,
            start: (self.request.mode == Mode::Create)
                .then(|| self.start_socket())
                .transpose()?,
        };
        let program = compile(&self.plan, descriptors)?;
        let child = spawn::spawn(
            program,
            &Birth {
                flags: self.clone_flags(),
                cgroup: directory.as_ref().map(AsFd::as_fd),
                sibling: self.request.mode != Mode::Foreground,
                join_pid: join_pid.as_ref().map(AsFd::as_fd),
                shield: self.shield(),
            },
        )?;
        // From here on, in parallel with the mounts of the new process.
        let result = self.accompany(&child, &mut journal, signals);
        match result {
            Ok((process, heard)) => Ok(Parts {
                process,
                child,
                heard,
            }),
            Err(error) => {
                // The first error is the one to report.
                child.kill().unwrap_or_default();
                Err(error)
            }
        }
    }

    fn accompany(
        &self,
        child: &Child,
        journal: &mut Journal,
        signals: Option<&mut Signals>,
    ) -> Result<(ProcessId, Heard), Error> {
        let process = ProcessId::of(child.pid)
            .map_err(|e| LaunchError::system("look at the new process", e))?;
        journal.record(&Intent::Process(process.clone()))?;
        self.make_network(child)?;
        for step in &self.plan.steps {
            if let Step::OomScore(score) = step {
                set_oom_score(child.pid, *score)?;
            }
        }
        let create = self.request.mode == Mode::Create;
        self.dir.write("config.json", &self.bundle.text)?;
        self.save(&process)?;
        if let Some(path) = &self.request.pid_file {
            write_pid_file(path, child.pid)?;
        }
        if !create {
            child.tell(&Message::Go, None)?;
        }
        let mut heard = Heard::default();
        child.listen(&self.plan, create, signals, &mut heard)?;
        Ok((process, heard))
    }

    /// What is in the container's cgroups is killed at its end: it must not be anybody else's.
    fn check_cgroups(&self) -> Result<(), LaunchError> {
        for path in self.plan.cgroup.directories() {
            match std::fs::read(path.join("cgroup.procs")) {
                Ok(text) if text.is_empty() => {}
                Ok(_) => return Err(LaunchError::CgroupInUse { path: path.clone() }),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => {
                    let what = format!("look into the cgroup {}", path.display());
                    return Err(LaunchError::system(what, e));
                }
            }
        }
        Ok(())
    }

    /// What is about to be made outside, in the order in which it is made.
    fn intents(&self) -> Vec<Intent> {
        let mut intents = Vec::new();
        if let Network::Spec(files) = &self.request.network {
            intents.push(Intent::Network {
                server_dir: files.server_dir.clone(),
                user: self.request.id.to_string(),
            });
        }
        for path in self.plan.cgroup.parents() {
            // A directory that somebody else made stays; those that metactl makes go with their
            // last user.
            if is_ours(path) || !path.exists() {
                intents.push(Intent::SharedCgroup { path: path.clone() });
            }
        }
        let own = self.plan.cgroup.directories().iter();
        intents.extend(own.map(|path| Intent::Cgroup { path: path.clone() }));
        intents
    }

    fn clone_flags(&self) -> u64 {
        let flag = |name: &&str| match *name {
            "mount" => libc::CLONE_NEWNS,
            "pid" => libc::CLONE_NEWPID,
            "ipc" => libc::CLONE_NEWIPC,
            "uts" => libc::CLONE_NEWUTS,
            "cgroup" => libc::CLONE_NEWCGROUP,
            _ => 0,
        };
        let names = self.plan.steps.iter().find_map(|step| match step {
            Step::Clone { namespaces, .. } => Some(namespaces.iter()),
            _ => None,
        });
        let flags = names
            .into_iter()
            .flatten()
            .map(flag)
            .fold(0, |all, flag| all | flag);
        u64::from(flags.cast_unsigned())
    }

    /// The step that the shield reports about, when there is one.
    fn shield(&self) -> Option<usize> {
        let steps = &self.plan.steps;
        steps
            .contains(&Step::Shield)
            .then(|| steps.len().saturating_sub(1))
    }

    fn open_namespaces(&self, pid: &mut Option<OwnedFd>) -> Result<Vec<(OwnedFd, i32)>, Error> {
        let mut opened = Vec::new();
        for step in &self.plan.steps {
            match step {
                Step::Clone {
                    join_pid: Some(path),
                    ..
                } => *pid = Some(open_namespace(path)?),
                Step::JoinNamespace { kind, path } => {
                    let flag = match *kind {
                        "network" => libc::CLONE_NEWNET,
                        "ipc" => libc::CLONE_NEWIPC,
                        "uts" => libc::CLONE_NEWUTS,
                        _ => libc::CLONE_NEWCGROUP,
                    };
                    opened.push((open_namespace(path)?, flag));
                }
                _ => {}
            }
        }
        Ok(opened)
    }

    /// The socket on which a created container waits for `start`. It is bound through the
    /// directory's descriptor: the path may be too long for a socket address.
    fn start_socket(&self) -> Result<OwnedFd, LaunchError> {
        let what = "make the socket for `start`";
        let made = || -> Result<OwnedFd, rustix::io::Errno> {
            let flags = SocketFlags::CLOEXEC;
            let kind = SocketType::SEQPACKET;
            let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
            rustix::net::bind(&fd, &self.dir.socket_address("start")?)?;
            rustix::net::listen(&fd, 1)?;
            Ok(fd)
        };
        made().map_err(|e| LaunchError::system(what, e))
    }

    fn make_network(&self, child: &Child) -> Result<(), Error> {
        if !self.plan.steps.contains(&Step::NewNetwork) {
            return Ok(());
        }
        let namespace = network::new_namespace()?;
        // It needs the namespace for sysfs and can go on mounting with it.
        child.tell(&Message::Namespace, Some(namespace.as_fd()))?;
        if let (Some(input), Some(facts), Network::Spec(files)) =
            (&self.network, &self.facts.network, &self.request.network)
        {
            let plan = input.plan(facts, u32::try_from(child.pid).ok())?;
            let user = self.request.id.as_str();
            metactl_netns::apply::apply(&plan, namespace.as_fd(), &files.server_dir, user)?;
        }
        Ok(())
    }

    fn save(&self, process: &ProcessId) -> Result<(), Error> {
        let annotations = self.bundle.spec.annotations().iter().flatten();
        let create = self.request.mode == Mode::Create;
        let state = State {
            format: state::FORMAT,
            id: self.request.id.to_string(),
            bundle: self.bundle.dir.clone(),
            created: state::now_rfc3339(),
            started: !create,
            process: Some(process.clone()),
            cgroups: self.plan.cgroup.directories().to_vec(),
            scope: None,
            init: self.plan.init,
            annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
            // Who starts it has no plan to look a failed step up in.
            steps: if create {
                self.plan.steps.iter().map(ToString::to_string).collect()
            } else {
                Vec::new()
            },
        };
        Ok(self.dir.save(&state)?)
    }
}

/// Whether a cgroup directory is, or is below, one that only metactl makes: `metactl...`.
fn is_ours(path: &Path) -> bool {
    path.components()
        .any(|c| c.as_os_str().as_encoded_bytes().starts_with(b"metactl"))
}

fn open_namespace(path: &Path) -> Result<OwnedFd, LaunchError> {
    openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        FileMode::empty(),
    )
    .map_err(|e| LaunchError::system(format!("open the namespace {}", path.display()), e))
}

fn set_oom_score(pid: i32, score: i32) -> Result<(), LaunchError> {
    let path = format!("/proc/{pid}/oom_score_adj");
    std::fs::write(path, score.to_string())
        .map_err(|e| LaunchError::system(format!("set the out-of-memory score {score}"), e))
}

/// Writes a pid file in one step: a reader sees nothing or the whole pid.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<(), LaunchError> {
    state::write_atomically(path, pid.to_string().as_bytes(), 0o644)
        .map_err(|e| LaunchError::system(format!("write the pid file {}", path.display()), e))
}

impl StateDir {
    /// The address of a socket in it, however long its path is.
    pub fn socket_address(&self, name: &str) -> Result<SocketAddrUnix, rustix::io::Errno> {
        let dir = PathBuf::from(format!("/proc/self/fd/{}", self.raw_fd()));
        SocketAddrUnix::new(dir.join(name))
    }
}
