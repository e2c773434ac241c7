//! `peak-memory COMMAND [ARGUMENT...]`: runs a command and prints the most memory in KiB that any
//! of its processes had, and the processor time in microseconds that all of them took (`ru_maxrss`,
//! `ru_utime` and `ru_stime`, getrusage(2)).
//!
//! A process starts with the memory of the one that made it, so this program must be the smaller
//! one: build it static. What it measures for a program that does nothing is its own floor.

#![forbid(unsafe_code)]

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::process::{Command, ExitCode, Stdio};

fn main() -> ExitCode {
    match measure() {
        Ok((kib, microseconds)) => {
            println!("{kib} {microseconds}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("peak-memory: {message}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(i64, i64), String> {
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
    let processor = usage.user_time() + usage.system_time();
    Ok((usage.max_rss(), processor.num_microseconds()))
}
