//! A container that was launched: [`Container`] finds it again and works on it, from any process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::Spec;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::launch::exec::saved_bundle;
use crate::launch::signals::Signals;
use crate::launch::{self, Agent, LaunchError, Namespace, run_hooks};
use crate::process::of_container;
use crate::report::{self, Message};
use crate::spec::Bundle;
use crate::state::{self, OciState, State, StateDir, StateError, Status};
use crate::{ContainerId, Error, cgroup, plan, sys};

/// How long `delete` waits for a program that may be about to end: whoever has seen its last words, or has just killed
/// it, can be quicker than its end.
const ENDING: Duration = Duration::from_millis(500);

/// A container, by its id. While this value lives, others wait who want to change the container.
#[derive(Debug)]
pub struct Container {
    dir: StateDir,
}

/// What became of a container that was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// What was undone, a short sentence each.
    pub undone: Vec<String>,
    /// What went wrong afterwards, and does not matter for the container: its `poststop` hooks.
    pub warnings: Vec<String>,
}

impl Container {
    /// The container `id` below the state root.
    pub fn open(root: &Path, id: &str) -> Result<Container, Error> {
        let dir = StateDir::open(root, &ContainerId::new(id)?)?;
        Ok(Container { dir })
    }

    /// What is known of it; none when its making was interrupted.
    pub fn state(&self) -> Result<Option<State>, StateError> {
        self.dir.load()
    }

    /// Its status right now.
    pub fn status(&self) -> Result<Status, StateError> {
        let state = self.state()?;
        Ok(state.map_or(Status::Creating, |state| state.status()))
    }

    /// Its configuration, as it was when it was launched.
    pub fn spec(&self) -> Result<Option<Spec>, Error> {
        match self.state()? {
            Some(state) => Ok(Some(*self.bundle(&state)?.spec)),
            None => Ok(None),
        }
    }

    fn bundle(&self, state: &State) -> Result<Bundle, Error> {
        Ok(saved_bundle(&self.dir, state)?)
    }

    /// The state, if the status is one of these.
    fn in_status(&self, wanted: &[Status], need: &'static str) -> Result<State, Error> {
        let state = self.state()?;
        let status = state.as_ref().map_or(Status::Creating, State::status);
        state.filter(|_| wanted.contains(&status)).ok_or_else(|| {
            Error::Launch(LaunchError::Status {
                id: self.dir.id().to_string(),
                status: status.to_string(),
                need,
            })
        })
    }

    /// Lets the program of a created container run. Its hooks run before and after that; when one
    /// fails, the container is stopped.
    pub fn start(&self) -> Result<(), Error> {
        let mut state = self.in_status(&[Status::Created], "only a created one can be started")?;
        let bundle = match state.hooks {
            true => Some(self.bundle(&state)?),
            false => None,
        };
        let started = self.start_with(&mut state, bundle.as_ref());
        if started.is_err() {
            // The first error is the one to report.
            self.stop(&state).unwrap_or_default();
        }
        started
    }

    fn start_with(&self, state: &mut State, bundle: Option<&Bundle>) -> Result<(), Error> {
        if let Some(bundle) = bundle {
            launch::exec::start_container_hooks(bundle, state, None)?;
        }
        // Said before it is done: were this process killed in between, the container would not be
        // taken for one that still waits.
        state.started = true;
        self.dir.save(state)?;
        let problem = |e: rustix::io::Errno| LaunchError::system("reach the waiting process", e);
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(problem)?;
        let address = self.dir.socket_address("start").map_err(problem)?;
        connect(&socket, &address).map_err(problem)?;
        self.listen(&socket, state)?;
        match bundle {
            Some(bundle) => Ok(launch::hooks_after_start(bundle, state, None)?),
            None => Ok(()),
        }
    }

    /// Listens until the program runs.
    fn listen(&self, socket: &OwnedFd, state: &State) -> Result<(), Error> {
        let mut executing = false;
        loop {
            let message = report::receive(socket)
                .map_err(|e| LaunchError::system("listen to the container", e))?;
            match message {
                Some((Message::Fault { step, fault }, _)) => {
                    let words = state.steps.get(step).map_or("start", String::as_str);
                    return Err(LaunchError::described(words, None, &fault).into());
                }
                Some((Message::Executing, _)) => executing = true,
                Some((Message::Listener { fd }, _)) => {
                    self.ask_agent(state, fd)?;
                    report::send_quietly(socket, &Message::Go)
                        .map_err(|e| LaunchError::system("talk to the container", e))?;
                }
                Some(_) => {}
                None if executing => return Ok(()),
                None => return Err(LaunchError::Died("").into()),
            }
        }
    }

    fn ask_agent(&self, state: &State, fd: i32) -> Result<(), Error> {
        let agent: Agent = launch::agent(&self.bundle(state)?)?;
        let (pid, pidfd) = self.first_process(state)?;
        let told = OciState::at(state, Status::Created);
        Ok(agent.hand_over(&pidfd, fd, pid, &told)?)
    }

    fn first_process(&self, state: &State) -> Result<(i32, OwnedFd), Error> {
        let gone = || LaunchError::Status {
            id: state.id.clone(),
            status: state.status().to_string(),
            need: "only a created or running one has a process",
        };
        let process = state.process.as_ref().ok_or_else(gone)?;
        let pidfd = process
            .open()
            .map_err(|e| LaunchError::system("open the process", e))?;
        Ok((process.pid, pidfd.ok_or_else(gone)?))
    }

    /// Kills everything in it and waits for the end.
    fn stop(&self, state: &State) -> Result<(), Error> {
        let (_, pidfd) = self.first_process(state)?;
        sys::pidfd_kill(&pidfd, libc::SIGKILL)
            .map_err(|e| LaunchError::system("kill the container", e))?;
        cgroup::kill_all(&state.cgroups)?;
        crate::process::wait_dead(&pidfd, Some(crate::launch::KILL_TIMEOUT))
            .map_err(|e| LaunchError::system("wait for the end of the container", e))?;
        Ok(())
    }

    /// Sends a signal to the first process; with `all` to every process.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        kill(&self.state()?, self.dir.id().as_str(), signal, all)
    }

    /// Whether its first process ends within [`ENDING`].
    fn ends(&self, state: Option<&State>) -> Result<bool, Error> {
        let problem = |e| LaunchError::system("wait for the end of the process", e);
        let process = state.and_then(|state| state.process.as_ref());
        let pidfd = process.map(crate::ProcessId::open).transpose();
        match pidfd.map_err(problem)?.flatten() {
            Some(pidfd) => Ok(crate::process::wait_dead(pidfd, Some(ENDING)).map_err(problem)?),
            None => Ok(true),
        }
    }

    /// Removes it: kills its processes with `force`, else it must not run; undoes its journal, removes its state,
    /// and runs its `poststop` hooks. A created one, whose program never ran, is ended: engines count on that (containerd
    /// takes back a task that was not started so), and runc, crun and youki do it, although the specification asks for
    /// an error.
    pub fn delete(self, force: bool) -> Result<Deleted, Error> {
        let mut deleted = Deleted::default();
        let state = match self.state() {
            // The journal knows enough, also when somebody spoilt the state.
            Err(error) if force => {
                deleted.warnings.push(error.to_string());
                None
            }
            state => state?,
        };
        let mut status = state.as_ref().map_or(Status::Stopped, State::status);
        if !force && status == Status::Running && self.ends(state.as_ref())? {
            status = Status::Stopped;
        }
        match (&state, status) {
            _ if force => {}
            (_, Status::Stopped) => {}
            (Some(state), Status::Created) => end(state)?,
            _ => {
                return Err(LaunchError::Status {
                    id: self.dir.id().to_string(),
                    status: status.to_string(),
                    need: "only one that does not run is deleted without --force",
                }
                .into());
            }
        }
        // A configuration that cannot be read must not keep the container.
        let hooks = state.as_ref().filter(|state| state.hooks);
        let bundle = hooks.map(|state| self.bundle(state)).transpose();
        let bundle = bundle.unwrap_or_else(|error| {
            deleted.warnings.push(error.to_string());
            None
        });
        deleted.undone = self.dir.destroy()?;
        if let (Some(state), Some(bundle)) = (&state, &bundle) {
            deleted
                .warnings
                .extend(hooks_after_end(bundle, state, None));
        }
        Ok(deleted)
    }
}

/// Sends a signal to a container whose state was read without a lock: to end it must be possible
/// while somebody works on it.
pub(crate) fn kill(state: &Option<State>, id: &str, signal: i32, all: bool) -> Result<(), Error> {
    let status = state.as_ref().map_or(Status::Creating, State::status);
    let wrong = || LaunchError::Status {
        id: id.to_owned(),
        status: status.to_string(),
        need: "container not running: only a created or running one can get a signal",
    };
    let state = state.as_ref().ok_or_else(wrong)?;
    let others = signal == libc::SIGKILL && state.shared_pids && anybody_in(&state.cgroups)?;
    let all = all || others;
    let process = state.process.as_ref().ok_or_else(wrong)?;
    let pidfd = process
        .open()
        .map_err(|e| LaunchError::system("open the process", e))?
        .ok_or_else(wrong);
    // The first process of a container without a pid namespace of its own may have left others.
    let pidfd = match pidfd {
        Err(_) if all && !state.cgroups.is_empty() => None,
        // Nobody is left, which is what was wanted (runc-kill(8), `--all`).
        Err(_) if all && status == Status::Stopped => return Ok(()),
        result => Some(result?),
    };
    if let Some(pidfd) = &pidfd {
        sys::pidfd_kill(pidfd, signal)
            .map_err(|e| LaunchError::system(format!("send signal {signal}"), e))?;
    }
    if signal == libc::SIGKILL && status == Status::Paused {
        // On cgroup v1 a frozen process dies when it is thawed.
        cgroup::freezer::thaw(&state.cgroups)?;
    }
    if all && signal == libc::SIGKILL {
        // Without a pid namespace the others do not die with the first.
        cgroup::kill_all(&state.cgroups)?;
    } else if all {
        signal_others(process.pid, &state.cgroups, signal)?;
    }
    Ok(())
}

/// A signal to all processes of a container but the first. The container chooses when they end, and whose their pids
/// are then: one that is still listed after its pidfd was opened is the process that is meant.
fn signal_others(first: i32, cgroups: &[PathBuf], signal: i32) -> Result<(), LaunchError> {
    /// How many are opened at a time: there can be more processes than descriptors.
    const AT_A_TIME: usize = 200;
    let list =
        || of_container(first, cgroups).map_err(|e| LaunchError::system("list the processes", e));
    let others: Vec<i32> = list()?.into_iter().filter(|pid| *pid != first).collect();
    for some in others.chunks(AT_A_TIME) {
        let open = |pid: &i32| {
            let pidfd = pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty());
            Some((*pid, pidfd.ok()?))
        };
        let opened: Vec<(i32, OwnedFd)> = some.iter().filter_map(open).collect();
        let still = list()?;
        for (pid, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            match sys::pidfd_kill(pidfd, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => return Err(LaunchError::system(format!("signal process {pid}"), e)),
            }
        }
    }
    Ok(())
}

/// Whether a process is in one of them.
fn anybody_in(cgroups: &[PathBuf]) -> Result<bool, Error> {
    let looked = cgroups.iter().map(|directory| cgroup::in_use(directory));
    let found = looked.collect::<io::Result<Vec<bool>>>();
    let found = found.map_err(|e| LaunchError::system("list the processes", e))?;
    Ok(found.contains(&true))
}

/// Kills what is in a container without waiting for whoever holds its lock: that one may be waiting
/// for something in there.
pub(crate) fn end_by_force(root: &Path, id: &str) -> Result<(), Error> {
    let state = match state::read(root, id) {
        Ok(state) => state,
        Err(StateError::NotFound { .. }) => return Ok(()),
        // The journal knows enough to delete it.
        Err(_) => return Ok(()),
    };
    end(&state)
}

/// Kills its first process, and with it all of a container that has a pid namespace.
fn end(state: &State) -> Result<(), Error> {
    let pidfd = state
        .process
        .as_ref()
        .map(crate::ProcessId::open)
        .transpose();
    let pidfd = pidfd.map_err(|e| LaunchError::system("open the process", e))?;
    if let Some(pidfd) = pidfd.flatten() {
        match sys::pidfd_kill(&pidfd, libc::SIGKILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(LaunchError::system("kill the container", e).into()),
        }
        // On cgroup v1 a frozen process dies when it is thawed.
        if cgroup::freezer::is_frozen(&state.cgroups) {
            cgroup::freezer::thaw(&state.cgroups)?;
        }
    }
    Ok(())
}

/// The hooks that come when the container is gone: whatever they do, it is. What went wrong, in
/// words.
pub(crate) fn hooks_after_end(
    bundle: &Bundle,
    state: &State,
    mut signals: Option<&mut Signals>,
) -> Vec<String> {
    let told = OciState::at(state, Status::Stopped).json();
    let hooks = plan::hooks::of(bundle, "poststop");
    let failed = hooks.iter().map(|hook| {
        run_hooks(
            "poststop",
            std::slice::from_ref(hook),
            &told,
            &Namespace::Runtime,
            signals.as_deref_mut(),
        )
    });
    failed
        .filter_map(Result::err)
        .map(|error| error.to_string())
        .collect()
}

/// All containers below a state root, by id.
pub fn list(root: &Path) -> Result<Vec<State>, StateError> {
    state::list(root)
}
