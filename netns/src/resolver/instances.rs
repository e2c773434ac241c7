//! The instances that are there, and what they may reach.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use metactl_bundles::network::{Peer, Verdict};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::Places;
use super::grants::Grants;
use super::pace::Pace;
use super::record::{self, NamesAsked, unix_now};
use super::rejected::{Cost, Rejected, Seen};
use super::system::{Stamp, stamp};
use crate::link::{GROUP, Holder, Links};
use crate::netlink::{Netlink, Refusal, visit};
use crate::policy::{EntryId, Grant, List, NamedSets, flow_peers, rebinding};
use crate::{connections, server};

/// Said of addresses that only a name leads to that somebody here has written down.
const THE_SERVERS: &str =
    "the server's own; an entry of [firewall.out.accept] with this very name allows it";
const ANOTHERS: &str =
    "another instance's; an entry of [firewall.out.accept] with this very name allows it";

/// How often the record for people is written at most.
const WRITE: Duration = Duration::from_secs(1);

/// An instance with a network of its own.
pub(super) struct Instance {
    pub user: String,
    /// The numbers of its devices on the server.
    pub devices: BTreeSet<u32>,
    pub sets: NamedSets,
    version: String,
    grants: Grants,
    rejected: Rejected,
    asked: NamesAsked,
    /// When the record was written, if it has to be again.
    unwritten: bool,
    written: Instant,
    /// How fast it asks.
    pub pace: Pace,
    /// How many questions are under way.
    pub pending: usize,
    /// How many connections are open.
    pub connections: usize,
}

/// The kernel's sets, and how to get at them.
pub(super) struct Kernel {
    home: OwnedFd,
    /// Routes and devices of the server.
    links: RefCell<Links>,
    /// Linux 6.12 gives elements that are there a new time.
    renewable: bool,
}

impl Kernel {
    pub fn open(replace_elements: bool) -> io::Result<Kernel> {
        let home = std::fs::File::open("/proc/thread-self/ns/net")?.into();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let links = Links::open().map_err(|refusal| refusal.source)?;
        Ok(Kernel {
            home,
            links: RefCell::new(links),
            renewable: !replace_elements && is_at_least(&release, 6, 12),
        })
    }

    /// Who on this server has the address: the server, or an instance. None when it is elsewhere.
    fn whose(&self, address: IpAddr) -> Option<&'static str> {
        let mut links = self.links.borrow_mut();
        match links.holder(address) {
            Ok(Some(Holder::Machine(_))) => Some(THE_SERVERS),
            Ok(Some(Holder::Device(device))) => {
                let device = links.get(device).ok().flatten()?;
                (device.group == GROUP).then_some(ANOTHERS)
            }
            Ok(Some(Holder::Unusable(_)) | None) => None,
            // Without an answer nothing is told.
            Err(_) => Some("of unknown whereabouts"),
        }
    }

    fn inside<T>(
        &self,
        netns: BorrowedFd<'_>,
        open: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, Refusal> {
        Ok(visit(netns, self.home.as_fd(), open)?)
    }

    fn firewall(&self, places: &dyn Places, user: &str) -> Result<Netlink, Refusal> {
        let netns = places.namespace(user)?;
        self.inside(netns.as_fd(), Netlink::netfilter)
    }
}

/// Its namespace is not there yet, or not any more: nothing to tell.
pub(super) fn is_gone(refusal: &Refusal) -> bool {
    let no_process = refusal.is(rustix::io::Errno::SRCH);
    no_process || refusal.source.kind() == io::ErrorKind::NotFound
}

/// `6.18.2-amd64` against 6.12.
fn is_at_least(release: &str, major: u32, minor: u32) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) >= (major, minor)
}

impl Instance {
    /// Why a question for `name` is refused whatever the policy; nothing when it is not.
    pub fn rejects(&self, name: &str) -> Option<String> {
        let line = self.sets.rejects_whole(name)?;
        Some(format!("`{line}` of [firewall.out.reject] names it"))
    }

    /// Everything may be asked for and reached.
    pub fn is_open(&self) -> bool {
        self.sets.spec().out.policy == Verdict::Accept
    }

    /// Why this address of a name is not passed on, whatever the policy; nothing when it may be.
    pub fn forbids(&self, address: &IpAddr) -> Option<&'static str> {
        rebinding(address).filter(|_| !self.lists(address))
    }

    /// The same of a name that nobody here has written down: whoever rules over it would choose among the server's own
    /// services and other instances, too.
    pub fn forbids_of_strangers(&self, address: &IpAddr, kernel: &Kernel) -> Option<&'static str> {
        if let Some(why) = self.forbids(address) {
            return Some(why);
        }
        if self.lists(address) || self.sets.spec().addresses.contains(address) {
            return None;
        }
        kernel.whose(*address)
    }

    /// An entry lists the address itself, or a prefix with it.
    pub fn lists(&self, address: &IpAddr) -> bool {
        let accept = &self.sets.spec().out.accept;
        let lists = |peer: &Peer| matches!(peer, Peer::Net(net) if net.contains(address));
        accept.iter().any(|entry| lists(&entry.peer))
    }

    /// Whether it may know who has this address.
    pub fn knows(&self, address: &IpAddr) -> bool {
        let own = self.sets.spec().addresses.contains(address);
        own || self.is_open() || self.lists(address) || self.grants.has(address)
    }

    /// Accepts `addresses` for `entries` from now on, for the time of the answer and the grace after it.
    pub fn grant(
        &mut self,
        kernel: &Kernel,
        places: &dyn Places,
        entries: &[EntryId],
        addresses: &[IpAddr],
        (ttl, grace): (Duration, Duration),
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        let wanted: Vec<Grant> = addresses
            .iter()
            .flat_map(|address| entries.iter().map(|id| (*address, *id)))
            .collect();
        let due = self.grants.due(&wanted, ttl, grace, now);
        if due.is_empty() {
            return Ok(());
        }
        self.grants.expire(now);
        let weights: Vec<usize> = due.iter().map(|grant| self.sets.weight(*grant)).collect();
        let coming: BTreeSet<IpAddr> = due.iter().map(|(address, _)| *address).collect();
        let gone = self.grants.make_room(&coming, weights.iter().sum());
        let mut socket = kernel.firewall(places, &self.user)?;
        if !gone.is_empty() {
            self.sets.remove(&mut socket, &gone)?;
        }
        let life = ttl + grace;
        let added = self.sets.add(&mut socket, &due, life, kernel.renewable);
        match added {
            // The policy was replaced a moment ago, and has made sets anew.
            Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => {
                self.sets.locate(&mut socket)?;
                self.sets.add(&mut socket, &due, life, kernel.renewable)?;
            }
            added => added?,
        }
        for (grant, weight) in due.iter().zip(weights) {
            self.grants.set(*grant, now + ttl + grace, weight);
        }
        Ok(())
    }

    /// Whether it has addresses of this family.
    pub fn has_family(&self, v6: bool) -> bool {
        let addresses = &self.sets.spec().addresses;
        addresses.iter().any(|address| address.is_ipv6() == v6)
    }

    /// Rejects addresses of entries of reject lists, for `life`. False: there is no room for more.
    pub fn reject(
        &mut self,
        kernel: &Kernel,
        places: &dyn Places,
        seen: Seen<'_>,
        life: Duration,
    ) -> Result<bool, Refusal> {
        let now = Instant::now();
        // What it has no address for is not reached in any case, and has no set.
        let fits = |address: &&IpAddr| self.has_family(address.is_ipv6());
        let addresses: Vec<IpAddr> = seen.addresses.iter().filter(fits).copied().collect();
        let addresses = addresses.as_slice();
        let seen = Seen { addresses, ..seen };
        let cost_of = |grant| cost(&self.sets, grant);
        let needed = |address: &IpAddr| self.grants.has(address);
        let Some(change) = self.rejected.seen(seen, cost_of, needed, now) else {
            return Ok(false);
        };
        if !(change.more.is_empty() && change.less.is_empty()) {
            let (more, beside) = (&change.more, self.rejected.beside(&change.less));
            let less: Vec<Grant> = change.less.iter().copied().collect();
            let mut socket = kernel.firewall(places, &self.user)?;
            match self.sets.reject(&mut socket, more, &less, &beside) {
                // The policy was replaced a moment ago, and has made sets anew.
                Err(refusal) if refusal.is(rustix::io::Errno::NOENT) => {
                    self.sets.locate(&mut socket)?;
                    self.sets.reject(&mut socket, more, &less, &beside)?;
                }
                rejected => rejected?,
            }
        }
        let cost_of = |grant| cost(&self.sets, grant);
        self.rejected.done(&change, seen, cost_of, (now, life));
        Ok(true)
    }

    /// Whether it rejects this very name, and knows no address of it.
    pub fn lacks(&self, name: &str) -> bool {
        let mut rejecting = self.sets.rejects_of(name);
        rejecting.retain(|id| self.sets.is_host(*id));
        !rejecting.is_empty() && !self.rejected.has(&rejecting)
    }

    /// Addresses whose time ends within `grace / 2` stay for another `grace` when something is connected to them.
    pub fn keep_connected(
        &mut self,
        kernel: &Kernel,
        places: &dyn Places,
        grace: Duration,
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        self.grants.expire(now);
        let ending = self.grants.ending(now + grace / 2);
        if ending.is_empty() {
            return Ok(());
        }
        let netns = places.namespace(&self.user)?;
        let open = || Ok((Netlink::netfilter()?, Netlink::sock_diag()?));
        let (mut firewall, mut diagnosis) = kernel.inside(netns.as_fd(), open)?;
        let mut alive = connections::peers(&mut diagnosis)?;
        alive.extend(flow_peers(&mut firewall)?);
        let kept: Vec<Grant> = ending
            .into_iter()
            .filter(|(address, _)| alive.contains(address))
            .collect();
        if kept.is_empty() {
            return Ok(());
        }
        self.sets
            .add(&mut firewall, &kept, grace, kernel.renewable)?;
        for grant in kept {
            let weight = self.sets.weight(grant);
            self.grants.set(grant, now + grace, weight);
        }
        Ok(())
    }

    /// Learns from the kernel what a resolver before this one accepted; what was there from the start gets a time.
    fn adopt(
        &mut self,
        kernel: &Kernel,
        places: &dyn Places,
        grace: Duration,
    ) -> Result<(), Refusal> {
        let now = Instant::now();
        let mut socket = kernel.firewall(places, &self.user)?;
        self.sets.locate(&mut socket)?;
        let mut timeless = Vec::new();
        let found = self.sets.read(&mut socket)?;
        self.sets.forget(&mut socket, &found.strays)?;
        for (grant, left) in found.grants {
            match left {
                _ if grant.1.list == List::Reject => {
                    let cost = cost(&self.sets, grant);
                    self.rejected.set(grant, now + cost.life(grace), cost);
                }
                Some(left) => self.grants.set(grant, now + left, self.sets.weight(grant)),
                None => timeless.push(grant),
            }
        }
        self.sets.add(&mut socket, &timeless, grace, false)?;
        for grant in timeless {
            self.grants.set(grant, now + grace, self.sets.weight(grant));
        }
        Ok(())
    }

    pub fn answered(&mut self, name: &str, addresses: &[IpAddr], life: Duration) {
        let now = unix_now();
        self.asked
            .answered(name, addresses, now + life.as_secs(), now);
        self.unwritten = true;
    }

    pub fn refuse(&mut self, name: &str, why: &str) {
        self.asked.refuse(name, why, unix_now());
        self.unwritten = true;
    }

    fn write(&mut self, server_dir: &Path) -> io::Result<()> {
        if self.unwritten && self.written.elapsed() >= WRITE {
            self.unwritten = false;
            self.written = Instant::now();
            self.asked.write(server_dir, &self.user)?;
        }
        Ok(())
    }
}

/// What a rejected address of an entry is in the kernel.
fn cost(sets: &NamedSets, grant: Grant) -> Cost {
    Cost {
        elements: sets.weight(grant),
        star: !sets.is_host(grant.1),
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Instances {
    pub by_user: BTreeMap<String, Instance>,
    by_address: HashMap<IpAddr, String>,
    /// Who is written down, with the devices; and of which version of the record that is.
    pub users: BTreeMap<String, BTreeSet<String>>,
    stamp: Option<Stamp>,
    known: bool,
}

impl Instances {
    /// Who asks: the address and the device must be of the same instance.
    pub fn asking(&self, address: &IpAddr, device: Option<u32>) -> Option<&str> {
        let instance = self.by_user.get(self.by_address.get(address)?)?;
        let fits = device.is_none_or(|device| instance.devices.contains(&device));
        fits.then_some(instance.user.as_str())
    }

    /// Looks who is there. Returns those that are new or have another policy, and what went wrong with others.
    pub fn look(
        &mut self,
        kernel: &Kernel,
        places: &dyn Places,
        server_dir: &Path,
        grace: Duration,
    ) -> io::Result<(Vec<String>, Vec<String>)> {
        let now = stamp(&server_dir.join("network.json"));
        if now != self.stamp || !self.known {
            self.users = server::all_devices(server_dir).map_err(io::Error::other)?;
            (self.stamp, self.known) = (now, true);
        }
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let (mut new, mut failed) = (Vec::new(), Vec::new());
        let gone: Vec<String> = self
            .by_user
            .keys()
            .filter(|user| !self.users.contains_key(*user))
            .cloned()
            .collect();
        for user in gone {
            self.by_user.remove(&user);
            record::remove(server_dir, &user);
        }
        for (user, names) in self.users.clone() {
            let index = |name: &String| netdevice::name_to_index(&socket, name).ok();
            let devices: BTreeSet<u32> = names.iter().filter_map(index).collect();
            let version = places.version(&user);
            let known = self.by_user.get(&user);
            if known
                .is_some_and(|one| one.devices == devices && Some(&one.version) == version.as_ref())
            {
                continue;
            }
            let before = self.by_user.remove(&user);
            match enter(&user, devices, kernel, places, grace) {
                Ok(Some(mut instance)) => {
                    if let Some(before) = before {
                        instance.asked = before.asked;
                        (instance.pending, instance.connections) =
                            (before.pending, before.connections);
                    }
                    self.by_user.insert(user.clone(), instance);
                    new.push(user);
                }
                // Not ready yet, or about to go: whoever changes something there is looked at again.
                Ok(None) => {}
                Err(refusal) if is_gone(&refusal) => {}
                Err(refusal) => failed.push(format!("{user}: {}", refusal.source)),
            }
        }
        self.by_address = self
            .by_user
            .values()
            .flat_map(|one| {
                one.sets
                    .spec()
                    .addresses
                    .iter()
                    .map(|address| (*address, one.user.clone()))
            })
            .collect();
        Ok((new, failed))
    }

    /// Writes the records that have changed; returns what did not work.
    pub fn write(&mut self, server_dir: &Path) -> Vec<String> {
        let results = self.by_user.values_mut().map(|one| {
            let result = one.write(server_dir);
            result.map_err(|error| format!("names of {}: {error}", one.user))
        });
        results.filter_map(Result::err).collect()
    }

    /// Whether a record waits to be written.
    pub fn is_unwritten(&self) -> bool {
        self.by_user.values().any(|one| one.unwritten)
    }
}

fn enter(
    user: &str,
    devices: BTreeSet<u32>,
    kernel: &Kernel,
    places: &dyn Places,
    grace: Duration,
) -> Result<Option<Instance>, Refusal> {
    let Some((spec, version)) = places.policy(user)? else {
        return Ok(None);
    };
    if devices.is_empty() {
        return Ok(None);
    }
    let mut instance = Instance {
        user: user.to_owned(),
        devices,
        sets: NamedSets::of(spec).map_err(|error| Refusal::from(io::Error::other(error)))?,
        version,
        grants: Grants::default(),
        rejected: Rejected::default(),
        asked: NamesAsked::default(),
        unwritten: false,
        written: Instant::now(),
        pace: Pace::new(Instant::now()),
        pending: 0,
        connections: 0,
    };
    instance.adopt(kernel, places, grace)?;
    Ok(Some(instance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        for (release, expected) in [
            ("6.18.44-x", true),
            ("6.12.0", true),
            ("6.9", false),
            ("7.0-rc1", true),
            ("5.15.0-1", false),
            ("", false),
        ] {
            assert_eq!(is_at_least(release, 6, 12), expected, "{release}");
        }
    }
}
