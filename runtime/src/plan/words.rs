//! The words in which a plan prints its steps.

use std::fmt;

use crate::plan::step::{Pivot, Step};

pub(super) fn count_word(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Scope(scope) => write!(f, "systemd scope {} in {}", scope.unit, scope.slice),
            Step::Cgroup(step) => write!(f, "{step}"),
            Step::Shield => f.write_str("keep the runtime's executable out of its reach"),
            Step::Clone {
                namespaces,
                join_pid,
            } => {
                write!(f, "new process in new namespaces: {}", namespaces.join(" "))?;
                match join_pid {
                    Some(path) => write!(f, "; pid namespace {}", path.display()),
                    None => Ok(()),
                }
            }
            Step::NewNetwork => f.write_str("new network namespace, loopback up"),
            Step::Network(step) => write!(f, "{step}"),
            Step::NetDevice { from, to } => write!(f, "give it the network device {from} as {to}"),
            Step::MapIds(maps) => write!(f, "map ids: {maps}"),
            Step::Hooks { kind, hooks } => {
                write!(f, "{kind} {}:", count_word(hooks.len(), "hook", "hooks"))?;
                hooks
                    .iter()
                    .try_for_each(|hook| write!(f, " {}", hook.program))
            }
            Step::AwaitMapping => f.write_str("wait for the ids of the user namespace"),
            Step::Show => f.write_str("let its user look into this process"),
            Step::Hide => f.write_str("let nobody look into this process"),
            Step::UserRoot { uid, gid } => {
                write!(f, "become {uid}:{gid} of the user namespace")
            }
            Step::NewNamespaces(names) => write!(f, "new namespaces: {}", names.join(" ")),
            Step::TimeOffsets(text) => {
                write!(f, "clock offsets: {}", text.trim_end().replace('\n', ", "))
            }
            Step::Rebirth => f.write_str("a second process goes on in the new namespaces"),
            Step::LoopbackUp => f.write_str("loopback up"),
            Step::OomScore(score) => write!(f, "out-of-memory score {score:+}"),
            Step::JoinCgroups { hierarchies } => {
                write!(
                    f,
                    "join the cgroups in {}",
                    count_word(*hierarchies, "hierarchy", "hierarchies")
                )
            }
            Step::NewCgroupNamespace => f.write_str("new cgroup namespace"),
            Step::JoinNamespace { kind, path } => {
                write!(f, "join {kind} namespace {}", path.display())
            }
            Step::JoinContainer { namespaces } => {
                write!(
                    f,
                    "join the container's namespaces: {}",
                    namespaces.join(" ")
                )
            }
            Step::JoinNewNetwork => f.write_str("join the new network namespace"),
            Step::Hostname(name) => write!(f, "hostname {name}"),
            Step::Domainname(name) => write!(f, "domainname {name}"),
            Step::HostPropagation { flag } if *flag == libc::MS_SLAVE => {
                f.write_str("mounts of the host come in, none go out")
            }
            Step::HostPropagation { .. } => f.write_str("no mount comes in or goes out"),
            Step::Root { path, .. } => write!(f, "root {}", path.display()),
            Step::Mount(mount) => write!(f, "{mount}"),
            Step::Attributes { path, .. } => write!(f, "read-only mount {}", path.display()),
            Step::Device(device) => write!(f, "{device}"),
            Step::DeviceBind { path, .. } => write!(f, "the host's device {}", path.display()),
            Step::DeviceLinks => f.write_str("links /dev/fd stdin stdout stderr ptmx"),
            Step::Sysctl { path, value } => write!(f, "kernel parameter {path} = {value}"),
            Step::Mask(path) => write!(f, "mask {}", path.display()),
            Step::ReadOnly(path) => write!(f, "read-only {}", path.display()),
            Step::Directory(path) => write!(f, "directory {}, if missing", path.display()),
            Step::Link { path, target } => write!(f, "link {} -> {target}", path.display()),
            Step::Console { uid, .. } => write!(f, "terminal, owner {uid}"),
            Step::RootReadOnly => f.write_str("root read-only"),
            Step::Pivot(Pivot::Exchanged) => f.write_str("pivot into the root, detach the host's"),
            Step::Pivot(Pivot::Moved) => f.write_str("move the root over the host's"),
            Step::Pivot(Pivot::Chroot) => f.write_str("change to the root among the host's mounts"),
            Step::EnterRoot => f.write_str("change to the root of the container"),
            Step::AwaitHooks => f.write_str("wait for the hooks"),
            Step::AwaitRuntime => f.write_str("wait until the runtime is ready"),
            Step::Find(program) => {
                let name = program.arguments.first().map_or("", String::as_str);
                write!(f, "find the program {name}")
            }
            Step::AwaitStartHooks { .. } => f.write_str("wait for the startContainer hooks"),
            Step::AwaitStart { .. } => f.write_str("wait for `start`"),
            Step::Session { .. } => f.write_str("own session"),
            Step::Keyring(name) => write!(f, "session keyring {name}"),
            Step::Affinity(_) => f.write_str("processors it may use"),
            Step::Scheduler(s) => write!(f, "scheduler policy {}, nice {}", s.policy, s.nice),
            Step::IoPriority(value) => {
                write!(
                    f,
                    "I/O priority class {}, level {}",
                    value >> 13,
                    value & 0x1fff
                )
            }
            Step::Personality(value) => write!(f, "personality {value:#x}"),
            Step::MemoryPolicy(policy) => write!(f, "memory policy {:#x}", policy.mode),
            Step::Label { module, text } => write!(f, "{module:?} label {text}"),
            Step::Limit(limit) => write!(f, "{limit}"),
            Step::Filter { program, .. } => {
                write!(
                    f,
                    "seccomp filter, {}",
                    count_word(program.len(), "instruction", "instructions")
                )
            }
            Step::Identity(identity) => write!(f, "{identity}"),
            Step::Capabilities(sets) => write!(f, "capabilities: {sets}"),
            Step::NoNewPrivileges => f.write_str("no new privileges"),
            Step::WorkingDirectory(path) => write!(f, "working directory {}", path.display()),
            Step::DieWithRuntime => f.write_str("die when the runtime dies"),
            Step::Init => f.write_str("built-in init stays as PID 1"),
            Step::Fork => f.write_str("new process in the container's pid namespace"),
            Step::Execute(program) => write!(f, "{program}"),
        }
    }
}
