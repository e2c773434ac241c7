//! `metactl APP compare SITE SITE`: what differs between two sites.

use metactl_bundles::compare::{Difference, Side};
use metactl_bundles::layers::{LayerKind, Needed};
use serde::Serialize;

use super::Context;
use super::show::OriginFacts;
use crate::args::Compare;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
struct Facts<'a> {
    app: &'a str,
    sites: [&'a str; 2],
    differences: Vec<DifferenceFacts<'a>>,
    /// Names that each site leaves to a further layer.
    needed: [Vec<&'a str>; 2],
}

#[derive(Serialize)]
struct DifferenceFacts<'a> {
    section: &'a str,
    key: &'a str,
    /// In the order of `sites`.
    values: [Option<SideFacts<'a>>; 2],
}

#[derive(Serialize)]
struct SideFacts<'a> {
    value: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    origin: OriginFacts,
}

/// Prints the differences, key by key.
pub fn run(context: &mut Context, args: &Compare) -> Outcome {
    let Some(app) = context.global.app.clone() else {
        let failure = Failure::usage("of which application?");
        return Err(failure.hint("metactl APP compare SITE SITE"));
    };
    let found = context.manager.compare(&app, &args.left, &args.right)?;
    let (left, right) = (args.left.as_str(), args.right.as_str());
    let needed = [&found.needed_left, &found.needed_right];
    if context.output.json {
        let facts = Facts {
            app: &app,
            sites: [left, right],
            differences: found.differences.iter().map(facts).collect(),
            needed: needed.map(|needed| names(needed)),
        };
        return context.output.facts(&facts);
    }
    for difference in &found.differences {
        print(context, difference, [left, right])?;
    }
    if found.differences.is_empty() {
        context
            .output
            .remark(format!("{left} and {right} say the same about {app}"))?;
    }
    for (site, needed) in [left, right].into_iter().zip(needed) {
        if !needed.is_empty() {
            let text = format!("{site} does not define {}", names(needed).join(", "));
            context.output.remark(clean(&text))?;
        }
    }
    Ok(())
}

fn names(needed: &[Needed]) -> Vec<&str> {
    needed.iter().map(|needed| needed.name.as_str()).collect()
}

fn side_facts(side: &Side) -> SideFacts<'_> {
    SideFacts {
        value: &side.value,
        redacted: side.sensitive,
        origin: (&side.origin).into(),
    }
}

fn facts(difference: &Difference) -> DifferenceFacts<'_> {
    let side = |side| Option::map(side, side_facts);
    DifferenceFacts {
        section: &difference.section,
        key: &difference.key,
        values: [
            side(difference.left.as_ref()),
            side(difference.right.as_ref()),
        ],
    }
}

fn print(context: &mut Context, difference: &Difference, sites: [&str; 2]) -> Outcome {
    let output = &mut context.output;
    let heading = format!("[{}] {}", difference.section, difference.key);
    output.line(output.style.strong(&clean(&heading)))?;
    let hidden = difference.is_hidden();
    let mut table = Table::new().indent(2);
    for (site, side) in sites.into_iter().zip([&difference.left, &difference.right]) {
        let Some(side) = side else {
            table.row(vec![site.into(), Cell::new("not set").tone(Tone::Faint)]);
            continue;
        };
        let value = match hidden {
            true => format!("{} (differs)", side.value),
            false => side.value.clone(),
        };
        let origin = match side.origin.layer {
            LayerKind::Defaults => "built in".to_owned(),
            _ => side.origin.to_string(),
        };
        table.row(vec![
            site.into(),
            value.into(),
            Cell::new(origin).tone(Tone::Faint),
        ]);
    }
    Ok(output.table(&table)?)
}
