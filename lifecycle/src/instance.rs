//! One instance, and everything that can be done with it.

mod enter;
mod known;
mod records;
mod sight;

use std::io;
use std::path::{Path, PathBuf};

use metactl_bundles::app::App;
use metactl_bundles::bundle::{EntryRef, read_manifest, write_redacted};
use metactl_bundles::layers::Config;

use crate::deploy::{DeployOptions, DeployPlan};
use crate::edit::layer::glanced_app_layer;
use crate::error::Result;
use crate::events::EventKind;
use crate::logs::search::LogFilter;
use crate::manager::{Manager, require_root};
use crate::materialize::{self, Ready};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::service::{due_job, network, systemd, upstart};
use crate::standalone;
use crate::status::ReleaseInfo;
use crate::{change, converge, deploy, dns, files, logs, status};
pub(crate) use known::{Known, readable};
pub(crate) use records::Current;

/// One instance.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(crate) manager: Manager,
    pub(crate) name: String,
}

/// A bundle on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materialized {
    /// The directory: `<state>/<instance>/bundles/<digest>`.
    pub dir: PathBuf,
    /// Its digest.
    pub digest: String,
    /// Whether it is the one in use.
    pub in_use: bool,
    /// The directories of its entry points, each an OCI bundle, by name.
    pub entries: Vec<(String, PathBuf)>,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

/// What a deployment came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The release that runs now.
    pub release: ReleaseInfo,
    /// The one that ran before.
    pub previous: Option<ReleaseInfo>,
    /// It ran already, and nothing was changed.
    pub unchanged: bool,
}

/// What `start`, `stop` and `restart` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There was something to do, and it is done. The entry points that it was about.
    Done(Vec<String>),
    /// It was so already.
    Already,
}

/// What a unit of the service manager asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitStep<'a> {
    /// The network of a bundle.
    NetworkUp {
        /// The digest of the bundle.
        bundle: &'a str,
        /// The device towards the network, when `metactl.conf` names one.
        uplink: Option<&'a str>,
    },
    /// No network any more.
    NetworkDown,
    /// An entry point has ended, with what systemd says in the environment.
    Ended {
        /// Its name.
        entry: &'a str,
    },
    /// Upstart is about to start an entry point, or the instance.
    Prepare {
        /// Its name.
        entry: Option<&'a str>,
    },
    /// An entry point of Upstart has ended.
    Stopped {
        /// Its name.
        entry: &'a str,
    },
    /// The same without a sandbox, with what Upstart says in the environment.
    Event,
    /// Cron says that it may be time for a job.
    Job {
        /// Its name.
        entry: &'a str,
    },
    /// Upstart has started the instance.
    Booted,
}

/// The log of an entry point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The entry point.
    pub entry: String,
    /// What it is.
    pub kind: status::EntryKind,
    /// The file. It need not exist.
    pub path: PathBuf,
}

/// Gets the lines of logs: the name of the entry point, and the line without its end. An error ends
/// the reading.
pub type LineSink<'a> = dyn FnMut(&str, &str) -> io::Result<()> + 'a;

impl Instance {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The merged configuration, with the `.metactl` of the release in use. Before the first deployment with that
    /// of the repository, where it was fetched already; names that nobody defines yet are then left as they are.
    ///
    /// # Errors
    /// Everything that is wrong in the layers.
    pub fn config(&self) -> Result<Config> {
        let current = self.current()?;
        let layer = current
            .as_ref()
            .map(|current| current.manifest.release_path.join(APP_LAYER));
        let paths = &self.manager.paths;
        let mut sources = materialize::sources(paths, &self.name, layer.as_deref(), None)?;
        if layer.is_some() {
            return Ok(Config::from_sources(sources)?);
        }
        sources.extend(glanced_app_layer(self));
        Ok(Config::check(sources)?)
    }

    /// The typed model of the configuration.
    ///
    /// # Errors
    /// Everything that is wrong in the layers; an instance that is not deployed has no model.
    pub fn app(&self) -> Result<App> {
        let current = self.deployed()?;
        Ok(self.ingredients(&current)?.understand()?.app)
    }

    /// Writes the bundle that `start` would run, without starting it.
    ///
    /// # Errors
    /// A configuration that is wrong or does not fit, and everything that can fail on disk; then
    /// nothing has changed.
    pub fn bundle(&self) -> Result<Materialized> {
        require_root("writing a bundle")?;
        let _lock = self.lock("bundle")?;
        let current = self.deployed()?;
        let ready = self.ready(&current)?;
        let written = ready.write()?;
        let manifest = read_manifest(&written.dir)?;
        let entry = |entry: &EntryRef| (entry.name.clone(), written.dir.join(&entry.dir));
        Ok(Materialized {
            in_use: written.digest == current.digest,
            entries: manifest.entries.iter().map(entry).collect(),
            warnings: ready.warnings(),
            digest: written.digest,
            dir: written.dir,
        })
    }

    /// Writes a copy of that bundle for auditors to `out`, which must not exist or be empty: without
    /// passwords. Nothing else changes.
    ///
    /// # Errors
    /// As [`bundle`](Instance::bundle).
    pub fn bundle_redacted(&self, out: &Path) -> Result<()> {
        require_root("reading the whole configuration")?;
        let _lock = self.lock("bundle")?;
        let ready = self.ready(&self.deployed()?)?;
        files::remove_empty_dir(out);
        Ok(write_redacted(&ready.composition, out)?)
    }

    /// The steps that `start` would take, one a line, for every entry point; then what the
    /// application asks for and nobody granted. Nothing changes.
    ///
    /// # Errors
    /// As [`bundle`](Instance::bundle).
    pub fn plan(&self) -> Result<String> {
        require_root("planning a launch")?;
        let _lock = self.lock("plan")?;
        let current = self.deployed()?;
        let ready = self.ready(&current)?;
        let written = ready.write()?;
        let text = self.plan_of(&ready, &written.dir);
        if written.is_new {
            self.prune_bundles(&[])?;
        }
        text
    }

    fn plan_of(&self, ready: &Ready, dir: &Path) -> Result<String> {
        let uplink = ready.understood.server.uplink.as_deref();
        let spec = dir.join("network.json");
        let mut text = String::new();
        for entry in &ready.composition.manifest.entries {
            let steps = self.runtime().plan(&dir.join(&entry.dir), &spec, uplink)?;
            text.push_str(&format!("{}:\n", entry.name));
            for line in steps.lines() {
                text.push_str(&format!("  {line}\n"));
            }
        }
        for request in ready.understood.config.requests() {
            text.push_str(&format!(
                "asked for, not granted ({}): [{}] {} = {}\n  {}; this would grant it:\n",
                request.origin, request.section, request.key, request.value, request.reason
            ));
            for line in request.grant.lines() {
                text.push_str(&format!("    {line}\n"));
            }
        }
        Ok(text)
    }

    /// Fetches `tag` (else `[build] tag`), builds it, makes a release and switches to it.
    ///
    /// # Errors
    /// Whatever fails: then what ran before runs as before, and the state on disk is as before.
    /// [`LifecycleError::RolledBack`](crate::LifecycleError::RolledBack) when that meant going back.
    pub fn deploy(
        &self,
        tag: Option<&str>,
        options: &DeployOptions,
        progress: &mut dyn Progress,
    ) -> Result<Deployed> {
        require_root("deploying")?;
        let done = deploy::deploy(self, tag, options, progress);
        let what = done.as_ref().ok().map(|done| done.release.tag.as_str());
        self.tell_deployed(EventKind::Deployed, what.or(tag).unwrap_or_default(), &done);
        self.publish_after(done)
    }

    /// What [`deploy`](Instance::deploy) would do. The source is fetched, and the configuration checked
    /// with it; nothing is built, and nothing changes but caches.
    ///
    /// # Errors
    /// What would keep a deployment from beginning.
    pub fn deploy_plan(
        &self,
        tag: Option<&str>,
        options: &DeployOptions,
        progress: &mut dyn Progress,
    ) -> Result<DeployPlan> {
        require_root("looking into a deployment")?;
        deploy::plan(self, tag, options, progress)
    }

    /// The log of deployment `serial`: its build, and what came of it.
    ///
    /// # Errors
    /// One that is not kept any more.
    pub fn deploy_log(&self, serial: u64) -> Result<PathBuf> {
        deploy::log(self, serial)
    }

    /// Switches back to the release `to` (its id, tag or commit), else to the one before that in use.
    ///
    /// # Errors
    /// As [`deploy`](Instance::deploy); a release that is not there any more.
    pub fn rollback(&self, to: Option<&str>, progress: &mut dyn Progress) -> Result<Deployed> {
        require_root("going back to another release")?;
        let done = deploy::rollback(self, to, progress);
        let what = done.as_ref().ok().map(|done| done.release.tag.as_str());
        self.tell_deployed(
            EventKind::RolledBack,
            what.or(to).unwrap_or("rollback"),
            &done,
        );
        self.publish_after(done)
    }

    /// Its releases, the oldest first, and the id of the one in use.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn all_releases(&self) -> Result<(Vec<ReleaseInfo>, Option<String>)> {
        let known = match self.known()? {
            Some(known) => known,
            None => return Ok((self.releases().all()?, None)),
        };
        let all = match known.releases.is_empty() {
            true => self.releases().all()?,
            false => known.releases,
        };
        Ok((all, Some(known.release.id)))
    }

    /// Starts all daemons and the cron jobs, or one daemon.
    ///
    /// # Errors
    /// A configuration that is wrong or does not fit: then nothing has changed. A daemon that does
    /// not come up: it goes on being started again, as `restart =` says.
    pub fn start(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        require_root("starting")?;
        let done = change::start(self, entry, progress);
        self.tell_changed(&done);
        self.publish_after(done)
    }

    /// Stops everything, or one daemon. Whether it is started at boot stays as it is.
    ///
    /// # Errors
    /// What does not stop although it was killed.
    pub fn stop(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        require_root("stopping")?;
        change::stop(self, entry, progress)
    }

    /// Stops and starts with the configuration of now. Also starts what is stopped.
    ///
    /// # Errors
    /// As [`start`](Instance::start); when a new configuration does not come up, the one before
    /// runs again ([`LifecycleError::RolledBack`](crate::LifecycleError::RolledBack)).
    pub fn restart(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        require_root("restarting")?;
        let done = change::restart(self, entry, progress);
        self.tell_changed(&done);
        self.publish_after(done)
    }

    /// The logs of all entry points, or of one.
    ///
    /// # Errors
    /// An entry point that there is not.
    pub fn log_files(&self, entry: Option<&str>) -> Result<Vec<LogFile>> {
        logs::files(self, entry)
    }

    /// The last `lines` lines of each log.
    ///
    /// # Errors
    /// A log that cannot be read, and what `sink` says (unless its reader went away).
    pub fn tail(&self, entry: Option<&str>, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        let files = self.log_files(entry)?;
        match logs::journal(self, &files)? {
            Some(journal) => journal.tail(lines, sink),
            None => logs::tail(&files, lines, sink).map(drop),
        }
    }

    /// Like [`tail`](Instance::tail), then every line that comes, until `sink` fails. A failure of
    /// kind `BrokenPipe` is no error.
    ///
    /// # Errors
    /// As [`tail`](Instance::tail).
    pub fn follow(&self, entry: Option<&str>, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        let files = self.log_files(entry)?;
        match logs::journal(self, &files)? {
            Some(journal) => journal.follow(lines, sink),
            None => logs::follow(&files, lines, sink),
        }
    }

    /// Some lines of the logs of all entry points, or of one; a failure of `sink` of kind `BrokenPipe` is no error.
    ///
    /// # Errors
    /// As [`tail`](Instance::tail).
    pub fn search(
        &self,
        entry: Option<&str>,
        filter: &LogFilter,
        sink: &mut LineSink<'_>,
    ) -> Result<()> {
        let files = self.log_files(entry)?;
        match logs::journal(self, &files)? {
            Some(journal) => journal.search(filter, sink),
            None => logs::search::search(&files, filter, sink),
        }
    }

    /// Cleans up after whatever was killed: adopts what runs without a supervisor, ends what was
    /// half done. Returns what was done, a sentence each. The other methods do this as root.
    ///
    /// # Errors
    /// What cannot be cleaned up.
    pub fn converge(&self) -> Result<Vec<String>> {
        require_root("cleaning up")?;
        let _lock = self.lock("converge")?;
        let mut done = converge::converge(self)?;
        done.extend(dns::tidy(self));
        Ok(done)
    }

    /// Starts it, if it is enabled, from the bundle in use: for the boot of a server without a
    /// service manager. Nothing is merged, resolved or built.
    ///
    /// # Errors
    /// As [`start`](Instance::start).
    pub fn boot(&self, progress: &mut dyn Progress) -> Result<Change> {
        require_root("starting")?;
        change::boot(self, progress)
    }

    /// Whether it is started when the server boots, from now on. `false` when it was so already.
    ///
    /// # Errors
    /// An instance that is not deployed; what the service manager refuses.
    pub fn enable(&self, enabled: bool) -> Result<bool> {
        require_root(if enabled { "enabling" } else { "disabling" })?;
        let _lock = self.lock(if enabled { "enable" } else { "disable" })?;
        converge::converge(self)?;
        self.deployed()?;
        let service = self.service()?;
        let was = service.is_enabled(self);
        service.enable(self, enabled)?;
        Ok(was != enabled)
    }

    /// A step that a unit of the service manager asks for: the body of `metactl -a APP unit STEP`. Returns what is
    /// worth a line in the log.
    ///
    /// # Errors
    /// A step that there is not, and whatever fails in it.
    pub fn unit_step(&self, step: UnitStep<'_>) -> Result<Vec<String>> {
        require_root("a step of a unit")?;
        match step {
            UnitStep::NetworkUp { bundle, uplink } => systemd::network_up(self, bundle, uplink),
            UnitStep::NetworkDown => network::down(self),
            UnitStep::Ended { entry } => systemd::ended(self, entry),
            UnitStep::Prepare { entry } => upstart::prepare(self, entry),
            UnitStep::Stopped { entry } => upstart::stopped(self, entry),
            UnitStep::Event => upstart::event(self),
            UnitStep::Job { entry } => due_job(self, entry),
            UnitStep::Booted => upstart::booted(self),
        }
    }

    /// Keeps this instance alone running: the body of `metactl -a APP supervise`. Returns when everything is stopped.
    /// [`Manager::supervise`] takes it over as soon as a command comes.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn supervise(&self) -> Result<()> {
        require_root("supervising")?;
        standalone::supervise_alone(self)
    }
}
