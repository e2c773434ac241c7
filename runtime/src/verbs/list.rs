//! `list`: all containers.

use lexopt::Parser;

use crate::state::{self, OciState};
use crate::verbs::{Failure, Globals, Word, next, print, print_json, unexpected, wants_json};

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
        let reports: Vec<OciState<'_>> = states.iter().map(OciState::of).collect();
        print_json(&reports)?;
        return Ok(0);
    }
    let mut text = String::new();
    if !quiet {
        text.push_str(&row("ID", "PID", "STATUS", "CREATED", "BUNDLE"));
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
        text.push_str(&row(&state.id, &pid, &status, &state.created, &bundle));
    }
    print(&text)?;
    Ok(0)
}

fn row(id: &str, pid: &str, status: &str, created: &str, bundle: &str) -> String {
    format!("{id:<28} {pid:>8} {status:<9} {created:<21} {bundle}\n")
}
