//! May an instance connect to this, or be connected to from there?
//!
//! The same judgement as the firewall's (`netns::policy`), made from the configuration: what a reject list names first. What is left
//! open in the question (a port, a protocol) may be any; what is named has to be accepted whole.

mod rejects;
mod text;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

pub use text::text_of;
use text::{ports_text, protocol_text, short};

use super::{Allow, Answer, Because, Verdict};
use crate::app::App;
use crate::interpolate::{self, Part};
use crate::layers::Config;
use crate::model::inbound;
use crate::network::services::Services;
use crate::network::{self, Entry, Mode, Peer, Policy, parse_entry};

/// The addresses of host names.
pub type Resolved = BTreeMap<String, Vec<IpAddr>>;

/// At most so many entries are told as reasons.
const MOST_REASONS: usize = 8;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// May the instance connect to it?
    Out,
    /// May it connect to the instance?
    In,
}

impl Direction {
    /// The section that decides: `firewall.out`.
    pub fn section(self) -> &'static str {
        match self {
            Direction::Out => "firewall.out",
            Direction::In => "firewall.in",
        }
    }
}

/// Whose network is judged.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// The merged configuration.
    pub config: &'a Config,
    /// Its model.
    pub app: &'a App,
    /// The addresses of the instance, as far as they are known.
    pub addresses: &'a [IpAddr],
    /// What the host names of question and entries stand for. Those that are missing count as
    /// unknown.
    pub resolved: &'a Resolved,
}

impl Network<'_> {
    /// The host names whose addresses could change the answer to `asked`.
    pub fn names(&self, asked: &Entry, direction: Direction) -> Vec<String> {
        let policy = self.policy(direction);
        let hosts = policy
            .accept
            .iter()
            .chain(&policy.reject)
            .chain([asked])
            .filter_map(|entry| match &entry.peer {
                Peer::Host(name) => Some(name.clone()),
                Peer::Net(_) | Peer::Suffix(_) => None,
            });
        let mut names: Vec<String> = hosts.collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The answer for `asked`, whose ports are those at the destination.
    pub fn answer(&self, asked: &Entry, direction: Direction) -> Answer {
        if let Some(answer) = self.without_policy(asked, direction) {
            return answer;
        }
        let policy = self.policy(direction);
        let rejected = self.matches(asked, &policy.reject);
        let mut gone = Services::default();
        for found in rejected.iter().filter(|found| found.whole) {
            gone.add(&found.services);
        }
        if Services::of(asked).without(&gone).is_empty() {
            return self.rejection(&rejected, direction);
        }
        let (answer, accepted) = self.by_policy(asked, direction);
        let clashes = |found: &&Match<'_>| !found.services.within(&accepted).is_empty();
        let rejected: Vec<Match<'_>> = rejected
            .into_iter()
            .filter(|found| clashes(&found))
            .collect();
        if answer.verdict == Verdict::No || rejected.is_empty() {
            return answer;
        }
        let rejection = self.rejection(&rejected, direction);
        if accepted.without(&gone).is_empty() {
            return rejection;
        }
        let mut because = rejection.because;
        because.extend(answer.because);
        because.truncate(MOST_REASONS);
        Answer {
            verdict: Verdict::Partly,
            because,
            allow: rejection.allow,
            ..answer
        }
    }

    /// The answer without the reject list, and what of the question is accepted by it.
    fn by_policy(&self, asked: &Entry, direction: Direction) -> (Answer, Services) {
        let policy = self.policy(direction);
        let section = direction.section();
        if policy.policy == network::Verdict::Accept {
            let text = match policy.reject.is_empty() {
                true => "accepts everything",
                false => "accepts everything that is not rejected",
            };
            let because = self.setting(section, "policy", text);
            return (Answer::new(Verdict::Yes, because), Services::of(asked));
        }
        let matches = self.matches(asked, &policy.accept);
        let mut accepted = Services::default();
        matches
            .iter()
            .for_each(|found| accepted.add(&found.services));
        let verdict = verdict(asked, &matches);
        if verdict == Verdict::No {
            return (self.refusal(asked, direction), accepted);
        }
        let whole = matches.iter().filter(|found| found.whole);
        let told: Vec<&Match<'_>> = match verdict {
            Verdict::Yes => whole.collect(),
            _ => matches.iter().collect(),
        };
        let mut because: Vec<Because> = Vec::new();
        for found in told {
            let reason = self.reason(found, section);
            if !because.contains(&reason) && because.len() < MOST_REASONS {
                because.push(reason);
            }
        }
        let allow = match verdict {
            Verdict::Partly => vec![self.allow(asked, direction)],
            _ => Vec::new(),
        };
        let answer = Answer {
            verdict,
            how: None,
            because,
            allow,
        };
        (answer, accepted)
    }

    fn policy(&self, direction: Direction) -> &Policy {
        match direction {
            Direction::Out => &self.app.sandbox.out,
            Direction::In => &self.app.sandbox.inbound,
        }
    }

    /// What is decided before any policy.
    fn without_policy(&self, asked: &Entry, direction: Direction) -> Option<Answer> {
        let net = &self.app.sandbox.net;
        if net.mode == Mode::Host {
            let text = "mode = host: the server's own network, without a firewall";
            let because = self.setting("sandbox.net", "mode", text);
            return Some(Answer::new(Verdict::Yes, because));
        }
        let own = match &asked.peer {
            Peer::Host(name) => name == "localhost",
            Peer::Net(net) => net.addr().is_loopback() && net.prefix_len() >= 8,
            Peer::Suffix(_) => false,
        };
        if own {
            let because = Because::rule("localhost is the instance itself");
            return Some(Answer::new(Verdict::Yes, because));
        }
        if net.mode == Mode::None {
            let because = self.setting("sandbox.net", "mode", "mode = none: it has no network");
            let mut answer = Answer::new(Verdict::No, because);
            answer.allow = vec![Allow {
                command: ["set", "sandbox.net:mode=nat"].map(str::to_owned).to_vec(),
                lines: "[sandbox.net]\nmode = nat".to_owned(),
            }];
            return Some(answer);
        }
        let Peer::Net(peer) = &asked.peer else {
            return None;
        };
        if self.addresses.iter().any(|own| IpNet::from(*own) == *peer) {
            let because = Because::rule("it is the instance's own address");
            return Some(Answer::new(Verdict::Yes, because));
        }
        let has_v6 = self.addresses.iter().any(IpAddr::is_ipv6);
        let has_v4 = self.addresses.iter().any(IpAddr::is_ipv4) || net.addresses.is_empty();
        let (missing, version) = match peer {
            IpNet::V6(_) => (!has_v6, "IPv6"),
            IpNet::V4(_) => (!has_v4, "IPv4"),
        };
        missing.then(|| {
            let text = format!("the instance has no {version} address of its own");
            let because = match (&net.ip_origin, direction) {
                (Some(_), _) => self.setting("sandbox.net", "ip", &text),
                (None, _) => Because::rule(text),
            };
            Answer::new(Verdict::No, because)
        })
    }

    /// A setting as a reason; the built-in default is one, too.
    fn setting(&self, section: &str, key: &str, text: &str) -> Because {
        match self.config.get(section, key) {
            Some(value) => Because::value(self.config, value, format!("[{section}] {key}: {text}")),
            // The default of this one depends on what the daemons say.
            None if (section, key) == ("firewall.in", "policy") => Because::rule(format!(
                "default [firewall.in] policy ({}): {text}",
                match self
                    .app
                    .daemons
                    .values()
                    .any(|daemon| daemon.port.is_some())
                {
                    true => "what is served is open",
                    false => "no daemon says a port",
                }
            )),
            None => Because::rule(text),
        }
    }

    /// The entries of a list that name something of what is asked.
    fn matches<'e>(&self, asked: &Entry, list: &'e [Entry]) -> Vec<Match<'e>> {
        let wanted = Services::of(asked);
        let mut found = Vec::new();
        for entry in list {
            let Some((whole, note)) = self.peer(entry, asked) else {
                continue;
            };
            let services = Services::of(entry).within(&wanted);
            if !services.is_empty() {
                found.push(Match {
                    entry,
                    whole,
                    note,
                    limit: limit(entry, asked),
                    services,
                });
            }
        }
        // What fits best is told first.
        found.sort_by_key(|found| (!found.whole, found.note.is_some(), found.limit.is_some()));
        found
    }

    /// Whether an entry is about the peer that is asked for: about all of it, or a part; and what
    /// connects the two when it is not their text.
    fn peer(&self, entry: &Entry, asked: &Entry) -> Option<(bool, Option<String>)> {
        match (&entry.peer, &asked.peer) {
            (Peer::Host(a), Peer::Host(b)) if a == b => Some((true, None)),
            (Peer::Suffix(a), Peer::Suffix(b)) => {
                let below = a == b || b.ends_with(&format!(".{a}"));
                let above = a.ends_with(&format!(".{b}"));
                (below || above).then(|| (below, above.then(|| format!("of it only *.{a}"))))
            }
            (Peer::Suffix(_), Peer::Host(name)) if entry.peer.covers_name(name) => {
                Some((true, None))
            }
            (Peer::Host(name), Peer::Suffix(_)) => asked
                .peer
                .covers_name(name)
                .then(|| (false, Some(format!("of it only {name}")))),
            // What addresses the names below have is known only when they are asked for.
            (Peer::Suffix(_), _) | (_, Peer::Suffix(_)) => None,
            (Peer::Net(a), Peer::Net(b)) if a.contains(b) => Some((true, None)),
            (Peer::Net(a), Peer::Net(b)) => {
                (b.contains(a)).then(|| (false, Some(format!("of it only {}", short(a)))))
            }
            (Peer::Host(name), Peer::Net(net)) => {
                let addresses = self.addresses_of(name);
                let inside = addresses.iter().find(|address| net.contains(*address))?;
                let whole = net.prefix_len() == net.max_prefix_len();
                let note = match whole {
                    true => format!("{name} is {inside} now"),
                    false => format!("of it only {inside}, which is {name} now"),
                };
                Some((whole, Some(note)))
            }
            (peer, Peer::Host(name)) => {
                let inside = |address: &IpAddr| match peer {
                    Peer::Net(net) => net.contains(address),
                    Peer::Host(other) => self.addresses_of(other).contains(address),
                    Peer::Suffix(_) => false,
                };
                let addresses = self.addresses_of(name);
                let found: Vec<String> = addresses
                    .iter()
                    .filter(|address| inside(address))
                    .map(IpAddr::to_string)
                    .collect();
                if found.is_empty() {
                    return None;
                }
                let note = format!("{name} is {} now", found.join(", "));
                Some((found.len() == addresses.len(), Some(note)))
            }
        }
    }

    fn addresses_of(&self, name: &str) -> &[IpAddr] {
        self.resolved.get(name).map_or(&[], Vec::as_slice)
    }

    fn reason(&self, found: &Match<'_>, section: &str) -> Because {
        let mut text = found.entry.name.clone();
        let value = self
            .config
            .get(&format!("{section}.accept"), &found.entry.name);
        if value.is_none() && section == Direction::In.section() {
            return self.served(&found.entry.name);
        }
        if let (Some(notes), true) = (found.notes(), value.is_none_or(|value| !value.sensitive)) {
            text.push_str(&notes);
        }
        match value {
            Some(value) => Because::value(self.config, value, text),
            None => Because::rule(text),
        }
    }

    /// What comes in without an entry of anybody's: see [`crate::model::inbound`].
    fn served(&self, name: &str) -> Because {
        if name == inbound::PING {
            return Because::rule("echo requests are answered");
        }
        let text = format!("[{name}] serves this port");
        match self.config.get(name, "port") {
            Some(value) => Because::value(self.config, value, text),
            None => Because::rule(text),
        }
    }

    /// Nothing accepts it: why, and what would.
    fn refusal(&self, asked: &Entry, direction: Direction) -> Answer {
        let section = direction.section();
        let list = format!("{section}.accept");
        let policy = match self.policy(direction).policy {
            network::Verdict::Drop => "drop",
            _ => "reject",
        };
        let text = format!("{policy}, and no entry of [{list}] accepts it");
        let mut answer = Answer::new(Verdict::No, self.setting(section, "policy", &text));
        for request in self.config.requests().iter().filter(|r| r.section == list) {
            // What takes no effect is not in the model, but may be what was meant.
            let entries = parse_entry(&request.key, &self.config.substituted(&request.value));
            if !self.matches(asked, &entries.unwrap_or_default()).is_empty() {
                answer.because.push(Because::denied(request));
                answer.allow.push(Allow {
                    command: Vec::new(),
                    lines: request.grant.clone(),
                });
            }
        }
        answer.because.extend(self.near(asked, direction));
        answer.because.extend(self.waiting(&list));
        answer.because.truncate(MOST_REASONS);
        answer.allow.push(self.allow(asked, direction));
        answer
    }

    /// Entries for the same peer that accept something else of it.
    fn near(&self, asked: &Entry, direction: Direction) -> Vec<Because> {
        let any = Entry {
            ports: Vec::new(),
            protocol: None,
            ..asked.clone()
        };
        let matches = self.matches(&any, &self.policy(direction).accept);
        let tell = |found| self.reason(found, direction.section());
        matches.iter().map(tell).collect()
    }

    /// Entries with names that nobody defines yet: they may accept it one day.
    fn waiting(&self, list: &str) -> Vec<Because> {
        let values = self.config.section(list).into_iter().flatten();
        let mut found = Vec::new();
        for (name, value) in values {
            let parts = interpolate::parts(&value.raw).unwrap_or_default();
            let open: Vec<&str> = parts
                .iter()
                .filter_map(|part| match part {
                    Part::Name(name, _) if self.config.get("env", name).is_none() => Some(*name),
                    _ => None,
                })
                .collect();
            if !open.is_empty() {
                let text = format!("{name} waits for {}", open.join(", "));
                found.push(Because::value(self.config, value, text));
            }
        }
        found
    }

    fn allow(&self, asked: &Entry, direction: Direction) -> Allow {
        let list = format!("{}.accept", direction.section());
        let name = self.free_name(&list, asked);
        let line = text_of(asked);
        let command = match direction {
            Direction::Out => vec!["allow".to_owned(), format!("{name}={line}")],
            Direction::In => vec!["set".to_owned(), format!("{list}:{name}={line}")],
        };
        Allow {
            command,
            lines: format!("[{list}]\n{name} = {line}"),
        }
    }

    /// A name for a new entry that replaces no other.
    fn free_name(&self, list: &str, asked: &Entry) -> String {
        let base = match &asked.peer {
            Peer::Host(name) | Peer::Suffix(name) => {
                name.split('.').next().unwrap_or(name).to_owned()
            }
            Peer::Net(net) => short(net)
                .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
                .trim_matches('-')
                .to_owned(),
        };
        let taken = |name: &str| self.config.get(list, name).is_some();
        if !taken(&base) {
            return base;
        }
        let mut number = 2;
        while taken(&format!("{base}-{number}")) {
            number += 1;
        }
        format!("{base}-{number}")
    }
}

/// An entry that names something of what is asked.
struct Match<'e> {
    entry: &'e Entry,
    /// It is about the whole peer.
    whole: bool,
    /// How peer and entry belong together.
    note: Option<String>,
    /// What of it is named, when the question left that open.
    limit: Option<String>,
    services: Services,
}

impl Match<'_> {
    /// What has to be said besides the name of the entry: ` (only port 25; smtp.example.org is 10.20.0.66 now)`.
    fn notes(&self) -> Option<String> {
        let notes = [self.limit.as_deref(), self.note.as_deref()];
        let notes: Vec<&str> = notes.into_iter().flatten().collect();
        (!notes.is_empty()).then(|| format!(" ({})", notes.join("; ")))
    }
}

fn verdict(asked: &Entry, matches: &[Match<'_>]) -> Verdict {
    if matches.is_empty() {
        return Verdict::No;
    }
    let mut all = Services::default();
    for found in matches.iter().filter(|found| found.whole) {
        all.add(&found.services);
    }
    let whole = if asked.ports.is_empty() {
        !all.is_empty()
    } else {
        all.has_ports(&asked.ports)
    };
    if whole { Verdict::Yes } else { Verdict::Partly }
}

/// What an entry accepts where the question is open: `only port 3306, TCP`.
fn limit(entry: &Entry, asked: &Entry) -> Option<String> {
    let mut parts = Vec::new();
    if asked.ports.is_empty() && !entry.ports.is_empty() {
        let word = match entry.ports.as_slice() {
            [one] if one.first == one.last => "port",
            _ => "ports",
        };
        parts.push(format!("{word} {}", ports_text(&entry.ports)));
    }
    if asked.protocol.is_none()
        && let Some(protocol) = entry.protocol
    {
        parts.push(protocol_text(protocol).to_ascii_uppercase());
    }
    (!parts.is_empty()).then(|| format!("only {}", parts.join(", ")))
}
