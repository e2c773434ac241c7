//! What is wanted of systemd, by `systemctl`, and what it has written down, by `journalctl`.

use std::process::{Command, Output, Stdio};

use crate::error::{LifecycleError, Result};

/// Does something with units, and waits until it is done.
pub(super) fn act(verb: &str, units: &[String]) -> Result<()> {
    if units.is_empty() {
        return Ok(());
    }
    let mut command = systemctl(verb);
    command.args(units);
    let output = run(command)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(verb, units, &output)),
    }
}

/// Has units started, and does not wait for it.
pub(super) fn begin(units: &[String]) -> Result<()> {
    let mut command = systemctl("start");
    command.arg("--no-block").args(units);
    let output = run(command)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed("start", units, &output)),
    }
}

/// Starts a unit without what it wants.
pub(super) fn start_alone(unit: &str) -> Result<()> {
    let units = [unit.to_owned()];
    let mut command = systemctl("start");
    command.arg("--job-mode=ignore-dependencies").args(&units);
    let output = run(command)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed("start", &units, &output)),
    }
}

/// Reads the unit files again.
pub(super) fn reload() -> Result<()> {
    let output = run(systemctl("daemon-reload"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed("daemon-reload", &[], &output)),
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

fn failed(verb: &str, units: &[String], output: &Output) -> LifecycleError {
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
        what: format!("systemctl {verb} {}", units.join(" ")),
        why,
    }
}
