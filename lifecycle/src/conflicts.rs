//! Addresses and ports that somebody else has.

mod published;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use metactl_bundles::app::App;
use metactl_bundles::bundle::read_manifest;
use metactl_bundles::keys::values;
use metactl_bundles::layers::Config;
use metactl_bundles::network::{Mode, NetworkSpec, Protocol, Published};
use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;

use crate::allocation;
use crate::error::{LifecycleError, Result};
use crate::files;
use crate::materialize::{self, Understood};

/// How long the network has to say that somebody has an address.
const PROBE: Duration = Duration::from_millis(300);

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// At records on this server only: on the way of a start.
    Records,
    /// The network is asked too: for a deployment of something that does not run yet.
    Network,
}

/// Fails when an address or a port of the instance is somebody else's. `runs`: it runs already, so
/// what is in use may be its own.
pub(crate) fn check(
    paths: &Paths,
    instance: &str,
    understood: &Understood,
    runs: bool,
    look: Look,
) -> Result<()> {
    let app = &understood.app;
    match app.sandbox.net.mode {
        Mode::Host if !runs => check_ports(paths, instance, understood),
        Mode::Host | Mode::None => Ok(()),
        Mode::Routed | Mode::Nat => {
            let addresses = &app.sandbox.net.addresses;
            for address in addresses {
                let taken = |holder: String| taken_address(app, *address, holder);
                if let Some(other) = other_instance(paths, instance, *address)? {
                    return Err(taken(format!("it is that of instance {other}")));
                }
                if runs {
                    continue;
                }
                if is_own(*address) {
                    return Err(taken("it is an address of this server itself".to_owned()));
                }
                if look == Look::Network
                    && let Some(holder) = ask_network(&understood.server, *address)?
                {
                    return Err(taken(holder));
                }
            }
            published::check(paths, instance, understood)
        }
    }
}

fn taken_address(app: &App, address: IpAddr, holder: String) -> LifecycleError {
    let origin = app.sandbox.net.ip_origin.as_ref();
    let at = origin.map_or_else(String::new, |origin| format!(" ({origin})"));
    LifecycleError::Taken {
        what: format!("address {address}{at}"),
        holder,
        hint: "[sandbox.net] ip = an address that is free, or leave it out for one of the pool"
            .to_owned(),
    }
}

/// Another instance of this server that has the address: it says so in its layers, deployed or
/// not, or runs with it. Told with the file and line that say so.
fn other_instance(paths: &Paths, instance: &str, address: IpAddr) -> Result<Option<String>> {
    let found = of_others(
        paths,
        instance,
        |text| may_say(text, address),
        |config| says_address(config, address),
    )?;
    if let Some((other, origin)) = found {
        return Ok(Some(format!("{other} ({origin})")));
    }
    for dir in allocation::state_dirs(paths)? {
        let name = files::name_of(&dir);
        if name == instance {
            continue;
        }
        let own = allocation::read(&dir)?
            .and_then(|had| had.address)
            .map(IpAddr::V4);
        if own == Some(address) || allocation::bundle_addresses(&dir).contains(&address) {
            let at = written(&dir, "sandbox.net", "ip").unwrap_or_else(|| "from the pool".into());
            return Ok(Some(format!("{name} ({at})")));
        }
    }
    Ok(None)
}

/// Who has an address that no instance has: this server itself, or somebody on its networks.
pub(crate) fn holder(server: &Server, address: IpAddr) -> Result<Option<String>> {
    if is_own(address) {
        return Ok(Some("it is an address of this server itself".to_owned()));
    }
    ask_network(server, address)
}

/// The first other instance in whose layers `look` finds something, of those with a layer that `may` say it. What is wrong in them is told when something is
/// done with that instance.
fn of_others<T: Send>(
    paths: &Paths,
    instance: &str,
    may: impl Fn(&str) -> bool + Sync,
    look: impl Fn(&Config) -> Option<T> + Sync,
) -> Result<Option<(String, T)>> {
    let mut others = Vec::new();
    for path in files::entries(&paths.config.join("nodes"))? {
        let name = files::name_of(&path).strip_suffix(".conf");
        let other = name.filter(|name| *name != instance && crate::names::check(name).is_ok());
        others.extend(other.map(str::to_owned));
    }
    let found = materialize::of_some(paths, &others, may, look);
    let mut found = others.into_iter().zip(found);
    Ok(found.find_map(|(other, found)| Some((other, found?))))
}

/// Where the layers say that the instance has the address.
fn says_address(config: &Config, address: IpAddr) -> Option<String> {
    let value = config.get("sandbox.net", "ip")?;
    let has = values::addresses(&value.text).is_ok_and(|all| all.contains(&address));
    has.then(|| value.origin.to_string())
}

/// Whether a layer can have said an address, before it is understood: there may be hundreds of them. IPv4 has one
/// spelling; IPv6 has many, and names stand for anything.
fn may_say(text: &str, address: IpAddr) -> bool {
    address.is_ipv6() || text.contains("%(") || text.contains(&address.to_string())
}

/// Where the bundle in use says that a setting of it was written.
fn written(state_dir: &Path, section: &str, key: &str) -> Option<String> {
    let manifest = read_manifest(&state_dir.join("bundle")).ok()?;
    let mut settings = manifest.settings.into_iter();
    let found = settings.find(|setting| setting.section == section && setting.key == key)?;
    Some(found.origin)
}

/// An address can be bound on the server that has it, and only there (ip(7)).
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Asks on every device on whose network the address would be.
fn ask_network(server: &Server, address: IpAddr) -> Result<Option<String>> {
    let facts = metactl_netns::facts::gather(server.uplink.as_deref())?;
    for uplink in facts.towards(address) {
        let answer = metactl_netns::probe::probe_conflict(address, &uplink.name, PROBE)?;
        if let Some(mac) = answer {
            return Ok(Some(format!("{mac} answers for it on {}", uplink.name)));
        }
    }
    Ok(None)
}

/// In `host` mode the ports of the daemons are the server's.
fn check_ports(paths: &Paths, instance: &str, understood: &Understood) -> Result<()> {
    for daemon in understood.app.daemons.values() {
        let Some(port) = daemon.port else { continue };
        let everywhere = Published {
            protocol: Protocol::Tcp,
            address: None,
            port,
            inside: port,
        };
        let holder = match published::holder(paths, instance, &everywhere)? {
            Some(holder) => holder,
            None if is_in_use(port) => "another program on this server listens on it".to_owned(),
            None => continue,
        };
        let section = format!("daemon.{}", daemon.name);
        let value = understood.config.get(&section, "port");
        let at = value.map_or_else(String::new, |value| format!(" ({})", value.origin));
        return Err(LifecycleError::Taken {
            what: format!("port {port} of [{section}]{at}"),
            holder,
            hint: format!(
                "[{section}] port = another one, or leave out [sandbox.net] mode = host for ports \
                 of its own"
            ),
        });
    }
    Ok(())
}

/// Another instance in `host` mode with this port, whether it runs or not, with the file and line
/// that say so.
fn other_with_port(paths: &Paths, instance: &str, port: u16) -> Result<Option<String>> {
    for dir in allocation::state_dirs(paths)? {
        let name = files::name_of(&dir);
        let spec: Option<NetworkSpec> = files::read_json(&dir.join("bundle/network.json"))?;
        if name == instance || spec.is_none_or(|spec| spec.mode != Mode::Host) {
            continue;
        }
        let Ok(manifest) = read_manifest(&dir.join("bundle")) else {
            continue;
        };
        if let Some(entry) = manifest
            .entries
            .iter()
            .find(|entry| entry.port == Some(port))
        {
            let at = written(&dir, &format!("daemon.{}", entry.name), "port");
            let at = at.map_or_else(String::new, |at| format!(", {at}"));
            let title = &entry.name;
            return Ok(Some(format!(
                "instance {name} has it ([daemon.{title}]{at})"
            )));
        }
    }
    Ok(None)
}

/// Whatever else is wrong with it, the daemon will say.
fn is_in_use(port: u16) -> bool {
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    TcpListener::bind(any).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_that_can_say_an_address_are_understood() {
        let four = IpAddr::from([10, 1, 0, 5]);
        assert!(may_say("[sandbox.net]\nip = 10.1.0.4,\n  10.1.0.5\n", four));
        assert!(may_say("[sandbox.net]\nip = %(ADDRESS)\n", four));
        assert!(!may_say("[sandbox.net]\nip = 10.1.0.4\n", four));
        // `2001:DB8:0::5` is the same address.
        let six = "2001:db8::5".parse().unwrap();
        assert!(may_say("[sandbox.net]\nip = 2001:DB8:0::5\n", six));
    }
}
