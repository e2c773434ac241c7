//! What the runtime opens for the new process before the clone: namespaces to join, and trees
//! that the user of the new process could not reach.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::launch::{LaunchError, ids};
use crate::plan::mounts::{MountKind, MountStep};
use crate::plan::namespaces::flag;
use crate::plan::{Plan, Step};
use crate::rootfs;
use crate::sys::MountAttr;

/// Namespaces to join, in the order of the steps; and the pid namespace to be born into.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Each with its `CLONE_NEW*` flag.
    pub joined: Vec<(OwnedFd, i32)>,
    /// Of the clone.
    pub pid: Option<OwnedFd>,
}

/// Opens the namespaces that `plan` joins.
pub fn namespaces(plan: &Plan) -> Result<Namespaces, LaunchError> {
    let mut opened = Namespaces::default();
    for step in &plan.steps {
        match step {
            Step::Clone {
                join_pid: Some(path),
                ..
            } => opened.pid = Some(namespace(path)?),
            Step::JoinNamespace { kind, path } => {
                if *kind == "mount" && is_own(path) {
                    return Err(LaunchError::OwnMounts { path: path.clone() });
                }
                opened.joined.push((namespace(path)?, flag(kind)));
            }
            _ => {}
        }
    }
    Ok(opened)
}

fn namespace(path: &Path) -> Result<OwnedFd, LaunchError> {
    openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| LaunchError::system(format!("open the namespace {}", path.display()), e))
}

/// Whether the mount namespace is the one that the runtime is in: another root there would be the
/// host's.
fn is_own(path: &Path) -> bool {
    let id = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino()));
    match (id(path), id(Path::new("/proc/thread-self/ns/mnt"))) {
        (Ok(given), Ok(own)) => given == own,
        // Opening it tells what is wrong.
        _ => false,
    }
}

/// Opens the trees of the steps that want it, with the attributes that they shall have: the new
/// process may be allowed neither.
pub fn trees(plan: &Plan) -> Result<Vec<OwnedFd>, LaunchError> {
    let mut trees = Vec::new();
    // What is mounted below them in the container is no business of the host, nor the other way
    // round, unless that is asked for: as for those that the new process opens.
    let host = plan.steps.iter().find_map(|step| match step {
        Step::HostPropagation { flag } => Some(*flag),
        _ => None,
    });
    let host = host.unwrap_or(libc::MS_PRIVATE);
    for step in &plan.steps {
        match step {
            Step::Root {
                path,
                prepared: true,
                ..
            } => trees.push(clone(path, true, host)?),
            Step::Mount(mount) if mount.prepared => trees.push(bind(mount, host)?),
            _ => {}
        }
    }
    Ok(trees)
}

fn clone(path: &Path, recursive: bool, propagation: u64) -> Result<OwnedFd, LaunchError> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL);
    let tree = text.and_then(|text| rootfs::clone_host(&text, recursive));
    tree.and_then(|tree| {
        if propagation != 0 {
            let attr = MountAttr {
                propagation,
                ..MountAttr::default()
            };
            rootfs::change(&tree, &attr, true)?;
        }
        Ok(tree)
    })
    .map_err(|e| LaunchError::system(format!("open the source {}", path.display()), e))
}

fn bind(mount: &MountStep, host: u64) -> Result<OwnedFd, LaunchError> {
    let MountKind::Bind { source, recursive } = &mount.kind else {
        let what = format!("{mount}: open something that is no bind mount");
        return Err(LaunchError::system(what, Errno::INVAL));
    };
    if mount.from_inside {
        let missing = || LaunchError::system(format!("{mount}: map the ids"), Errno::INVAL);
        return ids::namespace(mount.ids.as_ref().ok_or_else(missing)?);
    }
    let tree = clone(source, *recursive, host)?;
    let problem = |what: &str, e: Errno| LaunchError::system(format!("{what}: {mount}"), e);
    rootfs::set_attributes(&tree, &mount.attributes)
        .map_err(|e| problem("set the attributes", e))?;
    if let Some(maps) = &mount.ids {
        let users = ids::namespace(maps)?;
        rootfs::show_ids(&tree, &users, &mount.attributes).map_err(|e| {
            let why = match e {
                Errno::NOSYS => " (needs Linux 5.12)",
                Errno::INVAL => " (the file system cannot be idmapped)",
                _ => "",
            };
            problem(&format!("map the ids{why}"), e)
        })?;
    }
    Ok(tree)
}
