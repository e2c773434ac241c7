//! Any text as lines of an accept list. None may panic, hang or take memory out of proportion; what is understood is
//! something that the firewall can enforce, and means the same when it is written out and read again.

#![no_main]

use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use metactl_bundles::network::{Entry, Peer, PortRange, Protocol, parse_entry};

/// The entry as somebody would write it.
fn written(entry: &Entry) -> String {
    let range = |range: &PortRange| match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    };
    let peer = match &entry.peer {
        Peer::Net(IpNet::V6(net)) => format!("[{net}]"),
        Peer::Net(net) => net.to_string(),
        Peer::Host(name) => name.clone(),
        Peer::Suffix(suffix) => format!("*.{suffix}"),
    };
    let ports: Vec<String> = entry.ports.iter().map(range).collect();
    let ports = if ports.is_empty() {
        String::new()
    } else {
        format!(":{}", ports.join(","))
    };
    let protocol = match entry.protocol {
        Some(Protocol::Tcp) => "/tcp",
        Some(Protocol::Udp) => "/udp",
        Some(Protocol::Icmp) => "/icmp",
        None => "",
    };
    format!("{peer}{ports}{protocol}")
}

fn check(entry: &Entry) {
    assert_eq!(entry.name, "line");
    for range in &entry.ports {
        assert!(range.first > 0 && range.first <= range.last, "{entry:?}");
    }
    assert!(
        entry.protocol != Some(Protocol::Icmp) || entry.ports.is_empty(),
        "{entry:?}"
    );
    match &entry.peer {
        Peer::Net(net) => {
            assert_eq!(*net, net.trunc(), "{entry:?}");
            let mapped = matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some());
            assert!(!mapped, "{entry:?}");
        }
        Peer::Host(name) | Peer::Suffix(name) => {
            assert!(name.len() <= 253 && !name.is_empty(), "{entry:?}");
            assert!(
                name.bytes().all(|b| b.is_ascii_graphic() && b != b'"'),
                "{entry:?}"
            );
            // What could be an address is never asked of a name server.
            assert!(name.parse::<std::net::IpAddr>().is_err(), "{entry:?}");
        }
    }
    let text = written(entry);
    let again = parse_entry("line", &text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(again.as_slice(), std::slice::from_ref(entry), "{text}");
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for line in text.split('\0') {
        match parse_entry("line", line) {
            Ok(entries) => {
                assert!(!entries.is_empty() && entries.len() <= 1024);
                entries.iter().for_each(check);
                let json = serde_json::to_string(&entries).unwrap();
                assert_eq!(serde_json::from_str::<Vec<Entry>>(&json).unwrap(), entries);
            }
            // The message names a part of the line, and is one line itself unless the line is none.
            Err(error) => {
                assert!(line.contains(&error.destination), "{error:?}");
                assert!(!error.problem.is_empty());
            }
        }
    }
});
