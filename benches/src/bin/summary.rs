//! `summary FILE`: prints the table of the results that `side-by-side --record FILE` collected.
//! `summary FILE TASK PEER UNIT OURS THEIRS [TARGET]`: adds a result that was measured otherwise.

#![forbid(unsafe_code)]

use metactl_benches::record::{self, Row};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [file] => print(Path::new(file)),
        [file, row @ ..] => add(Path::new(file), row),
        [] => Err("usage: summary FILE [TASK PEER UNIT OURS THEIRS [TARGET]]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("summary: {message}");
            ExitCode::FAILURE
        }
    }
}

fn print(file: &Path) -> Result<(), String> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    print!("{}", record::table(&record::parse(&text)?));
    Ok(())
}

fn add(file: &Path, words: &[&str]) -> Result<(), String> {
    let number = |text: &str| {
        let number = text.trim().parse::<f64>();
        number.map_err(|_| format!("{text:?} is not a number"))
    };
    let (task, peer, unit, ours, theirs, target) = match *words {
        [task, peer, unit, ours, theirs] => (task, peer, unit, ours, theirs, None),
        [task, peer, unit, ours, theirs, target] => {
            (task, peer, unit, ours, theirs, Some(number(target)?))
        }
        _ => return Err("a result has five or six fields".to_owned()),
    };
    let (ours, theirs) = (number(ours)?, number(theirs)?);
    let row = Row {
        task: task.to_owned(),
        peer: peer.to_owned(),
        unit: unit.to_owned(),
        ours,
        theirs,
        ratio: ours / theirs,
        target,
    };
    record::append(file, &[row])
}
