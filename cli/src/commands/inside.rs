//! `metactl APP ps`, `pid`, `stack`, `gcutil`, `heapdump`, `lsof` and `strace`: looking into what runs.

use std::time::Duration;

use metactl_lifecycle::{Process, Threads, Watcher};
use serde::Serialize;

use super::Context;
use crate::args::{Entry, GcUtil, Watch};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table, Tone};
use crate::output::{duration, size};

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    processes: &'a [Process],
}

#[derive(Serialize)]
struct Pids<'a> {
    instance: &'a str,
    pids: Vec<Pid<'a>>,
}

#[derive(Serialize)]
struct Pid<'a> {
    entry: &'a str,
    pid: i32,
}

/// The processes of an instance, a line each.
pub fn ps(context: &mut Context, args: &Entry) -> Outcome {
    let instance = context.instance()?;
    let processes = instance.processes(args.entry.as_deref())?;
    if context.output.json {
        context.output.facts(&Facts {
            instance: instance.name(),
            processes: &processes,
        })?;
    } else {
        let mut table = Table::new();
        if !context.output.quiet && !processes.is_empty() {
            table.head(&[
                "ENTRY", "PID", "INSIDE", "STATE", "CPU", "MEMORY", "THREADS", "FOR", "COMMAND",
            ]);
        }
        processes.iter().for_each(|process| table.row(row(process)));
        context.output.table(&table)?;
    }
    running(!processes.is_empty())
}

fn row(process: &Process) -> Vec<Cell> {
    let number = |text: String| Cell::new(text).right();
    let inside = process.inside.map(|pid| pid.to_string());
    vec![
        Cell::new(&process.entry),
        number(process.pid.to_string()),
        number(inside.unwrap_or_default()),
        Cell::new(state(process.state)).tone(match process.state {
            'Z' | 'X' => Tone::Bad,
            'D' | 'T' | 't' => Tone::Warn,
            _ => Tone::Plain,
        }),
        number(format!(
            "{:.1} s",
            Duration::from_millis(process.cpu).as_secs_f64()
        )),
        number(size(process.memory)),
        number(process.threads.to_string()),
        number(duration(Duration::from_secs(process.seconds))),
        Cell::new(&process.command),
    ]
}

/// The letter of proc_pid_stat(5) as a word.
fn state(letter: char) -> &'static str {
    match letter {
        'R' => "runs",
        'S' | 'I' => "sleeps",
        'D' => "waits",
        'T' | 't' => "stopped",
        'Z' | 'X' => "dead",
        _ => "?",
    }
}

/// The first process of each entry point that runs; the number alone when there is one, for scripts.
pub fn pid(context: &mut Context, args: &Entry) -> Outcome {
    let instance = context.instance()?;
    let wanted = args.entry.as_deref();
    let status = instance.status()?;
    if let Some(entry) = wanted
        && !status.entries.iter().any(|known| known.name == entry)
    {
        // Says which there are.
        instance.processes(wanted)?;
    }
    let fits = |name: &str| wanted.is_none_or(|wanted| wanted == name);
    let entries = status.entries.iter().filter(|entry| fits(&entry.name));
    let pids: Vec<Pid> = entries
        .filter_map(|entry| {
            let pid = entry.pid?;
            Some(Pid {
                entry: &entry.name,
                pid,
            })
        })
        .collect();
    let some = !pids.is_empty();
    match pids.as_slice() {
        _ if context.output.json => context.output.facts(&Pids {
            instance: instance.name(),
            pids,
        })?,
        [one] => context.output.line(one.pid.to_string())?,
        all => {
            let mut table = Table::new();
            for pid in all {
                table.row(vec![
                    pid.entry.into(),
                    Cell::new(pid.pid.to_string()).right(),
                ]);
            }
            context.output.table(&table)?;
        }
    }
    running(some)
}

/// As `status` has it: nothing runs is exit code 3.
pub(super) fn running(some: bool) -> Outcome {
    match some {
        true => Ok(()),
        false => Err(Failure::Code(exit::STOPPED)),
    }
}

/// Prints the threads of a JVM.
pub fn stack(context: &mut Context, args: &Entry) -> Outcome {
    let instance = context.instance()?;
    if context.output.json {
        let dump = instance.thread_dump_text(args.entry.as_deref())?;
        return context.output.facts(&dump);
    }
    context.output.flush()?;
    let Threads::InLog(log) = instance.thread_dump(args.entry.as_deref())?;
    let said = format!("Its Java has no jcmd: the threads are in {}", log.display());
    context.output.line(said)?;
    let next = format!("To read them: metactl {} logs", instance.name());
    Ok(context.output.remark(next)?)
}

/// Prints how full the parts of a JVM's heap are.
pub fn gcutil(context: &mut Context, args: &GcUtil) -> Outcome {
    let instance = context.instance()?;
    context.output.flush()?;
    match instance.gc_utilization(args.entry.as_deref(), args.interval, args.count)? {}
}

/// Writes the heap of a JVM into the data of its instance.
pub fn heapdump(context: &mut Context, args: &Entry) -> Outcome {
    let dump = context.instance()?.heap_dump(args.entry.as_deref())?;
    if context.output.json {
        return context.output.facts(&dump);
    }
    let path = dump.path.display();
    context
        .output
        .line(format!("{path}  {}", size(dump.size)))?;
    let remark = "It holds everything the application had in memory, passwords too.";
    context.output.remark(remark)?;
    Ok(context.output.undo(&format!("rm {path}"))?)
}

/// Becomes `lsof`.
pub fn lsof(context: &mut Context, args: &Watch) -> Outcome {
    watch(context, args, Watcher::Lsof)
}

/// Becomes `strace`.
pub fn strace(context: &mut Context, args: &Watch) -> Outcome {
    watch(context, args, Watcher::Strace)
}

fn watch(context: &mut Context, args: &Watch, watcher: Watcher) -> Outcome {
    let instance = context.instance()?;
    context.output.flush()?;
    match instance.look_at(args.entry.as_deref(), watcher, &args.options)? {}
}
