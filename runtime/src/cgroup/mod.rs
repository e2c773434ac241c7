//! Control groups: where they are on this host, what to make in them, and how to be rid of it.
//!
//! * [`layout`] finds the hierarchies (v1, v2 or both).
//! * [`plan`](mod@plan) turns `linux.cgroupsPath` and `linux.resources` into typed steps, with
//!   [`v1`] and [`v2`] knowing the control files and [`devices`] the device rules.
//! * [`apply`] carries the steps out and opens what the child needs to join.
//! * [`join`] chooses what one more process of a container joins.
//! * [`manage`] kills, removes and measures an existing cgroup, knowing only its directories.
//! * `walk` goes through all that is below a cgroup, however deep that is.
//! * [`update`] changes the limits of a running container, all or none.
//! * [`measure`] tells all that is counted, [`oom`] when memory runs out.
//! * [`freezer`] stops all processes of a container for a while.
//!
//! Joining is the costly part: a pid written to `cgroup.procs` waits for an RCU grace period
//! (about 12 ms). So on v1 the child itself writes `0` to each descriptor of
//! [`Joined::tasks`] (some 15 us each), and on v2 the parent passes [`Joined::directory`] to
//! `clone3(CLONE_INTO_CGROUP)`. On v1 only those hierarchies are joined in which something is
//! asked for, unless [`Request::all`] says otherwise.

mod apply;
mod delegated;
mod devices;
mod error;
pub mod freezer;
pub mod join;
mod layout;
mod manage;
pub mod measure;
pub mod oom;
mod path;
mod plain;
mod plan;
mod step;
pub mod update;
mod v1;
mod v2;
mod walk;
mod wanted;

pub use apply::Joined;
pub use delegated::asks_for_limits;
pub use error::CgroupError;
pub use join::{Below, open};
pub use layout::{Hierarchy, Layout, Unified};
pub use manage::{
    Stats, delete, in_use, kill_all, memory_current, memory_of_all, prune_parents, stats,
};
pub use path::{CgroupPath, is_ours};
pub use plan::{CgroupPlan, Request, plan};
pub use step::CgroupStep;
pub use v2::cpu_weight;
pub(crate) use walk::all_processes;
pub use wanted::MemoryCheck;
