//! `side-by-side [--rounds N] [--gap MS] [--peak PROGRAM] [--after COMMAND]
//! [--record FILE --task NAME [--target PEER=RATIO]...] NAME=COMMAND...`
//!
//! Runs the contenders in turn, in a random order within each round, and prints medians and the
//! ratios of the first one to the others. `{n}` in a command is a number that is never used
//! twice. A contender may be several commands, see [`Contender::parse`]; they are started
//! without a shell. With `--record` the ratios are kept for `summary` too.

#![forbid(unsafe_code)]

use lexopt::{Arg, Parser, ValueExt};
use metactl_benches::contender::{self, Contender};
use metactl_benches::record::{self, Row};
use metactl_benches::statistics::{Random, median, paired_ratios, quantile};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// Where the ratios are kept, of which task, and what they should be.
    record: Option<PathBuf>,
    task: String,
    targets: Vec<(String, f64)>,
    contenders: Vec<Measured>,
}

struct Measured {
    what: Contender,
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
        record: None,
        task: String::new(),
        targets: Vec::new(),
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
            Arg::Long("record") => options.record = Some(string(&mut parser)?.into()),
            Arg::Long("task") => options.task = string(&mut parser)?,
            Arg::Long("target") => options.targets.push(target(&string(&mut parser)?)?),
            Arg::Value(value) => options.contenders.push(Measured {
                what: Contender::parse(&value.string().map_err(text)?)?,
                times: Vec::new(),
                peak: None,
                processor: None,
            }),
            other => return Err(text(other.unexpected())),
        }
    }
    if options.contenders.len() < 2 || options.rounds == 0 {
        return Err("needs at least two times NAME=COMMAND, and one round".to_owned());
    }
    Ok(options)
}

fn target(text: &str) -> Result<(String, f64), String> {
    let wrong = || format!("{text:?} is not PEER=RATIO");
    let (peer, ratio) = text.split_once('=').ok_or_else(wrong)?;
    Ok((peer.to_owned(), ratio.parse().map_err(|_| wrong())?))
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
            let taken = contender.what.run(unique)?;
            if round >= WARM_UP {
                contender.times.push(taken.as_secs_f64() * 1000.0);
            }
            tidy(&options.after)?;
        }
    }
    measure_usage(&mut options, unique)?;
    report(&options.contenders);
    match &options.record {
        Some(file) => record::append(file, &rows(&options)),
        None => Ok(()),
    }
}

fn measure_usage(options: &mut Options, mut unique: usize) -> Result<(), String> {
    let Some(peak) = &options.peak else {
        return Ok(());
    };
    for contender in &mut options.contenders {
        let (mut memory, mut processor) = (Vec::new(), Vec::new());
        for _ in 0..USAGE_ROUNDS {
            sleep(options.gap);
            unique += 1;
            let Some(words) = contender.what.single(unique) else {
                return Err("--peak takes single commands".to_owned());
            };
            let (kib, microseconds) = usage_of(peak, words)?;
            memory.push(kib);
            processor.push(microseconds / 1000.0);
            tidy(&options.after)?;
        }
        contender.peak = median(&memory);
        contender.processor = median(&processor);
    }
    Ok(())
}

fn tidy(commands: &[String]) -> Result<(), String> {
    commands.iter().try_for_each(|command| {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        contender::timed(&words).map(drop)
    })
}

fn usage_of(peak: &str, words: Vec<String>) -> Result<(f64, f64), String> {
    let output = Command::new(peak)
        .args(&words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{peak}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(kib)), Some(Ok(microseconds))) => Ok((kib, microseconds)),
        _ => Err(format!("{}: no numbers", words.join(" "))),
    }
}

/// The results for the table at the end.
fn rows(options: &Options) -> Vec<Row> {
    let Some((ours, others)) = options.contenders.split_first() else {
        return Vec::new();
    };
    let row = |other: &Measured| {
        let ratios = paired_ratios(&ours.times, &other.times);
        let targets = options.targets.iter();
        Row {
            task: options.task.clone(),
            peer: other.what.name.clone(),
            unit: "ms".to_owned(),
            ours: at_median(ours),
            theirs: at_median(other),
            ratio: median(&ratios).unwrap_or(f64::NAN),
            target: targets
                .filter(|(peer, _)| *peer == other.what.name)
                .map(|(_, ratio)| *ratio)
                .next_back(),
        }
    };
    others.iter().map(row).collect()
}

fn report(contenders: &[Measured]) {
    let width = contenders
        .iter()
        .map(|c| c.what.name.len())
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
            c.what.name,
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
            other.what.name,
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

fn at_median(contender: &Measured) -> f64 {
    median(&contender.times).unwrap_or(f64::NAN)
}
