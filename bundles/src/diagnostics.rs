//! What errors in a configuration look like: `file:line:column`, the line, a caret and a hint.
//!
//! Everybody who finds a fault makes a [`Diagnostic`] and goes on, so that all faults are told in
//! one go, in one [`Report`]. What is shown of a file is shortened to the part around the fault and
//! has the passwords of URLs masked; control characters never reach the terminal.

mod facts;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

pub use facts::DiagnosticFacts;

use crate::redact;

/// How many diagnostics a report keeps; the others are only counted.
pub const MAX_DIAGNOSTICS: usize = 100;

/// How many characters of a line are shown at most.
const EXCERPT: usize = 120;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Note,
    /// Probably not what was meant.
    Warning,
    /// Nothing starts before this is mended.
    Error,
}

/// A part of a line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was opened.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column of the first marked character, from 1, in characters.
    pub column: usize,
    /// How many characters are marked.
    pub length: usize,
    /// The line, or an excerpt of a long one, passwords masked.
    pub source: String,
    /// The marked part of `source`, in bytes.
    mark: Range<usize>,
}

impl Place {
    /// The bytes `span` of the line `text`, which is number `line` of `file`.
    ///
    /// A span that does not fit the line is cut to what is there.
    pub fn new(file: &Path, line: usize, text: &str, span: Range<usize>) -> Place {
        let start = floor_char(text, span.start);
        let end = floor_char(text, span.end.max(start));
        let column = text[..start].chars().count() + 1;
        let length = text[start..end].chars().count();
        let (source, mark) = excerpt(text, start..end);
        Place {
            file: file.to_owned(),
            line,
            column,
            length,
            source,
            mark,
        }
    }

    /// As [`Place::new`], for the line `text` of the configuration `whole`: of a line of
    /// `[secrets]` only the key is shown.
    pub fn in_layer(
        file: &Path,
        whole: &str,
        line: usize,
        text: &str,
        span: Range<usize>,
    ) -> Place {
        if redact::is_in_secrets(whole, line) {
            Place::secret(file, line, text, span)
        } else {
            Place::new(file, line, text, span)
        }
    }

    /// As [`Place::new`], for a line of `[secrets]`: only the key is shown.
    pub fn secret(file: &Path, line: usize, text: &str, span: Range<usize>) -> Place {
        let true_place = Place::new(file, line, text, span.clone());
        let shown = redact::secret_line(text);
        // What is marked, when that is shown, else all that stands for it.
        let same = text.get(..span.end) == shown.get(..span.end) && span.end <= shown.len();
        let mark = if same { span } else { 0..shown.len() };
        Place {
            line,
            column: true_place.column,
            length: true_place.length,
            ..Place::new(file, line, &shown, mark)
        }
    }

    /// A file as a whole, when there is no line to show.
    pub fn file(file: &Path) -> Place {
        Place {
            file: file.to_owned(),
            line: 0,
            column: 0,
            length: 0,
            source: String::new(),
            mark: 0..0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = printable(&self.file.to_string_lossy());
        match (self.line, self.column) {
            (0, _) => write!(f, "{file}"),
            (line, 0) => write!(f, "{file}:{line}"),
            (line, column) => write!(f, "{file}:{line}:{column}"),
        }
    }
}

/// Another place that belongs to a fault: where a key was set first, a step of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    /// Where.
    pub place: Place,
    /// What is there.
    pub text: String,
}

/// One fault, or one thing worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// A few words beside the caret; may be empty.
    pub label: String,
    /// Other places that belong to it, in reading order.
    pub related: Vec<Related>,
    /// What to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            place: None,
            label: String::new(),
            related: Vec::new(),
            hint: None,
        }
    }

    /// A warning.
    pub fn warning(message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(message)
        }
    }

    /// With the place of the fault.
    #[must_use]
    pub fn at(mut self, place: impl Into<Option<Place>>) -> Diagnostic {
        self.place = place.into();
        self
    }

    /// With a few words beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// With another place that belongs to it.
    #[must_use]
    pub fn related(mut self, place: Option<Place>, text: impl Into<String>) -> Diagnostic {
        if let Some(place) = place {
            self.related.push(Related {
                place,
                text: text.into(),
            });
        }
        self
    }

    /// As text, for a terminal when `color`.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let message = printable(&self.message);
        let group = Group::with_title(level.primary_title(message));
        let mut groups = vec![match &self.place {
            Some(place) => with_place(group, place, &self.label),
            None => group,
        }];
        for related in &self.related {
            let title = Level::NOTE.secondary_title(printable(&related.text));
            groups.push(with_place(Group::with_title(title), &related.place, ""));
        }
        if let Some(hint) = &self.hint {
            let help = Level::HELP;
            groups.push(Group::with_title(help.secondary_title(printable(hint))));
        }
        let has_line = self.place.as_ref().is_some_and(|place| place.line > 0);
        if has_line || !self.related.is_empty() {
            return renderer.render(&groups);
        }
        // Without a line there is no margin that would have to be drawn on to the hint.
        let texts: Vec<String> = groups
            .into_iter()
            .map(|group| renderer.render(&[group]))
            .collect();
        texts.join("\n")
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

fn with_place<'a>(group: Group<'a>, place: &'a Place, label: &'a str) -> Group<'a> {
    let file = printable(&place.file.to_string_lossy());
    if place.line == 0 {
        return group.element(Origin::path(file));
    }
    let mut annotation = AnnotationKind::Primary.span(place.mark.clone());
    if !label.is_empty() {
        annotation = annotation.label(printable(label));
    }
    let snippet = Snippet::source(&place.source)
        .line_start(place.line)
        .annotation(annotation);
    // Of an excerpt the renderer would count the column wrongly.
    if place.source[..place.mark.start].chars().count() + 1 == place.column {
        return group.element(snippet.path(file));
    }
    group
        .element(
            Origin::path(file)
                .line(place.line)
                .char_column(place.column),
        )
        .element(snippet)
}

/// Everything that was found, at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    diagnostics: Vec<Diagnostic>,
    /// How many more there were.
    omitted: usize,
}

impl Report {
    /// The diagnostics, in the order in which they were found.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many there were in all, also those that are not kept.
    pub fn total(&self) -> usize {
        self.diagnostics.len() + self.omitted
    }

    /// As text, for a terminal when `color`. Blank lines stand between the diagnostics.
    pub fn render(&self, color: bool) -> String {
        let mut texts: Vec<String> = self.diagnostics.iter().map(|d| d.render(color)).collect();
        if self.omitted > 0 {
            texts.push(format!("error: {} more are not shown", self.omitted));
        }
        texts.join("\n\n")
    }
}

impl Report {
    /// Both reports as one.
    #[must_use]
    pub fn join(mut self, other: Report) -> Report {
        let room = MAX_DIAGNOSTICS.saturating_sub(self.diagnostics.len());
        self.omitted += other.omitted + other.diagnostics.len().saturating_sub(room);
        let more = other.diagnostics.into_iter().take(room);
        // The same fault of a layer that both have is told once.
        let known = self.diagnostics.clone();
        self.diagnostics
            .extend(more.filter(|diagnostic| !known.contains(diagnostic)));
        self
    }
}

impl From<Diagnostic> for Report {
    fn from(diagnostic: Diagnostic) -> Report {
        Report {
            diagnostics: vec![diagnostic],
            omitted: 0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

/// Gathers what is found on the way.
#[derive(Debug, Default)]
pub struct Collector {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    omitted: usize,
}

impl Collector {
    /// Adds what `make` returns. It is not even called when there are too many already, so that a
    /// hostile file cannot make the report expensive.
    pub fn error(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.errors.len() < MAX_DIAGNOSTICS {
            self.errors.push(make());
        } else {
            self.omitted += 1;
        }
    }

    /// Adds a warning, the first [`MAX_DIAGNOSTICS`] of them.
    pub fn warning(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.warnings.len() < MAX_DIAGNOSTICS {
            self.warnings.push(make());
        }
    }

    /// How many errors there are so far.
    pub fn errors(&self) -> usize {
        self.errors.len() + self.omitted
    }

    /// Whether there is neither an error nor a warning so far.
    pub fn is_empty(&self) -> bool {
        self.errors() == 0 && self.warnings.is_empty()
    }

    /// The warnings, or the report when there are errors; sorted by file and line.
    pub fn finish(self) -> Result<Vec<Diagnostic>, Report> {
        if self.errors.is_empty() {
            return Ok(sorted(self.warnings));
        }
        Err(Report {
            diagnostics: sorted(self.errors),
            omitted: self.omitted,
        })
    }
}

/// Sorted by place; files in the order in which they come first, what has no place at the beginning.
fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut files: Vec<PathBuf> = Vec::new();
    for place in diagnostics
        .iter()
        .filter_map(|diagnostic| diagnostic.place.as_ref())
    {
        if !files.contains(&place.file) {
            files.push(place.file.clone());
        }
    }
    diagnostics.sort_by_key(|diagnostic| {
        let place = diagnostic.place.as_ref()?;
        let file = files.iter().position(|file| *file == place.file)?;
        Some((file, place.line, place.column))
    });
    diagnostics
}

/// `text` without what a terminal would obey: control characters and those that reorder text.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_unsafe(c) { '\u{fffd}' } else { c })
        .collect()
}

fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn floor_char(text: &str, index: usize) -> usize {
    let index = index.min(text.len());
    (0..=index)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// The part of `text` around `mark` with passwords masked, and where the mark is in it.
fn excerpt(text: &str, mark: Range<usize>) -> (String, Range<usize>) {
    let window = window(text, &mark);
    let mut out = String::new();
    let (mut start, mut end) = (None, None);
    if window.start > 0 {
        out.push('…');
    }
    let mut at = window.start;
    // Copies up to `to`, noting where the ends of the mark come to lie.
    let mut copy = |out: &mut String, at: &mut usize, to: usize, masked: bool| {
        for (offset, c) in text[*at..to].char_indices() {
            let index = *at + offset;
            if index >= mark.start && start.is_none() {
                start = Some(out.len());
            }
            if index >= mark.end && end.is_none() {
                end = Some(out.len());
            }
            if !masked {
                out.push(if is_unsafe(c) || c == '\n' {
                    '\u{fffd}'
                } else {
                    c
                });
            }
        }
        *at = to;
    };
    for secret in redact::hidden_ranges(text) {
        let secret = secret.start.max(window.start)..secret.end.min(window.end);
        if secret.is_empty() {
            continue;
        }
        copy(&mut out, &mut at, secret.start, false);
        copy(&mut out, &mut at, secret.end, true);
        out.push_str(redact::MASK);
    }
    copy(&mut out, &mut at, window.end, false);
    let start = start.unwrap_or(out.len());
    let end = end.unwrap_or(out.len()).max(start);
    if window.end < text.len() {
        out.push('…');
    }
    (out, start..end)
}

/// The bytes of `text` that are shown: at most [`EXCERPT`] characters, with the mark's start.
fn window(text: &str, mark: &Range<usize>) -> Range<usize> {
    let before = |from: usize, count: usize| {
        text[..from]
            .char_indices()
            .rev()
            .take(count)
            .last()
            .map_or(from, |(index, _)| index)
    };
    let after = |from: usize, count: usize| {
        text[from..]
            .char_indices()
            .nth(count)
            .map_or(text.len(), |(index, _)| from + index)
    };
    let end = after(mark.start, EXCERPT / 2);
    let start = before(mark.start, EXCERPT - text[mark.start..end].chars().count());
    start..after(start, EXCERPT)
}

#[cfg(test)]
mod tests;
