//! setns(2) into several namespaces of a process at once needs a pidfd and Linux 5.8. Before, its
//! namespaces are opened one by one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::fallback::procfs::{self, ProcPath};
use crate::plan::namespaces::NEW_TIME;
use crate::sys;

/// In the order of joining: what needs rights of the old place first, the mounts last (after them
/// `/proc` is another one).
const NAMESPACES: [(i32, &str); 8] = [
    (libc::CLONE_NEWUSER, "/ns/user"),
    (libc::CLONE_NEWCGROUP, "/ns/cgroup"),
    (libc::CLONE_NEWIPC, "/ns/ipc"),
    (libc::CLONE_NEWUTS, "/ns/uts"),
    (libc::CLONE_NEWNET, "/ns/net"),
    (libc::CLONE_NEWPID, "/ns/pid"),
    (NEW_TIME, "/ns/time"),
    (libc::CLONE_NEWNS, "/ns/mnt"),
];

/// setns(2): `fd` is a namespace, or a pidfd; then `flags` may name several namespaces.
pub fn enter(fd: BorrowedFd<'_>, flags: i32) -> Result<(), Errno> {
    match sys::setns(fd, flags) {
        Err(Errno::INVAL) => {}
        result => return result,
    }
    let Ok(pid) = pid_of(fd) else {
        return Err(Errno::INVAL);
    };
    if NAMESPACES
        .iter()
        .fold(flags, |rest, (flag, _)| rest & !flag)
        != 0
    {
        return Err(Errno::INVAL);
    }
    let mut opened: [Option<OwnedFd>; NAMESPACES.len()] = [const { None }; NAMESPACES.len()];
    for (place, (flag, name)) in opened.iter_mut().zip(NAMESPACES) {
        if flags & flag != 0 {
            let path = ProcPath::join("/proc/", pid, name);
            let read = OFlags::RDONLY | OFlags::CLOEXEC;
            *place = Some(openat(CWD, path.as_c_str(), read, Mode::empty())?);
        }
    }
    // It still lives, so the pid was its own all the time.
    sys::pidfd_kill(fd, 0)?;
    for (place, (flag, _)) in opened.iter().zip(NAMESPACES) {
        if let Some(namespace) = place {
            sys::setns(namespace, flag)?;
        }
    }
    Ok(())
}

/// The pid of a pidfd in the pid namespace of `/proc`; an error for other descriptors, and for
/// processes that ended.
fn pid_of(pidfd: BorrowedFd<'_>) -> Result<u32, Errno> {
    procfs::open()?;
    let fd = pidfd.as_fd().as_raw_fd().unsigned_abs();
    match procfs::field(ProcPath::join("/proc/self/fdinfo/", fd, ""), b"Pid")? {
        0 => Err(Errno::SRCH),
        pid => Ok(pid),
    }
}
