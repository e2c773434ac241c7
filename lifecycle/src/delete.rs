//! `delete`: what `new` and `deploy` made goes away.
//!
//! It stops the instance and removes what of it can be made again. Its data stay with its user id, and its
//! logs, unless everything is to go. Whoever kills it, the next `delete` goes on.

use std::path::PathBuf;

use metactl_bundles::paths::Paths;
use serde::Serialize;

use crate::edit::{history, layer};
use crate::error::{OnPath, Result};
use crate::instance::Instance;
use crate::manager::require_root;
use crate::progress::Progress;
use crate::{allocation, change, converge, dns, files};

/// What a deletion is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Whether something of it runs, which will be stopped.
    pub runs: bool,
    /// How many releases there are.
    pub releases: usize,
    /// What is going to be removed.
    pub goes: Vec<PathBuf>,
    /// What stays.
    pub stays: Vec<PathBuf>,
}

/// What a deletion has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// What is gone.
    pub gone: Vec<PathBuf>,
    /// What stays.
    pub stays: Vec<PathBuf>,
    /// The copy of the local layer, where one is kept.
    pub layer: Option<PathBuf>,
    /// What was deployed: a tag, branch or commit.
    pub tag: Option<String>,
    /// What is worth knowing, but stops nothing.
    pub warnings: Vec<String>,
}

impl Instance {
    /// What [`delete`](Instance::delete) would do. Nothing changes.
    ///
    /// # Errors
    /// Directories that cannot be read.
    pub fn deletion(&self, data: bool) -> Result<Deletion> {
        require_root("deleting an instance")?;
        Ok(Deletion {
            runs: self.wanted()?.is_some(),
            releases: self.releases().ids()?.len(),
            goes: there(self.removed(data)),
            stays: there(self.kept(data)),
        })
    }

    /// Stops the instance and removes it; with `data` also its data and logs.
    ///
    /// # Errors
    /// What cannot be stopped or removed. What is gone by then stays gone; the same command goes on.
    pub fn delete(&self, data: bool, progress: &mut dyn Progress) -> Result<Deleted> {
        require_root("deleting an instance")?;
        let _lock = self.lock("delete")?;
        for line in converge::converge(self)? {
            progress.note(&line);
        }
        let look = self.look()?;
        if look.wanted.is_some() || look.kept.is_kept() {
            progress.begin("stop", "");
            self.want_nothing(change::patience(self))?;
            progress.end(true, "");
        }
        self.service()?.forget(self)?;
        for line in dns::farewell(self) {
            progress.note(&line);
        }
        let tag = self.current().ok().flatten();
        let tag = tag.and_then(|current| crate::inspect::release(self, &current).ok());
        let goes = there(self.removed(data));
        let paths = &self.manager.paths;
        let file = paths.local_layer(&self.name);
        let copy = layer::before_path(self);
        // Also through a link: it is only read.
        let text = match !data && file.is_file() {
            true => std::fs::read(&file).on("read", &file)?,
            false => Vec::new(),
        };
        let keeps_layer = says_something(&text);
        if keeps_layer {
            files::make_dir(&self.state_dir(), 0o755)?;
            files::replace(&copy, &text, 0o600)?;
        }
        converge::clear_workshop(self)?;
        self.remove_state(data)?;
        files::remove_file(&file)?;
        let subject = format!("{}: delete", self.name);
        let warnings = history::commit(&paths.config, &file, &subject);
        Ok(Deleted {
            gone: goes,
            stays: there(self.kept(data)),
            layer: (keeps_layer && copy.is_file()).then_some(copy),
            tag: tag.map(|release| release.tag),
            warnings: warnings.into_iter().collect(),
        })
    }

    /// Removes the state. The link goes first: without it nothing counts.
    fn remove_state(&self, data: bool) -> Result<()> {
        let dir = self.state_dir();
        for name in ["enabled", "bundle", "facts.json"] {
            files::remove_file(&dir.join(name))?;
        }
        for name in ["bundles", "releases", "tmp", "etc", "cron"] {
            files::remove_tree(&dir.join(name))?;
        }
        if data {
            files::remove_tree(&dir)?;
            files::remove_tree(&self.log_dir())?;
            return Ok(());
        }
        let has_data = dir.join("data").is_dir();
        // Whoever owns data keeps the user id; the address is free for others.
        match allocation::read(&dir) {
            Ok(Some(own)) if has_data => {
                let own = allocation::Allocation {
                    address: None,
                    ..own
                };
                files::replace_json(&dir.join(allocation::FILE), &own, 0o644)?;
            }
            _ if has_data => {}
            _ => {
                files::remove_file(&dir.join(allocation::FILE))?;
            }
        }
        files::remove_empty_dir(&dir);
        Ok(())
    }

    fn removed(&self, data: bool) -> Vec<PathBuf> {
        let (paths, dir): (&Paths, _) = (&self.manager.paths, self.state_dir());
        let mut all = vec![paths.local_layer(&self.name)];
        all.extend(["releases", "bundles", "tmp"].map(|name| dir.join(name)));
        if data {
            all.extend([dir.join("data"), self.log_dir()]);
        }
        all
    }

    fn kept(&self, data: bool) -> Vec<PathBuf> {
        match data {
            true => Vec::new(),
            false => vec![self.state_dir().join("data"), self.log_dir()],
        }
    }
}

/// Whether a layer is more than comments: then it cannot be made again.
fn says_something(layer: &[u8]) -> bool {
    let mut lines = layer.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.any(|line| !matches!(line.first(), None | Some(b'#' | b';')))
}

/// Those that are there.
fn there(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    paths.into_iter().filter(is_there).collect()
}
