//! Which sockets of a network listen, from `/proc/<pid>/net`. Looking instead of connecting: no
//! application has to put up with connections that say nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses at which something listens on `port` in the network of the process `pid`.
///
/// A process that is just ending has none; the next report says so.
pub(super) fn listening(pid: i32, port: u16) -> Vec<SocketAddr> {
    let tables = ["tcp", "tcp6"].map(|table| format!("/proc/{pid}/net/{table}"));
    let texts = tables.map(|path| std::fs::read_to_string(path).unwrap_or_default());
    texts.iter().flat_map(|text| in_table(text, port)).collect()
}

/// Reads `/proc/net/tcp` or `tcp6` (proc_pid_net(5)): state 0A is LISTEN.
fn in_table(table: &str, port: u16) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let (Some(local), Some(_), Some("0A")) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Some((address, number)) = local.rsplit_once(':') else {
            continue;
        };
        if u16::from_str_radix(number, 16) == Ok(port)
            && let Some(address) = address_of(address)
        {
            found.push(SocketAddr::new(address, port));
        }
    }
    found
}

/// An address as these tables have it: words of 32 bits in the order of the machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let text = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue\n   \
        0: 00000000:0050 00000000:0000 0A 00000000:00000000\n   \
        1: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
        2: 0200000A:0016 0300000A:D431 01 00000000:00000000\n";

    fn found(table: &str, port: u16) -> Vec<String> {
        let found = in_table(table, port);
        found.iter().map(|at| at.ip().to_string()).collect()
    }

    #[test]
    fn sockets_that_listen_are_found() {
        assert_eq!(found(TCP, 80), ["0.0.0.0"]);
        assert_eq!(found(TCP, 8080), ["127.0.0.1"]);
        assert!(found(TCP, 22).is_empty());
        let six = "  sl\n   0: 00000000000000000000000001000000:0050 0:0000 0A\n";
        assert_eq!(found(six, 80), ["::1"]);
        let any = "  sl\n   0: 00000000000000000000000000000000:0050 0:0000 0A\n";
        assert_eq!(found(any, 80), ["::"]);
        // Java listens so when it prefers IPv4 but has an IPv6 socket.
        let mapped = "  sl\n   0: 0000000000000000FFFF00000100007F:0050 0:0000 0A\n";
        assert_eq!(found(mapped, 80), ["127.0.0.1"]);
    }
}
