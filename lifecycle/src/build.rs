//! The build command of an application, run as an unprivileged user in a sandbox of its own.
//!
//! The sandbox is composed like that of an entry point: the view of the host read-only, no
//! capabilities, no new privileges, the seccomp table. It sees the checkout at `/src`, writable,
//! and a directory that stays from build to build at `$HOME` (for what Maven, npm or cargo fetch).
//! It has the network of the server, since builds fetch what they depend on, and nothing else of
//! the server: not the instance's data, not its `[env]`, which may hold secrets.
//!
//! Everything it writes goes into `<log>/<instance>/build-<n>.log`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use metactl_bundles::app::{
    App, Daemon, EnvValue, HostMount, HostNeed, JavaNeed, Launch, Limits, Notify, Restart, Stop,
};
use metactl_bundles::bundle::{self, Placement};
use metactl_bundles::layers::Origin;
use metactl_bundles::network::{Mode, Policy, Verdict};
use metactl_bundles::view::HostView;
use metactl_runtime::ProcessId;

use crate::allocation::{self, Allocation};
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::launcher::{Net, Runtime, append};
use crate::materialize::Understood;
use crate::scm::Revision;
use crate::secrets;
use crate::tail;

/// Where the checkout is, inside.
const SRC: &str = "/src";
/// The name of the entry point of a build.
const ENTRY: &str = "build";
/// How long a build may take when `[build] timeout` says nothing.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// The limits of a build.
const MEMORY: u64 = 4 << 30;
const PIDS: u64 = 4096;
/// How many logs of builds are kept.
const KEEP_LOGS: usize = 10;
/// How many lines of the log go into an error.
const TAIL: usize = 20;
/// How often a running build is looked at.
const TICK: Duration = Duration::from_millis(10);
/// Tools that keep settings in `/etc`, which links below these lead to.
const TOOLS: &[&str] = &["/usr/share/ant", "/usr/share/gradle", "/usr/share/maven"];

/// Where a build happens.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    dir: PathBuf,
    instance: String,
    log_dir: PathBuf,
}

impl Workshop {
    /// That of an instance: `<cache>/build/<instance>`.
    pub(crate) fn new(cache: &Path, log_dir: &Path, instance: &str) -> Workshop {
        Workshop {
            dir: cache.join("build").join(instance),
            instance: instance.to_owned(),
            log_dir: log_dir.to_path_buf(),
        }
    }

    /// Where the source is checked out to. Empty, and only root's until it is built.
    pub(crate) fn fresh_checkout(&self) -> Result<PathBuf> {
        self.clear()?;
        files::make_dir(&self.dir, 0o700)?;
        let src = self.src();
        files::make_dir(&src, 0o755)?;
        Ok(src)
    }

    /// The checkout.
    pub(crate) fn src(&self) -> PathBuf {
        self.dir.join("src")
    }

    /// Removes everything but what builds keep for the next one.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in ["src", "bundles", "tmp", "etc", "src.index"] {
            let path = self.dir.join(name);
            if path.is_dir() {
                files::remove_tree(&path)?;
            } else {
                files::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the container of a build that was killed.
    pub(crate) fn clear_container(&self, runtime: &Runtime) -> Result<()> {
        runtime.remove(&self.id()).map(drop)
    }

    fn id(&self) -> String {
        // `+` is in no name of an instance.
        format!("build+{}", self.instance)
    }

    /// Runs the build command on the checkout. Returns its log.
    pub(crate) fn build(
        &self,
        runtime: &Runtime,
        understood: &Understood,
        allocation: &Allocation,
        revision: &Revision,
    ) -> Result<Option<PathBuf>> {
        let build = &understood.app.build;
        let Some(command) = &build.command else {
            return Ok(None);
        };
        let src = self.src();
        give_away(&src, allocation)?;
        let app = self.app(understood, command, &src, revision);
        let place = self.placement(understood, allocation, &src)?;
        let app = with_java(app, &place);
        let host = HostView::gather(&app, &place);
        let composition = bundle::compose(&app, &understood.config, &place, &host)?;
        let written = bundle::write(&composition, &self.dir)?;
        let (log, number) = self.next_log()?;
        self.clear_container(runtime)?;
        let output = append(&log)?;
        let error = output.try_clone().on("write", &log)?;
        let mut run = runtime.foreground(&self.id(), &written.dir.join(ENTRY), Net::AsConfigured);
        run.stdin(Stdio::null()).stdout(output).stderr(error);
        let child = run.spawn().map_err(|error| runtime.absent(&error))?;
        let timeout = build.timeout.unwrap_or(TIMEOUT);
        let ended = wait(child, timeout).on("run", &log);
        self.clear_container(runtime)?;
        let why = match ended? {
            Some(status) if status.success() => None,
            Some(status) => Some(in_words(status)),
            None => Some(format!(
                "no end after {} s ([build] timeout)",
                timeout.as_secs()
            )),
        };
        self.forget_logs(number)?;
        match why {
            None => Ok(Some(log)),
            Some(why) => Err(LifecycleError::Build {
                command: command.clone(),
                origin: build.command_origin.as_ref().map(ToString::to_string),
                why,
                tail: tail::since(&log, 0, TAIL),
                log,
            }),
        }
    }

    /// An application with one entry point: the build.
    fn app(&self, understood: &Understood, command: &str, src: &Path, revision: &Revision) -> App {
        let app = &understood.app;
        let built_in = Origin::default_value();
        let mut env: BTreeMap<String, EnvValue> = BTreeMap::new();
        let own = [
            ("METACTL_TAG", &revision.tag),
            ("METACTL_COMMIT", &revision.commit),
        ];
        let own = own
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        let extra = app
            .build
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value));
        for (name, value) in own.chain(extra) {
            let value = EnvValue {
                value: value.clone(),
                origin: built_in.clone(),
                sensitive: false,
            };
            env.insert(name, value);
        }
        let launch = Launch {
            platform: ENTRY.to_owned(),
            args: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
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
            service: Default::default(),
            origin: built_in.clone(),
        };
        let mut sandbox = app.sandbox.clone();
        sandbox.limits = Limits {
            memory: Some(MEMORY),
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
        sandbox.net.mode = Mode::Host;
        sandbox.net.addresses = Vec::new();
        let open = Policy {
            policy: Verdict::Accept,
            accept: Vec::new(),
        };
        sandbox.out = open.clone();
        sandbox.inbound = open;
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
            systemd: Default::default(),
            sandbox,
        }
    }

    fn placement(
        &self,
        understood: &Understood,
        allocation: &Allocation,
        src: &Path,
    ) -> Result<Placement> {
        // In the network of the server, its own loopback resolver can be asked too.
        let nameservers = match &understood.server.nameservers {
            named if !named.is_empty() => named.clone(),
            _ => allocation::resolv_conf(Path::new("/etc/resolv.conf"))?,
        };
        Ok(Placement {
            instance: self.id(),
            state_dir: self.dir.clone(),
            release: src.to_path_buf(),
            release_id: ENTRY.to_owned(),
            uid: allocation.uid,
            gid: allocation.gid,
            addresses: Vec::new(),
            pool: None,
            hostname: ENTRY.to_owned(),
            nameservers,
            site: understood.server.site.clone(),
            secrets: secrets::dir(&self.dir),
        })
    }

    fn next_log(&self) -> Result<(PathBuf, u64)> {
        files::make_dir(&self.log_dir, 0o750)?;
        let last = self.logs()?.last().map_or(0, |(number, _)| *number);
        Ok((
            self.log_dir.join(format!("build-{}.log", last + 1)),
            last + 1,
        ))
    }

    fn logs(&self) -> Result<Vec<(u64, PathBuf)>> {
        let number = |path: &Path| {
            files::name_of(path)
                .strip_prefix("build-")?
                .strip_suffix(".log")?
                .parse()
                .ok()
        };
        let paths = files::entries(&self.log_dir)?.into_iter();
        let mut logs: Vec<(u64, PathBuf)> = paths
            .filter_map(|path| Some((number(&path)?, path)))
            .collect();
        logs.sort();
        Ok(logs)
    }

    fn forget_logs(&self, newest: u64) -> Result<()> {
        for (number, path) in self.logs()? {
            if number + (KEEP_LOGS as u64) <= newest {
                files::remove_file(&path)?;
            }
        }
        Ok(())
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
fn wait(mut child: Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
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
        std::thread::sleep(TICK);
    }
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code @ 129..=159) => format!("exit code {code} (signal {})", code - 128),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_numbered_and_old_ones_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let workshop = Workshop::new(dir.path(), &dir.path().join("log"), "a");
        for expected in 1..=12 {
            let (log, number) = workshop.next_log().unwrap();
            assert_eq!(number, expected);
            fs::write(log, "x").unwrap();
            workshop.forget_logs(number).unwrap();
        }
        let logs = workshop.logs().unwrap();
        assert_eq!((logs.len(), logs[0].0), (10, 3));
    }

    #[test]
    fn a_build_that_hangs_is_ended() {
        let child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let start = Instant::now();
        assert!(wait(child, Duration::from_millis(50)).unwrap().is_none());
        assert!(start.elapsed() < Duration::from_secs(5));
        let child = std::process::Command::new("sh")
            .args(["-c", "exit 3"])
            .spawn()
            .unwrap();
        let status = wait(child, Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(in_words(status), "exit code 3");
    }
}
