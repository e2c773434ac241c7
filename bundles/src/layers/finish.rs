//! From merged layers to a [`Config`]: names replaced, types checked, defaults filled in.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::config::{Config, Entry, Needed, Section, Value};
use super::defaults;
use super::faults::Told;
use super::files::{At, Files};
use super::known::{Plain, Settled};
use super::merge::{ALL_DAEMONS, Merged, Merging, Slot, Written};
use super::{LayerKind, Origin};
use crate::diagnostics::{Collector, Diagnostic, Place};
use crate::interpolate::{Definition, Fault, Interpolator, Resolved, Template};
use crate::keys::values::split_words;
use crate::keys::{self, Grant, Key, Spec, suggest};
use crate::maps::List;
use crate::text::Str;
use crate::{platforms, redact};

/// Interpolates, checks and completes what was merged.
///
/// When `lenient`, an unknown name is no error but one that is needed of a higher layer.
pub(super) fn finish(mut merged: Merged<'_>, lenient: bool) -> (Config, Collector) {
    let mut sections = std::mem::take(&mut merged.sections).into_vec();
    sections.retain(|section| section.spec.name != ALL_DAEMONS || section.declared.is_some());
    sections.sort_by_key(|section| section.spec.rank);
    // Before the first deployment there is no app layer, which has the platforms of daemons.
    let whole =
        !lenient || (merged.files.sources.iter()).any(|source| source.layer == LayerKind::App);
    let env = sections.iter().find(|section| section.spec.name == "env");
    let mut finisher = Finisher {
        whole,
        files: merged.files,
        out: merged.out,
        closed: &merged.closed,
        env,
        daemons: sections
            .iter()
            .filter_map(|section| section.name.strip_prefix("daemon."))
            .collect(),
        needed: BTreeMap::new(),
    };
    let mut interpolator = interpolator(env).lenient(lenient);
    let mut finished = Vec::with_capacity(sections.len());
    for section in &sections {
        finished.push(finisher.section(section, &mut interpolator));
    }
    drop(interpolator);
    let Finisher { out, needed, .. } = finisher;
    let needed = needed.into_iter();
    let config = Config {
        sections: complete(finished),
        warnings: Vec::new(),
        needed: needed
            .map(|(name, origin)| Needed { name, origin })
            .collect(),
        requests: merged.requests,
        // Whoever read them puts them there.
        sources: Vec::new(),
    };
    (config, out)
}

/// What `%(NAME)` can be.
fn interpolator<'a>(env: Option<&'a Merging<'a>>) -> Interpolator<'a> {
    let slots = env.map(|section| section.slots.iter()).unwrap_or_default();
    Interpolator::new(slots.filter_map(|slot| {
        let written = slot.current.as_ref()?;
        let definition = Definition {
            raw: &written.text.text,
            from_app: written.layer == LayerKind::App,
            template: written.template(),
        };
        Some((slot.key, definition))
    }))
}

struct Finisher<'a> {
    files: &'a Files,
    out: Collector,
    closed: &'a [&'static str],
    /// Whether nothing more can come that says what a daemon is.
    whole: bool,
    /// `[env]`, if there is one.
    env: Option<&'a Merging<'a>>,
    /// The names of all daemons.
    daemons: Vec<&'a str>,
    /// Names that a higher layer has to define, and where each is referred to first.
    needed: BTreeMap<String, Origin>,
}

impl<'a> Finisher<'a> {
    fn section(
        &mut self,
        section: &'a Merging<'a>,
        interpolator: &mut Interpolator<'a>,
    ) -> Section {
        let mut finished = Section {
            name: section.name.clone(),
            spec: section.spec,
            entries: List::with_capacity(section.slots.len()),
            defaults: &defaults::NONE,
        };
        for slot in &section.slots {
            if let Some(written) = &slot.current {
                let entry = self.entry(section, slot, written, interpolator);
                finished.entries.push(entry);
            }
        }
        finished.defaults = match section.spec.name {
            ALL_DAEMONS => self.platform(section, &mut finished),
            _ => defaults::of(section.spec, &finished.entries),
        };
        finished
    }

    fn entry(
        &mut self,
        section: &Merging<'_>,
        slot: &Slot<'_>,
        written: &Written<'_>,
        interpolator: &mut Interpolator<'a>,
    ) -> Entry {
        let at = At {
            source: written.source,
            span: written.text.first_line(),
        };
        let origin = self.files.origin(at);
        let raw = &written.text.text;
        if let Some(plain) = self.plain(slot, written, interpolator) {
            let value = Value {
                text: raw.clone(),
                raw: raw.clone(),
                origin,
                overrides: slot.overrides.clone(),
                sensitive: plain.shown.is_some(),
            };
            return Entry {
                key: slot.key.clone(),
                row: slot.row,
                value,
                shown: plain.shown.clone(),
                words: plain.words.clone(),
                for_all: written.for_all,
                unusable: false,
            };
        }
        let is_env = section.spec.name == "env";
        let resolved = match section.spec.name {
            _ if is_env => interpolator.name(slot.key),
            // Taken as written: a password may have any characters.
            redact::SECRETS => Ok(Resolved::secret(raw)),
            _ => interpolator.common_value(raw, written.template()),
        };
        let (resolved, failed) = match resolved {
            Ok(resolved) => (resolved, false),
            Err(fault) => {
                if let Some(fault) = fault {
                    self.fault(section, slot, written, &fault, interpolator);
                }
                (Resolved::as_written(raw), true)
            }
        };
        for name in &resolved.missing {
            self.needed
                .entry(name.clone())
                .or_insert_with(|| origin.clone());
        }
        let pending = !resolved.missing.is_empty();
        // A word of arguments is split before names are replaced.
        let split = match slot.row.has_words() {
            true => split_words(raw)
                .map(Some)
                .map_err(|problem| problem.to_string()),
            false => Ok(None),
        };
        let mut wrong =
            !failed && !pending && !self.check(section, slot, written, &resolved, &split);
        let words = match split {
            Ok(Some(words)) if !failed && !wrong => {
                let words = self.words(section, slot, written, words, interpolator);
                wrong = words.is_none();
                words
            }
            _ => None,
        };
        let Resolved {
            text, mut shown, ..
        } = resolved;
        // Those of [env] know it by themselves, and so do values that refer to them.
        if (failed || !is_env) && redact::is_secret_key(section.name, slot.key) && !text.is_empty()
        {
            shown = Str::built_in(redact::MASK);
        }
        let shown = Some(shown).filter(|shown| *shown != text);
        let sensitive = shown.is_some();
        let value = Value {
            text,
            raw: raw.clone(),
            origin,
            overrides: slot.overrides.clone(),
            sensitive,
        };
        Entry {
            key: slot.key.clone(),
            row: slot.row,
            value,
            shown,
            words,
            for_all: written.for_all,
            unusable: failed || pending || wrong,
        }
    }

    /// The argument words of a value that was resolved, with their names replaced; a fault is told.
    fn words(
        &mut self,
        section: &Merging<'_>,
        slot: &Slot<'_>,
        written: &Written<'_>,
        mut words: Vec<String>,
        interpolator: &mut Interpolator<'_>,
    ) -> Option<Arc<[String]>> {
        for word in words.iter_mut().filter(|word| word.contains('%')) {
            match interpolator.word(word) {
                Ok(replaced) => *word = replaced,
                Err(fault) => {
                    if let Some(mut fault) = fault {
                        // Where the word stands in the value is not known.
                        if let Some(step) = fault.chain.first_mut() {
                            step.range = 0..written.text.text.len();
                        }
                        self.fault(section, slot, written, &fault, interpolator);
                    }
                    return None;
                }
            }
        }
        Some(words.into())
    }

    /// What is known of a value with which nothing can be wrong any more.
    fn plain<'w>(
        &self,
        slot: &Slot<'_>,
        written: &Written<'w>,
        interpolator: &mut Interpolator<'_>,
    ) -> Option<&'w Plain> {
        let Some(Settled::Plain(plain)) = written.settled else {
            return None;
        };
        let may_say = slot.row.grant == Grant::Any || written.layer.is_trusted();
        let fits = interpolator.has_room(written.text.text.len());
        (may_say && fits).then_some(plain)
    }

    /// Whether the value is of its type and may be said by who says it; faults are told.
    fn check(
        &mut self,
        section: &Merging<'_>,
        slot: &Slot<'_>,
        written: &Written<'_>,
        resolved: &Resolved,
        words: &Result<Option<Vec<String>>, String>,
    ) -> bool {
        let (files, row) = (self.files, slot.row);
        let place = || files.place_in(written.source, written.text, 0..written.text.text.len());
        let checked = match words {
            Err(problem) => Err(problem.clone()),
            Ok(_) if row.has_words() => Ok(()),
            Ok(_) => is_of_type(row, written, resolved),
        };
        if let Err(problem) = checked {
            let secret = resolved.shown != resolved.text;
            self.out.error(|| {
                let problem = match secret {
                    true => format!("is not a valid {}", row.kind.describe()),
                    false => redact::redact(&problem).into_owned(),
                };
                let diagnostic =
                    Diagnostic::error(format!("`{}` in [{}] {problem}", slot.key, section.name));
                let diagnostic = diagnostic.at(place());
                if resolved.text == written.text.text || secret {
                    return diagnostic;
                }
                diagnostic.label(format!("this is `{}`", shortened(&resolved.text)))
            });
            return false;
        }
        self.check_names(section, slot, written, resolved, place)
    }

    /// Whether what only site or local may say does not come from the app layer by a name.
    fn check_names(
        &mut self,
        section: &Merging<'_>,
        slot: &Slot<'_>,
        written: &Written<'_>,
        resolved: &Resolved,
        place: impl Fn() -> Place,
    ) -> bool {
        let restricted = match slot.row.grant {
            Grant::Any | Grant::Server => false,
            Grant::Trusted => true,
            Grant::AnyBut(values) => values.contains(&resolved.text.as_str()),
            Grant::UnlessSite(section) => self.closed.contains(&section),
        };
        let by_name = resolved.from_app.as_deref();
        if !restricted || (by_name.is_none() && written.layer.is_trusted()) {
            return true;
        }
        let files = self.files;
        let definition = |name: &str| self.env?.slots.get(name)?.current.as_ref();
        let defined = by_name.and_then(|name| Some((name, definition(name)?)));
        self.out.error(|| {
            let what = format!("`{}` in [{}]", slot.key, section.name);
            let label = "only site or local may say this";
            let Some((name, written)) = defined else {
                return Diagnostic::error(format!("{what} is not for the app layer to say"))
                    .at(place())
                    .label(label)
                    .hint(format!(
                        "say it in the site or local layer: {}",
                        slot.row.why
                    ));
            };
            let text = &written.text;
            let there = files.place_in(written.source, text, 0..text.text.len());
            Diagnostic::error(format!("{what} takes `{name}` from the app layer"))
                .at(place())
                .label(label)
                .related(Some(there), format!("the app layer defines `{name}`"))
                .hint(format!(
                    "define {name} in [env] of the site or local layer: {}",
                    slot.row.why
                ))
        });
        false
    }

    /// Tells why a value cannot be resolved.
    fn fault(
        &mut self,
        section: &Merging<'_>,
        slot: &Slot<'_>,
        written: &Written<'_>,
        fault: &Fault,
        interpolator: &Interpolator<'_>,
    ) {
        let told = Told {
            files: self.files,
            env: self.env,
            owner: match section.spec.name {
                "env" => slot.key.to_string(),
                _ => format!("{}:{}", section.name, slot.key),
            },
            written,
        };
        let names = interpolator.names();
        self.out.error(|| told.diagnostic(fault, names));
    }

    /// Takes out keys that the daemon's platform does not know: an error, unless they are for all
    /// daemons. The defaults of the others.
    fn platform(&mut self, section: &Merging<'_>, finished: &mut Section) -> &'static List<Entry> {
        let Some(platform) = platform_of(finished) else {
            let has_platform = finished.entries.contains("platform");
            if let (true, false, Some(at)) = (self.whole, has_platform, section.declared) {
                self.no_platform(section, at);
            }
            return defaults::of(section.spec, &finished.entries);
        };
        let found = platforms::find(&platform);
        let serves = |entry: &Entry| entry.row.serves_found(found);
        if !finished.entries.iter().all(serves) {
            for entry in finished.entries.iter().filter(|entry| !serves(entry)) {
                if let (false, Some(slot)) = (entry.for_all, section.slots.get(&entry.key)) {
                    self.useless(section, slot, &platform);
                }
            }
            finished.entries.retain(serves);
        }
        match found {
            Some(found) => defaults::of_platform(found, &finished.entries),
            None => &defaults::NONE,
        }
    }

    fn useless(&mut self, section: &Merging<'_>, slot: &Slot<'_>, platform: &str) {
        let Some(written) = &slot.current else { return };
        let files = self.files;
        self.out.error(|| {
            let message = format!(
                "`{}` means nothing to platform {platform} of [{}]",
                slot.key, section.name
            );
            Diagnostic::error(message)
                .at(files.place_in(written.source, written.text, 0..written.text.text.len()))
                .hint(format!(
                    "it is for {}; remove it or change `platform`",
                    slot.row.platforms.join(", ")
                ))
        });
    }

    fn no_platform(&mut self, section: &Merging<'_>, at: At) {
        let files = self.files;
        let name = section.name.strip_prefix("daemon.").unwrap_or(section.name);
        let daemons = &self.daemons;
        self.out.error(|| {
            // A misspelt name makes a daemon of its own.
            let others = daemons.iter().filter(|other| **other != name);
            let hint = match suggest::nearest(name, others.copied()) {
                Some(meant) => format!("did you mean [daemon.{meant}]?"),
                None => "say what starts it: `platform = jetty9`, or `command = ...`".to_owned(),
            };
            Diagnostic::error(format!("[{}] has no platform", section.name))
                .at(files.place(at))
                .label("nothing says what runs")
                .hint(hint)
        });
    }
}

/// Whether a value is of its type, which is known of what it was first when others have the text, too.
fn is_of_type(row: &Key, written: &Written<'_>, resolved: &Resolved) -> Result<(), String> {
    let template = written.template().filter(|_| resolved.is_as_first());
    if template.is_some_and(Template::is_of_type) {
        return Ok(());
    }
    row.kind.check(&resolved.text)?;
    template.inspect(|template| template.settle_type());
    Ok(())
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The platform of a daemon: as said, or clear from its keys. `None`: neither, or not usable.
fn platform_of(section: &Section) -> Option<Str> {
    match section.entries.get("platform") {
        Some(entry) if entry.unusable => None,
        Some(entry) => Some(entry.value.text.clone()),
        None => platforms::implied(|key| section.entries.contains(key)).map(Str::built_in),
    }
}

/// The sections that every application has because of their defaults.
static ALWAYS: LazyLock<Vec<Spec>> = LazyLock::new(|| {
    let has_defaults = |spec: &Spec| defaults::of(spec, &List::default()).len() > 0;
    let named = keys::specs().iter();
    let named = named.filter(|spec| spec.name != "server" && !spec.name.contains('*'));
    named.filter(has_defaults).collect()
});

/// Adds them, in the order of the table, in which `sections` are.
fn complete(sections: Vec<Section>) -> List<Section> {
    let mut complete = List::with_capacity(sections.len() + ALWAYS.len());
    let mut sections = sections.into_iter().peekable();
    for spec in ALWAYS.iter() {
        while let Some(section) = sections.next_if(|section| section.spec.rank < spec.rank) {
            complete.push(section);
        }
        match sections.next_if(|section| section.spec == *spec) {
            Some(section) => complete.push(section),
            None => complete.push(Section {
                name: Str::built_in(spec.name),
                spec,
                entries: List::default(),
                defaults: defaults::of(spec, &List::default()),
            }),
        };
    }
    complete.extend(sections);
    complete
}
