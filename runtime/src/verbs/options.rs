//! The options that describe a container to launch.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Parser, ValueExt};

use crate::launch::LaunchError;
use crate::launch::handover::Notify;
use crate::request::{DEFAULT_SERVER_DIR, LaunchRequest, Mode, NetworkFiles};
use crate::verbs::words::Words;
use crate::verbs::{Failure, Globals, Word};
use crate::{ContainerId, Network};

/// What was said.
#[derive(Debug, Default)]
pub(super) struct LaunchOptions {
    bundle: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    preserve_fds: u32,
    no_pivot: bool,
    no_new_keyring: bool,
    notify: bool,
    network: Option<PathBuf>,
    names: Option<PathBuf>,
    uplink: Option<String>,
    server_dir: Option<PathBuf>,
    netns: Option<PathBuf>,
    pub(super) id: Option<OsString>,
}

/// A number of descriptors.
pub(super) fn number(name: &str, parser: &mut Parser) -> Result<u32, Failure> {
    let text = parser.value()?.string()?;
    text.parse()
        .map_err(|_| Failure::Usage(format!("{name} {text:?} is not a number")))
}

impl LaunchOptions {
    /// Takes a word if it is one of these options.
    pub(super) fn take(&mut self, word: &Word, parser: &mut Parser) -> Result<bool, Failure> {
        let name = match word {
            Word::Option(name) => name.as_str(),
            Word::Value(value) if self.id.is_none() => {
                self.id = Some(value.clone());
                return Ok(true);
            }
            Word::Value(_) => return Ok(false),
        };
        let slot = match name {
            "--bundle" | "-b" => &mut self.bundle,
            "--pid-file" => &mut self.pid_file,
            "--console-socket" => &mut self.console_socket,
            "--pidfd-socket" => &mut self.pidfd_socket,
            "--network" => &mut self.network,
            "--names" => &mut self.names,
            "--server-dir" => &mut self.server_dir,
            "--netns" => &mut self.netns,
            "--uplink" => {
                self.uplink = Some(parser.value()?.string()?);
                return Ok(true);
            }
            "--preserve-fds" => {
                self.preserve_fds = number(name, parser)?;
                return Ok(true);
            }
            "--no-pivot" => {
                self.no_pivot = true;
                return Ok(true);
            }
            "--notify" => {
                self.notify = true;
                return Ok(true);
            }
            "--no-new-keyring" => {
                self.no_new_keyring = true;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *slot = Some(parser.value()?.into());
        Ok(true)
    }

    fn network(&self) -> Result<Network, Failure> {
        let spare = self.names.is_some() || self.uplink.is_some();
        match (&self.network, &self.netns) {
            (Some(_), Some(_)) => Err(Failure::Usage(
                "--network and --netns exclude each other".into(),
            )),
            (None, _) if spare => Err(Failure::Usage(
                "--names and --uplink belong to --network".into(),
            )),
            (Some(spec), None) => Ok(Network::Spec(NetworkFiles {
                spec: spec.clone(),
                names: self.names.clone(),
                uplink: self.uplink.clone(),
                server_dir: self.server_dir(),
            })),
            (None, Some(path)) => Ok(Network::Join(path.clone())),
            (None, None) => Ok(Network::Config),
        }
    }

    fn server_dir(&self) -> PathBuf {
        self.server_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SERVER_DIR))
    }

    pub(super) fn request(self, globals: &Globals, mode: Mode) -> Result<LaunchRequest, Failure> {
        let network = self.network()?;
        let handed = Handed::over(self.preserve_fds)?;
        let id = self
            .id
            .ok_or_else(|| Failure::Usage("a container id is missing".into()))?;
        Ok(LaunchRequest {
            id: ContainerId::new(&id.to_string_lossy())?,
            root: globals.root.clone(),
            bundle: self.bundle.unwrap_or_else(|| PathBuf::from(".")),
            mode,
            network,
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            pidfd_socket: self.pidfd_socket,
            preserve_fds: handed.count,
            listen_fds: handed.listen,
            keyring: !self.no_new_keyring,
            no_pivot: self.no_pivot,
            cgroup_manager: globals.cgroup_manager,
            cgroups_path_required: globals.log.words == Words::Runc,
            notify: self.notify.then(Notify::of_environment).transpose()?,
        })
    }
}

/// Descriptors that go from the caller to the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handed {
    /// How many, from 3 on.
    pub(super) count: u32,
    /// How many of them are for socket activation (sd_listen_fds(3)).
    pub(super) listen: u32,
}

impl Handed {
    /// Those of `--preserve-fds`, after those of socket activation. All have to be open: what is not,
    /// would be a descriptor of the runtime when the program looks.
    pub(super) fn over(preserve: u32) -> Result<Handed, Failure> {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let own = variable("LISTEN_PID") == Some(std::process::id());
        let listen = variable("LISTEN_FDS").filter(|_| own).unwrap_or(0);
        let count = preserve.saturating_add(listen);
        for fd in (3u32..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
            let open = std::fs::read_link(format!("/proc/self/fd/{fd}"));
            open.map_err(|e| {
                LaunchError::system(format!("hand descriptor {fd} over; is it open?"), e)
            })?;
        }
        Ok(Handed { count, listen })
    }
}
