//! `changed` and `revert`: what runs, and what the configuration says by now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use metactl_bundles::bundle::{Composition, Item, LOCAL_COPY, Manifest, Setting, manifest};
use metactl_bundles::edit::{self, Difference};
use serde::Serialize;

use super::editor::{Replaced, replace};
use super::layer::{self, Layer};
use crate::error::{LifecycleError, Result};
use crate::files;
use crate::instance::{Current, Instance};
use crate::manager::require_root;

/// How something differs between two bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is only in the configuration.
    New,
    /// It is otherwise in the configuration.
    Changed,
    /// It is no longer in the configuration.
    Gone,
}

/// A setting that is not as the bundle in use has it. Passwords are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftedSetting {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// What the bundle in use has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// What the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configured: Option<String>,
    /// Where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

/// What differs between the bundle in use and the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The settings that differ.
    pub settings: Vec<DriftedSetting>,
    /// The entry points that would be started otherwise.
    pub entries: BTreeMap<String, Kind>,
    /// Whether addresses or firewall would be others.
    pub network: bool,
    /// Whether they would see other files.
    pub view: bool,
    /// Whether anything runs.
    pub runs: bool,
}

impl Drift {
    /// Whether a restart would change nothing.
    pub fn is_none(&self) -> bool {
        let same = !self.network && !self.view;
        self.settings.is_empty() && self.entries.is_empty() && same
    }
}

impl Drift {
    /// What differs between a bundle on disk and one that is composed.
    pub(crate) fn between(current: &Current, composition: &Composition, runs: bool) -> Drift {
        let mut drift = Drift {
            settings: settings(&current.manifest, &composition.manifest),
            entries: BTreeMap::new(),
            network: false,
            view: false,
            runs,
        };
        let new = &composition.manifest;
        for (path, item) in &composition.items {
            if path == Path::new(manifest::FILE) || path == Path::new(LOCAL_COPY) {
                continue;
            }
            if is_same(&current.dir.join(path), item) {
                continue;
            }
            match entry_of(new, path) {
                Some(name) => {
                    let known = current
                        .manifest
                        .entries
                        .iter()
                        .any(|entry| entry.name == name);
                    let kind = if known { Kind::Changed } else { Kind::New };
                    drift.entries.insert(name.to_owned(), kind);
                }
                None if path == Path::new("network.json") => drift.network = true,
                None => drift.view = true,
            }
        }
        for old in &current.manifest.entries {
            match new.entries.iter().find(|entry| entry.name == old.name) {
                None => {
                    drift.entries.insert(old.name.clone(), Kind::Gone);
                }
                // How it is stopped and when it is started is in the manifest alone.
                Some(entry) if entry != old => {
                    drift
                        .entries
                        .entry(old.name.clone())
                        .or_insert(Kind::Changed);
                }
                Some(_) => {}
            }
        }
        drift
    }
}

impl Instance {
    /// What differs between the bundle in use and the configuration of now. Nothing changes.
    ///
    /// # Errors
    /// As [`plan`](Instance::plan).
    pub fn drift(&self) -> Result<Drift> {
        require_root("reading the whole configuration")?;
        let _lock = self.lock("changed")?;
        let current = self.deployed()?;
        let ready = self.ready(&current)?;
        let runs = self.wanted()?.is_some();
        Ok(Drift::between(&current, &ready.composition, runs))
    }

    /// What [`revert`](Instance::revert) would change in the local layer. Nothing changes.
    ///
    /// # Errors
    /// When there is nothing to go back to.
    pub fn reversion(&self, last: bool) -> Result<Vec<Difference>> {
        require_root("changing the configuration")?;
        let path = self.manager.paths.local_layer(&self.name);
        let (now, then) = (layer::read(&path)?, self.earlier(last)?);
        if now == then {
            return Ok(Vec::new());
        }
        Ok(edit::differences(&path, &now, &then)?)
    }

    /// Goes back to the local layer that the bundle in use was made from, or, with `last`, to what it was
    /// before the last change.
    ///
    /// # Errors
    /// When there is nothing to go back to, or the configuration would be wrong then.
    pub fn revert(&self, last: bool) -> Result<Replaced> {
        require_root("changing the configuration")?;
        let _lock = self.lock("revert")?;
        let layer = Layer::open(self)?;
        let text = self.earlier(last)?;
        replace(self, &layer, &text, "revert")
    }

    fn earlier(&self, last: bool) -> Result<String> {
        if last {
            return layer::before(self)?.ok_or_else(|| LifecycleError::Unavailable {
                what: format!(
                    "nothing is known of an earlier local layer of {}",
                    self.name
                ),
                hint: "it is kept from the next change on".to_owned(),
            });
        }
        let Current { dir, digest, .. } = self.deployed()?;
        let text = files::read(&dir.join(LOCAL_COPY))?;
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| LifecycleError::Unavailable {
            what: format!(
                "the bundle in use ({digest}) does not hold the local layer it was made from"
            ),
            hint: format!(
                "an earlier metactl wrote it, or there was none, or it has secrets in it; \
                 metactl {} revert --last goes back by one change",
                self.name
            ),
        })
    }
}

/// Whether something on disk is as it would be written.
fn is_same(path: &PathBuf, item: &Item) -> bool {
    match item {
        Item::Directory { .. } => path.is_dir(),
        Item::File { text, .. } => std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()),
        Item::Link { target } => {
            std::fs::read_link(path).is_ok_and(|link| link == Path::new(target))
        }
    }
}

/// The entry point whose folder a path of the bundle is in.
fn entry_of<'a>(manifest: &'a Manifest, path: &Path) -> Option<&'a str> {
    let mut entries = manifest.entries.iter();
    let found = entries.find(|entry| path.starts_with(&entry.dir))?;
    Some(&found.name)
}

fn settings(running: &Manifest, configured: &Manifest) -> Vec<DriftedSetting> {
    let index = |manifest: &Manifest| -> BTreeMap<(String, String), Setting> {
        let settings = manifest.settings.iter();
        settings
            .map(|setting| {
                (
                    (setting.section.clone(), setting.key.clone()),
                    setting.clone(),
                )
            })
            .collect()
    };
    let (old, new) = (index(running), index(configured));
    let mut drifted = Vec::new();
    let all: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for at in all {
        let (before, now) = (old.get(at), new.get(at));
        if before.map(|setting| &setting.value) == now.map(|setting| &setting.value) {
            continue;
        }
        drifted.push(DriftedSetting {
            section: at.0.clone(),
            key: at.1.clone(),
            running: before.map(|setting| setting.value.clone()),
            configured: now.map(|setting| setting.value.clone()),
            origin: now.map(|setting| setting.origin.clone()),
        });
    }
    drifted
}
