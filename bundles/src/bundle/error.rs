//! What can go wrong with bundles.

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostics::Report;

/// Why a bundle could not be composed, written, switched to or read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The configuration does not fit this host or this release. Each diagnostic has its line and
    /// what to do.
    #[error("{0}")]
    Refused(#[from] Report),
    /// A name that cannot be the name of a folder of a bundle.
    #[error("`{name}` cannot be the name of {what}: {reason}")]
    Name {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A path of a placement that depends on where it is looked at from.
    #[error("{} is not a whole path; a bundle needs those", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// A capability that Linux does not have.
    #[error("[sandbox] capabilities: there is no capability `{name}` (see capabilities(7))")]
    Capability {
        /// The name as written.
        name: String,
    },
    /// A part of config.json that its types refuse.
    #[error("config.json: {0}")]
    Oci(#[from] oci_spec::OciSpecError),
    /// Something that JSON cannot hold, a path that is not UTF-8 for example.
    #[error("a file of the bundle cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A step on disk.
    #[error("cannot {doing} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was being done: `write`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// `data/` belongs to somebody else and is not empty.
    #[error(
        "{} belongs to uid {found}, but the instance runs as uid {wanted}; \
         `chown -R {wanted}:{wanted} {}` gives it the data, if they are its own",
        path.display(), path.display()
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who should be.
        wanted: u32,
    },
    /// A bundle on disk that is not what this version of metactl writes.
    #[error("{}: {reason}; `metactl restart` writes a new one", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A bundle that is not there.
    #[error("{}: there is no such bundle", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
}

impl BundleError {
    /// An error of the file system.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
        let path = path.to_path_buf();
        move |source| BundleError::Io {
            doing,
            path,
            source,
        }
    }
}

/// What to do about an error of the file system that people meet.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; nothing was changed: make room (df) and try again",
        io::ErrorKind::QuotaExceeded => "; nothing was changed: raise the quota and try again",
        io::ErrorKind::PermissionDenied => "; metactl needs root for this",
        io::ErrorKind::ReadOnlyFilesystem => "; nothing was changed",
        _ => "",
    }
}
