//! Carries a plan out.

use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::NetError;
use crate::plan::NetPlan;

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The name of the outer device; none in the modes `none` and `host`.
    pub outer: Option<String>,
    /// Its number.
    pub ifindex: Option<u32>,
    /// Its other names, those that could be given.
    pub altnames: Vec<String>,
    /// What did not work but does not matter for the instance (an alternative name that is taken).
    pub warnings: Vec<String>,
}

/// Carries out `plan` between the network namespace of the calling thread (the server's) and `netns` (the
/// sandbox's, `/proc/PID/ns/net` or a pin of it). Shared effects are recorded for `user` in `server_dir`; give them
/// back with [`crate::server::release`] when the namespace is gone. When a step fails, what was done is undone.
/// No descriptor of the namespace is left open.
pub fn apply(
    plan: &NetPlan,
    netns: BorrowedFd<'_>,
    server_dir: &Path,
    user: &str,
) -> Result<Applied, NetError> {
    let _ = (plan, netns, server_dir, user);
    Err(NetError::Unsupported {
        what: "apply".into(),
        hint: String::new(),
    })
}
