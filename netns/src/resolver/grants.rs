//! Which addresses of names an instance may reach, and until when: bounded, the oldest go first. Pure; what is to be
//! done about it in the kernel is told by the results.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::policy::{Direction, EntryId, Grant, List};

/// So many addresses per instance.
pub(super) const ADDRESSES_MOST: usize = 1024;
/// And so many elements of sets: an entry with many ports takes many.
pub(super) const ELEMENTS_MOST: usize = 32_768;
/// The longest that an answer holds: a day.
pub(super) const TTL_MOST: u32 = 86_400;

/// The addresses of one instance.
#[derive(Debug, Default)]
pub(super) struct Grants {
    until: BTreeMap<Grant, Instant>,
    /// Elements per grant, as far as they are not one.
    weight: BTreeMap<Grant, usize>,
}

impl Grants {
    /// Of these, those whose time is to be set anew in the kernel: the time there must reach beyond `ttl`. A name
    /// that is asked for all the time costs one change per half of `grace`.
    pub fn due(
        &self,
        grants: &[Grant],
        ttl: Duration,
        grace: Duration,
        now: Instant,
    ) -> Vec<Grant> {
        let enough = now + ttl + grace / 2;
        let is_short = |grant: &&Grant| self.until.get(grant).is_none_or(|until| *until < enough);
        grants.iter().filter(is_short).copied().collect()
    }

    /// The kernel has it so.
    pub fn set(&mut self, grant: Grant, until: Instant, weight: usize) {
        self.until.insert(grant, until);
        if weight > 1 {
            self.weight.insert(grant, weight);
        }
    }

    /// Forgets what the kernel has forgotten.
    pub fn expire(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        self.weight
            .retain(|grant, _| self.until.contains_key(grant));
    }

    /// Those that end before `then`.
    pub fn ending(&self, then: Instant) -> Vec<Grant> {
        let ending = self.until.iter().filter(|(_, until)| **until < then);
        ending.map(|(grant, _)| *grant).collect()
    }

    /// Whether the address is reached by a name.
    pub fn has(&self, address: &IpAddr) -> bool {
        let first = EntryId {
            direction: Direction::Out,
            list: List::Accept,
            index: 0,
        };
        let mut from = self.until.range((*address, first)..);
        from.next().is_some_and(|((one, _), _)| one == address)
    }

    /// The addresses that have to go so that `coming` fit: those that would end first, and none of `coming`.
    pub fn make_room(&mut self, coming: &BTreeSet<IpAddr>, weight: usize) -> BTreeSet<IpAddr> {
        let mut addresses: BTreeMap<IpAddr, (Instant, usize)> = BTreeMap::new();
        for (grant, until) in &self.until {
            let weight = self.weight.get(grant).copied().unwrap_or(1);
            let known = addresses.entry(grant.0).or_insert((*until, 0));
            known.0 = known.0.max(*until);
            known.1 += weight;
        }
        let new = coming
            .iter()
            .filter(|one| !addresses.contains_key(one))
            .count();
        let mut count = addresses.len() + new;
        let mut elements = weight + addresses.values().map(|(_, weight)| weight).sum::<usize>();
        if count <= ADDRESSES_MOST && elements <= ELEMENTS_MOST {
            return BTreeSet::new();
        }
        let mut oldest: Vec<(Instant, IpAddr, usize)> = addresses
            .into_iter()
            .filter(|(address, _)| !coming.contains(address))
            .map(|(address, (until, weight))| (until, address, weight))
            .collect();
        oldest.sort_unstable();
        let mut gone = BTreeSet::new();
        for (_, address, weight) in oldest {
            if count <= ADDRESSES_MOST && elements <= ELEMENTS_MOST {
                break;
            }
            count -= 1;
            elements -= weight;
            gone.insert(address);
        }
        self.until.retain(|(address, _), _| !gone.contains(address));
        self.weight
            .retain(|(address, _), _| !gone.contains(address));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(number: u32) -> Grant {
        let id = EntryId {
            direction: Direction::Out,
            list: List::Accept,
            index: 0,
        };
        (std::net::Ipv4Addr::from_bits(number).into(), id)
    }

    #[test]
    fn times_are_renewed_before_they_are_too_short() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut grants = Grants::default();
        let (ttl, grace) = (60 * second, 300 * second);
        assert_eq!(grants.due(&[grant(1)], ttl, grace, now), [grant(1)]);
        grants.set(grant(1), now + ttl + grace, 1);
        assert!(
            grants
                .due(&[grant(1)], ttl, grace, now + 100 * second)
                .is_empty()
        );
        assert_eq!(
            grants.due(&[grant(1)], ttl, grace, now + 151 * second),
            [grant(1)]
        );
        assert_eq!(grants.ending(now + 361 * second), [grant(1)]);
        assert!(grants.has(&grant(1).0) && !grants.has(&grant(2).0));
        grants.expire(now + 360 * second);
        assert!(!grants.has(&grant(1).0));
    }

    #[test]
    fn the_oldest_go_first() {
        let now = Instant::now();
        let mut grants = Grants::default();
        for number in 0..ADDRESSES_MOST as u32 {
            grants.set(
                grant(number),
                now + Duration::from_secs(u64::from(number)),
                1,
            );
        }
        let coming = BTreeSet::from([grant(5000).0, grant(5001).0, grant(0).0]);
        let gone = grants.make_room(&coming, 3);
        assert_eq!(gone, BTreeSet::from([grant(1).0, grant(2).0]));
        assert!(grants.make_room(&BTreeSet::new(), 0).is_empty());
        // Few addresses with many ports are much, too.
        let mut grants = Grants::default();
        for number in 0..70 {
            grants.set(
                grant(number),
                now + Duration::from_secs(u64::from(number)),
                512,
            );
        }
        assert_eq!(
            grants.make_room(&BTreeSet::from([grant(99).0]), 512).len(),
            7
        );
    }
}
