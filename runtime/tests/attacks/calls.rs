//! Seccomp, walked around by calls of another architecture.

use serde_json::json;

use crate::common::{both, compile_c, enter, stdout};
use crate::{start, stop};

/// Makes one denied call in a foreign way, and tells the result if it survives.
const FOREIGN: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static long int80(long nr, long a, long b, long c) {
    long r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c)
                     : "memory", "r8", "r9", "r10", "r11");
    return r;
}
int main(int argc, char **argv) {
    static char path[] = "/tmp/victim";
    /* int 0x80 takes 32-bit pointers: a static non-PIE program has such. */
    close(creat(path, 0644));
    long r = 0;
    if (!strcmp(argv[1], "native")) r = syscall(SYS_chmod, path, 0700) < 0 ? -errno : 0;
    if (!strcmp(argv[1], "i386")) r = int80(15 /* chmod */, (long)path, 0700, 0);
    if (!strcmp(argv[1], "x32"))
        r = syscall(0x40000000 | SYS_chmod, path, 0700) < 0 ? -errno : 0;
    /* The old "confusion": an x32 number that is another call natively. */
    if (!strcmp(argv[1], "x32-high"))
        r = syscall(0x40000000 | 512, path, 0700) < 0 ? -errno : 0;
    if (!strcmp(argv[1], "i386-unshare")) r = int80(310, 0x00020000, 0, 0);
    if (!strcmp(argv[1], "i386-mount")) r = int80(21, (long)path, (long)path, 0);
    if (!strcmp(argv[1], "high-bits"))
        r = syscall(0x100000000L | SYS_chmod, path, 0700) < 0 ? -errno : 0;
    printf("%s %ld\n", argv[1], r);
    return 0;
}
"#;

/// Calls through `int 0x80` from a 64-bit program and with the x32 bit: they are denied, or end the
/// process, in a container, in who joins it, whether the section lists the architectures or not,
/// and whether its default is to allow or to deny.
#[test]
fn calls_of_other_architectures_do_not_get_around_the_filter() {
    let Some(host) = enter() else { return };
    if !cfg!(target_arch = "x86_64") || compile_c(&host, "foreign", FOREIGN).is_none() {
        return;
    }
    let listed = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let native = json!(["SCMP_ARCH_X86_64"]);
    for architectures in [listed, native, json!(null)] {
        let mut config = host.config("arch", "touch /tmp/ready; exec sleep 1000");
        if architectures.is_null() {
            let seccomp = config["linux"]["seccomp"].as_object_mut().unwrap();
            seccomp.remove("architectures");
        } else {
            config["linux"]["seccomp"]["architectures"] = architectures.clone();
        }
        let main = start(&host, "arch", &config);
        for way in [
            "native",
            "i386",
            "x32",
            "x32-high",
            "i386-unshare",
            "i386-mount",
            "high-bits",
        ] {
            let mut run = config.clone();
            run["process"]["args"] = json!(["foreign", way]);
            run["linux"]["cgroupsPath"] = json!(host.cgroup("other"));
            for output in [
                host.run("other", &run),
                host.call(&["exec", "arch", "foreign", way]),
            ] {
                let text = stdout(&output);
                let denied = match output.status.code() {
                    // 19 is what the filter answers to chmod natively.
                    Some(0) if way == "native" || way == "high-bits" => text.ends_with(" -19\n"),
                    // Any error but a success.
                    Some(0) => text.contains(" -"),
                    // Killed: SIGSYS.
                    Some(159) => text.is_empty(),
                    _ => false,
                };
                assert!(denied, "{architectures} {way}: {}", both(&output));
            }
        }
        stop(&host, "arch", main);
        host.must(&["delete", "--force", "arch"]);
    }
    host.assert_clean();
}

/// A filter that denies by default denies foreign calls too.
#[test]
fn a_filter_that_denies_by_default_denies_foreign_calls() {
    let Some(host) = enter() else { return };
    if !cfg!(target_arch = "x86_64") || compile_c(&host, "foreign", FOREIGN).is_none() {
        return;
    }
    let names = [
        "execve",
        "execveat",
        "brk",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlink",
        "readlinkat",
        "getrandom",
        "mprotect",
        "newfstatat",
        "fstat",
        "write",
        "exit_group",
        "creat",
        "open",
        "openat",
        "close",
        "close_range",
        "rt_sigaction",
        "rt_sigprocmask",
        "mmap",
        "munmap",
        "fcntl",
        "sendmsg",
        "sendto",
        "uname",
        "prctl",
        "exit",
    ];
    for architectures in [
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        json!(["SCMP_ARCH_X86_64"]),
    ] {
        for way in ["native", "i386", "x32", "x32-high", "i386-mount"] {
            let mut config = host.config("deny", "");
            config["process"]["args"] = json!(["foreign", way]);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": architectures,
                "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
            });
            let output = host.run("deny", &config);
            let denied = match output.status.code() {
                Some(0) => stdout(&output).contains(" -"),
                Some(159) => true,
                _ => false,
            };
            assert!(denied, "{way}: {}", both(&output));
        }
    }
    host.assert_clean();
}
