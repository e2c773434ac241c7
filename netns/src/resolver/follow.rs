//! Names that entries list are looked up again and again, so that who keeps an address for good, or has a resolver of
//! its own kind, is not locked out of what the policy accepts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::grants::TTL_MOST;
use super::message::{A, AAAA};
use super::name::Name;
use super::serve::Server;
use super::upstream::{Aim, Job, Outcome};

/// The shortest and the longest time between two look-ups of a name.
const LEAST: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(300);
/// So many are begun at a time.
const AT_ONCE: usize = 64;

/// When names are looked up next.
#[derive(Default)]
pub(super) struct Follow {
    due: BTreeMap<String, Instant>,
}

impl Follow {
    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }
}

impl Server {
    /// These instances are new: their names are looked up now.
    pub(super) fn follow_new(&mut self, users: &[String]) {
        let now = Instant::now();
        for user in users {
            for name in self.names_of(user) {
                self.follow.due.insert(name, now);
            }
        }
        let all: BTreeSet<String> = self
            .instances
            .by_user
            .keys()
            .flat_map(|user| self.names_of(user))
            .collect();
        self.follow.due.retain(|name, _| all.contains(name));
    }

    /// The server's files changed: everything is looked up now.
    pub(super) fn follow_all(&mut self) {
        let now = Instant::now();
        self.follow.due.values_mut().for_each(|due| *due = now);
    }

    fn names_of(&self, user: &str) -> Vec<String> {
        let instance = self.instances.by_user.get(user);
        let names = instance
            .map(|one| one.sets.spec().host_names())
            .unwrap_or_default();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Begins to look up what is due.
    pub(super) fn follow_due(&mut self) {
        let now = Instant::now();
        let due = self.follow.due.iter().filter(|(_, due)| **due <= now);
        let due: Vec<String> = due.map(|(name, _)| name.clone()).take(AT_ONCE).collect();
        for text in due {
            self.follow.due.insert(text.clone(), now + LEAST);
            let Some(name) = Name::from_text(&text) else {
                continue;
            };
            let candidates: VecDeque<Name> = self.resolving.candidates(&name).into();
            for kind in self.kinds_of(&text) {
                if let Some((_, chain)) = self.in_hosts(&candidates, kind) {
                    self.followed(&text, kind, Outcome::Chain(chain));
                    continue;
                }
                let aim = Aim::Follow(text.clone());
                if let Some(job) = Job::new(aim, kind, candidates.clone()) {
                    self.begin(job);
                }
            }
        }
    }

    /// The types of addresses that the instances with this name have themselves.
    fn kinds_of(&self, name: &str) -> Vec<u16> {
        let has = |v6: bool| {
            let mut users = self.instances.by_user.values();
            users.any(|one| {
                let spec = one.sets.spec();
                spec.addresses.iter().any(|address| address.is_ipv6() == v6)
                    && spec.host_names().contains(&name)
            })
        };
        [(false, A), (true, AAAA)]
            .into_iter()
            .filter(|(v6, _)| has(*v6))
            .map(|(_, kind)| kind)
            .collect()
    }

    /// A name was looked up.
    pub(super) fn followed(&mut self, name: &str, kind: u16, outcome: Outcome<'_>) {
        // Who cannot be looked up keeps the addresses that it has, for their time.
        let Outcome::Chain(chain) = outcome else {
            return;
        };
        let ttl = Duration::from_secs(chain.ttl.min(TTL_MOST).into());
        let grace = self.settings().grace;
        if let Some(due) = self.follow.due.get_mut(name) {
            // It has to be known again before the time of the addresses is over.
            let (least, most) = (LEAST.min(grace / 4), MOST.min(grace / 2));
            *due = Instant::now() + ttl.clamp(least, most.max(least));
        }
        let mut failed = Vec::new();
        for instance in self.instances.by_user.values_mut() {
            let entries = instance.sets.entries_of(name);
            let listed = instance.sets.spec().host_names().contains(&name);
            let family = |v6: bool| {
                let addresses = &instance.sets.spec().addresses;
                addresses.iter().any(|address| address.is_ipv6() == v6)
            };
            if !listed || !family(kind == AAAA) {
                continue;
            }
            let addresses: Vec<IpAddr> = chain
                .addresses
                .iter()
                .copied()
                .filter(|address| instance.forbids(address).is_none())
                .collect();
            let places = self.places.as_ref();
            if let Err(refusal) =
                instance.grant(&self.kernel, places, &entries, &addresses, (ttl, grace))
            {
                failed.push(format!("{}: {name}: {}", instance.user, refusal.source));
            }
        }
        failed.iter().for_each(|line| self.say(line));
    }
}
