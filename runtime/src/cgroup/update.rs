//! New limits for a container that runs: all of them, or none.

use super::apply::{check_memory, read, write_limit};
use super::devices::{self, DeviceRules};
use super::wanted::{Home, Wanted};
use super::{CgroupError, CgroupPath, CgroupPlan, CgroupStep, Layout, freezer};
use oci_spec::runtime::LinuxResources;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// How limits are called in messages and compared with what is given.
const AT: &str = "linux.resources";

/// An update of a running container, planned.
#[derive(Debug)]
pub struct Update {
    steps: Vec<CgroupStep>,
    /// Hierarchies in which the container is not yet: the directories to make, and what to write
    /// there.
    missing: Vec<CgroupPlan>,
    devices: Option<DeviceSteps>,
    directories: Vec<PathBuf>,
}

/// Device rules, the new ones and those that held so far.
#[derive(Debug)]
struct DeviceSteps {
    new: Vec<CgroupStep>,
    old: Vec<CgroupStep>,
}

/// What an update is made from.
#[derive(Debug, Clone, Copy)]
pub struct UpdateRequest<'a> {
    /// The container's directories, one for each hierarchy that it is in.
    pub directories: &'a [PathBuf],
    /// Where it is in each hierarchy.
    pub path: &'a CgroupPath,
    /// What was asked for so far.
    pub old: &'a LinuxResources,
    /// What is asked for from now on, see [`merge`].
    pub new: &'a LinuxResources,
    /// What the caller gave, as JSON: this is written even if it was asked for before.
    pub given: &'a Value,
}

/// Plan an update. Only what was given is written, and what it changes elsewhere (on v2 the limit
/// of swap depends on that of memory).
///
/// # Errors
/// A setting that no controller of this host can enforce, or that makes no sense.
pub fn plan(layout: &Layout, request: &UpdateRequest<'_>) -> Result<Update, CgroupError> {
    let old = Wanted::gather(layout, request.old, AT).unwrap_or_default();
    let mut new = Wanted::gather(layout, request.new, AT)?;
    let devices = match (new.devices.take(), &old.devices) {
        (Some(new), Some(old)) if new != *old => Some(device_steps(layout, request, &new, old)?),
        (Some(new), None) => {
            let all = (new.0, DeviceRules::everything(AT));
            Some(device_steps(layout, request, &new, &all)?)
        }
        _ => None,
    };
    new.limits
        .retain(|limit| is_given(&limit.1.setting, request.given) || !old.limits.contains(limit));
    let mut update = Update {
        steps: Vec::new(),
        missing: Vec::new(),
        devices,
        directories: request.directories.to_vec(),
    };
    for (index, hierarchy) in layout.v1().iter().enumerate() {
        if new.uses(index) {
            let plan = || CgroupPlan::joined_later(hierarchy, index, request.path, &new);
            update.add(&new, Home::V1(index), &hierarchy.mount_point, request, plan);
        }
    }
    if let Some(unified) = layout.unified().filter(|_| new.uses_v2()) {
        let point = &unified.mount_point;
        // A controller may not have been needed so far.
        let plan = CgroupPlan::unified_later(unified, request.path, &new);
        if request.directories.iter().any(|dir| dir.starts_with(point)) {
            let enable = plan.steps().iter();
            let enable = enable.filter(|step| matches!(step, CgroupStep::Enable { .. }));
            update.steps.extend(enable.cloned());
        }
        update.add(&new, Home::V2, point, request, || plan);
    }
    Ok(update)
}

fn device_steps(
    layout: &Layout,
    request: &UpdateRequest<'_>,
    new: &(Home, DeviceRules),
    old: &(Home, DeviceRules),
) -> Result<DeviceSteps, CgroupError> {
    let point = match new.0 {
        Home::V1(index) => layout.v1().get(index).map(|h| &h.mount_point),
        Home::V2 => layout.unified().map(|u| &u.mount_point),
    };
    let mut joined = request.directories.iter();
    let Some(directory) = joined.find(|dir| point.is_some_and(|point| dir.starts_with(point)))
    else {
        return Err(CgroupError::Unsupported {
            setting: format!("{AT}.devices"),
            why: "this container was made without device rules, and its processes may have \
                  devices open already; make a new one"
                .into(),
        });
    };
    let steps = |(home, rules): &(Home, DeviceRules)| match home {
        Home::V1(_) => rules.v1_steps(directory),
        Home::V2 => vec![CgroupStep::Devices {
            directory: directory.clone(),
            program: devices::program(rules),
        }],
    };
    Ok(DeviceSteps {
        new: steps(new),
        old: steps(old),
    })
}

/// Carries out steps about devices.
fn apply_devices(steps: &[CgroupStep]) -> Result<(), CgroupError> {
    steps.iter().try_for_each(|step| match step {
        CgroupStep::Devices { directory, program } => super::apply::attach(directory, program),
        step => write_limit(super::apply::Kernel::Real, step),
    })
}

impl Update {
    fn add(
        &mut self,
        wanted: &Wanted,
        home: Home,
        mount_point: &Path,
        request: &UpdateRequest<'_>,
        plan: impl FnOnce() -> CgroupPlan,
    ) {
        let joined = request.directories.iter();
        match joined.clone().find(|dir| dir.starts_with(mount_point)) {
            Some(directory) => wanted.steps(home, directory, &mut self.steps),
            None => self.missing.push(plan()),
        }
    }

    /// The directories that the container has to be moved into: what to record before
    /// [`Update::apply`].
    pub fn missing(&self) -> &[CgroupPlan] {
        &self.missing
    }

    /// Write all. `members` lists the processes of the container, for hierarchies that it is
    /// not in yet.
    ///
    /// # Errors
    /// The first limit that could not be written; the others have their old values again. Or
    /// [`CgroupError::HalfUpdated`] when that could not be had either.
    pub fn apply(
        &self,
        members: impl Fn() -> std::io::Result<Vec<i32>>,
    ) -> Result<(), CgroupError> {
        for step in &self.steps {
            if let CgroupStep::CheckMemory {
                directory,
                setting,
                check,
            } = step
            {
                check_memory(directory, setting, *check)?;
            }
        }
        // What is made anew touches nobody before its last step, so it comes first.
        for plan in &self.missing {
            plan.apply()?;
        }
        let mut written = Vec::new();
        let result = self.write(&mut written).and_then(|()| {
            self.missing
                .iter()
                .flat_map(CgroupPlan::directories)
                .try_for_each(|directory| freezer::move_all(directory, &members))
        });
        let result = result.and_then(|()| self.change_devices());
        result.map_err(|error| match take_back(&written) {
            lost if lost.is_empty() => error,
            lost => CgroupError::HalfUpdated {
                source: Box::new(error),
                lost,
            },
        })
    }

    /// On v1 the rules are written one by one: nobody is to run into half of them.
    fn change_devices(&self) -> Result<(), CgroupError> {
        let Some(devices) = &self.devices else {
            return Ok(());
        };
        let freeze = freezer::can_freeze(&self.directories)
            && !freezer::is_frozen(&self.directories)
            && freezer::freeze(&self.directories).is_ok();
        let mut result = apply_devices(&devices.new);
        if let Err(source) = result {
            result = Err(match apply_devices(&devices.old) {
                Ok(()) => source,
                Err(_) => CgroupError::HalfUpdated {
                    source: Box::new(source),
                    lost: vec![format!("{AT}.devices")],
                },
            });
        }
        if freeze {
            result.and(freezer::thaw(&self.directories))
        } else {
            result
        }
    }

    fn write(&self, written: &mut Vec<Written>) -> Result<(), CgroupError> {
        let mut refused = Vec::new();
        for step in &self.steps {
            match step {
                CgroupStep::Enable { .. } => super::apply::enable_step(step)?,
                CgroupStep::Limit { .. } => {
                    let before = Written::before(step);
                    match write_limit(super::apply::Kernel::Real, step) {
                        // Limits that bound each other are refused in one order or the other.
                        Err(error) if super::apply::is_invalid(&error) => refused.push(step),
                        result => {
                            result?;
                            written.extend(before);
                        }
                    }
                }
                _ => {}
            }
        }
        for step in refused {
            let before = Written::before(step);
            write_limit(super::apply::Kernel::Real, step)?;
            written.extend(before);
        }
        Ok(())
    }
}

/// What a control file said before it was written.
struct Written {
    path: PathBuf,
    value: String,
    old: String,
}

impl Written {
    fn before(step: &CgroupStep) -> Option<Written> {
        let CgroupStep::Limit {
            directory, choices, ..
        } = step
        else {
            return None;
        };
        choices.iter().find_map(|(file, value)| {
            let path = directory.join(file);
            let old = read(&path).ok()?;
            Some(Written {
                path,
                value: value.clone(),
                old,
            })
        })
    }

    fn take_back(&self) -> bool {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let values = restoring(&file, &self.value, &self.old);
        values
            .iter()
            .all(|value| fs::write(&self.path, value).is_ok())
    }
}

/// Gives the files their old values; those that could not be, in words. Twice, because limits
/// that bound each other may be refused in this order.
fn take_back(written: &[Written]) -> Vec<String> {
    let failed: Vec<&Written> = written.iter().rev().filter(|w| !w.take_back()).collect();
    failed
        .into_iter()
        .filter(|w| !w.take_back())
        .map(|w| format!("{} (was {:?})", w.path.display(), w.old.trim_end()))
        .collect()
}

/// What to write to a file so that it says again what it said. Files with a line for each device
/// take one device at a time.
fn restoring(file: &str, value: &str, old: &str) -> Vec<String> {
    let keyed = file.starts_with("io.")
        || file.ends_with("_device")
        || file == "rdma.max"
        || file == "net_prio.ifpriomap";
    if !keyed {
        let old = old.trim_end();
        return vec![if old.is_empty() { "\n" } else { old }.to_owned()];
    }
    let key = value.split_whitespace().next().unwrap_or_default();
    let line = |line: &&str| line.split_whitespace().next() == Some(key);
    if let Some(line) = old.lines().find(line) {
        return vec![line.to_owned()];
    }
    let unset = match file {
        "io.max" => "rbps=max wbps=max riops=max wiops=max",
        "io.weight" | "io.bfq.weight" => "default",
        "rdma.max" => "hca_handle=max hca_object=max",
        _ => "0",
    };
    // A file that has only a number for all.
    if key == "default" {
        return vec![old.trim_end().to_owned()];
    }
    vec![format!("{key} {unset}")]
}

/// Whether the caller gave this setting: `linux.resources.memory.limit` is `limit` of `memory`,
/// and of lists and maps every element is.
fn is_given(setting: &str, given: &Value) -> bool {
    let Some(name) = setting.strip_prefix(AT).and_then(|n| n.strip_prefix('.')) else {
        return false;
    };
    match name.split_once('.') {
        Some((section, key)) if !section.contains('[') => {
            given.get(section).is_some_and(|s| s.get(key).is_some())
        }
        _ => {
            let section = name.split('[').next().unwrap_or(name);
            given.get(section).is_some()
        }
    }
}

/// Put what is given over what was asked for so far; both are `LinuxResources` as JSON. As in
/// runc: a numeric limit of 0 leaves things as they are, entries of lists for the same device or
/// page size replace each other, and unlimited memory means unlimited swap too, unless that is
/// given. Shares take a container out of SCHED_IDLE.
pub fn merge(old: &mut Value, given: &mut Value) {
    drop_unset(given);
    let has = |value: &Value, section: &str, key: &str| {
        value.get(section).is_some_and(|s| s.get(key).is_some())
    };
    let unlimited = given["memory"]["limit"] == -1;
    if unlimited && !has(given, "memory", "swap") && has(old, "memory", "swap") {
        given["memory"]["swap"] = (-1).into();
    }
    let busy = has(given, "cpu", "shares") && !has(given, "cpu", "idle");
    if busy && old["cpu"]["idle"] == 1 {
        given["cpu"]["idle"] = 0.into();
    }
    // It is about this update alone.
    if let Some(memory) = old.get_mut("memory").and_then(Value::as_object_mut) {
        memory.remove("checkBeforeUpdate");
    }
    overlay(old, given);
}

fn drop_unset(given: &mut Value) {
    let numbers = [
        (
            "memory",
            &["limit", "reservation", "swap", "kernel", "kernelTCP"][..],
        ),
        (
            "cpu",
            &[
                "shares",
                "quota",
                "period",
                "realtimeRuntime",
                "realtimePeriod",
                "cpus",
                "mems",
            ],
        ),
        ("blockIO", &["weight", "leafWeight"]),
    ];
    for (section, keys) in numbers {
        let Some(map) = given.get_mut(section).and_then(Value::as_object_mut) else {
            continue;
        };
        map.retain(|key, value| {
            !(value.is_null() || keys.contains(&key.as_str()) && (*value == 0 || *value == ""))
        });
    }
    if let Some(map) = given.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}

fn overlay(old: &mut Value, given: &Value) {
    match (old, given) {
        (Value::Object(old), Value::Object(given)) => {
            for (key, value) in given {
                match old.get_mut(key) {
                    Some(slot) if key != "devices" => overlay(slot, value),
                    _ => {
                        old.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(old), Value::Array(given)) => {
            for entry in given {
                let same = |o: &&mut Value| {
                    ["major", "minor", "pageSize", "name"]
                        .iter()
                        .all(|key| o.get(key) == entry.get(key))
                };
                // The last of several for the same device is the one that counts.
                match old.iter_mut().rev().find(same) {
                    Some(slot) => overlay(slot, entry),
                    None => old.push(entry.clone()),
                }
            }
        }
        (old, given) => *old = given.clone(),
    }
}

impl CgroupPlan {
    fn joined_later(
        hierarchy: &super::Hierarchy,
        index: usize,
        path: &CgroupPath,
        wanted: &Wanted,
    ) -> CgroupPlan {
        let mut plan = CgroupPlan::default();
        let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
        let none = Wanted::default();
        plan.v1(&hierarchy.mount_point, path, index, cpuset, wanted, &none);
        plan
    }

    fn unified_later(unified: &super::Unified, path: &CgroupPath, wanted: &Wanted) -> CgroupPlan {
        let mut plan = CgroupPlan::default();
        plan.v2(&unified.mount_point, path, wanted, &Wanted::default(), &[]);
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(old: Value, mut given: Value) -> Value {
        let mut old = old;
        merge(&mut old, &mut given);
        old
    }

    #[test]
    fn updates_are_merged_as_runc_does() {
        let old = json!({"memory": {"limit": 5, "swap": 9}, "cpu": {"quota": 1, "period": 2}});
        let new = merged(old.clone(), json!({"cpu": {"quota": 0, "period": 7}}));
        assert_eq!(new["cpu"], json!({"quota": 1, "period": 7}));
        assert_eq!(new["memory"], old["memory"]);
        let new = merged(old.clone(), json!({"memory": {"limit": -1}}));
        assert_eq!(new["memory"], json!({"limit": -1, "swap": -1}));
        let new = merged(json!({}), json!({"memory": {"limit": -1, "kernel": null}}));
        assert_eq!(new["memory"], json!({"limit": -1}));
        let new = merged(json!({"cpu": {"idle": 1}}), json!({"cpu": {"shares": 9}}));
        assert_eq!(new["cpu"], json!({"idle": 0, "shares": 9}));
        let device = |rate: u32| json!({"major": 8, "minor": 0, "rate": rate});
        let list = |rates: &[u32]| {
            let list: Vec<Value> = rates.iter().map(|r| device(*r)).collect();
            json!({"blockIO": {"throttleReadBpsDevice": list}})
        };
        assert_eq!(merged(list(&[1, 2]), list(&[3])), list(&[1, 3]));
        let other =
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 1}]}});
        let new = merged(list(&[1]), other);
        assert_eq!(
            new["blockIO"]["throttleReadBpsDevice"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn what_is_given_is_recognised() {
        let given =
            json!({"memory": {"limit": 1}, "unified": {"cpu.max": "x"}, "pids": {"limit": 0}});
        for (setting, is) in [
            ("linux.resources.memory.limit", true),
            ("linux.resources.memory.swap", false),
            ("linux.resources.unified[\"cpu.max\"]", true),
            ("linux.resources.hugepageLimits[2MB]", false),
            ("linux.resources.pids.limit", true),
        ] {
            assert_eq!(is_given(setting, &given), is, "{setting}");
        }
    }

    #[test]
    fn old_values_are_found_again() {
        let io = "8:0 rbps=1 wbps=max riops=max wiops=max\n";
        assert_eq!(
            restoring("io.max", "8:0 rbps=5", io),
            ["8:0 rbps=1 wbps=max riops=max wiops=max"]
        );
        assert_eq!(
            restoring("io.max", "8:16 rbps=5", io),
            ["8:16 rbps=max wbps=max riops=max wiops=max"]
        );
        assert_eq!(
            restoring("io.weight", "default 5", "default 100\n"),
            ["default 100"]
        );
        assert_eq!(
            restoring("blkio.throttle.read_bps_device", "8:0 5", ""),
            ["8:0 0"]
        );
        assert_eq!(restoring("pids.max", "5", "max\n"), ["max"]);
        assert_eq!(restoring("cpuset.cpus", "0", "\n"), ["\n"]);
    }
}
