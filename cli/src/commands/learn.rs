//! `metactl APP firewall learn`: what would have to be allowed.

use std::time::Duration;

use metactl_bundles::keys;
use metactl_lifecycle::{Direction, Edit, Interrupt, Learned, Lesson, Proposal};
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
        show(context, &proposal)?;
    }
    let edits: Vec<Edit> = proposal
        .lessons
        .iter()
        .map(|lesson| Edit::Set {
            key: format!("{}:{}", section(lesson.direction), lesson.name),
            value: lesson.destination.clone(),
        })
        .collect();
    super::edit::change(context, &edits, "firewall learn", true)?;
    note_open(context, &name, &proposal)
}

fn begin(context: &mut Context, name: &str, time: Duration) -> Outcome {
    let line = format!(
        "{name} may reach everything for {}, and whoever reaches it comes in; every other end is recorded; Ctrl-C ends it",
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
            .line("nothing passed that the policy would have refused")?);
    };
    show(context, proposal)?;
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

/// The entries below the sections that they belong to.
fn show(context: &mut Context, proposal: &Proposal) -> Outcome {
    for direction in [Direction::Out, Direction::In] {
        let of = |lesson: &&Lesson| lesson.direction == direction;
        let lessons: Vec<&Lesson> = proposal.lessons.iter().filter(of).collect();
        if !lessons.is_empty() {
            let section = format!("[{}]", section(direction));
            context.output.line(context.output.style.strong(&section))?;
            context.output.table(&table(&lessons))?;
        }
    }
    Ok(())
}

fn section(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => ACCEPT,
        Direction::In => "firewall.in.accept",
    }
}

fn table(lessons: &[&Lesson]) -> Table {
    let mut table = Table::new().indent(2);
    for lesson in lessons {
        table.row(vec![
            Cell::new(format!("{} = {}", lesson.name, lesson.destination)),
            Cell::new(format!("{}×", lesson.count))
                .right()
                .tone(Tone::Faint),
        ]);
    }
    table
}

/// The commands that would write them: `allow` knows destinations alone.
fn command(name: &str, proposal: &Proposal) -> String {
    let words = |direction: Direction| -> Vec<String> {
        let lessons = proposal.lessons.iter();
        let of = lessons.filter(|lesson| lesson.direction == direction);
        of.map(|lesson| format!("{}={}", lesson.name, lesson.destination))
            .collect()
    };
    let mut commands = Vec::new();
    let out = words(Direction::Out);
    if !out.is_empty() {
        let quoted = out.iter().map(|word| metactl_bundles::why::quoted(word));
        let quoted = quoted.collect::<Vec<_>>().join(" ");
        commands.push(format!("metactl {name} allow {quoted}"));
    }
    let inbound = words(Direction::In);
    if !inbound.is_empty() {
        let keys = inbound
            .iter()
            .map(|word| format!("{}:{word}", section(Direction::In)));
        let quoted = keys.map(|key| metactl_bundles::why::quoted(&key).to_string());
        let quoted = quoted.collect::<Vec<_>>().join(" ");
        commands.push(format!("metactl {name} set {quoted}"));
    }
    commands.join("; ")
}

/// `smtp.example.org:25 (10.9.2.9) tcp`, `from 10.9.2.9 to its port 80 tcp`
fn end(one: &Learned, known: Option<&str>) -> String {
    let near = super::firewall::end(one.dst, one.port);
    if one.direction == Direction::In {
        let from = known.map_or_else(
            || one.dst.to_string(),
            |name| format!("{name} ({})", one.dst),
        );
        return match one.port {
            0 => format!("from {from} {}", one.proto),
            port => format!("from {from} to its port {port} {}", one.proto),
        };
    }
    match known {
        Some(name) if one.port != 0 => format!("{name}:{} ({}) {}", one.port, one.dst, one.proto),
        Some(name) => format!("{name} ({}) {}", one.dst, one.proto),
        None => format!("{near} {}", one.proto),
    }
}
