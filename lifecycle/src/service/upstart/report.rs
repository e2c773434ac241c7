//! What runs, from the states of jobs to metactl's words.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, read_manifest};
use metactl_bundles::schedule::CronSettings;
use metactl_runtime::ProcessId;

use super::control::{self, JobState};
use super::files::{self, Own};
use super::{dir, names, steps};
use crate::error::Result;
use crate::instance::Instance;
use crate::service::ended::Ended;
use crate::standalone::jobs::JobRecord;
use crate::standalone::records::{EntryReport, FORMAT, Report, Wanted};
use crate::standalone::schedule::Job;
use crate::status::EntryState;

/// The jobs of an instance at a moment.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// Their files, by name.
    pub(super) files: BTreeMap<String, Own>,
    /// How they are.
    pub(super) states: BTreeMap<String, JobState>,
}

/// Clock ticks in a second as the kernel tells them (proc(5)), on everything that metactl is built for.
const USER_HZ: u64 = 100;

/// What a bundle says, as far as its reader may know.
struct Bundle {
    entries: Vec<EntryRef>,
    cron: CronSettings,
    plain: bool,
    dns: bool,
}

impl Jobs {
    /// Looks at all that have a file.
    pub(super) fn look(instance: &Instance) -> Result<Jobs> {
        let files = files::of_instance(dir(), &instance.name)?;
        if files.is_empty() {
            return Ok(Jobs::default());
        }
        let mut states = control::list()?;
        states.retain(|name, _| files.contains_key(name));
        Ok(Jobs { files, states })
    }

    pub(super) fn state(&self, job: &str) -> JobState {
        let none = || JobState {
            state: "waiting".to_owned(),
            ..JobState::default()
        };
        self.states.get(job).cloned().unwrap_or_else(none)
    }

    /// The names of all that are there in any way.
    pub(super) fn active(&self) -> impl Iterator<Item = &String> {
        let active = self.states.iter().filter(|(_, state)| state.is_active());
        active.map(|(name, _)| name)
    }

    /// The jobs of daemons, or of cron jobs, with the names of their entry points.
    pub(super) fn entries(&self, kind: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(move |(name, own)| {
            let fits = own.kind.as_deref() == Some(kind);
            fits.then_some((name.as_str(), own.entry.as_deref()?))
        })
    }

    /// Whether cron jobs run when it is time.
    pub(super) fn has_cron(&self, instance: &str) -> bool {
        self.state(&names::instance(instance)).start
    }

    /// What should run: what runs, is about to, or has ended by itself.
    pub(super) fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>> {
        let Some(digest) = files::bundle(&instance.state_dir())? else {
            return Ok(None);
        };
        let bundle = Bundle::of(instance, &digest)?;
        let mut daemons = BTreeMap::new();
        for (job, entry) in self.entries("daemon") {
            let state = self.state(job);
            let ended = Ended::read(instance, entry)?;
            let restart = bundle
                .entry(entry)
                .map_or(Restart::Always, |one| one.restart);
            let has_ended = ended.is_some_and(|ended| steps::is_ended(&ended, restart));
            if state.start || (!state.is_active() && has_ended) {
                daemons.insert(entry.to_owned(), word(&state));
            }
        }
        let cron = self.has_cron(&instance.name);
        if daemons.is_empty() && !cron {
            return Ok(None);
        }
        Ok(Some(Wanted {
            format: FORMAT,
            change: digest.clone(),
            bundle: digest,
            daemons,
            cron,
            uplink: instance.server()?.uplink,
        }))
    }

    /// What runs, for who wants `wanted`.
    pub(super) fn report(&self, instance: &Instance, wanted: &Wanted) -> Result<Report> {
        let bundle = Bundle::of(instance, &wanted.bundle)?;
        let mut entries = BTreeMap::new();
        for entry in &bundle.entries {
            let state = self.state(&names::entry(&instance.name, &entry.name));
            let ended = Ended::read(instance, &entry.name)?;
            let mut report = process(instance, entry, &state);
            report.restarts = ended.as_ref().map_or(0, |ended| ended.restarts);
            match entry.kind {
                EntryKind::Daemon => {
                    let has_ended = ended
                        .as_ref()
                        .is_some_and(|ended| steps::is_ended(ended, entry.restart));
                    report.state = daemon_state(&state, has_ended, report.restarts > 0);
                }
                EntryKind::Cron => {
                    let planned = self.has_cron(&instance.name);
                    report.state = job_state(&state, planned);
                    report.next = next(entry, &bundle.cron).filter(|_| planned);
                }
            }
            report.last_exit = ended.map(|ended| ended.exit);
            report.generation = wanted.daemons.get(&entry.name).cloned();
            entries.insert(entry.name.clone(), report);
        }
        Ok(Report {
            format: FORMAT,
            change: Some(wanted.change.clone()),
            entries,
            notes: notes(&bundle),
            dns: None,
        })
    }
}

impl Bundle {
    /// Who may not read bundles knows what is published of the one in use.
    fn of(instance: &Instance, digest: &str) -> Result<Bundle> {
        let dir = instance.state_dir().join("bundles").join(digest);
        match read_manifest(&dir) {
            Err(_) if !nix::unistd::geteuid().is_root() => {
                let known = instance.known()?;
                Ok(Bundle {
                    entries: known.map(|known| known.entries).unwrap_or_default(),
                    cron: CronSettings::default(),
                    plain: false,
                    dns: false,
                })
            }
            manifest => {
                let manifest = manifest?;
                Ok(Bundle {
                    entries: manifest.entries,
                    cron: manifest.cron,
                    plain: manifest.plain,
                    dns: manifest.dns.is_some(),
                })
            }
        }
    }

    fn entry(&self, name: &str) -> Option<&EntryRef> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// What is worth knowing beside the entry points.
fn notes(bundle: &Bundle) -> Vec<String> {
    let mut notes = Vec::new();
    if bundle.plain {
        notes.push(
            "it runs WITHOUT A SANDBOX ([upstart] sandbox = no): no firewall, no limits of its own, and it sees \
             whatever its account does"
                .to_owned(),
        );
    }
    if bundle.dns {
        notes.push(
            "its names are not registered in the DNS: under Upstart nothing of metactl stays to do that"
                .to_owned(),
        );
    }
    notes
}

/// Names a run of a job: its process and when that began.
pub(super) fn word(state: &JobState) -> String {
    let process = state.pid.and_then(|pid| ProcessId::of(pid).ok());
    match process {
        Some(process) => format!("{}-{}", process.pid, process.start_time),
        None => format!(
            "{}/{}",
            if state.start { "start" } else { "stop" },
            state.state
        ),
    }
}

/// The states of init(5), "JOB STATES".
fn daemon_state(job: &JobState, has_ended: bool, was_restarted: bool) -> EntryState {
    match (job.start, job.state.as_str()) {
        (true, "running" | "pre-stop") => EntryState::Running,
        // It ended, and comes again.
        (true, "stopping" | "killed" | "post-stop") => EntryState::Waiting,
        (true, _) if was_restarted => EntryState::Waiting,
        (true, _) => EntryState::Starting,
        (false, "waiting") if has_ended => EntryState::Ended,
        (false, "waiting") => EntryState::Stopped,
        (false, _) => EntryState::Stopping,
    }
}

fn job_state(job: &JobState, planned: bool) -> EntryState {
    match (job.start, job.state.as_str(), planned) {
        (true, "running", _) => EntryState::Running,
        (true, ..) => EntryState::Starting,
        (false, "waiting", true) => EntryState::Scheduled,
        (false, "waiting", false) => EntryState::Stopped,
        (false, ..) => EntryState::Stopping,
    }
}

/// The next time of a cron job; `@reboot` has none.
fn next(entry: &EntryRef, cron: &CronSettings) -> Option<String> {
    if entry.schedule.as_deref() == Some("@reboot") {
        return None;
    }
    let exact = CronSettings {
        delay: Duration::ZERO,
        ..cron.clone()
    };
    let now = Timestamp::now();
    Job::new(entry.clone(), &exact, JobRecord::default(), now, "").next_rfc3339()
}

/// The process of a job, and since when it runs: that of the application, which the runtime waits for.
fn process(instance: &Instance, entry: &EntryRef, state: &JobState) -> EntryReport {
    let id = format!("{}.{}", instance.name, entry.name);
    let container = instance.runtime().container(&id);
    let inside = container.and_then(|container| container.process);
    let process = inside
        .filter(ProcessId::is_alive)
        .or_else(|| state.pid.and_then(|pid| ProcessId::of(pid).ok()))
        .filter(|_| state.pid.is_some());
    EntryReport {
        state: EntryState::Stopped,
        generation: None,
        since: process.as_ref().and_then(since),
        process,
        restarts: 0,
        adopted: false,
        last_exit: None,
        next: None,
        says: None,
    }
}

/// When a process began (proc_pid_stat(5), field 22, in clock ticks since the boot).
fn since(process: &ProcessId) -> Option<String> {
    let booted = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let up = SignedDuration::new(booted.tv_sec, 0);
    let began = SignedDuration::from_millis(
        i64::try_from(process.start_time.saturating_mul(1000) / USER_HZ).ok()?,
    );
    let began = Timestamp::now()
        .checked_sub(up.saturating_sub(began))
        .ok()?;
    Some(crate::files::rfc3339(began))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_jobs_in_metactls_words() {
        use EntryState::{Ended, Running, Scheduled, Starting, Stopped, Stopping, Waiting};
        let job = |text: &str| {
            let (goal, state) = text.split_once('/').unwrap();
            JobState {
                start: goal == "start",
                state: state.to_owned(),
                pid: None,
            }
        };
        for (text, ended, again, expected) in [
            ("start/running", true, true, Running),
            ("start/pre-start", false, false, Starting),
            ("start/pre-start", true, true, Waiting),
            ("start/post-stop", true, true, Waiting),
            ("stop/killed", true, false, Stopping),
            ("stop/waiting", true, false, Ended),
            ("stop/waiting", false, false, Stopped),
        ] {
            assert_eq!(daemon_state(&job(text), ended, again), expected, "{text}");
        }
        assert_eq!(job_state(&job("stop/waiting"), true), Scheduled);
        assert_eq!(job_state(&job("stop/waiting"), false), Stopped);
        assert_eq!(job_state(&job("start/running"), false), Running);
        assert_eq!(job_state(&job("stop/post-stop"), true), Stopping);
    }

    #[test]
    fn a_process_says_since_when_it_runs() {
        let since = since(&ProcessId::current().unwrap()).unwrap();
        let since: Timestamp = since.parse().unwrap();
        let age = Timestamp::now().duration_since(since);
        assert!(age < SignedDuration::from_mins(10), "{age:?}");
        assert!(age > SignedDuration::from_secs(-2), "{age:?}");
    }
}
