//! From a tag to something that runs, or back to what ran before.
//!
//! `fetch`, `build`, `release`, `bundle`, `switch`: until the last one nothing of the running
//! instance is touched. Everything that is made on the way is written into `deploy.json` first. The
//! link `bundle` is the commit point: before it is switched, a failure or a crash is undone; after
//! it, [`recover`] only finishes what is left.

mod underway;

pub(crate) use underway::recover;

use std::path::Path;
use std::time::Duration;

use metactl_bundles::bundle::{self, read_manifest};
use metactl_bundles::edit::{self, Wish};
use metactl_bundles::layers::{Config, Source};

use crate::build::Workshop;
use crate::conflicts::{self, Look};
use crate::edit::{history, layer};
use crate::error::{LifecycleError, OnPath, Result};
use crate::health;
use crate::instance::{Current, Deployed, Instance};
use crate::materialize::{self, Ingredients, Ready, Understood};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::scm::{self, Git, Revision};
use crate::status::ReleaseInfo;
use crate::{allocation, change, converge, files, inspect, local};
use underway::{Before, FORMAT, Underway, forget, prepare_local, undo, write};

/// How long a deployment waits for another command.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many tags are named when none was.
const NEWEST: usize = 5;

/// Deploys `tag`, else the tag that the configuration names.
pub(crate) fn deploy(
    instance: &Instance,
    tag: Option<&str>,
    progress: &mut dyn Progress,
) -> Result<Deployed> {
    let doing = format!("deploy {}", tag.unwrap_or_default());
    let _lock = instance.lock_within(doing.trim_end(), PATIENCE)?;
    for line in converge::converge(instance)? {
        progress.note(&line);
    }
    let deployment = Deployment::begin(instance, tag, progress)?;
    let result = deployment.carry_out(progress);
    let tidied = converge::clear_workshop(instance);
    let deployed = result?;
    // It runs and counts: what stays is removed by the next deployment.
    if let Err(error) = tidied {
        progress.note(&format!("the build is not tidied up: {error}"));
    }
    Ok(deployed)
}

/// A deployment under way.
struct Deployment<'a> {
    instance: &'a Instance,
    git: Git,
    revision: Revision,
    /// The text of the local layer that records the tag; `None`: it stays as it is.
    local: Option<String>,
    current: Option<Current>,
    before: Before,
}

impl<'a> Deployment<'a> {
    /// Finds out what to deploy. Nothing is changed but the cache.
    fn begin(
        instance: &'a Instance,
        tag: Option<&str>,
        progress: &mut dyn Progress,
    ) -> Result<Deployment<'a>> {
        let paths = &instance.manager.paths;
        let current = instance.current()?;
        let config = first_config(instance)?;
        let value = |key: &str| config.get("build", key).map(|value| value.text.to_string());
        let repo = value("repo").ok_or_else(|| LifecycleError::Setting {
            what: format!("nothing says where the source of {} is", instance.name),
            hint: format!(
                "{}: [build] repo = URL or path",
                paths.local_layer(&instance.name).display()
            ),
        })?;
        let git = scm::open(&repo, &paths.cache)?;
        let configured = value("tag");
        let Some(wanted) = tag.map(str::to_owned).or_else(|| configured.clone()) else {
            let known = git.fetch_tags(NEWEST)?;
            return Err(LifecycleError::Setting {
                what: format!("nothing says which tag of {} to deploy", git.shown()),
                hint: format!(
                    "metactl {} deploy TAG, or [build] tag = TAG; the newest tags are: {}",
                    instance.name,
                    known.join(", ")
                ),
            });
        };
        let what = match &current {
            Some(current) => format!("{} → {wanted}", inspect::release(instance, current)?.tag),
            None => wanted.clone(),
        };
        progress.begin("fetch", &what);
        let revision = git.fetch(&wanted)?;
        progress.end(true, &format!("{what} ({})", revision.short()));
        let state_dir = instance.state_dir();
        let before = Before {
            bundle: current.is_some(),
            data: state_dir.join("data").exists(),
            allocation: allocation::read(&state_dir)?.is_some(),
        };
        let local = match tag {
            Some(tag) if configured.as_deref() != Some(tag) => Some(with_tag(instance, tag)?),
            _ => None,
        };
        Ok(Deployment {
            instance,
            git,
            revision,
            local,
            current,
            before,
        })
    }

    fn carry_out(&self, progress: &mut dyn Progress) -> Result<Deployed> {
        let instance = self.instance;
        let workshop = Workshop::new(
            &instance.manager.paths.cache,
            &instance.log_dir(),
            &instance.name,
        );
        workshop.clear_container(&instance.runtime())?;
        let src = workshop.fresh_checkout()?;
        self.git.checkout(&self.revision, &src)?;
        let app_layer = self.app_layer(&src)?;
        // Everything that can be wrong with the configuration is told before anything is built,
        // with the lines as they are on disk now.
        let as_it_is = Ingredients {
            local: None,
            ..self.ingredients(&src, "build")
        };
        let understood = as_it_is.understand()?;
        let runs = instance.run_dir().wanted()?.is_some();
        self.check_conflicts(&understood, runs)?;
        let mut underway = Underway {
            format: FORMAT,
            release: None,
            bundle: None,
            wanted: instance.run_dir().wanted()?,
            local: self.local.clone(),
            before: self.before,
        };
        files::make_dir(&instance.state_dir(), 0o755)?;
        let made = self.make(&mut underway, &workshop, understood, app_layer, progress);
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

    fn make(
        &self,
        underway: &mut Underway,
        workshop: &Workshop,
        understood: Understood,
        app_layer: Option<Vec<u8>>,
        progress: &mut dyn Progress,
    ) -> Result<Deployed> {
        let instance = self.instance;
        write(instance, underway)?;
        self.build(workshop, &understood, progress)?;
        let info = self.release(
            underway,
            workshop,
            &understood,
            app_layer.as_deref(),
            progress,
        )?;
        let path = instance.releases().path(&info.id);
        let ready = self.compose(&path, &info.id)?;
        underway.bundle = Some(ready.composition.digest());
        write(instance, underway)?;
        let written = ready.write()?;
        ready
            .warnings()
            .iter()
            .for_each(|warning| progress.note(warning));
        self.switch(underway, &written.dir, progress)?;
        if let Err(error) = self.keep_few(&info) {
            progress.note(&format!("old releases are not removed: {error}"));
        }
        let previous = self
            .current
            .as_ref()
            .map(|c| inspect::release(instance, c))
            .transpose()?;
        Ok(Deployed {
            release: info,
            previous,
        })
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

    fn build(
        &self,
        workshop: &Workshop,
        understood: &Understood,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let Some(command) = &understood.app.build.command else {
            return Ok(());
        };
        let instance = self.instance;
        progress.begin("build", command);
        let needs = allocation::Needs {
            dir: &instance.state_dir(),
            account: understood.app.sandbox.user.as_deref(),
            address: false,
        };
        let allocation = allocation::allocate(&instance.manager.paths, &understood.server, needs)?;
        workshop.build(&instance.runtime(), understood, &allocation, &self.revision)?;
        progress.end(true, "");
        Ok(())
    }

    fn release(
        &self,
        underway: &mut Underway,
        workshop: &Workshop,
        understood: &Understood,
        app_layer: Option<&[u8]>,
        progress: &mut dyn Progress,
    ) -> Result<ReleaseInfo> {
        let instance = self.instance;
        let releases = instance.releases();
        let id = releases.next_id(&self.revision)?;
        progress.begin("release", &id);
        underway.release = Some(id.clone());
        write(instance, underway)?;
        let output = output_dir(&workshop.src(), &understood.app.build.output)?;
        let info = releases.make(&id, &output, app_layer, &self.revision, &self.git.shown())?;
        progress.end(true, "");
        Ok(info)
    }

    /// Runs the new bundle; when it is up it counts, else what ran before runs again.
    fn switch(&self, underway: &Underway, dir: &Path, progress: &mut dyn Progress) -> Result<()> {
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
        let wanted = instance.everything(files::name_of(dir), names.into_iter())?;
        let up =
            change::switch(instance, &wanted, &manifest, health::LOOK, progress).and_then(|()| {
                // The commit point.
                Ok(bundle::activate(
                    &instance.state_dir(),
                    files::name_of(dir),
                )?)
            });
        if let Err(error) = up {
            progress.end(false, "");
            let before = underway.wanted.as_ref().zip(self.current.as_ref());
            return Err(change::go_back(instance, error, before, progress));
        }
        if let Some(prepared) = prepared {
            prepared.commit()?;
            let paths = &instance.manager.paths;
            let file = paths.local_layer(&instance.name);
            let subject = format!("{}: deploy {}", instance.name, self.revision.tag);
            if let Some(failed) = history::commit(&paths.config, &file, &subject) {
                progress.note(&failed);
            }
        }
        forget(instance)?;
        progress.end(true, "");
        change::enable(instance, progress);
        Ok(())
    }

    fn keep_few(&self, info: &ReleaseInfo) -> Result<()> {
        let before = self.current.as_ref();
        let mut keep = vec![info.id.as_str()];
        keep.extend(before.map(|current| current.manifest.release.as_str()));
        self.instance.releases().prune(&keep)?;
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

    /// The application's layer, from the commit itself; what the checkout has in its place must be
    /// the same plain file, because that is what is read.
    fn app_layer(&self, src: &Path) -> Result<Option<Vec<u8>>> {
        let text = self.git.file(&self.revision, APP_LAYER)?;
        let path = src.join(APP_LAYER);
        if text.is_none() && path.symlink_metadata().is_ok() {
            return Err(LifecycleError::Release {
                what: format!("{APP_LAYER} is no plain file"),
                hint: format!(
                    "put the file itself into the repository, at {}",
                    self.revision.tag
                ),
            });
        }
        Ok(text)
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

/// The configuration before anything is fetched, as far as it names the source. The other sections
/// are left out: what they say may only make sense with the application's own layer.
pub(crate) fn first_config(instance: &Instance) -> Result<Config> {
    let sources = materialize::sources(&instance.manager.paths, &instance.name, None, None)?;
    let reduced = |sections: &[&str]| {
        let reduce = |source: &Source| Source {
            text: local::only(&source.text, sections),
            ..source.clone()
        };
        Config::check(sources.iter().map(reduce).collect())
    };
    // `[env]` may refer to names of the application's too.
    let config = reduced(&["build", "env"]).or_else(|_| reduced(&["build"]));
    Ok(config?)
}

/// The folder of the checkout that becomes the release, never by a link that leads elsewhere.
fn output_dir(src: &Path, output: &Path) -> Result<std::path::PathBuf> {
    let missing = |what: String| LifecycleError::Release {
        what,
        hint: "[build] output names the folder that the build command makes".to_owned(),
    };
    let path = src.join(output);
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) => return Err(missing(format!("{}: {error}", output.display()))),
    };
    let root = src.canonicalize().on("read", src)?;
    if !real.starts_with(&root) || !real.is_dir() {
        return Err(missing(format!(
            "{} is no folder of the checkout",
            output.display()
        )));
    }
    Ok(real)
}

/// The local layer with the tag.
fn with_tag(instance: &Instance, tag: &str) -> Result<String> {
    let path = instance.manager.paths.local_layer(&instance.name);
    let text = layer::read(&path)?;
    Ok(edit::edit(&path, &text, "build", "tag", Wish::Say(tag))?.text)
}
