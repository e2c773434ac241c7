//! containerd, through its command line `ctr`, as a client of the runtime.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use super::{IMAGE, Image, LIMIT, Place, text};
use crate::command::{self, Background, Outcome};
use crate::eventually;
use crate::host::Host;
use crate::terminal::Terminal;

/// The parent cgroup of the containers: the name of containerd's namespace.
const PARENT: &str = "default";

/// A containerd of the test's own.
#[derive(Debug)]
pub struct Containerd<'h> {
    place: Place<'h>,
    image: Image,
    daemon: Background,
}

impl<'h> Containerd<'h> {
    /// Starts it on a host, and gives it the image.
    pub fn on(host: &'h Host) -> Containerd<'h> {
        let place = Place::prepare(host);
        let dir = place.dir();
        let conf = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/socket\"\n",
            dir.display()
        );
        fs::write(dir.join("containerd.toml"), conf).unwrap();
        // ctr forgets --runc-binary when it sets options of a task (as --uidmap does), and then the shim looks in PATH.
        fs::create_dir_all(dir.join("bin")).unwrap();
        symlink(place.runtime(), dir.join("bin/runc")).unwrap();
        let image = Image::make(host, dir);
        let mut daemon = place.command("containerd");
        daemon.env(
            "PATH",
            format!("{}/bin:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()),
        );
        daemon.arg("--config").arg(dir.join("containerd.toml"));
        let containerd = Containerd {
            daemon: Background::spawn(daemon),
            place,
            image,
        };
        eventually("containerd answers", LIMIT, || {
            (containerd.ctr(&["version"]).code == 0).then_some(())
        });
        let archive = containerd.image.archive.to_str().unwrap();
        containerd.ctr(&["images", "import", archive]).ok();
        containerd
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

    /// The runtime under test.
    pub fn runtime(&self) -> &str {
        let runtime = self.place.runtime().to_str();
        runtime.expect("this path is of ASCII")
    }

    /// `ctr ARGS`.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut ctr = self.place.command("ctr");
        ctr.arg("--address")
            .arg(self.place.dir().join("socket"))
            .args(args);
        ctr
    }

    /// Runs `ctr ARGS` to its end.
    #[track_caller]
    pub fn ctr(&self, args: &[&str]) -> Outcome {
        command::run(self.command(args), LIMIT)
    }

    /// What `ctr ARGS` writes; it must succeed.
    #[track_caller]
    pub fn text(&self, args: &[&str]) -> String {
        text(self.ctr(args))
    }

    /// The words of `ctr run OPTIONS` up to the image.
    fn words<'a>(&'a self, options: &[&'a str]) -> Vec<&'a str> {
        [&["run", "--runc-binary", self.runtime()], options].concat()
    }

    /// Runs a script in a new container of an image, which is removed afterwards.
    #[track_caller]
    pub fn script_in(&self, image: &str, options: &[&str], script: &str) -> Outcome {
        let words = [
            &self.words(&["--rm"])[..],
            options,
            &[image, "script", "/bin/sh", "-c", script],
        ];
        self.ctr(&words.concat())
    }

    /// Runs a script in a new container, which is removed afterwards.
    #[track_caller]
    pub fn script(&self, options: &[&str], script: &str) -> Outcome {
        self.script_in(IMAGE, options, script)
    }

    /// Runs another command in a new container, which is removed afterwards.
    #[track_caller]
    pub fn program(&self, id: &str, program: &[&str]) -> Outcome {
        self.ctr(&[&self.words(&["--rm"])[..], &[IMAGE, id], program].concat())
    }

    /// `ctr run OPTIONS` of a script on a terminal.
    pub fn terminal(&self, id: &str, options: &[&str], script: &str) -> Terminal {
        let words = [
            &self.words(&["--rm", "-t"])[..],
            options,
            &[IMAGE, id, "/bin/sh", "-c", script],
        ];
        Terminal::spawn(&self.command(&words.concat()))
    }

    /// `ctr ARGS` on a terminal.
    pub fn on_terminal(&self, args: &[&str]) -> Terminal {
        Terminal::spawn(&self.command(args))
    }

    /// Starts a container in the background; the number of its first process.
    #[track_caller]
    pub fn start(&self, id: &str, options: &[&str], script: &str) -> i32 {
        let words = [
            &self.words(&["-d"])[..],
            options,
            &[IMAGE, id, "/bin/sh", "-c", script],
        ];
        self.ctr(&words.concat()).ok();
        self.task(id)
            .map(|(pid, _)| pid)
            .expect("its task is listed")
    }

    /// The process and the status of a task.
    #[track_caller]
    pub fn task(&self, id: &str) -> Option<(i32, String)> {
        let list = self.text(&["task", "ls"]);
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words[1].parse().unwrap(), words[2].to_owned()))
    }

    /// Waits until a task has the status `RUNNING`, `STOPPED` and so on.
    #[track_caller]
    pub fn wait_for_status(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), LIMIT, || {
            self.task(id)
                .is_some_and(|(_, is)| is == status)
                .then_some(())
        });
    }

    /// Kills and removes a container.
    #[track_caller]
    pub fn remove(&self, id: &str) {
        // It may be over already, and then says so with its exit code.
        self.ctr(&["task", "rm", "-f", id]);
        self.ctr(&["container", "rm", id]).ok();
    }

    /// Fails the test when a container, or something of one, is left. To be called at the end.
    #[track_caller]
    pub fn finish(self) {
        assert_eq!(
            self.text(&["container", "ls", "-q"]),
            "",
            "containers that were not removed"
        );
        assert_eq!(
            self.text(&["task", "ls", "-q"]),
            "",
            "tasks that were not removed"
        );
        let states = fs::read_dir("/run/containerd/runc/default")
            .into_iter()
            .flatten()
            .flatten();
        let states: Vec<PathBuf> = states.map(|entry| entry.path()).collect();
        assert!(states.is_empty(), "left by the runtime: {states:?}");
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait(LIMIT);
        self.place
            .assert_containers_are_gone(PARENT, |name| name != PARENT);
    }
}
