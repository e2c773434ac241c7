//! `metactl APP logs`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use metactl_lifecycle::{LineSink, LogFilter};
use serde::Serialize;

use super::Context;
use crate::args::Logs;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// How many lines there are when nothing says how many.
const LAST: usize = 100;

#[derive(Serialize)]
struct Line<'a> {
    entry: &'a str,
    line: &'a str,
}

/// Prints the last lines, and with `-f` those that come.
pub fn run(context: &mut Context, args: &Logs) -> Outcome {
    let instance = context.instance()?;
    if let Some(serial) = args.deploy {
        return deployment(context, &instance.deploy_log(serial)?);
    }
    let entry = args.entry.as_deref().or(args.entrypoint.as_deref());
    let since = args
        .since
        .as_deref()
        .map(metactl_lifecycle::since)
        .transpose()?;
    // Of what is searched for, all of it.
    let searches = since.is_some() || args.grep.is_some();
    let lines = args.lines.or((!searches).then_some(LAST));
    let width = match entry {
        // Of one log, the lines as they are; of several, with the name in front.
        Some(_) => None,
        None => {
            let files = instance.log_files(None)?;
            let widest = files.iter().map(|file| file.entry.chars().count()).max();
            (files.len() > 1).then_some(widest.unwrap_or(0))
        }
    };
    let follow = args.follow;
    let output = &mut context.output;
    let mut broken = false;
    let mut sink = |name: &str, line: &str| -> io::Result<()> {
        let printed = print(output, width, name, line)
            .and_then(|()| if follow { output.flush() } else { Ok(()) });
        broken |= matches!(&printed, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        printed
    };
    let sink: &mut LineSink<'_> = &mut sink;
    let read = match lines {
        Some(lines) if !searches && follow => instance.follow(entry, lines, sink),
        Some(lines) if !searches => instance.tail(entry, lines, sink),
        _ => {
            let grep = args.grep.clone();
            let filter = LogFilter {
                since,
                grep,
                lines,
                follow,
            };
            instance.search(entry, &filter, sink)
        }
    };
    if broken {
        Err(Failure::BrokenPipe)
    } else {
        Ok(read?)
    }
}

/// Prints the whole log of a deployment.
fn deployment(context: &mut Context, path: &Path) -> Outcome {
    let read = |error: io::Error| {
        Failure::new(
            exit::FAILED,
            format!("cannot read {}: {error}", path.display()),
        )
    };
    let file = BufReader::new(File::open(path).map_err(read)?);
    for line in file.split(b'\n') {
        let line = line.map_err(read)?;
        print(
            &mut context.output,
            None,
            "deploy",
            &String::from_utf8_lossy(&line),
        )?;
    }
    Ok(())
}

fn print(output: &mut Output, width: Option<usize>, name: &str, line: &str) -> io::Result<()> {
    if output.json {
        // One object a line, so that it can be followed.
        let line = serde_json::to_string(&Line { entry: name, line })?;
        return output.line(line);
    }
    let line = if output.terminal {
        harmless(line)
    } else {
        line.to_owned()
    };
    match width {
        None => output.line(line),
        Some(width) => {
            let name = output.style.faint(&format!("{name:<width$} |"));
            output.line(format!("{name} {line}"))
        }
    }
}

/// A line that cannot change the terminal, except for its colours (`ESC [ ... m`).
fn harmless(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut colored = false;
    let mut rest = line;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = color_sequence(rest) {
            out.push_str(&rest[..length]);
            colored = true;
            rest = &rest[length..];
        } else {
            let mut characters = rest.chars();
            out.extend(characters.next().into_iter().flat_map(char::escape_unicode));
            rest = characters.as_str();
        }
    }
    out.push_str(rest);
    if colored {
        out.push_str("\x1b[0m");
    }
    out
}

/// The length of the colour sequence that `text` begins with.
fn color_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_nothing_else() {
        assert_eq!(harmless("plain\ttext"), "plain\ttext");
        assert_eq!(harmless("\x1b[1;31mred"), "\x1b[1;31mred\x1b[0m");
        assert_eq!(
            harmless("a\x1b[2Jb\x1b]0;t\x07"),
            "a\\u{1b}[2Jb\\u{1b}]0;t\\u{7}"
        );
        assert_eq!(harmless("\x1b["), "\\u{1b}[");
    }
}
