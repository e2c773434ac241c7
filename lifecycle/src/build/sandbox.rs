//! The sandbox of a build: an application with one entry point, which sees the checkout.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::app::{
    App, BuildNetwork, Daemon, EnvValue, HostMount, HostNeed, JavaNeed, Launch, Limits, Notify,
    Restart, Stop,
};
use metactl_bundles::bundle::{self, Placement};
use metactl_bundles::layers::Origin;
use metactl_bundles::network::{Entry, Mode, Peer, Policy, Verdict};
use metactl_bundles::text::Str;
use metactl_bundles::view::HostView;

use super::{ENTRY, Job, SRC, Workshop, script};
use crate::allocation::{self, Allocation};
use crate::error::{LifecycleError, OnPath, Result};
use crate::launcher::Net;
use crate::materialize::Understood;
use crate::{files, secrets};

/// The processes of a build.
const PIDS: u64 = 4096;
/// Tools that keep settings in `/etc`, which links below these lead to.
const TOOLS: &[&str] = &["/usr/share/ant", "/usr/share/gradle", "/usr/share/maven"];

/// A sandbox that is ready to be entered.
pub(super) struct Sandbox {
    pub(super) bundle: PathBuf,
    spec: PathBuf,
    names: PathBuf,
    mode: Mode,
    uplink: Option<String>,
}

impl Sandbox {
    pub(super) fn net(&self) -> Net<'_> {
        match self.mode {
            Mode::Host => Net::AsConfigured,
            _ => Net::Own {
                spec: &self.spec,
                names: &self.names,
                uplink: self.uplink.as_deref(),
            },
        }
    }
}

impl Workshop {
    /// Makes it ready.
    pub(super) fn sandbox(&self, understood: &Understood, job: &Job) -> Result<Sandbox> {
        let src = self.src();
        let build = &understood.app.build;
        let needs = allocation::Needs {
            dir: &self.dir,
            account: None,
            address: build.network == BuildNetwork::Nat,
        };
        let allocation = allocation::allocate(&self.paths, &understood.server, needs)?;
        give_away(&src, &allocation)?;
        // A home of another user: of an older metactl, or of a range that was changed.
        let home = self.dir.join("data");
        if fs::symlink_metadata(&home).is_ok_and(|meta| meta.uid() != allocation.uid) {
            give_away(&home, &allocation)?;
        }
        let mut app = self.app(understood, job, &src);
        match build.network {
            BuildNetwork::Nat => known(&mut app.sandbox.out.accept)?,
            BuildNetwork::None | BuildNetwork::Host => app.sandbox.out.accept.clear(),
        }
        let place = self.placement(understood, &allocation, &src)?;
        let app = with_java(app, &place);
        let host = HostView::gather(&app, &place);
        let composition = bundle::compose(&app, &understood.config, &place, &host)?;
        let written = bundle::write(&composition, &self.dir)?;
        let names = self.dir.join("names.json");
        let (none, _) = metactl_netns::names::resolve(&[]);
        files::replace_json(&names, &none, 0o644)?;
        self.clear_container()?;
        Ok(Sandbox {
            bundle: written.dir.join(ENTRY),
            spec: written.dir.join("network.json"),
            names,
            mode: app.sandbox.net.mode,
            uplink: understood.server.uplink.clone(),
        })
    }

    /// An application with one entry point: the job.
    fn app(&self, understood: &Understood, job: &Job, src: &Path) -> App {
        let app = &understood.app;
        let built_in = Origin::default_value();
        let mut env: BTreeMap<Str, EnvValue> = BTreeMap::new();
        for (name, value) in job.env.iter().chain(&app.build.env) {
            let value = EnvValue {
                value: value.as_str().into(),
                origin: built_in.clone(),
                sensitive: false,
            };
            env.insert(name.as_str().into(), value);
        }
        let launch = Launch {
            platform: Str::built_in(ENTRY),
            args: ["/bin/sh", "-c", script::READ].map(str::to_owned).to_vec(),
            cwd: SRC.into(),
            needs: tools(),
            ..Launch::default()
        };
        let daemon = Daemon {
            name: ENTRY.to_owned(),
            launch,
            port: None,
            limits: Limits::default(),
            stop: Stop {
                signal: 15,
                timeout: Duration::from_secs(5),
            },
            restart: Restart::Never,
            after: Vec::new(),
            checks: Vec::new(),
            requires: Vec::new(),
            restart_limit: None,
            service: Default::default(),
            origin: built_in.clone(),
        };
        let mut sandbox = app.sandbox.clone();
        sandbox.user = None;
        sandbox.limits = Limits {
            memory: app.build.memory,
            pids: Some(PIDS),
            cpu_millis: None,
            files: None,
        };
        sandbox.mounts = vec![HostMount {
            source: src.to_path_buf(),
            target: SRC.into(),
            writable: true,
            origin: built_in,
        }];
        sandbox.capabilities = Vec::new();
        sandbox.net.mode = match app.build.network {
            BuildNetwork::Nat => Mode::Nat,
            BuildNetwork::None => Mode::None,
            BuildNetwork::Host => Mode::Host,
        };
        sandbox.net.addresses = Vec::new();
        sandbox.net.publish = Vec::new();
        sandbox.net.apart = true;
        sandbox.out = Policy {
            policy: Verdict::Accept,
            accept: app.build.accept.clone(),
            reject: Vec::new(),
        };
        sandbox.inbound = Policy {
            policy: match sandbox.net.mode {
                Mode::Host => Verdict::Accept,
                _ => Verdict::Reject,
            },
            accept: Vec::new(),
            reject: Vec::new(),
        };
        App {
            name: app.name.clone(),
            notify: Notify::default(),
            dns: None,
            env,
            // A build gets none: what it makes is shown to everybody.
            secrets: BTreeMap::new(),
            build: app.build.clone(),
            daemons: BTreeMap::from([(ENTRY.to_owned(), daemon)]),
            cron: Vec::new(),
            cron_settings: Default::default(),
            systemd: Default::default(),
            smf: Default::default(),
            plain: false,
            sandbox,
        }
    }

    fn placement(
        &self,
        understood: &Understood,
        allocation: &Allocation,
        src: &Path,
    ) -> Result<Placement> {
        let server = &understood.server;
        let network = understood.app.build.network;
        let nameservers = match network {
            // There, its own loopback resolver can be asked too.
            BuildNetwork::Host if server.nameservers.is_empty() => {
                allocation::resolv_conf(Path::new("/etc/resolv.conf"))?
            }
            _ => allocation::nameservers(server)?,
        };
        let is_nat = network == BuildNetwork::Nat;
        let address = allocation.address.filter(|_| is_nat);
        Ok(Placement {
            instance: self.id(),
            state_dir: self.dir.clone(),
            release: src.to_path_buf(),
            release_id: ENTRY.to_owned(),
            uid: allocation.uid,
            gid: allocation.gid,
            addresses: address.map(Into::into).into_iter().collect(),
            pool: is_nat.then(|| server.pool.into()),
            pool6: None,
            hostname: ENTRY.to_owned(),
            nameservers,
            site: server.site.clone(),
            secrets: secrets::dir(&self.dir),
        })
    }
}

/// Java is there for builds that want it, and nothing is said when it is not.
fn with_java(mut app: App, place: &Placement) -> App {
    if HostView::gather(&app, place).java.is_some()
        && let Some(daemon) = app.daemons.get_mut(ENTRY)
    {
        daemon.launch.java = Some(JavaNeed::default());
    }
    app
}

fn tools() -> Vec<HostNeed> {
    let there = TOOLS.iter().map(Path::new).filter(|path| path.is_dir());
    let need = |path: &Path| HostNeed {
        path: path.to_path_buf(),
        probe: None,
        what: files::name_of(path).to_owned().into(),
        origin: None,
        hint: Cow::default(),
    };
    there.map(need).collect()
}

/// Gives the checkout to the user who builds. Nobody else can change it yet.
fn give_away(src: &Path, allocation: &Allocation) -> Result<()> {
    let mut todo = vec![src.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).on("read", &path)?;
        lchown(&path, Some(allocation.uid), Some(allocation.gid)).on("give away", &path)?;
        if meta.is_dir() {
            todo.extend(files::entries(&path)?);
        }
        // chown(2) may have taken bits away; a checkout has none of those that matter.
        if !meta.is_symlink() && meta.mode() & 0o200 == 0 {
            let mode = fs::Permissions::from_mode(meta.mode() & 0o777 | 0o200);
            fs::set_permissions(&path, mode).on("give away", &path)?;
        }
    }
    Ok(())
}

/// Entries with a name become those with the addresses that it has now: the server's table knows no names.
fn known(accept: &mut Vec<Entry>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in accept.drain(..) {
        let Peer::Host(name) = &entry.peer else {
            entries.push(entry);
            continue;
        };
        let (found, _) = metactl_netns::names::resolve(&[name]);
        let addresses = found.get(name).filter(|list| !list.is_empty());
        let addresses = addresses.ok_or_else(|| LifecycleError::Setting {
            what: format!("{name} has no address, and [build] accept names it"),
            hint: "write its address there, or take it out".to_owned(),
        })?;
        entries.extend(addresses.iter().map(|address| Entry {
            peer: Peer::Net((*address).into()),
            ..entry.clone()
        }));
    }
    *accept = entries;
    Ok(())
}
