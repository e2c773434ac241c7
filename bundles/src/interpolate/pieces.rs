//! The parts of a value: text, and names to be replaced.

use std::ops::Range;

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// Stays as it is.
    Text(&'a str),
    /// `%(name)`, and where it stands in the value.
    Name(&'a str, Range<usize>),
}

/// A reference that is none: where, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadReference {
    /// The bytes of the value.
    pub range: Range<usize>,
    /// What is wrong.
    pub problem: String,
}

/// The parts of a value as it was written.
///
/// # Errors
/// `%(` without a name and `)` behind it.
pub fn parts(raw: &str) -> Result<Vec<Part<'_>>, BadReference> {
    pieces(raw).collect()
}

/// As [`parts`], one after the other.
pub(super) fn pieces(raw: &str) -> Pieces<'_> {
    Pieces {
        raw,
        plain: 0,
        at: 0,
        next: None,
    }
}

/// Goes through the parts of a value.
pub(super) struct Pieces<'a> {
    raw: &'a str,
    /// Where what was not returned yet begins.
    plain: usize,
    /// From where on a `%` is looked for.
    at: usize,
    /// What stands behind the text that was returned last.
    next: Option<Part<'a>>,
}

impl<'a> Pieces<'a> {
    /// The text up to `end`, if there is some; what follows it begins at `next`.
    fn text(&mut self, end: usize, next: usize) -> Option<Part<'a>> {
        let text = &self.raw[self.plain..end];
        (self.plain, self.at) = (next, next);
        (!text.is_empty()).then_some(Part::Text(text))
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Result<Part<'a>, BadReference>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(next) = self.next.take() {
            return Some(Ok(next));
        }
        let raw = self.raw;
        while let Some(found) = memchr::memchr(b'%', &raw.as_bytes()[self.at..]) {
            let percent = self.at + found;
            let rest = &raw[percent + 1..];
            if rest.starts_with('%') {
                return self.text(percent + 1, percent + 2).map(Ok);
            }
            let Some(rest) = rest.strip_prefix('(') else {
                self.at = percent + 1;
                continue;
            };
            let end = rest.bytes().position(|byte| !is_name_byte(byte));
            let end = end.unwrap_or(rest.len());
            let name = &rest[..end];
            if rest.as_bytes().get(end) != Some(&b')') || name.is_empty() {
                let range = percent..percent + 2 + end;
                let problem = "`%(` begins a reference such as %(NAME)".to_owned();
                return Some(Err(BadReference { range, problem }));
            }
            let after = percent + 2 + end + 1;
            let name = Part::Name(name, percent..after);
            return match self.text(percent, after) {
                Some(text) => {
                    self.next = Some(name);
                    Some(Ok(text))
                }
                None => Some(Ok(name)),
            };
        }
        self.text(raw.len(), raw.len()).map(Ok)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}
