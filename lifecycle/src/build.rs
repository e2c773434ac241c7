//! The build of an application, run as an unprivileged user in a sandbox of its own.
//!
//! The sandbox is composed like that of an entry point: the view of the host read-only, no
//! capabilities, no new privileges, the seccomp table. It sees the checkout at `/src`, writable,
//! and a directory that stays from build to build at `$HOME` (for what Maven, npm or cargo fetch).
//! Its user is nobody else's, its network its own: it reaches the world, since builds fetch what they
//! depend on, but neither the server itself nor other instances (`[build] network`, `accept`). It sees nothing
//! else of the server: not the instance's data, not its `[env]`, which may hold secrets.
//!
//! Everything it writes goes into `<log>/<instance>/build-<n>.log`, n being the number of the
//! deployment.

mod logs;
mod tools;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use logs::Follow;
use metactl_bundles::app::{
    App, BuildNetwork, Daemon, EnvValue, HostMount, HostNeed, JavaNeed, Launch, Limits, Notify,
    Restart, Stop,
};
use metactl_bundles::bundle::{self, Placement};
use metactl_bundles::layers::Origin;
use metactl_bundles::network::{Entry, Mode, Peer, Policy, Verdict};
use metactl_bundles::paths::Paths;
use metactl_bundles::view::HostView;
use metactl_runtime::ProcessId;
pub(crate) use tools::{Recipe, recipe};

use crate::allocation::{self, Allocation};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::launcher::{Net, Runtime, append};
use crate::materialize::Understood;
use crate::progress::Progress;
use crate::secrets;
use crate::tail;

/// Where the checkout is, inside.
const SRC: &str = "/src";
/// The name of the entry point of a build.
const ENTRY: &str = "build";
/// How long a build may take when `[build] timeout` says nothing.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The processes of a build.
const PIDS: u64 = 4096;
/// How many lines of the log go into an error.
const TAIL: usize = 20;
/// How often a running build is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long the sandbox of a shell may take to be there.
const BEGIN: Duration = Duration::from_secs(30);
/// Tools that keep settings in `/etc`, which links below these lead to.
const TOOLS: &[&str] = &["/usr/share/ant", "/usr/share/gradle", "/usr/share/maven"];

/// Where a build happens.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    paths: Paths,
    dir: PathBuf,
    instance: String,
    log_dir: PathBuf,
    runtime: Runtime,
}

/// Something to be run in the sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// For `/bin/sh`.
    pub(crate) command: String,
    /// Where that was written.
    pub(crate) origin: Option<String>,
    /// Variables besides those of `[build] env`.
    pub(crate) env: BTreeMap<String, String>,
    /// Whether every line of its output is told, not only the last one.
    pub(crate) verbose: bool,
}

/// A sandbox that is ready to be entered.
struct Sandbox {
    bundle: PathBuf,
    spec: PathBuf,
    names: PathBuf,
    mode: Mode,
    uplink: Option<String>,
}

impl Sandbox {
    fn net(&self) -> Net<'_> {
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
    /// That of an instance: `<cache>/build/<instance>`.
    pub(crate) fn new(paths: &Paths, runtime: Runtime, instance: &str) -> Workshop {
        Workshop {
            dir: paths.cache.join("build").join(instance),
            instance: instance.to_owned(),
            log_dir: paths.instance_log(instance),
            paths: paths.clone(),
            runtime,
        }
    }

    /// That of an instance of this server.
    pub(crate) fn of(instance: &Instance) -> Workshop {
        Workshop::new(&instance.manager.paths, instance.runtime(), &instance.name)
    }

    /// Where the source is checked out to. Empty, and only root's until it is built.
    pub(crate) fn fresh_checkout(&self) -> Result<PathBuf> {
        self.clear()?;
        files::make_dir(&self.dir, 0o700)?;
        let src = self.src();
        files::make_dir(&src, 0o755)?;
        Ok(src)
    }

    /// Whether there is a checkout: of a deployment under way, or of one that was killed.
    pub(crate) fn is_in_use(&self) -> bool {
        self.src().symlink_metadata().is_ok()
    }

    /// The checkout.
    pub(crate) fn src(&self) -> PathBuf {
        self.dir.join("src")
    }

    /// Removes everything but what builds keep for the next one.
    pub(crate) fn clear(&self) -> Result<()> {
        let names = ["src", "src.unpacked", "bundles", "tmp", "etc"];
        for name in names.into_iter().chain(["src.index", "names.json"]) {
            let path = self.dir.join(name);
            if path.is_dir() {
                files::remove_tree(&path)?;
            } else {
                files::remove_file(&path)?;
            }
        }
        self.give_back()
    }

    /// The address of a build is free for others when it has ended. The user stays its own, because
    /// the files in its home are.
    fn give_back(&self) -> Result<()> {
        match allocation::read(&self.dir)? {
            Some(own) if own.address.is_some() => {
                let own = Allocation {
                    address: None,
                    ..own
                };
                files::replace_json(&self.dir.join(allocation::FILE), &own, 0o644)
            }
            _ => Ok(()),
        }
    }

    /// Removes the container of a build that was killed.
    pub(crate) fn clear_container(&self) -> Result<()> {
        self.runtime.remove(&self.id()).map(drop)
    }

    fn id(&self) -> String {
        // `+` is in no name of an instance.
        format!("build+{}", self.instance)
    }

    /// Runs a job on the checkout; its output goes to the end of `log`.
    pub(crate) fn run(
        &self,
        understood: &Understood,
        job: &Job,
        log: &Path,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let sandbox = self.sandbox(understood, job)?;
        let output = append(log)?;
        let begun = output.metadata().on("read", log)?.len();
        let error = output.try_clone().on("write", log)?;
        let mut run = self
            .runtime
            .foreground(&self.id(), &sandbox.bundle, sandbox.net());
        run.stdin(Stdio::null()).stdout(output).stderr(error);
        let child = run.spawn().map_err(|error| self.runtime.absent(&error))?;
        let timeout = understood.app.build.timeout.unwrap_or(TIMEOUT);
        let mut follow = Follow::from(log, begun)?;
        let ended = wait(child, timeout, || {
            follow.tell(job.verbose, progress);
        });
        let ended = ended.on("run", log);
        follow.tell(job.verbose, progress);
        self.clear_container()?;
        let why = match ended? {
            Some(status) if status.success() => return self.give_back(),
            Some(status) => in_words(status),
            None => format!("no end after {} s ([build] timeout)", timeout.as_secs()),
        };
        Err(LifecycleError::Build {
            command: job.command.clone(),
            origin: job.origin.clone(),
            why,
            tail: tail::since(log, begun, TAIL),
            log: log.to_path_buf(),
        })
    }

    /// A shell for the caller in the sandbox, before anything is built there.
    pub(crate) fn shell(&self, understood: &Understood, job: &Job, log: &Path) -> Result<()> {
        let holder = Job {
            command: "while :; do sleep 3600; done".to_owned(),
            ..job.clone()
        };
        let sandbox = self.sandbox(understood, &holder)?;
        let output = append(log)?;
        let error = output.try_clone().on("write", log)?;
        let mut run = self
            .runtime
            .foreground(&self.id(), &sandbox.bundle, sandbox.net());
        run.stdin(Stdio::null()).stdout(output).stderr(error);
        let mut child = run.spawn().map_err(|error| self.runtime.absent(&error))?;
        let begun = Instant::now();
        let failed = |why: String| LifecycleError::Build {
            command: "the shell before the build".to_owned(),
            origin: None,
            why,
            tail: tail::since(log, 0, TAIL),
            log: log.to_path_buf(),
        };
        let there = loop {
            let mut states = self.runtime.containers(&self.id())?.into_iter();
            let runs = |status| status == metactl_runtime::state::Status::Running;
            if states.any(|state| state.id == self.id() && runs(state.status())) {
                break true;
            }
            if child.try_wait().on("wait for", log)?.is_some() || begun.elapsed() > BEGIN {
                break false;
            }
            std::thread::sleep(TICK);
        };
        let status = if there {
            let shell = [OsString::from("/bin/sh")];
            let tty = io::stdin().is_terminal();
            let status = self.runtime.exec(&self.id(), &shell, tty).status();
            Some(status.map_err(|error| self.runtime.absent(&error)))
        } else {
            None
        };
        self.clear_container()?;
        child.wait().on("wait for", log)?;
        match status.transpose()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failed(format!("{}; nothing is built", in_words(status)))),
            None => Err(failed("its sandbox did not begin".to_owned())),
        }
    }

    fn sandbox(&self, understood: &Understood, job: &Job) -> Result<Sandbox> {
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
        let mut env: BTreeMap<String, EnvValue> = BTreeMap::new();
        for (name, value) in job.env.iter().chain(&app.build.env) {
            let value = EnvValue {
                value: value.as_str().into(),
                origin: built_in.clone(),
                sensitive: false,
            };
            env.insert(name.clone(), value);
        }
        let launch = Launch {
            platform: ENTRY.to_owned(),
            args: ["/bin/sh", "-c", &job.command].map(str::to_owned).to_vec(),
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
        };
        sandbox.inbound = Policy {
            policy: match sandbox.net.mode {
                Mode::Host => Verdict::Accept,
                _ => Verdict::Reject,
            },
            accept: Vec::new(),
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
        what: files::name_of(path).to_owned(),
        origin: None,
        hint: String::new(),
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

/// Waits for the end of a build; `None` when it took too long and was killed.
fn wait(
    mut child: Child,
    timeout: Duration,
    mut look: impl FnMut(),
) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!asked).then_some(status));
        }
        let now = Instant::now();
        if now > deadline + Duration::from_secs(10) {
            child.kill()?;
        } else if now > deadline && !asked {
            asked = true;
            // The runtime passes it on; when that is not enough, its death takes the sandbox along.
            if let Ok(pid) = i32::try_from(child.id()) {
                ProcessId::of(pid)?.signal(rustix::process::Signal::TERM)?;
            }
        }
        look();
        std::thread::sleep(TICK);
    }
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        // sh(1); the words before it name the command.
        Some(127) => "exit code 127: a command is missing; of what is installed on the server, a build sees what is \
                      below /usr, not /root, /home or /opt"
            .to_owned(),
        Some(code @ 129..=159) => format!("exit code {code} (signal {})", code - 128),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_hangs_is_ended() {
        let child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let start = Instant::now();
        assert!(
            wait(child, Duration::from_millis(50), || {})
                .unwrap()
                .is_none()
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        let child = std::process::Command::new("sh")
            .args(["-c", "exit 3"])
            .spawn()
            .unwrap();
        let status = wait(child, Duration::from_secs(10), || {})
            .unwrap()
            .unwrap();
        assert_eq!(in_words(status), "exit code 3");
    }
}
