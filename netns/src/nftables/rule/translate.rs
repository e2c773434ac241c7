//! The words of rules that lead published ports to instances.

use super::super::words::{Expr, Family};
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

    /// The packet goes where `map` leads its protocol and port to; on with the next rule when it does not know them.
    pub(crate) fn lead_by(mut self, map: &str) -> Rule {
        self.imply_family(Family::V4);
        self.word(format_args!(
            "dnat ip to meta l4proto . th dport map @{map}"
        ));
        // The second part of a key of two begins one 32-bit register further.
        let second = REG32 + 1;
        self.exprs.push(Expr::Meta {
            key: META_L4PROTO,
            to: FIRST,
        });
        self.exprs.push(Expr::Payload {
            base: BASE_TRANSPORT,
            offset: 2,
            length: 2,
            to: second,
        });
        self.exprs.push(Expr::Map {
            map: map.into(),
            from: FIRST,
            to: FIRST,
        });
        self.exprs.push(Expr::Dnat {
            address: FIRST,
            port: second,
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
    pub(crate) fn pair_in(mut self, set: &str) -> Rule {
        self.imply_family(Family::V4);
        self.word(format_args!("ip saddr . ip daddr @{set}"));
        for (offset, to) in [(12, FIRST), (16, REG32 + 1)] {
            self.exprs.push(Expr::Payload {
                base: BASE_NETWORK,
                offset,
                length: 4,
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
