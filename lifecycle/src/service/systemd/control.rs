//! What is wanted of systemd: over its bus what every start and stop needs, by `systemctl` what is about unit files, and by
//! `journalctl` what it has written down.

use std::process::{Command, Output, Stdio};

use metactl_runtime::systemd::SystemdError;
use metactl_runtime::systemd::bus::Bus;
use metactl_runtime::systemd::jobs::{self, Aim, Done};

use crate::error::{LifecycleError, Result};

/// Starts units, in the order that they have among themselves, and waits until that is done.
pub(super) fn start(units: &[String]) -> Result<()> {
    all_good(Aim::Start, start_each(units)?)
}

/// The same, and tells what became of each.
pub(super) fn start_each(units: &[String]) -> Result<Vec<Done>> {
    run_jobs(Aim::Start, units)
}

/// Stops units, and waits until that is done.
pub(super) fn stop(units: &[String]) -> Result<()> {
    all_good(Aim::Stop, run_jobs(Aim::Stop, units)?)
}

/// Starts a unit without what it wants.
pub(super) fn start_alone(unit: String) -> Result<()> {
    all_good(Aim::StartAlone, run_jobs(Aim::StartAlone, &[unit])?)
}

/// Has units started, and does not wait for it.
pub(super) fn begin(units: &[String]) -> Result<()> {
    let begun = Bus::connect(false).and_then(|mut bus| jobs::begin(&mut bus, Aim::Start, units));
    begun.map_err(|error| refused(Aim::Start, units, &error))
}

fn run_jobs(aim: Aim, units: &[String]) -> Result<Vec<Done>> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let done = Bus::connect(false).and_then(|mut bus| jobs::run(&mut bus, aim, units));
    done.map_err(|error| refused(aim, units, &error))
}

fn all_good(aim: Aim, done: Vec<Done>) -> Result<()> {
    let bad: Vec<Done> = done.into_iter().filter(|done| !done.is_good()).collect();
    match bad.first() {
        None => Ok(()),
        Some(first) => Err(not_done(aim, first)),
    }
}

/// The error of a job that did not come to a good end, with what its result means (org.freedesktop.systemd1(5), JobRemoved).
pub(super) fn not_done(aim: Aim, done: &Done) -> LifecycleError {
    let unit = &done.unit;
    let meaning = match done.result.as_str() {
        "failed" => "it failed".to_owned(),
        "dependency" => "what it needs did not start".to_owned(),
        "timeout" => "it took too long".to_owned(),
        "canceled" => "somebody wanted something else of it meanwhile".to_owned(),
        other => format!("systemd says {other:?}"),
    };
    LifecycleError::ServiceManager {
        what: format!("{} {unit}", word(aim)),
        why: format!("{meaning}; systemctl status {unit} says more"),
    }
}

fn refused(aim: Aim, units: &[String], error: &SystemdError) -> LifecycleError {
    LifecycleError::ServiceManager {
        what: format!("{} {}", word(aim), units.join(" ")),
        why: error.to_string(),
    }
}

fn word(aim: Aim) -> &'static str {
    match aim {
        Aim::Start | Aim::StartAlone => "start",
        Aim::Stop => "stop",
    }
}

/// Starts a unit when the server boots, or no longer does.
pub(super) fn enable(unit: &str, enabled: bool) -> Result<()> {
    let verb = match enabled {
        true => "enable",
        false => "disable",
    };
    let mut command = systemctl(verb);
    command.arg(unit);
    succeed(command, &format!("systemctl {verb} {unit}"))
}

/// Reads the unit files again.
pub(super) fn reload() -> Result<()> {
    succeed(systemctl("daemon-reload"), "systemctl daemon-reload")
}

fn succeed(command: Command, what: &str) -> Result<()> {
    let output = run(command)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(what, &output)),
    }
}

/// The last lines of a unit in the journal since a time, in microseconds since 1970. None when they cannot be had.
pub(super) fn journal_since(unit: &str, since: u64, count: usize) -> Vec<String> {
    sync_journal();
    let mut command = program("journalctl");
    command.args(["--quiet", "--no-pager", "--output=cat", "--all"]);
    command.arg(format!("--lines={count}"));
    command.arg(format!(
        "--since=@{}.{:06}",
        since / 1_000_000,
        since % 1_000_000
    ));
    command.arg(format!("_SYSTEMD_UNIT={unit}"));
    let output = run(command);
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::to_owned).collect()
}

/// What was just written may still be on its way into the journal.
pub(super) fn sync_journal() {
    let mut sync = program("journalctl");
    sync.arg("--sync");
    // Who may not do that sees it a moment later.
    let _synced = run(sync);
}

fn systemctl(verb: &str) -> Command {
    let mut command = program("systemctl");
    command.args(["--no-pager", "--no-ask-password", "--system", verb]);
    command
}

/// A program of systemd that says the same in every language.
pub(super) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .env("LC_ALL", "C.UTF-8")
        .env_remove("SYSTEMD_PAGER")
        .env_remove("SYSTEMD_COLORS")
        .stdin(Stdio::null());
    command
}

/// Runs a program of systemd to its end.
pub(super) fn run(mut command: Command) -> Result<Output> {
    let output = command.output();
    output.map_err(|error| absent(&command, &error))
}

/// The error when a program of systemd cannot be run.
pub(super) fn absent(command: &Command, error: &std::io::Error) -> LifecycleError {
    let program = command.get_program().to_string_lossy();
    LifecycleError::Unavailable {
        what: format!("cannot run {program}: {error}"),
        hint: "[server] service-manager = standalone in metactl.conf does without systemd"
            .to_owned(),
    }
}

fn failed(what: &str, output: &Output) -> LifecycleError {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let why = match lines.is_empty() {
        true => output.status.to_string(),
        false => lines.join("; "),
    };
    LifecycleError::ServiceManager {
        what: what.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_failed_is_told() {
        let done = |unit: &str, result: &str| Done {
            unit: unit.to_owned(),
            result: result.to_owned(),
        };
        assert!(all_good(Aim::Start, vec![done("a", "done"), done("b", "skipped")]).is_ok());
        for (result, meaning) in [
            ("failed", "it failed"),
            ("dependency", "what it needs did not start"),
            ("assert", "systemd says \"assert\""),
        ] {
            let all = vec![done("a.service", "done"), done("b.service", result)];
            let error = all_good(Aim::Start, all).unwrap_err().to_string();
            assert!(error.contains("start b.service"), "{error}");
            assert!(error.contains(meaning), "{error}");
        }
    }
}
