//! systemd keeps instances running: metactl writes units and asks systemd for them, and no process of metactl stays.
//!
//! What should run is what systemd says that runs: a unit that somebody starts or stops by hand counts as much as one
//! that metactl does.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `names` | what the units are called |
//! | `render` | the units as text; `calendar`: the times of cron jobs |
//! | `files` | the unit files on disk |
//! | `want` | from what runs to what should |
//! | `report` | what runs, in metactl's words |
//! | `states` | how units are, by systemd's bus |
//! | `survey` | all instances at one moment, for `list` |
//! | `control` | jobs over systemd's bus, `systemctl` and `journalctl` |
//! | `steps` | what the units ask of metactl, as far as that is systemd's own |
//! | `jobs` | running a cron job now |
//! | `journal` | the logs; `starts`: when daemons were started |
//! | `mend` | the timer by which networks and names are looked after; `doctor`: what is said when it does not do that |

mod calendar;
mod control;
mod doctor;
mod files;
mod jobs;
mod journal;
mod mend;
mod names;
mod render;
mod report;
mod starts;
mod states;
mod steps;
mod survey;
mod want;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use journal::Journal;
pub(crate) use starts::{Following, Starts};
pub(crate) use steps::{ended, network_up};

use metactl_bundles::bundle::EntryRef;
use metactl_netns::doctor::Finding;

use super::jobs::forget_boots;
use super::{Judge, Look, ServiceManager, Survey, poll};
use crate::converge;
use crate::error::Result;
use crate::instance::{Instance, LineSink};
use crate::manager::Manager;
use crate::standalone::records::Wanted;
use crate::status::Exit;

/// There exactly when systemd is the service manager (sd_booted(3)).
pub(super) const BOOTED: &str = "/run/systemd/system";
/// How often units are looked at, when something is awaited for long.
const TICK: Duration = Duration::from_millis(50);

/// Where the unit files are.
fn dir() -> &'static Path {
    Path::new(files::DIR)
}

/// systemd.
pub(crate) struct Systemd;

impl ServiceManager for Systemd {
    fn want(&self, instance: &Instance, wanted: &Wanted) -> Result<()> {
        want::want(instance, wanted)
    }

    fn want_nothing(&self, instance: &Instance, _patience: Duration) -> Result<()> {
        want::nothing(instance)
    }

    fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>> {
        let uplink = instance.server()?.uplink;
        Ok(report::Units::look(instance)?.wanted(instance, uplink))
    }

    fn look(&self, instance: &Instance) -> Result<Look> {
        report::Units::look(instance)?.told(instance, instance.server()?.uplink, None)
    }

    fn survey(&self, manager: &Manager) -> Result<Option<Box<dyn Survey>>> {
        Ok(Some(Box::new(survey::All::look(manager)?)))
    }

    fn await_report(
        &self,
        instance: &Instance,
        wanted: &Wanted,
        limit: Duration,
        done: &mut Judge<'_>,
    ) -> Result<bool> {
        // Nobody writes unit files meanwhile: the lock is ours.
        let mut units = report::Units::look(instance)?;
        poll(TICK, limit, done, || {
            units.look_again()?;
            units.report(instance, wanted, None)
        })
    }

    fn hears_ready(&self) -> bool {
        true
    }

    fn run_job(
        &self,
        instance: &Instance,
        entry: &EntryRef,
        sink: &mut LineSink<'_>,
    ) -> Result<Exit> {
        jobs::run(instance, entry, sink)
    }

    fn mending(&self, manager: &Manager) -> Result<Option<Finding>> {
        doctor::mending(manager)
    }

    fn rest(&self, is_left: &dyn Fn() -> Result<bool>) -> Result<()> {
        mend::rest(is_left)
    }

    fn group(&self, instance: &str) -> String {
        names::slice(instance)
    }

    fn look_again(&self, instance: &Instance) {
        // systemd looks at processes all the time; what others did to the network is put back now. What cannot be is told
        // by `metactl mend`, and by the timer.
        let _told = crate::tend::network(instance, Duration::ZERO);
    }

    fn is_enabled(&self, instance: &Instance) -> bool {
        let wants = dir().join("multi-user.target.wants");
        wants.join(names::target(&instance.name)).is_symlink()
    }

    fn enable(&self, instance: &Instance, enabled: bool) -> Result<()> {
        match self.is_enabled(instance) == enabled {
            true => Ok(()),
            false => control::enable(&names::target(&instance.name), enabled),
        }
    }

    fn converge(&self, instance: &Instance) -> Result<Vec<String>> {
        let units = report::Units::look(instance)?;
        if units.is_any_active() {
            // Stopped by hand, the last one leaves the network.
            if units.only_network() {
                control::stop(&[names::network(&instance.name)])?;
                instance.clear_run_dir()?;
            }
            return Ok(Vec::new());
        }
        want::agree(instance)?;
        converge::clear_leftovers(instance)
    }

    fn forget(&self, instance: &Instance) -> Result<()> {
        self.enable(instance, false)?;
        forget_boots(instance)?;
        if files::remove(dir(), &instance.name)? {
            mend::rest_without_file()?;
            control::reload()?;
        }
        Ok(())
    }

    fn bundle(&self, instance: &Instance) -> Result<Option<String>> {
        files::bundle(dir(), &instance.name)
    }

    fn log(&self, instance: &Instance, entry: &str) -> PathBuf {
        let unit = names::service(&instance.name, entry);
        format!("journalctl --unit={unit}").into()
    }

    fn journal(&self, instance: &Instance, entries: &[String]) -> Option<Journal> {
        Some(Journal::of(&instance.name, entries))
    }

    fn starts(&self, instance: &Instance, daemons: &[String]) -> Option<Starts> {
        Some(Starts::of(&instance.name, daemons))
    }

    fn log_mark(&self, _: &Instance, _: &str) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
    }

    fn log_since(&self, instance: &Instance, entry: &str, mark: u64, count: usize) -> Vec<String> {
        control::journal_since(&names::service(&instance.name, entry), mark, count)
    }
}

/// Microseconds of the monotonic clock, by which systemd counts (clock_gettime(2)).
fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanos / 1000
}
