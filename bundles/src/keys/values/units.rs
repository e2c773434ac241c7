//! What service managers are told: sockets, and settings of units.

use std::net::SocketAddr;

use super::{Parsed, list, port};

/// The most sockets of a daemon.
const MOST: usize = 16;

/// TCP sockets: ports, or addresses with a port.
pub fn sockets(text: &str) -> Parsed<Vec<String>> {
    let mut found = Vec::new();
    for word in list(text) {
        let known = port(word).is_ok()
            || word
                .parse::<SocketAddr>()
                .is_ok_and(|address| address.port() != 0);
        if !known {
            return Err(format!(
                "must be ports, or addresses with a port such as 127.0.0.1:80 and [::1]:80; `{word}` is neither"
            ));
        }
        if found.iter().any(|one| one == word) {
            return Err(format!(
                "must have each socket once; {word} stands there twice"
            ));
        }
        found.push(word.to_owned());
    }
    match found.len() {
        0 => Err("must be a port such as 8080".to_owned()),
        1..=MOST => Ok(found),
        _ => Err(format!("must be {MOST} sockets at most")),
    }
}

/// The value of a setting of a unit: more lines than one would be more settings than one.
pub fn unit_setting(text: &str) -> Parsed<()> {
    match text.chars().any(char::is_control) {
        true => Err("must be one line".to_owned()),
        false => Ok(()),
    }
}

/// The name of a setting of a unit: `LimitNOFILE`.
pub fn unit_key(name: &str) -> Parsed<()> {
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_uppercase());
    match begins && name.chars().all(|c| c.is_ascii_alphanumeric()) {
        true => Ok(()),
        false => Err("must be called as systemd has it, such as LimitCORE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_ports_and_addresses() {
        let found = sockets("80, 127.0.0.1:81 [::1]:82").unwrap();
        assert_eq!(found, ["80", "127.0.0.1:81", "[::1]:82"]);
        for wrong in [
            "",
            "0",
            "/run/x",
            "localhost:80",
            "127.0.0.1:0",
            "80 80",
            "%n",
        ] {
            assert!(sockets(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_of_units_are_one_line() {
        assert!(unit_setting("a b %n").is_ok() && unit_setting("").is_ok());
        assert!(unit_setting("a\nExecStart=/bin/sh").is_err());
        assert!(unit_key("LimitNOFILE").is_ok());
        for wrong in ["", "limit", "X-Y", "A=B", "A\n"] {
            assert!(unit_key(wrong).is_err(), "{wrong}");
        }
    }
}
