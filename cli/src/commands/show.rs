//! `metactl APP show`: the merged configuration, in the language in which it was written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use metactl_bundles::keys::suggest::nearest;
use metactl_bundles::layers::{Config, LayerKind, Origin, Value};
use metactl_bundles::redact::{MASK, is_secret_name, redact};
use serde::Serialize;

use super::Context;
use crate::args::Show;
use crate::exit;
use crate::failure::{Failure, Outcome};
use crate::output::clean;
use crate::output::table::{Cell, Table, Tone};

/// Prints all of it, a section, or one value.
pub fn run(context: &mut Context, args: &Show) -> Outcome {
    let config = context.instance()?.config()?;
    let view = View {
        config: &config,
        args,
    };
    let (section, key) = match &args.what {
        None => (None, None),
        Some(what) => match what.split_once(':') {
            None => (Some(what.as_str()), None),
            Some((section, key)) => (Some(section), Some(key)),
        },
    };
    if let Some(section) = section {
        view.check(section, key)?;
    }
    let chosen: Vec<&str> = match section {
        Some(section) => vec![section],
        None => config.sections().collect(),
    };
    if context.output.json {
        return context.output.facts(&view.facts(&chosen, key));
    }
    if let (Some(section), Some(key)) = (section, key) {
        return view.print_value(context, section, key);
    }
    let mut first = true;
    for name in chosen {
        if !std::mem::take(&mut first) {
            context.output.line("")?;
        }
        view.print_section(context, name)?;
    }
    view.print_requests(context)
}

struct View<'a> {
    config: &'a Config,
    args: &'a Show,
}

#[derive(Serialize)]
struct Facts {
    sections: BTreeMap<String, BTreeMap<String, ValueFacts>>,
}

#[derive(Serialize)]
struct ValueFacts {
    value: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    redacted: bool,
    origin: OriginFacts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overrides: Vec<OriginFacts>,
}

#[derive(Serialize)]
struct OriginFacts {
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

impl View<'_> {
    /// The section, and the key in it, must be there.
    fn check(&self, section: &str, key: Option<&str>) -> Outcome {
        let Some(mut values) = self.config.section(section) else {
            let close = nearest(section, self.config.sections());
            return Err(absent(
                format!("there is no section [{section}]"),
                close,
                |name| format!("[{name}]"),
            ));
        };
        let Some(key) = key else { return Ok(()) };
        if values.any(|(name, _)| name == key) {
            return Ok(());
        }
        let names = self
            .config
            .section(section)
            .into_iter()
            .flatten()
            .map(|(name, _)| name);
        let close = nearest(key, names);
        Err(absent(
            format!("[{section}] has no value for {key:?}"),
            close,
            str::to_owned,
        ))
    }

    fn text(&self, section: &str, key: &str, value: &Value) -> String {
        if self.args.secrets {
            return value.text.clone();
        }
        self.config
            .shown(section, key)
            .unwrap_or_default()
            .to_owned()
    }

    fn print_value(&self, context: &mut Context, section: &str, key: &str) -> Outcome {
        let Some(value) = self.config.get(section, key) else {
            return Ok(());
        };
        // Alone on its line, so that a script can read it.
        context
            .output
            .line(clean(&self.text(section, key, value)))?;
        if self.args.origin {
            let origin = context.output.style.faint(&origin_text(key, value));
            context.output.line(origin)?;
        }
        Ok(())
    }

    fn print_section(&self, context: &mut Context, name: &str) -> Outcome {
        let style = context.output.style;
        context
            .output
            .line(style.strong(&format!("[{}]", clean(name))))?;
        let mut table = Table::new();
        for (key, value) in self.config.section(name).into_iter().flatten() {
            let text = self.text(name, key, value);
            let mut lines = text.lines();
            let setting = format!("{key} = {}", lines.next().unwrap_or_default());
            let mut row = vec![Cell::new(setting.trim_end())];
            if self.args.origin {
                row.push(Cell::new(origin_text(key, value)).tone(Tone::Faint));
            }
            table.row(row);
            // Further lines are indented, as they are written.
            for line in lines {
                table.row(vec![Cell::new(format!("    {line}"))]);
            }
        }
        Ok(context.output.table(&table)?)
    }

    /// What the application asks for and does not get is part of what is in force.
    fn print_requests(&self, context: &mut Context) -> Outcome {
        if self.args.what.is_some() || context.output.quiet {
            return Ok(());
        }
        let style = context.output.style;
        for request in self.config.requests() {
            context.output.line("")?;
            let what = format!(
                "# {}: asked for, not granted: [{}] {} = {}",
                request.origin, request.section, request.key, request.value
            );
            context.output.line(style.warn(&clean(&what)))?;
            context
                .output
                .line(style.warn(&clean(&format!("# {}", request.reason))))?;
            for line in request.grant.lines() {
                context.output.line(clean(&format!("#   {line}")))?;
            }
        }
        Ok(())
    }

    fn facts(&self, sections: &[&str], key: Option<&str>) -> Facts {
        let values = |section: &str| {
            let all = self.config.section(section).into_iter().flatten();
            all.filter(|(name, _)| key.is_none_or(|key| key == *name))
                .map(|(name, value)| {
                    let facts = ValueFacts {
                        value: self.text(section, name, value),
                        redacted: value.sensitive && !self.args.secrets,
                        origin: (&value.origin).into(),
                        overrides: value
                            .overrides
                            .iter()
                            .map(|(origin, _)| origin.into())
                            .collect(),
                    };
                    (name.to_owned(), facts)
                })
                .collect()
        };
        Facts {
            sections: sections
                .iter()
                .map(|name| ((*name).to_owned(), values(name)))
                .collect(),
        }
    }
}

/// `# local, nodes/myapp.conf:3, instead of 9000 (.metactl:2)`
fn origin_text(key: &str, value: &Value) -> String {
    let mut text = format!("# {}", value.origin.layer.name());
    if value.origin.layer != LayerKind::Defaults {
        text.push_str(&format!(", {}", value.origin));
    }
    let mut lead = ", instead of ";
    for (origin, raw) in value.overrides.iter().rev() {
        let hidden = value.sensitive || is_secret_name(key);
        let raw = if hidden {
            Cow::Borrowed(MASK)
        } else {
            redact(raw)
        };
        text.push_str(&format!("{lead}{raw} ({origin})"));
        lead = ", ";
    }
    text
}

fn absent(message: String, close: Option<&str>, say: impl Fn(&str) -> String) -> Failure {
    let failure = Failure::new(exit::FAILED, message);
    match close {
        Some(name) => failure.hint(format!("did you mean {}?", say(name))),
        None => failure.hint("metactl APP show prints everything"),
    }
}
