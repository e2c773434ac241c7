//! The network of an instance, where no process of metactl stays: steps that the service manager asks for make it and
//! take it away.

use std::time::Duration;

use metactl_bundles::bundle::read_manifest;

use crate::error::{LifecycleError, Result};
use crate::instance::Instance;
use crate::lock::Lock;
use crate::standalone::network::Network;
use crate::{dns, files};

/// How long the network of an instance may be mended, which takes milliseconds.
const MENDING: Duration = Duration::from_secs(10);

/// A network that is there now.
pub(super) struct Made {
    /// What is worth a line in the log.
    pub(super) said: Vec<String>,
    /// Whether its addresses are to have names in the DNS.
    pub(super) has_names: bool,
}

/// The network of an instance, whose names a step has answered.
pub(super) fn of(instance: &Instance) -> Result<Network> {
    Network::unattended(instance)
}

/// Makes the network of a bundle, unless it is there.
pub(super) fn up(instance: &Instance, digest: &str, uplink: Option<&str>) -> Result<Made> {
    let bundle = instance
        .state_dir()
        .join("bundles")
        .join(files::name_of(digest.as_ref()));
    let manifest = read_manifest(&bundle)?;
    files::make_dir(&instance.run_dir().0, 0o755)?;
    let held = lock(instance, "network-up")?;
    let mut network = of(instance)?;
    network.adopt()?;
    network.up(&instance.runtime(), &bundle, &manifest, uplink)?;
    drop(held);
    let mut said = network.notes();
    said.extend(network.announced());
    Ok(Made {
        said,
        has_names: manifest.dns.is_some(),
    })
}

/// Takes the network away, and its names with it. Returns what is worth a line in the log.
pub(crate) fn down(instance: &Instance) -> Result<Vec<String>> {
    let held = lock(instance, "network-down")?;
    of(instance)?.down(&instance.runtime())?;
    drop(held);
    let mut said = Vec::new();
    // A name server that is silent is no reason for a stop to fail: the names are written down.
    match dns::leave(instance) {
        Ok(lines) => said.extend(lines),
        Err(error) => said.push(error.to_string()),
    }
    Ok(said)
}

/// Waits for whoever mends the network.
fn lock(instance: &Instance, doing: &str) -> Result<Lock> {
    let taken = Lock::acquire(&instance.network_lock(), doing, MENDING)?;
    taken.map_err(|held| LifecycleError::Locked {
        instance: instance.name.clone(),
        holder: held.0,
    })
}
