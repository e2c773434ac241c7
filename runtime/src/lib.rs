//! # metactl-runtime: launches a bundle on Linux
//!
//! A pure function turns a bundle into a plan, an ordered list of typed steps ([`plan`]); the plan
//! is compiled into a flat program before the clone (`compile`); the runtime ([`launch`]) and
//! the new process (`init`) carry it out at the same time.
//!
//! ```text
//! config.json -> spec -> plan -> compile -> launch (outside)  cgroups, network, state, go
//!                 facts --^                 init   (inside)   namespaces, mounts, identity, exec
//! ```
//!
//! Begin reading in [`plan::container`], then [`launch`] and `init`.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`spec`] | `config.json`, strictly |
//! | [`facts`] | what the plan must know of the host |
//! | [`plan`] | bundle + facts -> steps, pure |
//! | `compile` | steps -> operations and C strings |
//! | [`launch`] | the runtime's side: clone, report, errors |
//! | [`container`] | a container that was launched: start, signals, delete |
//! | `init`, `rootfs`, `identity`, `terminal`, `pid1` | the new process |
//! | `fallback` | what stands in for system calls that older kernels lack |
//! | `shield` | the runtime's executable stays out of reach |
//! | [`systemd`] | the systemd cgroup driver |
//! | [`cgroup`], [`seccomp`], [`capabilities`], [`network`] | what it is made of |
//! | [`state`], [`journal`], [`process`] | what is remembered, and how it is undone |
//! | [`verbs`] | the command line, a file each |
//! | `sys` | the only unsafe code |
//!
//! May import `bundles` (the types of `network.json`) and `netns` (the network of a sandbox).
//! Knows nothing of layers, releases and service managers.
//!
//! ## An example
//!
//! ```no_run
#![doc = include_str!("../tests/common/hello.rs")]
//! ```
//!
//! A container that was only created, or launched by another process, is found again by
//! [`Container::open`]; [`launch::exec()`] runs one more process in it. Errors are enums, to be
//! matched: [`Error`] has a variant for each room, [`launch::LaunchError`] says what failed.
//!
//! ## Threads
//!
//! [`launch::launch`] may be called from any thread of a multi-threaded program. All signals of
//! the calling thread are blocked while it clones, and its network namespace changes for a moment
//! when a new one is made. A container in the foreground dies with the *thread* that launched it
//! (prctl(2), `PR_SET_PDEATHSIG`): launch such containers from a thread that lives long enough.

#![deny(unsafe_code)]
// The rooms point at each other also for those who read the source.
#![allow(rustdoc::private_intra_doc_links)]
// The errors of the new process hold their words themselves: it may not allocate a box for them.
#![allow(clippy::result_large_err)]

pub mod capabilities;
pub mod cgroup;
mod compile;
pub mod container;
mod error;
pub mod facts;
mod fallback;
pub mod id;
mod identity;
mod init;
pub mod journal;
pub mod launch;
pub mod network;
mod passwd;
mod pid1;
pub mod plan;
pub mod process;
mod report;
pub mod request;
pub mod resolver;
mod rootfs;
pub mod seccomp;
mod shield;
pub mod spec;
pub mod state;
mod sys;
pub mod systemd;
mod terminal;
pub mod verbs;

pub use compile::CompileError;
pub use container::{Container, Deleted};
pub use error::Error;
pub use id::ContainerId;
pub use process::ProcessId;
pub use request::{CgroupManager, LaunchRequest, Mode, Network, NetworkFiles};

use std::path::Path;

/// Removes a container whatever its status: kills its processes, undoes its journal, removes its
/// state (`delete --force`). Returns what was undone, a short sentence each. Nothing happens when
/// there is no such container.
pub fn cleanup(root: &Path, id: &str) -> Result<Vec<String>, Error> {
    let id = ContainerId::new(id)?;
    container::end_by_force(root, id.as_str())?;
    match state::StateDir::open(root, &id) {
        Ok(dir) => dir.destroy(),
        Err(state::StateError::NotFound { .. }) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}
