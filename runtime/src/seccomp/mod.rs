//! Seccomp: from `linux.seccomp` of config.json to a BPF program.
//!
//! The way of a profile: [`rules`] reads the section and decides for each system call what
//! happens, [`arch`] knows the names and numbers of the architecture, [`interface`] turns the
//! decisions into ranges of the numbers of each of its interfaces, [`program`] lays these out as
//! binary trees, and [`assembler`] turns that into instructions. libseccomp takes 1 to 9 ms for a
//! usual profile; this takes some 20 us for each interface, and the trees are short for the kernel
//! to load and to run.
//!
//! The meaning of a section is that of runc and crun, which is libseccomp's:
//!
//! * A rule whose action is the default action says nothing and is skipped.
//! * A rule without `args` decides for its system call whatever rules with `args` say; of several
//!   such rules the first counts.
//! * All `args` of one rule must match; but when a rule names one index twice, each of its `args`
//!   is a rule of its own.
//! * Arguments are compared as unsigned 64-bit numbers. `SCMP_CMP_MASKED_EQ` compares
//!   `arg & value` with `valueTwo & value`. On interfaces with 32-bit registers only the lower
//!   halves of both sides are compared.
//! * The native architecture always belongs to the section. On x86-64, 32-bit x86 and x32 do when
//!   they are listed (on 64-bit ARM, 32-bit ARM); the rules hold for them under their own numbers.
//!   A call of any other architecture ends the process. What is listed and cannot occur on this
//!   kernel is ignored.
//! * As in runc, where the default action denies, calls newer than all that the section names
//!   (with a larger number) give `ENOSYS`, so that C libraries fall back.
//! * Without `flags`, `SECCOMP_FILTER_FLAG_SPEC_ALLOW` is set; `"flags": []` means none.
//!
//! Where several rules with `args` and different actions match one call, libseccomp's choice
//! follows from the layout of its tree. Here the strictest action counts, as in the kernel when
//! several filters are installed (seccomp(2)). The same `args` with different actions are refused,
//! as libseccomp does.
//!
//! socketcall(2) and ipc(2) of 32-bit x86 stand for other calls. A rule for one of these without
//! `args` holds there as well. A rule with `args` cannot be checked there, since they are in
//! memory; so, other than in libseccomp, it can deny but not allow (and the same goes for mmap(2)
//! and select(2) there). A rule that names `socketcall` or `ipc` itself, without `args`, decides.
//!
//! A name that no architecture has is skipped, as in runc and crun (profiles name calls of newer
//! kernels), as long as the default action denies it. With a default action that lets calls
//! through, skipping a denied name would open a hole, so it is an error.
//!
//! With `SCMP_ACT_NOTIFY`, seccomp(2) returns a descriptor for the agent ([`Filter::listener`]).
//! From then until the agent has it, the launching process may make no system call but write(2),
//! which therefore cannot be notified; for all later ones, execve(2) included, the agent answers.

mod aarch64;
mod arch;
mod assembler;
mod error;
mod foreign;
mod interface;
mod program;
mod rules;
mod x86;

#[cfg(test)]
mod tests;

pub use arch::{Arch, native};
pub use error::SeccompError;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag as Flag};
use seccompiler::sock_filter;
use std::path::PathBuf;

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

// SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A compiled filter, ready for seccomp(2) with `SECCOMP_SET_MODE_FILTER`. Installing it needs no
/// allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program: at least one and at most [`MAX_INSTRUCTIONS`] instructions.
    pub instructions: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*` for the system call.
    pub flags: u32,
    /// Who gets the descriptor that the system call returns. There if a rule has the action
    /// `SCMP_ACT_NOTIFY`; `flags` then have `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    pub listener: Option<Listener>,
}

/// An agent that handles notified system calls (seccomp_unotify(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `listenerPath`: its socket, an absolute path.
    pub path: PathBuf,
    /// `listenerMetadata`: what it is told beside the state of the container.
    pub metadata: Option<String>,
}

/// Compile a `linux.seccomp` section for an architecture (usually [`native`]).
///
/// # Errors
/// When the section asks for something that is unknown, contradictory or not supported.
pub fn compile(section: &LinuxSeccomp, arch: &Arch) -> Result<Filter, SeccompError> {
    let profile = rules::Profile::read(section, arch)?;
    let listener = listener(section, profile.notifies)?;
    let flags = flags(section, profile.notifies)?;
    let instructions = program::generate(&profile, arch);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong {
            length: instructions.len(),
        });
    }
    Ok(Filter {
        instructions,
        flags,
        listener,
    })
}

/// The agent, when one is needed; otherwise its path is ignored (runtime-spec, config-linux.md).
fn listener(section: &LinuxSeccomp, needed: bool) -> Result<Option<Listener>, SeccompError> {
    let path = section.listener_path().as_ref();
    let path = path.filter(|path| !path.as_os_str().is_empty());
    let metadata = section.listener_metadata();
    match path {
        None if metadata.is_some() => Err(SeccompError::Needs {
            what: "listenerMetadata",
            needed: "listenerPath",
        }),
        None if needed => Err(SeccompError::Needs {
            what: "syscalls: SCMP_ACT_NOTIFY",
            needed: "listenerPath",
        }),
        Some(path) if needed && !path.is_absolute() => {
            Err(SeccompError::ListenerPath(path.clone()))
        }
        Some(path) if needed => Ok(Some(Listener {
            path: path.clone(),
            metadata: metadata.clone(),
        })),
        _ => Ok(None),
    }
}

fn flags(section: &LinuxSeccomp, notifies: bool) -> Result<u32, SeccompError> {
    let listener = if notifies { NEW_LISTENER } else { 0 };
    let Some(flags) = section.flags() else {
        return Ok(listener | SPEC_ALLOW);
    };
    flags.iter().try_fold(listener, |flags, flag| match flag {
        // The filter is loaded by a process with one thread, so there is nothing to synchronize;
        // and the kernel refuses it beside NEW_LISTENER. runc leaves it away, too.
        Flag::SeccompFilterFlagTsync => Ok(flags),
        Flag::SeccompFilterFlagLog => Ok(flags | LOG),
        Flag::SeccompFilterFlagSpecAllow => Ok(flags | SPEC_ALLOW),
        Flag::SeccompFilterFlagWaitKillableRecv if notifies => Ok(flags | WAIT_KILLABLE_RECV),
        Flag::SeccompFilterFlagWaitKillableRecv => Err(SeccompError::Needs {
            what: "flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
            needed: "a rule with SCMP_ACT_NOTIFY",
        }),
    })
}

/// What the seccomp part can do, as `features` tells it (runtime-spec, features-linux).
pub fn features() -> serde_json::Value {
    serde_json::json!({
        "enabled": true,
        "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP"],
        "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
        "archs": ["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
        "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "supportedFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
            "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
    })
}
