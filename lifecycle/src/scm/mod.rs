//! Where source comes from.
//!
//! Everything that a source says (names, messages, paths, contents) is somebody else's, and treated
//! so.
//!
//! | room | what it reads |
//! | --- | --- |
//! | `git`, `submodules`, `verify` | git, by its command line; what it refers to; who signed a tag |
//! | `svn` | Subversion, by its command line |
//! | `folder` | a folder of this server |
//! | `archive`, `jar` | tar files; war and jar files |
//! | `login` | passwords, keys, and who is trusted |
//! | `command` | runs tools with a limit of time |
//!
//! `[build] fetch` is no source of its own: its command runs in the build sandbox (`build`).

mod archive;
pub(crate) mod command;
pub(crate) mod folder;
mod git;
mod jar;
mod login;
mod submodules;
mod svn;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};

use metactl_bundles::app::{Submodules, Verify};
use metactl_bundles::layers::Config;
use metactl_bundles::redact::redact;

use archive::Archive;
use folder::Folder;
pub(crate) use git::Git;
pub(crate) use login::Ssh;
use svn::Subversion;

use crate::error::{LifecycleError, Result};

/// What somebody asked for, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// What was asked for.
    pub(crate) tag: String,
    /// What it is for ever: the full hash of a commit, a revision, the hash of all files.
    pub(crate) commit: String,
    /// It is a tag, which should never mean anything else.
    pub(crate) is_tag: bool,
}

impl Revision {
    /// As people say it: `9f2c1e4`.
    pub(crate) fn short(&self) -> &str {
        self.commit.get(..7).unwrap_or(&self.commit)
    }
}

/// What `[build]` says about a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    pub(crate) repo: String,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ssh: Ssh,
    /// Who vouches for a host that is reached by https; `None`: as the server says.
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) submodules: Submodules,
    pub(crate) verify: Verify,
}

impl Settings {
    /// Of a repository about which nothing else is said.
    pub(crate) fn plain(repo: &str) -> Settings {
        Settings {
            repo: repo.to_owned(),
            ..Settings::default()
        }
    }

    /// What the layers say of a further repository: who asks, only when its server is that of the first one.
    pub(crate) fn of_another(config: &Config, repo: &str) -> Settings {
        let mut settings = Settings::of(config, repo);
        let first = config.get("build", "repo");
        if !first.is_some_and(|first| login::same_server(&first.text, repo)) {
            settings.user = None;
            settings.password_file = None;
        }
        settings
    }

    /// What the layers say of the repository `repo`.
    pub(crate) fn of(config: &Config, repo: &str) -> Settings {
        let value = |key: &str| config.get("build", key).map(|value| value.text.to_string());
        let path = |key: &str| value(key).map(PathBuf::from);
        Settings {
            repo: repo.to_owned(),
            user: value("user"),
            password_file: path("password.file"),
            ssh: Ssh {
                key: path("ssh.key"),
                known_hosts: path("ssh.known_hosts"),
            },
            tls_ca: path("tls.ca"),
            submodules: match value("submodules").as_deref() {
                Some("any") => Submodules::Any,
                Some("none") => Submodules::None,
                _ => Submodules::SameHost,
            },
            verify: Verify {
                gpg: path("verify.gpg"),
                ssh: path("verify.ssh"),
            },
        }
    }
}

/// Where source comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Git(Git),
    Subversion(Subversion),
    Folder(Folder),
    Archive(Archive),
}

/// Opens a source, with a cache below `cache`.
pub(crate) fn open(settings: &Settings, cache: &Path) -> Result<Source> {
    let source = kind_of(settings, cache)?;
    let verified = matches!(source, Source::Git(_));
    if !verified && settings.verify != Verify::default() {
        return Err(LifecycleError::Setting {
            what: format!(
                "[build] verify: only tags of git are signed, and {} is none",
                redact(&settings.repo)
            ),
            hint: "take the line away, or deploy from git".to_owned(),
        });
    }
    Ok(source)
}

fn kind_of(settings: &Settings, cache: &Path) -> Result<Source> {
    let repo = settings.repo.as_str();
    let scheme = repo.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some_and(|scheme| scheme == "svn" || scheme.starts_with("svn+")) {
        return Subversion::new(settings, cache.join("svn")).map(Source::Subversion);
    }
    let path = repo.strip_prefix("file://").unwrap_or(repo);
    if path.starts_with('/') {
        if Archive::is_one(path) {
            return Ok(Source::Archive(Archive::new(path)));
        }
        if Folder::is_one(Path::new(path)) {
            return Ok(Source::Folder(Folder::new(path)));
        }
    }
    Git::new(settings, cache.join("git")).map(Source::Git)
}

impl Source {
    /// Whether it has to be said which of many things in it is meant.
    pub(crate) fn needs_tag(&self) -> bool {
        match self {
            Source::Git(_) | Source::Subversion(_) => true,
            Source::Folder(folder) => folder.needs_tag(),
            Source::Archive(archive) => archive.needs_tag(),
        }
    }

    /// Whether only what somebody has signed is taken.
    pub(crate) fn wants_signature(&self) -> bool {
        matches!(self, Source::Git(git) if git.wants_signature())
    }

    /// Without its password.
    pub(crate) fn shown(&self) -> String {
        match self {
            Source::Git(git) => git.shown(),
            Source::Subversion(svn) => svn.shown(),
            Source::Folder(folder) => folder.shown(),
            Source::Archive(archive) => archive.shown(),
        }
    }

    /// Finds what `tag` names, and brings caches up to date.
    pub(crate) fn fetch(&self, tag: &str) -> Result<Revision> {
        if !tag.is_empty() && !self.needs_tag() {
            return Err(LifecycleError::Usage {
                what: format!("{} has no tags, and so no {tag:?}", self.shown()),
                hint: "leave the tag out; or write {tag} into [build] repo, where it stands in the path"
                    .to_owned(),
            });
        }
        match self {
            Source::Git(git) => git.fetch(tag),
            Source::Subversion(svn) => svn.fetch(tag),
            Source::Folder(folder) => folder.fetch(tag),
            Source::Archive(archive) => archive.fetch(tag),
        }
    }

    /// What `tag` names, as far as that is known without any network.
    pub(crate) fn known(&self, tag: &str) -> Result<Option<Revision>> {
        match self {
            Source::Git(git) => git.known(tag),
            Source::Subversion(_) => Ok(None),
            Source::Folder(folder) => folder.fetch(tag).map(Some),
            Source::Archive(archive) => archive.fetch(tag).map(Some),
        }
    }

    /// A file at a tag, where a glance shows it: nothing is fetched, unpacked or read as a whole.
    pub(crate) fn glance(&self, tag: &str, path: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Source::Git(git) => match git.known(tag)? {
                Some(revision) => git.file(&revision, path),
                None => Ok(None),
            },
            Source::Folder(folder) => folder.glance(tag, path),
            Source::Subversion(_) | Source::Archive(_) => Ok(None),
        }
    }

    /// What is deployed when nothing is named.
    pub(crate) fn default_branch(&self) -> Result<Option<String>> {
        match self {
            Source::Git(git) => git.default_branch(),
            Source::Subversion(_) => Ok(Some("trunk".to_owned())),
            Source::Folder(_) | Source::Archive(_) => Ok(None),
        }
    }

    /// The newest tags, newest first, as the remote has them now.
    pub(crate) fn fetch_tags(&self, count: usize) -> Result<Vec<String>> {
        match self {
            Source::Git(git) => git.fetch_tags(count),
            Source::Subversion(svn) => svn.tags(count),
            Source::Folder(_) | Source::Archive(_) => Ok(Vec::new()),
        }
    }

    /// The text of a file; `None` when it is not there, or no plain file.
    pub(crate) fn file(&self, revision: &Revision, path: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Source::Git(git) => git.file(revision, path),
            Source::Subversion(svn) => svn.file(revision, path),
            Source::Folder(folder) => folder.file(revision, path),
            Source::Archive(archive) => archive.file(revision, path),
        }
    }

    /// Writes the files of a revision into the empty directory `to`.
    pub(crate) fn checkout(&self, revision: &Revision, to: &Path) -> Result<()> {
        match self {
            Source::Git(git) => git.checkout(revision, to),
            Source::Subversion(svn) => svn.checkout(revision, to),
            Source::Folder(folder) => folder.checkout(revision, to),
            Source::Archive(archive) => archive.checkout(revision, to),
        }
    }
}

/// `/srv/app-{tag}.tar` with the tag in its place, which is part of one name only.
fn with_tag(path: &str, tag: &str) -> Result<String> {
    let fits = tag
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
    if !fits || tag.starts_with('.') || tag.is_empty() && path.contains(TAG) {
        return Err(LifecycleError::BadTag {
            tag: tag.chars().filter(|c| !c.is_control()).take(80).collect(),
        });
    }
    Ok(path.replace(TAG, tag))
}

/// Where the tag stands in the path of a folder or an archive.
const TAG: &str = "{tag}";

/// The name of a place in the cache for a repository: readable, and unlike any other's.
fn cache_name(repo: &str) -> PathBuf {
    // FNV-1a, 128 bits (http://www.isthe.com/chongo/tech/comp/fnv/): not against attackers, who
    // cannot choose what administrators write into [build] repo.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in repo.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let last = repo
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let readable: String = last
        .trim_end_matches(".git")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .take(32)
        .collect();
    PathBuf::from(format!("{readable}-{hash:032x}"))
}

/// At most `length` characters of a text of somebody else, without control characters.
fn printable(text: &str, length: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(length)
        .collect()
}

/// What a tool said, in one line.
fn said(stderr: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(stderr);
    let lines: Vec<String> = said
        .lines()
        .map(|line| printable(line.trim(), 300))
        // ssh puts a frame around what matters.
        .filter(|line| line.contains(|c: char| c != '@'))
        .take(8)
        .collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().display().to_string();
        let kind = |repo: &str| match open(&Settings::plain(repo), Path::new("/c")).unwrap() {
            Source::Git(_) => "git",
            Source::Subversion(_) => "svn",
            Source::Folder(_) => "folder",
            Source::Archive(_) => "archive",
        };
        assert_eq!(kind("https://git.example.org/a.git"), "git");
        assert_eq!(kind("git@example.org:a.git"), "git");
        assert_eq!(kind("/no/such/place"), "git");
        assert_eq!(kind("svn://svn.example.org/a"), "svn");
        assert_eq!(kind("svn+https://svn.example.org/a/trunk"), "svn");
        assert_eq!(kind(&folder), "folder");
        assert_eq!(kind("/srv/a-{tag}.tar.gz"), "archive");
        assert_eq!(kind("file:///srv/a.war"), "archive");
        std::fs::create_dir(dir.path().join(".git")).unwrap();
        assert_eq!(kind(&folder), "git");
    }

    #[test]
    fn a_tag_is_one_part_of_a_path() {
        assert_eq!(with_tag("/s/a-{tag}.tar", "1.2").unwrap(), "/s/a-1.2.tar");
        for bad in ["", "../x", "a/b", ".x", "a b", "x\0"] {
            assert!(with_tag("/s/a-{tag}.tar", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn places_in_the_cache_differ() {
        let name = |repo: &str| cache_name(repo).display().to_string();
        assert!(name("https://git.example.org/myapp.git").starts_with("myapp-"));
        assert_ne!(
            name("https://a.example.org/x.git"),
            name("https://b.example.org/x.git")
        );
        assert!(!name("file:///a/../..").contains('/'));
    }
}
