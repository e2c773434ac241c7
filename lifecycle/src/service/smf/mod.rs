//! SMF keeps instances running, on Solaris and illumos: metactl imports a manifest and says to svc.startd what should
//! run, and no process of metactl stays.
//!
//! What should run is what SMF says that runs: what somebody does with `svcadm` by hand counts as much as what metactl
//! does. What is on now is said until the next boot (`svcadm enable -t`), what is on at boot in the repository.
//!
//! There is no sandbox of Linux here: the zone is the sandbox, and shows the release, the data and the secrets where the
//! bundle has them (`/app`, `/data`, `/run/secrets`). A method runs the command of the bundle as it is, with the user,
//! the privileges and the environment that the bundle has for it.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `names` | what the services are called |
//! | `process`, `privileges` | what of a config.json means something here |
//! | `method` | command lines of methods |
//! | `render`, `passthrough`, `xml` | the manifest as text; what the configuration says to SMF itself |
//! | `crontab` | the lines of cron jobs |
//! | `control` | SMF itself, by its programs, behind one seam |
//! | `want` | from what runs to what should |
//! | `report`, `log` | what runs, in metactl's words |
//! | `jobs` | running a cron job |

mod control;
mod crontab;
mod jobs;
mod log;
mod method;
mod names;
mod passthrough;
mod privileges;
mod process;
mod render;
mod report;
mod want;
mod xml;

use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::bundle::EntryRef;
use metactl_netns::doctor::Finding;

use self::control::{OfSystem, Programs};
use super::{Journal, Judge, Kept, Look, ServiceManager, poll};
use crate::error::Result;
use crate::instance::{Instance, LineSink};
use crate::manager::Manager;
use crate::standalone::records::Wanted;
use crate::status::Exit;
use crate::tail;

/// There exactly where svc.startd is at work (smf(7)).
const VOLATILE: &str = "/etc/svc/volatile";
/// How often services are looked at while something is awaited.
const TICK: Duration = Duration::from_millis(200);

/// SMF.
pub(crate) struct Smf;

/// The programs that SMF is asked by.
const PROGRAMS: &dyn Programs = &OfSystem;

/// Whether this system is run by SMF; what shows it.
pub(super) fn runs_here() -> Option<String> {
    // A program for SunOS runs nowhere else.
    let is_sunos = matches!(std::env::consts::OS, "solaris" | "illumos");
    let runs = is_sunos && Path::new(VOLATILE).is_dir();
    runs.then(|| format!("SMF runs here (there is {VOLATILE})"))
}

/// The service that an instance is: `svc:/site/metactl/myapp`.
pub(crate) fn service(instance: &str) -> String {
    names::service(instance)
}

/// The time of a cron job has come: [`crate::UnitStep::Job`].
pub(crate) fn job(instance: &Instance, entry: &str) -> Result<Vec<String>> {
    jobs::due(PROGRAMS, instance, entry)
}

impl ServiceManager for Smf {
    fn want(&self, instance: &Instance, wanted: &Wanted) -> Result<()> {
        want::want(PROGRAMS, instance, wanted)
    }

    fn want_nothing(&self, instance: &Instance, _patience: Duration) -> Result<()> {
        want::nothing(PROGRAMS, instance)
    }

    fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>> {
        let states = control::look(PROGRAMS, &instance.name)?;
        report::wanted(instance, &states)
    }

    fn look(&self, instance: &Instance) -> Result<Look> {
        let states = control::look(PROGRAMS, &instance.name)?;
        let wanted = report::wanted(instance, &states)?;
        let report = wanted
            .as_ref()
            .map(|wanted| report::report(PROGRAMS, instance, &states, wanted));
        let is_kept = wanted.is_some() || report::is_any_active(&states);
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
            let states = control::look(PROGRAMS, &instance.name)?;
            report::report(PROGRAMS, instance, &states, wanted)
        })
    }

    fn run_job(
        &self,
        instance: &Instance,
        entry: &EntryRef,
        sink: &mut LineSink<'_>,
    ) -> Result<Exit> {
        jobs::run(PROGRAMS, instance, entry, sink)
    }

    fn mending(&self, _: &Manager) -> Result<Option<Finding>> {
        // Whoever runs the server has a line of cron for it, wherever they keep such lines.
        Ok(None)
    }

    fn look_again(&self, _: &Instance) {
        // svc.startd looks all the time.
    }

    fn is_enabled(&self, instance: &Instance) -> bool {
        let states = control::look(PROGRAMS, &instance.name);
        states.is_ok_and(|states| want::is_enabled(&states))
    }

    fn enable(&self, instance: &Instance, enabled: bool) -> Result<()> {
        match self.is_enabled(instance) == enabled {
            true => Ok(()),
            false => want::enable(PROGRAMS, instance, enabled),
        }
    }

    fn converge(&self, instance: &Instance) -> Result<Vec<String>> {
        let states = control::look(PROGRAMS, &instance.name)?;
        if report::wanted(instance, &states)?.is_none() && !report::is_any_active(&states) {
            want::agree(PROGRAMS, instance)?;
        }
        Ok(Vec::new())
    }

    fn forget(&self, instance: &Instance) -> Result<()> {
        want::forget(PROGRAMS, instance)
    }

    fn bundle(&self, instance: &Instance) -> Result<Option<String>> {
        let states = control::look(PROGRAMS, &instance.name)?;
        Ok(report::bundle(&states))
    }

    fn log(&self, instance: &Instance, entry: &str) -> PathBuf {
        // Where it is by default is where it is, but for what was started before /var was there.
        let usual = report::log_of(&Default::default(), &instance.name, entry);
        if usual.is_file() {
            return usual;
        }
        let states = control::look(PROGRAMS, &instance.name).unwrap_or_default();
        report::log_of(&states, &instance.name, entry)
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
