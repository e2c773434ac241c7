//! `metactl completion SHELL`, and what its scripts ask.

use clap::CommandFactory;

use super::Context;
use crate::args::{Cli, Complete, Completion, Shell};
use crate::complete;
use crate::failure::Outcome;

/// Prints the script of a shell.
pub fn script(context: &mut Context, args: &Completion) -> Outcome {
    let text = match args.shell {
        Shell::Bash => include_str!("../../completions/metactl.bash"),
        Shell::Zsh => include_str!("../../completions/_metactl"),
        Shell::Fish => include_str!("../../completions/metactl.fish"),
    };
    Ok(context.output.line(text.trim_end())?)
}

/// Prints what the last word could become, one a line.
pub fn complete(context: &mut Context, args: &Complete) -> Outcome {
    let mut definition = Cli::command();
    definition.build();
    let words = complete::words(&args.words);
    for word in complete::candidates(&definition, context.manager.clone(), &words) {
        // A line feed in a name would be two words.
        if !word.contains(char::is_control) {
            context.output.line(word)?;
        }
    }
    Ok(())
}
