//! What the runtime does while a process of a container runs in the foreground: hand signals on,
//! carry bytes between two terminals, wait.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::launch::signals::{Signals, is_own};
use crate::launch::{Exit, LaunchError, exit};
use crate::sys;

/// How long a container may take to end after the parent of the runtime died.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// The parent of the runtime. When it dies, the container shall end, whatever it thinks of SIGTERM.
pub(super) struct Parent {
    pid: Option<Pid>,
}

impl Parent {
    /// Asks the kernel for SIGTERM at the parent's death.
    pub(super) fn watch() -> Result<Parent, LaunchError> {
        let pid = getppid();
        set_parent_process_death_signal(Some(Signal::TERM))
            .map_err(|e| LaunchError::system("ask for a signal at the parent's death", e))?;
        Ok(Parent { pid })
    }

    /// Whether it has died: then this process is the child of another.
    fn is_gone(&self) -> bool {
        getppid() != self.pid
    }
}

/// Until the process behind `pidfd`, a child of this one, has ended.
pub(super) fn until_end(
    pidfd: &OwnedFd,
    parent: Option<&Parent>,
    console: Option<OwnedFd>,
    signals: &mut Signals,
) -> Result<Exit, LaunchError> {
    let mut relay = console.map(Relay::new).transpose()?;
    let mut deadline = None;
    loop {
        let told = forward(pidfd, relay.as_ref(), signals)?;
        if told && deadline.is_none() && parent.is_some_and(Parent::is_gone) {
            deadline = Some(Instant::now() + ORPHAN_GRACE);
        }
        let mut fds = vec![
            PollFd::new(pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        if let Some(relay) = &relay {
            if relay.output_open {
                fds.push(PollFd::new(&relay.console, PollFlags::IN));
            }
            if relay.input_open {
                fds.push(PollFd::from_borrowed_fd(sys::standard(0), PollFlags::IN));
            }
        }
        match poll(&mut fds, timeout(deadline).as_ref()) {
            Ok(0) => send(pidfd, libc::SIGKILL)?,
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(LaunchError::system("wait for the container", e)),
        }
        let mut ready = fds
            .iter()
            .map(|fd| !fd.revents().is_empty())
            .collect::<Vec<_>>();
        let ended = ready.first() == Some(&true);
        let mut streams = ready.drain(..).skip(2);
        if let Some(relay) = &mut relay {
            let output = relay.output_open && streams.next() == Some(true);
            let input = relay.input_open && streams.next() == Some(true);
            relay.carry(output, input);
            if ended {
                relay.drain();
            }
        }
        if ended {
            return exit::wait(pidfd, true);
        }
    }
}

fn timeout(deadline: Option<Instant>) -> Option<Timespec> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Some(Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    })
}

/// Hands waiting signals on; `true` if there were any. With a terminal, its keys reach the
/// container as bytes.
fn forward(
    pidfd: &OwnedFd,
    relay: Option<&Relay>,
    signals: &mut Signals,
) -> Result<bool, LaunchError> {
    let mut any = false;
    while let Some(signal) = signals.take() {
        any = true;
        match (signal, relay) {
            (libc::SIGWINCH, Some(relay)) => relay.resize(),
            (signal, _) if is_own(signal) => {}
            (signal, _) => send(pidfd, signal)?,
        }
    }
    Ok(any)
}

fn send(pidfd: &OwnedFd, signal: i32) -> Result<(), LaunchError> {
    match sys::pidfd_kill(pidfd, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(e) => Err(LaunchError::system(format!("send signal {signal}"), e)),
    }
}

/// The outer end of a container's terminal, and the terminal that this runs in.
struct Relay {
    console: OwnedFd,
    before: Option<Termios>,
    input_open: bool,
    output_open: bool,
}

impl Relay {
    fn new(console: OwnedFd) -> Result<Relay, LaunchError> {
        let input = sys::standard(0);
        let mut before = None;
        if isatty(input) {
            let termios = tcgetattr(input)
                .map_err(|e| LaunchError::system("read the settings of the terminal", e))?;
            let mut raw = termios.clone();
            raw.make_raw();
            // The inner terminal leaves line ends to this one.
            raw.output_modes |= termios.output_modes & (OutputModes::OPOST | OutputModes::ONLCR);
            tcsetattr(input, OptionalActions::Now, &raw)
                .map_err(|e| LaunchError::system("change the settings of the terminal", e))?;
            before = Some(termios);
        }
        let relay = Relay {
            console,
            before,
            input_open: true,
            output_open: true,
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the inner terminal the size of the outer one.
    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(sys::standard(0)) {
            // A terminal of the wrong size is still a terminal.
            tcsetwinsize(&self.console, size).unwrap_or_default();
        }
    }

    fn carry(&mut self, output: bool, input: bool) {
        if output {
            self.output_open = self.output();
        }
        if input {
            self.input();
        }
    }

    /// From the container. `false` when there is nothing any more.
    fn output(&mut self) -> bool {
        let mut buffer = [0u8; 4096];
        // EIO: the last process with the terminal open has closed it.
        let Ok(n) = rustix::io::read(&self.console, &mut buffer) else {
            return false;
        };
        write_all(sys::standard(1), buffer.get(..n).unwrap_or_default());
        n > 0
    }

    /// To the container.
    fn input(&mut self) {
        let mut buffer = [0u8; 4096];
        match rustix::io::read(sys::standard(0), &mut buffer) {
            Ok(0) => {
                // End of a pipe: what Ctrl-D would say.
                write_all(self.console.as_fd(), b"\x04");
                self.input_open = false;
            }
            Ok(n) => write_all(self.console.as_fd(), buffer.get(..n).unwrap_or_default()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.input_open = false,
        }
    }

    /// What the process wrote before it ended.
    fn drain(&mut self) {
        loop {
            let mut fds = [PollFd::new(&self.console, PollFlags::IN)];
            let now = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let readable = poll(&mut fds, Some(&now)).unwrap_or(0) > 0
                && fds[0].revents().contains(PollFlags::IN);
            if !readable || !self.output() {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Whoever took the terminal away meanwhile does not need its settings.
            tcsetattr(sys::standard(0), OptionalActions::Now, before).unwrap_or_default();
        }
    }
}

/// Writes everything; a reader that went away loses it.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
