//! Rules of others, followed with a packet, as far as they ask for devices, family and state, and of a packet to the
//! server itself for its address and port. A rule that asks for anything else counts as not meeting it.

use std::fmt;
use std::net::IpAddr;

use crate::NetError;
use crate::link::GROUP;
use crate::netlink::{Netlink, Refusal, attributes, string};
use crate::nftables::dump::{self, FoundChain, FoundRule, number};
use crate::nftables::{At, TABLE};

/// How deep chains call each other (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: u32 = 16;
/// `RTN_LOCAL`, rtnetlink(7).
const LOCAL: u32 = 2;

/// Who keeps the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Docker: it keeps a chain for the administrator.
    Docker,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// iptables with nftables behind it.
    Iptables,
    /// iptables without nftables.
    Legacy,
    /// A table of the administrator's own.
    Nft,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::Docker => "Docker",
            Owner::Firewalld => "firewalld",
            Owner::Ufw => "ufw",
            Owner::Iptables | Owner::Legacy => "iptables",
            Owner::Nft => "nftables",
        })
    }
}

/// All chains of the server.
pub(super) fn chains() -> Result<Vec<FoundChain>, NetError> {
    let look = |refusal: Refusal| refusal.during("read the rules of the server");
    let mut socket = Netlink::netfilter().map_err(|error| look(error.into()))?;
    dump::chains(&mut socket).map_err(look)
}

/// The base chains of others at a hook.
pub(super) fn hooked(chains: &[FoundChain], at: At) -> impl Iterator<Item = &FoundChain> {
    let own = |chain: &FoundChain| chain.family == 1 && chain.table == TABLE;
    let hook = Some(at as u32);
    chains
        .iter()
        .filter(move |chain| chain.hook == hook && !own(chain))
}

/// Who keeps the rules of a base chain.
pub(super) fn owner(chains: &[FoundChain], chain: &FoundChain) -> Owner {
    let beside = |prefix: &str| {
        let mut all = chains.iter();
        all.any(|one| {
            one.family == chain.family && one.table == chain.table && one.name.starts_with(prefix)
        })
    };
    match chain.table.as_str() {
        "firewalld" => Owner::Firewalld,
        _ if beside("ufw") => Owner::Ufw,
        _ if chain.name == "FORWARD" && beside("DOCKER-USER") => Owner::Docker,
        "filter" if matches!(chain.name.as_str(), "FORWARD" | "INPUT") => Owner::Iptables,
        _ => Owner::Nft,
    }
}

/// A device that a packet comes in or goes out by.
pub(super) struct End {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) group: u32,
}

impl End {
    /// The server's end of the link of an instance.
    pub(super) fn instance() -> End {
        End {
            index: 1_000_000,
            name: "m-doctor-0000".into(),
            group: GROUP,
        }
    }
}

/// What is known of a packet, the first one of a connection.
pub(super) struct Packet<'a> {
    pub(super) from: &'a End,
    /// None for one to the server itself.
    pub(super) to: Option<&'a End>,
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub(super) family: u8,
    /// Where to, when that is known.
    pub(super) service: Option<Service>,
}

/// A service of the server itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) address: IpAddr,
    /// 6, 17.
    pub(super) protocol: u8,
    pub(super) port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
}

/// Whether a base chain drops the packet.
pub(super) fn drops(chains: &[FoundChain], base: &FoundChain, packet: &Packet<'_>) -> bool {
    match follow(chains, base, packet, DEEPEST) {
        Some(Verdict::Accept) => false,
        Some(Verdict::Drop) => true,
        None => base.drops,
    }
}

/// What a chain says of a packet; none when it comes to its end.
fn follow(
    chains: &[FoundChain],
    chain: &FoundChain,
    packet: &Packet<'_>,
    depth: u32,
) -> Option<Verdict> {
    for rule in &chain.rules {
        match judge(rule, packet) {
            Action::Next => {}
            Action::Return => return None,
            Action::End(verdict) => return Some(verdict),
            Action::Go { to, back } => {
                let same = |other: &&FoundChain| {
                    other.family == chain.family && other.table == chain.table && other.name == to
                };
                let said = match chains.iter().find(same) {
                    Some(other) if depth > 0 => follow(chains, other, packet, depth - 1),
                    _ => None,
                };
                if said.is_some() || !back {
                    return said;
                }
            }
        }
    }
    None
}

enum Action {
    Next,
    Return,
    End(Verdict),
    Go { to: String, back: bool },
}

/// Follows one rule. What cannot be known of the packet makes the rule one that does not meet it.
fn judge(rule: &FoundRule, packet: &Packet<'_>) -> Action {
    let mut registers = Registers::default();
    for (name, data) in rule {
        let value = |kind: u16| {
            attributes(data)
                .find(|(found, _)| *found == kind)
                .map(|(_, v)| v)
        };
        let count = |kind: u16| value(kind).and_then(number);
        match name.as_str() {
            "counter" | "log" | "notrack" => {}
            // It sets something of the packet.
            "meta" if value(3).is_some() => {}
            "meta" => match (count(1), count(2)) {
                (Some(to), Some(key)) => registers.put(to, packet.meta(key)),
                _ => return Action::Next,
            },
            // NFT_CT_STATE: the connection is new.
            "ct" if count(2) == Some(0) => {
                registers.put(
                    count(1).unwrap_or_default(),
                    Some(8u32.to_ne_bytes().to_vec()),
                );
            }
            // NFT_FIB_RESULT_ADDRTYPE of the destination.
            "fib" if count(2) == Some(3) && count(3).is_some_and(|flags| flags & 2 != 0) => {
                let local = packet.service.map(|_| LOCAL.to_ne_bytes().to_vec());
                registers.put(count(1).unwrap_or_default(), local);
            }
            "payload" => {
                let (Some(to), Some(base), Some(offset), Some(length)) =
                    (count(1), count(2), count(3), count(4))
                else {
                    return Action::Next;
                };
                registers.put(to, packet.payload(base, offset, length));
            }
            "match" => {
                let (name, info) = (value(1).map(string), value(3).unwrap_or_default());
                if !packet.matches(&name.unwrap_or_default(), info) {
                    return Action::Next;
                }
            }
            "bitwise" => {
                let operand = |kind: u16| Some(datum(value(kind)?)?.to_vec());
                let (Some(from), Some(to), Some(mask), Some(xor)) =
                    (count(1), count(2), operand(4), operand(5))
                else {
                    return Action::Next;
                };
                let masked = registers.get(from, mask.len()).map(|bytes| {
                    let masks = mask.iter().zip(&xor);
                    bytes
                        .iter()
                        .zip(masks)
                        .map(|(byte, (mask, xor))| byte & mask ^ xor)
                        .collect()
                });
                registers.put(to, masked);
            }
            "cmp" => {
                let wanted = value(3).and_then(datum).unwrap_or_default();
                let Some(bytes) = count(1).and_then(|from| registers.get(from, wanted.len()))
                else {
                    return Action::Next;
                };
                let meets = match count(2) {
                    Some(0) => bytes == wanted,
                    Some(1) => bytes != wanted,
                    _ => false,
                };
                if !meets {
                    return Action::Next;
                }
            }
            "reject" => return Action::End(Verdict::Drop),
            // The extensions of iptables.
            "target" if value(1).map(string).as_deref() == Some("REJECT") => {
                return Action::End(Verdict::Drop);
            }
            "immediate" => match value(2).and_then(verdict) {
                Some(action) => return action,
                None => return Action::Next,
            },
            _ => return Action::Next,
        }
    }
    Action::Next
}

/// The value of `NFTA_DATA_VALUE`.
fn datum(data: &[u8]) -> Option<&[u8]> {
    attributes(data)
        .find(|(kind, _)| *kind == 1)
        .map(|(_, value)| value)
}

fn verdict(data: &[u8]) -> Option<Action> {
    let (_, verdict) = attributes(data).find(|(kind, _)| *kind == 2)?;
    let (mut code, mut chain) = (0, String::new());
    for (kind, value) in attributes(verdict) {
        match kind {
            1 => code = number(value)? as i32,
            2 => chain = string(value),
            _ => {}
        }
    }
    Some(match code {
        0 => Action::End(Verdict::Drop),
        1 => Action::End(Verdict::Accept),
        // NFT_JUMP, NFT_GOTO, NFT_RETURN.
        -3 => Action::Go {
            to: chain,
            back: true,
        },
        -4 => Action::Go {
            to: chain,
            back: false,
        },
        -5 => Action::Return,
        _ => Action::Next,
    })
}

impl Packet<'_> {
    /// By the numbers of `enum nft_meta_keys`; none for what is not known.
    fn meta(&self, key: u32) -> Option<Vec<u8>> {
        let index = |end: &End| end.index.to_ne_bytes().to_vec();
        let group = |end: &End| end.group.to_ne_bytes().to_vec();
        let name = |end: &End| {
            let mut name = end.name.as_bytes().to_vec();
            name.resize(16, 0);
            name
        };
        match key {
            4 => Some(index(self.from)),
            5 => self.to.map(index),
            6 => Some(name(self.from)),
            7 => self.to.map(name),
            15 => Some(vec![self.family]),
            16 => self.service.map(|service| vec![service.protocol]),
            21 => Some(group(self.from)),
            22 => self.to.map(group),
            _ => None,
        }
    }

    /// The destination and its port; none for what is not known.
    fn payload(&self, base: u32, offset: u32, length: u32) -> Option<Vec<u8>> {
        let service = self.service?;
        match (base, offset, length, service.address) {
            (1, 9, 1, IpAddr::V4(_)) | (1, 6, 1, IpAddr::V6(_)) => Some(vec![service.protocol]),
            (1, 16, 4, IpAddr::V4(address)) => Some(address.octets().to_vec()),
            (1, 24, 16, IpAddr::V6(address)) => Some(address.octets().to_vec()),
            (2, 2, 2, _) => Some(service.port.to_be_bytes().to_vec()),
            _ => None,
        }
    }

    /// Extensions of iptables: `struct xt_udp`, `struct xt_tcp`, `struct xt_addrtype_info_v1`. What cannot be known
    /// does not match.
    fn matches(&self, name: &str, info: &[u8]) -> bool {
        let Some(service) = self.service else {
            return false;
        };
        let word = |at: usize| {
            let bytes = info.get(at..at + 2)?.first_chunk()?;
            Some(u16::from_ne_bytes(*bytes))
        };
        let inverted = match (name, service.protocol) {
            ("udp", 17) => info.get(8),
            // Behind the ports: an option, the flags' mask and value.
            ("tcp", 6) => info.get(11).filter(|_| info.get(8..11) == Some(&[0; 3])),
            ("addrtype", _) => {
                let types = (word(0), word(2), info.get(4..8));
                return matches!(types, (Some(0), Some(to), Some([0, 0, 0, 0])) if to & (1 << LOCAL) != 0);
            }
            _ => return false,
        };
        let (Some(0), Some(first), Some(last)) = (inverted, word(4), word(6)) else {
            return false;
        };
        // Where it comes from is not known: only a rule for every port of that end meets it.
        word(0) == Some(0) && word(2) == Some(u16::MAX) && (first..=last).contains(&service.port)
    }
}

/// The sixteen registers of 32 bits, also known as four of 128.
#[derive(Default)]
struct Registers([Option<Vec<u8>>; 16]);

impl Registers {
    fn at(register: u32) -> usize {
        match register {
            1..=4 => (register as usize - 1) * 4,
            other => other.saturating_sub(8) as usize,
        }
    }

    fn put(&mut self, register: u32, value: Option<Vec<u8>>) {
        if let Some(slot) = self.0.get_mut(Registers::at(register)) {
            *slot = value;
        }
    }

    /// The first bytes of what was put there.
    fn get(&self, register: u32, length: usize) -> Option<&[u8]> {
        self.0.get(Registers::at(register))?.as_ref()?.get(..length)
    }
}
