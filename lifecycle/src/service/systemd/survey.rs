//! All instances at one moment: the directory of units is read once, and systemd asked once.

use std::collections::{BTreeMap, BTreeSet};

use metactl_bundles::bundle;
use metactl_bundles::server::Server;

use super::files::{self, Own};
use super::report::Units;
use super::states::{self, UnitState};
use super::{Systemd, dir, names};
use crate::error::Result;
use crate::files as small;
use crate::instance::Instance;
use crate::manager::Manager;
use crate::service::{Seen, Survey};

/// What there is of metactl under systemd.
#[derive(Debug)]
pub(super) struct All {
    /// The unit files, by instance and name.
    files: BTreeMap<String, BTreeMap<String, Own>>,
    /// How units are.
    states: BTreeMap<String, UnitState>,
    /// The sandboxes that there are, or of which something is left.
    sandboxes: BTreeSet<String>,
    /// The device towards the network, when `metactl.conf` names one.
    uplink: Option<String>,
}

impl All {
    pub(super) fn look(manager: &Manager) -> Result<All> {
        let files = files::of_all(dir())?;
        let states = states::all()?;
        let sandboxes = small::names(&manager.paths.runtime_root(), "")?;
        Ok(All {
            files,
            states,
            sandboxes: sandboxes.into_iter().collect(),
            uplink: Server::read(&manager.paths)?.uplink,
        })
    }

    fn units(&self, instance: &str) -> Units {
        let files = self.files.get(instance).cloned().unwrap_or_default();
        let known = |name: &String| Some((name.clone(), self.states.get(name)?.clone()));
        Units {
            states: files.keys().filter_map(known).collect(),
            files,
        }
    }

    /// Whether anything is left of a sandbox of it.
    fn has_sandbox(&self, instance: &str) -> bool {
        let prefix = format!("{instance}.");
        let mut from = self.sandboxes.range(prefix.clone()..);
        from.next().is_some_and(|id| id.starts_with(&prefix))
    }

    /// Whether there is nothing that a command has to put right: everything is as systemd has it, or nothing is there,
    /// and the units are of the bundle that counts.
    fn is_settled(&self, instance: &Instance, units: &Units) -> bool {
        if units.is_any_active() {
            return !units.only_network();
        }
        let target = units.files.get(&names::target(&instance.name));
        let of_units = target.and_then(|own| own.bundle.as_deref());
        let agrees = of_units.is_none_or(|digest| {
            let current = bundle::current(&instance.state_dir()).unwrap_or_default();
            current.is_some_and(|current| small::name_of(&current) == digest)
        });
        agrees && !instance.run_dir().exists() && !self.has_sandbox(&instance.name)
    }
}

impl Survey for All {
    fn see(&self, instance: &Instance) -> Result<Option<Seen>> {
        if instance.is_supervised()? {
            return Ok(None);
        }
        let units = self.units(&instance.name);
        Ok(Some(Seen {
            service: &Systemd,
            look: units.told(instance, self.uplink.clone())?,
            settled: self.is_settled(instance, &units),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_settled_when_all_of_it_runs_or_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        let manager = Manager {
            paths: metactl_bundles::paths::Paths::under(root.path()),
            runtime: "metactl-runtime".into(),
            metactl: "metactl".into(),
        };
        let instance = Instance {
            manager,
            name: "a".to_owned(),
        };
        let state = |active: &str| UnitState {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            ..UnitState::default()
        };
        let own = || Own {
            instance: Some("a".to_owned()),
            ..Own::default()
        };
        let mut all = All {
            files: BTreeMap::new(),
            states: BTreeMap::new(),
            sandboxes: BTreeSet::from(["a-b.web".to_owned()]),
            uplink: None,
        };
        for unit in ["metactl-net@a.service", "metactl-a-web.service"] {
            let files = all.files.entry("a".to_owned()).or_default();
            files.insert(unit.to_owned(), own());
            all.states.insert(unit.to_owned(), state("inactive"));
        }
        let settled = |all: &All| all.is_settled(&instance, &all.units("a"));
        assert!(settled(&all));
        let mut left = all.sandboxes.clone();
        left.insert("a.web".to_owned());
        std::mem::swap(&mut left, &mut all.sandboxes);
        assert!(!settled(&all), "something is left of a sandbox");
        let network = "metactl-net@a.service".to_owned();
        all.states.insert(network, state("active"));
        assert!(!settled(&all), "nobody needs the network");
        let web = "metactl-a-web.service".to_owned();
        all.states.insert(web, state("activating"));
        assert!(settled(&all));
        all.states.clear();
        all.sandboxes = left;
        std::fs::create_dir_all(&instance.run_dir().0).unwrap();
        assert!(!settled(&all), "its run directory is left");
    }
}
