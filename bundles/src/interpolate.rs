//! `%(NAME)` is replaced from the merged `[env]`.
//!
//! `%%` is `%`, and a `%` before anything else stays as it is. There is no trailing `s`. Values of
//! `[env]` may refer to others; a cycle or an unknown name is a [`Fault`] with the whole chain.
//! What hostile input can cost is bounded: [`MAX_DEPTH`], [`MAX_LENGTH`], [`MAX_TOTAL`].
//!
//! Two texts are made at once: the true one, and one that may be printed.

mod pieces;
mod template;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use pieces::pieces;
pub use pieces::{BadReference, Part, parts};
pub use template::Template;

use crate::maps::{List, Named};
use crate::text::Str;
use crate::{redact, secrets};

/// How many names a chain of references may have.
pub const MAX_DEPTH: usize = 32;
/// How long one value may become, in bytes.
pub const MAX_LENGTH: usize = 256 * 1024;
/// How long all values together may become, in bytes.
pub const MAX_TOTAL: usize = 16 * 1024 * 1024;

/// A name of `[env]`.
#[derive(Debug, Clone, Copy)]
pub struct Definition<'a> {
    /// The value as written.
    pub raw: &'a Str,
    /// Whether the app layer wrote it.
    pub from_app: bool,
    /// What it is in a text that several configurations have in common.
    pub template: Option<&'a Template>,
}

/// A value with nothing left to replace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// The text.
    pub text: Str,
    /// The text without what must not be printed.
    pub shown: Str,
    /// A name, defined by the app layer, that is in it.
    pub from_app: Option<Str>,
    /// Names that are in it and not known yet; they stand in the text as they were written. Only
    /// when [`Interpolator::lenient`].
    pub missing: BTreeSet<String>,
    /// How long the longest chain of references in it is.
    depth: usize,
    /// Whether text and what may be printed are what they were at first ([`Template`]).
    as_first: bool,
}

impl Resolved {
    /// A value in which nothing is replaced.
    pub fn as_written(raw: &Str) -> Resolved {
        Resolved {
            shown: printable(raw.clone()),
            ..Resolved::of(raw.clone())
        }
    }

    /// A text that is printed as it is.
    fn of(text: Str) -> Resolved {
        Resolved {
            shown: text.clone(),
            text,
            ..Resolved::default()
        }
    }

    /// Whether it is what it was when its template was used first.
    pub(crate) fn is_as_first(&self) -> bool {
        self.as_first
    }

    /// A value of `[secrets]`.
    pub fn secret(raw: &Str) -> Resolved {
        let shown = match secrets::shown(raw) {
            same if same == raw.as_str() => raw.clone(),
            other => other.into(),
        };
        Resolved {
            shown,
            ..Resolved::of(raw.clone())
        }
    }
}

/// A text without the passwords of URLs.
pub(crate) fn printable(text: Str) -> Str {
    let masked = match redact::redact(&text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(masked) => Some(masked.into()),
    };
    masked.unwrap_or(text)
}

/// Why a value cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub kind: FaultKind,
    /// From the value itself to where it goes wrong, at least one step.
    pub chain: Vec<Step>,
}

impl Fault {
    /// Whether a name that the value itself refers to is not there.
    fn is_unknown_here(&self) -> bool {
        self.chain.len() == 1 && matches!(self.kind, FaultKind::Unknown(_))
    }
}

/// A step of a chain: the value, and the reference in it that leads on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The name in `[env]`; `None` is the value itself.
    pub name: Option<String>,
    /// The reference, in bytes of the value as written.
    pub range: Range<usize>,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultKind {
    /// [`BadReference`].
    Syntax(String),
    /// No such name in `[env]`.
    Unknown(String),
    /// This name leads back to itself.
    Cycle(String),
    /// More than [`MAX_DEPTH`] names in a chain.
    TooDeep,
    /// More than [`MAX_LENGTH`] bytes, or [`MAX_TOTAL`] in all.
    TooLong,
}

/// Why a name or value cannot be resolved: a fault, or one that was told already.
type Failure = Option<Fault>;

/// What is known of a name.
#[derive(Debug)]
struct Name<'a> {
    text: &'a Str,
    definition: Definition<'a>,
    /// What it stands for, once it was asked for; nothing in it: that failed, and was told.
    done: Option<Option<Box<Resolved>>>,
}

impl Named for Name<'_> {
    fn name(&self) -> &Str {
        self.text
    }
}

/// Replaces references. Every name is resolved once.
#[derive(Debug, Default)]
pub struct Interpolator<'a> {
    names: List<Name<'a>>,
    /// The names that are being resolved, each in the value of the one before.
    stack: Vec<usize>,
    spent: usize,
    /// What a value is put together in. Values within it have their own.
    scratch: String,
    /// Whether an unknown name is no fault.
    lenient: bool,
}

impl<'a> Interpolator<'a> {
    /// For these names, each of which is there once.
    pub fn new(definitions: impl IntoIterator<Item = (&'a Str, Definition<'a>)>) -> Self {
        let name = |(text, definition)| Name {
            text,
            definition,
            done: None,
        };
        let definitions = definitions.into_iter();
        let mut names = List::with_capacity(definitions.size_hint().1.unwrap_or(0));
        names.extend(definitions.map(name));
        Interpolator {
            names,
            ..Self::default()
        }
    }

    /// Leaves unknown names as they are instead of failing.
    #[must_use]
    pub fn lenient(mut self, lenient: bool) -> Self {
        self.lenient = lenient;
        self
    }

    /// The names that there are.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().map(|name| name.text.as_str())
    }

    /// Whether a value of `length` bytes in which nothing is replaced can be there beside the others;
    /// then it counts.
    pub(crate) fn has_room(&mut self, length: usize) -> bool {
        let fits = length <= MAX_TOTAL.saturating_sub(self.spent);
        self.spent += if fits { length } else { 0 };
        fits
    }

    /// A value of any section but `[env]`.
    ///
    /// # Errors
    /// The fault, or `None` when it is in a name and was told before.
    pub fn value(&mut self, raw: &Str) -> Result<Resolved, Failure> {
        self.expand(raw, None, None)
    }

    /// As [`Interpolator::value`], of a text that several configurations have in common.
    pub(crate) fn common_value(
        &mut self,
        raw: &Str,
        template: Option<&Template>,
    ) -> Result<Resolved, Failure> {
        self.expand(raw, None, template)
    }

    /// An argument word of a value that was resolved, in which what is no reference stays as it is.
    ///
    /// # Errors
    /// It, or all values together, would be too long; and what is wrong with a name in it that nothing
    /// else refers to.
    pub(crate) fn word(&mut self, word: &str) -> Result<String, Failure> {
        let here = |range| Step { name: None, range };
        let mut text = String::with_capacity(word.len());
        for part in pieces(word) {
            match part {
                Ok(Part::Text(part)) => text.push_str(part),
                Ok(Part::Name(name, range)) => match self.refer(name, || here(range.clone())) {
                    Ok(Some(found)) => text.push_str(&found.text),
                    Ok(None) => text.push_str(&word[range]),
                    // What only splitting made look like a reference need not be one.
                    Err(Some(fault)) if !fault.is_unknown_here() => return Err(Some(fault)),
                    Err(_) => return Ok(word.to_owned()),
                },
                Err(_) => return Ok(word.to_owned()),
            }
            if text.len() > MAX_LENGTH {
                break;
            }
        }
        self.spend(word.len(), text.len(), &here)?;
        Ok(text)
    }

    /// The value of a name in `[env]`.
    ///
    /// # Errors
    /// As [`Interpolator::value`].
    pub fn name(&mut self, name: &str) -> Result<Resolved, Failure> {
        let at = self.names.position(name).ok_or(None)?;
        if self.names.at(at).done.is_none() {
            self.define(at)?;
        }
        match &self.names.at(at).done {
            Some(Some(resolved)) => Ok(Resolved::clone(resolved)),
            _ => Err(None),
        }
    }

    /// Resolves a name for the first time.
    fn define(&mut self, at: usize) -> Result<(), Failure> {
        let Name {
            text: name,
            definition,
            ..
        } = *self.names.at(at);
        self.stack.push(at);
        let result = self.expand(definition.raw, Some(name.as_str()), definition.template);
        self.stack.pop();
        let (done, told) = match result {
            Ok(mut resolved) => {
                if definition.from_app {
                    resolved.from_app.get_or_insert_with(|| name.clone());
                }
                if redact::is_secret_name(name) && !resolved.text.is_empty() {
                    resolved.shown = Str::built_in(redact::MASK);
                }
                (Some(Box::new(resolved)), Ok(()))
            }
            Err(failure) => (None, Err(failure)),
        };
        self.names.at_mut(at).done = Some(done);
        told
    }

    /// `raw`, the value of `owner` or, without one, of something outside of `[env]`.
    fn expand(
        &mut self,
        raw: &Str,
        owner: Option<&str>,
        template: Option<&Template>,
    ) -> Result<Resolved, Failure> {
        let here = |range| Step {
            name: owner.map(str::to_owned),
            range,
        };
        if let Some(template) = template {
            return self.filled(raw, template, &here);
        }
        // Mostly there is neither a name in it nor a URL.
        let special = memchr::memchr2(b'%', b':', raw.as_bytes());
        let mut resolved = match special.map(|at| memchr::memchr(b'%', &raw.as_bytes()[at..])) {
            Some(Some(_)) => self.replaced(raw, &here)?,
            _ => Resolved::of(raw.clone()),
        };
        self.spend(raw.len(), resolved.text.len(), &here)?;
        if special.is_some() {
            resolved.shown = printable(resolved.shown);
        }
        Ok(resolved)
    }

    /// Counts a value of `length` bytes, `raw` before its names were replaced.
    fn spend(
        &mut self,
        raw: usize,
        length: usize,
        here: &impl Fn(Range<usize>) -> Step,
    ) -> Result<(), Failure> {
        self.spent += length;
        if length > MAX_LENGTH || self.spent > MAX_TOTAL {
            return Err(here(0..raw).fault(FaultKind::TooLong));
        }
        Ok(())
    }

    /// `raw` with its names replaced, as at first if they stand for the same.
    fn filled(
        &mut self,
        raw: &Str,
        template: &Template,
        here: &impl Fn(Range<usize>) -> Step,
    ) -> Result<Resolved, Failure> {
        let first = template.as_first();
        let mut resolved = Resolved {
            as_first: first.is_some(),
            ..Resolved::default()
        };
        if first.is_some() {
            for (at, (name, range)) in template.names().enumerate() {
                let found = self.refer(name, || here(range.clone()))?;
                resolved.as_first &= found.is_some_and(|found| template.is_as_first(at, found));
                resolved.take_note(name, found);
            }
        }
        if let (true, Some((text, shown))) = (resolved.as_first, first) {
            self.spend(raw.len(), text.len(), here)?;
            return Ok(Resolved {
                text,
                shown,
                ..resolved
            });
        }
        let mut resolved = self.replaced(raw, here)?;
        self.spend(raw.len(), resolved.text.len(), here)?;
        resolved.shown = printable(resolved.shown);
        if template.is_new() && resolved.missing.is_empty() {
            let inputs = template.names().filter_map(|(name, _)| self.known(name));
            resolved.as_first = template.keep(&resolved, inputs);
        }
        Ok(resolved)
    }

    /// What a name stands for, if that was found out.
    fn known(&self, name: &str) -> Option<&Resolved> {
        self.names.get(name)?.done.as_ref()?.as_deref()
    }

    /// `raw` with something replaced, passwords of URLs not masked yet; `here` makes the step that a
    /// part of it is.
    fn replaced(
        &mut self,
        raw: &Str,
        here: &impl Fn(Range<usize>) -> Step,
    ) -> Result<Resolved, Failure> {
        let bad = |bad: BadReference| here(bad.range).fault(FaultKind::Syntax(bad.problem));
        // Before any name is looked at.
        if let Some(Err(wrong)) = pieces(raw).find(Result::is_err) {
            return Err(bad(wrong));
        }
        let mut out = Resolved::default();
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        // What may be printed, once that is not the text itself.
        let mut shown: Option<String> = None;
        for part in pieces(raw) {
            match part.map_err(bad)? {
                Part::Text(part) => {
                    text.push_str(part);
                    shown.iter_mut().for_each(|shown| shown.push_str(part));
                }
                Part::Name(name, range) => {
                    let found = self.refer(name, || here(range.clone()))?;
                    let (own, printed) = match found {
                        Some(found) => (&*found.text, &*found.shown),
                        None => (&raw[range.clone()], &raw[range]),
                    };
                    if own != printed {
                        shown.get_or_insert_with(|| text.clone());
                    }
                    text.push_str(own);
                    shown.iter_mut().for_each(|shown| shown.push_str(printed));
                    out.take_note(name, found);
                }
            }
            if text.len() > MAX_LENGTH {
                return Err(here(0..raw.len()).fault(FaultKind::TooLong));
            }
        }
        out.text = text.as_str().into();
        self.scratch = text;
        out.shown = shown.map_or_else(|| out.text.clone(), Str::from);
        Ok(out)
    }

    /// What the reference to `name` stands for, of which `step` tells where it is; `None`: not known,
    /// and need not be.
    fn refer(&mut self, name: &str, step: impl Fn() -> Step) -> Result<Option<&Resolved>, Failure> {
        let Some(at) = self.names.position(name) else {
            if self.lenient {
                return Ok(None);
            }
            return Err(step().fault(FaultKind::Unknown(name.to_owned())));
        };
        if self.stack.contains(&at) {
            return Err(step().fault(FaultKind::Cycle(name.to_owned())));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(step().fault(FaultKind::TooDeep));
        }
        if self.names.at(at).done.is_none() {
            self.define(at).map_err(|failure| {
                failure.map(|mut fault| {
                    fault.chain.insert(0, step());
                    fault
                })
            })?;
        }
        match &self.names.at(at).done {
            Some(Some(resolved)) if resolved.depth < MAX_DEPTH => Ok(Some(resolved)),
            Some(Some(_)) => Err(step().fault(FaultKind::TooDeep)),
            _ => Err(None),
        }
    }
}

impl Step {
    /// A chain that begins and ends here.
    fn fault(self, kind: FaultKind) -> Failure {
        Some(Fault {
            kind,
            chain: vec![self],
        })
    }
}

impl Resolved {
    /// What follows from a reference to `name`, which stands for `found`.
    fn take_note(&mut self, name: &str, found: Option<&Resolved>) {
        let Some(found) = found else {
            self.missing.insert(name.to_owned());
            return;
        };
        self.depth = self.depth.max(found.depth + 1);
        // One is enough to know that some are missing: the others are told where they are referred
        // to, and many values may refer to a value that has many.
        self.missing.extend(found.missing.first().cloned());
        self.from_app = self.from_app.take().or_else(|| found.from_app.clone());
    }
}

#[cfg(test)]
mod tests;
