//! Calls about the calling process that neither `rustix` nor `nix` has.

use std::ffi::{CStr, c_long};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::check;
use crate::plan::step::Scheduler;

/// `struct sched_attr` of sched_setattr(2), first version.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// `struct pidfd_info` of linux/pidfd.h, first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pids: [u32; 3],
    ids: [u32; 8],
    exit_code: i32,
}

/// Asks for `exit_code`.
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` (ioctl(2)): direction, size, type and number.
const PIDFD_GET_INFO: u32 = 3 << 30 | (size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11;

/// The status, as wait(2) has it, of a process that has ended and been buried; `None` before that. Linux 6.15.
pub fn pidfd_exit_status(pidfd: impl AsFd) -> Result<Option<i32>, Errno> {
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the size of `info` is in the number of the request, and the kernel writes no more than that.
    let done = unsafe { libc::ioctl(fd, PIDFD_GET_INFO as _, &raw mut info) };
    match check(c_long::from(done)) {
        // Kernels before say so of one that is gone, and set no flag that they do not know.
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)),
    }
}

/// sched_setattr(2) of the calling thread.
pub fn set_scheduler(wanted: &Scheduler) -> Result<(), Errno> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: `attr` is a sched_attr whose size is in it; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// ioprio_set(2) of the calling thread.
pub fn set_io_priority(value: i32) -> Result<(), Errno> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: no memory is passed; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// personality(2).
pub fn personality(value: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, c_long::from(value)) }).map(drop)
}

/// set_mempolicy(2).
pub fn set_memory_policy(mode: i32, nodes: &[u64; 16]) -> Result<(), Errno> {
    let empty = nodes.iter().all(|word| *word == 0);
    // The kernel counts one bit more than it reads.
    let (mask, bits) = match empty {
        true => (std::ptr::null(), 0),
        false => (nodes.as_ptr(), nodes.len() * 64),
    };
    // SAFETY: `mask` is null, or has `bits` bits.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// sched_setaffinity(2) of the calling thread; bits of processors that are not there do not count.
pub fn set_affinity(bits: &[u64; 16]) -> Result<(), Errno> {
    let size = size_of_val(bits);
    // SAFETY: the mask has the given size in bytes; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, bits.as_ptr()) }).map(drop)
}

/// keyctl(2), KEYCTL_JOIN_SESSION_KEYRING: a new session keyring with this name.
pub fn join_session_keyring(name: &CStr) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_long = 1;
    // SAFETY: the name is a C string.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) }).map(drop)
}

/// The `CLONE_NEW*` flag of a namespace, for a descriptor of one (ioctl_nsfs(2), `NS_GET_NSTYPE`).
pub fn namespace_kind(fd: impl AsFd) -> Result<i32, Errno> {
    /// `_IO(0xb7, 3)`.
    const NS_GET_NSTYPE: u32 = 0xb703;
    // SAFETY: the descriptor is open, and the call takes no argument.
    let kind = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    check(c_long::from(kind)).map(|_| kind)
}

/// pidfd_getfd(2): a copy of the descriptor `number` of another process, close-on-exec.
pub fn pidfd_getfd(pidfd: impl AsFd, number: i32) -> Result<OwnedFd, Errno> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd, number, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
