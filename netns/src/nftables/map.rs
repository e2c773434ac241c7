//! What leads published ports to instances: a map, and a set of pairs of addresses.

use std::fmt;
use std::net::Ipv4Addr;

use super::TABLE;
use super::encode::{Attrs, Batch};
use crate::netlink::NLM_F_CREATE;

const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DEL_ELEMENTS: u16 = 14;
const SET_MAP: u32 = 0x8;
/// An attribute holds at most 64 KiB, a list of elements is one attribute.
const ELEMENTS_PER_MESSAGE: usize = 400;
/// nft's own numbers for the types, six bits each; only for `nft list`.
const ADDRESS: u32 = 7;
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;

/// What leads to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapShape {
    /// Protocol and port to address and port.
    Published,
    /// Two addresses to nothing: a set.
    Pairs,
}

/// An element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pair {
    /// Of [`MapShape::Published`].
    Published {
        /// Its number: 6, 17.
        protocol: u8,
        /// The port.
        port: u16,
        /// Where it leads to.
        to: (Ipv4Addr, u16),
    },
    /// Of [`MapShape::Pairs`].
    Addresses(Ipv4Addr, Ipv4Addr),
}

/// A named map, or a set of pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub shape: MapShape,
    /// Its elements, each key once.
    pub elements: Vec<Pair>,
}

impl MapShape {
    fn key(self) -> u32 {
        match self {
            MapShape::Published => PROTOCOL << 6 | SERVICE,
            MapShape::Pairs => ADDRESS << 6 | ADDRESS,
        }
    }
}

impl Pair {
    fn key(&self) -> Vec<u8> {
        match self {
            Pair::Published { protocol, port, .. } => {
                let [high, low] = port.to_be_bytes();
                vec![*protocol, 0, 0, 0, high, low, 0, 0]
            }
            Pair::Addresses(one, other) => [one.octets(), other.octets()].concat(),
        }
    }

    fn data(&self) -> Option<Vec<u8>> {
        match self {
            Pair::Published { to, .. } => {
                let [high, low] = to.1.to_be_bytes();
                Some([to.0.octets(), [high, low, 0, 0]].concat())
            }
            Pair::Addresses(..) => None,
        }
    }
}

impl Batch<'_> {
    /// Adds a map with all of its elements; `id` is unlike that of any other set of the transaction.
    pub(super) fn map(&mut self, map: &Map, id: u32) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        attrs.string(2, &map.name);
        let is_map = map.shape == MapShape::Published;
        attrs.u32(3, if is_map { SET_MAP } else { 0 });
        attrs.u32(4, map.shape.key());
        attrs.u32(5, 8);
        if is_map {
            attrs.u32(6, ADDRESS << 6 | SERVICE);
            attrs.u32(7, 8);
        }
        attrs.u32(10, id);
        self.push(NEW_SET, NLM_F_CREATE, &attrs, format!("map {}", map.name));
        self.add_pairs(&map.name, &map.elements);
    }

    /// Adds elements to a map, of this transaction or live.
    pub fn add_pairs(&mut self, name: &str, elements: &[Pair]) {
        self.pairs(NEW_ELEMENTS, NLM_F_CREATE, name, elements);
    }

    /// Takes elements out of a map. Refused when one is not there.
    pub fn remove_pairs(&mut self, name: &str, elements: &[Pair]) {
        self.pairs(DEL_ELEMENTS, 0, name, elements);
    }

    fn pairs(&mut self, kind: u16, flags: u16, name: &str, elements: &[Pair]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let mut attrs = Attrs::default();
            attrs.string(1, TABLE);
            attrs.string(2, name);
            attrs.nested(3, |list| {
                for element in chunk {
                    list.nested(1, |one| {
                        one.data(1, &element.key());
                        if let Some(data) = element.data() {
                            one.data(2, &data);
                        }
                    });
                }
            });
            self.push(kind, flags, &attrs, format!("elements of {name}"));
        }
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, types) = match self.shape {
            MapShape::Published => (
                "map",
                "inet_proto . inet_service : ipv4_addr . inet_service",
            ),
            MapShape::Pairs => ("set", "ipv4_addr . ipv4_addr"),
        };
        writeln!(f, "\t{word} {} {{\n\t\ttype {types}", self.name)?;
        for (index, element) in self.elements.iter().enumerate() {
            f.write_str(if index == 0 {
                "\t\telements = { "
            } else {
                ",\n\t\t\t     "
            })?;
            write!(f, "{element}")?;
        }
        let end = if self.elements.is_empty() { "" } else { " }\n" };
        writeln!(f, "{end}\t}}")
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pair::Published { protocol, port, to } => {
                let word = if *protocol == 17 { "udp" } else { "tcp" };
                write!(f, "{word} . {port} : {} . {}", to.0, to.1)
            }
            Pair::Addresses(one, other) => write!(f, "{one} . {other}"),
        }
    }
}
