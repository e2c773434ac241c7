//! What can go wrong, in words that say what to do next.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// `network.json` asks for something that cannot be.
    #[error("network of {instance}: {reason}")]
    Spec {
        /// The instance.
        instance: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An address that the instance should get is in use on this server.
    #[error(
        "address {address} is already taken: {holder}; give the instance another `[sandbox.net] ip`, or stop that one first"
    )]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it, in words (`instance "other" on m-other-3f2a`, `the server itself, on eth0`).
        holder: String,
    },
    /// A port that an instance publishes is published by another one.
    #[error(
        "port {port} of the server is already taken: {holder} publishes it; give the instance another `[sandbox.net] publish`, or stop that one first"
    )]
    PortTaken {
        /// The port and the protocol (`8080/tcp`).
        port: String,
        /// Who has it.
        holder: String,
    },
    /// A name of a network device is in use.
    #[error("network device {name} exists already; try again (every start takes a new name)")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A step of a plan failed; what the earlier steps did is undone.
    #[error("network step failed: {step}: {source}{}", note(.detail))]
    Step {
        /// The step as the plan prints it.
        step: String,
        /// What the kernel said in words, if it said anything.
        detail: String,
        /// The error number.
        source: io::Error,
    },
    /// The kernel lacks something.
    #[error("this kernel cannot {what}: {hint}")]
    Unsupported {
        /// What it cannot.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A request outside a plan (facts, status, cleanup) failed.
    #[error("cannot {what}: {source}{}", note(.detail))]
    Kernel {
        /// What was asked for.
        what: String,
        /// What the kernel said in words, if it said anything.
        detail: String,
        /// The error number.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {}: {source}", .path.display())]
    File {
        /// Read, write, lock, remove.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The record of what is shared on the server cannot be understood.
    #[error("{}: {reason}; it is metactl's own record: if no instance runs, remove it", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

fn note(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    }
}

impl NetError {
    /// True when the kernel refused for lack of privilege.
    pub fn is_permission(&self) -> bool {
        match self {
            NetError::Step { source, .. }
            | NetError::Kernel { source, .. }
            | NetError::File { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }
}
