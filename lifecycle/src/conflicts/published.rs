//! Published ports: the server's, so each leads to one instance.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use metactl_bundles::layers::Config;
use metactl_bundles::network::{NetworkSpec, Protocol, Published, parse_publish};
use metactl_bundles::paths::Paths;

use crate::error::{LifecycleError, Result};
use crate::materialize::Understood;
use crate::{allocation, files};

/// Fails when a port that the instance publishes is somebody else's. It takes no socket of the server, so whoever
/// listens on it is somebody else, whether the instance runs or not.
pub(super) fn check(paths: &Paths, instance: &str, understood: &Understood) -> Result<()> {
    let net = &understood.app.sandbox.net;
    for port in &net.publish {
        let holder = match holder(paths, instance, port)? {
            Some(holder) => holder,
            None => match obstacle(port, understood.server.pool6.is_some()) {
                Some(obstacle) => obstacle.to_owned(),
                None => continue,
            },
        };
        let origin = net.publish_origin.as_ref();
        let at = origin.map_or_else(String::new, |origin| format!(" ({origin})"));
        return Err(LifecycleError::Taken {
            what: format!("port {} of the server{at}", port.at()),
            holder,
            hint:
                "[sandbox.net] publish = another port, or leave it out: the server itself reaches \
                   the instance at its own address"
                    .to_owned(),
        });
    }
    Ok(())
}

/// Another instance that publishes the port or, in `host` mode, serves it.
pub(super) fn holder(paths: &Paths, instance: &str, port: &Published) -> Result<Option<String>> {
    let same = |other: &Published| other.clashes(port);
    let found = super::of_others(paths, instance, |_| true, |config| says(config, same))?;
    if let Some((other, origin)) = found {
        return Ok(Some(format!("instance {other} publishes it ({origin})")));
    }
    for dir in allocation::state_dirs(paths)? {
        let name = files::name_of(&dir);
        let spec: Option<NetworkSpec> = files::read_json(&dir.join("bundle/network.json"))?;
        if name != instance && spec.is_some_and(|spec| spec.publish.iter().any(same)) {
            return Ok(Some(format!("instance {name} publishes it")));
        }
    }
    match port.protocol {
        Protocol::Tcp => super::other_with_port(paths, instance, port.port),
        Protocol::Udp | Protocol::Icmp => Ok(None),
    }
}

/// Where the layers say that the instance publishes such a port.
fn says(config: &Config, same: impl Fn(&Published) -> bool) -> Option<String> {
    let value = config.get("sandbox.net", "publish")?;
    let ports = parse_publish(&value.text).ok()?;
    ports.iter().any(same).then(|| value.origin.to_string())
}

/// Why the server cannot give the port away. `ipv6`: instances have addresses of that family, too.
fn obstacle(port: &Published, ipv6: bool) -> Option<&'static str> {
    let bind = |address: IpAddr| -> Option<ErrorKind> {
        let at = (address, port.port);
        let bound = match port.protocol {
            Protocol::Udp => UdpSocket::bind(at).map(drop),
            Protocol::Tcp | Protocol::Icmp => TcpListener::bind(at).map(drop),
        };
        bound.err().map(|error| error.kind())
    };
    let mut addresses: Vec<IpAddr> = port.address.into_iter().collect();
    if addresses.is_empty() {
        addresses.push(Ipv4Addr::UNSPECIFIED.into());
        addresses.extend(ipv6.then_some(IpAddr::from(Ipv6Addr::UNSPECIFIED)));
    }
    let mut errors = addresses.into_iter().filter_map(bind);
    errors.find_map(|error| match error {
        ErrorKind::AddrInUse => Some("another program on this server listens on it"),
        ErrorKind::AddrNotAvailable if port.address.is_some() => {
            Some("the server has no such address")
        }
        _ => None,
    })
}
