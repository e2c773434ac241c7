//! What is refused before anything is made, through the public face: nothing is launched here, and
//! nothing but temporary directories is touched.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use metactl_bundles::paths::Paths;
use metactl_lifecycle::{
    Change, DeployOptions, InstanceState, LifecycleError, Manager, Progress, RunTarget, Silent,
};

struct Server {
    root: tempfile::TempDir,
    manager: Manager,
}

impl Server {
    fn new() -> Server {
        let root = tempfile::tempdir().unwrap();
        let manager = Manager {
            paths: Paths::under(root.path()),
            runtime: "/no/such/runtime".into(),
            metactl: "/no/such/metactl".into(),
        };
        fs::create_dir_all(manager.paths.config.join("nodes")).unwrap();
        Server { root, manager }
    }

    fn local(&self, instance: &str, text: &str) {
        fs::write(self.manager.paths.local_layer(instance), text).unwrap();
    }

    /// A repository with these files, tagged 1.0.
    fn repository(&self, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.root.path().join("source");
        fs::create_dir_all(&dir).unwrap();
        for (path, text) in files {
            fs::write(dir.join(path), text).unwrap();
        }
        git(&dir, &["init", "-q", "-b", "main"]);
        git(&dir, &["add", "-A"]);
        git(&dir, &["commit", "-q", "-m", "x"]);
        git(&dir, &["tag", "1.0"]);
        dir
    }

    /// Every file below the root but caches, logs and the source, with its content.
    fn disk(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut todo = vec![self.root.path().to_path_buf()];
        let paths = &self.manager.paths;
        let source = self.root.path().join("source");
        let skipped = [&paths.cache, &paths.log, &source];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !skipped.contains(&&path) {
                    todo.push(path);
                } else if path.is_file() {
                    let text = fs::read(&path).unwrap();
                    found.insert(path, text);
                }
            }
        }
        found
    }

    fn deploy(&self, instance: &str, tag: Option<&str>) -> LifecycleError {
        let before = self.disk();
        let instance = self.manager.instance(instance).unwrap();
        let error = instance
            .deploy(tag, &DeployOptions::default(), &mut Silent)
            .unwrap_err();
        assert_eq!(before, self.disk(), "{error}");
        error
    }
}

fn git(dir: &Path, args: &[&str]) {
    let mut git = Command::new("git");
    git.args(args).current_dir(dir);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Test")
            .env(format!("GIT_{role}_EMAIL"), "t@example.org");
    }
    assert!(git.status().unwrap().success(), "git {args:?}");
}

fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIP {test}: needs root");
    }
    root
}

const GOOD: &str = "[daemon.main]\nplatform = exec\ncommand = sleep 1000\n";

#[test]
fn instances_are_found_by_layer_and_by_state() {
    let server = Server::new();
    server.local("web", "");
    server.local("bad name", "");
    server.local("status", "");
    let state = server.manager.paths.instance_state("old");
    fs::create_dir_all(state.join("releases")).unwrap();
    // What stays of one that was deleted is no instance.
    let deleted = server.manager.paths.instance_state("deleted");
    fs::create_dir_all(deleted.join("data")).unwrap();
    for dir in [&state, &deleted] {
        let own = r#"{"format":1,"uid":66000,"gid":66000}"#;
        fs::write(dir.join("allocation.json"), own).unwrap();
    }
    assert_eq!(server.manager.instances().unwrap(), ["old", "web"]);
    let list = server.manager.list().unwrap();
    assert!(
        list.iter()
            .all(|line| line.state == InstanceState::NotDeployed),
        "{list:?}"
    );

    let unknown = server.manager.instance("wbe").unwrap_err();
    assert!(unknown.hint().unwrap().contains("web"), "{unknown}");
    assert_eq!(unknown.class().code(), 69);
    assert_eq!(
        server
            .manager
            .instance("../web")
            .unwrap_err()
            .class()
            .code(),
        64
    );
}

#[test]
fn what_is_not_deployed_is_told_with_the_way() {
    if !is_root("what_is_not_deployed_is_told_with_the_way") {
        return;
    }
    let server = Server::new();
    server.local("web", "[build]\nrepo = /x\n");
    let web = server.manager.instance("web").unwrap();
    for error in [
        web.start(None, &mut Silent).unwrap_err(),
        web.restart(None, &mut Silent).unwrap_err(),
        web.bundle().unwrap_err(),
        web.plan().unwrap_err(),
        web.log_files(None).unwrap_err(),
    ] {
        assert_eq!(error.class().code(), 69, "{error}");
        assert_eq!(error.hint().unwrap(), "metactl web deploy");
    }
    assert_eq!(web.stop(None, &mut Silent).unwrap(), Change::Already);
    assert_eq!(web.status().unwrap().state, InstanceState::NotDeployed);
    assert!(web.converge().unwrap().is_empty());
}

#[test]
fn sources_that_cannot_be_are_told() {
    if !is_root("sources_that_cannot_be_are_told") {
        return;
    }
    let server = Server::new();
    let repo = server.repository(&[(".metactl", GOOD)]);
    let repo = repo.to_str().unwrap();
    for (local, tag, code, words) in [
        ("", None, 78, "where the source"),
        ("[build]\nrepo = REPO\n", None, 78, "which tag"),
        ("[build]\nrepo = REPO\n", Some("9.9"), 1, "9.9"),
        (
            "[build]\nrepo = REPO\n",
            Some("--upload-pack=x"),
            64,
            "cannot be the name",
        ),
        ("[build]\nrepo = REPO\ntag = 9.9\n", None, 1, "9.9"),
        (
            "[build]\nrepo = svn+tunnel://svn.example.org/x\ntag = 1\n",
            None,
            78,
            "this way to reach a repository",
        ),
        (
            "[build]\nrepo = /no/such/place\ntag = 1\n",
            None,
            1,
            "/no/such/place",
        ),
    ] {
        server.local("web", &local.replace("REPO", repo));
        let error = server.deploy("web", tag);
        assert_eq!(error.class().code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_broken_application_layer_is_told_before_anything_is_built() {
    if !is_root("a_broken_application_layer_is_told_before_anything_is_built") {
        return;
    }
    let server = Server::new();
    let broken = format!("{GOOD}prot = 80\n[build]\ncommand = touch /tmp/never-built\n");
    let repo = server.repository(&[(".metactl", &broken)]);
    server.local("web", &format!("[build]\nrepo = {}\n", repo.display()));
    let error = server.deploy("web", Some("1.0"));
    assert_eq!(error.class().code(), 78);
    assert!(
        error.report().unwrap().to_string().contains(".metactl:4:1"),
        "{error}"
    );
}

#[test]
fn a_layer_that_is_a_link_is_refused() {
    if !is_root("a_layer_that_is_a_link_is_refused") {
        return;
    }
    let server = Server::new();
    let dir = server.root.path().join("source");
    fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join(".metactl")).unwrap();
    let repo = server.repository(&[("x", "")]);
    server.local("web", &format!("[build]\nrepo = {}\n", repo.display()));
    let error = server.deploy("web", Some("1.0")).to_string();
    assert!(
        error.contains(".metactl") && !error.contains("root:"),
        "{error}"
    );
}

#[test]
fn a_missing_runtime_undoes_the_deployment() {
    if !is_root("a_missing_runtime_undoes_the_deployment") {
        return;
    }
    let server = Server::new();
    let config = format!("[build]\ncommand = true\n{GOOD}");
    let repo = server.repository(&[(".metactl", &config)]);
    server.local("web", &format!("[build]\nrepo = {}\n", repo.display()));
    let error = server.deploy("web", Some("1.0"));
    assert_eq!(error.class().code(), 69, "{error}");
    assert!(error.to_string().contains("/no/such/runtime"), "{error}");
}

#[test]
fn a_supervisor_that_does_not_begin_undoes_the_deployment() {
    if !is_root("a_supervisor_that_does_not_begin_undoes_the_deployment") {
        return;
    }
    let mut server = Server::new();
    server.manager.metactl = "/bin/false".into();
    // Taking the network away, on the way back, is all that it is asked for.
    server.manager.runtime = "/bin/true".into();
    let repo = server.repository(&[(".metactl", GOOD)]);
    server.local("web", &format!("[build]\nrepo = {}\n", repo.display()));
    let error = server.deploy("web", Some("1.0"));
    assert!(
        error.to_string().contains("supervisor of web ended"),
        "{error}"
    );
    assert_eq!(
        server
            .manager
            .instance("web")
            .unwrap()
            .status()
            .unwrap()
            .state,
        InstanceState::NotDeployed
    );
}

#[test]
fn an_interrupted_deployment_is_undone_by_the_next_command() {
    if !is_root("an_interrupted_deployment_is_undone_by_the_next_command") {
        return;
    }
    let server = Server::new();
    server.local("web", "");
    let state = server.manager.paths.instance_state("web");
    let release = state.join("releases/1.0-9f2c1e4-1");
    fs::create_dir_all(&release).unwrap();
    fs::create_dir_all(state.join("releases/.partial-1.0-9f2c1e4-2")).unwrap();
    fs::create_dir_all(state.join("bundles/0123456789abcdef")).unwrap();
    fs::write(
        state.join("allocation.json"),
        r#"{"format":1,"uid":66000,"gid":66000}"#,
    )
    .unwrap();
    let record = r#"{"format":1,"release":"1.0-9f2c1e4-1","bundle":"0123456789abcdef","wanted":null,"local":null,
        "before":{"bundle":false,"data":false,"allocation":false}}"#;
    fs::write(state.join("deploy.json"), record).unwrap();
    let web = server.manager.instance("web").unwrap();
    let done = web.converge().unwrap();
    assert!(done[0].contains("undone"), "{done:?}");
    assert!(!state.exists(), "{:?}", server.disk());
}

#[test]
fn directories_that_cannot_be_run_are_told() {
    if !is_root("directories_that_cannot_be_run_are_told") {
        return;
    }
    let server = Server::new();
    let before = server.disk();
    let run = |path: &Path, entry: Option<&str>| {
        let target = RunTarget::Path(path.to_path_buf());
        server
            .manager
            .run_foreground(&target, entry, &mut Silent)
            .unwrap_err()
    };
    assert!(
        run(Path::new("/no/such/place"), None)
            .to_string()
            .contains("/no/such/place")
    );
    assert!(
        run(server.root.path(), None)
            .to_string()
            .contains(".metactl")
    );
    let app = server.root.path().join("source");
    fs::create_dir(&app).unwrap();
    fs::write(
        app.join(".metactl"),
        "[daemon.one]\ncommand = a\n[daemon.two]\ncommand = b\n",
    )
    .unwrap();
    fs::set_permissions(
        server.root.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let error = run(&app, None);
    assert!(error.to_string().contains("one, two"), "{error}");
    assert!(run(&app, Some("three")).to_string().contains("three"));
    assert_eq!(before, server.disk());
}

/// Steps end as often as they begin, but for the one that fails.
#[derive(Default)]
struct Balance {
    begun: u32,
    ended: u32,
}

impl Progress for Balance {
    fn begin(&mut self, _: &str, _: &str) {
        assert_eq!(self.begun, self.ended, "steps do not nest");
        self.begun += 1;
    }
    fn end(&mut self, _: bool, _: &str) {
        self.ended += 1;
    }
    fn note(&mut self, _: &str) {}
}

#[test]
fn steps_do_not_nest() {
    if !is_root("steps_do_not_nest") {
        return;
    }
    let server = Server::new();
    let repo = server.repository(&[(".metactl", &format!("[build]\ncommand = true\n{GOOD}"))]);
    server.local("web", &format!("[build]\nrepo = {}\n", repo.display()));
    let mut balance = Balance::default();
    let web = server.manager.instance("web").unwrap();
    web.deploy(Some("1.0"), &DeployOptions::default(), &mut balance)
        .unwrap_err();
    assert_eq!(
        (balance.begun, balance.ended),
        (2, 1),
        "fetch, and build that failed"
    );
}
