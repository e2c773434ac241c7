//! The end of a foreground run: signals are passed on to the application, until it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use metactl_runtime::ProcessId;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::looked::Looked;
use crate::error::{LifecycleError, OnPath, Result};
use crate::launcher::Runtime;

/// Signals that are passed on to the application.
const PASSED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals that are passed on, from the first step to the last.
pub(super) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocked before anything is made, so that none ends this process before it has cleaned up.
    /// Threads that begin later inherit that; the runtime gives the application a mask of its own.
    pub(super) fn take_over() -> Result<Signals> {
        let system = |error: nix::errno::Errno| LifecycleError::Runtime {
            verb: "run".to_owned(),
            why: format!("signals cannot be passed on: {error}"),
        };
        let mut passed = SigSet::empty();
        PASSED.iter().for_each(|signal| passed.add(*signal));
        let before = SigSet::thread_get_mask().map_err(system)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&passed, flags).map_err(system)?;
        passed.thread_block().map_err(system)?;
        Ok(Signals { fd, before })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It was the mask a moment ago, so it is a valid one.
        let _restored = self.before.thread_set_mask();
    }
}

/// Runs the runtime, passes signals on, and gives the exit code.
pub(super) fn run_to_end(
    mut command: Command,
    runtime: &Runtime,
    signals: &Signals,
    network: &mut Looked<'_>,
) -> Result<i32> {
    let mut child = command.spawn().map_err(|error| runtime.absent(&error))?;
    let status =
        pass_on(&mut child, &signals.fd, network).on("wait for", Path::new("metactl-runtime"));
    Ok(exit_code(status?))
}

fn pass_on(
    child: &mut Child,
    signals: &SignalFd,
    network: &mut Looked<'_>,
) -> std::io::Result<ExitStatus> {
    let process = ProcessId::of(i32::try_from(child.id()).unwrap_or_default())?;
    let Some(pidfd) = process.open()? else {
        return child.wait();
    };
    loop {
        wait(&pidfd, signals, network)?;
        network.look_after();
        while let Ok(Some(info)) = signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or_default();
            // Keys of the terminal (SI_KERNEL, sigaction(2)) reach the runtime by themselves.
            let from_terminal = info.ssi_code == 0x80;
            if let (false, Some(signal)) = (
                from_terminal,
                rustix::process::Signal::from_named_raw(number),
            ) {
                process.signal(signal)?;
            }
        }
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
    }
}

/// Until the application ends, a signal comes, or the resolver or the network needs to be looked after.
fn wait(pidfd: &OwnedFd, signals: &SignalFd, network: &Looked<'_>) -> std::io::Result<()> {
    let (resolver, deadline) = (&network.resolver, network.deadline());
    let mut fds = vec![
        PollFd::new(pidfd, PollFlags::IN),
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
    ];
    if let Some(process) = resolver.pidfd().filter(|_| resolver.deadline().is_none()) {
        fds.push(PollFd::from_borrowed_fd(process, PollFlags::IN));
    }
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let limit = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(1),
        tv_nsec: i64::from(left.subsec_nanos()),
    });
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let code =
            |script: &str| exit_code(Command::new("sh").args(["-c", script]).status().unwrap());
        assert_eq!((code("exit 7"), code("kill -9 $$")), (7, 137));
    }
}
