//! One attempt to have in the DNS what should be there, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use metactl_bundles::app::Dns;
use metactl_netns::dns_update::{Client, DnsError, Key, Name, Patience, Record, plan};

use super::journal::{Journal, Zone};

/// What stands in the way of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// In a sentence.
    pub(super) why: String,
    /// Only of the names of addresses: the others do not wait for these.
    pub(super) pointer: bool,
}

/// Whoever makes the attempts, and what it has learnt by them.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) journal: Journal,
    /// What a name server has said is there.
    pub(super) confirmed: BTreeSet<Record>,
    pub(super) patience: Patience,
    /// The zones that names of addresses are in.
    reverse: BTreeMap<Name, Name>,
}

/// Why a zone is not gone on with.
enum Stop {
    /// Nobody answers, or not well, or the key is no good: it would be the same for the other names.
    Zone(String),
    /// Nothing can be written down, so nothing may be sent.
    Disk(String),
}

impl Rounds {
    pub(super) fn new(journal: Journal, patience: Patience) -> Rounds {
        Rounds {
            journal,
            confirmed: BTreeSet::new(),
            patience,
            reverse: BTreeMap::new(),
        }
    }

    /// Registers what is `wanted`, and removes everything else that may be there. Returns what stood in the
    /// way; with nothing, all is as it should be.
    pub(super) fn round(&mut self, wanted: Option<(&Dns, &BTreeSet<Record>)>) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let nothing = BTreeSet::new();
        let mut zones: Vec<(Dns, &BTreeSet<Record>)> = Vec::new();
        // What was registered elsewhere before goes first.
        for (name, zone) in &self.journal.content.zones {
            if wanted.is_none_or(|(via, _)| via.zone != *name) {
                zones.push((zone.via.clone(), &nothing));
            }
        }
        // The way of now is also the one to what was registered before: the key may have changed.
        zones.extend(wanted.map(|(via, records)| (via.clone(), records)));
        for (via, records) in zones {
            match self.zone(&via, records, &mut troubles) {
                Ok(()) => {}
                Err(Stop::Zone(why) | Stop::Disk(why)) => troubles.push(Trouble {
                    why,
                    pointer: false,
                }),
            }
        }
        if let Err(error) = self.journal.write() {
            troubles.push(Trouble {
                why: error.to_string(),
                pointer: false,
            });
        }
        troubles
    }

    fn zone(
        &mut self,
        via: &Dns,
        wanted: &BTreeSet<Record>,
        troubles: &mut Vec<Trouble>,
    ) -> Result<(), Stop> {
        let key = Key::read(&via.key_file).map_err(|error| Stop::Zone(error.to_string()))?;
        let client = Client::new(&via.servers, &key, self.patience.clone());
        let zone = Name::parse(&via.zone).map_err(Stop::Zone)?;
        self.leave_to_others(via, wanted)?;
        self.send(&client, via, wanted, troubles, false, |_| {
            Some(zone.clone())
        })?;
        let had = self.had(via);
        let missing = wanted.difference(&self.confirmed);
        let pointers: BTreeSet<Name> = missing
            .chain(had.difference(wanted))
            .filter(|record| record.is_pointer())
            .map(|record| record.owner.clone())
            .collect();
        for owner in pointers {
            match self.reverse_zone(&client, via, &owner) {
                Ok(found) => {
                    let why = format!("the name server knows no zone of {owner}");
                    let missing = !found && via.reverse.is_none();
                    troubles.extend(missing.then_some(Trouble { why, pointer: true }));
                }
                Err(error @ DnsError::Refused { .. }) => troubles.push(Trouble {
                    why: error.to_string(),
                    pointer: true,
                }),
                Err(error) => return Err(Stop::Zone(error.to_string())),
            }
        }
        let reverse = self.reverse.clone();
        let zone_of = |record: &Record| reverse.get(&record.owner).cloned();
        self.send(&client, via, wanted, troubles, true, zone_of)
    }

    /// Forgets what is not wanted any more, but is another instance's too.
    fn leave_to_others(&mut self, via: &Dns, wanted: &BTreeSet<Record>) -> Result<(), Stop> {
        if self.had(via).is_subset(wanted) {
            return Ok(());
        }
        let others = self.journal.of_others();
        let others = others.map_err(|error| Stop::Disk(error.to_string()))?;
        self.change(via, |records| {
            records.retain(|record| wanted.contains(record) || !others.contains(record));
        })
    }

    /// What may be registered in a zone.
    fn had(&self, via: &Dns) -> BTreeSet<Record> {
        let zone = self.journal.content.zones.get(&via.zone);
        zone.map(|zone| zone.records.clone()).unwrap_or_default()
    }

    /// Finds out which zone the name of an address is in; whether it is in one.
    fn reverse_zone(
        &mut self,
        client: &Client<'_>,
        via: &Dns,
        owner: &Name,
    ) -> Result<bool, DnsError> {
        let zone = match &via.reverse {
            Some(zones) => {
                let parsed = zones.iter().filter_map(|zone| Name::parse(zone).ok());
                let fitting = parsed.filter(|zone| owner.is_in(zone));
                fitting.max_by_key(|zone| zone.as_str().len())
            }
            None if self.reverse.contains_key(owner) => return Ok(true),
            None => client.zone_of(owner)?,
        };
        let found = zone.is_some();
        match zone {
            Some(zone) => self.reverse.insert(owner.clone(), zone),
            None => self.reverse.remove(owner),
        };
        Ok(found)
    }

    /// Sends the updates of one kind, each written down before and after.
    fn send(
        &mut self,
        client: &Client<'_>,
        via: &Dns,
        wanted: &BTreeSet<Record>,
        troubles: &mut Vec<Trouble>,
        pointers: bool,
        zone_of: impl Fn(&Record) -> Option<Name>,
    ) -> Result<(), Stop> {
        let some = |records: &BTreeSet<Record>| -> BTreeSet<Record> {
            let kind = records.iter().filter(|r| r.is_pointer() == pointers);
            kind.cloned().collect()
        };
        let had = some(&self.had(via));
        for update in plan(&some(wanted), &had, &self.confirmed, zone_of) {
            let new: Vec<Record> = update.added().filter(|r| !had.contains(r)).collect();
            self.change(via, |records| records.extend(new.iter().cloned()))?;
            match client.update(&update, via.ttl) {
                Ok(()) => {
                    self.confirmed.extend(update.added());
                    self.change(via, |records| {
                        update.removed().for_each(|record| {
                            records.remove(&record);
                        });
                    })?;
                    for record in update.removed() {
                        self.confirmed.remove(&record);
                    }
                }
                // Nothing was changed: what was not there before is not there now.
                Err(error @ DnsError::Refused { .. }) => {
                    self.change(via, |records| {
                        for record in &new {
                            records.remove(record);
                        }
                    })?;
                    let why = error.to_string();
                    if error.is_about_the_key() {
                        return Err(Stop::Zone(why));
                    }
                    let pointer = pointers;
                    troubles.push(Trouble { why, pointer });
                }
                Err(error) => return Err(Stop::Zone(error.to_string())),
            }
        }
        Ok(())
    }

    /// Changes what may be registered, on disk too.
    fn change(
        &mut self,
        via: &Dns,
        change: impl FnOnce(&mut BTreeSet<Record>),
    ) -> Result<(), Stop> {
        let zones = &mut self.journal.content.zones;
        let zone = zones.entry(via.zone.clone()).or_insert_with(|| Zone {
            via: via.clone(),
            records: BTreeSet::new(),
        });
        zone.via = via.clone();
        change(&mut zone.records);
        self.journal
            .write()
            .map_err(|error| Stop::Disk(format!("the names cannot be written down: {error}")))
    }
}
