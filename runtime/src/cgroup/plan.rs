//! From `linux.cgroupsPath` and `linux.resources` to a list of steps. Pure: touches nothing.

use super::wanted::{Home, INSTANCE, Wanted};
use super::{CgroupError, CgroupPath, CgroupStep, Layout, devices};
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
    /// Join every v1 hierarchy that is mounted, and v2 beside them: engines measure and freeze
    /// containers in hierarchies in which nothing is limited.
    pub all: bool,
    /// The runtime has no privileges: it cannot enforce device rules, and its container cannot
    /// make device nodes.
    pub rootless: bool,
}

/// The steps that make the cgroup of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupPlan {
    steps: Vec<CgroupStep>,
    directories: Vec<PathBuf>,
    parents: Vec<PathBuf>,
    inherited: Vec<PathBuf>,
}

impl CgroupPlan {
    /// The container stays in these, which are somebody else's to make, limit and remove.
    pub fn inherited(directories: Vec<PathBuf>) -> Self {
        Self {
            inherited: directories,
            ..Self::default()
        }
    }

    /// Where the container is: what to measure, and what another process of it joins.
    pub fn members(&self) -> &[PathBuf] {
        if self.directories.is_empty() {
            &self.inherited
        } else {
            &self.directories
        }
    }

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
/// On v1 only hierarchies in which something is asked for are used, or all when the request says
/// so; on v2 there is always one directory. A controller is looked for among the v1 hierarchies first and then in v2.
///
/// # Errors
/// A setting that no controller of this host can enforce, or that makes no sense.
pub fn plan(layout: &Layout, request: &Request<'_>) -> Result<CgroupPlan, CgroupError> {
    let mut own = match request.resources {
        Some(resources) => Wanted::gather(layout, resources, "linux.resources")?,
        None => Wanted::default(),
    };
    if request.rootless {
        own.devices = None;
    }
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
        if request.all
            || own.uses(index)
            || instance.uses(index)
            || tracked == Some(Home::V1(index))
        {
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
        if pure || request.all || own.uses_v2() || instance.uses_v2() || tracked == Some(Home::V2) {
            let spare = if request.all {
                unified.controllers.as_slice()
            } else {
                &[]
            };
            plan.v2(&unified.mount_point, request.path, &own, &instance, spare);
        }
    }
    Ok(plan)
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
    pub(super) fn v1(
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
            self.steps.extend(rules.v1_steps(leaf));
        }
        self.steps.push(CgroupStep::OpenTasks {
            directory: leaf.clone(),
        });
        self.finish(leaf, above);
    }

    pub(super) fn v2(
        &mut self,
        mount_point: &Path,
        path: &CgroupPath,
        own: &Wanted,
        instance: &Wanted,
        spare: &[String],
    ) {
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
                    optional: false,
                });
            }
            let spare: Vec<String> = spare
                .iter()
                .filter(|name| !controllers.contains(name))
                .cloned()
                .collect();
            if !spare.is_empty() {
                self.steps.push(CgroupStep::Enable {
                    directory: above.to_owned(),
                    controllers: spare,
                    optional: true,
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
            return;
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
    }

    /// A directory without any limit and nobody in it.
    pub(super) fn bare(mount_point: &Path, path: &CgroupPath) -> Self {
        let chain = path.chain(mount_point);
        let mut plan = Self::default();
        plan.steps
            .extend(chain.iter().map(|directory| CgroupStep::Create {
                directory: directory.clone(),
            }));
        if let Some((leaf, above)) = chain.split_last() {
            plan.finish(leaf, above);
        }
        plan
    }

    fn finish(&mut self, leaf: &Path, above: &[PathBuf]) {
        self.directories.push(leaf.to_owned());
        self.parents.extend_from_slice(above);
    }
}
