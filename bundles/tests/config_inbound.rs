//! What may come in when nobody says so: the ports that the daemons serve.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use metactl_bundles::layers::{LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::network::{Peer, Policy, Protocol, Verdict};

fn inbound(text: &str) -> Policy {
    let source = Source::new(
        LayerKind::Local,
        PathBuf::from("/etc/metactl/nodes/myapp.conf"),
        text.to_owned(),
    );
    let loaded = model::load(vec![source], "myapp").unwrap_or_else(|report| panic!("{report}"));
    loaded.1.sandbox.inbound
}

/// `reject: daemon.a 0.0.0.0/0:80/tcp, ...`, without the IPv6 twin of what is for everybody.
fn shown(text: &str) -> String {
    let policy = inbound(text);
    let mut parts = Vec::new();
    for entry in &policy.accept {
        let Peer::Net(net) = &entry.peer else {
            panic!("{entry:?}")
        };
        if net.to_string() == "::/0" {
            continue;
        }
        let ports: Vec<String> = entry
            .ports
            .iter()
            .map(|range| format!(":{}", range.first))
            .collect();
        let protocol = match entry.protocol {
            Some(Protocol::Tcp) => "/tcp",
            Some(Protocol::Udp) => "/udp",
            Some(Protocol::Icmp) => "/icmp",
            None => "",
        };
        parts.push(format!("{} {net}{}{protocol}", entry.name, ports.concat()));
    }
    let verdict = match policy.policy {
        Verdict::Accept => "accept",
        Verdict::Reject => "reject",
        Verdict::Drop => "drop",
    };
    format!("{verdict}: {}", parts.join(", "))
}

const WEB: &str = "[daemon.web]\nplatform = exec\ncommand = ./server\nport = 80\n";
const WORKER: &str = "[daemon.worker]\nplatform = exec\ncommand = ./worker\n";

#[test]
fn the_ports_that_are_served_and_ping() {
    assert_eq!(
        shown(WEB),
        "reject: daemon.web 0.0.0.0/0:80/tcp, ping 0.0.0.0/0/icmp"
    );
    let both = inbound(WEB).accept;
    let twins = both
        .iter()
        .filter(|entry| matches!(entry.peer, Peer::Net(net) if net.addr().is_ipv6()));
    assert_eq!(twins.count(), 2, "IPv6 alike");
    // What says no port serves none.
    assert_eq!(shown(&format!("{WEB}{WORKER}")), shown(WEB));
    let two = format!("{WEB}{WORKER}port = 9000\n");
    assert_eq!(
        shown(&two),
        "reject: daemon.web 0.0.0.0/0:80/tcp, daemon.worker 0.0.0.0/0:9000/tcp, ping 0.0.0.0/0/icmp"
    );
}

#[test]
fn an_application_that_does_not_say_is_open() {
    assert_eq!(shown(WORKER), "accept: ");
}

#[test]
fn what_is_written_counts() {
    for policy in ["accept", "reject", "drop"] {
        let text = format!("{WEB}[firewall.in]\npolicy = {policy}\n");
        assert_eq!(shown(&text), format!("{policy}: "));
    }
    // Without a network, or in the server's, there is no firewall.
    for mode in ["none", "host\n[firewall.out]\npolicy = accept"] {
        assert_eq!(
            shown(&format!("{WEB}[sandbox.net]\nmode = {mode}\n")),
            "accept: "
        );
    }
}

/// Who lists a port means those that are listed.
#[test]
fn a_port_that_the_list_names_is_left_to_the_list() {
    let with = |line: &str| shown(&format!("{WEB}[firewall.in.accept]\n{line}\n"));
    assert_eq!(
        with("office = 10.1.0.0/16:80"),
        "reject: ping 0.0.0.0/0/icmp, office 10.1.0.0/16:80"
    );
    assert_eq!(
        with("office = 10.1.0.0/16:70-90/tcp"),
        "reject: ping 0.0.0.0/0/icmp, office 10.1.0.0/16:70/tcp"
    );
    assert_eq!(with("clients = 10.1.0.0/16"), "reject: clients 10.1.0.0/16");
    assert_eq!(
        with("monitoring = 10.1.0.0/16/icmp"),
        "reject: daemon.web 0.0.0.0/0:80/tcp, monitoring 10.1.0.0/16/icmp"
    );
    // Another port, another protocol.
    for line in ["metrics = 10.1.0.0/16:9100", "stats = 10.1.0.0/16:80/udp"] {
        let text = with(line);
        assert!(
            text.starts_with("reject: daemon.web 0.0.0.0/0:80/tcp, ping 0.0.0.0/0/icmp, "),
            "{text}"
        );
    }
}
