//! The network of an instance while it is supervised: made before the first entry point, taken
//! away after the last. Its names are followed by the server's resolver, which this keeps running.

mod live;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use metactl_bundles::bundle::Manifest;
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_netns::{NetError, Resolved};

use super::records::RunDir;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::hosts;
use crate::instance::Instance;
use crate::launcher::{NetworkUp, Runtime};
use crate::mend::{self, Mender};
use crate::resolver::Keeper;

/// How long a start waits for names.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a later start waits for those that had no address.
const SECOND_PATIENCE: Duration = Duration::from_secs(1);

/// The network of one instance.
#[derive(Debug)]
pub(crate) struct Network {
    instance: String,
    run: RunDir,
    hosts_file: PathBuf,
    up: Option<Up>,
    mender: Mender,
    /// What went wrong with telling the network of the addresses.
    unannounced: mpsc::Receiver<NetError>,
    resolver: Keeper,
}

/// A network that is there.
#[derive(Debug)]
struct Up {
    text: Vec<u8>,
    spec: NetworkSpec,
    /// The bundle that it fits, once that is known. A bundle never changes.
    fits: Option<PathBuf>,
    /// Names that had no address when it was made.
    missing: Vec<String>,
}

impl Network {
    pub(crate) fn new(
        instance: &str,
        run: RunDir,
        hosts_file: PathBuf,
        resolver: Keeper,
    ) -> Network {
        Network {
            instance: instance.to_owned(),
            run,
            hosts_file,
            up: None,
            mender: Mender::new(),
            unannounced: mpsc::channel().1,
            resolver,
        }
    }

    /// That of an instance which no supervisor keeps, and whose names a unit of its service manager has answered.
    pub(crate) fn unattended(instance: &Instance) -> Result<Network> {
        let hosts = instance.state_dir().join("etc/hosts");
        let keeper = Keeper::of_unit(instance.manager.resolver()?);
        Ok(Network::new(
            &instance.name,
            instance.run_dir(),
            hosts,
            keeper,
        ))
    }

    /// Whether what is there fits the bundle. Otherwise everything has to stop first.
    pub(crate) fn fits(&mut self, bundle: &Path) -> Result<bool> {
        let Some(up) = &mut self.up else {
            return Ok(false);
        };
        if up.fits.as_deref() == Some(bundle) {
            return Ok(true);
        }
        let fits = up.text == read_spec(bundle)?.0;
        up.fits = fits.then(|| bundle.to_owned());
        Ok(fits)
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
        self.up_as(runtime, bundle, &manifest.hostname, uplink)
    }

    /// The same for who does not have the manifest any more.
    pub(crate) fn up_as(
        &mut self,
        runtime: &Runtime,
        bundle: &Path,
        hostname: &str,
        uplink: Option<&str>,
    ) -> Result<()> {
        let (text, spec) = read_spec(bundle)?;
        if self.up.as_ref().is_some_and(|up| up.text == text) {
            self.look_again();
            return Ok(());
        }
        self.down(runtime)?;
        let listed: Vec<String> = spec.host_names().into_iter().map(str::to_owned).collect();
        // Names that take longer are accepted when they are there; until then nothing is.
        let (names, missing) = look_up(&listed, PATIENCE);
        let up = Up {
            text,
            spec,
            fits: Some(bundle.to_owned()),
            missing,
        };
        self.write_names(&up, hostname, &names)?;
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
        let needs = needs_resolver(&up.spec);
        self.up = Some(up);
        if needs {
            self.resolver.ensure();
        }
        Ok(())
    }

    /// Takes over the network that a supervisor before this one made.
    pub(crate) fn adopt(&mut self) -> Result<bool> {
        let Some(text) = files::read(&self.run.network())? else {
            return Ok(false);
        };
        let spec = parse(&self.run.network(), &text)?;
        if spec.mode != Mode::Host && !is_pinned(&self.run.netns()) {
            return Ok(false);
        }
        let needs = needs_resolver(&spec);
        self.up = Some(Up {
            text,
            spec,
            fits: None,
            missing: Vec::new(),
        });
        if needs {
            self.resolver.ensure();
        }
        Ok(true)
    }

    /// Takes the network away.
    pub(crate) fn down(&mut self, runtime: &Runtime) -> Result<()> {
        files::remove_file(&self.run.network())?;
        self.up = None;
        self.resolver.release();
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
        let trouble = self
            .resolver
            .trouble()
            .map(|why| format!("names have no answer: {why}"));
        missing
            .map(|name| {
                format!("{name} had no address at the start, so nothing was accepted for it; the resolver asks again every 30 s")
            })
            .chain(trouble)
            .collect()
    }

    /// Starts the resolver again when it has ended, and hears how the network was told of the addresses. Returns what is
    /// worth a line in the log.
    pub(crate) fn look_after(&mut self) -> Vec<String> {
        let failures = self.unannounced.try_iter();
        let mut said: Vec<String> = failures.map(|error| error.to_string()).collect();
        said.extend(self.resolver.look_after());
        said
    }

    /// Waits until the network has been told of the addresses. What went wrong with that.
    pub(crate) fn announced(&self) -> Vec<String> {
        let failures = self.unannounced.iter();
        failures.map(|error| error.to_string()).collect()
    }

    /// The resolver, to be waited for.
    pub(crate) fn resolver(&self) -> &Keeper {
        &self.resolver
    }

    /// Tells again which names have no address: whoever starts something again may have mended that
    /// just now. The resolver follows them by itself.
    fn look_again(&mut self) {
        let Some(up) = self.up.as_mut().filter(|up| !up.missing.is_empty()) else {
            return;
        };
        let (_, missing) = look_up(&up.missing, SECOND_PATIENCE);
        up.missing = missing;
    }

    /// Puts back what somebody took away, every now and then. Returns what is worth a line in the log.
    pub(crate) fn mend(&mut self, runtime: &Runtime, uplink: Option<&str>) -> Vec<String> {
        let Some(up) = self.up.as_ref().filter(|up| up.spec.mode != Mode::Host) else {
            return Vec::new();
        };
        let (run, instance) = (&self.run, &self.instance);
        self.mender
            .look(|| put_back(up, run, instance, runtime, uplink))
    }

    /// The same at once. Returns what had to be put back.
    pub(crate) fn mend_now(&self, runtime: &Runtime, uplink: Option<&str>) -> Result<Vec<String>> {
        match &self.up {
            Some(up) => put_back(up, &self.run, &self.instance, runtime, uplink),
            None => Ok(Vec::new()),
        }
    }

    /// The next look comes at once.
    pub(crate) fn mend_soon(&mut self) {
        self.mender.soon();
    }

    fn write_names(&self, up: &Up, hostname: &str, names: &Resolved) -> Result<()> {
        files::replace_json(&self.run.names(), names, 0o644)?;
        let text = hosts::text(hostname, &up.spec, names);
        hosts::write(&self.hosts_file, &text)
    }
}

fn put_back(
    up: &Up,
    run: &RunDir,
    instance: &str,
    runtime: &Runtime,
    uplink: Option<&str>,
) -> Result<Vec<String>> {
    let network = mend::Network {
        spec: &up.spec,
        record: (&run.network(), &up.text),
        names: &run.names(),
        user: instance,
        server_dir: runtime.server_dir(),
        uplink,
    };
    let pin = run.netns();
    let netns = File::open(&pin).on("open", &pin)?;
    network.mend(netns.as_fd())
}

/// Whether the resolver follows its names, and answers it: it has a network of its own.
pub(crate) fn needs_resolver(spec: &NetworkSpec) -> bool {
    matches!(spec.mode, Mode::Routed | Mode::Nat)
}

/// Whether a namespace is mounted there (`NSFS_MAGIC`, statfs(2)); an empty file is left of one
/// after a reboot.
fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == 0x6e73_6673)
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

/// Looks names up, for `patience` at most. Who has no address, or no answer so far, is in the second
/// list, sorted.
fn look_up(names: &[String], patience: Duration) -> (Resolved, Vec<String>) {
    if names.is_empty() {
        return (Resolved::new(), Vec::new());
    }
    let (sender, result) = mpsc::channel();
    let asked = names.to_vec();
    std::thread::spawn(move || {
        let names: Vec<&str> = asked.iter().map(String::as_str).collect();
        let (found, missing) = metactl_netns::names::resolve(&names);
        let missing: Vec<String> = missing.into_iter().map(|one| one.name).collect();
        // Who asked may have gone on without it.
        sender.send((found, missing)).unwrap_or_default();
    });
    let late = |_| (Resolved::new(), names.to_vec());
    let (found, mut missing) = result.recv_timeout(patience).unwrap_or_else(late);
    missing.sort();
    (found, missing)
}
