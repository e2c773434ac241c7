//! The runtime's side of a launch.
//!
//! [`launch`] does what must be done before the new process exists (record what is about to be
//! made, cgroups, descriptors), makes it, and then works beside it: network, state, pid file. When
//! all is ready it says go, and listens until the program runs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::paths::unfinished;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::cgroup::{self, Joined, freezer};
use crate::compile::{Descriptors, compile};
use crate::container::Deleted;
use crate::facts::HostFacts;
use crate::journal::{Intent, Journal};
use crate::network::NetworkInput;
use crate::plan::namespaces::flag;
use crate::plan::step::Pivot;
use crate::plan::{self, Plan, Step};
use crate::process::ProcessId;
use crate::report::Message;
use crate::request::{CgroupManager, LaunchRequest, Mode, Network};
use crate::spec::Bundle;
use crate::state::{self, State, StateDir};
use crate::{Error, sys};

mod error;
pub mod exec;
pub mod exit;
mod handed;
pub mod handover;
mod hooks;
mod ids;
mod membership;
mod open;
pub mod signals;
mod sockets;
pub mod spawn;
mod stages;
mod trees;

pub use error::LaunchError;
pub use exec::{ExecOptions, Joiner, exec};
pub use exit::Exit;

pub(crate) use hooks::{Namespace, run as run_hooks};
pub(crate) use sockets::Agent;
pub(crate) use stages::{agent, hooks_after_start};

use signals::Signals;
use spawn::{Birth, Child, Heard, Until};

/// How long a process may take to die from SIGKILL.
pub(crate) const KILL_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// What was left out of its configuration.
    pub warnings: Vec<String>,
    /// Sections of its configuration that mean nothing here.
    pub ignored: Vec<String>,
    dir: StateDir,
    /// The bundle, if it has hooks.
    hooks: Option<Bundle>,
}

/// Launches a container. When it fails, everything is undone.
pub fn launch(request: &LaunchRequest) -> Result<Launched, Error> {
    launch_interruptibly(request, None)
}

/// Launches a container; a signal that would end a program ends the launch.
pub fn launch_interruptibly(
    request: &LaunchRequest,
    mut signals: Option<&mut Signals>,
) -> Result<Launched, Error> {
    let mut bundle = Bundle::load(&request.bundle)?;
    if let Some(notify) = &request.notify {
        plan::notify::show(&mut bundle.spec, notify)?;
    }
    let input = NetworkInput::of(request)?;
    let facts = HostFacts::gather(request, &bundle)?;
    let plan = plan::plan(&bundle, input.as_ref(), &facts, request)?;
    let dir = StateDir::create(&request.root, &request.id)?;
    let launch = Launch {
        request,
        bundle,
        network: input,
        facts,
        plan,
        dir,
    };
    match launch.carry_out(signals.as_deref_mut()) {
        Ok(parts) => {
            launch.dir.unlock()?;
            Ok(Launched {
                process: parts.process,
                pidfd: parts.child.pidfd,
                own: parts.child.own,
                console: parts.console,
                warnings: launch.bundle.warnings.clone(),
                ignored: launch.bundle.ignored.clone(),
                hooks: plan::hooks::has(&launch.bundle, "poststop").then_some(launch.bundle),
                dir: launch.dir,
            })
        }
        Err(error) => {
            // The first error is the one to report. What cannot be undone now stays in the
            // journal, for `delete --force`.
            launch.destroy(signals);
            Err(error)
        }
    }
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

    /// Removes everything of it, running or not. Its `poststop` hooks run at the end; what they
    /// complain of is in [`Deleted::warnings`].
    pub fn remove(self) -> Result<Deleted, Error> {
        self.remove_interruptibly(None)
    }

    /// The same; a signal that would end a program ends a hook.
    pub fn remove_interruptibly(self, signals: Option<&mut Signals>) -> Result<Deleted, Error> {
        self.dir.relock()?;
        // Somebody else may have deleted it meanwhile, and launched another with the same id.
        if !self.dir.is_current() {
            return Ok(Deleted::default());
        }
        // What cannot be read must not keep the container. Only hooks are told of it.
        let (state, mut warnings) = match self.hooks.as_ref().map(|_| self.dir.load()) {
            None => (None, Vec::new()),
            Some(Ok(state)) => (state, Vec::new()),
            Some(Err(error)) => (None, vec![error.to_string()]),
        };
        let undone = self.dir.destroy()?;
        if let (Some(bundle), Some(state)) = (&self.hooks, &state) {
            warnings.extend(crate::container::hooks_after_end(bundle, state, signals));
        }
        Ok(Deleted { undone, warnings })
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
    console: Option<OwnedFd>,
}

impl Launch<'_> {
    /// Undoes a launch that failed. Hooks that were told of it are told of its end.
    fn destroy(&self, signals: Option<&mut Signals>) {
        let state = self.dir.load().unwrap_or_default();
        self.dir.destroy().map(drop).unwrap_or_default();
        if let Some(state) = state {
            crate::container::hooks_after_end(&self.bundle, &state, signals);
        }
    }

    fn carry_out(&self, mut signals: Option<&mut Signals>) -> Result<Parts, Error> {
        self.check_cgroups()?;
        let mut journal = Journal::open(&self.dir.journal())?;
        journal.record_all(&self.intents()?)?;
        // Something has to be in a scope until the new process is.
        let _scope = self.scope().map(crate::systemd::start).transpose()?;
        let Joined { tasks, directory } = self.plan.cgroup.apply()?;
        let namespaces = open::namespaces(&self.plan)?;
        handed::check(self.request, self.joined_network())?;
        let mut trees = open::trees(&self.plan, signals.as_deref_mut())?;
        let descriptors = Descriptors {
            tasks,
            namespaces: namespaces.joined,
            start: (self.request.mode == Mode::Create)
                .then(|| self.start_socket())
                .transpose()?,
            trees: std::mem::take(&mut trees.opened),
            helper: trees.helper.take(),
            stdio: None,
            preserve: self.request.preserve_fds,
        };
        let program = compile(&self.plan, descriptors)?;
        let mut child = spawn::spawn(
            program,
            &Birth {
                flags: self.clone_flags(),
                cgroup: directory.as_ref().map(AsFd::as_fd),
                other_cgroup: None,
                sibling: self.request.mode != Mode::Foreground,
                join_pid: namespaces.pid.as_ref().map(AsFd::as_fd),
                shield: self.shield(),
            },
        )?;
        // From here on, in parallel with the mounts of the new process.
        let mut network = None;
        match self.accompany(&mut child, &mut network, &mut journal, signals) {
            Ok((process, console)) => Ok(Parts {
                process,
                child,
                console,
            }),
            Err(error) => {
                // The first error is the one to report.
                let back = network.map(|network| self.take_devices_back(&network));
                back.unwrap_or(Ok(())).unwrap_or_default();
                child.kill().unwrap_or_default();
                // That was another one where the process had ended before, and its parent, who is not this one, has
                // already waited for it: what failed then is only that there is no such process any more.
                Err(child
                    .last_words(&self.plan)
                    .map_or(error, crate::Error::from))
            }
        }
    }

    /// `filled` becomes the network namespace into which anything was put.
    fn accompany(
        &self,
        child: &mut Child,
        filled: &mut Option<OwnedFd>,
        journal: &mut Journal,
        mut signals: Option<&mut Signals>,
    ) -> Result<(ProcessId, Option<OwnedFd>), Error> {
        self.map_ids(child)?;
        let mut early = None;
        if self.plan.steps.contains(&Step::Rebirth) {
            let mut heard = Heard::default();
            child.reborn(&self.plan, signals.as_deref_mut(), &mut heard)?;
            early = heard.console;
        }
        let network = self.new_network(child)?;
        let process = ProcessId::of(child.pid)
            .map_err(|e| LaunchError::system("look at the new process", e))?;
        journal.record(&Intent::Process(process.clone()))?;
        *filled = self.network_to_fill(child, network)?;
        if let Some(namespace) = filled {
            self.fill_network(child, namespace)?;
        }
        for step in &self.plan.steps {
            if let Step::OomScore(score) = step {
                set_oom_score(child.pid, *score)?;
            }
        }
        let state = self.state(&process);
        let ask = |fd, _| self.ask_agent(child, fd, &state);
        let mut heard = Heard {
            console: early,
            agent: self.plan.asks().then_some(&ask),
            ..Heard::default()
        };
        self.hooks_before_pivot(child, &state, signals.as_deref_mut(), &mut heard)?;
        self.dir.write_first("config.json", &self.bundle.text)?;
        self.dir.save(&state)?;
        if let Some(path) = &self.request.pid_file {
            write_pid_file(path, child.pid)?;
        }
        if self.request.cgroup_manager == CgroupManager::Unit {
            // Before its program begins: one that ends at once could not be taken over any more.
            handover::hand_over(child.pid, self.request.notify.is_none())?;
        }
        self.finish(child, &state, signals.as_deref_mut(), &mut heard)?;
        let console = self.console(heard.console.take())?;
        if let Some(path) = &self.request.pidfd_socket {
            sockets::pidfd(path, &child.pidfd)?;
        }
        if self.request.mode == Mode::Create {
            // Everything is recorded: from here on it waits for `start` without us.
            child.tell(&Message::Go, None)?;
        } else {
            self.hooks_after_start(&state, signals)?;
        }
        Ok((process, console))
    }

    /// Says go, unless `start` does, and listens until the program runs.
    fn finish(
        &self,
        child: &Child,
        state: &State,
        mut signals: Option<&mut Signals>,
        heard: &mut Heard<'_>,
    ) -> Result<(), Error> {
        if self.request.mode == Mode::Create {
            return Ok(child.listen(&self.plan, Until::Prepared, signals, heard)?);
        }
        if plan::hooks::has(&self.bundle, "startContainer") {
            child.listen(&self.plan, Until::Prepared, signals.as_deref_mut(), heard)?;
            exec::start_container_hooks(&self.bundle, state, signals.as_deref_mut())?;
        }
        child.tell(&Message::Go, None)?;
        Ok(child.listen(&self.plan, Until::Executing, signals, heard)?)
    }

    /// What is in the container's cgroups is killed at its end: it must not be anybody else's.
    fn check_cgroups(&self) -> Result<(), LaunchError> {
        // Mostly there is none yet, and nothing to look into.
        let directories = self.plan.cgroup.directories().iter();
        let there: Vec<_> = directories
            .filter(|path| std::fs::exists(path).unwrap_or(true))
            .collect();
        let frozen = |path: &&&PathBuf| freezer::is_frozen(std::slice::from_ref(**path));
        if let Some(path) = there.iter().find(frozen) {
            return Err(LaunchError::CgroupFrozen {
                path: path.to_path_buf(),
            });
        }
        for path in there {
            let used = cgroup::in_use(path).map_err(|e| {
                let what = format!("look into the cgroup {}", path.display());
                LaunchError::system(what, e)
            })?;
            if used {
                return Err(LaunchError::CgroupInUse { path: path.clone() });
            }
        }
        Ok(())
    }

    /// What is about to be made outside, in the order in which it is made.
    fn intents(&self) -> Result<Vec<Intent>, LaunchError> {
        let mut intents = Vec::new();
        if let Network::Spec(files) = &self.request.network {
            intents.push(Intent::Network {
                server_dir: files.server_dir.clone(),
                user: self.request.id.to_string(),
            });
        }
        if self.plan.steps.contains(&Step::Pivot(Pivot::Chroot)) {
            // Everything in the root is mounted below it, and goes with it.
            intents.push(self.root_among_the_hosts()?);
        }
        if let Some(scope) = self.scope() {
            intents.push(Intent::Scope {
                unit: scope.unit.clone(),
                user: scope.user,
            });
        }
        for path in self.plan.cgroup.parents() {
            // A directory that somebody else made stays; those that metactl makes go with their
            // last user.
            if crate::cgroup::is_ours(path) || !path.exists() {
                intents.push(Intent::SharedCgroup { path: path.clone() });
            }
        }
        // It gets its name only when it is whole.
        intents.extend(self.request.pid_file.as_ref().map(|path| Intent::File {
            path: unfinished(&std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        }));
        let own = self.plan.cgroup.directories().iter();
        intents.extend(own.map(|path| Intent::Cgroup { path: path.clone() }));
        Ok(intents)
    }

    /// The root of a container without a mount namespace: mounted on its own place, for everything
    /// in it to go with it. What is there already stays.
    fn root_among_the_hosts(&self) -> Result<Intent, LaunchError> {
        let rootfs = self.bundle.rootfs();
        let problem = |e| {
            let what = format!("look at the root {}", rootfs.display());
            LaunchError::system(what, e)
        };
        let path = std::fs::canonicalize(&rootfs).map_err(problem)?;
        if path == Path::new("/") {
            return Err(LaunchError::RootIsTheHosts);
        }
        let above = crate::journal::mount_id(&path).map_err(problem)?;
        Ok(Intent::Mount {
            path,
            above: Some(above),
        })
    }

    fn scope(&self) -> Option<&crate::systemd::Scope> {
        self.plan.steps.iter().find_map(|step| match step {
            Step::Scope(scope) => Some(scope),
            _ => None,
        })
    }

    fn clone_flags(&self) -> u64 {
        let names = self.plan.steps.iter().find_map(|step| match step {
            Step::Clone { namespaces, .. } => Some(namespaces.iter()),
            _ => None,
        });
        let names = names.into_iter().flatten();
        let flags = names.fold(0, |all, name| all | flag(name));
        u64::from(flags.cast_unsigned())
    }

    /// The step that the shield reports about, when there is one.
    fn shield(&self) -> Option<usize> {
        let steps = &self.plan.steps;
        steps
            .contains(&Step::Shield)
            .then(|| steps.len().saturating_sub(1))
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
