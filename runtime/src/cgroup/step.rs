//! The typed steps of making a cgroup, and how they are printed.

use super::wanted::MemoryCheck;
use std::fmt;
use std::path::PathBuf;

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
        /// Nothing asked for depends on them: those that cannot be enabled are left out.
        optional: bool,
    },
    /// Refuse to go on when more memory is in use already than the new limit allows.
    CheckMemory {
        /// The directory.
        directory: PathBuf,
        /// The name of the setting.
        setting: String,
        /// The new limit.
        check: MemoryCheck,
    },
    /// Write one setting.
    Limit {
        /// The directory.
        directory: PathBuf,
        /// The name in config.json, for messages.
        setting: String,
        /// File name and value; the first file that exists is written.
        choices: Vec<(String, String)>,
        /// It need not exist: it makes another limit stricter where the kernel has it.
        optional: bool,
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
                optional,
            } => {
                write!(
                    f,
                    "enable{} {} below {}",
                    if *optional { ", if it can be had," } else { "" },
                    controllers.join(", "),
                    directory.display()
                )
            }
            Self::CheckMemory {
                directory, check, ..
            } => {
                let (limit, of) = match check {
                    MemoryCheck::Memory(limit) => (limit, ""),
                    MemoryCheck::MemoryAndSwap(limit) => (limit, " of memory and swap"),
                };
                write!(
                    f,
                    "check that {} uses no more than {limit} bytes{of}",
                    directory.display()
                )
            }
            Self::Limit {
                directory,
                choices,
                optional,
                ..
            } => {
                let Some((file, value)) = choices.first() else {
                    return Ok(());
                };
                write!(f, "write {value:?} to {}/{file}", directory.display())?;
                for (file, value) in choices.iter().skip(1) {
                    write!(f, ", or {value:?} to {file}")?;
                }
                if *optional {
                    f.write_str(", if it is there")?;
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
