//! Platforms: what starts a daemon, a file each.
//!
//! A platform turns a `[daemon.NAME]` section into a [`Launch`]: command line, environment, what
//! the process must see of the host, generated files. That is a pure function of the
//! configuration. What depends on the host (which Java, which war) stays open in the launch as a
//! need and is settled by [`settle`] when a bundle is composed.
//!
//! # A new platform
//!
//! is one new file here. It has a `pub(super) const PLATFORM: Platform` that says everything:
//! names, keys, port, health check, stop signal, and the function that makes the launch. Nothing
//! else is to be done: `build.rs` finds the file and lists it in the registry, its keys become
//! rows of the one table of [`crate::keys`], and validation, suggestions, defaults and the
//! reference follow. [`exec`] is the smallest one to look at. What only helps one platform goes
//! into a folder of its name (`jetty/` beside `jetty.rs`); the files that serve all of them
//! (`section.rs`, `settle.rs` and so on) are named in `build.rs`.

mod choose;
pub mod cron;
mod section;
pub mod settle;
mod webapp;

include!(concat!(env!("OUT_DIR"), "/platforms.rs"));

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use crate::app::{EnvValue, Health, Launch, Limits};
use crate::keys::Key;
use crate::layers::{Origin, Value};
use crate::text::Str;

pub use cron::cron;

/// Where the release is shown inside the sandbox; also the working directory.
pub const APP_DIR: &str = "/app";

/// Where generated configuration of an entry point is shown inside the sandbox.
pub const GENERATED_DIR: &str = "/etc/metactl";

/// The port of a web server whose section names none.
const WEB_PORT: u16 = 80;

/// What a platform reads of a daemon's section.
pub struct DaemonSection<'a> {
    /// The last part of the section's name.
    pub name: &'a str,
    /// The merged value of a key of the section, by its canonical name.
    pub get: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// The words of an argument key. They were split before `%(NAME)` was replaced, so that a
    /// value with spaces is still one argument.
    pub words: &'a dyn Fn(&str) -> Option<Vec<String>>,
    /// The keys that begin so, and their values: those of `jvm.properties.*`.
    pub below: &'a dyn Fn(&str) -> Vec<(&'a str, &'a Value)>,
    /// The port: `port =`, else the platform's default.
    pub port: Option<u16>,
    /// The daemon's own limits.
    pub limits: &'a Limits,
    /// The environment of the instance.
    pub env: &'a BTreeMap<Str, EnvValue>,
}

impl<'a> DaemonSection<'a> {
    /// The text of a key.
    fn text(&self, key: &str) -> Option<&'a str> {
        (self.get)(key).map(|value| value.text.as_str())
    }

    /// Where a key was written.
    fn origin(&self, key: &str) -> Option<Origin> {
        (self.get)(key).map(|value| value.origin.clone())
    }

    /// An error about a key of this section.
    fn error(&self, key: &str, message: String, hint: String) -> PlatformError {
        PlatformError {
            key: key.to_owned(),
            origin: self.origin(key),
            message,
            hint,
        }
    }
}

/// Why a section cannot be launched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({hint})")]
pub struct PlatformError {
    /// The key that is wrong or missing.
    pub key: String,
    /// Where it was written; `None` when it is missing.
    pub origin: Option<Origin>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What a platform is: one of these stands in each file, as `PLATFORM`.
#[derive(Debug)]
pub struct Platform {
    /// What `platform =` may say. Several when a file starts several generations of the same thing:
    /// `jetty6`, `jetty7`.
    pub names: &'static [&'static str],
    /// Other words for one of them: `("jetty", "jetty9")`. In [`Key::platforms`] such a word stands
    /// for every one of `names`.
    pub aliases: &'static [(&'static str, &'static str)],
    /// The rows of `[daemon.*]` that only this platform serves. They are part of the one table,
    /// [`crate::keys::KEYS`].
    pub keys: &'static [Key],
    /// Keys that say that a section is of this platform when it has no `platform`.
    pub implied_by: &'static [&'static str],
    /// The TCP port when the section names none; `None`: it serves none unless the section says so.
    pub port: Option<u16>,
    /// How one finds out that a daemon with a port is up, when the section does not say it.
    pub health: Health,
    /// Keys that make a web application of a section. `port` and `health` are for those; without
    /// any of these keys there is no port and the check is [`Health::Tcp`]. Empty: every section of
    /// this platform is as `port` and `health` say.
    pub web_keys: &'static [&'static str],
    /// The signal that asks it to stop when the section names none, as it would be written.
    pub stop_signal: &'static str,
    /// Whether it handles signals and reaps children as PID 1 by itself; otherwise it gets the
    /// small init of the runtime.
    pub is_init: bool,
    /// Makes the launch: command line, environment, what it must see of the host. It is given the
    /// name, one of `names`. The fields of the launch that stand here are filled in by [`launch`].
    pub launch: fn(&str, &DaemonSection<'_>) -> Result<Launch, PlatformError>,
}

impl Platform {
    /// Whether a section with these keys is what `port` and `health` are about.
    pub(crate) fn is_web(&self, has: impl Fn(&str) -> bool) -> bool {
        self.web_keys.is_empty() || self.web_keys.iter().any(|key| has(key))
    }
}

/// The names that `platform =` accepts: canonical ones, and behind those of each file its aliases.
static NAMES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let words = |platform: &'static Platform| {
        let others = platform.aliases.iter().map(|(word, _)| *word);
        platform.names.iter().copied().chain(others)
    };
    PLATFORMS.iter().flat_map(words).collect()
});

/// The names that `platform =` accepts, for validation, suggestions and help.
pub fn names() -> &'static [&'static str] {
    &NAMES
}

/// The description of a platform, by a name that `platform =` accepts; and its canonical name.
pub fn find(name: &str) -> Option<(&'static Platform, &'static str)> {
    PLATFORMS.iter().find_map(|platform| {
        let alias = platform.aliases.iter().find(|(word, _)| *word == name);
        let name = alias.map_or(name, |(_, canonical)| *canonical);
        let canonical = platform.names.iter().find(|known| **known == name)?;
        Some((platform, *canonical))
    })
}

/// The TCP port that a daemon serves when its section has no `port`; `has` says which keys are in it.
pub fn default_port(platform: &str, has: impl Fn(&str) -> bool) -> Option<u16> {
    let (platform, _) = find(platform)?;
    platform.port.filter(|_| platform.is_web(has))
}

/// The signal that asks a daemon of a platform to stop when its section names none.
pub fn default_stop_signal(platform: &str) -> Option<&'static str> {
    find(platform).map(|(platform, _)| platform.stop_signal)
}

/// The platform of a section without `platform`, by the keys that it has.
pub fn implied(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    let implied = |platform: &&Platform| platform.implied_by.iter().any(|key| has(key));
    let found = PLATFORMS.iter().find(implied)?;
    found.names.first().copied()
}

/// What starts the daemon of a section.
///
/// # Errors
/// An unknown platform, or a key that is missing or wrong; the error names the key.
pub fn launch(platform: &str, daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let Some((found, name)) = find(platform) else {
        return Err(daemon.error(
            "platform",
            format!("there is no platform `{platform}`"),
            format!("platforms are {}", names().join(", ")),
        ));
    };
    let launch = (found.launch)(name, daemon)?;
    let health = match daemon.text("health") {
        Some("http") => Health::Http,
        Some("tcp") => Health::Tcp,
        _ if found.is_web(|key| (daemon.get)(key).is_some()) => found.health,
        _ => Health::Tcp,
    };
    Ok(Launch {
        platform: Str::built_in(name),
        health,
        is_init: found.is_init,
        ..launch
    })
}

/// `path` of the release as a path inside the sandbox: relative ones start at [`APP_DIR`].
///
/// `None` when it climbs out of the release with `..`.
fn in_app(path: &str) -> Option<PathBuf> {
    let mut inside = PathBuf::with_capacity(APP_DIR.len() + 1 + path.len());
    inside.push(APP_DIR);
    for part in Path::new(path).components() {
        match part {
            // A path from the root takes the place of what is there.
            Component::RootDir => inside.push("/"),
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

#[cfg(test)]
mod tests;
