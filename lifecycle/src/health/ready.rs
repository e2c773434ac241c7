//! Hearing `READY=1` of daemons (sd_notify(3)): a datagram socket in a folder that the sandbox shows
//! read-only, where somebody listens only while a start is waited for.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use metactl_bundles::bundle::Manifest;

use crate::error::{OnPath, Result};
use crate::files;

/// The longest message that is read.
const MOST: usize = 4096;

/// The sockets of all daemons of a bundle that say when they are ready.
#[derive(Debug, Default)]
pub(crate) struct Ears {
    open: BTreeMap<String, Ear>,
    /// Those at which nobody can listen, and why.
    deaf: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
    heard: Mutex<bool>,
}

impl Ears {
    /// Listens for those that say when they are ready. `manager_hears`: not for those that tell it to the service
    /// manager (`notify = yes`).
    pub(crate) fn open(manifest: &Manifest, manager_hears: bool) -> Ears {
        let mut ears = Ears::default();
        for entry in &manifest.entries {
            let Some(path) = &entry.notify_socket else {
                continue;
            };
            if manager_hears && entry.service.notify {
                continue;
            }
            match Ear::open(path) {
                Ok(ear) => drop(ears.open.insert(entry.name.clone(), ear)),
                Err(error) => drop(ears.deaf.insert(entry.name.clone(), error.to_string())),
            }
        }
        ears
    }

    /// Why nothing can be heard of a daemon.
    pub(crate) fn deaf(&self, entry: &str) -> Option<&str> {
        self.deaf.get(entry).map(String::as_str)
    }

    /// Whether a daemon has said that it is ready.
    pub(crate) fn heard(&self, entry: &str) -> bool {
        let Some(ear) = self.open.get(entry) else {
            return false;
        };
        let mut heard = ear
            .heard
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut buffer = [0; MOST];
        while let Ok(length) = ear.socket.recv(&mut buffer) {
            *heard |= is_ready(&buffer[..length]);
        }
        *heard
    }
}

/// A socket at which a daemon can say how it is. It never waits for a message.
pub(crate) fn listen_at(path: &Path) -> Result<UnixDatagram> {
    // That of somebody who was killed. The folder is root's alone to write.
    files::remove_file(path)?;
    let socket = UnixDatagram::bind(path).on("listen at", path)?;
    socket.set_nonblocking(true).on("listen at", path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666)).on("listen at", path)?;
    Ok(socket)
}

/// A socket at which a daemon says how it is although nobody is interested: so that saying it is no failure.
#[derive(Debug)]
pub(crate) struct Unheard(PathBuf);

impl Unheard {
    /// Reads and forgets what is said, as long as this process lives; the socket's name goes with this value.
    pub(crate) fn open(path: &Path) -> Result<Unheard> {
        let socket = listen_at(path)?;
        socket.set_nonblocking(false).on("listen at", path)?;
        let forget = move || {
            let mut buffer = [0; MOST];
            while socket.recv(&mut buffer).is_ok() {}
        };
        let thread = std::thread::Builder::new().name("unheard".to_owned());
        thread.spawn(forget).on("listen at", path)?;
        Ok(Unheard(path.to_path_buf()))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // One that stays is removed by the next one who listens.
        let _gone = fs::remove_file(&self.0);
    }
}

impl Ear {
    fn open(path: &Path) -> Result<Ear> {
        Ok(Ear {
            socket: listen_at(path)?,
            path: path.to_path_buf(),
            heard: Mutex::new(false),
        })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // One that stays is removed by the next command.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Lines of `NAME=value`.
fn is_ready(message: &[u8]) -> bool {
    message
        .split(|byte| *byte == b'\n')
        .any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        assert!(is_ready(b"STATUS=up\nREADY=1\n") && is_ready(b"READY=1"));
        assert!(!is_ready(b"READY=10") && !is_ready(b"STATUS=READY=1") && !is_ready(b""));
    }
}
