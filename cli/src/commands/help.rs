//! `metactl help` and `metactl version`.

use metactl_bundles::keys::reference::{self, Entry};
use metactl_bundles::keys::suggest;
use serde::Serialize;

use super::Context;
use crate::args::{Help, definition};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::manual;
use crate::output::table::{Cell, Table, Tone};

/// Topics that are no commands.
pub(crate) const TOPICS: [&str; 2] = ["exit-codes", "keys"];

#[derive(Serialize)]
struct Version {
    metactl: &'static str,
}

#[derive(Serialize)]
struct ExitCodes {
    codes: &'static [exit::Row],
}

/// Explains a command or a topic; all of them without one.
pub fn run(context: &mut Context, args: &Help) -> Outcome {
    let Some(topic) = args.topic.as_deref() else {
        return print_help(context, &mut definition());
    };
    match topic {
        "exit-codes" => exit_codes(context),
        "keys" => keys_of(context, args.word.as_deref()),
        _ => {
            let mut definition = definition();
            definition.build();
            match definition.find_subcommand_mut(topic) {
                Some(command) => print_help(context, command),
                None => Err(unknown(topic)),
            }
        }
    }
}

/// Prints a manual page.
pub fn manual(context: &mut Context, page: &str) -> Outcome {
    let mut definition = definition();
    definition.build();
    let text = manual::page(&definition, page);
    Ok(context.output.line(text.trim_end())?)
}

/// Prints the version.
pub fn version(context: &mut Context) -> Outcome {
    let metactl = env!("CARGO_PKG_VERSION");
    if context.output.json {
        return context.output.facts(&Version { metactl });
    }
    Ok(context.output.line(format!("metactl {metactl}"))?)
}

fn print_help(context: &mut Context, command: &mut clap::Command) -> Outcome {
    let text = command.render_help();
    let text = if context.output.style.is_colored() {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    Ok(context.output.line(text.trim_end())?)
}

fn exit_codes(context: &mut Context) -> Outcome {
    if context.output.json {
        return context.output.facts(&ExitCodes { codes: exit::TABLE });
    }
    let mut table = Table::new();
    table.head(&["CODE", "NAME", "WHEN"]);
    for row in exit::TABLE {
        table.row(vec![
            Cell::new(row.code.to_string()).right(),
            row.name.into(),
            row.meaning.into(),
        ]);
    }
    context.output.table(&table)?;
    Ok(context.output.line(exit::OTHERS)?)
}

#[derive(Serialize)]
struct Keys<'a> {
    keys: &'a [Entry],
}

/// A key in full, or those that have a word in them.
fn keys_of(context: &mut Context, word: Option<&str>) -> Outcome {
    let named = word.map(reference::named).unwrap_or_default();
    let listed = reference::with(word);
    let found = if named.is_empty() { &listed } else { &named };
    if found.is_empty() {
        return Err(
            Failure::usage("no key of the configuration has this in it").hint("metactl help keys")
        );
    }
    if context.output.json {
        return context.output.facts(&Keys { keys: found });
    }
    if named.is_empty() {
        for entry in found {
            context.output.line(entry.short())?;
        }
        return Ok(());
    }
    for (number, entry) in found.iter().enumerate() {
        if number > 0 {
            context.output.line("")?;
        }
        key_in_full(context, entry)?;
    }
    Ok(())
}

fn key_in_full(context: &mut Context, entry: &Entry) -> Outcome {
    let output = &mut context.output;
    let style = output.style;
    output.line(style.strong(&format!("[{}] {}", entry.section, entry.key)))?;
    output.line(format!("  {}", entry.meaning))?;
    let mut table = Table::new().indent(2);
    for (word, text) in entry.facts() {
        table.row(vec![Cell::new(word).tone(Tone::Faint), text.into()]);
    }
    let mut lead = "example";
    for line in entry.example.lines() {
        table.row(vec![Cell::new(lead).tone(Tone::Faint), line.into()]);
        lead = "";
    }
    Ok(output.table(&table)?)
}

fn unknown(topic: &str) -> Failure {
    let definition = definition();
    let names = definition
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let names = names.map(clap::Command::get_name).chain(TOPICS);
    let failure = Failure::usage(format!("there is no help on {topic:?}"));
    match suggest::nearest(topic, names) {
        Some(close) => failure.hint(format!("did you mean: metactl help {close}")),
        None => failure.hint(format!(
            "metactl help; further topics: {}",
            TOPICS.join(", ")
        )),
    }
}
