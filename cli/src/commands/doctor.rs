//! `metactl doctor [network]`.

use metactl_lifecycle::{Diagnosis, Finding};
use serde::Serialize;

use super::Context;
use crate::args::{Doctor, Topic};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
struct Facts<'a> {
    /// Who keeps instances running, and why it is this one.
    #[serde(rename = "serviceManager")]
    service_manager: ServiceFacts,
    findings: &'a [Finding],
    uplinks: &'a [String],
    changed: Vec<ChangedFacts<'a>>,
}

#[derive(Serialize)]
struct ServiceFacts {
    name: &'static str,
    why: String,
}

#[derive(Serialize)]
struct ChangedFacts<'a> {
    key: &'a str,
    before: &'a str,
    now: &'a str,
}

/// Prints what was found; with findings the exit code says so.
pub fn run(context: &mut Context, args: &Doctor) -> Outcome {
    let service = context.manager.service_manager()?;
    let diagnosis = match args.topic {
        Some(Topic::Network) => context.manager.doctor_network()?,
        None => context.manager.doctor()?,
    };
    if context.output.json {
        let changed = diagnosis.changed.iter().map(|one| ChangedFacts {
            key: &one.key,
            before: &one.before,
            now: &one.now,
        });
        context.output.facts(&Facts {
            service_manager: ServiceFacts {
                name: service.kind.name(),
                why: service.why,
            },
            findings: &diagnosis.findings,
            uplinks: &diagnosis.uplinks,
            changed: changed.collect(),
        })?;
    } else {
        let line = format!("service manager: {}: {}", service.kind.name(), service.why);
        context.output.remark(clean(&line))?;
        print(context, &diagnosis)?;
    }
    if diagnosis.findings.is_empty() {
        return Ok(());
    }
    Err(Failure::Code(exit::FINDINGS))
}

fn print(context: &mut Context, diagnosis: &Diagnosis) -> Outcome {
    for finding in &diagnosis.findings {
        tell(context, finding)?;
    }
    let output = &mut context.output;
    if !diagnosis.changed.is_empty() && !output.quiet {
        output.line(
            output
                .style
                .strong("changed by metactl, until the last instance that needs it is gone:"),
        )?;
        let mut table = Table::new().indent(2);
        for one in &diagnosis.changed {
            let change = format!("{} → {}", one.before, one.now);
            table.row(vec![
                Cell::new(&one.key),
                Cell::new(change).tone(Tone::Faint),
            ]);
        }
        output.table(&table)?;
    }
    let summary = match diagnosis.findings.len() {
        0 if diagnosis.uplinks.is_empty() => {
            "nothing stops instances, but the server has no uplink: they are reached from it only"
                .to_owned()
        }
        0 => format!(
            "nothing stops instances; uplinks: {}",
            diagnosis.uplinks.join(", ")
        ),
        1 => "1 finding".to_owned(),
        many => format!("{many} findings"),
    };
    Ok(context.output.remark(clean(&summary))?)
}

fn tell(context: &mut Context, finding: &Finding) -> Outcome {
    let output = &mut context.output;
    let style = output.style;
    output.line(style.warn(&clean(&finding.what)))?;
    output.line(clean(&format!("  where: {}", finding.place)))?;
    output.line(clean(&format!("  why:   {}", finding.why)))?;
    for command in &finding.mend {
        output.line(clean(&format!("  mend:  {command}")))?;
    }
    if !finding.lasting.is_empty() {
        output.line(clean(&format!("  then:  {}", finding.lasting)))?;
    }
    Ok(output.line("")?)
}
