//! Rules of others at the forward hook: a packet that any chain drops is dropped, whatever metactl's own table says.
//!
//! Each base chain is followed with the first packet of a connection from an instance, and of one to an instance, as
//! far as its rules ask for devices, family and state. A rule that asks for anything else counts as not meeting it: so
//! only what would drop all connections is a finding.

use std::fmt;

use super::{Finding, has_ipv6};
use crate::NetError;
use crate::facts::HostFacts;
use crate::link::GROUP;
use crate::netlink::{Netlink, Refusal, attributes, string};
use crate::nftables::dump::{self, FoundChain, FoundRule, number};
use crate::nftables::{At, TABLE};

/// How deep chains call each other (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: u32 = 16;

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

pub(super) fn examine(facts: &HostFacts) -> Result<Vec<Finding>, NetError> {
    let look = |refusal: Refusal| refusal.during("read the rules of the server");
    let mut socket = Netlink::netfilter().map_err(|error| look(error.into()))?;
    let chains = dump::chains(&mut socket).map_err(look)?;
    let at_forward = |chain: &&FoundChain| {
        chain.hook == Some(At::Forward as u32) && !(chain.family == 1 && chain.table == TABLE)
    };
    let finding = |chain: &FoundChain| {
        let stopped: Vec<Direction> = Direction::ALL
            .into_iter()
            .filter(|direction| stops(&chains, chain, facts, *direction))
            .collect();
        (!stopped.is_empty()).then(|| describe(&chains, chain, &stopped))
    };
    Ok(chains
        .iter()
        .filter(at_forward)
        .filter_map(finding)
        .collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    From,
    To,
}

impl Direction {
    const ALL: [Direction; 2] = [Direction::From, Direction::To];
}

/// Whether the chain drops the packet, whichever uplink it takes.
fn stops(
    chains: &[FoundChain],
    base: &FoundChain,
    facts: &HostFacts,
    direction: Direction,
) -> bool {
    let families: &[u8] = match base.family {
        1 if has_ipv6(facts) => &[2, 10],
        1 | 2 => &[2],
        _ if has_ipv6(facts) => &[10],
        _ => &[],
    };
    let ours = End {
        index: 1_000_000,
        name: "m-doctor-0000".into(),
        group: GROUP,
    };
    let mut uplinks = facts.uplinks.iter().map(|uplink| End {
        index: uplink.index,
        name: uplink.name.clone(),
        group: 0,
    });
    uplinks.any(|uplink| {
        families.iter().any(|family| {
            let (from, to) = match direction {
                Direction::From => (&ours, &uplink),
                Direction::To => (&uplink, &ours),
            };
            let packet = Packet {
                from,
                to,
                family: *family,
            };
            match follow(chains, base, &packet, DEEPEST) {
                Some(Verdict::Accept) => false,
                Some(Verdict::Drop) => true,
                None => base.drops,
            }
        })
    })
}

struct End {
    index: u32,
    name: String,
    group: u32,
}

struct Packet<'a> {
    from: &'a End,
    to: &'a End,
    family: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
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
        let index = |end: &End| Some(end.index.to_ne_bytes().to_vec());
        let group = |end: &End| Some(end.group.to_ne_bytes().to_vec());
        let name = |end: &End| {
            let mut name = end.name.as_bytes().to_vec();
            name.resize(16, 0);
            Some(name)
        };
        match key {
            4 => index(self.from),
            5 => index(self.to),
            6 => name(self.from),
            7 => name(self.to),
            15 => Some(vec![self.family]),
            21 => group(self.from),
            22 => group(self.to),
            _ => None,
        }
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

fn describe(chains: &[FoundChain], chain: &FoundChain, stopped: &[Direction]) -> Finding {
    let family = match chain.family {
        1 => "inet",
        2 => "ip",
        _ => "ip6",
    };
    let (table, name) = (&chain.table, &chain.name);
    let beside = |prefix: &str| {
        let mut all = chains.iter();
        all.any(|one| {
            one.family == chain.family && one.table == *table && one.name.starts_with(prefix)
        })
    };
    let owner = match table.as_str() {
        "firewalld" => Owner::Firewalld,
        _ if beside("ufw") => Owner::Ufw,
        _ if beside("DOCKER-USER") => Owner::Docker,
        "filter" if name == "FORWARD" => Owner::Iptables,
        _ => Owner::Nft,
    };
    let whose = match stopped {
        [Direction::From] => "from instances",
        [Direction::To] => "to instances",
        _ => "from and to instances",
    };
    let program = if chain.family == 10 {
        "ip6tables"
    } else {
        "iptables"
    };
    let (mend, lasting) = match owner {
        Owner::Docker => (
            inserts(program, "DOCKER-USER"),
            "Docker keeps these rules, but not beyond a reboot: have them set at boot after Docker (a unit with After=docker.service)".to_owned(),
        ),
        Owner::Firewalld => (
            [
                "firewall-cmd --permanent --zone=trusted --add-interface=m-+",
                "firewall-cmd --permanent --new-policy metactl",
                "firewall-cmd --permanent --policy metactl --add-ingress-zone ANY --add-egress-zone trusted --set-target ACCEPT",
                "firewall-cmd --reload",
            ]
            .map(str::to_owned)
            .to_vec(),
            String::new(),
        ),
        Owner::Ufw => (
            vec![
                "ufw route allow in on m-+".to_owned(),
                "ufw route allow out on m-+".to_owned(),
            ],
            String::new(),
        ),
        Owner::Iptables | Owner::Legacy => (
            inserts(program, name),
            "have the same lines set at boot (iptables-persistent: netfilter-persistent save)".to_owned(),
        ),
        Owner::Nft => (
            ["iifname", "oifname"]
                .map(|word| format!("nft 'insert rule {family} {table} {name} {word} \"m-*\" accept'"))
                .to_vec(),
            "write both rules into the file that the table comes from (/etc/nftables.conf)".to_owned(),
        ),
    };
    Finding {
        check: "forward",
        what: format!("the rules of {owner} drop what is forwarded {whose}"),
        place: format!("nft list chain {family} {table} {name}"),
        why: "what one chain drops is dropped: metactl's own table cannot let it pass. The firewall of each instance \
              stays as it is"
            .into(),
        mend,
        lasting,
    }
}

fn inserts(program: &str, chain: &str) -> Vec<String> {
    ["-i", "-o"]
        .map(|option| format!("{program} -I {chain} {option} m-+ -j ACCEPT"))
        .to_vec()
}

/// The finding for rules that `iptables-legacy-save -t filter` prints (`rules`), which no netlink shows: a policy of
/// `FORWARD`, or a rule for everything at its end, that drops, and no rule before that lets instances pass. `program` is
/// `iptables-legacy` or `ip6tables-legacy`.
pub fn mend_legacy(program: &str, rules: &str) -> Option<Finding> {
    let drops = rules.lines().any(|line| {
        line.starts_with(":FORWARD DROP")
            || line.starts_with("-A FORWARD -j DROP")
            || line.starts_with("-A FORWARD -j REJECT")
    });
    let docker = rules.lines().any(|line| line.starts_with(":DOCKER-USER "));
    let chain = if docker { "DOCKER-USER" } else { "FORWARD" };
    let passes = |option: &str| {
        ["FORWARD", chain].iter().any(|chain| {
            let rule = format!("-A {chain} {option} m-+ -j ACCEPT");
            rules.lines().any(|line| line == rule)
        })
    };
    if !drops || (passes("-i") && passes("-o")) {
        return None;
    }
    let owner = if docker { Owner::Docker } else { Owner::Legacy };
    Some(Finding {
        check: "forward",
        what: format!("the rules of {owner} drop what is forwarded from and to instances"),
        place: format!("{program} -S FORWARD"),
        why: "what one chain drops is dropped: metactl's own table cannot let it pass. The firewall of each instance \
              stays as it is"
            .into(),
        mend: inserts(program, chain),
        lasting: "have the same lines set at boot".into(),
    })
}
