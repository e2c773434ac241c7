//! `metactl APP firewall`: the policy, its counters, what was refused, and what would allow it.

use std::net::IpAddr;
use std::time::Duration;

use metactl_bundles::app::Sandbox;
use metactl_bundles::layers::Config;
use metactl_bundles::network::Verdict;
use metactl_lifecycle::{Direction, FirewallStatus, Refused};
use serde::Serialize;

use super::{Context, asked};
use crate::failure::Outcome;
use crate::output::table::{Cell, Table, Tone};
use crate::output::{Style, duration};

#[derive(Serialize)]
struct Facts<'a> {
    instance: &'a str,
    out: Side<'a>,
    #[serde(rename = "in")]
    inbound: Side<'a>,
    names: Vec<asked::Answered<'a>>,
    #[serde(rename = "namesRefused")]
    names_refused: Vec<asked::RefusedName<'a>>,
}

#[derive(Serialize)]
struct Side<'a> {
    policy: Verdict,
    accept: Vec<Accepted<'a>>,
    refused: Vec<RefusedFacts<'a>>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    name: &'a str,
    destination: &'a str,
    /// The addresses and prefixes that are accepted at the moment.
    addresses: &'a [String],
    connections: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefusedFacts<'a> {
    address: IpAddr,
    protocol: &'a str,
    port: u16,
    count: u64,
    seconds_ago: u64,
    allow: String,
}

/// Prints both directions.
pub fn run(context: &mut Context) -> Outcome {
    let instance = context.instance()?;
    let status = instance.firewall()?;
    let names = instance.names_asked()?;
    let config = instance.config()?;
    let sandbox = instance.app()?.sandbox;
    let view = View {
        status: &status,
        config: &config,
        sandbox: &sandbox,
    };
    if context.output.json {
        let (out, inbound) = (view.facts(Direction::Out), view.facts(Direction::In));
        return context.output.facts(&Facts {
            instance: instance.name(),
            out,
            inbound,
            names: asked::answered(&names),
            names_refused: asked::refused(&names),
        });
    }
    for direction in [Direction::Out, Direction::In] {
        for line in view.lines(direction, context.output.style) {
            context.output.line(line)?;
        }
    }
    for line in asked::lines(&names, context.output.style) {
        context.output.line(line)?;
    }
    for direction in [Direction::Out, Direction::In] {
        if status.refused.iter().any(|r| r.direction == direction) {
            let name = instance.name();
            let how = match direction {
                Direction::Out => format!("metactl {name} allow NAME=DESTINATION"),
                Direction::In => {
                    format!("metactl {name} set {}:NAME=SOURCE", section(direction))
                }
            };
            context
                .output
                .remark(format!("To allow one: {how}, then: metactl {name} restart"))?;
        }
    }
    Ok(())
}

struct View<'a> {
    status: &'a FirewallStatus,
    config: &'a Config,
    sandbox: &'a Sandbox,
}

impl<'a> View<'a> {
    fn policy(&self, direction: Direction) -> Verdict {
        match direction {
            Direction::Out => self.sandbox.out.policy,
            Direction::In => self.sandbox.inbound.policy,
        }
    }

    /// What an entry accepts, as the configuration has it after interpolation.
    fn destination(&self, direction: Direction, name: &str) -> &'a str {
        self.config
            .shown(section(direction), name)
            .unwrap_or_default()
    }

    fn refused(&self, direction: Direction) -> impl Iterator<Item = &'a Refused> {
        self.status
            .refused
            .iter()
            .filter(move |refused| refused.direction == direction)
    }

    fn facts(&self, direction: Direction) -> Side<'a> {
        let entries = self
            .status
            .entries
            .iter()
            .filter(|entry| entry.direction == direction);
        let accept = entries.map(|entry| Accepted {
            name: &entry.name,
            destination: self.destination(direction, &entry.name),
            addresses: &entry.peers,
            connections: entry.packets,
        });
        let refused = self.refused(direction).map(|refused| RefusedFacts {
            address: refused.dst,
            protocol: &refused.proto,
            port: refused.port,
            count: refused.count,
            seconds_ago: refused.seconds_ago,
            allow: format!("[{}] {}", section(direction), allow(refused)),
        });
        Side {
            policy: self.policy(direction),
            accept: accept.collect(),
            refused: refused.collect(),
        }
    }

    fn lines(&self, direction: Direction, style: Style) -> Vec<String> {
        let word = match direction {
            Direction::Out => "out",
            Direction::In => "in",
        };
        let some = self
            .status
            .entries
            .iter()
            .any(|entry| entry.direction == direction);
        let policy = match (self.policy(direction), some) {
            (Verdict::Accept, _) => "accept all",
            (Verdict::Reject, true) => "reject all but",
            (Verdict::Reject, false) => "reject all",
            (Verdict::Drop, true) => "drop all but",
            (Verdict::Drop, false) => "drop all",
        };
        let mut lines = vec![style.strong(&format!("{word}: {policy}"))];
        let mut table = Table::new().indent(2);
        for entry in self
            .status
            .entries
            .iter()
            .filter(|entry| entry.direction == direction)
        {
            let destination = self.destination(direction, &entry.name);
            // What stands there as an address already is not told twice.
            let known = entry
                .peers
                .iter()
                .all(|peer| destination.contains(peer.trim_end_matches("/32")));
            let peers = if known {
                String::new()
            } else {
                entry.peers.join(" ")
            };
            let nowhere = entry.peers.is_empty() && self.policy(direction) != Verdict::Accept;
            let peers = if nowhere {
                Cell::new("no address").tone(Tone::Warn)
            } else {
                Cell::new(peers)
            };
            let count = match entry.packets {
                1 => "1 connection".to_owned(),
                count => format!("{count} connections"),
            };
            table.row(vec![
                (&entry.name).into(),
                destination.into(),
                peers,
                Cell::new(count).right(),
            ]);
        }
        lines.extend(table.lines(style));
        let refused: Vec<&Refused> = self.refused(direction).collect();
        if !refused.is_empty() {
            lines.push(style.strong("refused, last hour"));
            let mut table = Table::new().indent(2);
            for refused in refused {
                let ago = match refused.seconds_ago {
                    0 => "just now".to_owned(),
                    seconds => format!("{} ago", duration(Duration::from_secs(seconds))),
                };
                table.row(vec![
                    Cell::new(format!("{}×", refused.count))
                        .right()
                        .tone(Tone::Warn),
                    Cell::new(end(refused)),
                    Cell::new(&refused.proto),
                    Cell::new(ago).tone(Tone::Faint),
                    Cell::new(format!("allow: {}", allow(refused))),
                ]);
            }
            lines.extend(table.lines(style));
        }
        lines
    }
}

fn section(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "firewall.out.accept",
        Direction::In => "firewall.in.accept",
    }
}

/// The line that would allow it: `10-9-2-9-25 = 10.9.2.9:25`, with a name to better. Without `/tcp` a port is accepted for TCP
/// and UDP, and without either an address for everything.
fn allow(refused: &Refused) -> String {
    let protocol = match (refused.proto.as_str(), refused.port) {
        ("icmp" | "icmpv6", _) => "/icmp",
        ("udp", _) => "/udp",
        _ => "",
    };
    let end = end(refused);
    let name = end.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    format!("{} = {end}{protocol}", name.trim_matches('-'))
}

/// An address with its port; IPv6 in brackets.
fn end(refused: &Refused) -> String {
    match (refused.dst, refused.port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(dst: &str, proto: &str, port: u16) -> Refused {
        Refused {
            direction: Direction::Out,
            dst: dst.parse().unwrap(),
            proto: proto.to_owned(),
            port,
            count: 1,
            seconds_ago: 0,
        }
    }

    #[test]
    fn the_line_that_would_allow_it() {
        assert_eq!(
            allow(&refused("10.9.2.9", "tcp", 25)),
            "10-9-2-9-25 = 10.9.2.9:25"
        );
        assert_eq!(
            allow(&refused("2001:db8::9", "udp", 53)),
            "2001-db8--9--53 = [2001:db8::9]:53/udp"
        );
        assert_eq!(
            allow(&refused("10.9.2.9", "icmp", 0)),
            "10-9-2-9 = 10.9.2.9/icmp"
        );
        assert_eq!(allow(&refused("10.9.2.9", "47", 0)), "10-9-2-9 = 10.9.2.9");
    }
}
