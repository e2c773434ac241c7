//! Running a tool with a limit of time, and its output kept.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;

/// No tool is asked for more.
const MAX_OUTPUT: u64 = 64 << 20;
/// How often a running tool is looked at.
const TICK: Duration = Duration::from_millis(5);

/// What a tool did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a tool to its end, or to that of `timeout` (an error of kind `TimedOut`).
pub(crate) fn run(command: Command, timeout: Duration) -> io::Result<Output> {
    run_with(command, timeout, Vec::new())
}

/// The same with something to read on its standard input.
pub(crate) fn run_with(
    mut command: Command,
    timeout: Duration,
    input: Vec<u8>,
) -> io::Result<Output> {
    command
        .stdin(match input.is_empty() {
            true => Stdio::null(),
            false => Stdio::piped(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own, so that its helpers (ssh, git-remote-https) can be ended with it.
    command.process_group(0);
    let mut group = Group {
        child: command.spawn()?,
        ended: false,
    };
    if let Some(mut pipe) = group.child.stdin.take() {
        std::thread::spawn(move || {
            // A tool that does not want it all closes its end.
            let _written = pipe.write_all(&input);
        });
    }
    let stdout = drain(group.child.stdout.take());
    let stderr = drain(group.child.stderr.take());
    let deadline = Instant::now() + timeout;
    let mut pause = Duration::from_micros(200);
    let status = loop {
        if let Some(status) = group.child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            let text = format!("no end after {} s", timeout.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(TICK);
    };
    // A helper that outlives the tool could hold its output open for ever.
    group.end();
    let rest = Duration::from_secs(5);
    let stdout = stdout.recv_timeout(rest).unwrap_or_default();
    let stderr = stderr.recv_timeout(rest).unwrap_or_default();
    Ok(Output {
        status,
        stdout,
        stderr,
    })
}

/// A process and its helpers, ended when dropped.
struct Group {
    child: Child,
    ended: bool,
}

impl Group {
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // What the runtime runs in a sandbox has a session, and so a group, of its own.
            let sessions = children(pid);
            // There may be nobody left in a group.
            for group in sessions.into_iter().chain([pid]) {
                let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
            }
        }
    }
}

/// The children of a process (proc_pid_task(5)); none where the kernel does not tell, or when it has ended.
fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|word| word.parse().ok());
    pids.filter(|pid| *pid > 1).collect()
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
            // Killed just now; without this it would stay as a zombie.
            let _status = self.child.wait();
        }
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(pipe) = pipe {
            // What was read until an error is still worth showing.
            let _read = pipe.take(MAX_OUTPUT).read_to_end(&mut text);
        }
        // Nobody waits any more when the tool was given up.
        let _sent = sender.send(text);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_code_are_kept() {
        let output = run(
            sh("echo out; echo err >&2; exit 3"),
            Duration::from_secs(10),
        )
        .unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }

    #[test]
    fn what_takes_too_long_is_ended_with_its_helpers() {
        let start = Instant::now();
        let error = run(sh("sleep 60 & sleep 60"), Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_helper_that_stays_does_not_hold_up_the_end() {
        let start = Instant::now();
        let output = run(sh("sleep 60 & echo done"), Duration::from_secs(30)).unwrap();
        assert_eq!(output.stdout, b"done\n");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
