//! Bundles are OCI bundles: other runtimes start them as they are.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use metactl_tests::needs::{CRUN, GIT, NFT, RUNC};
use metactl_tests::tree::Tree;
use metactl_tests::{Host, oci, on_host};

/// The entry points of an instance's bundle: folders with a config.json.
fn entries(host: &Host, instance: &str) -> Vec<PathBuf> {
    let bundle = fs::canonicalize(host.state(instance).join("bundle")).unwrap();
    let tree = Tree::of(&bundle);
    let configs = tree.paths().filter(|path| path.ends_with("config.json"));
    let mut found: Vec<PathBuf> = configs
        .map(|path| bundle.join(path).parent().unwrap().to_owned())
        .collect();
    found.sort();
    found
}

const CONFIG: &str = "\
[daemon.web]
platform = exec
command = sh -c \"echo daemon of uid $(id -u) in $PWD; exec sleep 1000\"
[crontab]
every year = 0 0 1 1 * echo job of uid $(id -u) in $PWD; sleep 1000
";

fn every_entry_point_starts(host: &Host, runtime: &str) {
    host.application("app", &[(".metactl", CONFIG)], "");
    host.run(&["app", "deploy", "1.0"]).ok();
    host.run(&["app", "stop"]).ok();
    let entries = entries(host, "app");
    assert_eq!(entries.len(), 2, "{entries:?}");
    for entry in entries {
        let what = if entry.ends_with("web") {
            "daemon"
        } else {
            "job"
        };
        oci::starts(
            host,
            runtime,
            &entry,
            &format!("{what} of uid 66000 in /app"),
        );
    }
}

#[test]
fn crun_starts_every_entry_point() {
    on_host(&[GIT, NFT, CRUN], |host| {
        every_entry_point_starts(host, "crun")
    });
}

#[test]
fn runc_starts_every_entry_point() {
    on_host(&[GIT, NFT, RUNC], |host| {
        every_entry_point_starts(host, "runc")
    });
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    on_host(&[GIT], |host| {
        host.application("app", &[(".metactl", CONFIG)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        host.run(&["app", "stop"]).ok();
        // The first line names the directory.
        let bundle = || {
            let printed = host.run(&["app", "bundle"]).ok().stdout;
            PathBuf::from(printed.lines().next().unwrap())
        };
        let first = bundle();
        assert_eq!(
            fs::canonicalize(host.state("app").join("bundle")).unwrap(),
            first
        );
        let once = Tree::of(&first);
        // Another setting, another bundle; and written once more, the same bytes.
        let local = fs::read_to_string(host.root().join("etc/metactl/nodes/app.conf")).unwrap();
        host.local_layer("app", &format!("{local}[env]\nOTHER = 1\n"));
        let other = bundle();
        assert_ne!(other, first);
        let written = Tree::of(&other);
        fs::remove_dir_all(&other).unwrap();
        assert_eq!(bundle(), other);
        written.assert_same(&Tree::of(&other));
        host.local_layer("app", &local);
        assert_eq!(bundle(), first);
        once.assert_same(&Tree::of(&first));
        // The parts that the design names.
        for part in ["manifest.json", "network.json", "rootfs", "web/config.json"] {
            assert!(first.join(part).exists(), "{part}");
        }
        let mode = fs::metadata(&first).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "it holds configuration");
    });
}

#[test]
fn plan_lists_the_steps_and_takes_none() {
    on_host(&[GIT], |host| {
        host.application("app", &[(".metactl", CONFIG)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        host.run(&["app", "stop"]).ok();
        let before = Tree::of(&host.root());
        let plan = host.run(&["app", "plan"]).ok();
        for word in ["mount", "seccomp", "cgroup", "veth", "10.77.0."] {
            assert!(
                plan.stdout.to_lowercase().contains(word),
                "{word} in {plan}"
            );
        }
        before.assert_same(&Tree::of(&host.root()));
    });
}
