//! `metactl APP set`, `unset`, `allow` and `get`: single keys of the local layer.

use std::path::Path;

use metactl_bundles::layers::Origin;
use metactl_lifecycle::{ChangedKey, Edit, EditedLayer, Instance, Reload};
use serde::Serialize;

use super::Context;
use crate::args::{Allow, Get, Set, Unset};
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::clean;

/// What stands for a value that comes by standard input: on a command line everybody on the server can read it.
const FROM_INPUT: &str = "-";
/// The section that `allow` writes to.
pub const ACCEPT: &str = "firewall.out.accept";

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    file: &'a Path,
    changed: bool,
    keys: Vec<KeyFacts<'a>>,
    needed: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<String>,
    /// Of a change of accept and reject lists: what became of it in what runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reload: Option<super::reload::Facts<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyFacts<'a> {
    section: &'a str,
    key: &'a str,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
}

#[derive(Serialize)]
struct ValueFacts<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
    layer: &'static str,
    origin: String,
}

/// Prints one value and nothing else.
pub fn get(context: &mut Context, args: &Get) -> Outcome {
    let found = context.instance()?.value(&args.key)?;
    if found.sensitive && !args.secrets {
        let message = format!("{}:{} holds a password", found.section, found.key);
        return Err(Failure::new(exit::USAGE, message).hint("--secrets prints it all the same"));
    }
    if context.output.json {
        return context.output.facts(&ValueFacts {
            section: &found.section,
            key: &found.key,
            value: &found.value,
            layer: found.origin.layer.name(),
            origin: found.origin.to_string(),
        });
    }
    Ok(context.output.line(clean(&found.value))?)
}

/// Writes values.
pub fn set(context: &mut Context, args: &Set) -> Outcome {
    let mut edits = Vec::new();
    let mut read = false;
    for word in &args.values {
        let (key, mut value) = split(word, "KEY=VALUE", "metactl APP unset KEY takes one back")?;
        if value == FROM_INPUT {
            if read {
                let message = "only one value can be read from standard input (KEY=-)";
                return Err(Failure::usage(message).hint("set the others by commands of their own"));
            }
            read = true;
            // Who may not, or misspelt the name, is told before somebody types a password.
            context.instance()?;
            value = input::value(&clean(&key))?;
        }
        edits.push(Edit::Set { key, value });
    }
    edits.extend(args.gone.iter().map(|key| Edit::Gone { key: key.clone() }));
    edits.extend(
        args.inherit
            .iter()
            .map(|key| Edit::Inherit { key: key.clone() }),
    );
    change(context, &edits, "set", true)
}

/// Takes values back.
pub fn unset(context: &mut Context, args: &Unset) -> Outcome {
    let edit = |key: &String| {
        let key = key.clone();
        match (args.gone, args.inherit) {
            (true, _) => Edit::Gone { key },
            (_, true) => Edit::Inherit { key },
            _ => Edit::Unset { key },
        }
    };
    let edits: Vec<Edit> = args.keys.iter().map(edit).collect();
    change(context, &edits, "unset", true)
}

/// Writes entries of the accept list.
pub fn allow(context: &mut Context, args: &Allow) -> Outcome {
    let mut edits = Vec::new();
    for word in &args.entries {
        let hint = "metactl myapp allow smtp=smtp.example.org:25";
        let (name, value) = split(word, "NAME=DESTINATION", hint)?;
        let key = format!("{ACCEPT}:{name}");
        edits.push(Edit::Set { key, value });
    }
    change(context, &edits, "allow", !args.later)
}

fn split(word: &str, form: &str, hint: &str) -> Result<(String, String), Failure> {
    match word.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        // The word may be a password that lost its key: it is not repeated.
        _ => Err(Failure::usage(format!("this is not {form}")).hint(hint)),
    }
}

/// Changes the local layer. Accept and reject lists alone are made so in what runs, too, if `live` says so.
pub fn change(context: &mut Context, edits: &[Edit], doing: &str, live: bool) -> Outcome {
    let instance = context.instance()?;
    let name = instance.name();
    let edited = instance.edit(edits, doing)?;
    let undo = edited
        .undo
        .as_ref()
        .map(|undo| format!("metactl {name} {undo}"));
    let changed = edited.keys.iter().filter(|key| key.changed);
    let sections: Vec<&str> = changed.map(|key| key.section.as_str()).collect();
    let only = |what: fn(&&str) -> bool| edited.runs && sections.iter().all(what);
    let only_lists = only(|section| {
        let list = section.strip_prefix("firewall.");
        list.is_some_and(|list| list.ends_with(".accept") || list.ends_with(".reject"))
    });
    let only_firewall = only(|section| section.starts_with("firewall."));
    if !context.output.json {
        let short = short(&edited.file);
        for key in &edited.keys {
            context.output.remark(clean(&told(&short, key)))?;
        }
        print_warnings(context, &edited.warnings)?;
    }
    let reload = match live && only_lists {
        true => Some(reload(context, &instance)?),
        false => None,
    };
    if context.output.json {
        return context.output.facts(&Facts {
            instance: name,
            file: &edited.file,
            changed: edited.changed,
            keys: edited.keys.iter().map(facts).collect(),
            needed: edited
                .needed
                .iter()
                .map(|needed| needed.name.as_str())
                .collect(),
            undo,
            reload: reload
                .as_ref()
                .map(|reload| super::reload::facts(name, reload)),
            warnings: &edited.warnings,
        });
    }
    match (&reload, edited.changed, edited.runs) {
        (Some(reload), _, _) => super::reload::print(context, &instance, reload)?,
        (None, false, _) => {
            let line = format!("{} is unchanged", short(&edited.file));
            context.output.remark(line)?;
        }
        (None, true, true) => {
            let how = if only_firewall { "reload" } else { "restart" };
            let line = format!("valid, not running yet: metactl {name} {how}");
            context.output.remark(line)?;
        }
        (None, true, false) => context.output.remark("valid")?,
    }
    print_needed(context, &edited)?;
    match undo {
        Some(undo) => Ok(context.output.undo(&clean(&undo))?),
        None => Ok(()),
    }
}

/// The layer is written already: what fails here is told with the way on.
fn reload(context: &Context, instance: &Instance) -> Result<Reload, Failure> {
    let mut steps = context.steps();
    instance.reload(false, &mut steps).map_err(|error| {
        let name = instance.name();
        Failure::from(error).hint(format!(
            "it is written, and not in force yet: metactl {name} reload"
        ))
    })
}

fn facts(key: &ChangedKey) -> KeyFacts<'_> {
    KeyFacts {
        section: &key.section,
        key: &key.key,
        changed: key.changed,
        line: key.line,
        effective: key.effective.as_ref().map(|(value, _)| value.as_str()),
        origin: key.effective.as_ref().map(|(_, origin)| origin.to_string()),
    }
}

/// `nodes/myapp.conf:9  smtp = smtp.example.org:25`
fn told(short: &str, key: &ChangedKey) -> String {
    let address = format!("{}:{}", key.section, key.key);
    let effective = |(value, origin): &(String, Origin)| format!("{address} is {value} ({origin})");
    match (key.line, &key.written) {
        (Some(line), Some(written)) => {
            let same = if key.changed { "" } else { "   (as before)" };
            format!("{short}:{line}  {written}{same}")
        }
        _ => match &key.effective {
            Some(found) => format!("{short} says nothing of it now; {}", effective(found)),
            None => {
                format!("{short} says nothing of {address} now, and neither does anything else")
            }
        },
    }
}

/// `nodes/myapp.conf`
pub fn short(file: &Path) -> String {
    let parts: Vec<_> = file.components().collect();
    let last: std::path::PathBuf = parts[parts.len().saturating_sub(2)..].iter().collect();
    clean(&last.display().to_string()).into_owned()
}

/// Prints what stops nothing.
pub fn print_warnings(context: &mut Context, warnings: &[String]) -> Outcome {
    for warning in warnings {
        let warning = context.output.style.warn(&clean(warning.trim_end()));
        context.output.remark(warning)?;
    }
    Ok(())
}

fn print_needed(context: &mut Context, edited: &EditedLayer) -> Outcome {
    for needed in &edited.needed {
        let line = format!("still needed: {}   ({})", needed.name, needed.origin);
        context.output.remark(clean(&line))?;
    }
    Ok(())
}
