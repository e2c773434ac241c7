//! `metactl APP exec` and `shell`: one more process in the sandbox of an instance.

use std::ffi::OsString;
use std::io::IsTerminal;

use super::Context;
use crate::args::{Entry, Exec};
use crate::failure::Outcome;

/// Runs a command. This process becomes it, so that its exit code is the command's own.
pub fn run(context: &mut Context, args: &Exec) -> Outcome {
    become_process(context, args.entry.as_deref(), &args.command)
}

/// Opens a shell.
pub fn shell(context: &mut Context, args: &Entry) -> Outcome {
    become_process(context, args.entry.as_deref(), &[])
}

fn become_process(context: &mut Context, entry: Option<&str>, argv: &[OsString]) -> Outcome {
    let instance = context.instance()?;
    // A terminal of its own only when a person sits at both ends: in a pipe it would add line ends.
    let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    context.output.flush()?;
    match instance.exec(entry, argv, tty)? {}
}
