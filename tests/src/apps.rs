//! Git repositories made from `examples/`, and small applications written by tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command;

/// The top of the source tree.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the source tree")
        .to_owned()
}

/// The folder of an example.
pub fn example(name: &str) -> PathBuf {
    top().join("examples").join(name)
}

/// A git repository with a work tree.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The work tree.
    pub dir: PathBuf,
}

impl Repository {
    /// An empty one.
    pub fn empty(dir: &Path) -> Repository {
        fs::create_dir_all(dir).unwrap();
        let repository = Repository {
            dir: dir.to_owned(),
        };
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository
    }

    /// One with a copy of an example in it, committed and tagged.
    pub fn of_example(name: &str, dir: &Path, tag: &str) -> Repository {
        let repository = Repository::empty(dir);
        copy(&example(name), dir);
        repository.commit(tag);
        repository
    }

    /// Writes a file of the work tree; one that begins with `#!` becomes executable.
    pub fn write(&self, path: &str, text: &str) -> &Repository {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Commits everything, and tags it.
    pub fn commit(&self, tag: &str) -> &Repository {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", tag]);
        self.git(&["tag", tag]);
        self
    }

    /// Runs git in the work tree, with nobody's settings.
    pub fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(args).current_dir(&self.dir);
        // Nobody's settings but these.
        git.env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Test");
            git.env(format!("GIT_{role}_EMAIL"), "test@example.org");
        }
        command::run(git, Duration::from_secs(30)).ok();
    }
}

/// Copies a folder without what a build left in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "build" {
                copy(&source, &target);
            }
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}
