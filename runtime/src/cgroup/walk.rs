//! All cgroups below one, by descriptors.
//!
//! A container that may write to its cgroups makes others below them: so deep that no path leads there (`PATH_MAX`),
//! or threaded, so that nobody can read which processes they have (cgroups(7), "Thread mode"). Neither may keep
//! it from being killed and removed. Nobody can move a cgroup to another parent (rename(2) is for v1 and within
//! one), so `..` is always the one above.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Does `visit` for a cgroup and for everything below it. What is gone is left out.
///
/// # Errors
/// That of `visit`, or when a directory cannot be read.
pub(super) fn each(
    top: &Path,
    mut visit: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    walk(top, &mut visit, &mut |_, _| Ok(()))
}

/// Removes what is below a cgroup, innermost first, as far as it is not busy. How many were removed.
///
/// # Errors
/// When a directory cannot be read, or may not be removed.
pub(super) fn remove_below(top: &Path) -> io::Result<usize> {
    let mut removed = 0;
    walk(top, &mut |_| Ok(()), &mut |above, name| {
        match unlinkat(above, name, AtFlags::REMOVEDIR) {
            Ok(()) => removed += 1,
            // It is tried again, or somebody else has removed it.
            Err(Errno::BUSY | Errno::NOTEMPTY | Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    })?;
    Ok(removed)
}

/// The processes of a cgroup and of everything below it, as [`processes`] tells them.
///
/// # Errors
/// When one of them cannot be read.
pub(crate) fn all_processes(top: &Path) -> io::Result<Vec<i32>> {
    let mut all = Vec::new();
    each(top, |dir| {
        all.extend(processes(dir)?);
        Ok(())
    })?;
    Ok(all)
}

/// The pids in one cgroup, 0 for those that cannot be seen from this pid namespace; of a threaded one, which
/// does not tell its processes, the numbers of its threads.
pub(super) fn processes(dir: BorrowedFd<'_>) -> io::Result<Vec<i32>> {
    let text = match read(dir, c"cgroup.procs") {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => read(dir, c"cgroup.threads"),
        text => text,
    };
    match text {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(e) if is_gone(&e) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// A control file of a cgroup.
pub(super) fn read(dir: BorrowedFd<'_>, file: &CStr) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut text = String::new();
    File::from(openat(dir, file, flags, Mode::empty())?).read_to_string(&mut text)?;
    Ok(text)
}

/// `enter` is told of each cgroup before those below it, `leave` of each but `top` after them: the one above, and
/// its name in there.
fn walk(
    top: &Path,
    enter: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<()>,
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    let Some(mut here) = open(CWD, top)? else {
        return Ok(());
    };
    enter(here.as_fd())?;
    // Not a descriptor for each level: there can be more levels than descriptors.
    let mut levels = vec![(CString::default(), below(&here)?)];
    while let Some((_, waiting)) = levels.last_mut() {
        if let Some(name) = waiting.pop() {
            let Some(next) = open(&here, name.as_c_str())? else {
                continue;
            };
            enter(next.as_fd())?;
            levels.push((name, below(&next)?));
            here = next;
            continue;
        }
        let done = levels.pop();
        if let (Some((name, _)), false) = (done, levels.is_empty()) {
            // Its end may have come meanwhile; what is above it, is still known.
            here = open(&here, c"..")?.ok_or(Errno::NOENT)?;
            leave(here.as_fd(), &name)?;
        }
    }
    Ok(())
}

/// `None` when it is gone.
fn open(at: impl AsFd, path: impl Arg) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, path, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NODEV | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The names of the cgroups right below one.
fn below(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        match entry {
            Ok(entry) if entry.file_type() == FileType::Directory => {
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    names.push(name.to_owned());
                }
            }
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(e) => return Err(e.into()),
        }
    }
    Ok(names)
}

/// Whether something went away while it was looked at (kernfs answers ENODEV then).
pub(super) fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    /// Directories without a kernel behind them, deeper than any path: each is made in the one before.
    fn deep(top: &Path, levels: usize) {
        let mut here = open(CWD, top).unwrap().unwrap();
        let name = CString::new("x".repeat(200)).unwrap();
        for _ in 0..levels {
            mkdirat(&here, name.as_c_str(), Mode::from_raw_mode(0o755)).unwrap();
            here = open(&here, name.as_c_str()).unwrap().unwrap();
        }
    }

    #[test]
    fn what_no_path_leads_to_is_visited_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        // 400 kB of path.
        deep(dir.path(), 2000);
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let mut visited = 0;
        each(dir.path(), |_| {
            visited += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(visited, 2003);
        assert_eq!(remove_below(dir.path()).unwrap(), 2002);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(all_processes(&dir.path().join("gone")).unwrap().is_empty());
    }
}
