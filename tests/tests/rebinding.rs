//! Names that lead inside (DNS rebinding): whoever rules over a name would choose among the services of the application
//! itself, of the server and of other instances. Refused whatever the policy, unless somebody here wrote it down.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use metactl_tests::hello::start;
use metactl_tests::needs::{DIG, GIT, NAMED, NFT, Need};
use metactl_tests::upstream::NameServer;
use metactl_tests::{Host, on_host};

const NEEDS: &[Need] = &[GIT, NFT, NAMED, DIG];

const ZONE: &str = "\
good.web IN A 10.20.0.20
meta.web IN A 169.254.169.254
local.web IN A 127.0.0.1
local.web IN A 10.20.0.20
only.web IN A 127.0.0.1
server.web IN A 10.20.0.1
neighbour.web IN A 10.20.0.6
own.web IN A 10.20.0.5
far.web IN CNAME neighbour.web
six.web IN AAAA ::1
six.web IN AAAA fe80::1
six.web IN AAAA fd9b:6be1:3d5a::53
mapped.web IN AAAA ::ffff:127.0.0.1
named IN A 10.20.0.6
svc.web IN HTTPS 1 . alpn=h2 ipv4hint=127.0.0.1
fine.web IN HTTPS 1 . alpn=h2 ipv4hint=10.20.0.20
mail.web IN MX 10 server.web
mail.web IN MX 20 good.web
text.web IN TXT \"hello\"
";

fn dig(host: &Host, words: &[&str]) -> String {
    let dig = ["hello", "exec", "--", "dig", "+time=3", "+tries=1"];
    host.run(&[&dig[..], words].concat()).stdout
}

fn short(host: &Host, name: &str, kind: &str) -> String {
    let name = format!("{name}.example.org");
    dig(host, &["+short", &name, kind])
}

/// Two instances; `hello` has the policy of `local`.
fn with(host: &Host, local: &str, test: impl FnOnce()) {
    let lan = host.lan();
    let dns = lan.node("dns", &["10.20.0.53/24"]);
    let _dns = NameServer::start(host, &dns, "10.20.0.53", &[("example.org", ZONE)]);
    host.hello("other", "[sandbox.net]\nip = 10.20.0.6\n");
    start(host, local);
    test();
    host.run(&["other", "stop"]).ok();
    host.run(&["hello", "stop"]).ok();
}

fn refuses_what_leads_inside(host: &Host) {
    for name in ["meta.web", "only.web", "server.web", "neighbour.web"] {
        assert_eq!(short(host, name, "A"), "", "{name}");
    }
    assert_eq!(
        short(host, "far.web", "A").trim(),
        "neighbour.web.example.org."
    );
    for name in ["six.web", "mapped.web"] {
        assert_eq!(short(host, name, "AAAA"), "", "{name}");
    }
    assert_eq!(short(host, "svc.web", "HTTPS"), "");
    let why = dig(host, &["server.web.example.org"]);
    assert!(
        why.contains("it leads to 10.20.0.1, which is the server's own"),
        "{why}"
    );
    let why = dig(host, &["neighbour.web.example.org"]);
    assert!(why.contains("which is another instance's"), "{why}");
    // The rest of an answer stays, and so does every other one.
    assert_eq!(short(host, "local.web", "A"), "10.20.0.20\n");
    assert_eq!(short(host, "good.web", "A"), "10.20.0.20\n");
    assert_eq!(short(host, "own.web", "A"), "10.20.0.5\n");
    assert!(short(host, "fine.web", "HTTPS").contains("10.20.0.20"));
    assert!(short(host, "text.web", "TXT").contains("hello"));
    // What an answer brings along unasked is left out.
    let mail = dig(host, &["mail.web.example.org", "MX"]);
    assert!(
        mail.contains("10 server.web") && !mail.contains("10.20.0.1\n"),
        "{mail}"
    );
    // Somebody here wrote it down: the name itself, or the address.
    assert_eq!(short(host, "named", "A"), "10.20.0.6\n");
}

#[test]
fn with_policy_accept() {
    on_host(NEEDS, |host| {
        let local = "[firewall.out]\npolicy = accept\n[firewall.out.accept]\nnamed = named.example.org:80\n\
                     [sandbox.net]\nip = 10.20.0.5\n";
        with(host, local, || {
            refuses_what_leads_inside(host);
            // An answer with nothing in it that leads inside comes as it was, with all its parts.
            let whole = dig(host, &["good.web.example.org"]);
            assert!(whole.contains("AUTHORITY: 1"), "{whole}");
        });
    });
}

#[test]
fn with_policy_reject() {
    on_host(NEEDS, |host| {
        let local = "[firewall.out.accept]\nweb = *.web.example.org:80\nnamed = named.example.org:80\n\
                     [sandbox.net]\nip = 10.20.0.5\n";
        with(host, local, || refuses_what_leads_inside(host));
    });
}

#[test]
fn unless_the_address_is_listed() {
    on_host(NEEDS, |host| {
        let local = "[firewall.out]\npolicy = accept\n[firewall.out.accept]\nmeta = 169.254.169.254:80\n\
                     neighbours = 10.20.0.6:80\n[sandbox.net]\nip = 10.20.0.5\n";
        with(host, local, || {
            assert_eq!(short(host, "meta.web", "A"), "169.254.169.254\n");
            assert_eq!(short(host, "neighbour.web", "A"), "10.20.0.6\n");
            assert_eq!(short(host, "only.web", "A"), "");
            assert_eq!(short(host, "server.web", "A"), "");
        });
    });
}
