//! The merged configuration for people: rows, and a text that the parser reads back.

use super::{Config, Origin};
use crate::diagnostics::{Diagnostic, Report, printable};
use crate::keys::{self, SECTIONS, SectionMeaning, suggest};
use crate::{redact, secrets};

/// Which part is shown: `section`, `section:key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The section, by its canonical name.
    pub section: String,
    /// The key, by its canonical name.
    pub key: Option<String>,
}

/// A line of `metactl APP show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// The value, without what must not be printed.
    pub value: String,
    /// The value as written, its names not replaced, without what must not be printed.
    pub written: String,
    /// Where it was written.
    pub origin: Origin,
    /// What it replaced, lowest layer first, as written, without what must not be printed.
    pub overrides: Vec<(Origin, String)>,
    /// Whether something is not printed.
    pub sensitive: bool,
}

impl Config {
    /// Understands `section` or `section:key`; `webapp` alone may be `daemon.webapp`.
    ///
    /// # Errors
    /// A section or key that there cannot be, with a suggestion.
    pub fn select(&self, text: &str) -> Result<Selector, Report> {
        let (section, key) = match text.split_once(':') {
            Some((section, key)) => (section.trim(), Some(key.trim())),
            None => (text.trim(), None),
        };
        let daemon = format!("daemon.{section}");
        let section = if self.section(section).is_none() && self.section(&daemon).is_some() {
            &daemon
        } else {
            section
        };
        let SectionMeaning::Known(spec) = keys::section(section) else {
            let names = self.sections().chain(SECTIONS.iter().map(|spec| spec.name));
            let hint = match suggest::nearest(section, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "sections here are {}",
                    self.sections().collect::<Vec<_>>().join(", ")
                ),
            };
            return Err(
                Diagnostic::error(format!("there is no section `{section}`"))
                    .hint(hint)
                    .into(),
            );
        };
        let key = match key {
            None => None,
            Some(key) => match keys::find(spec, key) {
                Some((row, canonical)) => {
                    let open = row.name.strip_suffix('*');
                    let name = open.map(|prefix| &canonical[prefix.len()..]);
                    if let Some(Err(problem)) = name.map(|name| row.kind.check_name(name)) {
                        let message = format!("`{key}` in [{section}] {problem}");
                        return Err(Diagnostic::error(message).into());
                    }
                    Some(canonical.into_owned())
                }
                None => {
                    let hint = match suggest::nearest(key, keys::names_in(spec)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "`metactl help keys` lists all keys".to_owned(),
                    };
                    let message = format!("there is no key `{key}` in [{section}]");
                    return Err(Diagnostic::error(message).hint(hint).into());
                }
            },
        };
        Ok(Selector {
            section: section.to_owned(),
            key,
        })
    }

    /// The effective values, in the order of the key table; with a selector, only those.
    pub fn rows(&self, selector: Option<&Selector>) -> Vec<Row> {
        let mut rows = Vec::new();
        for values in &self.sections {
            let section = values.name.as_str();
            for entry in values.all() {
                let selected = selector.is_none_or(|selector| {
                    selector.section == section
                        && selector.key.as_ref().is_none_or(|key| entry.key == **key)
                });
                if !selected {
                    continue;
                }
                let secret = redact::is_secret_key(section, &entry.key);
                let hide = |text: &str| match secret && !text.is_empty() {
                    true => redact::MASK.to_owned(),
                    false if section == redact::SECRETS => secrets::shown(text).to_owned(),
                    false => redact::redact(text).into_owned(),
                };
                let overrides = entry.value.overrides.iter();
                rows.push(Row {
                    section: section.to_owned(),
                    key: entry.key.to_string(),
                    value: entry.shown().to_owned(),
                    written: hide(&entry.value.raw),
                    origin: entry.value.origin.clone(),
                    overrides: overrides
                        .map(|(origin, text)| (origin.clone(), hide(text)))
                        .collect(),
                    sensitive: entry.value.sensitive,
                });
            }
        }
        rows
    }
}

/// The rows as configuration. With `origin`, where each value was written stands above it as a
/// comment, with what it replaced.
pub fn render(rows: &[Row], origin: bool) -> String {
    let mut out = String::new();
    let mut section = None;
    for row in rows {
        if section != Some(&row.section) {
            if section.is_some() {
                out.push('\n');
            }
            out.push_str(&format!("[{}]\n", row.section));
            section = Some(&row.section);
        }
        let value = printable(&row.value).replace('\n', "\n    ");
        let line = format!("{} = {value}", printable(&row.key));
        out.push_str(line.trim_end());
        out.push('\n');
        if origin {
            out.push_str(&format!("    # {}\n", describe(row)));
        }
    }
    out
}

/// `nodes/myapp.conf:3, was 9000 (.metactl:2)`.
fn describe(row: &Row) -> String {
    let mut text = row.origin.to_string();
    for (origin, value) in row.overrides.iter().rev() {
        let mut lines = printable(value).lines().next().unwrap_or("").to_owned();
        if value.contains('\n') {
            lines.push_str(" ...");
        }
        text.push_str(&format!(", was {lines} ({origin})"));
    }
    text
}
