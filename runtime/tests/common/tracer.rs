//! Follows a command and its children by ptrace(2), from system call to system call, and kills one
//! of them at the entry of its N-th.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// `PTRACE_EVENT_STOP`, and `op` of struct ptrace_syscall_info at a system call's entry (ptrace(2)).
const EVENT_STOP: i32 = 128;
const ENTRY: u8 = 1;

/// How long nothing happens before the others are taken to wait.
const QUIET: Duration = Duration::from_millis(10);

/// Where to kill: the process (0 is the command itself, 1 the first that it makes, and so on) and
/// which of its system calls, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The process.
    pub process: usize,
    /// The call.
    pub call: usize,
    /// Hold it there until the others have come as far as they can without it.
    pub hold: bool,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Trace {
    /// The number of system calls of each process, up to its program.
    pub calls: Vec<usize>,
    /// Whether the point was reached.
    pub reached: bool,
}

/// A traced process.
#[derive(Debug)]
struct Tracee {
    number: usize,
    /// Calls count: for the command only since it became what it is to be.
    counts: bool,
}

struct Tracer {
    tracees: BTreeMap<Pid, Tracee>,
    /// All that ever were.
    seen: BTreeSet<Pid>,
    trace: Trace,
    point: Option<Point>,
    /// The process that is held at its point.
    held: Option<Pid>,
    /// From now on nobody is traced any more.
    released: bool,
}

/// Runs `command` and kills as told. Returns when all its processes have ended, or run their
/// program undisturbed.
#[allow(clippy::zombie_processes, reason = "`follow` waits for all")]
pub fn run(command: &Command, point: Option<Point>) -> Trace {
    // It waits for a line until it is traced.
    let mut shell = Command::new("sh");
    shell.args(["-c", "read x; exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK;
    ptrace::seize(pid, options).unwrap();
    ptrace::interrupt(pid).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let first = Tracee {
        number: 0,
        counts: false,
    };
    let mut tracer = Tracer {
        tracees: BTreeMap::from([(pid, first)]),
        seen: BTreeSet::from([pid]),
        trace: Trace {
            calls: vec![0],
            reached: false,
        },
        point,
        held: None,
        released: false,
    };
    tracer.follow();
    tracer.trace
}

impl Tracer {
    fn follow(&mut self) {
        let begun = Instant::now();
        let mut idle: Option<Instant> = None;
        while !self.tracees.is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "hangs at {:?}",
                self.point
            );
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {
                    // With a process on hold silence means that the others wait for it.
                    let since = *idle.get_or_insert_with(Instant::now);
                    if since.elapsed() > QUIET {
                        self.kill_held();
                    }
                    std::thread::sleep(Duration::from_micros(50));
                }
                Ok(status) => {
                    idle = None;
                    self.see(status);
                }
                Err(Errno::ECHILD) => return,
                Err(Errno::EINTR) => {}
                Err(e) => panic!("waitpid: {e}"),
            }
            if self.held.is_some() && self.tracees.len() == 1 {
                self.kill_held();
            }
        }
    }

    fn see(&mut self, status: WaitStatus) {
        match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                let first = self.tracees.remove(&pid).is_some_and(|t| t.number == 0);
                // The container stays when the command has done its work.
                if first && self.held.is_none() {
                    self.let_go(pid);
                }
            }
            WaitStatus::PtraceSyscall(pid) => self.call(pid),
            WaitStatus::PtraceEvent(pid, _, EVENT_STOP) => {
                self.known(pid);
                self.go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, event)
                if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 =>
            {
                let tracee = self.known(pid);
                if tracee.number == 0 {
                    tracee.counts = true;
                    self.go_on(pid, None);
                } else {
                    self.release(pid, None);
                }
            }
            // It made another, which is traced from its first instruction.
            WaitStatus::PtraceEvent(pid, ..) => {
                if let Ok(new) = ptrace::getevent(pid) {
                    // It may have come first, and even have gone again.
                    let new = Pid::from_raw(new as i32);
                    if !self.seen.contains(&new) {
                        self.known(new);
                    }
                }
                self.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                self.known(pid);
                self.go_on(pid, Some(signal));
            }
            _ => {}
        }
    }

    /// A process, also one that was not seen before.
    fn known(&mut self, pid: Pid) -> &mut Tracee {
        self.seen.insert(pid);
        let calls = &mut self.trace.calls;
        self.tracees.entry(pid).or_insert_with(|| {
            calls.push(0);
            Tracee {
                number: calls.len() - 1,
                counts: true,
            }
        })
    }

    fn call(&mut self, pid: Pid) {
        let entry = ptrace::syscall_info(pid).is_ok_and(|info| info.op == ENTRY);
        let tracee = self.known(pid);
        let number = tracee.number;
        if entry && tracee.counts {
            self.trace.calls[number] += 1;
            let call = self.trace.calls[number];
            match self.point {
                Some(point)
                    if point.process == number && point.call == call && !self.trace.reached =>
                {
                    self.trace.reached = true;
                    self.held = Some(pid);
                    if !point.hold {
                        self.kill_held();
                    }
                    return;
                }
                _ => {}
            }
        }
        self.go_on(pid, None);
    }

    /// Kills the process at its point; the others go on untraced.
    fn kill_held(&mut self) {
        let Some(pid) = self.held.take() else { return };
        kill(pid, Signal::SIGKILL).unwrap();
        self.let_go(pid);
    }

    /// All but one go on untraced, as soon as they stop the next time.
    fn let_go(&mut self, but: Pid) {
        self.released = true;
        for other in self.tracees.keys().filter(|other| **other != but) {
            match ptrace::interrupt(*other) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => panic!("interrupt: {e}"),
            }
        }
    }

    fn go_on(&mut self, pid: Pid, signal: Option<Signal>) {
        if self.released {
            return self.release(pid, signal);
        }
        // ESRCH: it was killed meanwhile; its end comes next.
        match ptrace::syscall(pid, signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => panic!("resume: {e}"),
        }
    }

    fn release(&mut self, pid: Pid, signal: Option<Signal>) {
        match ptrace::detach(pid, signal) {
            Ok(()) => drop(self.tracees.remove(&pid)),
            Err(Errno::ESRCH) => {}
            Err(e) => panic!("detach: {e}"),
        }
    }
}
