//! What the runtime opens for the new process before the clone: namespaces to join, and trees
//! that the user of the new process could not reach.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, openat};
use rustix::io::Errno;

use crate::Error;
use crate::launch::signals::Signals;
use crate::launch::trees::{self, Trees, Way};
use crate::launch::{LaunchError, ids};
use crate::network::NSFS;
use crate::plan::mounts::{MountKind, MountStep};
use crate::plan::namespaces::flag;
use crate::plan::{Plan, Step, sysctl};
use crate::rootfs;
use crate::sys::{self, MountAttr};

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
            } => opened.pid = Some(namespace("pid", path)?),
            Step::JoinNamespace { kind, path } => {
                let joined = namespace(kind, path)?;
                if is_own(kind, &joined) {
                    unless_changed(plan, kind, path)?;
                }
                opened.joined.push((joined, flag(kind)));
            }
            _ => {}
        }
    }
    Ok(opened)
}

/// What a path may be at which a namespace is said to be: anything, and nothing that may keep the runtime waiting
/// (a fifo), or become its terminal.
pub fn namespace(kind: &'static str, path: &Path) -> Result<OwnedFd, LaunchError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty())
        .map_err(|e| LaunchError::system(format!("open the namespace {}", path.display()), e))?;
    let is_one = fstatfs(&file).is_ok_and(|fs| fs.f_type == NSFS);
    let found = match is_one {
        true => sys::namespace_kind(&file).ok(),
        false => None,
    };
    if found == Some(flag(kind)) {
        return Ok(file);
    }
    Err(LaunchError::NoNamespace {
        kind,
        path: path.to_owned(),
        found: match is_one {
            true => "a namespace of another kind",
            false => "no namespace at all",
        },
    })
}

/// What the files of `/proc/<pid>/ns` are called.
fn file_name(kind: &str) -> &str {
    match kind {
        "mount" => "mnt",
        "network" => "net",
        other => other,
    }
}

/// Whether a namespace is the one that the runtime is in.
fn is_own(kind: &str, joined: &OwnedFd) -> bool {
    let own = std::fs::metadata(format!("/proc/thread-self/ns/{}", file_name(kind)));
    match (fstat(joined), own) {
        (Ok(joined), Ok(own)) => (joined.st_dev, joined.st_ino) == (own.dev(), own.ino()),
        // What cannot be found out counts as the host's.
        _ => true,
    }
}

/// Fails when the container would change a namespace that is the runtime's own: what is refused to one that has no
/// such namespace must not be had by its path.
fn unless_changed(plan: &Plan, kind: &'static str, path: &Path) -> Result<(), LaunchError> {
    if kind == "mount" {
        // Another root there would be the host's.
        return Err(LaunchError::OwnMounts {
            path: path.to_owned(),
        });
    }
    let changes = |step: &Step| match step {
        Step::Sysctl { path, .. } => sysctl::namespace_of(path) == Some(kind),
        Step::NetDevice { .. } => kind == "network",
        Step::Hostname(_) | Step::Domainname(_) => kind == "uts",
        _ => false,
    };
    match plan.steps.iter().find(|step| changes(step)) {
        Some(step) => Err(LaunchError::OwnNamespace {
            kind,
            path: path.to_owned(),
            step: step.to_string(),
        }),
        None => Ok(()),
    }
}

/// Why a tree is not there.
enum Unopened {
    /// This kernel has not the calls for it.
    Old(Way),
    Failed(LaunchError),
}

impl From<LaunchError> for Unopened {
    fn from(error: LaunchError) -> Unopened {
        Unopened::Failed(error)
    }
}

/// Opens the trees of the steps that want it, with the attributes that they shall have: the new
/// process may be allowed neither.
pub fn trees(plan: &Plan, signals: Option<&mut Signals>) -> Result<Trees, Error> {
    // What is mounted below them in the container is no business of the host, nor the other way
    // round, unless that is asked for: as for those that the new process opens.
    let host = plan.steps.iter().find_map(|step| match step {
        Step::HostPropagation { flag } => Some(*flag),
        _ => None,
    });
    let host = host.unwrap_or(libc::MS_PRIVATE);
    // Nothing of this may take the older ways of `rootfs`: they would mount on the host.
    match directly(plan, host) {
        Ok(opened) => Ok(Trees::opened(opened)),
        Err(Unopened::Failed(error)) => Err(error.into()),
        Err(Unopened::Old(way)) => trees::by_helper(plan, host, way, signals),
    }
}

fn directly(plan: &Plan, host: u64) -> Result<Vec<OwnedFd>, Unopened> {
    let mut trees = Vec::new();
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

fn clone(path: &Path, recursive: bool, propagation: u64) -> Result<OwnedFd, Unopened> {
    let problem = |e| LaunchError::system(format!("open the source {}", path.display()), e);
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| problem(Errno::INVAL))?;
    let tree = match rootfs::clone_detached(&text, recursive) {
        Err(Errno::NOSYS) => return Err(Unopened::Old(Way::InTheContainer)),
        tree => tree.map_err(problem)?,
    };
    if propagation != 0 {
        let attr = MountAttr {
            propagation,
            ..MountAttr::default()
        };
        set(&tree, &attr, true, problem)?;
    }
    Ok(tree)
}

/// mount_setattr(2), or nothing.
fn set(
    tree: &OwnedFd,
    attr: &MountAttr,
    deep: bool,
    problem: impl FnOnce(Errno) -> LaunchError,
) -> Result<(), Unopened> {
    match sys::mount_setattr(tree, attr, deep) {
        Err(Errno::NOSYS) => Err(Unopened::Old(Way::Aside)),
        result => Ok(result.map_err(problem)?),
    }
}

fn bind(mount: &MountStep, host: u64) -> Result<OwnedFd, Unopened> {
    let MountKind::Bind { source, recursive } = &mount.kind else {
        let what = format!("{mount}: open something that is no bind mount");
        return Err(LaunchError::system(what, Errno::INVAL).into());
    };
    if mount.from_inside {
        let missing = || LaunchError::system(format!("{mount}: map the ids"), Errno::INVAL);
        let maps = mount.ids.as_ref().ok_or_else(missing)?;
        return Ok(ids::namespace(maps)?);
    }
    let tree = clone(source, *recursive, host)?;
    let problem = |what: &str, e: Errno| LaunchError::system(format!("{what}: {mount}"), e);
    match rootfs::apply(&mount.attributes, |attr, deep| {
        sys::mount_setattr(&tree, attr, deep)
    }) {
        Err(Errno::NOSYS) => return Err(Unopened::Old(Way::Aside)),
        set => set.map_err(|e| problem("set the attributes", e))?,
    }
    if let Some(maps) = &mount.ids {
        let users = ids::namespace(maps)?;
        let problem = |why| move |e| problem(&format!("map the ids{why}"), e);
        match rootfs::show_ids(&tree, &users, &mount.attributes) {
            Err(Errno::NOSYS) => return Err(Unopened::Old(Way::Aside)),
            Err(Errno::INVAL) => {
                let why = " (the file system cannot be idmapped)";
                return Err(problem(why)(Errno::INVAL).into());
            }
            shown => shown.map_err(problem(""))?,
        }
    }
    Ok(tree)
}
