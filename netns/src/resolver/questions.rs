//! What becomes of the question of an application.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::grants::TTL_MOST;
use super::joined::Key;
use super::message::{
    A, AAAA, ADDRESSES_MOST, Answer, BadQuery, CLASS_IN, Chain, NOERROR, NXDOMAIN, PTR, Query,
    REFUSED, Response, SERVFAIL,
};
use super::name::Name;
use super::rejected::{NO_ROOM, Seen};
use super::serve::Server;
use super::upstream::{Aim, Job, Relay, Who, room};

/// How long what stands in `/etc/hosts` holds, in seconds: it is looked at all the time.
const HOSTS_TTL: u32 = 60;
/// So many questions of one instance are under way at the same time.
const PENDING_MOST: usize = 256;

/// Said to who asks for something that no entry lists.
const NOT_LISTED: &str = "no entry of [firewall.out.accept] names it";

impl Server {
    /// Answers a question of `user`, at once or later.
    pub(super) fn ask(&mut self, user: &str, message: &[u8], who: Who) {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(BadQuery::Silence) => return,
            Err(BadQuery::Answer(answer)) => return self.reply(&who, &answer),
        };
        match self.judge_query(user, message, &who, &query) {
            Judged::Now(answer) => self.reply(&who, &answer),
            Judged::Ask(relay, candidates) => {
                self.ask_upstream(user, who, query, relay, candidates)
            }
        }
    }

    fn ask_upstream(
        &mut self,
        user: &str,
        who: Who,
        query: Query,
        relay: Relay,
        candidates: VecDeque<Name>,
    ) {
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return;
        };
        if instance.pending >= PENDING_MOST {
            let answer = query.empty(SERVFAIL, None);
            return self.reply(&who, &answer);
        }
        instance.pending += 1;
        let kind = query.kind;
        let user = user.to_owned();
        // Of what is passed on as it came, two are rarely equal.
        let joins = matches!(relay, Relay::Addresses) && !candidates.is_empty();
        let key = joins.then(|| Key {
            user: user.clone(),
            candidates: candidates.clone(),
            kind,
        });
        let first = match &key {
            Some(key) => self.joined.join(key, who, query),
            None => Some((who, query)),
        };
        let Some((who, query)) = first else {
            return;
        };
        let aim = Aim::Answer {
            user,
            who,
            query,
            relay,
        };
        if let Some(mut job) = Job::new(aim, kind, candidates) {
            job.key = key;
            self.begin(job);
        }
    }

    fn judge_query(&mut self, user: &str, message: &[u8], who: &Who, query: &Query) -> Judged {
        self.look_at_files();
        let now = |code| Judged::Now(query.empty(code, None));
        if query.class != CLASS_IN {
            return now(REFUSED);
        }
        let text = query.name.to_string();
        // RFC 6761, 6.3.
        if text == "localhost" || text.ends_with(".localhost") {
            let mut answer = Answer::new(query, room(who, query));
            match query.kind {
                A => answer.add(&[], &[IpAddr::from([127, 0, 0, 1])], HOSTS_TTL),
                AAAA => answer.add(&[], &[std::net::Ipv6Addr::LOCALHOST.into()], HOSTS_TTL),
                _ => {}
            }
            return Judged::Now(answer.finish());
        }
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return now(SERVFAIL);
        };
        let open = instance.is_open();
        if let (Some(address), false) = (query.name.reverse(), open) {
            // Who has an address that it can reach is no secret; and the question holds nothing else.
            return match (query.kind, instance.knows(&address)) {
                (PTR, true) => self.reverse(query, &address),
                (_, true) => now(NOERROR),
                (_, false) => now(NXDOMAIN),
            };
        }
        let mut candidates: VecDeque<Name> = self.resolving.candidates(&query.name).into();
        if let Some(why) = instance.rejects(&text) {
            instance.refuse(&text, &why);
            return Judged::Now(query.empty(NXDOMAIN, Some(&why)));
        }
        let instance_rejects_names = instance.sets.rejects_names();
        if instance_rejects_names {
            candidates.retain(|name| instance.rejects(&name.to_string()).is_none());
        }
        if !open {
            let listed = |name: &str| !instance.sets.entries_of(name).is_empty();
            if !listed(&text) {
                candidates.retain(|name| listed(&name.to_string()));
            }
            if candidates.is_empty() {
                instance.refuse(&text, NOT_LISTED);
                return Judged::Now(query.empty(NXDOMAIN, Some(NOT_LISTED)));
            }
        }
        if let (true, Some(address)) = (query.kind == PTR, query.name.reverse())
            && self.hosts.name(&address).is_some()
        {
            return self.reverse(query, &address);
        }
        let addresses = matches!(query.kind, A | AAAA);
        if let (true, Some((name, chain))) = (addresses, self.in_hosts(&candidates, query.kind)) {
            return Judged::Now(self.answer(user, who, query, &name, &chain, true));
        }
        // Where names are rejected it is looked at what an answer leads by, and nothing else is told.
        let open = open && !instance_rejects_names;
        let relay = match (addresses, open) {
            // With policy accept an answer stays as it is, unless it leads inside; only short names are completed.
            (_, true) if candidates.len() < 2 => Relay::Whole(message.to_vec()),
            (true, _) => Relay::Addresses,
            (false, _) => Relay::Answers,
        };
        Judged::Ask(relay, candidates)
    }

    fn reverse(&self, query: &Query, address: &IpAddr) -> Judged {
        match self.hosts.name(address) {
            Some(name) => {
                let mut answer = Answer::new(query, query.room());
                answer.add_pointer(name, HOSTS_TTL);
                Judged::Now(answer.finish())
            }
            None => Judged::Ask(Relay::Answers, VecDeque::from([query.name.clone()])),
        }
    }

    /// The first of `names` that `/etc/hosts` knows, with its addresses of type `kind`, which may be none.
    pub(super) fn in_hosts(&self, names: &VecDeque<Name>, kind: u16) -> Option<(Name, Chain)> {
        let found = names.iter().find_map(|name| {
            let addresses = self.hosts.addresses(&name.to_string())?;
            Some((name, addresses))
        });
        let (name, addresses) = found?;
        let fits = |address: &&IpAddr| address.is_ipv4() == (kind == A);
        let chain = Chain {
            names: Vec::new(),
            addresses: addresses.iter().filter(fits).copied().collect(),
            ttl: HOSTS_TTL,
        };
        Some((name.clone(), chain))
    }

    /// The answer with the addresses of `chain`, which begins with `base`; they are accepted before it is sent. `ours`:
    /// the server itself says so.
    pub(super) fn answer(
        &mut self,
        user: &str,
        who: &Who,
        query: &Query,
        base: &Name,
        chain: &Chain,
        ours: bool,
    ) -> Vec<u8> {
        let grace = self.settings().grace;
        let text = query.name.to_string();
        if let Err(answer) = self.reject_answer(user, query, base, chain) {
            return answer;
        }
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return query.empty(SERVFAIL, None);
        };
        let ours = ours || instance.sets.names(&text) || instance.sets.names(&base.to_string());
        let mut addresses = Vec::new();
        let mut forbidden = None;
        for address in &chain.addresses {
            let why = match ours {
                true => instance.forbids(address),
                false => instance.forbids_of_strangers(address, &self.kernel),
            };
            match why {
                Some(why) => forbidden = Some(format!("it leads to {address}, which is {why}")),
                None => addresses.push(*address),
            }
        }
        if let Some(why) = &forbidden {
            instance.refuse(&text, why);
        }
        let ttl = chain.ttl.min(TTL_MOST);
        let times = (Duration::from_secs(ttl.into()), grace);
        if !instance.is_open() && !addresses.is_empty() {
            let mut entries = instance.sets.entries_of(&text);
            entries.extend(instance.sets.entries_of(&base.to_string()));
            entries.sort_unstable();
            entries.dedup();
            let granted = instance.grant(
                &self.kernel,
                self.places.as_ref(),
                &entries,
                &addresses,
                times,
            );
            if let Err(refusal) = granted {
                let user = user.to_owned();
                self.say(&format!("{user}: {text}: {}", refusal.source));
                return query.empty(SERVFAIL, None);
            }
            instance.answered(&text, &addresses, times.0 + times.1);
        }
        let mut names = Vec::new();
        if *base != query.name {
            names.push((base.clone(), ttl));
        }
        names.extend(
            chain
                .names
                .iter()
                .map(|(name, own)| (name.clone(), (*own).min(TTL_MOST))),
        );
        let mut answer = Answer::new(query, room(who, query));
        if addresses.is_empty() {
            answer.why = forbidden;
        }
        answer.add(&names, &addresses, ttl);
        answer.finish()
    }
}

impl Server {
    /// Nothing that leads by way of a rejected name is told; of names that are rejected in part, the addresses are rejected
    /// before the answer is sent. An error is the answer instead.
    fn reject_answer(
        &mut self,
        user: &str,
        query: &Query,
        base: &Name,
        chain: &Chain,
    ) -> Result<(), Vec<u8>> {
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return Err(query.empty(SERVFAIL, None));
        };
        if !instance.sets.rejects_names() {
            return Ok(());
        }
        let text = query.name.to_string();
        let mut names = vec![text.clone(), base.to_string()];
        names.extend(chain.names.iter().map(|(name, _)| name.to_string()));
        if let Some(why) = names.iter().find_map(|name| instance.rejects(name)) {
            instance.refuse(&text, &why);
            return Err(query.empty(NXDOMAIN, Some(&why)));
        }
        let life = Duration::from_secs(chain.ttl.min(TTL_MOST).into());
        self.reject_in_part(user, &names, &chain.addresses, life)
            .map_err(|why| query.empty(SERVFAIL, Some(&why)))
    }

    fn reject_in_part(
        &mut self,
        user: &str,
        names: &[String],
        addresses: &[IpAddr],
        life: Duration,
    ) -> Result<(), String> {
        let life = life + self.settings().grace;
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return Ok(());
        };
        let of = |name: &String| instance.sets.rejects_of(name);
        let mut entries: Vec<_> = names.iter().flat_map(of).collect();
        entries.sort_unstable();
        entries.dedup();
        if entries.is_empty() || addresses.is_empty() {
            return Ok(());
        }
        let places = self.places.as_ref();
        let seen = Seen {
            entries: &entries,
            addresses,
            looked_up: None,
        };
        let problem = match instance.reject(&self.kernel, places, seen, life) {
            Ok(true) => return Ok(()),
            Ok(false) => NO_ROOM.to_owned(),
            Err(refusal) => refusal.source.to_string(),
        };
        let name = names.first().map_or("", String::as_str);
        self.say(&format!("{user}: {name}: {problem}"));
        Err(problem)
    }

    /// The same for an answer of whatever type: aliases, hosts of mail and of services, hints, and all of it at once.
    fn reject_told(
        &mut self,
        user: &str,
        query: &Query,
        base: &Name,
        response: &Response<'_>,
    ) -> Result<(), Vec<u8>> {
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return Err(query.empty(SERVFAIL, None));
        };
        if !instance.sets.rejects_names() {
            return Ok(());
        }
        let Ok(told) = response.names() else {
            return Err(query.empty(SERVFAIL, None));
        };
        let text = query.name.to_string();
        let mut names = vec![text.clone(), base.to_string()];
        names.extend(told);
        if let Some(why) = names.iter().find_map(|name| instance.rejects(name)) {
            instance.refuse(&text, &why);
            return Err(query.empty(NXDOMAIN, Some(&why)));
        }
        let addresses = response.addresses();
        if addresses.len() > ADDRESSES_MOST {
            // They are not told.
            return Ok(());
        }
        let life = Duration::from_secs(response.longest().min(TTL_MOST).into());
        self.reject_in_part(user, &names, &addresses, life)
            .map_err(|why| query.empty(SERVFAIL, Some(&why)))
    }

    /// An answer that is passed on as it is (whole, with policy accept and without rejected names), unless it tells of an
    /// address that no name leads to.
    pub(super) fn relay(
        &mut self,
        user: &str,
        who: &Who,
        query: &Query,
        base: &Name,
        response: &Response<'_>,
        whole: bool,
    ) -> Vec<u8> {
        let room = room(who, query);
        let text = query.name.to_string();
        if let Err(answer) = self.reject_told(user, query, base, response) {
            return answer;
        }
        let Some(instance) = self.instances.by_user.get_mut(user) else {
            return query.empty(SERVFAIL, None);
        };
        // The policy may be another one since the question was passed on.
        let whole = whole && !instance.sets.rejects_names();
        let ours = instance.sets.names(&text);
        // Each address is a question to the kernel, for which everybody else waits: too many are not looked at.
        let forbidden = |addresses: &[IpAddr]| -> Option<String> {
            if addresses.len() > ADDRESSES_MOST {
                return Some(format!("it leads to more than {ADDRESSES_MOST} addresses"));
            }
            addresses.iter().find_map(|address| {
                let why = match ours {
                    true => instance.forbids(address),
                    false => instance.forbids_of_strangers(address, &self.kernel),
                };
                why.map(|why| format!("it leads to {address}, which is {why}"))
            })
        };
        match forbidden(&response.addresses()) {
            Some(_) if matches!(query.kind, A | AAAA) => match response.chain(base, query.kind) {
                Ok(chain) => self.answer(user, who, query, base, &chain, false),
                Err(_) => query.empty(SERVFAIL, None),
            },
            Some(why) => {
                instance.refuse(&text, &why);
                query.empty(NOERROR, Some(&why))
            }
            None if whole && forbidden(&response.addresses_behind()).is_none() => {
                response.whole_for(query, room)
            }
            None => response.answers_for(query, room),
        }
    }
}

/// What becomes of a question.
enum Judged {
    /// This answer.
    Now(Vec<u8>),
    /// The server's name servers are asked for these names.
    Ask(Relay, VecDeque<Name>),
}
