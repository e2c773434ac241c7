//! Names of containers.

use std::fmt;
use std::path::PathBuf;

/// The longest accepted container id, in bytes.
pub const MAX_LEN: usize = 200;

/// A container id: `[A-Za-z0-9_.+-]+`, no leading dot, at most [`MAX_LEN`] bytes.
///
/// An id becomes the name of a directory and part of the names of cgroups, so the check is the
/// defence against `..` in ids (crun 1.28 walked out of its state directory by one): a value of
/// this type is always a single, ordinary path component.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

/// Why a text is not a container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a container id: 1 to {MAX_LEN} of the characters A-Z a-z 0-9 _ . + -, not starting with a dot"
)]
pub struct IdError {
    /// The refused text.
    pub text: String,
}

impl ContainerId {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<ContainerId, IdError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.+-".contains(&b);
        let fits = !text.is_empty() && text.len() <= MAX_LEN && !text.starts_with('.');
        if fits && text.bytes().all(plain) {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(IdError {
                text: text.to_owned(),
            })
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of this container below the runtime's state root.
    pub fn dir(&self, root: &std::path::Path) -> PathBuf {
        root.join(&self.0)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_single_path_components() {
        for good in [
            "a",
            "shop.web",
            "shop.cron.nightly",
            "A_b+c-1.2",
            &"x".repeat(MAX_LEN),
        ] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(MAX_LEN + 1);
        for bad in [
            "", ".", "..", "../x", "a/b", ".hidden", "a b", "a\0", "ä", &long,
        ] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
