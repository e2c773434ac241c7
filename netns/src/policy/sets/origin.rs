//! The entries that an element of a set comes from.
//!
//! An element is commented with the key of its line, and a line may have several destinations: which of them it is, the
//! set, the protocol and the port tell. Destinations that say the same but for their names stay indistinguishable.

use std::collections::{BTreeMap, BTreeSet};

use metactl_bundles::network::Entry;

use super::{ListSets, Plan, Services};
use crate::nftables::{Key, ReadElement, Set, Shape, shown_comment};

/// The entries with names of a list, by the comment that their elements have.
pub(in crate::policy) struct Origins<'a> {
    sets: &'a ListSets,
    by_comment: BTreeMap<&'a str, Vec<usize>>,
    /// What the configuration itself put there, which stays whatever becomes of names.
    own: BTreeSet<(&'a str, Key)>,
}

impl<'a> Origins<'a> {
    pub(in crate::policy) fn of(sets: &'a ListSets) -> Origins<'a> {
        let mut by_comment: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, entry) in sets.entries.iter().enumerate() {
            if entry.peer.written_name().is_some() {
                let comment = shown_comment(&entry.name);
                by_comment.entry(comment).or_default().push(index);
            }
        }
        let own = |set: &'a Set| {
            let keys = set.elements.iter().map(|one| one.first);
            keys.map(|key| (set.name.as_str(), key))
        };
        Origins {
            sets,
            by_comment,
            own: sets.named().flat_map(own).collect(),
        }
    }

    /// Whether the configuration itself put this into `set`.
    pub(in crate::policy) fn is_own(&self, set: &str, element: &ReadElement) -> bool {
        self.own.contains(&(set, element.first))
    }

    /// Those whose names may have put an element of `set` there, as indexes into the policy. `set` is called as in a
    /// ruleset.
    pub(in crate::policy) fn entries(&self, set: &str, element: &ReadElement) -> Vec<usize> {
        let plan = self.sets.plans.iter().find(|plan| plan.set.name == set);
        let (Some(plan), Some(same)) = (plan, self.by_comment.get(element.comment.as_str())) else {
            return Vec::new();
        };
        let puts = |index: &&usize| {
            let entry = self.sets.entries.get(**index);
            let span = (element.first, element.last);
            plan.names.contains(index) && entry.is_some_and(|entry| plan.puts(entry, span))
        };
        same.iter().filter(puts).copied().collect()
    }
}

impl Plan {
    /// Whether [`Plan::elements_of`] the entry has this one, for the address that it has.
    fn puts(&self, entry: &Entry, (first, last): (Key, Key)) -> bool {
        if first.address != last.address {
            return false;
        }
        if matches!(self.set.shape, Shape::Address(_)) {
            return true;
        }
        let services = Services::of(entry, self.set.shape.family());
        let interval = self.set.kind.is_interval();
        let (protocols, ports) = ((first.middle, last.middle), (first.port, last.port));
        services.protocols.contains(&protocols)
            && services.ports.iter().any(|range| match interval {
                true => ports == (range.first, range.last),
                false => ports.0 == ports.1 && (range.first..=range.last).contains(&ports.0),
            })
    }
}
