//! `metactl APP reload`: the configuration of now, as far as nothing has to be stopped for it.

use metactl_lifecycle::edit::drift::Kind;
use metactl_lifecycle::{Drift, Instance, OpenConnection, Reload, Reloaded};
use serde::Serialize;

use super::Context;
use super::edit::print_warnings;
use crate::args;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;

/// What is told of a reload, also by the commands that do one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts<'a> {
    instance: &'a str,
    changed: bool,
    firewall: bool,
    jobs: &'a [String],
    /// Connections that are open, or were until they were cut.
    unwanted: &'a [OpenConnection],
    cut: bool,
    needs_restart: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<&'a Drift>,
    warnings: &'a [String],
}

/// The facts of a reload.
pub fn facts<'a>(instance: &'a str, reload: &'a Reload) -> Facts<'a> {
    let done = match reload {
        Reload::Done(done) => Some(done),
        Reload::Already | Reload::NeedsRestart(_) => None,
    };
    let differs = match reload {
        Reload::NeedsRestart(drift) => Some(drift),
        Reload::Already | Reload::Done(_) => None,
    };
    Facts {
        instance,
        changed: done.is_some_and(|done| done.firewall || done.cut || !done.jobs.is_empty()),
        firewall: done.is_some_and(|done| done.firewall),
        jobs: done.map_or(&[], |done| &done.jobs),
        unwanted: done.map_or(&[], |done| &done.unwanted),
        cut: done.is_some_and(|done| done.cut),
        needs_restart: differs.is_some(),
        differs,
        warnings: done.map_or(&[], |done| &done.warnings),
    }
}

/// Takes the configuration over.
pub fn run(context: &mut Context, args: &args::Reload) -> Outcome {
    let instance = context.instance()?;
    let mut steps = context.steps();
    let reload = instance.reload(args.cut, &mut steps)?;
    drop(steps);
    if context.output.json {
        context.output.facts(&facts(instance.name(), &reload))?;
    } else {
        print(context, &instance, &reload)?;
        if let Reload::Done(done) = &reload
            && done.by_local_layer
        {
            let name = instance.name();
            let undo = format!("metactl {name} revert --last && metactl {name} reload");
            context.output.undo(&undo)?;
        }
    }
    match reload {
        Reload::NeedsRestart(_) => Err(Failure::Code(exit::FINDINGS)),
        Reload::Already | Reload::Done(_) => Ok(()),
    }
}

/// Says what a reload came to.
pub fn print(context: &mut Context, instance: &Instance, reload: &Reload) -> Outcome {
    let name = instance.name();
    match reload {
        Reload::Already => Ok(context
            .output
            .remark(format!("{name} runs as it is configured"))?),
        Reload::Done(done) => print_done(context, name, done),
        Reload::NeedsRestart(drift) => {
            let lead =
                "not live: something else is configured too, which only a restart takes over";
            let lead = context.output.style.warn(lead);
            context.output.remark(lead)?;
            for line in differences(drift) {
                context.output.remark(clean(&format!("  {line}")))?;
            }
            Ok(context.output.remark(format!(
                "Next: metactl {name} restart (metactl {name} changed has all of it)"
            ))?)
        }
    }
}

fn print_done(context: &mut Context, name: &str, done: &Reloaded) -> Outcome {
    print_warnings(context, &done.warnings)?;
    if !done.jobs.is_empty() {
        let jobs = done.jobs.join(", ");
        context
            .output
            .remark(clean(&format!("cron jobs as configured: {jobs}")))?;
    }
    if done.unwanted.is_empty() {
        return Ok(context.output.remark("live, open connections kept")?);
    }
    let lead = match done.cut {
        true => "live; these connections were cut:",
        false => "live; open connections kept, also these, which would be refused now:",
    };
    context.output.remark(lead)?;
    for one in &done.unwanted {
        context
            .output
            .remark(clean(&format!("  {}", connection(one))))?;
    }
    match done.cut {
        true => Ok(()),
        false => Ok(context
            .output
            .remark(format!("To cut them: metactl {name} reload --cut"))?),
    }
}

/// `java (4711)  mysql.example.org:3306 (10.2.0.20) tcp`
pub fn connection(one: &OpenConnection) -> String {
    let who = match (&one.program, one.pid) {
        (Some(program), Some(pid)) => format!("{program} ({pid})"),
        _ => "no process any more".to_owned(),
    };
    let far = match &one.name {
        Some(name) => format!("{name}:{} ({})", one.peer.port(), one.peer.ip()),
        None => one.peer.to_string(),
    };
    let way = match one.direction {
        metactl_lifecycle::Direction::Out => far,
        metactl_lifecycle::Direction::In => format!("{far} → port {}", one.local.port()),
    };
    format!("{who}  {way} {}", one.protocol)
}

/// What a restart would change, a line each.
fn differences(drift: &Drift) -> Vec<String> {
    let mut lines: Vec<String> = drift
        .settings
        .iter()
        .filter(|setting| !setting.section.starts_with("firewall."))
        .map(|setting| format!("{}:{}", setting.section, setting.key))
        .collect();
    if lines.is_empty() {
        lines.extend(drift.entries.iter().map(|(entry, kind)| match kind {
            Kind::New => format!("{entry} is new"),
            Kind::Changed => format!("{entry} is started otherwise"),
            Kind::Gone => format!("{entry} is no more"),
        }));
    }
    if lines.is_empty() && drift.view {
        lines.push("what they see of the file system".to_owned());
    }
    if lines.is_empty() {
        lines.push("the network itself".to_owned());
    }
    lines
}
