//! The part of the control group trees that a runtime without privileges may use.
//!
//! A user owns what was delegated to him (cgroups(7), "Cgroups delegation"): systemd gives each
//! session of a user a v2 subtree. The [`Layout`] of such a runtime has these directories in
//! place of the mount points, so that the same plan works below them.

use super::{CgroupError, Hierarchy, Layout, Unified};
use oci_spec::runtime::LinuxResources;
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::fs;
use std::path::{Path, PathBuf};

impl Layout {
    /// Look at the calling process's own `/proc` files, and keep what this process may make
    /// cgroups in. `None` when that is nothing.
    ///
    /// # Errors
    /// As [`Layout::detect`]; a host without any cgroup file system is `None` too.
    pub fn detect_delegated() -> Result<Option<Self>, CgroupError> {
        match Self::detect() {
            Ok(layout) => layout.delegated(),
            Err(CgroupError::NotMounted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What this process may make cgroups in: everything as root, else what was delegated to it.
    ///
    /// # Errors
    /// As [`Layout::detect`]; [`CgroupError::NotDelegated`] when there is nothing.
    pub fn of_this_process() -> Result<Self, CgroupError> {
        let uid = rustix::process::geteuid();
        if uid.is_root() {
            return Self::detect();
        }
        let nothing = CgroupError::NotDelegated { uid: uid.as_raw() };
        Self::detect_delegated()?.ok_or(nothing)
    }

    fn delegated(self) -> Result<Option<Self>, CgroupError> {
        let (v1, v2) = match self {
            Self::V1(v1) => (v1, None),
            Self::V2(v2) => (Vec::new(), Some(v2)),
            Self::Hybrid(v1, v2) => (v1, Some(v2)),
        };
        let v1: Vec<Hierarchy> = v1.into_iter().filter_map(delegated_hierarchy).collect();
        let v2 = v2.map(delegated_unified).transpose()?.flatten();
        Ok(match (v1.is_empty(), v2) {
            (true, None) => None,
            (true, Some(v2)) => Some(Self::V2(v2)),
            (false, None) => Some(Self::V1(v1)),
            (false, Some(v2)) => Some(Self::Hybrid(v1, v2)),
        })
    }
}

fn delegated_hierarchy(mut hierarchy: Hierarchy) -> Option<Hierarchy> {
    let own = place(
        &hierarchy.mount_point,
        &hierarchy.root,
        hierarchy.own.as_deref()?,
    )?;
    if !may_write(&own) || !may_write(&own.join("tasks")) {
        return None;
    }
    hierarchy.root = hierarchy.own.clone()?;
    hierarchy.mount_point = own;
    Some(hierarchy)
}

/// On v2 a cgroup with processes in it cannot hand controllers down (cgroups(7), "no internal
/// processes" rule), and a process can only be moved below a common ancestor that is writable. So
/// it is the nearest writable cgroup without processes, or else the process's own.
fn delegated_unified(mut unified: Unified) -> Result<Option<Unified>, CgroupError> {
    let Some(own) = unified
        .own
        .as_deref()
        .and_then(|own| place(&unified.mount_point, &unified.root, own))
    else {
        return Ok(None);
    };
    let usable = |dir: &Path| may_write(dir) && may_write(&dir.join("cgroup.procs"));
    let candidates = own
        .ancestors()
        .take_while(|dir| dir.starts_with(&unified.mount_point) && usable(dir));
    let mut chosen: Option<PathBuf> = None;
    for dir in candidates {
        let empty = fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|t| t.is_empty());
        if chosen.is_none() || empty {
            chosen = Some(dir.to_owned());
        }
        if empty {
            break;
        }
    }
    let Some(chosen) = chosen else {
        return Ok(None);
    };
    if let Ok(below) = chosen.strip_prefix(&unified.mount_point) {
        unified.root = unified.root.join(below);
    }
    unified.mount_point = chosen;
    unified.read_controllers()?;
    Ok(Some(unified))
}

/// Where a cgroup of the hierarchy is seen, if it is.
fn place(mount_point: &Path, root: &Path, cgroup: &Path) -> Option<PathBuf> {
    let below = cgroup.strip_prefix(root).ok()?;
    // A path with `..` is outside of what is seen (cgroup_namespaces(7)).
    let plain = below
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    plain.then(|| mount_point.join(below))
}

fn may_write(path: &Path) -> bool {
    accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

/// Whether these resources ask for anything that needs a cgroup. Device rules do not count: a
/// runtime without privileges cannot make device nodes either, and cannot enforce rules.
pub fn asks_for_limits(resources: &LinuxResources) -> bool {
    let mut without = resources.clone();
    without.set_devices(None);
    match serde_json::to_value(&without) {
        Ok(value) => says_something(&value),
        Err(_) => true,
    }
}

/// Nothing, `false`, 0 and -1 are what engines send for "no limit".
fn says_something(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => !matches!(number.as_i64(), Some(0 | -1)),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => list.iter().any(says_something),
        Value::Object(map) => map.values().any(says_something),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(json: &str) -> bool {
        asks_for_limits(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_engines_send_for_no_limits_asks_for_nothing() {
        assert!(!asks("{}"));
        assert!(!asks(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#));
        assert!(!asks(
            r#"{"memory":{"disableOOMKiller":false},"cpu":{"shares":0},"pids":{"limit":-1},
                "blockIO":{"weight":0,"weightDevice":[]}}"#
        ));
        assert!(asks(r#"{"pids":{"limit":10}}"#));
        assert!(asks(r#"{"cpu":{"cpus":"0"}}"#));
        assert!(asks(r#"{"unified":{"memory.high":"1"}}"#));
    }

    #[test]
    fn places_outside_of_what_is_seen_are_nowhere() {
        let point = Path::new("/sys/fs/cgroup");
        let at = |root, own| place(point, Path::new(root), Path::new(own));
        assert_eq!(at("/", "/a/b"), Some("/sys/fs/cgroup/a/b".into()));
        assert_eq!(at("/a", "/a/b"), Some("/sys/fs/cgroup/b".into()));
        assert_eq!(at("/a", "/b"), None);
        assert_eq!(at("/", "/../b"), None);
    }

    #[test]
    fn the_nearest_writable_cgroup_without_processes_is_used() {
        let tree = tempfile::tempdir().unwrap();
        let make = |dir: &str, procs: &str| {
            let dir = tree.path().join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.procs"), procs).unwrap();
            fs::write(dir.join("cgroup.controllers"), "memory pids\n").unwrap();
        };
        make("user", "");
        make("user/app", "");
        make("user/app/session", "1\n");
        let layout = |own: &str| {
            Layout::V2(Unified {
                mount_point: tree.path().to_owned(),
                root: "/".into(),
                own: Some(own.into()),
                controllers: vec!["cpu".into()],
            })
        };
        let found = layout("/user/app/session").delegated().unwrap().unwrap();
        let unified = found.unified().unwrap();
        assert_eq!(unified.mount_point, tree.path().join("user/app"));
        assert_eq!(unified.root, Path::new("/user/app"));
        assert_eq!(unified.controllers, ["memory", "pids"]);
        assert!(layout("/nowhere").delegated().unwrap().is_none());
    }
}
