//! `many --count N --jobs J [--limit SECONDS] COMMAND [ARGUMENT...]`
//!
//! Runs a command N times, J at a time, with a different number for each `{i}`. Fails when one of
//! them fails, or takes longer than the limit: then it hangs. Prints how long the slowest one
//! took.

#![forbid(unsafe_code)]

use lexopt::{Arg, Parser, ValueExt};
use metactl_benches::contender::{numbered, timed};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

struct Options {
    count: usize,
    jobs: usize,
    limit: Duration,
    command: Vec<String>,
}

fn main() -> ExitCode {
    match options().and_then(run) {
        Ok(slowest) => {
            println!("slowest {:.1} ms", slowest.as_secs_f64() * 1000.0);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("many: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        count: 1,
        jobs: 1,
        limit: Duration::from_secs(60),
        command: Vec::new(),
    };
    let text = |error: lexopt::Error| error.to_string();
    let number = |parser: &mut Parser| parser.value().and_then(|v| v.parse()).map_err(text);
    let mut parser = Parser::from_env();
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("count") => options.count = number(&mut parser)?,
            Arg::Long("jobs") => options.jobs = number(&mut parser)?,
            Arg::Long("limit") => {
                let seconds = number(&mut parser)?;
                options.limit = Duration::from_secs(seconds as u64);
            }
            Arg::Value(program) => {
                options.command.push(program.string().map_err(text)?);
                for word in parser.raw_args().map_err(text)? {
                    options.command.push(word.string().map_err(text)?);
                }
            }
            other => return Err(text(other.unexpected())),
        }
    }
    if options.command.is_empty() || options.jobs == 0 {
        return Err("needs a command, and at least one job".to_owned());
    }
    Ok(options)
}

/// Returns how long the slowest one took.
fn run(options: Options) -> Result<Duration, String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = channel();
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            let (sender, next, options) = (sender.clone(), &next, &options);
            scope.spawn(move || work(options, next, &sender));
        }
        drop(sender);
        let (mut slowest, mut finished) = (Duration::ZERO, 0);
        loop {
            match results.recv_timeout(options.limit) {
                Ok(Ok(taken)) => {
                    slowest = slowest.max(taken);
                    finished += 1;
                }
                Ok(Err(message)) => {
                    // The other workers stop at their next run.
                    next.store(options.count, Ordering::Relaxed);
                    return Err(message);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // Its worker cannot be waited for.
                    eprintln!(
                        "many: hangs: {} (finished {finished} of {}, then nothing for {} s)",
                        options.command.join(" "),
                        options.count,
                        options.limit.as_secs()
                    );
                    std::process::exit(1);
                }
            }
        }
        if slowest > options.limit {
            return Err(format!("one took {} s", slowest.as_secs()));
        }
        Ok(slowest)
    })
}

fn work(options: &Options, next: &AtomicUsize, results: &Sender<Result<Duration, String>>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= options.count {
            return;
        }
        let result = timed(&numbered(&options.command, "{i}", number));
        let failed = result.is_err();
        if results.send(result).is_err() || failed {
            return;
        }
    }
}
