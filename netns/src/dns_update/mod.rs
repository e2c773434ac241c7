//! Names for addresses: updates of a zone (RFC 2136), signed with a key (TSIG, RFC 8945).
//!
//! Pure but for [`client`] and the reading of a key's file: what is wanted and what is there become messages, an answer becomes a verdict.
//! When something is registered, and what is remembered of it, is lifecycle's.
//!
//! | room | what it holds |
//! | --- | --- |
//! | [`name`] | a domain name, in text and on the wire |
//! | [`mod@plan`] | records wanted + records had -> [`plan::Update`]s |
//! | [`message`] | an update as a message; an answer read |
//! | [`tsig`] | the key: signing, verifying |
//! | `key_file` | the key as a file |
//! | [`client`] | asks a name server, over UDP, then TCP |
//!
//! Single records are added and deleted, never all of a name: those of other servers stay.

pub mod client;
mod key_file;
pub mod message;
pub mod name;
pub mod plan;
pub mod tsig;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use client::{Client, Patience};
pub use name::Name;
pub use plan::{Data, Record, Update, plan};
pub use tsig::Key;

/// Why a name server did not do what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The key cannot be used.
    #[error("cannot use the key in {}: {why}", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Nobody answers, or nobody can be reached.
    #[error("the name server {server} does not answer: {why}")]
    NoAnswer {
        /// The last one that was tried.
        server: SocketAddr,
        /// How long was waited, or what the kernel said.
        why: String,
    },
    /// The answer is a refusal.
    #[error("the name server {server} refuses {what}: {why}")]
    Refused {
        /// Who refuses.
        server: SocketAddr,
        /// `to change apps.example.org`.
        what: String,
        /// The code by its name, and what it probably means.
        why: String,
        /// The response code (RFC 6895 section 2.3).
        code: u16,
    },
    /// An answer that is not signed with the key, or not well.
    #[error("the answer of the name server {server} is not to be trusted: {why}")]
    Untrusted {
        /// Who seems to have sent it.
        server: SocketAddr,
        /// What is wrong with it.
        why: String,
    },
}

impl DnsError {
    /// Whether it is the key, or the clock, that is refused, and so everything else that is signed with it.
    pub fn is_about_the_key(&self) -> bool {
        matches!(self, DnsError::Refused { code: 16..=18, .. })
    }
}
