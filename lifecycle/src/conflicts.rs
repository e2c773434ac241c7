//! Addresses and ports that somebody else has.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use metactl_bundles::app::App;
use metactl_bundles::network::Mode;
use metactl_bundles::paths::Paths;
use metactl_bundles::server::Server;

use crate::allocation;
use crate::error::{LifecycleError, Result};
use crate::files;
use crate::materialize::Understood;

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
        Mode::Host if !runs => check_ports(app),
        Mode::Host | Mode::None => Ok(()),
        Mode::Routed | Mode::Nat => {
            let addresses = &app.sandbox.net.addresses;
            for address in addresses {
                let taken = |holder: String| taken_address(app, *address, holder);
                if let Some(other) = other_instance(paths, instance, *address)? {
                    return Err(taken(format!("instance {other} has it")));
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
            Ok(())
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

/// The other instance that has the address in its bundle.
fn other_instance(paths: &Paths, instance: &str, address: IpAddr) -> Result<Option<String>> {
    for dir in allocation::state_dirs(paths)? {
        let name = files::name_of(&dir);
        if name == instance {
            continue;
        }
        let own = allocation::read(&dir)?
            .and_then(|had| had.address)
            .map(IpAddr::V4);
        if own == Some(address) || allocation::bundle_addresses(&dir).contains(&address) {
            return Ok(Some(name.to_owned()));
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

/// An address can be bound on the server that has it, and only there (ip(7)).
fn is_own(address: IpAddr) -> bool {
    std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Asks on every device towards the physical network.
fn ask_network(server: &Server, address: IpAddr) -> Result<Option<String>> {
    let facts = metactl_netns::facts::gather(server.uplink.as_deref())?;
    for uplink in &facts.uplinks {
        let answer = metactl_netns::probe::probe_conflict(address, &uplink.name, PROBE)?;
        if let Some(mac) = answer {
            return Ok(Some(format!("{mac} answers for it on {}", uplink.name)));
        }
    }
    Ok(None)
}

/// In `host` mode the ports of the daemons are the server's.
fn check_ports(app: &App) -> Result<()> {
    for daemon in app.daemons.values() {
        let Some(port) = daemon.port else { continue };
        let any = SocketAddr::from(([0, 0, 0, 0], port));
        match TcpListener::bind(any) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                return Err(LifecycleError::Taken {
                    what: format!("port {port} of [daemon.{}]", daemon.name),
                    holder: "another program on this server listens on it".to_owned(),
                    hint: format!(
                        "[daemon.{}] port = another one, or leave out [sandbox.net] mode = host for \
                         ports of its own",
                        daemon.name
                    ),
                });
            }
            // Whatever else is wrong with it, the daemon will say.
            _ => {}
        }
    }
    Ok(())
}
