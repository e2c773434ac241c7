//! The texts of all layers, and places in them.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{Origin, Source};
use crate::diagnostics::Place;
use crate::ini::{self, Span, Text};

/// The sources with an index of their lines.
pub(super) struct Files {
    pub(super) sources: Vec<Source>,
    /// Their paths, for the origins of values.
    paths: Vec<Arc<Path>>,
    /// Where the lines of each source begin.
    starts: Vec<Vec<usize>>,
}

/// A part of one of the sources.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) source: usize,
    pub(super) span: Span,
}

impl Files {
    /// Sorts the sources by layer; the order within a layer stays.
    pub(super) fn new(mut sources: Vec<Source>) -> Files {
        sources.sort_by_key(|source| source.layer);
        for source in &mut sources {
            // A byte order mark, as some editors put one in front.
            if let Some(rest) = source.text.strip_prefix('\u{feff}') {
                source.text = rest.to_owned();
            }
        }
        let newlines = |text: &str| {
            let after = text.match_indices('\n').map(|(index, _)| index + 1);
            std::iter::once(0).chain(after).collect()
        };
        let starts = sources
            .iter()
            .map(|source| newlines(&source.text))
            .collect();
        let paths = sources
            .iter()
            .map(|source| source.path.as_path().into())
            .collect();
        Files {
            sources,
            paths,
            starts,
        }
    }

    pub(super) fn path(&self, source: usize) -> &Path {
        self.sources
            .get(source)
            .map_or(Path::new(""), |source| &source.path)
    }

    fn line(&self, source: usize, line: usize) -> &str {
        let text = || {
            let starts = self.starts.get(source)?;
            let begin = *starts.get(line.checked_sub(1)?)?;
            let text = &self.sources.get(source)?.text;
            let end = starts.get(line).map_or(text.len(), |next| next - 1);
            text.get(begin..end)
        };
        let line = text().unwrap_or("");
        line.strip_suffix('\r').unwrap_or(line)
    }

    pub(super) fn place(&self, at: At) -> Place {
        let line = self.line(at.source, at.span.line);
        let whole = self
            .sources
            .get(at.source)
            .map_or("", |source| &source.text);
        Place::in_layer(
            self.path(at.source),
            whole,
            at.span.line,
            line,
            ini::range(at.span),
        )
    }

    /// The place of a part of a value.
    pub(super) fn place_in(&self, source: usize, text: &Text, range: Range<usize>) -> Place {
        self.place(At {
            source,
            span: text.span(range),
        })
    }

    pub(super) fn origin(&self, at: At) -> Origin {
        let line = self.line(at.source, at.span.line);
        let before = line.get(..at.span.start).unwrap_or(line);
        Origin {
            layer: self.sources[at.source].layer,
            file: self.paths.get(at.source).cloned(),
            line: at.span.line,
            column: before.chars().count() + 1,
        }
    }
}
