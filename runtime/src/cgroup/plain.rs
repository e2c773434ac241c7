//! The layout of most hosts of today, seen without reading mountinfo.

use std::path::Path;

use super::CgroupError;
use super::layout::{Layout, Unified, parse_own};

/// Where systemd mounts v2.
const PLACE: &str = "/sys/fs/cgroup";
/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP2: rustix::fs::FsWord = 0x6367_7270;

impl Layout {
    /// A host on which no v1 hierarchy is in use and the whole v2 hierarchy is where systemd mounts it. Its
    /// mountinfo need not be read, which takes the longer the more is mounted.
    pub(super) fn of_plain_host(own: &str) -> Result<Option<Self>, CgroupError> {
        let only_v2 = own.starts_with("0::") && own.lines().count() == 1;
        if !only_v2 || !rustix::fs::statfs(PLACE).is_ok_and(|found| found.f_type == CGROUP2) {
            return Ok(None);
        }
        // Only the root of the hierarchy has no type (the kernel's cgroup-v2.rst, "Core Interface Files").
        let part = std::fs::exists(Path::new(PLACE).join("cgroup.type"));
        if !part.is_ok_and(|part| !part) {
            return Ok(None);
        }
        Ok(Some(Self::V2(Unified {
            mount_point: PLACE.into(),
            root: "/".into(),
            own: parse_own(own)?.get("").cloned(),
            controllers: Vec::new(),
        })))
    }
}
