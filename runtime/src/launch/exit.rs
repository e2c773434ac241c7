//! How a container ended.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::launch::LaunchError;
use crate::process::wait_dead;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// It ended, but as it is not a child of this process, nobody told how.
    Unknown,
}

impl Exit {
    /// As a shell tells it: the code, or 128 + the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
            Exit::Unknown => 255,
        }
    }
}

/// Waits for the end of the process behind `pidfd`. A pidfd never misses a process that ended
/// before anybody looked.
pub fn wait(pidfd: &OwnedFd, own: bool) -> Result<Exit, LaunchError> {
    let problem = |e: rustix::io::Errno| LaunchError::system("wait for the container", e);
    if !own {
        wait_dead(pidfd, None).map_err(|e| LaunchError::system("wait for the container", e))?;
        return Ok(Exit::Unknown);
    }
    let status =
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    let Some(status) = status.map_err(problem)? else {
        return Ok(Exit::Unknown);
    };
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    })
}
