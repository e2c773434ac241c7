//! What of an accept list has no effect, since a reject list names it, too.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::services::Services;
use super::{Entry, Peer};

/// So many entries for the same peer are looked at: a list that repeats itself without end is no reason to wait.
const SAME_PEER: usize = 64;

/// A reject list by what it names.
#[derive(Debug, Default)]
pub struct Rejects<'a> {
    by_peer: BTreeMap<&'a Peer, Vec<&'a Entry>>,
}

impl<'a> Rejects<'a> {
    /// Of this list.
    pub fn of(list: &'a [Entry]) -> Rejects<'a> {
        let mut by_peer: BTreeMap<&Peer, Vec<&Entry>> = BTreeMap::new();
        for entry in list {
            let same = by_peer.entry(&entry.peer).or_default();
            if same.len() < SAME_PEER {
                same.push(entry);
            }
        }
        Rejects { by_peer }
    }

    /// The entry that rejects all of what `entry` names, or the first of several that do so together. By what is
    /// written: that a name has an address that is rejected is not known here.
    pub fn covering(&self, entry: &Entry) -> Option<&'a Entry> {
        if self.by_peer.is_empty() {
            return None;
        }
        let mut left = Services::of(entry);
        let mut first = None;
        for peer in around(&entry.peer) {
            for found in self.by_peer.get(&peer).into_iter().flatten().copied() {
                let rest = left.without(&Services::of(found));
                if first.is_none() && !left.within(&Services::of(found)).is_empty() {
                    first = Some(found);
                }
                left = rest;
            }
        }
        first.filter(|_| left.is_empty())
    }
}

/// The peers that hold all of `peer`, itself the first.
fn around(peer: &Peer) -> Vec<Peer> {
    let mut all = vec![peer.clone()];
    match peer {
        Peer::Net(net) => {
            let wider = (0..net.prefix_len()).rev();
            let nets = wider.filter_map(|length| IpNet::new(net.addr(), length).ok());
            all.extend(nets.map(|net| Peer::Net(net.trunc())));
        }
        Peer::Host(name) | Peer::Suffix(name) => {
            let mut rest = name.as_str();
            while let Some((_, suffix)) = rest.split_once('.') {
                all.push(Peer::Suffix(suffix.to_owned()));
                rest = suffix;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::parse_entry;
    use super::*;

    #[test]
    fn an_entry_is_covered_by_what_is_around_it() {
        let list: Vec<Entry> = [
            "10.1.0.0/16",
            "10.9.0.0/16:80",
            "10.9.9.0/24:443/tcp",
            "10.9.9.0/24:443/udp",
            "*.evil.example",
            "bad.example.org",
            "[2001:db8::]/32:25/tcp",
        ]
        .iter()
        .flat_map(|text| parse_entry(text, text).unwrap())
        .collect();
        let rejects = Rejects::of(&list);
        for (text, by) in [
            ("10.1.2.3:80", Some("10.1.0.0/16")),
            ("10.1.0.0/16", Some("10.1.0.0/16")),
            ("10.0.0.0/8", None),
            ("10.9.9.1:80", Some("10.9.0.0/16:80")),
            ("10.9.9.1:81", None),
            ("10.9.9.1", None),
            ("10.9.9.1:443", Some("10.9.9.0/24:443/tcp")),
            ("10.9.9.1:80,443", Some("10.9.9.0/24:443/tcp")),
            ("10.9.8.1:80,443", None),
            ("a.b.evil.example:1-9", Some("*.evil.example")),
            ("*.b.evil.example", Some("*.evil.example")),
            ("evil.example", None),
            ("bad.example.org/icmp", Some("bad.example.org")),
            ("*.example.org", None),
            ("good.example.org", None),
            ("[2001:db8::9]:25/tcp", Some("[2001:db8::]/32:25/tcp")),
            ("[2001:db8::9]:25", None),
        ] {
            let entry = parse_entry("asked", text).unwrap().remove(0);
            let found = rejects.covering(&entry).map(|found| found.name.as_str());
            assert_eq!(found, by, "{text}");
        }
    }
}
