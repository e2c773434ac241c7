//! In which cgroups one more process of a container begins.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::cgroup::{self, Below, CgroupError, Joined, Layout, freezer, join};
use crate::plan::namespaces::{Namespaces, Place};
use crate::spec::Bundle;
use crate::state::State;

/// The cgroups that a process joins.
pub struct Membership {
    directories: Vec<PathBuf>,
    /// The first process of the container, when the process may begin where that one is instead.
    follows: Option<i32>,
}

impl Membership {
    /// Those of the container, or cgroups below them.
    ///
    /// # Errors
    /// When a wanted one cannot be among them.
    pub fn new(
        bundle: &Bundle,
        state: &State,
        wanted: &[Below],
    ) -> Result<Membership, CgroupError> {
        let directories = match wanted {
            [] => state.cgroups.clone(),
            wanted => join::below(&Layout::detect()?, &state.cgroups, wanted)?,
        };
        // In a pid namespace of its own it ends with the container, wherever it is.
        let spaces = bundle.spec.linux().as_ref().map(Namespaces::new);
        let bound = spaces.is_some_and(|spaces| spaces.pid == Place::New);
        let first = state.process.as_ref().map(|process| process.pid);
        Ok(Membership {
            directories,
            follows: first.filter(|_| wanted.is_empty() && bound),
        })
    }

    /// The directories.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Opens them. `paused` allows frozen ones: the process then stops on its way.
    ///
    /// # Errors
    /// When one is frozen, or gone; unless it is that of cgroup v2 and the first process has moved on.
    pub fn open(&self, paused: bool) -> Result<Joined, CgroupError> {
        let frozen = |path: &&PathBuf| !paused && freezer::is_frozen(std::slice::from_ref(*path));
        if let Some(path) = self.directories.iter().find(frozen) {
            return Err(CgroupError::Frozen { path: path.clone() });
        }
        match cgroup::open(&self.directories) {
            Err(error) if error.is_of_what_is_gone() && self.directories.len() == 1 => {
                let other = self.of_first_process().ok_or(error)?;
                Ok(Joined {
                    directory: Some(other),
                    ..Joined::default()
                })
            }
            result => result,
        }
    }

    /// The v2 cgroup in which the first process is by now; nothing when it cannot be had, or when the
    /// process has to be elsewhere.
    pub fn of_first_process(&self) -> Option<OwnedFd> {
        let layout = Layout::detect().ok()?;
        let v2 = &layout.unified()?.mount_point;
        if !self.directories.iter().all(|path| path.starts_with(v2)) {
            return None;
        }
        let path = join::of_process(&layout, self.follows?).ok()??;
        if freezer::is_frozen(std::slice::from_ref(&path)) {
            return None;
        }
        cgroup::open(&[path]).ok()?.directory
    }
}
