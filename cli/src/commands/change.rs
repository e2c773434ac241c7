//! `metactl APP start`, `stop` and `restart`.

use metactl_lifecycle::{Change, Instance, LifecycleError, Progress};
use serde::Serialize;

use super::Context;
use crate::args::{Entry, Stop};
use crate::failure::Outcome;
use crate::output::clean;

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    changed: bool,
    entries: &'a [String],
}

/// What is said about a change that went well.
struct Words {
    done: &'static str,
    already: &'static str,
    /// The command that takes it back.
    undo: &'static str,
}

/// Starts all entry points, or one.
pub fn start(context: &mut Context, args: &Entry) -> Outcome {
    let words = Words {
        done: "started",
        already: "runs already, with the configuration that it was started with; `restart` takes the one on disk",
        undo: "stop",
    };
    change(context, args, &words, |instance, entry, steps| {
        instance.start(entry, steps)
    })
}

/// Stops all entry points, or one; with `--disable` also for the next boot.
pub fn stop(context: &mut Context, args: &Stop) -> Outcome {
    stop_entry(context, &args.entry)?;
    if args.disable {
        disable(context)
    } else {
        Ok(())
    }
}

/// Starts it when the server boots.
pub fn enable(context: &mut Context) -> Outcome {
    at_boot(context, true)
}

/// No longer does.
pub fn disable(context: &mut Context) -> Outcome {
    at_boot(context, false)
}

#[derive(Serialize)]
struct AtBoot<'a> {
    instance: &'a str,
    enabled: bool,
    changed: bool,
}

fn at_boot(context: &mut Context, enabled: bool) -> Outcome {
    let instance = context.instance()?;
    let changed = instance.enable(enabled)?;
    let name = instance.name();
    if context.output.json {
        return context.output.facts(&AtBoot {
            instance: name,
            enabled,
            changed,
        });
    }
    let (word, undo) = match enabled {
        true => ("is started when the server boots", "disable"),
        false => ("is not started when the server boots", "enable"),
    };
    let already = if changed { "" } else { " already" };
    context
        .output
        .remark(clean(&format!("{name} {word}{already}")))?;
    match changed {
        true => Ok(context.output.undo(&format!("metactl {name} {undo}"))?),
        false => Ok(()),
    }
}

fn stop_entry(context: &mut Context, args: &Entry) -> Outcome {
    let words = Words {
        done: "stopped",
        already: "is stopped already",
        undo: "start",
    };
    change(context, args, &words, |instance, entry, steps| {
        instance.stop(entry, steps)
    })
}

/// Stops and starts all entry points, or one.
pub fn restart(context: &mut Context, args: &Entry) -> Outcome {
    let words = Words {
        done: "restarted",
        already: "runs already",
        undo: "stop",
    };
    change(context, args, &words, |instance, entry, steps| {
        instance.restart(entry, steps)
    })
}

fn change(
    context: &mut Context,
    args: &Entry,
    words: &Words,
    act: impl FnOnce(&Instance, Option<&str>, &mut dyn Progress) -> Result<Change, LifecycleError>,
) -> Outcome {
    let instance = context.instance()?;
    let entry = args.entry.as_deref();
    let mut steps = context.steps();
    let change = act(&instance, entry, &mut steps)?;
    drop(steps);
    let entries = match &change {
        Change::Done(entries) => entries.as_slice(),
        Change::Already => &[],
    };
    if context.output.json {
        let changed = change != Change::Already;
        return context.output.facts(&Facts {
            instance: instance.name(),
            changed,
            entries,
        });
    }
    let name = instance.name();
    if change == Change::Already {
        let what = entry.map_or_else(|| name.to_owned(), |entry| format!("{name} {entry}"));
        context
            .output
            .remark(clean(&format!("{what} {}", words.already)))?;
        return Ok(());
    }
    let list = if entries.is_empty() {
        String::new()
    } else {
        format!(": {}", entries.join(", "))
    };
    context
        .output
        .remark(clean(&format!("{name} {}{list}", words.done)))?;
    let one = entry.map(|entry| format!(" {entry}")).unwrap_or_default();
    Ok(context
        .output
        .undo(&format!("metactl {name} {}{one}", words.undo))?)
}
