//! What runs, from the states of units to metactl's words.

use std::collections::BTreeMap;
use std::time::Duration;

use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest, read_manifest};
use metactl_bundles::schedule::CronSettings;
use metactl_runtime::ProcessId;

use super::control::{self, UnitState};
use super::files::{self, Own};
use super::steps::Ended;
use super::{dir, monotonic_micros, names};
use crate::error::Result;
use crate::instance::Instance;
use crate::standalone::jobs::JobRecord;
use crate::standalone::records::{EntryReport, FORMAT, Report, Wanted};
use crate::standalone::schedule::Job;
use crate::status::{EntryState, Exit};

/// The units of an instance at a moment.
#[derive(Debug, Default)]
pub(super) struct Units {
    /// The unit files, by name.
    pub(super) files: BTreeMap<String, Own>,
    /// How they are.
    pub(super) states: BTreeMap<String, UnitState>,
}

impl Units {
    /// Looks at all that have a file.
    pub(super) fn look(instance: &Instance) -> Result<Units> {
        let files = files::of_instance(dir(), &instance.name)?;
        let names: Vec<String> = files
            .keys()
            .filter(|n| !n.ends_with(".slice"))
            .cloned()
            .collect();
        let states = control::show(&names)?;
        Ok(Units { files, states })
    }

    pub(super) fn state(&self, unit: &str) -> Option<&UnitState> {
        self.states.get(unit)
    }

    fn is_active(&self, unit: &str) -> bool {
        self.state(unit).is_some_and(UnitState::is_active)
    }

    /// Whether any runs.
    pub(super) fn is_any_active(&self) -> bool {
        self.states.values().any(UnitState::is_active)
    }

    /// Whether nothing is there but the network, which nobody uses.
    pub(super) fn only_network(&self) -> bool {
        let active = self.states.iter().filter(|(_, state)| state.is_active());
        let mut names = active.map(|(name, _)| name.as_str());
        names.all(|name| name.starts_with("metactl-net@"))
    }

    /// The services of daemons, or of cron jobs, with the names of their entry points.
    pub(super) fn services(&self, kind: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(move |(name, own)| {
            let fits = own.kind.as_deref() == Some(kind) && name.ends_with(".service");
            fits.then_some((name.as_str(), own.entry.as_deref()?))
        })
    }

    /// The timers.
    pub(super) fn timers(&self) -> impl Iterator<Item = &str> {
        let names = self.files.keys().map(String::as_str);
        names.filter(|name| name.ends_with(".timer"))
    }

    /// The sockets, with the names of their daemons.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.files.iter();
        files.filter_map(|(name, own)| {
            let entry = own.entry.as_deref()?;
            name.ends_with(".socket").then_some((name.as_str(), entry))
        })
    }

    /// Whether cron jobs run when it is time.
    pub(super) fn has_cron(&self, instance: &str) -> bool {
        self.is_active(&names::target(instance)) || self.timers().any(|timer| self.is_active(timer))
    }

    /// What should run: what runs, is about to, or has failed. Its word for each daemon is the one that systemd has
    /// for this run of it.
    pub(super) fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>> {
        let name = &instance.name;
        let target = self.files.get(&names::target(name));
        let Some(bundle) = target.and_then(|own| own.bundle.clone()) else {
            return Ok(None);
        };
        let mut daemons = BTreeMap::new();
        for (unit, entry) in self.services("daemon") {
            if let Some(state) = self.state(unit).filter(|state| state.is_wanted()) {
                daemons.insert(entry.to_owned(), state.invocation.clone());
            }
        }
        let cron = self.has_cron(name);
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

    /// What runs, for who wants `wanted`.
    pub(super) fn report(&self, instance: &Instance, wanted: &Wanted) -> Result<Report> {
        let bundle = instance.state_dir().join("bundles").join(&wanted.bundle);
        let manifest: Manifest = read_manifest(&bundle)?;
        let mut entries = BTreeMap::new();
        for entry in &manifest.entries {
            let unit = names::service(&instance.name, &entry.name);
            let state = self.state(&unit).cloned().unwrap_or_default();
            let ended = Ended::read(instance, &entry.name)?;
            let mut report = match entry.kind {
                EntryKind::Daemon => daemon(&state, ended),
                EntryKind::Cron => {
                    let timer = names::timer(&instance.name, &entry.name);
                    job(entry, &manifest.cron, &state, self.is_active(&timer), ended)
                }
            };
            report.generation = wanted.daemons.get(&entry.name).cloned();
            entries.insert(entry.name.clone(), report);
        }
        Ok(Report {
            format: FORMAT,
            change: Some(wanted.change.clone()),
            entries,
            notes: notes(instance, &manifest, self),
            dns: None,
        })
    }
}

/// What is worth knowing beside the entry points.
fn notes(instance: &Instance, manifest: &Manifest, units: &Units) -> Vec<String> {
    let mut notes = Vec::new();
    if manifest.dns.is_some() {
        notes.push(
            "its names are not registered in the DNS: under systemd nothing of metactl stays to do that"
                .to_owned(),
        );
    }
    let network = names::network(&instance.name);
    if units
        .state(&network)
        .is_some_and(|state| state.active == "failed")
    {
        notes.push(format!(
            "its network could not be made: journalctl -u {network}"
        ));
    }
    notes
}

fn daemon(state: &UnitState, ended: Option<Ended>) -> EntryReport {
    let last_exit = ended.map(|ended| ended.exit);
    let failed = last_exit.as_ref().is_some_and(|exit| exit.failed);
    let (word, last_exit) = match (state.active.as_str(), state.sub.as_str()) {
        ("active" | "reloading", "exited") => (EntryState::Ended, last_exit),
        ("active" | "reloading", _) => (EntryState::Running, last_exit),
        ("activating", "auto-restart" | "auto-restart-queued") => (EntryState::Waiting, last_exit),
        ("activating", _) => (EntryState::Starting, last_exit),
        ("deactivating", _) => (EntryState::Stopping, last_exit),
        ("failed", _) => (EntryState::Ended, Some(given_up(state, last_exit, failed))),
        _ => (EntryState::Stopped, last_exit),
    };
    EntryReport {
        state: word,
        last_exit,
        restarts: state.restarts,
        next: None,
        ..process(state)
    }
}

/// The exit of a unit that systemd does not start again.
fn given_up(state: &UnitState, exit: Option<Exit>, failed: bool) -> Exit {
    let reason = match (state.result.as_str(), &exit) {
        ("start-limit-hit", Some(exit)) => {
            format!(
                "{}, and was started again too often: it is given up",
                exit.reason
            )
        }
        (_, Some(exit)) if failed => exit.reason.clone(),
        (result, _) => format!("failed ({result})"),
    };
    let none = Exit {
        at: crate::files::now(),
        code: None,
        signal: None,
        reason: String::new(),
        failed: true,
    };
    Exit {
        reason,
        failed: true,
        ..exit.unwrap_or(none)
    }
}

fn job(
    entry: &EntryRef,
    cron: &CronSettings,
    state: &UnitState,
    planned: bool,
    ended: Option<Ended>,
) -> EntryReport {
    let word = match (state.active.as_str(), planned) {
        ("active" | "reloading", _) => EntryState::Running,
        ("activating", _) => EntryState::Starting,
        ("deactivating", _) => EntryState::Stopping,
        (_, true) => EntryState::Scheduled,
        (_, false) => EntryState::Stopped,
    };
    // `@reboot` has no next time.
    let timed = planned && entry.schedule.as_deref() != Some("@reboot");
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
        last_exit: ended.map(|ended| ended.exit),
        restarts: 0,
        next: next.flatten(),
        ..process(state)
    }
}

/// The process of a unit, and since when it runs.
fn process(state: &UnitState) -> EntryReport {
    let process = state.pid.and_then(|pid| ProcessId::of(pid).ok());
    let since = state.since.filter(|_| process.is_some()).map(|since| {
        let ago = monotonic_micros().saturating_sub(since);
        let ago = jiff::SignedDuration::from_micros(i64::try_from(ago).unwrap_or(0));
        let now = jiff::Timestamp::now();
        crate::files::rfc3339(now.checked_sub(ago).unwrap_or(now))
    });
    EntryReport {
        state: EntryState::Stopped,
        generation: None,
        process,
        since,
        restarts: 0,
        adopted: false,
        last_exit: None,
        says: None,
        next: None,
    }
}
