//! `ps`: the processes of a container, by their pids outside.

use lexopt::{Parser, ValueExt};

use crate::launch::LaunchError;
use crate::process::of_container;
use crate::state;
use crate::verbs::{Failure, Globals, Word, next, print, print_json, unexpected};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut id = None;
    let mut json = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--format" || name == "-f" => {
                json = parser.value()?.string()? == "json";
            }
            Word::Value(value) if id.is_none() => id = Some(value.clone().string()?),
            word => return Err(unexpected(word)),
        }
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    let state = state::read(&globals.root, &id)?;
    let first = state
        .process
        .as_ref()
        .filter(|p| p.is_alive())
        .map(|p| p.pid);
    let pids = first
        .map(|first| of_container(first, &state.cgroups))
        .transpose();
    let pids = pids
        .map_err(|e| LaunchError::system("list the processes", e))?
        .unwrap_or_default();
    if json {
        print_json(&pids)?;
    } else {
        let lines: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        print(&lines)?;
    }
    Ok(0)
}
