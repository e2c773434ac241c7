//! Finds what on this server would stop the network of instances, and says the command that mends it.
//!
//! Nothing is changed. Each check looks at the server as it is: the rules of others at the forward and at the input
//! hook (`forward`, `input`), the settings that metactl made and somebody took back, the pool and the addresses of instances, and
//! what the kernel can do (`kernel`).

mod addresses;
mod follow;
mod forward;
mod input;
mod kernel;
mod settings;

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;

use crate::facts::{self, HostFacts};
use crate::{NetError, server};

pub use follow::Owner;
pub use forward::mend_legacy;
pub use input::mend_legacy_input;

/// Something that stops the network of instances, or will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it: one word, `forward`.
    pub check: &'static str,
    /// What is wrong.
    pub what: String,
    /// Where it stands: a chain, a file below /proc/sys, a device.
    pub place: String,
    /// What comes of it.
    pub why: String,
    /// The commands that mend it, for a shell, one after the other.
    pub mend: Vec<String>,
    /// What has to be done besides, so that it stays mended after a reboot. Empty when nothing has to.
    pub lasting: String,
}

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// As in [`crate::apply::apply`].
    pub server_dir: &'a Path,
    /// As in [`facts::gather`].
    pub uplink: Option<&'a str>,
    /// The pool of the server.
    pub pool: IpNet,
    /// The pool of IPv6 addresses.
    pub pool6: Option<IpNet>,
    /// The file in which the pool is written.
    pub conf: &'a Path,
    /// Every instance's addresses, with its name.
    pub addresses: Vec<(String, IpAddr)>,
    /// The command that makes everything true again that metactl has recorded.
    pub refresh: &'a str,
}

/// All checks of one server. They are made in the network namespace of the calling thread, as root.
pub fn examine(subject: &Subject<'_>) -> Result<Vec<Finding>, NetError> {
    let mut found = kernel::examine();
    let facts = match facts::gather(subject.uplink) {
        Ok(facts) => facts,
        Err(error) => {
            found.push(no_uplink(subject, &error));
            facts::gather(None)?
        }
    };
    found.extend(rules_of_others(&facts)?);
    let needed = server::needed(subject.server_dir)?;
    found.extend(settings::examine(subject, &needed, &facts)?);
    found.extend(addresses::examine(subject)?);
    Ok(found)
}

/// The checks that are quick and need no record: for a word of warning at `new` and `deploy`.
pub fn glance(uplink: Option<&str>) -> Result<Vec<Finding>, NetError> {
    rules_of_others(&facts::gather(uplink)?)
}

fn rules_of_others(facts: &HostFacts) -> Result<Vec<Finding>, NetError> {
    let chains = follow::chains()?;
    let mut found = forward::examine(&chains, facts);
    found.extend(input::examine(&chains, facts));
    Ok(found)
}

fn no_uplink(subject: &Subject<'_>, error: &NetError) -> Finding {
    let conf = subject.conf.display();
    Finding {
        check: "uplink",
        what: error.to_string(),
        place: conf.to_string(),
        why: "no instance with an address can start".into(),
        mend: vec![format!("sed -i '/^uplink *=/d' {conf}")],
        lasting: String::new(),
    }
}

/// Whether IPv6 concerns anybody.
fn has_ipv6(facts: &HostFacts) -> bool {
    let nets = facts.uplinks.iter().flat_map(|uplink| &uplink.networks);
    facts.ipv6 && nets.into_iter().any(|net| net.addr().is_ipv6())
}
