//! The addresses of names that a reject list has: what is seen stays rejected, also when nobody can be asked any more.
//!
//! So they have no time in the kernel. One of a name in full goes when that name was looked up, with success, and did not
//! lead there for as long as an accepted address would have lasted. Nobody looks up what is below a star: its addresses
//! stay until others need the room, and for their time in any case. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::grants::ELEMENTS_MOST;
use crate::policy::{Direction, EntryId, Grant, List};

/// An address of a name below a star stays for so long after it was told, at the least.
const STAR_LEAST: Duration = Duration::from_secs(3600);
/// When room is made it is for so many elements more: to ask what there is costs as much as all there is.
const MORE_ROOM: usize = ELEMENTS_MOST / 16;

/// Said where that is not enough.
pub(super) const NO_ROOM: &str = "more addresses are rejected than there is room for";

/// The rejected addresses of one instance.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    known: BTreeMap<Grant, Known>,
    /// The elements of all of them.
    elements: usize,
}

#[derive(Debug)]
struct Known {
    /// Until when a name is known to lead there.
    until: Instant,
    cost: Cost,
}

/// What an address of an entry is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// How many elements it takes.
    pub elements: usize,
    /// The entry has a star.
    pub star: bool,
}

/// Where entries lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'s> {
    pub entries: &'s [EntryId],
    pub addresses: &'s [IpAddr],
    /// These are all of IPv6, or of IPv4: the name of the entries was looked up.
    pub looked_up: Option<bool>,
}

impl Seen<'_> {
    fn grants(&self) -> impl Iterator<Item = Grant> {
        let addresses = self.addresses.iter();
        addresses.flat_map(|address| self.entries.iter().map(|id| (*address, *id)))
    }
}

/// What is to be done in the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub more: Vec<Grant>,
    pub less: BTreeSet<Grant>,
}

impl Rejected {
    /// The kernel has it, and a name leads there until then.
    pub fn set(&mut self, grant: Grant, until: Instant, cost: Cost) {
        let known = self.known.entry(grant).or_insert_with(|| {
            self.elements += cost.elements.max(1);
            Known { until, cost }
        });
        known.until = known.until.max(until);
    }

    /// Whether one of the entries has an address.
    pub fn has(&self, entries: &[EntryId]) -> bool {
        self.known.keys().any(|(_, id)| entries.contains(id))
    }

    /// What else is rejected at the addresses of `less`: elements may be there for several entries.
    pub fn beside(&self, less: &BTreeSet<Grant>) -> Vec<Grant> {
        let addresses: BTreeSet<IpAddr> = less.iter().map(|(address, _)| *address).collect();
        let at = |address: &IpAddr| {
            let address = *address;
            let known = self.known.range((address, FIRST)..);
            let there = known.take_while(move |((one, _), _)| *one == address);
            there.map(|(grant, _)| *grant)
        };
        let all = addresses.iter().flat_map(at);
        all.filter(|grant| !less.contains(grant)).collect()
    }

    /// What it takes to reject this. When there is no room, the addresses of stars go whose time is over, the oldest first,
    /// unless they are `needed`. None: that does not suffice, and nothing else may go for it.
    pub fn seen(
        &self,
        seen: Seen<'_>,
        cost: impl Fn(Grant) -> Cost,
        needed: impl Fn(&IpAddr) -> bool,
        now: Instant,
    ) -> Option<Change> {
        let mut change = Change::default();
        let mut new = 0;
        for grant in seen.grants() {
            let known = self.known.contains_key(&grant);
            if !known {
                new += cost(grant).elements.max(1);
            }
            // A look-up tells what is known once more: somebody may have emptied the table.
            if !known || seen.looked_up.is_some() {
                change.more.push(grant);
            }
        }
        let is_here =
            |grant: &Grant| seen.entries.contains(&grant.1) && seen.addresses.contains(&grant.0);
        let mut less = 0;
        if let Some(v6) = seen.looked_up {
            for (grant, known) in &self.known {
                let of_these = seen.entries.contains(&grant.1) && grant.0.is_ipv6() == v6;
                if of_these && known.until < now && !is_here(grant) {
                    less += known.cost.elements.max(1);
                    change.less.insert(*grant);
                }
            }
        }
        let elements = (self.elements + new).saturating_sub(less);
        let surplus = elements.saturating_sub(ELEMENTS_MOST);
        if surplus == 0 || new == 0 {
            return Some(change);
        }
        let freed = self.make_room(&mut change, surplus + MORE_ROOM, |grant, known| {
            let over = known.cost.star && known.until < now;
            over && !needed(&grant.0) && !is_here(grant)
        });
        if freed >= surplus {
            return Some(change);
        }
        // The application chooses what it asks for: it shall not push out what is rejected.
        seen.looked_up?;
        self.make_room(&mut change, surplus - freed, |grant, _| {
            seen.entries.contains(&grant.1) && !is_here(grant)
        });
        Some(change)
    }

    /// Lets the oldest go of those that may, for so many elements; how many that gave.
    fn make_room(
        &self,
        change: &mut Change,
        wanted: usize,
        may_go: impl Fn(&Grant, &Known) -> bool,
    ) -> usize {
        let known = self.known.iter();
        let mut oldest: Vec<(Instant, Grant, usize)> = known
            .filter(|(grant, known)| !change.less.contains(grant) && may_go(grant, known))
            .map(|(grant, known)| (known.until, *grant, known.cost.elements.max(1)))
            .collect();
        oldest.sort_unstable();
        let mut freed = 0;
        for (_, grant, elements) in oldest {
            if freed >= wanted {
                break;
            }
            freed += elements;
            change.less.insert(grant);
        }
        freed
    }

    /// The kernel has done it, and the entries lead there for `life` from now on.
    pub fn done(
        &mut self,
        change: &Change,
        seen: Seen<'_>,
        cost: impl Fn(Grant) -> Cost,
        (now, life): (Instant, Duration),
    ) {
        for grant in &change.less {
            if let Some(known) = self.known.remove(grant) {
                self.elements = self.elements.saturating_sub(known.cost.elements.max(1));
            }
        }
        for grant in seen.grants() {
            let known = self.known.get(&grant).map(|known| known.cost);
            let cost = known.unwrap_or_else(|| cost(grant));
            self.set(grant, now + cost.life(life), cost);
        }
    }
}

impl Cost {
    /// How long an address stays at the least that a name leads to for `life`.
    pub fn life(&self, life: Duration) -> Duration {
        match self.star {
            true => life.max(STAR_LEAST),
            false => life,
        }
    }
}

/// The first of all entries.
const FIRST: EntryId = EntryId {
    direction: Direction::Out,
    list: List::Accept,
    index: 0,
};

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(index: usize) -> EntryId {
        EntryId {
            list: List::Reject,
            index,
            ..FIRST
        }
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    /// Entries from 10 on have stars.
    fn cost(elements: usize) -> impl Fn(Grant) -> Cost {
        move |grant| Cost {
            elements,
            star: grant.1.index >= 10,
        }
    }

    /// One entry leads to these addresses.
    fn leads(
        rejected: &mut Rejected,
        (id, numbers): (EntryId, &[u32]),
        elements: usize,
        looked_up: Option<bool>,
        now: Instant,
    ) -> Option<Change> {
        let addresses: Vec<IpAddr> = numbers.iter().map(|one| address(*one)).collect();
        let seen = Seen {
            entries: &[id],
            addresses: &addresses,
            looked_up,
        };
        let change = rejected.seen(seen, cost(elements), |_| false, now)?;
        rejected.done(&change, seen, cost(elements), (now, 10 * SECOND));
        let sum = rejected.known.values().map(|known| known.cost.elements);
        assert_eq!(rejected.elements, sum.sum::<usize>());
        Some(change)
    }

    fn less(numbers: impl IntoIterator<Item = u32>, id: EntryId) -> BTreeSet<Grant> {
        numbers.into_iter().map(|one| (address(one), id)).collect()
    }

    #[test]
    fn an_address_goes_when_its_name_has_left_it_and_not_before() {
        let now = Instant::now();
        let mut rejected = Rejected::default();
        let mut seen = |numbers: &[u32], at: Instant| {
            leads(&mut rejected, (id(0), numbers), 1, Some(false), at).unwrap()
        };
        let first = seen(&[1, 2], now);
        assert_eq!(first.more, [(address(1), id(0)), (address(2), id(0))]);
        let again = seen(&[1], now + 5 * SECOND);
        assert_eq!((again.more.len(), again.less.len()), (1, 0));
        let last = seen(&[1], now + 11 * SECOND);
        assert_eq!(last.less, less([2], id(0)));
        // The other family, or another entry, says nothing of it; nor does time alone.
        let later = now + 1000 * SECOND;
        for (id, looked_up) in [(id(0), Some(true)), (id(1), Some(false)), (id(0), None)] {
            let change = leads(&mut rejected, (id, &[]), 1, looked_up, later).unwrap();
            assert_eq!(change, Change::default());
        }
        assert!(rejected.has(&[id(1), id(0)]) && !rejected.has(&[id(1)]));
    }

    #[test]
    fn asking_pushes_nothing_out() {
        let now = Instant::now();
        let mut rejected = Rejected::default();
        for number in 0..ELEMENTS_MOST as u32 {
            let until = now + number * SECOND;
            rejected.set(
                (address(number), id(0)),
                until,
                cost(1)((address(0), id(0))),
            );
        }
        let later = now + 10_000 * SECOND;
        for id in [id(1), id(10)] {
            let change = leads(&mut rejected, (id, &[50_000]), 1, None, later);
            assert_eq!(change, None);
        }
        assert!(leads(&mut rejected, (id(0), &[5]), 1, None, now).is_some());
        // Its own look-ups go on, at the cost of its oldest.
        let change = leads(&mut rejected, (id(0), &[50_000, 0]), 1, Some(false), now).unwrap();
        assert!(change.more.contains(&(address(50_000), id(0))));
        assert_eq!(change.less, less([1], id(0)));
    }

    #[test]
    fn addresses_of_stars_make_room_when_their_time_is_over() {
        let now = Instant::now();
        let (mut rejected, star) = (Rejected::default(), id(10));
        let (count, each) = (ELEMENTS_MOST as u32 / 512, 512);
        for number in 0..count {
            let at = now + number * SECOND;
            assert!(leads(&mut rejected, (star, &[number]), each, None, at).is_some());
        }
        // The elements count, not the addresses; and for an hour none goes.
        let soon = now + STAR_LEAST;
        assert_eq!(leads(&mut rejected, (star, &[900]), each, None, soon), None);
        assert_eq!(leads(&mut rejected, (id(11), &[900]), 1, None, soon), None);
        // What is told again begins anew, and so does its hour.
        assert!(leads(&mut rejected, (star, &[0]), each, None, soon).is_some());
        let later = soon + 3 * SECOND;
        let change = leads(&mut rejected, (star, &[900]), each, None, later).unwrap();
        assert_eq!(change.more, [(address(900), star)]);
        assert_eq!(change.less, less([1, 2], star));
        // Later, the oldest, and some more than are in the way; but none that is accepted by another name.
        let (much_later, new) = (
            later + 2 * STAR_LEAST,
            [address(901), address(902), address(903)],
        );
        let seen = Seen {
            entries: &[star],
            addresses: &new,
            looked_up: None,
        };
        let needed = |one: &IpAddr| *one == address(4);
        let change = rejected.seen(seen, cost(each), needed, much_later).unwrap();
        assert_eq!(change.less, less([3, 5, 6, 7, 8, 9], star));
        assert!(rejected.beside(&change.less).is_empty());
        rejected.set((address(3), id(0)), now, cost(1)((address(3), id(0))));
        assert_eq!(rejected.beside(&change.less), [(address(3), id(0))]);
    }
}
