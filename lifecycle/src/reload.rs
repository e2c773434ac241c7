//! `reload`: what runs gets the configuration of now, as far as it can without being stopped.
//!
//! That is the firewall, the cron jobs, and what only metactl itself looks at. The command makes the new bundle
//! and wants the same daemons of it; the supervisor finds that they run already, and changes the firewall
//! beneath them (`standalone/network/live.rs`). The bundle counts when that is done.

use std::os::fd::AsFd;

use metactl_bundles::bundle::{self, EntryKind, Manifest};
use metactl_bundles::network::NetworkSpec;
use metactl_netns::{Resolved, policy};

use crate::conflicts::{self, Look};
use crate::edit::drift::{Drift, Kind};
use crate::error::{LifecycleError, Result};
use crate::firewall::{OpenConnection, described};
use crate::instance::{Current, Instance};
use crate::manager::require_root;
use crate::materialize::Ready;
use crate::progress::Progress;
use crate::standalone::records::{Wanted, new_generation};
use crate::{converge, files};

/// What `reload` came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// What runs is what is configured.
    Already,
    /// It is now.
    Done(Reloaded),
    /// Something differs that only a restart changes; nothing was done.
    NeedsRestart(Drift),
}

/// What was changed while everything went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether the firewall is another one.
    pub firewall: bool,
    /// Cron jobs that are new, others, or no more.
    pub jobs: Vec<String>,
    /// Connections that are open, and that the firewall would refuse now.
    pub unwanted: Vec<OpenConnection>,
    /// Whether these were cut.
    pub cut: bool,
    /// Whether going back by one change of the local layer takes it back.
    pub by_local_layer: bool,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

impl Instance {
    /// Takes over the configuration of now, as far as nothing has to be restarted for it; if something does,
    /// nothing changes. With `cut`, connections that the firewall would refuse now are ended.
    ///
    /// # Errors
    /// When nothing runs; a configuration that is wrong or does not fit; a firewall that cannot be changed. Then
    /// everything is as before.
    pub fn reload(&self, cut: bool, progress: &mut dyn Progress) -> Result<Reload> {
        require_root("reloading")?;
        let _lock = self.lock("reload")?;
        for line in converge::converge(self)? {
            progress.note(&line);
        }
        let current = self.deployed()?;
        let Some(wanted) = self.wanted()? else {
            return Err(LifecycleError::NotRunning {
                what: self.name.clone(),
                hint: format!("metactl {} start takes the configuration of now", self.name),
            });
        };
        let ingredients = self.ingredients(&current)?;
        let understood = ingredients.understand()?;
        conflicts::check(
            &self.manager.paths,
            &self.name,
            &understood,
            true,
            Look::Records,
        )?;
        let ready = ingredients.compose(understood)?;
        let drift = Drift::between(&current, &ready.composition, true);
        let Some(jobs) = jobs_alone(&drift, &current.manifest, &ready.composition.manifest) else {
            return Ok(Reload::NeedsRestart(drift));
        };
        if drift.network && !self.only_policy_differs(&current, &ready)? {
            return Ok(Reload::NeedsRestart(drift));
        }
        if drift.is_none() {
            return match cut {
                true => self.told(false, jobs, cut, Vec::new()).map(Reload::Done),
                false => Ok(Reload::Already),
            };
        }
        // What cannot be enforced is refused before anything is written.
        policy::ruleset(&ready.composition.network, &Resolved::new())?;
        self.take_over(&current, &wanted, &ready)?;
        let mut told = self.told(drift.network, jobs, cut, ready.warnings())?;
        let local = self.manager.paths.local_layer(&self.name);
        let file = files::name_of(&local);
        // What is gone was said there, as far as anybody can tell.
        told.by_local_layer = drift.settings.iter().all(|setting| {
            let origin = setting.origin.as_deref();
            origin.is_none_or(|origin| origin.contains(file))
        });
        Ok(Reload::Done(told))
    }

    fn only_policy_differs(&self, current: &Current, ready: &Ready) -> Result<bool> {
        let spec: Option<NetworkSpec> = files::read_json(&current.dir.join("network.json"))?;
        let new = &ready.composition.network;
        Ok(spec.is_some_and(|old| policy::differ_in_policy_only(&old, new)))
    }

    /// Wants the same daemons of the new bundle, and lets it count when that is so.
    fn take_over(&self, current: &Current, wanted: &Wanted, ready: &Ready) -> Result<()> {
        let written = ready.write()?;
        let next = Wanted {
            change: new_generation(),
            bundle: written.digest.clone(),
            ..wanted.clone()
        };
        let taken = self.want(&next).and_then(|()| {
            self.is_in_force(&written.dir)?;
            bundle::activate(&self.state_dir(), &written.digest)?;
            Ok(())
        });
        if let Err(error) = taken {
            let before = Wanted {
                change: new_generation(),
                ..wanted.clone()
            };
            // The first error is the one to tell. What is wanted is written down in any case.
            let _back = self.want(&before).and_then(|()| self.prune_bundles(&[]));
            return Err(error);
        }
        self.prune_bundles(std::slice::from_ref(&current.digest))
    }

    /// The supervisor has changed the network before it reports; if it could not, it says why.
    fn is_in_force(&self, bundle: &std::path::Path) -> Result<()> {
        let run = self.run_dir();
        let text = files::read(&run.network())?;
        if text.is_none() || text == files::read(&bundle.join("network.json"))? {
            return Ok(());
        }
        let notes = self
            .look()?
            .report
            .map(|report| report.notes)
            .unwrap_or_default();
        Err(LifecycleError::Supervisor {
            instance: self.name.clone(),
            why: match notes.last() {
                Some(note) => format!("could not change the firewall: {note}"),
                None => "did not change the firewall".to_owned(),
            },
            log: self.supervisor_log(),
            tail: Vec::new(),
        })
    }

    fn told(
        &self,
        firewall: bool,
        jobs: Vec<String>,
        cut: bool,
        warnings: Vec<String>,
    ) -> Result<Reloaded> {
        let mut told = Reloaded {
            firewall,
            jobs,
            unwanted: Vec::new(),
            cut: false,
            by_local_layer: false,
            warnings,
        };
        // Without a network of its own there is no firewall, and nothing runs in it if all daemons have ended.
        let live = match self.live_network() {
            Ok(live) => live,
            Err(LifecycleError::NotRunning { .. } | LifecycleError::Unavailable { .. }) => {
                return Ok(told);
            }
            Err(error) => return Err(error),
        };
        let unwanted = policy::unwanted(live.netns.as_fd(), &live.spec)?;
        told.unwanted = described(&unwanted, &live, &live.known_names()?)?;
        if cut {
            policy::cut(live.netns.as_fd(), &live.spec, &unwanted)?;
            told.cut = !unwanted.is_empty();
        }
        Ok(told)
    }
}

/// The cron jobs that differ, when nothing of what runs all the time does.
fn jobs_alone(drift: &Drift, running: &Manifest, configured: &Manifest) -> Option<Vec<String>> {
    if drift.view {
        return None;
    }
    let is_job = |name: &String, kind: &Kind| {
        let manifest = if *kind == Kind::Gone {
            running
        } else {
            configured
        };
        let mut entries = manifest.entries.iter();
        entries.any(|entry| entry.name == *name && entry.kind == EntryKind::Cron)
    };
    let jobs = drift.entries.iter().all(|(name, kind)| is_job(name, kind));
    jobs.then(|| drift.entries.keys().cloned().collect())
}
