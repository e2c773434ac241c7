//! What the platforms that serve a Java web application share: where it is, and below which path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{APP_DIR, DaemonSection, PlatformError, in_app};
use crate::app::GeneratedFile;

/// Stands for the path of the web application in the template of a
/// [`WebappNeed`](crate::app::WebappNeed).
pub(super) const WAR: &str = "@WAR@";

/// The web application that `key` names, relative to the release.
pub(super) fn war(daemon: &DaemonSection<'_>, key: &str) -> Result<Option<PathBuf>, PlatformError> {
    let Some(text) = daemon.text(key) else {
        return Ok(None);
    };
    let inside = in_app(text).filter(|_| !text.starts_with('/') && !text.is_empty());
    match inside {
        Some(path) => Ok(path.strip_prefix(APP_DIR).ok().map(Path::to_path_buf)),
        None => Err(daemon.error(
            key,
            format!("`{text}` is not a path inside the release"),
            "name a .war of the release, like target/app.war".to_owned(),
        )),
    }
}

/// The path below which it is served, as `key` says: `/` or `/shop`.
pub(super) fn context(daemon: &DaemonSection<'_>, key: &str) -> Result<String, PlatformError> {
    let context = daemon.text(key).unwrap_or("/");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if context.starts_with('/') && context.chars().all(allowed) {
        return Ok(context.to_owned());
    }
    Err(daemon.error(
        key,
        format!("`{context}` is not the path of a web application"),
        "write it like /shop: a slash, letters, digits and -_.~".to_owned(),
    ))
}

/// Where the container is on the server: as `key` says, else `/usr/share/<platform>`, where Debian
/// puts it.
pub(super) fn home(
    daemon: &DaemonSection<'_>,
    key: &str,
    platform: &str,
) -> Result<PathBuf, PlatformError> {
    let Some(home) = daemon.text(key) else {
        return Ok(Path::new("/usr/share").join(platform));
    };
    match in_app(home) {
        Some(path) if home.starts_with('/') => Ok(path),
        _ => Err(daemon.error(
            key,
            format!("{key} is `{home}`, not a whole path"),
            format!("write it from the root, like /opt/{platform}"),
        )),
    }
}

/// Adds a generated file that everybody inside may read.
pub(super) fn generate(files: &mut BTreeMap<PathBuf, GeneratedFile>, path: PathBuf, text: String) {
    files.insert(path, GeneratedFile { text, mode: 0o644 });
}
