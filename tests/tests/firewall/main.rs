//! The firewall of an instance while it runs: changed, watched, learned; and the packets behind it.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod packets;
mod rejects;

use std::fs;
use std::time::{Duration, Instant};

use metactl_tests::hello::{ADDRESS, connect, is_refused, perl, reaches, start};
use metactl_tests::lan::{Lan, Node};
use metactl_tests::needs::{GIT, NFT, Need};
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, eventually, on_host};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(15);
const NEEDS: &[Need] = &[GIT, NFT];

/// An address, one named server, and one subnet.
const LOCAL: &str = "\
[firewall.out.accept]
database = mysql.example.org:3306
testlan = 10.1.1.0/24
[sandbox.net]
ip = 10.20.0.5
";

/// mysql.example.org 10.20.0.20 and smtp.example.org 10.20.0.66, with ports 25, 80 and 3306 each.
fn neighbours(host: &Host, lan: &Lan) {
    host.name("10.20.0.20", "mysql.example.org");
    host.name("10.20.0.66", "smtp.example.org");
    for (name, address) in [("dbserver", "10.20.0.20/24"), ("mail", "10.20.0.66/24")] {
        let node = lan.node(name, &[address]);
        for port in [25, 80, 3306] {
            node.listen(port);
        }
    }
}

/// The process of the only daemon.
fn pid(host: &Host) -> i64 {
    let status = host.run(&["hello", "status", "--json"]).json();
    status["entries"][0]["pid"].as_i64().unwrap()
}

/// Says hello to the database again and again over one connection.
const TALKS: &str = "$| = 1; my $s = IO::Socket::INET->new('10.20.0.20:3306') or die; print \"open\\n\"; \
    $s->getline; while (1) { sleep 1; print $s->connected ? \"alive\\n\" : \"dead\\n\"; }";

#[test]
fn allow_is_live_and_undone_as_live() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        let before = pid(host);
        is_refused("10.20.0.66:25");
        reaches("mysql.example.org:3306");
        // The refusal has the name and the command.
        let command = "metactl hello allow smtp=smtp.example.org:25";
        host.run(&["hello", "firewall"]).ok().says(&[
            "smtp.example.org:25 (10.20.0.66)",
            command,
            "1 connection",
        ]);

        let allowed = host
            .run(&["hello", "allow", "smtp=smtp.example.org:25"])
            .ok();
        allowed.says(&[
            "smtp = smtp.example.org:25",
            "live, open connections kept",
            "Undo: metactl hello unset firewall.out.accept:smtp",
        ]);
        reaches("10.20.0.66:25");
        is_refused("10.20.0.66:80");
        assert_eq!(pid(host), before, "nothing was restarted");
        host.run(&["hello", "changed"]).ok();
        let firewall = host.run(&["hello", "firewall", "--json"]).ok().json();
        let accept = firewall["out"]["accept"].as_array().unwrap().clone();
        let names: Vec<&str> = accept
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["database", "testlan", "smtp"]);
        assert_eq!(accept[0]["connections"], 1, "counters stay: {firewall}");

        // The application sees the new name, too.
        reaches("smtp.example.org:25");
        let undone = host
            .run(&["hello", "unset", "firewall.out.accept:smtp"])
            .ok();
        undone.says(&[
            "live",
            "Undo: metactl hello set firewall.out.accept:smtp=smtp.example.org:25",
        ]);
        is_refused("10.20.0.66:25");
        host.run(&["hello", "changed"]).ok();

        // Only written, then made so.
        host.run(&["hello", "allow", "--later", "smtp=smtp.example.org:25"])
            .ok()
            .says(&["metactl hello reload"]);
        is_refused("10.20.0.66:25");
        host.run(&["hello", "changed"]).fails(2);
        host.run(&["hello", "reload"]).ok().says(&[
            "live",
            "Undo: metactl hello revert --last && metactl hello reload",
        ]);
        reaches("10.20.0.66:25");
        host.run(&["hello", "reload"])
            .ok()
            .says(&["runs as it is configured"]);
        assert_eq!(pid(host), before);

        // A supervisor that comes later finds what is in force.
        let supervisor = host.run(&["hello", "status", "--json"]).json()["supervisor"].to_string();
        host.command("kill", &["-9", &supervisor]).ok();
        host.run(&["hello", "status"]).ok();
        reaches("10.20.0.66:25");
        host.run(&["hello", "unset", "firewall.out.accept:smtp"])
            .ok();
        is_refused("10.20.0.66:25");
        assert_eq!(pid(host), before);
        // A daemon that is started again is started in the bundle and the network of now.
        Node::server()
            .get(&format!("http://{ADDRESS}/exit"))
            .unwrap();
        eventually("the daemon to be started again", SOON, || {
            let status = host.run(&["hello", "status", "--json"]).json();
            let now = status["entries"][0]["pid"].as_i64();
            now.is_some_and(|now| now != before).then_some(())
        });
        Node::server().get_when_up(&format!("http://{ADDRESS}/"), SOON);
        is_refused("10.20.0.66:25");
        host.run(&["hello", "changed"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn nothing_is_lost_and_nothing_leaks_while_lists_change() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        let load = "$| = 1; my ($n, $bad) = (0, 0); $SIG{TERM} = sub { print \"$n tries, $bad bad\\n\"; exit }; while (1) { $n++; \
            my $s = IO::Socket::INET->new('10.20.0.20:3306') or do { $bad++; print \"lost: $!\\n\" }; \
            my $t = IO::Socket::INET->new('10.20.0.66:3306') and do { $bad++; print \"leaked\\n\" }; \
            print \"begun\\n\" if $n == 1; select undef, undef, undef, 0.001 }";
        let mut load = host.spawn(&perl(load));
        load.wait_for("begun", SOON);
        for turn in 0..12 {
            let entry = format!("other=10.{turn}.0.0/16");
            host.run(&["hello", "allow", &entry, "exact=10.20.0.20:3306/tcp"])
                .ok();
            host.run(&[
                "hello",
                "unset",
                "firewall.out.accept:other",
                "firewall.out.accept:exact",
            ])
            .ok();
        }
        assert!(load.runs(), "{}", load.output());
        load.signal(Signal::SIGTERM);
        let outcome = load.wait(SOON).never_says(&["lost", "leaked"]);
        let tries: u32 = outcome
            .stdout
            .lines()
            .find_map(|line| line.strip_suffix(" tries, 0 bad")?.parse().ok())
            .unwrap_or_else(|| panic!("{outcome}"));
        assert!(tries > 100, "{outcome}");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn the_firewall_changes_also_while_nothing_is_there_to_run() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        let local = format!("{LOCAL}[daemon.web]\nrestart = never\n");
        start(host, &local);
        Node::server()
            .get(&format!("http://{ADDRESS}/exit"))
            .unwrap();
        eventually("the daemon to end", SOON, || {
            let status = host.run(&["hello", "status", "--json"]).json();
            (status["entries"][0]["state"] == "ended").then_some(())
        });
        host.run(&["hello", "allow", "smtp=10.20.0.66:25"])
            .ok()
            .says(&["live"]);
        host.run(&["hello", "restart"]).ok();
        Node::server().get_when_up(&format!("http://{ADDRESS}/"), SOON);
        reaches("10.20.0.66:25");
        is_refused("10.20.0.66:80");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn what_needs_a_restart_is_said_and_left() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        let before = pid(host);
        host.run(&["hello", "set", "env:GREETING=hi"])
            .ok()
            .says(&["metactl hello restart"]);
        host.run(&["hello", "allow", "smtp=10.20.0.66:25"])
            .ok()
            .says(&["not live", "env:GREETING", "metactl hello restart"]);
        is_refused("10.20.0.66:25");
        let reload = host.run(&["hello", "reload", "--json"]).fails(2);
        assert_eq!(reload.json()["needsRestart"], true);
        host.run(&["hello", "set", "sandbox.net:ip=10.20.0.6"]).ok();
        host.run(&["hello", "unset", "env:GREETING"]).ok();
        host.run(&["hello", "reload"]).fails(2).says(&["restart"]);
        host.run(&["hello", "set", &format!("sandbox.net:ip={ADDRESS}")])
            .ok();
        assert_eq!(pid(host), before);
        // What is wrong changes nothing.
        host.run(&["hello", "allow", "bad=10.20.0.66:port"])
            .fails(78);
        let path = host.root().join("etc/metactl/nodes/hello.conf");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            format!("{text}\n[firewall.out.accept]\nbad = 10.0.0.1:99999\n"),
        )
        .unwrap();
        host.run(&["hello", "reload"]).fails(78).says(&["99999"]);
        is_refused("10.20.0.66:25");
        fs::write(&path, text).unwrap();
        host.run(&["hello", "reload"]).ok();
        reaches("10.20.0.66:25");
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "reload"])
            .fails(69)
            .says(&["does not run", "metactl hello start"]);
    });
}

#[test]
fn a_tighter_policy_names_and_cuts_what_is_open() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        let mut talk = host.spawn(&perl(TALKS));
        talk.wait_for("open", SOON);
        host.run(&["hello", "unset", "--gone", "firewall.out.accept:database"])
            .ok()
            .says(&[
                "open connections kept",
                "perl (",
                "10.20.0.20",
                "3306",
                "metactl hello reload --cut",
            ]);
        is_refused("10.20.0.20:3306");
        talk.wait_for("alive", SOON);
        let firewall = host.run(&["hello", "firewall", "--json"]).ok().json();
        let open = &firewall["unwanted"][0];
        assert_eq!(
            (open["program"].as_str(), open["peer"].as_str()),
            (Some("perl"), Some("10.20.0.20:3306"))
        );
        assert!(open["pid"].as_i64().unwrap() > 1);
        host.run(&["hello", "firewall"])
            .ok()
            .says(&["open, and would be refused now"]);
        host.run(&["hello", "reload", "--cut"])
            .ok()
            .says(&["were cut", "10.20.0.20"]);
        talk.wait_for("dead", SOON);
        host.run(&["hello", "firewall"])
            .ok()
            .never_says(&["would be refused now"]);
        // A policy is changed like its lists, but not before somebody says so.
        host.run(&["hello", "set", "firewall.out:policy=accept"])
            .ok()
            .says(&["metactl hello reload"]);
        is_refused("10.20.0.66:80");
        host.run(&["hello", "reload"]).ok();
        reaches("10.20.0.66:80");
        host.run(&["hello", "set", "firewall.out:policy=drop"]).ok();
        host.run(&["hello", "reload"]).ok();
        assert!(!connect("10.20.0.66:80").starts_with("connected"));
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn learning_proposes_writes_and_ends_by_itself() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        is_refused("10.20.0.66:25");
        // Killed at once: the kernel closes.
        let begun = Instant::now();
        let mut killed = host.spawn(&["hello", "firewall", "learn", "--for", "3s"]);
        killed.wait_for("may reach everything", SOON);
        eventually("the firewall to learn", SOON, || {
            connect("10.20.0.66:25")
                .starts_with("connected")
                .then_some(())
        });
        killed.signal(Signal::SIGKILL);
        host.run(&["hello", "status"])
            .ok()
            .says(&["learns for another"]);
        host.run(&["hello", "firewall"])
            .ok()
            .says(&["learns for another"]);
        host.run(&["hello", "firewall", "learn"])
            .fails(69)
            .says(&["learns already"]);
        eventually("the end of it", SOON, || {
            connect("10.20.0.66:25").contains("refused").then_some(())
        });
        assert!(begun.elapsed() > Duration::from_millis(2500));
        host.run(&["hello", "status"]).ok().never_says(&["learns"]);

        let mut learn = host.spawn(&["hello", "firewall", "learn", "--for", "2h", "--write"]);
        learn.wait_for("may reach everything", SOON);
        eventually("the firewall to learn", SOON, || {
            connect("10.20.0.66:25")
                .starts_with("connected")
                .then_some(())
        });
        reaches("10.20.0.66:80");
        reaches("10.20.0.20:80");
        reaches("mysql.example.org:3306");
        learn.wait_for("mysql.example.org:80", SOON);
        learn.signal(Signal::SIGINT);
        learn.wait(SOON).ok().says(&[
            "smtp.example.org:25 (10.20.0.66) tcp",
            "smtp = smtp.example.org:25,80/tcp",
            "mysql = mysql.example.org:80/tcp",
            "live, open connections kept",
            "Undo: metactl hello unset",
        ]);
        let layer = fs::read_to_string(host.root().join("etc/metactl/nodes/hello.conf")).unwrap();
        assert!(
            layer.contains("smtp = smtp.example.org:25,80/tcp"),
            "{layer}"
        );
        reaches("10.20.0.66:25");
        reaches("10.20.0.20:80");
        is_refused("10.20.0.66:3306");
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "firewall", "learn"]).fails(69);
    });
}

#[test]
fn who_comes_in_is_learned_where_it_matters() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        let local = "[firewall.in]\npolicy = reject\n[firewall.in.accept]\nserver = 10.20.0.1\n\
                     [sandbox.net]\nip = 10.20.0.5\n";
        start(host, local);
        let page = format!("http://{ADDRESS}/");
        assert!(client.get(&page).is_err());
        let mut learn = host.spawn(&["hello", "firewall", "learn", "--for", "2h", "--write"]);
        learn.wait_for("whoever reaches it comes in", SOON);
        eventually("the firewall to learn", SOON, || {
            client.get(&page).is_ok().then_some(())
        });
        learn.wait_for("from 10.20.0.9 to its port 80 tcp", SOON);
        learn.signal(Signal::SIGINT);
        learn.wait(SOON).ok().says(&[
            "[firewall.in.accept]",
            "http-10-20-0-9 = 10.20.0.9:80/tcp",
            "live, open connections kept",
        ]);
        assert!(client.get(&page).is_ok());
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_watch_shows_what_is_new_and_ends_well() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        is_refused("10.20.0.66:80");
        let mut lines = host.spawn(&["hello", "firewall", "--watch"]);
        let mut objects = host.spawn(&["hello", "firewall", "--watch", "--json"]);
        objects.wait_for("\n", SOON);
        std::thread::sleep(Duration::from_millis(500));
        is_refused("10.20.0.66:25");
        lines.wait_for("metactl hello allow smtp=smtp.example.org:25", SOON);
        assert!(
            !lines.output().contains(":80"),
            "old news: {}",
            lines.output()
        );
        eventually("a second object", SOON, || {
            (objects.output().lines().count() >= 2).then_some(())
        });
        for watch in [lines, objects] {
            watch.signal(Signal::SIGINT);
            let outcome = watch.wait(SOON).ok();
            if outcome.command.contains("--json") {
                for line in outcome.stdout.lines() {
                    serde_json::from_str::<serde_json::Value>(line).unwrap();
                }
                assert!(
                    outcome
                        .stdout
                        .lines()
                        .last()
                        .unwrap()
                        .contains("\"port\":25")
                );
            }
        }
        let mut screen = Terminal::spawn(&host.metactl(&["hello", "firewall", "--watch"]));
        screen.wait_for("reject all but", SOON);
        screen.press("\x03");
        assert_eq!(screen.wait(SOON), 0);
        host.run(&["hello", "stop"]).ok();
        // That there is nothing to see is said, once.
        let mut down = host.spawn(&["hello", "firewall", "--watch"]);
        down.wait_for("hello does not run", SOON);
        host.run(&["hello", "start"]).ok();
        down.wait_for("hello runs again", SOON);
        assert_eq!(down.output().matches("does not run").count(), 1);
        down.signal(Signal::SIGINT);
        down.wait(SOON).ok();
        host.run(&["hello", "stop"]).ok();
    });
}
