//! Files that are no configuration: not text, not a file, not the word of those who run the server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{self, Request, Source};
use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;
use tempfile::TempDir;

/// The files of the layers that count as the word of those who run the server.
const TRUSTED: [&str; 4] = [
    "metactl.conf",
    "sites/prod/site.conf",
    "sites/prod/myapp.conf",
    "nodes/myapp.conf",
];

struct Tree {
    root: TempDir,
    paths: Paths,
}

impl Tree {
    /// Every file of every layer, each with a name of its own.
    fn new() -> Tree {
        let root = TempDir::new().unwrap();
        let paths = Paths::under(root.path());
        for (index, name) in TRUSTED.iter().enumerate() {
            let path = paths.config.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let server = if index == 0 {
                "[server]\nsite = prod\n"
            } else {
                ""
            };
            fs::write(path, format!("{server}[env]\nA{index} = {name}\n")).unwrap();
        }
        let tree = Tree { root, paths };
        for dir in ["", "sites", "sites/prod", "nodes"] {
            tree.mode(dir, 0o755);
        }
        for file in TRUSTED {
            tree.mode(file, 0o644);
        }
        fs::write(tree.app(), "[env]\nB = app\n").unwrap();
        tree
    }

    fn app(&self) -> PathBuf {
        self.root.path().join(".metactl")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.paths.config.join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self) -> Result<Vec<Source>, Report> {
        let app = self.app();
        layers::read(
            &self.paths,
            &Request {
                instance: "myapp",
                app_layer: Some(&app),
            },
        )
    }

    /// The report, which has to name `file` and these words.
    #[track_caller]
    fn refused(&self, file: &Path, words: &[&str]) -> String {
        let text = self.read().unwrap_err().to_string();
        for word in words.iter().chain([&file.to_str().unwrap()]) {
            assert!(text.contains(word), "no `{word}` in:\n{text}");
        }
        assert!(text.contains("help: "), "{text}");
        text
    }
}

#[test]
fn all_layers_of_a_tree_of_ones_own_are_read() {
    let tree = Tree::new();
    assert_eq!(tree.read().unwrap().len(), 5);
    // As an unprivileged user's: readable by nobody else, group writable by the user's own group.
    if rustix::process::geteuid().is_root() {
        return;
    }
    for file in TRUSTED {
        tree.mode(file, 0o600);
    }
    assert_eq!(tree.read().unwrap().len(), 5);
}

#[test]
fn bytes_that_are_no_text_are_told_with_their_place() {
    for file in TRUSTED {
        let tree = Tree::new();
        let path = tree.path(file);
        fs::write(&path, b"[env]\nA = 1\nB = x\xffy\n").unwrap();
        tree.refused(&path, &["not UTF-8", "0xff", ":3:6"]);
    }
    let tree = Tree::new();
    fs::write(tree.app(), b"\xfe\xff\0[\0e").unwrap();
    tree.refused(&tree.app(), &["not UTF-8", ":1:1"]);
}

#[test]
fn a_folder_or_a_fifo_in_the_place_of_a_file_is_told() {
    for file in TRUSTED {
        let tree = Tree::new();
        let path = tree.path(file);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        tree.refused(&path, &["not a regular file"]);
        fs::remove_dir(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        // Nobody writes into it: who opened it for reading would wait.
        tree.refused(&path, &["not a regular file"]);
    }
    let tree = Tree::new();
    fs::remove_file(tree.app()).unwrap();
    fs::create_dir(tree.app()).unwrap();
    tree.refused(&tree.app(), &["not a regular file"]);
}

#[test]
fn a_file_that_somebody_else_can_write_is_refused() {
    for file in TRUSTED {
        let tree = Tree::new();
        let path = tree.path(file);
        for mode in [0o666, 0o646, 0o602] {
            tree.mode(file, mode);
            let mode = format!("mode {mode:04o}");
            tree.refused(&path, &["can be written by everybody", &mode, "chmod go-w"]);
        }
        tree.mode(file, 0o640);
        assert!(tree.read().is_ok(), "reading is no writing");
    }
    // The app layer comes from a repository, and grants nothing.
    let tree = Tree::new();
    fs::set_permissions(tree.app(), Permissions::from_mode(0o666)).unwrap();
    assert!(tree.read().is_ok());
}

#[test]
fn a_folder_that_somebody_else_can_write_is_refused() {
    for (dir, file) in [
        ("", "metactl.conf"),
        ("nodes", "nodes/myapp.conf"),
        ("sites", "sites/prod/site.conf"),
        ("sites/prod", "sites/prod/myapp.conf"),
    ] {
        for mode in [0o777, 0o1777] {
            let tree = Tree::new();
            tree.mode(dir, mode);
            let folder = tree
                .path(dir)
                .to_str()
                .unwrap()
                .trim_end_matches('/')
                .to_owned();
            tree.refused(&tree.path(file), &[&folder, "can be written by everybody"]);
        }
    }
}

#[test]
fn the_owner_is_root_or_the_caller() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP the_owner_is_root_or_the_caller: giving files away needs root");
        return;
    }
    for file in TRUSTED {
        let tree = Tree::new();
        let path = tree.path(file);
        chown(&path, Some(4711), Some(4711)).unwrap();
        tree.refused(&path, &["belongs to uid 4711", "chown root"]);
        // Its content would be root's, but not for long.
        let tree = Tree::new();
        let path = tree.path(file);
        chown(path.parent().unwrap(), Some(4711), Some(4711)).unwrap();
        tree.refused(&path, &["belongs to uid 4711", "chown root"]);
        let tree = Tree::new();
        chown(tree.path(file), Some(0), Some(4711)).unwrap();
        tree.mode(file, 0o664);
        tree.refused(&tree.path(file), &["can be written by group 4711"]);
        tree.mode(file, 0o644);
        assert!(tree.read().is_ok());
    }
}

#[test]
fn a_link_may_lead_to_another_place_of_the_configuration_but_not_out_of_it() {
    for file in TRUSTED {
        let tree = Tree::new();
        let (path, inside) = (tree.path(file), tree.path("shared.conf"));
        fs::rename(&path, &inside).unwrap();
        symlink(&inside, &path).unwrap();
        assert_eq!(tree.read().unwrap().len(), 5, "{file}");

        let outside = tree.root.path().join("outside.conf");
        fs::rename(&inside, &outside).unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&outside, &path).unwrap();
        let text = tree.refused(&path, &["leads out of", "outside.conf"]);
        assert!(!text.contains("A0"), "nothing of its content: {text}");

        fs::remove_file(&outside).unwrap();
        tree.refused(&path, &["leads to nothing"]);
    }
    // A folder is no way out either.
    let tree = Tree::new();
    let outside = tree.root.path().join("outside");
    fs::rename(tree.path("nodes"), &outside).unwrap();
    symlink(&outside, tree.path("nodes")).unwrap();
    tree.refused(&tree.path("nodes/myapp.conf"), &["leads out of"]);
    // The configuration directory itself may be a link: that is where it is.
    let tree = Tree::new();
    let elsewhere = tree.root.path().join("srv");
    fs::rename(&tree.paths.config, &elsewhere).unwrap();
    symlink(&elsewhere, &tree.paths.config).unwrap();
    assert_eq!(tree.read().unwrap().len(), 5);
    // A link to a place that somebody else can write is refused for that.
    let tree = Tree::new();
    fs::create_dir(tree.path("drop")).unwrap();
    fs::rename(tree.path("nodes/myapp.conf"), tree.path("drop/x.conf")).unwrap();
    symlink("../drop/x.conf", tree.path("nodes/myapp.conf")).unwrap();
    assert!(tree.read().is_ok());
    tree.mode("drop", 0o777);
    tree.refused(
        &tree.path("nodes/myapp.conf"),
        &["drop can be written by everybody"],
    );
}

#[test]
fn the_app_layer_is_no_link() {
    let tree = Tree::new();
    fs::remove_file(tree.app()).unwrap();
    symlink("/etc/passwd", tree.app()).unwrap();
    let text = tree.refused(&tree.app(), &["a symbolic link is not followed here"]);
    assert!(!text.contains("root:"), "{text}");
}

#[test]
fn the_facts_of_the_server_are_held_to_the_same() {
    let tree = Tree::new();
    tree.mode("metactl.conf", 0o666);
    let text = Server::read(&tree.paths).unwrap_err().to_string();
    assert!(text.contains("can be written by everybody"), "{text}");
}

#[test]
fn a_name_is_no_path() {
    let tree = Tree::new();
    for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\0b", "a\nb"] {
        let request = Request {
            instance: name,
            app_layer: None,
        };
        let text = layers::read(&tree.paths, &request).unwrap_err().to_string();
        assert!(text.contains("the name of an instance"), "{name:?}: {text}");
    }
}
