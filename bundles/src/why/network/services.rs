//! Sets of ports and protocols: what an entry accepts, what a question asks for, what both have in common.

use crate::network::{Entry, PortRange, Protocol};

/// Ports of TCP and UDP, and whether ICMP and every other protocol, that something is about.
#[derive(Debug, Default)]
pub(super) struct Services {
    tcp: Vec<PortRange>,
    udp: Vec<PortRange>,
    icmp: bool,
    other: bool,
}

const EVERY_PORT: PortRange = PortRange {
    first: 0,
    last: u16::MAX,
};

impl Services {
    pub(super) fn of(entry: &Entry) -> Services {
        let ports = match entry.ports.as_slice() {
            [] => vec![EVERY_PORT],
            ports => ports.to_vec(),
        };
        let every = entry.protocol.is_none() && entry.ports.is_empty();
        let is = |protocol| entry.protocol.is_none() || entry.protocol == Some(protocol);
        Services {
            tcp: if is(Protocol::Tcp) {
                ports.clone()
            } else {
                Vec::new()
            },
            udp: if is(Protocol::Udp) { ports } else { Vec::new() },
            icmp: every || entry.protocol == Some(Protocol::Icmp),
            other: every,
        }
    }

    pub(super) fn within(&self, other: &Services) -> Services {
        Services {
            tcp: common(&self.tcp, &other.tcp),
            udp: common(&self.udp, &other.udp),
            icmp: self.icmp && other.icmp,
            other: self.other && other.other,
        }
    }

    pub(super) fn add(&mut self, more: &Services) {
        self.tcp.extend(&more.tcp);
        self.udp.extend(&more.udp);
        self.icmp |= more.icmp;
        self.other |= more.other;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && !self.icmp && !self.other
    }

    /// Whether one of TCP and UDP has all of these.
    pub(super) fn has_ports(&self, wanted: &[PortRange]) -> bool {
        [&self.tcp, &self.udp]
            .iter()
            .any(|ports| wanted.iter().all(|range| is_covered(ports, *range)))
    }
}

fn common(some: &[PortRange], others: &[PortRange]) -> Vec<PortRange> {
    let mut found = Vec::new();
    for a in some {
        for b in others {
            let (first, last) = (a.first.max(b.first), a.last.min(b.last));
            if first <= last {
                found.push(PortRange { first, last });
            }
        }
    }
    found
}

fn is_covered(ports: &[PortRange], wanted: PortRange) -> bool {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut next = u32::from(wanted.first);
    for range in sorted {
        if u32::from(range.first) <= next {
            next = next.max(u32::from(range.last) + 1);
        }
    }
    next > u32::from(wanted.last)
}
