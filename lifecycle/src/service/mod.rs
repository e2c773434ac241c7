//! The service managers: who keeps instances running. One interface, [`ServiceManager`], and an implementation
//! for each.
//!
//! Commands (`change`, `deploy`, `reload`, `status`, `delete`) say what should run and look at what does; how
//! that comes true is in here, and nowhere else.
//!
//! | room | what keeps instances running |
//! | --- | --- |
//! | `standalone` | metactl's own supervisor (`crate::standalone`) |
//! | `systemd/` | systemd, by units that metactl writes |
//! | `upstart/` | Upstart, by jobs that metactl writes |
//! | `smf/` | SMF of Solaris and illumos, by manifests that metactl imports |
//! | `choice` | which one it is on this server, and why |
//! | `input` | what the texts of units and jobs are made from |
//! | `network`, `ended`, `jobs` | what is alike where no process of metactl stays: the network made and taken away, the end of an entry point, cron jobs |
//!
//! Another one is a variant of [`Kind`], a file here, and a line in [`Kind::manager`].

mod choice;
mod ended;
mod input;
mod jobs;
pub(crate) mod network;
#[cfg(test)]
mod sample;
pub(crate) mod smf;
mod standalone;
pub(crate) mod systemd;
pub(crate) mod upstart;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::EntryRef;
use metactl_netns::doctor::Finding;

pub use choice::{Choice, Kind};

pub(crate) use systemd::{Following, Journal, Starts};

use crate::error::Result;
use crate::instance::{Instance, Known, LineSink};
use crate::manager::Manager;
use crate::standalone::records::{Report, Wanted};
use crate::status::Exit;

/// A service manager. Every method is about one instance, whose lock the caller holds when something changes.
pub(crate) trait ServiceManager {
    /// Wants something from now on: what runs and is not in it is stopped, what does not run by the word that
    /// `wanted` has for it is started anew. Returns when that has begun; whether it comes up is told by
    /// [`await_report`](ServiceManager::await_report).
    fn want(&self, instance: &Instance, wanted: &Wanted) -> Result<()>;

    /// Stops everything, and takes the network away. Returns when nothing runs. `patience`: how long the daemons
    /// may take altogether.
    fn want_nothing(&self, instance: &Instance, patience: Duration) -> Result<()>;

    /// What should run; `None`: nothing.
    fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>>;

    /// What is known now.
    fn look(&self, instance: &Instance) -> Result<Look>;

    /// What is known of all instances at this moment, for who wants to know it of hundreds; `None`: each is looked at by
    /// itself.
    fn survey(&self, _manager: &Manager) -> Result<Option<Box<dyn Survey>>> {
        Ok(None)
    }

    /// Waits until `done` says so of a report about `wanted`, for `limit` at most. Whether it did.
    fn await_report(
        &self,
        instance: &Instance,
        wanted: &Wanted,
        limit: Duration,
        done: &mut Judge<'_>,
    ) -> Result<bool>;

    /// Whether a daemon with `notify = yes` runs, for it, only when it has said that it is ready.
    fn hears_ready(&self) -> bool {
        false
    }

    /// Runs a cron job now, and waits for its end; `sink` gets what it writes. Takes the instance's lock itself, while it
    /// begins.
    fn run_job(
        &self,
        instance: &Instance,
        entry: &EntryRef,
        sink: &mut LineSink<'_>,
    ) -> Result<Exit>;

    /// Whether a process of metactl stays as long as anything runs, and looks after its network and its names. Where
    /// none does, `crate::tend` is asked to, again and again.
    fn has_supervisor(&self) -> bool {
        false
    }

    /// What keeps that from its work which looks after networks and names where no supervisor does, for `metactl doctor
    /// network`; none: nothing that is known.
    fn mending(&self, manager: &Manager) -> Result<Option<Finding>>;

    /// What else of the server stands in the way of instances, for `metactl doctor`.
    fn findings(&self, _manager: &Manager) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Nothing is left that would have to be looked after again and again: what asks `crate::tend` to ends. `is_left` is asked
    /// once more after that, since somebody may just have come.
    fn rest(&self, _is_left: &dyn Fn() -> Result<bool>) -> Result<()> {
        Ok(())
    }

    /// What the cgroup is called in which those of the entry points of an instance are.
    fn group(&self, instance: &str) -> String {
        instance.to_owned()
    }

    /// Somebody has said `start` of what runs: whatever may have been in its way is looked at again at once.
    fn look_again(&self, instance: &Instance);

    /// Whether it is started when the server boots.
    fn is_enabled(&self, instance: &Instance) -> bool;

    /// Starts it when the server boots, or no longer does.
    fn enable(&self, instance: &Instance, enabled: bool) -> Result<()>;

    /// Puts right what a crash left: the caller comes here first. What was done, a sentence each.
    fn converge(&self, instance: &Instance) -> Result<Vec<String>>;

    /// The instance is deleted: nothing of it stays with the service manager.
    fn forget(&self, instance: &Instance) -> Result<()>;

    /// The digest of the bundle that is started at boot, if the service manager remembers one.
    fn bundle(&self, instance: &Instance) -> Result<Option<String>>;

    /// Where the log of an entry point is: a file, or the command that prints it.
    fn log(&self, instance: &Instance, entry: &str) -> PathBuf;

    /// The file with the log of an entry point, where it is one.
    fn log_file(&self, instance: &Instance, entry: &str) -> PathBuf {
        instance.log_file(entry)
    }

    /// The logs of entry points, where they are no files.
    fn journal(&self, instance: &Instance, entries: &[String]) -> Option<Journal>;

    /// When daemons were started, where nobody of metactl is there to tell.
    fn starts(&self, _instance: &Instance, _daemons: &[String]) -> Option<Starts> {
        None
    }

    /// How far the log of an entry point is now, for [`log_since`](ServiceManager::log_since).
    fn log_mark(&self, instance: &Instance, entry: &str) -> u64;

    /// The last `count` lines that were written to it after the mark. What cannot be read is left out: there is a
    /// more important error to tell.
    fn log_since(&self, instance: &Instance, entry: &str, mark: u64, count: usize) -> Vec<String>;
}

/// [`await_report`](ServiceManager::await_report) of those that have to be asked again and again: no later than an eighth of
/// the time that it has taken so far, but at most every tenth of `tick` and at least every `tick`.
fn poll(
    tick: Duration,
    limit: Duration,
    done: &mut Judge<'_>,
    mut look: impl FnMut() -> Result<Report>,
) -> Result<bool> {
    let begun = Instant::now();
    let deadline = begun + limit;
    loop {
        if done(&look()?)? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep((begun.elapsed() / 8).clamp(tick / 10, tick));
    }
}

/// The time of a cron job has come, or may have: [`crate::UnitStep::Job`], as a crontab says it.
pub(crate) fn due_job(instance: &Instance, entry: &str) -> Result<Vec<String>> {
    match instance.service_kind()? {
        Kind::Smf => smf::job(instance, entry),
        // Lines of Upstart's are the only other ones; it looks itself whether it has the instance.
        _ => upstart::job(instance, entry),
    }
}

/// Says whether a report is the one that was waited for.
pub(crate) type Judge<'a> = dyn FnMut(&Report) -> Result<bool> + 'a;

/// What is known of an instance at a moment.
#[derive(Debug)]
pub(crate) struct Look {
    /// What should run.
    pub(crate) wanted: Option<Wanted>,
    /// What runs, if somebody tells.
    pub(crate) report: Option<Report>,
    /// Who keeps it running.
    pub(crate) kept: Kept,
}

/// What is known of all instances at a moment.
pub(crate) trait Survey: Sync {
    /// What is known of one; `None`: it has to be looked at by itself. `known`: what is published of its bundle, if that
    /// is up to date.
    fn see(&self, instance: &Instance, known: Option<&Known>) -> Result<Option<Seen>>;
}

/// An instance, looked at.
pub(crate) struct Seen {
    /// Who keeps it running, or would.
    pub(crate) service: &'static dyn ServiceManager,
    pub(crate) look: Look,
    /// Whether its service manager has nothing to put right
    /// ([`converge`](ServiceManager::converge) would do nothing).
    pub(crate) settled: bool,
}

impl Seen {
    /// Looks at one instance.
    pub(crate) fn now(instance: &Instance) -> Result<Seen> {
        let service = instance.service()?;
        Ok(Seen {
            service,
            look: service.look(instance)?,
            settled: false,
        })
    }
}

/// Who keeps an instance running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nobody.
    No,
    /// A process of metactl.
    Process(i32),
    /// The service manager of the server.
    System,
}

impl Kept {
    pub(crate) fn is_kept(self) -> bool {
        self != Kept::No
    }

    pub(crate) fn pid(self) -> Option<i32> {
        match self {
            Kept::Process(pid) => Some(pid),
            Kept::No | Kept::System => None,
        }
    }
}

impl Instance {
    /// The one that keeps this instance running.
    pub(crate) fn service(&self) -> Result<&'static dyn ServiceManager> {
        Ok(self.service_kind()?.manager())
    }

    /// [`ServiceManager::want`]
    pub(crate) fn want(&self, wanted: &Wanted) -> Result<()> {
        self.service()?.want(self, wanted)
    }

    /// [`ServiceManager::want_nothing`]
    pub(crate) fn want_nothing(&self, patience: Duration) -> Result<()> {
        self.service()?.want_nothing(self, patience)
    }

    /// [`ServiceManager::wanted`]
    pub(crate) fn wanted(&self) -> Result<Option<Wanted>> {
        self.service()?.wanted(self)
    }

    /// [`ServiceManager::look`]
    pub(crate) fn look(&self) -> Result<Look> {
        self.service()?.look(self)
    }

    /// [`ServiceManager::log`]; where nobody knows who keeps it, the file.
    pub(crate) fn log_of(&self, entry: &str) -> PathBuf {
        let service = self.service();
        service.map_or_else(|_| self.log_file(entry), |service| service.log(self, entry))
    }

    /// [`ServiceManager::log_file`]; where nobody knows who keeps it, that of metactl.
    pub(crate) fn service_log_file(&self, entry: &str) -> PathBuf {
        let service = self.service();
        service.map_or_else(
            |_| self.log_file(entry),
            |service| service.log_file(self, entry),
        )
    }

    /// Waits until `done` has an answer to a report about `wanted`; `None`: it had none in time.
    pub(crate) fn await_report<T>(
        &self,
        wanted: &Wanted,
        limit: Duration,
        mut done: impl FnMut(&Report) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let mut answer = None;
        let judge: &mut Judge<'_> = &mut |report| {
            answer = done(report)?;
            Ok(answer.is_some())
        };
        self.service()?.await_report(self, wanted, limit, judge)?;
        Ok(answer)
    }
}
