//! The words of rules that lead published ports to instances.

use super::super::MapShape;
use super::super::words::{End, Expr, Family};
use super::{BASE_NETWORK, BASE_TRANSPORT, FIRST, META_L4PROTO, REG32, Rule};

/// `RTN_LOCAL`, rtnetlink(7).
const LOCAL: u32 = 2;
/// `IPS_DST_NAT`, `linux/netfilter/nf_conntrack_common.h`.
const DESTINATION_TRANSLATED: u32 = 0x20;

impl Rule {
    /// The destination is an address of the server itself.
    pub(crate) fn for_the_server(mut self) -> Rule {
        self.word("fib daddr type local");
        self.exprs.push(Expr::DestinationType { to: FIRST });
        self.compare(true, &LOCAL.to_ne_bytes());
        self
    }

    /// The packet goes where the map `name` leads its protocol and port to (with its destination in front, in
    /// [`MapShape::PublishedAt`]); on with the next rule when it does not know them.
    pub(crate) fn lead_by(mut self, name: &str, shape: MapShape) -> Rule {
        let (family, at) = match shape {
            MapShape::Published(family) | MapShape::Pairs(family) => (family, false),
            MapShape::PublishedAt(family) => (family, true),
        };
        self.imply_family(family);
        let word = family.word();
        let key = if at {
            format!("{word} daddr . meta l4proto . th dport")
        } else {
            "meta l4proto . th dport".to_owned()
        };
        self.word(format_args!("dnat {word} to {key} map @{name}"));
        // A part of a key begins behind the registers of the one before, of four bytes each.
        let behind = REG32 + family.length() / 4;
        let (first, second) = if at {
            self.exprs.push(Expr::Payload {
                base: BASE_NETWORK,
                offset: End::Destination.address_offset(family),
                length: family.length(),
                to: FIRST,
            });
            (behind, behind + 1)
        } else {
            (FIRST, REG32 + 1)
        };
        self.exprs.push(Expr::Meta {
            key: META_L4PROTO,
            to: first,
        });
        self.exprs.push(Expr::Payload {
            base: BASE_TRANSPORT,
            offset: 2,
            length: 2,
            to: second,
        });
        self.exprs.push(Expr::Map {
            map: name.into(),
            from: FIRST,
            to: FIRST,
        });
        self.exprs.push(Expr::Dnat {
            family,
            address: FIRST,
            port: behind,
        });
        self
    }

    /// The connection was not led anywhere else.
    pub(crate) fn not_led(mut self) -> Rule {
        self.word("ct status & dnat == 0x0");
        self.exprs.push(Expr::CtStatus { to: FIRST });
        self.exprs.push(Expr::Bitwise {
            register: FIRST,
            mask: DESTINATION_TRANSLATED.to_ne_bytes().to_vec(),
        });
        self.compare(true, &0u32.to_ne_bytes());
        self
    }

    /// Source and destination are a pair of `set`.
    pub(crate) fn pair_in(mut self, set: &str, family: Family) -> Rule {
        self.imply_family(family);
        let word = family.word();
        self.word(format_args!("{word} saddr . {word} daddr @{set}"));
        let second = REG32 + family.length() / 4;
        for (end, to) in [(End::Source, FIRST), (End::Destination, second)] {
            self.exprs.push(Expr::Payload {
                base: BASE_NETWORK,
                offset: end.address_offset(family),
                length: family.length(),
                to,
            });
        }
        self.exprs.push(Expr::Lookup {
            set: set.into(),
            from: FIRST,
            invert: false,
        });
        self
    }
}
