//! The merged configuration.

use std::sync::Arc;

use super::files::Files;
use super::{LayerKind, Origin, Source, finish, merge, names};
use crate::diagnostics::{Collector, Diagnostic, Place, Report};
use crate::interpolate::{self, Part};
use crate::keys::{Key, Spec};
use crate::maps::{List, Named};
use crate::text::Str;

/// An effective value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// After interpolation.
    pub text: Str,
    /// As written.
    pub raw: Str,
    /// Where it was written.
    pub origin: Origin,
    /// What it replaced, lowest layer first: where it was and what it was, as written.
    pub overrides: Vec<(Origin, Str)>,
    /// Whether `text` must not be printed; [`Config::shown`] is what may.
    pub sensitive: bool,
}

/// A restricted key that the app layer asked for and nobody granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The section.
    pub section: String,
    /// The key.
    pub key: String,
    /// What was asked for, as written, without what must not be printed.
    pub value: String,
    /// Where it was asked for.
    pub origin: Origin,
    /// Why it is not granted without a word from site or local.
    pub reason: String,
    /// The lines that grant it, for a site or local layer: `[sandbox.net]\nip = 10.1.1.9`.
    pub grant: String,
}

/// A name that the app layer refers to and that a higher layer has to define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The name in `[env]`.
    pub name: String,
    /// Where it is referred to first.
    pub origin: Origin,
}

/// A value and what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(super) key: Str,
    pub(super) row: &'static Key,
    pub(super) value: Value,
    /// The text without what must not be printed, when there is such.
    pub(super) shown: Option<Str>,
    /// The argument words of keys that hold some.
    pub(super) words: Option<Arc<[String]>>,
    /// It comes from `[daemon.*]`.
    pub(super) for_all: bool,
    /// A fault of it was reported, or a name in it is not known yet.
    pub(super) unusable: bool,
}

/// A section of the merged configuration.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(super) name: Str,
    /// What it is in the table.
    pub(super) spec: Spec,
    /// What is set, in the order in which it appeared first.
    pub(super) entries: List<Entry>,
    /// What holds for the keys that are not.
    pub(super) defaults: &'static List<Entry>,
}

impl Entry {
    fn words(&self) -> &[String] {
        self.words.as_deref().unwrap_or_default()
    }

    /// The text as it may be printed.
    pub(super) fn shown(&self) -> &str {
        self.shown.as_ref().unwrap_or(&self.value.text)
    }
}

impl Named for Entry {
    fn name(&self) -> &Str {
        &self.key
    }
}

impl Named for Section {
    fn name(&self) -> &Str {
        &self.name
    }
}

impl Section {
    /// The key, if it was set or has a default.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key).or_else(|| self.defaults.get(key))
    }

    /// What was set, in the order in which it appeared first, then the defaults.
    pub(super) fn all(&self) -> impl Iterator<Item = &Entry> {
        let is_default = |entry: &&Entry| !self.entries.contains(&entry.key);
        let defaults = self.defaults.iter().filter(is_default);
        self.entries.iter().chain(defaults)
    }

    /// A value, if the key was set or has a default.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// As [`Config::words`].
    pub(crate) fn words(&self, key: &str) -> Option<&[String]> {
        self.entry(key).map(Entry::words)
    }

    /// A value of which no fault was reported, and in which every name is known.
    pub(crate) fn usable(&self, key: &str) -> Option<&Value> {
        let entry = self.entry(key).filter(|entry| !entry.unusable);
        entry.map(|entry| &entry.value)
    }

    /// How many keys are set.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all values are so.
    pub(crate) fn is_usable(&self) -> bool {
        self.entries.iter().all(|entry| !entry.unusable)
    }

    /// The keys and values, in the order in which they appeared first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.all().map(|entry| (&*entry.key, &entry.value))
    }

    /// As [`Section::iter`], those whose keys begin with `prefix`.
    pub(crate) fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.entries_below(prefix)
            .map(|entry| (&*entry.key, &entry.value))
    }

    /// As [`Section::below`], those that are usable.
    pub(crate) fn usable_below<'a>(
        &'a self,
        prefix: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.entries_below(prefix)
            .filter(|entry| !entry.unusable)
            .map(|entry| (&*entry.key, &entry.value))
    }

    fn entries_below(&self, prefix: &str) -> impl Iterator<Item = &Entry> {
        let begins = move |entry: &&Entry| entry.key.starts_with(prefix);
        let is_default = |entry: &&Entry| !self.entries.contains(&entry.key);
        let defaults = self.defaults.iter().filter(begins).filter(is_default);
        self.entries.iter().filter(begins).chain(defaults)
    }

    /// Those that are usable.
    pub(crate) fn usable_entries(&self) -> impl Iterator<Item = (&Str, &Value)> {
        let usable = self.all().filter(|entry| !entry.unusable);
        usable.map(|entry| (&entry.key, &entry.value))
    }

    /// As [`Section::usable_entries`].
    pub(crate) fn usable_values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.usable_entries()
            .map(|(key, value)| (key.as_str(), value))
    }
}

/// Everything that the layers say together, interpolated.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub(super) sections: List<Section>,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) requests: Vec<Denied>,
    pub(super) needed: Vec<Needed>,
    pub(super) sources: Vec<Source>,
}

impl Config {
    /// Merges, interpolates and checks the layers, whatever their order.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, in one report.
    pub fn from_sources(sources: Vec<Source>) -> Result<Config, Report> {
        let (config, out) = Config::assemble(sources, false);
        config.with_warnings(out)
    }

    /// As [`Config::from_sources`], but a name that no layer defines is not an error: it is one of
    /// [`Config::needed`]. To check an app layer alone.
    ///
    /// # Errors
    /// Everything else that is wrong.
    pub fn check(sources: Vec<Source>) -> Result<Config, Report> {
        let (config, out) = Config::assemble(sources, true);
        config.with_warnings(out)
    }

    /// The configuration as far as it can be understood, whatever is wrong with it: to find out which
    /// keys there are, never to run something.
    pub fn as_far_as_understood(sources: Vec<Source>) -> Config {
        Config::assemble(sources, true).0
    }

    /// The configuration as far as it can be understood, and what is wrong with it.
    pub(crate) fn assemble(sources: Vec<Source>, lenient: bool) -> (Config, Collector) {
        let files = Files::new(sources);
        let mut out = Collector::default();
        let said = names::understand(&files, &mut out);
        let (mut config, out) = finish::finish(merge::merge(&files, &said, out), lenient);
        drop(said);
        config.sources = files.sources;
        (config, out)
    }

    pub(crate) fn with_warnings(mut self, out: Collector) -> Result<Config, Report> {
        self.warnings = out.finish()?;
        Ok(self)
    }

    /// The names of the sections: in the order of the key table, daemons as they appeared.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.sections.iter().map(|section| section.name.as_str())
    }

    /// The keys and values of a section, in the order in which they appeared first.
    pub fn section(&self, name: &str) -> Option<impl Iterator<Item = (&str, &Value)>> {
        Some(self.sections.get(name)?.iter())
    }

    /// A value, if the key was set or has a default.
    pub fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.entry(section, key).map(|entry| &entry.value)
    }

    /// The argument words of a value: split as written, then interpolated, so that a variable with
    /// spaces is still one argument. Empty for keys that hold no arguments.
    pub fn words(&self, section: &str, key: &str) -> Option<Vec<String>> {
        self.entry(section, key).map(|entry| entry.words().to_vec())
    }

    /// The text of a value as it may be printed: passwords are `***`.
    pub fn shown(&self, section: &str, key: &str) -> Option<&str> {
        self.entry(section, key).map(Entry::shown)
    }

    /// A section, to look several keys of it up.
    pub(crate) fn part(&self, section: &str) -> Option<&Section> {
        self.sections.get(section)
    }

    fn entry(&self, section: &str, key: &str) -> Option<&Entry> {
        self.sections.get(section)?.entry(key)
    }

    /// The names of `[env]` that a value refers to, directly or by other names, each once with where
    /// it was written. What nobody defines is left out.
    pub fn names_of(&self, value: &Value) -> Vec<(String, Origin)> {
        let mut found: Vec<(String, Origin)> = Vec::new();
        let mut texts = vec![value.raw.as_str()];
        while let Some(text) = texts.pop() {
            for part in interpolate::parts(text).unwrap_or_default() {
                let Part::Name(name, _) = part else { continue };
                let Some(definition) = self.get("env", name) else {
                    continue;
                };
                if found.iter().all(|(known, _)| known != name) {
                    found.push((name.to_owned(), definition.origin.clone()));
                    texts.push(&definition.raw);
                }
            }
        }
        found
    }

    /// `raw` with the names in it replaced, as far as they are defined. For text that takes no
    /// effect, like a request.
    pub(crate) fn substituted(&self, raw: &str) -> String {
        let parts = interpolate::parts(raw).unwrap_or_else(|_| vec![Part::Text(raw)]);
        parts
            .into_iter()
            .map(|part| match part {
                Part::Text(text) => text,
                Part::Name(name, range) => self
                    .get("env", name)
                    .map_or(&raw[range], |value| value.text.as_str()),
            })
            .collect()
    }

    /// What is worth knowing but stops nothing.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// What the app layer asked for and nobody granted.
    pub fn requests(&self) -> &[Denied] {
        &self.requests
    }

    /// Names that the app layer refers to and a higher layer has to define. Only filled by
    /// [`Config::check`]; otherwise such a name is an error.
    pub fn needed(&self) -> &[Needed] {
        &self.needed
    }

    /// The files that it was merged from, lowest first.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The place of a value in its file, to report something about it.
    pub fn place(&self, value: &Value) -> Option<Place> {
        self.place_of(&value.origin, value.raw.lines().next().unwrap_or("").len())
    }

    /// The place at `origin`, `length` bytes long.
    pub fn place_of(&self, origin: &Origin, length: usize) -> Option<Place> {
        let file = origin.file.as_ref()?;
        let same = |source: &&Source| source.layer == origin.layer && source.path == *file;
        let source = self.sources.iter().find(same)?;
        let line = source.text.lines().nth(origin.line.checked_sub(1)?)?;
        let start = match line.char_indices().nth(origin.column.saturating_sub(1)) {
            Some((index, _)) => index,
            None => line.len(),
        };
        Some(Place::in_layer(
            file,
            &source.text,
            origin.line,
            line,
            start..start.saturating_add(length),
        ))
    }

    /// The highest layer that has a file here.
    pub fn highest_layer(&self) -> LayerKind {
        self.sources
            .iter()
            .map(|s| s.layer)
            .max()
            .unwrap_or(LayerKind::Defaults)
    }
}
