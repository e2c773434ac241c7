//! Running a cron job: as a service that is started, and ends. `cron run` does it now; a line of the crontab, by
//! `metactl -a APP unit job ENTRY`, when its time has come.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::Duration;

use jiff::Zoned;
use jiff::tz::TimeZone;
use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::schedule::Schedule;

use super::control::{self, Programs, State};
use super::{crontab, log, names, report};
use crate::error::{LifecycleError, Result};
use crate::events::{self, Event as LogEvent};
use crate::instance::{Instance, LineSink};
use crate::service::{ended, jobs};
use crate::standalone::exits;
use crate::standalone::jobs::JobRecords;
use crate::status::Exit;
use crate::tail;

/// How often the service is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long SMF may take to begin.
const BEGIN: u32 = 150;

/// Runs a job now, and waits for its end.
pub(super) fn run(
    programs: &dyn Programs,
    instance: &Instance,
    entry: &EntryRef,
    sink: &mut LineSink<'_>,
) -> Result<Exit> {
    let begun = jobs::begin_now(instance, || {
        begin(programs, instance, entry)?.ok_or_else(|| jobs::runs_already(instance, entry, None))
    })?;
    end(programs, instance, entry, &begun, sink)
}

/// Its time has come. What is worth a line in the log of whoever runs this.
pub(super) fn due(programs: &dyn Programs, instance: &Instance, name: &str) -> Result<Vec<String>> {
    let entry = instance.entry(name)?;
    if entry.kind != EntryKind::Cron {
        return Err(LifecycleError::Usage {
            what: format!("{name} is a daemon, not a cron job"),
            hint: format!("its cron jobs: metactl {} cron list", instance.name),
        });
    }
    let current = instance.deployed()?;
    let settings = &current.manifest.cron;
    if !is_of_today(&entry, settings.timezone.as_deref()) {
        return Ok(Vec::new());
    }
    let most = u64::try_from(settings.delay.as_millis()).unwrap_or(u64::MAX);
    let random = RandomState::new().hash_one(0).checked_rem(most);
    std::thread::sleep(Duration::from_millis(random.unwrap_or(0)));
    let begun = {
        let _lock = instance.lock("cron job")?;
        // Stopped, an instance has no jobs, whatever the crontab says.
        if !report::has_cron(&control::look(programs, &instance.name)?) {
            return Ok(Vec::new());
        }
        match begin(programs, instance, &entry)? {
            Some(begun) => begun,
            None => return Ok(vec![format!("{name} still runs: this time is left out")]),
        }
    };
    let exit = end(programs, instance, &entry, &begun, &mut |_, _| Ok(()))?;
    match exit.failed {
        true => ended::tell(instance, &entry, &exit, None, begun.log),
        false => Ok(Vec::new()),
    }
}

/// Whether the day of the week is one of its schedule, where Solaris cannot say that.
fn is_of_today(entry: &EntryRef, zone: Option<&str>) -> bool {
    let schedule = entry.schedule.as_deref().map(Schedule::parse);
    let Some(Ok(Schedule::Times(times))) = schedule else {
        return true;
    };
    // A zone that is not known is refused where the crontab is written.
    let zone = zone.and_then(|zone| TimeZone::get(zone).ok());
    let now = Zoned::now().with_time_zone(zone.unwrap_or_else(TimeZone::system));
    let weekday = now.weekday().to_sunday_zero_offset();
    crontab::fits_today(&times, u32::from(weekday.unsigned_abs()))
}

/// A run that has begun.
struct Begun {
    fmri: String,
    log: std::path::PathBuf,
    /// How long the log was.
    mark: u64,
    /// How its service was before: it is another when the run has begun.
    before: String,
}

/// Has SMF start the job; `None`: it runs already.
fn begin(programs: &dyn Programs, instance: &Instance, entry: &EntryRef) -> Result<Option<Begun>> {
    let states = control::look(programs, &instance.name)?;
    let fmri = names::fmri(&instance.name, &entry.name);
    let state = states
        .get(&names::entry(&entry.name))
        .cloned()
        .unwrap_or_default();
    if state.is_starting() {
        return Ok(None);
    }
    if state.is_wanted() || state.state == "maintenance" {
        control::disable(programs, &fmri)?;
    }
    let log = report::log_of(&states, &instance.name, &entry.name);
    let mark = std::fs::metadata(&log).map_or(0, |meta| meta.len());
    let before = state_of(programs, instance, entry)?.since;
    let records = JobRecords::of(&instance.state_dir());
    let mut record = records
        .read(&entry.name)
        .unwrap_or_default()
        .unwrap_or_default();
    record.begin(None);
    records.write(&entry.name, &record)?;
    control::enable(programs, &fmri)?;
    Ok(Some(Begun {
        fmri,
        log,
        mark,
        before,
    }))
}

fn state_of(programs: &dyn Programs, instance: &Instance, entry: &EntryRef) -> Result<State> {
    let mut states = control::look(programs, &instance.name)?;
    Ok(states
        .remove(&names::entry(&entry.name))
        .unwrap_or_default())
}

/// Waits for the end of a run, and records it.
fn end(
    programs: &dyn Programs,
    instance: &Instance,
    entry: &EntryRef,
    begun: &Begun,
    sink: &mut LineSink<'_>,
) -> Result<Exit> {
    let mut waited = 0;
    let state = loop {
        let state = state_of(programs, instance, entry)?;
        let ended = matches!(state.state.as_str(), "online" | "maintenance" | "disabled");
        let changed = state.since != begun.before;
        if ended && state.next.is_empty() && changed {
            break state;
        }
        waited += 1;
        if !changed && waited > BEGIN {
            let why = control::explain(programs, &begun.fmri);
            control::disable(programs, &begun.fmri)?;
            return Err(LifecycleError::Start {
                entry: entry.title.clone(),
                why: why.unwrap_or_else(|| "SMF has not started it".to_owned()),
                log: begun.log.clone(),
                tail: Vec::new(),
            });
        }
        std::thread::sleep(TICK);
    };
    // Where the log is, SMF says when there was something to write.
    let (log_path, mark) = match &state.log {
        Some(log) if Path::new(log) != begun.log => (Path::new(log), 0),
        _ => (begun.log.as_path(), begun.mark),
    };
    let lines = tail::since(log_path, mark, jobs::LINES);
    let code = lines.iter().rev().find_map(|line| log::exit_code(line));
    let own = |line: &&String| log::event(line).is_none() && log::exit_code(line).is_none();
    jobs::print(entry, lines.iter().filter(own), &begun.log, sink)?;
    let exit = match (code, state.state.as_str()) {
        (Some(code), _) => exits::describe(Some(code), None, false, false),
        (None, "maintenance") => Exit {
            reason: control::explain(programs, &begun.fmri)
                .unwrap_or_else(|| "SMF has put it into maintenance".to_owned()),
            failed: true,
            ..exits::lost()
        },
        (None, _) => exits::lost(),
    };
    let records = JobRecords::of(&instance.state_dir());
    let mut record = records
        .read(&entry.name)
        .unwrap_or_default()
        .unwrap_or_default();
    record.ended(exit.clone());
    records.write(&entry.name, &record)?;
    events::tell(
        &instance.log_dir(),
        &LogEvent::ended(entry, &exit, !exit.failed),
    );
    // One of `@reboot` stays, so that it is known that it ran.
    if state.kind != "boot" && state.state != "disabled" {
        control::disable(programs, &begun.fmri)?;
    }
    Ok(exit)
}
