//! Text to sections and keys, each with the place where it stands.
//!
//! ```ini
//! # comments are whole lines, with # or ;
//! [section.with.dots]
//! key with spaces.and.dots = the first = splits
//! long one = first line
//!     an indented line continues the value
//! unset some key
//! unset *
//! ```
//!
//! Nothing is escaped and nothing is quoted here. A blank line ends a value, a comment does not.
//! `unset KEY` takes back what lower layers said, `unset *` the whole section ([`crate::layers`]).
//!
//! The parser goes on after a fault, takes time linear in the text, and accepts `\r\n`. What it
//! refuses: keys outside of a section, lines without `=`, the same key twice, control characters.

mod document;

use std::path::Path;
use std::sync::Arc;

use crate::diagnostics::{Collector, Diagnostic, Place};
use crate::maps::{List, Named};
use crate::redact;
use crate::text::{Str, split_at_byte, trim_end, trim_start};

pub use document::{Content, Document, Entry, Piece, Section, Span, Text};

/// How many sections a file mostly has at most, and how many entries a section.
const FEW_ENTRIES: usize = 6;

/// The longest name of a section or key, in bytes.
pub const MAX_NAME: usize = 200;

/// Parses `text`, the content of `file`. Faults go to `out`; what could be understood is returned.
pub fn parse(file: &Path, text: &str, out: &mut Collector) -> Document {
    parse_shared(file, &Arc::from(text), out)
}

/// As [`parse`]; names and values are parts of `text`.
pub(crate) fn parse_shared(file: &Path, text: &Arc<str>, out: &mut Collector) -> Document {
    let mut parser = Parser {
        file,
        text,
        line_start: 0,
        // Without a branch, so that many bytes are looked at in one go.
        is_suspect: text.bytes().fold(false, |any, byte| any | is_suspect(byte)),
        out,
        sections: List::with_capacity(FEW_ENTRIES),
        section: None,
        skipping: false,
        open: None,
        joined: String::new(),
        hidden: false,
    };
    let ends = memchr::memchr_iter(b'\n', text.as_bytes()).chain([text.len()]);
    for (number, end) in (1..).zip(ends) {
        let line = &text[parser.line_start..end];
        parser.line(number, line.strip_suffix('\r').unwrap_or(line));
        parser.line_start = end + 1;
    }
    parser.close();
    let sections = parser.sections.into_vec().into_iter();
    let section = |open: Open| Section {
        entries: open.entries.into_vec(),
        ..open.section
    };
    Document {
        sections: sections.map(section).collect(),
    }
}

/// Whether a byte is a control character, or part of a character that may be one.
fn is_suspect(byte: u8) -> bool {
    (byte < b' ') & (byte != b'\t') & (byte != b'\n') | (byte >= 0x7f)
}

/// A section while it is being read.
struct Open {
    section: Section,
    /// Its entries; of a key that stands there twice only the first is found by its name.
    entries: List<Entry>,
}

impl Named for Open {
    fn name(&self) -> &Str {
        &self.section.name
    }
}

impl Named for Entry {
    fn name(&self) -> &Str {
        &self.key
    }
}

struct Parser<'a, 'c> {
    file: &'a Path,
    text: &'a Arc<str>,
    /// Where the line that is read begins in the text.
    line_start: usize,
    /// Some of its bytes may be control characters. Mostly none is, and no line is searched for one.
    is_suspect: bool,
    out: &'c mut Collector,
    sections: List<Open>,
    /// The section that lines belong to.
    section: Option<usize>,
    /// A bad header was reported; its keys are skipped without a word.
    skipping: bool,
    /// The section and entry that an indented line continues.
    open: Option<(usize, usize)>,
    /// The value of that entry, when it has several lines.
    joined: String,
    /// The lines are those of `[secrets]`: of what is wrong with one only its key is shown.
    hidden: bool,
}

impl Parser<'_, '_> {
    fn line(&mut self, number: usize, line: &str) {
        if self.is_suspect
            && line.bytes().any(is_suspect)
            && let Some((start, c)) = line
                .char_indices()
                .find(|(_, c)| c.is_control() && *c != '\t')
        {
            let span = Span {
                line: number,
                start,
                len: c.len_utf8(),
            };
            let what = if c == '\0' {
                "NUL byte"
            } else {
                "control character"
            };
            let message = format!("{what} (code {:#04x})", u32::from(c));
            self.fault(line, span, message, "not allowed here", "remove it");
            return;
        }
        let trimmed = trim_end(trim_start(line));
        match trimmed.as_bytes().first() {
            None => self.close(),
            // A comment stands anywhere, also between the lines of a value.
            Some(b'#' | b';') => {}
            Some(_) if matches!(line.as_bytes().first(), Some(b' ' | b'\t')) => {
                self.continuation(number, line, trimmed)
            }
            Some(b'[') => self.header(number, line, trimmed),
            Some(_) => self.entry(number, line, trimmed),
        }
    }

    /// `part`, a slice of the line that is read, as a part of the text.
    fn shared(&self, line: &str, part: &str) -> Str {
        let start = self.line_start + span_of(0, line, part).start;
        Str::part(self.text, start..start + part.len())
    }

    /// Ends the value that further lines could have continued.
    fn close(&mut self) {
        let Some((section, entry)) = self.open.take() else {
            return;
        };
        if !self.joined.is_empty() {
            let joined = Str::from(std::mem::take(&mut self.joined));
            let entry = self.sections.at_mut(section).entries.at_mut(entry);
            if let Content::Value(value) = &mut entry.content {
                value.text = joined;
            }
        }
    }

    fn continuation(&mut self, number: usize, line: &str, trimmed: &str) {
        let span = span_of(number, line, trimmed);
        let Some((section, entry)) = self.open else {
            if !self.skipping {
                let message = "this indented line continues no value";
                let hint =
                    "remove the space at its beginning; only further lines of a value are indented";
                self.fault(line, span, message.to_owned(), "indented", hint);
            }
            return;
        };
        let entry = self.sections.at_mut(section).entries.at_mut(entry);
        let Content::Value(value) = &mut entry.content else {
            return;
        };
        if self.joined.is_empty() {
            self.joined.push_str(&value.text);
        }
        let mut piece = Piece {
            offset: 0,
            line: number,
            start: span.start,
        };
        if self.joined.is_empty() {
            value.first = piece;
        } else {
            self.joined.push('\n');
            piece.offset = self.joined.len();
            value.more.push(piece);
        }
        self.joined.push_str(trimmed);
        if looks_like_header(trimmed) && !self.hidden {
            let (file, source, key) = (self.file, line, &entry.key);
            self.out.warning(|| {
                Diagnostic::warning(format!("{trimmed} is read as part of `{key}`"))
                    .at(Place::new(file, number, source, range(span)))
                    .hint("a section begins in the first column: remove the space before [")
            });
        }
    }

    fn header(&mut self, number: usize, line: &str, trimmed: &str) {
        self.close();
        self.hidden = true;
        self.section = None;
        self.skipping = true;
        let span = span_of(number, line, trimmed);
        let Some((name, rest)) = split_at_byte(&trimmed[1..], b']') else {
            let hint = "a section is written [name] on a line of its own";
            self.fault(
                line,
                span,
                "section header without ]".to_owned(),
                "not closed",
                hint,
            );
            return;
        };
        self.hidden = name.trim_start_matches('[').trim() == redact::SECRETS;
        if !rest.is_empty() {
            let hint = "a comment needs a line of its own";
            let span = span_of(number, line, rest.trim_start());
            self.fault(
                line,
                span,
                "text after a section header".to_owned(),
                "unexpected",
                hint,
            );
            return;
        }
        let name = name.trim();
        if let Some(problem) = bad_section_name(name) {
            let hint =
                "letters, digits, `-`, `_`, `+` and `*`, parts joined with dots: [daemon.web]";
            self.fault(line, span, format!("bad section name: {problem}"), "", hint);
            return;
        }
        self.skipping = false;
        let index = self.sections.position(name).unwrap_or_else(|| {
            let section = Section {
                name: self.shared(line, name),
                span: span_of(number, line, name),
                entries: Vec::new(),
                unset_all: None,
            };
            self.sections.push(Open {
                section,
                entries: List::with_capacity(FEW_ENTRIES),
            })
        });
        self.section = Some(index);
    }

    fn entry(&mut self, number: usize, line: &str, trimmed: &str) {
        self.close();
        if self.skipping {
            return;
        }
        let span = span_of(number, line, trimmed);
        let Some(section) = self.section else {
            let message = "key outside of a section".to_owned();
            self.fault(
                line,
                span,
                message,
                "",
                "put a header such as [env] above it",
            );
            return;
        };
        let (key, content) = match split_at_byte(trimmed, b'=') {
            Some((key, value)) => {
                let (key, value) = (trim_end(key), trim_start(value));
                let first = Piece {
                    offset: 0,
                    line: number,
                    start: span_of(number, line, value).start,
                };
                let text = Text {
                    text: self.shared(line, value),
                    first,
                    more: Vec::new(),
                };
                (key, Content::Value(text))
            }
            None => match unset(trimmed) {
                Some("*") => {
                    self.sections.at_mut(section).section.unset_all = Some(span);
                    return;
                }
                Some(key) => (key, Content::Unset),
                None => {
                    let message = "line without `=`".to_owned();
                    let hint = "write `key = value`; indent a line that continues the value above";
                    self.fault(line, span, message, "no value", hint);
                    return;
                }
            },
        };
        let key_span = span_of(number, line, key);
        if !self.key_is_good(line, key_span, key, &content) {
            return;
        }
        let shared = self.shared(line, key);
        let open = self.sections.at_mut(section);
        if let Some(first) = open.entries.get(key) {
            let (name, first) = (&open.section.name, first.span.line);
            let (file, hidden) = (self.file, self.hidden);
            self.out.error(|| {
                Diagnostic::error(format!("`{key}` stands twice in [{name}]"))
                    .at(place(file, hidden, line, key_span))
                    .label("the second time")
                    .hint(format!("the first is on line {first}; keep one of them"))
            });
        }
        // What is indented below belongs to this one, also to a second one of the same name.
        let entry = open.entries.push(Entry {
            key: shared,
            span: key_span,
            content,
        });
        self.open = Some((section, entry));
    }

    fn key_is_good(&mut self, line: &str, span: Span, key: &str, content: &Content) -> bool {
        let value = matches!(content, Content::Value(_));
        if key.is_empty() {
            let hint = "write `key = value`";
            self.fault(
                line,
                Span { len: 1, ..span },
                "`=` without a key".to_owned(),
                "",
                hint,
            );
        } else if key.len() > MAX_NAME {
            let message = format!("a key of {} bytes", key.len());
            self.fault(
                line,
                span,
                message,
                "too long",
                "a key has at most 200 bytes",
            );
        } else if value && unset(key).is_some() {
            let message = "`unset` takes no value".to_owned();
            let hint = "`unset key` takes a key of a lower layer away; it has no `=`";
            self.fault(line, span, message, "", hint);
        } else {
            return true;
        }
        false
    }

    fn fault(&mut self, line: &str, span: Span, message: String, label: &str, hint: &str) {
        let (file, hidden) = (self.file, self.hidden);
        self.out.error(|| {
            Diagnostic::error(message)
                .at(place(file, hidden, line, span))
                .label(label)
                .hint(hint)
        });
    }
}

fn place(file: &Path, hidden: bool, line: &str, span: Span) -> Place {
    if hidden {
        Place::secret(file, span.line, line, range(span))
    } else {
        Place::new(file, span.line, line, range(span))
    }
}

fn unset(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("unset")?;
    (rest.starts_with([' ', '\t']) && !rest.trim().is_empty()).then(|| rest.trim())
}

/// Whether it is parts joined with dots, each of good characters.
fn is_section_name(name: &str) -> bool {
    let mut before = b'.';
    let good = |byte: u8| {
        let in_part = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'*');
        let good = in_part || (byte == b'.' && before != b'.');
        before = byte;
        good
    };
    name.len() <= MAX_NAME && name.bytes().chain([b'.']).all(good)
}

fn bad_section_name(name: &str) -> Option<String> {
    // Mostly it is good, and nobody asks what would be wrong.
    if is_section_name(name) {
        return None;
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '*' | '.');
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name.len() > MAX_NAME {
        return Some(format!("{} bytes are too long", name.len()));
    }
    if let Some(c) = name.chars().find(|c| !good(*c)) {
        return Some(format!("`{c}` in [{name}]"));
    }
    let mut before = '.';
    for c in name.chars().chain(std::iter::once('.')) {
        if c == '.' && before == '.' {
            return Some(format!("an empty part in [{name}]"));
        }
        before = c;
    }
    None
}

/// `[daemon.x]`, but not `[2001:db8::1]`.
fn looks_like_header(text: &str) -> bool {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|name| bad_section_name(name).is_none())
}

/// Where `part`, a slice of `line`, stands.
fn span_of(number: usize, line: &str, part: &str) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
    Span {
        line: number,
        start: start.min(line.len()),
        len: part.len(),
    }
}

/// The bytes of the line that a span covers.
pub(crate) fn range(span: Span) -> std::ops::Range<usize> {
    span.start..span.start + span.len
}

/// `key = value` as a line, or several when the value has some. `None` when [`parse`] would read
/// something else: space around the value, a blank line in it, a further line that is a comment, or
/// a key that is none.
pub fn write_entry(key: &str, value: &str) -> Option<String> {
    let plain =
        |text: &str| text.trim() == text && !text.chars().any(|c| c.is_control() && c != '\t');
    let key_is_good = !key.is_empty()
        && key.len() <= MAX_NAME
        && plain(key)
        && !key.contains('=')
        && !key.starts_with(['[', '#', ';'])
        && unset(key).is_none();
    let mut lines = value.split('\n');
    let first = lines.next().unwrap_or("");
    let first_is_good = plain(first) && (!first.is_empty() || value.is_empty());
    if !key_is_good || !first_is_good {
        return None;
    }
    let mut out = format!("{key} = {first}");
    for line in lines {
        if line.is_empty() || !plain(line) || line.starts_with(['#', ';']) {
            return None;
        }
        out.push_str("\n    ");
        out.push_str(line);
    }
    out.push('\n');
    Some(out)
}

#[cfg(test)]
mod tests;
