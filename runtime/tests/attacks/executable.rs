//! CVE-2019-5736: the runtime's own executable must stay out of reach.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::{Host, binary, both, compile_c, enter, stdout};
use crate::{CAPABILITIES, root_config, start, stop};

/// The runtime on the host, as it was.
struct Runtime {
    path: PathBuf,
    before: Vec<u8>,
}

impl Runtime {
    fn new() -> Runtime {
        let path = fs::canonicalize(binary()).unwrap();
        let before = fs::read(&path).unwrap();
        Runtime { path, before }
    }

    fn assert_unchanged(&self) {
        assert!(
            fs::read(&self.path).unwrap() == self.before,
            "it was rewritten"
        );
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// CVE-2019-5736 at the start of a container that is root with all capabilities: its program is
/// `/proc/self/exe`, a script whose interpreter is that, or a symlink to it.
#[test]
fn a_program_that_is_proc_self_exe_is_not_the_runtime() {
    let Some(host) = enter() else { return };
    let runtime = Runtime::new();
    executable(&host.path("rootfs/evil"), "#!/proc/self/exe --version\n");
    std::os::unix::fs::symlink("/proc/self/exe", host.path("rootfs/link")).unwrap();
    let mut config = root_config(&host, "exe", "", CAPABILITIES);
    for args in [
        json!(["/evil"]),
        json!(["/proc/self/exe", "--version"]),
        json!(["/link", "--version"]),
        json!(["/proc/1/exe", "--version"]),
    ] {
        config["process"]["args"] = args.clone();
        for id in ["exe", "created"] {
            let text = if id == "exe" {
                both(&host.run(id, &config))
            } else {
                let bundle = host.bundle(id, &config);
                let log = fs::File::create(host.path("log")).unwrap();
                let mut create = host.runtime(&["create", "--bundle"]);
                create.arg(bundle).arg(id).stdout(log.try_clone().unwrap());
                create.stderr(log.try_clone().unwrap());
                assert!(create.status().unwrap().success());
                let started = both(&host.call(&["start", id]));
                host.must(&["delete", "--force", id]);
                crate::common::reap();
                started + &fs::read_to_string(host.path("log")).unwrap()
            };
            assert!(!text.contains("metactl-runtime version"), "{args}: {text}");
        }
    }
    runtime.assert_unchanged();
    host.assert_clean();
}

/// CVE-2019-5736 by `exec` into a running container that is root with all capabilities.
#[test]
fn a_program_for_exec_that_is_proc_self_exe_is_not_writable() {
    let Some(host) = enter() else { return };
    let runtime = Runtime::new();
    executable(&host.path("rootfs/evil"), "#!/proc/self/exe --version\n");
    // What the attack of 2019 does: /bin/sh is replaced, and what comes writes to its own file.
    std::os::unix::fs::symlink("/proc/self/exe", host.path("rootfs/link")).unwrap();
    let sleeper = "touch /tmp/ready; exec sleep 1000";
    let main = start(
        &host,
        "exe",
        &root_config(&host, "exe", sleeper, CAPABILITIES),
    );
    for args in [
        &["/evil"][..],
        &["/link", "--version"],
        &["/proc/self/exe", "--version"],
    ] {
        // Running it is harmless by itself: it runs from a read-only mount.
        let output = host.call(&[&["exec", "exe"], args].concat());
        assert!(!both(&output).contains("panicked"), "{}", both(&output));
    }
    stop(&host, "exe", main);
    runtime.assert_unchanged();
    host.assert_clean();
}

/// The init of a privileged container stays in sight: it runs from a read-only mount. (While it
/// runs, writing would be refused anyway, as "text file busy".)
#[test]
fn the_built_in_init_runs_from_a_read_only_mount() {
    let Some(host) = enter() else { return };
    let runtime = Runtime::new();
    let write = "(echo x >> /proc/1/exe) && echo opened; touch /proc/1/exe; echo tried";
    let mut config = root_config(&host, "exe", write, "CHOWN DAC_OVERRIDE SYS_PTRACE FOWNER");
    config["annotations"] = json!({"org.metactl.init": "true"});
    let output = host.run("exe", &config);
    assert!(!stdout(&output).contains("opened"), "{}", both(&output));
    // Where the kernel cannot make such a mount it is a sealed copy, of which only the time changes.
    let refused = if host.lacks("mount_setattr") {
        "Text file busy"
    } else {
        "Read-only file system"
    };
    assert!(both(&output).contains(refused), "{}", both(&output));
    runtime.assert_unchanged();
    host.assert_clean();
}

/// A `startContainer` hook is a program of the container, and while it runs, what waits in its sight is
/// not the runtime.
#[test]
fn a_process_that_waits_for_hooks_is_not_the_runtime() {
    let Some(host) = enter() else { return };
    let runtime = Runtime::new();
    let mut config = root_config(
        &host,
        "exe",
        "cat /tmp/hooked",
        "CHOWN DAC_OVERRIDE SYS_PTRACE FOWNER",
    );
    let write = "(echo x >> /proc/1/exe) && echo opened; readlink /proc/1/exe; \
                 ls -l /proc/1/fd | grep -c -e /rootfs -e metactl; true";
    let write = format!("({write}) > /tmp/hooked 2>&1");
    config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", write]}]});
    let output = host.run("exe", &config);
    assert!(output.status.success(), "{}", both(&output));
    assert!(!stdout(&output).contains("opened"), "{}", both(&output));
    let seen = "/memfd:metactl-exec (deleted)\n0\n";
    assert!(stdout(&output).ends_with(seen), "{}", both(&output));
    runtime.assert_unchanged();
    host.assert_clean();
}

/// Looks for processes of the runtime all the time, keeps hold of their executables, and writes to
/// them when they have ended.
const HUNT: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
struct attr { unsigned long long set, clear, propagation, userns; };
int main(int argc, char **argv) {
    int remount = argc > 1;
    struct stat own, other;
    stat("/proc/self/exe", &own);
    close(creat("/tmp/ready", 0644));
    int found = 0;
    while (access("/tmp/stop", F_OK) != 0) {
        for (int pid = 1; pid < 600; pid++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/exe", pid);
            int fd = open(path, O_PATH);
            if (fd < 0) continue;
            char name[300] = {0}, self[64];
            snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
            readlink(self, name, sizeof name - 1);
            fstat(fd, &other);
            if (own.st_ino == other.st_ino || strstr(name, "busybox")) { close(fd); continue; }
            if (strstr(name, "metactl-exec")) { close(fd); continue; }
            found++;
            struct attr attr = { .clear = 1 /* MOUNT_ATTR_RDONLY */ };
            if (remount &&
                syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0)
                printf("made writable %s\n", name);
            for (int i = 0; i < 2000; i++) {
                int w = open(self, O_WRONLY);
                if (w >= 0) {
                    /* A sealed copy, where the kernel has no mount_setattr(2), takes no write. */
                    int sealed = fcntl(w, F_GET_SEALS) >= 0 && write(w, "x", 1) < 0;
                    printf("%s %s\n", sealed ? "SEALED" : "OPENED", name);
                    fflush(stdout);
                    close(w);
                    break;
                }
                if (errno != ETXTBSY) break;
                usleep(100);
            }
            close(fd);
        }
    }
    printf("found %d\n", found);
    return 0;
}
"#;

/// Runs the hunter, and `exec` beside it.
fn hunt(host: &Host, capabilities: &str, arguments: &[&str]) -> String {
    let mut config = root_config(host, "exe", "", capabilities);
    config["process"]["args"] = json!([&["hunt"], arguments].concat());
    let child = start(host, "exe", &config);
    for _ in 0..40 {
        host.must(&["exec", "exe", "true"]);
    }
    host.must(&["exec", "exe", "touch", "/tmp/stop"]);
    stdout(&child.wait_with_output().unwrap())
}

/// CVE-2019-5736 by a container that looks for joining processes of the runtime, holds on to
/// their executables and tries to open them for writing.
#[test]
fn joining_processes_cannot_be_rewritten() {
    let Some(host) = enter() else { return };
    if compile_c(&host, "hunt", HUNT).is_none() {
        return;
    }
    let runtime = Runtime::new();
    for capabilities in ["", "CHOWN DAC_OVERRIDE SYS_PTRACE FOWNER MKNOD"] {
        let text = hunt(&host, capabilities, &[]);
        assert!(!text.contains("OPENED"), "{text}");
        assert!(text.contains("found"), "{text}");
    }
    runtime.assert_unchanged();
    host.assert_clean();
}

/// The same with all capabilities, and with mount_setattr(2), which makes a mount writable again
/// that is in no mount namespace.
#[test]
fn joining_processes_cannot_be_made_writable() {
    let Some(host) = enter() else { return };
    if compile_c(&host, "hunt", HUNT).is_none() {
        return;
    }
    let runtime = Runtime::new();
    let text = hunt(&host, CAPABILITIES, &["remount"]);
    // Nothing found, nothing tried.
    let found: u32 = text
        .rsplit("found ")
        .next()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(found > 0, "{text}");
    assert!(!text.contains("made writable"), "{text}");
    assert!(!text.contains("OPENED"), "{text}");
    runtime.assert_unchanged();
    host.assert_clean();
}
