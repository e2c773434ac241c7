//! Reject lists: what they name is refused whatever accepts it, by address and by name, while the instance runs.

use std::time::Duration;

use metactl_tests::hello::{ADDRESS, is_refused, perl, reaches, start};
use metactl_tests::needs::{DIG, GIT, NAMED, NFT, Need};
use metactl_tests::upstream::NameServer;
use metactl_tests::{Host, eventually, on_host};

use super::{LOCAL, NEEDS, SOON, TALKS, neighbours};

const WITH_NAMES: &[Need] = &[GIT, NFT, NAMED, DIG];

/// The word behind `why`, and what stands there.
fn why(host: &Host, to: &str, verdict: &str, words: &[&str]) {
    let said = host.run(&["hello", "why", to]);
    assert!(said.stdout.starts_with(verdict), "{to}: {said}");
    said.says(words);
}

#[test]
fn everything_but_this_is_reached() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        lan.server_address("2001:db8::1/64");
        let six = lan.node("six", &["2001:db8::20/64", "10.20.0.30/24"]);
        for port in [25, 80, 8005] {
            six.listen(port);
        }
        let local = "[firewall.out]\npolicy = accept\n[firewall.out.reject]\n\
                     mail = smtp.example.org:25 [2001:db8::20]:25\n\
                     range = 10.20.0.0/24:8000-8010/tcp\nping = 10.20.0.30/icmp\n\
                     [sandbox.net]\nip = 10.20.0.5 2001:db8::5\n";
        start(host, local);
        for to in [
            "10.20.0.66:80",
            "10.20.0.20:25",
            "[2001:db8::20]:80",
            "[2001:db8::20]:8005",
        ] {
            reaches(to);
            why(
                host,
                to,
                "yes",
                &["accepts everything that is not rejected"],
            );
        }
        for (to, line) in [
            ("10.20.0.66:25", "mail"),
            ("[2001:db8::20]:25", "mail"),
            ("10.20.0.30:8005", "range"),
        ] {
            is_refused(to);
            let key = format!("firewall.out.reject:{line}");
            why(
                host,
                &format!("{to}/tcp"),
                "no",
                &[
                    "[firewall.out.reject]",
                    &format!("metactl hello unset {key}"),
                ],
            );
        }
        // A datagram has its answer at once, too.
        let ask = "my $s = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '10.20.0.66:25') or die; \
                   alarm 5; $s->send('x'); defined $s->recv(my $x, 9) or print \"told: $!\\n\"";
        host.run(&perl(ask)).ok().says(&["told: "]);
        let firewall = host.run(&["hello", "firewall"]).ok();
        let firewall = firewall.says(&[
            "out: reject in any case",
            "out: accept the rest",
            "3 refused",
            "rejected by [firewall.out.reject] mail",
        ]);
        firewall.never_says(&["allow: metactl hello allow smtp"]);
        let facts = host.run(&["hello", "firewall", "--json"]).ok().json();
        let mail = &facts["out"]["reject"][0];
        assert_eq!(
            (mail["name"].as_str(), mail["refused"].as_u64()),
            (Some("mail"), Some(3))
        );
        assert_eq!(facts["out"]["refused"][1]["rejectedBy"], "mail", "{facts}");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_list_changes_while_a_connection_lives() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        let mut talk = host.spawn(&perl(TALKS));
        talk.wait_for("open", SOON);
        host.run(&[
            "hello",
            "set",
            "firewall.out.reject:db=10.20.0.0/24:3306/tcp",
        ])
        .ok()
        .says(&[
            "live; open connections kept",
            "perl (",
            "metactl hello reload --cut",
            "Undo: metactl hello unset firewall.out.reject:db",
        ]);
        is_refused("10.20.0.20:3306");
        is_refused("mysql.example.org:3306");
        talk.wait_for("alive", SOON);
        host.run(&["hello", "reload", "--cut"])
            .ok()
            .says(&["were cut"]);
        talk.wait_for("dead", SOON);
        host.run(&["hello", "unset", "firewall.out.reject:db"])
            .ok()
            .says(&["live"]);
        reaches("10.20.0.20:3306");

        // Whoever allows what is rejected is told by which line.
        host.run(&["hello", "set", "firewall.out.reject:lan=10.20.0.0/24"])
            .ok();
        let allowed = host.run(&["hello", "allow", "smtp=10.20.0.66:25"]).ok();
        allowed.says(&[
            "`smtp` (10.20.0.66:25) is rejected all the same: `lan` of [firewall.out.reject]",
            "nodes/hello.conf:",
        ]);
        is_refused("10.20.0.66:25");
        is_refused("10.20.0.20:3306");
        why(
            host,
            "10.20.0.66:25",
            "no",
            &["lan", "metactl hello unset firewall.out.reject:lan"],
        );
        // An empty list is none.
        host.run(&["hello", "unset", "firewall.out.reject:lan"])
            .ok();
        reaches("10.20.0.66:25");
        let text = host.command(
            "cat",
            &[host
                .root()
                .join("etc/metactl/nodes/hello.conf")
                .to_str()
                .unwrap()],
        );
        text.says(&["[firewall.out.reject]"]);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_source_is_rejected() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let (client, guest) = (
            lan.node("client", &["10.20.0.9/24"]),
            lan.node("guest", &["10.20.0.77/24"]),
        );
        start(
            host,
            "[firewall.in.reject]\nguests = 10.20.0.64/26\n[sandbox.net]\nip = 10.20.0.5\n",
        );
        let page = format!("http://{ADDRESS}/");
        assert!(client.get(&page).is_ok());
        let begun = std::time::Instant::now();
        let error = guest.get(&page).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(begun.elapsed() < Duration::from_secs(1));
        host.run(&["hello", "firewall"]).ok().says(&[
            "in: reject in any case",
            "guests",
            "1 refused",
        ]);
        let from = host.run(&["hello", "why", "--from", "10.20.0.77:80"]);
        assert!(from.stdout.starts_with("no"), "{from}");
        from.says(&["[firewall.in.reject] guests"]);
        host.run(&["hello", "unset", "firewall.in.reject:guests"])
            .ok()
            .says(&["live"]);
        assert!(guest.get(&page).is_ok());
        host.run(&["hello", "stop"]).ok();
    });
}

/// What `dig` inside says of a name.
fn asked(host: &Host, words: &[&str]) -> String {
    let dig = ["hello", "exec", "--", "dig", "+time=3", "+tries=1"];
    host.run(&[&dig[..], words].concat()).stdout
}

#[test]
fn rejected_names_are_neither_told_nor_reached() {
    on_host(WITH_NAMES, |host| {
        let lan = host.lan();
        let dns = lan.node("dns", &["10.20.0.53/24"]);
        let servers = [
            "10.20.0.20/24",
            "10.20.0.21/24",
            "10.20.0.22/24",
            "10.20.0.23/24",
        ];
        let servers = lan.node("servers", &servers);
        for port in [25, 80] {
            servers.listen(port);
        }
        let zone = "good.web 5 IN A 10.20.0.20\nbad.web 5 IN A 10.20.0.21\nalias.web IN CNAME bad.web\n\
                    mail.web 5 IN A 10.20.0.22\nx.evil 5 IN A 10.20.0.23\nway.web IN CNAME x.evil\n";
        let _dns = NameServer::start(host, &dns, "10.20.0.53", &[("example.org", zone)]);
        let lists = "[firewall.out.accept]\nweb = *.web.example.org\nlan = 10.20.0.0/27:80\n\
                     [firewall.out.reject]\nbad = bad.web.example.org\nmail = *.web.example.org:25\n\
                     evil = *.evil.example.org\n[sandbox.net]\nip = 10.20.0.5\n";
        start(host, lists);
        let check = || {
            reaches("good.web.example.org:80");
            for name in [
                "bad.web.example.org",
                "alias.web.example.org",
                "x.evil.example.org",
                "way.web.example.org",
            ] {
                let answer = asked(host, &[name]);
                assert!(answer.contains("status: NXDOMAIN"), "{name}: {answer}");
                assert!(
                    answer.contains("of [firewall.out.reject] names it"),
                    "{answer}"
                );
            }
            // Looked up by the resolver itself.
            eventually(
                "the address of the rejected name to be refused",
                SOON,
                || {
                    let answer = metactl_tests::hello::connect("10.20.0.21:80");
                    answer.contains("refused").then_some(())
                },
            );
            // In part: asked for, and only its other ports.
            reaches("mail.web.example.org:80");
            is_refused("10.20.0.22:25");
            is_refused("mail.web.example.org:25");
        };
        check();
        why(
            host,
            "bad.web.example.org:80",
            "no",
            &["[firewall.out.reject] bad"],
        );
        why(host, "good.web.example.org:80", "yes", &["web"]);
        why(
            host,
            "good.web.example.org:25",
            "no",
            &["[firewall.out.reject] mail"],
        );
        why(
            host,
            "good.web.example.org",
            "partly",
            &["mail (only port 25)"],
        );
        eventually("what was refused to be told", SOON, || {
            let firewall = host.run(&["hello", "firewall"]).ok().stdout;
            let told = [
                "`bad` of [firewall.out.reject] names it",
                "10.20.0.21",
                "no address",
            ];
            told.iter()
                .all(|word| firewall.contains(word))
                .then_some(())
        });

        // With policy accept, and whatever name server is asked.
        host.run(&["hello", "set", "firewall.out:policy=accept"])
            .ok();
        host.run(&["hello", "reload"]).ok();
        check();
        let direct = asked(host, &["@10.20.0.53", "bad.web.example.org"]);
        assert!(direct.contains("status: NXDOMAIN"), "{direct}");
        assert!(
            asked(host, &["+short", "@10.20.0.53", "good.web.example.org"]).contains("10.20.0.20")
        );
        reaches("10.20.0.23:80");
        // The resolver dies: what is rejected stays so, and who comes after it goes on.
        let resolver = metactl_tests::machine::pids_of(&["metactl-runtime", " resolve "]);
        host.command("kill", &["-9", &resolver[0].to_string()]).ok();
        is_refused("10.20.0.21:80");
        eventually("another resolver", SOON, || {
            asked(host, &["+short", "good.web.example.org"])
                .contains("10.20.0.20")
                .then_some(())
        });
        check();
        // Without the lines all of it is there again.
        host.run(&[
            "hello",
            "unset",
            "firewall.out.reject:bad",
            "firewall.out.reject:evil",
        ])
        .ok();
        reaches("10.20.0.21:80");
        eventually("the name to be told", SOON, || {
            asked(host, &["+short", "alias.web.example.org"])
                .contains("10.20.0.21")
                .then_some(())
        });
        host.run(&["hello", "stop"]).ok();
    });
}
