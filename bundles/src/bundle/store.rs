//! The bundles of an instance: which one counts, and which are kept.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::BundleError;
use super::manifest::FILE;

/// The link to the bundle that counts.
const LINK: &str = "bundle";

/// Makes the bundle `digest` the one that counts, by switching the link `bundle` atomically.
///
/// # Errors
/// When there is no such bundle, or the link cannot be written; the old one then still counts.
pub fn activate(state_dir: &Path, digest: &str) -> Result<(), BundleError> {
    let dir = state_dir.join("bundles").join(digest);
    if digest.contains('/') || digest.starts_with('.') || !dir.join(FILE).is_file() {
        return Err(BundleError::Missing { path: dir });
    }
    let link = state_dir.join(LINK);
    let unfinished = state_dir.join(".bundle-unfinished");
    let target = Path::new("bundles").join(digest);
    remove_if_there(&unfinished)?;
    let switched = symlink(&target, &unfinished)
        .and_then(|()| fs::rename(&unfinished, &link))
        .and_then(|()| fs::File::open(state_dir)?.sync_all());
    switched.map_err(|error| {
        // The link that is in use is untouched; the unfinished one is removed by the next call too.
        let _ = fs::remove_file(&unfinished);
        BundleError::io("switch", &link)(error)
    })
}

/// The folder of the bundle that counts; `None` before the first deployment.
///
/// # Errors
/// When the link leads to nothing, or is none.
pub fn current(state_dir: &Path) -> Result<Option<PathBuf>, BundleError> {
    let link = state_dir.join(LINK);
    let target = match fs::read_link(&link) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BundleError::io("read", &link)(error)),
    };
    let dir = state_dir.join(&target);
    if target.parent() != Some(Path::new("bundles")) || !dir.join(FILE).is_file() {
        let reason = format!("it leads to {}, which is no bundle", target.display());
        return Err(BundleError::Damaged { path: link, reason });
    }
    Ok(Some(dir))
}

/// Removes the bundles of an instance, except those in `keep` and the one that counts. What runs
/// from a bundle must be in `keep`: removing the root of a sandbox takes its mounts away.
///
/// Returns the digests that were removed.
///
/// # Errors
/// When one cannot be removed.
pub fn prune(state_dir: &Path, keep: &[String]) -> Result<Vec<String>, BundleError> {
    let bundles = state_dir.join("bundles");
    let current = current(state_dir)?;
    let entries = match fs::read_dir(&bundles) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BundleError::io("read", &bundles)(error)),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BundleError::io("read", &bundles))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        let counts = current.as_deref() == Some(path.as_path());
        if name.starts_with('.') || counts || keep.contains(&name) {
            continue;
        }
        // First a name that nobody takes for a bundle, so that half of one never counts as whole.
        let unfinished = bundles.join(format!("{}0-{name}", super::write::UNFINISHED));
        fs::rename(&path, &unfinished)
            .and_then(|()| fs::remove_dir_all(&unfinished))
            .map_err(BundleError::io("remove", &path))?;
        removed.push(name);
    }
    removed.sort();
    Ok(removed)
}

fn remove_if_there(path: &Path) -> Result<(), BundleError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BundleError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
