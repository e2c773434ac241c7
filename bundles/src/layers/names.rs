//! From parsed files to statements about keys of the table: aliases become canonical names, unknown
//! names become errors with a suggestion.

use std::borrow::Cow;
use std::ops::Deref;

use super::files::{At, Files};
use super::known::Settled;
use super::{LayerKind, Source};
use crate::diagnostics::{Collector, Diagnostic};
use crate::ini::{self, Content, Document, Entry, Section, Span};
use crate::keys::{self, Key, SECTIONS, SectionMeaning, Spec, suggest};
use crate::maps::{List, Named};
use crate::redact;
use crate::text::Str;

/// What a file says in a section, in words of the table.
pub(super) struct Said {
    pub(super) section: Str,
    /// What it is in the table.
    pub(super) spec: Spec,
    /// How the section is written.
    written: Str,
    /// Where `unset *` stands, if it does.
    unset_all: Option<Span>,
    /// Where the header is; nothing when the section is there to be taken away only.
    header: Option<Span>,
    pub(super) lines: List<Line>,
}

/// `key = value` or `unset key`.
pub(super) struct Line {
    pub(super) key: Str,
    pub(super) row: &'static Key,
    pub(super) content: Content,
    pub(super) span: Span,
    /// How the key is written.
    written: Str,
    /// What is known of the value, when the text is one that several instances have in common.
    pub(super) settled: Option<Settled>,
}

impl Named for Said {
    fn name(&self) -> &Str {
        &self.section
    }
}

impl Named for Line {
    fn name(&self) -> &Str {
        &self.key
    }
}

/// One thing that is said.
#[derive(Clone, Copy)]
pub(super) enum Statement<'a> {
    /// `unset *`.
    UnsetAll(Span),
    /// `[section]` is there.
    Header(Span),
    /// A line about a key.
    Line(&'a Line),
}

impl Said {
    /// What is said, in the order in which it counts: what the section says itself is not taken away
    /// by its `unset *`.
    pub(super) fn statements(&self) -> impl Iterator<Item = Statement<'_>> {
        let unset_all = self.unset_all.map(Statement::UnsetAll);
        let header = self.header.map(Statement::Header);
        let lines = self.lines.iter().map(Statement::Line);
        unset_all.into_iter().chain(header).chain(lines)
    }
}

/// What a file says: found out for it, or before.
pub(super) enum OfFile<'a> {
    /// For it.
    Own(Vec<Said>),
    /// Before, for all who have the same text.
    Known(&'a [Said]),
}

impl Deref for OfFile<'_> {
    type Target = [Said];

    fn deref(&self) -> &[Said] {
        match self {
            OfFile::Own(said) => said,
            OfFile::Known(said) => said,
        }
    }
}

/// What every file says. What is in `[server]` is checked and left out: it describes the server, not
/// an application.
pub(super) fn understand<'a>(files: &'a Files, out: &mut Collector) -> Vec<OfFile<'a>> {
    // Parsed are those of which not all is known, before any of them is understood.
    let document = |source: &Source| match source.known() {
        Some(_) => None,
        None => Some(ini::parse_shared(&source.path, &source.text, out)),
    };
    let documents: Vec<Option<Document>> = files.sources.iter().map(document).collect();
    let daemons = daemon_names(files, &documents);
    let of_file = |(source, document): (usize, Option<Document>)| match document {
        Some(document) => OfFile::Own(of_document(files, source, document, &daemons, out)),
        None => OfFile::Known(
            files.sources[source]
                .known()
                .map_or(&[], |known| &known.said),
        ),
    };
    documents.into_iter().enumerate().map(of_file).collect()
}

/// What the file `source` says, which was parsed to `document`; `daemons` are those of all files.
pub(super) fn of_document(
    files: &Files,
    source: usize,
    document: Document,
    daemons: &List<Str>,
    out: &mut Collector,
) -> Vec<Said> {
    let mut reader = Reader {
        files,
        source,
        daemons,
        out,
        said: List::with_capacity(document.sections.len()),
    };
    for section in document.sections {
        reader.section(section);
    }
    let mut said = reader.said.into_vec();
    said.retain(|section| section.spec.name != "server");
    said
}

/// The daemons that any layer names: as `[daemon.NAME]`, or as `[NAME]` with a key that marks one.
/// Only what is no section of the table asks for them.
fn daemon_names(files: &Files, documents: &[Option<Document>]) -> List<Str> {
    let mut names = List::default();
    let mut sections = documents.iter().flatten().flat_map(|one| &one.sections);
    if sections.all(|section| keys::spec(&section.name).is_some()) {
        return names;
    }
    let mut add = |name: &Str, is_bare: bool| match name.strip_prefix("daemon.") {
        Some(name) if keys::is_daemon_name(name) => {
            names.entry(name, || Str::from(name));
        }
        _ if is_bare => {
            names.entry(name, || name.clone());
        }
        _ => {}
    };
    for (source, document) in files.sources.iter().zip(documents) {
        for section in document.iter().flat_map(|document| &document.sections) {
            add(&section.name, is_bare_daemon(section));
        }
        // There is no short name in those that are known.
        for said in source.known().into_iter().flat_map(|known| &known.said) {
            add(&said.section, false);
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

struct Reader<'o> {
    files: &'o Files,
    source: usize,
    daemons: &'o List<Str>,
    out: &'o mut Collector,
    /// What this file says so far.
    said: List<Said>,
}

impl Reader<'_> {
    fn at(&self, span: Span) -> At {
        At {
            source: self.source,
            span,
        }
    }

    fn section(&mut self, section: Section) {
        let Some((name, spec)) = self.meaning(&section) else {
            return;
        };
        let is_empty = section.entries.is_empty();
        // `[web]` may stand in the same file as `[daemon.web]`.
        let before = self.said.position(&name);
        let mut said = Said {
            section: name,
            spec,
            written: section.name,
            unset_all: section.unset_all,
            header: (section.unset_all.is_none() || !is_empty).then_some(section.span),
            lines: List::with_capacity(section.entries.len()),
        };
        for entry in section.entries {
            if let Some(line) = self.line(&said, before, entry) {
                said.lines.push(line);
            }
        }
        self.said.push(said);
    }

    /// The canonical name of a section, and what it is in the table.
    fn meaning(&mut self, section: &Section) -> Option<(Str, Spec)> {
        let (files, at) = (self.files, self.at(section.span));
        let name = section.name.as_str();
        if let Some(spec) = keys::spec(name) {
            if spec.name != "server" || files.layer(self.source) == LayerKind::Server {
                return Some((section.name.clone(), spec));
            }
            self.out.error(|| {
                Diagnostic::error("[server] describes the server, not an application")
                    .at(files.place(at))
                    .hint("put it into metactl.conf")
            });
            return None;
        }
        if self.daemons.contains(name) {
            let spec = keys::rows_of(super::merge::ALL_DAEMONS)?;
            return Some((format!("daemon.{name}").into(), spec));
        }
        self.out.error(|| {
            Diagnostic::error(format!("unknown section [{name}]"))
                .at(files.place(at))
                .label("not a section")
                .hint(section_hint(section, self.daemons))
        });
        None
    }

    /// What an entry of a section says, of which `said` is known so far; `before` is where the same
    /// section stands under its other name.
    fn line(&mut self, said: &Said, before: Option<usize>, entry: Entry) -> Option<Line> {
        let (files, at) = (self.files, self.at(entry.span));
        let (spec, written) = (said.spec, &said.written);
        let Some((row, key)) = spec.find(&entry.key) else {
            self.out.error(|| {
                Diagnostic::error(format!("unknown key `{}` in [{written}]", entry.key))
                    .at(files.place(at))
                    .label("not a key of this section")
                    .hint(key_hint(&entry.key, spec.name))
            });
            return None;
        };
        let open = row.name.strip_suffix('*');
        if let Some(problem) =
            open.and_then(|prefix| row.kind.check_name(&key[prefix.len()..]).err())
        {
            // A line of a secret of several lines that is not indented looks like a key.
            let shown = if spec.name == redact::SECRETS {
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
        let before = before.map(|before| self.said.at(before));
        let mut there = before.into_iter().chain([said]);
        let first = there.find_map(|one| Some((&one.written, one.lines.get(&key)?)));
        if let Some((first_section, first)) = first {
            let other = &first.written;
            // The same word twice was told by the parser already.
            if (first_section, other) != (written, &entry.key) {
                let (source, name) = (self.source, &said.section);
                let span = first.span;
                self.out.error(|| {
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
        Some(Line {
            key,
            row,
            content: entry.content,
            span: entry.span,
            written: entry.key,
            settled: None,
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
