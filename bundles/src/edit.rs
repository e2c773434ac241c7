//! Changing single keys of a file of configuration, and nothing else in it.
//!
//! Comments, order, blank lines and line ends stay as they are, byte by byte. A value that is replaced keeps its
//! place and the spelling of its key (`container`, `java.heap.max`, `[webapp]`); a new key goes to the end of
//! its section, a new section to the end of the file.
//!
//! What comes out is parsed again and compared with what was wanted: a text in which anything but
//! the key itself reads differently is never returned.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::diagnostics::{Collector, Diagnostic, Report};
use crate::ini::{self, Content, Document, Entry, Section};
use crate::keys::{self, SectionMeaning};
use crate::layers::{Config, Selector};

mod address;

pub use address::Address;

/// What shall become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish<'a> {
    /// The file says this value.
    Say(&'a str),
    /// The file says `unset KEY`: what lower layers say does not count.
    Unset,
    /// The file says nothing of it: what lower layers say counts.
    Nothing,
}

/// What a file says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A value, as written.
    Value(String),
    /// `unset KEY`.
    Unset,
}

/// A text that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The new text.
    pub text: String,
    /// The line, from 1, where the key stands now, or where it stood; 0 when it never did.
    pub line: usize,
    /// What stood there before.
    pub before: Option<Said>,
}

/// Why a text cannot be changed so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file has faults that have to be mended first.
    #[error("{0}")]
    Faulty(Report),
    /// No line can say this value.
    #[error("the value of {key} cannot be written: {why}")]
    Value {
        /// The key.
        key: String,
        /// What is in the way.
        why: &'static str,
    },
    /// No line can begin with this key.
    #[error("{key:?} cannot be written as a key")]
    Key {
        /// The key.
        key: String,
    },
    /// The new text would not say what was wanted.
    #[error("{key} cannot be changed without changing something else")]
    Entangled {
        /// The key.
        key: String,
    },
}

impl EditError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            EditError::Faulty(_) => None,
            EditError::Value { .. } => Some(
                "values have no quotes and no escapes; put it into a file of the release or of data/",
            ),
            EditError::Key { .. } => {
                Some("a key is at most 200 bytes, without `=`, and no comment, header or `unset`")
            }
            EditError::Entangled { .. } => Some("change it in an editor"),
        }
    }
}

/// Changes a key of `text`, the content of `file`. `section` and `key` are canonical names
/// ([`Config::select`]); in the file they may be written otherwise.
///
/// # Errors
/// Faults of the text as it is, a value or key that cannot be written. The text is not changed then.
pub fn edit(
    file: &Path,
    text: &str,
    section: &str,
    key: &str,
    wish: Wish<'_>,
) -> Result<Edited, EditError> {
    let (mark, body) = match text.strip_prefix('\u{feff}') {
        Some(rest) => ("\u{feff}", rest),
        None => ("", text),
    };
    let document = parse(file, body)?;
    if let Wish::Say(value) = wish {
        check_value(key, value)?;
    }
    if ini::write_entry(key, "").is_none() {
        return Err(EditError::Key {
            key: key.to_owned(),
        });
    }
    let spot = find(&document, section, key);
    let before = spot.entry.map(|entry| match &entry.content {
        Content::Value(value) => Said::Value(value.text.to_string()),
        Content::Unset => Said::Unset,
    });
    let mut lines = Lines::of(body);
    let line = match (spot.entry, spot.section) {
        (Some(entry), _) => lines.replace(entry, wish),
        (None, Some(found)) => lines.append(found, key, wish),
        (None, None) => lines.begin(section, key, wish),
    };
    let edited = lines.text();
    let proven =
        parse(file, &edited).is_ok_and(|after| is_wanted(&document, &after, section, key, wish));
    if !proven {
        return Err(EditError::Entangled {
            key: key.to_owned(),
        });
    }
    Ok(Edited {
        text: format!("{mark}{edited}"),
        line,
        before,
    })
}

/// A key about which two texts do not say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The section, by its canonical name.
    pub section: String,
    /// The key, by its canonical name.
    pub key: String,
    /// What the first says.
    pub before: Option<Said>,
    /// What the second says.
    pub after: Option<Said>,
}

/// The keys about which two texts do not say the same, in the order of the first, then of the second.
///
/// # Errors
/// Faults of either text.
pub fn differences(file: &Path, before: &str, after: &str) -> Result<Vec<Difference>, EditError> {
    let read = |text: &str| parse(file, text.strip_prefix('\u{feff}').unwrap_or(text));
    let (old, new) = (statements(&read(before)?), statements(&read(after)?));
    let index = |all: &[Statement]| -> HashMap<(String, String), Said> {
        let all = all.iter().cloned();
        all.map(|(section, key, said)| ((section, key), said))
            .collect()
    };
    let (then, now) = (index(&old), index(&new));
    let mut seen = HashSet::new();
    let mut all: Vec<Difference> = Vec::new();
    for (section, key, _) in old.iter().chain(&new) {
        let at = (section.clone(), key.clone());
        let (then, now) = (then.get(&at).cloned(), now.get(&at).cloned());
        if then != now && seen.insert(at) {
            all.push(Difference {
                section: section.clone(),
                key: key.clone(),
                before: then,
                after: now,
            });
        }
    }
    Ok(all)
}

/// Section and key by their canonical names, and what is said.
type Statement = (String, String, Said);

fn statements(document: &Document) -> Vec<Statement> {
    let mut all = Vec::new();
    for section in &document.sections {
        let name = canonical(&section.name);
        if section.unset_all.is_some() {
            all.push((name.clone(), "*".to_owned(), Said::Unset));
        }
        for entry in &section.entries {
            let spec = match keys::section(&name) {
                SectionMeaning::Known(spec) => spec,
                _ => "",
            };
            let key = keys::find(spec, &entry.key).map(|(_, key)| key.into_owned());
            let said = match &entry.content {
                Content::Value(value) => Said::Value(value.text.to_string()),
                Content::Unset => Said::Unset,
            };
            all.push((
                name.clone(),
                key.unwrap_or_else(|| entry.key.to_string()),
                said,
            ));
        }
    }
    all
}

/// What `text` says about a key.
///
/// # Errors
/// Faults of the text.
pub fn said(file: &Path, text: &str, section: &str, key: &str) -> Result<Option<Said>, EditError> {
    let document = parse(file, text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let found = find(&document, section, key).entry;
    Ok(found.map(|entry| match &entry.content {
        Content::Value(value) => Said::Value(value.text.to_string()),
        Content::Unset => Said::Unset,
    }))
}

/// The line, from 1, on which a key stands in `text`.
///
/// # Errors
/// Faults of the text.
pub fn line_of(
    file: &Path,
    text: &str,
    section: &str,
    key: &str,
) -> Result<Option<usize>, EditError> {
    let document = parse(file, text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let found = find(&document, section, key).entry;
    Ok(found.map(|entry| entry.span.line))
}

fn parse(file: &Path, text: &str) -> Result<Document, EditError> {
    let mut out = Collector::default();
    let document = ini::parse(file, text, &mut out);
    match out.finish() {
        Ok(_) => Ok(document),
        Err(report) => Err(EditError::Faulty(report)),
    }
}

/// Why [`ini::write_entry`] refuses a value.
fn check_value(key: &str, value: &str) -> Result<(), EditError> {
    if ini::write_entry("x", value).is_some() {
        return Ok(());
    }
    let strange = |c: char| c.is_control() && c != '\t' && c != '\n';
    let mut further = value.split('\n').skip(1);
    let why = if value.contains(strange) {
        "it has a control character"
    } else if value.split('\n').any(|line| line.trim() != line) {
        "it has space at the beginning or end of a line, which does not count in the file"
    } else if further.any(|line| line.starts_with(['#', ';'])) {
        "a further line of it begins with # or ;, which would be a comment"
    } else {
        "it has an empty line, which would end the value"
    };
    Err(EditError::Value {
        key: key.to_owned(),
        why,
    })
}

/// The canonical name of a section as it is written in a file; `[webapp]` is `[daemon.webapp]`.
fn canonical(name: &str) -> String {
    match keys::section(name) {
        SectionMeaning::Unknown if keys::is_daemon_name(name) => format!("daemon.{name}"),
        _ => name.to_owned(),
    }
}

/// Whether the key, as it is written, means `key` of the canonical section.
fn means(section: &str, written: &str, key: &str) -> bool {
    let canonical = match keys::section(section) {
        SectionMeaning::Known(spec) => keys::find(spec, written).map(|(_, canonical)| canonical),
        _ => None,
    };
    canonical.as_deref().unwrap_or(written) == key
}

/// Where a key is, or belongs.
struct Spot<'a> {
    section: Option<&'a Section>,
    entry: Option<&'a Entry>,
}

fn find<'a>(document: &'a Document, section: &str, key: &str) -> Spot<'a> {
    let fits = |found: &&Section| canonical(&found.name) == section;
    let sections = || document.sections.iter().filter(fits);
    let entry = sections().find_map(|found| {
        let mut entries = found.entries.iter();
        entries.find(|entry| means(section, &entry.key, key))
    });
    Spot {
        section: sections().next_back(),
        entry,
    }
}

/// Whether the new document says what was wanted of the key, and everything else as before.
fn is_wanted(
    before: &Document,
    after: &Document,
    section: &str,
    key: &str,
    wish: Wish<'_>,
) -> bool {
    let target = find(after, section, key).entry.map(|entry| &entry.content);
    let right = match (wish, target) {
        (Wish::Say(value), Some(Content::Value(text))) => text.text == value,
        (Wish::Unset, Some(Content::Unset)) | (Wish::Nothing, None) => true,
        _ => false,
    };
    right && rest(before, section, key) == rest(after, section, key)
}

/// Every statement but those about the key: section, key, value, in order.
fn rest(document: &Document, section: &str, key: &str) -> Vec<(String, String, Option<String>)> {
    let mut all = Vec::new();
    for found in &document.sections {
        let name = canonical(&found.name);
        if found.unset_all.is_some() {
            all.push((found.name.to_string(), "*".to_owned(), None));
        }
        for entry in &found.entries {
            if name == section && means(section, &entry.key, key) {
                continue;
            }
            let value = match &entry.content {
                Content::Value(text) => Some(text.text.to_string()),
                Content::Unset => None,
            };
            all.push((found.name.to_string(), entry.key.to_string(), value));
        }
    }
    all
}

/// The lines of a text, each with its end.
struct Lines(Vec<String>);

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.split_inclusive('\n').map(str::to_owned).collect())
    }

    fn text(self) -> String {
        self.0.concat()
    }

    /// How a line ends, or else the lines of the file do.
    fn end_of(&self, index: usize) -> &'static str {
        let ends = self.0.get(index).into_iter().chain(&self.0);
        let mut ends = ends.filter(|line| line.ends_with('\n'));
        match ends.next() {
            Some(line) if line.ends_with("\r\n") => "\r\n",
            _ => "\n",
        }
    }

    /// The last line that belongs to the value that begins on line `first`, as [`ini::parse`] reads it.
    fn last_of(&self, first: usize) -> usize {
        let mut last = first;
        for (index, line) in self.0.iter().enumerate().skip(first + 1) {
            let trimmed = line.trim();
            if trimmed.is_empty() {
                break;
            } else if trimmed.starts_with(['#', ';']) {
                continue;
            } else if line.starts_with([' ', '\t']) {
                last = index;
            } else {
                break;
            }
        }
        last
    }

    /// Changes the lines of a key that is there; comments between them stay. Returns its line.
    fn replace(&mut self, entry: &Entry, wish: Wish<'_>) -> usize {
        let first = entry.span.line - 1;
        let last = self.last_of(first);
        let end = self.end_of(first);
        let closed = self.0.get(last).is_some_and(|line| line.ends_with('\n'));
        let prefix = self.prefix(first, entry);
        let is_comment = |line: &String| line.trim_start().starts_with(['#', ';']);
        let comments: Vec<String> = match self.0.get(first + 1..=last) {
            Some(further) => further
                .iter()
                .filter(|line| is_comment(line))
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        let mut new = written(&prefix, &entry.key, wish, end);
        if comments.is_empty() && !closed {
            // The last line of a file without a line end stays so.
            if let Some(line) = new.last_mut() {
                line.truncate(line.trim_end_matches(['\r', '\n']).len());
            }
        }
        new.extend(comments);
        self.0.splice(first..=last, new);
        first + 1
    }

    /// What stands before the value: the key, and the space that somebody put there.
    fn prefix(&self, index: usize, entry: &Entry) -> String {
        let usual = format!("{} = ", entry.key);
        let Content::Value(value) = &entry.content else {
            return usual;
        };
        let piece = Some(value.first).filter(|piece| piece.line == index + 1);
        let (Some(piece), Some(line)) = (piece, self.0.get(index)) else {
            return usual;
        };
        match line.get(..piece.start) {
            Some(prefix) if !value.text.is_empty() => prefix.to_owned(),
            _ => usual,
        }
    }

    /// Writes a new key at the end of a section. Returns its line.
    fn append(&mut self, section: &Section, key: &str, wish: Wish<'_>) -> usize {
        let spans = section.entries.iter().map(|entry| entry.span.line);
        let spans = spans.chain(section.unset_all.map(|span| span.line));
        let last = spans.max().unwrap_or(section.span.line) - 1;
        let after = self.last_of(last);
        let end = self.end_of(after);
        let new = written(&format!("{key} = "), key, wish, end);
        if new.is_empty() {
            return 0;
        }
        if let Some(line) = self.0.get_mut(after).filter(|line| !line.ends_with('\n')) {
            line.push_str(end);
        }
        self.0.splice(after + 1..after + 1, new);
        after + 2
    }

    /// Writes a new key into a new section at the end. Returns its line.
    fn begin(&mut self, section: &str, key: &str, wish: Wish<'_>) -> usize {
        let end = self.end_of(self.0.len());
        let new = written(&format!("{key} = "), key, wish, end);
        if new.is_empty() {
            return 0;
        }
        if let Some(line) = self.0.last_mut().filter(|line| !line.ends_with('\n')) {
            line.push_str(end);
        }
        if self.0.last().is_some_and(|line| !line.trim().is_empty()) {
            self.0.push(end.to_owned());
        }
        self.0.push(format!("[{section}]{end}"));
        let line = self.0.len() + 1;
        self.0.extend(new);
        line
    }
}

/// The lines of a statement.
fn written(prefix: &str, key: &str, wish: Wish<'_>, end: &str) -> Vec<String> {
    match wish {
        Wish::Nothing => Vec::new(),
        Wish::Unset => vec![format!("unset {key}{end}")],
        Wish::Say(value) => {
            let mut lines = value.split('\n');
            let first = lines.next().unwrap_or_default();
            let first = format!("{prefix}{first}");
            let first = if value.is_empty() {
                first.trim_end()
            } else {
                &first
            };
            let further = lines.map(|line| format!("    {line}{end}"));
            std::iter::once(format!("{first}{end}"))
                .chain(further)
                .collect()
        }
    }
}

#[cfg(test)]
mod tests;
