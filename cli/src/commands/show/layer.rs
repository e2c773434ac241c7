//! `metactl APP show --layer LAYER`: what one layer says on its own.

use metactl_bundles::layers::{Config, LayerKind, Line, Said, Selector, own};
use metactl_lifecycle::LifecycleError;
use serde::Serialize;

use super::OriginFacts;
use crate::commands::Context;
use crate::failure::Outcome;
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
struct Facts<'a> {
    layer: &'static str,
    files: Vec<String>,
    lines: Vec<LineFacts<'a>>,
}

#[derive(Serialize)]
struct LineFacts<'a> {
    section: &'a str,
    key: &'a str,
    /// `None` where the line takes away what lower layers say.
    value: Option<&'a str>,
    origin: OriginFacts,
}

/// Prints the lines of a layer as they are written.
pub fn run(
    context: &mut Context,
    config: &Config,
    layer: LayerKind,
    selector: Option<&Selector>,
    secrets: bool,
) -> Outcome {
    let lines = own(config, layer, selector).map_err(LifecycleError::from)?;
    let of_layer = |source: &&metactl_bundles::layers::Source| source.layer == layer;
    let files = config.sources().iter().filter(of_layer);
    let files: Vec<String> = files
        .map(|source| source.path.display().to_string())
        .collect();
    if context.output.json {
        let facts = Facts {
            layer: layer.name(),
            files,
            lines: lines.iter().map(|line| facts(line, secrets)).collect(),
        };
        return context.output.facts(&facts);
    }
    if files.is_empty() && layer != LayerKind::Defaults {
        let text = format!("# there is no file of the {} layer", layer.name());
        return Ok(context.output.remark(text)?);
    }
    let same = |a: &Line, b: &Line| a.section == b.section && a.origin.file == b.origin.file;
    for (number, section) in lines.chunk_by(same).enumerate() {
        if number > 0 {
            context.output.line("")?;
        }
        print_section(context, section, secrets)?;
    }
    Ok(())
}

fn value(line: &Line, secrets: bool) -> Option<&str> {
    match &line.said {
        Said::Unset => None,
        Said::Value { text, .. } if secrets => Some(text),
        Said::Value { shown, .. } => Some(shown),
    }
}

fn facts(line: &Line, secrets: bool) -> LineFacts<'_> {
    LineFacts {
        section: &line.section,
        key: &line.key,
        value: value(line, secrets),
        origin: (&line.origin).into(),
    }
}

fn print_section(context: &mut Context, section: &[Line], secrets: bool) -> Outcome {
    let mut table = Table::new();
    for line in section {
        let text = match value(line, secrets) {
            None => format!("unset {}", line.key),
            Some(value) => format!("{} = {value}", line.key),
        };
        let mut texts = text.lines();
        let first = texts.next().unwrap_or_default();
        let origin = Cell::new(format!("# {}", line.origin)).tone(Tone::Faint);
        table.row(vec![Cell::new(first.trim_end()), origin]);
        for more in texts {
            table.row(vec![Cell::new(format!("    {more}"))]);
        }
    }
    let output = &mut context.output;
    let heading = clean(&format!("[{}]", section[0].section)).into_owned();
    output.line(output.style.strong(&heading))?;
    Ok(output.table(&table)?)
}
