//! `metactl import`: configurations of others become instances.

use std::path::Path;

use metactl_lifecycle::Import;
use serde::Serialize;

use super::Context;
use crate::args;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts<'a> {
    dry_run: bool,
    imports: Vec<One<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct One<'a> {
    file: &'a Path,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    app_layer: &'a Path,
    local_layer: &'a Path,
    left: Vec<Left<'a>>,
}

#[derive(Serialize)]
struct Left<'a> {
    line: usize,
    what: &'a str,
    why: &'a str,
}

/// Reads, says what becomes of each file, and writes it unless told not to.
pub fn run(context: &mut Context, args: &args::Import) -> Outcome {
    let imports = context.manager.import(args.from.into(), &args.path)?;
    if context.output.json {
        context.output.facts(&Facts {
            dry_run: args.dry_run,
            imports: imports.iter().map(facts).collect(),
        })?;
    } else {
        tell(context, &imports)?;
    }
    if !args.dry_run {
        let written = context.manager.import_write(&imports)?;
        if !context.output.json && !written.is_empty() {
            let paths: Vec<String> = written
                .iter()
                .map(|path| clean(&path.display().to_string()).into_owned())
                .collect();
            for path in &paths {
                context.output.remark(format!("wrote {path}"))?;
            }
            context.output.undo(&format!("rm {}", paths.join(" ")))?;
            context.output.remark(
                "Next: commit each imported/NAME.metactl as .metactl of its repository, then metactl NAME deploy",
            )?;
        }
    } else if !context.output.json {
        context.output.remark("nothing was written (--dry-run)")?;
    }
    let refused = imports
        .iter()
        .filter(|import| import.refused.is_some())
        .count();
    if refused > 0 {
        let message = format!("{refused} of {} files cannot be imported", imports.len());
        return Err(Failure::new(exit::FINDINGS, message).hint("the table says why"));
    }
    Ok(())
}

fn facts(import: &Import) -> One<'_> {
    let left = import.imported.left.iter();
    One {
        file: &import.file,
        instance: &import.name,
        refused: import.refused.as_deref(),
        app_layer: &import.app_layer,
        local_layer: &import.local_layer,
        left: left
            .map(|left| Left {
                line: left.line,
                what: &left.what,
                why: &left.why,
            })
            .collect(),
    }
}

/// One table of all, then every line that is left behind.
fn tell(context: &mut Context, imports: &[Import]) -> Outcome {
    let mut table = Table::new();
    if !context.output.quiet {
        table.head(&["FILE", "INSTANCE", "PLATFORM", "PORT", "USER", "LEFT", ""]);
    }
    for import in imports {
        table.row(row(import));
    }
    context.output.table(&table)?;
    for import in imports {
        let file = clean(&import.file.display().to_string()).into_owned();
        for left in &import.imported.left {
            let what = clean(left.what.lines().next().unwrap_or("")).into_owned();
            let why = context.output.style.faint(&clean(&left.why));
            context
                .output
                .line(format!("{file}:{}: {what}\n    {why}", left.line))?;
        }
    }
    Ok(())
}

fn row(import: &Import) -> Vec<Cell> {
    let of_daemon = |key: &str| {
        let layers = [&import.imported.app, &import.imported.local];
        let sections = ["daemon.webapp", "daemon.main"];
        let all = layers
            .into_iter()
            .flat_map(|layer| sections.map(|section| layer.get(section, key)));
        all.flatten().next().unwrap_or("-").to_owned()
    };
    let user = import.imported.local.get("sandbox", "user").unwrap_or("-");
    let left = import.imported.left.len();
    vec![
        Cell::new(
            import
                .file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy(),
        ),
        Cell::new(&import.name),
        Cell::new(of_daemon("platform")),
        Cell::new(of_daemon("port")).right(),
        Cell::new(user),
        Cell::new(left.to_string()).right(),
        Cell::new(import.refused.as_deref().unwrap_or_default()).tone(Tone::Bad),
    ]
}
