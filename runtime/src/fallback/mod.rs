//! What newer kernels do in one call, for kernels (and engines' seccomp filters) without that call.
//!
//! * [`birth`]: a process without clone3(2), that is without `CLONE_INTO_CGROUP` (Linux 5.7).
//! * [`resolve`]: openat2(2) (5.6) as a walk from descriptor to descriptor.
//! * [`mount`]: open_tree(2), fsopen(2), move_mount(2) (5.2) by mount(2).
//! * [`attributes`]: mount_setattr(2) (5.12) by mount(2), also for whole trees.
//! * [`join`]: setns(2) of a pidfd (5.8) by the files of `/proc/<pid>/ns`.
//! * [`procfs`]: descriptors as paths, for calls that know only paths.
//!
//! close_range(2) is in [`crate::sys`]. `docs/kernels.md` has the table of what needs which kernel.
//!
//! The new call is always tried first, and only its absence leads here ([`Missing`]): where it
//! exists nothing of this costs a system call. All but [`birth::clone`] runs in the new process and
//! allocates nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

pub mod attributes;
pub mod birth;
pub mod join;
pub mod mount;
mod mountinfo;
pub mod procfs;
pub mod resolve;

/// Whether a system call was found missing in this process.
pub struct Missing(AtomicBool);

impl Missing {
    /// Not yet tried.
    pub const fn unknown() -> Missing {
        Missing(AtomicBool::new(false))
    }

    /// Tries `new`; does `old` when the call does not exist (ENOSYS), from then on at once.
    pub fn attempt<T>(
        &self,
        new: impl FnOnce() -> Result<T, Errno>,
        old: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if !self.0.load(Ordering::Relaxed) {
            match new() {
                Err(Errno::NOSYS) => self.0.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        old()
    }
}
