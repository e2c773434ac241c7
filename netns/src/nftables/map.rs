//! What leads published ports to instances: a map, and a set of pairs of addresses.

use std::fmt;
use std::net::IpAddr;

use super::TABLE;
use super::encode::{Attrs, Batch};
use super::words::{Family, octets};
use crate::netlink::NLM_F_CREATE;

const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DEL_ELEMENTS: u16 = 14;
const SET_MAP: u32 = 0x8;
/// An attribute holds at most 64 KiB, a list of elements is one attribute.
const ELEMENTS_PER_MESSAGE: usize = 400;
/// nft's own numbers for the types, six bits each; only for `nft list`.
const PROTOCOL: u32 = 12;
const SERVICE: u32 = 13;

/// What leads to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MapShape {
    /// Protocol and port to address and port.
    Published(Family),
    /// Address, protocol and port to address and port.
    PublishedAt(Family),
    /// Two addresses to nothing: a set.
    Pairs(Family),
}

/// An element of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pair {
    /// Of [`MapShape::Published`], or with an address of [`MapShape::PublishedAt`].
    Published {
        /// The address; of the family of `to`.
        at: Option<IpAddr>,
        /// Its number: 6, 17.
        protocol: u8,
        /// The port.
        port: u16,
        /// Where it leads to.
        to: (IpAddr, u16),
    },
    /// Of [`MapShape::Pairs`]: twice the same address.
    Twice(IpAddr),
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

/// nft's number for the type of an address.
fn address_type(family: Family) -> u32 {
    match family {
        Family::V4 => 7,
        Family::V6 => 8,
    }
}

impl MapShape {
    /// The types of the parts of the key, and its length: every part takes a multiple of four bytes.
    fn key(self) -> (u32, u32) {
        match self {
            MapShape::Published(_) => (PROTOCOL << 6 | SERVICE, 8),
            MapShape::PublishedAt(family) => {
                let types = address_type(family) << 12 | PROTOCOL << 6 | SERVICE;
                (types, family.length() + 8)
            }
            MapShape::Pairs(family) => {
                let address = address_type(family);
                (address << 6 | address, 2 * family.length())
            }
        }
    }

    /// The same of what it leads to.
    fn data(self) -> Option<(u32, u32)> {
        match self {
            MapShape::Published(family) | MapShape::PublishedAt(family) => {
                Some((address_type(family) << 6 | SERVICE, family.length() + 4))
            }
            MapShape::Pairs(_) => None,
        }
    }
}

impl Pair {
    /// Which maps it can be in.
    pub(crate) fn shape(&self) -> MapShape {
        match self {
            Pair::Published { at: None, to, .. } => MapShape::Published(Family::of(&to.0)),
            Pair::Published { to, .. } => MapShape::PublishedAt(Family::of(&to.0)),
            Pair::Twice(address) => MapShape::Pairs(Family::of(address)),
        }
    }

    fn key(&self) -> Vec<u8> {
        match self {
            Pair::Published {
                at, protocol, port, ..
            } => {
                let mut key = at.as_ref().map(octets).unwrap_or_default();
                let [high, low] = port.to_be_bytes();
                key.extend([*protocol, 0, 0, 0, high, low, 0, 0]);
                key
            }
            Pair::Twice(address) => octets(address).repeat(2),
        }
    }

    fn data(&self) -> Option<Vec<u8>> {
        match self {
            Pair::Published { to, .. } => {
                let [high, low] = to.1.to_be_bytes();
                let mut data = octets(&to.0);
                data.extend([high, low, 0, 0]);
                Some(data)
            }
            Pair::Twice(_) => None,
        }
    }
}

impl Batch<'_> {
    /// Adds a map with all of its elements; `id` is unlike that of any other set of the transaction.
    pub(super) fn map(&mut self, map: &Map, id: u32) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        attrs.string(2, &map.name);
        let (types, length) = map.shape.key();
        let data = map.shape.data();
        attrs.u32(3, if data.is_some() { SET_MAP } else { 0 });
        attrs.u32(4, types);
        attrs.u32(5, length);
        if let Some((types, length)) = data {
            attrs.u32(6, types);
            attrs.u32(7, length);
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
        let address = |family| match family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        let (word, types) = match self.shape {
            MapShape::Published(family) => {
                let to = address(family);
                let types = format!("inet_proto . inet_service : {to} . inet_service");
                ("map", types)
            }
            MapShape::PublishedAt(family) => {
                let to = address(family);
                let types = format!("{to} . inet_proto . inet_service : {to} . inet_service");
                ("map", types)
            }
            MapShape::Pairs(family) => ("set", format!("{0} . {0}", address(family))),
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
            Pair::Published {
                at,
                protocol,
                port,
                to,
            } => {
                if let Some(at) = at {
                    write!(f, "{at} . ")?;
                }
                let word = if *protocol == 17 { "udp" } else { "tcp" };
                write!(f, "{word} . {port} : {} . {}", to.0, to.1)
            }
            Pair::Twice(address) => write!(f, "{address} . {address}"),
        }
    }
}
