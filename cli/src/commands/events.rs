//! `metactl APP events`.

use std::io;

use metactl_lifecycle::{Event, EventSink};
use serde::Serialize;

use super::Context;
use crate::args::Events;
use crate::failure::{Failure, Outcome};
use crate::output::{JSON_VERSION, Output, clean, time};

/// How many there are without a time.
const LAST: usize = 30;

#[derive(Serialize)]
struct Facts<'a> {
    version: u32,
    instance: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// Prints what happened, and with `-f` what happens.
pub fn run(context: &mut Context, args: &Events) -> Outcome {
    let instance = context.instance()?;
    let since = args
        .since
        .as_deref()
        .map(metactl_lifecycle::since)
        .transpose()?;
    let most = args
        .lines
        .unwrap_or(if since.is_some() { usize::MAX } else { LAST });
    let output = &mut context.output;
    let mut broken = false;
    let mut sink = |event: &Event| -> io::Result<()> {
        let printed = print(output, instance.name(), event).and_then(|()| match args.follow {
            true => output.flush(),
            false => Ok(()),
        });
        broken |= matches!(&printed, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
        printed
    };
    let sink: &mut EventSink<'_> = &mut sink;
    let read = instance.events(since, most, args.follow, sink);
    match broken {
        true => Err(Failure::BrokenPipe),
        false => Ok(read?),
    }
}

fn print(output: &mut Output, instance: &str, event: &Event) -> io::Result<()> {
    if output.json {
        let facts = Facts {
            version: JSON_VERSION,
            instance,
            event,
        };
        return output.line(serde_json::to_string(&facts)?);
    }
    let style = output.style;
    let word = format!("{:<13}", event.kind.word());
    let word = match event.kind.is_bad() {
        true => style.bad(&word),
        false => word,
    };
    let entry = event.entry.as_deref().unwrap_or(instance);
    let when = style.faint(&format!("{:<16}", time::local(&event.at)));
    let line = format!(
        "{when} {word} {}  {}",
        clean(entry),
        clean(&event.detail).replace('\n', " ")
    );
    output.line(line.trim_end())
}
