//! What seccomp has to know of an architecture. To add one: a table file like `x86_64.rs`, an
//! [`Arch`] here, and its line in [`native`].

use super::{SeccompError, foreign, x86_64};
use oci_spec::runtime::Arch as OciArch;

/// An architecture: how the kernel numbers it, and its system calls. Little-endian only.
#[derive(Debug)]
pub struct Arch {
    /// `seccomp_data.arch` of its calls (`AUDIT_ARCH_*`).
    pub(super) audit: u32,
    /// How OCI calls it.
    pub(super) oci: OciArch,
    /// Names and numbers of its calls, sorted by name.
    pub(super) calls: &'static [(&'static str, u32)],
    /// A second interface with the same audit number, told apart by a bit of the call number.
    pub(super) second: Option<(OciArch, u32)>,
    /// Other architectures whose programs the same kernel can run, with their audit numbers.
    pub(super) siblings: &'static [(OciArch, u32)],
}

impl Arch {
    /// The number of a system call.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let index = self
            .calls
            .binary_search_by(|(known, _)| (*known).cmp(name))
            .ok()?;
        Some(self.calls[index].1)
    }

    /// Whether the name is one of a system call of this or another architecture.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.number(name).is_some() || foreign::CALLS.binary_search(&name).is_ok()
    }
}

/// 64-bit x86.
pub static X86_64: Arch = Arch {
    audit: x86_64::AUDIT,
    oci: OciArch::ScmpArchX86_64,
    calls: x86_64::CALLS,
    second: Some((OciArch::ScmpArchX32, x86_64::X32_BIT)),
    siblings: &[(OciArch::ScmpArchX86, 0x4000_0003)],
};

/// The architecture that this program was compiled for.
///
/// # Errors
/// [`SeccompError::Architecture`] when there is no table for it.
pub fn native() -> Result<&'static Arch, SeccompError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(&X86_64),
        other => Err(SeccompError::Architecture(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_and_agree_with_libc() {
        assert!(X86_64.calls.is_sorted_by(|a, b| a.0 < b.0));
        assert!(foreign::CALLS.is_sorted());
        let mut numbers: Vec<u32> = X86_64.calls.iter().map(|c| c.1).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), X86_64.calls.len(), "a number stands twice");
        if cfg!(target_arch = "x86_64") {
            for (name, number) in [
                ("read", libc::SYS_read),
                ("clone", libc::SYS_clone),
                ("prlimit64", libc::SYS_prlimit64),
                ("openat2", libc::SYS_openat2),
                ("clone3", libc::SYS_clone3),
                ("fchmodat2", libc::SYS_fchmodat2),
                ("mseal", libc::SYS_mseal),
            ] {
                assert_eq!(X86_64.number(name).map(i64::from), Some(number), "{name}");
            }
        }
        assert_eq!(X86_64.number("socketcall"), None);
        assert!(X86_64.is_known("socketcall"));
        assert!(!X86_64.is_known("sockett"));
    }
}
