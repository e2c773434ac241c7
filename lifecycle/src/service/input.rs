//! What the texts of units and jobs are made from, beside the manifest.

use std::path::{Path, PathBuf};

use metactl_bundles::bundle::EntryRef;
use serde_json::Value;

use crate::error::{LifecycleError, OnPath, Result};
use crate::manager::Manager;

/// The config.json of an entry point.
pub(super) fn config_path(bundle: &Path, entry: &EntryRef) -> PathBuf {
    bundle.join(&entry.dir).join("config.json")
}

/// What is in it.
pub(super) fn config(bundle: &Path, entry: &EntryRef) -> Result<Value> {
    let path = config_path(bundle, entry);
    let text = std::fs::read(&path).on("read", &path)?;
    serde_json::from_slice(&text).map_err(|error| LifecycleError::Record {
        path,
        why: error.to_string(),
    })
}

/// metactl-runtime by its whole path, as units and jobs have to name it.
pub(super) fn runtime(manager: &Manager) -> Result<PathBuf> {
    let program = &manager.runtime;
    if program.is_absolute() {
        return Ok(program.clone());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|dir| dir.join(program));
    let found = all.find(|path| path.is_absolute() && path.is_file());
    found.ok_or_else(|| LifecycleError::Unavailable {
        what: format!(
            "cannot find {}, which units have to name",
            program.display()
        ),
        hint: "install metactl-runtime beside metactl, or name it with METACTL_RUNTIME".to_owned(),
    })
}
