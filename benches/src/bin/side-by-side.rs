//! `side-by-side [--rounds N] [--gap MS] [--peak PROGRAM] [--after COMMAND] NAME=COMMAND...`
//!
//! Runs the commands in turn, in a random order within each round, and prints medians and the
//! ratios of the first one to the others. `{n}` in a command is a number that is never used
//! twice. Commands are split at blanks and started without a shell.

#![forbid(unsafe_code)]

use lexopt::{Arg, Parser, ValueExt};
use metactl_benches::statistics::{Random, median, paired_ratios, quantile};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rounds that warm caches up and are not counted.
const WARM_UP: usize = 5;
/// How often memory and processor time are measured; they vary less than the time on the wall.
const USAGE_ROUNDS: usize = 15;

struct Options {
    rounds: usize,
    /// The pause before each command: what the one before left to the kernel is done by then, and
    /// all have the same distance from it.
    gap: Duration,
    /// The `peak-memory` program.
    peak: Option<String>,
    /// Commands that tidy up after each timed one, not timed.
    after: Vec<String>,
    contenders: Vec<Contender>,
}

struct Contender {
    name: String,
    command: String,
    /// Wall time of each round in milliseconds.
    times: Vec<f64>,
    /// KiB.
    peak: Option<f64>,
    /// Milliseconds.
    processor: Option<f64>,
}

fn main() -> ExitCode {
    match options().and_then(measure) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("side-by-side: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        rounds: 100,
        gap: Duration::from_millis(20),
        peak: None,
        after: Vec::new(),
        contenders: Vec::new(),
    };
    let mut parser = Parser::from_env();
    let text = |error: lexopt::Error| error.to_string();
    while let Some(arg) = parser.next().map_err(text)? {
        match arg {
            Arg::Long("rounds") => options.rounds = number(&mut parser)?,
            Arg::Long("gap") => options.gap = Duration::from_millis(number(&mut parser)?),
            Arg::Long("peak") => options.peak = Some(string(&mut parser)?),
            Arg::Long("after") => options.after.push(string(&mut parser)?),
            Arg::Value(value) => {
                let value = value.string().map_err(text)?;
                let (name, command) = value
                    .split_once('=')
                    .ok_or_else(|| format!("{value:?} is not NAME=COMMAND"))?;
                options.contenders.push(Contender {
                    name: name.to_owned(),
                    command: command.to_owned(),
                    times: Vec::new(),
                    peak: None,
                    processor: None,
                });
            }
            other => return Err(text(other.unexpected())),
        }
    }
    if options.contenders.len() < 2 || options.rounds == 0 {
        return Err("needs at least two times NAME=COMMAND, and one round".to_owned());
    }
    Ok(options)
}

fn number<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    parser: &mut Parser,
) -> Result<T, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.parse().map_err(|error| error.to_string())
}

fn string(parser: &mut Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.string().map_err(|error| error.to_string())
}

fn measure(mut options: Options) -> Result<(), String> {
    let seed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64);
    let mut random = Random::new(seed);
    let mut order: Vec<usize> = (0..options.contenders.len()).collect();
    let mut unique = 0;
    for round in 0..WARM_UP + options.rounds {
        random.shuffle(&mut order);
        for index in &order {
            sleep(options.gap);
            unique += 1;
            let contender = &mut options.contenders[*index];
            let taken = timed(&contender.command, unique)?;
            if round >= WARM_UP {
                contender.times.push(taken.as_secs_f64() * 1000.0);
            }
            tidy(&options.after, unique)?;
        }
    }
    if let Some(peak) = &options.peak {
        for contender in &mut options.contenders {
            let (mut memory, mut processor) = (Vec::new(), Vec::new());
            for _ in 0..USAGE_ROUNDS {
                sleep(options.gap);
                unique += 1;
                let (kib, microseconds) = usage_of(peak, &contender.command, unique)?;
                memory.push(kib);
                processor.push(microseconds / 1000.0);
                tidy(&options.after, unique)?;
            }
            contender.peak = median(&memory);
            contender.processor = median(&processor);
        }
    }
    report(&options.contenders);
    Ok(())
}

fn words(command: &str, unique: usize) -> Vec<String> {
    let unique = unique.to_string();
    command
        .split_whitespace()
        .map(|word| word.replace("{n}", &unique))
        .collect()
}

fn prepared(words: &[String]) -> Result<Command, String> {
    let (program, arguments) = words.split_first().ok_or("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

fn timed(command: &str, unique: usize) -> Result<Duration, String> {
    let words = words(command, unique);
    let mut prepared = prepared(&words)?;
    prepared.stdout(Stdio::null());
    let start = Instant::now();
    let status = prepared.status();
    let taken = start.elapsed();
    match status {
        Ok(status) if status.success() => Ok(taken),
        Ok(status) => Err(format!("{} ended with {status}", words.join(" "))),
        Err(error) => Err(format!("{}: {error}", words.join(" "))),
    }
}

fn tidy(commands: &[String], unique: usize) -> Result<(), String> {
    commands
        .iter()
        .try_for_each(|command| timed(command, unique).map(drop))
}

fn usage_of(peak: &str, command: &str, unique: usize) -> Result<(f64, f64), String> {
    let mut all = vec![peak.to_owned()];
    all.extend(words(command, unique));
    let output = prepared(&all)?
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{peak}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(kib)), Some(Ok(microseconds))) => Ok((kib, microseconds)),
        _ => Err(format!("{}: no numbers", all.join(" "))),
    }
}

fn report(contenders: &[Contender]) {
    let width = contenders
        .iter()
        .map(|c| c.name.len())
        .max()
        .unwrap_or(0)
        .max(8);
    println!(
        "  {:width$}  {:>9} {:>9} {:>9}  {:>9}  {:>9}",
        "", "median", "p10", "p90", "processor", "peak"
    );
    for c in contenders {
        let at = |part| quantile(&c.times, part).unwrap_or(f64::NAN);
        println!(
            "  {:width$}  {:>6.2} ms {:>6.2} ms {:>6.2} ms  {:>9}  {:>9}",
            c.name,
            at(0.5),
            at(0.1),
            at(0.9),
            c.processor
                .map_or("-".to_owned(), |ms| format!("{ms:.2} ms")),
            c.peak
                .map_or("-".to_owned(), |kib| format!("{:.1} MiB", kib / 1024.0)),
        );
    }
    let Some((ours, others)) = contenders.split_first() else {
        return;
    };
    for other in others {
        let ratios = paired_ratios(&ours.times, &other.times);
        let at = |part| quantile(&ratios, part).unwrap_or(f64::NAN);
        let medians = at_median(ours) / at_median(other);
        let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a / b);
        println!(
            "  ratio to {}: {medians:.3} of the medians; {:.3} per pair (p10 {:.3}, p90 {:.3})",
            other.name,
            at(0.5),
            at(0.1),
            at(0.9)
        );
        if let (Some(processor), Some(memory)) = (
            ratio(ours.processor, other.processor),
            ratio(ours.peak, other.peak),
        ) {
            println!("    processor time {processor:.3}, peak memory {memory:.2}");
        }
    }
    println!(
        "  {} rounds, random order, after {WARM_UP} to warm up",
        ours.times.len()
    );
}

fn at_median(contender: &Contender) -> f64 {
    median(&contender.times).unwrap_or(f64::NAN)
}
