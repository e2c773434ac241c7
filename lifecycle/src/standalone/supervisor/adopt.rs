//! Taking over what a supervisor before this one left.

use std::time::Instant;

use metactl_bundles::bundle::{EntryKind, read_manifest};
use metactl_runtime::state::{State, Status};

use super::super::entry::Daemon;
use super::{Alive, Supervisor};
use crate::error::{OnPath, Result};
use crate::files;

impl Supervisor {
    pub(super) fn adopt(&mut self) -> Result<()> {
        let prefix = format!("{}.", self.instance);
        for id in self.runtime.ids(&prefix)? {
            let name = id.strip_prefix(&prefix).unwrap_or_default().to_owned();
            let state = self
                .runtime
                .containers(&id)?
                .into_iter()
                .find(|state| state.id == id);
            let adopted = match &state {
                Some(state) if state.status() == Status::Running => self.adopt_one(&name, state)?,
                _ => false,
            };
            if adopted {
                self.say(&format!("adopts {name}"));
            } else {
                // Half launched, or dead.
                self.runtime.remove(&id)?;
                self.run.remove_launched(&name)?;
            }
        }
        if self.bundle.is_some() {
            self.network.adopt()?;
        }
        Ok(())
    }

    fn adopt_one(&mut self, name: &str, state: &State) -> Result<bool> {
        let Some(process) = state.process.clone() else {
            return Ok(false);
        };
        let Some(pidfd) = process.open().on("open", &self.run.0)? else {
            return Ok(false);
        };
        let launched = self.run.launched(name)?;
        let digest = match &launched {
            Some(launched) => launched.bundle.clone(),
            None => return Ok(false),
        };
        let manifest = read_manifest(&self.state_dir.join("bundles").join(&digest))?;
        let Some(definition) = manifest
            .entries
            .into_iter()
            .find(|entry| entry.name == name)
        else {
            return Ok(false);
        };
        if let (EntryKind::Daemon, Some(launched)) = (definition.kind, &launched) {
            let mut daemon = Daemon::new(definition.clone());
            daemon.launching(&launched.generation);
            daemon.restarts = launched.restarts;
            daemon.launched(Instant::now());
            self.daemons.insert(name.to_owned(), daemon);
        }
        let since = launched.map_or_else(files::now, |launched| launched.at);
        self.alive.insert(
            name.to_owned(),
            Alive {
                process,
                pidfd,
                cgroups: state.cgroups.clone(),
                since,
                bundle: digest,
                adopted: true,
                definition,
                kill_at: None,
            },
        );
        Ok(true)
    }
}
