//! `metactl APP cron`: the cron jobs, and running one now.

use std::io;

use metactl_lifecycle::status::Exit;
use metactl_lifecycle::{CronJob, EntryState};
use serde::Serialize;

use super::{Context, logs};
use crate::args::{Cron, CronAction};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table, Tone};
use crate::output::time;

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    jobs: Vec<CronJob>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ran<'a> {
    instance: &'a str,
    job: &'a str,
    exit: &'a Exit,
    output: Vec<String>,
}

/// Lists the jobs, or runs one.
pub fn run(context: &mut Context, args: &Cron) -> Outcome {
    match (args.action, args.name.as_deref()) {
        (CronAction::Run, Some(name)) => run_now(context, name),
        (CronAction::List, Some(name)) => {
            Err(Failure::usage(format!("cron list takes no name: {name:?}"))
                .hint("to run it now: metactl APP cron run NAME"))
        }
        (_, None) => list(context),
    }
}

fn list(context: &mut Context) -> Outcome {
    let instance = context.instance()?;
    let jobs = instance.cron_jobs()?;
    let output = &mut context.output;
    if output.json {
        return output.facts(&Facts {
            instance: instance.name(),
            jobs,
        });
    }
    if jobs.is_empty() {
        return Ok(output.remark(format!("{} has no cron jobs.", instance.name()))?);
    }
    let mut table = Table::new();
    if !output.quiet {
        table.head(&["JOB", "SCHEDULE", "NEXT", "LAST", "RESULT"]);
    }
    jobs.iter().for_each(|job| table.row(row(job)));
    Ok(output.table(&table)?)
}

fn row(job: &CronJob) -> Vec<Cell> {
    let schedule = match &job.timezone {
        Some(zone) => format!("{} ({zone})", job.schedule),
        None => job.schedule.clone(),
    };
    let local = |at: &Option<String>| at.as_deref().map(time::local).unwrap_or_default();
    let next = match job.state {
        EntryState::Stopped => "-".to_owned(),
        _ => local(&job.next),
    };
    let (result, tone) = match (&job.last_exit, job.state) {
        (_, EntryState::Running) => ("runs".to_owned(), Tone::Good),
        (Some(exit), _) if exit.failed => (failed(exit, job.failures), Tone::Bad),
        (Some(exit), _) => (exit.reason.clone(), Tone::Plain),
        (None, _) => ("-".to_owned(), Tone::Faint),
    };
    vec![
        Cell::new(&job.name),
        Cell::new(&schedule),
        Cell::new(&next),
        Cell::new(local(&job.started)),
        Cell::new(&result).tone(tone),
    ]
}

fn failed(exit: &Exit, failures: u32) -> String {
    match failures {
        2.. => format!("{}, {failures} times in a row", exit.reason),
        _ => exit.reason.clone(),
    }
}

fn run_now(context: &mut Context, name: &str) -> Outcome {
    let instance = context.instance()?;
    let output = &mut context.output;
    let mut lines = Vec::new();
    let mut sink = |_: &str, line: &str| -> io::Result<()> {
        if output.json {
            lines.push(line.to_owned());
            return Ok(());
        }
        let line = match output.terminal {
            true => logs::harmless(line),
            false => line.to_owned(),
        };
        output.line(line).and_then(|()| output.flush())
    };
    let exit = instance.cron_run(name, &mut sink)?;
    if context.output.json {
        context.output.facts(&Ran {
            instance: instance.name(),
            job: name,
            exit: &exit,
            output: lines,
        })?;
    }
    match code(&exit) {
        exit::OK => Ok(()),
        code => Err(Failure::Code(code)),
    }
}

/// The exit code of the job is this command's own, as a shell tells it.
fn code(exit: &Exit) -> u8 {
    let code = match (exit.code, exit.signal) {
        (Some(code), _) => Some(code),
        (None, Some(signal)) => Some(128 + signal),
        (None, None) => None,
    };
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(exit::FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_pass_through() {
        let exit = |code, signal| Exit {
            at: String::new(),
            code,
            signal,
            reason: String::new(),
            failed: true,
        };
        assert_eq!(code(&exit(Some(0), None)), 0);
        assert_eq!(code(&exit(Some(7), None)), 7);
        assert_eq!(code(&exit(None, Some(9))), 137);
        assert_eq!(code(&exit(None, None)), 1);
    }
}
