//! The table: which system calls are allowed, refused, or absent. Names as in the tables of the
//! kernel for x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`).

/// Allowed whatever the arguments, by what they are about.
#[rustfmt::skip]
pub(super) const ALLOWED: &[&[&str]] = &[
    // Files by descriptor.
    &[
        "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev",
        "preadv2", "pwritev2", "lseek", "close", "close_range", "dup", "dup2", "dup3", "fcntl",
        "flock", "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "ftruncate",
        "fallocate", "fadvise64", "readahead", "sendfile", "splice", "tee", "vmsplice",
        "copy_file_range", "ioctl", "fstat", "fstatfs", "fchmod", "fchown", "fgetxattr",
        "fsetxattr", "flistxattr", "fremovexattr", "getdents", "getdents64", "fchdir",
        "cachestat",
    ],
    // Files by name.
    &[
        "open", "openat", "openat2", "creat", "access", "faccessat", "faccessat2", "stat",
        "lstat", "newfstatat", "statx", "statfs", "readlink", "readlinkat", "chdir", "getcwd",
        "mkdir", "mkdirat", "mknod", "mknodat", "rmdir", "link", "linkat", "symlink",
        "symlinkat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "truncate",
        "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "umask", "utime",
        "utimes", "utimensat", "futimesat", "getxattr", "lgetxattr", "setxattr", "lsetxattr",
        "listxattr", "llistxattr", "removexattr", "lremovexattr", "name_to_handle_at",
        "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
    ],
    // Waiting.
    &[
        "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
        "epoll_ctl_old", "epoll_wait", "epoll_wait_old", "epoll_pwait", "epoll_pwait2",
        "eventfd", "eventfd2", "pipe", "pipe2", "io_setup", "io_submit", "io_cancel",
        "io_destroy", "io_getevents", "io_pgetevents",
    ],
    // Memory.
    &[
        "brk", "mmap", "munmap", "mremap", "mprotect", "madvise", "process_madvise",
        "process_mrelease", "mincore", "mlock", "mlock2", "mlockall", "munlock", "munlockall",
        "msync", "remap_file_pages", "memfd_create", "memfd_secret", "membarrier", "pkey_alloc",
        "pkey_free", "pkey_mprotect", "mseal", "map_shadow_stack",
    ],
    // Processes and threads. `clone` is below, with its arguments.
    &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "kill",
        "tkill", "tgkill", "pidfd_open", "pidfd_send_signal", "getpid", "getppid", "gettid",
        "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "set_tid_address",
        "set_robust_list", "get_robust_list", "rseq", "arch_prctl", "prctl", "futex",
        "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "restart_syscall", "getcpu",
    ],
    // Signals.
    &[
        "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_sigqueueinfo", "rt_tgsigqueueinfo", "rt_sigreturn", "sigaltstack", "signalfd",
        "signalfd4", "pause", "alarm",
    ],
    // Users, groups, capabilities: reading and giving up; nothing can be gained.
    &[
        "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups",
        "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid",
        "setfsgid", "setgroups", "capget", "capset", "seccomp", "landlock_create_ruleset",
        "landlock_add_rule", "landlock_restrict_self",
    ],
    // Scheduling and limits.
    &[
        "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getattr",
        "sched_setattr", "sched_getparam", "sched_setparam", "sched_getscheduler",
        "sched_setscheduler", "sched_get_priority_max", "sched_get_priority_min",
        "sched_rr_get_interval", "getpriority", "setpriority", "ioprio_get", "ioprio_set",
        "getrlimit", "setrlimit", "prlimit64", "getrusage", "times", "sysinfo", "uname",
    ],
    // Time.
    &[
        "time", "gettimeofday", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep",
        "getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun",
        "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime", "timerfd_settime",
    ],
    // Sockets. `socket` and `socketpair` are below, with their arguments.
    &[
        "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname",
        "getpeername", "getsockopt", "setsockopt", "sendto", "sendmsg", "sendmmsg", "recvfrom",
        "recvmsg", "recvmmsg",
    ],
    // Messages, semaphores and shared memory of System V and POSIX; the namespace is private.
    &[
        "msgget", "msgctl", "msgsnd", "msgrcv", "semget", "semctl", "semop", "semtimedop",
        "shmget", "shmat", "shmctl", "shmdt", "mq_open", "mq_unlink", "mq_timedsend",
        "mq_timedreceive", "mq_notify", "mq_getsetattr",
    ],
    &["getrandom"],
];

/// Refused with `EPERM`: on purpose, so the program should hear that it may not.
#[rustfmt::skip]
pub(super) const REFUSED: &[&str] = &[
    "acct", "add_key", "adjtimex", "bpf", "chroot", "clock_adjtime", "clock_settime",
    "delete_module", "fanotify_init", "fanotify_mark", "finit_module", "fsconfig", "fsmount",
    "fsopen", "fspick", "init_module", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load",
    "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_by_handle_at",
    "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root", "process_vm_readv",
    "process_vm_writev", "ptrace", "quotactl", "quotactl_fd", "reboot", "request_key",
    "setdomainname", "sethostname", "setns", "settimeofday", "swapoff", "swapon", "syslog",
    "umount2", "unshare", "userfaultfd", "vhangup",
];

/// Refused as if the kernel did not know them: programs then use what was there before.
#[rustfmt::skip]
pub(super) const ABSENT: &[&str] = &[
    "clone3", "io_uring_enter", "io_uring_register", "io_uring_setup",
];
