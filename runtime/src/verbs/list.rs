//! `list`: all containers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lexopt::Parser;

use crate::spec::Bundle;
use crate::state::{self, OCI_VERSION, State, Status};
use crate::verbs::{
    Failure, Globals, Word, next, print, print_json_line, shown, unexpected, wants_json,
};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut json = false;
    let mut quiet = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--quiet" || name == "-q" => quiet = true,
            Word::Option(name) if name == "--format" || name == "-f" => {
                json = wants_json(parser)?;
            }
            word => return Err(unexpected(word)),
        }
    }
    let states = state::list(&globals.root)?;
    if json {
        let all: Vec<Listed<'_>> = states.iter().map(|s| Listed::of(globals, s)).collect();
        print_json_line(&all)?;
        return Ok(0);
    }
    let mut text = String::new();
    if !quiet {
        text.push_str(&row("ID", "PID", "STATUS", "BUNDLE", "CREATED"));
    }
    for state in &states {
        if quiet {
            text.push_str(&state.id);
            text.push('\n');
            continue;
        }
        let pid = state
            .process
            .as_ref()
            .map_or_else(|| "-".to_owned(), |p| p.pid.to_string());
        let status = state.status().to_string();
        let bundle = state.bundle.to_string_lossy();
        text.push_str(&row(&state.id, &pid, &status, &bundle, &state.created));
    }
    print(&shown(&text))?;
    Ok(0)
}

/// The columns of runc-list(8).
fn row(id: &str, pid: &str, status: &str, bundle: &str, created: &str) -> String {
    format!("{id:<28} {pid:<8} {status:<9} {bundle:<40} {created}\n")
}

/// A container as `list --format json` tells of it: the keys of runc-list(8), in its order.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    oci_version: &'static str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    /// Empty when the container has none yet, or what is recorded of it cannot be read.
    rootfs: PathBuf,
    created: &'a str,
    annotations: &'a BTreeMap<String, String>,
}

impl<'a> Listed<'a> {
    fn of(globals: &Globals, state: &'a State) -> Listed<'a> {
        let status = state.status();
        let pid = state.process.as_ref().filter(|_| status != Status::Stopped);
        let config = globals.root.join(&state.id).join("config.json");
        let bundle = std::fs::read(config).ok();
        let bundle = bundle.and_then(|text| Bundle::parse(&state.bundle, text).ok());
        Listed {
            oci_version: OCI_VERSION,
            id: &state.id,
            pid: pid.map_or(0, |process| process.pid),
            status,
            bundle: &state.bundle,
            rootfs: bundle.map(|bundle| bundle.rootfs()).unwrap_or_default(),
            created: &state.created,
            annotations: &state.annotations,
        }
    }
}
