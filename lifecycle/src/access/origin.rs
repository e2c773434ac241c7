//! From where somebody asks: the terminal, and the machine behind it.

use std::fs;
use std::net::IpAddr;

/// The terminal of this process's session, `pts/3`: as the kernel has it, whatever the descriptors are
/// (proc_pid_stat(5), `tty_nr`).
pub(super) fn terminal() -> Option<String> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields = stat.rsplit_once(')')?.1;
    let number: u64 = fields.split_whitespace().nth(4)?.parse().ok()?;
    name_of(number)
}

/// The name of a terminal by its device number (Linux, Documentation/admin-guide/devices.txt).
fn name_of(number: u64) -> Option<String> {
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xfff00);
    match major {
        0 => None,
        4 if minor < 64 => Some(format!("tty{minor}")),
        4 => Some(format!("ttyS{}", minor - 64)),
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => Some(format!("{major}:{minor}")),
    }
}

/// The machine that the session came from: of the server's own record of logins when the terminal is in it, else
/// what `SSH_CONNECTION` says, which sudo passes on where it was told to.
pub(super) fn machine(terminal: Option<&str>) -> Option<String> {
    let recorded = terminal.and_then(|terminal| {
        let records = fs::read("/run/utmp").ok()?;
        host_of(&records, terminal)
    });
    recorded.or_else(|| {
        let connection = std::env::var("SSH_CONNECTION").ok()?;
        let address: IpAddr = connection.split(' ').next()?.parse().ok()?;
        Some(address.to_string())
    })
}

/// The size of a record of utmp(5) on Linux, and of what is read of it.
const RECORD: usize = 384;
const USER_PROCESS: i16 = 7;

fn host_of(records: &[u8], terminal: &str) -> Option<String> {
    records.chunks_exact(RECORD).find_map(|record| {
        let kind = i16::from_ne_bytes([record[0], record[1]]);
        let text = |from: usize, length: usize| {
            let field = &record[from..from + length];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(length);
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        let host = text(76, 256);
        let fits = kind == USER_PROCESS && text(8, 32) == terminal && !host.is_empty();
        fits.then_some(host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_have_names() {
        assert_eq!(name_of(0), None);
        assert_eq!(name_of(0x8803).as_deref(), Some("pts/3"));
        assert_eq!(name_of(0x0401).as_deref(), Some("tty1"));
        assert_eq!(name_of(0x0440).as_deref(), Some("ttyS0"));
    }

    #[test]
    fn the_record_of_logins_is_read() {
        let mut records = vec![0; RECORD * 2 + 5];
        let second = &mut records[RECORD..];
        second[..2].copy_from_slice(&USER_PROCESS.to_ne_bytes());
        second[8..13].copy_from_slice(b"pts/3");
        second[76..88].copy_from_slice(b"198.51.100.7");
        assert_eq!(host_of(&records, "pts/3").as_deref(), Some("198.51.100.7"));
        assert_eq!(host_of(&records, "pts/4"), None);
        assert_eq!(host_of(&records[..100], "pts/3"), None);
    }
}
