//! `config.json` of an entry point, by the OCI runtime specification.
//!
//! Everything that the application can see, use and do on the machine is in this one file, and any
//! runtime starts it unchanged. What only metactl's own runtime does stands in annotations, which
//! others ignore:
//!
//! | annotation | meaning |
//! | --- | --- |
//! | `org.metactl.instance`, `.entry`, `.release` | what this is |
//! | `org.metactl.init` | `true`: start the small init of the runtime as PID 1 |
//! | `org.metactl.instance.resources` | limits of the instance as a whole, for the parent cgroup: `LinuxResources` as JSON |
//! | `org.metactl.seccomp` | the version of the seccomp table |
//!
//! The environment, what comes later winning: `PATH HOME LANG`, what the platform adds, `PORT`,
//! `[env]`, and the variables `METACTL_*`, which docs/configuration.md lists.

pub mod json;
mod mounts;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder,
    LinuxCpuBuilder, LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::app::{App, Daemon, Launch, Limits};
use crate::bundle::{BundleError, Placement};
use crate::network::Mode;
use crate::platforms::APP_DIR;
use crate::seccomp;
use crate::view::{self, NOTIFY_DIR, View};

/// The version of the specification that the file is written by.
const OCI_VERSION: &str = "1.1.0";

/// The period of a processor limit in microseconds (cgroups: `cpu.max`, `cpu.cfs_period_us`).
const CPU_PERIOD: u64 = 100_000;

/// Files of /proc that say too much about the machine, or do something to it.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];

/// Parts of /proc that are shown but never written.
const READONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// One entry point, as far as config.json is concerned.
#[derive(Debug)]
pub struct EntryPoint<'a> {
    /// `webapp`, `cron.daily-housekeeping`: unique within the instance.
    pub name: &'a str,
    /// The root of the view as seen from the folder of config.json.
    pub rootfs: &'a str,
    /// What is started, settled.
    pub launch: &'a Launch,
    /// The port that it serves.
    pub port: Option<u16>,
    /// Its own limits.
    pub limits: &'a Limits,
}

/// The limits that hold for an entry point: its own, else the instance's.
pub fn effective_limits(own: &Limits, instance: &Limits) -> Limits {
    Limits {
        memory: own.memory.or(instance.memory),
        pids: own.pids.or(instance.pids),
        cpu_millis: own.cpu_millis.or(instance.cpu_millis),
        files: own.files.or(instance.files),
    }
}

/// The text of `config.json`.
///
/// # Errors
/// A capability that does not exist, or a path that is not UTF-8.
pub fn config_json(
    app: &App,
    place: &Placement,
    view: &View,
    entry: &EntryPoint<'_>,
) -> Result<String, BundleError> {
    let annotations = annotations(app, place, entry)?;
    let capabilities = capabilities(&app.sandbox.capabilities)?;
    let spec = spec(app, place, view, entry, annotations, capabilities)?;
    Ok(json::to_text(&spec)?)
}

fn spec(
    app: &App,
    place: &Placement,
    view: &View,
    entry: &EntryPoint<'_>,
    annotations: HashMap<String, String>,
    capabilities: LinuxCapabilities,
) -> Result<Spec, OciSpecError> {
    let limits = effective_limits(entry.limits, &app.sandbox.limits);
    let mut mounts = Vec::new();
    for shown in &view.entries {
        mounts.push(mounts::mount(shown, &place.tmp_dir(entry.name))?);
    }
    SpecBuilder::default()
        .version(OCI_VERSION)
        .root(
            RootBuilder::default()
                .path(entry.rootfs)
                .readonly(true)
                .build()?,
        )
        .hostname(place.hostname.clone())
        .process(process(app, place, entry, &limits, capabilities)?)
        .mounts(mounts)
        .annotations(annotations)
        .linux(linux(app, place, entry, &limits)?)
        .build()
}

fn process(
    app: &App,
    place: &Placement,
    entry: &EntryPoint<'_>,
    limits: &Limits,
    capabilities: LinuxCapabilities,
) -> Result<Process, OciSpecError> {
    let user = UserBuilder::default()
        .uid(place.uid)
        .gid(place.gid)
        .build()?;
    let env: Vec<String> = environment(app, place, entry)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(entry.launch.args.clone())
        .env(env)
        .cwd(entry.launch.cwd.clone())
        .capabilities(capabilities)
        .no_new_privileges(true)
        .build()?;
    process.set_rlimits(rlimits(limits)?);
    Ok(process)
}

/// The environment, sorted by name.
pub fn environment(
    app: &App,
    place: &Placement,
    entry: &EntryPoint<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("PATH", view::PATH.to_owned());
    set("HOME", view::DATA_DIR.to_owned());
    set("LANG", "C.UTF-8".to_owned());
    for (name, value) in &entry.launch.env {
        set(name, value.clone());
    }
    if let Some(port) = entry.port {
        set("PORT", port.to_string());
    }
    for (name, value) in &app.env {
        set(name, value.value.to_string());
    }
    // [env] cannot name these.
    set("METACTL_APP", app.name.clone());
    set("METACTL_INSTANCE", place.instance.clone());
    set("METACTL_ENTRY", entry.name.to_owned());
    set("METACTL_RELEASE", place.release_id.clone());
    if let Some(site) = &place.site {
        set("METACTL_SITE", site.clone());
    }
    if let Some(address) = place.addresses.first() {
        set("METACTL_ADDRESS", address.to_string());
    }
    if let Some(port) = entry.port {
        set("METACTL_PORT", port.to_string());
    }
    let daemon = app.daemons.get(entry.name);
    if daemon.is_some_and(Daemon::says_ready) {
        set("NOTIFY_SOCKET", format!("{NOTIFY_DIR}/{}", entry.name));
    }
    // Without WATCHDOG_PID it is for every process of the sandbox (sd_watchdog_enabled(3)).
    if let Some(time) = daemon.and_then(|daemon| daemon.service.watchdog_ms) {
        set("WATCHDOG_USEC", time.saturating_mul(1000).to_string());
    }
    set("METACTL_APP_DIR", APP_DIR.to_owned());
    set("METACTL_DATA_DIR", view::DATA_DIR.to_owned());
    set("METACTL_TMP_DIR", "/tmp".to_owned());
    env
}

/// Open files only: hard limits can be lowered everywhere, raised not (setrlimit(2)).
fn rlimits(limits: &Limits) -> Result<Option<Vec<PosixRlimit>>, OciSpecError> {
    let Some(files) = limits.files else {
        return Ok(None);
    };
    let limit = PosixRlimitBuilder::default()
        .typ(PosixRlimitType::RlimitNofile)
        .soft(files)
        .hard(files)
        .build()?;
    Ok(Some(vec![limit]))
}

/// The granted capabilities in every set: the ambient one keeps them over execve for a user that
/// is not root (capabilities(7)).
fn capabilities(granted: &[String]) -> Result<LinuxCapabilities, BundleError> {
    let mut set = Capabilities::new();
    for name in granted {
        let capability: Capability = name
            .trim_start_matches("CAP_")
            .parse()
            .map_err(|_| BundleError::Capability { name: name.clone() })?;
        set.insert(capability);
    }
    Ok(LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .inheritable(set.clone())
        .permitted(set.clone())
        .ambient(set)
        .build()?)
}

fn linux(
    app: &App,
    place: &Placement,
    entry: &EntryPoint<'_>,
    limits: &Limits,
) -> Result<Linux, OciSpecError> {
    let own_network = app.sandbox.net.mode != Mode::Host;
    let list = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| (*path).to_owned())
            .collect::<Vec<_>>()
    };
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(own_network)?)
        .cgroups_path(PathBuf::from(format!(
            "/metactl/{}/{}",
            place.instance, entry.name
        )))
        .masked_paths(list(MASKED))
        .readonly_paths(list(READONLY))
        .seccomp(seccomp::default_profile()?)
        .build()?;
    linux.set_resources(resources(limits)?);
    if own_network {
        // Any port may be bound without a capability: the network is the instance's own.
        let key = "net.ipv4.ip_unprivileged_port_start".to_owned();
        linux.set_sysctl(Some(HashMap::from([(key, "0".to_owned())])));
    }
    Ok(linux)
}

fn namespaces(own_network: bool) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    let types = [Pid, Mount, Ipc, Uts, Cgroup]
        .into_iter()
        .chain(own_network.then_some(Network));
    types
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect()
}

/// Limits as cgroup resources; `None` when there is none, so that no hierarchy is joined for
/// nothing.
pub fn resources(limits: &Limits) -> Result<Option<LinuxResources>, OciSpecError> {
    if limits.memory.is_none() && limits.pids.is_none() && limits.cpu_millis.is_none() {
        return Ok(None);
    }
    let mut resources = LinuxResourcesBuilder::default().build()?;
    if let Some(bytes) = limits.memory {
        resources.set_memory(Some(
            LinuxMemoryBuilder::default().limit(signed(bytes)).build()?,
        ));
    }
    if let Some(count) = limits.pids {
        resources.set_pids(Some(
            LinuxPidsBuilder::default().limit(signed(count)).build()?,
        ));
    }
    if let Some(millis) = limits.cpu_millis {
        let quota = signed(millis.saturating_mul(CPU_PERIOD / 1000));
        let cpu = LinuxCpuBuilder::default()
            .quota(quota)
            .period(CPU_PERIOD)
            .build()?;
        resources.set_cpu(Some(cpu));
    }
    Ok(Some(resources))
}

/// The specification counts in signed numbers.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn annotations(
    app: &App,
    place: &Placement,
    entry: &EntryPoint<'_>,
) -> Result<HashMap<String, String>, BundleError> {
    let mut annotations = HashMap::new();
    let mut add = |name: &str, value: String| {
        annotations.insert(format!("org.metactl.{name}"), value);
    };
    add("instance", place.instance.clone());
    add("entry", entry.name.to_owned());
    add("release", place.release_id.clone());
    add("seccomp", seccomp::VERSION.to_owned());
    if !entry.launch.is_init {
        add("init", "true".to_owned());
    }
    if let Some(resources) = resources(&app.sandbox.limits)? {
        add("instance.resources", json::to_line(&resources)?);
    }
    Ok(annotations)
}
