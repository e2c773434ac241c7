//! Closing descriptors by the range: close_range(2), of Linux 5.9. Without it, or where a container's
//! own filter forbids it, one by one.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use libc::c_uint;
use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::check;
use crate::fallback::procfs;

/// The usual `fs.nr_open` (proc(5)): the highest number of descriptors that a limit can allow. The
/// limit itself says little: it may have been lowered after descriptors were opened.
const MAX_DESCRIPTORS: u64 = 1 << 20;

/// Closes every descriptor from `first` on, but those in `keep`, of a process that is about to
/// execute a program and will neither use nor drop them.
pub fn close_all_but(first: c_uint, keep: [Option<BorrowedFd<'_>>; 4]) -> Result<(), Errno> {
    let mut keep = keep.map(|fd| fd.map_or(0, |fd| fd.as_raw_fd().unsigned_abs()));
    keep.sort_unstable();
    let mut from = first;
    let mut ranges = || -> Result<(), Errno> {
        for kept in keep.into_iter().filter(|kept| *kept >= first) {
            if from < kept {
                close_range(from, kept - 1)?;
            }
            from = kept + 1;
        }
        close_range(from, c_uint::MAX)
    };
    match ranges() {
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => each_from(first, |fd| {
            if !keep.contains(&fd.unsigned_abs()) {
                // SAFETY: as for `close_range`.
                unsafe { libc::close(fd) };
            }
            Ok(())
        }),
        result => result,
    }
}

/// Closes every descriptor of a process that is about to live without any: the built-in init.
pub fn close_everything() -> Result<(), Errno> {
    match close_range(0, c_uint::MAX) {
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => each_from(0, |fd| {
            // SAFETY: called only by the init, which uses no descriptor afterwards.
            unsafe { libc::close(fd) };
            Ok(())
        }),
        result => result,
    }
}

fn close_range(first: c_uint, last: c_uint) -> Result<(), Errno> {
    // SAFETY: called only by processes that are about to execute a program, or to live without
    // descriptors, for those that they use no more.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Does something to every open descriptor from `first` on.
#[cold]
#[inline(never)]
fn each_from(first: c_uint, act: impl Fn(RawFd) -> Result<(), Errno>) -> Result<(), Errno> {
    if listed_from(first, &act).is_ok() {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(0);
    let limit = RawFd::try_from(limit.max(MAX_DESCRIPTORS)).map_err(|_| Errno::OVERFLOW)?;
    let mut start = RawFd::try_from(first).map_err(|_| Errno::OVERFLOW)?;
    while start < limit {
        for entry in polled(start) {
            if entry.revents & libc::POLLNVAL == 0 {
                act(entry.fd)?;
            }
        }
        start += BATCH;
    }
    Ok(())
}

/// How many descriptors are asked about at once.
const BATCH: RawFd = 256;

/// The descriptors from `start` on; those that are not open are marked as such. poll(2) finds that
/// out for many at a time, where closing each of a million costs half a second.
fn polled(start: RawFd) -> [libc::pollfd; BATCH as usize] {
    let mut list = [libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    }; BATCH as usize];
    for (entry, fd) in list.iter_mut().zip(start..) {
        entry.fd = fd;
    }
    // SAFETY: the list has as many entries as said; it does not wait. When it fails (more entries
    // than the limit of descriptors) nothing is marked.
    unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, 0) };
    list
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
        // And without a list.
        let open = |fd: RawFd| polled(fd)[0].revents & libc::POLLNVAL == 0;
        assert!(open(file.as_raw_fd()) && !open(1 << 20));
    }
}
