//! Sets of ports and protocols: what an entry names, what a question asks for, what both have in common.

use super::{Entry, PortRange, Protocol};

/// Ports of TCP and UDP, and whether ICMP and every other protocol, that something is about.
#[derive(Debug, Default)]
pub(crate) struct Services {
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
    pub(crate) fn of(entry: &Entry) -> Services {
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

    pub(crate) fn within(&self, other: &Services) -> Services {
        Services {
            tcp: common(&self.tcp, &other.tcp),
            udp: common(&self.udp, &other.udp),
            icmp: self.icmp && other.icmp,
            other: self.other && other.other,
        }
    }

    pub(crate) fn add(&mut self, more: &Services) {
        self.tcp.extend(&more.tcp);
        self.udp.extend(&more.udp);
        self.icmp |= more.icmp;
        self.other |= more.other;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty() && !self.icmp && !self.other
    }

    /// What of it `other` does not have.
    pub(crate) fn without(&self, other: &Services) -> Services {
        Services {
            tcp: rest(&self.tcp, &other.tcp),
            udp: rest(&self.udp, &other.udp),
            icmp: self.icmp && !other.icmp,
            other: self.other && !other.other,
        }
    }

    /// Whether one of TCP and UDP has all of these.
    pub(crate) fn has_ports(&self, wanted: &[PortRange]) -> bool {
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

/// Those of `ports` that `gone` does not have.
fn rest(ports: &[PortRange], gone: &[PortRange]) -> Vec<PortRange> {
    let mut gone = gone.to_vec();
    gone.sort_unstable();
    let mut left = Vec::new();
    for range in ports {
        let mut next = u32::from(range.first);
        let last = u32::from(range.last);
        let mut keep = |first: u32, end: u32| {
            if let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(end))
                && first <= last
            {
                left.push(PortRange { first, last });
            }
        };
        for taken in &gone {
            let (first, end) = (u32::from(taken.first), u32::from(taken.last));
            if end < next || first > last {
                continue;
            }
            if let Some(before) = first.checked_sub(1) {
                keep(next, before);
            }
            next = next.max(end + 1);
        }
        keep(next, last);
    }
    left
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_away_is_gone_and_nothing_else() {
        let ports = |text: &str| -> Vec<PortRange> {
            let ranges = text.split(',').filter(|part| !part.is_empty());
            let number = |text: &str| text.parse().unwrap();
            let range = ranges.map(|part| match part.split_once('-') {
                Some((first, last)) => (number(first), number(last)),
                None => (number(part), number(part)),
            });
            range
                .map(|(first, last)| PortRange { first, last })
                .collect()
        };
        for (from, gone, left) in [
            ("0-65535", "", "0-65535"),
            ("0-65535", "0-65535", ""),
            ("0-65535", "25", "0-24,26-65535"),
            ("0-65535", "0,65535", "1-65534"),
            ("10-20", "15-30,5-12", "13-14"),
            ("10-20,30", "30,1-9", "10-20"),
            ("10-20", "12-14,13-16,15", "10-11,17-20"),
        ] {
            assert_eq!(
                rest(&ports(from), &ports(gone)),
                ports(left),
                "{from} {gone}"
            );
        }
    }
}
