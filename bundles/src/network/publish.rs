//! `publish = 8080:80 53/udp 10.0.0.1:8000-8010`: ports of the server that lead to the instance.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Protocol, Published};
use crate::keys::values;

/// At most so many ports of one instance.
const MAX_PORTS: usize = 1024;

const FORM: &str = "ports from 1 to 65535, or ranges of them, of the server and behind a colon of the instance, like \
                    8080:80, 8000-8010 or, at one address of the server, 10.0.0.1:8080:80";

/// The ports in `text`: `[ADDRESS:]PORT[:INSIDE][/PROTOCOL]`. The address is one of the server's, an IPv6 one in
/// brackets; without it the port is published at all of them. INSIDE is given where the instance has another port.
/// `FIRST-LAST` stands for every port of a range, and ranges on both sides are equally long. The protocol is `tcp`
/// without being told, or `udp`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence: "must be ...".
pub fn parse_publish(text: &str) -> Result<Vec<Published>, String> {
    let mut all: Vec<Published> = Vec::new();
    for word in values::list(text) {
        for one in parse(word)? {
            if all.iter().any(|other| other.clashes(&one)) {
                return Err(format!("must not name port {} twice", one.at()));
            }
            if all.len() == MAX_PORTS {
                return Err(format!("must be {MAX_PORTS} ports at most"));
            }
            all.push(one);
        }
    }
    if all.is_empty() {
        return Err("must be ports of the server, like 8080:80 or 53/udp".to_owned());
    }
    Ok(all)
}

fn parse(word: &str) -> Result<impl Iterator<Item = Published>, String> {
    let (rest, protocol) = match word.rsplit_once('/') {
        None => (word, Protocol::Tcp),
        Some((rest, "tcp")) => (rest, Protocol::Tcp),
        Some((rest, "udp")) => (rest, Protocol::Udp),
        Some(_) => {
            return Err(format!(
                "must end in /tcp or /udp when it names a protocol: `{word}`"
            ));
        }
    };
    let wrong = || format!("must be {FORM}; not `{word}`");
    let (address, ports) = address(rest).ok_or_else(wrong)?;
    let (outside, inside) = ports.split_once(':').unwrap_or((ports, ports));
    let (outside, inside) = (range(outside), range(inside));
    let ((first, last), (inner, inner_last)) = outside.zip(inside).ok_or_else(wrong)?;
    if last - first != inner_last - inner {
        return Err(format!(
            "must have as many ports of the server as of the instance: `{word}`"
        ));
    }
    Ok((first..=last)
        .zip(inner..=inner_last)
        .map(move |(port, inside)| Published {
            protocol,
            address,
            port,
            inside,
        }))
}

/// The address in front, and what follows.
fn address(text: &str) -> Option<(Option<IpAddr>, &str)> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, ports) = bracketed.split_once("]:")?;
        // No packet to the loopback address leaves its device (RFC 4291, 2.5.3).
        let address: Ipv6Addr = address.parse().ok()?;
        if address.is_loopback() {
            return None;
        }
        return Some((Some(address.into()), ports));
    }
    match text.split_once(':') {
        Some((address, ports)) if address.contains('.') => {
            let address: Ipv4Addr = address.parse().ok()?;
            Some((Some(address.into()), ports))
        }
        _ => Some((None, text)),
    }
}

/// `8000-8010`, or one port.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (values::port(first).ok()?, values::port(last).ok()?);
    (range.0 <= range.1).then_some(range)
}

impl Published {
    /// The port of the server in words: `8080/tcp`, `10.0.0.1:8080/tcp`.
    pub fn at(&self) -> String {
        format!("{}{}/{}", self.before(), self.port, self.protocol)
    }

    /// Whether the server cannot have both: the same port at the same address, or at all of them.
    pub fn clashes(&self, other: &Published) -> bool {
        let meets = match (self.address, other.address) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        meets && (self.protocol, self.port) == (other.protocol, other.port)
    }

    fn before(&self) -> String {
        match self.address {
            None => String::new(),
            Some(IpAddr::V4(address)) => format!("{address}:"),
            Some(IpAddr::V6(address)) => format!("[{address}]:"),
        }
    }
}

/// `8080:80/tcp`.
impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.before();
        write!(f, "{before}{}:{}/{}", self.port, self.inside, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_every_shape() {
        let shown = |text: &str| {
            let all = parse_publish(text).unwrap();
            let words: Vec<String> = all.iter().map(ToString::to_string).collect();
            words.join(" ")
        };
        assert_eq!(shown("8080:80"), "8080:80/tcp");
        assert_eq!(
            shown("443, 53/udp 53/tcp"),
            "443:443/tcp 53:53/udp 53:53/tcp"
        );
        assert_eq!(shown("5353:53/udp\n 25"), "5353:53/udp 25:25/tcp");
        assert_eq!(
            shown("8000-8002 9000-9001:90-91/udp"),
            "8000:8000/tcp 8001:8001/tcp 8002:8002/tcp 9000:90/udp 9001:91/udp"
        );
        assert_eq!(
            shown("10.0.0.1:8080:80 10.0.0.2:8080 [2001:db8::1]:8080:80/udp"),
            "10.0.0.1:8080:80/tcp 10.0.0.2:8080:8080/tcp [2001:db8::1]:8080:80/udp"
        );
        assert_eq!(parse_publish("1-1024").unwrap().len(), 1024);
    }

    #[test]
    fn what_is_refused_says_what_it_must_be() {
        for (text, expected) in [
            ("", "must be ports of the server"),
            ("0:80", "from 1 to 65535"),
            ("80:", "from 1 to 65535"),
            (":80", "from 1 to 65535"),
            ("70000", "from 1 to 65535"),
            ("+80", "from 1 to 65535"),
            ("10.0.0.1", "from 1 to 65535"),
            ("10.0.0.256:80", "from 1 to 65535"),
            ("10.0.0.1:80:80:80", "from 1 to 65535"),
            ("2001:db8::1:80", "from 1 to 65535"),
            ("[2001:db8::1]80", "from 1 to 65535"),
            ("[10.0.0.1]:80", "from 1 to 65535"),
            ("[::1]:80", "from 1 to 65535"),
            ("90-80", "from 1 to 65535"),
            ("80-", "from 1 to 65535"),
            ("0-80", "from 1 to 65535"),
            ("8000-8010:80", "as many ports"),
            ("8000-8010:80-91", "as many ports"),
            ("8000-8010 8005", "port 8005/tcp twice"),
            ("10.0.0.1:80 80", "port 80/tcp twice"),
            ("10.0.0.1:80 10.0.0.1:80:8080", "port 10.0.0.1:80/tcp twice"),
            ("80/icmp", "/tcp or /udp"),
            ("80 80:8080", "port 80/tcp twice"),
        ] {
            let problem = parse_publish(text).expect_err(text);
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        assert!(parse_publish("1-1025").unwrap_err().contains("1024"));
    }
}
