//! The instances of this server.

use std::path::{Path, PathBuf};

use metactl_bundles::check;
use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;

use crate::access::trail::{Deed, Trail};
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::Instance;
use crate::launcher::{Runtime, find_runtime};
use crate::resolver::Keeper;
use crate::service::Survey;
use crate::status::Summary;
use crate::{dns, files, foreground, names, standalone};

/// One metactl: its directories and its programs.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Where everything is.
    pub paths: Paths,
    /// The program `metactl-runtime`.
    pub runtime: PathBuf,
    /// The program `metactl` itself, for supervisors.
    pub metactl: PathBuf,
}

/// So many instances are looked at sooner than a thread is made for them.
const SHARE: usize = 16;

/// What [`Manager::run_foreground`] runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunTarget {
    /// A directory with a `.metactl` file in it.
    Path(PathBuf),
    /// An instance of this server, as it was last deployed.
    App(String),
}

impl Manager {
    /// As the environment says: see [`Paths::from_env`]; the runtime is `METACTL_RUNTIME`, else
    /// `metactl-runtime` beside this program, else the one in `PATH`.
    ///
    /// # Errors
    /// When the path of this program cannot be found out.
    pub fn from_env() -> Result<Manager> {
        let metactl = std::env::current_exe().on("find", "/proc/self/exe".as_ref())?;
        Ok(Manager {
            paths: Paths::from_env(|name| std::env::var_os(name)),
            runtime: find_runtime(),
            metactl,
        })
    }

    /// The names of all instances, sorted: those with a local layer and those with state.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn instances(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for path in files::entries(&self.paths.config.join("nodes"))? {
            found.extend(
                files::name_of(&path)
                    .strip_suffix(".conf")
                    .map(str::to_owned),
            );
        }
        // In order, as they were read: most of them have been found by then.
        let said = found.len();
        for path in files::entries(&self.paths.state)? {
            let name = files::name_of(&path).to_owned();
            if found[..said].binary_search(&name).is_err() && has_state(&path) {
                found.push(name);
            }
        }
        found.retain(|name| names::check(name).is_ok());
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// The names of the sites that have a folder here, sorted.
    pub fn sites(&self) -> Vec<String> {
        check::sites(&self.paths)
    }

    /// An instance that exists.
    ///
    /// # Errors
    /// When the name cannot be one, or there is no such instance.
    pub fn instance(&self, name: &str) -> Result<Instance> {
        names::check(name)?;
        let instance = Instance {
            manager: self.clone(),
            name: name.to_owned(),
        };
        // Whatever is there: that it is no file is told where it is read.
        let said = self.paths.local_layer(name).symlink_metadata().is_ok();
        if said || has_state(&instance.state_dir()) {
            return Ok(instance);
        }
        let all = self.instances()?;
        let similar = metactl_bundles::keys::suggest::nearest(name, all.iter().map(String::as_str));
        Err(LifecycleError::UnknownInstance {
            name: name.to_owned(),
            similar: similar.map(str::to_owned),
            local_layer: self.paths.local_layer(name),
        })
    }

    /// What was done by command, the oldest first: with an instance, also before it was deleted, or on the whole server.
    ///
    /// # Errors
    /// Files that cannot be read; an instance that nobody ever heard of.
    pub fn history(&self, instance: Option<&str>) -> Result<Vec<Deed>> {
        if let Some(name) = instance {
            names::check(name)?;
        }
        let deeds = Trail::of(&self.paths).read(instance)?;
        if let (Some(name), true) = (instance, deeds.is_empty()) {
            self.instance(name)?;
        }
        Ok(deeds)
    }

    /// One line for each instance. As root this first cleans up after whatever was killed.
    ///
    /// # Errors
    /// When the instances cannot be found. What is wrong with a single one is in its line.
    pub fn list(&self) -> Result<Vec<Summary>> {
        if nix::unistd::geteuid().is_root() {
            foreground::sweep(self)?;
        }
        let names = self.instances()?;
        if nix::unistd::geteuid().is_root() {
            dns::sweep(self, &names)?;
        }
        // When nobody can be asked about all of them, each line says so.
        let survey = self.survey().unwrap_or_default();
        let survey = survey.as_deref();
        let summaries = |names: &[String]| -> Vec<Result<Summary>> {
            let line = |name: &String| self.summary(name.clone(), survey);
            names.iter().map(line).collect()
        };
        // Each is a dozen of small files: the processors share them.
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let share = names.len().div_ceil(processors).max(SHARE);
        let all = std::thread::scope(|scope| {
            let of_share = |names| scope.spawn(move || summaries(names));
            let threads: Vec<_> = names.chunks(share).map(of_share).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.collect::<std::thread::Result<Vec<_>>>()
        });
        let all = all.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        all.into_iter().flatten().collect()
    }

    fn survey(&self) -> Result<Option<Box<dyn Survey>>> {
        self.service_manager()?.kind.manager().survey(self)
    }

    fn summary(&self, name: String, survey: Option<&dyn Survey>) -> Result<Summary> {
        let instance = Instance {
            manager: self.clone(),
            name,
        };
        let known = instance.known_already();
        let seen = survey.map_or(Ok(None), |survey| survey.see(&instance, known.as_ref()));
        match seen.and_then(|seen| instance.summary_as(seen, known)) {
            Ok(summary) => Ok(summary),
            // Who may not look at one may look at none.
            Err(error @ LifecycleError::NoReader { .. }) => Err(error),
            Err(error) => Ok(Summary::unknown(instance.name, &error)),
        }
    }

    /// Keeps all instances running, until everything is stopped: the body of `metactl supervise`. Returns at once
    /// when another process does.
    ///
    /// # Errors
    /// When it cannot begin.
    pub fn supervise(&self) -> Result<()> {
        require_root("supervising")?;
        standalone::supervise(self)
    }

    /// Starts all instances that are enabled, and keeps everything running until SIGTERM, which stops it in order:
    /// the body of `metactl supervise --all`. As the first process of a pid namespace it buries orphans, too.
    ///
    /// # Errors
    /// When it cannot begin, or another process does this already.
    pub fn supervise_all(&self) -> Result<()> {
        require_root("supervising")?;
        standalone::supervise_all(self)
    }

    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::new(&self.runtime, &self.paths)
    }

    /// Who keeps the resolver of this server running.
    pub(crate) fn resolver(&self) -> Result<Keeper> {
        let nameservers = Server::read(&self.paths)?.nameservers;
        let log = self.paths.log.join("resolver.log");
        Ok(Keeper::new(self.runtime(), log, nameservers))
    }
}

/// Whether a state directory is that of an instance. `data/` and the user id stay of one that was deleted.
pub(crate) fn has_state(dir: &Path) -> bool {
    let link = dir.join("bundle").is_symlink();
    link || ["bundles", "releases", "deploy.json"]
        .iter()
        .any(|name| dir.join(name).exists())
}

/// Fails unless this is root.
pub(crate) fn require_root(what: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(LifecycleError::NotPermitted {
        what: what.to_owned(),
    })
}
