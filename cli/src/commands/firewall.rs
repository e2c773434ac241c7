//! `metactl APP firewall`: the policy in force, its counters, what was refused, and what would allow it.

mod rows;
mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metactl_bundles::network::{Entry, Policy, Verdict};
use metactl_bundles::why::network::text_of;
use metactl_bundles::why::quoted;
use metactl_lifecycle::{Direction, Firewall, FirewallEntry, OpenConnection, Refused};
use serde::Serialize;

use rows::{lines_of, row};

use super::reload::connection;
use super::{Context, asked};
use crate::args;
use crate::failure::Outcome;
use crate::output::table::{Cell, Table, Tone};
use crate::output::{Style, clean, duration, time};

/// How many refusals are shown; JSON has them all.
const SHOWN: usize = 25;

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    /// While it learns: the seconds that are left.
    #[serde(skip_serializing_if = "Option::is_none")]
    learning: Option<u64>,
    out: Side<'a>,
    #[serde(rename = "in")]
    inbound: Side<'a>,
    /// Connections that are open, and would be refused now.
    unwanted: &'a [OpenConnection],
    names: Vec<asked::Answered<'a>>,
    #[serde(rename = "namesRefused")]
    names_refused: Vec<asked::RefusedName<'a>>,
}

#[derive(Serialize)]
struct Side<'a> {
    policy: Verdict,
    accept: Vec<Accepted<'a>>,
    reject: Vec<Rejected<'a>>,
    refused: Vec<RefusedFacts<'a>>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    name: &'a str,
    destination: String,
    /// The addresses and prefixes that are accepted at the moment.
    addresses: &'a [String],
    /// Of those that are accepted for a time: the seconds that are left.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    expires: &'a BTreeMap<String, u64>,
    connections: u64,
}

#[derive(Serialize)]
struct Rejected<'a> {
    name: &'a str,
    destination: String,
    /// The addresses and prefixes that are rejected at the moment.
    addresses: &'a [String],
    /// How many packets were.
    refused: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefusedFacts<'a> {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    protocol: &'a str,
    port: u16,
    count: u64,
    seconds_ago: u64,
    /// The command that would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
    /// The entry of the reject list that names it instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_by: Option<&'a str>,
}

/// Prints both directions.
pub fn run(context: &mut Context, args: &args::Firewall) -> Outcome {
    if args.action.is_some() {
        return super::learn::run(context, args);
    }
    let instance = context.instance()?;
    if args.watch {
        return watch::run(context, &instance);
    }
    let firewall = instance.firewall()?;
    let view = View {
        instance: instance.name(),
        firewall: &firewall,
    };
    if context.output.json {
        return context.output.facts(&view.facts());
    }
    for line in view.lines(context.output.style) {
        context.output.line(line)?;
    }
    Ok(())
}

struct View<'a> {
    instance: &'a str,
    firewall: &'a Firewall,
}

impl<'a> View<'a> {
    fn policy(&self, direction: Direction) -> &'a Policy {
        match direction {
            Direction::Out => &self.firewall.spec.out,
            Direction::In => &self.firewall.spec.inbound,
        }
    }

    /// What an entry of a list names; one line may name several destinations.
    fn destination(list: &[Entry], name: &str) -> String {
        let texts: Vec<String> = list
            .iter()
            .filter(|entry| entry.name == name)
            .map(|entry: &Entry| text_of(entry))
            .collect();
        texts.join(", ")
    }

    fn refused(&self, direction: Direction) -> impl Iterator<Item = &'a Refused> {
        let refused = self.firewall.status.refused.iter();
        refused.filter(move |refused| refused.direction == direction)
    }

    fn accepts(&self, direction: Direction) -> impl Iterator<Item = &'a FirewallEntry> {
        lines_of(&self.firewall.status.entries, direction)
    }

    fn rejects(&self, direction: Direction) -> impl Iterator<Item = &'a FirewallEntry> {
        lines_of(&self.firewall.status.rejects, direction)
    }

    fn name(&self, refused: &Refused) -> Option<&'a str> {
        self.firewall.names.get(&refused.dst).map(String::as_str)
    }

    fn facts(&self) -> Facts<'a> {
        Facts {
            instance: self.instance,
            learning: self.firewall.status.learning,
            out: self.side(Direction::Out),
            inbound: self.side(Direction::In),
            unwanted: &self.firewall.unwanted,
            names: asked::answered(&self.firewall.asked),
            names_refused: asked::refused(&self.firewall.asked),
        }
    }

    fn side(&self, direction: Direction) -> Side<'a> {
        let policy = self.policy(direction);
        let accept = self.accepts(direction).map(|entry| Accepted {
            name: &entry.name,
            destination: View::destination(&policy.accept, &entry.name),
            addresses: &entry.peers,
            expires: &entry.expires,
            connections: entry.packets,
        });
        let reject = self.rejects(direction).map(|entry| Rejected {
            name: &entry.name,
            destination: View::destination(&policy.reject, &entry.name),
            addresses: &entry.peers,
            refused: entry.packets,
        });
        let refused = self.refused(direction).map(|refused| RefusedFacts {
            address: refused.dst,
            name: self.name(refused),
            protocol: &refused.proto,
            port: refused.port,
            count: refused.count,
            seconds_ago: refused.seconds_ago,
            allow: refused.rejected_by.is_none().then(|| self.allow(refused)),
            rejected_by: refused.rejected_by.as_deref(),
        });
        Side {
            policy: policy.policy,
            accept: accept.collect(),
            reject: reject.collect(),
            refused: refused.collect(),
        }
    }

    fn lines(&self, style: Style) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(left) = self.firewall.status.learning {
            let left = duration(Duration::from_secs(left));
            let line = format!("learns for another {left}: everything may pass, and is recorded");
            lines.push(style.warn(&line));
        }
        for direction in [Direction::Out, Direction::In] {
            lines.extend(self.direction_lines(direction, style));
        }
        lines.extend(asked::lines(&self.firewall.asked, style));
        if !self.firewall.unwanted.is_empty() {
            lines.push(style.strong("open, and would be refused now"));
            let open = self.firewall.unwanted.iter();
            lines.extend(open.map(|one| clean(&format!("  {}", connection(one))).into_owned()));
            lines.push(format!(
                "  cut them: metactl {} reload --cut",
                self.instance
            ));
        }
        lines
    }

    fn direction_lines(&self, direction: Direction, style: Style) -> Vec<String> {
        let word = word(direction);
        let some = self.accepts(direction).next().is_some();
        let policy = self.policy(direction);
        let verdict = match (policy.policy, some) {
            (Verdict::Accept, _) if !policy.reject.is_empty() => "accept the rest",
            (Verdict::Accept, _) => "accept all",
            (Verdict::Reject, true) => "reject all but",
            (Verdict::Reject, false) => "reject all",
            (Verdict::Drop, true) => "drop all but",
            (Verdict::Drop, false) => "drop all",
        };
        let mut lines = Vec::new();
        if !policy.reject.is_empty() {
            // It is looked at first.
            lines.push(style.strong(&format!("{word}: reject in any case")));
            let mut table = Table::new().indent(2);
            for entry in self.rejects(direction) {
                let destination = View::destination(&policy.reject, &entry.name);
                table.row(row(entry, destination, true, "refused", "refused"));
            }
            lines.extend(table.lines(style));
        }
        lines.push(style.strong(&format!("{word}: {verdict}")));
        let mut table = Table::new().indent(2);
        for entry in self.accepts(direction) {
            let destination = View::destination(&policy.accept, &entry.name);
            let counts = policy.policy != Verdict::Accept;
            table.row(row(entry, destination, counts, "connection", "connections"));
        }
        lines.extend(table.lines(style));
        lines.extend(self.refused_lines(direction, style));
        lines
    }

    fn refused_lines(&self, direction: Direction, style: Style) -> Vec<String> {
        let mut refused: Vec<&Refused> = self.refused(direction).collect();
        if refused.is_empty() {
            return Vec::new();
        }
        refused.sort_by_key(|refused| refused.seconds_ago);
        let mut lines = vec![style.strong("refused, last hour")];
        let more = refused.len().saturating_sub(SHOWN);
        let mut table = Table::new().indent(2);
        for refused in refused.iter().take(SHOWN) {
            table.row(vec![
                Cell::new(format!("{}×", refused.count))
                    .right()
                    .tone(Tone::Warn),
                Cell::new(self.end(refused)),
                Cell::new(&refused.proto),
                Cell::new(time::local(&when(refused))).tone(Tone::Faint),
            ]);
        }
        for (row, refused) in table.lines(style).into_iter().zip(&refused) {
            lines.push(row);
            lines.push(clean(&format!("       {}", self.way_out(refused))).into_owned());
        }
        if more > 0 {
            lines.push(format!(
                "  and {more} more: metactl {} firewall --json",
                self.instance
            ));
        }
        lines
    }

    /// `smtp.example.org:25 (10.9.2.9)`, or the address alone.
    fn end(&self, refused: &Refused) -> String {
        let plain = end(refused.dst, refused.port);
        match (self.name(refused), refused.port) {
            (None, _) => plain,
            (Some(name), 0) => format!("{name} ({})", refused.dst),
            (Some(name), port) => format!("{name}:{port} ({})", refused.dst),
        }
    }

    /// What would allow it, or what rejects it whatever would.
    fn way_out(&self, refused: &Refused) -> String {
        match &refused.rejected_by {
            Some(name) => {
                let word = word(refused.direction);
                format!("rejected by [firewall.{word}.reject] {name}")
            }
            None => format!("allow: {}", self.allow(refused)),
        }
    }

    /// The command that would allow it: `metactl myapp allow smtp=smtp.example.org:25`, with a name to better. Without
    /// `/tcp` a port is accepted for TCP and UDP, and without either an address for everything.
    fn allow(&self, refused: &Refused) -> String {
        let protocol = match (refused.proto.as_str(), refused.port) {
            ("icmp" | "icmpv6", _) => "/icmp",
            ("udp", _) => "/udp",
            _ => "",
        };
        let (end, label) = match (self.name(refused), refused.port) {
            (Some(name), port) => {
                let port = if port == 0 {
                    String::new()
                } else {
                    format!(":{port}")
                };
                let label = name.split('.').next().unwrap_or(name).to_owned();
                (format!("{name}{port}"), label)
            }
            (None, port) => {
                let end = end(refused.dst, port);
                (end.clone(), end)
            }
        };
        let label = label.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let entry = format!("{}={end}{protocol}", label.trim_matches('-'));
        let name = self.instance;
        match refused.direction {
            Direction::Out => format!("metactl {name} allow {}", quoted(&entry)),
            Direction::In => {
                let entry = format!("firewall.in.accept:{entry}");
                format!("metactl {name} set {}", quoted(&entry))
            }
        }
    }
}

/// When it was refused last, RFC 3339.
fn when(refused: &Refused) -> String {
    let ago = SignedDuration::from_secs(i64::try_from(refused.seconds_ago).unwrap_or_default());
    let at = Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::MIN);
    at.to_string()
}

/// The word for a direction.
fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
    }
}

/// An address with its port; IPv6 in brackets.
pub fn end(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::rows::peers;
    use super::*;
    use metactl_bundles::network::{FORMAT, Mode, NetworkSpec};
    use metactl_lifecycle::FirewallStatus;

    fn refused(direction: Direction, dst: &str, proto: &str, port: u16) -> Refused {
        Refused {
            direction,
            dst: dst.parse().unwrap(),
            proto: proto.to_owned(),
            port,
            count: 14,
            seconds_ago: 3,
            rejected_by: None,
        }
    }

    fn firewall() -> Firewall {
        let policy = || Policy {
            policy: Verdict::Reject,
            accept: Vec::new(),
            reject: Vec::new(),
        };
        let status = FirewallStatus {
            entries: Vec::new(),
            rejects: Vec::new(),
            refused: vec![
                refused(Direction::Out, "10.9.2.9", "tcp", 25),
                refused(Direction::Out, "10.9.2.8", "tcp", 25),
                refused(Direction::Out, "2001:db8::9", "udp", 53),
                refused(Direction::Out, "10.9.2.7", "icmp", 0),
                refused(Direction::Out, "10.9.2.7", "47", 0),
                refused(Direction::In, "10.9.2.9", "tcp", 80),
            ],
            learning: None,
        };
        let name = ("10.9.2.9".parse().unwrap(), "smtp.example.org".to_owned());
        Firewall {
            asked: Default::default(),
            spec: NetworkSpec {
                format: FORMAT,
                instance: "myapp".to_owned(),
                mode: Mode::Routed,
                addresses: Vec::new(),
                pool: None,
                pool6: None,
                publish: Vec::new(),
                apart: false,
                out: policy(),
                inbound: policy(),
            },
            status,
            names: BTreeMap::from([name]),
            unwanted: Vec::new(),
        }
    }

    #[test]
    fn the_command_that_would_allow_it() {
        let firewall = firewall();
        let view = View {
            instance: "myapp",
            firewall: &firewall,
        };
        let commands: Vec<String> = firewall
            .status
            .refused
            .iter()
            .map(|refused| view.allow(refused))
            .collect();
        assert_eq!(
            commands,
            [
                "metactl myapp allow smtp=smtp.example.org:25",
                "metactl myapp allow 10-9-2-8-25=10.9.2.8:25",
                "metactl myapp allow '2001-db8--9--53=[2001:db8::9]:53/udp'",
                "metactl myapp allow 10-9-2-7=10.9.2.7/icmp",
                "metactl myapp allow 10-9-2-7=10.9.2.7",
                "metactl myapp set firewall.in.accept:smtp=smtp.example.org:80",
            ]
        );
        let text = view.lines(Style::plain()).join("\n");
        assert!(
            text.contains("14×  smtp.example.org:25 (10.9.2.9)  tcp"),
            "{text}"
        );
    }

    #[test]
    fn addresses_have_a_life() {
        let entry = FirewallEntry {
            direction: Direction::Out,
            name: "database".to_owned(),
            peers: vec!["10.2.0.20".to_owned(), "10.2.0.21".to_owned()],
            expires: BTreeMap::from([("10.2.0.20".to_owned(), 250)]),
            packets: 0,
        };
        let text = peers(&entry, "mysql.example.org:3306");
        assert_eq!(text, "10.2.0.20, 4m left; 10.2.0.21");
        assert_eq!(peers(&entry, "10.2.0.20, 10.2.0.21"), "");
    }
}
