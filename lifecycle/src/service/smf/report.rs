//! What runs, from the states of SMF to metactl's words.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest, read_manifest};
use metactl_bundles::schedule::{CronSettings, Missed};
use metactl_runtime::ProcessId;

use super::control::{self, Programs, State, States};
use super::log::{self, Told};
use super::names;
use super::render;
use crate::error::Result;
use crate::instance::Instance;
use crate::standalone::exits;
use crate::standalone::jobs::{JobRecord, JobRecords};
use crate::standalone::records::{EntryReport, FORMAT, Report, Wanted};
use crate::standalone::schedule::Job;
use crate::status::{EntryState, Exit};

/// Where svc.startd has its logs (svc.startd(8)), when it does not say.
const LOGS: &str = "/var/svc/log";

/// The log of an entry point.
pub(super) fn log_of(states: &States, instance: &str, entry: &str) -> PathBuf {
    let known = states
        .get(&names::entry(entry))
        .and_then(|state| state.log.clone());
    match known {
        Some(path) => path.into(),
        None => Path::new(LOGS).join(names::log_file(instance, entry)),
    }
}

/// What should run. A daemon's word for that is the one of this run of it.
pub(super) fn wanted(instance: &Instance, states: &States) -> Result<Option<Wanted>> {
    let Some(bundle) = bundle(states) else {
        return Ok(None);
    };
    let mut daemons = BTreeMap::new();
    for state in states
        .values()
        .filter(|state| state.kind == "daemon" && state.is_wanted())
    {
        if let Some(entry) = &state.entry {
            daemons.insert(entry.clone(), state.word());
        }
    }
    let cron = has_cron(states);
    if daemons.is_empty() && !cron {
        return Ok(None);
    }
    Ok(Some(Wanted {
        format: FORMAT,
        change: bundle.clone(),
        bundle,
        daemons,
        cron,
        uplink: instance.server()?.uplink,
    }))
}

/// The digest of the bundle that the service is of.
pub(super) fn bundle(states: &States) -> Option<String> {
    states.values().find_map(|state| state.bundle.clone())
}

/// Whether cron jobs run when it is time.
pub(super) fn has_cron(states: &States) -> bool {
    states.get(names::WHOLE).is_some_and(State::is_wanted)
}

/// Whether anything runs, or is about to.
pub(super) fn is_any_active(states: &States) -> bool {
    let parts = states.values().filter(|state| state.entry.is_some());
    // A boot job that has ended stays online, so that it is known that it ran.
    let mut running = parts.filter(|state| match state.kind.as_str() {
        "daemon" => state.is_active(),
        _ => state.is_starting(),
    });
    running.next().is_some()
}

/// What runs, for who wants `wanted`.
pub(super) fn report(
    programs: &dyn Programs,
    instance: &Instance,
    states: &States,
    wanted: &Wanted,
) -> Result<Report> {
    let bundle = instance.state_dir().join("bundles").join(&wanted.bundle);
    let manifest: Manifest = read_manifest(&bundle)?;
    let records = JobRecords::of(&instance.state_dir());
    let mut notes = notes(&manifest);
    let mut entries = BTreeMap::new();
    for entry in &manifest.entries {
        let state = states
            .get(&names::entry(&entry.name))
            .cloned()
            .unwrap_or_default();
        let mut report = match entry.kind {
            EntryKind::Daemon => {
                let told = log::read(&log_of(states, &instance.name, &entry.name));
                let fmri = names::fmri(&instance.name, &entry.name);
                let why = explanation(programs, &state, &fmri);
                if let Some(why) = &why {
                    notes.push(format!("{}: {why} (svcs -x {fmri})", entry.name));
                }
                daemon(&state, told, why)
            }
            EntryKind::Cron => {
                // One that is damaged is replaced when the job ends.
                let record = records.read(&entry.name).unwrap_or_default();
                job(entry, &manifest.cron, &state, has_cron(states), record)
            }
        };
        // It ended a moment ago, and SMF has not told yet.
        if report.state == EntryState::Running && state.pid.is_some() && report.process.is_none() {
            report.state = EntryState::Waiting;
        }
        report.generation = wanted.daemons.get(&entry.name).cloned();
        entries.insert(entry.name.clone(), report);
    }
    Ok(Report {
        format: FORMAT,
        change: Some(wanted.change.clone()),
        entries,
        notes,
        dns: None,
    })
}

/// What is worth knowing beside the entry points.
fn notes(manifest: &Manifest) -> Vec<String> {
    let mut notes = vec![
        "its sandbox is the zone that it runs in: under SMF metactl makes neither a network nor a firewall"
            .to_owned(),
    ];
    if manifest.dns.is_some() {
        notes.push(
            "its names are not registered in the DNS: under SMF nothing of metactl stays to do that"
                .to_owned(),
        );
    }
    let has_times = |entry: &EntryRef| entry.kind == EntryKind::Cron && !render::is_boot_job(entry);
    if manifest.cron.missed == Missed::Once && manifest.entries.iter().any(has_times) {
        notes.push(
            "`missed = once` in [cron] has no effect under SMF: cron leaves out what it missed"
                .to_owned(),
        );
    }
    notes
}

/// Why it waits, or was given up. SMF is only asked where there is something to ask.
fn explanation(programs: &dyn Programs, state: &State, fmri: &str) -> Option<String> {
    let waits = state.state == "offline" && state.next.is_empty() && state.is_wanted();
    if state.state != "maintenance" && !waits {
        return None;
    }
    control::explain(programs, fmri)
}

fn daemon(state: &State, told: Told, why: Option<String>) -> EntryReport {
    let ends = !state.next.is_empty() && state.next != state.state;
    let word = match state.state.as_str() {
        "online" | "degraded" if ends => EntryState::Stopping,
        "online" | "degraded" if told.has_ended => EntryState::Ended,
        "online" | "degraded" => EntryState::Running,
        "maintenance" => EntryState::Ended,
        // What it needs is not there, and nobody tells SMF when it comes.
        "offline" if why.as_ref().is_some_and(|why| why.ends_with("is absent")) => {
            EntryState::Ended
        }
        _ if state.is_wanted() => EntryState::Starting,
        _ => EntryState::Stopped,
    };
    let given_up = word == EntryState::Ended && !told.has_ended;
    let last_exit = match given_up {
        true => Some(failure(&told, why)),
        false => told.last_exit,
    };
    let running = matches!(word, EntryState::Running | EntryState::Stopping);
    EntryReport {
        state: word,
        last_exit,
        restarts: told.restarts,
        ..process(state, running)
    }
}

/// The exit of a daemon that SMF does not start again.
fn failure(told: &Told, why: Option<String>) -> Exit {
    let why = why.unwrap_or_else(|| "SMF has put it into maintenance".to_owned());
    let reason = match &told.last_exit {
        Some(exit) if told.gave_up => format!(
            "{}, and was started again too often: it is given up",
            exit.reason
        ),
        Some(exit) if exit.failed => format!("{} ({why})", exit.reason),
        _ => why,
    };
    let exit = told.last_exit.clone();
    Exit {
        reason,
        failed: true,
        ..exit.unwrap_or_else(exits::lost)
    }
}

fn job(
    entry: &EntryRef,
    cron: &CronSettings,
    state: &State,
    planned: bool,
    record: Option<JobRecord>,
) -> EntryReport {
    let running = state.is_starting();
    let word = match (running, planned) {
        (true, _) => EntryState::Running,
        (false, true) => EntryState::Scheduled,
        (false, false) => EntryState::Stopped,
    };
    // `@reboot` has no next time.
    let timed = planned && !render::is_boot_job(entry);
    let next = timed.then(|| {
        let exact = CronSettings {
            delay: Duration::ZERO,
            ..cron.clone()
        };
        let now = jiff::Timestamp::now();
        Job::new(entry.clone(), &exact, JobRecord::default(), now, "").next_rfc3339()
    });
    EntryReport {
        state: word,
        last_exit: record.and_then(|record| record.exit),
        next: next.flatten(),
        ..process(state, running)
    }
}

/// The process of an entry point, and since when it runs.
fn process(state: &State, running: bool) -> EntryReport {
    let pid = state.pid.filter(|_| running);
    EntryReport {
        state: EntryState::Stopped,
        generation: None,
        process: pid.and_then(|pid| ProcessId::of(pid).ok()),
        since: running.then(|| since(&state.since)).flatten(),
        restarts: 0,
        adopted: false,
        last_exit: None,
        next: None,
        says: None,
    }
}

/// `1700000000.250000000` as RFC 3339.
fn since(text: &str) -> Option<String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let nanos: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let time = jiff::Timestamp::new(seconds.parse().ok()?, nanos.parse().ok()?);
    Some(crate::files::rfc3339(time.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(word: &str, next: &str, wanted: bool) -> State {
        State {
            state: word.to_owned(),
            next: next.to_owned(),
            since: "1700000000.25".to_owned(),
            until_boot: Some(wanted),
            ..State::default()
        }
    }

    #[test]
    fn states_in_metactls_words() {
        for (word, next, wanted, expected) in [
            ("online", "", true, EntryState::Running),
            // Refreshed, which changes nothing.
            ("online", "online", true, EntryState::Running),
            ("online", "disabled", false, EntryState::Stopping),
            ("online", "offline", true, EntryState::Stopping),
            ("degraded", "", true, EntryState::Running),
            ("offline", "online", true, EntryState::Starting),
            ("offline", "", true, EntryState::Starting),
            ("disabled", "", true, EntryState::Starting),
            ("disabled", "", false, EntryState::Stopped),
            ("uninitialized", "", true, EntryState::Starting),
            ("maintenance", "", true, EntryState::Ended),
            ("", "", false, EntryState::Stopped),
        ] {
            let report = daemon(&state(word, next, wanted), Told::default(), None);
            assert_eq!(report.state, expected, "{word} {next}");
        }
    }

    #[test]
    fn who_is_given_up_says_why() {
        let why = || Some("Restarting too quickly".to_owned());
        let told = Told {
            last_exit: Some(exits::describe(Some(3), None, false, false)),
            gave_up: true,
            ..Told::default()
        };
        let exit = daemon(&state("maintenance", "", true), told, why())
            .last_exit
            .unwrap();
        assert_eq!(
            exit.reason,
            "exit code 3, and was started again too often: it is given up"
        );
        let absent = Some("Dependency file://localhost/app is absent".to_owned());
        let report = daemon(&state("offline", "", true), Told::default(), absent);
        assert_eq!(report.state, EntryState::Ended);
        let exit = report.last_exit.unwrap();
        assert!(
            exit.failed && exit.reason.contains("/app is absent"),
            "{exit:?}"
        );
        // It has ended, as it may.
        let told = Told {
            last_exit: Some(exits::describe(Some(0), None, false, false)),
            has_ended: true,
            ..Told::default()
        };
        let report = daemon(&state("online", "", true), told, None);
        assert_eq!(
            (report.state, report.last_exit.unwrap().failed),
            (EntryState::Ended, false)
        );
    }

    #[test]
    fn times_are_those_of_everybody() {
        assert_eq!(since("1700000000.25").unwrap(), "2023-11-14T22:13:20.250Z");
        assert_eq!(since("1700000000").unwrap(), "2023-11-14T22:13:20.000Z");
        assert_eq!(since(""), None);
    }

    #[test]
    fn what_should_run_is_what_smf_says() {
        let daemon = |wanted, contract: Option<&str>| State {
            entry: Some("web".to_owned()),
            kind: "daemon".to_owned(),
            contract: contract.map(str::to_owned),
            ..state("online", "", wanted)
        };
        assert_eq!(daemon(true, Some("7")).word(), "contract 7");
        assert_ne!(daemon(true, None).word(), daemon(true, Some("7")).word());
        let mut states = States::from([("web".to_owned(), daemon(false, None))]);
        assert!(!has_cron(&states) && is_any_active(&states));
        states.insert(names::WHOLE.to_owned(), state("online", "", true));
        assert!(has_cron(&states));
        // What counts at boot counts now, when nothing else was said.
        let booted = State {
            until_boot: None,
            at_boot: true,
            ..State::default()
        };
        assert!(booted.is_wanted());
    }
}
