//! Another policy for a sandbox that runs, in one transaction: see `nftables/change.rs`.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use metactl_bundles::network::{Entry, Mode, NetworkSpec, Peer};

use super::{DIRECTIONS, Direction, List, learn, ruleset};
use crate::netlink::{Netlink, Refusal, inside};
use crate::nftables::{self, Ruleset, change, shown_comment};
use crate::{NetError, Resolved};

/// Makes the policy of `after` the one in force, in a sandbox where that of `before` is. Every packet is judged by
/// the one or the other, whole. Counters of entries that stay are kept, and so are exchanges of UDP packets and
/// what was refused; of host names that stay, also the addresses that `names` does not have. Open TCP
/// connections go on: see [`super::unwanted()`] for those that the new policy would refuse. A sandbox whose rules
/// somebody flushed gets them again. While it learns ([`learn::start`]) it goes on learning.
///
/// On an error the policy of `before` is in force as it was.
pub fn replace(
    netns: BorrowedFd<'_>,
    before: &NetworkSpec,
    after: &NetworkSpec,
    names: &Resolved,
) -> Result<(), NetError> {
    if !is_guarded(after) {
        return Ok(());
    }
    let rules = ruleset(after, names)?;
    let kept = kept(before, after);
    inside(netns, || {
        let mut socket = Netlink::netfilter()
            .map_err(Refusal::from)
            .map_err(during)?;
        let left = learn::left(&mut socket).map_err(during)?;
        let rules = match left {
            Some(left) => learn::with_learning(rules, after, left),
            None => rules,
        };
        exchange(&mut socket, &rules, &kept).map_err(during)
    })
}

/// The same policy, with learning for `time` or without.
pub(super) fn set_learning(
    netns: BorrowedFd<'_>,
    spec: &NetworkSpec,
    names: &Resolved,
    time: Option<Duration>,
) -> Result<(), NetError> {
    let plain = ruleset(spec, names)?;
    let kept = kept(spec, spec);
    inside(netns, || {
        let mut socket = Netlink::netfilter()
            .map_err(Refusal::from)
            .map_err(during)?;
        // What an earlier learning left is no part of this one.
        exchange(&mut socket, &plain, &kept).map_err(during)?;
        match time {
            Some(time) => {
                let rules = learn::with_learning(plain, spec, time);
                exchange(&mut socket, &rules, &kept).map_err(during)
            }
            None => Ok(()),
        }
    })
}

fn during(refusal: Refusal) -> NetError {
    refusal.during("change the firewall of the sandbox")
}

/// Whether there is a policy at all.
pub(super) fn is_guarded(spec: &NetworkSpec) -> bool {
    matches!(spec.mode, Mode::Routed | Mode::Nat)
}

fn exchange(socket: &mut Netlink, rules: &Ruleset, kept: &Kept) -> Result<(), Refusal> {
    match nftables::table_exists(socket)? {
        true => change::exchange(socket, rules, &|set, comment| {
            list_of(set).is_some_and(|list| kept.contains(&(list, comment.to_owned())))
        }),
        false => nftables::load(socket, rules),
    }
}

/// A list, and the comment of an entry of it.
type Kept = BTreeSet<((Direction, List), String)>;

/// The lines with a host name that are in both, word for word: their addresses stay. One that accepted more than it does
/// now is looked up anew: which of its addresses were of the destination that is gone, the kernel does not know. One that
/// rejected more keeps them until the resolver knows better.
fn kept(before: &NetworkSpec, after: &NetworkSpec) -> Kept {
    let named = |entry: &&Entry| matches!(entry.peer, Peer::Host(_) | Peer::Suffix(_));
    let comment = |entry: &Entry| shown_comment(&entry.name).to_owned();
    let mut kept = Kept::new();
    for direction in DIRECTIONS {
        for list in [List::Accept, List::Reject] {
            let of = |spec| list.entries(direction.policy(spec));
            let is_gone = |entry: &&Entry| list == List::Accept && !of(after).contains(entry);
            let gone = of(before).iter().filter(named).filter(is_gone);
            let gone: BTreeSet<String> = gone.map(comment).collect();
            let entries = of(after).iter().filter(named);
            let same = entries.filter(|entry| of(before).contains(entry));
            let same = same.map(comment).filter(|comment| !gone.contains(comment));
            kept.extend(same.map(|comment| ((direction, list), comment)));
        }
    }
    kept
}

/// The list whose entries a set holds.
fn list_of(set: &str) -> Option<(Direction, List)> {
    let (list, rest) = match set.strip_prefix(List::Reject.prefix()) {
        Some(rest) => (List::Reject, rest),
        None => (List::Accept, set),
    };
    let direction = DIRECTIONS.into_iter().find(|direction| {
        let families = rest.strip_prefix(direction.word());
        families.is_some_and(|rest| rest.starts_with(['4', '6']))
    });
    direction.map(|direction| (direction, list))
}

/// Whether two descriptions of a network differ in nothing but what [`replace`] can change.
pub fn differ_in_policy_only(one: &NetworkSpec, other: &NetworkSpec) -> bool {
    let bare = NetworkSpec {
        out: other.out.clone(),
        inbound: other.inbound.clone(),
        ..one.clone()
    };
    bare == *other
}
