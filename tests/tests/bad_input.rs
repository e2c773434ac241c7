//! Bad input: a clear error, an exit code, and the state on disk as before.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use metactl_tests::command::Outcome;
use metactl_tests::lan::Node;
use metactl_tests::needs::{GIT, NFT};
use metactl_tests::tree::Tree;
use metactl_tests::{Host, eventually, machine, on_host};

const SOON: Duration = Duration::from_secs(15);

const GOOD: &str = "[daemon.main]\nplatform = exec\ncommand = sleep 1000\n";

/// What metactl keeps on disk: everything but the caches, logs and empty directories.
fn disk(host: &Host) -> Tree {
    let root = host.root();
    Tree::of(&root).without(|path| {
        let skipped = ["work", "var/cache", "var/log", "run"];
        skipped.iter().any(|dir| path.starts_with(dir))
            || root.join(path).is_dir()
            || path.to_string_lossy().ends_with("lock")
    })
}

/// Runs a command that has to fail with `code` and these words, and to leave no trace on disk.
#[track_caller]
fn refused(host: &Host, args: &[&str], code: i32, words: &[&str]) -> Outcome {
    let before = disk(host);
    let outcome = host.run(args).fails(code).says(words);
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    before.assert_same(&disk(host));
    outcome
}

fn running(what: &str) -> bool {
    !machine::pids_of(&[what]).is_empty()
}

#[test]
fn a_broken_configuration_is_told_with_every_error_at_its_place() {
    on_host(&[GIT], |host| {
        let broken = "[daemon.main]\nplatfrom = exec\ncommand = sleep 1000\n\n[bulid]\ncommand = make\n\
                      [env]\nURL = http://%(HOTS)/\nHOST = example.org\n";
        host.application("app", &[(".metactl", broken)], "");
        let outcome = refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &[".metactl:2:1", "platform"],
        );
        let outcome = outcome.says(&[".metactl:5:", "build", ".metactl:8:", "HOTS"]);
        assert!(outcome.stderr.contains('^'), "a caret: {outcome}");
        host.assert_nothing_left();
    });
}

#[test]
fn a_broken_local_layer_is_told_before_anything_happens() {
    on_host(&[GIT], |host| {
        host.application("app", &[(".metactl", GOOD)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        eventually("it to run", SOON, || running("sleep 1000").then_some(()));
        let good = fs::read_to_string(host.root().join("etc/metactl/nodes/app.conf")).unwrap();
        host.local_layer("app", &format!("{good}[sandbox.net]\nip = 10.20.0.500\n"));
        let line = format!("nodes/app.conf:{}:6", good.lines().count() + 2);
        refused(host, &["app", "restart"], 78, &[&line, "10.20.0.500"]);
        assert!(running("sleep 1000"), "what runs goes on");
        refused(host, &["app", "show"], 78, &[&line]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_broken_release_leaves_the_running_one_alone() {
    on_host(&[GIT], |host| {
        let repository = host.application("app", &[(".metactl", GOOD)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        eventually("it to run", SOON, || running("sleep 1000").then_some(()));
        repository
            .write(".metactl", "[daemon.main\nplatform = exec\n")
            .commit("2.0");
        let before = machine::pids_of(&["sleep 1000"]);
        refused(host, &["app", "deploy", "2.0"], 78, &[".metactl:1:"]);
        assert_eq!(machine::pids_of(&["sleep 1000"]), before);
        host.run(&["app", "restart"]).ok();
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn an_unknown_tag_is_told_with_the_repository() {
    on_host(&[GIT], |host| {
        let repository = host.application("app", &[(".metactl", GOOD)], "");
        let repo = repository.dir.to_str().unwrap().to_owned();
        let outcome = host.run(&["app", "deploy", "9.9"]);
        assert!([1, 69].contains(&outcome.code), "{outcome}");
        refused(
            host,
            &["app", "deploy", "9.9"],
            outcome.code,
            &["9.9", &repo],
        );
        host.run(&["app", "deploy", "1.0"]).ok();
        refused(host, &["app", "deploy", "9.9"], outcome.code, &["9.9"]);
        host.run(&["app", "status"]).ok();
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_repository_that_is_not_there_is_told() {
    on_host(&[GIT], |host| {
        host.local_layer("app", "[build]\nrepo = /no/such/repository\ntag = 1.0\n");
        let outcome = host.run(&["app", "deploy"]).says(&["/no/such/repository"]);
        assert!([1, 69].contains(&outcome.code), "{outcome}");
        host.assert_nothing_left();
    });
}

#[test]
fn a_failing_build_is_told_with_its_command_and_its_last_lines() {
    on_host(&[GIT], |host| {
        let config = format!("[build]\ncommand = ./build.sh\n{GOOD}");
        let script = "#!/bin/sh\necho compiling as $(id -u)\necho 'Main.java:7: missing semicolon' >&2\nexit 2\n";
        let files = [(".metactl", config.as_str()), ("build.sh", script)];
        let repository = host.application("app", &files, "");
        let words = [
            "./build.sh",
            "missing semicolon",
            "2",
            "var/log/metactl/app",
        ];
        let outcome = refused(host, &["app", "deploy", "1.0"], 1, &words);
        // The log that it names has the whole of it.
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        let log = text
            .split_whitespace()
            .find(|word| word.contains("var/log/metactl/app"));
        let log = log
            .unwrap()
            .trim_matches(|c: char| !c.is_alphanumeric() && c != '/');
        let log = fs::read_to_string(log).unwrap();
        assert!(
            log.contains("compiling as 66000"),
            "an unprivileged user: {log}"
        );
        host.assert_nothing_left();

        repository
            .write("build.sh", "#!/bin/sh\nexit 0\n")
            .commit("1.1");
        host.run(&["app", "deploy", "1.1"]).ok();
        let before = machine::pids_of(&["sleep 1000"]);
        repository.write("build.sh", script).commit("1.2");
        refused(host, &["app", "deploy", "1.2"], 1, &["missing semicolon"]);
        assert_eq!(
            machine::pids_of(&["sleep 1000"]),
            before,
            "what runs goes on"
        );
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_build_reaches_no_network_and_nothing_of_the_server() {
    on_host(&[GIT], |host| {
        let config = format!("[build]\ncommand = ./build.sh\n{GOOD}");
        let script = "#!/bin/sh\nls /root /home /var 2>&1; cat /etc/shadow; touch /usr/x && exit 9\n\
                      echo ok > result; exit 0\n";
        host.application("app", &[(".metactl", &config), ("build.sh", script)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        host.run(&["app", "exec", "--", "cat", "result"])
            .ok()
            .says(&["ok"]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn an_address_of_another_instance_is_refused() {
    on_host(&[GIT, NFT], |host| {
        let lan = host.lan();
        let local = "[sandbox.net]\nip = 10.20.0.5\n";
        host.hello("one", local);
        host.application("two", &[(".metactl", GOOD)], local);
        let outcome = host.run(&["two", "deploy", "1.0"]).says(&[
            "10.20.0.5",
            "nodes/two.conf:4",
            "one",
            "nodes/one.conf:",
        ]);
        assert!([1, 69, 78].contains(&outcome.code), "{outcome}");
        refused(
            host,
            &["two", "deploy", "1.0"],
            outcome.code,
            &["10.20.0.5"],
        );
        Node::server().get_when_up("http://10.20.0.5/", SOON);
        host.run(&["one", "stop"]).ok();
        let _ = lan;
    });
}

#[test]
fn an_address_of_another_host_is_refused() {
    on_host(&[GIT, NFT], |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        let local = "[sandbox.net]\nip = 10.20.0.9\n";
        host.application("app", &[(".metactl", GOOD)], local);
        let outcome = host
            .run(&["app", "deploy", "1.0"])
            .says(&["10.20.0.9", "nodes/app.conf:4"]);
        assert!([1, 69, 78].contains(&outcome.code), "{outcome}");
        refused(
            host,
            &["app", "deploy", "1.0"],
            outcome.code,
            &["10.20.0.9"],
        );
        client
            .run(&["ping", "-c", "1", "-W", "2", "10.20.0.1"])
            .ok();
        host.assert_nothing_left();
    });
}

#[test]
fn an_address_of_the_server_is_refused() {
    on_host(&[GIT, NFT], |host| {
        host.lan();
        host.application(
            "app",
            &[(".metactl", GOOD)],
            "[sandbox.net]\nip = 10.20.0.1\n",
        );
        let outcome = host.run(&["app", "deploy", "1.0"]).says(&["10.20.0.1"]);
        assert!([1, 69, 78].contains(&outcome.code), "{outcome}");
        host.assert_nothing_left();
    });
}

#[test]
fn a_port_of_two_daemons_is_refused() {
    on_host(&[GIT], |host| {
        let config = "[daemon.one]\nplatform = exec\ncommand = sleep 1\nport = 80\n\
                      [daemon.two]\nplatform = exec\ncommand = sleep 1\nport = 80\n";
        host.application("app", &[(".metactl", config)], "");
        refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &[".metactl:8:", "80", "one"],
        );
    });
}

#[test]
fn a_port_of_the_server_that_is_taken_is_refused() {
    on_host(&[GIT], |host| {
        let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
        let config = "[daemon.web]\nplatform = exec\ncommand = perl server.pl\nport = 8080\n";
        let server =
            fs::read_to_string(metactl_tests::apps::example("hello").join("server.pl")).unwrap();
        host.application(
            "app",
            &[(".metactl", config), ("server.pl", &server)],
            "[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n",
        );
        let outcome = host.run(&["app", "deploy", "1.0"]).says(&["8080"]);
        assert!([1, 69, 78].contains(&outcome.code), "{outcome}");
        host.run(&["app", "stop"]);
        host.assert_nothing_left();
        drop(listener);
        host.run(&["app", "deploy", "1.0"]).ok();
        Node::server().get_when_up("http://127.0.0.1:8080/", SOON);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn an_address_that_two_instances_are_given_is_refused_before_either_runs() {
    on_host(&[GIT], |host| {
        let local = "[sandbox.net]\nip = 10.20.0.5\n";
        for name in ["one", "two"] {
            host.application(name, &[(".metactl", GOOD)], local);
            if name == "one" {
                continue;
            }
            let words = ["10.20.0.5", "nodes/two.conf:4", "one", "nodes/one.conf:4"];
            refused(host, &["two", "deploy", "1.0"], 78, &words);
            refused(
                host,
                &["one", "deploy", "1.0"],
                78,
                &["nodes/one.conf:4", "nodes/two.conf:4"],
            );
        }
        host.assert_nothing_left();
    });
}

#[test]
fn a_port_of_the_server_that_two_instances_are_given_is_refused() {
    on_host(&[GIT], |host| {
        let config = "[daemon.web]\nplatform = exec\ncommand = perl server.pl\nport = 8080\n";
        let server =
            fs::read_to_string(metactl_tests::apps::example("hello").join("server.pl")).unwrap();
        let local = "[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n";
        let files = [(".metactl", config), ("server.pl", server.as_str())];
        host.application("one", &files, local);
        host.run(&["one", "deploy", "1.0"]).ok();
        host.run(&["one", "stop"]).ok();
        host.application("two", &files, local);
        // Although the first does not run.
        let words = ["port 8080", ".metactl:4", "instance one", "[daemon.web]"];
        refused(host, &["two", "deploy", "1.0"], 78, &words);
    });
}

#[test]
fn a_layer_that_somebody_else_could_have_written_is_refused() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    on_host(&[GIT], |host| {
        host.application("app", &[(".metactl", GOOD)], "");
        let local = host.root().join("etc/metactl/nodes/app.conf");
        let mode = |mode| fs::set_permissions(&local, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o666);
        refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &["nodes/app.conf", "everybody", "chmod go-w"],
        );
        refused(host, &["app", "show"], 78, &["nodes/app.conf", "everybody"]);
        mode(0o644);
        chown(&local, Some(4711), None).unwrap();
        refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &["uid 4711", "chown root"],
        );
        // A link out of the configuration, and a folder in its place.
        let outside = host.work().join("outside.conf");
        fs::rename(&local, &outside).unwrap();
        symlink(&outside, &local).unwrap();
        refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &["leads out of", "nodes/app.conf"],
        );
        fs::remove_file(&local).unwrap();
        fs::create_dir(&local).unwrap();
        refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &["nodes/app.conf", "not a regular file"],
        );
        fs::remove_dir(&local).unwrap();
        fs::write(&local, b"[env]\nA = \xff\n").unwrap();
        refused(
            host,
            &["app", "deploy", "1.0"],
            78,
            &["nodes/app.conf:2:5", "not UTF-8"],
        );
        host.assert_nothing_left();
    });
}

#[test]
fn a_name_that_is_a_path_or_a_command_is_no_instance() {
    on_host(&[GIT], |host| {
        for name in ["../app", "a/b", "..", ".x", "a.b"] {
            refused(host, &[name, "deploy"], 64, &["name"]);
            refused(host, &["-a", name, "deploy"], 64, &["name"]);
        }
        // `-a` is the form in which no word is a command: the name itself is refused.
        refused(
            host,
            &["-a", "deploy", "deploy"],
            64,
            &["it is a command of metactl"],
        );
        refused(
            host,
            &["-a", "list", "status"],
            64,
            &["it is a command of metactl"],
        );
        host.assert_nothing_left();
    });
}

#[test]
fn a_missing_java_is_told_with_the_package() {
    on_host(&[GIT], |host| {
        // Nothing of Java is on this host, whatever the machine has.
        let empty = host.work().join("empty");
        fs::create_dir_all(&empty).unwrap();
        let empty = empty.to_str().unwrap();
        for dir in ["/usr/lib/jvm", "/etc/alternatives"] {
            if Path::new(dir).is_dir() {
                host.command("mount", &["--bind", empty, dir]).ok();
            }
        }
        host.is_settled();
        let config = "[daemon.jobs]\nplatform = jvm\njvm.jar = jobs.jar 9000\n";
        host.application("app", &[(".metactl", config), ("jobs.jar", "no jar")], "");
        refused(
            host,
            &["app", "deploy", "1.0"],
            69,
            &["Java", "apt", "jre", ".metactl:2"],
        );
        host.assert_nothing_left();
        // And a Java that site or local name, and that is not there.
        host.application(
            "other",
            &[(".metactl", config), ("jobs.jar", "no jar")],
            "[daemon.jobs]\njvm.home = /usr/lib/jvm/java-99\n",
        );
        let words = ["/usr/lib/jvm/java-99", "nodes/other.conf:4"];
        refused(host, &["other", "deploy", "1.0"], 69, &words);
    });
}

#[test]
fn a_full_disk_during_materialization_changes_nothing() {
    on_host(&[GIT], |host| {
        let state = host.root().join("var/lib/metactl");
        fs::create_dir_all(&state).unwrap();
        host.command(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=2m,mode=0755",
                "small",
                state.to_str().unwrap(),
            ],
        )
        .ok();
        host.is_settled();
        host.application("app", &[(".metactl", GOOD)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        host.run(&["app", "stop"]).ok();

        let good = fs::read_to_string(host.root().join("etc/metactl/nodes/app.conf")).unwrap();
        // Another setting makes another bundle.
        host.local_layer("app", &format!("{good}[env]\nNEW = {}\n", "x".repeat(9000)));
        let filler = state.join("filler");
        // To the last block.
        fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
        let before = Tree::of(&state);
        let outcome = host.run(&["app", "start"]).says(&["No space left"]);
        assert!(outcome.code == 1 || outcome.code == 69, "{outcome}");
        before.assert_same(&Tree::of(&state));
        host.run(&["app", "status"]).fails(3);
        host.assert_nothing_left();
        // Stopping needs no disk.
        host.run(&["app", "stop"]).ok();

        fs::remove_file(&filler).unwrap();
        host.run(&["app", "start"]).ok();
        host.run(&["app", "exec", "--", "sh", "-c", "test ${#NEW} = 9000"])
            .ok();

        // The same while it runs: it goes on, and can be stopped.
        fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
        host.local_layer("app", &format!("{good}[env]\nNEW = {}\n", "y".repeat(9000)));
        let outcome = host.run(&["app", "restart"]).says(&["No space left"]);
        assert_ne!(outcome.code, 0);
        assert!(running("sleep 1000"), "what runs goes on");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn what_widens_the_sandbox_is_not_granted_to_the_application() {
    on_host(&[GIT], |host| {
        let greedy = format!(
            "{GOOD}[sandbox]\ncapabilities = CAP_SYS_ADMIN\nuser = root\n[sandbox.mounts]\n/secrets = /etc\n\
             [sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n"
        );
        host.application("app", &[(".metactl", &greedy)], "");
        host.run(&["app", "deploy", "1.0"]).ok();
        host.run(&["app", "plan"])
            .ok()
            .says(&["not granted", "capabilities"]);
        let inside = |script: &str| host.run(&["app", "exec", "--", "sh", "-c", script]);
        inside("id -u").ok().says(&["66000"]);
        inside("grep CapEff /proc/self/status")
            .ok()
            .says(&["0000000000000000"]);
        inside("ls /secrets").fails(2);
        assert!(
            host.address("app").starts_with("10.77."),
            "no network of the server's"
        );
        host.run(&["app", "stop"]).ok();
    });
}
