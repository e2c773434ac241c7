//! From parsed files to one value for every key: later layers win, `unset` takes back, and what the
//! app layer may not say becomes a request.

use super::files::{At, Files};
use super::names::{self, Statement};
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
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) text: Text,
    pub(super) source: usize,
    pub(super) layer: LayerKind,
    /// It comes from `[daemon.*]`.
    pub(super) for_all: bool,
}

/// A key that was set, now or once.
pub(super) struct Slot {
    pub(super) key: Str,
    pub(super) row: &'static Key,
    /// `None` after `unset`.
    pub(super) current: Option<Written>,
    pub(super) overrides: Vec<(Origin, Str)>,
}

/// A section with the slots of its keys.
pub(super) struct Merging {
    pub(super) name: Str,
    /// Its name in the table.
    pub(super) spec: &'static str,
    pub(super) slots: List<Slot>,
    /// Where a layer has its header last, unless a later one takes the section away.
    pub(super) declared: Option<At>,
}

impl Named for Slot {
    fn name(&self) -> &Str {
        &self.key
    }
}

impl Named for Merging {
    fn name(&self) -> &Str {
        &self.name
    }
}

/// Everything merged, nothing interpolated.
pub(super) struct Merged {
    pub(super) files: Files,
    pub(super) out: Collector,
    pub(super) sections: List<Merging>,
    pub(super) requests: Vec<Denied>,
    /// `[firewall.out]` and `[firewall.in]` when their entries of the app layer do not count.
    pub(super) closed: Vec<&'static str>,
    /// Sections and keys about which site, server or local layer said something.
    decided: Vec<(Str, Str)>,
    /// What `[daemon.*]` has cost so far, in bytes; no more than [`MAX_SPREAD`].
    spread: usize,
}

/// Parses and merges.
pub(super) fn merge(files: Files, mut out: Collector) -> Merged {
    let documents = names::parse(&files, &mut out);
    let statements: Vec<Vec<Statement>> = names::understand(&files, documents, &mut out);
    let closed = closed_sections(&statements, &files);
    let mut merged = Merged {
        files,
        out,
        sections: List::default(),
        requests: Vec::new(),
        closed,
        decided: Vec::new(),
        spread: 0,
    };
    let daemons = daemon_sections(&statements);
    for file in statements {
        // What is for every daemon is below what is for one, whatever the order in the file.
        for statement in file.iter().filter(|one| one.section() == ALL_DAEMONS) {
            for daemon in &daemons {
                if !merged.may_spread(statement) {
                    break;
                }
                merged.apply(statement.clone(), daemon, true);
            }
        }
        for statement in file {
            if statement.section() != ALL_DAEMONS {
                let section = statement.section().clone();
                merged.apply(statement, &section, false);
            }
        }
    }
    merged.settle_requests();
    merged
}

fn daemon_sections(statements: &[Vec<Statement>]) -> List<Str> {
    let mut daemons = List::default();
    for name in statements.iter().flatten().map(Statement::section) {
        if name.starts_with("daemon.") && name != ALL_DAEMONS {
            daemons.entry(name, || name.clone());
        }
    }
    daemons
}

/// The firewall sections in which site, server or local say `grant = site`, or anything else that is
/// not `any`.
fn closed_sections(statements: &[Vec<Statement>], files: &Files) -> Vec<&'static str> {
    let granted = |section: &str| {
        let mut granted = true;
        for statement in statements.iter().flatten() {
            if statement.section() != section {
                continue;
            }
            let trusted = files.layer(statement.at().source).is_trusted();
            match statement {
                Statement::Key { key, content, .. } if trusted && key == "grant" => {
                    granted = match content {
                        Content::Value(text) => text.text == "any",
                        Content::Unset => true,
                    }
                }
                Statement::UnsetAll { .. } if trusted => granted = true,
                _ => {}
            }
        }
        granted
    };
    ["firewall.out", "firewall.in"]
        .into_iter()
        .filter(|section| !granted(section))
        .collect()
}

impl Merged {
    /// Whether a line of `[daemon.*]` can be applied to one more daemon. The first that cannot is an
    /// error.
    fn may_spread(&mut self, statement: &Statement) -> bool {
        let length = match statement {
            Statement::Key {
                content: Content::Value(text),
                ..
            } => text.text.len(),
            _ => 0,
        };
        if self.spread > MAX_SPREAD {
            return false;
        }
        self.spread += length + SLOT;
        if self.spread <= MAX_SPREAD {
            return true;
        }
        let (files, at) = (&self.files, statement.at());
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

    fn section_mut(&mut self, name: &Str, spec: &'static str) -> &mut Merging {
        self.sections.entry(name, || Merging {
            name: name.clone(),
            spec,
            slots: List::default(),
            declared: None,
        })
    }

    fn apply(&mut self, statement: Statement, section: &Str, for_all: bool) {
        let spec = statement.spec();
        match statement {
            Statement::Header { .. } if for_all => {}
            Statement::Header { at, .. } => self.section_mut(section, spec).declared = Some(at),
            Statement::UnsetAll { at, .. } => self.unset_all(section, spec, at, for_all),
            Statement::Key {
                key,
                row,
                content: Content::Unset,
                at,
                ..
            } => {
                self.unset(section, spec, &key, row, at, for_all);
            }
            Statement::Key {
                key,
                row,
                content: Content::Value(text),
                at,
                ..
            } => {
                let layer = self.files.layer(at.source);
                let written = Written {
                    text,
                    source: at.source,
                    layer,
                    for_all,
                };
                self.set(section, spec, key, row, written);
            }
        }
    }

    fn set(
        &mut self,
        section: &Str,
        spec: &'static str,
        key: Str,
        row: &'static Key,
        written: Written,
    ) {
        if written.layer.is_trusted() {
            self.decide(section, &key, row);
        } else if self.is_denied(row, &written.text.text) {
            let origin = self.files.origin(At {
                source: written.source,
                span: written.text.first_line(),
            });
            self.requests
                .push(denied(section, &key, row, &written.text.text, origin));
            return;
        }
        let slots = &mut self.section_mut(section, spec).slots;
        let index = slots.position(&key).unwrap_or_else(|| {
            slots.push(Slot {
                key,
                row,
                current: None,
                overrides: Vec::new(),
            })
        });
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
    fn overridden(&mut self, section: &Str, spec: &'static str, slot: usize, previous: Written) {
        let origin = self.files.origin(At {
            source: previous.source,
            span: previous.text.first_line(),
        });
        let slot = self.section_mut(section, spec).slots.at_mut(slot);
        slot.overrides.push((origin, previous.text.text));
    }

    fn unset(
        &mut self,
        section: &Str,
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
                let files = &self.files;
                self.out.warning(|| {
                    Diagnostic::warning(format!("no lower layer has `{key}` in [{section}]"))
                        .at(files.place(at))
                        .label("nothing to take away")
                        .hint("`unset` is for what a lower layer says; remove the line")
                });
            }
        }
    }

    fn unset_all(&mut self, section: &Str, spec: &'static str, at: At, for_all: bool) {
        let trusted = self.is_trusted(at);
        let keys: Vec<(Str, &'static Key)> = {
            let merging = self.section_mut(section, spec);
            merging.declared = None;
            let set = merging.slots.iter().filter(|slot| slot.current.is_some());
            set.map(|slot| (slot.key.clone(), slot.row)).collect()
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
            let files = &self.files;
            self.out.warning(|| {
                Diagnostic::warning(format!("no lower layer has anything in [{section}]"))
                    .at(files.place(at))
                    .label("nothing to take away")
                    .hint("`unset *` is for what a lower layer says; remove the line")
            });
        }
        for (key, row) in keys {
            self.unset(section, spec, &key, row, at, true);
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
