//! Terminals: the container's own is not swapped, the host's are not typed into.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use crate::common::{both, compile_c, enter, put, stdout};
use crate::{add_mount, root_config, start, stop};

/// Tries to type into its standard input, and tells what came of it; and whether it could get
/// hold of it as its controlling terminal.
const TYPE: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
int main(void) {
    const char *text = "evil\n";
    int sent = 0;
    for (int fd = 0; fd < 3; fd++)
        for (const char *c = text; *c; c++) sent += ioctl(fd, TIOCSTI, c) == 0;
    int tty = open("/dev/tty", O_RDWR);
    if (tty >= 0)
        for (const char *c = text; *c; c++) sent += ioctl(tty, TIOCSTI, c) == 0;
    fprintf(stderr, "sent %d, tty %d, session %d\n", sent, tty >= 0, getsid(0) == getpid());
    return 0;
}
"#;

/// A terminal of the host: its outer end, and the file of its inner one.
fn host_terminal() -> (std::os::fd::OwnedFd, fs::File) {
    let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&outer).unwrap();
    unlockpt(&outer).unwrap();
    let name = ptsname(&outer, Vec::new()).unwrap();
    let options = fs::OpenOptions::new().read(true).write(true).to_owned();
    (outer, options.open(name.to_str().unwrap()).unwrap())
}

/// CVE-2017-5226: TIOCSTI. The standard streams of a container are a terminal of whoever started it;
/// it leads a session of its own without that terminal, and cannot type there.
#[test]
fn the_terminal_of_the_host_cannot_be_typed_into() {
    let Some(host) = enter() else { return };
    if compile_c(&host, "type", TYPE).is_none() {
        return;
    }
    let text = host.script("cut -d' ' -f6,7 /proc/self/stat; cat /dev/tty 2>&1; true");
    assert!(text.starts_with("1 0\n"), "session 1, no terminal: {text}");

    let sleeper = "touch /tmp/ready; exec sleep 1000";
    let cases = [
        ("app", host.config("sti", sleeper)),
        // CAP_SYS_ADMIN may type into any terminal it has open (ioctl_tty(2)).
        (
            "root",
            root_config(&host, "sti", sleeper, "CHOWN DAC_OVERRIDE SYS_PTRACE"),
        ),
    ];
    for (kind, config) in cases {
        let (_outer, inner) = host_terminal();
        let stream = || Stdio::from(inner.try_clone().unwrap());
        let mut typing = config.clone();
        typing["process"]["args"] = json!(["type"]);
        let mut run = host.run_command("sti", &typing, &[]);
        run.stdin(stream()).stdout(stream()).stderr(Stdio::piped());
        let output = run.output().unwrap();
        let want = "sent 0, tty 0, session 1\n";
        assert_eq!(crate::common::stderr(&output), want, "{kind}");
        let main = start(&host, "sti", &config);
        let mut exec = host.runtime(&["exec", "sti", "type"]);
        exec.stdin(stream()).stdout(stream()).stderr(Stdio::piped());
        let output = exec.output().unwrap();
        assert_eq!(crate::common::stderr(&output), want, "{kind}, exec");
        stop(&host, "sti", main);
    }
    host.assert_clean();
}

fn with_terminal(mut config: Value) -> Value {
    config["process"]["terminal"] = json!(true);
    config
}

/// CVE-2025-52565: /dev/pts or /dev/console of the container is, or becomes, something else: the
/// terminal comes from a devpts by descriptor, or there is none.
#[test]
fn a_false_devpts_gives_no_terminal() {
    let Some(host) = enter() else { return };
    let trigger = host.path("share/target");
    for (at, link) in [("ptmx", true), ("ptmx", false), ("0", true), ("0", false)] {
        let share = host.path("share");
        let _ = fs::remove_dir_all(&share);
        put(&trigger, "untouched");
        if link {
            symlink("/vol/target", share.join(at)).unwrap();
        } else {
            put(&share.join(at), "untouched");
        }
        // A directory that others can change instead of the devpts.
        let mut config = with_terminal(host.config("pts", "tty"));
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == "/dev/pts" {
                *mount = json!({"destination": "/dev/pts", "source": &share, "options": ["bind"]});
            }
        }
        add_mount(
            &mut config,
            json!({"destination": "/vol", "source": &share, "options": ["bind"]}),
        );
        let output = host.run("pts", &config);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{at} {link}: {}",
            both(&output)
        );
        assert_eq!(fs::read_to_string(&trigger).unwrap(), "untouched");
        host.assert_clean();
    }
    // Something over the slave in a good devpts: what is mounted as console is the terminal.
    let mut config = with_terminal(host.config("pts", "stat -c %t /dev/console; tty"));
    put(&trigger, "untouched");
    add_mount(
        &mut config,
        json!({"destination": "/dev/pts/ptmx", "source": &trigger, "options": ["bind"]}),
    );
    let output = host.run("pts", &config);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert_eq!(fs::read_to_string(&trigger).unwrap(), "untouched");
    // A console that is a symlink.
    let mut config = with_terminal(host.config("pts", "tty"));
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| m["destination"] != "/dev");
    symlink("/data/target", host.path("rootfs/dev/console")).unwrap();
    put(&host.path("rootfs/data/target"), "untouched");
    let output = host.run("pts", &config);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert_eq!(
        fs::read_to_string(host.path("rootfs/data/target")).unwrap(),
        "untouched"
    );
    host.assert_clean();
}

/// CVE-2025-52565, for exec: the container exchanged its own devpts since it was started.
#[test]
fn a_devpts_that_was_swapped_gives_exec_no_terminal() {
    let Some(host) = enter() else { return };
    let swap = "mkdir /tmp/x; touch /tmp/x/ptmx; mount -o bind /tmp/x /dev/pts && \
                touch /tmp/ready; exec sleep 1000";
    let main = start(&host, "pts", &root_config(&host, "pts", swap, "SYS_ADMIN"));
    let output = host.call(&["exec", "--tty", "pts", "tty"]);
    assert_eq!(output.status.code(), Some(255), "{}", both(&output));
    assert_eq!(stdout(&output), "");
    stop(&host, "pts", main);
    host.assert_clean();
}
