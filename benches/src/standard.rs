//! The bundle that runtimes are compared with: the config.json of `runc spec`, for a program that
//! does nothing.

use metactl_bundles::seccomp::default_profile;
use metactl_runtime::seccomp::{compile, native};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde_json::{Value, json};
use std::path::Path;

/// System calls that profiles of container engines allow for the 32-bit architectures beside those
/// of x86-64 (kernel, `arch/x86/entry/syscalls/syscall_32.tbl`).
const OLD_CALLS: &[&str] = &[
    "_llseek",
    "_newselect",
    "chown32",
    "clock_getres_time64",
    "clock_gettime64",
    "clock_nanosleep_time64",
    "fadvise64_64",
    "fchown32",
    "fcntl64",
    "fstat64",
    "fstatat64",
    "fstatfs64",
    "ftruncate64",
    "futex_time64",
    "getegid32",
    "geteuid32",
    "getgid32",
    "getgroups32",
    "getresgid32",
    "getresuid32",
    "getuid32",
    "io_pgetevents_time64",
    "ipc",
    "lchown32",
    "lstat64",
    "mmap2",
    "mq_timedreceive_time64",
    "mq_timedsend_time64",
    "nice",
    "ppoll_time64",
    "pselect6_time64",
    "recv",
    "recvmmsg_time64",
    "rt_sigtimedwait_time64",
    "sched_rr_get_interval_time64",
    "semtimedop_time64",
    "send",
    "sendfile64",
    "set_thread_area",
    "setfsgid32",
    "setfsuid32",
    "setgid32",
    "setgroups32",
    "setregid32",
    "setresgid32",
    "setresuid32",
    "setreuid32",
    "setuid32",
    "sigprocmask",
    "sigreturn",
    "socketcall",
    "stat64",
    "statfs64",
    "timer_gettime64",
    "timer_settime64",
    "timerfd_gettime64",
    "timerfd_settime64",
    "truncate64",
    "ugetrlimit",
    "utimensat_time64",
    "waitpid",
];

/// config.json for `program` in the root tree at `rootfs`.
///
/// It is what `runc spec` writes on a host with cgroup v2, with three changes: no terminal, no
/// device rules (what is measured as v2 has no controllers here), and the cgroup namespace also
/// where the host has v1.
pub fn config(rootfs: &Path, program: &str) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    let namespaces = namespaces.map(|name| json!({"type": name}));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": [program],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": rootfs, "readonly": true},
        "hostname": "runc",
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mounts() -> Value {
    let mount = |target: &str, kind: &str, options: &[&str]| json!({"destination": target, "type": kind, "source": kind, "options": options});
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &[
            "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
        ]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

/// A seccomp section as container engines write it: an allow-list of some 300 calls for three
/// architectures, with conditions on a few arguments.
///
/// # Errors
/// When the default profile of metactl, from which the names are, cannot be read.
pub fn seccomp() -> Result<Value, String> {
    const CONDITIONAL: [&str; 5] = ["clone", "clone3", "personality", "socket", "socketpair"];
    let profile = default_profile().map_err(|error| error.to_string())?;
    let rules = profile.syscalls().iter().flatten();
    let mut names: Vec<&str> = rules
        .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
        .flat_map(|rule| rule.names().iter().map(String::as_str))
        .filter(|name| !CONDITIONAL.contains(name))
        .chain(OLD_CALLS.iter().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut rules = vec![
        json!({"names": names, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
        // No namespaces (CLONE_NEW* of linux/sched.h).
        allow_if("clone", 0x7e02_0000, 0, "SCMP_CMP_MASKED_EQ"),
        // No AF_VSOCK.
        allow_if("socket", 40, 0, "SCMP_CMP_NE"),
    ];
    // PER_LINUX, PER_LINUX32, both with UNAME26, and the question.
    for domain in [0u64, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(allow_if("personality", domain, 0, "SCMP_CMP_EQ"));
    }
    Ok(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }))
}

fn allow_if(name: &str, value: u64, second: u64, op: &str) -> Value {
    json!({
        "names": [name],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": value, "valueTwo": second, "op": op}],
    })
}

/// A section as a compiled filter: an array of `struct sock_filter`, for the floor, which compiles
/// none itself.
///
/// # Errors
/// When the section cannot be compiled for this machine.
pub fn filter(section: &Value) -> Result<Vec<u8>, String> {
    let section: LinuxSeccomp =
        serde_json::from_value(section.clone()).map_err(|error| error.to_string())?;
    let native = native().map_err(|error| error.to_string())?;
    let filter = compile(&section, native).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    for instruction in &filter.instructions {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_as_long_as_those_of_engines_and_compiles() {
        let section = seccomp().unwrap();
        let names = section["syscalls"][0]["names"].as_array().unwrap();
        assert!((280..=380).contains(&names.len()), "{}", names.len());
        let filter = filter(&section).unwrap();
        assert!(!filter.is_empty() && filter.len().is_multiple_of(8));
    }

    #[test]
    fn the_runtime_takes_the_configuration() {
        let mut config = config(Path::new("/r"), "/noop");
        config["linux"]["seccomp"] = seccomp().unwrap();
        let spec: oci_spec::runtime::Spec = serde_json::from_value(config).unwrap();
        assert_eq!(spec.mounts().as_ref().unwrap().len(), 7);
    }
}
