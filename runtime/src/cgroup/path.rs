//! `linux.cgroupsPath`, checked.

use super::CgroupError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Longest name of one directory (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// Longest whole path that is accepted: room is left for the mount point and a file name.
const PATH_MAX: usize = 3072;

/// A checked `linux.cgroupsPath`: at least one plain component, and nothing that could leave the
/// hierarchy it is joined to.
///
/// An absolute path is taken from the mount point of each hierarchy, as OCI says (config-linux,
/// "Control groups"). A relative one is too: "relative to a runtime-determined location" is the
/// mount point here, as in crun, so that the same text always means the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Check a `linux.cgroupsPath`.
    ///
    /// # Errors
    /// [`CgroupError::BadPath`] for an empty path, `/` alone, `.` or `..` components, control
    /// characters, overlong names and the `slice:prefix:name` form of systemd.
    pub fn new(text: &str) -> Result<Self, CgroupError> {
        let bad = |why| {
            Err(CgroupError::BadPath {
                path: text.to_owned(),
                why,
            })
        };
        if text.bytes().any(|b| b < 0x20 || b == 0x7f) {
            return bad(
                "it contains control characters; use a plain path such as /metactl/app/web",
            );
        }
        if text.matches(':').count() == 2 && !text.contains('/') {
            return bad(
                "the slice:prefix:name form is for systemd's cgroup driver, which is not in use; \
                 give a path such as /metactl/app/web",
            );
        }
        if text.len() > PATH_MAX {
            return bad("it is longer than 3072 bytes; shorten it");
        }
        let mut clean = String::with_capacity(text.len());
        for part in text.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return bad("\".\" and \"..\" are not allowed; write the path out");
            }
            if part.len() > NAME_MAX {
                return bad("a component is longer than 255 bytes; shorten it");
            }
            if !clean.is_empty() {
                clean.push('/');
            }
            clean.push_str(part);
        }
        if clean.is_empty() {
            return bad("it names the root cgroup; name a directory below it");
        }
        Ok(Self(clean))
    }

    /// The path of a container whose configuration says none: one directory, so that nothing else is
    /// made and taken away with each container, with the name that its scope of systemd would have:
    /// who looks for the cgroup of a container by name finds either.
    pub fn of_container(id: &str) -> String {
        // A name of 255 bytes has no room for more.
        match id.len() + "metactl-.scope".len() <= NAME_MAX {
            true => format!("/metactl-{id}.scope"),
            false => format!("/metactl/{id}"),
        }
    }

    /// The directory below the given mount point.
    pub fn under(&self, mount_point: &Path) -> PathBuf {
        mount_point.join(&self.0)
    }

    /// Number of components, at least 1.
    pub fn depth(&self) -> usize {
        self.0.split('/').count()
    }

    /// The directories from just below the mount point down to the cgroup itself.
    pub fn chain(&self, mount_point: &Path) -> Vec<PathBuf> {
        let mut at = mount_point.to_path_buf();
        let mut chain = Vec::new();
        for part in self.0.split('/') {
            at.push(part);
            chain.push(at.clone());
        }
        chain
    }
}

/// Whether a cgroup directory is, or is below, one that only metactl makes: `metactl...`. Such
/// directories go with their last user, whoever of them made them.
pub fn is_ours(directory: &Path) -> bool {
    directory
        .components()
        .any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"metactl"))
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_normalised() {
        for (text, want) in [
            ("/metactl/app/web", "/metactl/app/web"),
            ("metactl//app/", "/metactl/app"),
            ("/a:b", "/a:b"),
            ("/x..y/...", "/x..y/..."),
        ] {
            assert_eq!(CgroupPath::new(text).unwrap().to_string(), want);
        }
        let path = CgroupPath::new("/a/b/c").unwrap();
        assert_eq!(path.depth(), 3);
        assert_eq!(
            path.under(Path::new("/cg/memory")),
            Path::new("/cg/memory/a/b/c")
        );
        assert_eq!(path.chain(Path::new("/cg"))[1], Path::new("/cg/a/b"));
    }

    #[test]
    fn paths_that_could_escape_are_refused() {
        let long = format!("/{}", "x".repeat(256));
        for text in [
            "",
            "/",
            "//",
            "..",
            "/../x",
            "/a/../../b",
            "a/./b",
            "/a\nb",
            "/a\0b",
            "s:p:n",
            &long,
        ] {
            assert!(CgroupPath::new(text).is_err(), "{text:?} was accepted");
        }
    }
}
