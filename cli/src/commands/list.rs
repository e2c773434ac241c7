//! `metactl list`, and `metactl` alone.

use metactl_lifecycle::{InstanceState, Summary};
use serde::Serialize;

use super::Context;
use crate::failure::Outcome;
use crate::output::table::{Cell, Table, Tone};
use crate::output::{size, time};

#[derive(Serialize)]
struct Facts {
    instances: Vec<Summary>,
}

/// One line for each instance.
pub fn run(context: &mut Context) -> Outcome {
    let instances = context.manager.list()?;
    if context.output.json {
        return context.output.facts(&Facts { instances });
    }
    if instances.is_empty() {
        context
            .output
            .remark("There is no instance on this server yet.")?;
        context
            .output
            .remark("Next: metactl new APP REPO, or metactl run DIRECTORY; see metactl help")?;
        return Ok(());
    }
    let mut table = Table::new();
    if !context.output.quiet {
        table.head(&[
            "INSTANCE", "STATE", "RELEASE", "ADDRESS", "SINCE", "MEMORY", "",
        ]);
    }
    for instance in &instances {
        table.row(row(instance));
    }
    Ok(context.output.table(&table)?)
}

fn row(instance: &Summary) -> Vec<Cell> {
    let mut notes: Vec<String> = instance.note.iter().cloned().collect();
    if instance.restarts > 0 {
        notes.insert(0, format!("restarted {}×", instance.restarts));
    }
    vec![
        Cell::new(&instance.instance),
        Cell::new(instance.state.word()).tone(tone(instance.state)),
        Cell::new(instance.release.as_deref().unwrap_or("-")),
        Cell::new(super::status::addresses(&instance.addresses)),
        Cell::new(
            instance
                .since
                .as_deref()
                .map(time::local)
                .unwrap_or_default(),
        ),
        Cell::new(instance.memory.map(size).unwrap_or_default()).right(),
        Cell::new(notes.join(", ")).tone(Tone::Warn),
    ]
}

/// The colour of a state.
pub fn tone(state: InstanceState) -> Tone {
    match state {
        InstanceState::Running => Tone::Good,
        InstanceState::NotDeployed | InstanceState::Stopped => Tone::Faint,
        InstanceState::Starting | InstanceState::Stopping => Tone::Plain,
        InstanceState::Partial | InstanceState::Unknown => Tone::Warn,
        InstanceState::Failing => Tone::Bad,
    }
}
