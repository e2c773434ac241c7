//! `tmpcopyup`: a new tmpfs begins with what the root has in its place. Part of the new process:
//! allocates nothing.
//!
//! What is copied is hostile: everything is opened by its name in a directory that is held open,
//! never through a symlink, and device nodes are left out.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, fchown, fstat,
    futimens, mkdirat, mknodat, openat, readlinkat_raw, statat, symlinkat,
};
use rustix::io::Errno;

use crate::report::{At, Fault, Part};
use crate::rootfs;

/// How deep the tree may be; each level takes two descriptors and some of the stack.
const MAX_DEPTH: usize = 64;

/// Copies what is at `target` in the root into the file system `tree`. Nothing there is nothing
/// to copy.
pub fn copy(
    root: BorrowedFd<'_>,
    target: &CStr,
    strict: bool,
    tree: &OwnedFd,
) -> Result<(), Fault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = match rootfs::resolve(root, target, flags, strict) {
        Err(Errno::NOENT) => return Ok(()),
        result => result.at(Part::Target)?,
    };
    let to = openat(tree, c".", flags, Mode::empty()).at(Part::Create)?;
    directory(&from, &to, 0).at(Part::Create)?;
    same_owner(&to, &fstat(&from)?).at(Part::Create)
}

fn directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > MAX_DEPTH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    let mut entries = RawDir::new(from, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from.as_fd(), to.as_fd(), name, depth)?;
        }
    }
    Ok(())
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    let open = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let flags = open | OFlags::RDONLY | OFlags::DIRECTORY;
            let source = openat(from, name, flags, Mode::empty())?;
            mkdirat(to, name, mode)?;
            let made = openat(to, name, flags, Mode::empty())?;
            directory(&source, &made, depth + 1)?;
            same_owner(&made, &stat)
        }
        FileType::RegularFile => {
            let source = openat(
                from,
                name,
                open | OFlags::RDONLY | OFlags::NONBLOCK,
                Mode::empty(),
            )?;
            // What was a file may be a device by now, and the runtime may read those that the container may not.
            if FileType::from_raw_mode(fstat(&source)?.st_mode) != FileType::RegularFile {
                return Err(Errno::AGAIN);
            }
            let flags = open | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let made = openat(to, name, flags, mode)?;
            bytes(&source, &made)?;
            same_owner(&made, &stat)
        }
        FileType::Symlink => link(from, to, name, &stat),
        FileType::Fifo => {
            mknodat(to, name, FileType::Fifo, mode, 0)?;
            owner_of(to, name, &stat)
        }
        // Devices and sockets are somebody else's.
        _ => Ok(()),
    }
}

fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let (text, rest) = readlinkat_raw(from, name, &mut buffer)?;
    let length = text.len();
    // Room for the terminating NUL.
    rest.first_mut().ok_or(Errno::NAMETOOLONG)?.write(0);
    let mut whole = [0u8; 4096];
    let used = whole.get_mut(..length).ok_or(Errno::NAMETOOLONG)?;
    used.copy_from_slice(text);
    let text = whole.get(..=length).ok_or(Errno::NAMETOOLONG)?;
    let text = CStr::from_bytes_with_nul(text).map_err(|_| Errno::INVAL)?;
    symlinkat(text, to, name)?;
    owner_of(to, name, stat)
}

fn bytes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut buffer = [0u8; 16384];
    loop {
        let n = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut buffer))?;
        let mut rest = buffer.get(..n).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while !rest.is_empty() {
            let n = rustix::io::retry_on_intr(|| rustix::io::write(to, rest))?;
            rest = rest.get(n..).unwrap_or_default();
        }
    }
}

/// Owner first: changing it takes set-user-id bits away.
fn same_owner(fd: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchown(fd, Some(uid), Some(gid))?;
    rustix::fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    futimens(fd, &times(stat))
}

fn owner_of(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    let moment = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: moment(stat.st_atime, stat.st_atime_nsec),
        last_modification: moment(stat.st_mtime, stat.st_mtime_nsec),
    }
}
