//! metactl's own supervisor behind the interface of service managers. Its work is in `crate::standalone`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use metactl_bundles::bundle::{EntryRef, read_manifest};
use metactl_netns::doctor::Finding;
use metactl_runtime::ProcessId;

use super::{Journal, Judge, Kept, Look, Seen, ServiceManager, Survey};
use crate::error::{LifecycleError, Result};
use crate::instance::{Instance, Known, LineSink};
use crate::manager::Manager;
use crate::standalone::Server;
use crate::standalone::records::Wanted;
use crate::status::Exit;
use crate::{converge, files, tail};

/// One supervisor process keeps it running.
pub(crate) struct Standalone;

/// What all instances have in common, for who looks at hundreds.
struct All {
    supervisor: Option<ProcessId>,
    /// The sandboxes that there are, or of which something is left.
    sandboxes: BTreeSet<String>,
}

impl Survey for All {
    fn see(&self, instance: &Instance, _known: Option<&Known>) -> Result<Option<Seen>> {
        let look = look(instance, self.supervisor.as_ref())?;
        let prefix = format!("{}.", instance.name);
        let mut ids = self.sandboxes.range(prefix.clone()..);
        let has_sandbox = ids.next().is_some_and(|id| id.starts_with(&prefix));
        let settled = match look.kept {
            // That of an earlier metactl is replaced.
            Kept::Process(pid) => {
                let of_all = self.supervisor.as_ref().map(|process| process.pid);
                of_all == Some(pid) || look.wanted.is_none()
            }
            Kept::No => !has_sandbox && !instance.run_dir().exists(),
            Kept::System => false,
        };
        Ok(Some(Seen {
            service: &Standalone,
            look,
            settled,
        }))
    }
}

/// `living`: a process that was alive a moment ago.
fn look(instance: &Instance, living: Option<&ProcessId>) -> Result<Look> {
    let run = instance.run_dir();
    let wanted = run.wanted()?;
    let supervisor = run.supervisor_but(living)?;
    Ok(Look {
        wanted,
        report: run.report()?.filter(|_| supervisor.is_some()),
        kept: supervisor.map_or(Kept::No, |record| Kept::Process(record.process.pid)),
    })
}

impl ServiceManager for Standalone {
    fn want(&self, instance: &Instance, wanted: &Wanted) -> Result<()> {
        let bundle = instance.state_dir().join("bundles").join(&wanted.bundle);
        let manifest = read_manifest(&bundle)?;
        let names = |entry: &&EntryRef| wanted.daemons.contains_key(&entry.name);
        let mut entries = manifest.entries.iter().filter(names);
        if let Some(entry) = entries.find(|entry| !entry.service.sockets.is_empty()) {
            return Err(LifecycleError::Setting {
                what: format!(
                    "`socket` in [daemon.{}] needs systemd, and this server has none",
                    entry.name
                ),
                hint: "let the daemon open its port itself, and say `port` instead of `socket`"
                    .to_owned(),
            });
        }
        instance.want_supervised(wanted)
    }

    fn want_nothing(&self, instance: &Instance, patience: Duration) -> Result<()> {
        instance.stop_supervised(patience)
    }

    fn wanted(&self, instance: &Instance) -> Result<Option<Wanted>> {
        instance.run_dir().wanted()
    }

    fn look(&self, instance: &Instance) -> Result<Look> {
        look(instance, None)
    }

    fn survey(&self, manager: &Manager) -> Result<Option<Box<dyn Survey>>> {
        let running = Server::of(manager).running()?;
        let sandboxes = files::names(&manager.paths.runtime_root(), "")?;
        Ok(Some(Box::new(All {
            supervisor: running.map(|running| running.process),
            sandboxes: sandboxes.into_iter().collect(),
        })))
    }

    fn await_report(
        &self,
        instance: &Instance,
        wanted: &Wanted,
        limit: Duration,
        done: &mut Judge<'_>,
    ) -> Result<bool> {
        let done = |report: &_| Ok(done(report)?.then_some(()));
        let answer = instance.await_supervised(wanted, limit, done)?;
        Ok(answer.is_some())
    }

    fn hears_ready(&self) -> bool {
        true
    }

    fn run_job(
        &self,
        instance: &Instance,
        entry: &EntryRef,
        sink: &mut LineSink<'_>,
    ) -> Result<Exit> {
        instance.run_supervised_job(entry, sink)
    }

    fn has_supervisor(&self) -> bool {
        true
    }

    fn mending(&self, _: &Manager) -> Result<Option<Finding>> {
        // Each instance that runs has a supervisor, and one whose supervisor was killed gets another from the next command.
        Ok(None)
    }

    fn look_again(&self, instance: &Instance) {
        instance.run_dir().wake();
    }

    fn is_enabled(&self, instance: &Instance) -> bool {
        instance.enabled_mark().exists()
    }

    fn enable(&self, instance: &Instance, enabled: bool) -> Result<()> {
        let mark = instance.enabled_mark();
        match (enabled, mark.exists()) {
            (true, false) => files::replace(&mark, b"", 0o644),
            (false, true) => files::remove_file(&mark).map(drop),
            _ => Ok(()),
        }
    }

    fn converge(&self, instance: &Instance) -> Result<Vec<String>> {
        converge::supervise_again(instance)
    }

    fn forget(&self, _: &Instance) -> Result<()> {
        // The mark for the boot goes with the state.
        Ok(())
    }

    fn bundle(&self, _: &Instance) -> Result<Option<String>> {
        Ok(None)
    }

    fn log(&self, instance: &Instance, entry: &str) -> PathBuf {
        instance.log_file(entry)
    }

    fn journal(&self, _: &Instance, _: &[String]) -> Option<Journal> {
        None
    }

    fn log_mark(&self, instance: &Instance, entry: &str) -> u64 {
        std::fs::metadata(instance.log_file(entry)).map_or(0, |meta| meta.len())
    }

    fn log_since(&self, instance: &Instance, entry: &str, mark: u64, count: usize) -> Vec<String> {
        tail::since(&instance.log_file(entry), mark, count)
    }
}
