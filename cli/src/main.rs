//! The `metactl` command: arguments in, tables and messages out. No logic of its own: every command
//! asks `metactl-lifecycle`, and prints what that says.
//!
//! It may import `lifecycle`, and the types of `bundles` that lifecycle hands out. `clap` is at home
//! here only; what launches sandboxes is the program `metactl-runtime`.
//!
//! # Where to begin reading
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`args`] | the one definition of the command line |
//! | [`words`] | both word orders, "did you mean" |
//! | [`commands`] | a file for each command |
//! | [`complete`] | what a half-typed word could become |
//! | [`manual`] | the manual pages |
//! | [`output`] | colours, tables, JSON, progress |
//! | [`failure`], [`exit`] | what is said when it does not go well, and the table of exit codes |
#![forbid(unsafe_code)]

mod args;
mod commands;
mod complete;
mod exit;
mod failure;
mod input;
mod manual;
mod output;
mod words;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::args::{Cli, Color};
use crate::commands::Asked;
use crate::failure::{Failure, Outcome};
use crate::output::Style;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Needed for reporting that the arguments cannot be understood, too.
    let json = arguments
        .iter()
        .take_while(|a| *a != "--")
        .any(|a| a == "--json");
    let style = Style::decide(color_of(&arguments), std::io::stderr().is_terminal());
    match run(arguments) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => ExitCode::from(failure.report(style, json)),
    }
}

fn run(arguments: Vec<OsString>) -> Outcome {
    let definition = args::definition();
    let arguments = words::canonical(&definition, arguments)?;
    let named = std::iter::once("metactl".into()).chain(arguments.clone());
    let cli = definition.try_get_matches_from(named).and_then(|matches| {
        let asked = Asked::of(&matches, &arguments);
        Ok((Cli::from_arg_matches(&matches)?, asked))
    });
    match cli {
        Ok((cli, asked)) => commands::dispatch(cli, &asked),
        Err(error) => misunderstood(&error),
    }
}

/// `--help` and `--version` are such errors too; they go to standard output and are none.
fn misunderstood(error: &clap::Error) -> Outcome {
    if error.use_stderr() {
        // clap's text begins with `error: `, like every other message here.
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let mut lines = text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty());
        let failure = Failure::usage(lines.next().unwrap_or("this was not understood"));
        let lines = lines.map(|line| line.strip_prefix("  ").unwrap_or(line));
        return Err(lines.fold(failure, |failure, line| failure.hint(line)));
    }
    let terminal = std::io::stdout().is_terminal();
    let text = error.render();
    let text = if terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// The `--color` option, before everything else is understood.
fn color_of(arguments: &[OsString]) -> Color {
    let mut words = arguments
        .iter()
        .take_while(|a| *a != "--")
        .filter_map(|a| a.to_str());
    while let Some(word) = words.next() {
        let value = match word {
            "--color" => words.next(),
            _ => word.strip_prefix("--color="),
        };
        match value {
            Some("always") => return Color::Always,
            Some("never") => return Color::Never,
            _ => {}
        }
    }
    Color::Auto
}
