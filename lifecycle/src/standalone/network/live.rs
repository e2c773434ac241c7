//! The network of a bundle that differs from what is there in its firewall alone: changed while everything in
//! it runs.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use metactl_bundles::network::Mode;
use metactl_netns::{Resolved, policy};

use super::{Follower, Network, SECOND_PATIENCE, read_spec};
use crate::error::{OnPath, Result};
use crate::files;

impl Network {
    /// Makes what is there fit the bundle, if nothing but the firewall is another one. `false`: it is more.
    pub(crate) fn change(&mut self, bundle: &Path) -> Result<bool> {
        let (text, spec) = read_spec(bundle)?;
        let Some(up) = &mut self.up else {
            return Ok(false);
        };
        if !policy::differ_in_policy_only(&up.spec, &spec) {
            return Ok(false);
        }
        let follower = Follower::start(&spec, &self.run);
        let wanted = spec.host_names();
        let mut names: Resolved = up
            .names
            .iter()
            .filter(|(name, _)| wanted.contains(&name.as_str()))
            .map(|(name, addresses)| (name.clone(), addresses.clone()))
            .collect();
        let mut missing = Vec::new();
        // Only names that nobody has asked for yet are worth a pause; the others are followed as before.
        let new = wanted.iter().any(|name| !names.contains_key(*name));
        if let (Some(follower), true) = (&follower, new) {
            let (found, without) = follower.first(&spec, SECOND_PATIENCE);
            names.extend(
                found
                    .into_iter()
                    .filter(|(_, addresses)| !addresses.is_empty()),
            );
            missing = without;
        }
        missing.retain(|name| !names.contains_key(name));
        missing.sort();
        if spec.mode != Mode::Host {
            let path = self.run.netns();
            let netns = File::open(&path).on("open", &path)?;
            policy::replace(netns.as_fd(), &up.spec, &spec, &names)?;
        }
        up.text = text;
        up.spec = spec;
        up.names = names;
        up.missing = missing;
        up.follower = follower;
        if let Some(up) = &self.up {
            self.write_names(up)?;
            forget_origin(&self.run.netns())?;
            // Whoever comes after a crash before this does the same again.
            files::replace(&self.run.network(), &up.text, 0o644)?;
        }
        Ok(true)
    }
}

/// The runtime remembers what it made the network from, to find out whether it is the same that is wanted. It
/// is not any more; its other facts (the device) stay true.
fn forget_origin(pin: &Path) -> Result<()> {
    let mut name = pin.as_os_str().to_owned();
    name.push(".json");
    let path = PathBuf::from(name);
    let Some(mut record) = files::read_json::<serde_json::Value>(&path)? else {
        return Ok(());
    };
    if let Some(boot) = record.get_mut("boot_id") {
        *boot = "changed since".into();
    }
    files::replace_json(&path, &record, 0o600)
}
