//! The instances of this server.

use std::path::PathBuf;

use metactl_bundles::paths::Paths;

use crate::error::Result;
use crate::instance::Instance;
use crate::progress::Progress;
use crate::status::Summary;

/// One metactl: its directories and its runtime.
#[derive(Debug, Clone)]
pub struct Manager {
    /// Where everything is.
    pub paths: Paths,
    /// The program `metactl-runtime`.
    pub runtime: PathBuf,
}

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
    pub fn from_env() -> Result<Manager> {
        Ok(Manager {
            paths: Paths::from_env(|name| std::env::var_os(name)),
            runtime: crate::launcher::find_runtime(),
        })
    }

    /// The names of all instances, sorted: those with a local layer and those with state.
    pub fn instances(&self) -> Result<Vec<String>> {
        Err(crate::later())
    }

    /// An instance that exists.
    pub fn instance(&self, name: &str) -> Result<Instance> {
        crate::names::check(name)?;
        Ok(Instance {
            manager: self.clone(),
            name: name.to_owned(),
        })
    }

    /// One line for each instance.
    pub fn list(&self) -> Result<Vec<Summary>> {
        Err(crate::later())
    }

    /// Runs one entry point in the foreground, with nothing installed and nothing left; returns its
    /// exit code, 128 and the number of the signal when one ended it. Without an entry, the only
    /// daemon that there is.
    pub fn run_foreground(
        &self,
        target: &RunTarget,
        entry: Option<&str>,
        progress: &mut dyn Progress,
    ) -> Result<i32> {
        let _ = (target, entry, progress);
        Err(crate::later())
    }
}
