//! Everything that is asked for one cgroup directory, sorted by the hierarchy that can do it.

use super::devices::DeviceRules;
use super::{CgroupError, CgroupStep, Layout, v1, v2};
use oci_spec::runtime::LinuxResources;
use std::path::Path;

/// One setting of one control file. `choices` are the files that can hold it, the first that the
/// kernel has is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// The name in config.json, for messages.
    pub setting: String,
    /// File names and the value for each.
    pub choices: Vec<(String, String)>,
    /// It need not exist.
    pub optional: bool,
}

impl Limit {
    /// A setting that only one file can hold.
    pub fn one(setting: String, file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            setting,
            choices: vec![(file.into(), value.to_string())],
            optional: false,
        }
    }
}

/// How the limits of an instance are called in messages.
pub(super) const INSTANCE: &str = "annotation org.metactl.instance.resources";

/// A limit that must not be below what is in use (`checkBeforeUpdate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryCheck {
    /// Bytes of memory.
    Memory(u64),
    /// Bytes of memory and swap together.
    MemoryAndSwap(u64),
}

/// The hierarchy in which a setting lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// Index into [`Layout::v1`].
    V1(usize),
    V2,
}

/// Everything asked for one directory, sorted by hierarchy.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub limits: Vec<(Home, Limit)>,
    /// Controllers that must be enabled for it on v2.
    pub v2_controllers: Vec<String>,
    check_memory: Vec<(Home, String, MemoryCheck)>,
    pub devices: Option<(Home, DeviceRules)>,
}

impl Wanted {
    pub(super) fn uses(&self, index: usize) -> bool {
        self.limits.iter().any(|(home, _)| *home == Home::V1(index))
            || matches!(self.devices, Some((Home::V1(i), _)) if i == index)
    }

    pub(super) fn uses_v2(&self) -> bool {
        self.limits.iter().any(|(home, _)| *home == Home::V2)
            || matches!(self.devices, Some((Home::V2, _)))
    }

    pub(super) fn gather(
        layout: &Layout,
        r: &LinuxResources,
        at: &str,
    ) -> Result<Self, CgroupError> {
        let mut wanted = Self::default();
        let w = &mut wanted;
        if let Some(m) = r.memory() {
            w.add(
                layout,
                "memory",
                "memory",
                v1::memory(m, at),
                v2::memory(m, at),
            )?;
            w.check_memory(layout, m, at);
        }
        if let Some(cpu) = r.cpu() {
            w.add(layout, "cpu", "cpu", v1::cpu(cpu, at), v2::cpu(cpu, at))?;
            w.add(
                layout,
                "cpuset",
                "cpuset",
                v1::cpuset(cpu, at),
                v1::cpuset(cpu, at),
            )?;
        }
        if let Some(pids) = r.pids() {
            w.add(
                layout,
                "pids",
                "pids",
                v1::pids(pids, at),
                v1::pids(pids, at),
            )?;
        }
        if let Some(io) = r.block_io() {
            w.add(
                layout,
                "blkio",
                "io",
                v1::block_io(io, at),
                v2::block_io(io, at),
            )?;
        }
        if let Some(pages) = r.hugepage_limits() {
            w.add(
                layout,
                "hugetlb",
                "hugetlb",
                v1::hugetlb(pages, at),
                v2::hugetlb(pages, at),
            )?;
        }
        if let Some(rdma) = r.rdma() {
            w.add(
                layout,
                "rdma",
                "rdma",
                v1::rdma(rdma, at),
                v1::rdma(rdma, at),
            )?;
        }
        if let Some(network) = r.network() {
            let none = || v2::no_network(network, at);
            w.add(layout, "net_cls", "", v1::net_cls(network, at), none())?;
            w.add(layout, "net_prio", "", v1::net_prio(network, at), none())?;
        }
        if let Some(map) = r.unified() {
            w.unified(layout, map, at)?;
        }
        if let Some(rules) = r.devices().as_ref().filter(|rules| !rules.is_empty()) {
            let home = match layout.v1_index("devices") {
                Some(index) => Home::V1(index),
                None if layout.unified().is_some() => Home::V2,
                None => return Err(missing(layout, &format!("{at}.devices"), "devices")),
            };
            w.devices = Some((home, DeviceRules::new(rules, at)?));
        }
        Ok(wanted)
    }

    /// Put the limits of one controller where the controller is.
    fn add(
        &mut self,
        layout: &Layout,
        v1_name: &str,
        v2_name: &str,
        v1_limits: Result<Vec<Limit>, CgroupError>,
        v2_limits: Result<Vec<Limit>, CgroupError>,
    ) -> Result<(), CgroupError> {
        if let Some(index) = layout.v1_index(v1_name) {
            self.limits
                .extend(v1_limits?.into_iter().map(|limit| (Home::V1(index), limit)));
            return Ok(());
        }
        let on_v2 = layout.has_v2(v2_name);
        // A pure v2 host has the better message for what v2 cannot do at all.
        let limits = if on_v2 || matches!(layout, Layout::V2(_)) {
            v2_limits?
        } else {
            v1_limits?
        };
        let Some(first) = limits.first() else {
            return Ok(());
        };
        if !on_v2 {
            let name = if matches!(layout, Layout::V2(_)) {
                v2_name
            } else {
                v1_name
            };
            return Err(missing(layout, &first.setting, name));
        }
        self.need_v2(v2_name);
        self.limits
            .extend(limits.into_iter().map(|limit| (Home::V2, limit)));
        Ok(())
    }

    fn need_v2(&mut self, controller: &str) {
        if !self.v2_controllers.iter().any(|c| c == controller) {
            self.v2_controllers.push(controller.to_owned());
        }
    }

    fn check_memory(&mut self, layout: &Layout, m: &oci_spec::runtime::LinuxMemory, at: &str) {
        if m.check_before_update() != Some(true) {
            return;
        }
        let home = layout.v1_index("memory").map_or(Home::V2, Home::V1);
        let positive = |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok());
        let swap = positive(m.swap()).map(|v| ("swap", MemoryCheck::MemoryAndSwap(v)));
        let limit = positive(m.limit()).map(|v| ("limit", MemoryCheck::Memory(v)));
        for (key, check) in swap.into_iter().chain(limit) {
            if check != MemoryCheck::Memory(0) && check != MemoryCheck::MemoryAndSwap(0) {
                let setting = format!("{at}.memory.{key}");
                self.check_memory.push((home, setting, check));
            }
        }
    }

    /// `linux.resources.unified`: control files of v2 by name.
    fn unified(
        &mut self,
        layout: &Layout,
        map: &std::collections::HashMap<String, String>,
        at: &str,
    ) -> Result<(), CgroupError> {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort();
        for (file, value) in entries {
            let setting = format!("{at}.unified[{file:?}]");
            let controller = v2::controller_of(file).map_err(|why| CgroupError::Unsupported {
                setting: setting.clone(),
                why,
            })?;
            if layout.unified().is_none() {
                return Err(CgroupError::Unsupported {
                    setting,
                    why: "this host has cgroup v1 only; use the settings of linux.resources".into(),
                });
            }
            if let Some(controller) = controller {
                if !layout.has_v2(controller) {
                    return Err(missing(layout, &setting, controller));
                }
                self.need_v2(controller);
            }
            // The kernel takes one line, which is one device, at a time.
            for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let limit = Limit::one(setting.clone(), file.clone(), line);
                self.limits.push((Home::V2, limit));
            }
        }
        Ok(())
    }

    /// The steps that put it on one directory.
    pub(super) fn steps(&self, home: Home, directory: &Path, steps: &mut Vec<CgroupStep>) {
        for (_, setting, check) in self.check_memory.iter().filter(|c| c.0 == home) {
            steps.push(CgroupStep::CheckMemory {
                directory: directory.to_owned(),
                setting: setting.clone(),
                check: *check,
            });
        }
        for (_, limit) in self.limits.iter().filter(|(h, _)| *h == home) {
            steps.push(CgroupStep::Limit {
                directory: directory.to_owned(),
                setting: limit.setting.clone(),
                choices: limit.choices.clone(),
                optional: limit.optional,
            });
        }
    }
}

impl Layout {
    pub(super) fn v1_index(&self, controller: &str) -> Option<usize> {
        self.v1()
            .iter()
            .position(|h| h.controllers.iter().any(|c| c == controller))
    }

    fn has_v2(&self, controller: &str) -> bool {
        self.unified()
            .is_some_and(|u| u.controllers.iter().any(|c| c == controller))
    }
}

fn missing(layout: &Layout, setting: &str, controller: &str) -> CgroupError {
    let mut have: Vec<&str> = layout
        .v1()
        .iter()
        .flat_map(|h| &h.controllers)
        .chain(layout.unified().into_iter().flat_map(|u| &u.controllers))
        .map(String::as_str)
        .collect();
    have.sort_unstable();
    let have = if have.is_empty() {
        "none".to_owned()
    } else {
        have.join(", ")
    };
    CgroupError::MissingController {
        setting: setting.to_owned(),
        controller: controller.to_owned(),
        have: format!("cgroup {}: {have}", layout.name()),
    }
}
