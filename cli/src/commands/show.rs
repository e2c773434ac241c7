//! `metactl APP show`: the merged configuration, in the language in which it was written.

mod layer;

use std::collections::BTreeMap;

use metactl_bundles::layers::{Config, LayerKind, Origin, Row, Selector};
use metactl_lifecycle::LifecycleError;
use serde::Serialize;

use super::Context;
use crate::args::{Dump, Show};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

/// Prints what the layers say: all of it, a section, or one value.
pub fn run(context: &mut Context, args: &Show) -> Outcome {
    let config = context.instance()?.config()?;
    let selector = match &args.what {
        None => None,
        Some(what) => Some(config.select(what).map_err(LifecycleError::Question)?),
    };
    if let Some(layer) = args.layer {
        return layer::run(
            context,
            &config,
            layer.into(),
            selector.as_ref(),
            args.secrets,
        );
    }
    let how = How {
        origin: args.origin,
        as_written: args.as_written,
        secrets: args.secrets,
    };
    let mut rows = how.rows(&config, selector.as_ref());
    if selector.is_none() {
        rows.retain(|row| row.origin.layer != LayerKind::Defaults);
    }
    if context.output.json {
        return context.output.facts(&facts(&rows, args.secrets));
    }
    match selector {
        Some(Selector {
            section,
            key: Some(key),
        }) => {
            let Some(row) = rows.first() else {
                return Err(unset(&section, &key));
            };
            print_value(context, how, row)
        }
        Some(_) => print_sections(context, how, &rows),
        None => {
            print_sections(context, how, &rows)?;
            print_requests(context, &config)
        }
    }
}

/// Prints everything that is in force, also what is built in.
pub fn dump(context: &mut Context, args: &Dump) -> Outcome {
    let config = context.instance()?.config()?;
    let how = How {
        origin: args.origin,
        as_written: args.as_written,
        secrets: args.secrets,
    };
    let rows = how.rows(&config, None);
    if context.output.json {
        return context.output.facts(&facts(&rows, args.secrets));
    }
    print_sections(context, how, &rows)?;
    print_requests(context, &config)
}

/// What of each value is printed.
#[derive(Clone, Copy)]
struct How {
    origin: bool,
    as_written: bool,
    secrets: bool,
}

impl How {
    fn rows(self, config: &Config, selector: Option<&Selector>) -> Vec<Row> {
        let mut rows = config.rows(selector);
        for row in &mut rows {
            let value = config.get(&row.section, &row.key);
            match (value, self.as_written, self.secrets) {
                (Some(value), true, true) => row.value = value.raw.to_string(),
                (Some(value), false, true) => row.value = value.text.to_string(),
                (_, true, false) => row.value.clone_from(&row.written),
                _ => {}
            }
        }
        rows
    }
}

#[derive(Serialize)]
struct Facts<'a> {
    sections: BTreeMap<&'a str, BTreeMap<&'a str, ValueFacts<'a>>>,
}

#[derive(Serialize)]
struct ValueFacts<'a> {
    value: &'a str,
    /// Whether something is not printed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    origin: OriginFacts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<OriginFacts>,
}

/// Where a value was written, in JSON.
#[derive(Serialize)]
pub(super) struct OriginFacts {
    layer: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

impl From<&Origin> for OriginFacts {
    fn from(origin: &Origin) -> OriginFacts {
        OriginFacts {
            layer: origin.layer.name(),
            file: origin.file.as_ref().map(|file| file.display().to_string()),
            line: (origin.line > 0).then_some(origin.line),
        }
    }
}

fn facts(rows: &[Row], revealed: bool) -> Facts<'_> {
    let mut sections = BTreeMap::<&str, BTreeMap<&str, ValueFacts<'_>>>::new();
    for row in rows {
        let value = ValueFacts {
            value: &row.value,
            redacted: row.sensitive && !revealed,
            origin: (&row.origin).into(),
            overrides: row
                .overrides
                .iter()
                .map(|(origin, _)| origin.into())
                .collect(),
        };
        sections
            .entry(&row.section)
            .or_default()
            .insert(&row.key, value);
    }
    Facts { sections }
}

/// The value alone on its line, so that a script can read it.
fn print_value(context: &mut Context, how: How, row: &Row) -> Outcome {
    context.output.line(clean(&row.value))?;
    if how.origin {
        let origin = context.output.style.faint(&clean(&origin_text(row)));
        context.output.line(origin)?;
    }
    Ok(())
}

fn print_sections(context: &mut Context, how: How, rows: &[Row]) -> Outcome {
    let output = &mut context.output;
    let style = output.style;
    for (number, section) in rows.chunk_by(|a, b| a.section == b.section).enumerate() {
        if number > 0 {
            output.line("")?;
        }
        let mut table = Table::new();
        for row in section {
            let mut lines = row.value.lines();
            let setting = format!("{} = {}", row.key, lines.next().unwrap_or_default());
            let mut cells = vec![Cell::new(setting.trim_end())];
            if how.origin {
                cells.push(Cell::new(origin_text(row)).tone(Tone::Faint));
            }
            table.row(cells);
            // Further lines are indented, as they are written.
            for line in lines {
                table.row(vec![Cell::new(format!("    {line}"))]);
            }
        }
        output.line(style.strong(&clean(&format!("[{}]", section[0].section))))?;
        output.table(&table)?;
    }
    Ok(())
}

/// What the application asks for and does not get is part of what is in force.
fn print_requests(context: &mut Context, config: &Config) -> Outcome {
    let style = context.output.style;
    for request in config.requests() {
        let what = format!(
            "# {}: asked for, not granted: [{}] {} = {}\n# {}; granted by:",
            request.origin, request.section, request.key, request.value, request.reason
        );
        context.output.remark("")?;
        for line in clean(&what).lines() {
            context.output.remark(style.warn(line))?;
        }
        for line in request.grant.lines() {
            context.output.remark(clean(&format!("#   {line}")))?;
        }
    }
    Ok(())
}

/// `# local, nodes/myapp.conf:3, instead of 9000 (.metactl:2)`
fn origin_text(row: &Row) -> String {
    let mut text = format!("# {}", row.origin.layer.name());
    if row.origin.layer != LayerKind::Defaults {
        text.push_str(&format!(", {}", row.origin));
    }
    let mut lead = ", instead of ";
    for (origin, replaced) in row.overrides.iter().rev() {
        text.push_str(&format!("{lead}{replaced} ({origin})"));
        lead = ", ";
    }
    text
}

fn unset(section: &str, key: &str) -> Failure {
    Failure::new(
        exit::FAILED,
        format!("[{section}] {key} is not set, and has no default"),
    )
    .hint(format!(
        "metactl APP show {section} prints what is set there"
    ))
}
