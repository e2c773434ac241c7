//! What a resolver changes in the firewall of a running sandbox: addresses of names come, stay longer, and go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use metactl_bundles::network::{Entry, NetworkSpec, Peer, Rejects, Verdict};

use super::sets::{ListSets, Origins};
use super::{DIRECTIONS, Direction, FAMILIES, List, flow_set};
use crate::NetError;
use crate::netlink::{Netlink, Refusal};
use crate::nftables::{self, Batch, Element, Key, Set, Shape, change::Live};

/// A line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId {
    pub direction: Direction,
    pub list: List,
    /// Its place in the list.
    pub index: usize,
}

/// An address for an entry.
pub(crate) type Grant = (IpAddr, EntryId);

/// What names have put into the firewall.
pub(crate) struct Found {
    /// With the time that is left; none for what was there from the start.
    pub grants: Vec<(Grant, Option<Duration>)>,
    /// What no entry explains: while the policy was replaced, a resolver still went by the one before.
    pub strays: Strays,
}

/// Elements that no entry explains, by their sets.
pub(crate) struct Strays(Vec<(Set, Vec<Element>)>);

/// The parts of a policy that names fill.
pub(crate) struct NamedSets {
    spec: NetworkSpec,
    lists: BTreeMap<(Direction, List), ListSets>,
    /// Whether the outward reject list has names.
    rejects_names: bool,
    /// The entries by their host names, and by what stands behind their stars.
    hosts: HashMap<String, Vec<EntryId>>,
    suffixes: HashMap<String, Vec<EntryId>>,
    /// What sets are called in the kernel, where that is another name: a policy that was replaced while it was in
    /// force has made some anew.
    kernel: BTreeMap<String, String>,
}

impl NamedSets {
    /// Errors are entries that cannot be enforced.
    pub fn of(spec: NetworkSpec) -> Result<NamedSets, NetError> {
        let mut lists = BTreeMap::new();
        for direction in DIRECTIONS {
            for list in [List::Accept, List::Reject] {
                lists.insert((direction, list), ListSets::of(&spec, direction, list)?);
            }
        }
        let mut sets = NamedSets {
            lists,
            rejects_names: spec
                .out
                .reject
                .iter()
                .any(|entry| entry.peer.written_name().is_some()),
            spec,
            hosts: HashMap::new(),
            suffixes: HashMap::new(),
            kernel: BTreeMap::new(),
        };
        for id in sets.named() {
            let (map, name) = match sets.entry(id).map(|entry| entry.peer.clone()) {
                Some(Peer::Host(name)) => (&mut sets.hosts, name),
                Some(Peer::Suffix(suffix)) => (&mut sets.suffixes, suffix),
                _ => continue,
            };
            map.entry(name).or_default().push(id);
        }
        Ok(sets)
    }

    /// Finds out what the sets are called in the kernel now.
    pub fn locate(&mut self, socket: &mut Netlink) -> Result<(), Refusal> {
        let live = Live::read(socket)?;
        let named = self.lists.values().flat_map(ListSets::named);
        let found = named.map(|set| (set.name.clone(), live.name_of(&set.name).to_owned()));
        self.kernel = found.filter(|(name, kernel)| name != kernel).collect();
        Ok(())
    }

    /// A set as it is in the kernel, without elements.
    fn in_kernel(&self, set: &Set) -> Set {
        Set {
            name: self.kernel.get(&set.name).unwrap_or(&set.name).clone(),
            shape: set.shape,
            kind: set.kind,
            elements: Vec::new(),
        }
    }

    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    fn list(&self, id: EntryId) -> Option<&ListSets> {
        self.lists.get(&(id.direction, id.list))
    }

    fn of_address(&self, (address, id): Grant) -> Vec<(&Set, Vec<Element>)> {
        let list = self.list(id);
        list.map_or_else(Vec::new, |list| list.of_address(id.index, address))
    }

    /// Whether the outward reject list has names at all.
    pub fn rejects_names(&self) -> bool {
        self.rejects_names
    }

    /// The entries of the accept lists by which `name` is meant, as [`Peer::covers_name`] says.
    pub fn entries_of(&self, name: &str) -> Vec<EntryId> {
        self.named_so(name, List::Accept)
    }

    /// Those of the reject lists.
    pub fn rejects_of(&self, name: &str) -> Vec<EntryId> {
        self.named_so(name, List::Reject)
    }

    fn named_so(&self, name: &str, list: List) -> Vec<EntryId> {
        let mut found = self.hosts.get(name).cloned().unwrap_or_default();
        let mut rest = name;
        while let Some((_, suffix)) = rest.split_once('.') {
            found.extend(self.suffixes.get(suffix).into_iter().flatten());
            rest = suffix;
        }
        found.retain(|id| id.list == list);
        found
    }

    /// The key of the line that rejects every question for `name`: one that leaves no port of it, or that leaves none
    /// of those that are accepted.
    pub fn rejects_whole(&self, name: &str) -> Option<&str> {
        let of_out = |ids: Vec<EntryId>| -> Vec<Entry> {
            let out = ids.into_iter().filter(|id| id.direction == Direction::Out);
            let entries = out.filter_map(|id| self.entry(id));
            // Whatever their names are written like, here it is this one that counts.
            let peer = Peer::Host(name.to_owned());
            let as_asked = |entry: &Entry| Entry {
                peer: peer.clone(),
                ..entry.clone()
            };
            entries.map(as_asked).collect()
        };
        let rejecting = self.rejects_of(name);
        if rejecting.is_empty() {
            return None;
        }
        let accepted = match self.spec.out.policy {
            Verdict::Accept => Vec::new(),
            _ => of_out(self.entries_of(name)),
        };
        let everything = Entry {
            name: String::new(),
            peer: Peer::Host(name.to_owned()),
            ports: Vec::new(),
            protocol: None,
        };
        let wanted = match accepted.is_empty() {
            true => vec![everything],
            false => accepted,
        };
        let list = of_out(rejecting.clone());
        let rejects = Rejects::of(&list);
        if !wanted.iter().all(|entry| rejects.covering(entry).is_some()) {
            return None;
        }
        let mut ids = rejecting.into_iter();
        let first = ids.find(|id| id.direction == Direction::Out)?;
        self.entry(first).map(|entry| entry.name.as_str())
    }

    /// Whether an entry of an accept list has this very name.
    pub fn names(&self, name: &str) -> bool {
        let mut entries = self.hosts.get(name).into_iter().flatten();
        entries.any(|id| id.list == List::Accept)
    }

    /// Whether an entry of a reject list has this very name.
    pub fn rejects_host(&self, name: &str) -> bool {
        let mut entries = self.hosts.get(name).into_iter().flatten();
        entries.any(|id| id.list == List::Reject)
    }

    /// Whether the entry has a name in full, and not one with a star.
    pub fn is_host(&self, id: EntryId) -> bool {
        let entry = self.entry(id);
        entry.is_some_and(|entry| matches!(entry.peer, Peer::Host(_)))
    }

    /// The entries with names.
    fn named(&self) -> Vec<EntryId> {
        let mut found = Vec::new();
        for ((direction, list), sets) in &self.lists {
            let entries = sets.entries().iter().enumerate();
            let named = entries.filter(|(_, entry)| entry.peer.written_name().is_some());
            found.extend(named.map(|(index, _)| EntryId {
                direction: *direction,
                list: *list,
                index,
            }));
        }
        found
    }

    /// How many elements one address of an entry takes.
    pub fn weight(&self, grant: Grant) -> usize {
        let sets = self.of_address(grant);
        sets.iter().map(|(_, elements)| elements.len()).sum()
    }

    fn changes(&self, grants: &[Grant]) -> BTreeMap<&str, (Set, Vec<Element>)> {
        let mut changes: BTreeMap<&str, (Set, Vec<Element>)> = BTreeMap::new();
        for grant in grants {
            for (set, elements) in self.of_address(*grant) {
                let new = || (self.in_kernel(set), Vec::new());
                let change = changes.entry(&set.name).or_insert_with(new);
                change.1.extend(elements);
            }
        }
        for (_, elements) in changes.values_mut() {
            let mut seen = BTreeSet::new();
            elements.retain(|element| seen.insert((element.first, element.last)));
        }
        changes
    }

    /// Accepts these from now on, for `life`. `renewable`: the kernel gives those that are there already the new
    /// time by itself (Linux 6.12); otherwise they are replaced, in one transaction with the rest.
    pub fn add(
        &self,
        socket: &mut Netlink,
        grants: &[Grant],
        life: Duration,
        renewable: bool,
    ) -> Result<(), Refusal> {
        let changes = self.changes(grants);
        let life = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        let mut known: BTreeMap<&str, BTreeMap<(Key, Key), u64>> = BTreeMap::new();
        if !renewable {
            for (name, (set, _)) in &changes {
                let elements = nftables::elements(socket, &set.name, set.shape)?;
                let packets = elements
                    .into_iter()
                    .map(|one| ((one.first, one.last), one.packets));
                known.insert(name, packets.collect());
            }
        }
        let mut batch = Batch::new(socket);
        let mut some = false;
        for (name, (set, elements)) in &changes {
            let known = known.get(name);
            let packets = |element: &Element| known?.get(&(element.first, element.last)).copied();
            let (old, new): (Vec<_>, Vec<_>) = elements
                .iter()
                .cloned()
                .map(|element| (packets(&element), element))
                .partition(|(packets, _)| packets.is_some());
            for (packets, element) in &old {
                batch.replace_element(set, element, life, packets.unwrap_or_default());
            }
            let new: Vec<Element> = new.into_iter().map(|(_, element)| element).collect();
            batch.timed_elements(set, &new, life);
            some |= !elements.is_empty();
        }
        if some { batch.commit() } else { Ok(()) }
    }

    /// Accepts these no longer. Those that vanish meanwhile are no error.
    pub fn remove(
        &self,
        socket: &mut Netlink,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<(), Refusal> {
        let mut names = self.named();
        names.retain(|id| id.list == List::Accept);
        let grants: Vec<Grant> = addresses
            .iter()
            .flat_map(|address| names.iter().map(|id| (*address, *id)))
            .collect();
        remove(socket, self.changes(&grants).values())
    }

    /// Rejects `more` from now on and `less` no longer, of `all` that were rejected before. Rejected addresses have no time in the kernel: they stay rejected
    /// also when nobody follows names any more.
    pub fn reject(
        &self,
        socket: &mut Netlink,
        more: &[Grant],
        less: &[Grant],
        all: &[Grant],
    ) -> Result<(), Refusal> {
        let mut batch = Batch::new(socket);
        let mut some = false;
        for (set, elements) in self.changes(more).values() {
            batch.elements(set, elements);
            some |= !elements.is_empty();
        }
        if some {
            batch.commit()?;
        }
        if less.is_empty() {
            return Ok(());
        }
        // An element may be there for several entries.
        let stays: Vec<Grant> = all
            .iter()
            .filter(|grant| !less.contains(grant))
            .chain(more)
            .copied()
            .collect();
        let stays = self.changes(&stays);
        let mut changes = self.changes(less);
        for (name, (_, elements)) in &mut changes {
            let kept = stays.get(name).map_or(&[][..], |(_, kept)| kept.as_slice());
            let key = |one: &Element| (one.first, one.last);
            let kept: BTreeSet<(Key, Key)> = kept.iter().map(key).collect();
            elements.retain(|element| !kept.contains(&key(element)));
        }
        remove(socket, changes.values())
    }

    /// What names have put into the firewall. An element that several entries may have put there counts for each.
    pub fn read(&self, socket: &mut Netlink) -> Result<Found, Refusal> {
        let mut grants: BTreeMap<Grant, Option<Duration>> = BTreeMap::new();
        let mut strays = Vec::new();
        for ((direction, list), sets) in &self.lists {
            let origins = Origins::of(sets);
            for set in sets.named() {
                let kernel = self.in_kernel(set);
                let mut unexplained = Vec::new();
                for element in nftables::elements(socket, &kernel.name, set.shape)? {
                    if origins.is_own(&set.name, &element) {
                        continue;
                    }
                    let entries = origins.entries(&set.name, &element);
                    // What an accept list has for good no resolver has put there: it is of a policy in force that is not
                    // written down yet. Of a reject list nothing tells that, and what is taken from such a policy comes
                    // back as soon as it is written down, when its names are looked up.
                    if entries.is_empty() && (*list == List::Reject || element.expires.is_some()) {
                        unexplained.push(Element {
                            first: element.first,
                            last: element.last,
                            comment: element.comment,
                        });
                        continue;
                    }
                    let left = element.expires.map(Duration::from_millis);
                    grants.extend(entries.into_iter().map(|index| {
                        let id = EntryId {
                            direction: *direction,
                            list: *list,
                            index,
                        };
                        ((element.first.address, id), left)
                    }));
                }
                if !unexplained.is_empty() {
                    strays.push((kernel, unexplained));
                }
            }
        }
        Ok(Found {
            grants: grants.into_iter().collect(),
            strays: Strays(strays),
        })
    }

    /// Takes out what no entry explains.
    pub fn forget(&self, socket: &mut Netlink, strays: &Strays) -> Result<(), Refusal> {
        remove(socket, strays.0.iter())
    }

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.list(id)?.entries().get(id.index)
    }
}

/// Takes elements out of their sets. Those that vanish meanwhile are no error.
fn remove<'a>(
    socket: &mut Netlink,
    changes: impl Iterator<Item = &'a (Set, Vec<Element>)>,
) -> Result<(), Refusal> {
    let mut there = Vec::new();
    for (set, elements) in changes {
        let known: BTreeSet<(Key, Key)> = nftables::elements(socket, &set.name, set.shape)?
            .into_iter()
            .map(|one| (one.first, one.last))
            .collect();
        let is_there = |one: &&Element| known.contains(&(one.first, one.last));
        let elements: Vec<Element> = elements.iter().filter(is_there).cloned().collect();
        there.push((set, elements));
    }
    let mut batch = Batch::new(socket);
    let mut some = false;
    for (set, elements) in &there {
        if !set.kind.is_interval() {
            // The time of some may be over by now: see `flip` in `nftables/change.rs`.
            batch.elements(set, elements);
        }
        batch.remove_elements(set, elements);
        some |= !elements.is_empty();
    }
    if some { batch.commit() } else { Ok(()) }
}

/// The peers with which UDP packets were exchanged within the last half minute.
pub(crate) fn flow_peers(socket: &mut Netlink) -> Result<BTreeSet<IpAddr>, Refusal> {
    let mut peers = BTreeSet::new();
    for family in FAMILIES {
        let flows = nftables::elements(socket, &flow_set(family), Shape::Flow(family))?;
        peers.extend(flows.into_iter().map(|flow| flow.first.address));
    }
    Ok(peers)
}
