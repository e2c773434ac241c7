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
use crate::instance::{Instance, Known};
use crate::manager::Manager;
use crate::service::{Seen, Survey};

/// What there is of metactl under systemd.
#[derive(Debug)]
pub(super) struct All {
    /// The unit files, by instance and name.
    files: BTreeMap<String, BTreeMap<String, Own>>,
    /// How units are.
    states: BTreeMap<String, UnitState>,
    /// The sandboxes that there are, or of which something is left; `None`: only root may look at them.
    sandboxes: Option<BTreeSet<String>>,
    /// The device towards the network, when `metactl.conf` names one.
    uplink: Option<String>,
}

impl All {
    pub(super) fn look(manager: &Manager) -> Result<All> {
        let is_root = nix::unistd::geteuid().is_root();
        // The files are read while systemd looks for its answers.
        let (states, files) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| states::all(!is_root));
            let files = files::of_all(dir());
            (asked.join(), files)
        });
        let states = states.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let files = files?;
        let sandboxes = || small::names(&manager.paths.runtime_root(), "");
        let sandboxes = is_root.then(sandboxes).transpose()?;
        Ok(All {
            files,
            states,
            sandboxes: sandboxes.map(|names| names.into_iter().collect()),
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
        let first = |all: &BTreeSet<String>| {
            let mut from = all.range(prefix.clone()..);
            from.next().is_some_and(|id| id.starts_with(&prefix))
        };
        self.sandboxes.as_ref().is_some_and(first)
    }

    /// Whether each process that systemd has for it is in a sandbox, whose record says which it is. Only where nobody may
    /// read that systemd was asked.
    fn has_all_sandboxes(&self, instance: &str, units: &Units) -> bool {
        let Some(sandboxes) = &self.sandboxes else {
            return true;
        };
        let mut services = units.services("daemon").chain(units.services("cron"));
        services.all(|(unit, entry)| {
            let has_process = units.state(unit).is_some_and(UnitState::has_process);
            !has_process || sandboxes.contains(&format!("{instance}.{entry}"))
        })
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
    fn see(&self, instance: &Instance, known: Option<&Known>) -> Result<Option<Seen>> {
        if instance.is_supervised()? {
            return Ok(None);
        }
        let units = self.units(&instance.name);
        if !self.has_all_sandboxes(&instance.name, &units) {
            return Ok(None);
        }
        Ok(Some(Seen {
            service: &Systemd,
            look: units.told(instance, self.uplink.clone(), known)?,
            settled: self.is_settled(instance, &units),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_process_nobody_knows_is_looked_at_by_itself() {
        let web = "metactl-a-web.service".to_owned();
        let own = Own {
            instance: Some("a".to_owned()),
            entry: Some("web".to_owned()),
            kind: Some("daemon".to_owned()),
            ..Own::default()
        };
        let all = |active: &str, sub: &str, sandbox: &str| {
            let state = UnitState {
                load: "loaded".to_owned(),
                active: active.to_owned(),
                sub: sub.to_owned(),
                ..UnitState::default()
            };
            let all = All {
                files: [("a".to_owned(), [(web.clone(), own.clone())].into())].into(),
                states: [(web.clone(), state)].into(),
                sandboxes: Some([sandbox.to_owned()].into()),
                uplink: None,
            };
            all.has_all_sandboxes("a", &all.units("a"))
        };
        assert!(all("active", "running", "a.web"));
        assert!(!all("active", "running", "a.other"));
        assert!(!all("deactivating", "stop-sigterm", "b.web"));
        // These have no process.
        assert!(all("activating", "auto-restart", "b.web"));
        assert!(all("failed", "failed", "b.web"));
        assert!(all("active", "exited", "b.web"));
    }

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
            sandboxes: Some(["a-b.web".to_owned()].into()),
            uplink: None,
        };
        for unit in ["metactl-net@a.service", "metactl-a-web.service"] {
            let files = all.files.entry("a".to_owned()).or_default();
            files.insert(unit.to_owned(), own());
            all.states.insert(unit.to_owned(), state("inactive"));
        }
        let settled = |all: &All| all.is_settled(&instance, &all.units("a"));
        assert!(settled(&all));
        let none = all.sandboxes.clone();
        all.sandboxes = Some(["a-b.web", "a.web"].map(str::to_owned).into());
        assert!(!settled(&all), "something is left of a sandbox");
        let network = "metactl-net@a.service".to_owned();
        all.states.insert(network, state("active"));
        assert!(!settled(&all), "nobody needs the network");
        let web = "metactl-a-web.service".to_owned();
        all.states.insert(web, state("activating"));
        assert!(settled(&all));
        all.states.clear();
        all.sandboxes = none;
        std::fs::create_dir_all(&instance.run_dir().0).unwrap();
        assert!(!settled(&all), "its run directory is left");
    }
}
