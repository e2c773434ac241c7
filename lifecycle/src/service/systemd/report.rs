//! What runs, from the states of units to metactl's words.

use std::collections::BTreeMap;
use std::time::Duration;

use metactl_bundles::bundle::{EntryKind, EntryRef, read_manifest};
use metactl_bundles::schedule::CronSettings;
use metactl_runtime::ProcessId;

use super::files::{self, Own};
use super::states::{self, UnitState};
use super::{dir, monotonic_micros, names};
use crate::dns;
use crate::error::Result;
use crate::instance::{Instance, Known};
use crate::service::ended::Ended;
use crate::service::{Kept, Look};
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
        let mut units = Units {
            files: files::of_instance(dir(), &instance.name)?,
            states: BTreeMap::new(),
        };
        units.look_again()?;
        Ok(units)
    }

    /// Looks at the same again.
    pub(super) fn look_again(&mut self) -> Result<()> {
        let names = self.files.keys().filter(|name| !name.ends_with(".slice"));
        let names: Vec<String> = names.cloned().collect();
        self.states = states::of(&names)?;
        Ok(())
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
        names.all(|name| name.starts_with(names::NETWORK))
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
    pub(super) fn wanted(&self, instance: &Instance, uplink: Option<String>) -> Option<Wanted> {
        let name = &instance.name;
        let bundle = self.files.get(&names::target(name))?.bundle.clone()?;
        let mut daemons = BTreeMap::new();
        for (unit, entry) in self.services("daemon") {
            if let Some(state) = self.state(unit).filter(|state| state.is_wanted()) {
                daemons.insert(entry.to_owned(), state.invocation.clone());
            }
        }
        let cron = self.has_cron(name);
        if daemons.is_empty() && !cron {
            return None;
        }
        Some(Wanted {
            format: FORMAT,
            change: bundle.clone(),
            bundle,
            daemons,
            cron,
            uplink,
        })
    }

    /// All that is known of the instance. `known`: what is published of its bundle, if that is up to date.
    pub(super) fn told(
        &self,
        instance: &Instance,
        uplink: Option<String>,
        known: Option<&Known>,
    ) -> Result<Look> {
        let wanted = self.wanted(instance, uplink);
        let report = wanted
            .as_ref()
            .map(|wanted| self.report(instance, wanted, known));
        let kept = match wanted.is_some() || self.is_any_active() {
            true => Kept::System,
            false => Kept::No,
        };
        Ok(Look {
            kept,
            report: report.transpose()?,
            wanted,
        })
    }

    /// What runs, for who wants `wanted`. `known` as above.
    pub(super) fn report(
        &self,
        instance: &Instance,
        wanted: &Wanted,
        known: Option<&Known>,
    ) -> Result<Report> {
        let outline = Outline::of(instance, &wanted.bundle, known)?;
        let mut entries = BTreeMap::new();
        for entry in &outline.entries {
            let unit = names::service(&instance.name, &entry.name);
            let state = self.state(&unit).cloned().unwrap_or_default();
            let ended = Ended::read(instance, &entry.name)?;
            let mut report = match entry.kind {
                EntryKind::Daemon => daemon(entry, &state, ended),
                EntryKind::Cron => {
                    let timer = names::timer(&instance.name, &entry.name);
                    job(entry, &outline.cron, &state, self.is_active(&timer), ended)
                }
            };
            report.generation = wanted.daemons.get(&entry.name).cloned();
            entries.insert(entry.name.clone(), report);
        }
        Ok(Report {
            format: FORMAT,
            change: Some(wanted.change.clone()),
            entries,
            notes: notes(instance, self),
            dns: dns::status(instance),
        })
    }
}

/// What is to be known of a bundle to tell what runs of it.
struct Outline {
    entries: Vec<EntryRef>,
    cron: CronSettings,
}

impl Outline {
    /// Bundles are root's alone; for the others there is what is published of the one in use, which is read sooner, too.
    fn of(instance: &Instance, digest: &str, known: Option<&Known>) -> Result<Outline> {
        if let Some(known) = known.filter(|known| known.bundle == digest) {
            return Ok(Outline {
                entries: known.entries.clone(),
                cron: known.cron.clone(),
            });
        }
        if !nix::unistd::geteuid().is_root() {
            let known = instance.known()?;
            let (entries, cron) = known.map(|known| (known.entries, known.cron)).unzip();
            return Ok(Outline {
                entries: entries.unwrap_or_default(),
                cron: cron.unwrap_or_default(),
            });
        }
        let bundle = instance.state_dir().join("bundles").join(digest);
        let manifest = read_manifest(&bundle)?;
        Ok(Outline {
            entries: manifest.entries,
            cron: manifest.cron,
        })
    }
}

/// What is worth knowing beside the entry points.
fn notes(instance: &Instance, units: &Units) -> Vec<String> {
    let mut notes = Vec::new();
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

fn daemon(entry: &EntryRef, state: &UnitState, ended: Option<Ended>) -> EntryReport {
    // systemd has no word for it: what it does not start again, although it should, it has given up.
    let too_often = ended
        .as_ref()
        .is_some_and(|ended| ended.is_to_be_started_again(entry));
    let last_exit = ended.map(|ended| ended.exit);
    let failed = last_exit.as_ref().is_some_and(|exit| exit.failed);
    let (word, last_exit) = match (state.active.as_str(), state.sub.as_str()) {
        ("active" | "reloading", "exited") => (EntryState::Ended, last_exit),
        ("active" | "reloading", _) => (EntryState::Running, last_exit),
        ("activating", "auto-restart" | "auto-restart-queued") => (EntryState::Waiting, last_exit),
        ("activating", _) => (EntryState::Starting, last_exit),
        ("deactivating", _) => (EntryState::Stopping, last_exit),
        ("failed", _) => (
            EntryState::Ended,
            Some(given_up(state, last_exit, failed, too_often)),
        ),
        _ => (EntryState::Stopped, last_exit),
    };
    let says = Some(state.says.clone()).filter(|says| entry.service.notify && !says.is_empty());
    EntryReport {
        state: word,
        last_exit,
        restarts: state.restarts,
        says,
        next: None,
        ..process(state)
    }
}

/// The exit of a unit that systemd does not start again.
fn given_up(state: &UnitState, exit: Option<Exit>, failed: bool, too_often: bool) -> Exit {
    let reason = match (state.result.as_str(), &exit) {
        (result, Some(exit)) if too_often || result == "start-limit-hit" => {
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
    let since = state.since.filter(|_| state.is_active()).map(|since| {
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
