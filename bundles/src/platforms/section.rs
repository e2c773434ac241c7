//! What the platforms that run a file of the release ask of a section in the same way.

use std::path::Path;

use super::{APP_DIR, DaemonSection, PlatformError, in_app};
use crate::app::{HostNeed, ReleaseNeed};

/// A file of the release to run.
#[derive(Debug)]
pub(super) struct Script {
    /// The file as seen inside, and the arguments behind it.
    pub args: Vec<String>,
    /// The same file, to be looked for in the release.
    pub need: ReleaseNeed,
}

impl DaemonSection<'_> {
    /// Which of `keys` the section has: it has to be exactly one, which says what to run.
    pub(super) fn one_of(
        &self,
        platform: &str,
        keys: &[&'static str],
        example: &str,
    ) -> Result<&'static str, PlatformError> {
        let mut there = keys.iter().filter(|key| (self.get)(key).is_some());
        match (there.next(), there.next()) {
            (Some(key), None) => Ok(key),
            (Some(first), Some(second)) => Err(self.error(
                second,
                format!("{first} and {second} are both there"),
                "keep one of them".to_owned(),
            )),
            (None, _) => {
                let name = self.name;
                let message =
                    format!("[daemon.{name}] says platform = {platform} but not what to run");
                let key = keys.first().copied().unwrap_or("platform");
                Err(self.error(key, message, format!("add a line like `{example}`")))
            }
        }
    }

    /// The words of a key; none when it is not there.
    pub(super) fn all_words(&self, key: &str) -> Vec<String> {
        (self.words)(key).unwrap_or_default()
    }

    /// The words of a key that begin with a file of the release.
    pub(super) fn script(&self, key: &str) -> Result<Script, PlatformError> {
        let mut args = self.all_words(key);
        let path = args.first().cloned().unwrap_or_default();
        let (inside, need) = self.in_release(key, &path)?;
        args[0] = inside;
        Ok(Script { args, need })
    }

    /// `path` of the release as seen inside, and as something to be looked for there.
    pub(super) fn in_release(
        &self,
        key: &str,
        path: &str,
    ) -> Result<(String, ReleaseNeed), PlatformError> {
        let inside = in_app(path).filter(|_| !path.is_empty() && !path.starts_with('/'));
        let relative = inside
            .as_deref()
            .and_then(|inside| inside.strip_prefix(APP_DIR).ok())
            .map(Path::to_path_buf);
        let (Some(inside), Some(relative)) = (inside, relative) else {
            return Err(self.error(
                key,
                format!("`{path}` is not a path inside the release"),
                "name it relative to the release, without `..`".to_owned(),
            ));
        };
        let need = ReleaseNeed {
            path: relative,
            origin: self.origin(key),
            hint: format!("add it to the release, or correct {key}"),
        };
        Ok((inside.to_string_lossy().into_owned(), need))
    }

    /// A program of the host that starts the daemon. `key` made it necessary.
    pub(super) fn program(
        &self,
        path: &str,
        what: &'static str,
        key: &str,
        hint: &'static str,
    ) -> HostNeed {
        HostNeed {
            path: path.into(),
            probe: None,
            what: what.into(),
            origin: self.origin(key).or_else(|| self.origin("platform")),
            hint: hint.into(),
        }
    }

    /// The port of a web server: that of the section, 80 without one.
    pub(super) fn web_port(&self) -> u16 {
        self.port.unwrap_or(super::WEB_PORT)
    }
}
