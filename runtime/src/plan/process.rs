//! The steps that make the process what it shall be, the same for `run`, `create` and `exec`.

use std::collections::HashSet;

use oci_spec::runtime::{Linux, LinuxSeccomp, PosixRlimitType, Process};
use rustix::process::Resource;

use crate::capabilities::CapabilitySets;
use crate::plan::namespaces::{Namespaces, Place};
use crate::plan::step::{Identity, Limit, Program, Step};
use crate::plan::{PlanError, Watch, tuning};
use crate::request::{LaunchRequest, Mode};
use crate::seccomp;
use crate::spec::Bundle;

/// The file creation mask when the configuration says nothing, as with runc and crun.
const DEFAULT_UMASK: u32 = 0o022;

/// What a process needs beside its `process` object.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    /// The bundle it belongs to, for messages.
    pub bundle: &'a Bundle,
    /// The `linux` object of the bundle.
    pub linux: Option<&'a Linux>,
    /// The session keyring that it gets; it keeps that of the caller without.
    pub keyring: Option<String>,
    /// What becomes of it when the runtime dies.
    pub watch: Watch,
    /// How it comes to its program.
    pub birth: Birth,
    /// It is one more process of a container that runs already.
    pub joins: bool,
    /// What it waits for before its program, while others may join.
    pub pause: Option<Step>,
    /// It is all that is in its new user and pid namespaces, and the runtime has no privilege: only
    /// what lets itself be looked into can hand something over (pidfd_getfd(2), ptrace(2)).
    pub alone: bool,
    /// It joins others, and the runtime has no privilege: the descriptor on which its filter asks can
    /// be taken only out of the shield.
    pub asks_in_shield: bool,
}

/// How the final process comes to its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// It executes it.
    Direct,
    /// It forks, stays as init and lets the child execute it.
    Init,
    /// It forks into the pid namespace that it joined, and ends.
    Fork,
}

/// Whether a process could rewrite the runtime's executable if it got hold of it: root could, and
/// so could whoever has or can gain a capability. An app with an unprivileged uid and no
/// capabilities cannot.
pub fn could_rewrite_runtime(process: &Process) -> Result<bool, PlanError> {
    let sets = CapabilitySets::new(process.capabilities().as_ref())?;
    let bound = process.no_new_privileges() == Some(true);
    Ok(process.user().uid() == 0 || !sets.is_empty() || !bound)
}

/// Whether the processes of a container, of which `process` is the first, could get hold of the
/// executable of a runtime process in their pid namespace. That process is not dumpable: to open
/// its /proc/PID/exe takes CAP_SYS_PTRACE in the user namespace of the runtime (ptrace(2), "Ptrace
/// access mode checking"). Strangers in a pid namespace that is not new may have it.
pub fn sees_the_runtime(process: &Process, namespaces: &Namespaces) -> Result<bool, PlanError> {
    if namespaces.other_users() {
        return Ok(false);
    }
    let strangers = matches!(namespaces.pid, Place::Join(_));
    Ok(strangers || may_trace(process)?)
}

/// Whether a process has or can gain CAP_SYS_PTRACE.
pub fn may_trace(process: &Process) -> Result<bool, PlanError> {
    let sets = CapabilitySets::new(process.capabilities().as_ref())?;
    Ok(sets.has(caps::Capability::CAP_SYS_PTRACE))
}

/// The steps from the go to the program, in their order.
pub fn steps(process: &Process, around: &Around<'_>) -> Result<Vec<Step>, PlanError> {
    let bound = process.no_new_privileges() == Some(true);
    let apart = matches!(
        around.pause,
        Some(Step::AwaitStart { apart: true } | Step::AwaitStartHooks { apart: true })
    );
    let section = around.linux.and_then(|linux| linux.seccomp().as_ref());
    let mut filter = match section {
        Some(section) => filter(section, bound)?,
        None => None,
    };
    if let Some(Step::Filter {
        notify: true,
        last,
        shown,
        ..
    }) = &mut filter
    {
        // Who decides about its calls is told when the container is created, not when it is started.
        *last &= !matches!(around.pause, Some(Step::AwaitStart { .. })) && !apart;
        *shown = around.alone;
    }
    if let (Some(Step::Filter { last, .. }), Some(_), true) =
        (&mut filter, &around.pause, may_trace(process)?)
    {
        // Others that may trace it would be rid of their own filter with its help.
        *last = false;
    }
    if let Some(Step::Filter {
        last, by_shield, ..
    }) = &mut filter
    {
        *by_shield = *last && (apart || around.asks_in_shield);
    }
    let mut steps = Vec::new();
    if around.birth != Birth::Fork {
        steps.push(Step::Session {
            terminal: around.birth == Birth::Direct,
        });
    }
    steps.extend(around.keyring.clone().map(Step::Keyring));
    steps.extend(limits(process, around.bundle)?.into_iter().map(Step::Limit));
    steps.extend(tuning::steps(process, around.linux, around.bundle)?);
    if around.joins {
        steps.extend(tuning::final_affinity(process, around.bundle)?);
    }
    let mut early = filter;
    // With no_new_privs the filter can be the last step, so that it need not allow what comes
    // before; without, loading it takes the privilege that the next step gives up.
    let mut late = early.take_if(|step| matches!(step, Step::Filter { last: true, .. }));
    let sets = CapabilitySets::new(process.capabilities().as_ref())?;
    // As root, who may enter what the user may not; where only the user may, it enters as that.
    steps.push(Step::WorkingDirectory(process.cwd().clone()));
    steps.push(Step::Identity(identity(process)));
    steps.extend(early);
    steps.push(Step::Capabilities(sets));
    if bound {
        steps.push(Step::NoNewPrivileges);
    }
    let watch = (around.watch == Watch::DieWithRuntime).then_some(Step::DieWithRuntime);
    if around.birth == Birth::Direct {
        steps.extend(watch.clone());
    }
    // Others can join meanwhile: it has no privilege any more that the container may not have.
    steps.extend(around.pause.clone());
    match around.birth {
        Birth::Direct => {}
        // The init dies with the runtime, and its pid namespace with it. The program leads a
        // session of its own, so that the keys of a terminal reach it and not the init.
        Birth::Init => {
            steps.extend(watch);
            steps.extend(late.take());
            steps.push(Step::Init);
            steps.push(Step::Session { terminal: true });
        }
        Birth::Fork => {
            steps.push(Step::Fork);
            steps.push(Step::Session { terminal: true });
            steps.extend(watch);
        }
    }
    steps.extend(late);
    steps.push(Step::Execute(program(process)));
    Ok(steps)
}

/// What is executed, as it is found before the process is in its working directory.
pub fn found_from_the_root(process: &Process) -> Program {
    let mut program = program(process);
    let name = program.arguments.first().filter(|name| name.contains('/'));
    program.file = name.map(|name| process.cwd().join(name));
    program
}

/// What is executed.
pub fn program(process: &Process) -> Program {
    Program {
        file: None,
        arguments: process.args().clone().unwrap_or_default(),
        environment: once_each(process.env().as_deref().unwrap_or_default()),
    }
}

/// Each variable once, as it was said last: programs do not agree which of several counts.
fn once_each(variables: &[String]) -> Vec<String> {
    let name = |v: &str| v.split('=').next().unwrap_or_default().to_owned();
    let mut seen = HashSet::new();
    let mut last: Vec<String> = variables
        .iter()
        .rev()
        .filter(|v| seen.insert(name(v)))
        .cloned()
        .collect();
    last.reverse();
    last
}

/// Whether nobody said where the home of the process is.
pub fn lacks_home(process: &Process) -> bool {
    let last = process.env().iter().flatten().rev();
    let home = last.filter_map(|v| v.strip_prefix("HOME=")).next();
    home.is_none_or(str::is_empty)
}

/// The process with its home, as runc and crun give it.
pub fn with_home(process: &Process, home: &str) -> Process {
    let mut told = process.clone();
    let mut environment = told.env().clone().unwrap_or_default();
    environment.retain(|v| !v.starts_with("HOME="));
    environment.push(format!("HOME={home}"));
    told.set_env(Some(environment));
    told
}

/// The process with the variables of socket activation (sd_listen_fds(3)), if it gets sockets. The
/// pid in them is the one inside, which is known only in a pid namespace of its own.
pub fn told_of_sockets(
    process: &Process,
    sockets: u32,
    init: bool,
    namespaces: &Namespaces,
) -> Option<Process> {
    if sockets == 0 || namespaces.pid != Place::New {
        return None;
    }
    let mut told = process.clone();
    let mut environment = told.env().clone().unwrap_or_default();
    environment.retain(|v| !v.starts_with("LISTEN_FDS=") && !v.starts_with("LISTEN_PID="));
    environment.push(format!("LISTEN_FDS={sockets}"));
    environment.push(format!("LISTEN_PID={}", if init { 2 } else { 1 }));
    told.set_env(Some(environment));
    Some(told)
}

/// A terminal needs somebody who uses its outer end.
pub fn check_console(
    bundle: &Bundle,
    terminal: bool,
    request: &LaunchRequest,
) -> Result<(), PlanError> {
    let foreground = request.mode == Mode::Foreground;
    match (terminal, request.console_socket.is_some()) {
        (true, false) if !foreground => Err(PlanError::Request(
            "process.terminal is set and nobody is in the foreground: --console-socket is needed"
                .into(),
        )),
        (false, true) => Err(PlanError::Request(format!(
            "--console-socket is given, but process.terminal is not set in {}",
            bundle.config_path().display()
        ))),
        _ => Ok(()),
    }
}

/// `process.consoleSize`, rows and columns; nothing of it is nothing said.
pub fn console_size(process: &Process) -> Option<(u16, u16)> {
    let size = process.console_size()?;
    let cells = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let size = (cells(size.height()), cells(size.width()));
    (size != (0, 0)).then_some(size)
}

/// None when the section decides nothing.
fn filter(section: &LinuxSeccomp, last: bool) -> Result<Option<Step>, PlanError> {
    let filter = seccomp::compile(section, seccomp::native()?)?;
    Ok(Some(Step::Filter {
        program: filter.instructions,
        flags: filter.flags,
        last,
        notify: filter.listener.is_some(),
        shown: false,
        by_shield: false,
    }))
}

fn identity(process: &Process) -> Identity {
    let user = process.user();
    let groups = user.additional_gids().iter().flatten().copied();
    Identity {
        uid: user.uid(),
        gid: user.gid(),
        groups: groups.collect(),
        umask: user.umask().unwrap_or(DEFAULT_UMASK) & 0o777,
    }
}

fn limits(process: &Process, bundle: &Bundle) -> Result<Vec<Limit>, PlanError> {
    let mut limits: Vec<Limit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let (resource, name) = resource(limit.typ());
        if limit.soft() > limit.hard() {
            let why = format!("soft {} is above hard {}", limit.soft(), limit.hard());
            return Err(bundle
                .invalid(format!("process.rlimits: {name}"), why)
                .into());
        }
        if limits.iter().any(|l| l.name == name) {
            return Err(bundle
                .invalid(format!("process.rlimits: {name}"), "is there twice")
                .into());
        }
        limits.push(Limit {
            resource,
            name,
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(limits)
}

fn resource(typ: PosixRlimitType) -> (Resource, &'static str) {
    match typ {
        PosixRlimitType::RlimitCpu => (Resource::Cpu, "RLIMIT_CPU"),
        PosixRlimitType::RlimitFsize => (Resource::Fsize, "RLIMIT_FSIZE"),
        PosixRlimitType::RlimitData => (Resource::Data, "RLIMIT_DATA"),
        PosixRlimitType::RlimitStack => (Resource::Stack, "RLIMIT_STACK"),
        PosixRlimitType::RlimitCore => (Resource::Core, "RLIMIT_CORE"),
        PosixRlimitType::RlimitRss => (Resource::Rss, "RLIMIT_RSS"),
        PosixRlimitType::RlimitNproc => (Resource::Nproc, "RLIMIT_NPROC"),
        PosixRlimitType::RlimitNofile => (Resource::Nofile, "RLIMIT_NOFILE"),
        PosixRlimitType::RlimitMemlock => (Resource::Memlock, "RLIMIT_MEMLOCK"),
        PosixRlimitType::RlimitAs => (Resource::As, "RLIMIT_AS"),
        PosixRlimitType::RlimitLocks => (Resource::Locks, "RLIMIT_LOCKS"),
        PosixRlimitType::RlimitSigpending => (Resource::Sigpending, "RLIMIT_SIGPENDING"),
        PosixRlimitType::RlimitMsgqueue => (Resource::Msgqueue, "RLIMIT_MSGQUEUE"),
        PosixRlimitType::RlimitNice => (Resource::Nice, "RLIMIT_NICE"),
        PosixRlimitType::RlimitRtprio => (Resource::Rtprio, "RLIMIT_RTPRIO"),
        PosixRlimitType::RlimitRttime => (Resource::Rttime, "RLIMIT_RTTIME"),
    }
}
