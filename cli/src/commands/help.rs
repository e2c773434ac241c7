//! `metactl help` and `metactl version`.

use clap::CommandFactory;
use metactl_bundles::keys;
use serde::Serialize;

use super::Context;
use crate::args::{Cli, Help};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::table::{Cell, Table};

/// Topics that are no commands.
const TOPICS: [&str; 2] = ["exit-codes", "keys"];

#[derive(Serialize)]
struct Version {
    metactl: &'static str,
}

/// Explains a command or a topic; all of them without one.
pub fn run(context: &mut Context, args: &Help) -> Outcome {
    let Some(topic) = args.topic.as_deref() else {
        return print_help(context, &mut Cli::command());
    };
    match topic {
        "exit-codes" => exit_codes(context),
        "keys" => list_keys(context, args.word.as_deref()),
        _ => {
            let mut definition = Cli::command();
            definition.build();
            match definition.find_subcommand_mut(topic) {
                Some(command) => print_help(context, command),
                None => Err(unknown(topic)),
            }
        }
    }
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
    Ok(context
        .output
        .line("run, exec and shell end with the code of what they ran; 128 + N after signal N.")?)
}

fn list_keys(context: &mut Context, word: Option<&str>) -> Outcome {
    let lines = keys::reference::lines(word);
    if lines.is_empty() {
        return Err(
            Failure::usage("no key of the configuration has this in it").hint("metactl help keys")
        );
    }
    lines
        .iter()
        .try_for_each(|line| context.output.line(line))?;
    Ok(())
}

fn unknown(topic: &str) -> Failure {
    let definition = Cli::command();
    let names = definition
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let names = names.map(clap::Command::get_name).chain(TOPICS);
    let failure = Failure::usage(format!("there is no help on {topic:?}"));
    match keys::suggest::nearest(topic, names) {
        Some(close) => failure.hint(format!("did you mean: metactl help {close}")),
        None => failure.hint(format!(
            "metactl help; further topics: {}",
            TOPICS.join(", ")
        )),
    }
}
