//! From `linux.cgroupsPath` and `linux.resources` to a list of steps. Pure: touches nothing.

use super::devices::{self, DeviceRules};
use super::{CgroupError, CgroupPath, Layout, v1, v2};
use oci_spec::runtime::LinuxResources;
use std::fmt;
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The checked `linux.cgroupsPath`.
    pub path: &'a CgroupPath,
    /// `linux.resources` of the container.
    pub resources: Option<&'a LinuxResources>,
    /// Limits of the whole instance (annotation `org.metactl.instance.resources`): they are put
    /// on the parent directory of the container's cgroup.
    pub instance: Option<&'a LinuxResources>,
    /// The container must be in a cgroup even if nothing is asked for, because there is no other
    /// way to find all of its processes (it has no pid namespace of its own).
    pub track: bool,
}

/// One setting of one control file. `choices` are the files that can hold it, the first that the
/// kernel has is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// The name in config.json, for messages.
    pub setting: String,
    /// File names and the value for each.
    pub choices: Vec<(String, String)>,
}

impl Limit {
    /// A setting that only one file can hold.
    pub fn one(setting: String, file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            setting,
            choices: vec![(file.into(), value.to_string())],
        }
    }
}

/// One step of making a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupStep {
    /// Make a directory; it may exist already.
    Create {
        /// The directory.
        directory: PathBuf,
    },
    /// v1 cpuset: a new directory has no CPUs and no memory nodes until it is given some.
    InheritCpuset {
        /// The directory whose empty `cpuset.cpus` and `cpuset.mems` are copied from its parent.
        directory: PathBuf,
    },
    /// v2: enable controllers for the children of a directory.
    Enable {
        /// The directory.
        directory: PathBuf,
        /// Names of the controllers.
        controllers: Vec<String>,
    },
    /// Refuse to go on when more memory is in use already than the new limit allows.
    CheckMemory {
        /// The directory.
        directory: PathBuf,
        /// The name of the setting.
        setting: String,
        /// The new limit in bytes.
        limit: u64,
    },
    /// Write one setting.
    Limit {
        /// The directory.
        directory: PathBuf,
        /// The name in config.json, for messages.
        setting: String,
        /// File name and value; the first file that exists is written.
        choices: Vec<(String, String)>,
    },
    /// v2: load and attach a program that decides on device accesses.
    Devices {
        /// The directory.
        directory: PathBuf,
        /// The eBPF instructions.
        program: Vec<u64>,
    },
    /// v1: open `tasks`, for the child to write `0` to.
    OpenTasks {
        /// The directory.
        directory: PathBuf,
    },
    /// v2: open the directory, for `CLONE_INTO_CGROUP`.
    OpenDirectory {
        /// The directory.
        directory: PathBuf,
    },
}

impl fmt::Display for CgroupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { directory } => write!(f, "create cgroup {}", directory.display()),
            Self::InheritCpuset { directory } => {
                write!(
                    f,
                    "copy cpuset.cpus and cpuset.mems from above to {}",
                    directory.display()
                )
            }
            Self::Enable {
                directory,
                controllers,
            } => {
                write!(
                    f,
                    "enable {} below {}",
                    controllers.join(", "),
                    directory.display()
                )
            }
            Self::CheckMemory {
                directory, limit, ..
            } => {
                write!(
                    f,
                    "check that {} uses no more than {limit} bytes",
                    directory.display()
                )
            }
            Self::Limit {
                directory, choices, ..
            } => {
                let Some((file, value)) = choices.first() else {
                    return Ok(());
                };
                write!(f, "write {value:?} to {}/{file}", directory.display())?;
                for (file, value) in choices.iter().skip(1) {
                    write!(f, ", or {value:?} to {file}")?;
                }
                Ok(())
            }
            Self::Devices { directory, program } => write!(
                f,
                "attach a device program of {} instructions to {}",
                program.len(),
                directory.display()
            ),
            Self::OpenTasks { directory } => write!(f, "join {}", directory.display()),
            Self::OpenDirectory { directory } => write!(f, "clone into {}", directory.display()),
        }
    }
}

/// The steps that make the cgroup of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlan {
    steps: Vec<CgroupStep>,
    directories: Vec<PathBuf>,
    parents: Vec<PathBuf>,
}

impl CgroupPlan {
    /// The steps, in order.
    pub fn steps(&self) -> &[CgroupStep] {
        &self.steps
    }

    /// The cgroup directories of the container, one per hierarchy: what to journal and to store,
    /// and all that [`kill_all`](super::kill_all), [`delete`](super::delete),
    /// [`stats`](super::stats) and [`open`](super::open) need later.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The directories above them that the plan makes if they are not there (below the mount
    /// points, outermost first). Other containers may use them too.
    pub fn parents(&self) -> &[PathBuf] {
        &self.parents
    }
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// Plan the cgroup of a container.
///
/// On v1 only hierarchies in which something is asked for are used; on v2 there is always one
/// directory. A controller is looked for among the v1 hierarchies first and then in v2.
///
/// # Errors
/// A setting that no controller of this host can enforce, or that makes no sense.
pub fn plan(layout: &Layout, request: &Request<'_>) -> Result<CgroupPlan, CgroupError> {
    let own = match request.resources {
        Some(resources) => Wanted::gather(layout, resources, "linux.resources")?,
        None => Wanted::default(),
    };
    let instance = match request.instance {
        Some(resources) => {
            if request.path.depth() < 2 {
                return Err(CgroupError::BadPath {
                    path: request.path.to_string(),
                    why: "limits of an instance need a directory above the container's; \
                          use a path such as /metactl/app/web",
                });
            }
            let wanted = Wanted::gather(layout, resources, INSTANCE)?;
            if wanted.devices.is_some() {
                return Err(CgroupError::Unsupported {
                    setting: format!("{INSTANCE}.devices"),
                    why: "device rules belong to a container, not to an instance".into(),
                });
            }
            wanted
        }
        None => Wanted::default(),
    };
    let mut plan = CgroupPlan::default();
    let tracked = tracking_hierarchy(layout, request.track, &own, &instance);
    for (index, hierarchy) in layout.v1().iter().enumerate() {
        if own.uses(index) || instance.uses(index) || tracked == Some(Home::V1(index)) {
            let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
            plan.v1(
                &hierarchy.mount_point,
                request.path,
                index,
                cpuset,
                &own,
                &instance,
            );
        }
    }
    if let Some(unified) = layout.unified() {
        let pure = matches!(layout, Layout::V2(_));
        if pure || own.uses_v2() || instance.uses_v2() || tracked == Some(Home::V2) {
            plan.v2(&unified.mount_point, request.path, &own, &instance)?;
        }
    }
    Ok(plan)
}

/// How the limits of an instance are called in messages.
const INSTANCE: &str = "annotation org.metactl.instance.resources";

/// The hierarchy in which a setting lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// Index into [`Layout::v1`].
    V1(usize),
    V2,
}

/// Everything asked for one directory, sorted by hierarchy.
#[derive(Default)]
struct Wanted {
    limits: Vec<(Home, Limit)>,
    /// Controllers that must be enabled for it on v2.
    v2_controllers: Vec<String>,
    check_memory: Option<(Home, String, u64)>,
    devices: Option<(Home, DeviceRules)>,
}

impl Wanted {
    fn uses(&self, index: usize) -> bool {
        self.limits.iter().any(|(home, _)| *home == Home::V1(index))
            || matches!(self.devices, Some((Home::V1(i), _)) if i == index)
    }

    fn uses_v2(&self) -> bool {
        self.limits.iter().any(|(home, _)| *home == Home::V2)
            || matches!(self.devices, Some((Home::V2, _)))
    }

    fn gather(layout: &Layout, r: &LinuxResources, at: &str) -> Result<Self, CgroupError> {
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
        let limit = m
            .limit()
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|l| *l > 0);
        if let (Some(true), Some(limit)) = (m.check_before_update(), limit) {
            let home = layout.v1_index("memory").map_or(Home::V2, Home::V1);
            self.check_memory = Some((home, format!("{at}.memory.limit"), limit));
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
            self.limits
                .push((Home::V2, Limit::one(setting, file.clone(), value)));
        }
        Ok(())
    }

    /// The steps that put it on one directory.
    fn steps(&self, home: Home, directory: &Path, steps: &mut Vec<CgroupStep>) {
        if let Some((_, setting, limit)) = self.check_memory.as_ref().filter(|c| c.0 == home) {
            steps.push(CgroupStep::CheckMemory {
                directory: directory.to_owned(),
                setting: setting.clone(),
                limit: *limit,
            });
        }
        for (_, limit) in self.limits.iter().filter(|(h, _)| *h == home) {
            steps.push(CgroupStep::Limit {
                directory: directory.to_owned(),
                setting: limit.setting.clone(),
                choices: limit.choices.clone(),
            });
        }
    }
}

impl Layout {
    fn v1_index(&self, controller: &str) -> Option<usize> {
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

/// With nothing else to do in any hierarchy, choose the cheapest one that can hold the processes.
fn tracking_hierarchy(layout: &Layout, track: bool, own: &Wanted, up: &Wanted) -> Option<Home> {
    let used = [own, up]
        .iter()
        .any(|w| !w.limits.is_empty() || w.devices.is_some());
    if !track || used {
        return None;
    }
    if layout.unified().is_some() {
        return Some(Home::V2);
    }
    ["pids", "freezer", "name=systemd"]
        .iter()
        .find_map(|name| layout.v1_index(name))
        .or((!layout.v1().is_empty()).then_some(0))
        .map(Home::V1)
}

impl CgroupPlan {
    fn v1(
        &mut self,
        mount_point: &Path,
        path: &CgroupPath,
        index: usize,
        cpuset: bool,
        own: &Wanted,
        instance: &Wanted,
    ) {
        let home = Home::V1(index);
        let chain = path.chain(mount_point);
        for (level, directory) in chain.iter().enumerate() {
            self.steps.push(CgroupStep::Create {
                directory: directory.clone(),
            });
            if cpuset {
                self.steps.push(CgroupStep::InheritCpuset {
                    directory: directory.clone(),
                });
            }
            if level + 2 == chain.len() {
                instance.steps(home, directory, &mut self.steps);
            }
        }
        let Some((leaf, above)) = chain.split_last() else {
            return;
        };
        own.steps(home, leaf, &mut self.steps);
        if let Some((_, rules)) = own.devices.as_ref().filter(|(h, _)| *h == home) {
            self.steps
                .extend(
                    rules
                        .v1_lines()
                        .into_iter()
                        .map(|(file, value)| CgroupStep::Limit {
                            directory: leaf.clone(),
                            setting: rules.setting().to_owned(),
                            choices: vec![(file.to_owned(), value)],
                        }),
                );
        }
        self.steps.push(CgroupStep::OpenTasks {
            directory: leaf.clone(),
        });
        self.finish(leaf, above);
    }

    fn v2(
        &mut self,
        mount_point: &Path,
        path: &CgroupPath,
        own: &Wanted,
        instance: &Wanted,
    ) -> Result<(), CgroupError> {
        let chain = path.chain(mount_point);
        let mut everything = own.v2_controllers.clone();
        for name in &instance.v2_controllers {
            if !everything.contains(name) {
                everything.push(name.clone());
            }
        }
        for (level, directory) in chain.iter().enumerate() {
            // The directory above the leaf only has to pass down what the leaf itself uses.
            let is_leaf = level + 1 == chain.len();
            let controllers = if is_leaf {
                &own.v2_controllers
            } else {
                &everything
            };
            let above = if level == 0 {
                mount_point
            } else {
                chain[level - 1].as_path()
            };
            if !controllers.is_empty() {
                self.steps.push(CgroupStep::Enable {
                    directory: above.to_owned(),
                    controllers: controllers.clone(),
                });
            }
            self.steps.push(CgroupStep::Create {
                directory: directory.clone(),
            });
            if level + 2 == chain.len() {
                instance.steps(Home::V2, directory, &mut self.steps);
            }
        }
        let Some((leaf, above)) = chain.split_last() else {
            return Ok(());
        };
        own.steps(Home::V2, leaf, &mut self.steps);
        if let Some((_, rules)) = own.devices.as_ref().filter(|(h, _)| *h == Home::V2)
            && !rules.allows_everything()
        {
            self.steps.push(CgroupStep::Devices {
                directory: leaf.clone(),
                program: devices::program(rules),
            });
        }
        self.steps.push(CgroupStep::OpenDirectory {
            directory: leaf.clone(),
        });
        self.finish(leaf, above);
        Ok(())
    }

    fn finish(&mut self, leaf: &Path, above: &[PathBuf]) {
        self.directories.push(leaf.to_owned());
        self.parents.extend_from_slice(above);
    }
}
