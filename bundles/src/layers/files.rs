//! The texts of all layers, and places in them.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{LayerKind, Origin, Source};
use crate::diagnostics::Place;
use crate::ini::{self, Span, Text};

/// The texts of all layers.
pub(super) struct Files {
    pub(super) sources: Vec<Source>,
    /// For each of them what is found out about its text once.
    facts: Vec<Facts>,
}

struct Facts {
    /// Every character is one byte, so that columns need no counting.
    is_ascii: bool,
    /// Where its lines begin. Only who tells something has to know.
    starts: OnceCell<Vec<usize>>,
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
                source.text = rest.into();
            }
        }
        let facts = |source: &Source| Facts {
            is_ascii: match source.known() {
                Some(known) => known.is_ascii,
                None => source.text.is_ascii(),
            },
            starts: OnceCell::new(),
        };
        Files {
            facts: sources.iter().map(facts).collect(),
            sources,
        }
    }

    pub(super) fn path(&self, source: usize) -> &Path {
        self.sources
            .get(source)
            .map_or(Path::new(""), |source| &source.path)
    }

    pub(super) fn layer(&self, source: usize) -> LayerKind {
        self.sources[source].layer
    }

    fn line(&self, source: usize, line: usize) -> &str {
        let text = || {
            let text = &self.sources.get(source)?.text;
            let starts = self.facts.get(source)?.starts.get_or_init(|| {
                let after = text.match_indices('\n').map(|(index, _)| index + 1);
                std::iter::once(0).chain(after).collect()
            });
            let begin = *starts.get(line.checked_sub(1)?)?;
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
        let before = if self.facts[at.source].is_ascii {
            at.span.start
        } else {
            let line = self.line(at.source, at.span.line);
            line.get(..at.span.start).unwrap_or(line).chars().count()
        };
        Origin {
            layer: self.layer(at.source),
            file: Some(Arc::clone(&self.sources[at.source].path)),
            line: at.span.line,
            column: before + 1,
        }
    }
}
