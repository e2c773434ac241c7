//! What can be wrong with a `linux.seccomp` section.

/// An error of a `linux.seccomp` section. Every variant names the field it is about.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeccompError {
    /// The machine's architecture has no table of system calls here.
    #[error(
        "seccomp is not supported on {0}; remove linux.seccomp from config.json to run without"
    )]
    Architecture(&'static str),
    /// Before the program runs, the launcher has to make calls that nobody answers yet.
    #[error(
        "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action; use it in rules, for the calls that the agent handles"
    )]
    NotifyDefault,
    /// With write(2) the launcher hands on what the agent listens with.
    #[error(
        "linux.seccomp.syscalls[{index}]: SCMP_ACT_NOTIFY cannot be used for the write syscall; the launcher needs it to reach the agent"
    )]
    NotifyWrite {
        /// Index of the rule.
        index: usize,
    },
    /// A field or flag that needs another one.
    #[error("linux.seccomp.{what} needs {needed}; add that, or remove it")]
    Needs {
        /// What is there.
        what: &'static str,
        /// What is missing.
        needed: &'static str,
    },
    /// The listener's path depends on the working directory of whoever calls the runtime.
    #[error("linux.seccomp.listenerPath: {0:?} is not an absolute path; write it from / on")]
    ListenerPath(std::path::PathBuf),
    /// An action that cannot carry a number was given one.
    #[error(
        "linux.seccomp.{at}: {action} takes no errno; remove it, or use SCMP_ACT_ERRNO or SCMP_ACT_TRACE"
    )]
    NoErrno {
        /// The field.
        at: String,
        /// The action.
        action: oci_spec::runtime::LinuxSeccompAction,
    },
    /// The number is out of range.
    #[error("linux.seccomp.{at}: {value} is too large; the most is {most}")]
    ErrnoRange {
        /// The field.
        at: String,
        /// The number given.
        value: u32,
        /// The largest number possible.
        most: u32,
    },
    /// A rule without names.
    #[error("linux.seccomp.syscalls[{index}].names: must hold at least one name, and no empty one")]
    NoNames {
        /// Index of the rule.
        index: usize,
    },
    /// A denied system call that does not exist, while the default action lets calls through.
    #[error(
        "linux.seccomp.syscalls[{index}].names: {name:?} is no system call that is known here, so it cannot be denied; correct or remove it"
    )]
    UnknownName {
        /// Index of the rule.
        index: usize,
        /// The name.
        name: String,
    },
    /// System calls have six arguments.
    #[error("linux.seccomp.syscalls[{rule}].args: index {index} is not in 0..=5")]
    ArgumentIndex {
        /// Index of the rule.
        rule: usize,
        /// The argument index.
        index: usize,
    },
    /// Two rules with the same condition and different actions.
    #[error(
        "linux.seccomp.syscalls[{index}]: an earlier rule for {name:?} has the same args and another action; remove one of them"
    )]
    Contradiction {
        /// Index of the later rule.
        index: usize,
        /// The system call.
        name: String,
    },
    /// The kernel would refuse the program.
    #[error(
        "linux.seccomp: the filter has {length} instructions, the kernel takes 4096; name fewer system calls with args"
    )]
    TooLong {
        /// How many instructions it has.
        length: usize,
    },
}
