//! Commands that go on until somebody ends them: Ctrl-C is a wish, not an accident.

use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;

use crate::error::{LifecycleError, Result};

/// Holds the signals that ask for an end, and tells of them. When dropped, they end this process again.
#[derive(Debug)]
pub struct Interrupt {
    signals: SignalFd,
    before: SigSet,
}

impl Interrupt {
    /// From now on signals are told by [`wait`](Interrupt::wait).
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn hold() -> Result<Interrupt> {
        let before = SigSet::thread_get_mask().map_err(wrong)?;
        let mut held = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            held.add(signal);
        }
        held.thread_block().map_err(wrong)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&held, flags).map_err(wrong)?;
        Ok(Interrupt { signals, before })
    }

    /// Waits for `time`; true as soon as somebody wants an end.
    ///
    /// # Errors
    /// When the system cannot wait.
    pub fn wait(&self, time: Duration) -> Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            if self.signals.read_signal().map_err(wrong)?.is_some() {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = left.min(Duration::from_secs(60)) + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(wrong(error)),
            }
        }
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // It was the mask of this very thread.
        let _restored = self.before.thread_set_mask();
    }
}

fn wrong(error: nix::Error) -> LifecycleError {
    LifecycleError::Unavailable {
        what: format!("signals cannot be held back: {error}"),
        hint: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_wish() {
        let interrupt = Interrupt::hold().unwrap();
        assert!(!interrupt.wait(Duration::from_millis(5)).unwrap());
        // To this thread, which holds it.
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert!(interrupt.wait(Duration::from_secs(5)).unwrap());
        drop(interrupt);
    }
}
