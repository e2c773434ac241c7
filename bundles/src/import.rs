//! Configurations of others as layers: read, never run.
//!
//! | room | reads |
//! | --- | --- |
//! | [`shell`] | `KEY=value` lines as a shell has them, without a shell |
//! | [`jvmctl`] | a `.conf` of jvmctl |
//! | [`systemd`] | a unit of systemd |
//!
//! What is carried over is checked against the table of keys; everything else is listed with its
//! line and a reason, so that nothing gets lost in silence.

pub mod jvmctl;
pub mod shell;
pub mod systemd;

use std::collections::BTreeMap;

use crate::ini;
use crate::keys::{self, SectionMeaning};
use crate::redact;

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// The app layer: what describes the application, for `.metactl` in its repository.
    pub app: Layer,
    /// The local layer: what belongs to this server.
    pub local: Layer,
    /// What could not be carried over, in the order of the file.
    pub left: Vec<Left>,
}

/// A layer in the making: sections in the order of the table, keys as they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer(BTreeMap<(usize, String), Vec<(String, String)>>);

/// Something that could not be carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The line, from 1.
    pub line: usize,
    /// What it was, without what must not be printed.
    pub what: String,
    /// Why, and what to do about it.
    pub why: String,
}

impl Layer {
    /// The value of a key.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let mut sections = self.0.iter().filter(|((_, name), _)| name == section);
        let (_, entries) = sections.next()?;
        let found = entries.iter().find(|(name, _)| name == key)?;
        Some(&found.1)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The layer as configuration.
    pub fn text(&self) -> String {
        let sections = self.0.iter().map(|((_, name), entries)| {
            let lines = entries
                .iter()
                .filter_map(|(key, value)| ini::write_entry(key, value));
            format!("[{name}]\n{}", lines.collect::<String>())
        });
        sections.collect::<Vec<_>>().join("\n")
    }

    /// Says a key, or what is wrong with that. The last word counts.
    fn set(&mut self, section: &str, key: &str, value: &str) -> Result<(), String> {
        let SectionMeaning::Known(spec) = keys::section(section) else {
            return Err(format!("there is no [{section}]"));
        };
        let row = keys::find(spec, key).map(|(row, _)| row);
        let row = row.ok_or_else(|| format!("there is no `{key}` in [{section}]"))?;
        // A reference stands for a value that is not known here.
        if !value.contains("%(") || row.has_words() {
            row.kind
                .check(value)
                .map_err(|problem| format!("`{key}` in [{section}] {problem}"))?;
        }
        if row.name == "*" {
            row.kind
                .check_name(key)
                .map_err(|problem| format!("a name of [{section}] {problem}"))?;
        }
        if ini::write_entry(key, value).is_none() {
            return Err("it cannot be written in one value".to_owned());
        }
        let rank = keys::SECTIONS.iter().position(|known| known.name == spec);
        let place = (rank.unwrap_or_default(), section.to_owned());
        let entries = self.0.entry(place).or_default();
        match entries.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => value.clone_into(&mut entry.1),
            None => entries.push((key.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// As [`Layer::set`], behind what is there already, with a space between.
    fn append(&mut self, section: &str, key: &str, value: &str) -> Result<(), String> {
        match self.get(section, key) {
            Some(before) => {
                let both = format!("{before} {value}");
                self.set(section, key, &both)
            }
            None => self.set(section, key, value),
        }
    }
}

impl Imported {
    fn leave(&mut self, line: usize, what: &str, why: impl Into<String>) {
        let what = match what.split_once('=') {
            Some((key, _)) if redact::is_secret_name(key) => format!("{key}={}", redact::MASK),
            _ => redact::redact(what).into_owned(),
        };
        let short: String = what.chars().take(120).collect();
        self.left.push(Left {
            line,
            what: short,
            why: why.into(),
        });
    }

    /// What was carried over, or listed when it could not be.
    fn take(&mut self, line: usize, what: &str, result: Result<(), String>) {
        if let Err(why) = result {
            self.leave(line, what, why);
        }
    }
}

/// `text` as a value: `%(` would begin a reference.
fn literal(text: &str) -> String {
    text.replace("%(", "%%(")
}

#[cfg(test)]
mod tests;
