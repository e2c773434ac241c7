//! The signals of a runtime in the foreground: taken from a descriptor, never by a handler.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::launch::LaunchError;
use crate::sys::{self, SignalMask};

/// All signals of this thread, blocked and read in order. Dropping it gives the mask back.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    kept: VecDeque<i32>,
    mask: SignalMask,
}

impl Signals {
    /// Blocks all signals of the calling thread, from now on to be read here. To be called before
    /// anything is started, so that none is lost.
    pub fn take_over() -> Result<Signals, LaunchError> {
        let mask = sys::block_signals().map_err(|e| LaunchError::system("block signals", e))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        match SignalFd::with_flags(&SigSet::all(), flags) {
            Ok(fd) => Ok(Signals {
                fd,
                kept: VecDeque::new(),
                mask,
            }),
            Err(e) => {
                mask.restore()
                    .map_err(|e| LaunchError::system("unblock signals", e))?;
                Err(LaunchError::system("make a signal descriptor", e))
            }
        }
    }

    /// The next signal that has not been seen yet.
    pub fn next_new(&self) -> Option<i32> {
        let info = self.fd.read_signal().ok().flatten()?;
        i32::try_from(info.ssi_signo).ok()
    }

    /// Puts a signal aside for [`Signals::take`].
    pub fn keep(&mut self, signal: i32) {
        self.kept.push_back(signal);
    }

    /// Puts the signals that are waiting aside, unless one of them ends the launch.
    pub fn unless_ended(&mut self) -> Result<(), LaunchError> {
        while let Some(signal) = self.next_new() {
            if ends_a_launch(signal) {
                return Err(LaunchError::Interrupted { signal });
            }
            self.keep(signal);
        }
        Ok(())
    }

    /// The next signal, those that were put aside first.
    pub fn take(&mut self) -> Option<i32> {
        self.kept.pop_front().or_else(|| self.next_new())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Nothing better can be done here; the mask was valid when it was taken.
        self.mask.restore().unwrap_or_default();
    }
}

/// Whether a signal that comes during a launch ends it.
pub fn ends_a_launch(signal: i32) -> bool {
    [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]
    .iter()
    .any(|s| *s as i32 == signal)
}

/// Whether a signal is none of the container's business: it is about this process and its
/// children or its own faults.
pub fn is_own(signal: i32) -> bool {
    let own = [
        Signal::SIGCHLD,
        Signal::SIGURG,
        Signal::SIGPIPE,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
    ];
    own.iter().any(|s| *s as i32 == signal)
}
