//! Where source comes from.
//!
//! Only git so far. Everything that a repository says (names, messages, paths, contents) is
//! somebody else's, and treated so.

pub(crate) mod command;
mod git;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub(crate) use git::Git;

use crate::error::{LifecycleError, Result};

/// A commit that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// What was asked for.
    pub(crate) tag: String,
    /// The full hash.
    pub(crate) commit: String,
}

impl Revision {
    /// As people say it: `9f2c1e4`.
    pub(crate) fn short(&self) -> &str {
        self.commit.get(..7).unwrap_or(&self.commit)
    }
}

/// Opens the source at `repo`, with a cache below `cache`.
pub(crate) fn open(repo: &str, cache: &Path) -> Result<Git> {
    let scheme = repo.split_once("://").map(|(scheme, _)| scheme);
    match scheme {
        Some("svn" | "svn+ssh" | "svn+http" | "svn+https") => Err(LifecycleError::Unavailable {
            what: format!(
                "Subversion repositories are not available yet: {}",
                metactl_bundles::redact::redact(repo)
            ),
            hint: "git svn clone makes a git repository of it, which metactl can deploy".to_owned(),
        }),
        _ => Git::new(repo, cache.join("git")),
    }
}

/// The name of a place in the cache for a repository: readable, and unlike any other's.
fn cache_name(repo: &str) -> PathBuf {
    // FNV-1a, 128 bits (http://www.isthe.com/chongo/tech/comp/fnv/): not against attackers, who
    // cannot choose what administrators write into [build] repo.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in repo.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let last = repo
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let readable: String = last
        .trim_end_matches(".git")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c))
        .take(32)
        .collect();
    PathBuf::from(format!("{readable}-{hash:032x}"))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn subversion_is_told_apart() {
        let error = open("svn://u:secret@svn.example.org/myapp", Path::new("/c")).unwrap_err();
        assert_eq!(error.class().code(), 69);
        let text = error.to_string();
        assert!(
            text.contains("Subversion") && !text.contains("secret"),
            "{text}"
        );
    }

    #[test]
    fn places_in_the_cache_differ() {
        let name = |repo: &str| cache_name(repo).display().to_string();
        assert!(name("https://git.example.org/myapp.git").starts_with("myapp-"));
        assert_ne!(
            name("https://a.example.org/x.git"),
            name("https://b.example.org/x.git")
        );
        assert!(!name("file:///a/../..").contains('/'));
    }
}
