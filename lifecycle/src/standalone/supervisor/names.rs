//! What of the instance should be in the DNS.

use metactl_bundles::bundle::EntryKind;

use super::super::entry::Phase;
use super::Supervisor;
use crate::dns::{Registration, Task, Watched, host_label};

impl Supervisor {
    /// Tells the registrar what is true now. It does the rest in its own time.
    pub(super) fn register(&mut self) {
        let task = match self.registration() {
            Ok(registration) => Task {
                daemons: self.watched(registration.is_some()),
                registration,
            },
            Err(why) => {
                self.in_trouble(why);
                Task::default()
            }
        };
        self.registrar.want(task);
    }

    /// From when the network is there until the instance is to stop.
    fn registration(&self) -> Result<Option<Registration>, String> {
        let (Some(_), Some(bundle), Some(spec)) = (&self.wanted, &self.bundle, self.network.spec())
        else {
            return Ok(None);
        };
        let Some(via) = &bundle.dns else {
            return Ok(None);
        };
        Registration::of(via, spec, &self.instance, &host_label())
    }

    /// The daemons that have to be healthy for the name of the application: all that should run.
    fn watched(&self, registered: bool) -> Vec<Watched> {
        let wanted = self.wanted.iter().filter(|_| registered);
        let names = wanted.flat_map(|wanted| wanted.daemons.keys());
        let daemons = names.filter_map(|name| self.daemons.get(name).map(|daemon| (name, daemon)));
        let watched = |(name, daemon): (&String, &super::Daemon)| {
            let definition = &daemon.definition;
            let runs = matches!(daemon.phase, Phase::Running(_));
            let current = daemon.generation.as_deref() == self.target(name);
            let alive = self.alive.get(name).filter(|_| runs && current);
            // One that is done, and was to end, is no sign of illness.
            let done = daemon.phase == Phase::Ended
                && !daemon.last_exit.as_ref().is_some_and(|exit| exit.failed);
            (definition.kind == EntryKind::Daemon && !done).then(|| Watched {
                process: alive.map(|alive| alive.process.clone()),
                port: definition.port,
                health: definition.health,
                checks: definition.checks.clone(),
            })
        };
        daemons.filter_map(watched).collect()
    }
}
