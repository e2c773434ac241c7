//! From merged layers to a [`Config`]: names replaced, types checked, defaults filled in.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::maps::HashMap;

use super::config::{Config, Entry, Needed, Section, Value};
use super::faults::Told;
use super::files::{At, Files};
use super::merge::{Merged, Merging, Slot, Written};
use super::{LayerKind, Origin};
use crate::diagnostics::{Collector, Diagnostic, Place};
use crate::interpolate::{Definition, Fault, Interpolator, Resolved};
use crate::keys::values::split_words;
use crate::keys::{self, Grant, Key, SECTIONS, suggest};
use crate::{platforms, redact};

/// Interpolates, checks and completes what was merged.
///
/// When `lenient`, an unknown name is no error but one that is needed of a higher layer.
pub(super) fn finish(mut merged: Merged, lenient: bool) -> (Config, Collector) {
    let mut sections = std::mem::take(&mut merged.sections);
    sections
        .retain(|section| section.spec != super::merge::ALL_DAEMONS || section.declared.is_some());
    let rank = |section: &Merging| SECTIONS.iter().position(|spec| spec.name == section.spec);
    sections.sort_by_key(rank);
    // Before the first deployment there is no app layer, which has the platforms of daemons.
    let whole =
        !lenient || (merged.files.sources.iter()).any(|source| source.layer == LayerKind::App);
    let mut finisher = Finisher {
        whole,
        files: &merged.files,
        out: merged.out,
        closed: &merged.closed,
        env: definitions(&sections),
        daemons: sections
            .iter()
            .filter_map(|section| section.name.strip_prefix("daemon."))
            .collect(),
        needed: BTreeMap::new(),
    };
    let mut interpolator = interpolator(&finisher.env).lenient(lenient);
    let mut config = Config::default();
    for section in &sections {
        let finished = finisher.section(section, &mut interpolator);
        push(&mut config, section.name.clone(), finished);
    }
    drop(interpolator);
    let Finisher { out, needed, .. } = finisher;
    config.needed = needed
        .into_iter()
        .map(|(name, origin)| Needed { name, origin })
        .collect();
    config.requests = merged.requests;
    config.sources = merged.files.sources;
    (complete(config), out)
}

/// What `%(NAME)` can be, and where it was written.
pub(super) type Env<'a> = HashMap<&'a str, &'a Written>;

fn definitions(sections: &[Merging]) -> Env<'_> {
    let env = sections.iter().filter(|section| section.spec == "env");
    let slots = env.flat_map(|section| &section.slots);
    slots
        .filter_map(|slot| Some((&*slot.key, slot.current.as_ref()?)))
        .collect()
}

fn interpolator<'a>(env: &Env<'a>) -> Interpolator<'a> {
    Interpolator::new(env.iter().map(|(name, written)| {
        let definition = Definition {
            raw: &written.text.text,
            from_app: written.layer == LayerKind::App,
        };
        (*name, definition)
    }))
}

struct Finisher<'a> {
    files: &'a Files,
    out: Collector,
    closed: &'a [&'static str],
    /// Whether nothing more can come that says what a daemon is.
    whole: bool,
    env: Env<'a>,
    /// The names of all daemons.
    daemons: Vec<&'a str>,
    /// Names that a higher layer has to define, and where each is referred to first.
    needed: BTreeMap<String, Origin>,
}

impl<'a> Finisher<'a> {
    fn section(&mut self, section: &'a Merging, interpolator: &mut Interpolator<'a>) -> Section {
        let mut finished = Section::default();
        for slot in &section.slots {
            let Some(written) = &slot.current else {
                continue;
            };
            let entry = self.entry(section, slot, written, interpolator);
            finished
                .index
                .insert(entry.key.clone(), finished.entries.len());
            finished.entries.push(entry);
        }
        if section.spec == super::merge::ALL_DAEMONS {
            self.platform(section, &mut finished);
        }
        finished
    }

    fn entry(
        &mut self,
        section: &Merging,
        slot: &Slot,
        written: &Written,
        interpolator: &mut Interpolator<'a>,
    ) -> Entry {
        let at = At {
            source: written.source,
            span: written.text.first_line(),
        };
        let origin = self.files.origin(at);
        let raw = written.text.text.clone();
        let resolved = match section.spec {
            "env" => interpolator
                .name(&slot.key)
                .map(|resolved| (*resolved).clone()),
            // Taken as written: a password may have any characters.
            redact::SECRETS => Ok(Resolved::secret(&raw)),
            _ => interpolator.value(&raw),
        };
        let (resolved, failed) = match resolved {
            Ok(resolved) => (resolved, false),
            Err(fault) => {
                if let Some(fault) = fault {
                    self.fault(section, slot, written, &fault, interpolator);
                }
                (Resolved::as_written(&raw), true)
            }
        };
        for name in &resolved.missing {
            self.needed
                .entry(name.clone())
                .or_insert_with(|| origin.clone());
        }
        let pending = !resolved.missing.is_empty();
        let wrong = !failed && !pending && !self.check(section, slot, written, &resolved);
        let has_words = slot.row.has_words() && !failed && !wrong;
        let words = match has_words.then(|| split_words(&raw)) {
            Some(Ok(words)) => words
                .iter()
                .map(|word| {
                    interpolator
                        .value(word)
                        .map_or_else(|_| word.clone(), |resolved| resolved.text)
                })
                .collect(),
            _ => Vec::new(),
        };
        let Resolved {
            text, mut shown, ..
        } = resolved;
        // Those of [env] know it by themselves, and so do values that refer to them.
        if redact::is_secret_key(&section.name, &slot.key) && !text.is_empty() {
            redact::MASK.clone_into(&mut shown);
        }
        let sensitive = shown != text;
        let value = Value {
            text,
            raw,
            origin,
            overrides: slot.overrides.clone(),
            sensitive,
        };
        Entry {
            key: slot.key.clone(),
            value,
            shown,
            words,
            unusable: failed || pending || wrong,
        }
    }

    /// Whether the value is of its type and may be said by who says it; faults are told.
    fn check(
        &mut self,
        section: &Merging,
        slot: &Slot,
        written: &Written,
        resolved: &Resolved,
    ) -> bool {
        let (files, row) = (self.files, slot.row);
        let place = || files.place_in(written.source, &written.text, 0..written.text.text.len());
        // A word of arguments is split before names are replaced.
        let text = if row.has_words() {
            &written.text.text
        } else {
            &resolved.text
        };
        if let Err(problem) = row.kind.check(text) {
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
        section: &Merging,
        slot: &Slot,
        written: &Written,
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
        let defined = by_name.and_then(|name| Some((name, *self.env.get(name)?)));
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
        section: &Merging,
        slot: &Slot,
        written: &Written,
        fault: &Fault,
        interpolator: &Interpolator<'_>,
    ) {
        let told = Told {
            files: self.files,
            env: &self.env,
            owner: match section.spec {
                "env" => slot.key.to_string(),
                _ => format!("{}:{}", section.name, slot.key),
            },
            written,
        };
        let names = interpolator.names();
        self.out.error(|| told.diagnostic(fault, names));
    }

    /// Keys that the daemon's platform does not know: an error, unless they are for all daemons.
    fn platform(&mut self, section: &Merging, finished: &mut Section) {
        let Some(platform) = platform_of(finished) else {
            let has_platform = finished.index.contains_key("platform");
            if let (true, false, Some(at)) = (self.whole, has_platform, section.declared) {
                self.no_platform(section, at);
            }
            return;
        };
        let mut kept = Section::default();
        for entry in finished.entries.drain(..) {
            let slot = section.slots.iter().find(|slot| slot.key == entry.key);
            let serves = slot.is_none_or(|slot| slot.row.serves(&platform));
            let for_all = slot
                .and_then(|slot| slot.current.as_ref())
                .is_some_and(|written| written.for_all);
            if let (false, false, Some(slot)) = (serves, for_all, slot) {
                self.useless(section, slot, &platform);
            }
            if serves {
                kept.index.insert(entry.key.clone(), kept.entries.len());
                kept.entries.push(entry);
            }
        }
        *finished = kept;
    }

    fn useless(&mut self, section: &Merging, slot: &Slot, platform: &str) {
        let Some(written) = &slot.current else { return };
        let files = self.files;
        self.out.error(|| {
            let message = format!(
                "`{}` means nothing to platform {platform} of [{}]",
                slot.key, section.name
            );
            Diagnostic::error(message)
                .at(files.place_in(written.source, &written.text, 0..written.text.text.len()))
                .hint(format!(
                    "it is for {}; remove it or change `platform`",
                    slot.row.platforms.join(", ")
                ))
        });
    }

    fn no_platform(&mut self, section: &Merging, at: At) {
        let files = self.files;
        let name = section
            .name
            .strip_prefix("daemon.")
            .unwrap_or(&section.name);
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

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The platform of a daemon: as said, or clear from its keys. `None`: neither, or not usable.
fn platform_of(section: &Section) -> Option<String> {
    let has = |key: &str| section.index.contains_key(key);
    match section
        .index
        .get("platform")
        .and_then(|index| section.entries.get(*index))
    {
        Some(entry) if entry.unusable => None,
        Some(entry) => Some(entry.value.text.clone()),
        None => platforms::implied(has).map(str::to_owned),
    }
}

fn push(config: &mut Config, name: String, section: Section) {
    config.index.insert(name.clone(), config.sections.len());
    config.sections.push((name, section));
}

/// Fills in the defaults and the sections that every application has.
fn complete(mut config: Config) -> Config {
    let mut complete = Config {
        needed: std::mem::take(&mut config.needed),
        requests: std::mem::take(&mut config.requests),
        sources: std::mem::take(&mut config.sources),
        ..Config::default()
    };
    let mut sections = config.sections.into_iter().peekable();
    for spec in SECTIONS.iter().filter(|spec| spec.name != "server") {
        let mut found = false;
        let is_of_spec = |name: &str| match keys::section(name) {
            keys::SectionMeaning::Known(known) => known == spec.name,
            _ => false,
        };
        while let Some((name, mut section)) = sections.next_if(|(name, _)| is_of_spec(name)) {
            found = true;
            fill(spec.name, &mut section);
            push(&mut complete, name, section);
        }
        if !found && !spec.name.contains('*') {
            let mut section = Section::default();
            fill(spec.name, &mut section);
            if !section.entries.is_empty() {
                push(&mut complete, spec.name.to_owned(), section);
            }
        }
    }
    complete
}

fn fill(spec: &str, section: &mut Section) {
    let platform = platform_of(section);
    match (spec, platform.as_deref()) {
        ("daemon.*", Some(platform)) => {
            add_default(section, "platform", platform);
            let has = |key: &str| section.index.contains_key(key);
            if let Some(port) = platforms::default_port(platform, has) {
                add_default(section, "port", &port.to_string());
            }
            if let Some(signal) = platforms::default_stop_signal(platform) {
                add_default(section, "stop.signal", signal);
            }
        }
        ("sandbox.net", _) => {
            let mode = if section.index.contains_key("ip") {
                "routed"
            } else {
                "nat"
            };
            add_default(section, "mode", mode);
        }
        _ => {}
    }
    let serves = |row: &&&Key| {
        platform
            .as_deref()
            .is_none_or(|platform| row.serves(platform))
    };
    for row in keys::in_section(spec).iter().filter(serves) {
        if let Some(default) = row.default {
            add_default(section, row.name, default);
        }
    }
}

fn add_default(section: &mut Section, key: &str, text: &str) {
    if section.index.contains_key(key) {
        return;
    }
    let origin = Origin::default_value();
    let (raw, overrides) = (text.to_owned(), Vec::new());
    let value = Value {
        text: raw.clone(),
        raw,
        origin,
        overrides,
        sensitive: false,
    };
    let words = Vec::new();
    let key: Arc<str> = key.into();
    section
        .index
        .insert(Arc::clone(&key), section.entries.len());
    section.entries.push(Entry {
        key,
        shown: text.to_owned(),
        value,
        words,
        unusable: false,
    });
}
