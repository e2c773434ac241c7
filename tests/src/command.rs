//! Running commands with a time limit, and judging what came out.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What a command did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 128 + n when signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        assert!(self.code == 0, "expected success of {self}");
        self
    }

    /// Fails the test unless the command ended with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> Outcome {
        assert!(self.code == code, "expected exit code {code} of {self}");
        self
    }

    /// Fails the test unless the output or the errors contain each of `texts`.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(
                self.stdout.contains(text) || self.stderr.contains(text),
                "expected {text:?} from {self}"
            );
        }
        self
    }

    /// The output as JSON. Fails the test when it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_str(&self.stdout);
        parsed.unwrap_or_else(|error| panic!("no JSON ({error}) from {self}"))
    }

    /// Fails the test if the output or the errors contain one of `texts`.
    #[track_caller]
    pub fn never_says(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(
                !self.stdout.contains(text) && !self.stderr.contains(text),
                "did not expect {text:?} from {self}"
            );
        }
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "`{}`: exit code {} after {:?}",
            self.command, self.code, self.took
        )?;
        writeln!(out, "--- stdout\n{}", self.stdout.trim_end())?;
        write!(out, "--- stderr\n{}", self.stderr.trim_end())
    }
}

/// Runs a command to its end; fails the test when that takes longer than `limit`, or when something
/// that it left behind still holds its standard output.
#[track_caller]
pub fn run(mut command: Command, limit: Duration) -> Outcome {
    let line = describe(&command);
    let start = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {line}: {e}"));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let status = wait(&mut child, limit);
    let took = start.elapsed();
    if status.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let text = |from: mpsc::Receiver<String>, what: &str| {
        from.recv_timeout(Duration::from_secs(3))
            .unwrap_or_else(|_| panic!("`{line}` is over, but something still holds its {what}"))
    };
    let outcome = Outcome {
        stdout: text(stdout, "stdout"),
        stderr: text(stderr, "stderr"),
        code: status.map_or(-1, exit_code),
        command: line.clone(),
        took,
    };
    assert!(status.is_some(), "not over within {limit:?}: {outcome}");
    outcome
}

/// A command that runs while the test goes on. Killed when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    start: Instant,
    _dir: tempfile::TempDir,
}

impl Background {
    /// Starts a command; its output goes to files.
    pub fn spawn(mut command: Command) -> Background {
        let dir = tempfile::tempdir().unwrap();
        let (stdout, stderr) = (dir.path().join("stdout"), dir.path().join("stderr"));
        command.stdin(Stdio::null());
        command
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap());
        let line = describe(&command);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {line}: {e}"));
        Background {
            child,
            line,
            stdout,
            stderr,
            start: Instant::now(),
            _dir: dir,
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// What it has written so far: standard output, then the errors.
    pub fn output(&self) -> String {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        read(&self.stdout) + &read(&self.stderr)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it has written `text`.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let start = Instant::now();
        while !self.output().contains(text) {
            let over = !self.runs();
            assert!(
                !over && start.elapsed() < limit,
                "no {text:?} from `{}`{} in {:?}: {}",
                self.line,
                if over { ", which is over," } else { "" },
                start.elapsed(),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Outcome {
        let status = wait(&mut self.child, limit);
        let outcome = Outcome {
            command: self.line.clone(),
            code: status.map_or(-1, exit_code),
            stdout: std::fs::read_to_string(&self.stdout).unwrap_or_default(),
            stderr: std::fs::read_to_string(&self.stderr).unwrap_or_default(),
            took: self.start.elapsed(),
        };
        assert!(status.is_some(), "not over within {limit:?}: {outcome}");
        outcome
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if self.runs() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// The exit code as a shell has it.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Polls for the end of a child.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        sender
            .send(String::from_utf8_lossy(&bytes).into_owned())
            .ok();
    });
    receiver
}
