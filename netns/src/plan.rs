//! `network.json` and the facts of the server become a list of steps. Pure: nothing is asked, nothing changed.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use metactl_bundles::network::NetworkSpec;
use serde::{Deserialize, Serialize};

use crate::facts::HostFacts;
use crate::{NetError, Resolved};

/// What makes the devices of this start different from those of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkIds {
    /// Up to four characters; the outer device is `m-<instance>-<generation>`. A new one for every start: a
    /// dying namespace frees the name of its device only milliseconds later.
    pub generation: String,
    /// The process id of the sandbox's first process, if known: the outer device is also called `pid<PID>`.
    pub pid: Option<u32>,
}

impl LinkIds {
    /// A random generation.
    pub fn fresh(pid: Option<u32>) -> LinkIds {
        LinkIds {
            generation: "0000".into(),
            pid,
        }
    }
}

/// The complete list of steps, in the order in which they are taken.
#[derive(Debug, Clone, PartialEq)]
pub struct NetPlan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What the reader of the plan should know (no uplink, ...).
    pub notes: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Something shared on the server that outlives the namespace; counted by user.
    Server(ServerEffect),
}

/// Something that remains on the server after the namespace is gone, until [`crate::server::release`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum ServerEffect {
    /// A file below `/proc/sys/net` gets a value; the original is recorded before.
    Sysctl {
        /// Path below `/proc/sys`, `net/ipv4/conf/eth0/forwarding`.
        key: String,
        /// The value.
        value: String,
    },
    /// The static table `inet metactl` exists.
    Table,
    /// The table masquerades this pool.
    Masquerade(IpNet),
    /// The server answers ARP or NDP for the address on the device.
    Proxy {
        /// The address of the instance.
        address: IpAddr,
        /// The uplink.
        device: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for NetPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl NetPlan {
    /// What stays on the server until it is released: record it (or the whole intent) before applying.
    pub fn server_effects(&self) -> impl Iterator<Item = &ServerEffect> {
        self.steps.iter().map(|Step::Server(effect)| effect)
    }

    /// The name of the outer device, if the plan makes one.
    pub fn outer(&self) -> Option<&str> {
        None
    }
}

/// Makes the plan. Errors are contradictions in `spec` (an address that cannot be one, no address in `routed`
/// mode, IPv6 on a server without it, an instance name that no device can have).
pub fn plan(
    spec: &NetworkSpec,
    names: &Resolved,
    facts: &HostFacts,
    ids: &LinkIds,
) -> Result<NetPlan, NetError> {
    let _ = (names, facts, ids);
    Err(NetError::Spec {
        instance: spec.instance.clone(),
        reason: "not planned".into(),
    })
}
