//! Questions for names, inside the sandbox.
//!
//! Whatever the application thinks its name server is, it asks the server's resolver
//! ([`crate::resolver`]): packets to port 53 go to [`RESOLVER`] or [`RESOLVER6`] and a port of its own, so that it is in
//! nobody's way who serves port 53 on the server. Only that traffic is seen by conntrack, which everything else would
//! pay for. With policy accept only what is sent to these addresses themselves goes there, unless the reject list has
//! names: those shall not be had from another name server. A name server that an accept entry names with port 53 is asked
//! directly.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use metactl_bundles::network::{Entry, Peer, Protocol, RESOLVER, RESOLVER6, Verdict};

use super::sets::cells_of_port;
use super::{Compiler, Direction, digit};
use crate::nftables::{At, Chain, End, Family, Hook, Kind, Rule, Ruleset, Selector, Set, Shape};

/// Where the resolver listens, at [`RESOLVER`] and [`RESOLVER6`], by UDP and TCP. Below 1024, so that nobody but root can stand in
/// for it; no service has this number.
pub const RESOLVER_PORT: u16 = 253;

const DNS: u16 = 53;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the resolver is asked.
fn resolver(family: Family) -> IpAddr {
    match family {
        Family::V4 => RESOLVER.into(),
        Family::V6 => RESOLVER6.into(),
    }
}

/// The name servers that are asked directly.
fn direct_set(family: Family) -> String {
    format!("dns{}", digit(family))
}

impl Compiler<'_> {
    /// Questions count for no entry: they are accepted before the lists.
    pub(super) fn dns_out(&self) -> Vec<Rule> {
        if self.open(Direction::Out) {
            return Vec::new();
        }
        let accept = |family, protocol| {
            let to = IpNet::from(resolver(family));
            let rule = Rule::new().address(End::Destination, &to, true);
            let rule = rule.transport(protocol);
            rule.port(End::Destination, RESOLVER_PORT).accept()
        };
        self.families()
            .flat_map(|family| [accept(family, UDP), accept(family, TCP)])
            .collect()
    }

    /// What conntrack knows is an answer to a question. (Of TCP everything but a first packet passes anyway.)
    pub(super) fn dns_in(&self) -> Option<Rule> {
        let needed = !self.open(Direction::In);
        needed.then(|| Rule::new().protocol(UDP).established().accept())
    }

    /// The chains that lead questions to the resolver.
    pub(super) fn add_dns(&self, result: &mut Ruleset) {
        let (mut track, mut answers) = (
            vec![Rule::new().out_by_loopback().no_track().accept()],
            Vec::new(),
        );
        let mut questions = Vec::new();
        for family in self.families() {
            if let Some(set) = self.direct(family) {
                let shape = Shape::Service(family);
                let rule = Rule::new();
                let rule = rule.found_in(Selector::Service(End::Destination), shape, &set.name);
                track.push(rule.no_track().accept());
                result.sets.push(set);
            }
            for protocol in [UDP, TCP] {
                track.push(self.question(family, protocol).accept());
                let rule = self.question(family, protocol);
                questions.push(rule.redirect(resolver(family), RESOLVER_PORT));
            }
            let from = IpNet::from(resolver(family));
            answers.push(Rule::new().address(End::Source, &from, true).accept());
        }
        track.push(Rule::new().no_track());
        answers.push(Rule::new().no_track());
        let hook = |kind, at, priority| Hook {
            kind,
            at,
            priority,
            drop: false,
        };
        for (name, hook, rules) in [
            ("track_out", hook("filter", At::Output, -300), track),
            ("track_in", hook("filter", At::Prerouting, -300), answers),
            ("questions", hook("nat", At::Output, -100), questions),
        ] {
            result.chains.push(Chain {
                name: name.into(),
                hook: Some(hook),
                rules,
            });
        }
    }

    fn question(&self, family: Family, protocol: u8) -> Rule {
        let rule = match self.leads_all_questions() {
            false => {
                let to = IpNet::from(resolver(family));
                Rule::new().address(End::Destination, &to, true)
            }
            true => Rule::new().family(family),
        };
        rule.transport(protocol).port(End::Destination, DNS)
    }

    /// Whatever name server is asked, the resolver answers.
    fn leads_all_questions(&self) -> bool {
        let out = &self.spec.out;
        let named = |entry: &Entry| entry.peer.written_name().is_some();
        out.policy != Verdict::Accept || out.reject.iter().any(named)
    }

    fn direct(&self, family: Family) -> Option<Set> {
        if !self.leads_all_questions() {
            return None;
        }
        let named =
            |entry: &&Entry| entry.names_port(DNS) && entry.protocol != Some(Protocol::Icmp);
        let mut elements = Vec::new();
        for entry in self.spec.out.accept.iter().filter(named) {
            if let Peer::Net(net) = &entry.peer
                && Family::of(&net.addr()) == family
            {
                elements.extend(cells_of_port(net, entry, DNS));
            }
        }
        let elements = super::sets::without_overlaps(elements);
        (!elements.is_empty()).then(|| Set {
            name: direct_set(family),
            shape: Shape::Service(family),
            kind: Kind::Interval,
            elements,
        })
    }
}

/// Why no name leads to this address, whatever a name server says (DNS rebinding): it is the machine's own, or
/// means something else on every link, like the metadata service of a cloud (169.254.169.254). Who wants it
/// lists the address itself.
pub(crate) fn rebinding(address: &IpAddr) -> Option<&'static str> {
    let v4 = match address {
        IpAddr::V4(v4) => *v4,
        IpAddr::V6(v6) => match inner(v6) {
            Some(v4) => v4,
            None => return rebinding6(v6),
        },
    };
    match v4.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [224..=239, ..] => Some("multicast"),
        [240..=255, ..] => Some("broadcast or reserved"),
        _ => None,
    }
}

fn rebinding6(address: &Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        _ if *address == RESOLVER6 => Some("the resolver's"),
        // The metadata service of one cloud, in a range that others use for themselves.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254] => Some("a metadata service"),
        _ => None,
    }
}

/// The IPv4 address in an IPv6 one: mapped and compatible (RFC 4291, 2.5.5), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn inner(address: &Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let v4 = |a: u16, b: u16| {
        let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
        std::net::Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0..=1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, a, b] => Some(v4(a, b)),
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] => Some(v4(a, b)),
        [0x2002, a, b, ..] => Some(v4(a, b)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_to_these() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::1",
            "fd00:ec2::254",
            "fd9b:6be1:3d5a::53",
        ] {
            assert!(rebinding(&text.parse().unwrap()).is_some(), "{text}");
        }
        for text in [
            "10.1.2.3",
            "198.51.100.1",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ] {
            assert_eq!(rebinding(&text.parse().unwrap()), None, "{text}");
        }
    }
}
