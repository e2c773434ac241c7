//! Carry out a [`CgroupPlan`], and open what a process needs to join.

use super::{CgroupError, CgroupPlan, CgroupStep, MemoryCheck};
use crate::sys::bpf;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// How often a directory that others share is made again, when their end removes it meanwhile.
const TRIES: usize = 200;

/// How long to wait before that.
const PAUSE: std::time::Duration = std::time::Duration::from_micros(100);

/// What a process needs to get into a cgroup. All descriptors are close-on-exec.
#[derive(Debug, Default)]
pub struct Joined {
    /// v1: the `tasks` file of each hierarchy, open for writing. The child writes `0` to each,
    /// before it unshares its cgroup namespace and while it is still single-threaded.
    pub tasks: Vec<OwnedFd>,
    /// v2: the directory, for `CLONE_INTO_CGROUP`.
    pub directory: Option<OwnedFd>,
}

impl CgroupPlan {
    /// Make the directories, write the limits and open what the child needs.
    ///
    /// May be repeated: directories that exist are used, limits are written again. A directory
    /// above that another container's end removes at the same moment is made again. Nothing is
    /// undone on an error; [`delete`](super::delete) and
    /// [`prune_parents`](super::prune_parents) do that.
    ///
    /// # Errors
    /// The first step that failed.
    pub fn apply(&self) -> Result<Joined, CgroupError> {
        self.apply_as(Kernel::Real)
    }

    fn apply_as(&self, kernel: Kernel) -> Result<Joined, CgroupError> {
        let mut tries = TRIES;
        loop {
            match self.attempt(kernel) {
                Err(error) if self.may_be_shared(&error) && tries > 1 => {
                    tries -= 1;
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Whether something is missing that another container's end can have taken away: never what is
    /// in a directory of this one.
    fn may_be_shared(&self, error: &CgroupError) -> bool {
        let own = |path: &Path| self.directories().iter().any(|own| path.starts_with(own));
        error.is_of_what_is_gone()
            && match error {
                CgroupError::Write { path, .. } | CgroupError::Read { path, .. } => !own(path),
                _ => true,
            }
    }

    fn attempt(&self, kernel: Kernel) -> Result<Joined, CgroupError> {
        let mut joined = Joined::default();
        let mut refused: Vec<&CgroupStep> = Vec::new();
        for step in self.steps() {
            if let CgroupStep::Limit { .. } = step {
                match write_limit(kernel, step) {
                    // Limits that bound each other (memory and memory plus swap, quota and
                    // period) are refused in one order or the other when a directory already has
                    // some: such a one is tried again after the others.
                    Err(error) if is_invalid(&error) => refused.push(step),
                    result => result?,
                }
                continue;
            }
            for step in refused.drain(..) {
                write_limit(kernel, step)?;
            }
            match step {
                CgroupStep::Create { directory } => create(directory)?,
                CgroupStep::InheritCpuset { directory } => inherit_cpuset(directory)?,
                CgroupStep::Enable {
                    directory,
                    controllers,
                    optional: false,
                } => {
                    enable(kernel, directory, controllers)?;
                }
                CgroupStep::Enable {
                    directory,
                    controllers,
                    optional: true,
                } => {
                    enable_some(kernel, directory, controllers);
                }
                CgroupStep::CheckMemory {
                    directory,
                    setting,
                    check,
                } => {
                    check_memory(directory, setting, *check)?;
                }
                CgroupStep::Limit { .. } => {}
                CgroupStep::Devices { directory, program } => attach(directory, program)?,
                CgroupStep::OpenTasks { directory } => joined.tasks.push(open_tasks(directory)?),
                CgroupStep::OpenDirectory { directory } => {
                    joined.directory = Some(open_directory(directory)?);
                }
            }
        }
        Ok(joined)
    }
}

/// Whether control files have to be there. A test's tree of plain directories has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    Real,
    #[cfg(test)]
    Fake,
}

pub(super) fn open_tasks(directory: &Path) -> Result<OwnedFd, CgroupError> {
    let path = directory.join("tasks");
    match OpenOptions::new().write(true).open(&path) {
        Ok(file) => Ok(file.into()),
        Err(source) => Err(CgroupError::Read { path, source }),
    }
}

pub(super) fn open_directory(directory: &Path) -> Result<OwnedFd, CgroupError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_PATH | libc::O_NOFOLLOW)
        .open(directory)
        .map(OwnedFd::from)
        .map_err(|source| CgroupError::Read {
            path: directory.to_owned(),
            source,
        })
}

pub(super) fn create(directory: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(directory) {
        Err(source) if source.kind() == ErrorKind::AlreadyExists => {
            // One look only: between two of them another container's end can remove it, and
            // another's start make it again.
            let source = match std::fs::metadata(directory) {
                Ok(found) if found.is_dir() => return Ok(()),
                Ok(_) => source,
                Err(source) => source,
            };
            Err(CgroupError::Create {
                path: directory.to_owned(),
                source,
            })
        }
        result => result.map_err(|source| CgroupError::Create {
            path: directory.to_owned(),
            source,
        }),
    }
}

/// One write(2), because each is a command to the kernel.
fn write_file(kernel: Kernel, path: &Path, value: &str) -> io::Result<()> {
    let create = kernel != Kernel::Real;
    let mut file = OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(create)
        .open(path)?;
    let written = file.write(value.as_bytes())?;
    if written != value.len() {
        return Err(io::Error::new(
            ErrorKind::WriteZero,
            "the kernel took only a part",
        ));
    }
    Ok(())
}

/// A [`CgroupStep::Limit`].
pub(super) fn write_limit(kernel: Kernel, step: &CgroupStep) -> Result<(), CgroupError> {
    let CgroupStep::Limit {
        directory,
        setting,
        choices,
        optional,
    } = step
    else {
        return Ok(());
    };
    let mut last = None;
    for (file, value) in choices {
        let path = directory.join(file);
        match write_file(kernel, &path, value) {
            Ok(()) => return Ok(()),
            Err(source) => {
                let absent = source.kind() == ErrorKind::NotFound;
                let hint = hint(file, &source);
                let (setting, value) = (setting.clone(), value.clone());
                let error = CgroupError::Write {
                    setting,
                    path,
                    value,
                    source,
                    hint,
                };
                if !absent {
                    return Err(error);
                }
                last = Some(error);
            }
        }
    }
    last.filter(|_| !optional).map_or(Ok(()), Err)
}

pub(super) fn is_invalid(error: &CgroupError) -> bool {
    matches!(error, CgroupError::Write { source, .. } if source.raw_os_error() == Some(libc::EINVAL))
}

fn hint(file: &str, source: &io::Error) -> &'static str {
    let swap = file.starts_with("memory.memsw") || file.starts_with("memory.swap");
    match source.raw_os_error() {
        Some(libc::ENOENT) if swap => {
            "; swap is not accounted here: boot with swapaccount=1, or remove the setting"
        }
        Some(libc::ENOENT) => "; this kernel does not have it: remove the setting",
        Some(libc::EACCES | libc::EPERM) if file.starts_with("devices.") => {
            "; the cgroup above does not allow it either"
        }
        Some(libc::EROFS) => "; the cgroup file system is mounted read-only",
        Some(libc::EBUSY) if file.starts_with("memory.") => {
            "; more is in use already: stop what runs in it first"
        }
        Some(libc::EINVAL | libc::ERANGE) => "; the value does not fit the limits around it",
        _ => "",
    }
}

/// cpuset of v1 (kernel documentation, admin-guide/cgroup-v1/cpusets, "What are the rules").
fn inherit_cpuset(directory: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if !read(&directory.join(file))?.trim().is_empty() {
            continue;
        }
        let Some(parent) = directory.parent() else {
            continue;
        };
        let value = read(&parent.join(file))?.trim().to_owned();
        let path = directory.join(file);
        write_file(Kernel::Real, &path, &value).map_err(|source| CgroupError::Write {
            setting: "linux.resources.cpu".into(),
            path,
            value,
            source,
            hint: "",
        })?;
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|source| CgroupError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(text)
}

fn enable(kernel: Kernel, directory: &Path, controllers: &[String]) -> Result<(), CgroupError> {
    let path = directory.join("cgroup.subtree_control");
    let enabled = if kernel == Kernel::Real || path.exists() {
        read(&path)?
    } else {
        String::new()
    };
    let words: Vec<String> = controllers
        .iter()
        .filter(|name| !enabled.split_whitespace().any(|word| word == name.as_str()))
        .map(|name| format!("+{name}"))
        .collect();
    if words.is_empty() {
        return Ok(());
    }
    let words = words.join(" ");
    write_file(kernel, &path, &words).map_err(|source| {
        let hint = match source.raw_os_error() {
            // cgroups(7), "no internal processes" rule
            Some(libc::EBUSY) => {
                "; processes live in that cgroup itself: move them into a cgroup below it"
            }
            Some(libc::ENOENT) => "; the cgroup above it does not pass them down",
            Some(libc::EROFS) => "; the cgroup file system is mounted read-only",
            Some(libc::EOPNOTSUPP) => "; it is a threaded cgroup",
            _ => "",
        };
        CgroupError::Enable {
            controllers: words.clone(),
            directory: directory.into(),
            source,
            hint,
        }
    })
}

/// A [`CgroupStep::Enable`].
pub(super) fn enable_step(step: &CgroupStep) -> Result<(), CgroupError> {
    match step {
        CgroupStep::Enable {
            directory,
            controllers,
            ..
        } => enable(Kernel::Real, directory, controllers),
        _ => Ok(()),
    }
}

/// Controllers that nothing depends on: all at once, or else those that can be had.
fn enable_some(kernel: Kernel, directory: &Path, controllers: &[String]) {
    if enable(kernel, directory, controllers).is_err() {
        for one in controllers {
            enable(kernel, directory, std::slice::from_ref(one)).unwrap_or_default();
        }
    }
}

pub(super) fn check_memory(
    directory: &Path,
    setting: &str,
    check: MemoryCheck,
) -> Result<(), CgroupError> {
    let (usage, limit, what) = match check {
        MemoryCheck::Memory(limit) => (super::manage::memory_usage(directory), limit, "memory"),
        MemoryCheck::MemoryAndSwap(limit) => {
            let usage = super::manage::memory_and_swap_usage(directory);
            (usage, limit, "memory+swap")
        }
    };
    let Some(usage) = usage.filter(|usage| *usage > limit) else {
        return Ok(());
    };
    Err(CgroupError::Unsupported {
        setting: setting.to_owned(),
        why: format!(
            "rejecting {what} limit of {limit} bytes: {usage} are in use in {} already \
             (checkBeforeUpdate is set)",
            directory.display()
        ),
    })
}

/// Attach a device program in place of those of ours that were there before. As long as both are
/// attached both must agree: nothing is allowed that neither of them allows.
pub(super) fn attach(directory: &Path, program: &[u64]) -> Result<(), CgroupError> {
    let error = |action| {
        move |source| CgroupError::DeviceProgram {
            action,
            path: directory.to_owned(),
            source,
        }
    };
    let loaded = bpf::load_device_program(program).map_err(error("load"))?;
    // Attaching needs a real descriptor, not one opened with O_PATH.
    let cgroup = File::open(directory).map_err(error("attach"))?;
    let old = bpf::device_programs(cgroup.as_fd()).map_err(error("look for"))?;
    bpf::attach_device_program(cgroup.as_fd(), loaded.as_fd()).map_err(error("attach"))?;
    old.iter()
        .try_for_each(|old| bpf::detach_device_program(cgroup.as_fd(), old.as_fd()))
        .map_err(error("replace"))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
