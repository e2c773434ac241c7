//! What works but is probably not meant.

use std::net::IpAddr;

use super::place;
use crate::app::App;
use crate::diagnostics::{Diagnostic, MAX_DIAGNOSTICS};
use crate::layers::{Config, Section, Value};
use crate::maps::Named;
use crate::network::{Entry, Mode, Peer, Policy, Rejects, Verdict};
use crate::why::network::text_of;

/// Words that a shell would understand, and a program gets as they are.
const SHELL_WORDS: [&str; 9] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1"];

/// Everything that should be looked at once more.
pub fn warnings(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, daemon) in &app.daemons {
        let Some(section) = config.part(&["daemon.", name].concat()) else {
            continue;
        };
        found.extend(shell_words(config, section));
        if daemon.port.is_none() {
            found.extend(nobody_to_ask(config, section));
        }
        if found.len() >= MAX_DIAGNOSTICS {
            return found;
        }
    }
    found.extend(firewall_lists(config, app));
    found
}

fn shell_words(config: &Config, section: &Section) -> Option<Diagnostic> {
    let value = section.get("command")?;
    let words = section.words("command")?;
    let word = words
        .iter()
        .find(|word| SHELL_WORDS.contains(&word.as_str()))?;
    Some(
        Diagnostic::warning(format!(
            "`{word}` is given to the program: there is no shell in between"
        ))
        .at(place(config, &value.origin))
        .hint("for a shell write: command = sh -c '...'"),
    )
}

/// A health check of a daemon without a port.
fn nobody_to_ask(config: &Config, section: &Section) -> Option<Diagnostic> {
    let value = section.get("health")?;
    let (text, section) = (&value.text, section.name());
    Some(
        Diagnostic::warning(format!(
            "`health = {text}` asks nobody: [{section}] has no port"
        ))
        .at(place(config, &value.origin))
        .hint("add `port =`; without one the daemon only has to stay up for a moment"),
    )
}

/// Lists and entries that change nothing.
fn firewall_lists(config: &Config, app: &App) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let sandbox = &app.sandbox;
    for (section, policy) in [
        ("firewall.out", &sandbox.out),
        ("firewall.in", &sandbox.inbound),
    ] {
        let (accept, reject) = ([section, ".accept"].concat(), [section, ".reject"].concat());
        let without_network = sandbox.net.mode == Mode::None;
        let none = "`mode = none` has no network";
        let says_more = policy.accept.iter().any(|entry| says_more(section, entry));
        if policy.policy == Verdict::Accept && !without_network && says_more {
            // Only what it accepts was accepted anyway.
        } else if policy.policy == Verdict::Accept {
            let why = format!("[{section}] accepts everything");
            let hint = format!("write `policy = reject` in [{section}], or remove the list");
            found.extend(list_without_use(config, &accept, &why, &hint));
        } else if without_network {
            found.extend(list_without_use(config, &accept, none, "remove the list"));
        } else {
            found.extend(rejected_entries(config, policy, &accept, &reject));
        }
        if without_network {
            found.extend(list_without_use(config, &reject, none, "remove the list"));
        } else {
            found.extend(loopback_entries(config, policy, &reject));
        }
    }
    found
}

/// Whether an entry of an accept list means something where everything is accepted: a name server that may be asked, a name
/// or an address that names may lead to although it is no public one (docs/network.md, "Names are followed").
fn says_more(section: &str, entry: &Entry) -> bool {
    let is_out = section == "firewall.out";
    is_out
        && match &entry.peer {
            Peer::Host(_) | Peer::Suffix(_) => true,
            Peer::Net(net) => entry.names_port(53) || !is_public(net.network()),
        }
}

/// Not of a machine, a link or a private network (RFC 1918, RFC 4193, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    let special = address.is_loopback() || address.is_multicast() || address.is_unspecified();
    !special
        && match address {
            IpAddr::V4(v4) => !v4.is_private() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unique_local() && !v6.is_unicast_link_local(),
        }
}

/// Whether only the sandbox itself is meant: its loopback device is no matter of the firewall.
fn is_loopback(peer: &Peer) -> bool {
    let name = match peer {
        Peer::Net(net) => return net.network().is_loopback() && net.broadcast().is_loopback(),
        Peer::Host(name) | Peer::Suffix(name) => name,
    };
    name == "localhost" || name.ends_with(".localhost")
}

/// Entries of a reject list that reject nothing.
fn loopback_entries(config: &Config, policy: &Policy, list: &str) -> Vec<Diagnostic> {
    let loopback = policy
        .reject
        .iter()
        .filter(|entry| is_loopback(&entry.peer));
    let values = loopback.filter_map(|entry| Some((entry, config.get(list, &entry.name)?)));
    let warning = |(entry, value): (&Entry, &Value)| {
        Diagnostic::warning(format!(
            "`{}` of [{list}] rejects nothing there: what the sandbox says to itself is no matter of the firewall",
            entry.name
        ))
        .at(place(config, &value.origin))
        .hint("remove it; nobody else is reached by that address or name")
    };
    values.map(warning).take(MAX_DIAGNOSTICS).collect()
}

fn list_without_use(config: &Config, list: &str, why: &str, hint: &str) -> Option<Diagnostic> {
    let (_, first) = config.section(list).and_then(|mut values| values.next())?;
    Some(
        Diagnostic::warning(format!("[{list}] changes nothing: {why}"))
            .at(place(config, &first.origin))
            .hint(hint),
    )
}

/// Entries that accept nothing, since the reject list names all of it. No error: a site may well reject what an
/// application accepts.
fn rejected_entries(
    config: &Config,
    policy: &Policy,
    accept: &str,
    reject: &str,
) -> Vec<Diagnostic> {
    let rejects = Rejects::of(&policy.reject);
    let mut found: Vec<Diagnostic> = Vec::new();
    for entry in &policy.accept {
        if found.len() >= MAX_DIAGNOSTICS {
            break;
        }
        let Some(by) = rejects
            .covering(entry)
            .filter(|_| !is_loopback(&entry.peer))
        else {
            continue;
        };
        let values = (
            config.get(accept, &entry.name),
            config.get(reject, &by.name),
        );
        let (Some(value), Some(stronger)) = values else {
            continue;
        };
        let text = match value.sensitive || stronger.sensitive {
            true => String::new(),
            false => format!(" ({})", text_of(entry)),
        };
        found.push(
            Diagnostic::warning(format!(
                "`{}`{text} is rejected all the same: `{}` of [{reject}] goes first",
                entry.name, by.name
            ))
            .at(place(config, &value.origin))
            .hint(format!(
                "{} rejects it; remove one of the two",
                stronger.origin
            )),
        );
    }
    found
}
