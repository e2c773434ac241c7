//! One more process in a running container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, User};

use crate::cgroup::{Below, Joined};
use crate::compile::{Descriptors, compile};
use crate::facts::HostFacts;
use crate::launch::membership::Membership;
use crate::launch::signals::Signals;
use crate::launch::spawn::{self, Birth, Child, Heard, Until};
use crate::launch::stages::agent;
use crate::launch::{Exit, LaunchError, exit, hooks, sockets, write_pid_file};
use crate::plan::namespaces::{Namespaces, Place};
use crate::plan::process::{
    could_rewrite_runtime, lacks_home, may_trace, sees_the_runtime, with_home,
};
use crate::plan::{ExecRequest, Plan, PlanError, Step, Watch, plan_exec};
use crate::process::ProcessId;
use crate::report::Message;
use crate::spec::{Bundle, SpecError};
use crate::state::{OciState, State, StateDir, Status};
use crate::{ContainerId, Error, shield, sys};

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
    /// A socket that gets the outer end of its terminal.
    pub console_socket: Option<PathBuf>,
    /// A socket that gets a descriptor (pidfd_open(2)) of it.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors of this process, from 3 on, it keeps.
    pub preserve_fds: u32,
    /// How many of those are sockets that it is told of (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// Join also a container that is paused.
    pub ignore_paused: bool,
    /// More capabilities than the container's own process has, `CAP_...`.
    pub capabilities: Vec<String>,
    /// Additional groups.
    pub groups: Vec<u32>,
    /// Whether it can gain no privileges, if that is said.
    pub no_new_privileges: Option<bool>,
    /// An AppArmor profile.
    pub apparmor: Option<String>,
    /// A SELinux label.
    pub label: Option<String>,
    /// Cgroups below the container's.
    pub cgroups: Vec<Below>,
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
    let mut state = running(&dir, options.ignore_paused)?;
    let bundle = saved_bundle(&dir, &state)?;
    let mut process = process_for(&bundle, options)?;
    // A `HOME` that was inherited is that of another user.
    if lacks_home(&process) || (options.user.is_some() && options.process.is_none()) {
        let home = crate::passwd::home(&open_root(&state)?, process.user().uid());
        process = with_home(&process, &home);
    }
    let traces = may_trace(&process)?;
    if traces && state.status() == Status::Created && !own_may_trace(&bundle)? {
        return Err(LaunchError::Status {
            id: state.id,
            status: Status::Created.to_string(),
            need: "a process with CAP_SYS_PTRACE can join it only after `start`: it could change what waits for that",
        }
        .into());
    }
    if !state.tracers && traces {
        // From now on there may be somebody in the container who can look at others.
        state.tracers = true;
        dir.save(&state)?;
    }
    if state.status() == Status::Paused {
        // The process stops on its way until `resume`, which waits for the lock.
        dir.unlock()?;
    }
    let target = Target {
        bundle: &bundle,
        state: &state,
        preserve: options.preserve_fds,
        relayed: options.console_socket.is_none(),
        watch: if options.detach {
            Watch::Independent
        } else {
            Watch::DieWithRuntime
        },
        stdio: None,
        file: None,
        cgroups: &options.cgroups,
    };
    let mut joiner = target.join(&process, signals)?;
    let finished = || -> Result<(), LaunchError> {
        if let (Some(path), Some(console)) = (&options.console_socket, &joiner.console) {
            sockets::console(path, console)?;
        }
        if let Some(path) = &options.pidfd_socket {
            sockets::pidfd(path, &joiner.pidfd)?;
        }
        if let Some(path) = &options.pid_file {
            write_pid_file(path, joiner.process.pid)?;
        }
        Ok(())
    };
    if let Err(error) = finished() {
        // The first error is the one to report.
        sys::pidfd_kill(&joiner.pidfd, libc::SIGKILL).unwrap_or_default();
        return Err(error.into());
    }
    if options.console_socket.is_some() {
        joiner.console = None;
    }
    Ok(joiner)
}

/// Whether the container's own process may trace others: then it was made so that it can wait in
/// sight of those that may (CVE-2019-5736), and behind its filter.
fn own_may_trace(bundle: &Bundle) -> Result<bool, PlanError> {
    bundle.spec.process().as_ref().map_or(Ok(false), may_trace)
}

/// Whether the filter of a process asks somebody, and is loaded right before the program.
fn asks_late(bundle: &Bundle, process: &Process) -> bool {
    let linux = bundle.spec.linux().as_ref();
    let section = linux.and_then(|linux| linux.seccomp().as_ref());
    let asks = section.is_some_and(|section| section.listener_path().is_some());
    asks && process.no_new_privileges() == Some(true)
}

/// What a process joins.
struct Target<'a> {
    bundle: &'a Bundle,
    state: &'a State,
    /// How many descriptors from 3 on it keeps.
    preserve: u32,
    watch: Watch,
    /// The runtime carries the bytes of its terminal.
    relayed: bool,
    /// Standard input; standard output and error.
    stdio: Option<(OwnedFd, OwnedFd)>,
    /// The file to execute, when it is not the first argument.
    file: Option<PathBuf>,
    /// Cgroups below the container's.
    cgroups: &'a [Below],
}

impl Target<'_> {
    /// CVE-2019-5736: whether somebody in the container could, when there is a chance.
    fn could_rewrite_runtime(&self, process: &Process) -> Result<bool, PlanError> {
        let own = self.bundle.spec.process().as_ref();
        let privileged = own.map(could_rewrite_runtime).transpose()?.unwrap_or(true);
        Ok(privileged || could_rewrite_runtime(process)?)
    }

    /// Whether somebody in the container can look at the process on its way.
    fn sees_the_runtime(&self) -> Result<bool, PlanError> {
        let linux = self.bundle.spec.linux().as_ref();
        let spaces = linux.map(Namespaces::new).unwrap_or_default();
        if self.state.tracers && !spaces.other_users() {
            return Ok(true);
        }
        match self.bundle.spec.process() {
            Some(own) => sees_the_runtime(own, &spaces),
            None => Ok(true),
        }
    }

    fn join(self, process: &Process, signals: Option<&mut Signals>) -> Result<Joiner, Error> {
        let (bundle, state) = (self.bundle, self.state);
        let mut facts = HostFacts::local()?;
        facts.look_for_modules(Some(process), bundle);
        if facts.uid != 0 {
            // Says more than joining would when the process may not be looked at.
            open_root(state)?;
        }
        let shield = facts.executable_is_writable && self.could_rewrite_runtime(process)?;
        if shield && self.sees_the_runtime()? {
            return Err(PlanError::Exposed.into());
        }
        let asks_in_shield = facts.uid != 0 && shield::exists() && asks_late(bundle, process);
        let shield = shield || asks_in_shield;
        let membership = Membership::new(bundle, state, self.cgroups)?;
        let Joined { tasks, directory } = membership.open(state.status() == Status::Paused)?;
        let mut plan = plan_exec(&ExecRequest {
            bundle,
            process,
            cgroups: membership.directories(),
            hierarchies: tasks.len(),
            watch: self.watch,
            keyring: state.keyring.clone(),
            modules: facts.modules,
            shield,
            asks_in_shield,
            relayed: self.relayed,
        })?;
        if let Some(Step::Execute(program)) = plan.steps.last_mut() {
            program.file = self.file;
        }
        let target = state.process.as_ref().map(ProcessId::open).transpose();
        let target = target.map_err(|e| LaunchError::system("open the container's process", e))?;
        let target = target.flatten().ok_or_else(|| wrong_status(state))?;
        let root = plan.steps.contains(&Step::EnterRoot);
        let descriptors = Descriptors {
            tasks,
            trees: root
                .then(|| open_root(state))
                .transpose()?
                .into_iter()
                .collect(),
            namespaces: vec![(target, namespaces_of(bundle))],
            stdio: self.stdio,
            preserve: self.preserve,
            ..Descriptors::default()
        };
        let program = compile(&plan, descriptors)?;
        let birth = Birth {
            cgroup: directory.as_ref().map(AsFd::as_fd),
            other_cgroup: Some(&|| membership.of_first_process()),
            shield: shield.then(|| plan.steps.len().saturating_sub(1)),
            ..Birth::default()
        };
        let child = spawn::spawn(program, &birth)?;
        accompany(&child, &plan, bundle, state, signals)
    }
}

fn accompany(
    child: &Child,
    plan: &Plan,
    bundle: &Bundle,
    state: &State,
    signals: Option<&mut Signals>,
) -> Result<Joiner, Error> {
    let ask = |fd, grandchild: Option<i32>| {
        let told = OciState::of(state);
        match grandchild {
            Some(pid) => agent(bundle)?.hand_over(&open_child(pid)?, fd, pid, &told),
            None => agent(bundle)?.hand_over(&child.pidfd, fd, child.pid, &told),
        }
    };
    let mut heard = Heard {
        agent: plan.asks().then_some(&ask),
        ..Heard::default()
    };
    let launch = || -> Result<Joiner, Error> {
        for step in &plan.steps {
            if let Step::OomScore(score) = step {
                super::set_oom_score(child.pid, *score)?;
            }
        }
        child.tell(&Message::Go, None)?;
        child.listen(plan, Until::Executing, signals, &mut heard)?;
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

/// Runs the hooks that come before the program, in the container, as its user and behind its
/// filter: what they execute is the container's.
pub(crate) fn start_container_hooks(
    bundle: &Bundle,
    state: &State,
    mut signals: Option<&mut Signals>,
) -> Result<(), Error> {
    let Some(own) = bundle.spec.process() else {
        return Ok(());
    };
    let told = OciState::at(state, Status::Created).json();
    let kind = "startContainer";
    for (number, hook) in crate::plan::hooks::of(bundle, kind).into_iter().enumerate() {
        let mut process = own.clone();
        process.set_terminal(Some(false));
        process.set_args(Some(hook.program.arguments.clone()));
        if !hook.inherit {
            process.set_env(Some(hook.program.environment.clone()));
        } else if lacks_home(&process) {
            let home = crate::passwd::home(&open_root(state)?, process.user().uid());
            process = with_home(&process, &home);
        }
        hooks::run_with(
            hooks::Place { kind, number },
            &hook,
            &told,
            signals.as_deref_mut(),
            |stdio| {
                let target = Target {
                    bundle,
                    state,
                    preserve: 0,
                    relayed: false,
                    watch: Watch::DieWithRuntime,
                    stdio: Some(stdio),
                    file: hook.program.file.clone(),
                    cgroups: &[],
                };
                Ok(target.join(&process, None)?.pidfd)
            },
        )?;
    }
    Ok(())
}

/// The state of a container that must be running.
fn running(dir: &StateDir, paused_too: bool) -> Result<State, Error> {
    let state = dir.load()?;
    match state {
        Some(state) if matches!(state.status(), Status::Created | Status::Running) => Ok(state),
        Some(state) if state.status() == Status::Paused && paused_too => Ok(state),
        Some(state) if state.status() == Status::Paused => Err(LaunchError::Status {
            id: state.id,
            status: Status::Paused.to_string(),
            need: "cannot exec in a paused container without --ignore-paused",
        }
        .into()),
        Some(state) => Err(wrong_status(&state).into()),
        None => Err(LaunchError::Status {
            id: dir.id().to_string(),
            status: Status::Creating.to_string(),
            need: "a process can only join a created or running one",
        }
        .into()),
    }
}

fn wrong_status(state: &State) -> LaunchError {
    LaunchError::Status {
        id: state.id.clone(),
        status: state.status().to_string(),
        need: "a process can only join a created or running one",
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
        if !cwd.is_absolute() {
            let why = format!("--cwd {} is not an absolute path", cwd.display());
            return Err(PlanError::Request(why).into());
        }
        process.set_cwd(cwd.clone());
    }
    if let Some((uid, gid)) = options.user {
        let mut user = User::default();
        user.set_uid(uid);
        user.set_gid(gid.unwrap_or_else(|| process.user().gid()));
        user.set_umask(process.user().umask());
        process.set_user(user);
    }
    settle(&mut process, options)?;
    let terminal = process.terminal() == Some(true);
    if terminal && options.detach && options.console_socket.is_none() {
        let why = "a terminal, and nobody in the foreground: --console-socket is needed";
        return Err(PlanError::Request(why.into()).into());
    }
    Ok(process)
}

/// Groups, capabilities and labels that were asked for on the command line.
fn settle(process: &mut Process, options: &ExecOptions) -> Result<(), Error> {
    if !options.groups.is_empty() {
        let mut user = process.user().clone();
        user.set_additional_gids(Some(options.groups.clone()));
        process.set_user(user);
    }
    if !options.capabilities.is_empty() {
        process.set_capabilities(Some(crate::capabilities::with_more(
            process.capabilities().as_ref(),
            &options.capabilities,
        )?));
    }
    if options.no_new_privileges.is_some() {
        process.set_no_new_privileges(options.no_new_privileges);
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    if options.label.is_some() {
        process.set_selinux_label(options.label.clone());
    }
    Ok(())
}

/// The root of the first process. Its pid is its own as long as the pidfd says that it lives, which
/// joining its namespaces finds out.
fn open_root(state: &State) -> Result<OwnedFd, LaunchError> {
    let pid = state.process.as_ref().map_or(0, |process| process.pid);
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(format!("/proc/{pid}/root"));
    file.map(OwnedFd::from).map_err(|e| {
        let why = match e.kind() {
            // A process that waits hides, and only privilege sees it nevertheless.
            std::io::ErrorKind::PermissionDenied => {
                " (without root nothing joins a container with the annotation org.metactl.init, \
                 nor one that waits for `start` or a startContainer hook and has no user and pid \
                 namespaces of its own)"
            }
            _ => "",
        };
        LaunchError::system(format!("open the root of the container{why}"), e)
    })
}

/// The namespaces in which the container is not those of the runtime.
pub(super) fn namespaces_of(bundle: &Bundle) -> i32 {
    let linux = bundle.spec.linux().as_ref();
    let spaces = linux.map(Namespaces::new).unwrap_or_default();
    let flags = spaces
        .each()
        .into_iter()
        .filter(|(_, place, _)| **place != Place::Host);
    let mounts = match spaces.mount {
        Place::Host => 0,
        _ => libc::CLONE_NEWNS,
    };
    flags.fold(mounts, |all, (_, _, flag)| all | flag)
}

pub(super) fn open_child(pid: i32) -> Result<OwnedFd, LaunchError> {
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
