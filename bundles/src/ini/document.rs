//! What a parsed file is: sections and keys, each with the place where it stands.

use crate::text::Str;

/// A part of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The line, from 1.
    pub line: usize,
    /// The first byte in the line, from 0.
    pub start: usize,
    /// How many bytes.
    pub len: usize,
}

/// A parsed file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The sections, each once, in the order in which they appeared first.
    pub sections: Vec<Section>,
}

/// A section; several with the same name are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What stands between the brackets.
    pub name: Str,
    /// Where.
    pub span: Span,
    /// Its keys in the order of the file.
    pub entries: Vec<Entry>,
    /// Where `unset *` stands, if it does.
    pub unset_all: Option<Span>,
}

/// A line of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What stands before the `=`, trimmed.
    pub key: Str,
    /// Where.
    pub span: Span,
    /// What is said about the key.
    pub content: Content,
}

/// What a line says about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// `key = value`.
    Value(Text),
    /// `unset key`.
    Unset,
}

/// A value, and where its lines stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The value; continuation lines are joined with `\n`, each trimmed.
    pub text: Str,
    /// Its first line.
    pub first: Piece,
    /// The other lines of the value.
    pub more: Vec<Piece>,
}

/// A line of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins in the value, in bytes.
    pub offset: usize,
    /// The line of the file, from 1.
    pub line: usize,
    /// Where it begins in that line, in bytes.
    pub start: usize,
}

impl Text {
    /// Where the bytes `range` of the value stand. A range over several lines is cut to the first.
    pub fn span(&self, range: std::ops::Range<usize>) -> Span {
        let after = self
            .more
            .partition_point(|piece| piece.offset <= range.start);
        let piece = match after.checked_sub(1) {
            Some(index) => &self.more[index],
            None => &self.first,
        };
        let rest = self.text.get(piece.offset..).unwrap_or("");
        let line_end = piece.offset + rest.find('\n').unwrap_or(rest.len());
        let end = range.end.min(line_end).max(range.start);
        let start = piece.start + (range.start - piece.offset);
        Span {
            line: piece.line,
            start,
            len: end - range.start,
        }
    }

    /// Where the value begins: its first line.
    pub fn first_line(&self) -> Span {
        if self.more.is_empty() {
            let (line, start, len) = (self.first.line, self.first.start, self.text.len());
            return Span { line, start, len };
        }
        self.span(0..self.text.len())
    }
}
