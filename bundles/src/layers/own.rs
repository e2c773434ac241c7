//! What one layer says on its own, as written: nothing merged, no name replaced.

use std::sync::Arc;

use super::show::Selector;
use super::{Config, LayerKind, Origin, Source};
use crate::diagnostics::{Collector, Report};
use crate::ini::{self, Content};
use crate::keys::{self, SectionMeaning};
use crate::redact;

/// A line of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The section as written: `webapp` stays `webapp`.
    pub section: String,
    /// The key as written; `*` for `unset *`.
    pub key: String,
    /// What is said about it.
    pub said: Said,
    /// Where.
    pub origin: Origin,
}

/// What a line says about its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// This value.
    Value {
        /// As written, in full.
        text: String,
        /// As written, without what must not be printed.
        shown: String,
    },
    /// `unset`.
    Unset,
}

/// The lines of a layer, in the order of its files. Of [`LayerKind::Defaults`]: what is built in for
/// the sections that `config` has.
///
/// # Errors
/// What the parser cannot read in them.
pub fn own(
    config: &Config,
    layer: LayerKind,
    selector: Option<&Selector>,
) -> Result<Vec<Line>, Report> {
    let mut lines = Vec::new();
    if layer == LayerKind::Defaults {
        lines = built_in(config);
    }
    let mut out = Collector::default();
    for source in config.sources() {
        if source.layer == layer {
            lines.extend(of_file(source, &mut out));
        }
    }
    out.finish()?;
    lines.retain(|line| selector.is_none_or(|selector| is_selected(config, line, selector)));
    Ok(lines)
}

fn of_file(source: &Source, out: &mut Collector) -> Vec<Line> {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let document = ini::parse(&source.path, text, out);
    let mut lines = Vec::new();
    for section in document.sections {
        let line = |key: &str, said, span: ini::Span| Line {
            section: section.name.to_string(),
            key: key.to_owned(),
            said,
            origin: Origin {
                layer: source.layer,
                file: Some(Arc::clone(&source.path)),
                line: span.line,
                column: span.start + 1,
            },
        };
        let taken = section.unset_all.map(|span| line("*", Said::Unset, span));
        lines.extend(taken);
        for entry in &section.entries {
            let said = match &entry.content {
                Content::Unset => Said::Unset,
                Content::Value(value) => Said::Value {
                    shown: shown(&entry.key, &value.text),
                    text: value.text.to_string(),
                },
            };
            lines.push(line(&entry.key, said, entry.span));
        }
    }
    lines
}

/// A value as it may be printed.
fn shown(key: &str, text: &str) -> String {
    // `env.NAME` of [build] is a variable, too.
    if redact::is_secret_name(key) && !text.is_empty() {
        return redact::MASK.to_owned();
    }
    redact::redact(text).into_owned()
}

/// Whether a line is about what was asked for, by whatever name.
fn is_selected(config: &Config, line: &Line, selector: &Selector) -> bool {
    let daemon = format!("daemon.{}", line.section);
    let section = match keys::section(&line.section) {
        SectionMeaning::Known(_) => &line.section,
        _ if config.section(&daemon).is_some() => &daemon,
        _ => &line.section,
    };
    let all_daemons = section == "daemon.*" && selector.section.starts_with("daemon.");
    if *section != selector.section && !all_daemons {
        return false;
    }
    let Some(key) = &selector.key else {
        return true;
    };
    let SectionMeaning::Known(spec) = keys::section(section) else {
        return false;
    };
    line.key == "*" || keys::find(spec, &line.key).is_some_and(|(_, name)| name == *key)
}

fn built_in(config: &Config) -> Vec<Line> {
    let mut lines = Vec::new();
    for section in config.sections() {
        let SectionMeaning::Known(spec) = keys::section(section) else {
            continue;
        };
        let platform = config
            .get(section, "platform")
            .map(|value| value.text.as_str());
        let rows = keys::rows().filter(|row| {
            row.section == spec && platform.is_none_or(|platform| row.serves(platform))
        });
        for row in rows {
            let Some(default) = row.default else { continue };
            lines.push(Line {
                section: section.to_owned(),
                key: row.name.to_owned(),
                said: Said::Value {
                    text: default.to_owned(),
                    shown: default.to_owned(),
                },
                origin: Origin::default_value(),
            });
        }
    }
    lines
}
