//! Names of instances in a zone of a real name server (BIND 9): there from start to stop, whatever is killed and
//! whoever does not answer.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use metactl_tests::bind::{ADDRESS as SERVER, NameServer, REVERSE, ZONE};
use metactl_tests::lan::{Lan, Node};
use metactl_tests::needs::{BIND, GIT, NFT, Need, TCPDUMP};
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What a name server that answers needs at most.
const SOON: Duration = Duration::from_secs(10);
/// The names of `hello` on this server.
const OWN: &str = "hello.server1.apps.example.org";
const APP: &str = "hello.apps.example.org";

fn needs() -> Vec<Need> {
    [&[GIT, NFT, TCPDUMP], BIND].concat()
}

/// A name server with all zones, that runs, and `metactl.conf` that names it.
fn name_server(host: &Host, lan: &Lan<'_>) -> NameServer {
    let mut server = NameServer::make(host, lan, &[ZONE, REVERSE[0], REVERSE[1]]);
    server.start();
    host.server_conf(&server.section());
    server
}

/// The local layer of an instance with these addresses.
fn at(addresses: &str) -> String {
    format!("[sandbox.net]\nip = {addresses}\n")
}

fn status(host: &Host, instance: &str) -> Value {
    serde_json::from_str(&host.run(&[instance, "status", "--json"]).stdout).unwrap()
}

/// Waits until the status says this about the names.
#[track_caller]
fn says(host: &Host, instance: &str, text: &str, limit: Duration) {
    let mut last = String::new();
    let begun = Instant::now();
    while !last.contains(text) {
        assert!(begun.elapsed() < limit, "no {text:?} in {last}");
        last = host.run(&[instance, "status"]).stdout;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Kills everything, supervisor first.
fn kill_all() {
    let pids = |words: &[&str]| machine::pids_of(words);
    for pid in pids(&["metactl", "supervise"])
        .into_iter()
        .chain(pids(&["server.pl"]))
    {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    eventually("the end of everything", SOON, || {
        let left = [pids(&["supervise"]), pids(&["server.pl"])].concat();
        left.is_empty().then_some(())
    });
}

/// Changes the zone as somebody else would.
fn nsupdate(host: &Host, server: &NameServer, line: &str) {
    let script = host.work().join("update");
    fs::write(
        &script,
        format!("server {SERVER}\nzone {ZONE}\n{line}\nsend\n"),
    )
    .unwrap();
    let key = server.key();
    let words = ["-k", key.to_str().unwrap(), script.to_str().unwrap()];
    host.command("nsupdate", &words).ok();
}

fn journal(host: &Host) -> std::path::PathBuf {
    host.root().join("var/lib/metactl/.dns")
}

#[test]
fn names_are_there_from_start_to_stop() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        lan.server_address("2001:db8::1/64");
        let client = lan.node("client", &["10.20.0.9/24"]);
        let server = name_server(host, &lan);
        host.hello("hello", &at("10.20.0.5 2001:db8::5"));
        for name in [OWN, APP] {
            server.answers(name, "A", &["10.20.0.5"], SOON);
            server.answers(name, "AAAA", &["2001:db8::5"], SOON);
        }
        let own = format!("{OWN}.");
        eventually("the names of the addresses", SOON, || {
            let names = [server.name_of("10.20.0.5"), server.name_of("2001:db8::5")].concat();
            (names == [own.as_str(), own.as_str()]).then_some(())
        });
        says(host, "hello", &format!("named {APP} {OWN}"), SOON);
        let told = status(host, "hello");
        assert_eq!(
            told["dns"]["records"].as_array().unwrap().len(),
            6,
            "{told}"
        );
        assert_eq!(told["dns"]["healthy"], true);
        assert_eq!(told["notes"].as_array().unwrap().len(), 0, "{told}");
        // Others see the name where there was a number.
        fs::write(
            "/etc/resolv.conf",
            format!("nameserver {SERVER}\noptions timeout:2\n"),
        )
        .unwrap();
        client
            .run(&["getent", "hosts", "10.20.0.5"])
            .ok()
            .says(&[OWN]);
        client
            .run(&["getent", "hosts", "2001:db8::5"])
            .ok()
            .says(&[OWN]);
        let watched = [
            "timeout",
            "20",
            "tcpdump",
            "-l",
            "-c",
            "1",
            "-i",
            "eth0",
            "icmp and src 10.20.0.5",
        ];
        let mut tcpdump = host.spawn_command(client.command(&watched));
        tcpdump.wait_for("listening", SOON);
        client
            .run(&["ping", "-n", "-c", "2", "-W", "2", "10.20.0.5"])
            .ok();
        tcpdump.wait_for(&format!("IP {OWN} > "), SOON);
        drop(tcpdump);
        host.run(&["hello", "stop"]).ok().never_says(&["DNS"]);
        // Stopped is gone: there is nothing to wait for.
        for (name, kind) in [(OWN, "A"), (OWN, "AAAA"), (APP, "A"), (APP, "AAAA")] {
            assert!(server.ask(name, kind).is_empty(), "{name} {kind}");
        }
        assert!(server.name_of("10.20.0.5").is_empty() && server.name_of("2001:db8::5").is_empty());
        assert!(!journal(host).exists());
        fs::write("/etc/resolv.conf", "").unwrap();
    });
}

#[test]
fn a_name_for_all_instances_of_an_application() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        let server = name_server(host, &lan);
        host.hello("hello", &at("10.20.0.5"));
        host.hello(
            "second",
            &format!("[app]\nname = hello\n{}", at("10.20.0.6")),
        );
        server.answers(APP, "A", &["10.20.0.5", "10.20.0.6"], SOON);
        server.answers("second.server1.apps.example.org", "A", &["10.20.0.6"], SOON);
        // Somebody else's, of another server.
        nsupdate(host, &server, &format!("update add {APP} 60 A 10.20.0.99"));
        host.run(&["hello", "stop"]).ok();
        assert_eq!(server.ask(APP, "A"), ["10.20.0.6", "10.20.0.99"]);
        // An address of the pool is of no use to others.
        host.hello("third", "[firewall.in]\npolicy = accept\n");
        assert!(status(host, "third").get("dns").is_none());
        host.run(&["third", "stop"]).ok();
        host.run(&["second", "stop"]).ok();
        assert_eq!(server.ask(APP, "A"), ["10.20.0.99"]);
    });
}

#[test]
fn who_was_killed_loses_its_names() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        let server = name_server(host, &lan);
        let begin = || {
            server.answers(OWN, "A", &["10.20.0.5"], SOON);
            server.answers(APP, "A", &["10.20.0.5"], SOON);
        };
        host.hello("hello", &at("10.20.0.5"));
        begin();
        kill_all();
        assert_eq!(server.ask(OWN, "A"), ["10.20.0.5"]);
        host.run(&["hello", "status"])
            .fails(3)
            .says(&["removed from the DNS"]);
        assert!(server.ask(OWN, "A").is_empty() && server.ask(APP, "A").is_empty());
        assert!(server.name_of("10.20.0.5").is_empty());
        host.run(&["hello", "start"]).ok();
        begin();
        // The supervisor alone: the names stay, and the next one knows them.
        kill(
            Pid::from_raw(machine::pids_of(&["metactl", "supervise"])[0]),
            Signal::SIGKILL,
        )
        .unwrap();
        eventually("its end", SOON, || {
            machine::pids_of(&["supervise"]).is_empty().then_some(())
        });
        host.run(&["hello", "status"]).ok();
        says(host, "hello", &format!("named {APP} {OWN}"), SOON);
        assert_eq!(server.ask(OWN, "A"), ["10.20.0.5"]);
        host.run(&["hello", "stop"]).ok();
        assert!(server.ask(OWN, "A").is_empty() && !journal(host).exists());
    });
}

/// An application that answers with 503 while `/data/ill` exists.
const MOODY: &str = r#"
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => 80, Listen => 16, ReuseAddr => 1) or die "$@";
while (my $client = $listener->accept) {
    my $status = -e "/data/ill" ? "503 Ill" : "200 Well";
    print $client "HTTP/1.0 $status\r\nConnection: close\r\n\r\n$status\n";
    close $client;
}
"#;

#[test]
fn only_the_healthy_have_the_name_of_the_application_slow() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        let server = name_server(host, &lan);
        let config =
            "[daemon.web]\nplatform = exec\ncommand = perl moody.pl\nport = 80\nhealth = http\n";
        let files = [(".metactl", config), ("moody.pl", MOODY)];
        host.application("moody", &files, &at("10.20.0.7"));
        host.run(&["moody", "deploy", "1.0"]).ok();
        let (own, app) = ("moody.server1.apps.example.org", "moody.apps.example.org");
        server.answers(own, "A", &["10.20.0.7"], SOON);
        server.answers(app, "A", &["10.20.0.7"], SOON);
        let ill = host.state("moody").join("data/ill");
        fs::write(&ill, "").unwrap();
        server.answers(app, "A", &[], Duration::from_secs(25));
        assert_eq!(server.ask(own, "A"), ["10.20.0.7"]);
        assert_eq!(status(host, "moody")["dns"]["healthy"], false);
        fs::remove_file(&ill).unwrap();
        server.answers(app, "A", &["10.20.0.7"], SOON);
        host.run(&["moody", "stop"]).ok();
        assert!(server.ask(own, "A").is_empty() && server.ask(app, "A").is_empty());
    });
}

#[test]
fn who_is_refused_runs_all_the_same_and_is_told_why() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        // It knows nothing of addresses.
        let mut server = NameServer::make(host, &lan, &[ZONE]);
        server.start();
        let wrong = server.make_key("wrong.key", "metactl-server1");
        let right = server.key();
        let key = |path: &Path| {
            host.server_conf(
                &server
                    .section()
                    .replace(right.to_str().unwrap(), path.to_str().unwrap()),
            )
        };
        key(&wrong);
        host.hello("hello", &at("10.20.0.5"));
        Node::server().get_when_up("http://10.20.0.5/", SOON);
        says(
            host,
            "hello",
            "BADSIG: the secret of the key metactl-server1 is another one there; it is tried again at",
            SOON,
        );
        host.run(&["list"]).ok().says(&["BADSIG"]);
        // Nothing was registered, so nothing is left to be removed.
        host.run(&["hello", "stop"]).ok().never_says(&["DNS"]);
        assert!(!journal(host).exists());
        let unknown = server.make_key("unknown.key", "nobody");
        key(&unknown);
        host.run(&["hello", "start"]).ok();
        says(host, "hello", "BADKEY: it knows no key nobody", SOON);
        // The key is read for every attempt.
        fs::copy(&right, &unknown).unwrap();
        server.answers(APP, "A", &["10.20.0.5"], Duration::from_secs(20));
        // What is about the names of addresses only is a note.
        says(host, "hello", &format!("named {APP} {OWN}"), SOON);
        says(host, "hello", "names of addresses (PTR)", SOON);
        host.run(&["hello", "stop"]).ok().never_says(&["DNS"]);
        assert!(server.ask(APP, "A").is_empty());
        // A key that others can read is none.
        key(&right);
        host.run(&["hello", "start"]).ok();
        server.answers(OWN, "A", &["10.20.0.5"], SOON);
        host.run(&["hello", "stop"]).ok();
        host.command("chmod", &["0644", right.to_str().unwrap()])
            .ok();
        host.run(&["hello", "start"]).ok();
        says(
            host,
            "hello",
            "others can read it (mode 0644); chmod 0600 it",
            SOON,
        );
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_cname_is_in_the_way_and_told() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        let server = name_server(host, &lan);
        nsupdate(
            host,
            &server,
            &format!("update add {APP} 60 CNAME elsewhere.example.org."),
        );
        host.hello("hello", &at("10.20.0.5"));
        server.answers(OWN, "A", &["10.20.0.5"], SOON);
        says(
            host,
            "hello",
            "YXRRSET: there is a CNAME of that name",
            SOON,
        );
        host.run(&["hello", "stop"]).ok().never_says(&["DNS"]);
        assert!(server.ask(OWN, "A").is_empty());
        assert_eq!(server.ask(APP, "CNAME"), ["elsewhere.example.org."]);
    });
}

#[test]
fn who_runs_removes_the_names_of_who_does_not_slow() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        let server = name_server(host, &lan);
        host.hello("hello", &at("10.20.0.5"));
        host.hello("other", &at("10.20.0.6"));
        server.answers(APP, "A", &["10.20.0.5"], SOON);
        server.answers("other.apps.example.org", "A", &["10.20.0.6"], SOON);
        // Somebody loses a record; it comes back.
        nsupdate(host, &server, "update delete other.apps.example.org A");
        assert!(server.ask("other.apps.example.org", "A").is_empty());
        server.freeze();
        host.run(&["hello", "stop"])
            .ok()
            .says(&["still in the DNS"]);
        server.thaw();
        // Nobody types anything.
        eventually("the names to go", Duration::from_secs(60), || {
            (!journal(host).join("hello.json").exists()).then_some(())
        });
        assert!(server.ask(OWN, "A").is_empty() && server.ask(APP, "A").is_empty());
        assert!(server.name_of("10.20.0.5").is_empty());
        server.answers(
            "other.apps.example.org",
            "A",
            &["10.20.0.6"],
            Duration::from_secs(40),
        );
        host.run(&["other", "stop"]).ok();
        assert!(!journal(host).exists());
    });
}

#[test]
fn a_dead_or_silent_name_server_holds_nothing_up_slow() {
    on_host(&needs(), |host| {
        let lan = host.lan();
        let mut server = NameServer::make(host, &lan, &[ZONE, REVERSE[0]]);
        host.server_conf(&server.section());
        // Dead: nobody is there.
        let without = {
            host.hello("hello", &at("10.20.0.5"));
            host.run(&["hello", "stop"]).ok();
            host.run(&["hello", "start"]).ok().took
        };
        assert!(without < Duration::from_secs(3), "a start took {without:?}");
        says(
            host,
            "hello",
            &format!("the name server {SERVER}:53 does not answer"),
            Duration::from_secs(20),
        );
        // There it is, and is found without anybody doing anything.
        server.start();
        server.answers(APP, "A", &["10.20.0.5"], Duration::from_secs(40));
        says(host, "hello", &format!("named {APP} {OWN}"), SOON);
        // Silent: it takes everything, and answers nothing.
        server.freeze();
        let stopped = host
            .run(&["hello", "stop"])
            .ok()
            .says(&["3 records of it are still in the DNS"]);
        assert!(stopped.took < Duration::from_secs(8), "{stopped}");
        assert!(journal(host).join("hello.json").exists());
        // A command for somebody else does not wait, and one of its own not long.
        let listed = host.run(&["list"]).ok();
        assert!(listed.took < Duration::from_secs(4), "{listed}");
        let started = host.run(&["hello", "start"]).ok();
        assert!(started.took < Duration::from_secs(3), "{started}");
        host.run(&["hello", "stop"]).ok();
        // Deleted, it is still remembered what is to be removed.
        host.run(&["hello", "delete", "--yes"])
            .ok()
            .says(&["still in the DNS"]);
        assert!(journal(host).join("hello.json").exists());
        server.thaw();
        // Its heir has its address, and so the same record of the application.
        host.hello("heir", &format!("[app]\nname = hello\n{}", at("10.20.0.5")));
        let heir = "heir.server1.apps.example.org";
        says(host, "heir", &format!("named {heir} {APP}"), SOON);
        eventually("the last names to go", Duration::from_secs(40), || {
            host.run(&["list"]).ok();
            (!journal(host).join("hello.json").exists()).then_some(())
        });
        assert!(server.ask(OWN, "A").is_empty());
        assert_eq!(server.ask(APP, "A"), ["10.20.0.5"]);
        assert_eq!(server.name_of("10.20.0.5"), [format!("{heir}.")]);
        host.run(&["heir", "stop"]).ok();
        assert!(server.ask(APP, "A").is_empty() && !journal(host).exists());
    });
}
