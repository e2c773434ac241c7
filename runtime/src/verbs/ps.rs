//! `ps`: the processes of a container, by their pids outside. As a table it is what ps(1) says.

use std::process::Command;

use lexopt::{Parser, ValueExt};

use crate::launch::LaunchError;
use crate::process::of_container;
use crate::state;
use crate::verbs::{Failure, Globals, Word, next, print, print_json_line, unexpected, wants_json};

pub(super) fn run(globals: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    let mut id = None;
    let mut json = false;
    while let Some(word) = next(parser)? {
        match &word {
            Word::Option(name) if name == "--format" || name == "-f" => {
                json = wants_json(parser)?;
            }
            Word::Value(value) => {
                id = Some(value.clone().string()?);
                break;
            }
            word => return Err(unexpected(word)),
        }
    }
    let id = id.ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
    let mut options = Vec::new();
    for option in parser.raw_args()? {
        options.push(option.string()?);
    }
    let pids = pids(globals, &id)?;
    if json {
        print_json_line(&pids)?;
    } else {
        print(&table(&pids, options)?)?;
    }
    Ok(0)
}

fn pids(globals: &Globals, id: &str) -> Result<Vec<i32>, Failure> {
    let state = state::read(&globals.root, id)?;
    let process = state.process.as_ref().filter(|p| p.is_alive());
    let Some(process) = process else {
        return Ok(Vec::new());
    };
    let pids = of_container(process.pid, &state.cgroups);
    Ok(pids.map_err(|e| LaunchError::system("list the processes", e))?)
}

/// The lines of ps(1) that are about these processes. The processes may be seen, but not
/// trusted: ps(1) runs outside.
fn table(pids: &[i32], mut options: Vec<String>) -> Result<String, Failure> {
    if options.is_empty() {
        options.push("-ef".to_owned());
    }
    let output = Command::new("ps")
        .args(&options)
        .output()
        .map_err(|e| LaunchError::system("run ps (package procps); --format json needs none", e))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::Usage(format!("ps {}: {said}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column =
        column.ok_or_else(|| Failure::Usage("the output of ps has no column PID".into()))?;
    let ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column);
        pid.and_then(|pid| pid.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let found = lines.filter(ours).map(|line| format!("{line}\n"));
    Ok(format!("{header}\n{}", found.collect::<String>()))
}
