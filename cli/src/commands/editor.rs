//! `metactl APP config` and `revert`: the local layer as a whole.

use std::path::Path;

use metactl_bundles::edit::{Difference, Said};
use metactl_bundles::redact::{MASK, redact};
use metactl_lifecycle::edit::is_secret;
use metactl_lifecycle::{Answer, LifecycleError, Replaced};
use serde::Serialize;

use super::Context;
use super::edit::{print_warnings, short};
use crate::args::Revert;
use crate::failure::{Failure, Outcome};
use crate::output::{Style, ask, can_ask, clean};

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    file: &'a Path,
    changed: bool,
    keys: Vec<String>,
    warnings: &'a [String],
}

/// Opens the editor.
pub fn config(context: &mut Context) -> Outcome {
    let instance = context.instance()?;
    let style = context.output.style;
    let replaced = instance.edit_by_hand(&mut |fault| question(fault, style))?;
    print(context, instance.name(), &replaced)
}

/// What to do about a text that is not right; `None` when there is nobody to ask.
fn question(fault: &LifecycleError, style: Style) -> Option<Answer> {
    if !can_ask() {
        return None;
    }
    Failure::lifecycle(fault).report(style, false);
    loop {
        let answer = ask("(e)dit again, or e(x)it and leave everything as it was? ")?;
        match answer.as_str() {
            "e" | "E" => return Some(Answer::Again),
            "x" | "X" => return Some(Answer::Leave),
            _ => {}
        }
    }
}

/// Goes back.
pub fn revert(context: &mut Context, args: &Revert) -> Outcome {
    let instance = context.instance()?;
    let name = instance.name();
    if !args.yes {
        for difference in instance.reversion(args.last)? {
            context.output.remark(clean(&told(&difference)))?;
        }
        let last = if args.last { " --last" } else { "" };
        let question = format!("Go back to the earlier local layer of {name}?");
        context.confirm(&question, &format!("metactl {name} revert{last}"))?;
    }
    let replaced = instance.revert(args.last)?;
    print(context, name, &replaced)
}

fn print(context: &mut Context, name: &str, replaced: &Replaced) -> Outcome {
    if context.output.json {
        let keys = replaced.differences.iter();
        return context.output.facts(&Facts {
            instance: name,
            file: &replaced.file,
            changed: replaced.changed,
            keys: keys
                .map(|found| format!("{}:{}", found.section, found.key))
                .collect(),
            warnings: &replaced.warnings,
        });
    }
    let short = short(&replaced.file);
    if !replaced.changed {
        context.output.remark(format!("{short} is unchanged"))?;
        return Ok(());
    }
    for difference in &replaced.differences {
        context.output.remark(clean(&told(difference)))?;
    }
    print_warnings(context, &replaced.warnings)?;
    let next = match replaced.runs {
        true => format!("{short}: valid, not running yet: metactl {name} restart"),
        false => format!("{short}: valid"),
    };
    context.output.remark(next)?;
    Ok(context
        .output
        .undo(&format!("metactl {name} revert --last"))?)
}

/// `env:DB_HOST = b   (was a)`
fn told(difference: &Difference) -> String {
    let Difference {
        section,
        key,
        before,
        after,
    } = difference;
    let shown = |value: &str| match is_secret(section, key, value) {
        true => MASK.to_owned(),
        false => redact(value).replace('\n', " "),
    };
    let now = match after {
        Some(Said::Value(value)) => format!("{section}:{key} = {}", shown(value)),
        Some(Said::Unset) => format!("unset {section}:{key}"),
        None => format!("nothing of {section}:{key}"),
    };
    match before {
        Some(Said::Value(value)) => format!("  {now}   (was {})", shown(value)),
        Some(Said::Unset) => format!("  {now}   (was unset)"),
        None => format!("  {now}   (new)"),
    }
}
