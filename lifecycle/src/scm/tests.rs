//! Real repositories, some of them hostile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

struct Repository {
    root: tempfile::TempDir,
}

impl Repository {
    fn new() -> Repository {
        let repository = Repository {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(repository.dir()).unwrap();
        repository.git(&["init", "-q", "-b", "main"]);
        repository
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("source")
    }

    fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(args)
            .current_dir(self.dir())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        git.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Test")
                .env(format!("GIT_{role}_EMAIL"), "t@example.org");
        }
        let output = git.output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, files: &[(&str, &str)], tag: &str) -> String {
        for (path, text) in files {
            let path = self.dir().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", tag]);
        self.git(&["tag", tag]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn open(&self) -> Git {
        let settings = Settings::plain(self.dir().to_str().unwrap());
        Git::new(&settings, self.root.path().join("cache/git")).unwrap()
    }

    fn checkout(&self, git: &Git, revision: &Revision) -> PathBuf {
        let to = self
            .root
            .path()
            .join(format!("out-{}", revision.tag.replace('/', "-")));
        fs::create_dir(&to).unwrap();
        git.checkout(revision, &to).unwrap();
        to
    }
}

fn names(dir: &Path) -> Vec<String> {
    crate::files::entries(dir)
        .unwrap()
        .iter()
        .map(|p| crate::files::name_of(p).to_owned())
        .collect()
}

#[test]
fn tags_branches_and_commits_are_found() {
    let repository = Repository::new();
    let one = repository.commit(&[("a", "1")], "1.0");
    repository.git(&["tag", "-a", "-m", "annotated", "v1"]);
    repository.git(&["branch", "feature/x"]);
    let two = repository.commit(&[("a", "2")], "2.0");
    let git = repository.open();
    for (tag, commit) in [
        ("1.0", &one),
        ("v1", &one),
        ("feature/x", &one),
        ("main", &two),
        (&one[..8], &one),
        (&one, &one),
    ] {
        assert_eq!(&git.fetch(tag).unwrap().commit, commit, "{tag}");
    }
    assert_eq!(git.newest_tags(2).unwrap().len(), 2);
    // A tag wins over a branch of the same name.
    repository.git(&["branch", "1.0"]);
    repository.git(&["update-ref", "refs/heads/1.0", &two]);
    assert_eq!(git.fetch("1.0").unwrap().commit, one);
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let repository = Repository::new();
    repository.commit(&[("a", "1")], "1.0");
    let git = repository.open();
    let error = git.fetch("9.9").unwrap_err();
    let text = format!("{error} {}", error.hint().unwrap());
    assert!(
        text.contains("9.9") && text.contains("1.0") && text.contains("/source"),
        "{text}"
    );
    for never in ["--help", "HEAD~1", "1.0^{tree}", "refs/tags/1.0:a"] {
        assert!(git.fetch(never).is_err(), "{never}");
    }
}

#[test]
fn moved_tags_are_followed_and_removed_ones_forgotten() {
    let repository = Repository::new();
    let one = repository.commit(&[("a", "1")], "1.0");
    let git = repository.open();
    assert_eq!(git.fetch("1.0").unwrap().commit, one);
    let two = repository.commit(&[("a", "2")], "2.0");
    repository.git(&["tag", "-f", "1.0"]);
    assert_eq!(git.fetch("1.0").unwrap().commit, two);
    repository.git(&["tag", "-d", "2.0"]);
    assert!(git.fetch("2.0").is_err());
}

#[test]
fn a_checkout_is_the_commit_and_nothing_else() {
    let repository = Repository::new();
    symlink("a", repository.dir().join("link")).unwrap();
    let files = [
        ("a", "1\r\n"),
        ("dir/b", "2"),
        (".gitattributes", "a text eol=lf\ndir export-ignore\n"),
    ];
    repository.commit(&files, "1.0");
    fs::set_permissions(
        repository.dir().join("a"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    repository.commit(&[], "1.1");
    let git = repository.open();
    let revision = git.fetch("1.1").unwrap();
    let out = repository.checkout(&git, &revision);
    assert_eq!(names(&out), [".gitattributes", "a", "dir", "link"]);
    assert_eq!(fs::read(out.join("dir/b")).unwrap(), b"2");
    assert_eq!(
        fs::metadata(out.join("a")).unwrap().permissions().mode() & 0o111,
        0o111
    );
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("a"));
    assert_eq!(
        names(out.parent().unwrap()),
        ["cache", "out-1.1", "source"],
        "no index stays"
    );
}

#[test]
fn neither_hooks_nor_filters_of_the_repository_run() {
    let repository = Repository::new();
    let proof = repository.root.path().join("proof");
    let script = format!("#!/bin/sh\ntouch {}\ncat\n", proof.display());
    repository.commit(
        &[
            ("a", "1"),
            (".gitattributes", "a filter=evil\n"),
            (".gitconfig", "[core]\nhooksPath = .\n"),
        ],
        "1.0",
    );
    // The remote's own settings and hooks are about the remote.
    let hook = repository.dir().join(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, &script).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    repository.git(&["config", "filter.evil.smudge", &hook.display().to_string()]);
    repository.git(&[
        "config",
        "uploadpack.packObjectsHook",
        &hook.display().to_string(),
    ]);
    let git = repository.open();
    let revision = git.fetch("1.0").unwrap();
    let out = repository.checkout(&git, &revision);
    assert_eq!(fs::read(out.join("a")).unwrap(), b"1");
    assert!(!proof.exists());
}

#[test]
fn submodules_are_not_fetched() {
    let repository = Repository::new();
    let hash = repository.commit(&[("a", "1")], "0.9");
    let url = "ext::sh -c touch% /tmp/never";
    let text = format!("[submodule \"x\"]\n\tpath = x\n\turl = {url}\n");
    fs::write(repository.dir().join(".gitmodules"), text).unwrap();
    repository.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{hash},x"),
    ]);
    repository.git(&["add", ".gitmodules"]);
    repository.git(&["commit", "-q", "-m", "x"]);
    repository.git(&["tag", "1.0"]);
    let git = repository.open();
    let revision = git.fetch("1.0").unwrap();
    let out = repository.checkout(&git, &revision);
    assert!(names(&out).contains(&"a".to_owned()));
    assert!(!Path::new("/tmp/never").exists());
}

#[test]
fn a_file_is_read_from_the_commit_and_not_through_links() {
    let repository = Repository::new();
    repository.commit(&[(".metactl", "[app]\n")], "1.0");
    fs::remove_file(repository.dir().join(".metactl")).unwrap();
    symlink("/etc/passwd", repository.dir().join(".metactl")).unwrap();
    repository.commit(&[], "2.0");
    repository.git(&["rm", "-q", ".metactl"]);
    repository.commit(&[("other", "")], "3.0");
    let git = repository.open();
    let file = |tag: &str| git.file(&git.fetch(tag).unwrap(), ".metactl").unwrap();
    assert_eq!(file("1.0").unwrap(), b"[app]\n");
    assert_eq!(file("2.0"), None);
    assert_eq!(file("3.0"), None);
}

#[test]
fn a_repository_of_somebody_else_can_be_read() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP a_repository_of_somebody_else_can_be_read: needs root to give files away");
        return;
    }
    let repository = Repository::new();
    let one = repository.commit(&[("a", "1")], "1.0");
    let mut todo = vec![repository.dir()];
    while let Some(path) = todo.pop() {
        chown(&path, Some(1234), Some(1234)).unwrap();
        if path.is_dir() {
            todo.extend(crate::files::entries(&path).unwrap());
        }
    }
    assert_eq!(repository.open().fetch("1.0").unwrap().commit, one);
}

#[test]
fn a_remote_that_vanished_is_told() {
    let repository = Repository::new();
    repository.commit(&[("a", "1")], "1.0");
    let git = repository.open();
    git.fetch("1.0").unwrap();
    fs::remove_dir_all(repository.dir()).unwrap();
    let error = git.fetch("1.0").unwrap_err().to_string();
    assert!(error.contains("no such directory"), "{error}");
    let nowhere = open(
        "https://user:secret@127.0.0.1:1/x.git",
        repository.root.path(),
    )
    .unwrap();
    let error = nowhere.fetch("1.0").unwrap_err().to_string();
    assert!(
        error.contains("127.0.0.1") && !error.contains("secret"),
        "{error}"
    );
}

#[test]
fn half_a_cache_is_made_anew() {
    let repository = Repository::new();
    let one = repository.commit(&[("a", "1")], "1.0");
    let git = repository.open();
    git.fetch("1.0").unwrap();
    let cache = repository.root.path().join("cache/git");
    let bare = crate::files::entries(&cache)
        .unwrap()
        .into_iter()
        .find(|path| path.is_dir())
        .unwrap();
    fs::remove_file(bare.join("HEAD")).unwrap();
    assert_eq!(git.fetch("1.0").unwrap().commit, one);
}

#[test]
fn two_at_once_share_the_cache() {
    let repository = Repository::new();
    let one = repository.commit(&[("a", "1")], "1.0");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(repository.open().fetch("1.0").unwrap().commit, one));
        }
    });
}
