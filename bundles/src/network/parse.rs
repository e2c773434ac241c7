//! Lines of accept and reject lists: `mysql.example.org:3306`, `10.1.1.0/24`, `[2001:db8::1]:80,443/tcp`.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::redact;
use crate::text::{split_at_byte, words};

use super::{Entry, Peer, PortRange, Protocol};

/// At most so many destinations in one line.
const MAX_DESTINATIONS: usize = 1024;

/// A destination that cannot be understood, or that the firewall cannot enforce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct EntryError {
    /// The part of the value that is wrong.
    pub destination: String,
    /// What is wrong, as the end of a sentence: "must be ...".
    pub problem: String,
}

/// The entries of the line `name = text`: one for each destination, separated by spaces or commas.
///
/// A destination is a host name, `*.` and a name for all names below it, an address or a prefix. Behind it may stand `:port`,
/// `:first-last`, several of these with commas between, and `/tcp`, `/udp` or `/icmp`. IPv6 with
/// ports is written in brackets.
///
/// # Errors
/// The first destination that is not so.
pub fn parse_entry(name: &str, text: &str) -> Result<Vec<Entry>, EntryError> {
    let mut entries = Vec::with_capacity(1);
    for destination in destinations(text) {
        if entries.len() == MAX_DESTINATIONS {
            return Err(error(
                destination,
                format!("must be {MAX_DESTINATIONS} destinations at most"),
            ));
        }
        entries.push(parse_destination(name, destination)?);
    }
    if entries.is_empty() {
        let problem =
            "must be a destination: a host name, address or prefix, like db.example.org:3306";
        return Err(error(text, problem.to_owned()));
    }
    Ok(entries)
}

fn error(destination: &str, problem: String) -> EntryError {
    EntryError {
        destination: destination.to_owned(),
        problem,
    }
}

/// Splits at white space and commas, but keeps `host:80,443` together.
fn destinations(text: &str) -> impl Iterator<Item = &str> {
    let parts = words(text).flat_map(|word| {
        let mut rest = Some(word);
        std::iter::from_fn(move || {
            let word = rest?;
            let comma = memchr::memchr_iter(b',', word.as_bytes());
            let (part, behind) = match comma.into_iter().find(|comma| separates(word, *comma)) {
                Some(comma) => (&word[..comma], Some(&word[comma + 1..])),
                None => (word, None),
            };
            rest = behind;
            Some(part)
        })
    });
    parts.filter(|part| !part.is_empty())
}

/// Whether the comma of a word stands between two destinations, not between two ports.
fn separates(word: &str, comma: usize) -> bool {
    let next = &word[comma + 1..];
    let next = split_at_byte(next, b',').map_or(next, |(next, _)| next);
    let has_port = port_part(&word[..comma]).is_some();
    !(has_port && next.starts_with(|c: char| c.is_ascii_digit()) && is_port_like(next))
}

/// `443`, `1-9` or `443/tcp`.
fn is_port_like(text: &str) -> bool {
    let ports = split_at_byte(text, b'/').map_or(text, |(ports, _)| ports);
    ports.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

/// What stands behind the colon of `host:80`. An IPv6 address without brackets has no ports.
fn port_part(destination: &str) -> Option<(&str, &str)> {
    if destination.starts_with('[') {
        let close = destination.find(']')?;
        let colon = destination[close..].find(':')? + close;
        return Some((&destination[..colon], &destination[colon + 1..]));
    }
    let (host, ports) = split_at_byte(destination, b':')?;
    (!ports.as_bytes().contains(&b':')).then_some((host, ports))
}

fn parse_destination(name: &str, text: &str) -> Result<Entry, EntryError> {
    if redact::url_mark(text.as_bytes()).is_some() {
        let problem =
            format!("must be a destination like db.example.org:3306, not a URL: `{text}`");
        return Err(error(text, problem));
    }
    let (rest, protocol) = split_protocol(text)?;
    let (host, ports) = match port_part(rest) {
        Some((host, ports)) => (host, parse_ports(text, ports)?),
        None => (rest, Vec::new()),
    };
    if protocol == Some(Protocol::Icmp) && !ports.is_empty() {
        return Err(error(
            text,
            format!("must not have a port with /icmp: `{text}`"),
        ));
    }
    let peer = parse_peer(text, host)?;
    Ok(Entry {
        name: name.to_owned(),
        peer,
        ports,
        protocol,
    })
}

/// `/tcp`, `/udp` or `/icmp` at the end. `/24` is none.
fn split_protocol(text: &str) -> Result<(&str, Option<Protocol>), EntryError> {
    let Some(slash) = text.bytes().rposition(|byte| byte == b'/') else {
        return Ok((text, None));
    };
    let (rest, last) = (&text[..slash], &text[slash + 1..]);
    match last {
        "tcp" => Ok((rest, Some(Protocol::Tcp))),
        "udp" => Ok((rest, Some(Protocol::Udp))),
        "icmp" => Ok((rest, Some(Protocol::Icmp))),
        _ if last.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            let problem =
                format!("must end in /tcp, /udp or /icmp when it names a protocol, not /{last}");
            Err(error(text, problem))
        }
        _ => Ok((text, None)),
    }
}

fn parse_ports(whole: &str, text: &str) -> Result<Vec<PortRange>, EntryError> {
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let mut ranges = Vec::with_capacity(1);
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (part, behind) = match split_at_byte(text, b',') {
            Some((part, behind)) => (part, Some(behind)),
            None => (text, None),
        };
        rest = behind;
        let (first, last) = split_at_byte(part, b'-').unwrap_or((part, part));
        match port(first).zip(port(last)) {
            Some((first, last)) if first <= last => ranges.push(PortRange { first, last }),
            _ => {
                let problem = format!(
                    "must have ports from 1 to 65535 behind the colon, like :80 or :8000-8099, not `:{part}` in `{whole}`"
                );
                return Err(error(whole, problem));
            }
        }
    }
    Ok(ranges)
}

fn parse_peer(whole: &str, host: &str) -> Result<Peer, EntryError> {
    let address = unbracketed(host);
    if let Some((address, length)) = split_at_byte(&address, b'/') {
        return match (address.parse::<IpAddr>(), length.parse::<u8>()) {
            (Ok(address), Ok(length)) if length.to_string().len() == host_len(host) => {
                prefix(whole, address, length)
            }
            (Err(_), Ok(_)) if is_host_name(address) => {
                let problem = format!(
                    "must be an address when it has a prefix length, not a name: `{whole}`"
                );
                Err(error(whole, problem))
            }
            _ => Err(error(
                whole,
                format!("must be a prefix like 10.1.1.0/24, not `{whole}`"),
            )),
        };
    }
    // A name is no address, and it is quickly seen that it cannot be one.
    let may_be =
        address.as_bytes().contains(&b':') || address.starts_with(|c: char| c.is_ascii_digit());
    if let Some(address) = may_be.then(|| address.parse::<IpAddr>().ok()).flatten() {
        return prefix(whole, address, if address.is_ipv4() { 32 } else { 128 });
    }
    if host.starts_with('[') {
        return Err(error(
            whole,
            format!("must have an IPv6 address in the brackets: `{whole}`"),
        ));
    }
    match host.strip_prefix("*.") {
        Some(suffix) => parse_suffix(whole, suffix),
        None => parse_name(whole, host),
    }
}

/// How many digits the prefix length has as it is written: `/024` is refused.
fn host_len(host: &str) -> usize {
    host.trim_end_matches(']')
        .rsplit_once('/')
        .map_or(0, |(_, length)| length.len())
}

/// `[2001:db8::1]` and `[2001:db8::]/32` without the brackets; also `[2001:db8::/32]`.
fn unbracketed(host: &str) -> Cow<'_, str> {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) if rest.is_empty() || rest.starts_with('/') => {
            Cow::Owned(format!("{inner}{rest}"))
        }
        _ => Cow::Borrowed(host),
    }
}

fn prefix(whole: &str, address: IpAddr, length: u8) -> Result<Peer, EntryError> {
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err(error(
            whole,
            format!("must be written as an IPv4 address: `{whole}`"),
        ));
    }
    let Ok(net) = IpNet::new(address, length) else {
        let most = if address.is_ipv4() { 32 } else { 128 };
        return Err(error(
            whole,
            format!("must have a prefix length of {most} at most: `{whole}`"),
        ));
    };
    if net.trunc() != net {
        let problem = format!(
            "must begin at the first address of the prefix: {}, not `{whole}`",
            net.trunc()
        );
        return Err(error(whole, problem));
    }
    Ok(Peer::Net(net))
}

fn parse_name(whole: &str, host: &str) -> Result<Peer, EntryError> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if matches!(name.as_str(), "*" | "any" | "all") {
        let problem = format!(
            "must be a destination; for all of them write 0.0.0.0/0 and ::/0, not `{host}`"
        );
        return Err(error(whole, problem));
    }
    if !name.is_ascii() {
        return Err(error(
            whole,
            format!("must be written with xn-- when it is not ASCII: `{whole}`"),
        ));
    }
    if name
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-')
    {
        let problem = format!("must be a host name, address or prefix; `{whole}` is none of these");
        return Err(error(whole, problem));
    }
    if !is_host_name(&name) {
        let problem =
            format!("must be a host name, address or prefix, then :port if wanted, not `{whole}`");
        return Err(error(whole, problem));
    }
    Ok(Peer::Host(name))
}

/// `*.example.org`: a star for one label or several, and nowhere else.
fn parse_suffix(whole: &str, suffix: &str) -> Result<Peer, EntryError> {
    let Ok(Peer::Host(suffix)) = parse_name(whole, suffix) else {
        let problem = format!(
            "must have a name behind the star, like *.example.org, and no other star: `{whole}`"
        );
        return Err(error(whole, problem));
    };
    Ok(Peer::Suffix(suffix))
}

/// RFC 1123, 2.1, and the underscores that people use. The last label is not a number: what looks
/// like an address and is none shall not be asked of a name server.
fn is_host_name(name: &str) -> bool {
    let label = |label: &[u8]| {
        let good = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        let is_inside = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
        label.len() <= 63
            && is_inside(label.first())
            && is_inside(label.last())
            && label.iter().all(good)
    };
    let mut labels = name.as_bytes().split(|b| *b == b'.');
    let last = name.as_bytes().rsplit(|b| *b == b'.').next();
    let is_number = last.is_some_and(|last| last.iter().all(u8::is_ascii_digit));
    name.len() <= 253 && labels.all(label) && !is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry in one line.
    fn shown(text: &str) -> Vec<String> {
        parse_entry("n", text)
            .unwrap()
            .iter()
            .map(|entry| {
                let peer = match &entry.peer {
                    Peer::Net(net) => net.to_string(),
                    Peer::Host(name) => name.clone(),
                    Peer::Suffix(suffix) => format!("*.{suffix}"),
                };
                let ports: Vec<_> = entry
                    .ports
                    .iter()
                    .map(|range| format!("{}-{}", range.first, range.last))
                    .collect();
                format!("{peer} {} {:?}", ports.join(","), entry.protocol)
            })
            .collect()
    }

    #[test]
    fn everything_is_no_name_however_it_is_written() {
        for text in ["*", "any", "all", "All", "ANY.", "all:80/tcp"] {
            let error = parse_entry("n", text).unwrap_err().to_string();
            assert!(error.contains("0.0.0.0/0 and ::/0"), "{text}: {error}");
        }
    }

    #[test]
    fn destinations_of_every_shape() {
        for (text, expected) in [
            (
                "mysql.example.org:3306",
                vec!["mysql.example.org 3306-3306 None"],
            ),
            ("10.1.1.0/24", vec!["10.1.1.0/24  None"]),
            ("10.1.1.9", vec!["10.1.1.9/32  None"]),
            ("DB.Example.org.", vec!["db.example.org  None"]),
            (
                "[2001:db8::1]:80,443",
                vec!["2001:db8::1/128 80-80,443-443 None"],
            ),
            ("2001:db8::/32", vec!["2001:db8::/32  None"]),
            (
                "[2001:db8::]/32:53/udp",
                vec!["2001:db8::/32 53-53 Some(Udp)"],
            ),
            ("[2001:db8::/32]:53", vec!["2001:db8::/32 53-53 None"]),
            ("2001:db8::1", vec!["2001:db8::1/128  None"]),
            (
                "10.0.0.0/8:8000-8099/tcp",
                vec!["10.0.0.0/8 8000-8099 Some(Tcp)"],
            ),
            ("10.0.0.1/icmp", vec!["10.0.0.1/32  Some(Icmp)"]),
            (
                "a:80,443/tcp b",
                vec!["a 80-80,443-443 Some(Tcp)", "b  None"],
            ),
            (
                "a:80,b:443,c",
                vec!["a 80-80 None", "b 443-443 None", "c  None"],
            ),
            ("a, b ,\n c", vec!["a  None", "b  None", "c  None"]),
            (
                "a:1-2,3-4,10.0.0.1",
                vec!["a 1-2,3-4 None", "10.0.0.1/32  None"],
            ),
            ("0.0.0.0/0 ::/0", vec!["0.0.0.0/0  None", "::/0  None"]),
            ("my_db", vec!["my_db  None"]),
            (
                "*.Example.org.:443/tcp *.a:80,443",
                vec!["*.example.org 443-443 Some(Tcp)", "*.a 80-80,443-443 None"],
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_refused_says_what_it_must_be() {
        for (text, expected) in [
            ("", "must be a destination"),
            ("*.", "behind the star"),
            ("*.*.example.org", "no other star"),
            ("*.10.1", "behind the star"),
            ("a.*.example.org", "must be a host name"),
            ("*example.org", "must be a host name"),
            ("*", "0.0.0.0/0"),
            ("http://a/b", "not a URL"),
            ("10.1.1.5/24", "10.1.1.0/24"),
            ("10.1.1", "none of these"),
            ("256.1.1.1", "none of these"),
            ("a.1", "must be a host name"),
            ("10.0.0.0/33", "32 at most"),
            ("10.0.0.0/024", "must be a prefix"),
            ("a/24", "not a name"),
            ("a:0", "from 1 to 65535"),
            ("a:", "from 1 to 65535"),
            ("a:9-1", "from 1 to 65535"),
            ("a:99999", "from 1 to 65535"),
            ("a:+80", "from 1 to 65535"),
            ("a:80/sctp", "/tcp, /udp or /icmp"),
            ("a:80/icmp", "must not have a port"),
            (":80", "none of these"),
            ("a:80, 443", "none of these"),
            ("[a]:80", "IPv6 address in the brackets"),
            ("[2001:db8::1", "IPv6 address in the brackets"),
            ("::ffff:10.0.0.1", "IPv4 address"),
            ("-a", "must be a host name"),
            ("a..b", "must be a host name"),
            ("bücher.example", "xn--"),
            ("a;b", "must be a host name"),
        ] {
            let error = parse_entry("n", text).expect_err(text);
            assert!(
                error.problem.contains(expected),
                "{text}: {}",
                error.problem
            );
        }
    }

    #[test]
    fn a_star_covers_names_below_and_not_the_name_itself() {
        let peer = Peer::Suffix("example.org".to_owned());
        for name in ["a.example.org", "a.b.example.org", "_x.example.org"] {
            assert!(peer.covers_name(name), "{name}");
        }
        for name in [
            "example.org",
            ".example.org",
            "badexample.org",
            "example.org.evil",
            "",
        ] {
            assert!(!peer.covers_name(name), "{name}");
        }
        assert_eq!(peer.written_name().as_deref(), Some("*.example.org"));
    }
}
