//! A secret is where it belongs, and nowhere else.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_tests::needs::GIT;
use metactl_tests::{Host, eventually, machine, on_host};

const SOON: Duration = Duration::from_secs(15);
const INLINE: &str = "inl1ne-hunter2";
const FILED: &str = "f1led-hunter2";
const ASKED: &str = "asked-hunter2";

const APP: &str = "\
[daemon.main]
platform = exec
command = sleep 1000

[daemon.other]
platform = exec
command = sleep 2000

[crontab]
nightly = @daily true

[secrets.env]
ASKED_FOR = asked
";

fn private(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn deployed(host: &Host) {
    let filed = host.root().join("etc/metactl/secrets/filed");
    private(&filed, &format!("{FILED}\n"));
    let local = format!(
        "[secrets]\ninline = {INLINE}\nfiled = file:{}\nasked = {ASKED}\n",
        filed.display()
    );
    host.application("app", &[(".metactl", APP)], &local);
    let path = host.root().join("etc/metactl/nodes/app.conf");
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    host.run(&["app", "deploy", "1.0"]).ok();
    eventually("it to run", SOON, || {
        (!machine::pids_of(&["sleep 1000"]).is_empty()).then_some(())
    });
}

/// The files below `dir` that have `text` in them.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let Ok(facts) = fs::symlink_metadata(&path) else {
                continue;
            };
            if facts.is_dir() {
                todo.push(path);
            } else if facts.is_file() {
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
                {
                    found.push(path);
                }
            }
        }
    }
    found
}

#[test]
fn the_application_reads_its_secrets_and_nobody_else_does() {
    on_host(&[GIT], |host| {
        deployed(host);
        let inside = |script: &str| host.run(&["app", "exec", "--", "sh", "-c", script]).ok();
        assert_eq!(inside("cat /run/secrets/inline").stdout, INLINE);
        assert_eq!(
            inside("cat /run/secrets/filed").stdout,
            format!("{FILED}\n")
        );
        assert_eq!(inside("echo $ASKED_FOR").stdout.trim(), ASKED);
        inside("stat -c '%a %u' /run/secrets/*").says(&["400 66000"]);
        inside("test \"$(ls /run/secrets | wc -l)\" = 3");
        inside(
            "! touch /run/secrets/x && ! rm -f /run/secrets/inline && ! sh -c 'echo > /run/secrets/inline'",
        );

        // Processes: no command line, and only in the environment what was asked for.
        for pid in machine::pids_of(&["sleep 1000"]) {
            let of = |name: &str| {
                String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap())
                    .into_owned()
            };
            assert!(!of("cmdline").contains("hunter2"));
            let environ = of("environ");
            assert!(environ.contains(&format!("ASKED_FOR={ASKED}")));
            assert!(
                !environ.contains(INLINE) && !environ.contains(FILED),
                "{environ}"
            );
        }

        // The disk: the layer, the file, the private copy; and the environment in config.json.
        let root = host.root();
        let copy = root.join("var/lib/metactl/app/secrets/1");
        let local = root.join("etc/metactl/nodes/app.conf");
        let sorted = |text: &str| {
            let mut found = holding(&root, text);
            found.sort();
            found
        };
        assert_eq!(sorted(INLINE), [local.clone(), copy.join("inline")]);
        let file = root.join("etc/metactl/secrets/filed");
        assert_eq!(sorted(FILED), [file, copy.join("filed")]);
        for path in sorted(ASKED) {
            // The bundle, and the runtime's own copy of it.
            let places = ["var/lib/metactl/app/bundles", "run/metactl/oci"];
            let is_config = places
                .iter()
                .any(|place| path.starts_with(root.join(place)))
                && path.ends_with("config.json");
            assert!(
                is_config || path == local || path == copy.join("asked"),
                "{path:?}"
            );
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0, "{path:?}");
        }
        let facts = fs::metadata(copy.join("inline")).unwrap();
        assert_eq!((facts.mode() & 0o7777, facts.uid()), (0o400, 66000));
        for dir in [&copy, copy.parent().unwrap()] {
            let facts = fs::metadata(dir).unwrap();
            assert_eq!((facts.mode() & 0o7777, facts.uid()), (0o700, 0), "{dir:?}");
        }
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn no_command_prints_a_secret_unless_asked() {
    on_host(&[GIT], |host| {
        deployed(host);
        let copy = host.work().join("audit");
        let mut printed = String::new();
        for args in [
            &["app", "show"][..],
            &["app", "show", "--origin"],
            &["app", "show", "secrets", "--json"],
            &["app", "status"],
            &["app", "plan"],
            &["app", "bundle"],
            &["app", "bundle", "--redacted", copy.to_str().unwrap()],
            &["app", "logs"],
            &["app", "restart"],
            &["list"],
        ] {
            let outcome = host.run(args).ok();
            printed += &format!("{}{}", outcome.stdout, outcome.stderr);
        }
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(printed.contains("inline = ***"), "{printed}");
        assert_eq!(holding(&copy, "hunter2"), [] as [PathBuf; 0]);
        assert_eq!(
            holding(&host.root().join("var/log"), "hunter2"),
            [] as [PathBuf; 0]
        );
        host.run(&["app", "show", "secrets:inline", "--secrets"])
            .ok()
            .says(&[INLINE]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_changed_secret_comes_with_the_next_start_and_the_old_one_goes() {
    on_host(&[GIT], |host| {
        deployed(host);
        let state = host.root().join("var/lib/metactl/app/secrets");
        let sets = || {
            let mut sets: Vec<String> = fs::read_dir(&state)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            sets.sort();
            sets
        };
        let read = || {
            host.run(&["app", "exec", "--", "cat", "/run/secrets/filed"])
                .ok()
                .stdout
        };
        let filed = host.root().join("etc/metactl/secrets/filed");
        private(&filed, "new-hunter2");
        assert_eq!(read(), format!("{FILED}\n"), "what runs keeps what it has");
        host.run(&["app", "restart"]).ok();
        assert_eq!(
            (read().as_str(), sets()),
            ("new-hunter2", vec!["1".to_owned(), "2".to_owned()])
        );
        // The same values again: the same set; the bundle before is not needed any more.
        host.run(&["app", "restart"]).ok();
        assert_eq!(sets(), ["2"]);
        // Only looking makes nothing that stays.
        private(&filed, "newer-hunter2");
        host.run(&["app", "plan"]).ok();
        assert_eq!(sets(), ["2"]);

        // What others can read is refused, and what runs goes on.
        fs::set_permissions(&filed, Permissions::from_mode(0o644)).unwrap();
        host.run(&["app", "restart"])
            .fails(78)
            .says(&["others can read", "nodes/app.conf", "chmod go="])
            .never_says(&["hunter2"]);
        assert_eq!(
            (read().as_str(), sets()),
            ("new-hunter2", vec!["2".to_owned()])
        );

        // Without secrets nothing is kept, once the bundle that had some is gone.
        let local = host.root().join("etc/metactl/nodes/app.conf");
        let text = fs::read_to_string(&local).unwrap();
        let text =
            text.split("[secrets]").next().unwrap().to_owned() + "[secrets.env]\nunset ASKED_FOR\n";
        private(&local, &text);
        host.run(&["app", "restart"]).ok();
        host.run(&["app", "restart"]).ok();
        assert!(!state.exists(), "{:?}", sets());
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_checkout_gets_no_secret_from_itself() {
    on_host(&[GIT], |host| {
        let checkout = host.work().join("checkout");
        fs::create_dir_all(&checkout).unwrap();
        let shadow = "[daemon.main]\nplatform = exec\ncommand = ls /run/secrets/stolen\n\
                      [secrets]\nstolen = file:/etc/shadow\n";
        fs::write(checkout.join(".metactl"), shadow).unwrap();
        host.run(&["run", checkout.to_str().unwrap()])
            .fails(2)
            .says(&["asked for, not granted", "stolen = file:/etc/shadow"]);
        host.assert_nothing_left();
    });
}
