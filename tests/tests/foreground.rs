//! `metactl run`: an application in the foreground, with nothing installed and nothing left.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::needs::{GIT, NFT};
use metactl_tests::terminal::Terminal;
use metactl_tests::tree::Tree;
use metactl_tests::{Host, apps, eventually, machine, on_host};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(15);

/// A folder with an application of one daemon that runs `script`.
fn application(host: &Host, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let dir = host.work().join("app");
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join(".metactl"),
        "[daemon.main]\nplatform = exec\ncommand = ./main.sh\n",
    )
    .unwrap();
    fs::write(dir.join("main.sh"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(dir.join("main.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// What metactl keeps on disk. Empty directories and lock files are not worth a word.
fn disk(host: &Host) -> Tree {
    let root = host.root();
    Tree::of(&root).without(|path| {
        let is_lock = path
            .extension()
            .is_some_and(|extension| extension == "lock");
        path.starts_with("work") || is_lock || root.join(path).is_dir()
    })
}

/// The address that the instance has, from the server's routes.
fn address(host: &Host) -> String {
    eventually("a route to the instance", SOON, || {
        let routes = host.command("ip", &["-4", "route"]).stdout;
        let found = routes
            .lines()
            .find_map(|line| line.strip_prefix("10.77.").map(str::to_owned))?;
        Some(format!("10.77.{}", found.split([' ', '/']).next()?))
    })
}

#[test]
fn the_small_example_runs_and_leaves_nothing() {
    on_host(&[NFT], |host| {
        let before = disk(host);
        let hello = apps::example("hello");
        let mut run = host.spawn(&["run", hello.to_str().unwrap()]);
        run.wait_for("listening on port 80", SOON);
        let address = address(host);
        assert!(
            run.output().contains(&address),
            "the address is said: {}",
            run.output()
        );
        let server = Node::server();
        assert_eq!(
            server.get_when_up(&format!("http://{address}/"), SOON),
            "Hello, sandbox\n"
        );
        let refused = server
            .get(&format!("http://{address}/connect?to=10.77.9.9:443"))
            .unwrap()
            .body;
        assert!(refused.contains("refused"), "{refused}");
        run.signal(Signal::SIGTERM);
        run.wait(SOON);
        host.assert_nothing_left();
        before.assert_same(&disk(host));
    });
}

#[test]
fn the_exit_code_is_the_applications() {
    on_host(&[], |host| {
        let before = disk(host);
        for (script, code) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
        ] {
            let dir = application(host, script);
            host.run(&["run", dir.to_str().unwrap()]).fails(code);
            host.assert_nothing_left();
        }
        before.assert_same(&disk(host));
    });
}

#[test]
fn the_output_is_the_applications() {
    on_host(&[], |host| {
        let dir = application(host, "echo to stdout; echo to stderr >&2");
        let outcome = host.run(&["run", dir.to_str().unwrap()]).ok();
        assert!(outcome.stdout.contains("to stdout"), "{outcome}");
        assert!(outcome.stderr.contains("to stderr"), "{outcome}");
        // metactl's own words do not get in between for whoever reads the output.
        assert_eq!(
            host.run(&["-q", "run", dir.to_str().unwrap()]).ok().stdout,
            "to stdout\n"
        );
    });
}

#[test]
fn signals_pass_through() {
    on_host(&[], |host| {
        let signals = [
            (Signal::SIGTERM, "TERM"),
            (Signal::SIGINT, "INT"),
            (Signal::SIGHUP, "HUP"),
            (Signal::SIGUSR1, "USR1"),
        ];
        for (signal, name) in signals {
            let script = format!(
                "trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.1; done"
            );
            let dir = application(host, &script);
            let mut run = host.spawn(&["run", dir.to_str().unwrap()]);
            run.wait_for("ready", SOON);
            run.signal(signal);
            run.wait(SOON).fails(5).says(&[&format!("got {name}")]);
            host.assert_nothing_left();
        }
    });
}

#[test]
fn ctrl_c_ends_it_and_leaves_nothing() {
    on_host(&[], |host| {
        let before = disk(host);
        // One that handles it, one that does not.
        for script in [
            "trap 'exit 0' INT; echo ready; while :; do sleep 0.1; done",
            "echo ready; exec sleep 1000",
        ] {
            let dir = application(host, script);
            let mut terminal = Terminal::spawn(&host.metactl(&["run", dir.to_str().unwrap()]));
            terminal.wait_for("ready", SOON);
            terminal.press("\x03");
            let code = terminal.wait(SOON);
            assert!(code == 0 || code == 130, "{code}");
            host.assert_nothing_left();
            before.assert_same(&disk(host));
        }
    });
}

#[test]
fn kill_9_takes_the_sandbox_along() {
    on_host(&[], |host| {
        let dir = application(host, "echo ready; exec sleep 4711");
        let mut run = host.spawn(&["run", dir.to_str().unwrap()]);
        run.wait_for("ready", SOON);
        // The shell has said so before it executes the program.
        eventually("the application to run", SOON, || {
            (!machine::pids_of(&["sleep 4711"]).is_empty()).then_some(())
        });
        run.signal(Signal::SIGKILL);
        run.wait(SOON).fails(137);
        eventually("the application to be gone", SOON, || {
            machine::pids_of(&["sleep 4711"]).is_empty().then_some(())
        });
        // Whatever needs somebody to remove it is removed by the next command.
        host.run(&["list"]).ok();
        host.assert_nothing_left();
    });
}

#[test]
fn what_others_take_away_of_its_network_comes_back_slow() {
    on_host(&[NFT], |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        let hello = apps::example("hello");
        let mut run = host.spawn(&["run", hello.to_str().unwrap()]);
        let page = format!("http://{}/", address(host));
        Node::server().get_when_up(&page, SOON);
        let links = host.command("ip", &["-o", "link", "show", "group", "28003"]);
        let outer = links.stdout.split([' ', '@']).nth(1).unwrap().to_owned();
        let accident = format!("nft flush ruleset; ip link set {outer} down");
        host.command("sh", &["-c", &accident]).ok();
        assert!(Node::server().get(&page).is_err());
        eventually("all to be well again", Duration::from_secs(50), || {
            Node::server().get(&page).is_ok().then_some(())
        });
        run.wait_for("was missing: server:  ip link set", SOON);
        run.wait_for("table inet metactl of the server was gone", SOON);
        // Nothing of the pool is reached from outside, as before.
        client.route("10.77.0.0/16 via 10.20.0.1");
        assert!(client.get(&page).is_err());
        run.signal(Signal::SIGTERM);
        run.wait(SOON);
        host.assert_nothing_left();
    });
}

#[test]
fn an_instance_runs_in_the_foreground_too() {
    on_host(&[GIT, NFT], |host| {
        let address = host.hello("hello", "");
        // Not twice at the same time.
        let refused = host.run(&["run", "hello"]).says(&["hello", "stop"]);
        assert!([1, 69, 78].contains(&refused.code), "{refused}");
        host.run(&["hello", "stop"]).ok();
        let before = disk(host);
        let mut run = host.spawn(&["run", "hello"]);
        run.wait_for("listening on port 80", SOON);
        let page = Node::server().get_when_up(&format!("http://{address}/"), SOON);
        assert_eq!(page, "Hello, sandbox\n");
        host.run(&["hello", "status"]).says(&["hello"]);
        run.signal(Signal::SIGTERM);
        run.wait(SOON);
        host.assert_nothing_left();
        before.assert_same(&disk(host));
        host.run(&["hello", "start"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn what_cannot_be_run_is_said() {
    on_host(&[], |host| {
        let outcome = host.run(&["run", "./no/such/place"]);
        assert!([64, 69, 78].contains(&outcome.code), "{outcome}");
        let outcome = outcome.says(&["no/such/place"]);
        assert!(!outcome.stderr.is_empty());

        let dir = application(host, "");
        fs::write(
            dir.join(".metactl"),
            "[daemon.main]\nplatform = exec\ncommand = ./missing.sh\n",
        )
        .unwrap();
        let outcome = host
            .run(&["run", dir.to_str().unwrap()])
            .says(&["missing.sh"]);
        assert_ne!(outcome.code, 0);
        host.assert_nothing_left();
    });
}
