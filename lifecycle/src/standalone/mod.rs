//! metactl's own service manager, where there is no other: one supervisor process per instance.
//!
//! Commands never start or stop anything themselves. They write what should run (`records`), see
//! to it that a supervisor is there, and watch what it reports. So whoever is killed, command or
//! supervisor, what should run stays written down.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `records` | the files between commands and supervisor |
//! | `supervisor` | the process: its loop |
//! | `entry` | one daemon, as a machine of states: when it is started again |
//! | `schedule` | when cron jobs run |
//! | `network` | the network, and the resolver kept running |
//! | `exits` | how a process ended, in words |
//! | `notify` | telling somebody that an entry point failed |
//! | `rotate` | logs that do not grow for ever |

pub(crate) mod entry;
pub(crate) mod exits;
pub(crate) mod network;
pub(crate) mod notify;
pub(crate) mod records;
mod rotate;
pub(crate) mod schedule;
mod supervisor;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use network::needs_resolver;
pub(crate) use supervisor::supervise;

pub(crate) use rotate::KEEP as KEPT_LOGS;

use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::Instance;
use crate::launcher::append;
use crate::tail;
use records::{FORMAT, Report, Wanted, new_generation};

/// How often a report is looked at while something is awaited.
const TICK: Duration = Duration::from_millis(3);
/// How long a new supervisor may take to see what is wanted.
const BEGIN: Duration = Duration::from_secs(15);
/// How long stopping may take longer than the daemons' own times.
const STOP_GRACE: Duration = Duration::from_secs(20);
/// How many lines of a log go into an error.
const TAIL: usize = 12;

impl Instance {
    /// To want these daemons of a bundle, started anew, and the cron jobs.
    pub(crate) fn everything(
        &self,
        bundle: &str,
        daemons: impl Iterator<Item = String>,
    ) -> Result<Wanted> {
        let change = new_generation();
        Ok(Wanted {
            format: FORMAT,
            daemons: daemons.map(|name| (name, change.clone())).collect(),
            change,
            bundle: bundle.to_owned(),
            cron: true,
            uplink: self.server()?.uplink,
        })
    }

    /// Wants something from now on, and returns when the supervisor has seen it.
    pub(crate) fn want_supervised(&self, wanted: &Wanted) -> Result<()> {
        let run = self.run_dir();
        run.write_wanted(wanted)?;
        let deadline = Instant::now() + BEGIN;
        let log = self.supervisor_log();
        let from = std::fs::metadata(&log).map_or(0, |meta| meta.len());
        let mut spawned: Option<std::process::Child> = None;
        loop {
            if run
                .report()?
                .is_some_and(|report| report.change.as_ref() == Some(&wanted.change))
                && run.supervisor()?.is_some()
            {
                return Ok(());
            }
            if run.supervisor()?.is_some() {
                run.wake();
            } else if let Some(child) = &mut spawned {
                if let Some(status) = child.try_wait().on("run", &self.manager.metactl)? {
                    return Err(self.supervisor_failed(&format!("ended ({status})"), from));
                }
            } else {
                spawned = Some(self.spawn_supervisor()?);
            }
            if Instant::now() > deadline {
                return Err(self.supervisor_failed("does not begin", from));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Starts a supervisor of its own session, with nothing of this process's environment but
    /// where metactl's directories are.
    fn spawn_supervisor(&self) -> Result<std::process::Child> {
        let paths = &self.manager.paths;
        let log = append(&self.supervisor_log())?;
        let out = log.try_clone().on("write", &self.supervisor_log())?;
        let mut command = Command::new(&self.manager.metactl);
        command.args(["-a", &self.name, "supervise"]);
        command
            .env_clear()
            .env("PATH", metactl_bundles::view::PATH)
            .env("LANG", "C.UTF-8");
        command.env("METACTL_CONFIG_DIR", &paths.config);
        command.env("METACTL_STATE_DIR", &paths.state);
        command.env("METACTL_CACHE_DIR", &paths.cache);
        command.env("METACTL_LOG_DIR", &paths.log);
        command.env("METACTL_RUN_DIR", &paths.run);
        command.env("METACTL_RUNTIME", &self.manager.runtime);
        if let Some(zone) = std::env::var_os("TZ") {
            command.env("TZ", zone);
        }
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log);
        command
            .spawn()
            .map_err(|error| LifecycleError::Unavailable {
                what: format!(
                    "cannot start {} as supervisor: {error}",
                    self.manager.metactl.display()
                ),
                hint: String::new(),
            })
    }

    /// Stops everything: returns when nothing runs and the supervisor is gone.
    pub(crate) fn stop_supervised(&self, patience: Duration) -> Result<()> {
        let run = self.run_dir();
        run.clear_wanted()?;
        let limit = patience + STOP_GRACE;
        let deadline = Instant::now() + limit;
        while run.supervisor()?.is_some() {
            run.wake();
            if Instant::now() > deadline {
                return Err(LifecycleError::Stop {
                    what: self.name.clone(),
                    seconds: limit.as_secs(),
                    log: self.supervisor_log(),
                });
            }
            std::thread::sleep(TICK);
        }
        self.clear_run_dir()
    }

    /// Waits until `done` says so of the supervisor's report about `wanted`.
    pub(crate) fn await_supervised<T>(
        &self,
        wanted: &Wanted,
        limit: Duration,
        mut done: impl FnMut(&Report) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let run = self.run_dir();
        let deadline = Instant::now() + limit;
        loop {
            let report = run
                .report()?
                .filter(|r| r.change.as_ref() == Some(&wanted.change));
            if let Some(report) = report
                && let Some(result) = done(&report)?
            {
                return Ok(Some(result));
            }
            if run.supervisor()?.is_none() {
                return Err(self.supervisor_failed("is gone", 0));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(TICK);
        }
    }

    fn supervisor_failed(&self, why: &str, from: u64) -> LifecycleError {
        let log = self.supervisor_log();
        LifecycleError::Supervisor {
            instance: self.name.clone(),
            why: why.to_owned(),
            tail: tail::since(&log, from, TAIL),
            log,
        }
    }
}

/// The same as `before`, with other daemons.
pub(crate) fn with_daemons(before: &Wanted, daemons: BTreeMap<String, String>) -> Wanted {
    Wanted {
        change: new_generation(),
        daemons,
        ..before.clone()
    }
}
