//! From parsed files to one value for every key: later layers win, `unset` takes back, and what the
//! app layer may not say becomes a request.

use super::files::{At, Files};
use super::known::Settled;
use super::names::{Line, OfFile, Said, Statement};
use super::{Denied, LayerKind, Origin};
use crate::diagnostics::{Collector, Diagnostic};
use crate::ini::{Content, Span, Text};
use crate::interpolate::Template;
use crate::keys::{Grant, Key, Spec};
use crate::maps::{HashSet, List, Named};
use crate::text::Str;
use crate::{redact, secrets};

/// The section whose keys are for every daemon.
pub(super) const ALL_DAEMONS: &str = "daemon.*";

/// How many bytes what `[daemon.*]` says may have, for all daemons together, and what a line of it
/// costs beside its value: a file with many daemons and long lines for all is not multiplied.
const MAX_SPREAD: usize = 8 * 1024 * 1024;
const SLOT: usize = 256;

/// A value as it was written.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) text: &'a Text,
    /// What was found out about it before.
    pub(super) settled: Option<&'a Settled>,
    pub(super) source: usize,
    pub(super) layer: LayerKind,
    /// It comes from `[daemon.*]`.
    pub(super) for_all: bool,
}

impl<'a> Written<'a> {
    /// What it is when there are names in it, in a text that several have in common.
    pub(super) fn template(&self) -> Option<&'a Template> {
        match self.settled {
            Some(Settled::Template(template)) => Some(template),
            _ => None,
        }
    }
}

/// A key that was set, now or once.
pub(super) struct Slot<'a> {
    pub(super) key: &'a Str,
    pub(super) row: &'static Key,
    /// `None` after `unset`.
    pub(super) current: Option<Written<'a>>,
    pub(super) overrides: Vec<(Origin, Str)>,
}

/// A section with the slots of its keys.
pub(super) struct Merging<'a> {
    pub(super) name: &'a Str,
    /// What it is in the table.
    pub(super) spec: Spec,
    pub(super) slots: List<Slot<'a>>,
    /// Where a layer has its header last, unless a later one takes the section away.
    pub(super) declared: Option<At>,
}

impl Named for Slot<'_> {
    fn name(&self) -> &Str {
        self.key
    }
}

impl Named for Merging<'_> {
    fn name(&self) -> &Str {
        self.name
    }
}

/// Everything merged, nothing interpolated.
pub(super) struct Merged<'a> {
    pub(super) files: &'a Files,
    pub(super) out: Collector,
    pub(super) sections: List<Merging<'a>>,
    pub(super) requests: Vec<Denied>,
    /// `[firewall.out]` and `[firewall.in]` when their entries of the app layer do not count.
    pub(super) closed: Vec<&'static str>,
    /// Sections and keys about which site, server or local layer said something.
    decided: Vec<(Str, Str)>,
    /// What `[daemon.*]` has cost so far, in bytes; no more than [`MAX_SPREAD`].
    spread: usize,
}

/// Who says something: a file, and whether to all daemons.
#[derive(Clone, Copy)]
struct By {
    source: usize,
    layer: LayerKind,
    for_all: bool,
}

/// How many keys a section mostly has at most in a layer, how many more by higher layers, and how many
/// sections an instance has.
const FEW_KEYS: usize = 8;
const MORE_KEYS: usize = 2;
const FEW_SECTIONS: usize = 10;

/// Merges what each of the files says, lowest layer first.
pub(super) fn merge<'a>(files: &'a Files, said: &'a [OfFile<'a>], out: Collector) -> Merged<'a> {
    let mut merged = Merged {
        files,
        out,
        sections: List::with_capacity(FEW_SECTIONS),
        requests: Vec::new(),
        closed: closed_sections(said, files),
        decided: Vec::new(),
        spread: 0,
    };
    let daemons = daemon_sections(said);
    for (source, file) in said.iter().enumerate() {
        let by = |for_all| By {
            source,
            layer: files.layer(source),
            for_all,
        };
        // What is for every daemon is below what is for one, whatever the order in the file.
        for said in file.iter().filter(|said| is_for_all(said)) {
            for statement in said.statements() {
                for daemon in &daemons {
                    if !merged.may_spread(source, statement) {
                        break;
                    }
                    let at = merged.section(daemon, said);
                    merged.apply(at, statement, by(true));
                }
            }
        }
        for said in file.iter().filter(|said| !is_for_all(said)) {
            let at = merged.section(&said.section, said);
            for statement in said.statements() {
                merged.apply(at, statement, by(false));
            }
        }
    }
    merged.settle_requests();
    merged
}

fn is_for_all(said: &Said) -> bool {
    said.spec.name == ALL_DAEMONS && said.section == *ALL_DAEMONS
}

fn daemon_sections<'a>(said: &'a [OfFile<'a>]) -> List<&'a Str> {
    let mut daemons = List::default();
    for said in said.iter().flat_map(|file| file.iter()) {
        if said.spec.name == ALL_DAEMONS && !is_for_all(said) {
            daemons.entry(&said.section, || &said.section);
        }
    }
    daemons
}

/// The sections that can leave out what the app layer says in their lists.
const FIREWALLS: [&str; 2] = ["firewall.out", "firewall.in"];

/// The firewall sections in which site, server or local say `grant = site`, or anything else that is
/// not `any`.
fn closed_sections(said: &[OfFile<'_>], files: &Files) -> Vec<&'static str> {
    let mut closed = Vec::new();
    for (source, file) in said.iter().enumerate() {
        if !files.layer(source).is_trusted() {
            continue;
        }
        for said in file
            .iter()
            .filter(|said| FIREWALLS.contains(&said.spec.name))
        {
            let granted = said
                .statements()
                .fold(None, |granted, statement| match statement {
                    Statement::Line(line) if line.key == "grant" => match &line.content {
                        Content::Value(text) => Some(text.text == "any"),
                        Content::Unset => Some(true),
                    },
                    Statement::UnsetAll(_) => Some(true),
                    _ => granted,
                });
            if let Some(granted) = granted {
                closed.retain(|name| *name != said.spec.name);
                closed.extend((!granted).then_some(said.spec.name));
            }
        }
    }
    closed
}

impl<'a> Merged<'a> {
    /// Whether a line of `[daemon.*]` can be applied to one more daemon. The first that cannot is an
    /// error.
    fn may_spread(&mut self, source: usize, statement: Statement<'_>) -> bool {
        let (length, span) = match statement {
            Statement::Line(line) => match &line.content {
                Content::Value(text) => (text.text.len(), line.span),
                Content::Unset => (0, line.span),
            },
            Statement::Header(span) | Statement::UnsetAll(span) => (0, span),
        };
        if self.spread > MAX_SPREAD {
            return false;
        }
        self.spread += length + SLOT;
        if self.spread <= MAX_SPREAD {
            return true;
        }
        let (files, at) = (self.files, At { source, span });
        self.out.error(|| {
            Diagnostic::error("too many daemons for what [daemon.*] says to all of them")
                .at(files.place(at))
                .hint("all values of [daemon.*] for all daemons together have 8 MiB at most")
        });
        false
    }

    /// Requests about which somebody who may decide has said something are none any more.
    fn settle_requests(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let decided: HashSet<(&str, &str)> = self
            .decided
            .iter()
            .map(|(section, key)| (section.as_str(), key.as_str()))
            .collect();
        self.requests
            .retain(|denied| !decided.contains(&(denied.section.as_str(), denied.key.as_str())));
    }

    /// Where the section of this name is, about which `said` is said; it is there from now on.
    fn section(&mut self, name: &'a Str, said: &Said) -> usize {
        let known = self.sections.position(name);
        known.unwrap_or_else(|| {
            self.sections.push(Merging {
                name,
                spec: said.spec,
                slots: List::with_capacity(said.lines.len().min(FEW_KEYS) + MORE_KEYS),
                declared: None,
            })
        })
    }

    /// What `by` says in the section `at`.
    fn apply(&mut self, at: usize, statement: Statement<'a>, by: By) {
        let here = |span| At {
            source: by.source,
            span,
        };
        match statement {
            Statement::Header(_) if by.for_all => {}
            Statement::Header(span) => {
                self.sections.at_mut(at).declared = Some(here(span));
            }
            Statement::UnsetAll(span) => self.unset_all(at, span, by),
            Statement::Line(line) => match &line.content {
                Content::Unset => self.unset(at, &line.key, line.row, line.span, by),
                Content::Value(text) => self.set(at, line, text, by),
            },
        }
    }

    fn set(&mut self, at: usize, line: &'a Line, text: &'a Text, by: By) {
        let (key, row) = (&line.key, line.row);
        let section = self.sections.at(at).name;
        if by.layer.is_trusted() {
            self.decide(section, key, row);
        } else if self.is_denied(row, &text.text) {
            let origin = self.origin(by.source, text);
            self.requests
                .push(denied(section, key, row, &text.text, origin));
            return;
        }
        let written = Written {
            text,
            settled: line.settled.as_ref(),
            source: by.source,
            layer: by.layer,
            for_all: by.for_all,
        };
        let slots = &mut self.sections.at_mut(at).slots;
        let Some(slot) = slots.position(key) else {
            slots.push(Slot {
                key,
                row,
                current: Some(written),
                overrides: Vec::new(),
            });
            return;
        };
        if let Some(previous) = slots.at_mut(slot).current.replace(written) {
            self.overridden(at, slot, previous);
        }
    }

    fn origin(&self, source: usize, text: &Text) -> Origin {
        self.files.origin(At {
            source,
            span: text.first_line(),
        })
    }

    /// Remembers who has the last word about what the app layer could only ask for. That is the lowest of the
    /// layers, so all that it asks for is known before.
    fn decide(&mut self, section: &Str, key: &Str, row: &Key) {
        if row.grant != Grant::Any && !self.requests.is_empty() {
            self.decided.push((section.clone(), key.clone()));
        }
    }

    /// Whether the app layer may not say this.
    fn is_denied(&self, row: &Key, text: &str) -> bool {
        match row.grant {
            Grant::Any => false,
            Grant::Trusted | Grant::Server => true,
            Grant::AnyBut(values) => values.contains(&text),
            Grant::UnlessSite(section) => self.closed.contains(&section),
        }
    }

    /// Remembers what a key said before.
    fn overridden(&mut self, at: usize, slot: usize, previous: Written<'a>) {
        let origin = self.origin(previous.source, previous.text);
        let slot = self.sections.at_mut(at).slots.at_mut(slot);
        slot.overrides.push((origin, previous.text.text.clone()));
    }

    fn unset(&mut self, at: usize, key: &Str, row: &'static Key, span: Span, by: By) {
        let section = self.sections.at(at).name;
        if by.layer.is_trusted() {
            self.decide(section, key, row);
        } else if self.is_denied(row, "") {
            return;
        }
        let slots = &mut self.sections.at_mut(at).slots;
        let found = slots.position(key).and_then(|slot| {
            let previous = slots.at_mut(slot).current.take()?;
            Some((slot, previous))
        });
        match found {
            Some((slot, previous)) => self.overridden(at, slot, previous),
            None if by.for_all => {}
            None => {
                let what = || format!("no lower layer has `{key}` in [{section}]");
                let hint = "`unset` is for what a lower layer says; remove the line";
                self.nothing_to_take(what, hint, span, by);
            }
        }
    }

    fn unset_all(&mut self, at: usize, span: Span, by: By) {
        let merging = self.sections.at_mut(at);
        let section = merging.name;
        merging.declared = None;
        let set = merging.slots.iter().filter(|slot| slot.current.is_some());
        let keys: Vec<(&'a Str, &'static Key)> = set.map(|slot| (slot.key, slot.row)).collect();
        if by.layer.is_trusted() {
            let asked = self
                .requests
                .iter()
                .filter(|denied| denied.section == **section);
            self.decided
                .extend(asked.map(|denied| (section.clone(), denied.key.as_str().into())));
        }
        if keys.is_empty() && !by.for_all {
            let what = || format!("no lower layer has anything in [{section}]");
            let hint = "`unset *` is for what a lower layer says; remove the line";
            self.nothing_to_take(what, hint, span, by);
        }
        for (key, row) in keys {
            self.unset(
                at,
                key,
                row,
                span,
                By {
                    for_all: true,
                    ..by
                },
            );
        }
    }

    fn nothing_to_take(&mut self, what: impl FnOnce() -> String, hint: &str, span: Span, by: By) {
        let (files, source) = (self.files, by.source);
        self.out.warning(|| {
            Diagnostic::warning(what())
                .at(files.place(At { source, span }))
                .label("nothing to take away")
                .hint(hint)
        });
    }
}

fn denied(section: &str, key: &str, row: &Key, text: &str, origin: Origin) -> Denied {
    debug_assert_eq!(origin.layer, LayerKind::App);
    let value = match section {
        redact::SECRETS => secrets::shown(text).to_owned(),
        _ => redact::redact(text).into_owned(),
    };
    let reason = match row.grant {
        Grant::UnlessSite(_) => format!("{} leaves out entries of the app layer", row.why),
        _ => row.why.to_owned(),
    };
    let line = value.replace('\n', "\n    ");
    Denied {
        grant: format!("[{section}]\n{key} = {line}"),
        section: section.to_owned(),
        key: key.to_owned(),
        value,
        origin,
        reason,
    }
}
