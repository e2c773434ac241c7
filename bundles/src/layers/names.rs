//! From parsed files to statements about keys of the table: aliases become canonical names, unknown
//! names become errors with a suggestion.

use crate::maps::{HashMap, HashSet};

use std::sync::Arc;

use super::LayerKind;
use super::files::{At, Files};
use crate::diagnostics::{Collector, Diagnostic};
use crate::ini::{self, Content, Document, Entry, Section, Span};
use crate::keys::{self, Key, SECTIONS, SectionMeaning, suggest};
use crate::redact;

/// What a line says, in words of the table.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// `[section]` is there.
    Header {
        section: Arc<str>,
        spec: &'static str,
        at: At,
    },
    /// `key = value` or `unset key`.
    Key {
        section: Arc<str>,
        spec: &'static str,
        key: Arc<str>,
        row: &'static Key,
        content: Content,
        at: At,
    },
    /// `unset *`.
    UnsetAll {
        section: Arc<str>,
        spec: &'static str,
        at: At,
    },
}

impl Statement {
    pub(super) fn section(&self) -> &str {
        self.shared_section()
    }

    /// The name as all statements of the section share it.
    pub(super) fn shared_section(&self) -> &Arc<str> {
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
    files
        .sources
        .iter()
        .map(|source| ini::parse(&source.path, &source.text, out))
        .collect()
}

/// The statements of every file. Those about `[server]` are checked and left out: they describe
/// the server, not an application.
pub(super) fn understand(
    files: &Files,
    documents: Vec<Document>,
    out: &mut Collector,
) -> Vec<Vec<Statement>> {
    let daemons = daemon_names(&documents);
    let mut all = Vec::new();
    for (source, document) in documents.into_iter().enumerate() {
        let mut reader = Reader {
            files,
            source,
            daemons: &daemons,
            out,
            seen: HashMap::default(),
        };
        let mut statements = Vec::new();
        for section in document.sections {
            reader.section(section, &mut statements);
        }
        statements.retain(|statement| statement.spec() != "server");
        all.push(statements);
    }
    all
}

/// The daemons that any layer names: as `[daemon.NAME]`, or as `[NAME]` with a key that marks one.
fn daemon_names(documents: &[Document]) -> HashSet<String> {
    let mut names = HashSet::default();
    for section in documents.iter().flat_map(|document| &document.sections) {
        match section.name.strip_prefix("daemon.") {
            Some(name) if keys::is_daemon_name(name) => names.insert(name.to_owned()),
            _ if is_bare_daemon(section) => names.insert(section.name.clone()),
            _ => false,
        };
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
    daemons: &'a HashSet<String>,
    out: &'a mut Collector,
    /// Where each key of this file stands, by canonical names; and how it is written when that is
    /// otherwise, as `SECTION:KEY`.
    seen: HashMap<Arc<str>, HashMap<Arc<str>, Seen>>,
}

/// Where a key stands, and how it is written when that is not its canonical name.
type Seen = (Span, Option<String>);

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
            statements.extend(self.entry(&section.name, &name, spec, entry));
        }
    }

    /// The canonical name of a section and its name in the table.
    fn meaning(&mut self, section: &Section) -> Option<(Arc<str>, &'static str)> {
        let (files, at) = (self.files, self.at(section.span));
        let layer = files.sources[self.source].layer;
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
            SectionMeaning::Known(spec) => Some((name.into(), spec)),
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

    fn entry(
        &mut self,
        written: &str,
        section: &Arc<str>,
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
        let key: Arc<str> = key.into();
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
        let as_written = |key: &str| format!("{written}:{key}");
        if let Some((first, name)) = self.seen.get(section).and_then(|keys| keys.get(&key)) {
            let name = name.clone().unwrap_or_else(|| format!("{section}:{key}"));
            let (first, source) = (*first, self.source);
            // The same word twice was told by the parser already.
            if name != as_written(&entry.key) {
                self.out.error(|| {
                    let other = name.split_once(':').map_or(name.as_str(), |(_, key)| key);
                    let message = format!(
                        "`{}` in [{written}] was set before, as `{other}`",
                        entry.key
                    );
                    Diagnostic::error(message)
                        .at(files.place(at))
                        .label("the second time")
                        .related(
                            Some(files.place(At {
                                source,
                                span: first,
                            })),
                            "the first time",
                        )
                        .hint(format!(
                            "both mean `{key}` of [{section}]; keep one of them"
                        ))
                });
            }
            return None;
        }
        let otherwise =
            (written != &**section || entry.key != *key).then(|| as_written(&entry.key));
        if !self.seen.contains_key(section) {
            self.seen.insert(Arc::clone(section), HashMap::default());
        }
        if let Some(keys) = self.seen.get_mut(section) {
            keys.insert(key.clone(), (entry.span, otherwise));
        }
        Some(Statement::Key {
            section: Arc::clone(section),
            spec,
            key,
            row,
            content: entry.content,
            at,
        })
    }
}

fn section_hint(section: &Section, daemons: &HashSet<String>) -> String {
    let name = section.name.as_str();
    let known = SECTIONS
        .iter()
        .map(|spec| spec.name)
        .filter(|name| !name.contains('*'));
    let mut sorted: Vec<&str> = daemons.iter().map(String::as_str).collect();
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
