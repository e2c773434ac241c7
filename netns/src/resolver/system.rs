//! What the server itself knows of names: `/etc/resolv.conf` and `/etc/hosts`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::name::Name;

const DNS: u16 = 53;
/// resolv.conf(5): at most so many name servers count.
const SERVERS_MOST: usize = 3;
/// And so many domains to search.
const SEARCH_MOST: usize = 32;
/// A larger file is a mistake.
const FILE_MOST: u64 = 16 << 20;

/// How names are looked up on this server (resolv.conf(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolving {
    /// Who is asked, in this order.
    pub servers: Vec<SocketAddr>,
    /// Domains for names with few dots.
    pub search: Vec<Name>,
    /// How many dots are enough.
    pub ndots: usize,
    /// How long one server may take.
    pub timeout: Duration,
    /// How often each is asked.
    pub attempts: usize,
    /// Each question begins with another server.
    pub rotate: bool,
}

impl Resolving {
    /// Reads the text of a resolv.conf. `index_of` gives the number of a device (`fe80::1%eth0`). What cannot be
    /// understood is passed over, as everybody else does.
    pub fn parse(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Resolving {
        let mut result = Resolving {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 2,
            rotate: false,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| server(word, &index_of));
                    result.servers.extend(server);
                }
                Some("search" | "domain") => {
                    result.search = words
                        .filter_map(Name::from_text)
                        .take(SEARCH_MOST)
                        .collect();
                }
                Some("options") => words.for_each(|word| result.option(word)),
                _ => {}
            }
        }
        result.servers.truncate(SERVERS_MOST);
        if result.servers.is_empty() {
            result.servers.push((Ipv4Addr::LOCALHOST, DNS).into());
        }
        result
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        let number = |most: usize| value.parse::<usize>().ok().map(|number| number.min(most));
        match (name, number(30)) {
            ("ndots", Some(dots)) => self.ndots = dots.min(15),
            ("timeout", Some(seconds)) => self.timeout = Duration::from_secs(seconds.max(1) as u64),
            ("attempts", Some(count)) => self.attempts = count.clamp(1, 5),
            ("rotate", _) => self.rotate = true,
            _ => {}
        }
    }

    /// The names that `name` may stand for, the likeliest first.
    pub fn candidates(&self, name: &Name) -> Vec<Name> {
        let dots = name.labels().count().saturating_sub(1);
        let mut names = vec![name.clone()];
        if dots < self.ndots {
            let below = |domain: &Name| Name::from_text(&format!("{name}.{domain}"));
            let searched: Vec<Name> = self.search.iter().filter_map(below).collect();
            names.splice(0..0, searched);
        }
        names
    }
}

fn server(word: &str, index_of: &impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Some((address, device)) = word.split_once('%') {
        let index = index_of(device)?;
        let address = address.parse().ok()?;
        return Some(SocketAddrV6::new(address, DNS, 0, index).into());
    }
    Some((word.parse::<IpAddr>().ok()?, DNS).into())
}

/// hosts(5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts {
    addresses: BTreeMap<String, Vec<IpAddr>>,
    names: BTreeMap<IpAddr, Name>,
}

impl Hosts {
    /// Reads the text of a hosts file. A name can stand in several lines.
    pub fn parse(text: &str) -> Hosts {
        let mut hosts = Hosts::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                continue;
            };
            for name in words.filter_map(Name::from_text) {
                let known = hosts.addresses.entry(name.to_string()).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
                hosts.names.entry(address).or_insert(name);
            }
        }
        hosts
    }

    /// The addresses of a name; none when the file does not know it.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.addresses.get(name).map(Vec::as_slice)
    }

    /// The first name of an address.
    pub fn name(&self, address: &IpAddr) -> Option<&Name> {
        self.names.get(address)
    }
}

/// A file that is read again when it is another.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    stamp: Option<Stamp>,
}

/// What tells versions of a file apart.
pub(super) type Stamp = (u64, u64, i64, i64);

/// None for a file that is not there.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

impl Watched {
    pub fn new(path: PathBuf) -> Watched {
        Watched { path, stamp: None }
    }

    /// The text, when it is another than last time. A file that is gone is empty; one that cannot be read stays what it
    /// was.
    pub fn changed(&mut self, first: bool) -> Option<String> {
        let now = stamp(&self.path);
        if now == self.stamp && !first {
            return None;
        }
        let text = match now {
            None => String::new(),
            Some((_, length, _, _)) if length > FILE_MOST => return None,
            Some(_) => String::from_utf8_lossy(&std::fs::read(&self.path).ok()?).into_owned(),
        };
        self.stamp = now;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_says_who_is_asked() {
        let text = "# comment\nnameserver 10.1.1.1\nnameserver fe80::1%eth0\nnameserver fe80::1%nope\nnameserver x\n\
                    search example.org corp.example.org.\noptions ndots:2 timeout:1 attempts:3 rotate edns0\n";
        let found = Resolving::parse(text, |name| (name == "eth0").then_some(7));
        let servers: Vec<String> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.1.1.1:53", "[fe80::1%7]:53"]);
        assert_eq!((found.ndots, found.attempts, found.rotate), (2, 3, true));
        assert_eq!(found.timeout, Duration::from_secs(1));
        let candidates = |name: &str| -> Vec<String> {
            let names = found.candidates(&Name::from_text(name).unwrap());
            names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            candidates("db"),
            ["db.example.org", "db.corp.example.org", "db"]
        );
        assert_eq!(candidates("a.b.c"), ["a.b.c"]);
        let nobody = Resolving::parse("", |_| None);
        assert_eq!(nobody.servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn hosts_know_names_and_addresses() {
        let hosts = Hosts::parse(
            "10.2.0.20 DB.example.org db # x\n2001:db8::20 db.example.org\nbad line\n10.2.0.21 db.example.org\n",
        );
        let expected: Vec<IpAddr> = ["10.2.0.20", "2001:db8::20", "10.2.0.21"]
            .map(|a| a.parse().unwrap())
            .into();
        assert_eq!(hosts.addresses("db.example.org"), Some(expected.as_slice()));
        assert_eq!(hosts.addresses("other"), None);
        assert_eq!(
            hosts.name(&expected[0]).unwrap().to_string(),
            "db.example.org"
        );
    }
}
