//! The plan of a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxResources, Process};

use crate::cgroup::{self, CgroupPath, CgroupPlan, CgroupStep, Layout};
use crate::facts::HostFacts;
use crate::network::NetworkInput;
use crate::plan::mounts::{self, MountKind, MountStep};
use crate::plan::namespaces::{Namespaces, Place};
use crate::plan::process::{self, Around, Birth};
use crate::plan::step::Step;
use crate::plan::{Plan, PlanError, Watch, devices, sysctl};
use crate::request::{LaunchRequest, Mode, Network};
use crate::spec::{Bundle, clean_path};
use crate::sys::MountAttr;

/// Asks for the built-in init as PID 1 when it is `true`.
pub const INIT_ANNOTATION: &str = "org.metactl.init";

/// Limits of the whole instance, a `LinuxResources` object as JSON.
pub const INSTANCE_ANNOTATION: &str = "org.metactl.instance.resources";

/// What the parts of the plan are made from.
struct Context<'a> {
    bundle: &'a Bundle,
    process: &'a Process,
    linux: &'a Linux,
    facts: &'a HostFacts,
    request: &'a LaunchRequest,
    namespaces: Namespaces,
}

/// Plans the launch of `bundle` on the host that `facts` describe. `network` is what
/// [`Network::Spec`] of the request names, read.
pub fn plan(
    bundle: &Bundle,
    network: Option<&NetworkInput>,
    facts: &HostFacts,
    request: &LaunchRequest,
) -> Result<Plan, PlanError> {
    if facts.uid != 0 {
        return Err(PlanError::NotRoot { uid: facts.uid });
    }
    let missing = |field: &str| bundle.invalid(field, "is missing");
    let process = bundle
        .spec
        .process()
        .as_ref()
        .ok_or_else(|| missing("process"))?;
    let linux = bundle
        .spec
        .linux()
        .as_ref()
        .ok_or_else(|| missing("linux"))?;
    let namespaces = placed(linux, network, request)?;
    let context = Context {
        bundle,
        process,
        linux,
        facts,
        request,
        namespaces,
    };
    let init = context.init()?;
    let cgroup = context.cgroup()?;
    let terminal = process.terminal() == Some(true);
    if terminal && request.mode != Mode::Foreground {
        let why = "a terminal can only be had in the foreground (no --console-socket yet)";
        return Err(bundle.unsupported("process.terminal", why).into());
    }

    let mut steps: Vec<Step> = cgroup.steps().iter().cloned().map(Step::Cgroup).collect();
    context.outside(&cgroup, network, init, &mut steps)?;
    context.surroundings(&cgroup, &mut steps)?;
    context.inside(&cgroup, &mut steps)?;
    let foreground = request.mode == Mode::Foreground;
    steps.extend(process::steps(
        process,
        &Around {
            bundle,
            seccomp: linux.seccomp().as_ref(),
            watch: if foreground {
                Watch::DieWithRuntime
            } else {
                Watch::Independent
            },
            birth: if init { Birth::Init } else { Birth::Direct },
        },
    )?);
    Ok(Plan {
        steps,
        cgroup,
        terminal,
        init,
    })
}

/// The namespaces after the request had its say about the network.
fn placed(
    linux: &Linux,
    network: Option<&NetworkInput>,
    request: &LaunchRequest,
) -> Result<Namespaces, PlanError> {
    let mut namespaces = Namespaces::new(linux);
    match &request.network {
        Network::Config => {}
        Network::Spec(_) if network.is_some_and(|n| !n.is_own()) => {}
        Network::Spec(_) if matches!(namespaces.network, Place::Join(_)) => {
            let text = "--network makes a new network namespace, but linux.namespaces gives the \
                        path of one; use --netns or remove the path";
            return Err(PlanError::Request(text.into()));
        }
        Network::Spec(_) => namespaces.network = Place::New,
        Network::Join(path) => namespaces.network = Place::Join(path.clone()),
    }
    Ok(namespaces)
}

impl Context<'_> {
    fn init(&self) -> Result<bool, PlanError> {
        let init = match self.bundle.annotation(INIT_ANNOTATION) {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let why = format!("{other:?} is neither true nor false");
                let field = format!("annotations.{INIT_ANNOTATION}");
                return Err(self.bundle.invalid(field, why).into());
            }
        };
        // Without a pid namespace of its own there is no PID 1 to be.
        Ok(init && self.namespaces.pid == Place::New)
    }

    fn cgroup(&self) -> Result<CgroupPlan, PlanError> {
        let instance: Option<LinuxResources> = self.bundle.json_annotation(INSTANCE_ANNOTATION)?;
        let track = self.namespaces.pid != Place::New;
        let resources = self.linux.resources().as_ref();
        let layout = match &self.facts.cgroups {
            Some(layout) => layout,
            None if resources.is_none() && instance.is_none() && !track => {
                return Ok(CgroupPlan::default());
            }
            None => return Err(cgroup::CgroupError::NotMounted.into()),
        };
        let text = match self.linux.cgroups_path() {
            Some(path) => path.to_string_lossy().into_owned(),
            None => format!("/metactl/{}", self.request.id),
        };
        let path = CgroupPath::new(&text)?;
        let wanted = cgroup::Request {
            path: &path,
            resources,
            instance: instance.as_ref(),
            track,
            all: false,
            rootless: false,
        };
        Ok(cgroup::plan(layout, &wanted)?)
    }

    /// What the runtime does outside.
    fn outside(
        &self,
        cgroup: &CgroupPlan,
        network: Option<&NetworkInput>,
        init: bool,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        if self.facts.executable_is_writable && process::could_rewrite_runtime(self.process)? {
            // The shield hides the runtime at the last exec. An init of ours would stay in sight,
            // and so would we to strangers in a pid namespace that is not new.
            if init || self.namespaces.pid != Place::New {
                return Err(PlanError::Exposed);
            }
            steps.push(Step::Shield);
        }
        let mut new = vec!["mount"];
        let mut join_pid = None;
        for (name, place, _) in self.namespaces.each() {
            match (name, place) {
                ("pid", Place::Join(path)) => join_pid = Some(path.clone()),
                // Made by the runtime while the new process mounts: it takes the longest of all.
                ("network", Place::New) => {}
                // The root of the new namespace is where the process is at that moment.
                ("cgroup", Place::New) if hierarchies(cgroup) > 0 => {}
                (name, Place::New) => new.push(name),
                _ => {}
            }
        }
        steps.push(Step::Clone {
            namespaces: new,
            join_pid,
        });
        if self.namespaces.network == Place::New {
            steps.push(Step::NewNetwork);
        }
        if let (Some(network), Some(facts)) = (network, &self.facts.network) {
            let plan = network.plan(facts, None)?;
            steps.extend(plan.steps.into_iter().map(Step::Network));
        }
        steps.extend(self.process.oom_score_adj().map(Step::OomScore));
        Ok(())
    }

    /// Cgroups, namespaces, names.
    fn surroundings(&self, cgroup: &CgroupPlan, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        let hierarchies = hierarchies(cgroup);
        if hierarchies > 0 {
            steps.push(Step::JoinCgroups { hierarchies });
            if self.namespaces.cgroup == Place::New {
                steps.push(Step::NewCgroupNamespace);
            }
        }
        for (kind, place, _) in self.namespaces.each() {
            if let Place::Join(path) = place
                && kind != "pid"
            {
                steps.push(Step::JoinNamespace {
                    kind,
                    path: path.clone(),
                });
            }
        }
        for (field, name, step) in [
            (
                "hostname",
                self.bundle.spec.hostname(),
                Step::Hostname as fn(String) -> Step,
            ),
            (
                "domainname",
                self.bundle.spec.domainname(),
                Step::Domainname,
            ),
        ] {
            let Some(name) = name.as_ref().filter(|n| !n.is_empty()) else {
                continue;
            };
            if self.namespaces.uts == Place::Host {
                let why = "needs a uts namespace; without one it would rename the host";
                return Err(self.bundle.invalid(field, why).into());
            }
            steps.push(step(name.clone()));
        }
        Ok(())
    }

    /// The root and everything in it, up to the moment of waiting.
    fn inside(&self, cgroup: &CgroupPlan, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        steps.push(Step::HostPropagation {
            flag: self.propagation()?,
        });
        steps.push(Step::Root(self.bundle.rootfs()));
        let mut network = self.namespaces.network == Place::New;
        for (at, mount) in self.bundle.spec.mounts().iter().flatten().enumerate() {
            let step = mounts::step(self.bundle, at, mount)?;
            // sysfs shows the network devices of the namespace in which it is mounted.
            if network && is_type(&step, &["sysfs"]) {
                steps.push(Step::JoinNewNetwork);
                network = false;
            }
            if is_type(&step, &["cgroup", "cgroup2"]) {
                self.cgroup_mount(&step, cgroup, steps);
            } else {
                steps.push(Step::Mount(step));
            }
        }
        if network {
            steps.push(Step::JoinNewNetwork);
        }
        let devices = self.linux.devices().as_deref().unwrap_or_default();
        steps.extend(
            devices::steps(self.bundle, devices)?
                .into_iter()
                .map(Step::Device),
        );
        steps.push(Step::DeviceLinks);
        self.sysctls(steps)?;
        self.hidden(steps)?;
        let cwd = clean_path(self.process.cwd());
        let cwd = cwd.map_err(|why| self.bundle.invalid("process.cwd", why))?;
        if cwd != Path::new("/") {
            steps.push(Step::Directory(cwd));
        }
        if self.process.terminal() == Some(true) {
            steps.push(Step::Console {
                uid: self.process.user().uid(),
            });
        }
        if self
            .bundle
            .spec
            .root()
            .as_ref()
            .is_some_and(|r| r.readonly() == Some(true))
        {
            steps.push(Step::RootReadOnly);
        }
        steps.push(Step::Pivot);
        steps.push(match self.request.mode {
            Mode::Create => Step::AwaitStart,
            Mode::Foreground | Mode::Detached => Step::AwaitRuntime,
        });
        Ok(())
    }

    fn propagation(&self) -> Result<u64, PlanError> {
        match self.linux.rootfs_propagation().as_deref() {
            None | Some("" | "private" | "rprivate") => Ok(libc::MS_PRIVATE),
            Some("slave" | "rslave") => Ok(libc::MS_SLAVE),
            Some(_) => {
                let why = "only private and slave are supported yet";
                Err(self
                    .bundle
                    .unsupported("linux.rootfsPropagation", why)
                    .into())
            }
        }
    }

    /// A mount of the control groups: v2 is one file system, v1 one for each hierarchy that the
    /// container is in, below a tmpfs. Hierarchies that it did not join are not shown: there the
    /// root of its view would be the cgroup of the runtime.
    fn cgroup_mount(&self, asked: &MountStep, cgroup: &CgroupPlan, steps: &mut Vec<Step>) {
        let v1 = match &self.facts.cgroups {
            Some(Layout::V1(v1) | Layout::Hybrid(v1, _)) => v1.as_slice(),
            Some(Layout::V2(_)) | None => {
                let kind = MountKind::New {
                    fstype: "cgroup2".into(),
                    source: None,
                    parameters: Vec::new(),
                };
                steps.push(Step::Mount(MountStep {
                    kind,
                    ..asked.clone()
                }));
                return;
            }
        };
        let target = &asked.target;
        steps.push(Step::Mount(mounts::plain(
            target,
            "tmpfs",
            &["nosuid", "nodev", "noexec", "mode=755"],
        )));
        for hierarchy in v1 {
            let Some(name) = hierarchy.mount_point.file_name() else {
                continue;
            };
            let joined = |dir: &&PathBuf| dir.starts_with(&hierarchy.mount_point);
            let Some(own) = cgroup.directories().iter().find(joined) else {
                continue;
            };
            let place = target.join(name);
            let kind = if self.namespaces.cgroup == Place::Host {
                MountKind::Bind {
                    source: own.clone(),
                    recursive: false,
                }
            } else {
                let words = hierarchy.controllers.iter();
                let parameters = words.map(|word| match word.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (word.clone(), None),
                });
                MountKind::New {
                    fstype: "cgroup".into(),
                    source: None,
                    parameters: parameters.collect(),
                }
            };
            let attributes = asked.attributes;
            steps.push(Step::Mount(MountStep {
                target: place,
                kind,
                attributes,
            }));
            for word in &hierarchy.controllers {
                if !word.contains('=') && Some(word.as_str()) != name.to_str() {
                    let target = name.to_string_lossy().into_owned();
                    steps.push(Step::Link {
                        path: asked.target.join(word),
                        target,
                    });
                }
            }
        }
        if asked.attributes.own.set & libc::MOUNT_ATTR_RDONLY != 0 {
            let attr = MountAttr {
                set: libc::MOUNT_ATTR_RDONLY,
                ..MountAttr::default()
            };
            steps.push(Step::Attributes {
                path: target.clone(),
                attr,
            });
        }
    }

    fn sysctls(&self, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        let mut all: Vec<_> = self.linux.sysctl().iter().flatten().collect();
        all.sort();
        for (key, value) in all {
            let path = sysctl::path(key, &self.namespaces)
                .map_err(|why| self.bundle.invalid(format!("linux.sysctl: {key}"), why))?;
            steps.push(Step::Sysctl {
                path,
                value: value.clone(),
            });
        }
        Ok(())
    }

    fn hidden(&self, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        for (field, list, step) in [
            (
                "linux.readonlyPaths",
                self.linux.readonly_paths(),
                Step::ReadOnly as fn(PathBuf) -> Step,
            ),
            ("linux.maskedPaths", self.linux.masked_paths(), Step::Mask),
        ] {
            for path in list.iter().flatten() {
                let path = clean_path(Path::new(path));
                let path = path.map_err(|why| self.bundle.invalid(field, why))?;
                if path == Path::new("/") {
                    return Err(self
                        .bundle
                        .invalid(field, "the root cannot be in it")
                        .into());
                }
                steps.push(step(path));
            }
        }
        Ok(())
    }
}

fn is_type(step: &MountStep, types: &[&str]) -> bool {
    matches!(&step.kind, MountKind::New { fstype, .. } if types.contains(&fstype.as_str()))
}

/// In how many v1 hierarchies the plan puts the process.
fn hierarchies(cgroup: &CgroupPlan) -> usize {
    cgroup
        .steps()
        .iter()
        .filter(|s| matches!(s, CgroupStep::OpenTasks { .. }))
        .count()
}
