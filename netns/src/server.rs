//! What all instances share on the server: a few sysctls of the uplinks, one static nftables table, and the proxy
//! entries for their addresses. Counted by user, given back by the last one that needs it.
//!
//! Everything is recorded in `<server_dir>/network.json` before it is made, under a lock; undoing is idempotent.
//! So a crash at any point leaves a record that [`release`] can work off. The record names the boot and the
//! network namespace it is about: after a reboot it is void.

mod record;
mod sysctl;
mod table;
mod uplinks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipnet::Ipv4Net;
use metactl_bundles::network::{Protocol, Published};
use rustix::io::Errno;

use crate::NetError;
use crate::link::{GROUP, Links};
use crate::netlink::{Netlink, Refusal};
use crate::nftables::{self, Batch, Ruleset};
use crate::plan::ServerEffect;
use record::{Locked, Record};

/// Makes `effects` true and records that `user` needs them and has the outer device `device` (in addition to what it
/// had before). Returns whether the user is new. On failure, what a new user had brought is given back.
pub fn acquire(
    server_dir: &Path,
    user: &str,
    device: Option<&str>,
    effects: &[ServerEffect],
) -> Result<bool, NetError> {
    let mut locked = Locked::open(server_dir)?;
    refuse_taken_ports(&locked.record, user, effects)?;
    let new = !locked.record.users.contains_key(user);
    let entry = locked.record.users.entry(user.to_string()).or_default();
    entry.devices.extend(device.map(str::to_string));
    entry.needs.extend(effects.iter().cloned());
    if let Err(error) = establish(&mut locked, effects) {
        if new {
            // The first error is the one to report.
            give_back(&mut locked, user).unwrap_or_default();
        }
        return Err(error);
    }
    Ok(new)
}

/// Nobody has anything on this server: who comes now makes all of it.
pub(crate) fn is_unused(server_dir: &Path) -> bool {
    !record::exists(server_dir)
}

/// True when a user has the outer device `device`. A device that nobody has belongs to a sandbox that was released:
/// its namespace can live on for minutes, for connections whose other end does not answer any more.
pub(crate) fn is_owned(server_dir: &Path, device: &str) -> Result<bool, NetError> {
    if !record::exists(server_dir) {
        return Ok(false);
    }
    let record = Locked::open(server_dir)?.record;
    Ok(record
        .users
        .values()
        .any(|user| user.devices.contains(device)))
}

/// Gives back what `user` needed; what nobody else needs gets its old value. Harmless for an unknown user and for
/// one that has released already. Call it when the sandbox is over. An outer device whose namespace is dying is left
/// to the kernel, which takes it away within milliseconds; where something still holds the namespace (a pin, a
/// connection whose other end does not answer), the device is removed here, in 30 ms.
pub fn release(server_dir: &Path, user: &str) -> Result<(), NetError> {
    if !record::exists(server_dir) {
        return record::forget_unfinished(server_dir);
    }
    let mut locked = Locked::open(server_dir)?;
    if !locked.record.users.contains_key(user) {
        return Ok(());
    }
    give_back(&mut locked, user)
}

/// Makes everything true again that the record says: somebody may have removed the table, changed a sysctl, or taken
/// an uplink down and up, which loses the proxy entries. Cheap when nothing is missing; for whoever looks after
/// running instances to call now and then. Returns what it found in words: an uplink with a new name, a missing table.
pub fn refresh(server_dir: &Path) -> Result<Vec<String>, NetError> {
    if !record::exists(server_dir) {
        return Ok(Vec::new());
    }
    let mut locked = Locked::open(server_dir)?;
    let mut said = uplinks::follow(&mut locked.record)?;
    let needed: BTreeSet<ServerEffect> = locked.record.effects().cloned().collect();
    // In the order in which they were first made.
    let order = |effect: &ServerEffect| match effect {
        ServerEffect::Sysctl { key, .. } => locked
            .record
            .originals
            .iter()
            .position(|one| one.key == *key),
        _ => None,
    };
    let mut effects: Vec<ServerEffect> = needed.into_iter().collect();
    effects.sort_by_key(|effect| order(effect).unwrap_or(usize::MAX));
    let changed = effects.iter().filter_map(|effect| match effect {
        ServerEffect::Sysctl { key, value } => match sysctl::get(key) {
            Ok(Some(now)) if now != *value => Some(format!("{key} was {now}, not {value}")),
            _ => None,
        },
        _ => None,
    });
    said.extend(changed);
    if let Some(wanted) = table::wanted(&locked.record) {
        match table_now(&locked.record, &wanted) {
            Some(TableNow::Gone) => {
                said.push("the nftables table inet metactl of the server was gone".into());
            }
            Some(TableNow::Torn) => {
                said.push("the nftables table inet metactl of the server had lost rules or published ports".into());
                // What it is said to be is not what it is: it is made anew.
                locked.record.table = None;
            }
            Some(TableNow::Whole) | None => {}
        }
    }
    establish(&mut locked, &effects)?;
    Ok(said)
}

/// How the table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TableNow {
    Whole,
    /// Somebody removed rules or ports of it.
    Torn,
    Gone,
}

/// None where that cannot be asked: what needs it will say why.
fn table_now(record: &Record, wanted: &Ruleset) -> Option<TableNow> {
    let ask = || -> Result<TableNow, Refusal> {
        let mut socket = Netlink::netfilter()?;
        if !nftables::table_exists(&mut socket)? {
            return Ok(TableNow::Gone);
        }
        Ok(match is_whole(record, wanted, &mut socket)? {
            true => TableNow::Whole,
            false => TableNow::Torn,
        })
    };
    ask().ok()
}

/// The outer devices that `user` is recorded with.
pub(crate) fn devices(server_dir: &Path, user: &str) -> Result<Vec<String>, NetError> {
    if !record::exists(server_dir) {
        return Ok(Vec::new());
    }
    let record = Locked::open(server_dir)?.record;
    let devices = record.users.get(user).map(|user| &user.devices);
    Ok(devices.into_iter().flatten().cloned().collect())
}

/// Whether some of `effects` are not among those that `user` is recorded with.
pub(crate) fn needs_more(
    server_dir: &Path,
    user: &str,
    effects: &[ServerEffect],
) -> Result<bool, NetError> {
    if !record::exists(server_dir) {
        return Ok(true);
    }
    let record = Locked::open(server_dir)?.record;
    let needs = record.users.get(user).map(|user| &user.needs);
    Ok(needs.is_none_or(|needs| effects.iter().any(|effect| !needs.contains(effect))))
}

/// The users that have not released: compare with what runs, and release those that are gone.
pub fn users(server_dir: &Path) -> Result<Vec<String>, NetError> {
    if !record::exists(server_dir) {
        return Ok(Vec::new());
    }
    Ok(Locked::open(server_dir)?
        .record
        .users
        .keys()
        .cloned()
        .collect())
}

/// The outer devices of every user; of some the sandbox may be over. Waits for nobody.
pub(crate) fn all_devices(
    server_dir: &Path,
) -> Result<BTreeMap<String, BTreeSet<String>>, NetError> {
    let users = record::read(server_dir)?.map(|record| record.users);
    let devices = |(user, needs): (String, record::User)| (user, needs.devices);
    Ok(users.into_iter().flatten().map(devices).collect())
}

/// The sysctls that are changed at the moment, as (key, original value, value), for `doctor`.
pub fn changed_sysctls(server_dir: &Path) -> Result<Vec<(String, String, String)>, NetError> {
    if !record::exists(server_dir) {
        return Ok(Vec::new());
    }
    let record = Locked::open(server_dir)?.record;
    let changed = record
        .originals
        .into_iter()
        .filter(|one| one.original != one.value);
    Ok(changed
        .map(|one| (one.key, one.original, one.value))
        .collect())
}

/// What has to be true on the server for the users that there are, for `doctor`.
pub(crate) fn needed(server_dir: &Path) -> Result<BTreeSet<ServerEffect>, NetError> {
    if !record::exists(server_dir) {
        return Ok(BTreeSet::new());
    }
    Ok(Locked::open(server_dir)?
        .record
        .effects()
        .cloned()
        .collect())
}

/// Whether the table has all the rules and published ports that the record calls for.
pub(crate) fn table_is_whole(server_dir: &Path) -> Result<bool, NetError> {
    let record = Locked::open(server_dir)?.record;
    let Some(wanted) = table::wanted(&record) else {
        return Ok(true);
    };
    let look =
        |refusal: Refusal| refusal.during("read the nftables table inet metactl of the server");
    let mut socket = Netlink::netfilter().map_err(|error| look(error.into()))?;
    is_whole(&record, &wanted, &mut socket).map_err(look)
}

fn is_whole(record: &Record, wanted: &Ruleset, socket: &mut Netlink) -> Result<bool, Refusal> {
    let counts = nftables::dump::rules_by_chain(socket)?;
    let has_all = |chain: &nftables::Chain| {
        let count = counts.get(&chain.name).copied().unwrap_or_default();
        count == chain.rules.len()
    };
    let mut ports = 0;
    for map in &wanted.maps {
        if table::PUBLISHED.contains(&map.name.as_str()) {
            ports += nftables::dump::count_elements(socket, &map.name)?;
        }
    }
    let published = table::published(record).len();
    Ok(wanted.chains.iter().all(has_all) && ports == published)
}

/// The table as it is with a pool and a published port.
pub(crate) fn sample_table() -> nftables::Ruleset {
    let mut record = Record::default();
    let pool = Ipv4Net::new_assert([10, 77, 0, 0].into(), 16);
    let port = Published {
        protocol: Protocol::Tcp,
        address: None,
        port: 8080,
        inside: 80,
    };
    let needs = [
        ServerEffect::Table,
        ServerEffect::Masquerade(pool.into()),
        ServerEffect::Publish {
            port,
            address: std::net::IpAddr::from([10, 77, 0, 2]),
        },
    ];
    record
        .users
        .entry("doctor".into())
        .or_default()
        .needs
        .extend(needs);
    let mut ruleset = table::wanted(&record).unwrap_or_default();
    table::fill(&mut ruleset, &table::published(&record));
    ruleset
}

fn establish(locked: &mut Locked, effects: &[ServerEffect]) -> Result<(), NetError> {
    for effect in effects {
        if let ServerEffect::Sysctl { key, value } = effect {
            sysctl::remember(&mut locked.record, key, value)?;
        }
    }
    uplinks::remember(&mut locked.record)?;
    let table = Change::of(&locked.record)?;
    if !table.exists {
        // One that is not there is made whatever the record says of it.
        table.note(&mut locked.record);
    }
    // Intent before effect.
    locked.save()?;
    for effect in effects {
        match effect {
            ServerEffect::Sysctl { key, value } => sysctl::set(key, value)?,
            ServerEffect::Proxy { .. } => change_proxy(effect, Links::add_proxy)?,
            ServerEffect::Table
            | ServerEffect::Masquerade(_)
            | ServerEffect::LinkLocal { .. }
            | ServerEffect::Apart { .. }
            | ServerEffect::Publish { .. } => {}
        }
    }
    table.carry_out(locked)
}

fn give_back(locked: &mut Locked, user: &str) -> Result<(), NetError> {
    let gone = locked.record.users.remove(user).unwrap_or_default();
    for device in &gone.devices {
        take_away(device)
            .map_err(|refusal| refusal.during(format!("remove the network device {device}")))?;
    }
    let needed: BTreeSet<ServerEffect> = locked.record.effects().cloned().collect();
    for effect in gone.needs.difference(&needed) {
        if let ServerEffect::Proxy { .. } = effect {
            change_proxy(effect, Links::remove_proxy)?;
        }
    }
    sysctl::restore_all_but(&mut locked.record, &needed)?;
    refresh_table(locked)?;
    locked.save()
}

/// Removes an outer device unless it is about to vanish by itself.
fn take_away(device: &str) -> Result<(), Refusal> {
    let mut links = Links::open()?;
    let Some(found) = links.find(device)? else {
        return Ok(());
    };
    if found.group != GROUP || !links.peer_is_alive(&found)? {
        return Ok(());
    }
    match links.remove(found.index) {
        // It died between the question and the request.
        Err(refusal) if refusal.is(Errno::NODEV) => Ok(()),
        result => result,
    }
}

/// Adds or removes a proxy entry; a device that is gone has none.
fn change_proxy(
    effect: &ServerEffect,
    change: impl FnOnce(&mut Links, u32, std::net::IpAddr) -> Result<(), Refusal>,
) -> Result<(), NetError> {
    let ServerEffect::Proxy { address, device } = effect else {
        return Ok(());
    };
    let change = || -> Result<(), Refusal> {
        let mut links = Links::open()?;
        match links.find(device)? {
            Some(found) => change(&mut links, found.index, *address),
            None => Ok(()),
        }
    };
    change().map_err(|refusal| refusal.during(effect.to_string()))
}

/// A port leads to one instance. (Two that want the same are normally told so before anything is made.)
fn refuse_taken_ports(
    record: &Record,
    user: &str,
    effects: &[ServerEffect],
) -> Result<(), NetError> {
    let port_of = |effect: &ServerEffect| match effect {
        ServerEffect::Publish { port, .. } => Some(*port),
        _ => None,
    };
    for port in effects.iter().filter_map(port_of) {
        let has = |needs: &BTreeSet<ServerEffect>| {
            let mut ports = needs.iter().filter_map(port_of);
            ports.any(|other| other.clashes(&port))
        };
        let holder = record
            .users
            .iter()
            .find(|(name, other)| *name != user && has(&other.needs));
        if let Some((name, _)) = holder {
            return Err(NetError::PortTaken {
                port: port.at(),
                holder: format!("instance \"{name}\""),
            });
        }
    }
    Ok(())
}

/// Makes the table what the record says it has to be.
fn refresh_table(locked: &mut Locked) -> Result<(), NetError> {
    Change::of(&locked.record)?.carry_out(locked)
}

/// From the table that is there to the one that the record calls for. Costs one question when nothing has changed, and
/// little when only published ports come or go; a replacement (milliseconds) when an uplink or a pool does, or somebody
/// removed the table.
struct Change {
    socket: Netlink,
    exists: bool,
    wanted: Option<Ruleset>,
    published: BTreeSet<ServerEffect>,
    text: Option<String>,
}

impl Change {
    fn of(record: &Record) -> Result<Change, NetError> {
        let wanted = table::wanted(record);
        let ask = || -> Result<(Netlink, bool), Refusal> {
            let mut socket = Netlink::netfilter()?;
            let exists = nftables::table_exists(&mut socket)?;
            Ok((socket, exists))
        };
        let (socket, exists) = ask().map_err(during_change)?;
        Ok(Change {
            socket,
            exists,
            published: table::published(record),
            text: wanted.as_ref().map(ToString::to_string),
            wanted,
        })
    }

    /// Writes into the record how the table will be. Returns whether that was news.
    fn note(&self, record: &mut Record) -> bool {
        if record.table == self.text && record.published == self.published {
            return false;
        }
        record.table.clone_from(&self.text);
        record.published.clone_from(&self.published);
        true
    }

    fn carry_out(mut self, locked: &mut Locked) -> Result<(), NetError> {
        self.commit(&locked.record).map_err(during_change)?;
        match self.note(&mut locked.record) {
            true => locked.save(),
            false => Ok(()),
        }
    }

    fn commit(&mut self, record: &Record) -> Result<(), Refusal> {
        if self.exists && self.wanted.is_some() && self.text == record.table {
            if self.published == record.published {
                return Ok(());
            }
            let mut batch = Batch::new(&mut self.socket);
            table::change_ports(&mut batch, &record.published, &self.published);
            match batch.commit() {
                // Somebody emptied the maps.
                Err(refusal) if refusal.is(Errno::NOENT) => {}
                result => return result,
            }
        }
        let mut batch = Batch::new(&mut self.socket);
        if self.exists {
            batch.delete_table();
        }
        match &mut self.wanted {
            None if !self.exists => return Ok(()),
            None => {}
            Some(ruleset) => {
                table::fill(ruleset, &self.published);
                batch.add(ruleset);
            }
        }
        batch.commit()
    }
}

fn during_change(refusal: Refusal) -> NetError {
    refusal.during("change the nftables table inet metactl of the server")
}

impl Record {
    fn effects(&self) -> impl Iterator<Item = &ServerEffect> {
        self.users.values().flat_map(|user| &user.needs)
    }
}
