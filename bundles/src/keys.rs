//! Every key of the configuration, once.
//!
//! [`KEYS`] is the one table: name, type, default, who may say it, platforms, a sentence.
//! Validation, suggestions, defaults, `metactl help keys` and the reference in `docs/` come from it.
//! A key that nothing enforces is not in it. Its rows stand in [`table`], those of a single platform
//! in the platform's file ([`crate::platforms`]).

pub mod candidates;
pub mod kinds;
pub mod reference;
pub mod suggest;
pub mod table;
pub mod values;

pub use kinds::Kind;
pub use table::SECTIONS;

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use crate::maps::HashMap;
use crate::platforms::{self, Platform};

/// Every key there is.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let of_platforms = platforms::PLATFORMS.iter().flat_map(|one| one.keys);
    let general = [
        table::APPLICATION,
        table::daemons::DAEMONS,
        table::server::SERVER,
    ];
    let general = general.into_iter().flatten();
    general.chain(of_platforms).copied().collect()
});

/// Who may say a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Every layer: it only narrows the sandbox, or the application needs it to be described.
    Any,
    /// Site, server and local layers. In the app layer it is a request.
    Trusted,
    /// Every layer, but these values only site, server and local.
    AnyBut(&'static [&'static str]),
    /// Every layer, unless `grant = site` stands in the section named here.
    UnlessSite(&'static str),
    /// Only `metactl.conf`.
    Server,
}

impl Grant {
    /// The words for it in the reference.
    pub fn describe(self) -> String {
        match self {
            Grant::Any => "any layer".to_owned(),
            Grant::Trusted => "site or local".to_owned(),
            Grant::AnyBut(values) => format!("any layer; `{}`: site or local", values.join("`, `")),
            Grant::UnlessSite(section) => format!("any layer, unless `[{section}] grant = site`"),
            Grant::Server => "`metactl.conf`".to_owned(),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The section: `sandbox.net`; `daemon.*` for every daemon's.
    pub section: &'static str,
    /// The canonical name. `*` is any name, `env.*` any that begins so.
    pub name: &'static str,
    /// Another name that means the same.
    pub alias: Option<&'static str>,
    /// What its value has to look like.
    pub kind: Kind,
    /// The value when nobody says one, as it would be written.
    pub default: Option<&'static str>,
    /// The platforms that it serves; a word that is an alias (`jetty`) stands for all of that file.
    /// None named: every platform.
    pub platforms: &'static [&'static str],
    /// Who may say it.
    pub grant: Grant,
    /// Why site or local have to grant it, or nothing.
    pub why: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

impl Key {
    /// Whether `platform` makes use of this key.
    pub fn serves(&self, platform: &str) -> bool {
        self.serves_found(platforms::find(platform))
    }

    /// As [`Key::serves`], for what [`platforms::find`] found.
    pub(crate) fn serves_found(&self, found: Option<(&'static Platform, &'static str)>) -> bool {
        if self.platforms.is_empty() {
            return true;
        }
        // `jetty` as a platform is jetty9, in the table it is every Jetty.
        found.is_some_and(|(found, platform)| {
            let is = |name: &&str| {
                *name == platform || found.aliases.iter().any(|(alias, _)| alias == name)
            };
            self.platforms.iter().any(is)
        })
    }

    /// Whether the value is split into argument words.
    pub fn has_words(&self) -> bool {
        self.kind == Kind::Words
    }

    fn matches(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => self.name == name,
        }
    }
}

/// A row that every layer may say and that has neither default nor other names.
pub const fn row(section: &'static str, name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        section,
        name,
        alias: None,
        kind,
        default: None,
        platforms: &[],
        grant: Grant::Any,
        why: "",
        doc,
    }
}

/// A section that there is.
#[derive(Debug)]
pub struct SectionSpec {
    /// `sandbox.net`, or `daemon.*`.
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// What a section's name means.
#[derive(Debug, Clone, Copy)]
pub enum SectionMeaning {
    /// A section of the table, by its name there.
    Known(&'static str),
    /// Not known.
    Unknown,
}

/// What the section `name` is. `daemon.web` is known as `daemon.*`.
pub fn section(name: &str) -> SectionMeaning {
    if let Some(spec) = spec(name) {
        return SectionMeaning::Known(spec.name);
    }
    SectionMeaning::Unknown
}

/// The section of the table that the section `name` is, if any.
pub(crate) fn spec(name: &str) -> Option<Spec> {
    // `[daemon.*]` is for all daemons; there is no such thing for questions.
    if let Some(spec) = rows_of(name).filter(|_| name != "health.*") {
        return Some(spec);
    }
    let is_one = |spec: &&'static Rows| {
        let prefix = spec.name.strip_suffix('*');
        let own = prefix.and_then(|prefix| name.strip_prefix(prefix));
        own.is_some_and(is_daemon_name)
    };
    BY_SECTION.families.iter().copied().find(is_one)
}

/// Whether a daemon may be called so: letters, digits, `-`, `_`, `+`; it becomes a file's name.
pub fn is_daemon_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+');
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(good)
}

/// A section of the table with its rows, and how they are found.
pub(crate) struct Rows {
    /// Its name in [`SECTIONS`].
    pub(crate) name: &'static str,
    /// Its place there.
    pub(crate) rank: usize,
    all: Vec<&'static Key>,
    /// Those with a name of their own, by it and by the other name that they may have.
    by_name: HashMap<&'static str, &'static Key>,
    /// Those that are for any name, or for any that begins so.
    open: Vec<&'static Key>,
    /// Those with a default.
    defaults: Vec<&'static Key>,
}

/// A section of the table.
pub(crate) type Spec = &'static Rows;

/// Two of the same table are the same section.
impl PartialEq for Rows {
    fn eq(&self, other: &Rows) -> bool {
        self.rank == other.rank
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The sections of the table.
struct Sections {
    by_name: HashMap<&'static str, Spec>,
    /// Those that stand for any name behind a dot.
    families: Vec<Spec>,
}

static BY_SECTION: LazyLock<Sections> = LazyLock::new(|| {
    let rows: &'static [Rows] = ALL_ROWS.as_slice();
    Sections {
        by_name: rows.iter().map(|rows| (rows.name, rows)).collect(),
        families: rows
            .iter()
            .filter(|rows| rows.name.ends_with('*'))
            .collect(),
    }
});

/// The rows of each section, in the order of [`SECTIONS`].
static ALL_ROWS: LazyLock<Vec<Rows>> = LazyLock::new(|| {
    let sections = SECTIONS.iter().enumerate();
    sections
        .map(|(rank, spec)| rows_at(rank, spec.name))
        .collect()
});

fn rows_at(rank: usize, name: &'static str) -> Rows {
    let all: Vec<&'static Key> = KEYS.iter().filter(|row| row.section == name).collect();
    let open = |row: &&&'static Key| row.name.ends_with('*');
    let mut by_name = HashMap::default();
    for row in &all {
        let own = (!row.name.ends_with('*')).then_some(row.name);
        by_name.extend(own.into_iter().chain(row.alias).map(|name| (name, *row)));
    }
    Rows {
        name,
        rank,
        by_name,
        open: all.iter().filter(open).copied().collect(),
        defaults: all
            .iter()
            .filter(|row| row.default.is_some())
            .copied()
            .collect(),
        all,
    }
}

/// The sections of the table, in the order of [`SECTIONS`].
pub(crate) fn specs() -> &'static [Rows] {
    &ALL_ROWS
}

/// The rows of a section, a name of [`SECTIONS`], in the order of the reference.
pub fn in_section(section: &str) -> &'static [&'static Key] {
    rows_of(section).map_or(&[], |rows| &rows.all)
}

/// The row of `key` in the section `section`, a name of [`SECTIONS`]; and the key's canonical name.
pub fn find<'k>(section: &str, key: &'k str) -> Option<(&'static Key, Cow<'k, str>)> {
    rows_of(section)?.find(key)
}

/// The rows of a section, a name of [`SECTIONS`], to look several keys up.
pub(crate) fn rows_of(section: &str) -> Option<Spec> {
    BY_SECTION.by_name.get(section).copied()
}

impl Rows {
    /// The rows that have a default.
    pub(crate) fn defaults(&self) -> &[&'static Key] {
        &self.defaults
    }

    /// As [`find`].
    pub(crate) fn find<'k>(&self, key: &'k str) -> Option<(&'static Key, Cow<'k, str>)> {
        if let Some(row) = self.by_name.get(key) {
            return Some((row, Cow::Borrowed(row.name)));
        }
        // `java.heap.max` is `jvm.heap.max`.
        let canonical = match key.strip_prefix("java.") {
            Some(rest) if self.name == "daemon.*" => Cow::Owned(format!("jvm.{rest}")),
            _ => Cow::Borrowed(key),
        };
        if let Cow::Owned(canonical) = &canonical
            && let Some(row) = self.by_name.get(canonical.as_str())
        {
            return Some((row, Cow::Borrowed(row.name)));
        }
        let row = self.open.iter().find(|row| row.matches(&canonical))?;
        Some((row, canonical))
    }
}

/// Every key there is, in the order of the reference.
pub fn rows() -> impl Iterator<Item = &'static Key> {
    KEYS.iter()
}

/// Whether this key in a section of an unknown name says that the section is a daemon's:
/// `[webapp] platform = jetty9` is `[daemon.webapp]`, and `[jobs] jvm.jar =` is one, but
/// `[bulid] command =` is a mistake.
pub fn marks_a_daemon(key: &str) -> bool {
    let family = key.split_once('.').map(|(family, _)| family);
    let of_platform = |row: &Key| {
        !row.platforms.is_empty() && row.name.split_once('.').map(|(name, _)| name) == family
    };
    matches!(key, "platform" | "container")
        || family == Some("java")
        || (family.is_some() && KEYS.iter().any(of_platform))
}

/// The sections of the table that have a key of this name: where a misplaced key belongs.
pub fn sections_with(key: &str) -> Vec<&'static str> {
    KEYS.iter()
        .filter(|row| row.name == key || row.alias == Some(key))
        .map(|row| row.section)
        .collect()
}

/// The names that could be meant in `section`: keys and their other names.
pub fn names_in(section: &str) -> impl Iterator<Item = &'static str> {
    let rows = KEYS
        .iter()
        .filter(move |row| row.section == section && !row.name.contains('*'));
    rows.flat_map(|row| std::iter::once(row.name).chain(row.alias))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_section_a_sentence_and_a_valid_default() {
        for key in KEYS.iter() {
            assert!(
                SECTIONS.iter().any(|s| s.name == key.section),
                "{}",
                key.section
            );
            assert!(key.doc.ends_with('.'), "{} {}", key.section, key.name);
            let restricted = !matches!(key.grant, Grant::Any | Grant::Server);
            assert_eq!(
                restricted,
                !key.why.is_empty(),
                "{} {}",
                key.section,
                key.name
            );
            if let Some(default) = key.default {
                assert_eq!(
                    key.kind.check(default),
                    Ok(()),
                    "{} {}",
                    key.section,
                    key.name
                );
            }
            for platform in key.platforms {
                assert!(platforms::names().contains(platform), "{platform}");
            }
        }
    }

    #[test]
    fn no_row_stands_twice() {
        let mut names: Vec<_> = KEYS.iter().map(|key| (key.section, key.name)).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn other_names_lead_to_the_canonical_one() {
        assert_eq!(find("daemon.*", "container").unwrap().1, "platform");
        assert_eq!(find("daemon.*", "java.heap.max").unwrap().1, "jvm.heap.max");
        assert_eq!(find("build", "env.X").unwrap().0.name, "env.*");
        assert!(find("build", "env.").is_none() && find("build", "jvm.home").is_none());
    }

    #[test]
    fn keys_serve_their_platforms() {
        let serves = |key: &str, platform: &str| find("daemon.*", key).unwrap().0.serves(platform);
        assert!(serves("jetty.modules", "jetty") && serves("jetty.modules", "jetty12"));
        assert!(!serves("jetty.modules", "jetty8") && serves("jetty.war", "jetty8"));
        assert!(
            serves("jvm.home", "jetty") && !serves("jvm.home", "exec") && serves("port", "exec")
        );
    }

    #[test]
    fn sections_are_known_or_unknown() {
        assert!(matches!(
            section("daemon.web"),
            SectionMeaning::Known("daemon.*")
        ));
        assert!(matches!(
            section("daemon.*"),
            SectionMeaning::Known("daemon.*")
        ));
        assert!(matches!(section("daemon.a.b"), SectionMeaning::Unknown));
        assert!(matches!(
            section("health.web"),
            SectionMeaning::Known("health.*")
        ));
        assert!(matches!(section("health.*"), SectionMeaning::Unknown));
        assert!(matches!(section("smf.x"), SectionMeaning::Unknown));
        assert!(matches!(section("healthy"), SectionMeaning::Unknown));
    }
}
