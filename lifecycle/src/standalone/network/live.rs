//! The network of a bundle that differs from what is there in its firewall alone: changed while everything in
//! it runs.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use metactl_bundles::network::Mode;
use metactl_netns::{Resolved, policy};

use super::{Network, SECOND_PATIENCE, Up, look_up, needs_resolver, read_spec};
use crate::error::{OnPath, Result};
use crate::files;

impl Network {
    /// Makes what is there fit the bundle, if nothing but the firewall is another one. `false`: it is more.
    pub(crate) fn change(&mut self, bundle: &Path, hostname: &str) -> Result<bool> {
        let (text, spec) = read_spec(bundle)?;
        let Some(up) = &mut self.up else {
            return Ok(false);
        };
        if !policy::differ_in_policy_only(&up.spec, &spec) {
            return Ok(false);
        }
        // Only names that nobody has asked for yet are worth a pause; the others are followed as before, and what the
        // resolver added for them stays.
        let before = up.spec.host_names();
        let wanted = spec.host_names();
        let new = wanted.iter().filter(|name| !before.contains(name));
        let new: Vec<String> = new.map(|name| (*name).to_owned()).collect();
        let (found, mut missing) = look_up(&new, SECOND_PATIENCE);
        missing.extend(
            up.missing
                .iter()
                .filter(|name| wanted.contains(&name.as_str()))
                .cloned(),
        );
        missing.sort();
        missing.dedup();
        let mut names: Resolved = files::read_json(&self.run.names())?.unwrap_or_default();
        names.retain(|name, _| wanted.contains(&name.as_str()));
        names.extend(found);
        if spec.mode != Mode::Host {
            let path = self.run.netns();
            let netns = File::open(&path).on("open", &path)?;
            policy::replace(netns.as_fd(), &up.spec, &spec, &names)?;
        }
        *up = Up {
            text,
            spec,
            fits: Some(bundle.to_owned()),
            missing,
        };
        let asks = needs_resolver(&up.spec);
        if let Some(up) = &self.up {
            self.write_names(up, hostname, &names)?;
            forget_origin(&self.run.netns())?;
            // Whoever comes after a crash before this does the same again. The resolver takes it from here.
            files::replace(&self.run.network(), &up.text, 0o644)?;
        }
        if asks {
            self.resolver.ensure();
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
