//! What ended: it is recorded, tidied up, and told.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use metactl_bundles::bundle::{self, EntryRef};
use metactl_bundles::platforms::jvm;

use super::super::entry::Phase;
use super::super::exits;
use super::super::notify::Event as Failure;
use super::Supervisor;
use crate::dumps;
use crate::error::Result;
use crate::events::{self, Event};
use crate::files;
use crate::status::{EntryKind, Exit};

impl Supervisor {
    pub(super) fn bury(&mut self) {
        let ended: Vec<(String, Exit)> = self
            .alive
            .iter()
            .filter_map(|(name, alive)| {
                let exit = exits::of(alive.pidfd.as_fd(), &alive.cgroups, alive.adopted)?;
                Some((name.clone(), exit))
            })
            .collect();
        for (name, exit) in ended {
            self.bury_one(&name, exit);
        }
        for line in self.notifier.reap(Instant::now()) {
            self.say(&line);
        }
    }

    fn bury_one(&mut self, name: &str, exit: Exit) {
        let Some(alive) = self.alive.remove(name) else {
            return;
        };
        self.listeners.remove(name);
        let id = self.id(name);
        let tidied = self
            .runtime
            .remove(&id)
            .and_then(|_| self.run.remove_launched(name))
            .and_then(|()| self.empty_tmp(name));
        if let Err(error) = tidied {
            self.say(&format!("{name}: {error}"));
        }
        let dump = self.keep_heap_dump(&alive.definition);
        let exit = match jvm::is_jvm(&alive.definition.platform) {
            true => exits::of_jvm(exit, dump.is_some()),
            false => exit,
        };
        let phase = self.daemons.get(name).map(|daemon| &daemon.phase);
        let stopping = matches!(phase, Some(Phase::Stopping(_)));
        let exit = match phase {
            Some(Phase::Stopping(None)) => exits::too_late(exit, alive.definition.stop_timeout),
            Some(Phase::Aborting(silence, _)) => exits::silent(exit, *silence),
            _ => exit,
        };
        let expected = stopping || alive.kill_at.is_some();
        if exit.failed && !expected {
            self.say(&format!("{name} ended: {}", exit.reason));
            self.notify(&alive.definition, &exit, dump);
        }
        events::tell(
            &self.log_dir,
            &Event::ended(&alive.definition, &exit, expected),
        );
        if let Some(daemon) = self.daemons.get_mut(name) {
            daemon.ended(exit, Instant::now());
        } else {
            self.job_ended(name, exit);
        }
    }

    /// Tells whom the bundle names that an entry point failed.
    pub(super) fn notify(&mut self, entry: &EntryRef, exit: &Exit, heap_dump: Option<PathBuf>) {
        let Some(bundle) = &self.bundle else { return };
        let event = Failure {
            instance: &self.instance,
            entry: &entry.name,
            kind: match entry.kind {
                bundle::EntryKind::Daemon => EntryKind::Daemon,
                bundle::EntryKind::Cron => EntryKind::Cron,
            },
            exit,
            restarts: self.daemons.get(&entry.name).map_or(0, |d| d.restarts),
            heap_dump,
            log: self.log_dir.join(format!("{}.log", entry.name)),
        };
        let lines = self.notifier.tell(&bundle.notify, &event, Instant::now());
        for line in lines {
            self.say(&line);
        }
    }

    /// The heap that a JVM wrote down, under a name of its own.
    pub(super) fn keep_heap_dump(&self, entry: &EntryRef) -> Option<PathBuf> {
        if !jvm::is_jvm(&entry.platform) {
            return None;
        }
        let data = self.state_dir.join("data");
        match dumps::keep(&data, &entry.name) {
            Ok(name) => name.map(|name| data.join(name)),
            Err(error) => {
                self.say(&format!("{}: {error}", entry.name));
                None
            }
        }
    }

    fn empty_tmp(&self, name: &str) -> Result<()> {
        files::empty_dir(&self.state_dir.join("tmp").join(name))
    }
}
