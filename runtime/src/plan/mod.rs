//! From a bundle to the complete list of steps that launches it. Pure: nothing is touched.
//!
//! [`plan`] makes the plan of a container, [`plan_exec`] that of one more process in it. A plan
//! can be printed; [`crate::compile`] turns it into what the new process carries out.

use std::fmt;

pub mod attributes;
mod cgroup_mount;
mod cgroups;
pub mod container;
pub mod devices;
pub mod hooks;
pub mod mounts;
pub mod namespaces;
pub mod notify;
mod order;
pub mod process;
pub mod step;
mod surroundings;
pub mod sysctl;
pub mod tuning;
mod users;
pub mod values;
mod words;

pub use container::plan;
pub use step::{Side, Step};

use crate::cgroup::{CgroupError, CgroupPlan};
use crate::facts::SecurityModules;
use crate::plan::namespaces::Place;
use crate::plan::process::Around;
use crate::spec::{Bundle, SpecError};

/// Everything that will be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The steps. The runtime and the new process work at the same time; within each of the two,
    /// this is the order.
    pub steps: Vec<Step>,
    /// The cgroup part of them, as one piece.
    pub cgroup: CgroupPlan,
    /// Whether the process gets a terminal of its own.
    pub terminal: bool,
    /// Whether the built-in init is PID 1.
    pub init: bool,
}

/// What becomes of a process when the runtime that launched it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It dies as well.
    DieWithRuntime,
    /// It lives on.
    Independent,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Something in config.json.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Limits that this host cannot enforce.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A scope that systemd would not make.
    #[error(transparent)]
    Systemd(#[from] crate::systemd::SystemdError),
    /// A filter that cannot be enforced.
    #[error(transparent)]
    Seccomp(#[from] crate::seccomp::SeccompError),
    /// A capability.
    #[error(transparent)]
    Capability(#[from] crate::capabilities::UnknownCapability),
    /// A network that cannot be.
    #[error(transparent)]
    Network(#[from] metactl_netns::NetError),
    /// The runtime does not run as root.
    #[error(
        "launching needs root, and this is uid {uid}; use sudo, or a user namespace (`spec --rootless` writes a config.json with one)"
    )]
    NotRoot {
        /// The effective uid.
        uid: u32,
    },
    /// The container could rewrite the runtime's executable and nothing can be put before it.
    #[error(
        "the container is privileged enough to rewrite {}, which stays in its sight; \
         run the runtime from a read-only mount", std::env::current_exe().unwrap_or_default().display()
    )]
    Exposed,
    /// The request contradicts the bundle.
    #[error("{0}")]
    Request(String),
}

impl Plan {
    /// A plan of nothing but these steps.
    pub fn of(steps: Vec<Step>) -> Plan {
        Plan {
            steps,
            cgroup: CgroupPlan::default(),
            terminal: false,
            init: false,
        }
    }

    /// Whether somebody outside decides about some system calls.
    pub fn asks(&self) -> bool {
        let notifies = |step: &Step| matches!(step, Step::Filter { notify: true, .. });
        self.steps.iter().any(notifies)
    }

    /// The steps of the new process, in order, each with its place in the plan.
    pub fn sandbox_steps(&self) -> impl Iterator<Item = (usize, &Step)> {
        self.steps
            .iter()
            .enumerate()
            .filter(|(_, step)| step.side() == Side::Sandbox)
    }

    /// What a step says, for messages.
    pub fn describe(&self, index: usize) -> String {
        self.steps
            .get(index)
            .map_or_else(|| format!("step {index}"), ToString::to_string)
    }
}

/// One readable line per step, with who does it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let side = match step.side() {
                Side::Runtime => "runtime",
                Side::Sandbox => "sandbox",
            };
            writeln!(f, "{side}  {step}")?;
        }
        Ok(())
    }
}

/// A process that joins a running container.
#[derive(Debug, Clone)]
pub struct ExecRequest<'a> {
    /// The container's own bundle, as it was launched.
    pub bundle: &'a Bundle,
    /// The process.
    pub process: &'a oci_spec::runtime::Process,
    /// The container's cgroup directories.
    pub cgroups: &'a [std::path::PathBuf],
    /// How many of them are v1.
    pub hierarchies: usize,
    /// What becomes of it when the runtime dies.
    pub watch: Watch,
    /// The session keyring that it gets.
    pub keyring: Option<String>,
    /// The security modules of the host.
    pub modules: SecurityModules,
    /// It is executed from the shield.
    pub shield: bool,
    /// Which loads the filter, if that asks somebody.
    pub asks_in_shield: bool,
    /// The runtime carries the bytes of its terminal.
    pub relayed: bool,
}

/// Plans one more process in a running container. It gets what the configuration gives every
/// process: the same filter, and nothing that the container's own process object does not say.
pub fn plan_exec(request: &ExecRequest<'_>) -> Result<Plan, PlanError> {
    let linux = request.bundle.spec.linux().as_ref();
    let spaces = linux.map(namespaces::Namespaces::new).unwrap_or_default();
    let own_mounts = spaces.mount != Place::Host;
    let mut names = if own_mounts {
        vec!["mount"]
    } else {
        Vec::new()
    };
    for (name, place, _) in spaces.each() {
        if *place != Place::Host {
            names.push(name);
        }
    }
    let fork = spaces.pid != Place::Host;
    let terminal = request.process.terminal() == Some(true);
    let mut steps = Vec::new();
    if request.shield {
        steps.push(Step::Shield);
    }
    steps.push(Step::Clone {
        namespaces: Vec::new(),
        join_pid: None,
    });
    steps.extend(request.process.oom_score_adj().map(Step::OomScore));
    steps.push(Step::Hide);
    steps.extend(tuning::labels(
        request.process,
        request.bundle,
        request.modules,
    )?);
    steps.extend(tuning::initial_affinity(request.process, request.bundle)?);
    if request.hierarchies > 0 {
        steps.push(Step::JoinCgroups {
            hierarchies: request.hierarchies,
        });
    }
    steps.push(Step::JoinContainer { namespaces: names });
    if !own_mounts {
        steps.push(Step::EnterRoot);
    }
    if spaces.other_users() {
        steps.push(users::root_of(linux));
    }
    if terminal {
        steps.push(Step::Console {
            uid: request.process.user().uid(),
            relayed: request.relayed,
            size: process::console_size(request.process),
        });
    }
    steps.push(Step::AwaitRuntime);
    steps.extend(process::steps(
        request.process,
        &Around {
            bundle: request.bundle,
            linux,
            keyring: request.keyring.clone(),
            joins: true,
            pause: None,
            asks_in_shield: request.asks_in_shield,
            alone: false,
            watch: request.watch,
            birth: if fork {
                process::Birth::Fork
            } else {
                process::Birth::Direct
            },
        },
    )?);
    Ok(Plan {
        steps,
        cgroup: CgroupPlan::default(),
        terminal,
        init: false,
    })
}
