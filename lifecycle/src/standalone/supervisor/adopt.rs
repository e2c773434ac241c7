//! Taking over what a supervisor before this one left.

use std::time::Instant;

use metactl_bundles::bundle::{EntryKind, read_manifest};
use metactl_runtime::state::{State, Status};

use super::super::entry::Daemon;
use super::super::records::{FORMAT, Launched};
use super::{Alive, Supervisor};
use crate::error::{OnPath, Result};
use crate::files;

impl Supervisor {
    pub(super) fn adopt(&mut self) -> Result<()> {
        let prefix = format!("{}.", self.instance);
        for id in self.runtime.ids(&prefix)? {
            let name = id.strip_prefix(&prefix).unwrap_or_default().to_owned();
            let adopted = self.adopt_container(&id, &name).unwrap_or_else(|error| {
                // What cannot be read cannot be looked after: it is begun anew.
                self.in_trouble(format!("{name} cannot be adopted: {error}"));
                false
            });
            if adopted {
                self.say(&format!("adopts {name}"));
            } else {
                // Half launched, or dead.
                self.runtime.remove(&id)?;
                self.run.remove_launched(&name)?;
            }
        }
        self.listen_again();
        self.recall();
        if self.bundle.is_some() {
            self.network.adopt()?;
        }
        Ok(())
    }

    /// How daemons ended before, and how often they were started again. What cannot be read is lost, and nothing else.
    fn recall(&mut self) {
        let Ok(Some(report)) = self.run.report() else {
            return;
        };
        for (name, daemon) in &mut self.daemons {
            if let Some(known) = report.entries.get(name) {
                daemon.recall(known, Instant::now());
            }
        }
    }

    fn adopt_container(&mut self, id: &str, name: &str) -> Result<bool> {
        let found = self.runtime.containers(id)?;
        match found.into_iter().find(|state| state.id == id) {
            Some(state) if state.status() == Status::Running => self.adopt_one(name, &state),
            _ => Ok(false),
        }
    }

    /// What was written down before an entry point was launched. Where that cannot be read, it is found out.
    fn launched(&mut self, name: &str, state: &State) -> Option<Launched> {
        match self.run.launched(name) {
            Ok(Some(launched)) => return Some(launched),
            Ok(None) => {}
            Err(error) => self.in_trouble(error.to_string()),
        }
        let bundles = self.state_dir.join("bundles");
        let inside = state.bundle.strip_prefix(&bundles).ok()?;
        let bundle = inside.components().next()?.as_os_str().to_str()?.to_owned();
        let wanted = self
            .wanted
            .as_ref()
            .filter(|wanted| wanted.bundle == bundle);
        let generation = wanted.and_then(|wanted| wanted.daemons.get(name));
        let launched = Launched {
            format: FORMAT,
            generation: generation.cloned().unwrap_or_default(),
            bundle,
            at: files::now(),
            restarts: 0,
        };
        // The next one finds it; this one knows it.
        if let Err(error) = self.run.write_launched(name, &launched) {
            self.say(&error.to_string());
        }
        Some(launched)
    }

    fn adopt_one(&mut self, name: &str, state: &State) -> Result<bool> {
        let Some(process) = state.process.clone() else {
            return Ok(false);
        };
        let Some(pidfd) = process.open().on("open", &self.run.0)? else {
            return Ok(false);
        };
        let Some(launched) = self.launched(name, state) else {
            return Ok(false);
        };
        let digest = launched.bundle.clone();
        let manifest = read_manifest(&self.state_dir.join("bundles").join(&digest))?;
        let Some(definition) = manifest
            .entries
            .into_iter()
            .find(|entry| entry.name == name)
        else {
            return Ok(false);
        };
        if definition.kind == EntryKind::Daemon {
            let mut daemon = Daemon::new(definition.clone());
            daemon.launching(&launched.generation);
            daemon.restarts = launched.restarts;
            daemon.launched(Instant::now());
            self.daemons.insert(name.to_owned(), daemon);
        }
        let since = launched.at;
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
