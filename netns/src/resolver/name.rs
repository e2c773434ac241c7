//! Domain names as they are in messages (RFC 1035, 3.1 and 4.1.4).

use std::fmt;

use super::message::{HEADER, Malformed};

/// The longest name, with its length bytes.
const NAME_MOST: usize = 255;
/// The longest label.
const LABEL_MOST: usize = 63;
/// How often the rest of a name may be elsewhere: no name has more labels.
const POINTERS_MOST: usize = 127;

/// A domain name in lower case, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

impl Name {
    /// Reads the name at `at` of a message, and moves `at` behind it. A pointer leads to a name that is complete before
    /// it, and not into the header: so no name is endless, and none depends on what comes later in the message.
    pub(super) fn parse(message: &[u8], at: &mut usize) -> Result<Name, Malformed> {
        let mut name = Vec::with_capacity(32);
        let mut here = *at;
        // The end of the name where it stands; known once its rest is elsewhere.
        let mut end = None;
        let mut seen = message;
        let mut pointers = 0;
        loop {
            let length = usize::from(*seen.get(here).ok_or(Malformed("a name ends early"))?);
            match length {
                0 => {
                    name.push(0);
                    *at = end.unwrap_or(here + 1);
                    return Ok(Name(name));
                }
                1..=LABEL_MOST => {
                    let label = seen.get(here + 1..here + 1 + length);
                    let label = label.ok_or(Malformed("a label ends early"))?;
                    name.push(length as u8);
                    name.extend(label.iter().map(u8::to_ascii_lowercase));
                    // One byte is for the end.
                    if name.len() >= NAME_MOST {
                        return Err(Malformed("a name is too long"));
                    }
                    here += 1 + length;
                }
                0xc0.. => {
                    let low = *seen
                        .get(here + 1)
                        .ok_or(Malformed("a pointer ends early"))?;
                    let target = (length & 0x3f) << 8 | usize::from(low);
                    pointers += 1;
                    if !(HEADER..here).contains(&target) || pointers > POINTERS_MOST {
                        return Err(Malformed("a pointer does not lead backwards"));
                    }
                    end.get_or_insert(here + 2);
                    seen = seen.get(..here).unwrap_or_default();
                    here = target;
                }
                _ => return Err(Malformed("a label of an unknown kind")),
            }
        }
    }

    /// `db.example.org`, with or without a final dot; none when it cannot be a name.
    pub fn from_text(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut name = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            if label.is_empty() || label.len() > LABEL_MOST {
                return None;
            }
            name.push(label.len() as u8);
            name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        name.push(0);
        (name.len() <= NAME_MOST).then_some(Name(name))
    }

    /// As in a message, uncompressed.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Its labels, the most specific first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let label = tail.get(..usize::from(*length))?;
            rest = tail.get(usize::from(*length)..)?;
            (!label.is_empty()).then_some(label)
        })
    }

    /// The address that the name of a reverse lookup is about (RFC 1035, 3.5; RFC 3596, 2.5).
    pub fn reverse(&self) -> Option<std::net::IpAddr> {
        let labels: Vec<&str> = self
            .labels()
            .map(std::str::from_utf8)
            .collect::<Result<_, _>>()
            .ok()?;
        match labels.as_slice() {
            [bytes @ .., "in-addr", "arpa"] if bytes.len() == 4 => {
                let mut address = [0; 4];
                for (to, from) in address.iter_mut().rev().zip(bytes) {
                    let byte: u8 = from.parse().ok()?;
                    // One way to write it: `+7` and `007` would hold something else for who reads along.
                    *to = (byte.to_string() == **from).then_some(byte)?;
                }
                Some(address.into())
            }
            [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
                let mut address = 0;
                for digit in digits.iter().rev() {
                    let single = digit.len() == 1;
                    let digit = u128::from_str_radix(digit, 16).ok().filter(|_| single)?;
                    address = address << 4 | digit;
                }
                Some(std::net::Ipv6Addr::from_bits(address).into())
            }
            _ => None,
        }
    }
}

/// `db.example.org`; bytes that are in no host name as `\DDD` (RFC 1035, 5.1), so that two names are
/// never shown alike.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for label in self.labels() {
            if !first {
                f.write_str(".")?;
            }
            first = false;
            for byte in label {
                match byte {
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        if first { f.write_str(".") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Behind a header of nothing.
    fn parse(bytes: &[u8], at: usize) -> Result<(String, usize), Malformed> {
        let message = [&[0; HEADER], bytes].concat();
        let mut at = at + HEADER;
        Name::parse(&message, &mut at).map(|name| (name.to_string(), at - HEADER))
    }

    #[test]
    fn names_are_read_and_shown() {
        let message = b"\x03WWW\x07example\x03org\0\x04mail\xc0\x10\xc0\x0c";
        assert_eq!(parse(message, 0).unwrap(), ("www.example.org".into(), 17));
        assert_eq!(parse(message, 17).unwrap(), ("mail.example.org".into(), 24));
        assert_eq!(parse(message, 24).unwrap(), ("www.example.org".into(), 26));
        assert_eq!(parse(b"\0", 0).unwrap(), (".".into(), 1));
        assert_eq!(parse(b"\x05a.b\\\xff\0", 0).unwrap().0, "a\\046b\\092\\255");
        let name = Name::from_text("WWW.Example.org.").unwrap();
        assert_eq!(name.to_string(), "www.example.org");
        assert_eq!(name.wire(), b"\x03www\x07example\x03org\0");
        for bad in ["", "a..b", ".", &"a".repeat(64), &["a"; 128].join(".")] {
            assert_eq!(Name::from_text(bad), None, "{bad}");
        }
        assert!(Name::from_text(&["a"; 127].join(".")).is_some());
    }

    #[test]
    fn broken_names_are_refused() {
        let long: Vec<u8> = [&[63u8][..], &[b'a'; 63]].concat().repeat(4);
        for bytes in [
            &b""[..],
            b"\x03ab",
            b"\x03abc",
            b"\xc0",
            b"\xc0\x0c",
            b"\x01a\xc0\x0c",
            b"\x01a\xc0\x10\0\0",
            b"\x01a\xc0\x02",
            b"\x40abc\0",
            b"\x80\0",
            &long,
        ] {
            assert!(parse(bytes, 0).is_err(), "{bytes:?}");
        }
        // Two pointers at each other.
        assert!(parse(b"\xc0\x0e\xc0\x0c", 2).is_err());
        // Into the header, and to a name that goes on behind the pointer.
        assert!(parse(b"\xc0\x05", 0).is_err());
        assert!(parse(b"\x03abc\xc0\x0c\x01d\0", 4).is_err());
        assert!(parse(b"\x03a\xc0\x0c\0\0", 2).is_err());
    }

    #[test]
    fn reverse_names_are_addresses() {
        let reverse = |text: &str| Name::from_text(text)?.reverse();
        assert_eq!(
            reverse("20.0.2.10.in-addr.arpa"),
            Some([10, 2, 0, 20].into())
        );
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse(v6), Some("2001:db8::1".parse().unwrap()));
        for text in [
            "2.10.in-addr.arpa",
            "a.0.2.10.in-addr.arpa",
            "300.0.2.10.in-addr.arpa",
            "020.0.2.10.in-addr.arpa",
            "+20.0.2.10.in-addr.arpa",
            "db.example.org",
        ] {
            assert_eq!(reverse(text), None, "{text}");
        }
    }
}
