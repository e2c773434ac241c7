//! From a tag to something that runs, or back to what ran before.
//!
//! `fetch`, `build`, `release`, `bundle`, `switch`: until the last one nothing of the running
//! instance is touched. Everything that is made on the way is written into `deploy.json` first. The
//! link `bundle` is the commit point: before it is switched, a failure or a crash is undone; after
//! it, [`recover`] only finishes what is left.

mod rollback;
mod turn;
mod underway;

pub(crate) use rollback::rollback;
pub(crate) use underway::recover;

use std::path::Path;
use std::time::Duration;

use metactl_bundles::layers::{Config, Source};

use crate::build::Workshop;
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::{Deployed, Instance};
use crate::materialize::{self, Understood};
use crate::progress::Progress;
use crate::release::APP_LAYER;
use crate::scm::{self, Git, Revision};
use crate::status::ReleaseInfo;
use crate::{allocation, converge, inspect, local};
use turn::Turn;
use underway::{Underway, write};

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
    turn: Turn<'a>,
    git: Git,
    revision: Revision,
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
        let record = tag.filter(|tag| configured.as_deref() != Some(tag));
        Ok(Deployment {
            turn: Turn::new(
                instance,
                current,
                record,
                format!("deploy {}", revision.tag),
            )?,
            git,
            revision,
        })
    }

    fn carry_out(&self, progress: &mut dyn Progress) -> Result<Deployed> {
        let instance = self.turn.instance;
        let workshop = Workshop::new(
            &instance.manager.paths.cache,
            &instance.log_dir(),
            &instance.name,
        );
        workshop.clear_container(&instance.runtime())?;
        let src = workshop.fresh_checkout()?;
        self.git.checkout(&self.revision, &src)?;
        let app_layer = self.app_layer(&src)?;
        // Everything that can be wrong with the configuration is told before anything is built.
        let understood = self.turn.understand(&src, "build")?;
        self.turn
            .carry_out(|underway| self.make(underway, &workshop, understood, app_layer, progress))
    }

    fn make(
        &self,
        underway: &mut Underway,
        workshop: &Workshop,
        understood: Understood,
        app_layer: Option<Vec<u8>>,
        progress: &mut dyn Progress,
    ) -> Result<Deployed> {
        self.build(workshop, &understood, progress)?;
        let app_layer = app_layer.as_deref();
        let info = self.release(underway, workshop, &understood, app_layer, progress)?;
        self.turn.run(underway, info, progress)
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
        let instance = self.turn.instance;
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
        let instance = self.turn.instance;
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
