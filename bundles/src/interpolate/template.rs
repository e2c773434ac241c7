//! Values of texts that several configurations have in common. Mostly the names in one of these stand
//! for the same in all of them, and then so does the value: it is put together and checked once.

use std::ops::Range;
use std::sync::OnceLock;

use super::{Part, Resolved, parts};
use crate::text::Str;

/// How much may be kept of a value, in bytes: a text can have many of them.
const MAX_KEPT: usize = 512;

/// A value with names in it, and what it was when it was first put together.
#[derive(Debug)]
pub struct Template {
    /// The names, and where they stand in the value.
    names: Box<[(Str, Range<usize>)]>,
    /// Nothing in it: that was too much to keep.
    first: OnceLock<Option<First>>,
    /// Set once that what it was first is of its type.
    is_of_type: OnceLock<()>,
}

#[derive(Debug)]
struct First {
    /// What each name stood for: the text, and what of it may be printed.
    inputs: Box<[(Str, Str)]>,
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
            names: names.into(),
            first: OnceLock::new(),
            is_of_type: OnceLock::new(),
        })
    }

    /// The names in it, in order, and where they stand in it.
    pub(super) fn names(&self) -> impl Iterator<Item = (&Str, &Range<usize>)> + Clone {
        self.names.iter().map(|(name, range)| (name, range))
    }

    /// Whether the name at this place stands for the same as at first.
    pub(super) fn is_as_first(&self, at: usize, found: &Resolved) -> bool {
        let first = self.first.get().and_then(Option::as_ref);
        let input = first.and_then(|first| first.inputs.get(at));
        input.is_some_and(|(text, shown)| *text == found.text && *shown == found.shown)
    }

    /// Whether nothing was found out about it yet.
    pub(super) fn is_new(&self) -> bool {
        self.first.get().is_none()
    }

    /// What it was at first: the text, and what of it may be printed.
    pub(super) fn as_first(&self) -> Option<(Str, Str)> {
        let first = self.first.get()?.as_ref()?;
        Some((first.text.clone(), first.shown.clone()))
    }

    /// Keeps what it is now, the first time, unless it is too much; `inputs` is what its names stand for.
    /// Whether it is as at first from now on.
    pub(super) fn keep<'a>(
        &self,
        resolved: &Resolved,
        inputs: impl Iterator<Item = &'a Resolved> + Clone,
    ) -> bool {
        let length = |one: &Resolved| one.text.len() + one.shown.len() + size_of::<(Str, Str)>();
        let all = inputs.clone().map(length).sum::<usize>() + length(resolved);
        let first = (all <= MAX_KEPT).then(|| First {
            inputs: inputs.map(copy).collect(),
            text: resolved.text.clone(),
            shown: resolved.shown.clone(),
        });
        let is_kept = first.is_some();
        self.first.set(first).is_ok() && is_kept
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

/// A copy of what may be a part of a long text.
fn copy(input: &Resolved) -> (Str, Str) {
    let text = Str::from(input.text.as_str());
    let shown = match input.shown == input.text {
        true => text.clone(),
        false => Str::from(input.shown.as_str()),
    };
    (text, shown)
}
