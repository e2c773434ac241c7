//! The system calls that no safe crate offers in the form that is needed here. The only unsafe
//! code of this crate.
//!
//! Everything here may be called between a fork and an exec: nothing allocates, takes a lock or
//! touches more than `errno` of the C library.

#![allow(unsafe_code)]

pub mod bpf;
mod descriptors;
mod process;
pub mod shield;

pub use process::{
    join_session_keyring, namespace_kind, personality, pidfd_exit_status, pidfd_getfd,
    set_affinity, set_io_priority, set_memory_policy, set_scheduler,
};

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use seccompiler::sock_filter;

use crate::fallback::birth::{self, Remainder};

pub use descriptors::{close_all_but, close_everything};

/// The result of a `clone3` without a new stack: like fork(2), it returns twice.
pub enum Forked {
    /// In the new process, which has to do the rest of its birth itself.
    Child(Remainder),
    /// In the process that called.
    Parent {
        /// The pid of the child in the pid namespace of the caller.
        pid: i32,
        /// A descriptor of the child, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// How to make a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneArgs<'fd> {
    /// `CLONE_NEW*` and `CLONE_PARENT`; other flags are not accepted.
    pub flags: u64,
    /// The v2 cgroup to begin in.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: c_long) -> Result<c_long, Errno> {
    if result == -1 {
        Err(last_errno())
    } else {
        Ok(result)
    }
}

fn last_errno() -> Errno {
    // SAFETY: returns the address of the calling thread's errno, which is always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// Makes a new process that shares nothing with this one (a copy of its memory and descriptors).
///
/// In a multi-threaded program the child has only the calling thread, and locks of the others may
/// be held for ever: until it executes something it must stay within this module, `rustix` and
/// [`crate::init`].
///
/// Where clone3(2) is missing (Linux before 5.7) or forbidden (filters of container engines that
/// do not know it, with EPERM), clone(2) does what it can.
pub fn clone3(args: CloneArgs<'_>) -> Result<Forked, Errno> {
    let namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_PARENT;
    if args.flags & !u64::from(namespaces.cast_unsigned()) != 0 {
        return Err(Errno::INVAL);
    }
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero is the documented neutral value of every field of clone_args.
    let mut raw: libc::clone_args = unsafe { std::mem::zeroed() };
    raw.flags = args.flags | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    raw.pidfd = (&raw mut pidfd) as u64;
    // With CLONE_PARENT the child inherits the signal of its new parent's choice.
    if args.flags & libc::CLONE_PARENT as u64 == 0 {
        raw.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(fd) = args.cgroup {
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `raw` is a valid clone_args of the given size; without CLONE_VM the child has its
    // own copy of the memory, so both sides may go on with this stack frame.
    let cloned = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const raw,
            size_of::<libc::clone_args>(),
        )
    });
    let pid = match cloned {
        Ok(0) => return Ok(Forked::Child(Remainder::default())),
        // EINVAL, E2BIG: Linux 5.3 to 5.6, which do not know all flags or the cgroup yet.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::TOOBIG) => {
            return birth::clone(args);
        }
        result => result?,
    };
    // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent {
        pid: i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?,
        pidfd,
    })
}

/// The classic clone(2) with `CLONE_PIDFD`, which the kernel must know (Linux 5.2): the pid and a
/// pidfd in the caller, `None` in the child. `flags` as for [`clone3`], which see.
pub fn clone_with_pidfd(flags: u64) -> Result<Option<(i32, OwnedFd)>, Errno> {
    let flags = c_int::try_from(flags).map_err(|_| Errno::INVAL)?;
    // With CLONE_PARENT the signal is not used.
    let flags = c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD);
    let mut pidfd: c_int = -1;
    #[cfg(not(target_arch = "s390x"))]
    // SAFETY: no new stack and no shared memory: it behaves like fork(2); the kernel stores the
    // descriptor in the caller's `pidfd`.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })?;
    #[cfg(target_arch = "s390x")]
    // SAFETY: as above; the order of the arguments differs.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, 0, flags, &raw mut pidfd, 0, 0) })?;
    if pid == 0 {
        return Ok(None);
    }
    if pidfd < 0 {
        return Err(Errno::NOSYS);
    }
    // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?;
    Ok(Some((pid, pidfd)))
}

/// A plain fork: `Some(pid)` in the caller, `None` in the child. `sibling` makes the child one of
/// the caller's parent (`CLONE_PARENT`).
pub fn fork(sibling: bool) -> Result<Option<i32>, Errno> {
    let flags = if sibling {
        libc::CLONE_PARENT | libc::SIGCHLD
    } else {
        libc::SIGCHLD
    };
    // The classic clone and not clone3: seccomp filters may look at its flags and allow it.
    #[cfg(not(target_arch = "s390x"))]
    // SAFETY: no new stack and no shared memory: it behaves like fork(2).
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, c_long::from(flags), 0, 0, 0, 0) })?;
    #[cfg(target_arch = "s390x")]
    // SAFETY: as above; the order of the arguments differs.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, 0, c_long::from(flags), 0, 0, 0) })?;
    if pid == 0 {
        return Ok(None);
    }
    i32::try_from(pid).map(Some).map_err(|_| Errno::OVERFLOW)
}

/// Ends the process without running anything else.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// unshare(2), of namespaces only.
pub fn unshare(flags: c_int) -> Result<(), Errno> {
    if flags & libc::CLONE_FILES != 0 {
        return Err(Errno::INVAL);
    }
    // SAFETY: without CLONE_FILES only namespaces of the calling thread change.
    check(c_long::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// setns(2): `fd` is a namespace, or a pidfd (then `flags` may name several namespaces).
pub fn setns(fd: impl AsFd, flags: c_int) -> Result<(), Errno> {
    // SAFETY: only namespaces of the calling thread change.
    check(c_long::from(unsafe {
        libc::setns(fd.as_fd().as_raw_fd(), flags)
    }))
    .map(drop)
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
    /// A user namespace; unused.
    pub userns_fd: u64,
}

/// Changes the attributes of the mount `fd` (and with `recursive` of those below it).
pub fn mount_setattr(fd: impl AsFd, attr: &MountAttr, recursive: bool) -> Result<(), Errno> {
    let deep = if recursive { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | deep;
    // SAFETY: the path is a valid C string, `attr` is a mount_attr of the given size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags as c_uint,
            ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Loads a seccomp filter. `flags` are `SECCOMP_FILTER_FLAG_*`. Needs `no_new_privs` or
/// `CAP_SYS_ADMIN`. With `listen` it returns the descriptor on which the filter asks
/// (seccomp_unotify(2)).
pub fn load_filter(
    filter: &[sock_filter],
    flags: c_uint,
    listen: bool,
) -> Result<Option<OwnedFd>, Errno> {
    #[repr(C)]
    struct FilterProgram {
        len: u16,
        filter: *const sock_filter,
    }
    let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let program = FilterProgram {
        len,
        filter: filter.as_ptr(),
    };
    let listener = match listen {
        true => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as c_uint,
        false => 0,
    };
    // SAFETY: `program` is a sock_fprog that describes `filter`; the kernel copies it.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags | listener,
            (&raw const program).cast::<c_void>(),
        )
    })?;
    if !listen {
        return Ok(None);
    }
    let fd = RawFd::try_from(result).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Arguments or environment of a program: pointers into an arena of C strings.
///
/// Made before the fork, so that the child need not allocate.
pub struct Strings<'arena> {
    pointers: Vec<*const c_char>,
    _arena: std::marker::PhantomData<&'arena [u8]>,
}

impl<'arena> Strings<'arena> {
    /// The array for execve(2), with its terminating null pointer.
    pub fn new(strings: impl Iterator<Item = &'arena CStr>) -> Strings<'arena> {
        let pointers = strings.map(CStr::as_ptr).chain([ptr::null()]).collect();
        Strings {
            pointers,
            _arena: std::marker::PhantomData,
        }
    }
}

/// execve(2). Returns only when it failed.
pub fn execve(path: &CStr, arguments: &Strings<'_>, environment: &Strings<'_>) -> Errno {
    // SAFETY: both arrays end with a null pointer and their strings live as long as they do.
    unsafe {
        libc::execve(
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        )
    };
    last_errno()
}

/// execveat(2) of a descriptor itself. Returns only when it failed.
pub fn execve_fd(fd: impl AsFd, arguments: &Strings<'_>, environment: &Strings<'_>) -> Errno {
    // SAFETY: as for `execve`; the empty path means the descriptor.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// Gives every signal its default action. A handler does not survive exec, but "ignored" does: Rust
/// programs ignore SIGPIPE, nohup(1) and shells others, some libraries even real-time signals.
pub fn default_signal_actions() {
    // The kernel's struct sigaction (not the C library's, which keeps two signals for itself):
    // SIG_DFL, no flags, no restorer, an empty mask.
    let action = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: SIG_DFL has no handler that could be run; SIGKILL and SIGSTOP refuse, which
        // changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                ptr::null_mut::<c_void>(),
                size_of::<u64>(),
            )
        };
    }
}

/// The signal mask of a thread, to be given back.
#[derive(Debug)]
pub struct SignalMask(libc::sigset_t);

/// Blocks every signal for the calling thread and returns the mask it had.
pub fn block_signals() -> Result<SignalMask, Errno> {
    // SAFETY: both sets are plain data; sigfillset initialises one, pthread_sigmask the other.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) {
            0 => Ok(SignalMask(old)),
            error => Err(Errno::from_raw_os_error(error)),
        }
    }
}

impl SignalMask {
    /// Gives the mask back to the calling thread.
    pub fn restore(&self) -> Result<(), Errno> {
        // SAFETY: the set was initialised by the kernel.
        let error =
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
        if error == 0 {
            Ok(())
        } else {
            Err(Errno::from_raw_os_error(error))
        }
    }
}

/// Lets every signal through: what a program expects to begin with.
pub fn unblock_signals() -> Result<(), Errno> {
    // SAFETY: the set is initialised by sigemptyset.
    let none = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        none
    };
    SignalMask(none).restore()
}

/// Waits for any signal of the (blocked) set of all signals and returns its number.
pub fn wait_for_signal() -> Result<c_int, Errno> {
    // SAFETY: the set is initialised by sigfillset before it is used.
    let signal = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigwaitinfo(&raw const all, ptr::null_mut())
    };
    check(c_long::from(signal)).map(|_| signal)
}

/// kill(2) with a raw signal number, also real-time signals.
pub fn kill(pid: i32, signal: c_int) -> Result<(), Errno> {
    // SAFETY: kill has no memory arguments.
    check(c_long::from(unsafe { libc::kill(pid, signal) })).map(drop)
}

/// pidfd_send_signal(2) with a raw signal number, also real-time signals.
pub fn pidfd_kill(pidfd: impl AsFd, signal: c_int) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo means the one that kill(2) would send.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd,
            signal,
            ptr::null::<c_void>(),
            0,
        )
    })
    .map(drop)
}

/// The current directory, as the kernel tells it, without allocating. The text may begin with
/// `(unreachable)`.
pub fn current_directory(buffer: &mut [u8; 4096]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes.
    let length =
        check(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    let length = usize::try_from(length).map_err(|_| Errno::OVERFLOW)?;
    buffer
        .get(..length.saturating_sub(1))
        .ok_or(Errno::OVERFLOW)
}

/// The network namespace that the socket with this number belongs to, as a number that no other namespace has
/// (`SO_NETNS_COOKIE`, Linux 5.14). `None`: it is no socket, or one that belongs to none.
pub fn socket_namespace(fd: RawFd) -> Result<Option<u64>, Errno> {
    /// asm-generic/socket.h; on all architectures that this runs on.
    const SO_NETNS_COOKIE: c_int = 71;
    let domain = match socket_option::<c_int>(fd, libc::SO_DOMAIN) {
        Ok(domain) => domain,
        Err(Errno::NOTSOCK) => return Ok(None),
        Err(error) => return Err(error),
    };
    if domain == libc::AF_UNIX {
        return Ok(None);
    }
    socket_option::<u64>(fd, SO_NETNS_COOKIE).map(Some)
}

/// getsockopt(2) of the socket level, for options that are a number.
fn socket_option<T: Default + Copy>(fd: RawFd, option: c_int) -> Result<T, Errno> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is a number with room for `length` bytes, any of which make one, and both outlive the call. A
    // descriptor that is not open is an error.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    check(c_long::from(done)).map(|_| value)
}

/// Switches the loopback device of the calling thread's network namespace on.
pub fn loopback_up() -> Result<(), Errno> {
    // SAFETY: a new socket; the request structure is plain data, zeroed, and outlives the calls.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let socket = OwnedFd::from_raw_fd(check(c_long::from(fd)).map(|_| fd)?);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        // C libraries do not agree on the type of the request; all have this one.
        let set_flags = libc::SIOCSIFFLAGS as _;
        let done = libc::ioctl(socket.as_raw_fd(), set_flags, &raw const request);
        check(c_long::from(done)).map(drop)
    }
}

/// A descriptor that the caller knows to be open for as long as the process lives: standard
/// input, output and error.
pub fn standard(fd: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&fd));
    // SAFETY: the standard library makes sure at start that 0, 1 and 2 are open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// A process that does nothing but be there. It holds nothing of its maker (no descriptor), dies
/// with the thread that made it, and when this is dropped.
#[derive(Debug)]
pub struct Placeholder(libc::pid_t);

impl Placeholder {
    /// Makes the process.
    pub fn new() -> Result<Placeholder, Errno> {
        let parent = std::process::id();
        // SAFETY: the child calls nothing but system calls, and never returns.
        match unsafe { libc::fork() } {
            0 => placeholder(parent),
            pid => check(c_long::from(pid)).map(|_| Placeholder(pid)),
        }
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.0
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // SAFETY: it is our child and not reaped yet, so the pid is still its own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, ptr::null_mut(), 0);
        }
    }
}

fn placeholder(parent: u32) -> ! {
    // SAFETY: system calls without memory arguments, in a process of one thread.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        // It may have died before.
        if libc::getppid().cast_unsigned() != parent {
            libc::_exit(0);
        }
        // Locks and pipes of the maker must not stay open here. Before Linux 5.9 one by one.
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) != 0 {
            (0..4096).for_each(|fd| {
                libc::close(fd);
            });
        }
        loop {
            libc::pause();
        }
    }
}
