//! `metactl APP changed`: what runs, and what the configuration says by now.

use metactl_lifecycle::Drift;
use serde::Serialize;

use super::Context;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    changed: bool,
    #[serde(flatten)]
    drift: &'a Drift,
}

/// Prints the differences; exit code 2 when there are some.
pub fn run(context: &mut Context) -> Outcome {
    let instance = context.instance()?;
    let name = instance.name();
    let drift = instance.drift()?;
    let changed = !drift.is_none();
    if context.output.json {
        context.output.facts(&Facts {
            instance: name,
            changed,
            drift: &drift,
        })?;
    } else if changed {
        print(context, name, &drift)?;
    } else {
        let what = if drift.runs { "runs" } else { "would start" };
        context
            .output
            .remark(format!("{name} {what} as it is configured"))?;
    }
    match changed {
        true => Err(Failure::Code(exit::FINDINGS)),
        false => Ok(()),
    }
}

fn print(context: &mut Context, name: &str, drift: &Drift) -> Outcome {
    let mut table = Table::new();
    for setting in &drift.settings {
        let value = |value: &Option<String>| match value {
            Some(value) => value.replace('\n', " "),
            None => "(nothing)".to_owned(),
        };
        table.row(vec![
            Cell::new(format!("{}:{}", setting.section, setting.key)),
            Cell::new(format!(
                "{} → {}",
                value(&setting.running),
                value(&setting.configured)
            )),
            Cell::new(setting.origin.as_deref().unwrap_or_default()).tone(Tone::Faint),
        ]);
    }
    context.output.table(&table)?;
    let verb = if drift.runs { "restart" } else { "start" };
    context.output.remark(format!("A {verb} would change:"))?;
    for (entry, kind) in &drift.entries {
        use metactl_lifecycle::edit::drift::Kind;
        let what = match kind {
            Kind::New => "is new",
            Kind::Changed => "is started otherwise",
            Kind::Gone => "is no more",
        };
        context.output.remark(clean(&format!("  {entry} {what}")))?;
    }
    if drift.network {
        context
            .output
            .remark("  addresses or firewall; open connections are cut (for the firewall alone: reload cuts none)")?;
    }
    if drift.view {
        context
            .output
            .remark("  what they see of the file system")?;
    }
    if drift.entries.is_empty() && !drift.network && !drift.view {
        context.output.remark("  nothing of what runs")?;
    }
    Ok(context.output.remark(format!(
        "Next: metactl {name} {verb}, or back: metactl {name} revert"
    ))?)
}
