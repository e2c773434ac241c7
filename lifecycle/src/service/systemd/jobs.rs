//! Running a cron job now: its unit is started, and what it writes is in the journal.

use std::time::Duration;

use metactl_bundles::bundle::EntryRef;

use super::{Systemd, control, names};
use crate::error::Result;
use crate::instance::{Instance, LineSink};
use crate::service::{ServiceManager, jobs};
use crate::standalone::exits;
use crate::standalone::jobs::JobRecords;
use crate::standalone::records::EntryReport;
use crate::status::{EntryState, Exit};

/// How often the unit is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Runs a job, and waits for its end.
pub(super) fn run(instance: &Instance, entry: &EntryRef, sink: &mut LineSink<'_>) -> Result<Exit> {
    let mark = Systemd.log_mark(instance, &entry.name);
    jobs::begin_now(instance, || match runs_since(instance, entry)? {
        Some(since) => Err(jobs::runs_already(instance, entry, Some(&since))),
        None => control::start(&[names::service(&instance.name, &entry.name)]),
    })?;
    while runs_since(instance, entry)?.is_some() {
        std::thread::sleep(TICK);
    }
    let lines = Systemd.log_since(instance, &entry.name, mark, jobs::LINES);
    jobs::print(entry, &lines, &instance.log_file(&entry.name), sink)?;
    let record = JobRecords::of(&instance.state_dir()).read(&entry.name)?;
    Ok(record
        .and_then(|record| record.exit)
        .unwrap_or_else(exits::lost))
}

/// Since when the job runs, if it does.
fn runs_since(instance: &Instance, entry: &EntryRef) -> Result<Option<String>> {
    let report = Systemd.look(instance)?.report;
    let known = report.and_then(|mut report| report.entries.remove(&entry.name));
    let runs = |known: &EntryReport| {
        matches!(
            known.state,
            EntryState::Running | EntryState::Starting | EntryState::Stopping
        )
    };
    Ok(known
        .filter(runs)
        .map(|known| known.since.unwrap_or_else(crate::files::now)))
}
