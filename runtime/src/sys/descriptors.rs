//! Closing descriptors by the range: close_range(2), of Linux 5.9 and with `CLOSE_RANGE_CLOEXEC` of
//! 5.11. Without it, or where a container's own filter forbids it, one by one.

use std::os::fd::{AsRawFd, RawFd};

use libc::{c_long, c_uint};
use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::check;
use crate::fallback::procfs;

/// The usual `fs.nr_open` (proc(5)): the highest number of descriptors that a limit can allow. The
/// limit itself says little: it may have been lowered after descriptors were opened.
const MAX_DESCRIPTORS: u64 = 1 << 20;

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_on_exec_from(first: c_uint) -> Result<(), Errno> {
    match close_range(first, libc::CLOSE_RANGE_CLOEXEC) {
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => each_from(first, |fd| {
            // SAFETY: only a flag of the descriptor changes.
            let done = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            match check(c_long::from(done)) {
                Ok(_) | Err(Errno::BADF) => Ok(()),
                Err(e) => Err(e),
            }
        }),
        result => result,
    }
}

/// Closes every descriptor of a process that is about to live without any: the built-in init.
pub fn close_everything() -> Result<(), Errno> {
    match close_range(0, 0) {
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => each_from(0, |fd| {
            // SAFETY: called only by the init, which uses no descriptor afterwards.
            unsafe { libc::close(fd) };
            Ok(())
        }),
        result => result,
    }
}

fn close_range(first: c_uint, flags: c_uint) -> Result<(), Errno> {
    // SAFETY: closes nothing that is used afterwards: with the one flag nothing at all, and without
    // it is the init that calls, see `close_everything`.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, flags) }).map(drop)
}

/// Does something to every open descriptor from `first` on.
fn each_from(first: c_uint, act: impl Fn(RawFd) -> Result<(), Errno>) -> Result<(), Errno> {
    if listed_from(first, &act).is_ok() {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(0);
    for fd in u64::from(first)..limit.max(MAX_DESCRIPTORS) {
        act(RawFd::try_from(fd).map_err(|_| Errno::OVERFLOW)?)?;
    }
    Ok(())
}

/// The same by the list of `/proc/self/fd`. By now `/proc` is the container's: it may be missing, or
/// be anything, and only a procfs is believed.
fn listed_from(first: c_uint, act: &impl Fn(RawFd) -> Result<(), Errno>) -> Result<(), Errno> {
    let proc = procfs::open()?;
    let read = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(&proc, c"self/fd", read, Mode::empty())?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 2048];
    let mut list = RawDir::new(&directory, &mut buffer);
    while let Some(entry) = list.next() {
        let entry = entry?;
        // `.` and `..` are no numbers.
        let Some(fd) = procfs::number(entry.file_name().to_bytes()) else {
            continue;
        };
        let fd_number = RawFd::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
        let ours = [proc.as_raw_fd(), directory.as_raw_fd()].contains(&fd_number);
        if fd >= first && !ours {
            act(fd_number)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn descriptors_are_found_one_by_one() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let seen = RefCell::new(Vec::new());
        let note = |fd| {
            seen.borrow_mut().push(fd);
            Ok(())
        };
        listed_from(3, &note).unwrap();
        assert!(seen.borrow().contains(&file.as_raw_fd()));
        assert!(seen.borrow().iter().all(|fd| *fd >= 3));
    }
}
