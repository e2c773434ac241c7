//! Where a person's browser finds what runs.

use std::net::{IpAddr, Ipv6Addr};

use metactl_bundles::app::Health;
use metactl_bundles::bundle::{EntryKind, EntryRef};
use metactl_bundles::health::Question;

use crate::instance::Instance;
use crate::status::{DnsStatus, Status};

impl Instance {
    /// The address of its first page, by name where it has one: `http://myapp.web1.apps.example.org/`. None when no
    /// daemon is known to speak HTTP, when it has no address of its own, or when nothing is known of it.
    pub fn url(&self, status: &Status) -> Option<String> {
        let name = status.dns.as_ref().map(DnsStatus::names);
        let name = name.and_then(|names| names.first().map(|name| (*name).to_owned()));
        let address = status.addresses.first().map(IpAddr::to_string);
        let known = self.known().ok()??;
        of(&known.entries, &name.or(address)?)
    }
}

/// Of the first daemon that speaks HTTP.
fn of(entries: &[EntryRef], host: &str) -> Option<String> {
    let mut daemons = entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Daemon);
    let port = daemons.find_map(page_port)?;
    let host = match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{host}]"),
        Err(_) => host.to_owned(),
    };
    Some(match port {
        80 => format!("http://{host}/"),
        port => format!("http://{host}:{port}/"),
    })
}

/// The port at which a daemon is asked for a page, whether it is up.
fn page_port(entry: &EntryRef) -> Option<u16> {
    let asked = entry.checks.iter().find_map(|check| match &check.question {
        Question::Http { port, .. } => Some(*port),
        _ => None,
    });
    asked.or(entry.port.filter(|_| entry.health == Health::Http))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metactl_bundles::app::Restart;
    use metactl_bundles::health::Check;

    use super::*;
    use crate::standalone::entry::tests::definition;

    #[test]
    fn the_first_daemon_that_speaks_http_has_a_page() {
        let daemon = |port: Option<u16>, health: Health| EntryRef {
            port,
            health,
            ..definition("web", Restart::Always)
        };
        let tcp = daemon(Some(3306), Health::Tcp);
        let web = daemon(Some(80), Health::Http);
        assert_eq!(of(std::slice::from_ref(&tcp), "a"), None);
        assert_eq!(of(&[daemon(None, Health::Http)], "a"), None);
        let found = of(&[tcp.clone(), web], "myapp.example.org");
        assert_eq!(found.as_deref(), Some("http://myapp.example.org/"));
        let asked = EntryRef {
            checks: vec![Check {
                name: "page".to_owned(),
                question: Question::Http {
                    port: 8080,
                    path: "/up".to_owned(),
                    status: metactl_bundles::health::statuses("200").unwrap(),
                },
                interval: Duration::ZERO,
                timeout: Duration::ZERO,
                grace: Duration::ZERO,
                tries: 1,
            }],
            ..tcp
        };
        let found = of(&[asked], "2001:db8::1");
        assert_eq!(found.as_deref(), Some("http://[2001:db8::1]:8080/"));
    }
}
