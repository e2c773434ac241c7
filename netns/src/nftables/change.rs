//! A table that is in force becomes another one, in one transaction.
//!
//! Deleting the table and loading the new one would be one transaction too, but not a moment without gaps: the
//! kernel takes the old chains off their hooks a little after the new generation begins, and until then they are
//! without rules and drop everything. And a set with intervals (pipapo) shows what a transaction added only at
//! the very end of the commit. So:
//!
//! - Chains stay on their hooks; only their rules are exchanged.
//! - Hash sets get and lose elements within the transaction; what is in both keeps its counter.
//! - A set with intervals that changes is made anew beforehand, under another name (`out4_net1_r2`), which no
//!   rule refers to yet; the counters of its elements are copied. The exchanged rules look in there.
//!
//! A packet is therefore judged either by the old rules or by the new ones. (One that is being judged at that
//! instant by the old rules may find an element gone that moved from one set to another; it is refused as if it
//! had come before the entry.)

use std::collections::{BTreeMap, BTreeSet};

use super::encode::{
    Attrs, Batch, ELEMENTS_PER_MESSAGE, INET, NEW_ELEMENTS, comment, key, set_flags, shown_comment,
};
use super::read::{self, ReadElement, elements, u64_of};
use super::{Chain, Element, Key, Kind, Ruleset, Set, Shape, TABLE};
use crate::netlink::{NLM_F_CREATE, Netlink, Refusal, attributes, string};

const GET_CHAIN: u16 = 4;
const DEL_CHAIN: u16 = 5;
const DEL_RULE: u16 = 8;
const GET_SET: u16 = 10;
const DEL_SET: u16 = 11;
const DEL_ELEMENTS: u16 = 14;

/// The table that is in force.
#[derive(Debug, Default)]
pub(crate) struct Live {
    chains: Vec<String>,
    sets: Vec<LiveSet>,
}

/// A set that is in force.
#[derive(Debug)]
struct LiveSet {
    name: String,
    flags: u32,
    key_type: u32,
    key_length: u32,
}

impl LiveSet {
    /// Whether what is to be in `set` can be in here.
    fn fits(&self, set: &Set) -> bool {
        // Interval, timeout, eval, concatenation; other bits are the kernel's own.
        let flags = self.flags & (0x4 | 0x10 | 0x20 | 0x80);
        base(&self.name) == set.name
            && flags == set_flags(set.kind)
            && self.key_type == set.shape.key_type()
            && self.key_length == set.shape.key_length()
    }
}

/// The name that a set has in a [`Ruleset`], of the name that it has in the kernel.
fn base(name: &str) -> &str {
    match name.rsplit_once("_r") {
        Some((base, number)) if number.parse::<u32>().is_ok() => base,
        _ => name,
    }
}

impl Live {
    /// What there is of our table; empty when there is no table.
    pub(crate) fn read(socket: &mut Netlink) -> Result<Live, Refusal> {
        let mut live = Live::default();
        for attrs in dump(socket, GET_CHAIN)? {
            live.chains.extend(attrs.get(&3).map(|name| string(name)));
        }
        for attrs in dump(socket, GET_SET)? {
            let number = |kind| {
                attrs
                    .get(&kind)
                    .and_then(|value| u32_of(value))
                    .unwrap_or(0)
            };
            if let Some(name) = attrs.get(&2) {
                live.sets.push(LiveSet {
                    name: string(name),
                    flags: number(3),
                    key_type: number(4),
                    key_length: number(5),
                });
            }
        }
        Ok(live)
    }

    /// The name in the kernel of a set of a [`Ruleset`].
    pub(crate) fn name_of<'a>(&'a self, set: &'a str) -> &'a str {
        let mut found = self.sets.iter().filter(|live| base(&live.name) == set);
        found.next().map_or(set, |live| &live.name)
    }

    fn set_of(&self, wanted: &Set) -> Option<&LiveSet> {
        self.sets.iter().find(|live| live.fits(wanted))
    }

    fn free_name(&self, set: &str) -> String {
        let taken = |name: &str| self.sets.iter().any(|live| live.name == name);
        if !taken(set) {
            return set.to_owned();
        }
        let numbered = (2u32..).map(|number| format!("{set}_r{number}"));
        numbered
            .into_iter()
            .find(|name| !taken(name))
            .unwrap_or_else(|| set.to_owned())
    }
}

/// The attributes of every answer of a dump that belongs to our table.
fn dump(socket: &mut Netlink, kind: u16) -> Result<Vec<BTreeMap<u16, Vec<u8>>>, Refusal> {
    let mut attrs = Attrs::default();
    attrs.string(1, TABLE);
    read::if_there(read::dump(socket, kind, INET, &attrs.0, |payload| {
        let attrs: BTreeMap<u16, Vec<u8>> = attributes(payload.get(4..).unwrap_or_default())
            .map(|(kind, value)| (kind, value.to_vec()))
            .collect();
        let ours = payload.first() == Some(&INET)
            && attrs.get(&1).is_some_and(|table| string(table) == TABLE);
        ours.then_some(attrs)
    }))
}

fn u32_of(value: &[u8]) -> Option<u32> {
    match value.len() {
        8 => u64_of(value).and_then(|value| u32::try_from(value).ok()),
        _ => Some(u32::from_be_bytes(value.try_into().ok()?)),
    }
}

/// An element with what it was in the set before, if it was.
type Moved = (Element, Option<ReadElement>);

/// How the table in force becomes another one.
#[derive(Debug, Default)]
struct Change {
    /// Sets made beforehand, which no rule refers to yet.
    staged: Vec<(Set, Vec<Moved>)>,
    /// Sets made in the transaction.
    made: Vec<Set>,
    /// Elements to be removed from sets that stay.
    less: Vec<(Set, Vec<Key>)>,
    /// Elements to be added to sets that stay; `name` is that in the kernel.
    more: Vec<Set>,
    /// Sets whose name in the kernel is another one.
    names: BTreeMap<String, String>,
    /// Sets that are over.
    over: Vec<String>,
}

impl Change {
    /// `keeps` says, by the name of the set and the comment, of which entries the elements stay that the ruleset does not
    /// have.
    fn plan(
        socket: &mut Netlink,
        live: &Live,
        ruleset: &Ruleset,
        keeps: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Change, Refusal> {
        let mut change = Change::default();
        let mut used = BTreeSet::new();
        for set in &ruleset.sets {
            let Some(found) = live.set_of(set) else {
                change.make(set, live, Vec::new());
                continue;
            };
            if matches!(set.kind, Kind::Dynamic { .. }) {
                change.stays(set, &found.name, &mut used);
                continue;
            }
            let there = elements(socket, &found.name, set.shape)?;
            match set.kind {
                kind if kind.is_interval() => {
                    let wanted = with_kept(set, &there, keeps);
                    if is_same(&wanted, &there) {
                        change.stays(set, &found.name, &mut used);
                    } else {
                        let set = Set {
                            elements: wanted,
                            ..set.clone()
                        };
                        change.make(&set, live, there);
                    }
                }
                _ => {
                    change.stays(set, &found.name, &mut used);
                    change.differences(set, &found.name, &there, keeps);
                }
            }
        }
        let over = live.sets.iter().filter(|set| !used.contains(&set.name));
        change.over = over.map(|set| set.name.clone()).collect();
        Ok(change)
    }

    fn stays(&mut self, set: &Set, name: &str, used: &mut BTreeSet<String>) {
        used.insert(name.to_owned());
        self.names.insert(set.name.clone(), name.to_owned());
    }

    fn make(&mut self, set: &Set, live: &Live, before: Vec<ReadElement>) {
        let name = live.free_name(&set.name);
        self.names.insert(set.name.clone(), name.clone());
        let mut made = Set {
            name,
            ..set.clone()
        };
        if !set.kind.is_interval() {
            self.made.push(made);
            return;
        }
        let before: BTreeMap<(Key, Key), ReadElement> = before
            .into_iter()
            .map(|old| ((old.first, old.last), old))
            .collect();
        let elements = std::mem::take(&mut made.elements);
        let elements = elements.into_iter().map(|element| {
            let old = before.get(&(element.first, element.last));
            let same = |old: &&ReadElement| old.comment == shown_comment(&element.comment);
            let old = old.filter(same).cloned();
            (element, old)
        });
        self.staged.push((made, elements.collect()));
    }

    fn differences(
        &mut self,
        set: &Set,
        name: &str,
        there: &[ReadElement],
        keeps: &dyn Fn(&str, &str) -> bool,
    ) {
        let wanted: BTreeMap<Key, &Element> = set
            .elements
            .iter()
            .map(|element| (element.first, element))
            .collect();
        let has: BTreeMap<Key, &str> = there
            .iter()
            .map(|old| (old.first, old.comment.as_str()))
            .collect();
        let other = |key: &Key, comment: &str| match wanted.get(key) {
            Some(element) => shown_comment(&element.comment) != comment,
            None => !keeps(&set.name, comment),
        };
        let less: Vec<Key> = has
            .iter()
            .filter(|(key, comment)| other(key, comment))
            .map(|(key, _)| *key)
            .collect();
        let more = set
            .elements
            .iter()
            .filter(|element| has.get(&element.first) != Some(&shown_comment(&element.comment)));
        let more: Vec<Element> = more.cloned().collect();
        let there = |elements| Set {
            name: name.to_owned(),
            elements,
            ..set.clone()
        };
        if !less.is_empty() {
            self.less.push((there(Vec::new()), less));
        }
        if !more.is_empty() {
            self.more.push(there(more));
        }
    }
}

/// What a set is to have, with what stays of what it has.
fn with_kept(set: &Set, there: &[ReadElement], keeps: &dyn Fn(&str, &str) -> bool) -> Vec<Element> {
    let mut wanted = set.elements.clone();
    for old in there.iter().filter(|old| keeps(&set.name, &old.comment)) {
        if !wanted
            .iter()
            .any(|element| (element.first, element.last) == (old.first, old.last))
        {
            wanted.push(Element {
                first: old.first,
                last: old.last,
                comment: old.comment.clone(),
            });
        }
    }
    wanted
}

fn is_same(wanted: &[Element], there: &[ReadElement]) -> bool {
    let wanted: BTreeSet<_> = wanted
        .iter()
        .map(|element| (element.first, element.last, shown_comment(&element.comment)))
        .collect();
    let there: BTreeSet<_> = there
        .iter()
        .map(|old| (old.first, old.last, old.comment.as_str()))
        .collect();
    wanted == there
}

/// Makes the table in force say what `ruleset` says; see the head of this file. On refusal it is as it was.
pub(crate) fn exchange(
    socket: &mut Netlink,
    ruleset: &Ruleset,
    keeps: &dyn Fn(&str, &str) -> bool,
) -> Result<(), Refusal> {
    let live = Live::read(socket)?;
    let change = Change::plan(socket, &live, ruleset, keeps)?;
    if !change.staged.is_empty() {
        let mut batch = Batch::new(socket);
        for (index, (set, elements)) in change.staged.iter().enumerate() {
            batch.set(set, index as u32 + 1);
            batch.moved_elements(set, elements);
        }
        batch.commit()?;
    }
    let result = flip(socket, &live, &change, ruleset);
    if result.is_err() && !change.staged.is_empty() {
        let mut batch = Batch::new(socket);
        change
            .staged
            .iter()
            .for_each(|(set, _)| batch.delete_set(&set.name));
        // The first refusal is the one to tell. What stays is in no rule, and over with the next exchange.
        let _tidied = batch.commit();
    }
    result
}

fn flip(
    socket: &mut Netlink,
    live: &Live,
    change: &Change,
    ruleset: &Ruleset,
) -> Result<(), Refusal> {
    let mut batch = Batch::new(socket);
    for chain in &live.chains {
        batch.in_chain(DEL_RULE, 2, chain, "rules of chain");
    }
    for (index, set) in change.made.iter().enumerate() {
        batch.set(set, index as u32 + 1);
        batch.elements(set, &set.elements);
    }
    for (set, keys) in &change.less {
        // Since they were read some may have gone: their time was over, or the resolver took them out. Deleting what is
        // not there is refused, and the whole change with it; adding what is there changes nothing.
        let bare = |key: &Key| Element {
            first: *key,
            last: *key,
            comment: String::new(),
        };
        let elements: Vec<Element> = keys.iter().map(bare).collect();
        batch.elements(set, &elements);
        batch.delete_elements(set, keys);
    }
    for set in &change.more {
        batch.elements(set, &set.elements);
    }
    let chains = || ruleset.chains.iter();
    for chain in chains().filter(|chain| !live.chains.contains(&chain.name)) {
        batch.chain(chain);
    }
    for chain in chains() {
        let rules = chain.rules.iter().map(|rule| rule.with_sets(&change.names));
        batch.rules(&Chain {
            rules: rules.collect(),
            ..chain.clone()
        });
    }
    for name in &live.chains {
        if !chains().any(|chain| chain.name == *name) {
            batch.in_chain(DEL_CHAIN, 3, name, "chain");
        }
    }
    for set in &change.over {
        batch.delete_set(set);
    }
    batch.commit()
}

impl Batch<'_> {
    /// A deletion that names a chain in attribute `attribute`.
    fn in_chain(&mut self, kind: u16, attribute: u16, chain: &str, what: &str) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        attrs.string(attribute, chain);
        self.push(kind, 0, &attrs, format!("delete {what} {chain}"));
    }

    pub(crate) fn delete_set(&mut self, name: &str) {
        let mut attrs = Attrs::default();
        attrs.string(1, TABLE);
        attrs.string(2, name);
        self.push(DEL_SET, 0, &attrs, format!("delete set {name}"));
    }

    /// Removes elements of a set without intervals.
    pub(crate) fn delete_elements(&mut self, set: &Set, keys: &[Key]) {
        for chunk in keys.chunks(ELEMENTS_PER_MESSAGE) {
            let mut attrs = Attrs::default();
            attrs.string(1, TABLE);
            attrs.string(2, &set.name);
            attrs.nested(3, |list| {
                for one in chunk {
                    list.nested(1, |element| element.data(1, &key(one, set.shape)));
                }
            });
            let subject = format!("delete elements of set {}", set.name);
            self.push(DEL_ELEMENTS, 0, &attrs, subject);
        }
    }

    /// Adds elements with what they have counted before, and the time that they have left.
    fn moved_elements(&mut self, set: &Set, elements: &[Moved]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE / 2) {
            let mut attrs = Attrs::default();
            attrs.string(1, TABLE);
            attrs.string(2, &set.name);
            attrs.nested(3, |list| {
                chunk.iter().for_each(|one| moved(list, set.shape, one));
            });
            let subject = format!("elements of set {}", set.name);
            self.push(NEW_ELEMENTS, NLM_F_CREATE, &attrs, subject);
        }
    }
}

fn moved(list: &mut Attrs, shape: Shape, (element, old): &Moved) {
    list.nested(1, |one| {
        one.data(1, &key(&element.first, shape));
        one.data(10, &key(&element.last, shape));
        if let Some(comment) = comment(&element.comment) {
            one.bytes(6, &comment);
        }
        let Some(old) = old else { return };
        if let Some(left) = old.expires {
            one.u64(4, left.max(1));
            one.u64(5, left.max(1));
        }
        one.nested(7, |expr| {
            expr.string(1, "counter");
            expr.nested(2, |counter| {
                counter.u64(1, old.bytes);
                counter.u64(2, old.packets);
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_kernel_lead_to_names_of_rulesets() {
        assert_eq!(base("out4_net1"), "out4_net1");
        assert_eq!(base("out4_net1_r2"), "out4_net1");
        assert_eq!(base("out4_name_3f2a9c01_r17"), "out4_name_3f2a9c01");
        assert_eq!(base("refused_out4"), "refused_out4");
        let mut live = Live::default();
        assert_eq!(live.free_name("out4_net1"), "out4_net1");
        for name in ["out4_net1", "out4_net1_r2"] {
            live.sets.push(LiveSet {
                name: name.into(),
                flags: 0,
                key_type: 0,
                key_length: 0,
            });
        }
        assert_eq!(live.free_name("out4_net1"), "out4_net1_r3");
        assert_eq!(live.name_of("out4"), "out4");
    }
}
