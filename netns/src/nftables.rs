//! nftables without `nft` or libnftnl (GPL, cannot be linked into a static MIT/Apache binary): typed tables,
//! sets, chains and rules, their text in the syntax of nft(8), and their encoding as one netlink transaction.
//!
//! Attribute numbers: `linux/netfilter/nf_tables.h`. Numbers in nftables attributes are big-endian.

pub(crate) mod change;
pub(crate) mod dump;
mod encode;
mod map;
mod read;
mod rule;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

pub(crate) use encode::{Batch, load, remove_table, shown_comment};
pub use map::{Map, MapShape, Pair};
pub(crate) use read::{ReadElement, elements, table_exists};
pub use rule::Rule;
pub use words::Family;
pub(crate) use words::{End, Selector};

/// The name of every table that metactl makes, inside sandboxes and on the server; family `inet`.
pub const TABLE: &str = "metactl";

/// One table with everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ruleset {
    /// Its sets.
    pub sets: Vec<Set>,
    /// Its maps.
    pub maps: Vec<Map>,
    /// Its chains, those that are jumped to before those that jump.
    pub chains: Vec<Chain>,
}

/// What the elements of a set are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An address.
    Address(Family),
    /// Address, protocol, port.
    Service(Family),
    /// Address, remote port, local port.
    Flow(Family),
}

impl Shape {
    /// The family of its address.
    pub fn family(self) -> Family {
        match self {
            Shape::Address(family) | Shape::Service(family) | Shape::Flow(family) => family,
        }
    }

    /// Lengths of the fields in bytes; each takes whole 32-bit registers.
    fn fields(self) -> &'static [u32] {
        match self {
            Shape::Address(Family::V4) => &[4],
            Shape::Address(Family::V6) => &[16],
            Shape::Service(Family::V4) => &[4, 1, 2],
            Shape::Service(Family::V6) => &[16, 1, 2],
            Shape::Flow(Family::V4) => &[4, 2, 2],
            Shape::Flow(Family::V6) => &[16, 2, 2],
        }
    }

    fn key_length(self) -> u32 {
        self.fields()
            .iter()
            .map(|length| length.next_multiple_of(4))
            .sum()
    }

    /// nft's own numbers for the types, six bits each; only for `nft list`.
    fn key_type(self) -> u32 {
        let address = match self.family() {
            Family::V4 => 7,
            Family::V6 => 8,
        };
        match self {
            Shape::Address(_) => address,
            Shape::Service(_) => address << 12 | 12 << 6 | 13,
            Shape::Flow(_) => address << 12 | 13 << 6 | 13,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.family() {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        match self {
            Shape::Address(_) => f.write_str(address),
            Shape::Service(_) => write!(f, "{address} . inet_proto . inet_service"),
            Shape::Flow(_) => write!(f, "{address} . inet_service . inet_service"),
        }
    }
}

/// How a set behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Exact elements in a hash table.
    Hash,
    /// Ranges in every field.
    Interval,
    /// As [`Kind::Hash`] or [`Kind::Interval`], with elements that may vanish after a time of their own:
    /// addresses of names.
    Timed {
        /// Ranges in every field.
        interval: bool,
    },
    /// Filled by rules; elements vanish after a time without traffic.
    Dynamic {
        /// Milliseconds.
        timeout: u64,
        /// The greatest number of elements. The kernel provides room for all of them at once; without a number it
        /// begins small and grows up to 65,535.
        size: Option<u32>,
    },
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub shape: Shape,
    /// How it behaves.
    pub kind: Kind,
    /// What is in it from the beginning; each element counts its packets.
    pub elements: Vec<Element>,
}

/// An element: from `first` to `last` in every field; the same in a hash set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The first key.
    pub first: Key,
    /// The last key.
    pub last: Key,
    /// Whose it is: the name of an entry.
    pub comment: String,
}

/// The key of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The address.
    pub address: std::net::IpAddr,
    /// The protocol ([`Shape::Service`]); in a [`Shape::Flow`] the remote port stands here.
    pub middle: u16,
    /// The port ([`Shape::Service`]); in a [`Shape::Flow`] the local port.
    pub port: u16,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where the kernel enters it; none for one that is jumped to.
    pub hook: Option<Hook>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// Where the kernel enters a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// The hook.
    pub at: At,
    /// The priority; lower is earlier.
    pub priority: i32,
    /// What happens at its end: drop (else accept).
    pub drop: bool,
}

/// The hooks of the `inet` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names")]
pub enum At {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl Kind {
    /// Whether its elements are ranges.
    pub fn is_interval(self) -> bool {
        matches!(self, Kind::Interval | Kind::Timed { interval: true })
    }
}

impl fmt::Display for Ruleset {
    /// The table in nft(8) syntax.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for set in &self.sets {
            write!(f, "{set}")?;
        }
        for map in &self.maps {
            write!(f, "{map}")?;
        }
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{\n\t\ttype {}", self.name, self.shape)?;
        match self.kind {
            Kind::Hash => writeln!(f, "\t\tcounter")?,
            Kind::Interval => writeln!(f, "\t\tflags interval\n\t\tcounter")?,
            Kind::Timed { interval: false } => writeln!(f, "\t\tflags timeout\n\t\tcounter")?,
            Kind::Timed { interval: true } => {
                writeln!(f, "\t\tflags interval,timeout\n\t\tcounter")?;
            }
            Kind::Dynamic { timeout, size } => {
                let size = size.unwrap_or(65_535);
                writeln!(
                    f,
                    "\t\tsize {size}\n\t\tflags dynamic,timeout\n\t\ttimeout {}s",
                    timeout / 1000
                )?;
            }
        }
        for (index, element) in self.elements.iter().enumerate() {
            f.write_str(if index == 0 {
                "\t\telements = { "
            } else {
                ",\n\t\t\t     "
            })?;
            element.write(self.shape, f)?;
        }
        writeln!(
            f,
            "{}\t}}",
            if self.elements.is_empty() { "" } else { " }\n" }
        )
    }
}

impl Element {
    fn write(&self, shape: Shape, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        range(f, &self.first.address, &self.last.address)?;
        if let Shape::Service(_) = shape {
            f.write_str(" . ")?;
            match (self.first.middle, self.last.middle) {
                (6, 6) => f.write_str("tcp")?,
                (17, 17) => f.write_str("udp")?,
                (first, last) => range(f, &first, &last)?,
            }
            f.write_str(" . ")?;
            range(f, &self.first.port, &self.last.port)?;
        }
        write!(f, " comment \"{}\"", self.comment)
    }
}

fn range<T: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    first: &T,
    last: &T,
) -> fmt::Result {
    if first == last {
        write!(f, "{first}")
    } else {
        write!(f, "{first}-{last}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            let at = format!("{:?}", hook.at).to_lowercase();
            let policy = if hook.drop { "drop" } else { "accept" };
            writeln!(
                f,
                "\t\ttype {} hook {at} priority {}; policy {policy};",
                hook.kind, hook.priority
            )?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}
