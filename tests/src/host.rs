//! A test's body in a private host.

use std::any::type_name;
use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::apps::Repository;
use crate::binaries::Binaries;
use crate::command::{self, Background, Outcome};
use crate::lan::Lan;
use crate::machine::Machine;
use crate::needs::{self, Need};

/// Names the directory of the private host to the test inside it.
const INSIDE: &str = "METACTL_TEST_HOST";

/// How long any single command may take before the test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs the body of a test in a private host, and fails it when something is left behind there.
///
/// Called on the machine itself, this makes the host, and runs the test binary again inside, with
/// the name of the calling test; called inside, it runs `body`. (The name of the test is read off
/// the type of the closure, so the call has to stand directly in the test's function.)
#[track_caller]
pub fn on_host<F: FnOnce(&Host)>(needs: &[Need], body: F) {
    // <crate>::<modules>::<test>::{{closure}}
    let path = type_name::<F>();
    let test = path.split_once("::").map_or(path, |(_, rest)| rest);
    let test = test.trim_end_matches("::{{closure}}");
    if let Some(dir) = std::env::var_os(INSIDE) {
        let host = Host::inside(&PathBuf::from(dir));
        match catch_unwind(AssertUnwindSafe(|| body(&host))) {
            Ok(()) => host.assert_nothing_left(),
            Err(failure) => {
                host.explain();
                resume_unwind(failure);
            }
        }
    } else if let Some(reason) = needs::missing(needs) {
        needs::skip(test, &reason);
    } else {
        make(test);
    }
}

/// Makes the host, and the test again in it.
fn make(test: &str) {
    let binaries = Binaries::get();
    let dir = tempfile::Builder::new()
        .prefix("metactl-test-")
        .tempdir()
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        dir.path().join("hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
    )
    .unwrap();
    let script = dir.path().join("private-host.sh");
    fs::write(&script, include_str!("private-host.sh")).unwrap();
    // Called like the directory: unique, also when tests are threads of one process.
    let name = dir
        .path()
        .file_name()
        .expect("a temporary directory has a name");
    let cgroups = Cgroups::make(&name.to_string_lossy());
    let status = Command::new("sh")
        .arg(&script)
        .arg("outer")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, dir.path())
        .env(
            "METACTL_TEST_CGROUPS",
            cgroups
                .0
                .iter()
                .map(|p| p.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" "),
        )
        .env("METACTL_BIN", &binaries.metactl)
        .env("METACTL_RUNTIME_BIN", &binaries.runtime)
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{test} failed in its private host ({status}); see above"
    );
}

/// The host's own cgroups, one in each hierarchy of the machine. Removed when dropped.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn make(name: &str) -> Cgroups {
        let top = Path::new("/sys/fs/cgroup");
        let unified = top.join("cgroup.controllers").exists();
        let hierarchies: Vec<PathBuf> = if unified {
            vec![top.to_owned()]
        } else {
            fs::read_dir(top)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect()
        };
        let mut made = Cgroups(Vec::new());
        for hierarchy in hierarchies
            .iter()
            .filter(|path| path.join("cgroup.procs").exists())
        {
            let own = hierarchy.join(name);
            fs::create_dir(&own).unwrap_or_else(|e| panic!("cannot make {}: {e}", own.display()));
            made.0.push(own.clone());
            if unified {
                for controller in fs::read_to_string(top.join("cgroup.controllers"))
                    .unwrap()
                    .split_whitespace()
                {
                    // A controller that the machine keeps to itself is none of the test's.
                    fs::write(top.join("cgroup.subtree_control"), format!("+{controller}")).ok();
                }
            }
            // Tasks may enter a v1 cpuset only when it has processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if hierarchy.ends_with("cpuset") {
                    fs::write(own.join(file), fs::read(hierarchy.join(file)).unwrap()).unwrap();
                }
            }
            if hierarchy.ends_with("cpuset") {
                fs::write(own.join("cgroup.clone_children"), "1").unwrap();
            }
        }
        made
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for cgroup in &self.0 {
            // The kernel needs a moment to bury the processes of the host.
            for _ in 0..100 {
                if remove(cgroup) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn remove(cgroup: &Path) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(cgroup).is_ok()
}

/// A private host, seen from inside.
#[derive(Debug)]
pub struct Host {
    dir: PathBuf,
    binaries: Binaries,
    before: RefCell<Machine>,
}

impl Host {
    fn inside(dir: &Path) -> Host {
        let host = Host {
            dir: dir.to_owned(),
            binaries: Binaries::get(),
            before: RefCell::new(Machine::now(&dir.join("root/run/metactl"))),
        };
        fs::create_dir_all(host.root().join("etc/metactl/nodes")).unwrap();
        fs::create_dir_all(host.dir.join("home")).unwrap();
        host
    }

    /// What is below `METACTL_ROOT` of everything on this host: a file system of its own, in memory.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// A folder for the test's own files.
    pub fn work(&self) -> PathBuf {
        let work = self.root().join("work");
        fs::create_dir_all(&work).unwrap();
        work
    }

    /// The state directory of an instance.
    pub fn state(&self, instance: &str) -> PathBuf {
        self.root().join("var/lib/metactl").join(instance)
    }

    /// The log file of an entry point.
    pub fn log(&self, instance: &str, entry: &str) -> PathBuf {
        self.root()
            .join("var/log/metactl")
            .join(instance)
            .join(format!("{entry}.log"))
    }

    /// metactl's directory for what a reboot may take away.
    pub fn run_dir(&self) -> PathBuf {
        self.root().join("run/metactl")
    }

    /// The binaries under test.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Makes `metactl.conf`.
    pub fn server_conf(&self, text: &str) {
        self.write_config("metactl.conf", text);
    }

    /// Makes the layer `sites/<site>/<file>.conf`.
    pub fn site_layer(&self, site: &str, file: &str, text: &str) {
        self.write_config(&format!("sites/{site}/{file}.conf"), text);
    }

    /// Makes the local layer of an instance.
    pub fn local_layer(&self, instance: &str, text: &str) {
        self.write_config(&format!("nodes/{instance}.conf"), text);
    }

    fn write_config(&self, path: &str, text: &str) {
        let path = self.root().join("etc/metactl").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Gives this host's resolver a name (`/etc/hosts`).
    pub fn name(&self, address: &str, name: &str) {
        // In place: the file is a mount.
        let mut hosts = fs::read_to_string("/etc/hosts").unwrap();
        hosts.push_str(&format!("{address} {name}\n"));
        fs::write("/etc/hosts", hosts).unwrap();
    }

    /// Says whom this host's resolver asks (`/etc/resolv.conf`).
    pub fn resolv_conf(&self, text: &str) {
        // In place: the file is a mount.
        fs::write("/etc/resolv.conf", text).unwrap();
    }

    /// The command line under test, not yet run, with a clean environment.
    pub fn metactl(&self, args: &[&str]) -> Command {
        let mut metactl = Command::new(&self.binaries.metactl);
        metactl.args(args).current_dir("/").env_clear();
        metactl.envs([(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )]);
        metactl
            .env("HOME", self.dir.join("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm");
        metactl
            .env("METACTL_ROOT", self.root())
            .env("METACTL_RUNTIME", &self.binaries.runtime);
        metactl
    }

    /// Runs `metactl ARGS` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        command::run(self.metactl(args), LIMIT)
    }

    /// Runs `metactl ARGS` while the test goes on.
    pub fn spawn(&self, args: &[&str]) -> Background {
        Background::spawn(self.metactl(args))
    }

    /// Runs another command while the test goes on.
    pub fn spawn_command(&self, command: Command) -> Background {
        Background::spawn(command)
    }

    /// Runs another command on this host.
    #[track_caller]
    pub fn command(&self, program: &str, args: &[&str]) -> Outcome {
        let mut other = Command::new(program);
        other.args(args);
        command::run(other, LIMIT)
    }

    /// Connects this host with others; see [`Lan`]. What is left behind counts from now on.
    pub fn lan(&self) -> Lan<'_> {
        Lan::make(self)
    }

    /// Takes what the host is now for what it has to be at the end.
    pub fn is_settled(&self) {
        *self.before.borrow_mut() = Machine::now(&self.run_dir());
    }

    /// Fails the test when something is left behind.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.before.borrow().assert_restored(&self.run_dir());
    }

    /// A git repository with an example, in the test's own folder.
    pub fn example(&self, name: &str, tag: &str) -> Repository {
        Repository::of_example(name, &self.repository_dir(name), tag)
    }

    /// An instance of an application of the test's own, not yet deployed: a git repository with
    /// these files (`.metactl` among them), tagged 1.0, and a local layer that names it.
    pub fn application(&self, instance: &str, files: &[(&str, &str)], local: &str) -> Repository {
        let repository = Repository::empty(&self.repository_dir(instance));
        for (path, text) in files {
            repository.write(path, text);
        }
        repository.commit("1.0");
        self.instance_of(instance, &repository, local);
        repository
    }

    fn repository_dir(&self, name: &str) -> PathBuf {
        self.work().join("repositories").join(name)
    }

    /// Writes the local layer of an instance whose source is `repository`: `[build] repo`, then `local`.
    pub fn instance_of(&self, instance: &str, repository: &Repository, local: &str) {
        let repo = repository.dir.display();
        self.local_layer(instance, &format!("[build]\nrepo = {repo}\n{local}\n"));
    }

    /// Deploys and starts the `hello` example as an instance of this name; its address.
    pub fn hello(&self, instance: &str, local: &str) -> String {
        let dir = self.repository_dir(instance);
        self.instance_of(
            instance,
            &Repository::of_example("hello", &dir, "1.0"),
            local,
        );
        self.run(&[instance, "deploy", "1.0"]).ok();
        self.address(instance)
    }

    /// The address of an instance that runs.
    #[track_caller]
    pub fn address(&self, instance: &str) -> String {
        let status = self.run(&[instance, "status", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&status.stdout)
            .unwrap_or_else(|e| panic!("no JSON ({e}) from {status}"));
        let address = json["addresses"][0].as_str();
        address
            .unwrap_or_else(|| panic!("no address in {status}"))
            .to_owned()
    }

    /// Tells what may help to understand a failure.
    fn explain(&self) {
        eprintln!("--- differences to the host at the beginning");
        for line in self
            .before
            .borrow()
            .differences(&Machine::now(&self.run_dir()))
        {
            eprintln!("{line}");
        }
        let logs = self.root().join("var/log/metactl");
        for path in crate::tree::Tree::of(&logs).paths() {
            if let Ok(text) = fs::read_to_string(logs.join(path)) {
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(30)..];
                eprintln!("--- {}\n{}", path.display(), tail.join("\n"));
            }
        }
    }
}
