//! Text that many places share without copying it.
//!
//! A file of configuration is read into one buffer, which stays. Names of sections and keys, values
//! as they were written, and values that need no replacing are parts of it; what is built in is in
//! the program itself. A clone costs a counter, never a copy.

use std::borrow::Borrow;
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
    /// In a buffer: the bytes `start..start + len`, on boundaries of characters.
    Part {
        whole: Arc<str>,
        start: usize,
        len: usize,
    },
}

impl Str {
    /// What stands in the program itself.
    pub const fn built_in(text: &'static str) -> Str {
        Str(Kept::Built(text))
    }

    /// The bytes `range` of `whole`; nothing when there are no such characters.
    pub fn part(whole: &Arc<str>, range: Range<usize>) -> Str {
        match whole.get(range.clone()) {
            Some(part) if !part.is_empty() => Str(Kept::Part {
                whole: Arc::clone(whole),
                start: range.start,
                len: part.len(),
            }),
            _ => Str::default(),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Built(text) => text,
            Kept::Part { whole, start, len } => whole.get(*start..*start + *len).unwrap_or(""),
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Built(text) => text.len(),
            Kept::Part { len, .. } => *len,
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
        self.len() == other.len() && self.as_str() == other
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
        self.len() == other.len() && self.as_str() == other.as_str()
    }
}

impl Eq for Str {}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
