//! Carries a plan out: one function per step, in order; undoes what was done when one fails.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::link::{Device, GROUP, Holder, Links, Route};
use crate::netlink::{Netlink, Refusal, visit};
use crate::plan::{NetPlan, ServerEffect, Side, Step, Veth, random};
use crate::{NetError, nftables, server};

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The name of the outer device; none in the modes `none` and `host`.
    pub outer: Option<String>,
    /// Its number.
    pub ifindex: Option<u32>,
    /// Its other names, those that could be given.
    pub altnames: Vec<String>,
    /// What did not work but does not matter for the instance (an alternative name that is taken).
    pub warnings: Vec<String>,
}

/// Carries out `plan` between the network namespace of the calling thread (the server's) and `netns` (the
/// sandbox's, `/proc/PID/ns/net` or a pin of it). What is shared on the server is recorded in `server_dir` for
/// `user`, a name that no other namespace uses at the same time (the instance, or the container); give it back with
/// [`crate::server::release`] when the namespace is gone. When a step fails, what was done is undone. No descriptor
/// of the namespace is left open.
pub fn apply(
    plan: &NetPlan,
    netns: BorrowedFd<'_>,
    server_dir: &Path,
    user: &str,
) -> Result<Applied, NetError> {
    if plan.steps.is_empty() {
        return Ok(Applied::default());
    }
    let host =
        Links::open().map_err(|refusal| refusal.during("open a netlink socket on the server"))?;
    let open = || {
        let home = std::fs::File::open("/proc/thread-self/ns/net")?;
        visit(netns, home.as_fd(), || {
            let links = Links::open().map_err(|refusal| refusal.source)?;
            Ok((links, Netlink::netfilter()?))
        })
    };
    let (sandbox, firewall) = open()
        .map_err(|error| Refusal::from(error).during("open netlink sockets in the sandbox"))?;
    let mut work = Work {
        netns,
        server_dir,
        host,
        sandbox,
        firewall,
        outer: None,
        inner: None,
        replace: BTreeSet::new(),
        table: false,
        acquired: false,
        applied: Applied::default(),
    };
    match work.carry_out(plan, user) {
        Ok(()) => Ok(work.applied),
        Err(error) => {
            work.undo(user);
            Err(error)
        }
    }
}

/// The range of numbers for our devices.
const FIRST_NUMBER: u32 = 1_000_000;
const NUMBERS: u32 = 1_000_000_000;

/// How long to wait for a worker of the kernel.
const WORKER_MOST: Duration = Duration::from_millis(100);

/// The state of an execution; sockets are closed with it.
struct Work<'a> {
    netns: BorrowedFd<'a>,
    server_dir: &'a Path,
    host: Links,
    sandbox: Links,
    firewall: Netlink,
    /// The numbers of the devices, once they exist.
    outer: Option<u32>,
    inner: Option<u32>,
    /// Addresses whose route still leads to a dying sandbox.
    replace: BTreeSet<IpAddr>,
    /// Done, to be undone on failure.
    table: bool,
    acquired: bool,
    applied: Applied,
}

impl Work<'_> {
    fn carry_out(&mut self, plan: &NetPlan, user: &str) -> Result<(), NetError> {
        let effects = plan.server_effects();
        let mut waiting = !effects.is_empty();
        let mut beside = false;
        for step in &plan.steps {
            match step {
                // All of the server's at once, under one lock.
                Step::Server(_) if !waiting => {}
                Step::Server(_) => {
                    waiting = false;
                    beside = server::is_unused(self.server_dir) && has_processors();
                    match beside {
                        true => self.acquire_beside(plan, user, &effects)?,
                        false => self.acquired = self.acquire(plan, user, &effects)?,
                    }
                }
                step if beside && is_alone(step) => {}
                Step::Free(address) => self.free(*address)?,
                Step::Veth(veth) => self.veth(veth, step)?,
                Step::Altname { name, .. } => self.altname(name, step)?,
                Step::Route {
                    destination,
                    side: Side::Server,
                    ..
                } => {
                    let result = self.step(step);
                    // Somebody took it since the check.
                    if result
                        .as_ref()
                        .is_err_and(|refusal| refusal.is(Errno::EXIST))
                    {
                        self.free(destination.addr())?;
                    }
                    result.map_err(|refusal| failed(step, refusal))?;
                }
                Step::Carrier(_) | Step::InForce { .. } => {
                    self.wait(step).map_err(|refusal| failed(step, refusal))?;
                }
                step => self.step(step).map_err(|refusal| failed(step, refusal))?,
            }
        }
        Ok(())
    }

    fn acquire(
        &self,
        plan: &NetPlan,
        user: &str,
        effects: &[ServerEffect],
    ) -> Result<bool, NetError> {
        server::acquire(self.server_dir, user, plan.outer(), effects)
    }

    /// The first instance of a server: the table that all share is made beside the firewall of the sandbox. Each is a
    /// transaction of its own namespace, and the kernel takes half a millisecond for it, most of that for putting the
    /// hooks into its code, where nobody else on the machine had any yet.
    fn acquire_beside(
        &mut self,
        plan: &NetPlan,
        user: &str,
        effects: &[ServerEffect],
    ) -> Result<(), NetError> {
        let (server_dir, outer) = (self.server_dir, plan.outer());
        let acquire = move || server::acquire(server_dir, user, outer, effects);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("server".into());
            let running = thread.spawn_scoped(scope, acquire);
            let mut alone = plan.steps.iter().filter(|step| is_alone(step));
            let own =
                alone.try_for_each(|step| self.step(step).map_err(|refusal| failed(step, refusal)));
            let crashed = |_| {
                let what = "finish what all instances share on the server";
                Err(Refusal::from(std::io::Error::other("it panicked")).during(what))
            };
            let shared = match running {
                Ok(running) => running.join().unwrap_or_else(crashed),
                // No room for a thread.
                Err(_) => acquire(),
            };
            self.acquired = shared?;
            own
        })
    }

    /// The steps that are one request.
    fn step(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::Policy { ruleset, .. } => {
                nftables::load(&mut self.firewall, ruleset)?;
                self.table = true;
                Ok(())
            }
            // The loopback device always has number 1.
            Step::Loopback => self.sandbox.up(1),
            Step::Sysctl { key, value } => {
                Ok(std::fs::write(Path::new("/proc/sys").join(key), value)?)
            }
            Step::NoAutomaticAddresses(side, _) => {
                let (links, device) = self.side(*side)?;
                links.no_automatic_addresses(device)
            }
            Step::Address {
                side,
                net,
                only_this_link,
                ..
            } => {
                let (links, device) = self.side(*side)?;
                links.add_address(device, net, *only_this_link)
            }
            Step::Resolver { address, .. } => {
                let (links, device) = self.side(Side::Server)?;
                links.add_own_address(device, *address)
            }
            Step::Up(side, _) => {
                let (links, device) = self.side(*side)?;
                links.up(device)
            }
            Step::Neighbour {
                side, address, mac, ..
            } => {
                let (links, device) = self.side(*side)?;
                links.add_neighbour(device, *address, mac)
            }
            Step::Route {
                side,
                destination,
                via,
                source,
                ..
            } => {
                let replace = *side == Side::Server && self.replace.contains(&destination.addr());
                let (links, device) = self.side(*side)?;
                links.add_route(
                    &Route {
                        destination: *destination,
                        device,
                        via: *via,
                        source: *source,
                    },
                    replace,
                )
            }
            Step::Server(_)
            | Step::Free(_)
            | Step::Veth(_)
            | Step::Altname { .. }
            | Step::Carrier(_)
            | Step::InForce { .. }
            | Step::Announce(_) => Ok(()),
        }
    }

    fn side(&mut self, side: Side) -> Result<(&mut Links, u32), Refusal> {
        let missing = || Refusal::from(Errno::NODEV);
        match side {
            Side::Server => Ok((&mut self.host, self.outer.ok_or_else(missing)?)),
            Side::Sandbox => Ok((&mut self.sandbox, self.inner.ok_or_else(missing)?)),
        }
    }

    /// A route that leads to a sandbox that is over is no obstacle: it vanishes with the namespace, but the instance
    /// that is being restarted cannot wait for that.
    fn free(&mut self, address: IpAddr) -> Result<(), NetError> {
        let look = |refusal: Refusal| refusal.during(format!("find out who has {address}"));
        let taken = |holder: String| Err(NetError::AddressTaken { address, holder });
        match self.host.holder(address).map_err(look)? {
            None => Ok(()),
            Some(Holder::Unusable(why)) => taken(format!("it is {why} here")),
            Some(Holder::Machine(index)) => {
                let device = self.host.get(index).map_err(look)?.unwrap_or_default();
                taken(format!("the server itself has it, on {}", device.name))
            }
            Some(Holder::Device(index)) => match self.host.get(index).map_err(look)? {
                None => Ok(()),
                Some(device) if self.is_over(&device)? => {
                    self.replace.insert(address);
                    Ok(())
                }
                Some(device) => taken(device.described()),
            },
        }
    }

    /// The device of a sandbox that is dying, or was released and only waits for its last connections.
    fn is_over(&mut self, device: &Device) -> Result<bool, NetError> {
        if device.group != GROUP {
            return Ok(false);
        }
        let look = |refusal: Refusal| {
            refusal.during(format!("find out whether {} is in use", device.name))
        };
        Ok(!self.host.peer_is_alive(device).map_err(look)?
            || !server::is_owned(self.server_dir, &device.name)?)
    }

    /// The number of the outer device is ours to choose, far above those that the kernel gives.
    fn veth(&mut self, veth: &Veth, step: &Step) -> Result<(), NetError> {
        let fail = |refusal| failed(step, refusal);
        let mut tries = 0;
        loop {
            let outer = FIRST_NUMBER + random() % NUMBERS;
            tries += 1;
            match self.host.add_veth(veth, self.netns, outer) {
                Ok(()) => {
                    self.outer = Some(outer);
                    self.applied.outer = Some(veth.outer.clone());
                    self.applied.ifindex = Some(outer);
                    let inner = self.sandbox.find(&veth.inner).map_err(fail)?;
                    self.inner = inner.map(|device| device.index);
                    return Ok(());
                }
                Err(refusal) if refusal.is(Errno::BUSY) && tries < 5 => {}
                Err(refusal) if refusal.is(Errno::EXIST) => {
                    let taken = self.host.find(&veth.outer).map_err(fail)?.is_some();
                    return Err(if taken {
                        NetError::NameTaken {
                            name: veth.outer.clone(),
                        }
                    } else {
                        fail(refusal)
                    });
                }
                Err(refusal) => return Err(fail(refusal)),
            }
        }
    }

    /// A name that is taken is no reason to fail, only to say so.
    fn altname(&mut self, name: &str, step: &Step) -> Result<(), NetError> {
        let fail = |refusal| failed(step, refusal);
        let outer = self.outer.ok_or_else(|| fail(Errno::NODEV.into()))?;
        let mut result = self.host.add_altname(outer, name);
        if result
            .as_ref()
            .is_err_and(|refusal| refusal.is(Errno::EXIST))
        {
            match self.host.find(name).map_err(fail)? {
                // It vanished meanwhile.
                None => result = self.host.add_altname(outer, name),
                Some(holder) if self.is_over(&holder)? => {
                    // If it is gone by now, the name is free just as well.
                    result = self
                        .host
                        .remove_altname(holder.index, name)
                        .or_else(|refusal| {
                            if refusal.is(Errno::NODEV) {
                                Ok(())
                            } else {
                                Err(refusal)
                            }
                        });
                    result = result.and_then(|()| self.host.add_altname(outer, name));
                }
                Some(holder) => {
                    let warning = format!("the name {name} belongs to {} already", holder.name);
                    self.applied.warnings.push(warning);
                    return Ok(());
                }
            }
        }
        match result {
            Ok(()) => self.applied.altnames.push(name.into()),
            Err(refusal) => self
                .applied
                .warnings
                .push(format!("no alternative name {name}: {}", refusal.source)),
        }
        Ok(())
    }

    /// Two things the kernel does a little later, in a worker; a first packet that comes before is lost, and that costs
    /// a second. The end that goes up first has to notice the carrier (since Linux 6.8 asking for the device does that
    /// work), and an IPv6 address has to get its route, even without duplicate address detection.
    fn wait(&mut self, step: &Step) -> Result<(), Refusal> {
        let deadline = Instant::now() + WORKER_MOST;
        loop {
            let done = match step {
                Step::Carrier(_) => {
                    let (links, device) = self.side(Side::Server)?;
                    links
                        .get(device)?
                        .is_none_or(|device| device.qdisc != "noop")
                }
                Step::InForce { side, address, .. } => {
                    let (links, device) = self.side(*side)?;
                    links.is_local(device, *address)?
                }
                _ => true,
            };
            if done {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.applied
                    .warnings
                    .push(format!("not so after {WORKER_MOST:?}: {step}"));
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Best effort: what cannot be undone now is found later by group, by user, or dies with the namespace.
    fn undo(&mut self, user: &str) {
        if let Some(outer) = self.outer {
            self.host.remove(outer).unwrap_or_default();
        }
        if self.table {
            nftables::remove_table(&mut self.firewall).unwrap_or_default();
        }
        if self.acquired {
            server::release(self.server_dir, user).unwrap_or_default();
        }
    }
}

/// Two things can be done at the same time: where they cannot, a thread only costs.
fn has_processors() -> bool {
    rustix::thread::sched_getaffinity(None).is_ok_and(|processors| processors.count() > 1)
}

/// Only the sandbox is concerned, and no device towards the server.
fn is_alone(step: &Step) -> bool {
    matches!(step, Step::Policy { .. } | Step::Loopback)
}

fn failed(step: &Step, refusal: Refusal) -> NetError {
    NetError::Step {
        step: step.to_string(),
        detail: refusal.detail,
        source: refusal.source,
    }
}
