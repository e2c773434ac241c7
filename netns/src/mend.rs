//! Puts back what somebody took away of the network of a running instance: a firewall reload flushed the table, a
//! device was set down, a route was deleted, forwarding was switched off, an uplink got another name.
//!
//! Until then nothing is open: the policy is in the sandbox's own namespace, where none of that reaches. What cannot
//! be put back is said.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use metactl_bundles::network::{Mode, NetworkSpec};
use rustix::io::Errno;

use crate::link::{ALTNAME_PREFIX, Device, GROUP, Holder, Links, Route};
use crate::netlink::{Netlink, Refusal, inside};
use crate::nftables::Ruleset;
use crate::plan::{self, Side, Step};
use crate::{NetError, Resolved, facts, nftables, policy, server};

/// Compares the network of the instance of `spec` with its plan, and mends it. The calling thread is in the server's
/// network namespace; `netns` is the sandbox's. `user` and `server_dir` are those of [`crate::apply::apply`], `uplink`
/// is that of [`facts::gather`]. Returns what was wrong, a line each; nothing when all was well. Costs a handful of
/// questions then.
///
/// # Errors
/// What cannot be mended: the device of the instance is gone, somebody else has its address.
pub fn mend(
    spec: &NetworkSpec,
    names: &Resolved,
    netns: BorrowedFd<'_>,
    server_dir: &Path,
    user: &str,
    uplink: Option<&str>,
) -> Result<Vec<String>, NetError> {
    if !matches!(spec.mode, Mode::Routed | Mode::Nat) {
        return Ok(Vec::new());
    }
    let mut said = policy_inside(spec, names, netns)?;
    said.extend(server::refresh(server_dir)?);
    let facts = match facts::gather(uplink) {
        Ok(facts) => facts,
        // The uplink that the configuration names is not there: what needs none can be mended all the same.
        Err(error) => {
            said.push(error.to_string());
            let mut facts = facts::gather(None)?;
            facts.uplinks.clear();
            facts
        }
    };
    let outer = outer(&spec.instance, &server::devices(server_dir, user)?)?;
    let plan = plan::again(spec, &facts, &outer.name);
    let effects = plan.server_effects();
    if server::needs_more(server_dir, user, &effects)? {
        said.push("the server has other uplinks now".into());
        server::acquire(server_dir, user, Some(&outer.name), &effects)?;
    }
    let mut work = Work {
        links: open()?,
        outer,
        said,
    };
    for step in &plan.steps {
        work.step(step)?;
    }
    Ok(work.said)
}

fn open() -> Result<Links, NetError> {
    Links::open().map_err(|refusal| refusal.during("open a netlink socket on the server"))
}

/// Somebody with the rights of the administrator was inside and removed the firewall, or its rules: it comes back, whole.
fn policy_inside(
    spec: &NetworkSpec,
    names: &Resolved,
    netns: BorrowedFd<'_>,
) -> Result<Vec<String>, NetError> {
    let rules = policy::ruleset(spec, names)?;
    let (is_there, is_torn) = inside(netns, || {
        let failed = |refusal: Refusal| refusal.during("look after the firewall in the sandbox");
        let mut socket = Netlink::netfilter()
            .map_err(Refusal::from)
            .map_err(failed)?;
        if nftables::table_exists(&mut socket).map_err(failed)? {
            return Ok((true, is_torn(&rules, &mut socket).map_err(failed)?));
        }
        nftables::load(&mut socket, &rules).map_err(failed)?;
        Ok((false, false))
    })?;
    if is_torn {
        // Addresses of names and counters stay where they are left, and who learns goes on.
        policy::replace(netns, spec, spec, names)?;
        return Ok(vec![
            "the firewall inside the sandbox had lost its rules".into(),
        ]);
    }
    Ok(match is_there {
        true => Vec::new(),
        false => vec!["the firewall inside the sandbox was gone".into()],
    })
}

/// A chain has no rule. What else a running policy may have become by changes is nobody's damage.
fn is_torn(rules: &Ruleset, socket: &mut Netlink) -> Result<bool, Refusal> {
    let counts = nftables::dump::rules_by_chain(socket)?;
    let mut chains = rules.chains.iter();
    Ok(chains.any(|chain| !counts.contains_key(&chain.name)))
}

/// The living outer device of the instance, whatever it is called by now: by its alternative name, or, where somebody
/// else had that, by the name in the record.
fn outer(instance: &str, recorded: &[String]) -> Result<Device, NetError> {
    let look = |refusal: Refusal| refusal.during(format!("find the network device of {instance}"));
    let mut links = open()?;
    let name = format!("{ALTNAME_PREFIX}{instance}");
    for name in std::iter::once(&name).chain(recorded) {
        if let Some(device) = links.find(name).map_err(look)?
            && device.group == GROUP
            && links.peer_is_alive(&device).map_err(look)?
        {
            return Ok(device);
        }
    }
    Err(Refusal::from(Errno::NODEV).during(format!(
        "find the network device of {instance}, which somebody removed; restart it"
    )))
}

struct Work {
    links: Links,
    outer: Device,
    said: Vec<String>,
}

impl Work {
    fn step(&mut self, step: &Step) -> Result<(), NetError> {
        let failed = |refusal: Refusal| NetError::Step {
            step: step.to_string(),
            detail: refusal.detail,
            source: refusal.source,
        };
        let index = self.outer.index;
        let mended = match step {
            Step::Sysctl { key, value } => sysctl(key, value).map_err(Refusal::from),
            Step::NoAutomaticAddresses(Side::Server, _) if !self.outer.up => {
                self.links.no_automatic_addresses(index).map(|()| false)
            }
            Step::Up(Side::Server, _) if !self.outer.up => self.links.up(index).map(|()| true),
            Step::Address {
                side: Side::Server,
                net,
                only_this_link,
                ..
            } => match self.links.add_address(index, net, *only_this_link) {
                Err(refusal) if refusal.is(Errno::EXIST) => Ok(false),
                result => result.map(|()| true),
            },
            Step::Resolver { address, .. } => match self.links.add_own_address(index, *address) {
                Err(refusal) if refusal.is(Errno::EXIST) => Ok(false),
                result => result.map(|()| true),
            },
            // One that is there is made again as it is.
            Step::Neighbour {
                side: Side::Server,
                address,
                mac,
                ..
            } => self
                .links
                .add_neighbour(index, *address, mac)
                .map(|()| false),
            Step::Route {
                side: Side::Server,
                destination,
                via,
                source,
                ..
            } => {
                let address = destination.addr();
                if self.is_routed(address)? {
                    return Ok(());
                }
                let route = Route {
                    destination: *destination,
                    device: index,
                    via: *via,
                    source: *source,
                };
                match self.links.add_route(&route, false) {
                    // Somebody else mends, too, and was faster.
                    Err(refusal) if refusal.is(Errno::EXIST) && self.is_routed(address)? => {
                        Ok(false)
                    }
                    result => result.map(|()| true),
                }
            }
            _ => Ok(false),
        };
        if mended.map_err(failed)? {
            self.said.push(format!("was missing: {step}"));
        }
        Ok(())
    }

    /// The address leads to the instance. Who has it instead is an error: two would fight about it.
    fn is_routed(&mut self, address: IpAddr) -> Result<bool, NetError> {
        let look = |refusal: Refusal| refusal.during(format!("find out who has {address}"));
        let holder = match self.links.holder(address).map_err(look)? {
            None => return Ok(false),
            Some(Holder::Device(device)) if device == self.outer.index => return Ok(true),
            Some(Holder::Device(device)) => self
                .links
                .get(device)
                .map_err(look)?
                .unwrap_or_default()
                .described(),
            Some(Holder::Machine(_)) => "the server itself has it now".into(),
            Some(Holder::Unusable(why)) => format!("it is {why} here"),
        };
        Err(NetError::AddressTaken { address, holder })
    }
}

/// True when it had another value.
fn sysctl(key: &str, value: &str) -> io::Result<bool> {
    let path = Path::new("/proc/sys").join(key);
    if std::fs::read_to_string(&path)?.trim() == value {
        return Ok(false);
    }
    std::fs::write(&path, value).map(|()| true)
}
