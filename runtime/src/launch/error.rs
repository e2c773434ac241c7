//! What can go wrong while a plan is carried out.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::plan::step::Program;
use crate::plan::{Plan, Step};
use crate::report::{Fault, Part};

/// Why a launch failed. Whatever had been made is undone.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The new process could not do a step.
    #[error("{step}: {problem}: {source}{hint}")]
    Step {
        /// The step, as the plan prints it.
        step: String,
        /// Which part of it, on what.
        problem: String,
        /// The error number.
        source: io::Error,
        /// What to do; begins with a separator, or is empty.
        hint: &'static str,
    },
    /// The program could not be executed. The words are those that engines look for.
    #[error("exec {program}: {}{hint}", system_word(source))]
    Execute {
        /// The program.
        program: String,
        /// The error number.
        source: io::Error,
        /// As in [`LaunchError::Step`].
        hint: &'static str,
    },
    /// The new process ended without a word.
    #[error("the new process was killed before it could execute its program{0}")]
    Died(&'static str),
    /// A signal ended the launch.
    #[error("interrupted by signal {signal} while the container was being launched")]
    Interrupted {
        /// Its number.
        signal: i32,
    },
    /// The cgroup belongs to somebody else, and would be killed with this container.
    #[error(
        "the cgroup {} has processes already, container's cgroup is not empty; give the container another linux.cgroupsPath, or \
         delete the one that uses it", path.display()
    )]
    CgroupInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The cgroup is frozen: nothing that is put in there would run.
    #[error(
        "the cgroup {}: container's cgroup unexpectedly frozen; thaw it, or give the container another \
         linux.cgroupsPath", path.display()
    )]
    CgroupFrozen {
        /// The directory.
        path: PathBuf,
    },
    /// A new root in the runtime's own mount namespace would be the host's.
    #[error(
        "linux.namespaces: mount: {} is the runtime's own; leave its path out, or leave the namespace \
         out to mount among the host's mounts", path.display()
    )]
    OwnMounts {
        /// As it was given.
        path: PathBuf,
    },
    /// A path of `linux.namespaces` that leads to something else.
    #[error(
        "linux.namespaces: {kind}: {} is {found}; give a file of /proc/PID/ns, or what one is mounted on, or leave \
         the path out for a new namespace", path.display()
    )]
    NoNamespace {
        /// Which kind was wanted.
        kind: &'static str,
        /// As it was given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The host would be changed, by way of the path of its own namespace.
    #[error(
        "linux.namespaces: {kind}: {} is the runtime's own, and this would change the host: {step}; leave one of the \
         two out", path.display()
    )]
    OwnNamespace {
        /// Its kind.
        kind: &'static str,
        /// As it was given.
        path: PathBuf,
        /// What would be changed, as the plan has it.
        step: String,
    },
    /// Everything would be mounted into the host's own root.
    #[error(
        "root.path is the host's own root, and linux.namespaces has no mount namespace; add {{\"type\": \
         \"mount\"}}"
    )]
    RootIsTheHosts,
    /// A hook failed.
    #[error("error running hook: the {kind} hook {} failed: {why}", path.display())]
    Hook {
        /// Its kind, as the specification calls it.
        kind: &'static str,
        /// Its place among those of its kind, from 0.
        number: usize,
        /// The program.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The runtime could not do something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The container is not in the right state for this.
    #[error("container {id} is {status}; {need}")]
    Status {
        /// The container.
        id: String,
        /// What it is.
        status: String,
        /// What is needed.
        need: &'static str,
    },
}

impl LaunchError {
    /// A failure of the runtime itself.
    pub fn system(what: impl Into<String>, source: impl Into<io::Error>) -> LaunchError {
        LaunchError::System {
            what: what.into(),
            source: source.into(),
        }
    }

    /// What execve(2) said, and nothing else, when that is what failed for a file that was named.
    pub(crate) fn execute_alone(&self) -> Option<String> {
        match self {
            LaunchError::Execute {
                program, source, ..
            } if program.contains('/') => Some(format!("exec {program}: {}", system_word(source))),
            _ => None,
        }
    }

    /// What the new process reported, in words.
    pub fn fault(plan: &Plan, index: usize, fault: &Fault) -> LaunchError {
        let step = plan.steps.get(index);
        LaunchError::described(&plan.describe(index), step, fault)
    }

    /// The same when only the words of the step are known.
    pub fn described(text: &str, step: Option<&Step>, fault: &Fault) -> LaunchError {
        // Somebody in the container may have said it.
        let detail = String::from_utf8_lossy(fault.detail.as_bytes());
        let detail: String = detail
            .chars()
            .map(|c| {
                if c.is_control() {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                }
            })
            .collect();
        if let (Some(Step::Execute(program)), Part::Whole) = (step, fault.part) {
            // Where it was found, when it was looked for.
            let program = match detail.as_str() {
                "" => program.name().into_owned(),
                found => found.to_owned(),
            };
            return LaunchError::Execute {
                program,
                source: fault.errno.into(),
                hint: hint(step, fault),
            };
        }
        let problem = match (fault.part, detail.as_str()) {
            (Part::Whole, "") => "failed".to_owned(),
            (Part::Whole, detail) => detail.to_owned(),
            (part, "") => part.words().to_owned(),
            (part, detail) => format!("{} ({detail})", part.words()),
        };
        LaunchError::Step {
            step: text.to_owned(),
            problem,
            source: fault.errno.into(),
            hint: hint(step, fault),
        }
    }
}

/// `no such file or directory`, as other runtimes have it.
fn system_word(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase()
}

/// Whether it is not looked for in `$PATH`.
fn names_a_file(program: &Program) -> bool {
    let name = program.arguments.first();
    program.file.is_some() || name.is_some_and(|name| name.contains('/'))
}

/// What usually helps.
fn hint(step: Option<&Step>, fault: &Fault) -> &'static str {
    match (step, fault.part, fault.errno) {
        (Some(Step::Execute(program)), _, Errno::NOENT)
            if fault.detail.as_bytes().is_empty() && !names_a_file(program) =>
        {
            "; executable file not found in $PATH of the container"
        }
        (Some(Step::Execute(_)), _, Errno::NOENT) => {
            "; it, its interpreter (#!) or its loader is not in the root of the container"
        }
        (Some(Step::Execute(_)), _, Errno::ACCESS) => {
            "; it is not executable for the user of the process, or on a noexec mount"
        }
        (Some(Step::Execute(_)), _, Errno::NOEXEC) => {
            "; it is neither a program for this machine nor a script with a #! line"
        }
        (Some(Step::Find(program)), _, Errno::NOENT) => match program.file {
            Some(_) => "; there is no such file in the root of the container",
            None => "; executable file not found in $PATH of the container",
        },
        (Some(Step::Find(_)), _, Errno::ACCESS) => "; it is no file that can be executed",
        (Some(Step::WorkingDirectory(_)), Part::Verify, _) => "; it leads out of the root",
        (Some(Step::WorkingDirectory(_)), _, Errno::ACCESS) => {
            "; the user of the process may not enter it"
        }
        (Some(Step::Limit(_)), _, Errno::PERM) => {
            "; the hard limit of the runtime is lower, and it may not raise it"
        }
        (_, Part::Target | Part::Create, Errno::LOOP) => {
            "; a symbolic link is in the way inside the root: it must be mounted on ordinary directory"
        }
        (_, Part::Create, Errno::ROFS) => {
            "; the mount point is missing and the root is on a read-only file system: make it in the rootfs"
        }
        (Some(Step::Root { .. }), Part::Source, Errno::NOENT | Errno::NOTDIR) => {
            "; root.path of config.json names the directory that becomes the container's /: is it there?"
        }
        (Some(Step::Mount(_)), Part::Source, Errno::NOENT) => {
            "; make it on the host, or remove the mount"
        }
        (Some(Step::Mount(_)), Part::Source, Errno::INVAL) => {
            "; are there mounts below it? those a user namespace may not uncover: write rbind"
        }
        (Some(Step::Mount(_)), Part::Attributes, Errno::PERM) => {
            "; a user namespace may not allow again what the host's mount forbids, nor change its times of access"
        }
        (_, Part::Filesystem, Errno::NODEV) => "; this kernel does not have that file system",
        (_, _, Errno::NOSYS) => "; this kernel is too old (Linux 5.12 is needed)",
        _ => "",
    }
}
