//! `cron`: the cron jobs of an instance, and running one now.
//!
//! The supervisor runs it as it runs what is due, so that a job never runs twice at once, and its output and its
//! result are where those of every run are.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::{EntryKind, EntryRef};
use serde::Serialize;

use crate::converge;
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::{Instance, LineSink, LogFile};
use crate::logs::Followed;
use crate::manager::require_root;
use crate::standalone::jobs::{JobRecord, JobRecords};
use crate::standalone::records::{Asked, EntryReport, FORMAT, new_generation};
use crate::standalone::{exits, schedule};
use crate::status::{self, EntryState, Exit};

/// How often the record of a run is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long the supervisor may take to begin a job: it may be launching others.
const BEGIN: Duration = Duration::from_secs(30);

/// A cron job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CronJob {
    /// The name of its entry point: `cron.daily-housekeeping`.
    pub entry: String,
    /// Its name as configured: `daily housekeeping`.
    pub name: String,
    /// Five fields, or `@daily` and the like.
    pub schedule: String,
    /// The time zone of that, when one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Running, scheduled, or stopped with its instance.
    pub state: EntryState,
    /// The next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// When the last run began: that which runs, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// How the last run ended that has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// Failures in a row.
    pub failures: u32,
    /// Its log.
    pub log: PathBuf,
}

impl Instance {
    /// Its cron jobs, in the order of the configuration.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn cron_jobs(&self) -> Result<Vec<CronJob>> {
        let current = self.current()?.ok_or_else(|| self.not_deployed())?;
        let report = self.look()?.report;
        let records = JobRecords::of(&self.state_dir());
        let manifest = current.manifest;
        let jobs = manifest
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Cron);
        jobs.map(|entry| {
            let known = report
                .as_ref()
                .and_then(|report| report.entries.get(&entry.name));
            let record = records.read(&entry.name)?.unwrap_or_default();
            Ok(self.cron_job(entry, manifest.cron.timezone.clone(), known, record))
        })
        .collect()
    }

    fn cron_job(
        &self,
        entry: &EntryRef,
        timezone: Option<String>,
        known: Option<&EntryReport>,
        record: JobRecord,
    ) -> CronJob {
        CronJob {
            entry: entry.name.clone(),
            name: entry.title.clone(),
            schedule: entry.schedule.clone().unwrap_or_default(),
            timezone,
            state: known.map_or(EntryState::Stopped, |known| known.state),
            next: known.and_then(|known| known.next.clone()),
            started: record.started,
            last_exit: record.exit,
            failures: record.failures,
            log: self.service_log_file(&entry.name),
        }
    }

    /// Runs a cron job now, in its instance's sandbox, and waits for its end. `sink` gets what it writes, which is
    /// also in its log. When this process ends before, the job goes on.
    ///
    /// # Errors
    /// When the instance does not run, or the job does already; a job that cannot be launched.
    pub fn cron_run(&self, name: &str, sink: &mut LineSink<'_>) -> Result<Exit> {
        require_root("running a cron job")?;
        let entry = self.entry(name)?;
        if entry.kind != EntryKind::Cron {
            return Err(LifecycleError::Usage {
                what: format!("{name} is a daemon, not a cron job"),
                hint: format!("its cron jobs: metactl {} cron list", self.name),
            });
        }
        self.service()?.run_job(self, &entry, sink)
    }

    /// Has metactl's own supervisor run a job, and waits for its end.
    pub(crate) fn run_supervised_job(
        &self,
        entry: &EntryRef,
        sink: &mut LineSink<'_>,
    ) -> Result<Exit> {
        let log = LogFile {
            entry: entry.name.clone(),
            kind: status::EntryKind::Cron,
            path: self.log_file(&entry.name),
        };
        let begun = std::fs::metadata(&log.path).map_or(0, |meta| meta.len());
        let word = self.ask(entry)?;
        let mut followed = Followed::new((&log, begun));
        let exit = loop {
            let exit = self.end_of(entry, &word)?;
            // After its end there is nothing more to come.
            print(&mut followed, sink)?;
            if let Some(exit) = exit {
                break exit;
            }
            std::thread::sleep(TICK);
        };
        if exit.code.is_none() && exit.signal.is_none() {
            return Err(LifecycleError::Start {
                entry: entry.title.clone(),
                why: exit.reason,
                log: log.path,
                tail: Vec::new(),
            });
        }
        Ok(exit)
    }

    /// A cron job runs while its instance does.
    pub(crate) fn check_has_cron(&self) -> Result<()> {
        if self.wanted()?.is_some_and(|wanted| wanted.cron) {
            return Ok(());
        }
        Err(LifecycleError::NotRunning {
            what: self.name.clone(),
            hint: format!(
                "a cron job runs in the sandbox of its instance: metactl {} start",
                self.name
            ),
        })
    }

    /// Has the supervisor begin the job; the word for this run.
    fn ask(&self, entry: &EntryRef) -> Result<String> {
        let _lock = self.lock("cron run")?;
        converge::converge(self)?;
        self.check_has_cron()?;
        let run = self.run_dir();
        let word = new_generation();
        let asked = Asked {
            format: FORMAT,
            word: word.clone(),
            refused: None,
        };
        run.write_asked(&entry.name, &asked)?;
        let begun = self.await_begin(entry, &word);
        run.remove_asked(&entry.name)?;
        begun.map(|()| word)
    }

    fn await_begin(&self, entry: &EntryRef, word: &str) -> Result<()> {
        let run = self.run_dir();
        let records = JobRecords::of(&self.state_dir());
        let deadline = Instant::now() + BEGIN;
        loop {
            run.wake();
            // One that is damaged is replaced when the job begins.
            let record = records.read(&entry.name).unwrap_or_default();
            if record.is_some_and(|record| record.asked.as_deref() == Some(word)) {
                return Ok(());
            }
            if let Some(why) = run.asked(&entry.name)?.and_then(|asked| asked.refused) {
                let since = run.report()?.and_then(|report| {
                    let known = report.entries.get(&entry.name)?.clone();
                    Some(format!(", since {}", known.since?))
                });
                let title = &entry.title;
                return Err(LifecycleError::Unavailable {
                    what: format!("cron job {title:?}: {why}{}", since.unwrap_or_default()),
                    hint: format!("metactl {} cron list", self.name),
                });
            }
            if run.supervisor()?.is_none() || Instant::now() > deadline {
                return Err(LifecycleError::Supervisor {
                    instance: self.name.clone(),
                    why: format!("does not begin cron job {:?}", entry.title),
                    log: self.supervisor_log(),
                    tail: Vec::new(),
                });
            }
            std::thread::sleep(TICK);
        }
    }

    /// How the run of this word ended; `None` while it goes on.
    fn end_of(&self, entry: &EntryRef, word: &str) -> Result<Option<Exit>> {
        let record = JobRecords::of(&self.state_dir()).read(&entry.name)?;
        match record {
            Some(record) if record.asked.as_deref() == Some(word) => match record.exit {
                None if self.run_dir().supervisor()?.is_none() => {
                    // The supervisor after this one writes that down, when somebody starts one.
                    let runs = self.runs(&entry.name);
                    Ok((!runs).then(exits::lost))
                }
                exit => Ok(exit),
            },
            // Somebody has run it again in between, or removed the instance.
            _ => Ok(Some(exits::lost())),
        }
    }

    fn runs(&self, entry: &str) -> bool {
        let id = format!("{}.{entry}", self.name);
        let process = self
            .runtime()
            .container(&id)
            .and_then(|state| state.process);
        process.is_some_and(|process| process.is_alive())
    }
}

fn print(followed: &mut Followed<'_>, sink: &mut LineSink<'_>) -> Result<()> {
    let log = followed.log;
    for line in followed.new_lines().on("read", &log.path)? {
        match sink(&log.entry, &line) {
            // Nobody reads any more: the exit code is still wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.on("print", &log.path)?,
        }
    }
    Ok(())
}

/// Refuses a time zone that this server does not know.
pub(crate) fn check_zone(app: &metactl_bundles::app::App) -> Result<()> {
    let name = app.cron_settings.timezone.as_deref();
    schedule::zone(name)
        .map(drop)
        .map_err(|why| LifecycleError::Setting {
            what: format!("[cron] timezone {why}"),
            hint:
                "names are those below /usr/share/zoneinfo (Debian: apt-get install tzdata), like \
               timezone = Europe/Berlin"
                    .to_owned(),
        })
}
