//! One instance, and everything that can be done with it.

mod records;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use metactl_bundles::app::App;
use metactl_bundles::bundle::{EntryRef, read_manifest, write_redacted};
use metactl_bundles::layers::Config;
use metactl_runtime::state::Status as ContainerStatus;

use crate::error::{LifecycleError, Result};
use crate::manager::{Manager, require_root};
use crate::materialize::{self, Ready};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::standalone;
use crate::status::{ReleaseInfo, Status};
use crate::{change, converge, deploy, dns, files, inspect, logs, status};
pub(crate) use records::Current;

/// What `shell` runs.
const SHELL: &str = "/bin/sh";

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
}

/// What `start`, `stop` and `restart` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There was something to do, and it is done. The entry points that it was about.
    Done(Vec<String>),
    /// It was so already.
    Already,
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

    /// The merged configuration, with the `.metactl` of the release in use. Before the first
    /// deployment without; names that only that can define are then left as they are.
    ///
    /// # Errors
    /// Everything that is wrong in the layers.
    pub fn config(&self) -> Result<Config> {
        let current = self.current()?;
        let layer = current
            .as_ref()
            .map(|current| current.manifest.release_path.join(APP_LAYER));
        let sources =
            materialize::sources(&self.manager.paths, &self.name, layer.as_deref(), None)?;
        Ok(match layer {
            Some(_) => Config::from_sources(sources)?,
            None => Config::check(sources)?,
        })
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
    /// [`LifecycleError::RolledBack`] when that meant going back.
    pub fn deploy(&self, tag: Option<&str>, progress: &mut dyn Progress) -> Result<Deployed> {
        require_root("deploying")?;
        deploy::deploy(self, tag, progress)
    }

    /// Switches back to the release `to` (its id, tag or commit), else to the one before that in use.
    ///
    /// # Errors
    /// As [`deploy`](Instance::deploy); a release that is not there any more.
    pub fn rollback(&self, to: Option<&str>, progress: &mut dyn Progress) -> Result<Deployed> {
        require_root("going back to another release")?;
        deploy::rollback(self, to, progress)
    }

    /// Its releases, the oldest first, and the id of the one in use.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn all_releases(&self) -> Result<(Vec<ReleaseInfo>, Option<String>)> {
        let in_use = self.current()?.map(|current| current.manifest.release);
        Ok((self.releases().all()?, in_use))
    }

    /// Starts all daemons and the cron jobs, or one daemon.
    ///
    /// # Errors
    /// A configuration that is wrong or does not fit: then nothing has changed. A daemon that does
    /// not come up: it goes on being started again, as `restart =` says.
    pub fn start(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        require_root("starting")?;
        change::start(self, entry, progress)
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
    /// runs again ([`LifecycleError::RolledBack`]).
    pub fn restart(&self, entry: Option<&str>, progress: &mut dyn Progress) -> Result<Change> {
        require_root("restarting")?;
        change::restart(self, entry, progress)
    }

    /// What runs. As root this first cleans up after whatever was killed.
    ///
    /// # Errors
    /// Records that cannot be read.
    pub fn status(&self) -> Result<Status> {
        let notes = match self.try_lock("status")? {
            Some(_lock) if nix::unistd::geteuid().is_root() => {
                let mut notes = converge::converge(self)?;
                notes.extend(dns::tidy(self));
                notes
            }
            _ => Vec::new(),
        };
        inspect::status(self, notes)
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
        logs::tail(&self.log_files(entry)?, lines, sink).map(drop)
    }

    /// Like [`tail`](Instance::tail), then every line that comes, until `sink` fails. A failure of
    /// kind `BrokenPipe` is no error.
    ///
    /// # Errors
    /// As [`tail`](Instance::tail).
    pub fn follow(&self, entry: Option<&str>, lines: usize, sink: &mut LineSink<'_>) -> Result<()> {
        logs::follow(&self.log_files(entry)?, lines, sink)
    }

    /// Becomes a command in the sandbox of an entry point (the first daemon that runs): returns
    /// only when that fails. The exit code is the command's own. An empty `argv` is a shell.
    ///
    /// # Errors
    /// When nothing runs that could be entered.
    pub fn exec(&self, entry: Option<&str>, argv: &[OsString], tty: bool) -> Result<Infallible> {
        require_root("entering a sandbox")?;
        if let Some(_lock) = self.try_lock("exec")? {
            converge::converge(self)?;
        }
        let id = self.running_container(entry)?;
        let shell = [OsString::from(SHELL)];
        let argv = if argv.is_empty() { &shell } else { argv };
        let runtime = self.runtime();
        let error = runtime.exec(&id, argv, tty).exec();
        Err(runtime.absent(&error))
    }

    fn running_container(&self, entry: Option<&str>) -> Result<String> {
        let name = entry
            .map(|entry| self.entry(entry).map(|found| found.name))
            .transpose()?;
        let prefix = format!("{}.", self.name);
        let wanted = name.as_ref().map(|name| format!("{prefix}{name}"));
        let running = self
            .runtime()
            .containers(&prefix)?
            .into_iter()
            .find(|state| {
                let fits = wanted.as_ref().is_none_or(|id| *id == state.id);
                fits && state.status() == ContainerStatus::Running
            });
        running
            .map(|state| state.id)
            .ok_or_else(|| self.not_running(name.as_deref()))
    }

    pub(crate) fn not_running(&self, entry: Option<&str>) -> LifecycleError {
        let one = entry.map_or_else(String::new, |name| format!(" {name}"));
        LifecycleError::NotRunning {
            what: format!("{}{one}", self.name),
            hint: format!("metactl {} start{one}", self.name),
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
