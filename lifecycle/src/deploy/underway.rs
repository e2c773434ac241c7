//! The record of a deployment under way, and what becomes of one whose process is gone.

use std::path::PathBuf;

use metactl_bundles::bundle;
use serde::{Deserialize, Serialize};

use crate::build::Workshop;
use crate::error::Result;
use crate::instance::Instance;
use crate::standalone::records::Wanted;
use crate::{allocation, change, converge, files};

/// The format number of `deploy.json`.
pub(super) const FORMAT: u32 = 1;

/// `deploy.json`: what a deployment makes, while it is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Underway {
    pub(super) format: u32,
    /// The release that it makes.
    pub(super) release: Option<String>,
    /// The bundle that it makes.
    pub(super) bundle: Option<String>,
    /// What should have run before.
    pub(super) wanted: Option<Wanted>,
    /// What the local layer is going to be.
    pub(super) local: Option<String>,
    /// What was there before, and so stays.
    pub(super) before: Before,
}

/// What was there before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Before {
    pub(super) bundle: bool,
    pub(super) data: bool,
    pub(super) allocation: bool,
}

/// Finishes or undoes a deployment whose process is gone. The caller holds the lock.
pub(crate) fn recover(instance: &Instance) -> Result<Vec<String>> {
    let state_dir = instance.state_dir();
    for path in [
        instance.manager.paths.local_layer(&instance.name),
        state_dir.join(allocation::FILE),
        record(instance),
    ] {
        files::forget_prepared(&path)?;
    }
    files::remove_empty_dir(&state_dir);
    let Some(underway) = read(instance)? else {
        // Killed before there was anything to undo but the checkout.
        if Workshop::of(instance).is_in_use() {
            converge::clear_workshop(instance)?;
        }
        return Ok(Vec::new());
    };
    let current = bundle::current(&instance.state_dir())?;
    let counts = current.as_deref().map(files::name_of);
    if underway.bundle.is_some() && counts == underway.bundle.as_deref() {
        write_local(instance, underway.local.as_deref())?;
        instance.releases().tidy()?;
        if Workshop::of(instance).is_in_use() {
            converge::clear_workshop(instance)?;
        }
        forget(instance)?;
        return Ok(vec![
            "a deployment that was interrupted at its end is complete".to_owned(),
        ]);
    }
    let tidied = converge::clear_workshop(instance);
    let runs_new = instance
        .wanted()?
        .is_some_and(|w| Some(&w.bundle) == underway.bundle.as_ref());
    let mut said = "a deployment that was interrupted is undone".to_owned();
    if runs_new {
        match (&underway.wanted, instance.current()?) {
            (Some(wanted), Some(current)) => {
                let again = change::anew(wanted, &current.digest);
                instance.want(&again)?;
                change::await_launch(instance, &again)?;
                said.push_str(&format!("; {} runs again", current.manifest.release));
            }
            _ => converge::stop_everything(instance)?,
        }
    }
    undo(instance, &underway)?;
    let mut said = vec![said];
    // The next build clears it again, and cannot begin before it is clear.
    said.extend(tidied.err().map(|error| error.to_string()));
    Ok(said)
}

pub(super) fn prepare_local(
    instance: &Instance,
    text: Option<&str>,
) -> Result<Option<files::Prepared>> {
    let Some(text) = text else { return Ok(None) };
    let path = instance.manager.paths.local_layer(&instance.name);
    if let Some(dir) = path.parent() {
        files::make_dir(dir, 0o755)?;
    }
    let mode = std::fs::metadata(&path).map_or(0o644, |meta| {
        std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777
    });
    files::prepare(&path, text.as_bytes(), mode).map(Some)
}

fn write_local(instance: &Instance, text: Option<&str>) -> Result<()> {
    match prepare_local(instance, text)? {
        Some(prepared) => prepared.commit(),
        None => Ok(()),
    }
}

/// Whether there is a deployment that is under way, or was interrupted.
pub(crate) fn is_underway(instance: &Instance) -> bool {
    record(instance).symlink_metadata().is_ok() || Workshop::of(instance).is_in_use()
}

fn record(instance: &Instance) -> PathBuf {
    instance.state_dir().join("deploy.json")
}

fn read(instance: &Instance) -> Result<Option<Underway>> {
    files::read_json(&record(instance))
}

pub(super) fn write(instance: &Instance, underway: &Underway) -> Result<()> {
    files::replace_json(&record(instance), underway, 0o600)
}

pub(super) fn forget(instance: &Instance) -> Result<()> {
    files::remove_file(&record(instance)).map(drop)
}

/// Removes what a deployment made, and then its record. What ran before runs already, or never did.
pub(super) fn undo(instance: &Instance, underway: &Underway) -> Result<()> {
    let state_dir = instance.state_dir();
    instance.prune_bundles(&[])?;
    if let Some(release) = &underway.release {
        instance.releases().remove(release)?;
    }
    instance.releases().tidy()?;
    if !underway.before.bundle {
        for name in ["bundles", "tmp", "etc"] {
            files::remove_tree(&state_dir.join(name))?;
        }
        files::remove_file(&instance.enabled_mark())?;
    }
    if !underway.before.data {
        files::remove_tree(&state_dir.join("data"))?;
    }
    forget(instance)?;
    if !underway.before.allocation {
        files::remove_file(&state_dir.join(allocation::FILE))?;
    }
    files::remove_empty_dir(&state_dir);
    Ok(())
}
