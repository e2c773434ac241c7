//! `peak-memory COMMAND [ARGUMENT...]`: runs a command and prints the most memory in KiB that any
//! of the processes it waited for had (`ru_maxrss`, getrusage(2)).
//!
//! A process starts with the memory of the one that made it, so this program must be the smaller
//! one: build it static. What it measures for a program that does nothing is its own floor.

#![forbid(unsafe_code)]

use nix::sys::resource::{UsageWho, getrusage};
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    match measure() {
        Ok(kib) => {
            println!("{kib}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("peak-memory: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<i64, String> {
    let mut words = std::env::args_os().skip(1);
    let program = words
        .next()
        .ok_or("usage: peak-memory COMMAND [ARGUMENT...]")?;
    let status = Command::new(&program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if !status.success() {
        return Err(format!("{} ended with {status}", program.display()));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    Ok(usage.max_rss())
}
