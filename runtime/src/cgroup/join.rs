//! Which cgroups one more process of a container joins.

use super::apply::{Joined, open_directory, open_tasks};
use super::{CgroupError, Layout};
use std::path::{Path, PathBuf};

/// The longest path below the container's cgroup, in bytes.
const MAX_PATH: usize = 1024;

/// A cgroup below that of the container, as `exec --cgroup [CONTROLLER[,CONTROLLER...]:]PATH` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Below {
    /// Only in the hierarchies of these; in all when there are none.
    controllers: Vec<String>,
    /// From the container's cgroup on; empty for that itself.
    path: PathBuf,
}

impl Below {
    /// Understands what is said on a command line.
    ///
    /// # Errors
    /// [`CgroupError::BadBelow`] when the path could lead elsewhere.
    pub fn new(text: &str) -> Result<Self, CgroupError> {
        let bad = |why| {
            Err(CgroupError::BadBelow {
                text: text.to_owned(),
                why,
            })
        };
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), text),
        };
        if controllers.iter().any(|name| name.is_empty()) {
            return bad("a controller is missing before the colon");
        }
        if path.is_empty() {
            return bad("it is empty; / is the container's own");
        }
        if path.len() > MAX_PATH || path.chars().any(char::is_control) {
            return bad("it is too long, or has control characters");
        }
        let parts = path.split('/').filter(|part| !part.is_empty());
        if parts.clone().any(|part| part == "." || part == "..") {
            return bad(
                "\".\" and \"..\" are not allowed; it begins at the container's own cgroup",
            );
        }
        Ok(Self {
            controllers: controllers.into_iter().map(str::to_owned).collect(),
            path: parts.collect(),
        })
    }
}

/// The directories to join instead of `directories`, those of the container.
///
/// # Errors
/// For a controller in whose hierarchy the container is not, and for any with cgroup v2.
pub fn below(
    layout: &Layout,
    directories: &[PathBuf],
    wanted: &[Below],
) -> Result<Vec<PathBuf>, CgroupError> {
    if let ([], Some(first)) = (directories, wanted.first()) {
        return Err(CgroupError::BadBelow {
            text: first.path.display().to_string(),
            why: "the container has no cgroup of its own",
        });
    }
    let mut chosen = directories.to_vec();
    for one in wanted {
        if one.controllers.is_empty() {
            for (own, chosen) in directories.iter().zip(&mut chosen) {
                *chosen = own.components().chain(one.path.components()).collect();
            }
        }
        for name in &one.controllers {
            let at = layout.hierarchy(name).and_then(|hierarchy| {
                let own = |path: &PathBuf| path.starts_with(&hierarchy.mount_point);
                directories.iter().position(own)
            });
            let Some(at) = at else {
                return Err(CgroupError::NotInHierarchy {
                    controller: name.clone(),
                    why: match layout {
                        Layout::V2(_) => "cgroup v2 has one tree for all: give the path alone",
                        _ => "the container is in no cgroup of it",
                    },
                });
            };
            chosen[at] = directories[at].join(&one.path);
        }
    }
    Ok(chosen)
}

/// Where the first process of a container is now in the v2 hierarchy: it may have moved on from the
/// cgroup that was made for it, as systemd does.
///
/// # Errors
/// When that cannot be found out.
pub fn of_process(layout: &Layout, pid: i32) -> Result<Option<PathBuf>, CgroupError> {
    let Some(unified) = layout.unified() else {
        return Ok(None);
    };
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = super::apply::read(&path)?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(own.and_then(|own| {
        let below = Path::new(own).strip_prefix(&unified.root).ok()?;
        // Elsewhere than what is seen here.
        let leaves = below.components().any(|part| part.as_os_str() == "..");
        (!leaves).then(|| unified.mount_point.join(below))
    }))
}

/// Opens existing cgroups for another process to join (`exec`).
///
/// # Errors
/// When a directory is gone or cannot be opened.
pub fn open(directories: &[PathBuf]) -> Result<Joined, CgroupError> {
    let mut joined = Joined::default();
    for directory in directories {
        // v1 and v2 differ in this file: v2's is `cgroup.threads`.
        match open_tasks(directory) {
            Ok(tasks) => joined.tasks.push(tasks),
            Err(error)
                if error.is_of_what_is_gone() && directory.join("cgroup.controllers").exists() =>
            {
                joined.directory = Some(open_directory(directory)?);
            }
            Err(CgroupError::Read { source, .. }) => {
                return Err(CgroupError::Join {
                    path: directory.clone(),
                    source,
                });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 1 0:1 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                          31 1 0:2 / /cg/memory rw - cgroup cgroup rw,memory\n";

    fn chosen(wanted: &[&str]) -> Result<Vec<PathBuf>, CgroupError> {
        let layout = Layout::parse(MOUNTS, "2:cpu,cpuacct:/\n1:memory:/\n")?;
        let own = ["/cg/cpu/m/a", "/cg/memory/m/a"].map(PathBuf::from);
        let wanted: Result<Vec<Below>, _> = wanted.iter().map(|text| Below::new(text)).collect();
        below(&layout, &own, &wanted?)
    }

    #[test]
    fn cgroups_below_are_chosen_for_all_or_for_some() {
        for (wanted, cpu, memory) in [
            (&[][..], "/cg/cpu/m/a", "/cg/memory/m/a"),
            (&["/"], "/cg/cpu/m/a", "/cg/memory/m/a"),
            (&["x//y/"], "/cg/cpu/m/a/x/y", "/cg/memory/m/a/x/y"),
            (&["memory:/x"], "/cg/cpu/m/a", "/cg/memory/m/a/x"),
            (
                &["cpu,cpuacct:x", "memory:y"],
                "/cg/cpu/m/a/x",
                "/cg/memory/m/a/y",
            ),
        ] {
            let want = [cpu, memory].map(PathBuf::from);
            assert_eq!(chosen(wanted).unwrap(), want, "{wanted:?}");
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for bad in [
            "",
            "..",
            "a/../../b",
            "./a",
            "cpu:",
            "cpu:..",
            ":x",
            "cpu,:x",
        ] {
            let error = chosen(&[bad]).unwrap_err().to_string();
            assert!(error.contains("bad sub cgroup path"), "{bad}: {error}");
        }
        let error = chosen(&["pids:x"]).unwrap_err().to_string();
        assert!(error.contains("unknown controller \"pids\""), "{error}");
    }
}
