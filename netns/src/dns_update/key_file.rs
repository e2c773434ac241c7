//! A key in a file, as `tsig-keygen` writes it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use metactl_bundles::secrets::Hidden;

use super::tsig::ALGORITHMS;
use super::{DnsError, Key, Name};

/// No file with a key is larger.
const MAX: u64 = 16 * 1024;

impl Key {
    /// Reads a key from a file that only root, or the caller, can read or change.
    ///
    /// # Errors
    /// [`DnsError::Key`] with what is wrong with the file, and nothing of its content.
    pub fn read(path: &Path) -> Result<Key, DnsError> {
        Key::read_file(path).map_err(|why| DnsError::Key {
            path: path.to_owned(),
            why,
        })
    }

    fn read_file(path: &Path) -> Result<Key, String> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|error| error.to_string())?;
        let facts = file.metadata().map_err(|error| error.to_string())?;
        let own = rustix::process::geteuid().as_raw();
        if !facts.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        if facts.uid() != 0 && facts.uid() != own {
            return Err(format!(
                "uid {} could change it; chown root it",
                facts.uid()
            ));
        }
        if facts.mode() & 0o077 != 0 {
            let mode = facts.mode() & 0o7777;
            return Err(format!(
                "others can read it (mode {mode:04o}); chmod 0600 it"
            ));
        }
        let mut text = String::new();
        file.take(MAX)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        Key::parse(&text)
    }

    /// Reads what `tsig-keygen` writes: `key "NAME" { algorithm hmac-sha256; secret "BASE64"; };`, with comments as
    /// named.conf has them.
    ///
    /// # Errors
    /// What is wrong, without anything of the text that could be secret.
    pub fn parse(text: &str) -> Result<Key, String> {
        const LOOKS: &str = "it has to look like `key \"NAME\" { algorithm hmac-sha256; secret \"...\"; };`, as tsig-keygen writes it";
        let words = words(text).ok_or(LOOKS)?;
        let mut words = words.iter().map(String::as_str);
        let (Some("key"), Some(name), Some("{")) = (words.next(), words.next(), words.next())
        else {
            return Err(LOOKS.to_owned());
        };
        let name = Name::parse(name).map_err(|why| format!("the name of the key {why}"))?;
        let (mut algorithm, mut secret) = (None, None);
        loop {
            match words.next() {
                Some("}") => break,
                Some("algorithm") => algorithm = Some(words.next().ok_or(LOOKS)?.to_lowercase()),
                Some("secret") => secret = Some(words.next().ok_or(LOOKS)?),
                _ => return Err(LOOKS.to_owned()),
            }
            if words.next() != Some(";") {
                return Err(LOOKS.to_owned());
            }
        }
        match (words.next(), words.next()) {
            (Some(";") | None, None) => {}
            _ => return Err("there is more in it than one key; leave that one".to_owned()),
        }
        let algorithm = algorithm.ok_or(LOOKS)?;
        let known = ALGORITHMS.iter().find(|(name, _)| *name == algorithm);
        let Some((_, algorithm)) = known else {
            let names = ALGORITHMS.map(|(name, _)| name).join(", ");
            return Err(format!("its algorithm must be one of {names}"));
        };
        let secret = secret.and_then(base64).filter(|bytes| !bytes.is_empty());
        let secret = secret.ok_or("its secret is no base64; make a new key with tsig-keygen")?;
        Ok(Key {
            name,
            algorithm: *algorithm,
            secret: Hidden::from(secret.as_slice()),
        })
    }
}

/// The words of a text in the syntax of named.conf: names, strings without their quotes, `{`, `}` and `;`. Nothing for a
/// string or comment without an end.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if rest.starts_with("/*") {
            rest = rest.split_once("*/")?.1;
            0
        } else if first == '#' || rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '"' {
            let (word, after) = rest[1..].split_once('"')?;
            words.push(word.to_owned());
            rest = after;
            0
        } else if matches!(first, '{' | '}' | ';') {
            words.push(first.to_string());
            1
        } else {
            let ends = |c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"' | '#');
            let end = rest.find(ends).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            end
        };
        rest = rest[end..].trim_start();
    }
    Some(words)
}

/// Base64 with its padding (RFC 4648 section 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 {
        return None;
    }
    for four in digits.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for byte in four {
            let value = ALPHABET.iter().position(|digit| digit == byte)?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * (4 - four.len());
        let [_, bytes @ ..] = bits.to_be_bytes();
        let count = four.len() * 6 / 8;
        // Bits that stand for nothing are zero.
        if bytes[count..].iter().any(|byte| *byte != 0) {
            return None;
        }
        out.extend(&bytes[..count]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::tsig::Algorithm;
    use super::*;

    /// What tsig-keygen of BIND 9.18 writes.
    const FILE: &str = "key \"metactl-web1\" {\n\talgorithm hmac-sha256;\n\tsecret \"o0kRHsyQWSfyKdHO4r4d3HHfZ8xMPyaXkjnYKn7UpZs=\";\n};\n";

    #[test]
    fn files_of_bind_are_read() {
        let found = Key::parse(FILE).unwrap();
        assert_eq!(found.name.as_str(), "metactl-web1");
        assert_eq!(found.algorithm, Algorithm::Sha256);
        assert_eq!(found.secret.bytes().len(), 32);
        assert!(!format!("{found:?}").contains("163"), "the secret is shown");
        let odd = "# mine\n// yes\n/* two\nlines */ key k{secret QUJD;algorithm HMAC-SHA512;}";
        let found = Key::parse(odd).unwrap();
        assert_eq!(
            (found.algorithm, found.secret.bytes()),
            (Algorithm::Sha512, &b"ABC"[..])
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (text, expected) in [
            ("", "look like"),
            ("key a { algorithm hmac-sha256; };", "no base64"),
            (
                "key a { algorithm hmac-md5; secret \"QUJD\"; };",
                "one of hmac-sha224",
            ),
            (
                "key a { algorithm hmac-sha256; secret \"QUJ\"; };",
                "no base64",
            ),
            (
                "key a { algorithm hmac-sha256; secret \"QUJ=D\"; };",
                "no base64",
            ),
            ("key a { secret \"QUJD\"; };", "look like"),
            ("key \"a b\" { secret \"QUJD\"; };", "name of the key"),
            (&format!("{FILE}{FILE}"), "more in it than one"),
            ("key \"a { secret", "look like"),
            ("/* key", "look like"),
        ] {
            let why = Key::parse(text).unwrap_err();
            assert!(
                why.contains(expected) && !why.contains("QUJ"),
                "{text}: {why}"
            );
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dns.key");
        assert!(
            Key::read(&path)
                .unwrap_err()
                .to_string()
                .contains("No such file")
        );
        std::fs::write(&path, FILE).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Key::read(&path).is_ok(), good, "{mode:o}");
        }
        assert!(Key::read(dir.path()).is_err());
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648 section 10.
        for (text, bytes) in [
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        for wrong in [
            "", "Z", "Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9v\n",
        ] {
            assert_eq!(base64(wrong), None, "{wrong:?}");
        }
    }
}
