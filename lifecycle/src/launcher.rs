//! The command line of `metactl-runtime`: everything that touches namespaces, cgroups and devices
//! happens in that program.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use metactl_bundles::paths::Paths;
use metactl_runtime::state::{self, State};

use crate::error::{LifecycleError, OnPath, Result};
use crate::files;

/// The name of the program.
const PROGRAM: &str = "metactl-runtime";
/// How long anything but an application may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const TICK: Duration = Duration::from_millis(2);
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

    /// Launches a container whose first process becomes a child of this one; its output goes to the
    /// end of `log`. Returns when its program runs.
    pub(crate) fn launch(
        &self,
        id: &str,
        bundle: &Path,
        net: Net<'_>,
        log: &Path,
    ) -> Result<State> {
        let said = self.said_file(id)?;
        let mut command = self.command(Some(&said));
        command
            .arg("run")
            .arg("--bundle")
            .arg(bundle)
            .arg("--detach");
        self.add_net(&mut command, net);
        command.arg(id);
        let output = append(log)?;
        let error = output.try_clone().on("write", log)?;
        command.stdout(output).stderr(error);
        let result = self.finish(command, Some(&said), &format!("run {id}"));
        files::remove_file(&said)?;
        result?;
        Ok(state::read(&self.root, id)?)
    }

    /// A command that runs a container in the foreground, and ends with its exit code.
    pub(crate) fn foreground(&self, id: &str, bundle: &Path, net: Net<'_>) -> Command {
        let mut command = self.command(None);
        command.arg("run").arg("--bundle").arg(bundle);
        self.add_net(&mut command, net);
        command.arg(id);
        command
    }

    /// A command that runs something in a container, and ends with its exit code.
    pub(crate) fn exec(&self, id: &str, argv: &[OsString], tty: bool) -> Command {
        let mut command = self.command(None);
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
        let mut all = state::list(&self.root)?;
        all.retain(|state| state.id.starts_with(prefix));
        Ok(all)
    }

    /// Ids that begin with `prefix` of containers that have a directory, whether or not their
    /// state can be read: for cleaning up after launches that were killed.
    pub(crate) fn ids(&self, prefix: &str) -> Result<Vec<String>> {
        let paths = files::entries(&self.root)?;
        let names = paths.iter().map(|path| files::name_of(path).to_owned());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    /// Makes the network of an instance, and pins it.
    pub(crate) fn network_up(&self, up: NetworkUp<'_>) -> Result<()> {
        let mut command = self.command(None);
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
        let mut command = self.command(None);
        command.args(["network", "down", "--pin"]).arg(pin);
        command
            .arg("--server-dir")
            .arg(&self.server_dir)
            .args(["--user", user]);
        self.quiet(command, &format!("network down for {user}"))
    }

    /// The steps that would launch a bundle.
    pub(crate) fn plan(&self, bundle: &Path, spec: &Path, uplink: Option<&str>) -> Result<String> {
        let mut command = self.command(None);
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

    fn command(&self, log: Option<&Path>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        if let Some(log) = log {
            command.arg("--log").arg(log);
        }
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

    /// A file for what the runtime says itself, apart from what the application says.
    fn said_file(&self, id: &str) -> Result<PathBuf> {
        files::make_dir(&self.root, 0o700)?;
        let path = self.root.join(format!(".{id}.said"));
        files::remove_file(&path)?;
        Ok(path)
    }

    fn quiet(&self, mut command: Command, verb: &str) -> Result<()> {
        let said = self.said_file(&format!("network.{}", std::process::id()))?;
        let output = File::create(&said).on("write", &said)?;
        let error = output.try_clone().on("write", &said)?;
        command.stdout(output).stderr(error);
        let result = self.finish(command, Some(&said), verb);
        files::remove_file(&said)?;
        result
    }

    /// Waits for the end of the runtime; its output must not be a pipe, which containers would hold.
    fn finish(&self, mut command: Command, said: Option<&Path>, verb: &str) -> Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| self.absent(&error))?;
        let start = Instant::now();
        let mut pause = Duration::from_micros(100);
        let status = loop {
            if let Some(status) = child.try_wait().on("run", &self.program)? {
                break status;
            }
            if start.elapsed() > PATIENCE {
                // It is given up either way; the wait only buries it.
                let _killed = child.kill().and_then(|()| child.wait());
                return Err(LifecycleError::Runtime {
                    verb: verb.to_owned(),
                    why: format!("no end after {} s", PATIENCE.as_secs()),
                });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(TICK);
        };
        if status.success() {
            return Ok(());
        }
        let text = said
            .and_then(|path| fs::read(path).ok())
            .unwrap_or_default();
        Err(self.failed(verb, status, &String::from_utf8_lossy(&text)))
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

/// Opens a log for writing at its end. Logs may hold secrets of the application.
pub(crate) fn append(log: &Path) -> Result<File> {
    if let Some(dir) = log.parent() {
        files::make_dir(dir, 0o750)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(log)
        .on("write", log)
}
