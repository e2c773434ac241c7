//! Names of the domain name system, and addresses of its servers.

use std::net::{IpAddr, SocketAddr};

use super::{Parsed, is_usable, list, port};

/// The port of name servers (RFC 1035 section 4.2).
const DNS: u16 = 53;

/// A label: letters, digits and `-`, in lower case (RFC 1123 section 2.1).
pub fn label(text: &str) -> Parsed<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let ends = text.starts_with('-') || text.ends_with('-');
    if text.is_empty() || text.len() > 63 || ends || !text.chars().all(good) {
        return Err(
            "must be one label: letters, digits and `-` inside, 63 at most, like web1".to_owned(),
        );
    }
    Ok(text.to_ascii_lowercase())
}

/// A domain in lower case, without the dot at its end. Labels may have `_` and, as in reverse zones
/// (RFC 2317), `/`.
pub fn domain(text: &str) -> Parsed<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(good);
    // 255 octets on the wire, with the lengths of the labels and the root (RFC 1035 section 2.3.4).
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err("must be a domain such as apps.example.org".to_owned());
    }
    Ok(name.to_ascii_lowercase())
}

/// Domains, each once; `none` is an empty list.
pub fn domains(text: &str) -> Parsed<Vec<String>> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for word in list(text) {
        let name = domain(word)
            .map_err(|_| format!("must be domains or `none`; `{word}` is no domain"))?;
        if !found.contains(&name) {
            found.push(name);
        }
    }
    match found.is_empty() {
        true => Err("must be domains, or `none`".to_owned()),
        false => Ok(found),
    }
}

/// Addresses, each with `:port` or with port 53; in the order in which they are asked.
pub fn name_servers(text: &str) -> Parsed<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for word in list(text) {
        let server = name_server(word)?;
        if !found.contains(&server) {
            found.push(server);
        }
    }
    match found.len() {
        0 => Err("must be the address of a name server, like 192.168.0.53".to_owned()),
        1..=8 => Ok(found),
        _ => Err("must be 8 addresses at most".to_owned()),
    }
}

fn name_server(word: &str) -> Parsed<SocketAddr> {
    let wrong = || {
        format!(
            "must be addresses like 192.168.0.53, 192.168.0.53:5353 or [2001:db8::53]:53; `{word}` is none"
        )
    };
    let bare = word
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(word);
    let server = match (bare.parse::<IpAddr>(), word.rsplit_once(':')) {
        (Ok(address), _) => SocketAddr::new(address, DNS),
        (Err(_), Some((_, number))) => {
            port(number)?;
            word.parse().map_err(|_| wrong())?
        }
        (Err(_), None) => return Err(wrong()),
    };
    // A name server on this server itself is a good one.
    match is_usable(server.ip()) || server.ip().is_loopback() {
        true => Ok(server),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_lower_case_without_a_dot_at_the_end() {
        assert_eq!(domain("Apps.Example.ORG.").unwrap(), "apps.example.org");
        assert_eq!(
            domain("0/26.2.0.192.in-addr.arpa").unwrap(),
            "0/26.2.0.192.in-addr.arpa"
        );
        for wrong in ["", ".", "a..b", "a b", "ä.org", &"a.".repeat(130)] {
            assert!(domain(wrong).is_err(), "{wrong}");
        }
        assert!(domain(&"a".repeat(64)).is_err());
        assert_eq!(domains("none").unwrap(), Vec::<String>::new());
        assert_eq!(domains("a.org, a.org b.org").unwrap(), ["a.org", "b.org"]);
        assert!(domains(",").is_err() && domains("none, a.org").is_ok());
    }

    #[test]
    fn labels_are_parts_of_host_names() {
        assert_eq!(label("Web1").unwrap(), "web1");
        for wrong in ["", "-a", "a-", "a.b", "a_b", &"a".repeat(64)] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn name_servers_have_port_53_unless_said() {
        let text =
            "10.0.0.53 10.0.0.54:5353, 2001:db8::53 [2001:db8::53]:5353 [2001:db8::54] 127.0.0.1";
        let servers: Vec<String> = name_servers(text)
            .unwrap()
            .iter()
            .map(SocketAddr::to_string)
            .collect();
        assert_eq!(
            servers,
            [
                "10.0.0.53:53",
                "10.0.0.54:5353",
                "[2001:db8::53]:53",
                "[2001:db8::53]:5353",
                "[2001:db8::54]:53",
                "127.0.0.1:53"
            ]
        );
        for wrong in [
            "",
            "ns.example.org",
            "10.0.0.53:0",
            "10.0.0.53:x",
            "0.0.0.0",
            "224.0.0.1:53",
        ] {
            assert!(name_servers(wrong).is_err(), "{wrong}");
        }
    }
}
