//! Bundles in other people's runtimes: `crun run` and `runc run` of Debian start them unchanged.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is the failure of the test"
)]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use metactl_bundles::app::{App, Limits};
use metactl_bundles::bundle::{self, Written};
use metactl_bundles::layers::Config;
use metactl_bundles::view::HostView;
use support::private::{must, private_host, text};
use support::{app, cron, daemon, placement, with};

/// A bundle on disk, and cgroups that are taken away with it.
struct Materialized {
    state: tempfile::TempDir,
    written: Written,
    instance: String,
}

impl Materialized {
    /// Composes and writes `app` with `files` as its release, for this host.
    fn new(app: &App, files: &[(&str, &[u8])]) -> Materialized {
        let state = tempfile::tempdir().unwrap();
        // The sandbox's user has to get through to what is mounted from below.
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let release = state.path().join("releases/1");
        fs::create_dir_all(&release).unwrap();
        for (name, content) in files {
            let path = release.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut place = placement(state.path(), &release);
        // Unique: cgroups are the machine's, whatever the namespace.
        place.instance = format!("t{}-{}", std::process::id(), unique());
        let host = HostView::gather(app, &place);
        let composition = bundle::compose(app, &Config::default(), &place, &host)
            .unwrap_or_else(|error| panic!("{error}"));
        let written = bundle::write(&composition, state.path()).unwrap();
        Materialized {
            state,
            written,
            instance: place.instance,
        }
    }

    fn dir(&self, entry: &str) -> PathBuf {
        self.written.dir.join(entry)
    }

    /// `crun run` or `runc run` of an entry point, with the folder as it is.
    fn command(&self, runtime: &str, entry: &str) -> Command {
        let id = format!("{}.{}", self.instance, entry.replace('/', "."));
        let mut command = Command::new(runtime);
        command
            .arg("--root")
            .arg(self.state.path().join("runtime"))
            .arg("run");
        command
            .arg("--bundle")
            .arg(self.dir(entry))
            .arg(id)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, runtime: &str, entry: &str) -> Output {
        self.command(runtime, entry).output().unwrap()
    }
}

impl Drop for Materialized {
    fn drop(&mut self) {
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let metactl = hierarchy.path().join("metactl");
            let instance = metactl.join(&self.instance);
            for entry in fs::read_dir(&instance).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
            let _ = fs::remove_dir(&instance);
            // Only when no other test has something in it.
            let _ = fs::remove_dir(&metactl);
        }
    }
}

fn unique() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

/// The pid of a test in a private host is small, and so not its own on the machine; the time is.
fn hide_v2() {
    // crun refuses the hybrid layout as it stands: it then sees version 1 alone.
    if Path::new("/sys/fs/cgroup/unified").is_dir() && is_mounted("/sys/fs/cgroup/unified") {
        must("umount", &["/sys/fs/cgroup/unified"]);
    }
}

fn is_mounted(path: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(path))
}

const REPORT: &str = r#"#!/bin/sh
echo "id $(id -u) $(id -g) $(id -un)"
echo "pid $$"
echo "cwd $(pwd)"
echo "home $HOME"
echo "args $*"
echo "caps $(grep CapEff /proc/self/status | cut -f2) $(grep CapBnd /proc/self/status | cut -f2)"
echo "nnp $(grep NoNewPrivs /proc/self/status | cut -f2)"
echo "seccomp $(grep '^Seccomp:' /proc/self/status | cut -f2)"
echo "host $(hostname)"
touch /data/kept && echo "data writable"
touch /tmp/scratch && echo "tmp writable"
for path in / /app /usr /etc /run /etc/metactl /proc/sys/kernel/hostname; do
  touch "$path" 2>/dev/null || echo "readonly $path"
  touch "$path/new" 2>/dev/null && echo "WRITTEN $path"
done
echo "root $(ls / | tr '\n' ' ')"
for path in /home /root /opt /srv /sys/kernel /var/lib /etc/shadow /etc/ssl/private; do
  [ -e "$path" ] && echo "SEEN $path"
done
grep -q localhost /etc/hosts && echo "hosts"
ls /proc/self/fd | tr '\n' ' '
"#;

fn report_app() -> App {
    let mut app = with(
        app("myapp"),
        daemon("web", "exec", &[("command", "./report.sh a b")]),
    );
    app.daemons.get_mut("web").unwrap().limits = Limits {
        memory: Some(256 << 20),
        pids: Some(64),
        ..Limits::default()
    };
    app.cron.push(cron(
        "say hello",
        "say-hello",
        "5 0 * * *",
        "echo hello from $METACTL_ENTRY; exit 7",
    ));
    app
}

fn runs_unchanged(runtime: &str) {
    hide_v2();
    let bundle = Materialized::new(&report_app(), &[("report.sh", REPORT.as_bytes())]);
    let output = bundle.run(runtime, "web");
    let said = text(&output);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
    for line in [
        "pid 1",
        "cwd /app",
        "home /data",
        "args a b",
        "caps 0000000000000000 0000000000000000",
        "nnp 1",
        "seccomp 2",
        "host myapp",
        "data writable",
        "tmp writable",
        "readonly /",
        "readonly /app",
        "readonly /usr",
        "readonly /etc",
        "hosts",
    ] {
        assert!(
            said.lines().any(|said| said == line),
            "{runtime}: no `{line}` in:\n{said}"
        );
    }
    let id = format!("id 66000 66000 {}", bundle.instance);
    assert!(
        said.lines().any(|line| line == id),
        "{runtime}: no `{id}` in:\n{said}"
    );
    assert!(
        !said.contains("WRITTEN") && !said.contains("SEEN"),
        "{runtime}:\n{said}"
    );

    let output = bundle.run(runtime, "cron/say-hello");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert!(
        text(&output).contains("hello from cron.say-hello"),
        "{}",
        text(&output)
    );

    // Nothing was written into the bundle by running it.
    let again = fs::read_to_string(bundle.dir("web/config.json")).unwrap();
    assert!(again.contains("\"../rootfs\""));
    let kept = fs::read_dir(bundle.state.path().join("data"))
        .unwrap()
        .count();
    assert_eq!(kept, 1);
}

#[test]
fn crun_runs_every_entry_point_unchanged() {
    if private_host("crun_runs_every_entry_point_unchanged", &["crun"]) {
        runs_unchanged("crun");
    }
}

#[test]
fn runc_runs_every_entry_point_unchanged() {
    if private_host("runc_runs_every_entry_point_unchanged", &["runc"]) {
        runs_unchanged("runc");
    }
}

/// What the seccomp table refuses and lets pass, as a program sees it: errno names by Python.
const SYSCALLS: &str = r#"
import ctypes, errno, socket, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    got = libc.syscall(number, *[ctypes.c_long(a) for a in args])
    print(name, "ok" if got >= 0 else errno.errorcode[ctypes.get_errno()])
call("unshare", 272, 0x10000000)
call("setns", 308, -1, 0)
call("mount", 165, 0, 0, 0, 0, 0)
call("bpf", 321, 0, 0, 0)
call("ptrace", 101, 0, 0, 0, 0)
call("keyctl", 250, 0, -3, 0)
call("userfaultfd", 323, 0)
call("perf", 298, 0, 0, -1, -1, 0)
call("io_uring", 425, 1, 0)
call("clone3", 435, 0, 0)
call("clone-newuser", 56, 0x10000000 | 17, 0, 0, 0, 0)
call("unknown", 999)
call("personality", 135, 0xffffffff)
call("personality-norandom", 135, 0x0040000)
for name, family in [("unix", 1), ("inet", 2), ("inet6", 10), ("netlink", 16), ("alg", 38), ("vsock", 40), ("packet", 17)]:
    try:
        socket.socket(family, socket.SOCK_STREAM if family in (1, 2, 10) else socket.SOCK_DGRAM if family != 38 else 5).close()
        print(name, "ok")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
thread = threading.Thread(target=lambda: print("thread ok"))
thread.start(); thread.join()
print("child", subprocess.run(["/bin/echo", "ok"], capture_output=True, text=True).stdout.strip())
"#;

#[test]
fn the_seccomp_table_refuses_and_lets_pass() {
    let name = "the_seccomp_table_refuses_and_lets_pass";
    if !private_host(name, &["crun", "/usr/bin/python3"]) {
        return;
    }
    hide_v2();
    let command = [("command", "/usr/bin/python3 calls.py")];
    let app = with(app("myapp"), daemon("web", "exec", &command));
    let bundle = Materialized::new(&app, &[("calls.py", SYSCALLS.as_bytes())]);
    let output = bundle.run("crun", "web");
    let said = text(&output);
    eprintln!("{said}");
    for line in [
        "unshare EPERM",
        "setns EPERM",
        "mount EPERM",
        "bpf EPERM",
        "ptrace EPERM",
        "keyctl EPERM",
        "userfaultfd EPERM",
        "perf EPERM",
        "io_uring ENOSYS",
        "clone3 ENOSYS",
        "clone-newuser ENOSYS",
        "unknown ENOSYS",
        "personality ok",
        "personality-norandom ENOSYS",
        "unix ok",
        "inet ok",
        "inet6 ok",
        "netlink ok",
        "alg ENOSYS",
        "vsock ENOSYS",
        "packet ENOSYS",
        "thread ok",
        "child ok",
    ] {
        assert!(
            said.lines().any(|said| said == line),
            "no `{line}` in:\n{said}"
        );
    }
}

/// Programs of other kinds start under the same view and filter.
#[test]
fn usual_programs_work_inside() {
    if !private_host(
        "usual_programs_work_inside",
        &["crun", "/usr/bin/perl", "/usr/bin/curl"],
    ) {
        return;
    }
    hide_v2();
    let programs: &[(&str, &str, &str)] = &[
        ("perl", "/usr/bin/perl", "perl -e print(7*6)"),
        ("curl", "/usr/bin/curl", "curl --version"),
        ("node", "/usr/bin/node", "node -p 6*7"),
        ("openssl", "/usr/bin/openssl", "openssl version"),
        ("java", "/usr/bin/java", "java -version"),
    ];
    let mut app = app("myapp");
    let present: Vec<_> = programs
        .iter()
        .filter(|(_, path, _)| Path::new(path).exists())
        .collect();
    for (name, _, command) in &present {
        app = with(app, daemon(name, "exec", &[("command", command)]));
    }
    let bundle = Materialized::new(&app, &[]);
    for (name, _, _) in &present {
        let output = bundle.run("crun", name);
        eprintln!("{name}: {}", text(&output));
        assert!(output.status.success(), "{name}: {}", text(&output));
    }
}

/// A web application that says what it is, as an unpacked tree.
const WEB_XML: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<web-app xmlns="http://xmlns.jcp.org/xml/ns/javaee" version="3.1"/>
"#;

const INDEX_JSP: &str =
    "<%= \"six times seven is \" + 6 * 7 %> in <%= System.getProperty(\"user.name\") %>\n";

/// The response to `GET /`, as soon as there is one.
fn get(child: &mut Child, limit: Duration) -> String {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended with {status}");
        }
        if let Ok(mut stream) = TcpStream::connect("127.0.0.1:80") {
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            let request = b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";
            let mut answer = String::new();
            if stream.write_all(request).is_ok() && stream.read_to_string(&mut answer).is_ok() {
                return answer;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no answer within {limit:?}");
}

fn jetty_serves(runtime: &str) {
    hide_v2();
    must("ip", &["link", "set", "lo", "up"]);
    let mut app = with(
        app("myapp"),
        daemon("webapp", "jetty9", &[("jvm.heap.max", "128m")]),
    );
    // The private host's own network, so that the test can ask.
    app.sandbox.net.mode = metactl_bundles::network::Mode::Host;
    must("sysctl", &["-qw", "net.ipv4.ip_unprivileged_port_start=0"]);
    let files: &[(&str, &[u8])] = &[
        ("WEB-INF/web.xml", WEB_XML.as_bytes()),
        ("index.jsp", INDEX_JSP.as_bytes()),
    ];
    let bundle = Materialized::new(&app, files);
    let log = fs::File::create(bundle.state.path().join("log")).unwrap();
    let started = Instant::now();
    let mut child = bundle
        .command(runtime, "webapp")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        get(&mut child, Duration::from_secs(60))
    }));
    eprintln!("first answer after {:?}", started.elapsed());
    let id = format!("{}.webapp", bundle.instance);
    let root = bundle.state.path().join("runtime");
    let stop = ["--root", root.to_str().unwrap(), "kill", &id, "TERM"];
    let stopped = Command::new(runtime).args(stop).output().unwrap();
    let status = child.wait().unwrap();
    let log = fs::read_to_string(bundle.state.path().join("log")).unwrap();
    let answer = answer.unwrap_or_else(|_| panic!("{log}\n{}", text(&stopped)));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{log}");
    assert!(answer.contains("six times seven is 42"), "{answer}\n{log}");
    assert!(
        answer.contains(&format!("in {}", bundle.instance)),
        "{answer}\n{log}"
    );
    // A JVM as PID 1 obeys SIGTERM, and says so.
    assert_eq!(status.code(), Some(143), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn jetty9_serves_a_web_application_under_crun() {
    let tools = [
        "crun",
        "ip",
        "sysctl",
        "/usr/share/jetty9/start.jar",
        "/usr/bin/java",
    ];
    if private_host("jetty9_serves_a_web_application_under_crun", &tools) {
        jetty_serves("crun");
    }
}

#[test]
fn jetty9_serves_a_web_application_under_runc() {
    let tools = [
        "runc",
        "ip",
        "sysctl",
        "/usr/share/jetty9/start.jar",
        "/usr/bin/java",
    ];
    if private_host("jetty9_serves_a_web_application_under_runc", &tools) {
        jetty_serves("runc");
    }
}

/// A tree of the user's own: a shell and what it needs, and nothing else.
fn small_tree(tree: &Path) {
    let programs = ["/bin/sh", "/bin/ls"];
    let mut files: Vec<String> = programs
        .iter()
        .map(|program| (*program).to_owned())
        .collect();
    for program in programs {
        let libraries = must("ldd", &[program]);
        files.extend(
            libraries
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(str::to_owned),
        );
    }
    for file in files {
        let path = tree.join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(&file, &path).unwrap();
    }
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/motd"), "a tree of my own\n").unwrap();
}

fn own_tree_runs(runtime: &str) {
    hide_v2();
    let dir = support::open_tempdir();
    small_tree(&dir.path().join("tree"));
    let before = must("find", &[dir.path().to_str().unwrap()]);
    let script =
        b"#!/bin/sh\nread motd < /etc/motd; echo $motd; ls / /etc; echo x > /data/x && exit 3\n";
    let mut app = with(
        app("myapp"),
        daemon("web", "exec", &[("command", "./say.sh")]),
    );
    app.sandbox.rootfs = Some(dir.path().join("tree"));
    let bundle = Materialized::new(&app, &[("say.sh", script)]);
    let output = bundle.run(runtime, "web");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("a tree of my own"), "{said}");
    for name in ["app", "data", "bin", "passwd", "resolv.conf", "motd"] {
        assert!(
            said.lines().any(|line| line == name),
            "no {name} in:\n{said}"
        );
    }
    assert!(!said.lines().any(|line| line == "usr"), "{said}");
    assert_eq!(
        must("find", &[dir.path().to_str().unwrap()]),
        before,
        "nothing made in the tree"
    );
}

#[test]
fn a_tree_of_the_users_own_runs_under_crun() {
    if private_host("a_tree_of_the_users_own_runs_under_crun", &["crun", "ldd"]) {
        own_tree_runs("crun");
    }
}

#[test]
fn a_tree_of_the_users_own_runs_under_runc() {
    if private_host("a_tree_of_the_users_own_runs_under_runc", &["runc", "ldd"]) {
        own_tree_runs("runc");
    }
}
