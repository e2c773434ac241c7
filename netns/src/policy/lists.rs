//! The directions, and the lists of each.

use metactl_bundles::network::{Entry, NetworkSpec, Policy};
use serde::Serialize;

use crate::nftables::End;

/// Which way a packet goes, seen from the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out of the instance.
    Out,
    /// Into the instance.
    In,
}

impl Direction {
    pub(super) fn word(self) -> &'static str {
        match self {
            Direction::Out => "out",
            Direction::In => "in",
        }
    }

    /// What the specification says of it.
    pub(super) fn policy(self, spec: &NetworkSpec) -> &Policy {
        match self {
            Direction::Out => &spec.out,
            Direction::In => &spec.inbound,
        }
    }

    /// Where the peer stands in a packet of this direction.
    pub(super) fn peer(self) -> End {
        match self {
            Direction::Out => End::Destination,
            Direction::In => End::Source,
        }
    }
}

pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Out, Direction::In];

/// Which list of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum List {
    /// What passes.
    Accept,
    /// What is refused in any case.
    Reject,
}

impl List {
    pub(super) fn word(self) -> &'static str {
        match self {
            List::Accept => "accept",
            List::Reject => "reject",
        }
    }

    /// What the names of its sets begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            List::Accept => "",
            List::Reject => "reject_",
        }
    }

    pub(super) fn entries(self, policy: &Policy) -> &[Entry] {
        match self {
            List::Accept => &policy.accept,
            List::Reject => &policy.reject,
        }
    }
}
