//! A domain name.

use std::fmt;
use std::net::IpAddr;

use metactl_bundles::keys::values;
use serde::{Deserialize, Serialize};

/// A domain name in lower case, without the dot at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence: "must be ...".
    pub fn parse(text: &str) -> Result<Name, String> {
        values::domain(text).map(Name)
    }

    /// The name under which the name of an address stands: RFC 1035 section 3.5 for IPv4, RFC 3596 section 2.5
    /// for IPv6.
    pub fn reverse(address: IpAddr) -> Name {
        let text = match address {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(v6) => {
                let nibbles = v6.octets().into_iter().rev();
                let text: String = nibbles
                    .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4))
                    .collect();
                format!("{text}ip6.arpa")
            }
        };
        Name(text)
    }

    /// The name with a label before it.
    ///
    /// # Errors
    /// When it becomes too long.
    pub fn child(&self, label: &str) -> Result<Name, String> {
        Name::parse(&format!("{label}.{}", self.0))
    }

    /// Whether it is `zone` or a name in it.
    pub fn is_in(&self, zone: &Name) -> bool {
        let rest = self.0.strip_suffix(zone.0.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends the name as messages have it, not compressed (RFC 1035 section 3.1). It is in the canonical form
    /// that signatures need (RFC 8945 section 4.3.3).
    pub fn write(&self, out: &mut Vec<u8>) {
        for label in self.0.split('.') {
            // `values::domain` knows no longer ones than 63.
            out.push(label.len().min(63) as u8);
            out.extend(label.bytes().take(63));
        }
        out.push(0);
    }

    /// Reads the name at `at` of a message; where the next thing begins. Nothing for what is no name: labels
    /// with other characters than host names and zones have are no concern of ours, but are stepped over.
    pub(crate) fn read(message: &[u8], at: usize) -> Option<(Option<Name>, usize)> {
        let mut labels: Vec<String> = Vec::new();
        let mut at = at;
        let mut next = None;
        // Each pointer leads back (RFC 1035 section 4.1.4), so that no circle is possible.
        let mut lowest = at;
        let mut length = 0;
        loop {
            let first = *message.get(at)?;
            match first {
                0 => {
                    let text = labels.join(".");
                    return Some((Name::parse(&text).ok(), next.unwrap_or(at + 1)));
                }
                1..=63 => {
                    let label = message.get(at + 1..at + 1 + usize::from(first))?;
                    length += label.len() + 1;
                    if length > 254 {
                        return None;
                    }
                    labels.push(String::from_utf8_lossy(label).into_owned());
                    at += 1 + label.len();
                }
                0xc0.. => {
                    let second = *message.get(at + 1)?;
                    next = next.or(Some(at + 2));
                    at = usize::from(first & 0x3f) << 8 | usize::from(second);
                    if at >= lowest {
                        return None;
                    }
                    lowest = at;
                }
                _ => return None,
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Name, String> {
        Name::parse(&text).map_err(|why| format!("{text:?} {why}"))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn addresses_have_names() {
        assert_eq!(
            Name::reverse("10.20.0.5".parse().unwrap()),
            name("5.0.20.10.in-addr.arpa")
        );
        let six = Name::reverse("2001:db8::5".parse().unwrap());
        assert_eq!(
            six.as_str(),
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn zones_hold_whole_labels() {
        let zone = name("example.org");
        assert!(name("a.example.org").is_in(&zone) && zone.is_in(&zone));
        assert!(!name("notexample.org").is_in(&zone) && !name("org").is_in(&zone));
        assert!(zone.child(&"a".repeat(64)).is_err());
    }

    #[test]
    fn names_are_read_as_written_and_compressed() {
        let mut message = vec![9, 9];
        name("example.org").write(&mut message);
        let pointer = message.len();
        message.extend([3, b'W', b'w', b'W', 0xc0, 2, 7]);
        assert_eq!(
            Name::read(&message, 2),
            Some((Some(name("example.org")), pointer))
        );
        assert_eq!(
            Name::read(&message, pointer),
            Some((Some(name("www.example.org")), pointer + 6))
        );
        // Not to itself, not onward, not out of the message.
        for end in [&[0xc0, 0][..], &[0xc0, 9], &[0xc0], &[64], &[5, b'a']] {
            assert_eq!(Name::read(end, 0), None, "{end:?}");
        }
        // The root, and a label that is none of ours, are stepped over.
        assert_eq!(Name::read(&[0], 0), Some((None, 1)));
        assert_eq!(Name::read(&[1, b' ', 0], 0), Some((None, 3)));
    }
}
