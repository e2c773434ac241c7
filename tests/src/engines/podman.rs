//! podman as a client of the runtime.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{IMAGE, Image, LIMIT, Place, mount, text};
use crate::command::{self, Outcome};
use crate::host::Host;
use crate::terminal::Terminal;

/// The parent cgroup of podman's containers; they are called `libpod-ID` somewhere below.
const PARENT: &str = "libpod_parent";

/// podman with storage and settings of its own.
#[derive(Debug)]
pub struct Podman<'h> {
    host: &'h Host,
    place: Place<'h>,
    image: Image,
}

impl<'h> Podman<'h> {
    /// Sets podman up on a host, and gives it the image.
    pub fn on(host: &'h Host) -> Podman<'h> {
        let place = Place::prepare(host);
        settings(place.dir());
        let image = Image::make(host, place.dir());
        let podman = Podman { host, place, image };
        podman
            .run(&["load", "-q", "-i", podman.image.archive.to_str().unwrap()])
            .ok();
        podman
    }

    /// The host that it runs on.
    pub fn host(&self) -> &'h Host {
        self.host
    }

    /// The image's files.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// A directory for the test's own files, made if it is not there.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.place.dir().join("files").join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The calls of the runtime so far, one a line.
    pub fn calls(&self) -> String {
        self.place.calls()
    }

    /// `podman ARGS` with the runtime under test.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_with(self.place.runtime(), args)
    }

    /// `podman ARGS` with a runtime that podman knows nothing of.
    pub fn command_with(&self, runtime: &Path, args: &[&str]) -> Command {
        let dir = self.place.dir();
        let mut podman = self.place.command("podman");
        podman
            .env("CONTAINERS_CONF", dir.join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", dir.join("storage.conf"))
            .arg("--runtime")
            .arg(runtime)
            .args(args);
        podman
    }

    /// Runs `podman ARGS` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Outcome {
        command::run(self.command(args), LIMIT)
    }

    /// What `podman ARGS` writes; it must succeed.
    #[track_caller]
    pub fn text(&self, args: &[&str]) -> String {
        text(self.run(args))
    }

    /// Runs a script in a new container without a network, which is removed afterwards.
    #[track_caller]
    pub fn script(&self, options: &[&str], script: &str) -> Outcome {
        let args = [
            &["run", "--rm", "--network=none"],
            options,
            &[IMAGE, "sh", "-c", script],
        ]
        .concat();
        self.run(&args)
    }

    /// What a script in a new container writes; it must succeed.
    #[track_caller]
    pub fn says(&self, options: &[&str], script: &str) -> String {
        text(self.script(options, script))
    }

    /// Starts a container without a network in the background.
    #[track_caller]
    pub fn start(&self, name: &str, options: &[&str], command: &[&str]) -> Container<'_> {
        let run = ["run", "-d", "--network=none", "--name", name];
        self.run(&[&run, options, &[IMAGE], command].concat()).ok();
        Container {
            podman: self,
            name: name.to_owned(),
        }
    }

    /// Starts a container that does nothing until it is removed.
    #[track_caller]
    pub fn idle(&self, name: &str, options: &[&str]) -> Container<'_> {
        // Process 1 has only those signals that it asks for.
        self.start(
            name,
            options,
            &["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
        )
    }

    /// `podman ARGS` on a terminal.
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::spawn(&self.command(args))
    }

    /// A directory of this host as a mount of its own that is shared with its peers.
    pub fn shared_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir(name);
        let path = dir.to_str().unwrap();
        mount(self.host, &["--bind", path, path]);
        mount(self.host, &["--make-shared", path]);
        dir
    }

    /// Fails the test when a container, or something of one, is left. To be called at the end.
    #[track_caller]
    pub fn finish(self) {
        assert_eq!(
            self.text(&["ps", "-aq", "--external"]),
            "",
            "containers that were not removed"
        );
        // Those that tidy up after a container or a command may be at it still.
        crate::eventually("podman and conmon are over", LIMIT, || {
            let busy = |name| !crate::machine::pids_of(&[name]).is_empty();
            (!busy("podman ") && !busy("conmon ")).then_some(())
        });
        // podman mounts its storage on itself.
        let storage = self.place.dir().join("storage/root/overlay");
        while is_mount_point(&storage) {
            self.host
                .command("umount", &[storage.to_str().unwrap()])
                .ok();
        }
        self.place
            .assert_containers_are_gone(PARENT, |name| name.starts_with("libpod-"));
    }
}

/// Writes podman's settings: everything that it keeps is below `dir`.
fn settings(dir: &Path) {
    let storage = dir.join("storage");
    fs::create_dir_all(&storage).unwrap();
    let storage = storage.display();
    // Hard limits can only be raised by those who may; podman's defaults are a million.
    // The runtime is known to podman by the name of its file, the script `runtime`.
    let conf = format!(
        "[containers]\n\
         default_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n\
         [engine]\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n\
         runtime_supports_json = [\"runtime\"]\n\
         runtime_supports_nocgroup = [\"runtime\"]\n\
         tmp_dir = \"{storage}/tmp\"\n\
         [network]\n\
         network_backend = \"netavark\"\n\
         network_config_dir = \"{storage}/networks\"\n"
    );
    fs::write(dir.join("containers.conf"), conf).unwrap();
    let conf = format!(
        "[storage]\n\
         driver = \"overlay\"\n\
         runroot = \"{storage}/run\"\n\
         graphroot = \"{storage}/root\"\n"
    );
    fs::write(dir.join("storage.conf"), conf).unwrap();
}

fn is_mount_point(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(4) == dir.to_str())
}

/// A container with a name.
#[derive(Debug)]
pub struct Container<'p> {
    podman: &'p Podman<'p>,
    /// Its name.
    pub name: String,
}

impl Container<'_> {
    /// Runs a command in it: `podman exec OPTIONS NAME COMMAND`.
    #[track_caller]
    pub fn exec(&self, options: &[&str], command: &[&str]) -> Outcome {
        self.podman
            .run(&[&["exec"], options, &[&self.name], command].concat())
    }

    /// Runs a script in it.
    #[track_caller]
    pub fn script(&self, script: &str) -> Outcome {
        self.exec(&[], &["sh", "-c", script])
    }

    /// `podman VERB OPTIONS NAME`.
    #[track_caller]
    pub fn does(&self, verb: &[&str]) -> Outcome {
        self.podman.run(&[verb, &[&self.name]].concat())
    }

    /// A field of its description, as a Go template.
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        self.podman
            .text(&["inspect", "--format", template, &self.name])
    }

    /// Its first process, as this host numbers it.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.inspect("{{.State.Pid}}").parse().unwrap()
    }

    /// Waits until it has the status `running`, `exited` and so on.
    #[track_caller]
    pub fn wait_for_status(&self, status: &str) {
        crate::eventually(
            &format!("{} is {status}", self.name),
            Duration::from_secs(20),
            || (self.inspect("{{.State.Status}}") == status).then_some(()),
        );
    }

    /// Removes one with a user namespace of its own, whatever it does.
    ///
    /// podman 4.3 starts conmon of such a container in a mount namespace of its own, and the cleanup that conmon
    /// starts at the end unmounts the container's shm in there only: removing it fails with `EBUSY`, with any
    /// runtime, unless `rm -f` overtakes that cleanup.
    #[track_caller]
    pub fn remove_mapped(self) {
        self.does(&["kill"]).ok();
        self.wait_for_status("exited");
        // Returns when conmon's is done.
        self.does(&["container", "cleanup"]).ok();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let shm = self.inspect("{{.Id}}") + "/userdata/shm";
        for place in places.filter(|place| place.ends_with(&shm)) {
            self.podman.host.command("umount", &[place]).ok();
        }
        self.remove();
    }

    /// Removes it, whatever it does.
    #[track_caller]
    pub fn remove(self) {
        self.does(&["rm", "-f", "-t", "0"]).ok();
    }
}
