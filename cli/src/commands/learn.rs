//! `metactl APP firewall learn`: what would have to be allowed.

use std::time::Duration;

use metactl_bundles::keys;
use metactl_lifecycle::{Edit, Interrupt, Learned, Lesson, Proposal};
use serde::Serialize;

use super::Context;
use super::edit::ACCEPT;
use crate::args::Firewall;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table, Tone};
use crate::output::{clean, duration};

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    /// Whether it ended before its time.
    early: bool,
    /// Whether the policy accepts everything anyway.
    open: bool,
    entries: &'a [Lesson],
    /// The command that would write them.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
}

/// Learns, and proposes.
pub fn run(context: &mut Context, args: &Firewall) -> Outcome {
    let time = keys::values::duration(&args.time)
        .map_err(|why| Failure::usage(format!("--for {}: {why}", args.time)))?;
    let instance = context.instance()?;
    let name = instance.name().to_owned();
    let interrupt = Interrupt::hold()?;
    begin(context, &name, time)?;
    let quiet = context.output.quiet || context.output.json;
    let proposal = {
        let output = &mut context.output;
        let mut told = |one: &Learned, known: Option<&str>| match quiet {
            true => Ok(()),
            false => {
                output.line(clean(&format!("  {}", end(one, known))))?;
                output.flush()
            }
        };
        instance.learn(time, &interrupt, &mut told)?
    };
    drop(interrupt);
    if !args.write || proposal.lessons.is_empty() {
        return print(context, &name, &proposal);
    }
    if !context.output.json {
        context
            .output
            .remark(context.output.style.strong("learned"))?;
        context.output.table(&table(&proposal))?;
    }
    let edits: Vec<Edit> = proposal
        .lessons
        .iter()
        .map(|lesson| Edit::Set {
            key: format!("{ACCEPT}:{}", lesson.name),
            value: lesson.destination.clone(),
        })
        .collect();
    super::edit::change(context, &edits, "firewall learn", true)?;
    note_open(context, &name, &proposal)
}

fn begin(context: &mut Context, name: &str, time: Duration) -> Outcome {
    let line = format!(
        "{name} may reach everything for {}, and every destination is recorded; Ctrl-C ends it",
        duration(time)
    );
    let line = context.output.style.warn(&line);
    context.output.remark(line)?;
    Ok(context.output.flush()?)
}

fn print(context: &mut Context, name: &str, proposal: &Proposal) -> Outcome {
    let allow = (!proposal.lessons.is_empty()).then(|| command(name, proposal));
    if context.output.json {
        return context.output.facts(&Facts {
            instance: name,
            early: proposal.early,
            open: proposal.open,
            entries: &proposal.lessons,
            allow,
        });
    }
    let Some(allow) = allow else {
        return Ok(context
            .output
            .line("nothing was reached that the policy would have refused")?);
    };
    context
        .output
        .line(context.output.style.strong(&format!("[{ACCEPT}]")))?;
    context.output.table(&table(proposal))?;
    note_open(context, name, proposal)?;
    Ok(context
        .output
        .remark(clean(&format!("Nothing is written. To allow it: {allow}")))?)
}

/// With policy accept the entries are right, and without effect.
fn note_open(context: &mut Context, name: &str, proposal: &Proposal) -> Outcome {
    if !proposal.open {
        return Ok(());
    }
    let line = format!(
        "the policy is accept: these count when it is reject: metactl {name} set firewall.out:policy=reject"
    );
    Ok(context.output.remark(line)?)
}

fn table(proposal: &Proposal) -> Table {
    let mut table = Table::new().indent(2);
    for lesson in &proposal.lessons {
        table.row(vec![
            Cell::new(format!("{} = {}", lesson.name, lesson.destination)),
            Cell::new(format!("{}×", lesson.count))
                .right()
                .tone(Tone::Faint),
        ]);
    }
    table
}

fn command(name: &str, proposal: &Proposal) -> String {
    let words = proposal
        .lessons
        .iter()
        .map(|lesson| format!("{}={}", lesson.name, lesson.destination))
        .map(|word| metactl_bundles::why::quoted(&word));
    format!(
        "metactl {name} allow {}",
        words.collect::<Vec<_>>().join(" ")
    )
}

/// `smtp.example.org:25 (10.9.2.9) tcp`
fn end(one: &Learned, known: Option<&str>) -> String {
    let near = super::firewall::end(one.dst, one.port);
    match known {
        Some(name) if one.port != 0 => format!("{name}:{} ({}) {}", one.port, one.dst, one.proto),
        Some(name) => format!("{name} ({}) {}", one.dst, one.proto),
        None => format!("{near} {}", one.proto),
    }
}
