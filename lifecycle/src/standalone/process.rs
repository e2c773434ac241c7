//! Processes by their descriptors (pidfd_open(2)): a number may be somebody else's a moment later.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use metactl_runtime::ProcessId;
use metactl_runtime::process::wait_dead;
use rustix::process::{Signal, pidfd_send_signal};

use crate::error::{OnPath, Result};

/// This process.
pub(super) fn current() -> Result<ProcessId> {
    ProcessId::current().on("read", "/proc/self".as_ref())
}

/// A descriptor of a process, which may have ended and be waited for; `None`: there is none of this number.
pub(super) fn open_even_if_dead(process: &ProcessId) -> Result<Option<OwnedFd>> {
    let Some(pid) = rustix::process::Pid::from_raw(process.pid) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error).on("open", "/proc".as_ref()),
    }
}

/// Sends a signal by its number; to who is gone already, it is none.
pub(super) fn send(pidfd: &OwnedFd, number: i32) {
    let signal = Signal::from_named_raw(number).unwrap_or(Signal::TERM);
    let _gone = pidfd_send_signal(pidfd, signal);
}

/// Whether a process, which may be anybody's, has ended.
pub(super) fn is_dead(pidfd: BorrowedFd<'_>) -> bool {
    wait_dead(pidfd, Some(Duration::ZERO)).unwrap_or(false)
}
