//! The machine code of the shield, see [`crate::shield`].

/// What the launcher puts behind the code.
#[derive(Debug, Clone, Copy)]
pub struct Trailer {
    /// The number of the descriptor to report to.
    pub report: u32,
    /// The index of the step to blame.
    pub step: u32,
}

impl Trailer {
    /// As the code expects it.
    pub fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.report.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.step.to_ne_bytes());
        bytes
    }
}

// Register use: rbx the arguments of the program, r12 the error to report (negative), r13 the
// candidates, r14 the environment, r15 the trailer, rbp the path to report.
//
// prctl (157), fcntl (72), execve (59), write (1), exit_group (231); a message as `crate::report` encodes it.
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
    "mov eax, [r15 + 4]",
    "mov [rsp + 4], eax",
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
