//! The plan of a container.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process};

use crate::cgroup::{CgroupPlan, CgroupStep};
use crate::facts::HostFacts;
use crate::network::NetworkInput;
use crate::plan::attributes::NEVER_LOCKED;
use crate::plan::devices::DeviceKind;
use crate::plan::mounts::{self, MountKind, MountStep};
use crate::plan::namespaces::{Namespaces, Place};
use crate::plan::process::{self, Around, Birth};
use crate::plan::step::{Pivot, Step};
use crate::plan::{
    Plan, PlanError, Watch, cgroup_mount, cgroups, devices, hooks, order, sysctl, users,
};
use crate::request::{LaunchRequest, Mode, Network};
use crate::shield;
use crate::spec::{Bundle, clean_path};
use crate::sys::MountAttr;

/// Asks for the built-in init as PID 1 when it is `true`.
pub const INIT_ANNOTATION: &str = "org.metactl.init";

/// Limits of the whole instance, a `LinuxResources` object as JSON.
pub const INSTANCE_ANNOTATION: &str = "org.metactl.instance.resources";

/// What the parts of the plan are made from.
pub(super) struct Context<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) process: &'a Process,
    pub(super) linux: &'a Linux,
    pub(super) facts: &'a HostFacts,
    request: &'a LaunchRequest,
    pub(super) namespaces: Namespaces,
}

/// Plans the launch of `bundle` on the host that `facts` describe. `network` is what
/// [`Network::Spec`] of the request names, read.
pub fn plan(
    bundle: &Bundle,
    network: Option<&NetworkInput>,
    facts: &HostFacts,
    request: &LaunchRequest,
) -> Result<Plan, PlanError> {
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
    if facts.uid != 0 && !namespaces.other_users() {
        return Err(PlanError::NotRoot { uid: facts.uid });
    }
    let context = Context {
        bundle,
        process,
        linux,
        facts,
        request,
        namespaces,
    };
    let init = context.init()?;
    let (cgroup, scope) = cgroups::plan(bundle, linux, facts, request, &context.namespaces)?;
    let terminal = process.terminal() == Some(true);
    process::check_console(bundle, terminal, request)?;

    let mut steps: Vec<Step> = scope.iter().cloned().map(Step::Scope).collect();
    steps.extend(cgroup.steps().iter().cloned().map(Step::Cgroup));
    context.outside(&cgroup, network, init, &mut steps)?;
    context.surroundings(&cgroup, &mut steps)?;
    context.inside(&cgroup, &mut steps)?;
    let foreground = request.mode == Mode::Foreground;
    let home = facts.home.as_deref();
    let home = home.map(|home| process::with_home(process, home));
    let process = home.as_ref().unwrap_or(process);
    let told = process::told_of_sockets(process, request.listen_fds, init, &context.namespaces);
    steps.extend(process::steps(
        told.as_ref().unwrap_or(process),
        &Around {
            bundle,
            linux: Some(linux),
            keyring: request.keyring.then(|| format!("_ses.{}", request.id)),
            joins: false,
            pause: context.pause(context.waits_apart(init)),
            alone: context.alone(),
            asks_in_shield: false,
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

    /// What the process waits for when it is all but the program.
    fn pause(&self, apart: bool) -> Option<Step> {
        match self.request.mode {
            Mode::Create => Some(Step::AwaitStart { apart }),
            _ if hooks::has(self.bundle, "startContainer") => Some(Step::AwaitStartHooks { apart }),
            _ => None,
        }
    }

    /// Whether the runtime has no privilege, and the process is all that is in its new user and pid
    /// namespaces.
    fn alone(&self) -> bool {
        self.facts.uid != 0
            && self.namespaces.user == Place::New
            && self.namespaces.pid == Place::New
    }

    /// Whether who waits does that in the shield. An init goes on in the runtime.
    fn waits_apart(&self, init: bool) -> bool {
        self.pause(false).is_some() && !init && shield::exists()
    }

    /// What the runtime does outside.
    fn outside(
        &self,
        cgroup: &CgroupPlan,
        network: Option<&NetworkInput>,
        init: bool,
        steps: &mut Vec<Step>,
    ) -> Result<(), PlanError> {
        let strong = process::could_rewrite_runtime(self.process)?;
        // Others may join a process that waits for `start` or hooks, and look at it.
        let waits = self.pause(false).is_some();
        if self.facts.executable_is_writable && strong {
            // The shield hides the runtime at the last exec. An init of ours would stay in sight,
            // and so would we to strangers in a pid namespace that is not new.
            let seen = init || waits || self.namespaces.pid != Place::New;
            if seen && process::sees_the_runtime(self.process, &self.namespaces)? {
                return Err(PlanError::Exposed);
            }
        }
        let apart = self.waits_apart(init);
        if apart || (strong && (self.facts.executable_is_writable || waits)) {
            steps.push(Step::Shield);
        }
        let (new, join_pid) = self.born_into(cgroup);
        steps.push(Step::Clone {
            namespaces: new,
            join_pid,
        });
        if self.namespaces.user == Place::New {
            steps.push(Step::MapIds(users::maps(self.bundle, self.linux)?));
        }
        if self.namespaces.runtime_makes_network() {
            steps.push(Step::NewNetwork);
        }
        if let (Some(network), Some(facts)) = (network, &self.facts.network) {
            let plan = network.plan(facts, None)?;
            steps.extend(plan.steps.into_iter().map(Step::Network));
        }
        let mut devices: Vec<_> = self.linux.net_devices().iter().flatten().collect();
        devices.sort_by_key(|(name, _)| *name);
        if !devices.is_empty() && self.namespaces.network == Place::Host {
            let why = "needs a network namespace of the container's own";
            return Err(self.bundle.invalid("linux.netDevices", why).into());
        }
        steps.extend(devices.into_iter().map(|(from, device)| {
            let to = device.name().clone().filter(|name| !name.is_empty());
            Step::NetDevice {
                from: from.clone(),
                to: to.unwrap_or_else(|| from.clone()),
            }
        }));
        steps.extend(self.process.oom_score_adj().map(Step::OomScore));
        for kind in ["prestart", "createRuntime", "createContainer"] {
            steps.extend(hooks::step(self.bundle, kind));
        }
        Ok(())
    }

    /// The namespaces that the clone makes, and the pid namespace of somebody else that the
    /// process is born into.
    fn born_into(&self, cgroup: &CgroupPlan) -> (Vec<&'static str>, Option<PathBuf>) {
        if self.namespaces.in_two_stages() {
            let user = self.namespaces.user == Place::New;
            return (if user { vec!["user"] } else { Vec::new() }, None);
        }
        let mut new = self.new_mounts();
        let mut join_pid = None;
        for (name, place, _) in self.namespaces.each() {
            match (name, place) {
                ("pid", Place::Join(path)) => join_pid = Some(path.clone()),
                ("network", Place::New) if self.namespaces.runtime_makes_network() => {}
                // The root of the new namespace is where the process is at that moment.
                ("cgroup", Place::New) if hierarchies(cgroup) > 0 => {}
                (name, Place::New) => new.push(name),
                _ => {}
            }
        }
        (new, join_pid)
    }

    pub(super) fn new_mounts(&self) -> Vec<&'static str> {
        match self.namespaces.mount {
            Place::New => vec!["mount"],
            _ => Vec::new(),
        }
    }

    /// Whether the runtime opens what is mounted: the user of the new process may not get there,
    /// and the runtime has the right to clone mounts.
    fn prepared(&self) -> bool {
        self.namespaces.other_users() && self.facts.uid == 0
    }

    /// The root and everything in it, up to the moment of waiting.
    fn inside(&self, cgroup: &CgroupPlan, steps: &mut Vec<Step>) -> Result<(), PlanError> {
        let (host, own) = self.propagation()?;
        let shared = self.namespaces.mount == Place::Host;
        if !shared {
            steps.push(Step::HostPropagation { flag: host });
        }
        steps.push(Step::Root {
            path: self.bundle.rootfs(),
            prepared: self.prepared(),
            propagation: own,
        });
        let mut network = self.namespaces.runtime_makes_network();
        let mut read_only = Vec::new();
        for (at, mount) in self.bundle.spec.mounts().iter().flatten().enumerate() {
            let mut step = mounts::step(self.bundle, at, mount)?;
            self.finish_mount(at, &mut step)?;
            // sysfs shows the network devices of the namespace in which it is mounted.
            if network && is_type(&step, &["sysfs"]) {
                steps.push(Step::JoinNewNetwork);
                network = false;
            }
            if is_type(&step, &["cgroup", "cgroup2"]) {
                let private = self.namespaces.cgroup != Place::Host;
                cgroup_mount::steps(&step, cgroup, self.facts.cgroups.as_ref(), private, steps);
            } else {
                // What goes below it is made in it.
                if is_type(&step, &["tmpfs"]) && step.attributes.take_read_only() {
                    read_only.push(step.target.clone());
                }
                steps.push(Step::Mount(step));
            }
        }
        if network {
            steps.push(Step::JoinNewNetwork);
        }
        let devices = self.linux.devices().as_deref().unwrap_or_default();
        let nodes = devices::steps(self.bundle, devices)?.into_iter();
        // Nobody may make device nodes in a user namespace (mknod(2)).
        steps.extend(nodes.map(|node| match self.namespaces.other_users() {
            true if node.kind != DeviceKind::Fifo => Step::DeviceBind {
                path: node.path,
                number: node.number,
            },
            _ => Step::Device(node),
        }));
        steps.push(Step::DeviceLinks);
        self.sysctls(steps)?;
        self.hidden(steps)?;
        order::beside_network(steps);
        let cwd = clean_path(self.process.cwd());
        let cwd = cwd.map_err(|why| self.bundle.invalid("process.cwd", why))?;
        if cwd != Path::new("/") {
            steps.push(Step::Directory(cwd));
        }
        if self.process.terminal() == Some(true) {
            steps.push(Step::Console {
                uid: self.process.user().uid(),
                relayed: self.request.console_socket.is_none(),
                size: process::console_size(self.process),
            });
        }
        steps.extend(read_only.into_iter().map(|path| Step::Attributes {
            path,
            attr: MountAttr {
                set: libc::MOUNT_ATTR_RDONLY,
                ..MountAttr::default()
            },
        }));
        // The hooks may still change the root (runc's libcontainer, `prepareRootfs`).
        if hooks::before_pivot(self.bundle) {
            // Without root, the hooks that run in its namespaces may enter them only while it may be
            // looked at.
            let entered = self.alone() && hooks::has(self.bundle, "createContainer");
            steps.extend(entered.then_some(Step::Show));
            steps.push(Step::AwaitHooks);
            steps.extend(entered.then_some(Step::Hide));
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
        steps.push(Step::Pivot(match (shared, self.request.no_pivot) {
            (true, _) => Pivot::Chroot,
            (false, true) => Pivot::Moved,
            (false, false) => Pivot::Exchanged,
        }));
        if self.request.mode == Mode::Create {
            steps.push(Step::Find(process::found_from_the_root(self.process)));
        }
        if self.pause(false).is_none() {
            steps.push(Step::AwaitRuntime);
        }
        Ok(())
    }

    /// What a mount needs beside its own words: who opens its source, which ids it shows, the
    /// label of its files.
    fn finish_mount(&self, at: usize, step: &mut MountStep) -> Result<(), PlanError> {
        let ids = users::of_mount(self.bundle, at, step, self.linux)?;
        let bind = matches!(step.kind, MountKind::Bind { .. });
        // What is mounted below the root by then, only the new process sees. Ids of others it may
        // not give a mount.
        let others = self.namespaces.other_users();
        step.from_inside = step.inside.is_some() && (ids.is_some() != others);
        step.prepared = bind && (ids.is_some() || (self.prepared() && !step.from_inside));
        step.ids = ids;
        if others {
            // Nobody asked for the right to take these away; the runtime might have it.
            step.attributes.unsaid &= NEVER_LOCKED;
        }
        let label = self
            .linux
            .mount_label()
            .as_deref()
            .filter(|l| !l.is_empty());
        let Some(label) = label else {
            return Ok(());
        };
        if !self.facts.modules.selinux {
            let why = "SELinux is not enabled on this host; remove it, or boot with selinux=1";
            return Err(self.bundle.unsupported("linux.mountLabel", why).into());
        }
        if let MountKind::New {
            fstype, parameters, ..
        } = &mut step.kind
            && !["proc", "sysfs"].contains(&fstype.as_str())
        {
            parameters.push(("context".into(), Some(label.to_owned())));
        }
        Ok(())
    }

    /// Of the host's tree in the new namespace, and of the root.
    fn propagation(&self) -> Result<(u64, u64), PlanError> {
        match self.linux.rootfs_propagation().as_deref() {
            None | Some("" | "private" | "rprivate") => Ok((libc::MS_PRIVATE, 0)),
            Some("slave" | "rslave") => Ok((libc::MS_SLAVE, libc::MS_SLAVE)),
            Some("shared" | "rshared") => Ok((0, libc::MS_SHARED)),
            Some("unbindable" | "runbindable") => Ok((libc::MS_PRIVATE, libc::MS_UNBINDABLE)),
            Some(other) => {
                let why = format!("{other:?} is none of private, slave, shared, unbindable");
                Err(self.bundle.invalid("linux.rootfsPropagation", why).into())
            }
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
            let first = steps.len();
            for path in list.iter().flatten() {
                // A relative one is taken from the root, as with mounts.
                let path = clean_path(&Path::new("/").join(path));
                let path = path.map_err(|why| self.bundle.invalid(field, why))?;
                if path == Path::new("/") {
                    return Err(self
                        .bundle
                        .invalid(field, "the root cannot be in it")
                        .into());
                }
                // Twice the same is no second mount. Clean paths are the same byte by byte, or not at all.
                let said = |other: &Step| match other {
                    Step::ReadOnly(said) | Step::Mask(said) => said.as_os_str() == path.as_os_str(),
                    _ => false,
                };
                if !steps.iter().skip(first).any(said) {
                    steps.push(step(path));
                }
            }
        }
        Ok(())
    }
}

fn is_type(step: &MountStep, types: &[&str]) -> bool {
    matches!(&step.kind, MountKind::New { fstype, .. } if types.contains(&fstype.as_str()))
}

/// In how many v1 hierarchies the plan puts the process.
pub(super) fn hierarchies(cgroup: &CgroupPlan) -> usize {
    cgroup
        .steps()
        .iter()
        .filter(|s| matches!(s, CgroupStep::OpenTasks { .. }))
        .count()
}
