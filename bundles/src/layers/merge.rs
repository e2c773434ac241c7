//! From parsed files to one value for every key: later layers win, `unset` takes back, and what the
//! app layer may not say becomes a request.

use super::files::{At, Files};
use super::names::{Line, Said, Statement};
use super::{Denied, LayerKind, Origin};
use crate::diagnostics::{Collector, Diagnostic};
use crate::ini::{Content, Text};
use crate::keys::{Grant, Key};
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
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) text: &'a Text,
    pub(super) source: usize,
    pub(super) layer: LayerKind,
    /// It comes from `[daemon.*]`.
    pub(super) for_all: bool,
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
    /// Its name in the table.
    pub(super) spec: &'static str,
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
    /// Where the section is that was asked for last: mostly it is asked for again.
    latest: usize,
}

/// How many keys a section mostly has at most, and how many sections an instance.
const FEW_KEYS: usize = 6;
const FEW_SECTIONS: usize = 10;

/// Merges what each of the files says, lowest layer first.
pub(super) fn merge<'a>(files: &'a Files, said: &'a [Vec<Said>], out: Collector) -> Merged<'a> {
    let mut merged = Merged {
        files,
        out,
        sections: List::with_capacity(FEW_SECTIONS),
        requests: Vec::new(),
        closed: closed_sections(said, files),
        decided: Vec::new(),
        spread: 0,
        latest: 0,
    };
    let daemons = daemon_sections(said);
    for (source, file) in said.iter().enumerate() {
        // What is for every daemon is below what is for one, whatever the order in the file.
        for said in file.iter().filter(|said| said.section == ALL_DAEMONS) {
            for statement in said.statements() {
                for daemon in &daemons {
                    if !merged.may_spread(source, statement) {
                        break;
                    }
                    merged.apply(source, daemon, said.spec, statement, true);
                }
            }
        }
        for said in file.iter().filter(|said| said.section != ALL_DAEMONS) {
            for statement in said.statements() {
                merged.apply(source, &said.section, said.spec, statement, false);
            }
        }
    }
    merged.settle_requests();
    merged
}

fn daemon_sections(said: &[Vec<Said>]) -> List<&Str> {
    let mut daemons = List::default();
    for name in said.iter().flatten().map(|said| &said.section) {
        if name.starts_with("daemon.") && *name != ALL_DAEMONS {
            daemons.entry(name, || name);
        }
    }
    daemons
}

/// The firewall sections in which site, server or local say `grant = site`, or anything else that is
/// not `any`.
fn closed_sections(said: &[Vec<Said>], files: &Files) -> Vec<&'static str> {
    let granted = |section: &str| {
        let mut granted = true;
        for (source, file) in said.iter().enumerate() {
            if !files.layer(source).is_trusted() {
                continue;
            }
            let here = file.iter().filter(|said| said.section == *section);
            for statement in here.flat_map(Said::statements) {
                match statement {
                    Statement::Line(line) if line.key == "grant" => {
                        granted = match &line.content {
                            Content::Value(text) => text.text == "any",
                            Content::Unset => true,
                        }
                    }
                    Statement::UnsetAll(_) => granted = true,
                    _ => {}
                }
            }
        }
        granted
    };
    ["firewall.out", "firewall.in"]
        .into_iter()
        .filter(|section| !granted(section))
        .collect()
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

    fn section_mut(&mut self, name: &'a Str, spec: &'static str) -> &mut Merging<'a> {
        let is_latest = (self.sections.iter().nth(self.latest)).is_some_and(|one| one.name == name);
        if !is_latest {
            let known = self.sections.position(name);
            self.latest = known.unwrap_or_else(|| {
                self.sections.push(Merging {
                    name,
                    spec,
                    slots: List::with_capacity(FEW_KEYS),
                    declared: None,
                })
            });
        }
        self.sections.at_mut(self.latest)
    }

    fn apply(
        &mut self,
        source: usize,
        section: &'a Str,
        spec: &'static str,
        statement: Statement<'a>,
        for_all: bool,
    ) {
        match statement {
            Statement::Header(_) if for_all => {}
            Statement::Header(span) => {
                self.section_mut(section, spec).declared = Some(At { source, span });
            }
            Statement::UnsetAll(span) => {
                self.unset_all(section, spec, At { source, span }, for_all);
            }
            Statement::Line(line) => match &line.content {
                Content::Unset => {
                    let at = At {
                        source,
                        span: line.span,
                    };
                    self.unset(section, spec, &line.key, line.row, at, for_all);
                }
                Content::Value(text) => {
                    let written = Written {
                        text,
                        source,
                        layer: self.files.layer(source),
                        for_all,
                    };
                    self.set(section, spec, line, written);
                }
            },
        }
    }

    fn set(&mut self, section: &'a Str, spec: &'static str, line: &'a Line, written: Written<'a>) {
        let (key, row) = (&line.key, line.row);
        if written.layer.is_trusted() {
            self.decide(section, key, row);
        } else if self.is_denied(row, &written.text.text) {
            let origin = self.files.origin(At {
                source: written.source,
                span: written.text.first_line(),
            });
            self.requests
                .push(denied(section, key, row, &written.text.text, origin));
            return;
        }
        let slots = &mut self.section_mut(section, spec).slots;
        let Some(index) = slots.position(key) else {
            slots.push(Slot {
                key,
                row,
                current: Some(written),
                overrides: Vec::new(),
            });
            return;
        };
        if let Some(previous) = slots.at_mut(index).current.replace(written) {
            self.overridden(section, spec, index, previous);
        }
    }

    /// Remembers who has the last word about what the app layer could only ask for.
    fn decide(&mut self, section: &Str, key: &Str, row: &Key) {
        if row.grant != Grant::Any {
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
    fn overridden(
        &mut self,
        section: &'a Str,
        spec: &'static str,
        slot: usize,
        previous: Written<'a>,
    ) {
        let origin = self.files.origin(At {
            source: previous.source,
            span: previous.text.first_line(),
        });
        let slot = self.section_mut(section, spec).slots.at_mut(slot);
        slot.overrides.push((origin, previous.text.text.clone()));
    }

    fn unset(
        &mut self,
        section: &'a Str,
        spec: &'static str,
        key: &Str,
        row: &'static Key,
        at: At,
        for_all: bool,
    ) {
        if self.is_trusted(at) {
            self.decide(section, key, row);
        } else if self.is_denied(row, "") {
            return;
        }
        let slots = &mut self.section_mut(section, spec).slots;
        let found = slots.position(key).and_then(|index| {
            let previous = slots.at_mut(index).current.take()?;
            Some((index, previous))
        });
        match found {
            Some((index, previous)) => self.overridden(section, spec, index, previous),
            None if for_all => {}
            None => {
                let files = self.files;
                self.out.warning(|| {
                    Diagnostic::warning(format!("no lower layer has `{key}` in [{section}]"))
                        .at(files.place(at))
                        .label("nothing to take away")
                        .hint("`unset` is for what a lower layer says; remove the line")
                });
            }
        }
    }

    fn unset_all(&mut self, section: &'a Str, spec: &'static str, at: At, for_all: bool) {
        let trusted = self.is_trusted(at);
        let keys: Vec<(&'a Str, &'static Key)> = {
            let merging = self.section_mut(section, spec);
            merging.declared = None;
            let set = merging.slots.iter().filter(|slot| slot.current.is_some());
            set.map(|slot| (slot.key, slot.row)).collect()
        };
        if trusted {
            let asked = self
                .requests
                .iter()
                .filter(|denied| denied.section == **section);
            self.decided
                .extend(asked.map(|denied| (section.clone(), denied.key.as_str().into())));
        }
        if keys.is_empty() && !for_all {
            let files = self.files;
            self.out.warning(|| {
                Diagnostic::warning(format!("no lower layer has anything in [{section}]"))
                    .at(files.place(at))
                    .label("nothing to take away")
                    .hint("`unset *` is for what a lower layer says; remove the line")
            });
        }
        for (key, row) in keys {
            self.unset(section, spec, key, row, at, true);
        }
    }

    fn is_trusted(&self, at: At) -> bool {
        self.files.layer(at.source).is_trusted()
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
