//! What can go wrong between the runtime and systemd.

use std::io;

/// An error of the systemd cgroup driver.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// `linux.cgroupsPath` is not in the form of this driver.
    #[error(
        "linux.cgroupsPath {path:?}: {why}; with --systemd-cgroup it is slice:prefix:name, such as machine.slice:metactl:web"
    )]
    BadPath {
        /// The value as given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An annotation `org.systemd.property.NAME` cannot be used.
    #[error("annotation org.systemd.property.{name}: {why}")]
    BadProperty {
        /// The property.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting of `linux.resources` cannot be turned into a property.
    #[error("{setting}: {why}")]
    BadResource {
        /// Name of the setting in config.json.
        setting: String,
        /// What is wrong with it.
        why: String,
    },
    /// No systemd can be reached.
    #[error(
        "cannot reach systemd ({tried}): {source}; is it running? Without it, leave --systemd-cgroup out"
    )]
    NoBus {
        /// Which addresses were tried.
        tried: String,
        /// Why the last one failed.
        source: io::Error,
    },
    /// The connection broke, or no answer came in time.
    #[error("cannot {action} systemd over D-Bus: {source}")]
    Io {
        /// `write to` or `hear from`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The other side does not speak D-Bus as it should.
    #[error("D-Bus: {0}")]
    Protocol(&'static str),
    /// systemd refused.
    #[error("systemd refused {member} for {unit}: {message} ({name})")]
    Refused {
        /// The method.
        member: &'static str,
        /// The unit.
        unit: String,
        /// The name of the D-Bus error.
        name: String,
        /// Its text.
        message: String,
    },
    /// systemd tried, and failed.
    #[error("systemd could not start {unit}: {result}; `systemctl status {unit}` may say more")]
    Job {
        /// The unit.
        unit: String,
        /// The result of the job (org.freedesktop.systemd1(5), JobRemoved).
        result: String,
    },
    /// The process that keeps a new scope alive could not be made.
    #[error("cannot make the first process of a scope: {0}")]
    Placeholder(io::Error),
}

impl SystemdError {
    /// Whether systemd refused because of this D-Bus error.
    pub(super) fn is(&self, error: &str) -> bool {
        matches!(self, SystemdError::Refused { name, .. } if name == error)
    }
}
