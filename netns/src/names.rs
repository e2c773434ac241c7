//! Looks host names up through the system's resolver. Used by lifecycle only: the static runtime gets the
//! addresses as a file.

use std::net::{IpAddr, ToSocketAddrs};

use crate::Resolved;

/// A name without address, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unresolved {
    /// The name.
    pub name: String,
    /// What the resolver said.
    pub reason: String,
}

/// Looks up `names`, one after the other; may take seconds for names that nobody answers for. A name without
/// address is in the second list and gets an empty entry in the first: nothing is accepted for it.
pub fn resolve(names: &[&str]) -> (Resolved, Vec<Unresolved>) {
    let mut found = Resolved::new();
    let mut missing = Vec::new();
    for name in names {
        let mut addresses: Vec<IpAddr> = match (*name, 0).to_socket_addrs() {
            Ok(list) => list.map(|socket| socket.ip()).collect(),
            Err(error) => {
                missing.push(Unresolved {
                    name: (*name).into(),
                    reason: error.to_string(),
                });
                Vec::new()
            }
        };
        addresses.sort_unstable();
        addresses.dedup();
        found.insert((*name).into(), addresses);
    }
    (found, missing)
}
