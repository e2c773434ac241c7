//! Asking the server's name servers: one after the other, by datagram and, where the answer is too long, by
//! connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::exchange::Exchange;
use super::joined::Key;
use super::message::{
    self, CHAIN_MOST, Chain, FORMERR, NOERROR, NXDOMAIN, Query, Response, SERVFAIL, ask,
};
use super::name::Name;
use super::serve::{Id, Server};
use crate::plan::random;

/// No question takes longer, whatever resolv.conf says: the applications give up after five seconds.
const JOB_MOST: Duration = Duration::from_secs(10);
/// How long a server that did not answer is asked after the others.
const SILENT: Duration = Duration::from_secs(30);
/// So many questions under way, of all instances.
const JOBS_MOST: usize = 4096;

/// Who gets the answer.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// A datagram.
    Datagram(std::net::SocketAddr),
    /// A connection.
    Connection(Id),
}

/// What for.
pub(super) enum Aim {
    /// An application's question.
    Answer {
        user: String,
        who: Who,
        query: Query,
        /// How the answer is passed on.
        relay: Relay,
    },
    /// A name of entries.
    Follow(String),
}

/// How an answer is passed on.
#[derive(Debug)]
pub(super) enum Relay {
    /// The addresses of the chain that belongs to the question.
    Addresses,
    /// The records that answer the question, of whatever type.
    Answers,
    /// Everything; this is the question as the application sent it.
    Whole(Vec<u8>),
}

/// A question under way.
pub(super) struct Job {
    pub aim: Aim,
    /// Who asks the same meanwhile waits for this one.
    pub key: Option<Key>,
    pub kind: u16,
    /// What is asked when the name does not exist.
    candidates: VecDeque<Name>,
    /// The name that the chain begins with.
    pub base: Name,
    /// The chain so far, where name servers gave it in parts.
    chain: Chain,
    /// The name that is asked for.
    name: Name,
    exchange: Option<Exchange>,
    id: u16,
    /// The server that is asked first, and how often one was asked.
    first: usize,
    tries: usize,
    /// How many servers said that they have no answer; when all have, asking again is no use.
    failures: usize,
    /// The one that is asked at the moment.
    server: usize,
    edns: bool,
    stream: bool,
    /// When the next server is asked, and when it is enough.
    pub deadline: Instant,
    end: Instant,
}

/// What came of it.
pub(super) enum Outcome<'m> {
    /// A chain with addresses, or without.
    Chain(Chain),
    /// A whole answer.
    Response(Response<'m>),
    /// Nothing: a response code.
    Failed(u8),
}

impl Job {
    /// To ask for `candidates`, one after the other while they do not exist.
    pub fn new(aim: Aim, kind: u16, mut candidates: VecDeque<Name>) -> Option<Job> {
        let base = candidates.pop_front()?;
        let now = Instant::now();
        Some(Job {
            aim,
            key: None,
            kind,
            candidates,
            name: base.clone(),
            base,
            chain: Chain::unfollowed(),
            exchange: None,
            id: 0,
            first: 0,
            tries: 0,
            failures: 0,
            server: 0,
            edns: true,
            stream: false,
            deadline: now,
            end: now + JOB_MOST,
        })
    }

    /// The next name to ask for, from the beginning.
    fn next_candidate(&mut self) -> bool {
        let Some(next) = self.candidates.pop_front() else {
            return false;
        };
        self.base = next.clone();
        // Where the one before led to is no part of it.
        self.chain = Chain::unfollowed();
        self.ask_for(next);
        true
    }

    fn ask_for(&mut self, name: Name) {
        self.name = name;
        (self.stream, self.tries, self.failures) = (false, 0, 0);
    }

    fn message(&self) -> Vec<u8> {
        if let Aim::Answer {
            relay: Relay::Whole(question),
            ..
        } = &self.aim
        {
            let mut message = question.clone();
            for (to, from) in message.iter_mut().zip(self.id.to_be_bytes()) {
                *to = from;
            }
            return message;
        }
        ask(self.id, &self.name, self.kind, self.edns)
    }

    fn takes_addresses(&self) -> bool {
        let other = |relay: &Relay| !matches!(relay, Relay::Addresses);
        !matches!(&self.aim, Aim::Answer { relay, .. } if other(relay))
    }
}

/// What to do next with a job.
enum Next {
    /// Ask this server again, in another way.
    Again,
    /// Ask another server; this one said so.
    Other(u8),
    /// Done.
    Done,
}

impl Server {
    /// Begins to ask.
    pub(super) fn begin(&mut self, mut job: Job) {
        if self.jobs.len() >= JOBS_MOST {
            return self.done(&job, Outcome::Failed(SERVFAIL));
        }
        if self.resolving.rotate {
            self.turn = self.turn.wrapping_add(1);
            job.first = self.turn;
        }
        self.send(job, SERVFAIL);
    }

    /// Sends the question of a job to its next server; ends the job when there is none left.
    fn send(&mut self, mut job: Job, mut code: u8) {
        let servers = self.resolving.servers.len();
        let most = servers * self.resolving.attempts;
        while job.tries < most && job.failures < servers && Instant::now() < job.end {
            let Some((place, server)) = self.upstream(job.first, job.tries) else {
                break;
            };
            job.server = place;
            job.id = random()
                .to_be_bytes()
                .first_chunk()
                .map_or(0, |bytes| u16::from_be_bytes(*bytes));
            let message = job.message();
            let exchange = match job.stream {
                true => Exchange::stream(server, job.id, &message),
                false => Exchange::datagram(server, job.id, &message),
            };
            let id = self.new_id();
            let sent = exchange.and_then(|exchange| {
                let flags = match exchange.writes() {
                    true => epoll::EventFlags::OUT | epoll::EventFlags::IN,
                    false => epoll::EventFlags::IN,
                };
                self.watch(exchange.fd(), id, flags)?;
                Ok(exchange)
            });
            match sent {
                Ok(exchange) => {
                    job.exchange = Some(exchange);
                    job.deadline = Instant::now() + self.resolving.timeout;
                    self.timers.insert((job.deadline, id));
                    self.jobs.insert(id, job);
                    return;
                }
                Err(error) => {
                    self.say(&format!("asking {server}: {error}"));
                    job.tries += 1;
                    code = SERVFAIL;
                }
            }
        }
        // Nobody knows; that may be different for the next name.
        if job.next_candidate() {
            return self.send(job, SERVFAIL);
        }
        self.done(&job, Outcome::Failed(code));
    }

    /// The server for the `tries`th question. Those that kept somebody waiting lately come last.
    fn upstream(&self, first: usize, tries: usize) -> Option<(usize, SocketAddr)> {
        let servers = &self.resolving.servers;
        let count = servers.len().max(1);
        let mut places: Vec<usize> = (0..count).map(|place| (first + place) % count).collect();
        let now = Instant::now();
        places.sort_by_key(|place| self.silent.get(place).is_some_and(|until| *until > now));
        let place = *places.get(tries % count)?;
        Some((place, *servers.get(place)?))
    }

    /// Something came, or can be sent, for a job.
    pub(super) fn job_ready(&mut self, id: Id) {
        let Some(mut job) = self.jobs.remove(&id) else {
            return;
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = match &mut job.exchange {
            Some(exchange) => exchange.progress(&mut buffer),
            None => Ok(None),
        };
        self.buffer = buffer;
        match result {
            Ok(Some(message)) => self.take(job, &message),
            Ok(None) => {
                if let Some(exchange) = job.exchange.as_ref().filter(|exchange| !exchange.writes())
                {
                    // All is sent: only an answer is waited for.
                    self.watch_again(exchange.fd(), id, epoll::EventFlags::IN);
                }
                self.jobs.insert(id, job);
            }
            // Nobody listens there, or the connection broke.
            Err(_) => self.other(job, SERVFAIL),
        }
    }

    /// A server took too long.
    pub(super) fn job_late(&mut self, id: Id) {
        if let Some(job) = self.jobs.remove(&id) {
            self.silent.insert(job.server, Instant::now() + SILENT);
            self.other(job, SERVFAIL);
        }
    }

    fn other(&mut self, mut job: Job, code: u8) {
        job.exchange = None;
        job.tries += 1;
        job.stream = false;
        self.send(job, code);
    }

    fn take(&mut self, mut job: Job, message: &[u8]) {
        match self.judge(&mut job, message) {
            Next::Again => {
                job.exchange = None;
                self.send(job, SERVFAIL);
            }
            Next::Other(code) => {
                job.failures += 1;
                self.other(job, code);
            }
            Next::Done => {}
        }
    }

    fn judge(&mut self, job: &mut Job, message: &[u8]) -> Next {
        let response = match Response::parse(message, job.id, &job.name, job.kind) {
            Ok(response) => response,
            // The number fits and the rest does not: broken, or a guess. Nothing of it counts.
            Err(_) => return Next::Other(SERVFAIL),
        };
        if response.truncated && !job.stream {
            job.stream = true;
            return Next::Again;
        }
        if response.truncated {
            return Next::Other(SERVFAIL);
        }
        match response.code {
            NOERROR => self.judge_answer(job, response),
            NXDOMAIN if job.next_candidate() => Next::Again,
            NXDOMAIN => {
                self.done(
                    job,
                    match job.takes_addresses() {
                        true => Outcome::Failed(NXDOMAIN),
                        false => Outcome::Response(response),
                    },
                );
                Next::Done
            }
            // Some do not know the extension mechanism.
            FORMERR if job.edns && job.takes_addresses() => {
                job.edns = false;
                Next::Again
            }
            code => Next::Other(code),
        }
    }

    fn judge_answer(&mut self, job: &mut Job, response: Response<'_>) -> Next {
        if !job.takes_addresses() {
            self.done(job, Outcome::Response(response));
            return Next::Done;
        }
        let Ok(found) = response.chain(&job.name, job.kind) else {
            return Next::Other(SERVFAIL);
        };
        let more = !found.names.is_empty();
        job.chain.ttl = job.chain.ttl.min(found.ttl);
        job.chain.names.extend(found.names);
        job.chain.addresses = found.addresses;
        let target = job.chain.names.last().map(|(name, _)| name.clone());
        match target {
            // It told where the name leads, and nothing more: not every server follows.
            Some(target)
                if job.chain.addresses.is_empty() && more && job.chain.names.len() < CHAIN_MOST =>
            {
                job.ask_for(target);
                Next::Again
            }
            _ => {
                let chain = std::mem::take(&mut job.chain);
                self.done(job, Outcome::Chain(chain));
                Next::Done
            }
        }
    }

    /// The end of a job.
    pub(super) fn done(&mut self, job: &Job, outcome: Outcome<'_>) {
        match &job.aim {
            Aim::Follow(name) => self.followed(name, job.kind, outcome),
            Aim::Answer {
                user,
                who,
                query,
                relay,
            } => {
                let key = job.key.as_ref();
                let others = key.map(|key| self.joined.end(key)).unwrap_or_default();
                let all = std::iter::once((who, query));
                for (who, query) in all.chain(others.iter().map(|(who, query)| (who, query))) {
                    self.answer_one(user, who, query, relay, &job.base, &outcome);
                }
            }
        }
    }

    fn answer_one(
        &mut self,
        user: &str,
        who: &Who,
        query: &Query,
        relay: &Relay,
        base: &Name,
        outcome: &Outcome<'_>,
    ) {
        if let Some(instance) = self.instances.by_user.get_mut(user) {
            instance.pending = instance.pending.saturating_sub(1);
        }
        let answer = match outcome {
            Outcome::Chain(chain) => self.answer(user, who, query, base, chain, false),
            Outcome::Failed(code) => query.empty(*code, None),
            Outcome::Response(response) => {
                let whole = matches!(relay, Relay::Whole(_));
                self.relay(user, who, query, base, response, whole)
            }
        };
        self.reply(who, &answer);
    }
}

/// How long an answer may be.
pub(super) fn room(who: &Who, query: &Query) -> usize {
    match who {
        Who::Datagram(_) => query.room(),
        Who::Connection(_) => message::MESSAGE_MOST,
    }
}
