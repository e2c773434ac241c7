//! What may come in when `[firewall.in] policy` is not written: the ports that the daemons serve, and nothing else
//! where the application says which those are.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Builder;
use crate::app::{Daemon, Net};
use crate::network::{Entry, Mode, Peer, Policy, PortRange, Protocol, Verdict};

/// The name of the entry that answers echo requests.
pub(crate) const PING: &str = "ping";

impl Builder<'_> {
    pub(super) fn inbound(&mut self, daemons: &BTreeMap<String, Daemon>, net: &Net) -> Policy {
        let written = self.policy("firewall.in", Verdict::Accept);
        let decided = self.value("firewall.in", "policy").is_some();
        let firewalled = matches!(net.mode, Mode::Routed | Mode::Nat);
        let says_which = daemons.values().any(|daemon| daemon.port.is_some());
        if decided || !firewalled || !says_which {
            return written;
        }
        // A daemon's port is TCP; what is published beside those is served too.
        let mut served: Vec<(String, u16, Protocol)> = Vec::new();
        let of_daemons = daemons.iter().filter_map(|(name, daemon)| {
            Some((["daemon.", name].concat(), daemon.port?, Protocol::Tcp))
        });
        let published = net
            .publish
            .iter()
            .map(|one| ("publish".to_owned(), one.inside, one.protocol));
        for (name, port, protocol) in of_daemons.chain(published) {
            if !served.iter().any(|one| (one.1, one.2) == (port, protocol)) {
                served.push((name, port, protocol));
            }
        }
        let mut accept = Vec::new();
        for (name, port, protocol) in served {
            // A port that the list names is left to the list: who writes `office = 10.1.0.0/16:80` means them alone.
            if !written
                .accept
                .iter()
                .any(|entry| speaks_of(entry, port, protocol))
            {
                let ports = vec![PortRange {
                    first: port,
                    last: port,
                }];
                accept.extend(from_anybody(&name, &ports, protocol));
            }
        }
        if !written.accept.iter().any(speaks_of_ping) {
            accept.extend(from_anybody(PING, &[], Protocol::Icmp));
        }
        accept.extend(written.accept);
        Policy {
            policy: Verdict::Reject,
            accept,
            reject: written.reject,
        }
    }
}

fn speaks_of(entry: &Entry, port: u16, protocol: Protocol) -> bool {
    let ports = entry.ports.is_empty()
        || entry
            .ports
            .iter()
            .any(|range| (range.first..=range.last).contains(&port));
    ports && entry.protocol.is_none_or(|listed| listed == protocol)
}

fn speaks_of_ping(entry: &Entry) -> bool {
    entry.protocol == Some(Protocol::Icmp) || (entry.protocol.is_none() && entry.ports.is_empty())
}

fn from_anybody(name: &str, ports: &[PortRange], protocol: Protocol) -> [Entry; 2] {
    let nets = [
        IpNet::V4(ipnet::Ipv4Net::default()),
        IpNet::V6(ipnet::Ipv6Net::default()),
    ];
    nets.map(|net| Entry {
        name: name.to_owned(),
        peer: Peer::Net(net),
        ports: ports.to_vec(),
        protocol: Some(protocol),
    })
}
