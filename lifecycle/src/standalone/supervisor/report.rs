//! What the supervisor tells: `status.json`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::entry::{Daemon, Phase};
use super::super::records::{EntryReport, FORMAT, Report};
use super::Supervisor;
use crate::files;
use crate::status::EntryState;

impl Supervisor {
    fn report(&self) -> Report {
        let mut entries = BTreeMap::new();
        for (name, daemon) in &self.daemons {
            let wanted = self.wanted.as_ref();
            let wanted = wanted.is_some_and(|wanted| wanted.daemons.contains_key(name));
            entries.insert(name.clone(), self.daemon_report(name, daemon, wanted));
        }
        for (name, job) in &self.jobs {
            let alive = self.alive.get(name);
            let cron = self.wanted.as_ref().is_some_and(|wanted| wanted.cron);
            let state = match (alive, cron) {
                (Some(_), _) => EntryState::Running,
                (None, true) => EntryState::Scheduled,
                (None, false) => EntryState::Stopped,
            };
            let report = EntryReport {
                state,
                generation: None,
                process: alive.map(|alive| alive.process.clone()),
                since: alive.map(|alive| alive.since.clone()),
                restarts: 0,
                adopted: alive.is_some_and(|alive| alive.adopted),
                last_exit: job.record.exit.clone(),
                says: None,
                next: job.next_rfc3339().filter(|_| cron),
            };
            entries.insert(name.clone(), report);
        }
        let mut notes = self.network.notes();
        notes.extend(self.trouble.clone());
        let wanted = self.wanted.iter().flat_map(|wanted| wanted.daemons.keys());
        notes.extend(wanted.filter_map(|name| {
            let missing = self.missing_for(name, 0)?;
            Some(format!(
                "{name} waits for {missing}, which it requires and which does not run"
            ))
        }));
        notes.extend(self.jobs.values().filter_map(|job| job.trouble.clone()));
        let change = self.wanted.as_ref().map(|wanted| wanted.change.clone());
        Report {
            format: FORMAT,
            change,
            entries,
            notes,
            dns: self.registrar.status(),
        }
    }

    fn daemon_report(&self, name: &str, daemon: &Daemon, wanted: bool) -> EntryReport {
        let alive = self.alive.get(name);
        let (state, next) = match daemon.phase {
            Phase::Idle if wanted => (EntryState::Starting, None),
            Phase::Idle => (EntryState::Stopped, None),
            Phase::Waiting(at) => {
                let pause = at.saturating_duration_since(Instant::now());
                let at = jiff::Timestamp::now().checked_add(pause).ok();
                (EntryState::Waiting, at.map(files::rfc3339))
            }
            Phase::Beginning(_) => (EntryState::Starting, None),
            Phase::Running(_) => (EntryState::Running, None),
            Phase::Stopping(_) | Phase::Aborting(_, _) => (EntryState::Stopping, None),
            Phase::Ended => (EntryState::Ended, None),
        };
        EntryReport {
            state,
            generation: daemon.generation.clone(),
            process: alive.map(|alive| alive.process.clone()),
            since: alive.map(|alive| alive.since.clone()),
            restarts: daemon.restarts,
            adopted: alive.is_some_and(|alive| alive.adopted),
            last_exit: daemon.last_exit.clone(),
            says: self.says(name),
            next,
        }
    }

    /// What a daemon says of itself.
    fn says(&self, name: &str) -> Option<String> {
        let listener = self.listeners.get(name)?;
        listener.status().map(str::to_owned)
    }

    pub(super) fn tell(&mut self) {
        let report = self.report();
        if self.told.as_ref() == Some(&report) {
            return;
        }
        match self.run.write_report(&report) {
            Ok(()) => self.told = Some(report),
            Err(error) => self.say(&error.to_string()),
        }
    }
}
