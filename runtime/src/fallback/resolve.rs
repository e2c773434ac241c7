//! openat2(2) as a walk: component by component, from one held descriptor to the next.
//!
//! No name is given to the kernel that has a slash in it or that it would follow, and `..` is never
//! asked of it: it leads back to the descriptor from which the walk came. So whoever renames and
//! exchanges things meanwhile can send the walk to other places inside the root, and nowhere else
//! (CVE-2021-30465).
//!
//! Mount points that are missing are made by such a walk on every kernel, but for directories in one that is there.
//!
//! What needs much room on the stack is kept out of its callers (`inline(never)`): the pages that a function could
//! use are all touched when it is called.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, openat, readlinkat_raw};
use rustix::io::Errno;

use crate::fallback::procfs;

/// How many symlinks a path may lead through (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// How deep below the root the walk goes; each level costs a descriptor.
const MAX_DEPTH: usize = 256;

/// Room for what is still to be walked: a path and the links found in it.
const MAX_PENDING: usize = 8192;

/// NAME_MAX and the terminating NUL.
const MAX_NAME: usize = 256;

/// `ST_NOSYMFOLLOW` of statfs(2).
const ST_NOSYMFOLLOW: i64 = 0x2000;

const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` with `root` as its `/`: `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`, with `strict`
/// also `RESOLVE_NO_SYMLINKS`. EAGAIN when somebody exchanged the last component at the wrong
/// moment. Does not create files.
#[cold]
#[inline(never)]
pub fn in_root(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    strict: bool,
) -> Result<OwnedFd, Errno> {
    walk(root, path, flags, strict, |_, _, _| Err(Errno::NOENT))
}

/// Opens a mount point: the same walk, on which `make` makes what is missing, in the directory that
/// is held open at that moment. It gets the directory, the name, and whether the name is the last
/// one. So a symlink that leads to nowhere leads to what is made there, always inside the root.
#[cold]
#[inline(never)]
pub fn making(
    root: BorrowedFd<'_>,
    path: &CStr,
    strict: bool,
    make: impl Fn(BorrowedFd<'_>, &CStr, bool) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    walk(root, path, OFlags::PATH, strict, make)
}

fn walk(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    strict: bool,
    missing: impl Fn(BorrowedFd<'_>, &CStr, bool) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let flags = flags | OFlags::CLOEXEC;
    let mut pending = Pending::new(path.to_bytes())?;
    let mut held = Held::new();
    let mut links = 0;
    let mut buffer = [0u8; MAX_NAME];
    while let Some(component) = pending.next(&mut buffer)? {
        let here = held.top().unwrap_or(root);
        let (name, last) = match component {
            Component::Parent => {
                held.pop();
                continue;
            }
            Component::Name { name, last } => (name, last),
        };
        if last && !flags.contains(OFlags::PATH) {
            match openat(here, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
                // Perhaps a symlink.
                Err(Errno::LOOP | Errno::NOTDIR) => {}
                result => return result,
            }
        }
        let found = match openat(here, name, HOLD, Mode::empty()) {
            Err(Errno::NOENT) => missing(here, name, last)?,
            found => found?,
        };
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Symlink if last && flags.contains(OFlags::PATH | OFlags::NOFOLLOW) => {
                return Ok(found);
            }
            FileType::Symlink => {
                links += 1;
                let refused = strict || (last && flags.contains(OFlags::NOFOLLOW));
                if refused || links > MAX_LINKS || !may_be_followed(here, &found)? {
                    return Err(Errno::LOOP);
                }
                if pending.follow(&found)? {
                    held.clear();
                }
            }
            FileType::Directory if !last => held.push(found)?,
            FileType::Directory if flags.contains(OFlags::PATH) => return Ok(found),
            _ if !last || flags.contains(OFlags::DIRECTORY) => return Err(Errno::NOTDIR),
            _ if flags.contains(OFlags::PATH) => return Ok(found),
            _ => return Err(Errno::AGAIN),
        }
    }
    // The path ended with a slash, `.` or `..`: it is the directory itself.
    let here = held.top().unwrap_or(root);
    openat(here, c".", flags & !OFlags::NOFOLLOW, Mode::empty())
}
/// Opens a path below `dir` without leaving its mount: `RESOLVE_BENEATH | RESOLVE_NO_XDEV |
/// RESOLVE_NO_SYMLINKS`. `dir` must be the root of a mount. EXDEV for everything that leads out of
/// it.
#[cold]
#[inline(never)]
pub fn beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    if path.to_bytes().starts_with(b"/") {
        return Err(Errno::XDEV);
    }
    let mount = procfs::mount_id(dir)?;
    let mut pending = Pending::new(path.to_bytes())?;
    let mut parent: Option<OwnedFd> = None;
    let mut buffer = [0u8; MAX_NAME];
    while let Some(component) = pending.next(&mut buffer)? {
        let here = parent.as_ref().map_or(dir, AsFd::as_fd);
        let Component::Name { name, last } = component else {
            return Err(Errno::XDEV);
        };
        // First only held: a file of another mount would be opened in earnest too early.
        let found = openat(here, name, HOLD, Mode::empty())?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP);
        }
        if procfs::mount_id(&found)? != mount {
            return Err(Errno::XDEV);
        }
        if last {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(here, name, flags, Mode::empty())?;
            return if procfs::mount_id(&file)? == mount {
                Ok(file)
            } else {
                Err(Errno::XDEV)
            };
        }
        parent = Some(found);
    }
    let here = parent.as_ref().map_or(dir, AsFd::as_fd);
    openat(here, c".", flags | OFlags::CLOEXEC, Mode::empty())
}

/// Whether the text of a link is where it leads. Magic links of procfs lead elsewhere; ordinary ones
/// are only in its root (`self`, `mounts`, `net`). And some mounts follow no links.
fn may_be_followed(dir: BorrowedFd<'_>, link: &OwnedFd) -> Result<bool, Errno> {
    if procfs::is_procfs(link)? && !procfs::is_root(dir)? {
        return Ok(false);
    }
    Ok(fstatfs(link)?.f_flags & ST_NOSYMFOLLOW == 0)
}

/// The directories that the walk came through.
struct Held {
    stack: [Option<OwnedFd>; MAX_DEPTH],
    depth: usize,
}

impl Held {
    fn new() -> Held {
        Held {
            stack: [const { None }; MAX_DEPTH],
            depth: 0,
        }
    }

    fn top(&self) -> Option<BorrowedFd<'_>> {
        let at = self.depth.checked_sub(1)?;
        self.stack.get(at)?.as_ref().map(AsFd::as_fd)
    }

    fn push(&mut self, dir: OwnedFd) -> Result<(), Errno> {
        *self.stack.get_mut(self.depth).ok_or(Errno::NAMETOOLONG)? = Some(dir);
        self.depth += 1;
        Ok(())
    }

    /// One up; at the root it stays there.
    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if let Some(place) = self.stack.get_mut(self.depth) {
            *place = None;
        }
    }

    fn clear(&mut self) {
        while self.depth > 0 {
            self.pop();
        }
    }
}

/// One component of a path.
enum Component<'b> {
    /// `..`
    Parent,
    /// A name; `last` when nothing follows it, not even a slash.
    Name { name: &'b CStr, last: bool },
}

/// What is still to be walked, at the end of a buffer, so that links can be put before it.
struct Pending {
    buffer: [u8; MAX_PENDING],
    start: usize,
}

impl Pending {
    fn new(path: &[u8]) -> Result<Pending, Errno> {
        let mut pending = Pending {
            buffer: [0; MAX_PENDING],
            start: MAX_PENDING,
        };
        pending.prepend(path)?;
        Ok(pending)
    }

    fn prepend(&mut self, text: &[u8]) -> Result<(), Errno> {
        let start = self.start.checked_sub(text.len());
        let start = start.ok_or(Errno::NAMETOOLONG)?;
        let room = self.buffer.get_mut(start..self.start);
        room.ok_or(Errno::NAMETOOLONG)?.copy_from_slice(text);
        self.start = start;
        Ok(())
    }

    /// Puts the text of a symlink before the rest, and tells whether it begins at the root.
    fn follow(&mut self, link: &OwnedFd) -> Result<bool, Errno> {
        let mut text = [0u8; 4096];
        let length = readlinkat_raw(link, c"", &mut text)?;
        let text = text.get(..length).unwrap_or_default();
        // PATH_MAX bytes may have been cut off.
        if length >= 4096 {
            return Err(Errno::NAMETOOLONG);
        }
        let first = *text.first().ok_or(Errno::NOENT)?;
        self.prepend(text)?;
        Ok(first == b'/')
    }

    fn next<'b>(&mut self, name: &'b mut [u8; MAX_NAME]) -> Result<Option<Component<'b>>, Errno> {
        loop {
            let rest = self.buffer.get(self.start..).unwrap_or_default();
            let slashes = rest.iter().take_while(|&&b| b == b'/').count();
            let rest = rest.get(slashes..).unwrap_or_default();
            let length = rest.iter().take_while(|&&b| b != b'/').count();
            let component = rest.get(..length).unwrap_or_default();
            self.start += slashes + length;
            match component {
                b"" => return Ok(None),
                b"." => {}
                b".." => return Ok(Some(Component::Parent)),
                _ => {
                    let room = name.get_mut(..=length).ok_or(Errno::NAMETOOLONG)?;
                    for (to, from) in room.iter_mut().zip(component.iter().chain([&0])) {
                        *to = *from;
                    }
                    let name = CStr::from_bytes_with_nul(room).map_err(|_| Errno::INVAL)?;
                    let last = length == rest.len();
                    return Ok(Some(Component::Name { name, last }));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
