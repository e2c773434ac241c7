//! `metactl doctor`: what on this server would stop instances, and the command that mends it.

mod server;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use metactl_bundles::keys::values;
use metactl_bundles::layers::Config;
use metactl_bundles::server::Server;
use metactl_netns::doctor::{self, Finding, Subject};
use metactl_netns::{facts, link, probe};

use crate::error::{LifecycleError, Result};
use crate::manager::{Manager, require_root};
use crate::{allocation, files, materialize};

/// How long the network has to say that somebody has an address.
const PROBE: Duration = Duration::from_millis(300);
/// Which tables `iptables` has loaded without nftables, for each protocol, and who prints them.
const LEGACY: [(&str, &str); 2] = [
    ("/proc/self/net/ip_tables_names", "iptables-legacy"),
    ("/proc/self/net/ip6_tables_names", "ip6tables-legacy"),
];

/// A setting of the server that metactl has changed for the instances that run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSetting {
    /// Path below `/proc/sys`.
    pub key: String,
    /// What it was, and will be again when the last instance that needs it is gone.
    pub before: String,
    /// What it is set to.
    pub now: String,
}

/// What was found out about a server.
#[derive(Debug, Clone, Default)]
pub struct Diagnosis {
    /// What would stop instances; empty on a server in order.
    pub findings: Vec<Finding>,
    /// What metactl has changed, and recorded.
    pub changed: Vec<ChangedSetting>,
    /// The devices towards other machines.
    pub uplinks: Vec<String>,
}

impl Manager {
    /// Looks for what would stop the network of instances. Nothing is changed.
    ///
    /// # Errors
    /// Not root, or what cannot be found out at all.
    pub fn doctor_network(&self) -> Result<Diagnosis> {
        require_root("looking at the network of the server")?;
        let server = Server::read(&self.paths)?;
        let conf = self.paths.server_conf();
        let runtime = self.runtime();
        let addresses = self.addresses()?;
        let subject = Subject {
            server_dir: runtime.server_dir(),
            uplink: server.uplink.as_deref(),
            pool: server.pool.into(),
            pool6: server.pool6.map(Into::into),
            conf: &conf,
            addresses,
            refresh: "metactl mend",
        };
        let mut findings = doctor::examine(&subject)?;
        findings.extend(legacy());
        findings.extend(elsewhere(&subject)?);
        findings.extend(self.service_manager()?.kind.manager().mending(self)?);
        let changed = metactl_netns::server::changed_sysctls(runtime.server_dir())?;
        let uplinks = match facts::gather(server.uplink.as_deref()) {
            Ok(facts) => facts
                .uplinks
                .into_iter()
                .map(|uplink| uplink.name)
                .collect(),
            // That is a finding.
            Err(_) => Vec::new(),
        };
        Ok(Diagnosis {
            findings,
            changed: changed
                .into_iter()
                .map(|(key, before, now)| ChangedSetting { key, before, now })
                .collect(),
            uplinks,
        })
    }

    /// Every address that an instance has or says in its layers, with the name of the instance.
    fn addresses(&self) -> Result<Vec<(String, IpAddr)>> {
        let mut found = BTreeSet::new();
        for dir in allocation::state_dirs(&self.paths)? {
            let name = files::name_of(&dir).to_owned();
            let all = allocation::bundle_addresses(&dir);
            found.extend(all.into_iter().map(|address| (name.clone(), address)));
        }
        // What is wrong in the layers of an instance is told when something is done with it.
        let said = |_: &str, config: Result<Config>| {
            let addresses = config.ok().and_then(|config| said_addresses(&config));
            addresses.unwrap_or_default()
        };
        let names = self.instances()?;
        let said = materialize::of_all(&self.paths, &names, said);
        for (name, said) in names.iter().zip(said) {
            found.extend(said.into_iter().map(|address| (name.clone(), address)));
        }
        Ok(found.into_iter().collect())
    }
}

fn said_addresses(config: &Config) -> Option<Vec<IpAddr>> {
    values::addresses(&config.get("sandbox.net", "ip")?.text).ok()
}

/// A word of warning where an instance is made or deployed, when something is known to stop it. Quick, and never on
/// the way of a start.
pub(crate) fn warnings(server: &Server) -> Vec<String> {
    match doctor::glance(server.uplink.as_deref()) {
        Ok(mut found) => {
            found.extend(legacy());
            found
                .into_iter()
                .map(|one| {
                    format!(
                        "{}; metactl doctor network says the command that mends it",
                        one.what
                    )
                })
                .collect()
        }
        // Without the right to look there is nothing to say; what is really wrong is told by the step that fails.
        Err(error) if error.is_permission() => Vec::new(),
        Err(error) => vec![format!(
            "the network of the server was not looked at: {error}"
        )],
    }
}

/// Rules that only the program shows which made them.
fn legacy() -> Vec<Finding> {
    let uses = |names: &str| {
        let names = std::fs::read_to_string(Path::new(names)).unwrap_or_default();
        names.lines().any(|name| name == "filter")
    };
    let look = |program: &str| -> Option<Vec<Finding>> {
        let output = Command::new(format!("{program}-save"))
            .args(["-t", "filter"])
            .output();
        // Who has made rules with it, has it; without it they cannot be read.
        let output = output.ok().filter(|output| output.status.success())?;
        let rules = String::from_utf8_lossy(&output.stdout);
        let forward = doctor::mend_legacy(program, &rules);
        let input = doctor::mend_legacy_input(program, &rules);
        Some(forward.into_iter().chain(input).collect())
    };
    let used = LEGACY.iter().filter(|(names, _)| uses(names));
    used.filter_map(|(_, program)| look(program))
        .flatten()
        .collect()
}

/// Other machines that answer for the addresses of instances that run. All are asked at the same time.
fn elsewhere(subject: &Subject<'_>) -> Result<Vec<Finding>> {
    let Ok(facts) = facts::gather(subject.uplink) else {
        return Ok(Vec::new());
    };
    let running: BTreeSet<String> = link::outer_links()?
        .into_iter()
        .filter(|link| link.alive)
        .filter_map(|link| link.instance)
        .collect();
    let routed = subject.addresses.iter().filter(|(name, address)| {
        let pools = [Some(subject.pool), subject.pool6];
        let pooled = pools.iter().flatten().any(|pool| pool.contains(address));
        running.contains(name) && !pooled
    });
    let questions: Vec<(&str, IpAddr, &str)> = routed
        .flat_map(|(name, address)| {
            let uplinks = facts.towards(*address).into_iter();
            uplinks.map(move |uplink| (name.as_str(), *address, uplink.name.as_str()))
        })
        .collect();
    std::thread::scope(|scope| {
        let ask = |(name, address, uplink): (&'_ str, IpAddr, &'_ str)| {
            let (name, uplink) = (name.to_owned(), uplink.to_owned());
            scope.spawn(move || {
                let answer = probe::probe_conflict(address, &uplink, PROBE)?;
                Ok(answer.map(|mac| Finding {
                    check: "address",
                    what: format!("{mac} answers for {address} of instance {name} on {uplink}, as this server does"),
                    place: uplink,
                    why: "other machines reach now the one, now the other".into(),
                    mend: vec![format!("metactl {name} unset sandbox.net:ip && metactl {name} restart")],
                    lasting: "or take the address from that machine; without `ip` the instance gets one of the pool".into(),
                }))
            })
        };
        let asked: Vec<_> = questions.into_iter().map(ask).collect();
        let mut found = Vec::new();
        for question in asked {
            let crashed = |_| LifecycleError::Runtime {
                verb: "doctor".to_owned(),
                why: "asking the network crashed".to_owned(),
            };
            let answer: Result<Option<Finding>, metactl_netns::NetError> =
                question.join().map_err(crashed)?;
            found.extend(answer?);
        }
        Ok(found)
    })
}
