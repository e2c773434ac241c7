//! An application's repository on its own: is its `.metactl` right, what does it need from the site,
//! and what does it ask for that only site or local may grant?
//!
//! Needs no privilege, no installation and no instance: for a pre-commit hook or a build server.
//! With [`Request::site`] the layers of that site are merged on top.

use std::path::{Path, PathBuf};

use crate::diagnostics::{Diagnostic, Place, Report};
use crate::keys::{suggest, values};
use crate::layers::{self, Config, LayerKind, Source, Trust};
use crate::model;
use crate::paths::Paths;

/// The name of the app layer's file.
pub const APP_LAYER: &str = ".metactl";

/// What is to be checked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// A folder with a `.metactl` in it, or such a file itself.
    pub path: &'a Path,
    /// The site whose layers are merged on top.
    pub site: Option<&'a str>,
    /// The name of the application; without it `[app] name`, else the name of the folder.
    pub app: Option<&'a str>,
}

/// What a repository asks of those who run it. It is valid, or there would be a [`Report`] instead.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The `.metactl` file.
    pub file: PathBuf,
    /// The name of the application.
    pub app: String,
    /// What it says, merged with the site's layers. Its [`Config::needed`] are the names that a
    /// further layer has to define, its [`Config::requests`] what nobody granted, its
    /// [`Config::warnings`] what is probably not meant.
    pub config: Config,
}

impl Checked {
    /// The daemons, by name.
    pub fn daemons(&self) -> Vec<&str> {
        let sections = self.config.sections();
        sections
            .filter_map(|section| section.strip_prefix("daemon."))
            .collect()
    }

    /// How many cron jobs there are.
    pub fn cron_jobs(&self) -> usize {
        self.config.section("crontab").map_or(0, Iterator::count)
    }
}

/// Reads and judges. `paths` says where the sites are.
///
/// # Errors
/// Everything that is wrong in the layers, in one report; a path without `.metactl`; a site that
/// there is not.
pub fn check(paths: &Paths, request: &Request<'_>) -> Result<Checked, Report> {
    let file = app_layer(request.path)?;
    let Some(text) = layers::read_untrusted(&file).map_err(|found| *found)? else {
        return Err(Diagnostic::error("there is no such file")
            .at(Place::file(&file))
            .hint("an application's settings are in `.metactl` at the top of its repository")
            .into());
    };
    let app = name(request, &file, &text)?;
    let mut sources = vec![Source::new(LayerKind::App, file.clone(), text)];
    if let Some(site) = request.site {
        sources.extend(site_layers(paths, site, &app)?);
    }
    let (config, _) = model::check(sources, &app)?;
    let nothing = config.section("crontab").is_none()
        && !config
            .sections()
            .any(|section| section.starts_with("daemon."));
    if nothing {
        return Err(
            Diagnostic::error("there is nothing to run: neither a daemon nor a cron job")
                .at(Place::file(&file))
                .hint("add [daemon.NAME] with a `platform` or a `command`")
                .into(),
        );
    }
    Ok(Checked { file, app, config })
}

/// The layers of a site for an application, those that exist.
///
/// # Errors
/// A name that no site can have, a site without folder, and files that cannot be read.
pub fn site_layers(paths: &Paths, site: &str, app: &str) -> Result<Vec<Source>, Report> {
    if let Err(problem) = values::name(site) {
        return Err(Diagnostic::error(format!("the name of a site {problem}: `{site}`")).into());
    }
    if !paths.config.join("sites").join(site).is_dir() {
        return Err(unknown_site(paths, site).into());
    }
    let trust = Trust::new(&paths.config);
    let mut sources = Vec::new();
    for path in paths.site_layers(site, app) {
        if let Some(text) = layers::read_trusted(&trust, &path).map_err(|found| *found)? {
            sources.push(Source::new(LayerKind::Site, path, text));
        }
    }
    Ok(sources)
}

/// The names of the sites that have a folder, sorted.
pub fn sites(paths: &Paths) -> Vec<String> {
    let entries = std::fs::read_dir(paths.config.join("sites"));
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn unknown_site(paths: &Paths, site: &str) -> Diagnostic {
    let names = sites(paths);
    let hint = match suggest::nearest(site, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => {
            "sites are folders there; METACTL_CONFIG_DIR or --root names another place".to_owned()
        }
        None => format!("sites are {}", names.join(", ")),
    };
    Diagnostic::error(format!("there is no site `{site}`"))
        .at(Place::file(&paths.config.join("sites").join(site)))
        .hint(hint)
}

/// The file that is meant: the path itself, or `.metactl` in it.
fn app_layer(path: &Path) -> Result<PathBuf, Report> {
    match std::fs::metadata(path) {
        Ok(facts) if facts.is_dir() => Ok(path.join(APP_LAYER)),
        Ok(_) => Ok(path.to_owned()),
        Err(error) => Err(Diagnostic::error(format!("cannot look at it: {error}"))
            .at(Place::file(path))
            .hint("name the folder of a checkout: metactl check PATH")
            .into()),
    }
}

/// The name of the application, for the site's file of it.
fn name(request: &Request<'_>, file: &Path, text: &str) -> Result<String, Report> {
    if let Some(app) = request.app {
        return match values::name(app) {
            Ok(app) => Ok(app.to_owned()),
            Err(problem) => {
                let message = format!("the name of an application {problem}: `{app}`");
                Err(Diagnostic::error(message).into())
            }
        };
    }
    if let Some(named) = layers::app_name(text) {
        return Ok(named);
    }
    // `.` has a name only when it is made whole.
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = whole.parent().and_then(Path::file_name);
    let folder = folder.and_then(|name| name.to_str()).unwrap_or("app");
    Ok(values::name(folder).unwrap_or("app").to_owned())
}

#[cfg(test)]
mod tests;
