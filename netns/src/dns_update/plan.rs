//! What is to be changed so that a name server has what is wanted. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Name;

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    /// A or AAAA: an address.
    Address(IpAddr),
    /// PTR: the name of an address.
    Pointer(Name),
}

/// A resource record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub owner: Name,
    /// What it says.
    pub data: Data,
}

impl Record {
    /// Whether it is the name of an address: in another zone, which the name server need not have.
    pub fn is_pointer(&self) -> bool {
        matches!(self.data, Data::Pointer(_))
    }
}

impl Data {
    /// The type by its name: `A`, `AAAA`, `PTR`.
    pub fn kind(&self) -> &'static str {
        match self {
            Data::Address(IpAddr::V4(_)) => "A",
            Data::Address(IpAddr::V6(_)) => "AAAA",
            Data::Pointer(_) => "PTR",
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Address(address) => address.fmt(out),
            Data::Pointer(name) => name.fmt(out),
        }
    }
}

/// One change of one name in one zone, done whole or not at all (RFC 2136 section 3.7). Each name has a message
/// of its own: a server may allow one, and refuse another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The zone that the message is about.
    pub zone: Name,
    /// The name.
    pub owner: Name,
    /// What is deleted, each by itself.
    pub remove: Vec<Data>,
    /// What is added. Only where no CNAME stands: a server would leave that silently out (section 3.4.2.2), so the
    /// message has it as a prerequisite.
    pub add: Vec<Data>,
}

impl Update {
    /// The records that it adds.
    pub fn added(&self) -> impl Iterator<Item = Record> {
        self.records(&self.add)
    }

    /// The records that it deletes.
    pub fn removed(&self) -> impl Iterator<Item = Record> {
        self.records(&self.remove)
    }

    /// Whether it is about the name of an address.
    pub fn is_pointer(&self) -> bool {
        self.added()
            .chain(self.removed())
            .any(|record| record.is_pointer())
    }

    fn records(&self, data: &[Data]) -> impl Iterator<Item = Record> {
        let record = |data: &Data| Record {
            owner: self.owner.clone(),
            data: data.clone(),
        };
        data.iter().map(record)
    }
}

/// The updates that lead from `had`, what may be there, to `wanted`. What is `confirmed` is certainly there; everything else
/// that is wanted is added again, which does no harm. Records whose zone is not known are left out.
///
/// Addresses come before the names of addresses.
pub fn plan(
    wanted: &BTreeSet<Record>,
    had: &BTreeSet<Record>,
    confirmed: &BTreeSet<Record>,
    zone_of: impl Fn(&Record) -> Option<Name>,
) -> Vec<Update> {
    let mut updates: BTreeMap<(bool, Name), Update> = BTreeMap::new();
    let removed = had.difference(wanted).map(|record| (record, false));
    let added = wanted.difference(confirmed).map(|record| (record, true));
    for (record, adds) in removed.chain(added) {
        let Some(zone) = zone_of(record) else {
            continue;
        };
        let update = updates
            .entry((record.is_pointer(), record.owner.clone()))
            .or_insert_with(|| Update {
                zone,
                owner: record.owner.clone(),
                remove: Vec::new(),
                add: Vec::new(),
            });
        let list = match adds {
            true => &mut update.add,
            false => &mut update.remove,
        };
        list.push(record.data.clone());
    }
    updates.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn address(owner: &str, address: &str) -> Record {
        Record {
            owner: name(owner),
            data: Data::Address(address.parse().unwrap()),
        }
    }

    fn set(records: &[&Record]) -> BTreeSet<Record> {
        records.iter().copied().cloned().collect()
    }

    #[test]
    fn only_differences_are_sent_and_each_name_by_itself() {
        let zone = |record: &Record| match record.is_pointer() {
            true => None,
            false => Some(name("example.org")),
        };
        let one = address("a.example.org", "10.0.0.1");
        let moved = address("a.example.org", "10.0.0.2");
        let app = address("app.example.org", "10.0.0.2");
        let pointer = Record {
            owner: Name::reverse("10.0.0.2".parse().unwrap()),
            data: Data::Pointer(name("a.example.org")),
        };
        let wanted = set(&[&moved, &app, &pointer]);
        let updates = plan(&wanted, &set(&[&one, &app]), &set(&[&app]), zone);
        assert_eq!(updates.len(), 1);
        assert_eq!(updates[0].removed().collect::<Vec<_>>(), [one]);
        assert_eq!(
            updates[0].added().collect::<Vec<_>>(),
            std::slice::from_ref(&moved)
        );
        // What may be there, but is not known to be, is said again.
        let updates = plan(
            &set(&[&moved, &app]),
            &set(&[&moved, &app]),
            &BTreeSet::new(),
            zone,
        );
        assert_eq!(updates.len(), 2);
        assert!(plan(&set(&[&app]), &set(&[&app]), &set(&[&app]), zone).is_empty());
    }

    #[test]
    fn names_of_addresses_come_last() {
        let zone = |record: &Record| Some(record.owner.clone());
        let pointer = Record {
            owner: Name::reverse("10.0.0.2".parse().unwrap()),
            data: Data::Pointer(name("z.example.org")),
        };
        let record = address("z.example.org", "10.0.0.2");
        let updates = plan(&set(&[&pointer, &record]), &set(&[]), &set(&[]), zone);
        assert!(!updates[0].is_pointer() && updates[1].is_pointer());
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        let record = address("a.example.org", "2001:db8::1");
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"owner":"a.example.org","data":{"address":"2001:db8::1"}}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
        assert!(serde_json::from_str::<Record>(&text.replace("a.ex", "a..ex")).is_err());
    }
}
