//! `/etc/hosts` of an instance: the only file that it sees that is written at each start.
//!
//! It is a bind mount, so it is written in place: a new file under its name would not be seen.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use metactl_bundles::network::NetworkSpec;
use metactl_netns::Resolved;
use rustix::fs::OFlags;

use crate::error::{OnPath, Result};
use crate::standalone::needs_resolver;

/// The text: its own names. Where nobody asks the resolver (no network of its own), also those that the
/// accept lists name, with the addresses of the start.
pub(crate) fn text(hostname: &str, spec: &NetworkSpec, names: &Resolved) -> String {
    let addresses = &spec.addresses;
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    if addresses.is_empty() {
        text.push_str(&format!("127.0.1.1 {hostname}\n"));
    }
    for address in addresses {
        text.push_str(&format!("{address} {hostname}\n"));
    }
    if needs_resolver(spec) {
        return text;
    }
    for (name, addresses) in names {
        for address in addresses {
            text.push_str(&format!("{address} {name}\n"));
        }
    }
    text
}

/// Writes the text in place. Readers see the old text or the new one: both fit into one write.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(flags)
            .open(path)?;
        let mut before = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
        if file.read_exact_at(&mut before, 0).is_ok() && before == text.as_bytes() {
            return Ok(());
        }
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    write().on("write", path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_file_stays_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let spec = |address: &str| -> NetworkSpec {
            let open = serde_json::json!({"policy": "accept", "accept": []});
            let spec = serde_json::json!({
                "format": 1, "instance": "a", "mode": "routed", "addresses": [address],
                "out": open, "in": open,
            });
            serde_json::from_value(spec).unwrap()
        };
        let names = Resolved::from([(
            "db.example.org".to_owned(),
            vec!["2001:db8::20".parse().unwrap()],
        )]);
        let mut host = spec("2001:db8::5");
        host.mode = metactl_bundles::network::Mode::Host;
        write(&path, &text("a", &host, &names)).unwrap();
        let before = std::fs::metadata(&path).unwrap().ino();
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written.contains("2001:db8::5 a\n2001:db8::20 db.example.org\n"),
            "{written}"
        );
        // Who can ask the resolver needs no copy.
        for address in ["10.77.0.2", "2001:db8::5"] {
            write(&path, &text("a", &spec(address), &names)).unwrap();
            let written = std::fs::read_to_string(&path).unwrap();
            assert!(written.ends_with(&format!("{address} a\n")), "{written}");
        }
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), before);
    }
}
