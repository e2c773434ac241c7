//! Entries of the view as mounts.

use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{Mount, MountBuilder};

use crate::view::{Entry, What};

/// One entry as a mount; `tmp` is what `/tmp` is on disk.
pub(super) fn mount(entry: &Entry, tmp: &Path) -> Result<Mount, OciSpecError> {
    let (typ, source, options): (&str, &Path, &[&str]) = match &entry.what {
        What::Proc => ("proc", Path::new("proc"), &["nosuid", "noexec", "nodev"]),
        What::Dev => (
            "tmpfs",
            Path::new("tmpfs"),
            &["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"],
        ),
        What::DevPts => (
            "devpts",
            Path::new("devpts"),
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        What::DevShm => (
            "tmpfs",
            Path::new("shm"),
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        What::DevMqueue => (
            "mqueue",
            Path::new("mqueue"),
            &["nosuid", "noexec", "nodev"],
        ),
        // `bind`, never `rbind`: what is mounted below on the host stays out.
        What::Tmp => ("bind", tmp, &["bind", "rw", "nosuid", "nodev"]),
        What::Bind {
            source,
            writable: true,
        } => ("bind", source.as_path(), &["bind", "rw", "nosuid", "nodev"]),
        What::Bind {
            source,
            writable: false,
        } => ("bind", source.as_path(), &["bind", "ro", "nosuid", "nodev"]),
    };
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    MountBuilder::default()
        .destination(entry.target.clone())
        .typ(typ)
        .source(source)
        .options(options)
        .build()
}
