//! `state`: the state of a container as the runtime specification words it.

use std::collections::BTreeMap;

use lexopt::Parser;
use serde::Serialize;

use crate::state::{self, OCI_VERSION, State, Status};
use crate::verbs::{Failure, Globals, only_id};

/// The output (runtime-spec, runtime, "State").
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a std::path::Path,
    created: &'a str,
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(state: &'a State) -> Report<'a> {
        let status = state.status();
        let running = status != Status::Creating && status != Status::Stopped;
        Report {
            oci_version: OCI_VERSION,
            id: &state.id,
            status,
            pid: state.process.as_ref().filter(|_| running).map(|p| p.pid),
            bundle: &state.bundle,
            created: &state.created,
            annotations: &state.annotations,
        }
    }
}

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let state = state::read(&globals.root, &only_id(parser)?)?;
    super::print_json(&Report::new(&state))?;
    Ok(0)
}
