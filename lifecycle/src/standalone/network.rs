//! The network of an instance while it is supervised: made before the first entry point, taken
//! away after the last, its names followed in between.

mod live;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use metactl_bundles::bundle::Manifest;
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_netns::{NetError, Resolved};

use super::records::RunDir;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::hosts;
use crate::launcher::{NetworkUp, Runtime};

/// How often names are looked up.
const FOLLOW: Duration = Duration::from_secs(30);
/// How long a start waits for names.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a later start waits for those that had no address.
const SECOND_PATIENCE: Duration = Duration::from_secs(1);
/// How often the network is looked after.
const MEND: Duration = Duration::from_secs(30);

/// The network of one instance.
#[derive(Debug)]
pub(crate) struct Network {
    instance: String,
    run: RunDir,
    hosts_file: PathBuf,
    up: Option<Up>,
    mended: Instant,
    /// What could not be mended, or had to be, the last time: it is told once.
    trouble: Vec<String>,
    /// What went wrong with telling the network of the addresses.
    unannounced: mpsc::Receiver<NetError>,
}

/// A network that is there.
#[derive(Debug)]
struct Up {
    text: Vec<u8>,
    spec: NetworkSpec,
    hostname: String,
    names: Resolved,
    missing: Vec<String>,
    follower: Option<Follower>,
}

impl Network {
    pub(crate) fn new(instance: &str, run: RunDir, hosts_file: PathBuf) -> Network {
        Network {
            instance: instance.to_owned(),
            run,
            hosts_file,
            up: None,
            mended: Instant::now(),
            trouble: Vec::new(),
            unannounced: mpsc::channel().1,
        }
    }

    /// Whether what is there fits the bundle. Otherwise everything has to stop first.
    pub(crate) fn fits(&self, bundle: &Path) -> Result<bool> {
        let Some(up) = &self.up else { return Ok(false) };
        Ok(up.text == read_spec(bundle)?.0)
    }

    /// Whether there is one.
    pub(crate) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// What it was made from.
    pub(crate) fn spec(&self) -> Option<&NetworkSpec> {
        self.up.as_ref().map(|up| &up.spec)
    }

    /// Makes the network of a bundle, if it is not there already. Nothing may run yet.
    pub(crate) fn up(
        &mut self,
        runtime: &Runtime,
        bundle: &Path,
        manifest: &Manifest,
        uplink: Option<&str>,
    ) -> Result<()> {
        let (text, spec) = read_spec(bundle)?;
        if self.up.as_ref().is_some_and(|up| up.text == text) {
            return self.look_again();
        }
        self.down(runtime)?;
        let follower = Follower::start(&spec, &self.run);
        // Names that take longer are accepted when they are there; until then nothing is.
        let (names, missing) = match &follower {
            Some(follower) => follower.first(&spec, PATIENCE),
            None => (Resolved::new(), Vec::new()),
        };
        let mut up = Up {
            text,
            spec,
            hostname: manifest.hostname.clone(),
            names,
            missing,
            follower,
        };
        self.write_names(&up)?;
        if up.spec.mode != Mode::Host {
            runtime.network_up(NetworkUp {
                spec: &bundle.join("network.json"),
                names: &self.run.names(),
                uplink,
                pin: &self.run.netns(),
                user: &self.instance,
            })?;
        }
        self.unannounced = metactl_netns::announce::beside(&up.spec, uplink);
        // Written last: without it, what is there is made anew.
        files::replace(&self.run.network(), &up.text, 0o644)?;
        up.missing.sort();
        self.up = Some(up);
        Ok(())
    }

    /// Takes over the network that a supervisor before this one made.
    pub(crate) fn adopt(&mut self, manifest: &Manifest) -> Result<bool> {
        let Some(text) = files::read(&self.run.network())? else {
            return Ok(false);
        };
        let spec = parse(&self.run.network(), &text)?;
        if spec.mode != Mode::Host && !is_pinned(&self.run.netns()) {
            return Ok(false);
        }
        let names = files::read_json(&self.run.names())?.unwrap_or_default();
        let follower = Follower::start(&spec, &self.run);
        let hostname = manifest.hostname.clone();
        self.up = Some(Up {
            text,
            spec,
            hostname,
            names,
            missing: Vec::new(),
            follower,
        });
        Ok(true)
    }

    /// Takes the network away.
    pub(crate) fn down(&mut self, runtime: &Runtime) -> Result<()> {
        files::remove_file(&self.run.network())?;
        self.up = None;
        runtime.network_down(&self.run.netns(), &self.instance)
    }

    /// The pinned namespace that entry points join; none in `host` mode.
    pub(crate) fn join(&self) -> Option<PathBuf> {
        let up = self.up.as_ref()?;
        (up.spec.mode != Mode::Host).then(|| self.run.netns())
    }

    /// Names without an address, in words.
    pub(crate) fn notes(&self) -> Vec<String> {
        let missing = self.up.iter().flat_map(|up| &up.missing);
        missing
            .map(|name| {
                format!("{name} has no address, so nothing is accepted for it; it is asked for again every 30 s")
            })
            .collect()
    }

    /// Takes what was looked up meanwhile into the firewall and `/etc/hosts`. Returns what is worth
    /// a line in the log.
    pub(crate) fn follow(&mut self) -> Result<Vec<String>> {
        let Some(up) = &mut self.up else {
            return Ok(Vec::new());
        };
        let failures = self.unannounced.try_iter();
        let mut said: Vec<String> = failures.map(|error| error.to_string()).collect();
        if let Some(looked) = up.follower.as_ref().and_then(Follower::latest) {
            said.extend(self.take(looked)?);
        }
        Ok(said)
    }

    /// Asks once more for names that had no address: whoever starts something again may have mended
    /// that just now.
    fn look_again(&mut self) -> Result<()> {
        let Some(up) = self.up.as_mut().filter(|up| !up.missing.is_empty()) else {
            return Ok(());
        };
        up.follower = Follower::start(&up.spec, &self.run);
        let Some(follower) = &up.follower else {
            return Ok(());
        };
        let (names, missing) = follower.first(&up.spec, SECOND_PATIENCE);
        self.take(Looked { names, missing }).map(drop)
    }

    fn take(&mut self, looked: Looked) -> Result<Vec<String>> {
        let Some(up) = &mut self.up else {
            return Ok(Vec::new());
        };
        let mut said = Vec::new();
        let mut changed = false;
        for (name, addresses) in looked.names {
            // Who cannot be looked up any more keeps the addresses it had.
            if !addresses.is_empty() && up.names.get(&name) != Some(&addresses) {
                said.push(format!("{name} is {}", join(&addresses)));
                up.names.insert(name, addresses);
                changed = true;
            }
        }
        up.missing = looked.missing;
        up.missing
            .retain(|name| up.names.get(name).is_none_or(Vec::is_empty));
        up.missing.sort();
        if changed {
            if up.spec.mode != Mode::Host {
                let path = self.run.netns();
                let netns = File::open(&path).on("open", &path)?;
                metactl_netns::policy::update_names(netns.as_fd(), &up.spec, &up.names)?;
            }
            if let Some(up) = &self.up {
                self.write_names(up)?;
            }
        }
        Ok(said)
    }

    /// Puts back what somebody took away (a flushed table, a changed sysctl, a route, a device that was set down),
    /// every now and then. Returns what is worth a line in the log.
    pub(crate) fn mend(&mut self, runtime: &Runtime, uplink: Option<&str>) -> Vec<String> {
        if self.mended.elapsed() < MEND {
            return Vec::new();
        }
        self.mended = Instant::now();
        let found = match self.mend_now(runtime, uplink) {
            Ok(lines) => lines,
            Err(error) => vec![error.to_string()],
        };
        if found == self.trouble {
            return Vec::new();
        }
        self.trouble = found;
        self.trouble
            .iter()
            .map(|line| format!("network: {line}"))
            .collect()
    }

    /// The next look comes at once: a command has been given, and who gave it may just have met the trouble.
    pub(crate) fn mend_soon(&mut self) {
        if let Some(past) = Instant::now().checked_sub(MEND) {
            self.mended = past;
        }
    }

    fn mend_now(&self, runtime: &Runtime, uplink: Option<&str>) -> Result<Vec<String>> {
        let Some(up) = self.up.as_ref().filter(|up| up.spec.mode != Mode::Host) else {
            return Ok(Vec::new());
        };
        let path = self.run.netns();
        let netns = File::open(&path).on("open", &path)?;
        let (dir, user) = (runtime.server_dir(), self.instance.as_str());
        let mend = metactl_netns::mend::mend(&up.spec, &up.names, netns.as_fd(), dir, user, uplink);
        Ok(mend?)
    }

    fn write_names(&self, up: &Up) -> Result<()> {
        files::replace_json(&self.run.names(), &up.names, 0o644)?;
        let text = hosts::text(&up.hostname, &up.spec.addresses, &up.names);
        hosts::write(&self.hosts_file, &text)
    }
}

/// Whether a namespace is mounted there (`NSFS_MAGIC`, statfs(2)); an empty file is left of one
/// after a reboot.
fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == 0x6e73_6673)
}

fn join(addresses: &[std::net::IpAddr]) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

fn read_spec(bundle: &Path) -> Result<(Vec<u8>, NetworkSpec)> {
    let path = bundle.join("network.json");
    let text = files::read(&path)?.unwrap_or_default();
    let spec = parse(&path, &text)?;
    Ok((text, spec))
}

fn parse(path: &Path, text: &[u8]) -> Result<NetworkSpec> {
    serde_json::from_slice(text).map_err(|error| LifecycleError::Record {
        path: path.to_path_buf(),
        why: error.to_string(),
    })
}

/// What a look-up of all names found.
#[derive(Debug, Default)]
struct Looked {
    names: Resolved,
    missing: Vec<String>,
}

/// A thread that looks names up every now and then: the resolver can take long to answer. It ends
/// when this is dropped, after the look-up that it is at.
#[derive(Debug)]
struct Follower {
    results: mpsc::Receiver<Looked>,
    _alive: mpsc::Sender<()>,
}

impl Follower {
    fn start(spec: &NetworkSpec, run: &RunDir) -> Option<Follower> {
        let names: Vec<String> = spec.host_names().into_iter().map(str::to_owned).collect();
        if names.is_empty() {
            return None;
        }
        let (sender, results) = mpsc::channel();
        let (alive, dead) = mpsc::channel::<()>();
        let run = run.clone();
        std::thread::spawn(move || {
            loop {
                if sender.send(look_up(&names)).is_err() {
                    return;
                }
                run.wake();
                if dead.recv_timeout(FOLLOW) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Some(Follower {
            results,
            _alive: alive,
        })
    }

    /// The first result, or that nothing is known yet.
    fn first(&self, spec: &NetworkSpec, patience: Duration) -> (Resolved, Vec<String>) {
        match self.results.recv_timeout(patience) {
            Ok(looked) => (looked.names, looked.missing),
            Err(_) => (
                Resolved::new(),
                spec.host_names().into_iter().map(str::to_owned).collect(),
            ),
        }
    }

    /// The newest result, if there is one that nobody has seen.
    fn latest(&self) -> Option<Looked> {
        self.results.try_iter().last()
    }
}

fn look_up(names: &[String]) -> Looked {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (names, missing) = metactl_netns::names::resolve(&names);
    Looked {
        names,
        missing: missing
            .into_iter()
            .map(|unresolved| unresolved.name)
            .collect(),
    }
}
