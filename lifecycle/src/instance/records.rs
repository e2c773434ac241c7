//! Where things of an instance are, and what is there.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use metactl_bundles::bundle::{self, EntryKind, EntryRef, Manifest, read_manifest};
use metactl_bundles::server::Server;

use super::Instance;
use crate::error::{LifecycleError, Result};
use crate::launcher::Runtime;
use crate::lock::Lock;
use crate::materialize::{Ingredients, Ready};
use crate::release::Releases;
use crate::standalone;
use crate::standalone::records::RunDir;
use crate::{converge, files, secrets};

/// How long a command waits for another one that changes the instance.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a supervisor that has just begun may take to see that nothing is wanted of it.
const ENDING: Duration = Duration::from_secs(20);

/// The bundle that counts.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) dir: PathBuf,
    pub(crate) digest: String,
    pub(crate) manifest: Manifest,
}

impl Instance {
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.manager.paths.instance_state(&self.name)
    }

    pub(crate) fn run_dir(&self) -> RunDir {
        RunDir(self.manager.paths.instance_run(&self.name))
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.manager.paths.instance_log(&self.name)
    }

    pub(crate) fn log_file(&self, entry: &str) -> PathBuf {
        self.log_dir().join(format!("{entry}.log"))
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.log_file("supervisor")
    }

    /// Which names it may have in the DNS.
    pub(crate) fn dns_journal(&self) -> PathBuf {
        self.manager.paths.instance_dns(&self.name)
    }

    /// What only one supervisor at a time can hold.
    pub(crate) fn supervisor_lock(&self) -> PathBuf {
        let locks = self.manager.paths.run.join("locks");
        locks.join(format!("{}.supervisor.lock", self.name))
    }

    /// Held while its network is made, taken away or mended, where no supervisor does all of that.
    pub(crate) fn network_lock(&self) -> PathBuf {
        let locks = self.manager.paths.run.join("locks");
        locks.join(format!("{}.network.lock", self.name))
    }

    /// Marks an instance that is started at boot.
    pub(crate) fn enabled_mark(&self) -> PathBuf {
        self.state_dir().join("enabled")
    }

    pub(crate) fn releases(&self) -> Releases {
        Releases::of(&self.state_dir())
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.manager.runtime()
    }

    pub(crate) fn lock(&self, doing: &str) -> Result<Lock> {
        self.lock_within(doing, PATIENCE)
    }

    pub(crate) fn lock_within(&self, doing: &str, patience: Duration) -> Result<Lock> {
        let doing = format!("metactl {} {doing}", self.name);
        Lock::of_instance(&self.manager.paths.run, &self.name, &doing, patience)
    }

    /// The lock, unless somebody has it, or this is not root.
    pub(crate) fn try_lock(&self, doing: &str) -> Result<Option<Lock>> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        self.lock_if_free(doing, Duration::ZERO)
    }

    /// The lock, unless somebody has it for longer than that.
    pub(crate) fn lock_if_free(&self, doing: &str, patience: Duration) -> Result<Option<Lock>> {
        match self.lock_within(doing, patience) {
            Ok(lock) => Ok(Some(lock)),
            Err(LifecycleError::Locked { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bundle that counts; none before the first deployment.
    pub(crate) fn current(&self) -> Result<Option<Current>> {
        // Bundles hold configuration, and are root's alone.
        let denied = std::fs::symlink_metadata(self.state_dir().join("bundle/manifest.json"))
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        if denied {
            return Err(LifecycleError::NotPermitted {
                what: format!("reading the bundle of {}", self.name),
            });
        }
        let Some(dir) = bundle::current(&self.state_dir())? else {
            return Ok(None);
        };
        let manifest = read_manifest(&dir)?;
        let digest = files::name_of(&dir).to_owned();
        Ok(Some(Current {
            dir,
            digest,
            manifest,
        }))
    }

    /// As [`current`](Instance::current); one that was damaged is made again, where that can be.
    pub(crate) fn deployed(&self) -> Result<Current> {
        let current = match self.current() {
            Err(LifecycleError::Bundle(damage)) => Some(converge::repair(self, damage)?),
            other => other?,
        };
        current.ok_or_else(|| self.not_deployed())
    }

    pub(crate) fn not_deployed(&self) -> LifecycleError {
        LifecycleError::NotDeployed {
            instance: self.name.clone(),
        }
    }

    /// What a start is made of: the release in use, and the configuration of now.
    pub(crate) fn ingredients(&self, current: &Current) -> Result<Ingredients<'_>> {
        Ok(Ingredients {
            paths: &self.manager.paths,
            instance: &self.name,
            state_dir: self.state_dir(),
            release: current.manifest.release_path.clone(),
            release_id: current.manifest.release.clone(),
            local: None,
            site_only: false,
        })
    }

    pub(crate) fn ready(&self, current: &Current) -> Result<Ready> {
        let ingredients = self.ingredients(current)?;
        ingredients.compose(ingredients.understand()?)
    }

    /// The entry point of this name, or of this title.
    pub(crate) fn entry(&self, name: &str) -> Result<EntryRef> {
        let entries = self.known()?.ok_or_else(|| self.not_deployed())?.entries;
        let fits = |entry: &&EntryRef| {
            entry.name == name || entry.title == name || entry.name == format!("cron.{name}")
        };
        entries
            .iter()
            .find(fits)
            .cloned()
            .ok_or_else(|| LifecycleError::UnknownEntry {
                instance: self.name.clone(),
                entry: name.to_owned(),
                known: entries.iter().map(|entry| entry.name.clone()).collect(),
            })
    }

    /// A daemon of this name.
    pub(crate) fn daemon(&self, name: &str) -> Result<EntryRef> {
        let entry = self.entry(name)?;
        if entry.kind == EntryKind::Daemon {
            return Ok(entry);
        }
        let current = self.current()?;
        Err(LifecycleError::UnknownEntry {
            instance: self.name.clone(),
            entry: format!("{name} (it is a cron job; only daemons are started and stopped)"),
            known: current
                .map(|c| self.daemon_names(&c.manifest))
                .unwrap_or_default(),
        })
    }

    /// A daemon of this name, and before it those that it requires.
    pub(crate) fn daemon_and_required(&self, name: &str) -> Result<Vec<String>> {
        let daemon = self.daemon(name)?;
        let current = self.current()?;
        let entries = current
            .map(|current| current.manifest.entries)
            .unwrap_or_default();
        let mut names = vec![daemon.name];
        let mut at = 0;
        while let Some(name) = names.get(at).cloned() {
            let entry = entries.iter().find(|entry| entry.name == name);
            for needed in entry.iter().flat_map(|entry| &entry.requires) {
                if !names.contains(needed) {
                    names.push(needed.clone());
                }
            }
            at += 1;
        }
        names.reverse();
        Ok(names)
    }

    pub(crate) fn daemon_names(&self, manifest: &Manifest) -> Vec<String> {
        let daemons = manifest
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Daemon);
        daemons.map(|entry| entry.name.clone()).collect()
    }

    /// Removes bundles that neither count, nor run, nor are in `keep`.
    pub(crate) fn prune_bundles(&self, keep: &[String]) -> Result<()> {
        let mut keep = keep.to_vec();
        keep.extend(self.service()?.bundle(self)?);
        keep.extend(self.wanted()?.map(|wanted| wanted.bundle));
        // What runs keeps its bundle: removing the root of a sandbox detaches its mounts.
        for state in self.runtime().containers(&format!("{}.", self.name))? {
            let names = state.bundle.ancestors().map(files::name_of);
            keep.extend(names.map(str::to_owned));
        }
        if self.state_dir().join("bundles").is_dir() {
            bundle::prune(&self.state_dir(), &keep)?;
        }
        secrets::prune(&self.state_dir())
    }

    /// The facts of the server.
    pub(crate) fn server(&self) -> Result<Server> {
        Ok(Server::read(&self.manager.paths)?)
    }

    /// Removes the run directory of an instance that does not run.
    pub(crate) fn clear_run_dir(&self) -> Result<()> {
        let run = self.run_dir();
        // With its lock nobody can begin to supervise while the directory goes away. The file of one that was
        // killed goes with the lock on it.
        let lock = self.lock_supervision()?;
        if run.exists() {
            self.runtime().network_down(&run.netns(), &self.name)?;
            files::remove_tree(&run.0)?;
        }
        drop(lock);
        standalone::Server::of(&self.manager).tidy()
    }

    /// The lock of who supervises, when nothing is wanted any more: one that has just begun sees that, and ends.
    fn lock_supervision(&self) -> Result<Lock> {
        self.run_dir().wake();
        let lock = Lock::acquire(&self.supervisor_lock(), "tidy", ENDING)?;
        lock.map_err(|_held| LifecycleError::Stop {
            what: format!("the supervisor of {}", self.name),
            seconds: ENDING.as_secs(),
            log: self.supervisor_log(),
        })
    }
}
