//! Running a cron job now: its unit is started, and what it writes is in the journal.

use std::io;
use std::time::Duration;

use metactl_bundles::bundle::EntryRef;

use super::{Systemd, control, names};
use crate::converge;
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::{Instance, LineSink};
use crate::service::ServiceManager;
use crate::standalone::exits;
use crate::standalone::jobs::JobRecords;
use crate::standalone::records::EntryReport;
use crate::status::{EntryState, Exit};

/// How often the unit is looked at.
const TICK: Duration = Duration::from_millis(100);
/// The most lines of a run that are printed.
const LINES: usize = 100_000;

/// Runs a job, and waits for its end.
pub(super) fn run(instance: &Instance, entry: &EntryRef, sink: &mut LineSink<'_>) -> Result<Exit> {
    let mark = Systemd.log_mark(instance, &entry.name);
    {
        let _lock = instance.lock("cron run")?;
        converge::converge(instance)?;
        instance.check_has_cron()?;
        if let Some(since) = runs_since(instance, entry)? {
            return Err(LifecycleError::Unavailable {
                what: format!("cron job {:?} runs already, since {since}", entry.title),
                hint: format!("metactl {} cron list", instance.name),
            });
        }
        control::act("start", &[names::service(&instance.name, &entry.name)])?;
    }
    while runs_since(instance, entry)?.is_some() {
        std::thread::sleep(TICK);
    }
    for line in Systemd.log_since(instance, &entry.name, mark, LINES) {
        match sink(&entry.name, &line) {
            // Nobody reads any more: the exit code is still wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            other => other.on("print", &instance.log_file(&entry.name))?,
        }
    }
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
