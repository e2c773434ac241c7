//! Names that entries list are looked up again and again, so that who keeps an address for good, or has a resolver of
//! its own kind, is not locked out of what the policy accepts, and does not get at what it rejects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::grants::TTL_MOST;
use super::instances::is_gone;
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
    order: BTreeSet<(Instant, String)>,
}

impl Follow {
    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    fn set(&mut self, name: &str, at: Instant) {
        if let Some(before) = self.due.insert(name.to_owned(), at) {
            self.order.remove(&(before, name.to_owned()));
        }
        self.order.insert((at, name.to_owned()));
    }

    fn has(&self, name: &str) -> bool {
        self.due.contains_key(name)
    }

    fn retain(&mut self, names: &BTreeSet<String>) {
        self.due.retain(|name, _| names.contains(name));
        self.order.retain(|(_, name)| names.contains(name));
    }

    /// Some of those that are due.
    fn due(&self, now: Instant) -> Vec<String> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now);
        due.take(AT_ONCE).map(|(_, name)| name.clone()).collect()
    }
}

impl Server {
    /// These instances are new: their names are looked up now.
    pub(super) fn follow_new(&mut self, users: &[String]) {
        let now = Instant::now();
        for user in users {
            for name in self.names_of(user) {
                self.follow.set(&name, now);
            }
        }
        let all: BTreeSet<String> = self
            .instances
            .by_user
            .keys()
            .flat_map(|user| self.names_of(user))
            .collect();
        self.follow.retain(&all);
    }

    /// The server's files changed: everything is looked up now.
    pub(super) fn follow_all(&mut self) {
        let now = Instant::now();
        let names: Vec<String> = self.follow.due.keys().cloned().collect();
        names.iter().for_each(|name| self.follow.set(name, now));
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
        for text in self.follow.due(now) {
            self.follow.set(&text, now + LEAST);
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
                let named = one.sets.names(name) || one.sets.rejects_host(name);
                named && spec.addresses.iter().any(|address| address.is_ipv6() == v6)
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
        if self.follow.has(name) {
            // It has to be known again before the time of the addresses is over.
            let (least, most) = (LEAST.min(grace / 4), MOST.min(grace / 2));
            let next = Instant::now() + ttl.clamp(least, most.max(least));
            self.follow.set(name, next);
        }
        let mut failed = Vec::new();
        for instance in self.instances.by_user.values_mut() {
            let entries = instance.sets.entries_of(name);
            let listed = instance.sets.names(name);
            let rejects = instance.sets.rejects_of(name);
            let family = |v6: bool| {
                let addresses = &instance.sets.spec().addresses;
                addresses.iter().any(|address| address.is_ipv6() == v6)
            };
            let followed = listed || instance.sets.rejects_host(name);
            if !followed || !family(kind == AAAA) {
                continue;
            }
            let places = self.places.as_ref();
            if !rejects.is_empty() {
                let those = (rejects.as_slice(), chain.addresses.as_slice());
                let looked_up = Some(kind == AAAA);
                let done = instance.reject(&self.kernel, places, those, looked_up, ttl + grace);
                if let Err(refusal) = done
                    && !is_gone(&refusal)
                {
                    failed.push(format!("{}: {name}: {}", instance.user, refusal.source));
                }
            }
            if !listed {
                continue;
            }
            let addresses: Vec<IpAddr> = chain
                .addresses
                .iter()
                .copied()
                .filter(|address| instance.forbids(address).is_none())
                .collect();
            let times = (ttl, grace);
            let granted = instance.grant(&self.kernel, places, &entries, &addresses, times);
            if let Err(refusal) = granted
                && !is_gone(&refusal)
            {
                failed.push(format!("{}: {name}: {}", instance.user, refusal.source));
            }
        }
        failed.iter().for_each(|line| self.say(line));
    }
}
