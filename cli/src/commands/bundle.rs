//! `metactl APP bundle`: everything that the instance sees, reaches and may do, on disk.

use std::path::{Path, PathBuf};

use metactl_lifecycle::{Instance, Materialized};
use serde::Serialize;

use super::Context;
use crate::args::Bundle;
use crate::failure::Outcome;
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts<'a> {
    instance: &'a str,
    dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<bool>,
    entries: Vec<Entry<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    dir: &'a Path,
}

/// Writes the bundle that a start would run, or a copy for auditors.
pub fn run(context: &mut Context, args: &Bundle) -> Outcome {
    let instance = context.instance()?;
    match &args.redacted {
        Some(dir) => redacted(context, &instance, dir),
        None => materialize(context, &instance),
    }
}

fn materialize(context: &mut Context, instance: &Instance) -> Outcome {
    let Materialized {
        dir,
        digest,
        in_use,
        entries,
        warnings,
    } = instance.bundle()?;
    if context.output.json {
        return context.output.facts(&Facts {
            instance: instance.name(),
            dir: &dir,
            digest: Some(&digest),
            in_use: Some(in_use),
            entries: entries
                .iter()
                .map(|(name, dir)| Entry { name, dir })
                .collect(),
            warnings: &warnings,
        });
    }
    for warning in &warnings {
        let warning = context.output.style.warn(&clean(warning));
        context.output.line(warning)?;
    }
    // The path alone for scripts, what it holds for people.
    context.output.line(clean(&dir.display().to_string()))?;
    if context.output.quiet {
        return Ok(());
    }
    context.output.table(&table(&dir, &entries))?;
    let name = instance.name();
    let next = if in_use {
        "It is the one in use.".to_owned()
    } else {
        format!("Next: metactl {name} restart runs it. Undo: nothing to undo, it is only written")
    };
    Ok(context.output.line(next)?)
}

fn table(dir: &Path, entries: &[(String, PathBuf)]) -> Table {
    let mut table = Table::new().indent(2);
    for (name, entry) in entries {
        let inside = entry.strip_prefix(dir).unwrap_or(entry);
        let config = inside.join("config.json").display().to_string();
        table.row(vec![name.into(), Cell::new(config).tone(Tone::Faint)]);
    }
    table.row(vec![
        "network".into(),
        Cell::new("network.json").tone(Tone::Faint),
    ]);
    table.row(vec![
        "origins".into(),
        Cell::new("manifest.json").tone(Tone::Faint),
    ]);
    table
}

fn redacted(context: &mut Context, instance: &Instance, dir: &Path) -> Outcome {
    instance.bundle_redacted(dir)?;
    if context.output.json {
        let (digest, in_use) = (None, None);
        return context.output.facts(&Facts {
            instance: instance.name(),
            dir,
            digest,
            in_use,
            entries: Vec::new(),
            warnings: &[],
        });
    }
    let dir = clean(&dir.display().to_string()).into_owned();
    context.output.remark(format!(
        "{}: a copy without passwords is in {dir}",
        instance.name()
    ))?;
    Ok(context.output.undo(&format!("rm -r {dir}"))?)
}
