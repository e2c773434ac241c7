//! Submodules of git (gitmodules(5)), checked out into their places.
//!
//! `.gitmodules` is written by whoever can push, and a server reaches more than that person does. So
//! only what is on the host of the repository is fetched, or beside it on this server, unless
//! `[build] submodules = any` says otherwise; what is refused ends the deployment.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use metactl_bundles::app::Submodules;

use super::{Git, Revision, printable};
use crate::error::{LifecycleError, OnPath, Result};

/// How many there may be in all, and how deep.
const MOST: usize = 200;
const DEEPEST: usize = 8;
/// A link to a commit in a tree.
const GITLINK: &str = "160000 commit ";

/// Checks out all submodules of `revision`, whose files are in `to`.
pub(super) fn checkout(git: &Git, revision: &Revision, to: &Path) -> Result<()> {
    let mut count = 0;
    below(git, revision, to, 0, &mut count)
}

fn below(git: &Git, revision: &Revision, to: &Path, depth: usize, count: &mut usize) -> Result<()> {
    if git.settings().submodules == Submodules::None {
        return Ok(());
    }
    for (name, module) in modules(git, revision)? {
        let refused = |why: String| LifecycleError::Source {
            action: format!("fetch the submodule {name:?} of"),
            repo: git.shown(),
            why,
            hint: "[build] submodules = none leaves them out; `any` (site or local) fetches all"
                .to_owned(),
        };
        let (Some(path), Some(url)) = (&module.path, &module.url) else {
            return Err(refused("it has no path or no URL".to_owned()));
        };
        let Some(inner) = inside(path) else {
            return Err(refused(format!("its path {path:?} leads out")));
        };
        // Named, but not part of this commit.
        let Some(commit) = linked(git, revision, path)? else {
            continue;
        };
        *count += 1;
        if *count > MOST || depth >= DEEPEST {
            return Err(refused("there are too many of them".to_owned()));
        }
        let own = git.repo();
        let url = resolve(own, url).ok_or_else(|| refused(format!("its URL is {url:?}")))?;
        if git.settings().submodules != Submodules::Any && !is_near(own, &url) {
            let shown = metactl_bundles::redact::redact(&url).into_owned();
            return Err(refused(format!("{shown} is on another host")));
        }
        let module = git.beside(&url)?;
        let revision = module.fetch_exact(&commit)?;
        let target = place(to, &inner)?;
        module.checkout_files(&revision, &target)?;
        below(&module, &revision, &target, depth + 1, count)?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Module {
    path: Option<String>,
    url: Option<String>,
}

fn modules(git: &Git, revision: &Revision) -> Result<BTreeMap<String, Module>> {
    let mut modules: BTreeMap<String, Module> = BTreeMap::new();
    if git.file(revision, ".gitmodules")?.is_none() {
        return Ok(modules);
    }
    let blob = format!("{}:.gitmodules", revision.commit);
    let text = git.read(&["config", "--blob", &blob, "--list", "-z"])?;
    for entry in text.split('\0') {
        let Some((key, value)) = entry.split_once('\n') else {
            continue;
        };
        let Some((name, key)) = key
            .strip_prefix("submodule.")
            .and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        let module = modules.entry(printable(name, 80)).or_default();
        match key {
            "path" => module.path = Some(value.to_owned()),
            "url" => module.url = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(modules)
}

/// The commit that the tree has at `path`.
fn linked(git: &Git, revision: &Revision, path: &str) -> Result<Option<String>> {
    let text = git.read(&["ls-tree", "-z", &revision.commit, "--", path])?;
    let hash = text
        .strip_prefix(GITLINK)
        .and_then(|rest| rest.split('\t').next());
    Ok(hash.map(str::to_owned))
}

/// The folder for a submodule, made where it is missing; never through a link.
fn place(to: &Path, inner: &Path) -> Result<PathBuf> {
    let mut path = to.to_path_buf();
    for part in inner.components() {
        path.push(part);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => {
                return Err(std::io::Error::from(std::io::ErrorKind::NotADirectory))
                    .on("check out into", &path);
            }
            Err(_) => fs::create_dir(&path).on("make", &path)?,
        }
    }
    Ok(path)
}

fn inside(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then(|| path.to_path_buf())
}

/// `../lib.git`, seen from the repository (git-submodule(1)).
fn resolve(own: &str, url: &str) -> Option<String> {
    if url.chars().any(char::is_control) || url.starts_with('-') {
        return None;
    }
    if !url.starts_with("./") && !url.starts_with("../") {
        return Some(url.to_owned());
    }
    let mut base = own.trim_end_matches('/').to_owned();
    let mut rest = url;
    loop {
        if let Some(tail) = rest.strip_prefix("./") {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("../") {
            let at = base.rfind(['/', ':'])?;
            // Never above the host, or the root.
            if at == 0 || base[..at].ends_with('/') {
                return None;
            }
            base.truncate(at);
            rest = tail;
        } else {
            break;
        }
    }
    if rest.split('/').any(|part| part == "..") {
        return None;
    }
    Some(format!("{base}/{rest}"))
}

/// On the same host by the same way; on this server, in the same folder.
fn is_near(own: &str, url: &str) -> bool {
    match (place_of(own), place_of(url)) {
        (Where::Host(own), Where::Host(other)) => own == other,
        (Where::Folder(own), Where::Folder(other)) => own.is_some() && own == other,
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Where {
    /// Scheme, login and host with port.
    Host(String),
    /// The folder that a repository of this server is in.
    Folder(Option<PathBuf>),
}

fn place_of(url: &str) -> Where {
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.starts_with('/') {
        let path = Path::new(path.trim_end_matches('/'));
        let plain = !path.components().any(|part| part == Component::ParentDir);
        return Where::Folder(path.parent().filter(|_| plain).map(Path::to_path_buf));
    }
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            Where::Host(format!("{scheme}://{host}"))
        }
        // `git@host:path`.
        None => Where::Host(url.split(':').next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_ones_are_beside_the_repository() {
        for (own, url, expected) in [
            (
                "https://h/a/app.git",
                "../lib.git",
                Some("https://h/a/lib.git"),
            ),
            (
                "https://h/a/app.git",
                "../../b/lib.git",
                Some("https://h/b/lib.git"),
            ),
            ("https://h/app.git", "../../x", None),
            ("git@h:a/app.git", "../lib.git", Some("git@h:a/lib.git")),
            ("/srv/app", "../lib", Some("/srv/lib")),
            ("/srv/app", "./lib", Some("/srv/app/lib")),
            ("/srv/app", "../x/../../y", None),
            ("/srv/app", "https://h/x", Some("https://h/x")),
            ("/srv/app", "-x", None),
        ] {
            assert_eq!(resolve(own, url).as_deref(), expected, "{own} {url}");
        }
    }

    #[test]
    fn another_host_is_not_near() {
        assert!(is_near("https://h/a", "https://h/b/c"));
        assert!(is_near("git@h:a", "git@h:b"));
        assert!(is_near("/srv/app", "file:///srv/lib"));
        for (own, url) in [
            ("https://h/a", "https://i/a"),
            ("https://h/a", "http://h/a"),
            ("https://h/a", "ssh://h/a"),
            ("https://h/a", "/srv/secret"),
            ("/srv/app", "/root/secret"),
            ("/srv/app", "/srv/../root/secret"),
            ("/srv/app", "/srv/app/../../root/x"),
            ("git@h:a", "root@h:a"),
        ] {
            assert!(!is_near(own, url), "{own} {url}");
        }
    }

    #[test]
    fn a_place_that_leads_out_is_none() {
        assert!(inside("lib/x").is_some());
        for bad in ["", "..", "../x", "/x", "a/../b"] {
            assert!(inside(bad).is_none(), "{bad}");
        }
    }
}
