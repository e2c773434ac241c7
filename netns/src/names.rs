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

/// How many lookups run at the same time.
const AT_ONCE: usize = 16;

/// Looks up `names`; each may take seconds when nobody answers. A name without address is in the second list and
/// gets an empty entry in the first: nothing is accepted for it.
pub fn resolve(names: &[&str]) -> (Resolved, Vec<Unresolved>) {
    let mut found = Resolved::new();
    let mut missing = Vec::new();
    for some in names.chunks(AT_ONCE) {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|name| scope.spawn(|| look_up(name)))
                .collect();
            let crashed = |_| Err("the resolver crashed".to_string());
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(crashed))
                .collect()
        });
        for (name, answer) in some.iter().zip(answers) {
            let addresses = answer.unwrap_or_else(|reason| {
                missing.push(Unresolved {
                    name: (*name).into(),
                    reason,
                });
                Vec::new()
            });
            found.insert((*name).into(), addresses);
        }
    }
    (found, missing)
}

fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    let sockets = (name, 0)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    let mut addresses: Vec<IpAddr> = sockets.map(|socket| socket.ip()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_reported_and_empty() {
        let (found, missing) = resolve(&["localhost", "nothing.invalid", "10.2.0.20"]);
        assert!(
            found["localhost"]
                .iter()
                .all(|address| address.is_loopback())
        );
        assert!(!found["localhost"].is_empty());
        assert_eq!(found["10.2.0.20"], [IpAddr::from([10, 2, 0, 20])]);
        assert!(found["nothing.invalid"].is_empty());
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].name, "nothing.invalid");
        assert!(!missing[0].reason.is_empty());
    }
}
