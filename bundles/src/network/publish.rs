//! `publish = 8080:80 53/udp`: ports of the server that lead to the instance.

use std::fmt;

use super::{Protocol, Published};
use crate::keys::values;

/// At most so many ports of one instance.
const MAX_PORTS: usize = 256;

/// The ports in `text`: `PORT`, or `PORT:INSIDE` where the instance has another one, and `/udp` behind it for UDP.
///
/// # Errors
/// What is wrong with it, as the end of a sentence: "must be ...".
pub fn parse_publish(text: &str) -> Result<Vec<Published>, String> {
    let mut all: Vec<Published> = Vec::new();
    for word in values::list(text) {
        let one = parse(word)?;
        let same = |other: &Published| (other.protocol, other.port) == (one.protocol, one.port);
        if all.iter().any(same) {
            return Err(format!("must not name port {} twice", one.at()));
        }
        if all.len() == MAX_PORTS {
            return Err(format!("must be {MAX_PORTS} ports at most"));
        }
        all.push(one);
    }
    if all.is_empty() {
        return Err("must be ports of the server, like 8080:80 or 53/udp".to_owned());
    }
    Ok(all)
}

fn parse(word: &str) -> Result<Published, String> {
    let (ports, protocol) = match word.rsplit_once('/') {
        None => (word, Protocol::Tcp),
        Some((ports, "tcp")) => (ports, Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some(_) => {
            return Err(format!(
                "must end in /tcp or /udp when it names a protocol: `{word}`"
            ));
        }
    };
    let (port, inside) = ports.split_once(':').unwrap_or((ports, ports));
    match (values::port(port), values::port(inside)) {
        (Ok(port), Ok(inside)) => Ok(Published {
            protocol,
            port,
            inside,
        }),
        _ => Err(format!(
            "must be ports from 1 to 65535, of the server and behind a colon of the instance, like 8080:80, not `{word}`"
        )),
    }
}

impl Published {
    /// The port of the server in words: `8080/tcp`.
    pub fn at(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }
}

/// `8080:80/tcp`.
impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.port, self.inside, self.protocol)
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
            ("10.0.0.1:80:80", "from 1 to 65535"),
            ("80-90", "from 1 to 65535"),
            ("80/icmp", "/tcp or /udp"),
            ("80 80:8080", "port 80/tcp twice"),
        ] {
            let problem = parse_publish(text).expect_err(text);
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        let many: Vec<String> = (1..=257).map(|port| port.to_string()).collect();
        assert!(parse_publish(&many.join(" ")).unwrap_err().contains("256"));
    }
}
