//! Reads sets back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::encode::{Attrs, INET, SUBSYSTEM, message};
use super::{Family, Key, Shape, TABLE};
use crate::netlink::{NLM_F_ACK, NLM_F_DUMP, Netlink, Refusal, attributes, string};

const GET_TABLE: u16 = 1;
const GET_ELEMENTS: u16 = 13;
/// A dump is interrupted when somebody changes a set at the same time.
const TRIES: u32 = 5;

/// An element as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadElement {
    pub first: Key,
    /// The same as `first` in a hash set.
    pub last: Key,
    pub comment: String,
    pub packets: u64,
    pub bytes: u64,
    /// Milliseconds until it vanishes, for a set with a timeout.
    pub expires: Option<u64>,
}

/// Is there a table of ours?
pub(crate) fn table_exists(socket: &mut Netlink) -> Result<bool, Refusal> {
    let mut attrs = Attrs::default();
    attrs.string(1, TABLE);
    let seq = socket.next_seq();
    let mut bytes = Vec::new();
    message(
        &mut bytes,
        SUBSYSTEM << 8 | GET_TABLE,
        NLM_F_ACK,
        INET,
        seq,
        &attrs.0,
    );
    match socket.transact(&bytes, seq, |_, _| {}) {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// All elements of the set `name`; none when there is no such set or table.
pub(crate) fn elements(
    socket: &mut Netlink,
    name: &str,
    shape: Shape,
) -> Result<Vec<ReadElement>, Refusal> {
    let mut attrs = Attrs::default();
    attrs.string(1, TABLE);
    attrs.string(2, name);
    if_there(dump(socket, GET_ELEMENTS, INET, &attrs.0, |payload| {
        parse_message(payload, shape)
    }))
}

/// Asks for everything of a kind (`NFT_MSG_GET...`), and again when somebody changed it meanwhile. `parse` gets the
/// payload of each answer.
pub(super) fn dump<T, I: IntoIterator<Item = T>>(
    socket: &mut Netlink,
    kind: u16,
    family: u8,
    attrs: &[u8],
    parse: impl Fn(&[u8]) -> I,
) -> Result<Vec<T>, Refusal> {
    let mut tries = 0;
    loop {
        let seq = socket.next_seq();
        let mut bytes = Vec::new();
        message(
            &mut bytes,
            SUBSYSTEM << 8 | kind,
            NLM_F_DUMP,
            family,
            seq,
            attrs,
        );
        let mut found = Vec::new();
        let result = socket.transact(&bytes, seq, |_, payload| found.extend(parse(payload)));
        tries += 1;
        match result {
            Ok(()) => return Ok(found),
            Err(refusal) if refusal.is(rustix::io::Errno::INTR) && tries < TRIES => {}
            Err(refusal) => return Err(refusal),
        }
    }
}

/// Nothing of what is not there.
pub(super) fn if_there<T>(found: Result<Vec<T>, Refusal>) -> Result<Vec<T>, Refusal> {
    match found {
        Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => Ok(Vec::new()),
        found => found,
    }
}

fn parse_message(payload: &[u8], shape: Shape) -> Vec<ReadElement> {
    let body = payload.get(4..).unwrap_or_default();
    attributes(body)
        .filter(|(kind, _)| *kind == 3)
        .flat_map(|(_, list)| {
            attributes(list)
                .filter_map(|(_, element)| parse(element, shape))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn parse(element: &[u8], shape: Shape) -> Option<ReadElement> {
    let (mut first, mut last, mut comment, mut counter, mut expires) =
        (None, None, String::new(), (0, 0), None);
    for (kind, value) in attributes(element) {
        match kind {
            1 => first = parse_key(value, shape),
            10 => last = parse_key(value, shape),
            5 => expires = u64_of(value),
            6 => comment = parse_comment(value),
            7 => counter = parse_counter(value),
            11 => {
                let found = attributes(value).map(|(_, one)| parse_counter(one)).max();
                counter = found.unwrap_or_default();
            }
            _ => {}
        }
    }
    let first = first?;
    Some(ReadElement {
        first,
        last: last.unwrap_or(first),
        comment,
        packets: counter.0,
        bytes: counter.1,
        expires,
    })
}

fn parse_key(data: &[u8], shape: Shape) -> Option<Key> {
    let (_, value) = attributes(data).find(|(kind, _)| *kind == 1)?;
    let (address, rest) = match shape.family() {
        Family::V4 => {
            let (head, rest) = value.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*head)), rest)
        }
        Family::V6 => {
            let (head, rest) = value.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*head)), rest)
        }
    };
    let port_at = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let (middle, port) = match shape {
        Shape::Address(_) => (0, 0),
        Shape::Service(_) => (u16::from(*rest.first()?), port_at(4)?),
        Shape::Flow(_) => (port_at(0)?, port_at(4)?),
    };
    Some(Key {
        address,
        middle,
        port,
    })
}

fn parse_comment(data: &[u8]) -> String {
    match data {
        [0, length, text @ ..] => string(text.get(..usize::from(*length)).unwrap_or_default()),
        _ => String::new(),
    }
}

/// Packets and bytes of an expression, if it is a counter.
fn parse_counter(expr: &[u8]) -> (u64, u64) {
    let is_counter = attributes(expr).any(|(kind, value)| kind == 1 && string(value) == "counter");
    let data = attributes(expr).find(|(kind, _)| *kind == 2 && is_counter);
    let one = |wanted: u16| {
        let mut values = attributes(data?.1).filter(|(kind, _)| *kind == wanted);
        values.find_map(|(_, value)| u64_of(value))
    };
    (one(2).unwrap_or_default(), one(1).unwrap_or_default())
}

pub(super) fn u64_of(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}
