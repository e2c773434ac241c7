//! Platforms: what starts a daemon, a file each.
//!
//! A platform turns a `[daemon.NAME]` section into a [`Launch`]: command line, environment, what
//! the process must see of the host, generated files, and whether it is a good PID 1. That is a
//! pure function of the configuration. What depends on the host (which Java, which war) stays
//! open in the launch as a need and is settled by [`settle`] when a bundle is composed.
//!
//! | platform | keys | file |
//! | --- | --- | --- |
//! | `exec` | `command` | [`exec`] |
//! | `jvm` | `jvm.*` | [`jvm`] |
//! | `jetty6` .. `jetty12`, `jetty` (jetty9) | `jetty.*`, `jvm.*`, `port` | [`jetty`] |
//! | a line of `[crontab]` | | [`mod@cron`] |

pub mod cron;
pub mod exec;
pub mod jetty;
pub mod jvm;
pub mod settle;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::app::{EnvValue, Launch, Limits};
use crate::layers::{Origin, Value};

pub use cron::cron;

/// Where the release is shown inside the sandbox; also the working directory.
pub const APP_DIR: &str = "/app";

/// Where generated configuration of an entry point is shown inside the sandbox.
pub const GENERATED_DIR: &str = "/etc/metactl";

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
    pub env: &'a BTreeMap<String, EnvValue>,
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

/// One row of the table of platforms.
struct Platform {
    name: &'static str,
    /// The TCP port when the section names none.
    port: Option<u16>,
    launch: fn(&Platform, &DaemonSection<'_>) -> Result<Launch, PlatformError>,
}

/// Every platform, once.
const PLATFORMS: &[Platform] = &[
    Platform {
        name: "exec",
        port: None,
        launch: |_, daemon| exec::launch(daemon),
    },
    Platform {
        name: "jvm",
        port: None,
        launch: |_, daemon| jvm::launch(daemon),
    },
    Platform {
        name: "jetty6",
        port: Some(80),
        launch: launch_jetty,
    },
    Platform {
        name: "jetty7",
        port: Some(80),
        launch: launch_jetty,
    },
    Platform {
        name: "jetty8",
        port: Some(80),
        launch: launch_jetty,
    },
    Platform {
        name: "jetty9",
        port: Some(80),
        launch: launch_jetty,
    },
    Platform {
        name: "jetty10",
        port: Some(80),
        launch: launch_jetty,
    },
    Platform {
        name: "jetty11",
        port: Some(80),
        launch: launch_jetty,
    },
    Platform {
        name: "jetty12",
        port: Some(80),
        launch: launch_jetty,
    },
];

/// The names that `platform =` accepts. `jetty` is another word for `jetty9`.
const NAMES: &[&str] = &[
    "exec", "jvm", "jetty", "jetty6", "jetty7", "jetty8", "jetty9", "jetty10", "jetty11", "jetty12",
];

fn launch_jetty(platform: &Platform, daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    jetty::launch(platform.name, daemon)
}

/// The names that `platform =` accepts, for validation, suggestions and help.
pub fn names() -> &'static [&'static str] {
    NAMES
}

/// The TCP port that a platform serves when its section has no `port`.
pub fn default_port(platform: &str) -> Option<u16> {
    find(platform).and_then(|platform| platform.port)
}

/// What starts the daemon of a section.
///
/// # Errors
/// An unknown platform, or a key that is missing or wrong; the error names the key.
pub fn launch(platform: &str, daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    match find(platform) {
        Some(found) => (found.launch)(found, daemon),
        None => Err(daemon.error(
            "platform",
            format!("there is no platform `{platform}`"),
            format!("platforms are {}", NAMES.join(", ")),
        )),
    }
}

fn find(name: &str) -> Option<&'static Platform> {
    let name = if name == "jetty" { "jetty9" } else { name };
    PLATFORMS.iter().find(|platform| platform.name == name)
}

/// `path` of the release as a path inside the sandbox: relative ones start at [`APP_DIR`].
///
/// `None` when it climbs out of the release with `..`.
fn in_app(path: &str) -> Option<PathBuf> {
    let mut inside = PathBuf::from(APP_DIR);
    for part in Path::new(path).components() {
        match part {
            Component::RootDir => inside = PathBuf::from("/"),
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

#[cfg(test)]
mod tests;
