//! The state of a container in the words of the runtime specification.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::State;

/// The runtime-spec version that `state` reports and that is implemented.
pub const OCI_VERSION: &str = "1.2.0";

/// The status words of the runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made (or its making was interrupted).
    Creating,
    /// Made, the user's program not yet started.
    Created,
    /// The user's program runs.
    Running,
    /// Its processes are frozen (`pause`).
    Paused,
    /// It has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// The state of a container as the runtime specification words it (runtime-spec, runtime,
/// "State").
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "str::is_empty")]
    created: &'a str,
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> OciState<'a> {
    /// The state right now.
    pub fn of(state: &'a State) -> OciState<'a> {
        OciState::at(state, state.status())
    }

    /// The state at a moment of the container's life, for hooks.
    pub fn at(state: &'a State, status: Status) -> OciState<'a> {
        let pid = state.process.as_ref().map(|p| p.pid);
        OciState {
            oci_version: OCI_VERSION,
            id: &state.id,
            status,
            pid: pid.filter(|_| status != Status::Stopped),
            bundle: &state.bundle,
            created: &state.created,
            annotations: &state.annotations,
        }
    }

    /// As JSON, on one line.
    pub fn json(&self) -> Vec<u8> {
        // Strings and numbers always can be written.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
