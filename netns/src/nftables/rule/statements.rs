//! The words that say what becomes of a packet, and what is remembered of it.

use std::net::{IpAddr, SocketAddr};

use super::super::Shape;
use super::super::words::{Expr, Family, Selector, octets};
use super::{FIRST, Rule};

const VERDICT_DROP: i32 = 0;
const VERDICT_ACCEPT: i32 = 1;
const VERDICT_JUMP: i32 = -3;
const VERDICT_GOTO: i32 = -4;
const VERDICT_RETURN: i32 = -5;

impl Rule {
    /// Adds the key of the packet to `set`, or refreshes it. Ends the rule when the set is full.
    pub(crate) fn update(
        mut self,
        selector: Selector,
        shape: Shape,
        set: &str,
        counter: bool,
    ) -> Rule {
        let words = self.select(selector, shape);
        let counted = if counter { " counter" } else { "" };
        self.word(format_args!("update @{set} {{ {words}{counted} }}"));
        self.exprs.push(Expr::Update {
            set: set.into(),
            from: FIRST,
            counter,
        });
        self
    }

    pub(crate) fn counter(mut self) -> Rule {
        self.word("counter");
        self.exprs.push(Expr::Counter);
        self
    }

    fn verdict(mut self, word: &str, code: i32, chain: Option<&str>) -> Rule {
        match chain {
            Some(chain) => self.word(format_args!("{word} {chain}")),
            None => self.word(word),
        }
        self.exprs.push(Expr::Verdict {
            code,
            chain: chain.map(str::to_string),
        });
        self
    }

    pub(crate) fn accept(self) -> Rule {
        self.verdict("accept", VERDICT_ACCEPT, None)
    }

    pub(crate) fn drop(self) -> Rule {
        self.verdict("drop", VERDICT_DROP, None)
    }

    pub(crate) fn goto(self, chain: &str) -> Rule {
        self.verdict("goto", VERDICT_GOTO, Some(chain))
    }

    /// On behind this rule when `chain` has no verdict.
    pub(crate) fn jump(self, chain: &str) -> Rule {
        self.verdict("jump", VERDICT_JUMP, Some(chain))
    }

    /// Out of a chain that was jumped to.
    pub(crate) fn back(self) -> Rule {
        self.verdict("return", VERDICT_RETURN, None)
    }

    /// Only for TCP.
    pub(crate) fn reset(mut self) -> Rule {
        self.word("reject with tcp reset");
        self.exprs.push(Expr::Reject { kind: 1, code: 0 });
        self
    }

    /// ICMP or ICMPv6: administratively prohibited.
    pub(crate) fn prohibit(mut self) -> Rule {
        self.word("reject with icmpx admin-prohibited");
        self.exprs.push(Expr::Reject { kind: 2, code: 3 });
        self
    }

    pub(crate) fn masquerade(mut self) -> Rule {
        self.word("masquerade");
        self.exprs.push(Expr::Masquerade);
        self
    }

    /// Packets of the address's family go there instead, and their answers seem to come from where they were sent to.
    /// In chains of type `nat`.
    pub(crate) fn redirect(mut self, address: IpAddr, port: u16) -> Rule {
        let family = Family::of(&address);
        self.imply_family(family);
        let to = SocketAddr::new(address, port);
        self.word(format_args!("dnat {} to {to}", family.word()));
        for (to, value) in [(1, octets(&address)), (2, port.to_be_bytes().to_vec())] {
            self.exprs.push(Expr::Immediate { to, value });
        }
        self.exprs.push(Expr::Redirect(family));
        self
    }

    /// Nothing for conntrack. In chains before it.
    pub(crate) fn no_track(mut self) -> Rule {
        self.word("notrack");
        self.exprs.push(Expr::NoTrack);
        self
    }
}
