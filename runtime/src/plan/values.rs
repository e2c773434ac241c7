//! What steps are made of: plain values, each with the words in which a plan prints it.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::words::count_word;

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
    /// The file, when it is not the one that the first argument names.
    pub file: Option<PathBuf>,
    /// Arguments; the first names the program.
    pub arguments: Vec<String>,
    /// Environment.
    pub environment: Vec<String>,
}

/// A range of ids: `size` ids from `inside` on in the namespace are those from `outside` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id in the namespace.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// The maps of a user namespace (user_namespaces(7)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMaps {
    /// Of users.
    pub users: Vec<IdMap>,
    /// Of groups.
    pub groups: Vec<IdMap>,
}

/// A program that is told of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// What is executed; its environment is that of the runtime when the configuration gives none.
    pub program: Program,
    /// Whether the environment is that of the runtime.
    pub inherit: bool,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// A set of processors, bit `n` of all for processor `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Affinity {
    /// The bits, as sched_setaffinity(2) takes them.
    pub bits: [u64; 16],
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For the ordinary policies.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: u32,
    /// `SCHED_DEADLINE`, nanoseconds.
    pub runtime: u64,
    /// `SCHED_DEADLINE`, nanoseconds.
    pub deadline: u64,
    /// `SCHED_DEADLINE`, nanoseconds.
    pub period: u64,
}

/// set_mempolicy(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// `MPOL_*`, with its flags.
    pub mode: i32,
    /// The nodes, bit by bit.
    pub nodes: [u64; 16],
}

/// How the root of a container takes the place of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pivot {
    /// pivot_root(2); the host's is detached.
    Exchanged,
    /// Without pivot_root(2): for hosts whose root is an initramfs. Mounts of the host stay in reach
    /// of who can undo a mount.
    Moved,
    /// chroot(2): the mount namespace is the host's.
    Chroot,
}

/// A security module that labels processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityModule {
    /// apparmor(7).
    AppArmor,
    /// selinux(8).
    SeLinux,
}

impl Affinity {
    /// A list such as `0-3,7`; `None` when it is none, or a number is too large.
    pub fn parse(list: &str) -> Option<Affinity> {
        parse_bits(list).map(|bits| Affinity { bits })
    }
}

/// A list of numbers and ranges, as a mask of 1024 bits.
pub fn parse_bits(list: &str) -> Option<[u64; 16]> {
    let mut bits = [0u64; 16];
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if from > to {
            return None;
        }
        for n in from..=to {
            *bits.get_mut(n / 64)? |= 1 << (n % 64);
        }
    }
    Some(bits)
}

impl IdMaps {
    /// The id of the root of the namespace: 0, or the lowest id that is mapped.
    pub fn root(maps: &[IdMap]) -> u32 {
        let holds = |m: &IdMap| m.inside == 0;
        if maps.iter().any(holds) {
            return 0;
        }
        maps.iter().map(|m| m.inside).min().unwrap_or(0)
    }
}

impl Program {
    /// The files to try: the first argument itself when it has a slash, else each directory of
    /// the container's `PATH` (never that of the runtime).
    pub fn candidates(&self) -> Vec<String> {
        if let Some(file) = &self.file {
            return vec![file.to_string_lossy().into_owned()];
        }
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

impl Program {
    /// The file that is executed, or what is looked for in `$PATH`.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.file {
            Some(file) => file.to_string_lossy(),
            None => self.arguments.first().map_or("", String::as_str).into(),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments may hold secrets nobody should have put there; the environment surely does.
        let more = self.arguments.len().saturating_sub(1);
        write!(f, "execute {}", self.name())?;
        if more > 0 {
            write!(f, " with {}", count_word(more, "argument", "arguments"))
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for IdMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, maps) in [("users", &self.users), ("groups", &self.groups)] {
            write!(f, "{}{name}", if name == "users" { "" } else { "; " })?;
            for map in maps {
                write!(f, " {}+{} from {}", map.inside, map.size, map.outside)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, env: &[&str]) -> Vec<String> {
        let environment = env.iter().map(|s| (*s).to_owned()).collect();
        Program {
            file: None,
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
