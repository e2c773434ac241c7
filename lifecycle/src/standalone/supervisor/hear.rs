//! Hearing the daemons that tell by themselves how they are (`notify = yes`).

use std::time::Instant;

use super::super::told::Listener;
use super::Supervisor;
use crate::error::Result;

impl Supervisor {
    /// Listens to a daemon, when it tells: from before it begins until it has ended.
    pub(super) fn listen_to(&mut self, name: &str) -> Result<()> {
        let daemon = self.daemons.get(name).filter(|daemon| daemon.tells());
        let socket = daemon.and_then(|daemon| daemon.definition.notify_socket.clone());
        if let Some(socket) = socket {
            // The one before it would take the new one's socket along.
            self.listeners.remove(name);
            self.listeners
                .insert(name.to_owned(), Listener::open(&socket)?);
        }
        Ok(())
    }

    /// Listens to those that were adopted. What they said in between is lost: they are believed to be ready, and
    /// their watchdog is on when they have said anew that they are alive.
    pub(super) fn listen_again(&mut self) {
        let names: Vec<String> = self.alive.keys().cloned().collect();
        for name in names {
            if let Err(error) = self.listen_to(&name) {
                self.say(&format!("{name} cannot be heard: {error}"));
            }
            if let Some(daemon) = self.daemons.get_mut(&name) {
                daemon.believed();
            }
        }
    }

    /// Takes in what they have told.
    pub(super) fn hear(&mut self) {
        let now = Instant::now();
        for (name, listener) in &mut self.listeners {
            let told = listener.hear(now);
            let Some(daemon) = self.daemons.get_mut(name) else {
                continue;
            };
            if told.ready {
                daemon.ready(now);
            }
            if let Some(time) = told.watchdog {
                daemon.set_watchdog(time, now);
            }
            if told.alive {
                daemon.alive(now);
            }
            if told.hangs {
                daemon.hangs(now);
            }
        }
    }
}
