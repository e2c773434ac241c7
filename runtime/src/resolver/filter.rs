//! The system calls of the resolver: what it makes while it answers, and no other. It reads what strangers send and
//! has capabilities, so whoever took it over should find as little of the kernel as possible: no program can be started,
//! no process made or looked into, nothing mounted, no other namespace entered than a network.

use std::io;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use crate::{seccomp, sys};

/// Without a look at their arguments. Some exist on one architecture only, or are made by one C library only.
const ALLOWED: &[&str] = &[
    // Files: records, locks, logs, /etc/hosts and the like.
    "access",
    "close",
    "faccessat",
    "faccessat2",
    "fchmod",
    "fcntl",
    "flock",
    "fstat",
    "fstatfs",
    "ftruncate",
    "getcwd",
    "getdents64",
    "lseek",
    "lstat",
    "mkdir",
    "mkdirat",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pread64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "stat",
    "statfs",
    "statx",
    "unlink",
    "unlinkat",
    "write",
    "writev",
    // Sockets.
    "accept",
    "accept4",
    "bind",
    "connect",
    "getpeername",
    "getsockname",
    "getsockopt",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
    // Waiting and time.
    "clock_gettime",
    "clock_nanosleep",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "futex",
    "gettimeofday",
    "nanosleep",
    "poll",
    "ppoll",
    "restart_syscall",
    "sched_yield",
    "time",
    // Memory; what can be executed is judged below.
    "brk",
    "madvise",
    "mremap",
    "munmap",
    // Its own process, and whether another one is there.
    "dup",
    "dup2",
    "dup3",
    "exit",
    "exit_group",
    "getpid",
    "getrandom",
    "gettid",
    "pidfd_open",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "tgkill",
    "tkill",
];

/// Address families of sockets: AF_INET, AF_INET6, AF_NETLINK.
const FAMILIES: [u64; 3] = [2, 10, 16];
/// `FIONBIO`, and `SIOCGIFINDEX` for the number of a device.
const IOCTLS: [u64; 2] = [0x5421, 0x8933];
/// `CLONE_NEWNET`.
const NETWORK: u64 = 0x4000_0000;
/// `PROT_EXEC`.
const EXECUTABLE: u64 = 4;
const EPERM: u32 = 1;

/// The calling thread, the only one, makes these calls alone from now on; others give `EPERM`. It has to have
/// `no_new_privs`.
///
/// # Errors
/// The kernel has no seccomp, or the architecture is unknown.
pub(super) fn confine() -> io::Result<()> {
    let profile = profile().map_err(io::Error::other)?;
    let architecture = seccomp::native().map_err(io::Error::other)?;
    let filter = seccomp::compile(&profile, architecture).map_err(io::Error::other)?;
    sys::load_filter(&filter.instructions, filter.flags, false)?;
    Ok(())
}

fn profile() -> Result<LinuxSeccomp, oci_spec::OciSpecError> {
    let mut rules = vec![allow(ALLOWED, None)?];
    let judged = [
        ("socket", 0, &FAMILIES[..]),
        ("ioctl", 1, &IOCTLS),
        ("setns", 1, &[NETWORK]),
    ];
    for (name, index, values) in judged {
        for value in values {
            let is = argument(index, *value, None)?;
            rules.push(allow(&[name], Some(is))?);
        }
    }
    let harmless = argument(2, EXECUTABLE, Some(0))?;
    rules.push(allow(&["mmap", "mprotect"], Some(harmless))?);
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .syscalls(rules)
        .build()
}

fn allow(
    names: &[&str],
    argument: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, oci_spec::OciSpecError> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let rule = LinuxSyscallBuilder::default()
        .names(names)
        .action(LinuxSeccompAction::ScmpActAllow);
    match argument {
        Some(argument) => rule.args([argument]).build(),
        None => rule.build(),
    }
}

/// Argument `index` is `value`; or, of its bits in `value`, those of `masked` are set.
fn argument(
    index: usize,
    value: u64,
    masked: Option<u64>,
) -> Result<LinuxSeccompArg, oci_spec::OciSpecError> {
    let rule = LinuxSeccompArgBuilder::default().index(index).value(value);
    match masked {
        Some(masked) => rule
            .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
            .value_two(masked),
        None => rule.op(LinuxSeccompOperator::ScmpCmpEq),
    }
    .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_compiles_and_is_short() {
        let profile = profile().unwrap();
        let filter = seccomp::compile(&profile, seccomp::native().unwrap()).unwrap();
        assert!(filter.instructions.len() < 400);
    }

    #[test]
    fn what_starts_something_is_not_among_them() {
        for name in [
            "execve",
            "execveat",
            "clone",
            "clone3",
            "fork",
            "vfork",
            "ptrace",
            "mount",
            "unshare",
            "bpf",
            "init_module",
            "kexec_load",
            "process_vm_writev",
            "io_uring_setup",
            "keyctl",
        ] {
            assert!(!ALLOWED.contains(&name), "{name}");
        }
        let sorted = ALLOWED.iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted.len(), ALLOWED.len());
    }
}
