//! Runs hooks (runtime-spec, config, "POSIX-platform Hooks"): each is told the state of the
//! container on its standard input, and has to end well, and in time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

use crate::compile::{Descriptors, compile};
use crate::launch::signals::Signals;
use crate::launch::spawn::{self, Birth, Heard, Until};
use crate::launch::{Exit, LaunchError, exit};
use crate::plan::step::Hook;
use crate::plan::{Plan, Step};
use crate::process::{timespec, wait_dead};
use crate::{Error, sys};

/// How much of what a hook wrote is shown when it fails.
const SHOWN: usize = 1024;

/// Where a hook runs.
pub enum Namespace<'n> {
    /// In the namespaces of the runtime.
    Runtime,
    /// In those of a process; the flags of those that it has of its own.
    Of {
        /// The process.
        pidfd: &'n OwnedFd,
        /// Where the root of the container is, for now.
        root: &'n Path,
        /// `CLONE_NEW*`.
        flags: i32,
    },
}

/// Runs hooks in their order, up to the first that fails. `state` is the state of the container as
/// JSON. A signal that would end a program ends the hook and the launch.
pub fn run(
    kind: &'static str,
    hooks: &[Hook],
    state: &[u8],
    namespace: &Namespace<'_>,
    mut signals: Option<&mut Signals>,
) -> Result<(), LaunchError> {
    hooks.iter().enumerate().try_for_each(|(number, hook)| {
        let place = Place { kind, number };
        one(place, hook, state, namespace, signals.as_deref_mut())
    })
}

/// Which of the hooks it is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its kind, as the specification calls it.
    pub kind: &'static str,
    /// Its place among those, from 0.
    pub number: usize,
}

fn one(
    place: Place,
    hook: &Hook,
    state: &[u8],
    namespace: &Namespace<'_>,
    signals: Option<&mut Signals>,
) -> Result<(), LaunchError> {
    let start = |stdio| start(hook, stdio, namespace);
    let started = run_with(place, hook, state, signals, start);
    started.map_err(|error| match error {
        Error::Launch(error) => error,
        other => failed(place, hook, other.to_string()),
    })
}

fn failed(place: Place, hook: &Hook, why: String) -> LaunchError {
    LaunchError::Hook {
        kind: place.kind,
        number: place.number,
        path: hook.program.file.clone().unwrap_or_default(),
        why,
    }
}

/// Tells `state` to a hook that `start` starts with these descriptors as its standard input, and
/// its standard output and error; waits for its end.
pub(super) fn run_with(
    place: Place,
    hook: &Hook,
    state: &[u8],
    signals: Option<&mut Signals>,
    start: impl FnOnce((OwnedFd, OwnedFd)) -> Result<OwnedFd, Error>,
) -> Result<(), Error> {
    let fail = |why: String| Error::Launch(failed(place, hook, why));
    let said = |e: io::Error| fail(e.to_string());
    let (mut input, mut output) = (file().map_err(said)?, file().map_err(said)?);
    input
        .write_all(state)
        .and_then(|()| input.seek(SeekFrom::Start(0)))
        .map_err(said)?;
    let stdio = (input.into(), output.try_clone().map_err(said)?.into());
    let process = start(stdio).map_err(|e| fail(e.to_string()))?;
    let waited = match signals {
        Some(signals) => wait_dead_or_signal(&process, hook.timeout, signals),
        None => {
            wait_dead(&process, hook.timeout).map_err(|e| LaunchError::system("wait for it", e))
        }
    };
    if !matches!(waited, Ok(true)) {
        // It is a child of ours and not yet waited for.
        sys::pidfd_kill(&process, libc::SIGKILL).unwrap_or_default();
        exit::wait(&process, true)?;
        waited?;
        let seconds = hook.timeout.unwrap_or_default().as_secs();
        return Err(fail(format!("still running after {seconds} s, killed")));
    }
    match exit::wait(&process, true)? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(fail(format!("exit code {code}{}", words(&mut output)))),
        Exit::Signal(n) => {
            let why = match n {
                libc::SIGSYS => " (bad system call: linux.seccomp forbids it)",
                _ => "",
            };
            Err(fail(format!(
                "killed by signal {n}{why}{}",
                words(&mut output)
            )))
        }
        Exit::Unknown => Err(fail("nobody knows how it ended".to_owned())),
    }
}

/// Waits until a hook is dead; `false` when its time is over.
fn wait_dead_or_signal(
    process: &OwnedFd,
    timeout: Option<Duration>,
    signals: &mut Signals,
) -> Result<bool, LaunchError> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        let mut fds = [
            PollFd::new(process, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(LaunchError::system("wait for a hook", e)),
        }
        if !fds[0].revents().is_empty() {
            return Ok(true);
        }
        signals.unless_ended()?;
    }
}

/// Starts a hook of the runtime's, with all the rights of the runtime.
fn start(
    hook: &Hook,
    stdio: (OwnedFd, OwnedFd),
    namespace: &Namespace<'_>,
) -> Result<OwnedFd, Error> {
    let mut program = hook.program.clone();
    if hook.inherit {
        program.environment = std::env::vars_os()
            .filter_map(|(k, v)| Some(format!("{}={}", k.to_str()?, v.to_str()?)))
            .collect();
    }
    let mut steps = Vec::new();
    let mut namespaces = Vec::new();
    if let Namespace::Of { pidfd, root, flags } = namespace {
        let copy = pidfd.try_clone();
        let copy = copy.map_err(|e| LaunchError::system("copy a pidfd", e))?;
        namespaces.push((copy, *flags));
        steps.push(Step::JoinContainer {
            namespaces: Vec::new(),
        });
        steps.push(Step::WorkingDirectory(root.to_path_buf()));
    }
    steps.push(Step::Execute(program));
    let plan = Plan::of(steps);
    let descriptors = Descriptors {
        namespaces,
        stdio: Some(stdio),
        ..Descriptors::default()
    };
    let program = compile(&plan, descriptors)?;
    let child = spawn::spawn(program, &Birth::default())?;
    let started = child.listen(&plan, Until::Executing, None, &mut Heard::default());
    if let Err(error) = started {
        // The first error is the one to report.
        child.kill().unwrap_or_default();
        return Err(of_the_host(error).into());
    }
    Ok(child.pidfd)
}

/// These hooks are no programs of the container.
fn of_the_host(error: LaunchError) -> LaunchError {
    match error {
        LaunchError::Execute {
            program,
            source,
            hint,
        } => LaunchError::Execute {
            hint: match source.raw_os_error() {
                Some(libc::ENOENT) => "; it, its interpreter (#!) or its loader is not on the host",
                _ => hint,
            },
            program,
            source,
        },
        other => other,
    }
}

fn file() -> io::Result<File> {
    Ok(File::from(memfd_create(
        c"metactl-hook",
        MemfdFlags::CLOEXEC,
    )?))
}

/// The last of what it wrote.
fn words(output: &mut File) -> String {
    let mut text = Vec::new();
    let length = output.seek(SeekFrom::End(0)).unwrap_or(0);
    let start = length.saturating_sub(SHOWN as u64);
    let read = output
        .seek(SeekFrom::Start(start))
        .and_then(|_| output.take(SHOWN as u64).read_to_end(&mut text));
    match (read, String::from_utf8_lossy(&text).trim()) {
        (Ok(_), said) if !said.is_empty() => format!(", it wrote: {said}"),
        _ => String::new(),
    }
}
