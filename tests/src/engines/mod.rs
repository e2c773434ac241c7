//! Container engines as clients of the runtime: podman and containerd, each in a private host.
//!
//! The engines call whatever `METACTL_RUNTIME_BIN` names, and every one of these tests passes with runc or
//! with crun as well, which is how one finds out whether a test or the runtime is wrong. (runc cannot run
//! containers without cgroups; crun does not say which program it may not execute.)
//!
//! ```sh
//! METACTL_BIN=target/debug/metactl METACTL_RUNTIME_BIN=/usr/sbin/runc cargo nextest run -p metactl-tests -E 'binary(/slow_podman/)'
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::Outcome;
use crate::eventually;
use crate::host::Host;

pub mod containerd;
pub mod image;
pub mod podman;

pub use containerd::Containerd;
pub use image::{IMAGE, Image, WORKER_IMAGE};
pub use podman::Podman;

/// How long any single command of an engine may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Where runtimes keep the state of containers when the engine does not say where.
const STATE_ROOTS: [&str; 3] = ["/run/metactl/oci", "/run/runc", "/run/crun"];

/// What both engines need on a host: places of their own for what they keep, and the runtime under test.
#[derive(Debug)]
pub struct Place<'h> {
    host: &'h Host,
    dir: PathBuf,
    runtime: PathBuf,
}

impl<'h> Place<'h> {
    /// Gives the host writable `/etc`, `/var` and `/dev/shm` of its own, and prepares the runtime.
    ///
    /// What the host has then is what it must have at the end.
    pub fn prepare(host: &'h Host) -> Place<'h> {
        // podman refuses long paths; /run is the host's own, too.
        let dir = PathBuf::from("/run/engine");
        for tree in ["etc", "var"] {
            let place = |kind: &str| dir.join("private").join(format!("{tree}.{kind}"));
            for kind in ["upper", "work"] {
                fs::create_dir_all(place(kind)).unwrap();
            }
            let options = format!(
                "lowerdir=/{tree},upperdir={},workdir={}",
                place("upper").display(),
                place("work").display()
            );
            mount(
                host,
                &["-t", "overlay", "-o", &options, tree, &format!("/{tree}")],
            );
        }
        // Locks and shared memory of engines have fixed names.
        mount(host, &["-t", "tmpfs", "-o", "mode=1777", "shm", "/dev/shm"]);
        fs::write("/etc/hosts", "127.0.0.1 localhost\n").unwrap();
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "containers:200000:1000000\n").unwrap();
        }
        fs::create_dir_all(dir.join("tmp")).unwrap();
        let runtime = logged(host, &dir);
        if host.binaries().runtime.ends_with("crun") && Path::new("/sys/fs/cgroup/unified").exists()
        {
            // crun refuses hierarchies of both versions side by side.
            host.command("umount", &["/sys/fs/cgroup/unified"]).ok();
            fs::remove_dir("/sys/fs/cgroup/unified").unwrap();
        }
        host.is_settled();
        Place { host, dir, runtime }
    }

    /// A directory for the engine's and the test's own files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The runtime under test, called in a way that writes down every call.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    /// The calls of the runtime so far, one a line.
    pub fn calls(&self) -> String {
        fs::read_to_string(call_log(self.host)).unwrap_or_default()
    }

    /// A command with a clean environment.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear();
        command
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", &self.dir)
            .env("TMPDIR", self.dir.join("tmp"))
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm");
        command
    }

    /// Fails the test when the runtime keeps anything of containers that are gone, or when a
    /// cgroup below `parent` is a container's or not empty. The parents are the engine's: they go.
    #[track_caller]
    fn assert_containers_are_gone(&self, parent: &str, is_containers: impl Fn(&str) -> bool) {
        for root in STATE_ROOTS {
            eventually(&format!("no state in {root}"), LIMIT, || {
                let mut entries = fs::read_dir(root).into_iter().flatten();
                entries.next().is_none().then_some(())
            });
        }
        let below = format!("/{parent}");
        let left = || {
            let all = crate::machine::cgroups();
            all.into_iter()
                .filter(|path| path.contains(&below))
                .collect::<Vec<_>>()
        };
        eventually(&format!("no container in {:?}", left()), LIMIT, || {
            let mut names = left();
            names.retain(|path| path.rsplit('/').next().is_some_and(&is_containers));
            names.is_empty().then_some(())
        });
        eventually(&format!("nothing in {:?}", left()), LIMIT, || {
            for path in left().iter().rev() {
                fs::remove_dir(path).ok();
            }
            left().is_empty().then_some(())
        });
    }
}

impl Drop for Place<'_> {
    /// Thaws what a failed test left frozen: the kernel cannot kill it, and the host would never end.
    fn drop(&mut self) {
        for cgroup in crate::machine::cgroups() {
            for (file, text) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                let file = Path::new(&cgroup).join(file);
                if file.exists() {
                    fs::write(file, text).ok();
                }
            }
        }
    }
}

/// A script that stands for the runtime, and writes its calls to a log that a failed test shows.
fn logged(host: &Host, dir: &Path) -> PathBuf {
    let log = call_log(host);
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    let script = dir.join("runtime");
    let runtime = host.binaries().runtime.display();
    let text = format!(
        "#!/bin/sh\necho \"$*\" >> '{}'\nexec '{runtime}' \"$@\"\n",
        log.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn call_log(host: &Host) -> PathBuf {
    host.root().join("var/log/metactl/engine/runtime-calls.log")
}

#[track_caller]
fn mount(host: &Host, args: &[&str]) {
    host.command("mount", args).ok();
}

/// The cgroup directory of a process in the hierarchy of a controller; the unified one on v2.
pub fn cgroup(pid: i32, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let top = Path::new("/sys/fs/cgroup");
    let unified = top.join("cgroup.controllers").exists();
    let path = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let ours = match unified {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|name| name == controller),
        };
        ours.then(|| path.trim_start_matches('/').to_owned())
    });
    let path = path.unwrap_or_else(|| panic!("no cgroup for {controller} of {pid} in {text}"));
    match unified {
        true => top.join(path),
        false => top.join(controller).join(path),
    }
}

/// Fails the test unless a process is in a cgroup of that name in every hierarchy that this host has.
#[track_caller]
pub fn assert_in_every_hierarchy(pid: i32, name: &str) {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let top = Path::new("/sys/fs/cgroup");
    let v2 = ["cgroup.controllers", "unified"];
    let has_v2 = v2.iter().any(|file| top.join(file).exists());
    for line in text
        .lines()
        .filter(|line| has_v2 || !line.starts_with("0::"))
    {
        assert!(line.contains(name), "{line:?} is not {name} in\n{text}");
    }
}

/// What a limit of a process is: the content of `v1` or `v2` in its cgroup, whichever there is.
pub fn limit(pid: i32, controller: &str, v1: &str, v2: &str) -> String {
    let dir = cgroup(pid, controller);
    let file = [v1, v2]
        .map(|name| dir.join(name))
        .into_iter()
        .find(|file| file.exists());
    let file = file.unwrap_or_else(|| panic!("neither {v1} nor {v2} in {}", dir.display()));
    fs::read_to_string(file).unwrap().trim().to_owned()
}

/// The processor time quota of a process in percent of one processor.
pub fn quota(pid: i32) -> u32 {
    let dir = cgroup(pid, "cpu");
    let read = |name: &str| fs::read_to_string(dir.join(name));
    let text = match (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")) {
        (Ok(quota), Ok(period)) => format!("{quota} {period}"),
        _ => read("cpu.max").unwrap(),
    };
    let words: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    (words[0] / words[1] * 100.0).round() as u32
}

/// What a command wrote to standard output, without the last line end.
#[track_caller]
pub fn text(outcome: Outcome) -> String {
    outcome.ok().stdout.trim_end().replace('\r', "")
}
