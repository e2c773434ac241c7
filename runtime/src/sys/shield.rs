//! The machine code of the shield, see [`crate::shield`].

use seccompiler::sock_filter;

/// What the launcher puts behind the code.
#[derive(Debug, Clone, Copy)]
pub struct Trailer<'a> {
    /// The number of the descriptor to report to.
    pub report: u32,
    /// The index of the step to blame.
    pub step: u32,
    /// Wait first: for a go, and then for a connection to this socket, which takes the place of the
    /// report.
    pub wait: Option<Option<i32>>,
    /// The filter to load.
    pub filter: Option<Filter<'a>>,
}

/// A seccomp filter.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    /// The index of the step to blame.
    pub step: u32,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Tell the number of its listener, and go on when it was taken.
    pub notify: bool,
    /// At most 65,535.
    pub instructions: &'a [sock_filter],
}

impl Trailer<'_> {
    /// As the code expects it, when it lies at the address `at`.
    pub fn to_bytes(self, at: u64) -> Vec<u8> {
        let none = Filter {
            step: 0,
            flags: 0,
            notify: false,
            instructions: &[],
        };
        let filter = self.filter.unwrap_or(none);
        let listener = match filter.notify {
            true => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32,
            false => 0,
        };
        let mut bytes = Vec::with_capacity(HEADER + filter.instructions.len() * 8);
        for value in [
            self.report,
            self.step,
            u32::from(self.wait.is_some()),
            self.wait.flatten().unwrap_or(-1).cast_unsigned(),
            filter.step,
            filter.flags | listener,
            // A sock_fprog (seccomp(2)): how many, and behind the padding where.
            u32::try_from(filter.instructions.len()).unwrap_or(0),
            0,
        ] {
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        bytes.extend_from_slice(&(at + HEADER as u64).to_ne_bytes());
        for one in filter.instructions {
            bytes.extend_from_slice(&one.code.to_ne_bytes());
            bytes.extend_from_slice(&[one.jt, one.jf]);
            bytes.extend_from_slice(&one.k.to_ne_bytes());
        }
        bytes
    }
}

/// The bytes in front of the filter.
const HEADER: usize = 40;

// Register use: rbx the arguments of the program, r12 the error to report (negative), r13 the
// candidates, r14 the environment, r15 the trailer, rbp the path to report.
//
// r8 the step to blame.
//
// prctl (157), fcntl (72), execve (59), read (0), write (1), accept4 (288), dup3 (292), close (3), seccomp (317),
// exit_group (231); messages as `crate::report` encodes them.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.metactl_shield, \"a\"",
    ".globl metactl_shield_start",
    ".globl metactl_shield_end",
    "metactl_shield_start:",
    // prctl(PR_SET_DUMPABLE, 0): others in the container have little time to look at it.
    "mov edi, 4",
    "xor esi, esi",
    "mov eax, 157",
    "syscall",
    "mov r12, [rsp]",
    "lea r13, [rsp + 8]",
    "lea r14, [r13 + r12 * 8 + 8]",
    "lea r15, [rip + metactl_shield_end]",
    "xor ebp, ebp",
    // The arguments begin behind the first empty string.
    "mov rbx, r13",
    "2:",
    "mov rax, [rbx]",
    "add rbx, 8",
    "cmp byte ptr [rax], 0",
    "jne 2b",
    // The report is close-on-exec from here on.
    "mov edi, [r15]",
    "mov esi, 2",
    "mov edx, 1",
    "mov eax, 72",
    "syscall",
    "mov r12, rax",
    "test rax, rax",
    "js 5f",
    "mov r8d, [r15 + 4]",
    "cmp dword ptr [r15 + 8], 0",
    "je 27f",
    // To wait: say that everything is prepared (3), go on with a go (7), end with anything else.
    "sub rsp, 64",
    "mov qword ptr [rsp], 3",
    "mov dword ptr [rsp + 8], 0",
    "mov edi, [r15]",
    "mov rsi, rsp",
    "mov edx, 12",
    "mov eax, 1",
    "syscall",
    "test rax, rax",
    "js 26f",
    "mov edi, [r15]",
    "mov rsi, rsp",
    "mov edx, 64",
    "xor eax, eax",
    "syscall",
    "test rax, rax",
    "jle 26f",
    "cmp byte ptr [rsp], 7",
    "jne 26f",
    // The connection of `start` takes the place of the report.
    "cmp dword ptr [r15 + 12], 0",
    "jl 24f",
    "23:",
    "mov edi, [r15 + 12]",
    "xor esi, esi",
    "xor edx, edx",
    "mov r10d, 0x80000",
    "mov eax, 288",
    "syscall",
    "cmp rax, -4",
    "je 23b",
    "test rax, rax",
    "js 26f",
    "mov r13d, eax",
    "mov edi, eax",
    "mov esi, [r15]",
    "mov edx, 0x80000",
    "mov eax, 292",
    "syscall",
    "test rax, rax",
    "js 26f",
    "mov edi, r13d",
    "mov eax, 3",
    "syscall",
    "mov edi, [r15 + 12]",
    "mov eax, 3",
    "syscall",
    "24:",
    // Say that the program comes next (2).
    "mov qword ptr [rsp], 2",
    "mov dword ptr [rsp + 8], 0",
    "mov edi, [r15]",
    "mov rsi, rsp",
    "mov edx, 12",
    "mov eax, 1",
    "syscall",
    "test rax, rax",
    "js 26f",
    "add rsp, 64",
    // The candidates again, for their register was used.
    "lea r13, [rsp + 8]",
    "27:",
    "cmp word ptr [r15 + 24], 0",
    "je 25f",
    // seccomp(SECCOMP_SET_MODE_FILTER)
    "mov edi, 1",
    "mov esi, [r15 + 20]",
    "lea rdx, [r15 + 24]",
    "mov eax, 317",
    "syscall",
    "test rax, rax",
    "jz 25f",
    "mov r12, rax",
    "mov r8d, [r15 + 16]",
    "js 5f",
    // The listener (8): say its number, wait until it was taken.
    "mov r8d, [r15 + 4]",
    "sub rsp, 64",
    "mov qword ptr [rsp], 8",
    "mov dword ptr [rsp + 8], r12d",
    "mov edi, [r15]",
    "mov rsi, rsp",
    "mov edx, 12",
    "mov eax, 1",
    "syscall",
    "test rax, rax",
    "js 26f",
    "mov edi, [r15]",
    "mov rsi, rsp",
    "mov edx, 64",
    "xor eax, eax",
    "syscall",
    "test rax, rax",
    "jle 26f",
    "add rsp, 64",
    "jmp 25f",
    "26:",
    "mov edi, 127",
    "mov eax, 231",
    "syscall",
    "25:",
    "mov r12, -2",
    // Each candidate: not there is no error yet, "permission denied" is one unless another works.
    "3:",
    "mov rdi, [r13]",
    "cmp byte ptr [rdi], 0",
    "je 5f",
    "mov rsi, rbx",
    "mov rdx, r14",
    "mov eax, 59",
    "syscall",
    "cmp rax, -2",
    "je 4f",
    "cmp rax, -20",
    "je 4f",
    "mov r12, rax",
    "mov rbp, [r13]",
    "cmp rax, -13",
    "jne 5f",
    "4:",
    "add r13, 8",
    "jmp 3b",
    // Report, exit.
    "5:",
    "sub rsp, 256",
    "mov dword ptr [rsp], 1",
    "mov [rsp + 4], r8d",
    "mov eax, r12d",
    "neg eax",
    "mov [rsp + 8], eax",
    "mov edx, 12",
    "test rbp, rbp",
    "jz 7f",
    "6:",
    "mov al, [rbp]",
    "test al, al",
    "jz 7f",
    "mov [rsp + rdx], al",
    "inc rbp",
    "inc edx",
    "cmp edx, 192",
    "jb 6b",
    "7:",
    "mov edi, [r15]",
    "mov rsi, rsp",
    "mov eax, 1",
    "syscall",
    "mov edi, 127",
    "mov eax, 231",
    "syscall",
    ".balign 8",
    "metactl_shield_end:",
    ".quad 0",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    #[link_name = "metactl_shield_start"]
    static START: u8;
    #[link_name = "metactl_shield_end"]
    static END: u8;
}

/// The code, without its trailer; none on architectures for which it is not written.
pub fn code() -> Option<&'static [u8]> {
    #[cfg(target_arch = "x86_64")]
    {
        let (start, end) = (&raw const START, &raw const END);
        // SAFETY: both symbols delimit one piece of read-only data, defined above.
        Some(unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) })
    }
    #[cfg(not(target_arch = "x86_64"))]
    None
}
