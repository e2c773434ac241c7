//! Names that entries list are looked up again and again, so that who keeps an address for good, or has a resolver of
//! its own kind, is not locked out of what the policy accepts, and does not get at what it rejects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::grants::TTL_MOST;
use super::instances::is_gone;
use super::message::{A, AAAA, NXDOMAIN};
use super::name::Name;
use super::rejected::{NO_ROOM, Seen};
use super::serve::Server;
use super::upstream::{Aim, Job, Outcome};

/// The shortest and the longest time between two look-ups of a name.
const LEAST: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(300);
/// When nobody could be asked for a rejected name that no address is known of: until then it is open.
const SOON: Duration = Duration::from_secs(2);
/// So many are begun at a time.
const AT_ONCE: usize = 64;

/// When names are looked up next.
#[derive(Default)]
pub(super) struct Follow {
    due: BTreeMap<String, Instant>,
    order: BTreeSet<(Instant, String)>,
    /// Those that nobody could be asked for the last time.
    unanswered: BTreeSet<String>,
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
        self.unanswered.retain(|name| names.contains(name));
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
            self.follow.unanswered.remove(&text);
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
                let named = one.sets.names(name) || one.sets.rejects_host(name);
                named && one.has_family(v6)
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
        let mut next = None;
        match outcome {
            Outcome::Chain(chain) => {
                let ttl = Duration::from_secs(chain.ttl.min(TTL_MOST).into());
                let grace = self.settings().grace;
                self.leads(name, kind, &chain.addresses, (ttl, grace));
                // It has to be known again before the time of the addresses is over.
                let (least, most) = (LEAST.min(grace / 4), MOST.min(grace / 2));
                next = Some(ttl.clamp(least, most.max(least)));
            }
            // Who cannot be looked up keeps the addresses that it has, for their time.
            Outcome::Failed(NXDOMAIN) => {}
            Outcome::Failed(_) | Outcome::Response(_) => {
                self.follow.unanswered.insert(name.to_owned());
            }
        }
        if !self.follow.has(name) {
            return;
        }
        let lacks = || self.instances.by_user.values().any(|one| one.lacks(name));
        if self.follow.unanswered.contains(name) && lacks() {
            next = Some(SOON);
        }
        if let Some(next) = next {
            self.follow.set(name, Instant::now() + next);
        }
    }

    /// A name leads there, and nowhere else.
    fn leads(
        &mut self,
        name: &str,
        kind: u16,
        addresses: &[IpAddr],
        (ttl, grace): (Duration, Duration),
    ) {
        let mut failed = Vec::new();
        let places = self.places.as_ref();
        for instance in self.instances.by_user.values_mut() {
            let listed = instance.sets.names(name);
            let followed = listed || instance.sets.rejects_host(name);
            if !followed || !instance.has_family(kind == AAAA) {
                continue;
            }
            let rejects = instance.sets.rejects_of(name).into_iter();
            // Below a star there are other names, too: this one says nothing of their addresses.
            let (own, stars): (Vec<_>, Vec<_>) = rejects.partition(|id| instance.sets.is_host(*id));
            for (entries, looked_up) in [(&own, Some(kind == AAAA)), (&stars, None)] {
                if entries.is_empty() {
                    continue;
                }
                let seen = Seen {
                    entries,
                    addresses,
                    looked_up,
                };
                match instance.reject(&self.kernel, places, seen, ttl + grace) {
                    Ok(true) => {}
                    Ok(false) => failed.push(format!("{}: {name}: {NO_ROOM}", instance.user)),
                    Err(refusal) if is_gone(&refusal) => {}
                    Err(refusal) => {
                        failed.push(format!("{}: {name}: {}", instance.user, refusal.source));
                    }
                }
            }
            if !listed {
                continue;
            }
            let entries = instance.sets.entries_of(name);
            let addresses: Vec<IpAddr> = addresses
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
