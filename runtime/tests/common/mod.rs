//! A host of its own for every test: mount, pid, network and uts namespaces, in which the test
//! runs itself a second time. Nothing of the machine is touched but a cgroup directory, which is
//! checked to be gone.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub mod without;

/// The uid of the containers.
pub const UID: u32 = 66_000;

/// A private host.
pub struct Host {
    dir: tempfile::TempDir,
    name: String,
    /// The system calls that its kernel lacks, see [`without`].
    lacks: Option<String>,
}

/// Runs the calling test in a private host. `None` outside (the test has run inside by then, or
/// cannot): the caller returns.
pub fn enter() -> Option<Host> {
    const INSIDE: &str = "METACTL_TEST_HOST";
    if std::env::var_os(INSIDE).is_some() {
        return Some(Host::new());
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP {test}: needs root");
        return None;
    }
    if busybox().is_none() {
        eprintln!("SKIP {test}: needs a static busybox (apt-get install busybox-static)");
        return None;
    }
    let status = Command::new("unshare")
        .args([
            "-m",
            "-p",
            "-n",
            "-u",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "--",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "in the private host: {status}");
    None
}

fn busybox() -> Option<PathBuf> {
    let places = ["/usr/bin/busybox", "/bin/busybox"];
    places.iter().map(PathBuf::from).find(|path| path.exists())
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::Builder::new()
            .prefix("metactl-test-")
            .tempdir()
            .unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let lacks = std::env::var(without::VARIABLE).ok();
        let host = Host { dir, name, lacks };
        host.make_rootfs("rootfs");
        host
    }

    /// Takes system calls away from the kernel.
    pub fn without(mut self, calls: &str) -> Host {
        self.lacks = Some(calls.to_owned());
        self
    }

    /// Whether its kernel lacks a system call.
    pub fn lacks(&self, call: &str) -> bool {
        let lacks = self.lacks.as_deref();
        lacks.is_some_and(|calls| without::includes(calls, call))
    }

    /// A path in the directory of the test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The state root of the runtime.
    pub fn root(&self) -> PathBuf {
        self.path("state")
    }

    /// The `cgroupsPath` of a container.
    pub fn cgroup(&self, id: &str) -> String {
        format!("/{}/{id}", self.name)
    }

    /// A root tree with busybox in it.
    pub fn make_rootfs(&self, name: &str) -> PathBuf {
        let root = self.path(name);
        for dir in ["bin", "proc", "sys", "dev", "tmp", "etc", "data"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(busybox().unwrap(), root.join("bin/busybox")).unwrap();
        let list = Command::new(busybox().unwrap())
            .arg("--list")
            .output()
            .unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines() {
            if applet != "busybox" {
                symlink("busybox", root.join("bin").join(applet)).unwrap();
            }
        }
        root
    }

    /// The configuration of a container as metactl makes them: unprivileged, filtered, read-only.
    pub fn config(&self, id: &str, script: &str) -> Value {
        json!({
            "ociVersion": "1.2.0",
            "root": {"path": self.path("rootfs"), "readonly": true},
            "hostname": "sandbox",
            "process": {
                "user": {"uid": UID, "gid": UID},
                "args": ["sh", "-c", script],
                "env": ["PATH=/bin", "HOME=/tmp"],
                "cwd": "/",
                "capabilities": {},
                "noNewPrivileges": true,
                "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}],
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options":
                 ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=1m"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmp",
                 "options": ["nosuid", "nodev", "mode=1777", "size=1m"]},
            ],
            "linux": {
                "cgroupsPath": self.cgroup(id),
                "resources": {"pids": {"limit": 64}},
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"},
                               {"type": "uts"}, {"type": "cgroup"}, {"type": "network"}],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi",
                                "/proc/acpi", "/sys/firmware", "/proc/nothing"],
                "readonlyPaths": ["/proc/sys", "/proc/irq", "/proc/bus", "/proc/sysrq-trigger"],
                "seccomp": seccomp(),
            },
        })
    }

    /// Writes a bundle.
    pub fn bundle(&self, id: &str, config: &Value) -> PathBuf {
        let dir = self.path(&format!("bundle-{id}"));
        fs::create_dir_all(&dir).unwrap();
        // What tests make is what the fuzzer begins with, see scripts/fuzz.sh.
        if let Some(seeds) = std::env::var_os("METACTL_FUZZ_SEEDS") {
            let text = config
                .to_string()
                .replace(self.dir.path().to_str().unwrap(), "/t");
            let mut hasher = std::hash::DefaultHasher::new();
            text.hash(&mut hasher);
            let name = format!("{:016x}", hasher.finish());
            fs::write(Path::new(&seeds).join(name), text).unwrap();
        }
        fs::write(
            dir.join("config.json"),
            serde_json::to_vec_pretty(config).unwrap(),
        )
        .unwrap();
        dir
    }

    /// A program on the kernel of this host.
    pub fn program(&self, program: &Path) -> Command {
        match &self.lacks {
            Some(calls) => without::command(program, calls),
            None => Command::new(program),
        }
    }

    /// A command of the runtime.
    pub fn runtime(&self, words: &[&str]) -> Command {
        let mut command = self.program(&binary());
        command
            .arg("--root")
            .arg(self.root())
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the runtime to its end.
    pub fn call(&self, words: &[&str]) -> Output {
        self.runtime(words).output().unwrap()
    }

    /// Runs a command of the runtime, which must succeed, and gives its output.
    pub fn must(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "{words:?}: {}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A `run` of the bundle.
    pub fn run_command(&self, id: &str, config: &Value, options: &[&str]) -> Command {
        let bundle = self.bundle(id, config);
        let mut command = self.runtime(&["run", "--bundle"]);
        command.arg(bundle).args(options).arg(id);
        command
    }

    /// Runs a container in the foreground to its end.
    pub fn run(&self, id: &str, config: &Value) -> Output {
        self.run_command(id, config, &[]).output().unwrap()
    }

    /// Runs a script in a default container; it must succeed. Its output.
    pub fn script(&self, script: &str) -> String {
        let output = self.run("script", &self.config("script", script));
        assert!(output.status.success(), "{script}: {}", both(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The cgroup directories of this test.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let mut places: Vec<PathBuf> = hierarchies.map(|e| e.path()).collect();
        places.push(PathBuf::from("/sys/fs/cgroup"));
        let dirs = places.into_iter().map(|place| place.join(&self.name));
        dirs.filter(|dir| dir.exists()).collect()
    }

    /// Nothing of any container is left behind.
    pub fn assert_clean(&self) {
        let state: Vec<_> = fs::read_dir(self.root())
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert!(state.is_empty(), "left in the state root: {state:?}");
        assert!(
            self.cgroups().is_empty(),
            "left cgroups: {:?}",
            self.cgroups()
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.dir.path().to_str().unwrap();
        assert!(!mounts.contains(ours), "left mounts: {mounts}");
        let others = processes();
        assert!(others.is_empty(), "left processes: {others:?}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // After a failed test; a good one has left nothing.
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let _ = self.call(&["delete", "--force", entry.file_name().to_str().unwrap()]);
        }
        for dir in self.cgroups() {
            for child in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(child.path());
            }
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The runtime under test: what people install when `METACTL_RUNTIME_BIN` names it, else what was
/// just built.
pub fn binary() -> PathBuf {
    std::env::var_os("METACTL_RUNTIME_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_metactl-runtime").into(),
        PathBuf::from,
    )
}

/// Says that a test was skipped and why, also in the file that `METACTL_SKIPS` names.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("SKIP {name}: {why}");
    if let Some(file) = std::env::var_os("METACTL_SKIPS") {
        let file = fs::OpenOptions::new().create(true).append(true).open(file);
        writeln!(file.unwrap(), "{name}: {why}").unwrap();
    }
}

/// Compiles a C program statically into the root tree, as `/bin/NAME`. `None`, and a word about
/// it, where there is no C compiler.
pub fn compile_c(host: &Host, name: &str, source: &str) -> Option<PathBuf> {
    let code = host.path(&format!("{name}.c"));
    put(&code, source);
    let program = host.path("rootfs/bin").join(name);
    let gcc = Command::new("gcc")
        .args(["-static", "-O1", "-w", "-o"])
        .args([&program, &code])
        .output();
    match gcc {
        Ok(output) if output.status.success() => Some(program),
        Ok(output) => panic!("gcc: {}", both(&output)),
        Err(_) => {
            skip("needs gcc and a static libc (apt-get install gcc libc6-dev)");
            None
        }
    }
}

/// Takes the status of children that have ended: containers of `create` and of `run --detach`, and
/// what lost its parent.
pub fn reap() {
    use rustix::process::{WaitOptions, wait};
    while wait(WaitOptions::NOHANG).is_ok_and(|w| w.is_some()) {}
}

/// The same, but for one that somebody else waits for.
pub fn reap_but(keep: u32) {
    use rustix::process::{Pid, WaitOptions, waitpid};
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid: Option<i32> = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        // Those that are not its children are refused by the kernel.
        if let Some(pid) = pid
            .filter(|pid| pid.unsigned_abs() != keep)
            .and_then(Pid::from_raw)
        {
            waitpid(Some(pid), WaitOptions::NOHANG)
                .map(drop)
                .unwrap_or_default();
        }
    }
}

/// The processes of this host, without the test itself and its children that are zombies.
pub fn processes() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let state = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .trim_start()
            .chars()
            .next();
        if pid != std::process::id() && state != Some('Z') {
            found.push(stat);
        }
    }
    found
}

/// Both streams of an output, for messages.
pub fn both(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!(
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// What an output says on standard error.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What an output says on standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until something is true.
pub fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The configuration of a container with a user namespace of its own, and its root in there.
pub fn mapped(host: &Host, id: &str, script: &str) -> Value {
    let mut config = host.config(id, script);
    config["process"]["user"] = json!({"uid": 0, "gid": 0});
    let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "user"}));
    config
}

/// A filter that lets everything through but a few calls, each with an answer of its own.
pub fn seccomp() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 19},
            {"names": ["mount", "umount2", "unshare"], "action": "SCMP_ACT_ERRNO"},
        ],
    })
}

/// Makes a directory or file, with its parents.
pub fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A signal to a child.
pub fn signal(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A container that says when it is ready, in a file of its bundle's host.
pub fn ready_config(host: &Host, id: &str, script: &str) -> Value {
    fs::create_dir_all(host.path("ready")).unwrap();
    fs::set_permissions(
        host.path("ready"),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let mut config = host.config(id, script);
    let mount = json!({"destination": "/ready", "source": host.path("ready"), "options": ["bind"]});
    config["mounts"].as_array_mut().unwrap().push(mount);
    config
}

/// Waits until it is.
pub fn wait_ready(host: &Host) {
    eventually("ready", || host.path("ready/yes").exists());
    fs::remove_file(host.path("ready/yes")).unwrap();
}

/// A descriptor and the bytes that came with it.
pub fn descriptor(stream: &std::os::unix::net::UnixStream) -> (std::os::fd::OwnedFd, Vec<u8>) {
    use std::io::IoSliceMut;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = [0; 8192];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let fd = fds.next().expect("a descriptor");
    drop(fds);
    (fd, bytes[..got.bytes].to_vec())
}
