//! From parsed files to statements about keys of the table: aliases become canonical names, unknown
//! names become errors with a suggestion.

use std::borrow::Cow;

use super::LayerKind;
use super::files::{At, Files};
use crate::diagnostics::{Collector, Diagnostic};
use crate::ini::{self, Content, Document, Entry, Section, Span};
use crate::keys::{self, Key, SECTIONS, SectionMeaning, suggest};
use crate::maps::{List, Named};
use crate::redact;
use crate::text::Str;

/// What a line says, in words of the table.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// `[section]` is there.
    Header {
        section: Str,
        spec: &'static str,
        at: At,
    },
    /// `key = value` or `unset key`.
    Key {
        section: Str,
        spec: &'static str,
        key: Str,
        row: &'static Key,
        content: Content,
        at: At,
    },
    /// `unset *`.
    UnsetAll {
        section: Str,
        spec: &'static str,
        at: At,
    },
}

impl Statement {
    pub(super) fn section(&self) -> &Str {
        match self {
            Statement::Header { section, .. }
            | Statement::Key { section, .. }
            | Statement::UnsetAll { section, .. } => section,
        }
    }

    pub(super) fn spec(&self) -> &'static str {
        match self {
            Statement::Header { spec, .. }
            | Statement::Key { spec, .. }
            | Statement::UnsetAll { spec, .. } => spec,
        }
    }

    pub(super) fn at(&self) -> At {
        match self {
            Statement::Header { at, .. }
            | Statement::Key { at, .. }
            | Statement::UnsetAll { at, .. } => *at,
        }
    }
}

/// Parses every file.
pub(super) fn parse(files: &Files, out: &mut Collector) -> Vec<Document> {
    let texts = files.texts();
    texts
        .map(|(path, text)| ini::parse_shared(path, text, out))
        .collect()
}

/// The statements of every file. Those about `[server]` are checked and left out: they describe
/// the server, not an application.
pub(super) fn understand(
    files: &Files,
    documents: Vec<Document>,
    out: &mut Collector,
) -> Vec<Vec<Statement>> {
    // Only what is no section of the table asks which daemons there are.
    let sections = || documents.iter().flat_map(|document| &document.sections);
    let is_unknown = |one: &Section| matches!(keys::section(&one.name), SectionMeaning::Unknown);
    let daemons = match sections().any(is_unknown) {
        true => daemon_names(&documents),
        false => List::default(),
    };
    let mut all = Vec::new();
    for (source, document) in documents.into_iter().enumerate() {
        let mut reader = Reader {
            files,
            source,
            daemons: &daemons,
            out,
            seen: List::default(),
        };
        let lines = |section: &Section| section.entries.len() + 2;
        let mut statements = Vec::with_capacity(document.sections.iter().map(lines).sum());
        for section in document.sections {
            reader.section(section, &mut statements);
        }
        statements.retain(|statement| statement.spec() != "server");
        all.push(statements);
    }
    all
}

/// The daemons that any layer names: as `[daemon.NAME]`, or as `[NAME]` with a key that marks one.
fn daemon_names(documents: &[Document]) -> List<Str> {
    let mut names = List::default();
    for section in documents.iter().flat_map(|document| &document.sections) {
        match section.name.strip_prefix("daemon.") {
            Some(name) if keys::is_daemon_name(name) => {
                names.entry(name, || Str::from(name));
            }
            _ if is_bare_daemon(section) => {
                names.entry(&section.name, || section.name.clone());
            }
            _ => {}
        }
    }
    names
}

fn is_bare_daemon(section: &Section) -> bool {
    matches!(keys::section(&section.name), SectionMeaning::Unknown)
        && keys::is_daemon_name(&section.name)
        && section
            .entries
            .iter()
            .any(|entry| keys::marks_a_daemon(&entry.key))
}

struct Reader<'a> {
    files: &'a Files,
    source: usize,
    daemons: &'a List<Str>,
    out: &'a mut Collector,
    /// What this file says of each section, by canonical names.
    seen: List<SeenSection>,
}

/// What a file says of a section.
struct SeenSection {
    name: Str,
    keys: List<Seen>,
}

/// Where a key stands, and how it is written when that is not its canonical name, as `SECTION:KEY`.
struct Seen {
    key: Str,
    span: Span,
    otherwise: Option<String>,
}

impl Named for SeenSection {
    fn name(&self) -> &Str {
        &self.name
    }
}

impl Named for Seen {
    fn name(&self) -> &Str {
        &self.key
    }
}

impl Reader<'_> {
    fn at(&self, span: Span) -> At {
        At {
            source: self.source,
            span,
        }
    }

    fn section(&mut self, section: Section, statements: &mut Vec<Statement>) {
        let Some((name, spec)) = self.meaning(&section) else {
            return;
        };
        let seen = self.seen.position(&name).unwrap_or_else(|| {
            self.seen.push(SeenSection {
                name: name.clone(),
                keys: List::with_capacity(section.entries.len()),
            })
        });
        let header = Statement::Header {
            section: name.clone(),
            spec,
            at: self.at(section.span),
        };
        if let Some(span) = section.unset_all {
            // Before the header: what the file says itself is not taken away.
            statements.push(Statement::UnsetAll {
                section: name.clone(),
                spec,
                at: self.at(span),
            });
            if !section.entries.is_empty() {
                statements.push(header);
            }
        } else {
            statements.push(header);
        }
        for entry in section.entries {
            statements.extend(self.entry(&section.name, seen, spec, entry));
        }
    }

    /// The canonical name of a section and its name in the table.
    fn meaning(&mut self, section: &Section) -> Option<(Str, &'static str)> {
        let (files, at) = (self.files, self.at(section.span));
        let layer = files.layer(self.source);
        let name = section.name.as_str();
        match keys::section(name) {
            SectionMeaning::Known("server") if layer != LayerKind::Server => {
                self.out.error(|| {
                    Diagnostic::error("[server] describes the server, not an application")
                        .at(files.place(at))
                        .hint("put it into metactl.conf")
                });
                None
            }
            SectionMeaning::Known(spec) => Some((section.name.clone(), spec)),
            SectionMeaning::Future(future) => {
                self.out.error(|| {
                    Diagnostic::error(format!(
                        "[{name}] is not available in this version of metactl"
                    ))
                    .at(files.place(at))
                    .hint(format!("remove it; {}", future.instead))
                });
                None
            }
            SectionMeaning::Unknown if self.daemons.contains(name) => {
                Some((format!("daemon.{name}").into(), super::merge::ALL_DAEMONS))
            }
            SectionMeaning::Unknown => {
                let hint = || section_hint(section, self.daemons);
                self.out.error(|| {
                    Diagnostic::error(format!("unknown section [{name}]"))
                        .at(files.place(at))
                        .label("not a section")
                        .hint(hint())
                });
                None
            }
        }
    }

    /// The statement of a line; `seen` is the section in [`Reader::seen`].
    fn entry(
        &mut self,
        written: &str,
        seen: usize,
        spec: &'static str,
        entry: Entry,
    ) -> Option<Statement> {
        let (files, at) = (self.files, self.at(entry.span));
        let Some((row, key)) = keys::find(spec, &entry.key) else {
            self.out.error(|| {
                Diagnostic::error(format!("unknown key `{}` in [{written}]", entry.key))
                    .at(files.place(at))
                    .label("not a key of this section")
                    .hint(key_hint(&entry.key, spec))
            });
            return None;
        };
        let open = row.name.strip_suffix('*');
        if let Some(problem) =
            open.and_then(|prefix| row.kind.check_name(&key[prefix.len()..]).err())
        {
            // A line of a secret of several lines that is not indented looks like a key.
            let shown = if spec == redact::SECRETS {
                "a name"
            } else {
                &format!("`{key}`")
            };
            self.out.error(|| {
                Diagnostic::error(format!("{shown} in [{written}] {problem}"))
                    .at(files.place(at))
                    .label("bad name")
            });
            return None;
        }
        let key = match (open, key) {
            (None, _) => Str::built_in(row.name),
            (Some(_), Cow::Owned(key)) => Str::from(key),
            (Some(_), Cow::Borrowed(_)) => entry.key.clone(),
        };
        let source = self.source;
        let section = self.seen.at_mut(seen);
        let name = section.name.clone();
        if let Some(first) = section.keys.get(&key) {
            let (span, first) = (first.span, first.otherwise.clone());
            let first = first.unwrap_or_else(|| format!("{name}:{key}"));
            // The same word twice was told by the parser already.
            if first != format!("{written}:{}", entry.key) {
                self.out.error(|| {
                    let other = first.split_once(':').map_or(first.as_str(), |(_, key)| key);
                    let message = format!(
                        "`{}` in [{written}] was set before, as `{other}`",
                        entry.key
                    );
                    Diagnostic::error(message)
                        .at(files.place(at))
                        .label("the second time")
                        .related(Some(files.place(At { source, span })), "the first time")
                        .hint(format!("both mean `{key}` of [{name}]; keep one of them"))
                });
            }
            return None;
        }
        let same = name == *written && entry.key == key;
        section.keys.push(Seen {
            key: key.clone(),
            span: entry.span,
            otherwise: (!same).then(|| format!("{written}:{}", entry.key)),
        });
        Some(Statement::Key {
            section: name,
            spec,
            key,
            row,
            content: entry.content,
            at,
        })
    }
}

fn section_hint(section: &Section, daemons: &List<Str>) -> String {
    let name = section.name.as_str();
    let known = SECTIONS
        .iter()
        .map(|spec| spec.name)
        .filter(|name| !name.contains('*'));
    let mut sorted: Vec<&str> = daemons.iter().map(Str::as_str).collect();
    sorted.sort_unstable();
    if let Some(near) = suggest::nearest(name, known) {
        return format!("did you mean [{near}]?");
    }
    let bare = name.strip_prefix("daemon.").unwrap_or(name);
    if let Some(near) = suggest::nearest(bare, sorted) {
        return format!("did you mean [daemon.{near}]?");
    }
    if name.starts_with("daemon.") {
        return "a daemon's name is letters, digits, `-`, `_` and `+`, 64 at most".to_owned();
    }
    if section
        .entries
        .iter()
        .any(|entry| keys::find("daemon.*", &entry.key).is_some())
    {
        return format!("a daemon is written [daemon.{name}]");
    }
    let names: Vec<String> = SECTIONS
        .iter()
        .map(|spec| format!("[{}]", spec.name))
        .collect();
    format!("sections are {}", names.join(", ").replace(".*]", ".NAME]"))
}

fn key_hint(key: &str, spec: &str) -> String {
    if let Some(near) = suggest::nearest(key, keys::names_in(spec)) {
        return format!("did you mean `{near}`?");
    }
    let elsewhere = keys::sections_with(key);
    if !elsewhere.is_empty() {
        let sections: Vec<String> = elsewhere.iter().map(|name| format!("[{name}]")).collect();
        return format!(
            "it belongs into {}",
            sections.join(" or ").replace(".*]", ".NAME]")
        );
    }
    let names: Vec<&str> = keys::names_in(spec).collect();
    format!("keys of this section are {}", names.join(", "))
}
