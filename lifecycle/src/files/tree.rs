//! Removes whole trees, however deep.
//!
//! An application can nest directories deeper than a process may hold descriptors, and deeper than
//! any path. So nothing here goes down: what is in a directory below the top is moved up into the
//! top under a fresh name, and nothing is ever looked for deeper than that. It takes the same few
//! descriptors for every tree, and what an interruption left is removed the next time.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{OnPath, Result};

/// How many levels are gone down where a file system does not let directories move: the lower
/// layers of an overlay, which no application makes.
const MAX_UNMOVED: u32 = 64;

/// Removes a directory and everything in it, if it is there. Symbolic links are not followed.
pub(crate) fn remove_tree(path: &Path) -> Result<bool> {
    remove(path).on("remove", path)
}

/// Removes everything in a directory, and leaves the directory.
pub(crate) fn empty_dir(path: &Path) -> Result<()> {
    match open(CWD, path) {
        Ok(top) => empty(top.as_fd(), 0).on("empty", path),
        Err(error) if is_absent(error) => Ok(()),
        Err(error) => Err(error).on("empty", path),
    }
}

fn remove(path: &Path) -> rustix::io::Result<bool> {
    match open(CWD, path) {
        Ok(top) => empty(top.as_fd(), 0)?,
        Err(error) if is_absent(error) => {
            let link = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            if link {
                unlinkat(CWD, path, AtFlags::empty())?;
            }
            return Ok(link);
        }
        Err(error) => return Err(error),
    }
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(error) => Err(error),
    }
}

fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn open(dir: BorrowedFd<'_>, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Empties the directory: passes over it until one finds nothing.
fn empty(top: BorrowedFd<'_>, level: u32) -> rustix::io::Result<()> {
    let mut fresh = 0;
    let mut list = Dir::read_from(top)?;
    loop {
        let (mut found, mut progress) = (false, false);
        while let Some(entry) = list.read() {
            let entry = entry?;
            let name = entry.file_name();
            if is_dots(name) {
                continue;
            }
            found = true;
            progress |= match unlinkat(top, name, AtFlags::empty()) {
                Ok(()) => true,
                Err(Errno::NOENT) => false,
                Err(Errno::ISDIR) => remove_moving(top, name, &mut fresh, level)?,
                Err(error) => return Err(error),
            };
        }
        if !found {
            return Ok(());
        }
        if !progress {
            // Somebody keeps filling it, or takes away what was listed.
            return Err(Errno::NOTEMPTY);
        }
        list.rewind();
    }
}

/// Removes a directory in `top`: its files at once, its directories after they have moved up.
/// Tells whether anything was done.
fn remove_moving(
    top: BorrowedFd<'_>,
    name: &CStr,
    fresh: &mut u64,
    level: u32,
) -> rustix::io::Result<bool> {
    let dir = match open(top, name) {
        Ok(dir) => dir,
        Err(error) if is_absent(error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut progress = false;
    let mut list = Dir::read_from(&dir)?;
    while let Some(entry) = list.read() {
        let entry = entry?;
        let inner = entry.file_name();
        if is_dots(inner) {
            continue;
        }
        match unlinkat(&dir, inner, AtFlags::empty()) {
            Ok(()) => progress = true,
            Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                progress = true;
                match move_up(dir.as_fd(), inner, top, fresh) {
                    Err(Errno::XDEV) if level < MAX_UNMOVED => {
                        let unmoved = open(dir.as_fd(), inner)?;
                        empty(unmoved.as_fd(), level + 1)?;
                        unlinkat(&dir, inner, AtFlags::REMOVEDIR)?;
                    }
                    moved => moved?,
                }
            }
            Err(error) => return Err(error),
        }
    }
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        // The listing missed something: the next pass finds it.
        Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST) => Ok(progress),
        Err(error) => Err(error),
    }
}

/// Moves a directory into `top` under a name that nothing there has.
fn move_up(
    dir: BorrowedFd<'_>,
    name: &CStr,
    top: BorrowedFd<'_>,
    fresh: &mut u64,
) -> rustix::io::Result<()> {
    loop {
        let to = format!(".rm-{fresh}");
        *fresh += 1;
        let moved = match renameat_with(dir, name, top, &to, RenameFlags::NOREPLACE) {
            // Not every file system can refuse to replace. Replacing an empty directory is harmless
            // here, and a rename refuses everything else.
            Err(Errno::INVAL) => renameat(dir, name, top, &to),
            moved => moved,
        };
        match moved {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            moved => return moved,
        }
    }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::mkdirat;

    use super::*;

    /// Nests directories deeper than descriptors or paths reach, with files on the way.
    fn nest(top: &Path, depth: usize) {
        let mut dir = open(CWD, top).unwrap();
        for level in 0..depth {
            let name = "a-directory";
            mkdirat(&dir, name, Mode::RWXU).unwrap();
            if level % 100 == 0 {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                openat(&dir, "file", flags, Mode::RUSR).unwrap();
                mkdirat(&dir, ".rm-7", Mode::RWXU).unwrap();
            }
            dir = open(dir.as_fd(), name).unwrap();
        }
        rustix::fs::symlinkat("/", &dir, "link").unwrap();
    }

    fn with_outside() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/kept"), "x").unwrap();
        for link in ["link", "a/link", "a/b/link"] {
            std::os::unix::fs::symlink(dir.path().join("outside"), tree.join(link)).unwrap();
        }
        // Names that it would take itself.
        fs::write(tree.join(".rm-0"), "x").unwrap();
        fs::create_dir_all(tree.join(".rm-1/full")).unwrap();
        (dir, tree)
    }

    #[test]
    fn depth_does_not_matter_and_links_are_not_followed() {
        let (dir, tree) = with_outside();
        nest(&tree, 3000);
        assert!(remove_tree(&tree).unwrap());
        assert!(!tree.exists());
        assert!(dir.path().join("outside/kept").exists());
        assert!(!remove_tree(&tree).unwrap(), "there is nothing any more");
    }

    #[test]
    fn emptying_copes_with_depth_too() {
        let (dir, tree) = with_outside();
        nest(&tree.join("a/b"), 3000);
        empty_dir(&tree).unwrap();
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
        assert!(dir.path().join("outside/kept").exists());
        empty_dir(&tree).unwrap();
        empty_dir(&dir.path().join("none")).unwrap();
    }

    #[test]
    fn a_link_instead_of_a_tree_goes_alone() {
        let (dir, tree) = with_outside();
        assert!(remove_tree(&tree.join("link")).unwrap());
        assert!(dir.path().join("outside/kept").exists());
        assert!(!remove_tree(&dir.path().join("outside/kept")).unwrap());
        assert!(dir.path().join("outside/kept").exists());
    }
}
