//! What makes no sense in a `config.json`, or cannot be enforced by this runtime, whatever the
//! host: found before anything is planned. What depends on the host is found by the plan.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook, Hooks, Linux, LinuxIdMapping, LinuxNamespaceType, Mount, Process, Spec,
};

use super::{SpecError, clean_path};

/// A problem before it is known in which file it is.
pub(super) enum Problem {
    Unsupported(String, &'static str),
    Invalid(String, String),
}

impl Problem {
    pub fn at(self, path: PathBuf) -> SpecError {
        match self {
            Problem::Unsupported(field, why) => SpecError::Unsupported { path, field, why },
            Problem::Invalid(field, why) => SpecError::Invalid { path, field, why },
        }
    }
}

/// Refuses a field when it says something.
fn refuse(present: bool, field: &str, why: &'static str) -> Result<(), Problem> {
    if present {
        Err(Problem::Unsupported(field.to_owned(), why))
    } else {
        Ok(())
    }
}

fn invalid(field: impl Into<String>, why: impl Into<String>) -> Problem {
    Problem::Invalid(field.into(), why.into())
}

fn filled<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|l| !l.is_empty())
}

const OTHER_SYSTEM: &str = "this is the Linux runtime; remove the section";
const WINDOWS: &str = "it is for Windows; remove it";

pub(super) fn spec(spec: &Spec) -> Result<(), Problem> {
    if !(spec.version() == "1" || spec.version().starts_with("1.")) {
        let why = format!(
            "{:?} is not a version 1 of the runtime specification",
            spec.version()
        );
        return Err(invalid("ociVersion", why));
    }
    refuse(spec.solaris().is_some(), "solaris", OTHER_SYSTEM)?;
    refuse(spec.windows().is_some(), "windows", OTHER_SYSTEM)?;
    refuse(spec.vm().is_some(), "vm", OTHER_SYSTEM)?;
    refuse(spec.zos().is_some(), "zos", OTHER_SYSTEM)?;
    #[allow(deprecated)]
    let stray = spec.uid_mappings().is_some() || spec.gid_mappings().is_some();
    refuse(stray, "uidMappings, gidMappings", "they belong below linux")?;
    spec.hooks().as_ref().map_or(Ok(()), hooks)?;
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| invalid("root", "is missing"))?;
    if root.path().as_os_str().is_empty() {
        return Err(invalid("root.path", "is empty"));
    }
    let own = spec.process().as_ref();
    process(own.ok_or_else(|| invalid("process", "is missing"))?)?;
    let section = spec.linux().as_ref();
    linux(section.ok_or_else(|| invalid("linux", "is missing"))?)?;
    for (at, mount) in spec.mounts().iter().flatten().enumerate() {
        self::mount(at, mount)?;
    }
    name("hostname", spec.hostname().as_deref())?;
    name("domainname", spec.domainname().as_deref())
}

fn mount(at: usize, mount: &Mount) -> Result<(), Problem> {
    clean_path(&Path::new("/").join(mount.destination()))
        .map_err(|why| invalid(format!("mounts[{at}].destination"), why))?;
    let (uids, gids) = (mount.uid_mappings(), mount.gid_mappings());
    if filled(uids) != filled(gids) {
        let why = "needs uidMappings and gidMappings, or neither";
        return Err(invalid(format!("mounts[{at}]"), why));
    }
    mappings(&format!("mounts[{at}].uidMappings"), uids)?;
    mappings(&format!("mounts[{at}].gidMappings"), gids)
}

/// Each of the six kinds with its name.
#[allow(deprecated)]
pub(crate) fn kinds_of_hooks(hooks: &Hooks) -> [(&'static str, &[Hook]); 6] {
    fn list(hooks: &Option<Vec<Hook>>) -> &[Hook] {
        hooks.as_deref().unwrap_or_default()
    }
    [
        ("prestart", list(hooks.prestart())),
        ("createRuntime", list(hooks.create_runtime())),
        ("createContainer", list(hooks.create_container())),
        ("startContainer", list(hooks.start_container())),
        ("poststart", list(hooks.poststart())),
        ("poststop", list(hooks.poststop())),
    ]
}

/// Rules of runtime-spec, config, "POSIX-platform Hooks".
fn hooks(hooks: &Hooks) -> Result<(), Problem> {
    for (kind, list) in kinds_of_hooks(hooks) {
        for (at, hook) in list.iter().enumerate() {
            let field = |name: &str| format!("hooks.{kind}[{at}].{name}");
            if !hook.path().is_absolute() {
                return Err(invalid(field("path"), "must be an absolute path"));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(invalid(field("timeout"), "must be greater than zero"));
            }
            environment(&field("env"), hook.env().iter().flatten())?;
        }
    }
    Ok(())
}

/// The kernel's limit for both names is 64 bytes (uts_namespaces(7)).
fn name(field: &str, name: Option<&str>) -> Result<(), Problem> {
    match name {
        Some(name) if name.len() > 64 => Err(invalid(field, "is longer than 64 bytes")),
        _ => Ok(()),
    }
}

fn environment<'v>(
    field: &str,
    variables: impl Iterator<Item = &'v String>,
) -> Result<(), Problem> {
    for variable in variables {
        if variable.starts_with('=') || !variable.contains('=') {
            return Err(invalid(field, format!("{variable:?} is not NAME=value")));
        }
    }
    Ok(())
}

pub(super) fn process(process: &Process) -> Result<(), Problem> {
    let command_line = process.command_line().is_some();
    refuse(command_line, "process.commandLine", WINDOWS)?;
    let username = process.user().username();
    refuse(username.is_some(), "process.user.username", WINDOWS)?;
    user(process)?;
    let program = process.args().iter().flatten().next();
    if program.is_none_or(String::is_empty) {
        return Err(invalid("process.args", "needs at least the program to run"));
    }
    if !process.cwd().is_absolute() {
        return Err(invalid("process.cwd", "must be an absolute path"));
    }
    if let Some(score) = process
        .oom_score_adj()
        .filter(|s| !(-1000..=1000).contains(s))
    {
        let why = format!("{score} is not in -1000..=1000");
        return Err(invalid("process.oomScoreAdj", why));
    }
    environment("process.env", process.env().iter().flatten())
}

/// setresuid(2), setresgid(2) and chown(2) take 4294967295 as "leave it as it is", which would be
/// root; setgroups(2) refuses it only at the end.
fn id(field: impl Into<String>, id: u32) -> Result<(), Problem> {
    if id == u32::MAX {
        return Err(invalid(
            field,
            "4294967295 is no user or group: it means \"unchanged\"",
        ));
    }
    Ok(())
}

fn user(process: &Process) -> Result<(), Problem> {
    let user = process.user();
    id("process.user.uid", user.uid())?;
    id("process.user.gid", user.gid())?;
    for gid in user.additional_gids().iter().flatten() {
        id("process.user.additionalGids", *gid)?;
    }
    Ok(())
}

fn linux(linux: &Linux) -> Result<(), Problem> {
    let why = "Intel RDT is not supported; remove it";
    refuse(linux.intel_rdt().is_some(), "linux.intelRdt", why)?;
    mappings("linux.uidMappings", linux.uid_mappings())?;
    mappings("linux.gidMappings", linux.gid_mappings())?;
    for device in linux.devices().iter().flatten() {
        for owner in [device.uid(), device.gid()].into_iter().flatten() {
            id(format!("linux.devices {}", device.path().display()), owner)?;
        }
    }
    net_devices(linux)?;
    namespaces(linux)
}

/// Ids that overflow or overlap (user_namespaces(7), "User and group ID mappings").
fn mappings(field: &str, list: &Option<Vec<LinuxIdMapping>>) -> Result<(), Problem> {
    let mut inside: Vec<(u64, u64)> = Vec::new();
    for mapping in list.iter().flatten() {
        let size = u64::from(mapping.size());
        let (first, host) = (
            u64::from(mapping.container_id()),
            u64::from(mapping.host_id()),
        );
        if size == 0 {
            return Err(invalid(field, "a mapping of size 0 maps nothing"));
        }
        if first + size > u64::from(u32::MAX) || host + size > u64::from(u32::MAX) {
            return Err(invalid(field, "goes beyond the largest id, 4294967294"));
        }
        if inside
            .iter()
            .any(|(from, to)| first < *to && *from < first + size)
        {
            return Err(invalid(field, format!("id {first} is mapped twice")));
        }
        inside.push((first, first + size));
    }
    Ok(())
}

/// Names of network devices as the kernel takes them (dev_valid_name in the kernel's sources): at
/// most 15 bytes, no slash, no colon, no blank.
fn net_devices(linux: &Linux) -> Result<(), Problem> {
    let fits = |name: &str| {
        let plain = |b: u8| b != b'/' && b != b':' && !b.is_ascii_whitespace();
        (1..16).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(plain)
    };
    let mut seen = Vec::new();
    for (outside, device) in linux.net_devices().iter().flatten() {
        let inside = device.name().as_deref().filter(|n| !n.is_empty());
        let inside = inside.unwrap_or(outside);
        for name in [outside.as_str(), inside] {
            if !fits(name) {
                let why = format!("{name:?} is not the name of a network device");
                return Err(invalid("linux.netDevices", why));
            }
        }
        if seen.contains(&inside) {
            let why = format!("two devices would be called {inside}");
            return Err(invalid("linux.netDevices", why));
        }
        seen.push(inside);
    }
    Ok(())
}

fn namespaces(linux: &Linux) -> Result<(), Problem> {
    let field = "linux.namespaces";
    let mut seen = Vec::new();
    for namespace in linux.namespaces().iter().flatten() {
        let kind = namespace.typ();
        if seen.contains(&kind) {
            return Err(invalid(field, format!("{kind} is there twice")));
        }
        let relative = |p: &PathBuf| !p.as_os_str().is_empty() && !p.is_absolute();
        if namespace.path().as_ref().is_some_and(relative) {
            let why = format!("the path of {kind} must be absolute");
            return Err(invalid(field, why));
        }
        seen.push(kind);
    }
    let mount = linux.namespaces().iter().flatten();
    let mount = mount
        .filter(|n| n.typ() == LinuxNamespaceType::Mount)
        .map(|n| n.path().as_deref())
        .next();
    match mount {
        None => Err(invalid(
            field,
            "a mount namespace is needed; add {\"type\": \"mount\"}",
        )),
        Some(path) => {
            let path = path.filter(|p| *p != Path::new(""));
            refuse(
                path.is_some(),
                "linux.namespaces: mount by path",
                "use a new one",
            )
        }
    }
}
