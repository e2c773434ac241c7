//! git, by its command line.
//!
//! A bare repository in the cache follows the remote; a checkout is written from it without `.git`.
//! What protects the server from a hostile repository, and from a hostile name of a revision:
//!
//! - names are checked before git sees them, and never stand where an option could stand;
//! - the environment is empty but for what is listed in [`Git::command`]; the repository's own
//!   settings are ours, since only objects and refs are fetched into it;
//! - a password is on no command line (`login`), and told to nobody but the host of the repository;
//! - only the protocols of [`call::PROTOCOLS`] are used (`ext::` would run commands: git-remote-ext(1));
//! - hooks are off, and a checkout by `checkout-index` runs neither hooks nor filters of the
//!   repository: filters are defined in settings, never in `.gitattributes` (gitattributes(5)).

mod call;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::redact::{has_password, redact};

use super::login::{self, Credentials, Login, Ssh};
use super::{Revision, Settings, Verify, cache_name, command, printable, submodules, verify};
use crate::error::{LifecycleError, Result};
use crate::files;
use crate::lock::Lock;

/// How long fetching may take.
const FETCH: Duration = Duration::from_secs(15 * 60);
/// How long anything else may take.
const LOCAL: Duration = Duration::from_secs(5 * 60);
/// How long another deployment may fetch from the same repository.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many tags are named when one is not found.
const NEWEST: usize = 5;

/// A repository and its cache.
#[derive(Debug)]
pub(crate) struct Git {
    settings: Box<Settings>,
    /// The repository, without a password.
    address: String,
    /// What to say when its server asks who is there.
    credentials: Option<Credentials>,
    /// How ssh is called.
    ssh: String,
    /// The bare repository.
    cache: PathBuf,
}

impl Git {
    /// The repository that the settings name, a URL or path; its cache below `cache`.
    pub(super) fn new(settings: &Settings, cache: PathBuf) -> Result<Git> {
        Git::with(settings, cache, None)
    }

    /// The same; `known` is said to the server that it is for when the URL names nobody.
    fn with(settings: &Settings, cache: PathBuf, known: Option<&Credentials>) -> Result<Git> {
        let repo = settings.repo.as_str();
        let unusable = |why: &str| {
            Err(LifecycleError::Setting {
                what: format!("[build] repo = {}: {why}", redact(repo)),
                hint: "a URL (https, ssh, git, file) or an absolute path".to_owned(),
            })
        };
        if repo.is_empty() || repo.starts_with('-') || repo.chars().any(char::is_control) {
            return unusable("it cannot be a repository");
        }
        // `transport::address`; only the part before the first slash can be one.
        if repo
            .split('/')
            .next()
            .is_some_and(|first| first.contains("::"))
        {
            return unusable("this way to reach a repository runs commands");
        }
        let web = repo
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        let Some((scheme, rest)) = web else {
            if has_password(repo) {
                return unusable("only https asks for a password; ssh has keys ([build] ssh.key)");
            }
            // The path of a key is only looked at by those who need it.
            let ssh = match is_ssh(repo) {
                true => settings.ssh.command()?,
                false => Ssh::default().command()?,
            };
            return Ok(Git {
                settings: Box::new(settings.clone()),
                address: repo.to_owned(),
                credentials: None,
                ssh,
                cache: cache.join(cache_name(repo)),
            });
        };
        let taken = login::take_out(rest);
        let Some((rest, login)) = taken.filter(|(rest, _)| !has_password(&format!("x://{rest}")))
        else {
            return unusable("its login cannot be one; `/` is %2F there, and `@` %40");
        };
        let scope = format!("{scheme}://{}", rest.split('/').next().unwrap_or_default());
        let known = known.filter(|known| known.are_for(&scope) && login == Login::default());
        let credentials = match known {
            Some(known) => Some(known.clone()),
            None => Credentials::new(&scope, &login.or_as_set(settings)?)?,
        };
        login::authorities(settings)?;
        let address = format!("{scheme}://{rest}");
        // Who asks is part of the name: what one may see another may not.
        let name = match &credentials {
            Some(credentials) => cache_name(&format!("{}@{address}", credentials.user)),
            None => cache_name(&address),
        };
        Ok(Git {
            settings: Box::new(settings.clone()),
            address,
            credentials,
            ssh: Ssh::default().command()?,
            cache: cache.join(name),
        })
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The repository, without a password.
    pub(super) fn repo(&self) -> &str {
        &self.address
    }

    /// Another repository, with its cache beside that of this one. Nobody signs what is in it: the
    /// commit that refers to it names its commit.
    pub(super) fn beside(&self, repo: &str) -> Result<Git> {
        let settings = Settings {
            submodules: self.settings.submodules,
            ssh: self.settings.ssh.clone(),
            tls_ca: self.settings.tls_ca.clone(),
            ..Settings::plain(repo)
        };
        let parent = self.cache.parent().unwrap_or(&self.cache);
        Git::with(&settings, parent.to_path_buf(), self.credentials.as_ref())
    }

    /// Brings the cache up to date, and finds the commit that `tag` names: a tag, a branch, or (the
    /// beginning of) a commit's hash, in this order.
    pub(crate) fn fetch(&self, tag: &str) -> Result<Revision> {
        check_name(tag)?;
        let _lock = self.lock()?;
        self.prepare()?;
        self.update()?;
        let found = match self.find(tag)? {
            None if is_full_hash(tag) && self.fetch_commit(tag)? => Some((tag.to_owned(), false)),
            found => found,
        };
        let Some((commit, is_tag)) = found else {
            return Err(LifecycleError::UnknownTag {
                repo: self.shown(),
                tag: tag.to_owned(),
                known: self.newest_tags(NEWEST)?,
            });
        };
        let revision = Revision {
            tag: tag.to_owned(),
            commit,
            is_tag,
        };
        self.verify(&revision)?;
        Ok(revision)
    }

    /// A commit by its whole hash, fetched when the cache does not have it.
    pub(super) fn fetch_exact(&self, commit: &str) -> Result<Revision> {
        let revision = Revision {
            tag: commit.to_owned(),
            commit: commit.to_owned(),
            is_tag: false,
        };
        if !is_full_hash(commit) {
            return Err(LifecycleError::BadTag {
                tag: printable(commit, 80),
            });
        }
        let _lock = self.lock()?;
        self.prepare()?;
        if self.find(commit)?.is_some() {
            return Ok(revision);
        }
        self.update()?;
        if self.find(commit)?.is_some() || self.fetch_commit(commit)? {
            return Ok(revision);
        }
        Err(LifecycleError::UnknownTag {
            repo: self.shown(),
            tag: commit.to_owned(),
            known: Vec::new(),
        })
    }

    /// Whether somebody who may has signed it, when the configuration asks for that.
    /// Whether only what somebody has signed is taken (`[build] verify.gpg`, `verify.ssh`).
    pub(super) fn wants_signature(&self) -> bool {
        self.settings.verify != Verify::default()
    }

    fn verify(&self, revision: &Revision) -> Result<()> {
        let keys = &self.settings.verify;
        if *keys == Default::default() {
            return Ok(());
        }
        let refused = |why: &str| LifecycleError::Unsigned {
            tag: revision.tag.clone(),
            why: why.to_owned(),
        };
        if !revision.is_tag {
            return Err(refused("it is no tag"));
        }
        let name = format!("refs/tags/{}", revision.tag);
        let kind = self.read(&["cat-file", "-t", &name])?;
        if kind.trim() != "tag" {
            return Err(refused("it is a plain name for a commit"));
        }
        let mut git = self.command();
        git.args(["cat-file", "tag", &name]);
        let text = self.bytes(git, LOCAL, "read")?;
        verify::check(
            &text,
            &revision.tag,
            keys,
            &self.cache.with_extension("verify"),
        )?;
        // What was signed is what is deployed.
        let text = String::from_utf8_lossy(&text).into_owned();
        let object = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("object "));
        match object == Some(revision.commit.as_str()) {
            true => Ok(()),
            false => Err(refused("it is a tag of something else than a commit")),
        }
    }

    /// What git says about something in the cache.
    pub(super) fn read(&self, args: &[&str]) -> Result<String> {
        let mut git = self.command();
        git.args(args);
        self.output(git, LOCAL, "read")
    }

    /// The commit that `tag` names, as of the last fetch; `None` when it is not in the cache.
    pub(crate) fn known(&self, tag: &str) -> Result<Option<Revision>> {
        check_name(tag)?;
        if !self.cache.join("objects").is_dir() {
            return Ok(None);
        }
        let found = self.find(tag)?;
        Ok(found.map(|(commit, is_tag)| Revision {
            tag: tag.to_owned(),
            commit,
            is_tag,
        }))
    }

    /// The branch that the remote's `HEAD` leads to, as the remote has it now.
    pub(crate) fn default_branch(&self) -> Result<Option<String>> {
        let _lock = self.lock()?;
        self.prepare()?;
        let mut git = self.command();
        git.args(["ls-remote", "--symref", "--"])
            .arg(self.repo())
            .arg("HEAD");
        let text = self.output(git, FETCH, "look at")?;
        let branch = text.lines().find_map(|line| {
            line.strip_prefix("ref: refs/heads/")?
                .strip_suffix("\tHEAD")
        });
        Ok(branch.map(str::to_owned))
    }

    /// The newest tags, newest first. Needs no network: as of the last fetch.
    pub(crate) fn newest_tags(&self, count: usize) -> Result<Vec<String>> {
        let mut git = self.command();
        git.args([
            "for-each-ref",
            "--sort=-creatordate",
            "--sort=-version:refname",
        ]);
        git.arg(format!("--count={count}"))
            .args(["--format=%(refname:short)", "refs/tags"]);
        let text = self.output(git, LOCAL, "list the tags of")?;
        Ok(text.lines().map(|line| printable(line, 80)).collect())
    }

    /// All tags, as the remote has them now.
    pub(crate) fn fetch_tags(&self, count: usize) -> Result<Vec<String>> {
        let _lock = self.lock()?;
        self.prepare()?;
        self.update()?;
        self.newest_tags(count)
    }

    /// The text of a file in a commit; `None` when it is not there, or no plain file.
    pub(crate) fn file(&self, revision: &Revision, path: &str) -> Result<Option<Vec<u8>>> {
        let mut git = self.command();
        git.args(["ls-tree", "-z", &revision.commit, "--", path]);
        let entry = self.output(git, LOCAL, "read")?;
        // "100644 blob <hash>\t<path>"; a link has mode 120000.
        let Some(hash) = entry
            .strip_prefix("100644 blob ")
            .or_else(|| entry.strip_prefix("100755 blob "))
            .and_then(|rest| rest.split('\t').next())
        else {
            return Ok(None);
        };
        let mut git = self.command();
        git.args(["cat-file", "blob", hash]);
        self.bytes(git, LOCAL, "read").map(Some)
    }

    /// Writes the files of a commit, and of its submodules, into the empty directory `to`.
    pub(crate) fn checkout(&self, revision: &Revision, to: &Path) -> Result<()> {
        self.checkout_files(revision, to)?;
        submodules::checkout(self, revision, to)
    }

    /// The same without submodules.
    pub(super) fn checkout_files(&self, revision: &Revision, to: &Path) -> Result<()> {
        let index = to.with_extension("index");
        let run = |args: &[&OsStr]| {
            let mut git = self.command();
            git.env("GIT_INDEX_FILE", &index)
                .env("GIT_WORK_TREE", to)
                .current_dir(to);
            git.args(args);
            self.bytes(git, LOCAL, "check out").map(drop)
        };
        let result = run(&[OsStr::new("read-tree"), OsStr::new(&revision.commit)])
            .and_then(|()| run(&["checkout-index", "--all", "--force"].map(OsStr::new)));
        files::remove_file(&index)?;
        result
    }

    /// The repository without its password.
    pub(crate) fn shown(&self) -> String {
        redact(self.repo()).into_owned()
    }

    fn lock(&self) -> Result<Lock> {
        let path = self.cache.with_extension("lock");
        Lock::acquire(&path, "fetch", PATIENCE)?.map_err(|held| LifecycleError::Locked {
            instance: format!("the cache of {}", self.shown()),
            holder: held.0,
        })
    }

    /// Makes the bare repository and the settings, where they are missing.
    fn prepare(&self) -> Result<()> {
        let parent = self.cache.parent().unwrap_or(&self.cache);
        files::make_dir(parent, 0o700)?;
        self.write_settings()?;
        if self.cache.join("objects").is_dir() && self.cache.join("HEAD").is_file() {
            return Ok(());
        }
        // Half of one, from a crash.
        files::remove_tree(&self.cache)?;
        let mut git = self.command();
        git.args(["init", "--quiet", "--bare", "--template=", "--"])
            .arg(&self.cache);
        self.output(git, LOCAL, "make the cache of").map(drop)
    }

    /// The settings that replace those of the user. A repository on this server may belong to
    /// somebody else; git only reads it when it is named here (`safe.directory`, git-config(1)).
    fn write_settings(&self) -> Result<()> {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut text = String::new();
        if let Some(path) = self.local_path() {
            let path = path.to_string_lossy();
            let path = path.trim_end_matches('/');
            text.push_str("[safe]\n");
            for form in [path.to_owned(), format!("{path}/.git")] {
                text.push_str(&format!("\tdirectory = \"{}\"\n", quoted(&form)));
            }
        }
        files::replace(&self.config_file(), text.as_bytes(), 0o600)
    }

    fn config_file(&self) -> PathBuf {
        self.cache.with_extension("config")
    }

    fn local_path(&self) -> Option<PathBuf> {
        let path = self.repo().strip_prefix("file://").unwrap_or(self.repo());
        path.starts_with('/').then(|| PathBuf::from(path))
    }

    fn update(&self) -> Result<()> {
        if let Some(path) = self.local_path()
            && !path.exists()
        {
            return Err(LifecycleError::Source {
                action: "fetch from".to_owned(),
                repo: self.shown(),
                why: "there is no such directory".to_owned(),
                hint: "[build] repo names it".to_owned(),
            });
        }
        let mut git = self.command();
        git.args([
            "fetch",
            "--quiet",
            "--prune",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
        ]);
        git.args(["--no-recurse-submodules", "--"]).arg(self.repo());
        git.args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]);
        self.output(git, FETCH, "fetch from").map(drop)
    }

    /// Fetches a commit that no branch or tag leads to; some servers give it.
    fn fetch_commit(&self, hash: &str) -> Result<bool> {
        let mut git = self.command();
        git.args([
            "fetch",
            "--quiet",
            "--no-auto-maintenance",
            "--no-write-fetch-head",
            "--",
        ]);
        git.arg(self.repo()).arg(hash);
        let fetched = command::run(git, FETCH).is_ok_and(|output| output.status.success());
        Ok(fetched && self.find(hash)?.is_some())
    }

    /// The commit that a name stands for, and whether it is a tag.
    fn find(&self, tag: &str) -> Result<Option<(String, bool)>> {
        let mut names = vec![format!("refs/tags/{tag}"), format!("refs/heads/{tag}")];
        let is_hash = (4..=64).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hash {
            names.push(tag.to_owned());
        }
        for name in names {
            let mut git = self.command();
            git.args(["rev-parse", "--verify", "--quiet", "--end-of-options"]);
            git.arg(format!("{name}^{{commit}}"));
            let output = self.run(git, LOCAL, "read")?;
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if output.status.success() && is_full_hash(&text) {
                return Ok(Some((text, name.starts_with("refs/tags/"))));
            }
        }
        Ok(None)
    }
}

/// `ssh://host/path`, or `host:path` (git-clone(1), "GIT URLS").
fn is_ssh(repo: &str) -> bool {
    match repo.split_once("://") {
        Some((scheme, _)) => scheme.contains("ssh"),
        None => !repo.starts_with('/'),
    }
}

fn is_full_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What can be the name of a tag, branch or commit (git-check-ref-format(1)), and is no option.
pub(super) fn check_name(tag: &str) -> Result<()> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    let parts_fit = tag
        .split('/')
        .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"));
    let fits = !tag.starts_with('-')
        && !tag.contains("..")
        && !tag.contains("@{")
        && tag != "@"
        && !tag.ends_with('.')
        && tag.len() <= 200
        && parts_fit
        && !tag.contains(forbidden);
    if fits {
        return Ok(());
    }
    Err(LifecycleError::BadTag {
        tag: printable(tag, 80),
    })
}
