//! systemd itself, by `systemctl` and `journalctl`.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use crate::error::{LifecycleError, Result};

/// What is asked of a unit.
const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,MainPID,InvocationID,NRestarts,Result,ActiveEnterTimestampMonotonic";

/// How a unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnitState {
    /// `loaded`, `not-found`.
    pub(super) load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub(super) active: String,
    /// `running`, `exited`, `auto-restart` and so on.
    pub(super) sub: String,
    /// Its main process.
    pub(super) pid: Option<i32>,
    /// Names this run of it.
    pub(super) invocation: String,
    /// How often it was started again by itself.
    pub(super) restarts: u32,
    /// `success`, `exit-code`, `start-limit-hit` and so on.
    pub(super) result: String,
    /// Since when it is active, in microseconds of the monotonic clock.
    pub(super) since: Option<u64>,
}

impl UnitState {
    /// Whether it runs, is about to, or ends.
    pub(super) fn is_active(&self) -> bool {
        !matches!(self.active.as_str(), "" | "inactive" | "failed")
    }

    /// Whether somebody wants it to run: also when it has failed.
    pub(super) fn is_wanted(&self) -> bool {
        self.load != "not-found" && (self.is_active() || self.active == "failed")
    }
}

/// How these units are, by name.
pub(super) fn show(units: &[String]) -> Result<BTreeMap<String, UnitState>> {
    if units.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut command = systemctl("show");
    command.arg(format!("--property={PROPERTIES}")).args(units);
    let output = run(command)?;
    if !output.status.success() {
        return Err(failed("show", units, &output));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> BTreeMap<String, UnitState> {
    let mut found = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut id = String::new();
        let mut state = UnitState::default();
        for (key, value) in block.lines().filter_map(|line| line.split_once('=')) {
            let number = || value.parse().ok().filter(|number| *number != 0);
            match key {
                "Id" => value.clone_into(&mut id),
                "LoadState" => value.clone_into(&mut state.load),
                "ActiveState" => value.clone_into(&mut state.active),
                "SubState" => value.clone_into(&mut state.sub),
                "MainPID" => state.pid = number().and_then(|pid: u64| i32::try_from(pid).ok()),
                "InvocationID" => value.clone_into(&mut state.invocation),
                "NRestarts" => state.restarts = value.parse().unwrap_or(0),
                "Result" => value.clone_into(&mut state.result),
                "ActiveEnterTimestampMonotonic" => state.since = number(),
                _ => {}
            }
        }
        if !id.is_empty() {
            found.insert(id, state);
        }
    }
    found
}

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
    // What was just written may still be on its way.
    let mut sync = program("journalctl");
    sync.arg("--sync");
    let _synced = run(sync);
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

fn run(mut command: Command) -> Result<Output> {
    command.output().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        LifecycleError::Unavailable {
            what: format!("cannot run {program}: {error}"),
            hint: "[server] service-manager = standalone in metactl.conf does without systemd"
                .to_owned(),
        }
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_says_is_understood() {
        let text = "Id=metactl-a-web.service\nMainPID=31\nNRestarts=2\nResult=success\nLoadState=loaded\nActiveState=active\nSubState=running\nInvocationID=0a\nActiveEnterTimestampMonotonic=5000000\n\nId=metactl-a-x.service\nLoadState=not-found\nActiveState=inactive\nMainPID=0\nActiveEnterTimestampMonotonic=0\n";
        let found = parse(text);
        let web = &found["metactl-a-web.service"];
        assert_eq!(
            (web.pid, web.restarts, web.since),
            (Some(31), 2, Some(5_000_000))
        );
        assert!(web.is_active() && web.is_wanted());
        let none = &found["metactl-a-x.service"];
        assert_eq!((none.pid, none.since), (None, None));
        assert!(!none.is_active() && !none.is_wanted());
    }
}
