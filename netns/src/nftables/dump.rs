//! Reads the chains and rules of everybody, as far as it takes to follow a packet through them.

use std::collections::BTreeMap;

use super::encode::{Attrs, INET, SUBSYSTEM, message};
use super::{TABLE, read};
use crate::netlink::{NLM_F_DUMP, Netlink, Refusal, attributes, string};

const GET_CHAINS: u16 = 4;
const GET_RULES: u16 = 7;
const GET_ELEMENTS: u16 = 13;

/// A chain of any table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundChain {
    /// `NFPROTO_...`: 1 is inet, 2 IPv4, 10 IPv6.
    pub family: u8,
    pub table: String,
    pub name: String,
    /// Where the kernel enters it.
    pub hook: Option<u32>,
    /// What reaches its end is dropped.
    pub drops: bool,
    pub rules: Vec<FoundRule>,
}

/// A rule: its expressions by name, with their attributes as the kernel tells them.
pub(crate) type FoundRule = Vec<(String, Vec<u8>)>;

/// Every chain of the families inet, IPv4 and IPv6.
pub(crate) fn chains(socket: &mut Netlink) -> Result<Vec<FoundChain>, Refusal> {
    let mut found: Vec<FoundChain> = Vec::new();
    for payload in dump(socket, GET_CHAINS)? {
        found.extend(chain(&payload));
    }
    for payload in dump(socket, GET_RULES)? {
        let family = payload.first().copied().unwrap_or_default();
        let (mut table, mut name, mut rule) = (String::new(), String::new(), Vec::new());
        for (kind, value) in attributes(payload.get(4..).unwrap_or_default()) {
            match kind {
                1 => table = string(value),
                2 => name = string(value),
                4 => rule = expressions(value),
                _ => {}
            }
        }
        let same = |chain: &&mut FoundChain| {
            chain.family == family && chain.table == table && chain.name == name
        };
        if let Some(chain) = found.iter_mut().find(same) {
            chain.rules.push(rule);
        }
    }
    Ok(found)
}

/// How many rules each chain of our own table has; chains without any are missing. Of other tables, which may have
/// thousands, nothing is told.
pub(crate) fn rules_by_chain(socket: &mut Netlink) -> Result<BTreeMap<String, usize>, Refusal> {
    let mut attrs = Attrs::default();
    attrs.string(1, TABLE);
    let rules = read::dump(socket, GET_RULES, INET, &attrs.0, |payload| {
        let (mut table, mut chain) = (String::new(), String::new());
        for (kind, value) in attributes(payload.get(4..).unwrap_or_default()) {
            match kind {
                1 => table = string(value),
                2 => chain = string(value),
                _ => {}
            }
        }
        let is_ours = payload.first() == Some(&INET) && table == TABLE;
        is_ours.then_some(chain)
    });
    let mut counts = BTreeMap::new();
    for chain in read::if_there(rules)? {
        *counts.entry(chain).or_default() += 1;
    }
    Ok(counts)
}

fn dump(socket: &mut Netlink, what: u16) -> Result<Vec<Vec<u8>>, Refusal> {
    read::dump(socket, what, 0, &[], |payload| Some(payload.to_vec()))
}

fn chain(payload: &[u8]) -> Option<FoundChain> {
    let family = *payload
        .first()
        .filter(|family| matches!(family, 1 | 2 | 10))?;
    let mut chain = FoundChain {
        family,
        table: String::new(),
        name: String::new(),
        hook: None,
        drops: false,
        rules: Vec::new(),
    };
    for (kind, value) in attributes(payload.get(4..)?) {
        match kind {
            1 => chain.table = string(value),
            3 => chain.name = string(value),
            4 => {
                chain.hook = attributes(value)
                    .find(|(kind, _)| *kind == 1)
                    .and_then(|(_, v)| number(v))
            }
            5 => chain.drops = number(value) == Some(0),
            _ => {}
        }
    }
    Some(chain)
}

fn expressions(list: &[u8]) -> FoundRule {
    let one = |(_, element): (u16, &[u8])| {
        let (mut name, mut data) = (String::new(), Vec::new());
        for (kind, value) in attributes(element) {
            match kind {
                1 => name = string(value),
                2 => data = value.to_vec(),
                _ => {}
            }
        }
        (name, data)
    };
    attributes(list).map(one).collect()
}

/// A number as nftables has it: big-endian.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.try_into().ok()?))
}

/// How many elements the set or map `name` of our own table has; none when there is no such thing.
pub(crate) fn count_elements(socket: &mut Netlink, name: &str) -> Result<usize, Refusal> {
    let mut attrs = Attrs::default();
    attrs.string(1, TABLE);
    attrs.string(2, name);
    let seq = socket.next_seq();
    let mut bytes = Vec::new();
    let kind = SUBSYSTEM << 8 | GET_ELEMENTS;
    message(&mut bytes, kind, NLM_F_DUMP, INET, seq, &attrs.0);
    let mut count = 0;
    let result = socket.transact(&bytes, seq, |_, payload| {
        let lists = attributes(payload.get(4..).unwrap_or_default());
        let lists = lists.filter(|(kind, _)| *kind == 3);
        count += lists
            .map(|(_, list)| attributes(list).count())
            .sum::<usize>();
    });
    match result {
        Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => Ok(0),
        result => result.map(|()| count),
    }
}
