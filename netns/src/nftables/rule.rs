//! Rules: each word of the nft(8) syntax together with the kernel's expressions for it.

mod statements;
mod translate;

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;

use super::Shape;
use super::words::{End, Expr, Family, Selector, icmp_word, octets, protocol_word};

pub(super) const META_OIF: u32 = 5;
const META_IIF: u32 = 4;
const META_IIFNAME: u32 = 6;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const META_IIFGROUP: u32 = 21;
const META_OIFGROUP: u32 = 22;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
/// `IPPROTO_ROUTING`.
const ROUTING_HEADER: u8 = 43;
/// `IPPROTO_FRAGMENT`.
const FRAGMENT_HEADER: u8 = 44;
/// The first register, by its 16-byte name; `NFT_REG32_nn` is 8 + nn.
const FIRST: u32 = 1;
const REG32: u32 = 8;

/// One rule, built word by word; prints as nft(8) would.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    text: String,
    exprs: Vec<Expr>,
    family_known: bool,
    /// nft says `tcp dport` where the protocol is known, `th dport` where it is not.
    transport: Option<&'static str>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Rule {
    pub(crate) fn new() -> Rule {
        Rule::default()
    }

    pub(super) fn exprs(&self) -> &[Expr] {
        &self.exprs
    }

    /// The same rule with other sets: some of those it names are there under another name.
    pub(super) fn with_sets(&self, names: &BTreeMap<String, String>) -> Rule {
        let mut rule = self.clone();
        for expr in &mut rule.exprs {
            if let Expr::Lookup { set, .. } | Expr::Update { set, .. } = expr
                && let Some(name) = names.get(set)
            {
                set.clone_from(name);
            }
        }
        let word = |word: &str| {
            let name = word.strip_prefix('@').and_then(|set| names.get(set));
            name.map_or_else(|| word.to_owned(), |name| format!("@{name}"))
        };
        rule.text = rule.text.split(' ').map(word).collect::<Vec<_>>().join(" ");
        rule
    }

    fn word(&mut self, word: impl fmt::Display) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&word.to_string());
    }

    fn compare(&mut self, equal: bool, value: &[u8]) {
        self.exprs.push(Expr::Cmp {
            from: FIRST,
            equal,
            value: value.to_vec(),
        });
    }

    fn meta(&mut self, key: u32, equal: bool, value: &[u8]) {
        self.exprs.push(Expr::Meta { key, to: FIRST });
        self.compare(equal, value);
    }

    /// nft adds this itself in front of `ip` and `ip6` words.
    fn imply_family(&mut self, family: Family) {
        if !self.family_known {
            self.meta(META_NFPROTO, true, &[family.number()]);
            self.family_known = true;
        }
    }

    pub(crate) fn family(mut self, family: Family) -> Rule {
        self.word(match family {
            Family::V4 => "meta nfproto ipv4",
            Family::V6 => "meta nfproto ipv6",
        });
        self.imply_family(family);
        self
    }

    /// The loopback device always has number 1.
    pub(crate) fn out_by_loopback(mut self) -> Rule {
        self.word("oif \"lo\"");
        self.meta(META_OIF, true, &1u32.to_ne_bytes());
        self
    }

    pub(crate) fn in_by_loopback(mut self) -> Rule {
        self.word("iif \"lo\"");
        self.meta(META_IIF, true, &1u32.to_ne_bytes());
        self
    }

    pub(crate) fn in_by(mut self, device: &str) -> Rule {
        self.word(format_args!("iifname \"{device}\""));
        let mut name = device.as_bytes().to_vec();
        name.resize(16, 0);
        self.meta(META_IIFNAME, true, &name);
        self
    }

    pub(crate) fn in_by_group(mut self, group: u32, equal: bool) -> Rule {
        self.word(format_args!(
            "iifgroup {}{group}",
            if equal { "" } else { "!= " }
        ));
        self.meta(META_IIFGROUP, equal, &group.to_ne_bytes());
        self
    }

    pub(crate) fn out_by_group(mut self, group: u32, equal: bool) -> Rule {
        self.word(format_args!(
            "oifgroup {}{group}",
            if equal { "" } else { "!= " }
        ));
        self.meta(META_OIFGROUP, equal, &group.to_ne_bytes());
        self
    }

    /// `tcp`, `udp`, `icmp`, ...
    pub(crate) fn protocol(mut self, number: u8) -> Rule {
        self.word(format_args!("meta l4proto {}", protocol_word(number)));
        self.meta(META_L4PROTO, true, &[number]);
        self
    }

    /// TCP or UDP, which the words that follow imply.
    pub(crate) fn transport(mut self, number: u8) -> Rule {
        self.transport = Some(if number == 6 { "tcp" } else { "udp" });
        self.meta(META_L4PROTO, true, &[number]);
        self
    }

    pub(crate) fn not_protocol(mut self, number: u8) -> Rule {
        self.word(format_args!("meta l4proto != {}", protocol_word(number)));
        self.meta(META_L4PROTO, false, &[number]);
        self
    }

    /// Anything of TCP but the first packet of a connection.
    pub(crate) fn tcp_not_first(mut self) -> Rule {
        self.word("tcp flags != syn / syn,ack");
        self.meta(META_L4PROTO, true, &[6]);
        self.exprs.push(Expr::Payload {
            base: BASE_TRANSPORT,
            offset: 13,
            length: 1,
            to: FIRST,
        });
        self.exprs.push(Expr::Bitwise {
            register: FIRST,
            mask: vec![0x12],
        });
        self.compare(false, &[0x02]);
        self
    }

    /// A type of ICMP (of ICMPv6 in family V6).
    pub(crate) fn icmp(mut self, family: Family, kind: u8) -> Rule {
        let (word, protocol) = match family {
            Family::V4 => ("icmp", 1),
            Family::V6 => ("icmpv6", 58),
        };
        self.word(format_args!("{word} type {}", icmp_word(family, kind)));
        self.imply_family(family);
        self.meta(META_L4PROTO, true, &[protocol]);
        self.exprs.push(Expr::Payload {
            base: BASE_TRANSPORT,
            offset: 0,
            length: 1,
            to: FIRST,
        });
        self.compare(true, &[kind]);
        self
    }

    /// The address of `end` is in `net`, or is not.
    pub(crate) fn address(mut self, end: End, net: &IpNet, equal: bool) -> Rule {
        let family = Family::of(&net.addr());
        let full = u32::from(net.prefix_len()) == family.length() * 8;
        let shown = if full {
            net.addr().to_string()
        } else {
            net.trunc().to_string()
        };
        let not = if equal { "" } else { "!= " };
        self.word(format_args!(
            "{} {} {not}{shown}",
            family.word(),
            end.address_word()
        ));
        self.imply_family(family);
        let (offset, length) = (end.address_offset(family), family.length());
        self.exprs.push(Expr::Payload {
            base: BASE_NETWORK,
            offset,
            length,
            to: FIRST,
        });
        if !full {
            self.exprs.push(Expr::Bitwise {
                register: FIRST,
                mask: octets(&net.netmask()),
            });
        }
        self.compare(equal, &octets(&net.network()));
        self
    }

    /// The source is not in `set`.
    pub(crate) fn source_not_in(mut self, family: Family, set: &str) -> Rule {
        self.word(format_args!("{} saddr != @{set}", family.word()));
        self.imply_family(family);
        let (offset, length) = (End::Source.address_offset(family), family.length());
        self.exprs.push(Expr::Payload {
            base: BASE_NETWORK,
            offset,
            length,
            to: FIRST,
        });
        self.exprs.push(Expr::Lookup {
            set: set.into(),
            from: FIRST,
            invert: true,
        });
        self
    }

    /// Loads the key of a packet and returns its words.
    fn select(&mut self, selector: Selector, shape: Shape) -> String {
        let family = shape.family();
        self.imply_family(family);
        let (Selector::Address(end)
        | Selector::Service(end)
        | Selector::Other(end)
        | Selector::Flow(end)) = selector;
        let second = REG32 + family.length() / 4;
        let transport = |offset, to| Expr::Payload {
            base: BASE_TRANSPORT,
            offset,
            length: 2,
            to,
        };
        let (offset, length) = (end.address_offset(family), family.length());
        self.exprs.push(Expr::Payload {
            base: BASE_NETWORK,
            offset,
            length,
            to: FIRST,
        });
        let mut words = format!("{} {}", family.word(), end.address_word());
        match selector {
            Selector::Address(_) => {}
            Selector::Service(_) | Selector::Other(_) => {
                self.exprs.push(Expr::Meta {
                    key: META_L4PROTO,
                    to: second,
                });
                let other = matches!(selector, Selector::Other(_));
                self.exprs
                    .push(transport(if other { 0 } else { 2 }, second + 1));
                let word = self.transport.unwrap_or("th");
                // As nft has it: the first two bytes are called source port whatever they are.
                let port = if other { "sport" } else { "dport" };
                words += &format!(" . meta l4proto . {word} {port}");
            }
            Selector::Flow(_) => {
                self.exprs.push(transport(end.port_offset(), second));
                self.exprs
                    .push(transport(end.other().port_offset(), second + 1));
                words += &format!(
                    " . udp {} . udp {}",
                    end.port_word(),
                    end.other().port_word()
                );
            }
        }
        words
    }

    /// The header says where the packet shall go by: IPv4 options (LSRR, SSRR; any of them), an IPv6 routing header.
    pub(crate) fn routed_by_source(mut self, family: Family) -> Rule {
        self.imply_family(family);
        match family {
            Family::V4 => {
                self.word("ip hdrlength != 5");
                self.exprs.push(Expr::Payload {
                    base: BASE_NETWORK,
                    offset: 0,
                    length: 1,
                    to: FIRST,
                });
                self.exprs.push(Expr::Bitwise {
                    register: FIRST,
                    mask: vec![0x0f],
                });
                self.compare(false, &[5]);
            }
            Family::V6 => {
                self.word("exthdr rt exists");
                self.exprs.push(Expr::Header {
                    kind: ROUTING_HEADER,
                    offset: None,
                    to: FIRST,
                });
                self.compare(true, &[1]);
            }
        }
        self
    }

    /// A piece of an IPv6 packet, not the first one.
    pub(crate) fn later_fragment6(mut self) -> Rule {
        self.word("frag frag-off != 0");
        self.imply_family(Family::V6);
        self.exprs.push(Expr::Header {
            kind: FRAGMENT_HEADER,
            offset: Some(2),
            to: FIRST,
        });
        self.exprs.push(Expr::Bitwise {
            register: FIRST,
            mask: vec![0xff, 0xf8],
        });
        self.compare(false, &[0, 0]);
        self
    }

    /// The key of the packet is in `set`.
    pub(crate) fn found_in(mut self, selector: Selector, shape: Shape, set: &str) -> Rule {
        let words = self.select(selector, shape);
        self.word(format_args!("{words} @{set}"));
        self.exprs.push(Expr::Lookup {
            set: set.into(),
            from: FIRST,
            invert: false,
        });
        self
    }

    /// The way back to the source does not go over the device the packet came from.
    pub(crate) fn source_elsewhere(mut self) -> Rule {
        self.word("fib saddr . iif oif missing");
        self.exprs.push(Expr::Fib { to: FIRST });
        self.compare(true, &0u32.to_ne_bytes());
        self
    }

    /// Conntrack knows the packet as neither a reply nor related to one.
    pub(crate) fn not_established(mut self) -> Rule {
        self.word("ct state & (established | related) == 0x0");
        self.exprs.push(Expr::CtState { to: FIRST });
        self.exprs.push(Expr::Bitwise {
            register: FIRST,
            mask: 6u32.to_ne_bytes().to_vec(),
        });
        self.compare(true, &0u32.to_ne_bytes());
        self
    }

    /// The port of `end`; behind [`Rule::transport`].
    pub(crate) fn port(mut self, end: End, port: u16) -> Rule {
        let protocol = self.transport.unwrap_or("th");
        self.word(format_args!("{protocol} {} {port}", end.port_word()));
        self.exprs.push(Expr::Payload {
            base: BASE_TRANSPORT,
            offset: end.port_offset(),
            length: 2,
            to: FIRST,
        });
        self.compare(true, &port.to_be_bytes());
        self
    }

    /// A port of `end` from `first` to `last`; behind [`Rule::transport`].
    pub(crate) fn ports(mut self, end: End, first: u16, last: u16) -> Rule {
        let protocol = self.transport.unwrap_or("th");
        self.word(format_args!(
            "{protocol} {} {first}-{last}",
            end.port_word()
        ));
        self.exprs.push(Expr::Payload {
            base: BASE_TRANSPORT,
            offset: end.port_offset(),
            length: 2,
            to: FIRST,
        });
        self.exprs.push(Expr::Between {
            from: FIRST,
            first: first.to_be_bytes().to_vec(),
            last: last.to_be_bytes().to_vec(),
        });
        self
    }

    /// Conntrack knows the packet as a reply, or related to one.
    pub(crate) fn established(mut self) -> Rule {
        self.word("ct state established,related");
        self.exprs.push(Expr::CtState { to: FIRST });
        self.exprs.push(Expr::Bitwise {
            register: FIRST,
            mask: 6u32.to_ne_bytes().to_vec(),
        });
        self.compare(false, &0u32.to_ne_bytes());
        self
    }
}
