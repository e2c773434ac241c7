//! The command line of `metactl-runtime`: everything that touches namespaces, cgroups and devices
//! happens in that program.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use metactl_bundles::paths::Paths;
use metactl_runtime::id::ContainerId;
use metactl_runtime::network::Pin;
use metactl_runtime::process::wait_dead;
use metactl_runtime::state::{self, State, StateError};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::access::shared;
use crate::error::{LifecycleError, OnPath, Result};
use crate::{files, standalone, tail};

/// The name of the program.
const PROGRAM: &str = "metactl-runtime";
/// How long anything but an application may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many lines of what it says are read.
const SAID_LINES: usize = 20;
/// How much is read of what it says.
const MAX_SAID: usize = 4000;

/// `METACTL_RUNTIME`, else the one beside this program, else the one in `PATH`.
pub(crate) fn find_runtime() -> PathBuf {
    if let Some(path) = std::env::var_os("METACTL_RUNTIME") {
        return path.into();
    }
    let beside = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name(PROGRAM));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}

/// The runtime with the directories of one metactl.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    program: PathBuf,
    root: PathBuf,
    server_dir: PathBuf,
}

/// Which network a container gets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Net<'a> {
    /// As config.json says.
    AsConfigured,
    /// The pinned one.
    Join(&'a Path),
    /// One of its own, that goes away with it.
    Own {
        /// `network.json`.
        spec: &'a Path,
        /// The addresses of the names in it.
        names: &'a Path,
        /// The device towards the network.
        uplink: Option<&'a str>,
    },
}

/// The network of an instance as `network up` takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetworkUp<'a> {
    pub(crate) spec: &'a Path,
    pub(crate) names: &'a Path,
    pub(crate) uplink: Option<&'a str>,
    pub(crate) pin: &'a Path,
    pub(crate) user: &'a str,
}

impl Runtime {
    pub(crate) fn new(program: &Path, paths: &Paths) -> Runtime {
        Runtime {
            program: program.to_path_buf(),
            root: paths.runtime_root(),
            server_dir: paths.run.join("server"),
        }
    }

    /// Where the server-wide part of the network is recorded.
    pub(crate) fn server_dir(&self) -> &Path {
        &self.server_dir
    }

    /// Launches a container whose first process becomes a child of this one; its output goes to the
    /// end of `log`. Returns when its program runs.
    pub(crate) fn launch(
        &self,
        id: &str,
        bundle: &Path,
        net: Net<'_>,
        log: &Path,
    ) -> Result<State> {
        let mut command = self.command();
        if let Some(files) = standalone::limit_before() {
            command.arg("--soft-files").arg(files.to_string());
        }
        command
            .arg("run")
            .arg("--bundle")
            .arg(bundle)
            .arg("--detach");
        self.add_net(&mut command, net);
        command.arg(id);
        let output = append(log)?;
        let error = output.try_clone().on("write", log)?;
        let begun = output.metadata().on("read", log)?.len();
        command.stdout(output).stderr(error);
        let verb = format!("run {id}");
        // Before the program of the container runs, nobody but the runtime writes there.
        self.finish(command, &verb, || {
            tail::since(log, begun, SAID_LINES).join("\n")
        })?;
        Ok(state::read(&self.root, id)?)
    }

    /// A command that runs a container in the foreground, and ends with its exit code.
    pub(crate) fn foreground(&self, id: &str, bundle: &Path, net: Net<'_>) -> Command {
        let mut command = self.command();
        command.arg("run").arg("--bundle").arg(bundle);
        self.add_net(&mut command, net);
        command.arg(id);
        command
    }

    /// A command that runs something in a container, and ends with its exit code.
    pub(crate) fn exec(&self, id: &str, argv: &[OsString], tty: bool) -> Command {
        let mut command = self.command();
        command.arg("exec");
        if tty {
            command.arg("--tty");
        }
        command.arg(id).args(argv);
        command
    }

    /// Removes a container whatever its state, and everything that belongs to it.
    pub(crate) fn remove(&self, id: &str) -> Result<Vec<String>> {
        Ok(metactl_runtime::cleanup(&self.root, id)?)
    }

    /// The containers whose ids begin with `prefix`.
    pub(crate) fn containers(&self, prefix: &str) -> Result<Vec<State>> {
        if !self.root.is_dir() {
            return Ok(Vec::new());
        }
        // Only what is asked for is read: a damaged record of another instance is not this one's.
        let mut found = Vec::new();
        let ids = self.ids(prefix)?;
        for id in ids.iter().filter(|id| ContainerId::new(id).is_ok()) {
            match state::read(&self.root, id) {
                Ok(state) => found.push(state),
                // Removed while we looked, or never a container.
                Err(StateError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// Ids that begin with `prefix` of containers that have a directory, whether or not their
    /// state can be read: for cleaning up after launches that were killed.
    pub(crate) fn ids(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = files::names(&self.root, prefix)?;
        names.sort();
        Ok(names)
    }

    /// The container of this id, if its record can be read.
    pub(crate) fn container(&self, id: &str) -> Option<State> {
        ContainerId::new(id).ok()?;
        state::read(&self.root, id).ok()
    }

    /// Makes the network of an instance, and pins it.
    pub(crate) fn network_up(&self, up: NetworkUp<'_>) -> Result<()> {
        let mut command = self.command();
        command.args(["network", "up", "--spec"]).arg(up.spec);
        command.arg("--names").arg(up.names);
        if let Some(uplink) = up.uplink {
            command.args(["--uplink", uplink]);
        }
        command
            .arg("--pin")
            .arg(up.pin)
            .arg("--server-dir")
            .arg(&self.server_dir);
        command.args(["--user", up.user]);
        self.quiet(command, &format!("network up for {}", up.user))
    }

    /// Takes the network of an instance away. Nothing happens when there is none.
    pub(crate) fn network_down(&self, pin: &Path, user: &str) -> Result<()> {
        // A process less on the way of every start.
        if !Pin::is_left(pin) {
            return Ok(());
        }
        let mut command = self.command();
        command.args(["network", "down", "--pin"]).arg(pin);
        command
            .arg("--server-dir")
            .arg(&self.server_dir)
            .args(["--user", user]);
        self.quiet(command, &format!("network down for {user}"))
    }

    /// The resolver of this server; it says `ready`, and ends when the last instance is gone.
    pub(crate) fn resolve(&self, nameservers: &[IpAddr], log: &Path) -> Command {
        let mut command = self.command();
        command
            .arg("resolve")
            .arg("--server-dir")
            .arg(&self.server_dir);
        for server in nameservers {
            command.arg("--nameserver").arg(server.to_string());
        }
        command.arg("--log-file").arg(log);
        command
    }

    /// The steps that would launch a bundle.
    pub(crate) fn plan(&self, bundle: &Path, spec: &Path, uplink: Option<&str>) -> Result<String> {
        let mut command = self.command();
        command
            .arg("plan")
            .arg("--bundle")
            .arg(bundle)
            .arg("--network")
            .arg(spec);
        if let Some(uplink) = uplink {
            command.args(["--uplink", uplink]);
        }
        let output = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| self.absent(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(self.failed(
            "plan",
            output.status,
            &String::from_utf8_lossy(&output.stderr),
        ))
    }

    /// What happens to `command` when it cannot even be started.
    pub(crate) fn absent(&self, error: &io::Error) -> LifecycleError {
        LifecycleError::Unavailable {
            what: format!("cannot run {}: {error}", self.program.display()),
            hint: "install metactl-runtime beside metactl, or name it with METACTL_RUNTIME"
                .to_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        command
    }

    fn add_net(&self, command: &mut Command, net: Net<'_>) {
        match net {
            Net::AsConfigured => {}
            Net::Join(path) => {
                command.arg("--netns").arg(path);
            }
            Net::Own {
                spec,
                names,
                uplink,
            } => {
                command.arg("--network").arg(spec).arg("--names").arg(names);
                if let Some(uplink) = uplink {
                    command.args([OsStr::new("--uplink"), OsStr::new(uplink)]);
                }
                command.arg("--server-dir").arg(&self.server_dir);
            }
        }
    }

    fn quiet(&self, mut command: Command, verb: &str) -> Result<()> {
        // A file in memory: nothing of it stays when this process is killed.
        let said = memfd_create("said", MemfdFlags::CLOEXEC).on("make", Path::new("memfd"))?;
        let mut said = File::from(said);
        for set in [Command::stdout, Command::stderr] {
            let copy = said.try_clone().on("write", Path::new("memfd"))?;
            set(&mut command, Stdio::from(copy));
        }
        self.finish(command, verb, || {
            let mut text = String::new();
            // What cannot be read is not said; the exit code is.
            let _read = said.rewind().and_then(|()| said.read_to_string(&mut text));
            text
        })
    }

    /// Waits for the end of the runtime; its output must not be a pipe, which containers would hold.
    fn finish(
        &self,
        mut command: Command,
        verb: &str,
        said: impl FnOnce() -> String,
    ) -> Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| self.absent(&error))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(pidfd)) => wait_dead(&pidfd, Some(PATIENCE)).on("wait for", &self.program)?,
            _ => true,
        };
        if !ended {
            // It is given up either way; the wait only buries it.
            let _killed = child.kill().and_then(|()| child.wait());
            return Err(LifecycleError::Runtime {
                verb: verb.to_owned(),
                why: format!("no end after {} s", PATIENCE.as_secs()),
            });
        }
        let status = child.wait().on("wait for", &self.program)?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(verb, status, &said()))
    }

    fn failed(&self, verb: &str, status: ExitStatus, said: &str) -> LifecycleError {
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let why: String = lines.join("; ").chars().take(MAX_SAID).collect();
        let why = why
            .trim_start_matches("error: ")
            .trim_start_matches("metactl-runtime: ");
        let why = if why.is_empty() {
            status.to_string()
        } else {
            why.to_owned()
        };
        LifecycleError::Runtime {
            verb: verb.to_owned(),
            why,
        }
    }
}

/// Opens a log for writing at its end. Logs may hold secrets of the application: only root and the group `metactl`
/// read them.
pub(crate) fn append(log: &Path) -> Result<File> {
    if let Some(dir) = log.parent() {
        files::make_dir(dir, 0o750)?;
        shared::share_dir(dir)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(log)
        .on("write", log)?;
    shared::share(&file, log)?;
    Ok(file)
}
