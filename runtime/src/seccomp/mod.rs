//! Seccomp: from `linux.seccomp` of config.json to a BPF program.
//!
//! The way of a profile: [`rules`] reads the section and decides for each system call number what
//! happens, [`arch`] knows the names and numbers of the architecture, [`program`] lays the
//! decisions out as a binary tree over ranges of numbers, and [`assembler`] turns that into
//! instructions. libseccomp takes 1 to 9 ms for a usual profile; this takes some 20 us, and the
//! tree is short for the kernel to load and to run.
//!
//! The meaning of a section is that of runc and crun, which is libseccomp's:
//!
//! * A rule whose action is the default action says nothing and is skipped.
//! * A rule without `args` decides for its system call whatever rules with `args` say; of several
//!   such rules the first counts.
//! * All `args` of one rule must match; but when a rule names one index twice, each of its `args`
//!   is a rule of its own.
//! * Arguments are compared as unsigned 64-bit numbers. `SCMP_CMP_MASKED_EQ` compares
//!   `arg & value` with `valueTwo & value`.
//! * The program knows the native architecture. A call of another one that the section lists
//!   (32-bit x86 or x32 on x86-64) gets the default action if that denies, and ends the process
//!   otherwise; one that the section does not list always ends the process.
//!
//! Where several rules with `args` and different actions match one call, libseccomp's choice
//! follows from the layout of its tree. Here the strictest action counts, as in the kernel when
//! several filters are installed (seccomp(2)). The same `args` with different actions are refused.
//!
//! A name that no architecture has is skipped, as in runc and crun (profiles name calls of newer
//! kernels), as long as the default action denies it. With a default action that lets calls
//! through, skipping a denied name would open a hole, so it is an error.

mod arch;
mod assembler;
mod error;
mod foreign;
mod program;
mod rules;
mod x86_64;

#[cfg(test)]
mod tests;

pub use arch::{Arch, native};
pub use error::SeccompError;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use seccompiler::sock_filter;

/// The most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A compiled filter, ready for seccomp(2) with `SECCOMP_SET_MODE_FILTER`. Installing it needs no
/// allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program: at least one and at most [`MAX_INSTRUCTIONS`] instructions.
    pub instructions: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*` for the system call.
    pub flags: u32,
}

/// Compile a `linux.seccomp` section for an architecture (usually [`native`]).
///
/// # Errors
/// When the section asks for something that is unknown, contradictory or not supported.
pub fn compile(section: &LinuxSeccomp, arch: &Arch) -> Result<Filter, SeccompError> {
    let flags = flags(section)?;
    if section.listener_path().is_some() || section.listener_metadata().is_some() {
        return Err(SeccompError::Notify {
            at: "listenerPath".into(),
        });
    }
    let profile = rules::Profile::read(section, arch)?;
    let instructions = program::generate(&profile, arch);
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong {
            length: instructions.len(),
        });
    }
    Ok(Filter {
        instructions,
        flags,
    })
}

fn flags(section: &LinuxSeccomp) -> Result<u32, SeccompError> {
    // linux/seccomp.h
    const TSYNC: u32 = 1;
    const LOG: u32 = 2;
    const SPEC_ALLOW: u32 = 4;
    section
        .flags()
        .iter()
        .flatten()
        .try_fold(0, |flags, flag| match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Ok(flags | TSYNC),
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => Ok(flags | LOG),
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Ok(flags | SPEC_ALLOW),
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                Err(SeccompError::Notify { at: "flags".into() })
            }
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
