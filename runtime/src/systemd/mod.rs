//! The systemd cgroup driver (`--systemd-cgroup`): a container lives in a transient *scope*, a
//! unit that systemd makes, counts and shows, and whose processes are ours.
//!
//! * [`scope`] is the pure part: names, paths and properties, from `linux.cgroupsPath` and
//!   `linux.resources`.
//! * [`manager`] asks systemd for it, over [`bus`] with messages of [`wire`]: a small synchronous
//!   D-Bus client for the handful of calls that are needed.
//! * [`units`] asks how units are, hundreds of them at once; [`jobs`] starts and stops them.
//!
//! A scope begins with a process in it. [`start`] gives it one that does nothing
//! ([`Started`]), so that the container can be cloned into a cgroup that is there already, like
//! into any other; then the placeholder goes. Limits are put on the scope as properties, because
//! systemd writes those again when it reloads, and they are written to the control files as
//! without systemd, because it does not know all of them.

pub mod bus;
mod error;
pub mod jobs;
pub mod manager;
pub mod scope;
pub mod units;
mod value;
pub mod wire;

pub use error::SystemdError;
pub use manager::{Started, control_group, set_properties, start, start_with, stop};
pub use scope::{Property, Scope, ScopeRequest};
pub use value::Value;
