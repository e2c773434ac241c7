//! One more process in a running container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, User};

use crate::cgroup::Joined;
use crate::compile::{Descriptors, compile};
use crate::facts::HostFacts;
use crate::launch::signals::Signals;
use crate::launch::spawn::{self, Birth, Child, Heard};
use crate::launch::{Exit, LaunchError, exit, write_pid_file};
use crate::plan::namespaces::{Namespaces, Place};
use crate::plan::process::could_rewrite_runtime;
use crate::plan::{ExecRequest, PlanError, Step, Watch, plan_exec};
use crate::process::ProcessId;
use crate::report::Message;
use crate::spec::{Bundle, SpecError};
use crate::state::{State, StateDir, Status};
use crate::{ContainerId, Error};

/// What to run in a container.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// A whole `process` object instead of the container's own.
    pub process: Option<Process>,
    /// Arguments, in place of those of the process object.
    pub arguments: Vec<String>,
    /// More environment variables, `NAME=value`.
    pub environment: Vec<String>,
    /// Another working directory.
    pub cwd: Option<PathBuf>,
    /// Another user, with its group if that differs.
    pub user: Option<(u32, Option<u32>)>,
    /// A terminal of its own.
    pub terminal: bool,
    /// It survives this process.
    pub detach: bool,
    /// A file for its pid.
    pub pid_file: Option<PathBuf>,
}

/// A process that joined a container.
#[derive(Debug)]
pub struct Joiner {
    /// The process.
    pub process: ProcessId,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// The outer end of its terminal.
    pub console: Option<OwnedFd>,
}

impl Joiner {
    /// Waits for its end.
    pub fn wait(&self) -> Result<Exit, LaunchError> {
        exit::wait(&self.pidfd, true)
    }
}

/// Runs a process in the container `id`, with the container's namespaces, cgroups, capabilities
/// and filter. It is a child of the calling process; with [`ExecOptions::detach`] it outlives it.
pub fn exec(
    root: &Path,
    id: &str,
    options: &ExecOptions,
    signals: Option<&mut Signals>,
) -> Result<Joiner, Error> {
    // The lock keeps the container from being deleted while the process joins.
    let dir = StateDir::open(root, &ContainerId::new(id)?)?;
    let state = running(&dir)?;
    let bundle = saved_bundle(&dir, &state)?;
    let process = process_for(&bundle, options)?;
    let facts = HostFacts::local()?;
    let own = bundle.spec.process().as_ref();
    let privileged = own.map(could_rewrite_runtime).transpose()?.unwrap_or(true);
    if facts.executable_is_writable && (privileged || could_rewrite_runtime(&process)?) {
        return Err(PlanError::Exposed.into());
    }
    let Joined { tasks, directory } = crate::cgroup::open(&state.cgroups)?;
    let watch = if options.detach {
        Watch::Independent
    } else {
        Watch::DieWithRuntime
    };
    let plan = plan_exec(&ExecRequest {
        bundle: &bundle,
        process: &process,
        cgroups: &state.cgroups,
        hierarchies: tasks.len(),
        watch,
    })?;
    let target = state.process.as_ref().map(ProcessId::open).transpose();
    let target = target.map_err(|e| LaunchError::system("open the container's process", e))?;
    let target = target.flatten().ok_or_else(|| wrong_status(&state))?;
    let descriptors = Descriptors {
        tasks,
        namespaces: vec![(target, namespaces_of(&bundle))],
        start: None,
    };
    let program = compile(&plan, descriptors)?;
    let birth = Birth {
        cgroup: directory.as_ref().map(AsFd::as_fd),
        ..Birth::default()
    };
    let child = spawn::spawn(program, &birth)?;
    let mut heard = Heard::default();
    let launch = || -> Result<Joiner, Error> {
        for step in &plan.steps {
            if let Step::OomScore(score) = step {
                super::set_oom_score(child.pid, *score)?;
            }
        }
        child.tell(&Message::Go, None)?;
        child.listen(&plan, false, signals, &mut heard)?;
        let pid = heard.grandchild.unwrap_or(child.pid);
        let pidfd = match heard.grandchild {
            Some(pid) => open_child(pid)?,
            None => child
                .pidfd
                .try_clone()
                .map_err(|e| LaunchError::system("copy a pidfd", e))?,
        };
        if heard.grandchild.is_some() {
            child.reap_soon();
        }
        // It may have ended already; as a child of ours its pid is still its own.
        let process =
            ProcessId::of(pid).map_err(|e| LaunchError::system("look at the new process", e))?;
        if let Some(path) = &options.pid_file {
            write_pid_file(path, pid)?;
        }
        Ok(Joiner {
            process,
            pidfd,
            console: heard.console.take(),
        })
    };
    let joined = launch();
    if joined.is_err() {
        // The first error is the one to report.
        child.kill().unwrap_or_default();
        Child::kill_grandchild(&heard);
    }
    joined
}

/// The state of a container that must be running.
fn running(dir: &StateDir) -> Result<State, Error> {
    let state = dir.load()?;
    match state {
        Some(state) if state.status() == Status::Running => Ok(state),
        Some(state) => Err(wrong_status(&state).into()),
        None => Err(LaunchError::Status {
            id: dir.id().to_string(),
            status: Status::Creating.to_string(),
            need: "a process can only join a running one",
        }
        .into()),
    }
}

fn wrong_status(state: &State) -> LaunchError {
    LaunchError::Status {
        id: state.id.clone(),
        status: state.status().to_string(),
        need: "a process can only join a running one",
    }
}

/// The bundle as it was when the container was launched.
pub fn saved_bundle(dir: &StateDir, state: &State) -> Result<Bundle, SpecError> {
    let path = dir.path().join("config.json");
    let text = fs::read(&path).map_err(|source| SpecError::Read { path, source })?;
    Bundle::parse(&state.bundle, text)
}

fn process_for(bundle: &Bundle, options: &ExecOptions) -> Result<Process, Error> {
    let mut process = match (&options.process, bundle.spec.process()) {
        (Some(given), _) => given.clone(),
        (None, Some(own)) => {
            let mut process = own.clone();
            process.set_terminal(Some(false));
            process
        }
        (None, None) => return Err(bundle.invalid("process", "is missing").into()),
    };
    if options.terminal {
        process.set_terminal(Some(true));
    }
    if !options.arguments.is_empty() {
        process.set_args(Some(options.arguments.clone()));
    }
    if !options.environment.is_empty() {
        let mut all = process.env().clone().unwrap_or_default();
        for variable in &options.environment {
            let name = variable
                .split_once('=')
                .map_or(variable.as_str(), |(name, _)| name);
            all.retain(|old| old.split_once('=').is_none_or(|(n, _)| n != name));
            all.push(variable.clone());
        }
        process.set_env(Some(all));
    }
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    if let Some((uid, gid)) = options.user {
        let mut user = User::default();
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or_else(|| process.user().gid()));
        user.set_umask(process.user().umask());
        process.set_user(user);
    }
    if process.terminal() == Some(true) && options.detach {
        let why = "a terminal can only be had in the foreground (no --console-socket yet)";
        return Err(bundle.unsupported("process.terminal", why).into());
    }
    Ok(process)
}

fn namespaces_of(bundle: &Bundle) -> i32 {
    let linux = bundle.spec.linux().as_ref();
    let spaces = linux.map(Namespaces::new).unwrap_or_default();
    let flags = spaces
        .each()
        .into_iter()
        .filter(|(_, place, _)| **place != Place::Host);
    flags.fold(libc::CLONE_NEWNS, |all, (_, _, flag)| all | flag)
}

fn open_child(pid: i32) -> Result<OwnedFd, LaunchError> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let opened = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    match opened {
        Some(Ok(fd)) => Ok(fd),
        Some(Err(e)) => Err(LaunchError::system("open the new process", e)),
        None => Err(LaunchError::system(
            "open the new process",
            rustix::io::Errno::SRCH,
        )),
    }
}
