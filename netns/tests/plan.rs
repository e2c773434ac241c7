//! Plans as text: no privilege, no kernel.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{entry, names, reject, spec};
use metactl_bundles::network::{Mode, NetworkSpec, Verdict};
use metactl_netns::facts::{HostFacts, Uplink};
use metactl_netns::plan::{LinkIds, NetPlan, ServerEffect, plan};
use metactl_netns::{NetError, Resolved};

fn facts() -> HostFacts {
    HostFacts {
        uplinks: vec![Uplink {
            name: "eth0".into(),
            index: 2,
            mtu: 1450,
            ..Uplink::default()
        }],
        has_ipv4: true,
        ipv6: true,
        force_forwarding: true,
        accept_ra: vec!["eth0".into()],
    }
}

fn make(spec: &NetworkSpec, list: &Resolved) -> Result<NetPlan, NetError> {
    plan(
        spec,
        list,
        &facts(),
        &LinkIds {
            generation: "3f2a".into(),
            pid: Some(24749),
        },
    )
}

/// The seed's own example.
fn seed() -> (NetworkSpec, Resolved) {
    let mut spec = spec("myapp", Mode::Routed, &["192.168.0.5"]);
    spec.out = reject(&[
        "database = mysql.example.org:3306/tcp",
        "testlan = 10.1.1.0/24",
    ]);
    (
        spec,
        names(&[("mysql.example.org", &["10.2.0.20", "2001:db8::20"])]),
    )
}

#[test]
fn the_seed_as_a_plan() {
    let (spec, list) = seed();
    let plan = make(&spec, &list).unwrap();
    assert_eq!(plan.to_string(), SEED_PLAN);
    assert_eq!(plan.outer(), Some("m-myapp-3f2a"));
    assert_eq!(
        plan.server_effects(),
        [
            ServerEffect::Sysctl {
                key: "net/ipv4/conf/eth0/forwarding".into(),
                value: "1".into()
            },
            ServerEffect::Sysctl {
                key: "net/ipv4/neigh/eth0/proxy_delay".into(),
                value: "0".into()
            },
            ServerEffect::Table,
            ServerEffect::Proxy {
                address: "192.168.0.5".parse().unwrap(),
                device: "eth0".into()
            },
        ]
    );
    // The same input gives the same plan.
    assert_eq!(make(&spec, &list).unwrap(), plan);
}

const SEED_PLAN: &str = "\
server:  nobody here has 192.168.0.5
server:  sysctl net/ipv4/conf/eth0/forwarding=1  [until its last user is gone]
server:  sysctl net/ipv4/neigh/eth0/proxy_delay=0  [until its last user is gone]
server:  nft table inet metactl (one for all instances)  [until its last user is gone]
server:  ip neighbour add proxy 192.168.0.5 dev eth0  [until its last user is gone]
sandbox: nft table inet metactl: out reject all but database = mysql.example.org:3306/tcp (10.2.0.20 2001:db8::20), testlan = 10.1.1.0/24; in accept
sandbox: ip link set lo up
server:  ip link add m-myapp-3f2a address 02:6d:63:00:00:01 mtu 1450 group 28003 numtxqueues 1 numrxqueues 1 type veth peer name eth0 address 02:6d:63:00:00:02 mtu 1450 numtxqueues 1 numrxqueues 1 netns <sandbox>
server:  ip link property add dev m-myapp-3f2a altname pid24749
server:  ip link property add dev m-myapp-3f2a altname metactl-myapp
server:  ip link set m-myapp-3f2a addrgenmode none
server:  sysctl net/ipv4/conf/m-myapp-3f2a/forwarding=1
server:  ip address add 169.254.1.1/32 dev m-myapp-3f2a scope host
server:  ip link set m-myapp-3f2a up
sandbox: ip link set eth0 addrgenmode none
sandbox: ip address add 192.168.0.5/32 dev eth0
sandbox: ip link set eth0 up
sandbox: ip neighbour add 169.254.1.1 lladdr 02:6d:63:00:00:01 dev eth0
sandbox: ip route add default via 169.254.1.1 dev eth0 onlink src 192.168.0.5
server:  ip neighbour add 192.168.0.5 lladdr 02:6d:63:00:00:02 dev m-myapp-3f2a
server:  ip route add 192.168.0.5/32 dev m-myapp-3f2a
server:  m-myapp-3f2a has its carrier
server:  arping -U -I eth0 192.168.0.5  [beside the start]
";

#[test]
fn the_seed_as_a_firewall() {
    let (spec, list) = seed();
    let plan = make(&spec, &list).unwrap();
    assert_eq!(plan.ruleset().unwrap().to_string(), SEED_RULES);
}

const SEED_RULES: &str = "\
table inet metactl {
\tset flows4 {
\t\ttype ipv4_addr . inet_service . inet_service
\t\tsize 65535
\t\tflags dynamic,timeout
\t\ttimeout 30s
\t}
\tset refused_out4 {
\t\ttype ipv4_addr . inet_proto . inet_service
\t\tsize 1024
\t\tflags dynamic,timeout
\t\ttimeout 3600s
\t}
\tset out4 {
\t\ttype ipv4_addr . inet_proto . inet_service
\t\tflags timeout
\t\tcounter
\t\telements = { 10.2.0.20 . tcp . 3306 comment \"database\" }
\t}
\tset out4_net1 {
\t\ttype ipv4_addr . inet_proto . inet_service
\t\tflags interval
\t\tcounter
\t\telements = { 10.1.1.0-10.1.1.255 . 0-255 . 0-65535 comment \"testlan\" }
\t}
\tchain refuse_out {
\t\tupdate @refused_out4 { ip daddr . meta l4proto . tcp dport counter }
\t\tupdate @refused_out4 { ip daddr . meta l4proto . udp dport counter }
\t\tmeta l4proto != tcp meta l4proto != udp update @refused_out4 { ip daddr . meta l4proto . th sport counter }
\t\tmeta l4proto tcp reject with tcp reset
\t\treject with icmpx admin-prohibited
\t\tdrop
\t}
\tchain output {
\t\ttype filter hook output priority 0; policy drop;
\t\toif \"lo\" accept
\t\tip saddr != 192.168.0.5 counter drop
\t\tmeta nfproto ipv6 drop
\t\tip hdrlength != 5 goto refuse_out
\t\tip daddr 169.254.1.1 udp dport 253 accept
\t\tip daddr 169.254.1.1 tcp dport 253 accept
\t\ttcp flags != syn / syn,ack accept
\t\tip daddr . udp dport . udp sport @flows4 accept
\t\tip daddr . meta l4proto . th dport @out4 accept
\t\tip daddr . meta l4proto . th dport @out4_net1 accept
\t\ticmp type echo-reply accept
\t\ticmp type destination-unreachable accept
\t\ticmp type time-exceeded accept
\t\ticmp type parameter-problem accept
\t\tgoto refuse_out
\t}
\tchain input {
\t\ttype filter hook input priority 0; policy drop;
\t\tiif \"lo\" accept
\t\tupdate @flows4 { ip saddr . udp sport . udp dport }
\t\taccept
\t}
\tchain track_out {
\t\ttype filter hook output priority -300; policy accept;
\t\toif \"lo\" notrack accept
\t\tmeta nfproto ipv4 udp dport 53 accept
\t\tmeta nfproto ipv4 tcp dport 53 accept
\t\tnotrack
\t}
\tchain track_in {
\t\ttype filter hook prerouting priority -300; policy accept;
\t\tip saddr 169.254.1.1 accept
\t\tnotrack
\t}
\tchain questions {
\t\ttype nat hook output priority -100; policy accept;
\t\tmeta nfproto ipv4 udp dport 53 dnat ip to 169.254.1.1:253
\t\tmeta nfproto ipv4 tcp dport 53 dnat ip to 169.254.1.1:253
\t}
}
";

#[test]
fn a_pool_has_the_servers_address_and_no_proxy() {
    let plan = make(&spec("myapp", Mode::Nat, &["10.77.0.2"]), &names(&[])).unwrap();
    let text = plan.to_string();
    assert!(
        text.contains("server:  nft masquerade 10.77.0.0/16 outward"),
        "{text}"
    );
    assert!(
        text.contains("server:  ip address add 10.77.0.1/32 dev m-myapp-3f2a scope link\n"),
        "{text}"
    );
    assert!(
        text.contains("ip route add 10.77.0.2/32 dev m-myapp-3f2a src 10.77.0.1\n"),
        "{text}"
    );
    assert!(!text.contains("proxy "), "{text}");
}

#[test]
fn ipv6_needs_more_of_an_older_kernel() {
    let spec = spec("myapp", Mode::Routed, &["2001:db8::5"]);
    let ids = LinkIds {
        generation: "3f2a".into(),
        pid: None,
    };
    let make = |force_forwarding| {
        let facts = HostFacts {
            force_forwarding,
            ..facts()
        };
        plan(&spec, &names(&[]), &facts, &ids).unwrap().to_string()
    };
    let (new, old) = (make(true), make(false));
    assert!(
        new.contains("sysctl net/ipv6/conf/eth0/force_forwarding=1"),
        "{new}"
    );
    assert!(!new.contains("conf/all/"), "{new}");
    assert!(
        !old.contains("force_forwarding=1")
            && old.contains("sysctl net/ipv6/conf/all/forwarding=1"),
        "{old}"
    );
    assert!(
        old.contains("note: this kernel forwards IPv6 for all devices or for none"),
        "{old}"
    );
    for text in [new, old] {
        // A learned default route must survive.
        let (ra, forwarding) = (
            text.find("accept_ra=2").unwrap(),
            text.find("/forwarding=1").unwrap(),
        );
        assert!(ra < forwarding, "{text}");
        assert!(
            text.contains("ip -6 route add default via fe80::1 dev eth0 onlink src 2001:db8::5"),
            "{text}"
        );
        let resolver = "server:  ip -6 address add fd9b:6be1:3d5a::53/128 dev m-myapp-3f2a noprefixroute nodad preferred_lft 0\n";
        assert!(text.contains(resolver), "{text}");
    }
}

#[test]
fn modes_without_an_address_do_nothing_on_the_server() {
    let none = make(&spec("myapp", Mode::None, &[]), &names(&[])).unwrap();
    assert_eq!(none.to_string(), "sandbox: ip link set lo up\n");
    let host = make(&spec("myapp", Mode::Host, &[]), &names(&[])).unwrap();
    assert!(host.steps.is_empty());
    assert!(none.server_effects().is_empty() && host.server_effects().is_empty());
}

#[test]
fn device_names_fit_and_stay_recognisable() {
    for (instance, outer) in [
        ("a", "m-a-3f2a"),
        ("jobmanager-test", "m-jobmanag-3f2a"),
        ("caf\u{e9}", "m-caf_-3f2a"),
    ] {
        let plan = make(&spec(instance, Mode::Nat, &["10.77.0.2"]), &names(&[])).unwrap();
        assert_eq!(plan.outer(), Some(outer));
        assert!(outer.len() <= 15);
    }
    let fresh: std::collections::BTreeSet<_> =
        (0..50).map(|_| LinkIds::fresh(None).generation).collect();
    assert!(
        fresh.len() > 45 && fresh.iter().all(|generation| generation.len() == 4),
        "{fresh:?}"
    );
}

#[test]
fn overlapping_entries_get_sets_of_their_own() {
    let mut spec = spec("myapp", Mode::Routed, &["192.168.0.5"]);
    let lines = [
        "wide = 10.0.0.0/8",
        "web = 10.1.0.0/16:80,443",
        "alt = 10.1.0.0/16:8080-8090/tcp",
        "same = 10.0.0.0/8",
        "one = 10.1.2.3:80-81",
        "again = 10.1.2.3:81-82/tcp",
        "host = 10.1.2.3",
        "ping = 10.9.0.0/16/icmp",
    ];
    spec.out = reject(&lines);
    let text = make(&spec, &names(&[]))
        .unwrap()
        .ruleset()
        .unwrap()
        .to_string();
    let sets: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("set "))
        .collect();
    assert_eq!(
        sets,
        [
            "flows4 {",
            "refused_out4 {",
            "out4 {",
            "out4_hosts {",
            "out4_net1 {",
            "out4_net2 {"
        ]
    );
    // Equal elements are there once, for the first entry; the more specific entry counts.
    assert_eq!(text.matches("10.1.2.3 . tcp . 81 ").count(), 1, "{text}");
    assert!(
        text.contains("10.1.2.3 . tcp . 81 comment \"one\"")
            && text.contains("10.1.2.3 . tcp . 82 comment \"again\"")
    );
    let second = text
        .split("set out4_net2")
        .nth(1)
        .unwrap()
        .split("\t}")
        .next()
        .unwrap();
    assert!(
        second.contains("comment \"wide\"") && !second.contains("same"),
        "{text}"
    );
    assert!(
        text.contains("10.9.0.0-10.9.255.255 . 1 . 0-65535 comment \"ping\""),
        "{text}"
    );
}

#[test]
fn names_that_do_not_resolve_yet_have_their_sets() {
    let mut spec = spec("myapp", Mode::Routed, &["192.168.0.5", "2001:db8::5"]);
    spec.out = reject(&[
        "db = db.example.org:3306",
        "any = any.example.org",
        "wide = w.example.org:1000-9000",
    ]);
    let plan = make(&spec, &names(&[])).unwrap();
    let text = plan.ruleset().unwrap().to_string();
    // The set of an entry is called by what it says, whatever its place in the list.
    let own = text
        .split("set out4_name_")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    let (own4, own6) = (format!("out4_name_{own}"), format!("out6_name_{own}"));
    for set in ["out4", "out4_hosts", &own4, "out6", "out6_hosts", &own6] {
        assert!(
            text.contains(&format!("set {set} {{")) && text.contains(&format!("@{set} accept")),
            "{set}: {text}"
        );
    }
    assert!(
        plan.to_string()
            .contains("db.example.org:3306 (no address yet: nothing accepted)")
    );
}

/// The number of rules does not grow with the number of destinations.
#[test]
fn destinations_are_elements() {
    let rules = |count: usize| {
        let mut spec = spec("myapp", Mode::Routed, &["192.168.0.5"]);
        spec.out = reject(&[]);
        for n in 0..count {
            let (a, b) = (n / 250, n % 250);
            spec.out
                .accept
                .push(entry(&format!("h{n} = 10.1.{a}.{b}:443")));
            spec.out
                .accept
                .push(entry(&format!("n{n} = 10.{}.{b}.0/24", a + 2)));
        }
        let plan = make(&spec, &names(&[])).unwrap();
        plan.ruleset()
            .unwrap()
            .chains
            .iter()
            .map(|chain| chain.rules.len())
            .sum::<usize>()
    };
    assert_eq!(rules(1), rules(2000));
}

#[test]
fn contradictions_are_errors() {
    let fail = |spec: &NetworkSpec| match make(spec, &names(&[])) {
        Err(error @ NetError::Spec { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for (mode, addresses, words) in [
        (Mode::Routed, &[][..], "no address"),
        (Mode::Routed, &["127.0.0.1"][..], "loopback"),
        (Mode::Routed, &["224.0.0.1"][..], "multicast"),
        (Mode::Routed, &["0.0.0.0"][..], "unspecified"),
        (Mode::Routed, &["169.254.1.1"][..], "link-local"),
        (Mode::Routed, &["fe80::5"][..], "link-local"),
        (Mode::Routed, &["::ffff:10.0.0.1"][..], "reserved"),
        (Mode::Routed, &["10.0.0.1", "10.0.0.1"][..], "twice"),
        (Mode::Nat, &["10.78.0.2"][..], "not in the pool"),
        (Mode::Nat, &["10.77.0.1"][..], "server's own"),
        (Mode::None, &["10.0.0.1"][..], "address in a mode"),
    ] {
        let text = fail(&spec("myapp", mode, addresses));
        assert!(text.contains(words) && text.contains("myapp"), "{text}");
    }
    for name in ["", "a/b", "a b", "a:b", "a%d", "a\"b", &"x".repeat(200)] {
        assert!(
            fail(&spec(name, Mode::Nat, &["10.77.0.2"])).contains("named after"),
            "{name}"
        );
    }
    let mut bad = spec("myapp", Mode::Nat, &["10.77.0.2"]);
    bad.format = 2;
    assert!(fail(&bad).contains("format 2"));
    bad = spec("myapp", Mode::Nat, &["10.77.0.2"]);
    bad.pool = None;
    assert!(fail(&bad).contains("without a pool"));
    for (line, words) in [
        ("a = 10.0.0.1:80/icmp", "icmp has no ports"),
        ("a = 10.0.0.1:90-80", "ends before"),
    ] {
        let mut bad = spec("myapp", Mode::Nat, &["10.77.0.2"]);
        bad.out = reject(&[line]);
        assert!(fail(&bad).contains(words) && fail(&bad).contains("[firewall.out.accept] a"));
        // Also in a direction that is open, where it would have no effect yet.
        bad.out.policy = Verdict::Accept;
        assert!(fail(&bad).contains(words));
    }
    let text = plan(
        &spec("myapp", Mode::Routed, &["2001:db8::5"]),
        &names(&[]),
        &HostFacts {
            ipv6: false,
            ..facts()
        },
        &LinkIds::fresh(None),
    );
    assert!(text.unwrap_err().to_string().contains("IPv6 is missing"));
}
