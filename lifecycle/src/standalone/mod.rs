//! metactl's own service manager, where there is no other: one supervisor process for all instances.
//!
//! Commands never start or stop anything themselves. They write what should run (`records`), see
//! to it that a supervisor is there, and watch what it reports. So whoever is killed, command or
//! supervisor, what should run stays written down.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `records` | the files between commands and supervisor |
//! | `server` | the process: a thread for each instance, boot, signals |
//! | `supervisor` | such a thread: its loop |
//! | `entry` | one daemon, as a machine of states: when it is started again |
//! | `schedule`, `calendar` | when cron jobs run, and what a clock that is moved does to that |
//! | `jobs` | what is remembered of cron jobs |
//! | `network` | the network, and the resolver kept running |
//! | `process` | processes by their descriptors |
//! | `exits` | how a process ended, in words |
//! | `notify` | telling somebody that an entry point failed |
//! | `told` | what daemons tell by themselves: ready, alive, and how they are |
//! | `rotate` | logs that do not grow for ever |

pub(crate) mod calendar;
pub(crate) mod entry;
pub(crate) mod exits;
pub(crate) mod jobs;
pub(crate) mod network;
pub(crate) mod notify;
mod process;
pub(crate) mod records;
mod rotate;
pub(crate) mod schedule;
mod server;
mod supervisor;
pub(crate) mod told;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use network::needs_resolver;
pub(crate) use server::{Server, limit_before, supervise, supervise_all};
pub(crate) use supervisor::supervise_alone;

pub(crate) use rotate::KEEP as KEPT_LOGS;

use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::Instance;
use crate::tail;
use records::{FORMAT, Report, SupervisorRecord, Wanted, new_generation};
use server::ServerRecord;

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
        let mut supervisor = Spawned::of(self);
        loop {
            let is_there = run.supervisor()?.is_some();
            let seen = |report: &Report| report.change.as_ref() == Some(&wanted.change);
            if is_there && run.report()?.is_some_and(|report| seen(&report)) {
                return Ok(());
            }
            if is_there {
                run.wake();
            } else {
                supervisor.ensure(&self.name)?;
            }
            if Instant::now() > deadline {
                return Err(self.supervisor_failed("does not begin", from));
            }
            std::thread::sleep(TICK);
        }
    }

    /// Has a supervisor of this instance alone replaced by the one of the server. Nothing is
    /// restarted. Returns what was done.
    pub(crate) fn be_replaced(&self, record: &SupervisorRecord) -> Result<Vec<String>> {
        let server = Server::of(&self.manager);
        let is_own = |running: &ServerRecord| running.process == record.process;
        if server.running()?.as_ref().is_some_and(is_own) || self.run_dir().wanted()?.is_none() {
            return Ok(Vec::new());
        }
        let mut supervisor = Spawned::of(self);
        let deadline = Instant::now() + BEGIN;
        let is_other = |now: &SupervisorRecord| now.process != record.process;
        while !self.run_dir().supervisor()?.as_ref().is_some_and(is_other) {
            supervisor.ensure(&self.name)?;
            if Instant::now() > deadline {
                return Err(self.supervisor_failed("does not take its place", 0));
            }
            std::thread::sleep(TICK);
        }
        let line = "a supervisor of an earlier metactl was replaced; nothing was restarted";
        Ok(vec![line.to_owned()])
    }

    /// Stops everything: returns when nothing runs and the supervisor is gone.
    pub(crate) fn stop_supervised(&self, patience: Duration) -> Result<()> {
        let run = self.run_dir();
        run.clear_wanted()?;
        let limit = patience + STOP_GRACE;
        let deadline = Instant::now() + limit;
        let server = Server::of(&self.manager);
        while run.supervisor()?.is_some() {
            run.wake();
            // Its thread may have failed, and wait for its time.
            server.wake();
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

/// The supervisor of the server, started when there is none.
struct Spawned {
    server: Server,
    child: Option<std::process::Child>,
    /// How long its log was before.
    from: u64,
}

impl Spawned {
    fn of(instance: &Instance) -> Spawned {
        let server = Server::of(&instance.manager);
        Spawned {
            from: std::fs::metadata(server.log()).map_or(0, |meta| meta.len()),
            server,
            child: None,
        }
    }

    /// Wakes it, or starts it; who asked looks again in a moment.
    fn ensure(&mut self, instance: &str) -> Result<()> {
        if self.server.running()?.is_some() {
            self.server.wake();
        } else if let Some(child) = &mut self.child {
            match child.try_wait().on("run", "metactl supervise".as_ref())? {
                None => {}
                // Somebody else's was there at that moment.
                Some(status) if status.success() => self.child = None,
                Some(status) => {
                    let why = format!("ended ({status})");
                    return Err(self.server.failed(instance, &why, self.from));
                }
            }
        } else {
            self.child = Some(self.server.spawn()?);
        }
        Ok(())
    }
}

/// Forgets what is wanted of an instance of which nothing runs any more, as after a reboot that kept the run
/// directory: it was not stopped by anybody, but is not begun behind anybody's back either.
fn displaced_if_idle(instance: &Instance) -> Result<()> {
    let Some(_lock) = instance.try_lock("boot")? else {
        // A command is at work, and knows what it wants.
        return Ok(());
    };
    let runs = instance
        .runtime()
        .containers(&format!("{}.", instance.name))?
        .iter()
        .any(|state| state.status() == metactl_runtime::state::Status::Running);
    match runs {
        true => Ok(()),
        false => crate::converge::supervise_again(instance).map(drop),
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
