//! An instance has names while it runs: `<instance>.<host>.<zone>` from start to stop, with the names of
//! its addresses (PTR), and `<app>.<zone>` while it is healthy.
//!
//! A name server may be slow, dead or unwilling: that never holds up a start. Each supervisor has a thread
//! for it, which tries again, at first after a second, then less and less often, and tells how it stands.
//! What may be registered is written down before it is sent, so that whoever is killed, the next supervisor or
//! command takes away what is no longer true.
//!
//! | room | what it holds |
//! | --- | --- |
//! | `registration` | which records an instance should have |
//! | `journal` | which it may have, on disk |
//! | `rounds` | one attempt to make the second like the first |
//! | `registrar` | the supervisor's thread: when the next attempt is made |
//! | `tend` | the same for instances without a supervisor: one look, again and again |
//! | `standing` | what is known between two such looks, on disk |
//! | `watch` | another one: whether the daemons are healthy |
//! | `tidy` | what commands do when no supervisor is there |
//!
//! The messages are `metactl_netns::dns_update`'s.

mod journal;
mod registrar;
mod registration;
mod rounds;
mod standing;
mod tend;
mod tidy;
mod watch;

use std::time::Duration;

use metactl_bundles::app::Dns;
use metactl_netns::dns_update::{Client, Key, Name, Patience};

pub(crate) use registrar::{Registrar, Task};
pub(crate) use registration::{Registration, host_label};
pub(crate) use standing::status;
pub(crate) use tend::{Unwilling, ask, is_asked, leave, tend};
pub(crate) use tidy::{farewell, leftovers, note, sweep, tidy, tidy_now};
pub(crate) use watch::Watched;

/// The first pause before something is tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pause after so many failures in a row.
fn pause(tries: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

/// Asks the name server whether it would take updates: it answers, knows the key, and has the zone. Changes
/// nothing; takes seconds when nobody answers.
///
/// # Errors
/// What is in the way, in a sentence.
pub fn check(dns: &Dns) -> Result<(), String> {
    let key = Key::read(&dns.key_file).map_err(|error| error.to_string())?;
    let zone = Name::parse(&dns.zone)?;
    let client = Client::new(&dns.servers, &key, Patience::short());
    match client.zone_of(&zone).map_err(|error| error.to_string())? {
        Some(found) if found == zone => Ok(()),
        _ => Err(format!("the name server has no zone {zone}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_minutes() {
        let seconds: Vec<u64> = (1..=11).map(|tries| pause(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_check_says_what_is_in_the_way() {
        use std::os::unix::fs::OpenOptionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        // A port that nobody has: this one has just given it back.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = socket.local_addr().unwrap();
        drop(socket);
        let dns = Dns {
            servers: vec![server],
            key_file: dir.path().join("dns.key"),
            ..registration::tests::dns()
        };
        let why = check(&dns).unwrap_err();
        assert!(
            why.contains("cannot use the key") && why.contains("dns.key"),
            "{why}"
        );
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&dns.key_file)
            .unwrap();
        let key = b"key k { algorithm hmac-sha256; secret \"QUJD\"; };";
        std::io::Write::write_all(&mut file, key).unwrap();
        let why = check(&dns).unwrap_err();
        assert!(why.contains("does not answer"), "{why}");
    }
}
