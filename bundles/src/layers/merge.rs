//! From parsed files to one value for every key: later layers win, `unset` takes back, and what the
//! app layer may not say becomes a request.

use std::sync::Arc;

use crate::maps::{HashMap, HashSet};

use super::files::{At, Files};
use super::names::{self, Statement};
use super::{Denied, LayerKind, Origin};
use crate::diagnostics::{Collector, Diagnostic};
use crate::ini::{Content, Text};
use crate::keys::{Grant, Key};
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
    pub(super) key: Arc<str>,
    pub(super) row: &'static Key,
    /// `None` after `unset`.
    pub(super) current: Option<Written>,
    pub(super) overrides: Vec<(Origin, String)>,
}

/// A section with the slots of its keys.
pub(super) struct Merging {
    pub(super) name: String,
    /// Its name in the table.
    pub(super) spec: &'static str,
    pub(super) slots: Vec<Slot>,
    index: HashMap<Arc<str>, usize>,
    /// Where a layer has its header last, unless a later one takes the section away.
    pub(super) declared: Option<At>,
}

/// Everything merged, nothing interpolated.
pub(super) struct Merged {
    pub(super) files: Files,
    pub(super) out: Collector,
    pub(super) sections: Vec<Merging>,
    index: HashMap<String, usize>,
    pub(super) requests: Vec<Denied>,
    /// `[firewall.out]` and `[firewall.in]` when their entries of the app layer do not count.
    pub(super) closed: Vec<&'static str>,
    /// Keys about which site, server or local layer said something.
    decided: HashSet<(String, String)>,
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
        sections: Vec::new(),
        index: HashMap::default(),
        requests: Vec::new(),
        closed,
        decided: HashSet::default(),
        spread: 0,
    };
    let daemons = daemon_sections(&statements);
    for file in statements {
        // What is for every daemon is below what is for one, whatever the order in the file.
        let (for_all, own): (Vec<_>, Vec<_>) = file
            .into_iter()
            .partition(|statement| statement.section() == ALL_DAEMONS);
        for statement in for_all {
            for daemon in &daemons {
                if !merged.may_spread(&statement) {
                    break;
                }
                merged.apply(statement.clone(), daemon, true);
            }
        }
        for statement in own {
            let section = Arc::clone(statement.shared_section());
            merged.apply(statement, &section, false);
        }
    }
    let Merged {
        requests, decided, ..
    } = &mut merged;
    requests.retain(|denied| !decided.contains(&(denied.section.clone(), denied.key.clone())));
    merged
}

fn daemon_sections(statements: &[Vec<Statement>]) -> Vec<String> {
    let mut seen = HashSet::default();
    let names = statements.iter().flatten().map(Statement::section);
    let daemons = names.filter(|name| name.starts_with("daemon.") && *name != ALL_DAEMONS);
    daemons
        .filter(|name| seen.insert(*name))
        .map(str::to_owned)
        .collect()
}

/// The firewall sections in which site, server or local say `grant = site`, or anything else that is
/// not `any`.
fn closed_sections(statements: &[Vec<Statement>], files: &Files) -> Vec<&'static str> {
    let granted = |section: &str| {
        let mut granted = true;
        for statement in statements.iter().flatten() {
            let trusted = files.sources[statement.at().source].layer.is_trusted();
            match statement {
                Statement::Key {
                    section: name,
                    key,
                    content,
                    ..
                } if trusted && **name == *section && &**key == "grant" => {
                    granted = match content {
                        Content::Value(text) => text.text == "any",
                        Content::Unset => true,
                    }
                }
                Statement::UnsetAll { section: name, .. } if trusted && **name == *section => {
                    granted = true
                }
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

    fn section_mut(&mut self, name: &str, spec: &'static str) -> &mut Merging {
        let index = match self.index.get(name) {
            Some(index) => *index,
            None => {
                self.sections.push(Merging {
                    name: name.to_owned(),
                    spec,
                    slots: Vec::new(),
                    index: HashMap::default(),
                    declared: None,
                });
                let index = self.sections.len() - 1;
                self.index.insert(name.to_owned(), index);
                index
            }
        };
        &mut self.sections[index]
    }

    fn apply(&mut self, statement: Statement, section: &str, for_all: bool) {
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
                let layer = self.files.sources[at.source].layer;
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
        section: &str,
        spec: &'static str,
        key: Arc<str>,
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
        let previous = {
            let section = self.section_mut(section, spec);
            let index = *section.index.entry(key.clone()).or_insert_with(|| {
                section.slots.push(Slot {
                    key,
                    row,
                    current: None,
                    overrides: Vec::new(),
                });
                section.slots.len() - 1
            });
            section.slots[index]
                .current
                .replace(written)
                .map(|previous| (index, previous))
        };
        if let Some((index, previous)) = previous {
            let entry = self.override_entry(previous);
            self.section_mut(section, spec).slots[index]
                .overrides
                .push(entry);
        }
    }

    /// Remembers who has the last word about what the app layer could only ask for.
    fn decide(&mut self, section: &str, key: &str, row: &Key) {
        if row.grant != Grant::Any {
            self.decided.insert((section.to_owned(), key.to_owned()));
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

    fn override_entry(&self, previous: Written) -> (Origin, String) {
        let at = At {
            source: previous.source,
            span: previous.text.first_line(),
        };
        (self.files.origin(at), previous.text.text)
    }

    fn unset(
        &mut self,
        section: &str,
        spec: &'static str,
        key: &str,
        row: &'static Key,
        at: At,
        for_all: bool,
    ) {
        if self.is_trusted(at) {
            self.decide(section, key, row);
        } else if self.is_denied(row, "") {
            return;
        }
        let found = {
            let section = self.section_mut(section, spec);
            let index = section.index.get(key).copied();
            index.and_then(|index| {
                section.slots[index]
                    .current
                    .take()
                    .map(|previous| (index, previous))
            })
        };
        match found {
            Some((index, previous)) => {
                let entry = self.override_entry(previous);
                self.section_mut(section, spec).slots[index]
                    .overrides
                    .push(entry);
            }
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

    fn unset_all(&mut self, section: &str, spec: &'static str, at: At, for_all: bool) {
        let trusted = self.is_trusted(at);
        let keys: Vec<(Arc<str>, &'static Key)> = {
            let merging = self.section_mut(section, spec);
            merging.declared = None;
            let set = merging.slots.iter().filter(|slot| slot.current.is_some());
            set.map(|slot| (slot.key.clone(), slot.row)).collect()
        };
        if trusted {
            let asked = self
                .requests
                .iter()
                .filter(|denied| denied.section == section);
            self.decided
                .extend(asked.map(|denied| (denied.section.clone(), denied.key.clone())));
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
        self.files.sources[at.source].layer.is_trusted()
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
