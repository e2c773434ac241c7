//! The addresses of names that a reject list has: what is seen stays rejected, also when nobody can be asked any more.
//!
//! So they have no time in the kernel. One goes when its name was looked up, with success, and did not lead there for as
//! long as an accepted address would have lasted. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::policy::{EntryId, Grant};

/// So many per instance: a name that leads to ever other addresses shall not fill the kernel.
const REJECTED_MOST: usize = 1024;

/// The rejected addresses of one instance.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    /// Until when a name is known to lead there.
    until: BTreeMap<Grant, Instant>,
}

/// What is to be done in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub more: Vec<Grant>,
    pub less: Vec<Grant>,
}

impl Rejected {
    /// The kernel has it.
    pub fn set(&mut self, grant: Grant, until: Instant) {
        self.until.insert(grant, until);
    }

    pub fn all(&self) -> Vec<Grant> {
        self.until.keys().copied().collect()
    }

    /// `entries` lead to `addresses` until `until`. With `looked_up` (of IPv6 or of IPv4) that is all of them, and those
    /// whose time is over go. None: there is no room, and nothing may go for it.
    pub fn seen(
        &self,
        entries: &[EntryId],
        addresses: &[IpAddr],
        looked_up: Option<bool>,
        now: Instant,
    ) -> Option<Change> {
        let mut change = Change::default();
        let mut new = 0;
        for address in addresses {
            for grant in entries.iter().map(|id| (*address, *id)) {
                let known = self.until.contains_key(&grant);
                new += usize::from(!known);
                // A look-up tells what is known once more: somebody may have emptied the table.
                if !known || looked_up.is_some() {
                    change.more.push(grant);
                }
            }
        }
        let is_over = |(grant, until): &(&Grant, &Instant)| {
            let of_these = entries.contains(&grant.1) && looked_up == Some(grant.0.is_ipv6());
            of_these && **until < now && !addresses.contains(&grant.0)
        };
        let over = self.until.iter().filter(is_over).map(|(grant, _)| *grant);
        change.less.extend(over);
        let count = self.until.len() + new - change.less.len();
        let surplus = count.saturating_sub(REJECTED_MOST);
        if surplus == 0 {
            return Some(change);
        }
        // The application chooses what it asks for: it shall not push out what is rejected.
        looked_up?;
        let mut oldest: Vec<(Instant, Grant)> = self
            .until
            .iter()
            .filter(|(grant, _)| entries.contains(&grant.1) && !change.less.contains(grant))
            .filter(|(grant, _)| !addresses.contains(&grant.0))
            .map(|(grant, until)| (*until, *grant))
            .collect();
        oldest.sort_unstable();
        change
            .less
            .extend(oldest.into_iter().take(surplus).map(|(_, grant)| grant));
        Some(change)
    }

    /// The kernel has done it.
    pub fn done(&mut self, change: &Change) {
        self.until.retain(|grant, _| !change.less.contains(grant));
    }

    /// These entries lead there until then.
    pub fn renew(&mut self, entries: &[EntryId], addresses: &[IpAddr], until: Instant) {
        for address in addresses {
            for id in entries {
                let known = self.until.entry((*address, *id)).or_insert(until);
                *known = (*known).max(until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::policy::{Direction, List};

    fn id(index: usize) -> EntryId {
        EntryId {
            direction: Direction::Out,
            list: List::Reject,
            index,
        }
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn an_address_goes_when_its_name_has_left_it_and_not_before() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut rejected = Rejected::default();
        let seen = |rejected: &mut Rejected, numbers: &[u32], at: Instant| {
            let addresses: Vec<IpAddr> = numbers.iter().map(|one| address(*one)).collect();
            let change = rejected
                .seen(&[id(0)], &addresses, Some(false), at)
                .unwrap();
            rejected.done(&change);
            rejected.renew(&[id(0)], &addresses, at + 10 * second);
            change
        };
        let first = seen(&mut rejected, &[1, 2], now);
        assert_eq!(first.more, [(address(1), id(0)), (address(2), id(0))]);
        let again = seen(&mut rejected, &[1], now + 5 * second);
        assert_eq!((again.more.len(), again.less.len()), (1, 0));
        let last = seen(&mut rejected, &[1], now + 11 * second);
        assert_eq!(last.less, [(address(2), id(0))]);
        // The other family, or another entry, says nothing of it; nor does time alone.
        let later = now + 1000 * second;
        for (entries, looked_up) in [
            ([id(0)], Some(true)),
            ([id(1)], Some(false)),
            ([id(0)], None),
        ] {
            let change = rejected.seen(&entries, &[], looked_up, later).unwrap();
            assert_eq!(change, Change::default());
        }
    }

    #[test]
    fn asking_pushes_nothing_out() {
        let now = Instant::now();
        let mut rejected = Rejected::default();
        for number in 0..REJECTED_MOST as u32 {
            rejected.set(
                (address(number), id(0)),
                now + Duration::from_secs(number.into()),
            );
        }
        assert_eq!(rejected.seen(&[id(1)], &[address(5000)], None, now), None);
        assert!(rejected.seen(&[id(0)], &[address(5)], None, now).is_some());
        // Its own look-ups go on, at the cost of its oldest.
        let change = rejected.seen(&[id(0)], &[address(5000), address(0)], Some(false), now);
        let change = change.unwrap();
        assert!(change.more.contains(&(address(5000), id(0))));
        assert_eq!(change.less, [(address(1), id(0))]);
    }
}
