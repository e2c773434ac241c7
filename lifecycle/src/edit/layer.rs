//! The file of the local layer: read as it is, checked with all the others, replaced whole.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use metactl_bundles::edit::Address;
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;

use super::history;
use crate::error::{LifecycleError, OnPath, Result};
use crate::instance::{Current, Instance};
use crate::release::APP_LAYER;
use crate::scm::{self, Settings};
use crate::{converge, deploy, files, materialize};

/// The mode of a local layer that metactl makes: it may hold passwords.
const MODE: u32 = 0o600;
/// What the file was before the last change, beside the instance's data.
const BEFORE: &str = "local.before";

/// The local layer of an instance whose lock is held.
pub(crate) struct Layer<'a> {
    instance: &'a Instance,
    pub(crate) path: PathBuf,
    /// What is in it; empty when there is none.
    pub(crate) text: String,
    /// The release in use, whose layer it is checked with.
    current: Option<Current>,
}

/// A configuration that nothing is wrong with.
pub(crate) struct Checked {
    pub(crate) config: Config,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Layer<'a> {
    /// Reads it. The caller holds the lock.
    pub(crate) fn open(instance: &'a Instance) -> Result<Layer<'a>> {
        // A deployment that was killed may have the last word on this file.
        converge::converge(instance)?;
        let path = instance.manager.paths.local_layer(&instance.name);
        let text = read(&path)?;
        Ok(Layer {
            current: instance.current()?,
            instance,
            path,
            text,
        })
    }

    /// The configuration as it is, as far as it can be understood: to know which keys there are.
    pub(crate) fn config_as_it_is(&self) -> Result<Config> {
        Ok(Config::as_far_as_understood(self.sources(&self.text)?))
    }

    /// Whether a layer below says something about a key.
    pub(crate) fn is_said_below(&self, config: &Config, address: &Address) -> bool {
        let Some(value) = config.get(&address.section, &address.key) else {
            return false;
        };
        let below = |layer: LayerKind| !matches!(layer, LayerKind::Local | LayerKind::Defaults);
        below(value.origin.layer)
            || value
                .overrides
                .iter()
                .any(|(origin, _)| below(origin.layer))
    }

    /// Merges all layers with `text` as the local one, and checks the result.
    pub(crate) fn check(&self, text: &str) -> Result<Checked> {
        let sources = self.sources(text)?;
        let has_app = sources.iter().any(|source| source.layer == LayerKind::App);
        let config = if self.current.is_some() && has_app {
            let (config, app) = model::load(sources, &self.instance.name)?;
            drop(app);
            config
        } else {
            // Before the first deployment names may be missing; they are told, and asked for then.
            let checked = check_early(sources.clone(), &self.instance.name);
            match (checked, has_app) {
                // `[daemon.web] port =` means nothing without what the application says of it.
                (Ok(config), false) if !has_bare_daemon(&config) => config,
                (checked, false) => match (self.fetch_app_layer(), checked) {
                    (Some(app), _) => {
                        check_early([sources, vec![app]].concat(), &self.instance.name)?
                    }
                    // An imported one waits for its application as it is.
                    (None, Ok(config)) if self.is_bare()? => config,
                    (None, Ok(_)) => check_alone(sources)?,
                    (None, Err(error)) => return Err(error),
                },
                (checked, true) => checked?,
            }
        };
        let warnings = config.warnings().iter().map(|found| found.render(false));
        Ok(Checked {
            warnings: warnings.collect(),
            config,
        })
    }

    /// Whether the layer, as it is, names a daemon that only the application can describe.
    fn is_bare(&self) -> Result<bool> {
        let config = Config::as_far_as_understood(self.sources(&self.text)?);
        Ok(has_bare_daemon(&config))
    }

    /// All layers, with `text` as the local one. The app layer is that of the release in use; before
    /// the first deployment that of the repository, where it was fetched already.
    fn sources(&self, text: &str) -> Result<Vec<Source>> {
        let paths = &self.instance.manager.paths;
        let name = &self.instance.name;
        let release = self
            .current
            .as_ref()
            .map(|current| current.manifest.release_path.join(APP_LAYER));
        let mut sources = materialize::sources(paths, name, release.as_deref(), Some(text))?;
        if self.current.is_none() {
            sources.extend(self.fetched_app_layer());
        }
        Ok(sources)
    }

    /// `.metactl` from the cache of the repository; none when it is not there yet.
    fn fetched_app_layer(&self) -> Option<Source> {
        let (source, tag) = source(self.instance)?;
        app_layer(&source, &tag).ok()?
    }

    /// `.metactl`, fetched now. Why it cannot be is told by `deploy`.
    fn fetch_app_layer(&self) -> Option<Source> {
        let (source, tag) = source(self.instance)?;
        let revision = source.fetch(&tag).ok()?;
        layer_of(&source, &revision).ok()?
    }

    /// Replaces the file; what it was is kept beside the instance's data. Returns what is worth knowing.
    pub(crate) fn replace(&self, text: &str, subject: &str) -> Result<Vec<String>> {
        let state_dir = self.instance.state_dir();
        files::make_dir(&state_dir, 0o755)?;
        let kept = files::prepare(&state_dir.join(BEFORE), self.text.as_bytes(), MODE);
        let result = kept.and_then(|kept| {
            write(&self.path, text)?;
            kept.commit()
        });
        if result.is_err() {
            files::remove_empty_dir(&state_dir);
        }
        result?;
        Ok(self.remember(subject))
    }

    /// Commits it, where the configuration is kept in git. Returns what went wrong with that.
    pub(crate) fn remember(&self, subject: &str) -> Vec<String> {
        history::commit(&self.instance.manager.paths.config, &self.path, subject)
            .into_iter()
            .collect()
    }
}

/// `.metactl` of an instance that was never deployed, for who only looks: none where a glance at its repository does not
/// show it.
pub(crate) fn glanced_app_layer(instance: &Instance) -> Option<Source> {
    let (source, tag) = source(instance)?;
    let text = source.glance(&tag, APP_LAYER).ok()??;
    String::from_utf8(text).ok().map(app_source)
}

/// The repository and the tag that the layers name.
fn source(instance: &Instance) -> Option<(scm::Source, String)> {
    let config = deploy::first_config(instance).ok()?;
    let value = |key: &str| config.get("build", key).map(|value| value.text.to_string());
    let cache = &instance.manager.paths.cache;
    if value("fetch").is_some() {
        return None;
    }
    let settings = Settings::of(&config, &value("repo")?);
    let source = scm::open(&settings, cache).ok()?;
    let tag = match source.needs_tag() {
        true => value("tag")?,
        false => String::new(),
    };
    Some((source, tag))
}

/// The text of a local layer, never through a symbolic link; empty when there is none.
pub(crate) fn read(path: &Path) -> Result<String> {
    refuse_links(path)?;
    let bytes = files::read(path)?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|error| LifecycleError::Edit {
        what: format!("{} is not UTF-8: {error}", path.display()),
        hint: "save it as UTF-8 first".to_owned(),
    })
}

/// A link would be replaced by a file, and what it leads to left as it is: nobody means that.
fn refuse_links(path: &Path) -> Result<()> {
    let what = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => return Ok(()),
        Ok(meta) if meta.is_symlink() => {
            let target = fs::read_link(path).on("read", path)?;
            format!("a symbolic link to {}", target.display())
        }
        Ok(_) => "not a regular file".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).on("read", path),
    };
    Err(LifecycleError::Edit {
        what: format!(
            "{} is {what}; metactl changes the file itself only",
            path.display()
        ),
        hint: "put the file itself there".to_owned(),
    })
}

/// Replaces the file at once, with the owner and the mode that it had.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    refuse_links(path)?;
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o755)?;
    }
    let before = fs::symlink_metadata(path).ok();
    let mode = before.as_ref().map_or(MODE, |meta| meta.mode() & 0o7777);
    let owner = before.map(|meta| (meta.uid(), meta.gid()));
    files::prepare_owned(path, text.as_bytes(), mode, owner)?.commit()
}

/// Checks a configuration before its first deployment: names that are missing are no fault yet.
pub(crate) fn check_early(sources: Vec<Source>, instance: &str) -> Result<Config> {
    let config = Config::check(sources)?;
    // What depends on a missing name would only look wrong.
    let has_app = config
        .sources()
        .iter()
        .any(|source| source.layer == LayerKind::App);
    if config.needed().is_empty() && has_app {
        model::build(&config, instance)?;
    }
    Ok(config)
}

/// As if the application said nothing.
fn check_alone(mut sources: Vec<Source>) -> Result<Config> {
    sources.push(Source::new(LayerKind::App, Path::new(APP_LAYER), ""));
    Ok(Config::check(sources)?)
}

/// Whether there is a daemon about which nobody says what it is.
fn has_bare_daemon(config: &Config) -> bool {
    let mut daemons = config.sections().filter(|name| name.starts_with("daemon."));
    daemons.any(|name| name != "daemon.*" && config.get(name, "platform").is_none())
}

/// The application's layer at a tag, as of the last fetch.
fn app_layer(source: &scm::Source, tag: &str) -> Result<Option<Source>> {
    match source.known(tag)? {
        Some(revision) => layer_of(source, &revision),
        None => Ok(None),
    }
}

fn layer_of(source: &scm::Source, revision: &scm::Revision) -> Result<Option<Source>> {
    let text = source.file(revision, APP_LAYER)?;
    Ok(text
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(app_source))
}

/// The text of `.metactl` as a layer.
pub(crate) fn app_source(text: String) -> Source {
    Source::new(LayerKind::App, PathBuf::from(APP_LAYER), text)
}

/// What the file was before the last change, if that is known.
pub(crate) fn before(instance: &Instance) -> Result<Option<String>> {
    let bytes = files::read(&instance.state_dir().join(BEFORE))?;
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

/// Where that is kept.
pub(crate) fn before_path(instance: &Instance) -> PathBuf {
    instance.state_dir().join(BEFORE)
}
