//! Values of texts that several configurations have in common. Mostly the names in one of these stand
//! for the same in all of them, and then so does the value: it is put together and checked once.

use std::ops::Range;
use std::sync::OnceLock;

use super::{Part, Resolved, parts};
use crate::text::Str;

/// How long what is kept of a value may be, in bytes: a text can have many of them.
const MAX_KEPT: usize = 512;

/// A value with names in it, and what it was when it was first put together.
#[derive(Debug)]
pub struct Template {
    /// The names, and where they stand in the value.
    names: Vec<(Str, Range<usize>)>,
    first: OnceLock<First>,
    /// Set once that what it was first is of its type.
    is_of_type: OnceLock<()>,
}

#[derive(Debug)]
struct First {
    /// What each name stood for: the text, and what of it may be printed.
    inputs: Vec<(Str, Str)>,
    text: Str,
    shown: Str,
}

impl Template {
    /// The value `raw`, if there are names in it and nothing is wrong with them.
    pub(crate) fn of(raw: &Str) -> Option<Template> {
        let mut names = Vec::new();
        for part in parts(raw).ok()? {
            if let Part::Name(name, range) = part {
                names.push((Str::from(name), range));
            }
        }
        (!names.is_empty()).then(|| Template {
            names,
            first: OnceLock::new(),
            is_of_type: OnceLock::new(),
        })
    }

    /// The names in it, in order, and where they stand in it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Str, &Range<usize>)> {
        self.names.iter().map(|(name, range)| (name, range))
    }

    /// Whether the name at this place stands for the same as at first.
    pub(super) fn is_as_first(&self, at: usize, found: &Resolved) -> bool {
        let first = self.first.get().and_then(|first| first.inputs.get(at));
        first.is_some_and(|(text, shown)| *text == found.text && *shown == found.shown)
    }

    /// What it was at first: the text, and what of it may be printed.
    pub(super) fn as_first(&self) -> Option<(Str, Str)> {
        let first = self.first.get()?;
        Some((first.text.clone(), first.shown.clone()))
    }

    /// Keeps what it is now, if it is the first time and not too long; `inputs` is what its names stand
    /// for. Whether it is as at first from now on.
    pub(super) fn keep(&self, resolved: &Resolved, inputs: Vec<(Str, Str)>) -> bool {
        let length = |(text, shown): &(Str, Str)| text.len() + shown.len();
        let own = resolved.text.len() + resolved.shown.len();
        if inputs.iter().map(length).sum::<usize>() + own > MAX_KEPT {
            return false;
        }
        // Copies, for these may be parts of long texts.
        let copy =
            |(text, shown): &(Str, Str)| (Str::from(text.as_str()), Str::from(shown.as_str()));
        let first = First {
            inputs: inputs.iter().map(copy).collect(),
            text: resolved.text.clone(),
            shown: resolved.shown.clone(),
        };
        self.first.set(first).is_ok()
    }

    /// Whether the value that it was at first is known to be of its type.
    pub(crate) fn is_of_type(&self) -> bool {
        self.is_of_type.get().is_some()
    }

    /// That value is of its type.
    pub(crate) fn settle_type(&self) {
        self.is_of_type.get_or_init(|| ());
    }
}
