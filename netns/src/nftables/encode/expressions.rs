//! The expressions of a rule as attributes (`linux/netfilter/nf_tables.h`).

use super::super::Rule;
use super::super::words::Expr;
use super::Attrs;

/// All of them, in order.
pub(in crate::nftables) fn expressions(list: &mut Attrs, rule: &Rule) {
    rule.exprs().iter().for_each(|expr| expression(list, expr));
}

/// One `NFTA_LIST_ELEM` of a rule.
fn expression(list: &mut Attrs, expr: &Expr) {
    let name = match expr {
        Expr::Meta { .. } => "meta",
        Expr::Payload { .. } => "payload",
        Expr::Cmp { .. } => "cmp",
        Expr::Between { .. } => "range",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } => "lookup",
        Expr::Update { .. } => "dynset",
        Expr::Header { .. } => "exthdr",
        Expr::Counter => "counter",
        Expr::Fib { .. } | Expr::DestinationType { .. } => "fib",
        Expr::CtState { .. } | Expr::CtStatus { .. } => "ct",
        Expr::Map { .. } => "lookup",
        Expr::Dnat { .. } => "nat",
        Expr::Reject { .. } => "reject",
        Expr::Masquerade => "masq",
        Expr::Immediate { .. } => "immediate",
        Expr::Redirect(_) => "nat",
        Expr::NoTrack => "notrack",
        Expr::Verdict { .. } => "immediate",
    };
    list.nested(1, |one| {
        one.string(1, name);
        one.nested(2, |data| expression_data(data, expr));
    });
}

fn expression_data(data: &mut Attrs, expr: &Expr) {
    match expr {
        Expr::Meta { key, to } => {
            data.u32(2, *key);
            data.u32(1, *to);
        }
        Expr::Payload {
            base,
            offset,
            length,
            to,
        } => {
            data.u32(1, *to);
            data.u32(2, *base);
            data.u32(3, *offset);
            data.u32(4, *length);
        }
        Expr::Cmp { from, equal, value } => {
            data.u32(1, *from);
            data.u32(2, u32::from(!*equal));
            data.data(3, value);
        }
        Expr::Between { from, first, last } => {
            data.u32(1, *from);
            data.u32(2, 0);
            data.data(3, first);
            data.data(4, last);
        }
        Expr::Bitwise { register, mask } => {
            data.u32(1, *register);
            data.u32(2, *register);
            // NFT_BITWISE_MASK_XOR.
            data.u32(6, 0);
            data.u32(3, mask.len() as u32);
            data.data(4, mask);
            data.data(5, &vec![0; mask.len()]);
        }
        Expr::Lookup { set, from, invert } => {
            data.string(1, set);
            data.u32(2, *from);
            if *invert {
                data.u32(5, 1);
            }
        }
        Expr::Update { set, from, counter } => {
            data.string(1, set);
            data.u32(3, 1);
            data.u32(4, *from);
            if *counter {
                data.nested(7, |expr| expr.string(1, "counter"));
            }
        }
        Expr::Header { kind, offset, to } => {
            data.u32(1, *to);
            data.bytes(2, &[*kind]);
            data.u32(3, offset.unwrap_or(0));
            data.u32(4, if offset.is_some() { 2 } else { 1 });
            // NFT_EXTHDR_OP_IPV6; NFT_EXTHDR_F_PRESENT.
            data.u32(6, 0);
            if offset.is_none() {
                data.u32(5, 1);
            }
        }
        Expr::Counter | Expr::Masquerade | Expr::NoTrack => {}
        Expr::Immediate { to, value } => {
            data.u32(1, *to);
            data.data(2, value);
        }
        Expr::Redirect(family) => {
            // NFT_NAT_DNAT.
            data.u32(1, 1);
            data.u32(2, family.number().into());
            data.u32(3, 1);
            data.u32(5, 2);
        }
        Expr::Fib { to } => {
            // NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT; NFT_FIB_RESULT_OIF.
            data.u32(3, 1 | 8 | 32);
            data.u32(2, 1);
            data.u32(1, *to);
        }
        Expr::DestinationType { to } => {
            // NFTA_FIB_F_DADDR; NFT_FIB_RESULT_ADDRTYPE.
            data.u32(3, 2);
            data.u32(2, 3);
            data.u32(1, *to);
        }
        Expr::CtState { to } => {
            data.u32(2, 0);
            data.u32(1, *to);
        }
        Expr::CtStatus { to } => {
            data.u32(2, 2);
            data.u32(1, *to);
        }
        Expr::Map { map, from, to } => {
            data.string(1, map);
            data.u32(2, *from);
            data.u32(3, *to);
        }
        Expr::Dnat {
            family,
            address,
            port,
        } => {
            // NFT_NAT_DNAT.
            data.u32(1, 1);
            data.u32(2, family.number().into());
            data.u32(3, *address);
            data.u32(5, *port);
        }
        Expr::Reject { kind, code } => {
            data.u32(1, *kind);
            data.bytes(2, &[*code]);
        }
        Expr::Verdict { code, chain } => {
            data.u32(1, 0);
            data.nested(2, |inner| {
                inner.nested(2, |verdict| {
                    verdict.bytes(1, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        verdict.string(2, chain);
                    }
                });
            });
        }
    }
}
