//! Whether this kernel can have a sandbox (docs/kernels.md).

use rustix::io::Errno;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

/// Without pidfds (Linux 5.3; RHEL's 4.18 has them not) the runtime refuses. What counts is whether the call is
/// there.
pub(super) fn is_too_old() -> bool {
    matches!(pidfd_open(getpid(), PidfdFlags::empty()), Err(Errno::NOSYS))
}

/// Its release, as `uname -r` has it.
pub(super) fn release() -> String {
    // Without /proc nothing else works either.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}
