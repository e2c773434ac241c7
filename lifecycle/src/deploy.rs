//! From a tag to something that runs, or back to what ran before.
//!
//! `fetch`, `build`, `release`, `bundle`, `switch`: until the last one nothing of the running
//! instance is touched. Everything that is made on the way is written into `deploy.json` first. The
//! link `bundle` is the commit point: before it is switched, a failure or a crash is undone; after
//! it, [`recover`] only finishes what is left.

mod rollback;
mod supply;
mod turn;
mod underway;

pub(crate) use rollback::rollback;
pub(crate) use underway::{is_underway, recover};

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::layers::{Config, Source};

use crate::build::{self, Job, Recipe, Workshop};
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::{Deployed, Instance};
use crate::launcher::append;
use crate::materialize::{self, Understood};
use crate::progress::Progress;
use crate::release::number;
use crate::scm::Revision;
use crate::status::ReleaseInfo;
use crate::{converge, files, inspect, local};
use supply::{Found, Supply};
use turn::Turn;
use underway::{Underway, write};

/// How long a deployment waits for another command.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a deployment is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeployOptions {
    /// Build without running tests.
    pub skip_tests: bool,
    /// Tell every line of the build.
    pub verbose: bool,
    /// Give the caller a shell in the build sandbox before the build.
    pub shell: bool,
    /// How many releases are kept besides the one in use and the one before.
    pub keep: Option<usize>,
    /// Take a tag also when it means something else than it did.
    pub moved: bool,
    /// Build and start it also when it runs already.
    pub again: bool,
}

/// What a deployment would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployPlan {
    /// What would be deployed.
    pub tag: String,
    /// The commit that it is now.
    pub commit: String,
    /// Where the source is.
    pub repo: String,
    /// The release in use.
    pub current: Option<String>,
    /// What would be run to build it.
    pub build: Option<String>,
    /// The folder that would become the release.
    pub output: PathBuf,
    /// The entry points that would run.
    pub entries: Vec<String>,
    /// Releases that would be removed afterwards.
    pub removed: Vec<String>,
    /// It runs already, and nothing would be changed.
    pub unchanged: bool,
}

/// Deploys `tag`, else the tag that the configuration names.
pub(crate) fn deploy(
    instance: &Instance,
    tag: Option<&str>,
    options: &DeployOptions,
    progress: &mut dyn Progress,
) -> Result<Deployed> {
    let doing = format!("deploy {}", tag.unwrap_or_default());
    let doing = doing.trim_end();
    let _lock = instance.lock_within(doing, PATIENCE)?;
    for line in converge::converge(instance)? {
        progress.note(&line);
    }
    let workshop = Workshop::of(instance);
    let by = crate::lock::person();
    let (log, serial) = workshop.next_log(&format!("{} {doing}, by {by}", files::now()))?;
    let result = Deployment::begin(
        instance,
        tag,
        options,
        (&workshop, &log, Some(serial)),
        progress,
    )
    .and_then(|deployment| match deployment.running()? {
        Some(running) => Ok(running),
        None => deployment.carry_out(progress),
    });
    let tidied = converge::clear_workshop(instance);
    match &result {
        // Those of real deployments are kept longer without it.
        Ok(deployed) if deployed.unchanged => drop(files::remove_file(&log)?),
        _ => tell_log(&log, &result),
    }
    let deployed = result.inspect_err(|_| {
        progress.note(&format!(
            "Log: metactl {} logs --deploy {serial}",
            instance.name
        ));
    })?;
    // It runs and counts: what stays is removed by the next deployment.
    if let Err(error) = tidied {
        progress.note(&format!("the build is not tidied up: {error}"));
    }
    Ok(deployed)
}

/// The end of the log: what came of it, and what the application said about that.
fn tell_log(log: &Path, result: &Result<Deployed>) {
    let mut text = match result {
        Ok(deployed) => format!("{} {} runs", files::now(), deployed.release.id),
        Err(error) => format!("{} failed: {error}", files::now()),
    };
    let own = result.as_ref().err().and_then(LifecycleError::log);
    if let Some(error) = result.as_ref().err().filter(|_| own != Some(log)) {
        for line in error.tail() {
            text.push_str(&format!("\n  {line}"));
        }
    }
    text.push('\n');
    // On a full disk the log ends earlier.
    let _courtesy =
        append(log).and_then(|mut file| file.write_all(text.as_bytes()).on("write", log));
}

/// What `deploy` would do. Nothing is changed but caches.
pub(crate) fn plan(
    instance: &Instance,
    tag: Option<&str>,
    options: &DeployOptions,
    progress: &mut dyn Progress,
) -> Result<DeployPlan> {
    let _lock = instance.lock_within("deploy --dry-run", PATIENCE)?;
    for line in converge::converge(instance)? {
        progress.note(&line);
    }
    let workshop = Workshop::of(instance);
    let (log, _) = workshop.next_log(&format!("{} deploy --dry-run", files::now()))?;
    let planned = Deployment::begin(instance, tag, options, (&workshop, &log, None), progress)
        .and_then(|deployment| deployment.plan());
    let tidied = converge::clear_workshop(instance);
    // A fetch command that failed has said why in there.
    if planned.is_ok() {
        files::remove_file(&log)?;
    }
    let planned = planned?;
    tidied?;
    Ok(planned)
}

/// The log of a deployment that is still there.
pub(crate) fn log(instance: &Instance, serial: u64) -> Result<PathBuf> {
    Workshop::of(instance).log(serial)
}

/// A deployment under way.
struct Deployment<'a> {
    turn: Turn<'a>,
    supply: Supply,
    found: Found,
    workshop: &'a Workshop,
    log: &'a Path,
    options: &'a DeployOptions,
}

impl<'a> Deployment<'a> {
    /// Finds out what to deploy. Nothing is changed but the cache. The number of the deployment is said to who
    /// watches; a plan has none.
    fn begin(
        instance: &'a Instance,
        tag: Option<&str>,
        options: &'a DeployOptions,
        (workshop, log, serial): (&'a Workshop, &'a Path, Option<u64>),
        progress: &mut dyn Progress,
    ) -> Result<Deployment<'a>> {
        let current = instance.current()?;
        let config = first_config(instance)?;
        let configured = config
            .get("build", "tag")
            .map(|value| value.text.to_string());
        let supply = Supply::of(instance, &config)?;
        let wanted = supply.wanted(instance, tag, configured.as_deref())?;
        let mut what = match wanted.as_str() {
            "" => supply.shown(),
            tag => tag.to_owned(),
        };
        if let Some(current) = &current {
            what = format!("{} → {what}", inspect::release(instance, current)?.tag);
        }
        if let Some(serial) = serial {
            progress.note(&format!("{}: deploy #{serial}, {what}", instance.name));
        }
        progress.begin("fetch", &what);
        let found = supply.fetch(instance, &wanted, workshop, log, progress)?;
        progress.end(true, &format!("{what} ({})", found.revision.short()));
        supply
            .others(&found)
            .iter()
            .for_each(|line| progress.note(line));
        if !options.moved {
            refuse_moved(instance, &found.revision)?;
        }
        let record = tag.filter(|tag| configured.as_deref() != Some(tag));
        let subject = format!("deploy {}", found.revision.tag);
        let mut turn = Turn::new(instance, current, record, subject)?;
        turn.keep = options.keep;
        Ok(Deployment {
            turn,
            supply,
            found,
            workshop,
            log,
            options,
        })
    }

    /// The release in use, when it is what was asked for: of the same name and commit, with the same configuration,
    /// and all of it runs.
    fn running(&self) -> Result<Option<Deployed>> {
        let options = self.options;
        let asks_for_more = options.again || options.shell || options.keep.is_some();
        let (Some(current), false) = (&self.turn.current, asks_for_more) else {
            return Ok(None);
        };
        let release = inspect::release(self.turn.instance, current)?;
        let revision = &self.found.revision;
        let same = release.tag == revision.tag && release.commit == revision.commit;
        // A release does not know which commits of further repositories are in it.
        if !same || !self.supply.is_one() || !self.turn.is_running()? {
            return Ok(None);
        }
        Ok(Some(Deployed {
            previous: Some(release.clone()),
            release,
            unchanged: true,
        }))
    }

    /// The checkout, its application's layer, and the configuration with it.
    fn check_out(&self) -> Result<(Understood, Option<Vec<u8>>)> {
        self.workshop.clear_container()?;
        self.supply.checkout(&self.found, self.workshop)?;
        let src = self.workshop.src();
        let app_layer = self.supply.app_layer(&self.found, &src)?;
        // Everything that can be wrong with the configuration is told before anything is built.
        let understood = self.turn.understand(&src, "build")?;
        Ok((understood, app_layer))
    }

    fn carry_out(&self, progress: &mut dyn Progress) -> Result<Deployed> {
        let (understood, app_layer) = self.check_out()?;
        self.turn
            .carry_out(|underway| self.make(underway, understood, app_layer, progress))
    }

    fn plan(&self) -> Result<DeployPlan> {
        let unchanged = self.running()?.is_some();
        let (understood, _) = self.check_out()?;
        let instance = self.turn.instance;
        let app = &understood.app;
        let recipe = self.recipe(&understood)?;
        let current = self.turn.current.as_ref();
        let current = current.map(|current| current.manifest.release.clone());
        let keep = self.options.keep.or(app.build.keep);
        let keep = keep.unwrap_or(crate::release::KEEP);
        let mut old = instance.releases().ids()?;
        old.retain(|id| Some(id) != current.as_ref());
        old.sort_by_key(|id| number(id));
        old.truncate(old.len().saturating_sub(keep));
        let jobs = app.cron.iter().map(|job| job.name.clone());
        Ok(DeployPlan {
            tag: self.found.revision.tag.clone(),
            commit: self.found.revision.commit.clone(),
            repo: self.supply.shown(),
            current,
            output: output_of(&understood, recipe.as_ref()),
            build: recipe.map(|recipe| recipe.shown),
            entries: app.daemons.keys().cloned().chain(jobs).collect(),
            removed: if unchanged { Vec::new() } else { old },
            unchanged,
        })
    }

    fn make(
        &self,
        underway: &mut Underway,
        understood: Understood,
        app_layer: Option<Vec<u8>>,
        progress: &mut dyn Progress,
    ) -> Result<Deployed> {
        let output = self.build(&understood, progress)?;
        let info = self.release(underway, &output, app_layer.as_deref(), progress)?;
        self.turn.run(underway, info, progress)
    }

    fn recipe(&self, understood: &Understood) -> Result<Option<Recipe>> {
        let build = &understood.app.build;
        match &build.command {
            Some(command) => Ok(Some(Recipe {
                command: command.clone(),
                shown: command.clone(),
                output: None,
            })),
            None => build::recipe(build.tool, &self.workshop.src(), self.options.skip_tests),
        }
    }

    /// Builds. Returns the folder that becomes the release.
    fn build(&self, understood: &Understood, progress: &mut dyn Progress) -> Result<PathBuf> {
        let recipe = self.recipe(understood)?;
        let output = output_of(understood, recipe.as_ref());
        let Some(recipe) = recipe else {
            return Ok(output);
        };
        let build = &understood.app.build;
        let job = Job {
            origin: build
                .command
                .as_ref()
                .and(build.command_origin.as_ref())
                .map(ToString::to_string),
            command: recipe.command,
            env: self.variables(understood),
            verbose: self.options.verbose,
        };
        if self.options.shell {
            progress.note(
                "a shell in the build sandbox, in the checkout; `exit` builds, `exit 1` does not",
            );
            self.workshop.shell(understood, &job, self.log)?;
            self.undo_shell(progress)?;
        }
        progress.begin("build", &recipe.shown);
        self.workshop.run(understood, &job, self.log, progress)?;
        progress.end(true, "");
        Ok(output)
    }

    /// Where only what is signed may be built, nothing that somebody has typed is: the checkout is made anew.
    fn undo_shell(&self, progress: &mut dyn Progress) -> Result<()> {
        if !self.supply.wants_signature() {
            return Ok(());
        }
        self.supply.checkout(&self.found, self.workshop)?;
        self.supply
            .app_layer(&self.found, &self.workshop.src())
            .map(drop)?;
        progress
            .note("what the shell has changed is not built: [build] verify wants what is signed");
        Ok(())
    }

    fn variables(&self, understood: &Understood) -> BTreeMap<String, String> {
        let revision: &Revision = &self.found.revision;
        let site = understood.server.site.clone().unwrap_or_default();
        let mut variables = BTreeMap::from([
            ("METACTL_TAG".to_owned(), revision.tag.clone()),
            ("METACTL_COMMIT".to_owned(), revision.commit.clone()),
            ("NLA_ENVIRON".to_owned(), site),
        ]);
        if self.options.skip_tests {
            // Maven 3.9 reads the second; a command of one's own can look at the first.
            variables.insert("METACTL_SKIP_TESTS".to_owned(), "1".to_owned());
            variables.insert("MAVEN_ARGS".to_owned(), "-DskipTests".to_owned());
        }
        variables
    }

    fn release(
        &self,
        underway: &mut Underway,
        output: &Path,
        app_layer: Option<&[u8]>,
        progress: &mut dyn Progress,
    ) -> Result<ReleaseInfo> {
        let instance = self.turn.instance;
        let revision = &self.found.revision;
        let releases = instance.releases();
        let id = releases.next_id(revision)?;
        progress.begin("release", &id);
        underway.release = Some(id.clone());
        write(instance, underway)?;
        let output = output_dir(&self.workshop.src(), output)?;
        let info = releases.make(&id, &output, app_layer, revision, &self.supply.shown())?;
        progress.end(true, "");
        Ok(info)
    }
}

/// `[build] output`, else where the tool puts what it makes.
fn output_of(understood: &Understood, recipe: Option<&Recipe>) -> PathBuf {
    let said = &understood.app.build.output;
    match recipe.and_then(|recipe| recipe.output.clone()) {
        Some(output) if said == Path::new(".") => output,
        _ => said.clone(),
    }
}

/// A tag is a promise. When a release was made from another commit of that name, somebody has to say
/// that this is meant.
fn refuse_moved(instance: &Instance, revision: &Revision) -> Result<()> {
    if !revision.is_tag {
        return Ok(());
    }
    let before = instance.releases().all()?;
    let newest = before.iter().rfind(|release| release.tag == revision.tag);
    match newest {
        Some(release) if release.commit != revision.commit => Err(LifecycleError::TagMoved {
            tag: revision.tag.clone(),
            release: release.id.clone(),
            commits: format!(
                "{}, and now it is {}",
                release.commit.chars().take(12).collect::<String>(),
                revision.commit.chars().take(12).collect::<String>()
            ),
            instance: instance.name.clone(),
        }),
        _ => Ok(()),
    }
}

/// The configuration before anything is fetched, as far as it names the source. The other sections
/// are left out: what they say may only make sense with the application's own layer.
pub(crate) fn first_config(instance: &Instance) -> Result<Config> {
    let sources = materialize::sources(&instance.manager.paths, &instance.name, None, None)?;
    let reduced = |sections: &[&str]| {
        let reduce = |source: &Source| {
            let text = local::only(&source.text, sections);
            Source::new(source.layer, source.path.clone(), text)
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
