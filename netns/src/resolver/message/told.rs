//! All names and addresses that an answer tells of, whatever the question was.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{A, AAAA, CLASS_IN, CNAME, Malformed, Name, Record, Response, u16_at};

/// RFC 1035, 3.3.9, and RFC 2782.
const MX: u16 = 15;
const SRV: u16 = 33;
/// SVCB and HTTPS (RFC 9460, 14.1).
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
/// `ipv4hint` and `ipv6hint` (RFC 9460, 14.3.2).
const IPV4HINT: u16 = 4;
const IPV6HINT: u16 = 6;

impl Response<'_> {
    /// The names in its answers that have addresses or lead to those that have: each once.
    pub fn names(&self) -> Result<BTreeSet<String>, Malformed> {
        let mut names = BTreeSet::new();
        for record in &self.answers {
            names.insert(record.name.to_string());
            // What stands before the name: preference; priority, weight and port; priority.
            let before = match record.kind {
                CNAME => 0,
                MX | SVCB | HTTPS => 2,
                SRV => 6,
                _ => continue,
            };
            let mut at = record.data_at + before;
            let target = Name::parse(self.message, &mut at)?;
            if at > record.data_at + record.data.len() {
                return Err(Malformed("a name is longer than its record"));
            }
            names.insert(target.to_string());
        }
        Ok(names)
    }

    /// How long the longest of its answers holds, in seconds.
    pub fn longest(&self) -> u32 {
        let times = self.answers.iter().map(|record| record.ttl);
        times.max().unwrap_or_default()
    }

    /// The addresses in its answers.
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(&self.answers)
    }

    /// The addresses behind its answers: of name servers, and whatever somebody thought to be of use.
    pub fn addresses_behind(&self) -> Vec<IpAddr> {
        addresses(&self.rest)
    }
}

fn addresses(records: &[Record<'_>]) -> Vec<IpAddr> {
    let ours = records.iter().filter(|record| record.class == CLASS_IN);
    ours.flat_map(|record| match record.kind {
        A => every::<4>(record.data),
        AAAA => every::<16>(record.data),
        SVCB | HTTPS => hints(record.data),
        _ => Vec::new(),
    })
    .collect()
}

/// The addresses that `data` is a list of; a rest that is none counts for nothing, as it does for whoever reads it.
fn every<const N: usize>(data: &[u8]) -> Vec<IpAddr>
where
    IpAddr: From<[u8; N]>,
{
    data.as_chunks::<N>()
        .0
        .iter()
        .map(|one| IpAddr::from(*one))
        .collect()
}

/// The addresses in the parameters of a service (RFC 9460, 2.2): behind the priority and the name of the target, which
/// is never compressed.
fn hints(data: &[u8]) -> Vec<IpAddr> {
    let mut at = 2;
    while let Some(length) = data.get(at).filter(|length| **length > 0) {
        at += 1 + usize::from(*length);
    }
    at += 1;
    let mut found = Vec::new();
    while let (Some(key), Some(length)) = (u16_at(data, at), u16_at(data, at + 2)) {
        let end = at + 4 + usize::from(length);
        let value = data.get(at + 4..end).unwrap_or_default();
        match key {
            IPV4HINT => found.extend(every::<4>(value)),
            IPV6HINT => found.extend(every::<16>(value)),
            _ => {}
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_hint_at_addresses() {
        let mut data = vec![0, 1, 3, b'w', b'w', b'w', 0, 0, 1, 0, 3, 2, b'h', b'2'];
        data.extend([0, 4, 0, 8, 127, 0, 0, 1, 10, 0, 0, 1]);
        data.extend([0, 6, 0, 16]);
        data.extend(std::net::Ipv6Addr::LOCALHOST.octets());
        let found: Vec<String> = hints(&data).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1", "10.0.0.1", "::1"]);
        // Whatever is missing at its end, nothing happens.
        for length in 0..data.len() {
            assert!(hints(&data[..length]).len() < 3);
        }
        assert!(hints(&[0xff; 300]).is_empty());
    }
}
