//! Text that many places share without copying it.
//!
//! A file of configuration is read into one buffer, which stays. Names of sections and keys, values
//! as they were written, and values that need no replacing are parts of it; what is built in is in
//! the program itself. A clone costs a counter, never a copy.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A text, or a part of one, that is cheap to clone.
#[derive(Clone)]
pub struct Str(Kept);

/// Where the text is.
#[derive(Clone)]
enum Kept {
    /// In the program.
    Built(&'static str),
    /// In a buffer: the bytes `start..start + len`, on boundaries of characters. Many of these are
    /// kept, so that they are small.
    Part {
        whole: Arc<str>,
        start: u32,
        len: u32,
    },
}

impl Str {
    /// What stands in the program itself.
    pub const fn built_in(text: &'static str) -> Str {
        Str(Kept::Built(text))
    }

    /// The bytes `range` of `whole`; nothing when there are no such characters.
    pub fn part(whole: &Arc<str>, range: Range<usize>) -> Str {
        let Some(part) = whole.get(range.clone()).filter(|part| !part.is_empty()) else {
            return Str::default();
        };
        match (u32::try_from(range.start), u32::try_from(part.len())) {
            (Ok(start), Ok(len)) => Str(Kept::Part {
                whole: Arc::clone(whole),
                start,
                len,
            }),
            // No file of configuration is that long ([`crate::layers::MAX_FILE`]).
            (Err(_), Ok(_)) => Str::from(part),
            (_, Err(_)) => Str::default(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Built(text) => text,
            Kept::Part { whole, start, len } => {
                let start = *start as usize;
                whole.get(start..start + *len as usize).unwrap_or("")
            }
        }
    }

    /// Its bytes, for which no boundary of a character has to be looked for.
    pub(crate) fn bytes_of(&self) -> &[u8] {
        match &self.0 {
            Kept::Built(text) => text.as_bytes(),
            Kept::Part { whole, start, len } => {
                let start = *start as usize;
                let part = whole.as_bytes().get(start..start + *len as usize);
                part.unwrap_or(b"")
            }
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Built(text) => text.len(),
            Kept::Part { len, .. } => *len as usize,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Str {
    fn default() -> Str {
        Str::built_in("")
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str::part(&Arc::from(text), 0..text.len())
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str::from(text.as_str())
    }
}

impl From<&Str> for String {
    fn from(text: &Str) -> String {
        text.as_str().to_owned()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

// The length is there without looking at the text, and mostly decides.
impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.len() == other.len() && self.bytes_of() == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        *self == **other
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Str) -> bool {
        self.len() == other.len() && self.bytes_of() == other.bytes_of()
    }
}

impl Eq for Str {}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Str) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// As texts are ordered, by which maps of these are searched.
impl Ord for Str {
    fn cmp(&self, other: &Str) -> Ordering {
        self.bytes_of().cmp(other.bytes_of())
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// `text` before and behind the first `byte`, an ASCII character.
pub(crate) fn split_at_byte(text: &str, byte: u8) -> Option<(&str, &str)> {
    // Mostly it is near.
    let at = text.bytes().position(|one| one == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

/// As [`str::split_whitespace`], see [`trim_start`].
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let ends = |byte: u8| matches!(byte, b'\t'..=b'\r' | b' ') || !byte.is_ascii();
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = trim_start(rest);
        let mut end = word.bytes().position(ends).unwrap_or(word.len());
        if !word[end..].is_empty() && !word.as_bytes()[end].is_ascii() {
            let space = word[end..].find(char::is_whitespace);
            end = space.map_or(word.len(), |at| end + at);
        }
        let (word, behind) = word.split_at(end);
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

/// As [`str::trim_start`]. Mostly what stands there is ASCII, and no character has to be decoded.
pub(crate) fn trim_start(text: &str) -> &str {
    let rest = text.trim_ascii_start();
    match rest.as_bytes().first() {
        Some(first) if !first.is_ascii_graphic() => rest.trim_start(),
        _ => rest,
    }
}

/// As [`str::trim_end`], see [`trim_start`].
pub(crate) fn trim_end(text: &str) -> &str {
    let rest = text.trim_ascii_end();
    match rest.as_bytes().last() {
        Some(last) if !last.is_ascii_graphic() => rest.trim_end(),
        _ => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimmed_and_split_like_the_standard_library_does() {
        let spaces = [
            "",
            " ",
            "\t \r",
            "\u{b}",
            "\u{a0}",
            " \u{2003}\u{b} ",
            "\u{85}",
            "\u{feff}",
        ];
        for (before, inner, after) in spaces
            .iter()
            .flat_map(|before| spaces.iter().map(move |after| (before, after)))
            .flat_map(|(before, after)| {
                ["", "a", "a b", "ä", "\u{1}"].map(|inner| (before, inner, after))
            })
        {
            let text = format!("{before}{inner}{after}");
            assert_eq!(trim_start(&text), text.trim_start(), "{text:?}");
            assert_eq!(trim_end(&text), text.trim_end(), "{text:?}");
            for text in [&text, &format!("{text}{text}é x\u{a0}{text}")] {
                assert!(words(text).eq(text.split_whitespace()), "{text:?}");
            }
        }
    }

    #[test]
    fn a_part_is_small() {
        assert!(size_of::<Str>() <= 24);
    }

    #[test]
    fn parts_are_what_they_say() {
        let whole: Arc<str> = Arc::from("aäb");
        assert_eq!(Str::part(&whole, 1..3), "ä");
        assert_eq!(Str::part(&whole, 3..4), *"b");
        for nothing in [0..0, 2..3, 3..9] {
            assert!(Str::part(&whole, nothing).is_empty());
        }
        assert_eq!(Str::from("x"), Str::built_in("x"));
        assert_ne!(Str::from("x"), Str::built_in("y"));
    }
}
