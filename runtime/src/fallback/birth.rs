//! A new process by the classic clone(2).
//!
//! It cannot begin in a cgroup, so the child joins its cgroup as the first thing it does, and only
//! then makes the cgroup namespace, the root of which is where its maker is at that moment
//! (cgroup_namespaces(7)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open, waitid};

use crate::sys::{self, CloneArgs, Forked};

/// What clone3 would have done for the child, for it to do itself.
#[derive(Debug, Default)]
pub struct Remainder {
    /// `cgroup.procs` of the v2 cgroup to join.
    procs: Option<OwnedFd>,
    /// Whether a cgroup namespace is to be made afterwards.
    namespace: bool,
}

impl Remainder {
    /// To be called by the child before anything else.
    pub fn carry_out(self) -> Result<(), Errno> {
        if let Some(procs) = self.procs {
            rustix::io::write(procs, b"0")?;
        }
        if self.namespace {
            sys::unshare(libc::CLONE_NEWCGROUP)?;
        }
        Ok(())
    }
}

/// Makes a new process like [`sys::clone3`]. ENOSYS when the kernel has no pidfds, or cannot wait
/// for a process by its pidfd: without, a process could not be told from a later one.
pub fn clone(args: CloneArgs<'_>) -> Result<Forked, Errno> {
    require_pidfds()?;
    let mut remainder = Remainder::default();
    let mut flags = args.flags;
    if let Some(cgroup) = args.cgroup {
        // Opened here: the rights of the runtime count, not what becomes of the child's.
        let write = OFlags::WRONLY | OFlags::CLOEXEC;
        remainder.procs = Some(openat(cgroup, c"cgroup.procs", write, Mode::empty())?);
        let namespace = u64::from(libc::CLONE_NEWCGROUP.cast_unsigned());
        remainder.namespace = flags & namespace != 0;
        flags &= !namespace;
    }
    Ok(match sys::clone_with_pidfd(flags)? {
        Some((pid, pidfd)) => Forked::Parent { pid, pidfd },
        None => Forked::Child(remainder),
    })
}

/// pidfd_open(2) is of Linux 5.3, waitid(2) with `P_PIDFD` of 5.4; clone(2) would just ignore a
/// `CLONE_PIDFD` that it does not know.
fn require_pidfds() -> Result<(), Errno> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(own.as_fd()), options) {
        // Nobody is a child of its own: the question was understood.
        Err(Errno::CHILD) => Ok(()),
        Err(Errno::INVAL) => Err(Errno::NOSYS),
        other => other.map(drop),
    }
}
