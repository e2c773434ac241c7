//! The firewall of an instance that runs: its counters, what it refused, and what is open although it would be
//! refused now.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_netns::Resolved;
use metactl_netns::connections::Connection;
use metactl_netns::policy::{self, Direction, FirewallStatus};
use metactl_netns::resolver::NamesAsked;
use serde::Serialize;

use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::manager::require_root;
use crate::standalone::records::RunDir;

/// The firewall of an instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Firewall {
    /// What it is at the moment.
    pub spec: NetworkSpec,
    /// What it has seen.
    pub status: FirewallStatus,
    /// Names of addresses, as far as they are known here.
    pub names: BTreeMap<IpAddr, String>,
    /// Connections that are open, and could not be opened any more.
    pub unwanted: Vec<OpenConnection>,
    /// What it asked for by name, as far as the resolver remembers.
    pub asked: NamesAsked,
}

/// An open connection of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenConnection {
    /// Which way it was opened.
    pub direction: Direction,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Its own end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// The name of the other end, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The process that has it, as the server numbers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The program of that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

/// The network of an instance that runs.
pub(crate) struct LiveNetwork {
    pub(crate) spec: NetworkSpec,
    pub(crate) netns: File,
    pub(crate) run: RunDir,
    asked: NamesAsked,
}

impl Instance {
    /// The network that is there, if it is one of its own.
    pub(crate) fn live_network(&self) -> Result<LiveNetwork> {
        let run = self.run_dir();
        let Some(spec) = files::read_json::<NetworkSpec>(&run.network())? else {
            return Err(LifecycleError::NotRunning {
                what: self.name.clone(),
                hint: format!("metactl {} start", self.name),
            });
        };
        if spec.mode == Mode::Host {
            return Err(LifecycleError::Unavailable {
                what: format!(
                    "{} has no network of its own ([sandbox.net] mode = host)",
                    self.name
                ),
                hint: "its connections are filtered by the server's firewall, if at all".to_owned(),
            });
        }
        let path = run.netns();
        let netns = File::open(&path).on("open", &path)?;
        let server_dir = self.runtime().server_dir().to_owned();
        let asked = NamesAsked::read(&server_dir, &self.name).on("read", &server_dir)?;
        Ok(LiveNetwork {
            spec,
            netns,
            run,
            asked: asked.unwrap_or_default(),
        })
    }

    /// What the firewall of the sandbox has seen, and what is open behind its back.
    ///
    /// # Errors
    /// When the instance does not run, or has no network of its own.
    pub fn firewall(&self) -> Result<Firewall> {
        require_root("looking into a sandbox")?;
        let live = self.live_network()?;
        let status = policy::status(live.netns.as_fd(), &live.spec)?;
        let unwanted = policy::unwanted(live.netns.as_fd(), &live.spec)?;
        let names = live.known_names()?;
        Ok(Firewall {
            unwanted: described(&unwanted, &live, &names)?,
            spec: live.spec,
            status,
            names,
            asked: live.asked,
        })
    }
}

impl LiveNetwork {
    /// The addresses of the names of the policy.
    pub(crate) fn names(&self) -> Result<Resolved> {
        Ok(files::read_json(&self.run.names())?.unwrap_or_default())
    }

    /// The names of addresses: those of the policy, then those that were asked for, then those that the server's own
    /// /etc/hosts has.
    pub(crate) fn known_names(&self) -> Result<BTreeMap<IpAddr, String>> {
        let hosts = files::read(Path::new("/etc/hosts"))?.unwrap_or_default();
        let mut known = names_in_hosts(&String::from_utf8_lossy(&hosts));
        for (name, one) in &self.asked.names {
            let addresses = one.addresses.keys();
            known.extend(addresses.map(|address| (*address, name.clone())));
        }
        for (name, addresses) in self.names()? {
            known.extend(addresses.into_iter().map(|address| (address, name.clone())));
        }
        Ok(known)
    }
}

/// The first name of each address in a file like hosts(5); loopback addresses are everybody's own.
fn names_in_hosts(text: &str) -> BTreeMap<IpAddr, String> {
    let mut known = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if let (Some(address), Some(name)) = (address, words.next())
            && !address.is_loopback()
        {
            known.entry(address).or_insert_with(|| name.to_owned());
        }
    }
    known
}

/// Connections with the processes that have them.
pub(crate) fn described(
    connections: &[Connection],
    live: &LiveNetwork,
    names: &BTreeMap<IpAddr, String>,
) -> Result<Vec<OpenConnection>> {
    if connections.is_empty() {
        return Ok(Vec::new());
    }
    let inode = live.netns.metadata().on("read", &live.run.netns())?.ino();
    let owners = owners(inode);
    let one = |connection: &Connection| {
        let owner = owners.get(&u64::from(connection.inode));
        OpenConnection {
            direction: connection.direction,
            protocol: connection.proto,
            local: connection.local,
            peer: connection.peer,
            name: names.get(&connection.peer.ip()).cloned(),
            pid: owner.map(|(pid, _)| *pid),
            program: owner.map(|(_, program)| program.clone()),
        }
    };
    Ok(connections.iter().map(one).collect())
}

/// By number of a socket: a process of the network namespace that has it, and its program.
fn owners(namespace: u64) -> BTreeMap<u64, (i32, String)> {
    let mut owners = BTreeMap::new();
    // A process that ends meanwhile has no sockets any more.
    for process in files::entries(Path::new("/proc")).unwrap_or_default() {
        let Ok(pid) = files::name_of(&process).parse::<i32>() else {
            continue;
        };
        let there = std::fs::metadata(process.join("ns/net"));
        if there.map_or(true, |meta| meta.ino() != namespace) {
            continue;
        }
        let program = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        for descriptor in files::entries(&process.join("fd")).unwrap_or_default() {
            let target = std::fs::read_link(descriptor).unwrap_or_default();
            let target = target.to_string_lossy();
            let number = target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                owners
                    .entry(number)
                    .or_insert_with(|| (pid, program.trim().to_owned()));
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_name_each() {
        let text = "127.0.0.1 localhost\n# 10.0.0.1 no\n10.0.0.2 db.example.org db # the database\n\
                    10.0.0.2 other\n2001:db8::2 six.example.org\nnonsense\n";
        let known = names_in_hosts(text);
        assert_eq!(known.len(), 2);
        assert_eq!(
            known[&"10.0.0.2".parse::<IpAddr>().unwrap()],
            "db.example.org"
        );
    }
}
