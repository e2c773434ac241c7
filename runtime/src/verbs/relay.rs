//! What the runtime does while a process of a container runs in the foreground: hand signals on,
//! carry bytes between two terminals, wait.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, makedev, open};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::launch::signals::{Signals, ends_a_launch, is_own};
use crate::launch::{Exit, LaunchError, exit};
use crate::process::timespec;
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

/// What poll(2) waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    End,
    Signal,
    Stream(Stream),
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
        let ready = wait(pidfd, relay.as_ref(), signals, deadline)?;
        if ready.is_empty() {
            send(pidfd, libc::SIGKILL)?;
        }
        if let Some(relay) = &mut relay {
            for wanted in &ready {
                if let Wanted::Stream(stream) = wanted {
                    relay.carry(*stream);
                }
            }
        }
        if ready.contains(&Wanted::End) {
            if let Some(relay) = &mut relay {
                relay.finish(signals)?;
            }
            return exit::wait(pidfd, true);
        }
    }
}

/// What is ready; nothing when the time is over.
fn wait(
    pidfd: &OwnedFd,
    relay: Option<&Relay>,
    signals: &Signals,
    deadline: Option<Instant>,
) -> Result<Vec<Wanted>, LaunchError> {
    let mut wanted = vec![Wanted::End, Wanted::Signal];
    let mut fds = vec![
        PollFd::new(pidfd, PollFlags::IN),
        PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
    ];
    for stream in relay.map(Relay::streams).into_iter().flatten().flatten() {
        wanted.push(Wanted::Stream(stream));
        fds.extend(relay.map(|relay| relay.poll(stream)));
    }
    loop {
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(e) => return Err(LaunchError::system("wait for the container", e)),
        }
    }
    let ready = wanted.into_iter().zip(&fds);
    Ok(ready
        .filter(|(_, fd)| !fd.revents().is_empty())
        .map(|(wanted, _)| wanted)
        .collect())
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

/// Where bytes come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    FromConsole,
    ToOutput,
    FromInput,
    ToConsole,
}

/// The bytes under way in one direction: more are taken only when these are gone, so that nobody has
/// to be waited for.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    ended: bool,
}

impl Flow {
    /// Which end is to be waited for.
    fn stream(&self, from: Stream, to: Stream) -> Option<Stream> {
        match (self.bytes.is_empty(), self.ended) {
            (false, _) => Some(to),
            (true, false) => Some(from),
            (true, true) => None,
        }
    }

    /// Takes what is there: how many bytes, 0 at the end, EAGAIN when there is nothing for the moment.
    fn take(&mut self, from: BorrowedFd<'_>) -> Result<usize, Errno> {
        let mut buffer = [0u8; 4096];
        let read = retry_on_intr(|| rustix::io::read(from, &mut buffer));
        let taken = buffer.get(..read.unwrap_or(0)).unwrap_or_default();
        self.bytes.extend_from_slice(taken);
        // EIO: the last process with the terminal open has closed it.
        self.ended = taken.is_empty() && read != Err(Errno::AGAIN);
        read
    }

    /// A reader that went away loses what it does not take.
    fn give(&mut self, to: BorrowedFd<'_>) {
        match rustix::io::write(to, &self.bytes) {
            Ok(n) => drop(self.bytes.drain(..n)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.bytes.clear(),
        }
    }
}

/// The outer end of a container's terminal, and the terminal that this runs in.
struct Relay {
    console: OwnedFd,
    /// Standard output, opened once more for never having to wait; what cannot be, is itself.
    output: Option<OwnedFd>,
    before: Option<Termios>,
    outward: Flow,
    inward: Flow,
}

impl Relay {
    fn new(console: OwnedFd) -> Result<Relay, LaunchError> {
        let flags = fcntl_getfl(&console).and_then(|f| fcntl_setfl(&console, f | OFlags::NONBLOCK));
        flags.map_err(|e| LaunchError::system("prepare the terminal of the container", e))?;
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
            output: without_waiting(sys::standard(1)),
            before,
            outward: Flow::default(),
            inward: Flow::default(),
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

    /// Those to be waited for.
    fn streams(&self) -> [Option<Stream>; 2] {
        [
            self.outward.stream(Stream::FromConsole, Stream::ToOutput),
            self.inward.stream(Stream::FromInput, Stream::ToConsole),
        ]
    }

    fn output(&self) -> BorrowedFd<'_> {
        match &self.output {
            Some(output) => output.as_fd(),
            None => sys::standard(1),
        }
    }

    fn poll(&self, stream: Stream) -> PollFd<'_> {
        match stream {
            Stream::FromConsole => PollFd::new(&self.console, PollFlags::IN),
            Stream::ToOutput => PollFd::from_borrowed_fd(self.output(), PollFlags::OUT),
            Stream::FromInput => PollFd::from_borrowed_fd(sys::standard(0), PollFlags::IN),
            Stream::ToConsole => PollFd::new(&self.console, PollFlags::OUT),
        }
    }

    fn carry(&mut self, stream: Stream) {
        match stream {
            // Whether it has ended is in the flow.
            Stream::FromConsole => drop(self.outward.take(self.console.as_fd())),
            Stream::ToOutput => {
                let mut outward = std::mem::take(&mut self.outward);
                outward.give(self.output());
                self.outward = outward;
            }
            Stream::FromInput => {
                if self.inward.take(sys::standard(0)) == Ok(0) {
                    // End of a pipe: what Ctrl-D would say.
                    self.inward.bytes.push(4);
                }
            }
            Stream::ToConsole => self.inward.give(self.console.as_fd()),
        }
    }

    /// What the process wrote before it ended; a signal that would end a program ends this.
    fn finish(&mut self, signals: &mut Signals) -> Result<(), LaunchError> {
        loop {
            while self.outward.bytes.is_empty() {
                let taken = self.outward.take(self.console.as_fd());
                if self.outward.ended || taken == Err(Errno::AGAIN) {
                    return Ok(());
                }
            }
            let mut fds = [
                self.poll(Stream::ToOutput),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(LaunchError::system("wait for the terminal", e)),
            }
            if !fds[0].revents().is_empty() {
                self.carry(Stream::ToOutput);
            }
            while let Some(signal) = signals.take() {
                if ends_a_launch(signal) {
                    return Ok(());
                }
            }
        }
    }
}

/// A pipe or the inner end of a terminal, opened once more: nobody else's writes shall fail when it is
/// full.
fn without_waiting(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let stat = fstat(fd).ok()?;
    // What opening the outer end gives is another terminal (ptmx(4)).
    let outer = stat.st_rdev == makedev(5, 2);
    let again = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => true,
        FileType::CharacterDevice => isatty(fd) && !outer,
        _ => false,
    };
    if !again {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Whoever took the terminal away meanwhile does not need its settings.
            tcsetattr(sys::standard(0), OptionalActions::Now, before).unwrap_or_default();
        }
    }
}
