//! The steps of a plan: what is done, in words that a person can check.

use std::fmt;
use std::path::PathBuf;

use seccompiler::sock_filter;

use crate::capabilities::CapabilitySets;
use crate::cgroup::CgroupStep;
use crate::plan::devices::DeviceStep;
use crate::plan::mounts::MountStep;
use crate::sys::MountAttr;

/// Who carries a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The runtime, outside.
    Runtime,
    /// The new process, on its way into the sandbox.
    Sandbox,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    // ---- the runtime, before the clone
    /// A directory, limit or membership of control groups.
    Cgroup(CgroupStep),
    /// CVE-2019-5736: the container could rewrite the runtime, so it gets a small program of its
    /// own to execute from, see [`crate::shield`].
    Shield,
    /// The new process, in new namespaces (and in its v2 cgroup).
    Clone {
        /// Names of the new namespaces.
        namespaces: Vec<&'static str>,
        /// A pid namespace to be born into.
        join_pid: Option<PathBuf>,
    },

    // ---- the runtime, while the new process mounts
    /// A new network namespace, its loopback device switched on.
    NewNetwork,
    /// A step of the network's own plan.
    Network(metactl_netns::plan::Step),
    /// How ready the kernel shall be to kill it when memory runs out (proc_pid_oom_score_adj(5)).
    OomScore(i32),

    // ---- the new process: its surroundings
    /// Into its v1 control groups.
    JoinCgroups {
        /// In how many hierarchies.
        hierarchies: usize,
    },
    /// A cgroup namespace whose root is the cgroup just joined.
    NewCgroupNamespace,
    /// An existing namespace.
    JoinNamespace {
        /// Which.
        kind: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// All namespaces of a running container.
    JoinContainer {
        /// Their names.
        namespaces: Vec<&'static str>,
    },
    /// The network namespace that the runtime made.
    JoinNewNetwork,
    /// `hostname`.
    Hostname(String),
    /// `domainname`.
    Domainname(String),
    /// How mount events of the host reach the new mount namespace.
    HostPropagation {
        /// `MS_PRIVATE` or `MS_SLAVE`.
        flag: u64,
    },
    /// The root directory.
    Root(PathBuf),
    /// One mount.
    Mount(MountStep),
    /// New attributes for what is mounted somewhere.
    Attributes {
        /// Inside the root.
        path: PathBuf,
        /// Which.
        attr: MountAttr,
    },
    /// One device node.
    Device(DeviceStep),
    /// The links in /dev.
    DeviceLinks,
    /// A kernel parameter of its own namespaces.
    Sysctl {
        /// Path below `/proc/sys`.
        path: String,
        /// Value.
        value: String,
    },
    /// A path nobody inside may look into.
    Mask(PathBuf),
    /// A path nobody inside may change.
    ReadOnly(PathBuf),
    /// The working directory, should it be missing.
    Directory(PathBuf),
    /// A symbolic link inside the root.
    Link {
        /// Where.
        path: PathBuf,
        /// What it says.
        target: String,
    },
    /// A terminal of the container's own.
    Console {
        /// Its owner.
        uid: u32,
    },
    /// The root becomes read-only.
    RootReadOnly,
    /// The root takes the place of the host's, which is detached.
    Pivot,

    // ---- the new process: itself
    /// Wait until the runtime is ready.
    AwaitRuntime,
    /// Wait for `start`.
    AwaitStart,
    /// A session of its own: no controlling terminal of the host (CVE-2017-5226, TIOCSTI).
    Session {
        /// Its own terminal, if there is one, becomes the controlling one.
        terminal: bool,
    },
    /// A resource limit.
    Limit(Limit),
    /// The filter of system calls.
    Filter {
        /// The compiled filter.
        program: Vec<sock_filter>,
        /// `SECCOMP_FILTER_FLAG_*`.
        flags: u32,
        /// Nothing but the program comes after it.
        last: bool,
    },
    /// User, groups, file creation mask.
    Identity(Identity),
    /// The five capability sets.
    Capabilities(CapabilitySets),
    /// No exec can gain privileges.
    NoNewPrivileges,
    /// The working directory.
    WorkingDirectory(PathBuf),
    /// Dies when the runtime does.
    DieWithRuntime,
    /// The built-in init stays behind as PID 1.
    Init,
    /// The final process is born into the pid namespace of the container, with nothing left that
    /// the container could take from it.
    Fork,
    /// The program.
    Execute(Program),
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which.
    pub resource: rustix::process::Resource,
    /// As the specification calls it.
    pub name: &'static str,
    /// Soft value; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard value.
    pub hard: u64,
}

/// Who the process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Additional groups.
    pub groups: Vec<u32>,
    /// File creation mask.
    pub umask: u32,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Arguments; the first names the program.
    pub arguments: Vec<String>,
    /// Environment.
    pub environment: Vec<String>,
}

impl Step {
    /// Who carries it out.
    pub fn side(&self) -> Side {
        match self {
            Step::Cgroup(_)
            | Step::Shield
            | Step::Clone { .. }
            | Step::NewNetwork
            | Step::Network(_)
            | Step::OomScore(_) => Side::Runtime,
            _ => Side::Sandbox,
        }
    }
}

impl Program {
    /// The files to try: the first argument itself when it has a slash, else each directory of
    /// the container's `PATH` (never that of the runtime).
    pub fn candidates(&self) -> Vec<String> {
        let Some(name) = self.arguments.first() else {
            return Vec::new();
        };
        if name.contains('/') {
            return vec![name.clone()];
        }
        const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let path = self
            .environment
            .iter()
            .rev()
            .find_map(|v| v.strip_prefix("PATH="));
        let dirs = path.unwrap_or(DEFAULT).split(':');
        // An empty entry would mean the working directory; nobody who writes one wants that.
        dirs.filter(|dir| dir.starts_with('/'))
            .map(|dir| format!("{dir}/{name}"))
            .collect()
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            Step::OomScore(score) => write!(f, "out-of-memory score {score:+}"),
            Step::JoinCgroups { hierarchies } => {
                write!(
                    f,
                    "join the cgroups in {}",
                    count(*hierarchies, "hierarchy", "hierarchies")
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
            Step::Root(path) => write!(f, "root {}", path.display()),
            Step::Mount(mount) => write!(f, "{mount}"),
            Step::Attributes { path, .. } => write!(f, "read-only mount {}", path.display()),
            Step::Device(device) => write!(f, "{device}"),
            Step::DeviceLinks => f.write_str("links /dev/fd stdin stdout stderr ptmx"),
            Step::Sysctl { path, value } => write!(f, "kernel parameter {path} = {value}"),
            Step::Mask(path) => write!(f, "mask {}", path.display()),
            Step::ReadOnly(path) => write!(f, "read-only {}", path.display()),
            Step::Directory(path) => write!(f, "directory {}, if missing", path.display()),
            Step::Link { path, target } => write!(f, "link {} -> {target}", path.display()),
            Step::Console { uid } => write!(f, "terminal, owner {uid}"),
            Step::RootReadOnly => f.write_str("root read-only"),
            Step::Pivot => f.write_str("pivot into the root, detach the host's"),
            Step::AwaitRuntime => f.write_str("wait until the runtime is ready"),
            Step::AwaitStart => f.write_str("wait for `start`"),
            Step::Session { .. } => f.write_str("own session"),
            Step::Limit(limit) => write!(f, "{limit}"),
            Step::Filter { program, .. } => {
                write!(
                    f,
                    "seccomp filter, {}",
                    count(program.len(), "instruction", "instructions")
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

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |v: u64| {
            if v == u64::MAX {
                "unlimited".to_owned()
            } else {
                v.to_string()
            }
        };
        write!(
            f,
            "limit {} {} (hard {})",
            self.name,
            value(self.soft),
            value(self.hard)
        )
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}, gid {}", self.uid, self.gid)?;
        if !self.groups.is_empty() {
            let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
            write!(f, ", groups {}", groups.join(" "))?;
        }
        write!(f, ", umask {:03o}", self.umask)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments may hold secrets nobody should have put there; the environment surely does.
        let name = self.arguments.first().map_or("", String::as_str);
        let more = self.arguments.len().saturating_sub(1);
        write!(f, "execute {name}")?;
        if more > 0 {
            write!(f, " with {}", count(more, "argument", "arguments"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, env: &[&str]) -> Vec<String> {
        let environment = env.iter().map(|s| (*s).to_owned()).collect();
        Program {
            arguments: vec![name.to_owned()],
            environment,
        }
        .candidates()
    }

    #[test]
    fn programs_are_looked_up_in_the_path_of_the_container() {
        assert_eq!(program("a/b", &["PATH=/x"]), ["a/b"]);
        assert_eq!(
            program("sh", &["PATH=/old", "A=1", "PATH=/x::.:/y"]),
            ["/x/sh", "/y/sh"]
        );
        assert_eq!(program("sh", &[]).len(), 6);
        assert!(program("sh", &["PATH="]).is_empty());
    }
}
