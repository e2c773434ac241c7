//! The part of `metactl APP firewall` about names: what was asked for, what that led to and for how long, and what was
//! refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metactl_lifecycle::NamesAsked;
use serde::Serialize;

use crate::output::table::{Cell, Table, Tone};
use crate::output::{Style, duration};

/// A name with an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answered<'a> {
    name: &'a str,
    addresses: Vec<Accepted>,
    seconds_ago: u64,
}

/// An address that is accepted for a while.
#[derive(Serialize)]
struct Accepted {
    address: std::net::IpAddr,
    /// How long it still is; it is asked for again before.
    seconds: u64,
}

/// A name without one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedName<'a> {
    name: &'a str,
    count: u64,
    seconds_ago: u64,
    why: &'a str,
}

/// What has an answer, as facts.
pub fn answered(asked: &NamesAsked) -> Vec<Answered<'_>> {
    let now = now();
    let names = asked.names.iter();
    names
        .map(|(name, one)| Answered {
            name,
            addresses: one
                .addresses
                .iter()
                .filter(|(_, until)| **until > now)
                .map(|(address, until)| Accepted {
                    address: *address,
                    seconds: until - now,
                })
                .collect(),
            seconds_ago: now.saturating_sub(one.last),
        })
        .collect()
}

/// What was refused, as facts; the most frequent first.
pub fn refused(asked: &NamesAsked) -> Vec<RefusedName<'_>> {
    let now = now();
    let names = asked.refused.iter();
    let mut refused: Vec<RefusedName<'_>> = names
        .map(|(name, one)| RefusedName {
            name,
            count: one.count,
            seconds_ago: now.saturating_sub(one.last),
            why: &one.why,
        })
        .collect();
    refused.sort_by_key(|one| std::cmp::Reverse(one.count));
    refused
}

/// Both, in lines.
pub fn lines(asked: &NamesAsked, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let answered = answered(asked);
    if !answered.is_empty() {
        lines.push(style.strong("names asked for"));
        let mut table = Table::new().indent(2);
        for one in &answered {
            let life = |accepted: &Accepted| {
                let left = duration(Duration::from_secs(accepted.seconds));
                format!("{} ({left} left)", accepted.address)
            };
            let addresses: Vec<String> = one.addresses.iter().map(life).collect();
            table.row(vec![one.name.into(), Cell::new(addresses.join(" "))]);
        }
        lines.extend(table.lines(style));
    }
    let refused = refused(asked);
    if !refused.is_empty() {
        lines.push(style.strong("names refused"));
        let mut table = Table::new().indent(2);
        for one in &refused {
            table.row(vec![
                Cell::new(format!("{}×", one.count))
                    .right()
                    .tone(Tone::Warn),
                Cell::new(one.name),
                Cell::new(ago(one.seconds_ago)).tone(Tone::Faint),
                Cell::new(one.why),
            ]);
        }
        lines.extend(table.lines(style));
    }
    lines
}

fn ago(seconds: u64) -> String {
    match seconds {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", duration(Duration::from_secs(seconds))),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
