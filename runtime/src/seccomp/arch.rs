//! What seccomp has to know of an architecture. To add one: a table file like `x86.rs`, an
//! [`Arch`] here, and its line in [`native`].

use super::{SeccompError, aarch64, foreign, x86};
use oci_spec::runtime::Arch as OciArch;

/// The most interfaces that an architecture has.
pub(super) const INTERFACES: usize = 3;

/// A system call: its name, and its number on each interface of the architecture.
pub(super) type Call = (&'static str, [i32; INTERFACES]);

/// Instead of a number: the interface has no such call.
pub(super) const NO: i32 = -1;

/// Instead of a row: no call has the number.
pub(super) const GAP: u16 = u16::MAX;

/// An architecture: its system calls and the interfaces by which a kernel takes them.
/// Little-endian only.
#[derive(Debug)]
pub struct Arch {
    /// Names and numbers, sorted by name.
    pub(super) calls: &'static [Call],
    /// The native interface, then the others that the same kernel can serve; in the order of the
    /// numbers in `calls`.
    pub(super) interfaces: &'static [Interface],
}

/// A set of system call numbers that the kernel tells apart from others (seccomp(2)).
#[derive(Debug)]
pub(super) struct Interface {
    /// How OCI calls it.
    pub oci: OciArch,
    /// `seccomp_data.arch` of its calls (`AUDIT_ARCH_*`).
    pub audit: u32,
    /// Set in its numbers, when it shares `audit` with the native interface; otherwise 0.
    pub bit: u32,
    /// Registers hold 32 bits; what is in the upper halves of arguments means nothing.
    pub narrow: bool,
    /// Rows of the table by number, ascending, from 0.
    pub segments: &'static [Segment],
    /// Calls that stand for others.
    pub multiplexers: &'static [Multiplexer],
    /// Calls that take their arguments from memory, where a filter cannot see them.
    pub indirect: &'static [&'static str],
}

/// Consecutive numbers.
#[derive(Debug)]
pub(super) struct Segment {
    pub first: u32,
    /// Row of the call with the number `first` plus the index, or [`GAP`].
    pub rows: &'static [u16],
    /// No call will ever fill the gaps, and kernels before 5.4 take these numbers for a call of
    /// the interface that shares `audit` (see `NUMBERS` below).
    pub closed: bool,
}

/// A call whose first argument says which other call is meant.
#[derive(Debug)]
pub(super) struct Multiplexer {
    pub name: &'static str,
    /// The bits of the argument that say it.
    pub mask: u64,
    /// The other calls and their values.
    pub members: &'static [(&'static str, u64)],
}

impl Arch {
    /// The row of a system call that at least one interface has.
    pub(super) fn row(&self, name: &str) -> Option<usize> {
        self.calls
            .binary_search_by(|(known, _)| (*known).cmp(name))
            .ok()
    }

    /// The same, for names that mostly come in the order of the table, as in the profiles of engines: `next` is where
    /// the search begins, and becomes the row after the one that was found.
    pub(super) fn row_from(&self, next: &mut usize, name: &str) -> Option<usize> {
        let as_expected = self.calls.get(*next).filter(|(known, _)| *known == name);
        let row = match as_expected {
            Some(_) => *next,
            None => self.row(name)?,
        };
        *next = row + 1;
        Some(row)
    }

    /// Whether the name is one of a system call of this or another architecture.
    pub(super) fn is_known(&self, name: &str) -> bool {
        [&X86_64, &AARCH64].iter().any(|a| a.row(name).is_some())
            || foreign::CALLS.binary_search(&name).is_ok()
    }
}

/// The rows of the numbers from `first` on, up to `N` of them.
const fn by_number<const N: usize>(calls: &[Call], interface: usize, first: i32) -> [u16; N] {
    let mut rows = [GAP; N];
    let mut row = 0;
    while row < calls.len() {
        let number = calls[row].1[interface];
        if number >= first && number < first + N as i32 {
            rows[(number - first) as usize] = row as u16;
        }
        row += 1;
    }
    rows
}

const fn open(first: u32, rows: &'static [u16]) -> Segment {
    Segment {
        first,
        rows,
        closed: false,
    }
}

const fn closed(first: u32, rows: &'static [u16]) -> Segment {
    Segment {
        first,
        rows,
        closed: true,
    }
}

/// 64-bit x86, with 32-bit x86 and x32.
///
/// NUMBERS: the numbers 512 to 547 are x32's alone, and x32 lacks the 64-bit calls below 335 that
/// have a number there. Kernels before 5.4 carry them out all the same, each as the other
/// interface's (arch/x86/entry/syscalls/syscall_64.tbl).
pub static X86_64: Arch = Arch {
    calls: x86::CALLS,
    interfaces: &[
        Interface {
            oci: OciArch::ScmpArchX86_64,
            audit: x86::AUDIT_X86_64,
            bit: 0,
            narrow: false,
            segments: &[
                open(0, &by_number::<470>(x86::CALLS, 0, 0)),
                closed(512, &[GAP; 36]),
            ],
            multiplexers: &[],
            indirect: &[],
        },
        Interface {
            oci: OciArch::ScmpArchX86,
            audit: x86::AUDIT_I386,
            bit: 0,
            narrow: true,
            segments: &[open(0, &by_number::<470>(x86::CALLS, 1, 0))],
            multiplexers: x86::MULTIPLEXERS,
            indirect: x86::INDIRECT,
        },
        Interface {
            oci: OciArch::ScmpArchX32,
            audit: x86::AUDIT_X86_64,
            bit: x86::X32_BIT,
            narrow: true,
            segments: &[
                closed(0, &by_number::<335>(x86::CALLS, 2, 0)),
                open(335, &by_number::<135>(x86::CALLS, 2, 335)),
                closed(512, &by_number::<36>(x86::CALLS, 2, 512)),
            ],
            multiplexers: &[],
            indirect: &[],
        },
    ],
};

/// 64-bit ARM, with 32-bit ARM (EABI).
pub static AARCH64: Arch = Arch {
    calls: aarch64::CALLS,
    interfaces: &[
        Interface {
            oci: OciArch::ScmpArchAarch64,
            audit: aarch64::AUDIT_AARCH64,
            bit: 0,
            narrow: false,
            segments: &[open(0, &by_number::<470>(aarch64::CALLS, 0, 0))],
            multiplexers: &[],
            indirect: &[],
        },
        Interface {
            oci: OciArch::ScmpArchArm,
            audit: aarch64::AUDIT_ARM,
            bit: 0,
            narrow: true,
            segments: &[
                open(0, &by_number::<470>(aarch64::CALLS, 1, 0)),
                open(
                    aarch64::ARM_PRIVATE,
                    &by_number::<7>(aarch64::CALLS, 1, aarch64::ARM_PRIVATE as i32),
                ),
            ],
            multiplexers: &[],
            indirect: &[],
        },
    ],
};

/// The architecture that this program was compiled for.
///
/// # Errors
/// [`SeccompError::Architecture`] when there is no table for it.
pub fn native() -> Result<&'static Arch, SeccompError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(&X86_64),
        "aarch64" => Ok(&AARCH64),
        other => Err(SeccompError::Architecture(other)),
    }
}
