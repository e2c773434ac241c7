//! `metactl APP top`.

use std::time::Duration;

use metactl_lifecycle::{Interrupt, Usage};
use serde::Serialize;

use super::Context;
use super::inside::running;
use crate::args::Top;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table};
use crate::output::{Output, duration, size};

/// The first look only knows what is there, not what it uses: the second comes so soon after it.
const FIRST: Duration = Duration::from_millis(500);
/// Home, and away with everything below; then what is old of a line has to go too (ECMA-48).
const HOME: &str = "\x1b[H\x1b[J";

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    processes: &'a [Usage],
    /// Of all of them, in per cent of one processor.
    percent: f64,
    /// Of all of them, in bytes.
    memory: u64,
}

/// Shows the processes, once or again and again.
pub fn run(context: &mut Context, args: &Top) -> Outcome {
    let delay = Duration::try_from_secs_f64(args.delay)
        .ok()
        .filter(|delay| (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(delay))
        .ok_or_else(|| Failure::usage("--delay has to be from 0.1 to 3600 seconds"))?;
    let instance = context.instance()?;
    let terminal = context.output.terminal && !context.output.json;
    let looks = args.count.or((!terminal).then_some(1));
    let mut sampler = instance.sampler(args.entry.as_deref());
    let mut found = sampler.look()?;
    let interrupt = Interrupt::hold()?;
    let mut pause = FIRST.min(delay);
    let mut done = 0;
    while looks.is_none_or(|looks| done < looks) {
        if interrupt.wait(pause)? {
            return Ok(());
        }
        pause = delay;
        found = sampler.look()?;
        print(
            &mut context.output,
            instance.name(),
            &found,
            terminal && looks != Some(1),
        )?;
        context.output.flush()?;
        done += 1;
    }
    running(!found.is_empty())
}

fn print(output: &mut Output, instance: &str, found: &[Usage], again: bool) -> Outcome {
    let percent: f64 = found.iter().filter_map(|one| one.percent).sum();
    let memory = found.iter().map(|one| one.process.memory).sum();
    if output.json {
        return output.facts_line(&Facts {
            instance,
            processes: found,
            percent: (percent * 10.0).round() / 10.0,
            memory,
        });
    }
    if again {
        output.text(HOME)?;
    }
    let count = found.len();
    output.remark(format!(
        "{instance}: {count} processes, {percent:.1} % CPU, {}",
        size(memory)
    ))?;
    let mut table = Table::new();
    table.head(&[
        "ENTRY", "PID", "CPU %", "MEMORY", "THREADS", "CPU TIME", "FOR", "COMMAND",
    ]);
    for one in found {
        let number = |text: String| Cell::new(text).right();
        let process = &one.process;
        table.row(vec![
            Cell::new(&process.entry),
            number(process.pid.to_string()),
            number(
                one.percent
                    .map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
            ),
            number(size(process.memory)),
            number(process.threads.to_string()),
            number(format!(
                "{:.1} s",
                Duration::from_millis(process.cpu).as_secs_f64()
            )),
            number(duration(Duration::from_secs(process.seconds))),
            Cell::new(&process.command),
        ]);
    }
    Ok(output.table(&table)?)
}
