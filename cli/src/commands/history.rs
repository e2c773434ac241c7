//! `metactl APP history`.

use std::time::Duration;

use metactl_lifecycle::{Deed, DeedOutcome};
use serde::Serialize;

use super::Context;
use crate::args::History;
use crate::failure::Outcome;
use crate::output::table::{Cell, Table, Tone};
use crate::output::{duration, time};

#[derive(Serialize)]
struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    history: &'a [Deed],
}

/// Prints what was done, the latest last.
pub fn run(context: &mut Context, args: &History) -> Outcome {
    let app = context.global.app.as_deref();
    let deeds = context.manager.history(app)?;
    let last = &deeds[deeds.len().saturating_sub(args.lines)..];
    let output = &mut context.output;
    if output.json {
        return output.facts(&Facts {
            instance: app,
            history: last,
        });
    }
    let mut table = Table::new();
    table.head(&["WHEN", "WHO", "FROM", "WHAT", "RESULT"]);
    for deed in last {
        let (result, tone) = result(deed);
        table.row(vec![
            Cell::new(time::local(&deed.at)),
            Cell::new(&deed.person),
            Cell::new(from(deed)).tone(Tone::Faint),
            Cell::new(what(deed, app.is_none())),
            Cell::new(result).tone(tone),
        ]);
        if let Some(error) = &deed.error {
            let line = error.lines().next().unwrap_or_default();
            let cells = ["", "", "", ""].map(Cell::new);
            let mut cells = Vec::from(cells);
            cells.push(Cell::new(line).tone(Tone::Faint));
            table.row(cells);
        }
    }
    if last.is_empty() {
        return Ok(output.remark("nothing was done yet")?);
    }
    Ok(output.table(&table)?)
}

fn from(deed: &Deed) -> String {
    let parts = [deed.machine.as_deref(), deed.terminal.as_deref()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn what(deed: &Deed, named: bool) -> String {
    let instance = deed.instance.as_deref().filter(|_| named);
    let words = deed.arguments.iter().map(String::as_str);
    let all = instance.into_iter().chain([deed.command.as_str()]);
    all.chain(words).collect::<Vec<_>>().join(" ")
}

fn result(deed: &Deed) -> (String, Tone) {
    let took = deed.seconds.map(Duration::from_secs_f64).map(duration);
    let took = took.map_or_else(String::new, |took| format!(", {took}"));
    let exit = deed.exit.unwrap_or_default();
    match deed.result {
        DeedOutcome::Done => (format!("done{took}"), Tone::Good),
        DeedOutcome::Failed => (format!("failed, exit {exit}{took}"), Tone::Bad),
        DeedOutcome::RolledBack => (format!("rolled back{took}"), Tone::Bad),
        DeedOutcome::Refused => (format!("refused, exit {exit}"), Tone::Bad),
        DeedOutcome::HandedOver => ("handed over".to_owned(), Tone::Plain),
        DeedOutcome::UnderWay => ("under way".to_owned(), Tone::Warn),
        DeedOutcome::Interrupted => ("interrupted".to_owned(), Tone::Bad),
    }
}
