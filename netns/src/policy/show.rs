//! The firewall for people who read a plan.

use std::net::IpAddr;

use metactl_bundles::network::{Entry, NetworkSpec, Peer, Policy, Verdict};
use metactl_bundles::why::network::text_of;

use crate::Resolved;

/// The firewall in one line, for the plan.
pub(crate) fn summary(spec: &NetworkSpec, names: &Resolved) -> String {
    let shown = |list: &[Entry], verb: &str| -> String {
        let shown = list.iter().map(|entry| shown_entry(entry, names, verb));
        shown.collect::<Vec<_>>().join(", ")
    };
    let direction = |policy: &Policy| {
        let verdict = match policy.policy {
            Verdict::Accept => "accept",
            Verdict::Reject => "reject",
            Verdict::Drop => "drop",
        };
        let mut text = match (policy.policy, policy.accept.is_empty()) {
            (Verdict::Accept, _) => verdict.to_owned(),
            (_, true) => format!("{verdict} all"),
            (_, false) => format!("{verdict} all but {}", shown(&policy.accept, "accepted")),
        };
        if !policy.reject.is_empty() {
            text.push_str(&format!(
                ", before that reject {}",
                shown(&policy.reject, "rejected")
            ));
        }
        text
    };
    format!(
        "table inet metactl: out {}; in {}",
        direction(&spec.out),
        direction(&spec.inbound)
    )
}

/// `database = mysql.example.org:3306 (10.2.0.20)`.
fn shown_entry(entry: &Entry, names: &Resolved, verb: &str) -> String {
    let known = match &entry.peer {
        Peer::Net(_) => String::new(),
        Peer::Suffix(_) => " (as they are asked for)".into(),
        Peer::Host(name) => match names.get(name).filter(|list| !list.is_empty()) {
            Some(list) => format!(
                " ({})",
                list.iter()
                    .map(IpAddr::to_string)
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
            None => format!(" (no address yet: nothing {verb})"),
        },
    };
    format!("{} = {}{known}", entry.name, text_of(entry))
}
