//! Upstart itself, by `initctl` (initctl(8)).

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::error::{LifecycleError, Result};

/// How often jobs are looked at while they stop.
const TICK: Duration = Duration::from_millis(50);

/// How a job is: its goal, its state, its main process (initctl(8), `status`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct JobState {
    /// Whether it is to run.
    pub(super) start: bool,
    /// `running`, `pre-start`, `killed`, `post-stop`, `waiting` and so on.
    pub(super) state: String,
    pub(super) pid: Option<i32>,
}

impl JobState {
    /// Whether anything of it is there.
    pub(super) fn is_active(&self) -> bool {
        self.start || self.state != "waiting"
    }

    /// Whether it is as it should be when it is to run.
    pub(super) fn is_running(&self) -> bool {
        self.start && self.state == "running"
    }
}

/// How all jobs are, by name.
pub(super) fn list() -> Result<BTreeMap<String, JobState>> {
    let output = run(&["list"])?;
    match output.status.success() {
        true => Ok(parse(&String::from_utf8_lossy(&output.stdout))),
        false => Err(failed(&["list"], &output)),
    }
}

/// Lines such as `web start/running, process 12` or `net-up (eth0) stop/waiting`; those of further processes are
/// indented.
fn parse(text: &str) -> BTreeMap<String, JobState> {
    let lines = text.lines().filter(|line| !line.starts_with(['\t', ' ']));
    lines
        .filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            // The name of an instance of a job may have spaces in it.
            let rest = rest.rsplit_once(") ").map_or(rest, |(_, rest)| rest);
            let (state, process) = match rest.split_once(", process ") {
                Some((state, pid)) => (state, pid.trim().parse().ok()),
                None => (rest, None),
            };
            let (goal, state) = state.split_once('/')?;
            let state = state.trim();
            // Before and after the main process this is that of a step.
            let is_step = matches!(state, "security" | "pre-start" | "post-stop");
            let job = JobState {
                start: goal == "start",
                state: state.to_owned(),
                pid: process.filter(|_| !is_step),
            };
            Some((name.to_owned(), job))
        })
        .collect()
}

/// Starts a job, and waits until it runs; a task: until it has ended. One that runs already is left alone.
pub(super) fn start(job: &str, variables: &[&str]) -> Result<()> {
    let mut words = vec!["start", job];
    words.extend(variables);
    act(&words, "already running")
}

/// Starts a job, and waits for nothing. Whether it was not running already.
pub(super) fn begin(job: &str) -> Result<bool> {
    let words = ["start", "--no-wait", job];
    let output = run(&words)?;
    if output.status.success() {
        return Ok(true);
    }
    match said(&output).contains("already running") {
        true => Ok(false),
        false => Err(failed(&words, &output)),
    }
}

/// Stops jobs, all at the same time, and waits until nothing of them is there.
pub(super) fn stop(jobs: &[String], patience: Duration) -> Result<()> {
    for job in jobs {
        act(&["stop", "--no-wait", job], "Unknown instance")?;
    }
    let deadline = Instant::now() + patience;
    loop {
        let states = list()?;
        let is_there = |job: &&String| states.get(*job).is_some_and(JobState::is_active);
        let Some(job) = jobs.iter().find(is_there) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(LifecycleError::ServiceManager {
                what: format!("stop {job}"),
                why: format!("it is still there after {} s", patience.as_secs()),
            });
        }
        std::thread::sleep(TICK);
    }
}

/// Reads the files of all jobs again.
pub(super) fn reload() -> Result<()> {
    act(&["reload-configuration"], "\0")
}

/// What runs, as `init (upstart 1.12.1)`; `None`: nobody answers.
pub(super) fn version() -> Option<String> {
    let output = run(&["version"])
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.trim().to_owned())
}

/// `already`: what it says when there was nothing to do.
fn act(words: &[&str], already: &str) -> Result<()> {
    let output = run(words)?;
    match output.status.success() || said(&output).contains(already) {
        true => Ok(()),
        // Stopping what stops already.
        false
            if words.first() == Some(&"stop") && said(&output).contains("already been stopped") =>
        {
            Ok(())
        }
        false => Err(failed(words, &output)),
    }
}

fn run(words: &[&str]) -> Result<Output> {
    let mut command = Command::new("initctl");
    command
        .args(words)
        .env("LC_ALL", "C")
        // That of the session of somebody, whose jobs are none of the server's.
        .env_remove("UPSTART_SESSION")
        .stdin(Stdio::null());
    command
        .output()
        .map_err(|error| LifecycleError::Unavailable {
            what: format!("cannot run initctl: {error}"),
            hint: "[server] service-manager = standalone in metactl.conf does without Upstart"
                .to_owned(),
        })
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("initctl: ").unwrap_or(line))
        .collect();
    lines.join("; ")
}

fn failed(words: &[&str], output: &Output) -> LifecycleError {
    let said = said(output);
    LifecycleError::ServiceManager {
        what: format!("initctl {}", words.join(" ")),
        why: match said.is_empty() {
            true => output.status.to_string(),
            false => said,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_initctl_says_is_understood() {
        let text = "metactl-a-web start/running, process 31\nnetwork-interface (eth0) start/running\nmetactl@a start/post-start\n\tpost-start process 44\nmetactl-a-db stop/waiting\nx (a (b) c) stop/killed, process 7\ny start/post-stop, process 8\nrubbish\n";
        let found = parse(text);
        let job = |start, state: &str, pid| JobState {
            start,
            state: state.to_owned(),
            pid,
        };
        assert_eq!(found["metactl-a-web"], job(true, "running", Some(31)));
        assert_eq!(found["network-interface"], job(true, "running", None));
        assert_eq!(found["metactl@a"], job(true, "post-start", None));
        assert_eq!(found["metactl-a-db"], job(false, "waiting", None));
        assert_eq!(found["x"], job(false, "killed", Some(7)));
        assert_eq!(found["y"], job(true, "post-stop", None));
        assert_eq!(found.len(), 6);
        assert!(found["metactl-a-web"].is_running() && found["x"].is_active());
        assert!(!found["metactl@a"].is_running() && !found["metactl-a-db"].is_active());
    }
}
