//! What a deployment and the way back have in common: from a release to what runs, or nothing happened.

use std::path::Path;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::{self, read_manifest};
use metactl_bundles::edit::{self, Wish};
use metactl_bundles::network::Mode;

use crate::conflicts::{self, Look};
use crate::edit::{history, layer};
use crate::error::{LifecycleError, Result};
use crate::health;
use crate::instance::{Current, Deployed, Instance};
use crate::materialize::{Ingredients, Ready, Understood};
use crate::progress::Progress;
use crate::status::{EntryState, ReleaseInfo};
use crate::{allocation, change, files, inspect, release};

use super::underway::{Before, FORMAT, Underway, forget, prepare_local, undo, write};

/// The turn of an instance to another release.
pub(super) struct Turn<'a> {
    pub(super) instance: &'a Instance,
    /// What is in use before.
    pub(super) current: Option<Current>,
    /// The text of the local layer that records the tag; `None`: it stays as it is.
    local: Option<String>,
    before: Before,
    /// What the history of the local layer calls it.
    subject: String,
    /// How many releases are kept besides those in use and before; `None`: as the configuration says.
    pub(super) keep: Option<usize>,
}

impl<'a> Turn<'a> {
    /// `record`: a tag for the local layer. Nothing is changed yet.
    pub(super) fn new(
        instance: &'a Instance,
        current: Option<Current>,
        record: Option<&str>,
        subject: String,
    ) -> Result<Turn<'a>> {
        let state_dir = instance.state_dir();
        let before = Before {
            bundle: current.is_some(),
            data: state_dir.join("data").exists(),
            allocation: allocation::read(&state_dir)?.is_some(),
        };
        Ok(Turn {
            instance,
            current,
            local: record.map(|tag| with_tag(instance, tag)).transpose()?,
            before,
            subject,
            keep: None,
        })
    }

    /// Reads the configuration with a release's own layer, with the lines as they are on disk now, and checks
    /// that the instance can have what it says.
    pub(super) fn understand(&self, release: &Path, id: &str) -> Result<Understood> {
        let as_it_is = Ingredients {
            local: None,
            ..self.ingredients(release, id)
        };
        let understood = as_it_is.understand()?;
        let runs = self.instance.wanted()?.is_some();
        self.check_conflicts(&understood, runs)?;
        Ok(understood)
    }

    /// Records what is under way, and undoes it when `make` fails.
    pub(super) fn carry_out(
        &self,
        make: impl FnOnce(&mut Underway) -> Result<Deployed>,
    ) -> Result<Deployed> {
        let instance = self.instance;
        let mut underway = Underway {
            format: FORMAT,
            release: None,
            bundle: None,
            wanted: instance.wanted()?,
            local: self.local.clone(),
            before: self.before,
        };
        files::make_dir(&instance.state_dir(), 0o755)?;
        let made = write(instance, &underway).and_then(|()| make(&mut underway));
        match made {
            Ok(deployed) => Ok(deployed),
            // What cannot be undone now is undone by the next command, which finds the record.
            Err(error @ LifecycleError::NotRolledBack { .. }) => Err(error),
            Err(error) => match undo(instance, &underway) {
                Ok(()) => Err(error),
                Err(why) => Err(LifecycleError::NotRolledBack {
                    cause: Box::new(error),
                    back: "the state on disk".to_owned(),
                    why: Box::new(why),
                }),
            },
        }
    }

    /// Makes the bundle of a release, and runs it.
    pub(super) fn run(
        &self,
        underway: &mut Underway,
        info: ReleaseInfo,
        progress: &mut dyn Progress,
    ) -> Result<Deployed> {
        let instance = self.instance;
        let path = instance.releases().path(&info.id);
        let ready = self.compose(&path, &info.id)?;
        underway.bundle = Some(ready.composition.digest());
        write(instance, underway)?;
        let written = ready.write()?;
        ready
            .warnings()
            .iter()
            .for_each(|warning| progress.note(warning));
        let net = &ready.understood.app.sandbox.net;
        if matches!(net.mode, Mode::Routed | Mode::Nat) {
            let warnings = crate::doctor::warnings(&ready.understood.server);
            warnings.iter().for_each(|warning| progress.note(warning));
        }
        let watch = ready.understood.app.build.watch;
        self.switch(underway, &written.dir, watch, progress)?;
        let keep = self.keep.or(ready.understood.app.build.keep);
        if let Err(error) = self.keep_few(&info, keep) {
            progress.note(&format!("old releases are not removed: {error}"));
        }
        // Last: while it is there, the next command finishes what is left.
        forget(instance)?;
        let previous = self
            .current
            .as_ref()
            .map(|c| inspect::release(instance, c))
            .transpose()?;
        Ok(Deployed {
            release: info,
            previous,
            unchanged: false,
        })
    }

    /// Whether the release in use, with the configuration of now, is what runs already, all of it.
    pub(super) fn is_running(&self) -> Result<bool> {
        let (instance, Some(current)) = (self.instance, &self.current) else {
            return Ok(false);
        };
        let look = instance.look()?;
        let (Some(wanted), Some(report)) = (look.wanted, look.report) else {
            return Ok(false);
        };
        let runs = |name: &String| {
            let entry = report.entries.get(name);
            wanted.daemons.contains_key(name)
                && entry.is_some_and(|entry| entry.state == EntryState::Running)
        };
        let daemons = instance.daemon_names(&current.manifest);
        if !wanted.cron || wanted.bundle != current.digest || !daemons.iter().all(runs) {
            return Ok(false);
        }
        // The tag would be written down.
        if self.local.is_some() {
            return Ok(false);
        }
        let release = &current.manifest.release;
        let path = instance.releases().path(release);
        // What is wrong with it is told by the deployment.
        let now = self.compose(&path, release);
        Ok(now.is_ok_and(|ready| ready.composition.digest() == current.digest))
    }

    /// With the tag in the local layer. What is wrong is told with the lines as they are on disk,
    /// where the tag is not yet.
    fn compose(&self, release: &Path, id: &str) -> Result<Ready> {
        let to_be = self.ingredients(release, id);
        let composed = to_be
            .understand()
            .and_then(|understood| to_be.compose(understood));
        composed.or_else(|error| {
            let as_it_is = Ingredients {
                local: None,
                ..to_be
            };
            as_it_is.compose(as_it_is.understand()?).and(Err(error))
        })
    }

    /// Runs the new bundle; when it is up it counts, else what ran before runs again.
    fn switch(
        &self,
        underway: &Underway,
        dir: &Path,
        watch: Duration,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        // Without something to go back to there is nothing to gain by watching.
        let window = match underway.wanted {
            Some(_) => watch.max(health::LOOK),
            None => health::LOOK,
        };
        let instance = self.instance;
        let manifest = read_manifest(dir)?;
        let prepared = prepare_local(instance, underway.local.as_deref())?;
        let names = instance.daemon_names(&manifest);
        progress.begin(
            if underway.wanted.is_some() {
                "switch"
            } else {
                "start"
            },
            &names.join(", "),
        );
        let begun = Instant::now();
        let wanted = instance.everything(files::name_of(dir), names.into_iter())?;
        let up = change::switch(instance, &wanted, &manifest, window, progress).and_then(|()| {
            // The commit point.
            Ok(bundle::activate(
                &instance.state_dir(),
                files::name_of(dir),
            )?)
        });
        if let Err(error) = up {
            progress.end(false, "");
            let before = underway.wanted.as_ref().zip(self.current.as_ref());
            return Err(change::go_back(instance, error, before, begun, progress));
        }
        if let Some(prepared) = prepared {
            prepared.commit()?;
            let paths = &instance.manager.paths;
            let file = paths.local_layer(&instance.name);
            let subject = format!("{}: {}", instance.name, self.subject);
            if let Some(failed) = history::commit(&paths.config, &file, &subject) {
                progress.note(&failed);
            }
        }
        progress.end(true, "");
        change::enable(instance, progress);
        Ok(())
    }

    fn keep_few(&self, info: &ReleaseInfo, count: Option<usize>) -> Result<()> {
        let before = self.current.as_ref();
        let mut keep = vec![info.id.as_str()];
        keep.extend(before.map(|current| current.manifest.release.as_str()));
        self.instance
            .releases()
            .prune(&keep, count.unwrap_or(release::KEEP))?;
        let bundles: Vec<String> = before
            .map(|current| current.digest.clone())
            .into_iter()
            .collect();
        self.instance.prune_bundles(&bundles)
    }

    fn ingredients(&self, release: &Path, id: &str) -> Ingredients<'_> {
        Ingredients {
            paths: &self.instance.manager.paths,
            instance: &self.instance.name,
            state_dir: self.instance.state_dir(),
            release: release.to_path_buf(),
            release_id: id.to_owned(),
            local: self.local.clone(),
            site_only: false,
        }
    }

    fn check_conflicts(&self, understood: &Understood, runs: bool) -> Result<()> {
        let instance = self.instance;
        // What runs has its addresses; a new one is asked for on the network.
        let own = allocation::bundle_addresses(&instance.state_dir());
        let same = understood
            .app
            .sandbox
            .net
            .addresses
            .iter()
            .all(|a| own.contains(a));
        conflicts::check(
            &instance.manager.paths,
            &instance.name,
            understood,
            runs && same,
            Look::Network,
        )
    }
}

/// The local layer with the tag.
fn with_tag(instance: &Instance, tag: &str) -> Result<String> {
    let path = instance.manager.paths.local_layer(&instance.name);
    let text = layer::read(&path)?;
    Ok(edit::edit(&path, &text, "build", "tag", Wish::Say(tag))?.text)
}
