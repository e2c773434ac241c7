//! The values of `[secrets]` on this server: `<state>/<instance>/secrets/<number>/NAME`.
//!
//! A set of values is written once and never changed, as a bundle is: what was started with the old
//! values goes back to them when the new ones do not come up. The numbers say nothing about the
//! content, so that they may stand in every bundle. Folders are root's alone (0700), a file is the
//! application's user's, who may read it (0400).

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use metactl_bundles::bundle::read_manifest;
use metactl_bundles::secrets::Secrets;

use crate::error::{OnPath, Result};
use crate::files;

/// Where the sets of an instance are.
pub(crate) fn dir(state_dir: &Path) -> PathBuf {
    state_dir.join("secrets")
}

/// A set of values, and where it is or will be.
#[derive(Debug)]
pub(crate) struct Set {
    dir: PathBuf,
    owner: (u32, u32),
    values: Secrets,
}

impl Set {
    /// The set on disk that is the same already, else the next one. Writes nothing.
    pub(crate) fn of(state_dir: &Path, owner: (u32, u32), values: Secrets) -> Result<Set> {
        let sets = dir(state_dir);
        let mut set = Set {
            dir: PathBuf::new(),
            owner,
            values,
        };
        let numbers = numbers(&sets)?;
        for number in numbers.iter().rev() {
            set.dir = sets.join(number.to_string());
            if set.is_there()? {
                return Ok(set);
            }
        }
        let next = numbers.last().map_or(1, |last| last.saturating_add(1));
        set.dir = sets.join(next.to_string());
        Ok(set)
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the folder has exactly these values, and the application can read them.
    fn is_there(&self) -> Result<bool> {
        let there = names(&self.dir)?;
        if !there
            .iter()
            .map(String::as_str)
            .eq(self.values.iter().map(|(name, _)| name))
        {
            return Ok(false);
        }
        for (name, value) in self.values.iter() {
            let path = self.dir.join(name);
            let facts = fs::symlink_metadata(&path).on("read", &path)?;
            let same = facts.is_file()
                && (facts.uid(), facts.gid()) == self.owner
                && facts.mode() & 0o7777 == 0o400
                && files::read(&path)?.as_deref() == Some(value);
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes it, whole or not at all; whether it was not there before. Nothing is written when
    /// there are no secrets.
    pub(crate) fn write(&self) -> Result<bool> {
        if self.values.is_empty() || (self.dir.is_dir() && self.is_there()?) {
            return Ok(false);
        }
        let Some(sets) = self.dir.parent() else {
            return Ok(false);
        };
        files::make_dir(sets, 0o700)?;
        let result = self.write_into(sets);
        if result.is_err() {
            self.undo();
        }
        result.map(|()| true)
    }

    fn write_into(&self, sets: &Path) -> Result<()> {
        let unfinished = sets.join(UNFINISHED);
        if unfinished.exists() {
            files::remove_tree(&unfinished)?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .on("make", &unfinished)?;
        for (name, value) in self.values.iter() {
            let path = unfinished.join(name);
            self.write_one(&path, value).on("write", &path)?;
        }
        files::sync_dir(&unfinished)?;
        fs::rename(&unfinished, &self.dir).on("write", &self.dir)?;
        files::sync_dir(sets)
    }

    fn write_one(&self, path: &Path, value: &[u8]) -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(path)?;
        file.write_all(value)?;
        chown(path, Some(self.owner.0), Some(self.owner.1))?;
        file.sync_all()
    }

    /// Takes away what [`write`](Set::write) made, also a part of it. The error that led here is the
    /// one to tell; what stays is removed by the next [`prune`].
    pub(crate) fn undo(&self) {
        let Some(sets) = self.dir.parent() else {
            return;
        };
        for path in [&sets.join(UNFINISHED), &self.dir] {
            let _later = files::remove_tree(path);
        }
        files::remove_empty_dir(sets);
    }
}

/// What a set is called until it is complete.
const UNFINISHED: &str = ".unfinished";

/// Removes the sets that no bundle of the instance names.
pub(crate) fn prune(state_dir: &Path) -> Result<()> {
    let sets = dir(state_dir);
    let sets_there = names(&sets)?;
    if sets_there.is_empty() {
        files::remove_empty_dir(&sets);
        return Ok(());
    }
    let bundles = state_dir.join("bundles");
    let mut used = Vec::new();
    for name in names(&bundles)? {
        // One that cannot be read is repaired or removed elsewhere; until then it is not known
        // which set it has, and every set stays.
        match read_manifest(&bundles.join(&name)) {
            Ok(manifest) => {
                used.extend(manifest.secrets.map(|dir| files::name_of(&dir).to_owned()))
            }
            Err(_) if name.starts_with('.') => {}
            Err(_) => return Ok(()),
        }
    }
    for name in sets_there {
        if !used.contains(&name) {
            files::remove_tree(&sets.join(name))?;
        }
    }
    files::remove_empty_dir(&sets);
    Ok(())
}

/// The names in a folder, sorted; none when it is not there.
fn names(dir: &Path) -> Result<Vec<String>> {
    let paths = files::entries(dir)?;
    Ok(paths
        .iter()
        .map(|path| files::name_of(path).to_owned())
        .collect())
}

/// The numbers of the sets that there are, sorted.
fn numbers(sets: &Path) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = names(sets)?
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}
