//! # metactl-runtime: launches a bundle on Linux
//!
//! A pure function turns a bundle into a plan, an ordered list of typed steps; the plan is
//! compiled into a flat program before the clone; the parent and the new process carry it out.
//!
//! May import `bundles` (the types of `network.json`) and `netns` (the network of a sandbox).
//! Knows nothing of layers, releases and service managers.

#![deny(unsafe_code)]

mod error;
pub mod id;
pub mod journal;
pub mod process;
pub mod request;
pub mod state;

pub use error::Error;
pub use id::ContainerId;
pub use process::ProcessId;
pub use request::{LaunchRequest, Mode, Network, NetworkFiles};

use std::path::Path;

/// Removes a container whatever its status: kills its processes, undoes its journal, removes its
/// state (`delete --force`). Returns what was undone, a short sentence each. Nothing happens when
/// there is no such container.
pub fn cleanup(root: &Path, id: &str) -> Result<Vec<String>, Error> {
    let id = ContainerId::new(id)?;
    match state::StateDir::open(root, &id) {
        Ok(dir) => dir.destroy(),
        Err(state::StateError::NotFound { .. }) => Ok(Vec::new()),
        Err(e) => Err(e.into()),
    }
}
