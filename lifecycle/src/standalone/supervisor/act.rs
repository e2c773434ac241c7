//! All that can be done now to come nearer to what is wanted: stopping, then starting.

use std::time::Instant;

use metactl_bundles::bundle::{EntryKind, EntryRef};
use rustix::process::Signal;

use super::super::entry::{Action, Phase, Silence};
use super::super::exits;
use super::super::process::{open_even_if_dead, send};
use super::super::records::{FORMAT, Launched};
use super::{Alive, Supervisor};
use crate::error::{LifecycleError, Result};
use crate::events::{self, Event};
use crate::files;
use crate::launcher::Net;

impl Supervisor {
    pub(super) fn act(&mut self) {
        let now = Instant::now();
        for name in self.stop_order() {
            self.stop_step(&name, now);
        }
        self.stop_jobs(now);
        if !self.make_network_fit() {
            return;
        }
        for name in self.start_order() {
            let target = self.target(&name).map(str::to_owned);
            let action = self
                .daemons
                .get(&name)
                .and_then(|d| d.next(target.as_deref(), now));
            if let (Some(Action::Launch), Some(generation)) = (action, target)
                && self.others_began(&name)
            {
                self.launch_daemon(&name, &generation);
            }
        }
        self.start_jobs();
    }

    fn stop_step(&mut self, name: &str, now: Instant) {
        let target = self.target(name).map(str::to_owned);
        let Some(daemon) = self.daemons.get_mut(name) else {
            return;
        };
        let action = daemon.next(target.as_deref(), now);
        if target.is_none() && !daemon.is_alive() {
            daemon.rest();
        }
        let waits = matches!(action, Some(Action::Ask)) && self.has_dependents(name);
        let Some(daemon) = self.daemons.get_mut(name) else {
            return;
        };
        let Some(alive) = self.alive.get(name) else {
            return;
        };
        match action {
            Some(Action::Ask) if !waits => {
                send(&alive.pidfd, daemon.definition.stop_signal);
                daemon.asked(now);
            }
            Some(Action::Abort(silence)) => {
                let (signal, what) = match silence {
                    Silence::NotReady => (daemon.definition.stop_signal, "ready"),
                    Silence::NotAlive => (Signal::ABORT.as_raw(), "alive"),
                };
                send(&alive.pidfd, signal);
                daemon.aborting(silence, now);
                self.say(&format!(
                    "ends {name}, which did not say in time that it is {what}"
                ));
            }
            Some(Action::Kill) => {
                send(&alive.pidfd, Signal::KILL.as_raw());
                daemon.killed();
                self.say(&format!("kills {name}, which did not stop in time"));
            }
            _ => {}
        }
    }

    /// Whether somebody who is to be started after `name` still runs and is being stopped.
    fn has_dependents(&self, name: &str) -> bool {
        self.daemons.iter().any(|(other, daemon)| {
            let depends = daemon.definition.after.iter().any(|before| before == name);
            depends && daemon.is_alive() && self.target(other) != daemon.generation.as_deref()
        })
    }

    fn stop_jobs(&mut self, now: Instant) {
        let digest = self.bundle.as_ref().map(|bundle| bundle.digest.clone());
        let wanted = self.wanted.as_ref().is_some_and(|wanted| wanted.cron);
        for alive in self.alive.values_mut() {
            let is_job = alive.definition.kind == EntryKind::Cron;
            // A job of an older bundle only has to go when the network is to change.
            let keeps = wanted && (digest.as_ref() == Some(&alive.bundle) || self.network.is_up());
            if !is_job || keeps {
                continue;
            }
            match alive.kill_at {
                None => {
                    send(&alive.pidfd, alive.definition.stop_signal);
                    alive.kill_at = Some(now + alive.definition.stop_timeout);
                }
                Some(at) if now >= at => send(&alive.pidfd, Signal::KILL.as_raw()),
                Some(_) => {}
            }
        }
    }

    /// Stops what runs in a network that the bundle does not describe. `false`: not yet.
    fn make_network_fit(&mut self) -> bool {
        let Some(bundle) = &self.bundle else {
            return false;
        };
        let mut fits = self.network.fits(&bundle.dir);
        if matches!(fits, Ok(false)) && self.nobody_is_replaced() {
            fits = self.network.change(&bundle.dir, &bundle.hostname);
            match &fits {
                Ok(true) => self.say("has changed the firewall"),
                // Without anybody in it, it can just as well be made anew.
                Err(error) if self.alive.is_empty() => {
                    self.say(&error.to_string());
                    fits = Ok(false);
                }
                _ => {}
            }
        }
        match fits {
            Ok(true) => true,
            // It is made when the first entry point is launched.
            Ok(false) if self.alive.is_empty() => true,
            Ok(false) => {
                // Daemons have another generation and stop by themselves; jobs do not.
                let now = Instant::now();
                let digest = bundle.digest.clone();
                let old = |alive: &&mut Alive| {
                    alive.definition.kind == EntryKind::Cron && alive.bundle != digest
                };
                for alive in self.alive.values_mut().filter(old) {
                    if alive.kill_at.is_none() {
                        send(&alive.pidfd, alive.definition.stop_signal);
                        alive.kill_at = Some(now + alive.definition.stop_timeout);
                    }
                }
                false
            }
            Err(error) => {
                self.in_trouble(error.to_string());
                false
            }
        }
    }

    /// Whether every daemon that runs is to go on running. Then the network can only be changed beneath them.
    fn nobody_is_replaced(&self) -> bool {
        let mut alive = self.daemons.iter().filter(|(_, daemon)| daemon.is_alive());
        alive.all(|(name, daemon)| self.target(name) == daemon.generation.as_deref())
    }

    /// Whether everybody who is to be started before `name` has been.
    fn others_began(&self, name: &str) -> bool {
        let Some(daemon) = self.daemons.get(name) else {
            return false;
        };
        daemon.definition.after.iter().all(|before| {
            let target = self.target(before);
            let other = self.daemons.get(before);
            let began = other.and_then(|other| other.generation.as_deref());
            // One that tells by itself has begun when it is ready.
            let is_ready = other.is_none_or(|other| !matches!(other.phase, Phase::Beginning(_)));
            target.is_none() || (began == target && is_ready)
        })
    }

    /// Daemons, those first that others come after.
    fn start_order(&self) -> Vec<String> {
        let mut order: Vec<String> = Vec::new();
        let mut left: Vec<&String> = self.daemons.keys().collect();
        while !left.is_empty() {
            let ready = |name: &&String| {
                let after = self
                    .daemons
                    .get(*name)
                    .map(|d| d.definition.after.as_slice());
                after
                    .unwrap_or_default()
                    .iter()
                    .all(|before| !left.contains(&before) || before == *name)
            };
            // The configuration refuses circles; if there is one, it is cut somewhere.
            let at = left.iter().position(ready).unwrap_or(0);
            order.push(left.remove(at).clone());
        }
        order
    }

    fn stop_order(&self) -> Vec<String> {
        let mut order = self.start_order();
        order.reverse();
        order
    }

    fn launch_daemon(&mut self, name: &str, generation: &str) {
        let definition = self.definition(name);
        let (Some(definition), Some(daemon)) = (definition, self.daemons.get_mut(name)) else {
            return;
        };
        daemon.definition = definition.clone();
        daemon.launching(generation);
        let restarts = daemon.restarts;
        let result = self
            .listen_to(name)
            .and_then(|()| self.launch(&definition, generation, restarts));
        let now = Instant::now();
        match (result, self.daemons.get_mut(name)) {
            (Ok(()), Some(daemon)) => daemon.launched(now),
            (Err(error), Some(daemon)) => {
                self.listeners.remove(name);
                let exit = exits::not_launched(&error);
                daemon.ended(exit.clone(), now);
                self.say(&format!("{name}: {error}"));
                events::tell(&self.log_dir, &Event::not_started(&definition, &exit));
                self.notify(&definition, &exit, None);
            }
            (_, None) => {}
        }
    }

    fn definition(&self, name: &str) -> Option<EntryRef> {
        let entries = &self.bundle.as_ref()?.entries;
        entries.iter().find(|entry| entry.name == name).cloned()
    }

    pub(super) fn launch(
        &mut self,
        definition: &EntryRef,
        generation: &str,
        restarts: u32,
    ) -> Result<()> {
        let Some(bundle) = &self.bundle else {
            return Ok(());
        };
        let uplink = self
            .wanted
            .as_ref()
            .and_then(|wanted| wanted.uplink.clone());
        self.network.up_as(
            &self.runtime,
            &bundle.dir,
            &bundle.hostname,
            uplink.as_deref(),
        )?;
        let name = &definition.name;
        // One that nobody saw end may have left it, and the next one could write none.
        self.keep_heap_dump(definition);
        let at = files::now();
        let launched = Launched {
            format: FORMAT,
            generation: generation.to_owned(),
            bundle: bundle.digest.clone(),
            at: at.clone(),
            restarts,
        };
        self.run.write_launched(name, &launched)?;
        let id = self.id(name);
        let join = self.network.join();
        let net = join.as_deref().map_or(Net::AsConfigured, Net::Join);
        let log = self.log_dir.join(format!("{name}.log"));
        let state = self
            .runtime
            .launch(&id, &bundle.dir.join(&definition.dir), net, &log);
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                // The first error is the one to tell; what stays is removed by the next launch.
                let _tidied = self
                    .runtime
                    .remove(&id)
                    .and_then(|_| self.run.remove_launched(name));
                return Err(error);
            }
        };
        let gone = || LifecycleError::Runtime {
            verb: format!("run {id}"),
            why: "it ended at once, without an exit code".to_owned(),
        };
        let process = state.process.clone().ok_or_else(gone)?;
        // A process that has ended already is a zombie of this one's, and still has a descriptor.
        let pidfd = open_even_if_dead(&process)?.ok_or_else(gone)?;
        let alive = Alive {
            process,
            pidfd,
            cgroups: state.cgroups,
            since: at,
            bundle: bundle.digest.clone(),
            adopted: false,
            definition: definition.clone(),
            kill_at: None,
        };
        self.alive.insert(name.clone(), alive);
        events::tell(&self.log_dir, &Event::started(definition, restarts));
        Ok(())
    }

    pub(super) fn id(&self, name: &str) -> String {
        format!("{}.{name}", self.instance)
    }
}
