//! Real firewalls of the server, as distributions bring them: what they stop is found, what is printed mends it, and
//! meanwhile no instance is open.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use metactl_tests::hello::{ADDRESS, is_refused, start};
use metactl_tests::lan::Node;
use metactl_tests::needs::{DBUS, DIG, FIREWALLD, GIT, IPTABLES, NFT, Need, UFW};
use metactl_tests::{Host, eventually, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(30);

const LOCAL: &str = "\
[firewall.out.accept]
database = db.example.org:3306
[sandbox.net]
ip = 10.20.0.5
";

/// The instance, somebody who visits it, and somebody whom it may visit.
fn around(host: &Host) -> Node {
    let lan = host.lan();
    let client = lan.node("client", &["10.20.0.9/24"]);
    let database = lan.node("database", &["10.20.0.20/24"]);
    database.listen(3306);
    database.listen(80);
    host.name("10.20.0.20", "db.example.org");
    start(host, LOCAL);
    assert!(is_well(host, &client));
    client
}

/// It is visited, its questions are answered, and it gets out.
fn is_well(host: &Host, client: &Node) -> bool {
    let dig = [
        "hello", "exec", "--", "dig", "+short", "+time=1", "+tries=1",
    ];
    let asked = host.run(&[&dig[..], &["db.example.org"]].concat()).stdout;
    let visit = "exit !IO::Socket::INET->new(PeerAddr => '10.20.0.20:3306', Timeout => 2)";
    let perl = ["hello", "exec", "--", "perl", "-MIO::Socket::INET", "-e"];
    client.get(&format!("http://{ADDRESS}/")).is_ok()
        && asked.trim() == "10.20.0.20"
        && host.run(&[&perl[..], &[visit]].concat()).code == 0
}

fn sh(host: &Host, line: &str) {
    host.command("sh", &["-c", line]).ok();
}

/// The findings are about `owner`, and what they print mends them.
fn mend(host: &Host, owner: &str) {
    let findings = || {
        let outcome = host.run(&["doctor", "network", "--json"]);
        let facts: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        facts["findings"].as_array().unwrap().clone()
    };
    let found = findings();
    let mut checks: Vec<&str> = found
        .iter()
        .map(|one| one["check"].as_str().unwrap())
        .collect();
    checks.sort_unstable();
    checks.dedup();
    assert_eq!(checks, ["forward", "resolver"], "{found:#?}");
    for finding in &found {
        let what = finding["what"].as_str().unwrap();
        assert!(what.contains(owner), "{what}");
        for command in finding["mend"].as_array().unwrap() {
            sh(host, command.as_str().unwrap());
        }
    }
    assert_eq!(findings(), Vec::<serde_json::Value>::new());
}

/// Directories of the machine that the test may write to, as it does to its own.
fn with_copies(host: &Host, dirs: &[&str], test: impl FnOnce()) {
    for dir in dirs {
        let copy = host.work().join(dir.replace('/', "_"));
        let copy = copy.display();
        sh(
            host,
            &format!("cp -a {dir} {copy} && mount --bind {copy} {dir}"),
        );
    }
    test();
    for dir in dirs {
        sh(host, &format!("umount {dir}"));
    }
}

fn spawn(words: &[&str]) -> Child {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn end(mut child: Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

#[test]
fn firewalld_slow() {
    const NEEDS: &[Need] = &[GIT, NFT, DIG, DBUS, FIREWALLD];
    on_host(NEEDS, |host| {
        let client = around(host);
        with_copies(host, &["/etc/firewalld"], || {
            std::fs::create_dir_all("/run/dbus").unwrap();
            let dbus = spawn(&["dbus-daemon", "--system", "--nofork", "--nopidfile"]);
            let log = format!("--log-file={}", host.work().join("firewalld.log").display());
            eventually("the bus", SOON, || {
                std::fs::exists("/run/dbus/system_bus_socket")
                    .unwrap()
                    .then_some(())
            });
            let daemon = spawn(&["firewalld", "--nofork", "--nopid", &log]);
            eventually("firewalld", SOON, || {
                (host.command("firewall-cmd", &["--state"]).code == 0).then_some(())
            });
            assert!(!is_well(host, &client));
            is_refused("10.20.0.20:80");
            mend(host, "firewalld");
            assert!(is_well(host, &client));
            is_refused("10.20.0.20:80");
            // A reload, and everything anew.
            for reload in ["--reload", "--complete-reload"] {
                sh(host, &format!("firewall-cmd {reload}"));
                assert!(is_well(host, &client), "{reload}");
                is_refused("10.20.0.20:80");
            }
            end(daemon);
            end(dbus);
            sh(
                host,
                "rm -rf /run/dbus /run/firewalld; nft delete table inet firewalld 2>/dev/null || true",
            );
        });
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn ufw_slow() {
    const NEEDS: &[Need] = &[GIT, NFT, DIG, IPTABLES, UFW];
    on_host(NEEDS, |host| {
        let client = around(host);
        with_copies(host, &["/etc/ufw", "/etc/default"], || {
            // Settings of the network that it would make once and never take back.
            std::fs::write("/etc/ufw/sysctl.conf", "").unwrap();
            sh(host, "ufw --force enable");
            assert!(!is_well(host, &client));
            is_refused("10.20.0.20:80");
            mend(host, "ufw");
            assert!(is_well(host, &client));
            sh(host, "ufw reload");
            assert!(is_well(host, &client));
            is_refused("10.20.0.20:80");
            sh(host, "ufw --force disable");
            sh(
                host,
                "rm -f /run/ufw.lock; for f in ip ip6; do nft delete table $f filter; done",
            );
        });
        host.run(&["hello", "stop"]).ok();
    });
}
