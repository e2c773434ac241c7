//! Names in the sandbox: the server's own resolver answers what the policy lists, opens the way before the
//! application gets the answer, and asks real name servers for it.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use metactl_tests::command::Outcome;
use metactl_tests::hello::{is_refused, reaches, start};
use metactl_tests::lan::{Lan, Node};
use metactl_tests::machine::pids_of;
use metactl_tests::needs::{DIG, GIT, JDK, NAMED, NFT, Need};
use metactl_tests::upstream::NameServer;
use metactl_tests::{Host, eventually, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(15);
const NEEDS: &[Need] = &[GIT, NFT, NAMED, DIG];

/// What the instance of most tests may reach.
const LISTED: &str = "\
[firewall.out.accept]
database = db.example.org:3306
web = *.web.example.org:80
[sandbox.net]
ip = 10.20.0.5
";

const EXAMPLE: &str = "\
db IN A 10.20.0.20
other IN A 10.20.0.20
a.web IN CNAME edge.cdn.example.
b.c.web 0 IN A 10.20.0.22
meta.web IN A 169.254.169.254
local.web IN A 127.0.0.1
local.web IN A 10.20.0.22
text.web IN TXT \"hello\"
";
const CDN: &str = "edge IN CNAME node1\nnode1 IN A 10.20.0.21\n";

/// dns 10.20.0.53, and dbserver 10.20.0.20-22 with ports 80 and 3306.
struct Around {
    dns: NameServer,
    dbserver: Node,
}

fn around(host: &Host, lan: &Lan) -> Around {
    let dns = lan.node("dns", &["10.20.0.53/24"]);
    let dbserver = lan.node(
        "dbserver",
        &["10.20.0.20/24", "10.20.0.21/24", "10.20.0.22/24"],
    );
    for port in [80, 3306] {
        dbserver.listen(port);
    }
    let zones = [("example.org", EXAMPLE), ("cdn.example", CDN)];
    let dns = NameServer::start(host, &dns, "10.20.0.53", &zones);
    Around { dns, dbserver }
}

fn inside(host: &Host, words: &[&str]) -> Outcome {
    host.run(&[&["hello", "exec", "--"][..], words].concat())
}

/// What `dig` inside says.
fn dig(host: &Host, words: &[&str]) -> String {
    let dig = ["dig", "+time=3", "+tries=1"];
    inside(host, &[&dig[..], words].concat()).stdout
}

/// The status in the answer to a question inside: NOERROR, NXDOMAIN, ...
fn status(host: &Host, words: &[&str]) -> String {
    let text = dig(host, words);
    let status = text
        .split("status: ")
        .nth(1)
        .and_then(|rest| rest.split(',').next());
    status
        .unwrap_or_else(|| panic!("no status in {text}"))
        .to_owned()
}

/// Who answers for the instances.
fn resolver() -> Option<i32> {
    pids_of(&["metactl-runtime", " resolve "]).first().copied()
}

#[test]
fn listed_names_are_answered_and_opened_and_nothing_else() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let _around = around(host, &lan);
        start(host, LISTED);
        let conf = inside(host, &["cat", "/etc/resolv.conf"]).ok();
        assert_eq!(conf.stdout, "nameserver 169.254.1.1\n");

        reaches("db.example.org:3306");
        is_refused("10.20.0.20:80");
        // Behind a star nothing is open before it is asked for.
        is_refused("10.20.0.21:80");
        reaches("a.web.example.org:80");
        reaches("10.20.0.21:80");
        is_refused("10.20.0.21:3306");
        reaches("b.c.web.example.org:80");

        let answer = dig(host, &["+noall", "+answer", "a.web.example.org"]);
        let words: Vec<Vec<&str>> = answer
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let records: Vec<(&str, &str)> = words.iter().map(|line| (line[3], line[4])).collect();
        let expected = [
            ("CNAME", "edge.cdn.example."),
            ("CNAME", "node1.cdn.example."),
            ("A", "10.20.0.21"),
        ];
        assert_eq!(records, expected, "{answer}");
        assert_eq!(status(host, &["db.example.org", "AAAA"]), "NOERROR");
        assert!(dig(host, &["+short", "text.web.example.org", "TXT"]).contains("hello"));

        // What is not listed is refused at once, and nobody is asked.
        for name in [
            "other.example.org",
            "example.org",
            "web.example.org",
            "edge.cdn.example",
            "secret.evil.example",
        ] {
            assert_eq!(status(host, &[name]), "NXDOMAIN", "{name}");
        }
        let begun = Instant::now();
        let lookup = inside(host, &["getent", "ahosts", "other.example.org"]);
        assert!(
            lookup.code != 0 && begun.elapsed() < Duration::from_secs(2),
            "{lookup}"
        );
        let blocked = dig(host, &["other.example.org"]);
        assert!(
            blocked.contains("no entry of [firewall.out.accept] names it"),
            "{blocked}"
        );
        eventually("the record of what was refused", SOON, || {
            let firewall = host.run(&["hello", "firewall"]).ok();
            let told = [
                "other.example.org",
                "secret.evil.example",
                "a.web.example.org",
                "10.20.0.21",
            ];
            told.iter()
                .all(|word| firewall.stdout.contains(word))
                .then_some(())
        });
        host.run(&["hello", "firewall", "--json"])
            .ok()
            .says(&["\"namesRefused\"", "secret.evil.example"]);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn every_name_server_that_is_asked_is_the_own_one() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let _around = around(host, &lan);
        start(host, LISTED);
        for words in [
            &["@10.9.9.9"][..],
            &["@198.51.100.1", "+tcp"],
            &["@10.20.0.53"],
            &["@10.20.0.53", "+tcp"],
        ] {
            let asked = [words, &["+short", "db.example.org"]].concat();
            assert_eq!(dig(host, &asked).trim(), "10.20.0.20", "{words:?}");
            let asked = [words, &["other.example.org"]].concat();
            assert_eq!(status(host, &asked), "NXDOMAIN", "{words:?}");
        }
        // Other ports of the server's end are a destination like any other.
        is_refused("169.254.1.1:80");

        // Who is named with its port is asked directly, for anything.
        let local = LISTED.replace("[sandbox.net]", "dns = 10.20.0.53:53\n[sandbox.net]");
        host.hello("direct", &local.replace("ip = 10.20.0.5", "ip = 10.20.0.6"));
        let direct = |server: &str| {
            let words = [
                "direct",
                "exec",
                "--",
                "dig",
                "+time=3",
                "+tries=1",
                server,
                "other.example.org",
            ];
            host.run(&words).stdout
        };
        let answer = direct("@10.20.0.53");
        assert!(answer.contains("10.20.0.20"), "{answer}");
        let answer = direct("@10.9.9.9");
        assert!(answer.contains("NXDOMAIN"), "{answer}");
        host.run(&["direct", "stop"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn changes_are_followed() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let mut around = around(host, &lan);
        start(host, LISTED);
        reaches("db.example.org:3306");
        is_refused("10.20.0.22:3306");
        around.dns.change(
            "example.org",
            &EXAMPLE.replace("db IN A 10.20.0.20", "db 0 IN A 10.20.0.22"),
        );
        assert_eq!(
            dig(host, &["+short", "db.example.org"]).trim(),
            "10.20.0.22"
        );
        reaches("10.20.0.22:3306");
        // Who still has the old one is not cut off.
        reaches("10.20.0.20:3306");
        // The server's own names count first, and at once.
        host.name("10.20.0.21", "db.example.org");
        eventually("the name in /etc/hosts", SOON, || {
            (dig(host, &["+short", "db.example.org"]).trim() == "10.20.0.21").then_some(())
        });
        reaches("10.20.0.21:3306");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn it_comes_back_when_it_is_killed() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let around = around(host, &lan);
        start(host, LISTED.replace("3306", "3306,7000").as_str());
        let held = around.dbserver.hold_connection(7000, "still there\n");
        reaches("a.web.example.org:80");
        let ask = "$| = 1; my $s = IO::Socket::INET->new('db.example.org:7000') or die; print $s->getline";
        let client = host.spawn(&[
            "hello",
            "exec",
            "--",
            "perl",
            "-MIO::Socket::INET",
            "-e",
            ask,
        ]);
        let first = eventually("the connection", SOON, || {
            let sockets =
                around
                    .dbserver
                    .run(&["ss", "-Htn", "state", "established", "sport", "=", "7000"]);
            (!sockets.stdout.trim().is_empty()).then(resolver).flatten()
        });
        kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
        // Nothing opens, and what is open stays.
        is_refused("10.20.0.22:80");
        reaches("10.20.0.21:80");
        let second = eventually("another resolver", SOON, || {
            resolver().filter(|pid| *pid != first)
        });
        assert_ne!(first, second);
        held.send(()).unwrap();
        assert_eq!(client.wait(SOON).ok().stdout, "still there\n");
        eventually("answers", SOON, || {
            (dig(host, &["+short", "b.c.web.example.org"]).trim() == "10.20.0.22").then_some(())
        });
        reaches("10.20.0.22:80");
        host.run(&["hello", "stop"]).ok();
        eventually("the end of the resolver", SOON, || {
            resolver().is_none().then_some(())
        });
    });
}

#[test]
fn no_name_leads_inside_and_none_to_thousands() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let mut around = around(host, &lan);
        start(host, LISTED);
        assert_eq!(dig(host, &["+short", "meta.web.example.org"]).trim(), "");
        assert_eq!(
            dig(host, &["+short", "local.web.example.org"]).trim(),
            "10.20.0.22"
        );
        is_refused("169.254.169.254:80");
        // One name with 3,000 addresses (no message holds more than 4,095), and forty with 64 each.
        let one = (0..3000).map(|n| format!("many.web IN A 10.3.{}.{}\n", n / 250, n % 250 + 1));
        let forty =
            (0..40 * 64).map(|n| format!("n{}.web IN A 10.4.{}.{}\n", n / 64, n / 64, n % 64));
        let many: String = one.chain(forty).collect();
        around
            .dns
            .change("example.org", &format!("{EXAMPLE}{many}"));
        for how in ["+tcp", "+notcp", "+noedns"] {
            let found = dig(host, &["+short", how, "many.web.example.org"]);
            let addresses = found
                .lines()
                .filter(|line| line.starts_with("10.3."))
                .count();
            assert_eq!(addresses, 64, "{how}: {found}");
        }
        let all = "for n in $(seq 0 39); do dig +short n$n.web.example.org; done";
        inside(host, &["sh", "-c", all]).ok();
        let netns = format!("--net={}", host.run_dir().join("hello/netns").display());
        let list = ["nft", "list", "set", "inet", "metactl", "out4"];
        let set = host
            .command("nsenter", &[&[netns.as_str()][..], &list].concat())
            .ok()
            .stdout;
        let addresses: BTreeSet<&str> = set
            .split_whitespace()
            .filter(|word| word.starts_with("10."))
            .collect();
        assert_eq!(addresses.len(), 1024, "{}", addresses.len());
        assert!(addresses.contains("10.4.39.7") && !addresses.contains("10.4.0.7"));
        reaches("db.example.org:3306");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn with_policy_accept_everything_is_answered() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let _around = around(host, &lan);
        host.resolv_conf("nameserver 10.20.0.53\nsearch example.org\n");
        start(
            host,
            "[firewall.out]\npolicy = accept\n[sandbox.net]\nip = 10.20.0.5\n",
        );
        assert_eq!(
            dig(host, &["+short", "other.example.org"]).trim(),
            "10.20.0.20"
        );
        assert!(dig(host, &["+short", "text.web.example.org", "TXT"]).contains("hello"));
        assert_eq!(status(host, &["nothing.example.org"]), "NXDOMAIN");
        // Short names as on the server, and its name servers themselves.
        reaches("other:3306");
        assert_eq!(
            dig(host, &["+short", "@10.20.0.53", "other.example.org"]).trim(),
            "10.20.0.20"
        );
        assert_eq!(
            dig(host, &["+short", "+tcp", "example.org", "NS"]).trim(),
            "ns.example.org."
        );
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn short_names_and_addresses_have_names() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let _around = around(host, &lan);
        host.resolv_conf("nameserver 10.20.0.99\nnameserver 10.20.0.53\nsearch nowhere.example example.org\noptions timeout:1\n");
        host.name("10.20.0.22", "printer.example.org");
        let local = "[firewall.out.accept]\ndb = db:3306\nprinter = printer.example.org:80\n[sandbox.net]\nip = 10.20.0.5\n";
        start(host, local);
        // The first name server does not answer; the second one does.
        reaches("db:3306");
        reaches("printer.example.org:80");
        assert_eq!(
            dig(host, &["+short", "-x", "10.20.0.22"]).trim(),
            "printer.example.org."
        );
        assert_eq!(status(host, &["-x", "10.1.2.3"]), "NXDOMAIN");
        assert_eq!(dig(host, &["+short", "localhost"]).trim(), "127.0.0.1");
        host.run(&["hello", "stop"]).ok();
    });
}

/// An answer to `question`: its own number and question, and an A record with this name and address.
fn answer(question: &[u8], owner: &[u8], address: [u8; 4]) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut message = [
        &question[..2],
        &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
        &question[12..end],
    ]
    .concat();
    message.extend_from_slice(owner);
    message.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    message.extend(address);
    message
}

#[test]
fn bad_answers_are_harmless() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let liar = lan.node("liar", &["10.20.0.54/24"]);
        let target = lan.node("dbserver", &["10.20.0.20/24", "10.20.0.66/24"]);
        target.listen(80);
        liar.serve_datagrams(53, |question| {
            if question[2] & 0x80 != 0 {
                return Vec::new();
            }
            let text = String::from_utf8_lossy(question);
            let right = answer(question, &[0xc0, 12], [10, 20, 0, 20]);
            let wrong = answer(question, &[0xc0, 12], [10, 20, 0, 66]);
            if question.ends_with(&[0, 28, 0, 1]) || text.contains("poison") {
                // Records of somebody else, and none that was asked for.
                return vec![answer(question, b"\x04evil\x00", [10, 20, 0, 66])];
            }
            let mut other_number = wrong.clone();
            other_number[0] ^= 0xff;
            if text.contains("spoof") {
                return vec![other_number, right];
            }
            if text.contains("broken") {
                return vec![wrong[..wrong.len() - 2].to_vec()];
            }
            if text.contains("loop") {
                let mut message = wrong;
                message[12] = 0xc0;
                message[13] = 12;
                return vec![message];
            }
            vec![right]
        });
        host.resolv_conf("nameserver 10.20.0.54\noptions timeout:1 attempts:1\n");
        start(
            host,
            "[firewall.out.accept]\nall = *.liar.example:80\n[sandbox.net]\nip = 10.20.0.5\n",
        );
        assert_eq!(
            dig(host, &["+short", "good.liar.example"]).trim(),
            "10.20.0.20"
        );
        assert_eq!(
            dig(host, &["+short", "spoof.liar.example"]).trim(),
            "10.20.0.20"
        );
        assert_eq!(dig(host, &["+short", "poison.liar.example"]).trim(), "");
        assert_eq!(status(host, &["broken.liar.example"]), "SERVFAIL");
        assert_eq!(status(host, &["loop.liar.example"]), "SERVFAIL");
        is_refused("10.20.0.66:80");
        reaches("10.20.0.20:80");
        // Broken questions do not disturb it either.
        let send = "my $s = IO::Socket::INET->new(PeerAddr => '169.254.1.1:53', Proto => 'udp'); \
                    $s->send(pack('C*', map { int rand 256 } 1 .. $_ * 3)) for 1 .. 200;";
        inside(host, &["perl", "-MIO::Socket::INET", "-e", send]).ok();
        assert_eq!(
            dig(host, &["+short", "good.liar.example"]).trim(),
            "10.20.0.20"
        );
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn instances_ask_for_themselves_alone() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let stranger = lan.node("stranger", &["10.20.0.66/24"]);
        stranger.route("169.254.1.1 via 10.20.0.1");
        let _around = around(host, &lan);
        start(host, LISTED);
        host.hello(
            "other",
            "[firewall.out.accept]\nother = other.example.org:80\n[sandbox.net]\nip = 10.20.0.6\n",
        );
        Node::server().get_when_up("http://10.20.0.6/", SOON);
        let asked = |instance: &str, name: &str| {
            host.run(&[instance, "exec", "--", "dig", "+short", name])
                .stdout
                .trim()
                .to_owned()
        };
        assert_eq!(asked("other", "other.example.org"), "10.20.0.20");
        assert_eq!(asked("other", "db.example.org"), "");
        assert_eq!(asked("hello", "db.example.org"), "10.20.0.20");
        assert_eq!(asked("hello", "other.example.org"), "");
        // One process for both, and for who runs in the foreground.
        assert_eq!(pids_of(&["metactl-runtime", " resolve "]).len(), 1);
        let dir = host.work().join("ask");
        fs::create_dir_all(&dir).unwrap();
        let config = "[daemon.main]\nplatform = exec\ncommand = getent ahostsv4 a.web.example.org\n\
                      [firewall.out.accept]\nweb = *.web.example.org:80\n";
        fs::write(dir.join(".metactl"), config).unwrap();
        host.run(&["-q", "run", dir.to_str().unwrap()])
            .ok()
            .says(&["10.20.0.21"]);
        assert_eq!(pids_of(&["metactl-runtime", " resolve "]).len(), 1);
        host.run(&["other", "stop"]).ok();
        assert_eq!(asked("hello", "db.example.org"), "10.20.0.20");
        // It may little, and holds no sandbox: only the network that it is in itself.
        let proc = format!("/proc/{}", resolver().unwrap());
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        for line in [
            "CapEff:\t0000000000281000",
            "CapBnd:\t0000000000281000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        let open = fs::read_dir(format!("{proc}/fd")).unwrap().flatten();
        let targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let namespaces: Vec<_> = targets
            .filter(|target| target.to_string_lossy().starts_with("net:"))
            .collect();
        assert_eq!(namespaces, [own]);
        // Nobody else is answered: not the server, not the network.
        for node in [Node::server(), stranger.clone()] {
            let outcome = node.connect("169.254.1.1:253");
            assert!(outcome.is_err(), "{outcome:?}");
        }
        let ask = [
            "dig",
            "+time=1",
            "+tries=1",
            "@169.254.1.1",
            "-p",
            "253",
            "db.example.org",
        ];
        let outcome = stranger.run(&ask);
        assert!(
            outcome.stdout.contains("no servers could be reached"),
            "{outcome}"
        );
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn addresses_of_both_families_are_opened() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        lan.server_address("2001:db8::1/64");
        let dns = lan.node("dns", &["10.20.0.53/24"]);
        let server = lan.node("dbserver", &["10.20.0.20/24", "2001:db8::20/64"]);
        server.listen(80);
        let zone =
            "a.six IN AAAA 2001:db8::20\na.six IN AAAA ::ffff:127.0.0.1\na.six IN AAAA fe80::7\n";
        let _dns = NameServer::start(host, &dns, "10.20.0.53", &[("example.org", zone)]);
        let local = "[firewall.out.accept]\nsix = *.six.example.org:80\n\
                     [sandbox.net]\nip = 10.20.0.5 2001:db8::5\n";
        start(host, local);
        is_refused("[2001:db8::20]:80");
        let found = dig(host, &["+short", "a.six.example.org", "AAAA"]);
        assert_eq!(found.trim(), "2001:db8::20");
        reaches("[2001:db8::20]:80");
        reaches("a.six.example.org:80");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn java_with_its_own_ideas_slow() {
    on_host(&[GIT, NFT, NAMED, DIG, JDK], |host| {
        let lan = host.lan();
        let _around = around(host, &lan);
        let java = "import java.net.*;\npublic class Ask { public static void main(String[] a) throws Exception {\n\
            for (String name : new String[] {\"a.web.example.org\", \"other.example.org\"}) {\n\
            try { InetAddress found = InetAddress.getByName(name); System.out.println(found.getHostAddress());\n\
            new Socket(found, 80).close(); System.out.println(\"connected\"); }\n\
            catch (UnknownHostException e) { System.out.println(\"unknown \" + e.getMessage()); } } } }\n";
        let dir = host.work().join("java");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("Ask.java"), java).unwrap();
        host.command(
            "javac",
            &[
                "-d",
                dir.to_str().unwrap(),
                dir.join("Ask.java").to_str().unwrap(),
            ],
        )
        .ok();
        let config = "[daemon.main]\nplatform = exec\ncommand = java -cp /app Ask\n\
                      [firewall.out.accept]\nweb = *.web.example.org:80\n";
        fs::write(dir.join(".metactl"), config).unwrap();
        let said = host.run(&["-q", "run", dir.to_str().unwrap()]).ok();
        said.says(&["10.20.0.21\nconnected\n", "unknown other.example.org"]);
    });
}
