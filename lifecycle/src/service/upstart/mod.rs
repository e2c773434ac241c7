//! Upstart keeps instances running: metactl writes jobs and asks Upstart for them, and no process of metactl stays but
//! the runtime of each sandbox.
//!
//! What should run is what Upstart says that runs: a job that somebody starts or stops by hand counts as much as one
//! that metactl does.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `names` | what the jobs are called |
//! | `render` | the jobs as text; `quote`: words that Upstart and the shell understand alike; `crontab`: the lines for cron |
//! | `plain` | the command without its sandbox; `kernel`: whether there can be one |
//! | `files` | writing and removing them |
//! | `control` | `initctl` |
//! | `report` | what runs |
//! | `want` | from what runs to what should; `order`: what comes before what |
//! | `steps` | what the jobs and cron ask of metactl |
//! | `doctor` | what to say about the server |

mod control;
mod crontab;
mod doctor;
mod files;
mod kernel;
mod names;
mod order;
mod plain;
mod quote;
mod render;
mod report;
mod steps;
mod want;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use metactl_bundles::bundle::EntryRef;
use metactl_netns::doctor::Finding;

pub(crate) use steps::{booted, event, job, prepare, stopped};

use super::{Journal, Judge, Kept, Look, ServiceManager, jobs, poll};
use crate::error::Result;
use crate::instance::{Instance, LineSink};
use crate::manager::Manager;
use crate::standalone::exits;
use crate::standalone::jobs::JobRecords;
use crate::standalone::records::Wanted;
use crate::status::Exit;
use crate::{converge, tail};

/// How often jobs are looked at while something is awaited.
const TICK: Duration = Duration::from_millis(100);
/// How long the record of an end may come after it.
const RECORD: Duration = Duration::from_secs(10);
/// The oldest version whose stanzas suffice.
const OLDEST: (u32, u32) = (1, 5);

/// Where the jobs are.
fn dir() -> &'static Path {
    Path::new(files::DIR)
}

/// Where they and the crontabs are.
fn dirs() -> (&'static Path, &'static Path) {
    (dir(), Path::new(files::CRON_DIR))
}

/// Where the runtime leaves the exit code of an entry point.
fn exit_file(run_dir: &Path, entry: &str) -> PathBuf {
    run_dir.join("exits").join(entry)
}

/// What Upstart says that it is, when it is process 1; and whether it is new enough.
pub(super) fn running() -> Option<(String, bool)> {
    let name = std::fs::read_to_string("/proc/1/comm").ok()?;
    if name.trim() != "init" {
        return None;
    }
    let version = control::version()?;
    let number = parse_version(&version)?;
    Some((version, number >= OLDEST))
}

/// The number in `init (upstart 1.12.1)`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number = text.split_once("(upstart ")?.1.split(')').next()?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// Upstart.
pub(crate) struct Upstart;

impl ServiceManager for Upstart {
    fn want(&self, instance: &Instance, wanted: &Wanted) -> Result<()> {
        want::want(instance, wanted)
    }

    fn want_nothing(&self, instance: &Instance, _patience: Duration) -> Result<()> {
        want::nothing(instance)
    }

    fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>> {
        report::Jobs::look(instance)?.wanted(instance)
    }

    fn look(&self, instance: &Instance) -> Result<Look> {
        let jobs = report::Jobs::look(instance)?;
        let wanted = jobs.wanted(instance)?;
        let report = wanted.as_ref().map(|wanted| jobs.report(instance, wanted));
        let is_kept = wanted.is_some() || jobs.active().next().is_some();
        Ok(Look {
            kept: if is_kept { Kept::System } else { Kept::No },
            report: report.transpose()?,
            wanted,
        })
    }

    fn await_report(
        &self,
        instance: &Instance,
        wanted: &Wanted,
        limit: Duration,
        done: &mut Judge<'_>,
    ) -> Result<bool> {
        poll(TICK, limit, done, || {
            report::Jobs::look(instance)?.report(instance, wanted)
        })
    }

    fn run_job(
        &self,
        instance: &Instance,
        entry: &EntryRef,
        sink: &mut LineSink<'_>,
    ) -> Result<Exit> {
        let mark = self.log_mark(instance, &entry.name);
        let job = names::entry(&instance.name, &entry.name);
        jobs::begin_now(instance, || match steps::begin(instance, entry)? {
            true => Ok(()),
            false => Err(jobs::runs_already(instance, entry, None)),
        })?;
        while control::list()?
            .get(&job)
            .is_some_and(control::JobState::is_active)
        {
            std::thread::sleep(TICK);
        }
        let exit = end_of(instance, entry)?;
        let lines = self.log_since(instance, &entry.name, mark, jobs::LINES);
        jobs::print(entry, &lines, &names::log(&job), sink)?;
        Ok(exit)
    }

    fn mending(&self, _: &Manager) -> Result<Option<Finding>> {
        // Whoever runs the server has a line of cron for it, wherever they keep such lines.
        Ok(None)
    }

    fn findings(&self, manager: &Manager) -> Result<Vec<Finding>> {
        doctor::findings(manager)
    }

    fn look_again(&self, _: &Instance) {
        // Upstart looks all the time.
    }

    fn is_enabled(&self, instance: &Instance) -> bool {
        files::is_enabled(dir(), &instance.name)
    }

    fn enable(&self, instance: &Instance, enabled: bool) -> Result<()> {
        if self.is_enabled(instance) == enabled {
            return Ok(());
        }
        files::enable(dir(), &instance.name, enabled)?;
        control::reload()
    }

    fn converge(&self, instance: &Instance) -> Result<Vec<String>> {
        if report::Jobs::look(instance)?.active().next().is_some() {
            return Ok(Vec::new());
        }
        want::agree(instance)?;
        // What has ended by itself is told until somebody stops or starts it.
        if !instance.run_dir().exists() || self.wanted(instance)?.is_some() {
            return Ok(Vec::new());
        }
        let prefix = format!("{}.", instance.name);
        if instance.runtime().ids(&prefix)?.is_empty() {
            // Stopped by hand, and tidied up by the jobs themselves.
            instance.clear_run_dir()?;
            return Ok(Vec::new());
        }
        converge::clear_leftovers(instance)
    }

    fn forget(&self, instance: &Instance) -> Result<()> {
        jobs::forget_boots(instance)?;
        crate::files::remove_file(&files::link(&instance.state_dir()))?;
        match files::remove(dirs(), &instance.name)? {
            true => control::reload(),
            false => Ok(()),
        }
    }

    fn bundle(&self, instance: &Instance) -> Result<Option<String>> {
        files::bundle(&instance.state_dir())
    }

    fn log(&self, instance: &Instance, entry: &str) -> PathBuf {
        names::log(&names::entry(&instance.name, entry))
    }

    fn log_file(&self, instance: &Instance, entry: &str) -> PathBuf {
        self.log(instance, entry)
    }

    fn journal(&self, _: &Instance, _: &[String]) -> Option<Journal> {
        None
    }

    fn log_mark(&self, instance: &Instance, entry: &str) -> u64 {
        std::fs::metadata(self.log(instance, entry)).map_or(0, |meta| meta.len())
    }

    fn log_since(&self, instance: &Instance, entry: &str, mark: u64, count: usize) -> Vec<String> {
        tail::since(&self.log(instance, entry), mark, count)
    }
}

/// How the run of a job ended that is over: without a sandbox its end is told by another job.
fn end_of(instance: &Instance, entry: &EntryRef) -> Result<Exit> {
    let deadline = Instant::now() + RECORD;
    loop {
        let record = JobRecords::of(&instance.state_dir()).read(&entry.name)?;
        match record.and_then(|record| record.exit) {
            Some(exit) => return Ok(exit),
            None if Instant::now() > deadline => return Ok(exits::lost()),
            None => std::thread::sleep(TICK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("init (upstart 1.12.1)"), Some((1, 12)));
        assert_eq!(parse_version("init (upstart 0.6.5)"), Some((0, 6)));
        assert_eq!(parse_version("initctl from elsewhere"), None);
        assert!(parse_version("init (upstart 1.10)") >= Some(OLDEST));
        assert!(parse_version("init (upstart 1.4)") < Some(OLDEST));
    }
}
