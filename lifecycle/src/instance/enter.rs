//! Commands inside of what runs: `exec`, `shell`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use metactl_runtime::state::Status as ContainerStatus;

use super::Instance;
use crate::error::{LifecycleError, Result};
use crate::manager::require_root;
use crate::{converge, inside};

/// What `shell` runs.
const SHELL: &str = "/bin/sh";

impl Instance {
    /// Becomes a command in the sandbox of an entry point (the first daemon that runs): returns
    /// only when that fails. The exit code is the command's own. An empty `argv` is a shell.
    ///
    /// # Errors
    /// When nothing runs that could be entered.
    pub fn exec(&self, entry: Option<&str>, argv: &[OsString], tty: bool) -> Result<Infallible> {
        require_root("entering a sandbox")?;
        inside::require_sandbox(self)?;
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
}
