//! The jobs of an instance, as text: from the manifest of a bundle and nothing else. Pure. Only stanzas that Upstart 1.5
//! knows (init(5) there).
//!
//! ```text
//! metactl@<instance>            what is started at boot: the network, and by its events the daemons
//!   metactl-<instance>-<entry>  a daemon, or a cron job (a task, which cron starts)
//! metactl-watch@<instance>      without a sandbox: told of what has ended
//! metactl-resolver              answers for names, one for all instances
//! ```
//!
//! The main process of a daemon is the runtime, which passes signals on and ends as the application does: Upstart
//! counts forks to find a main process that is another one, and cannot be told. It is small, and the sandbox ends
//! with it. No job names the bundle: all go through a link, so that one that goes on while the bundle changes starts
//! the new one when it is started again.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};
use metactl_bundles::network::Mode;
use metactl_bundles::paths::Paths;
use nix::sys::signal::Signal;

use super::plain::Plain;
use super::quote::{LineBreak, argument, command, shown, word};
use super::{names, order};

/// How the lines begin that say what a file is.
pub(super) const MARK: &str = "# metactl-";
/// A daemon that was started so often within [`LIMIT_WITHIN`] is given up. After each end is a pause.
const LIMIT: u32 = 300;
const LIMIT_WITHIN: Duration = Duration::from_secs(3600);
/// The same without a sandbox, where there is none.
const PLAIN_LIMIT: u32 = 30;
const PLAIN_WITHIN: Duration = Duration::from_secs(60);
/// How long a run is too short, when `restart.limit` counts such runs; with the pause.
const SHORT: u64 = 12;

/// The file of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    /// Its name.
    pub(super) name: String,
    /// Its content.
    pub(super) text: String,
    /// Whether only root may read it: it holds the environment of the application.
    pub(super) private: bool,
}

/// Everything that the jobs of an instance are made from.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) paths: &'a Paths,
    /// The programs.
    pub(super) metactl: &'a Path,
    pub(super) runtime: &'a Path,
    /// The link to the bundle.
    pub(super) link: &'a Path,
    pub(super) manifest: &'a Manifest,
    pub(super) mode: Mode,
    /// Who the resolver asks; empty: those of the server.
    pub(super) nameservers: &'a [IpAddr],
    /// Without a sandbox: the account, and the command of each entry point of the manifest, in its order.
    pub(super) plain: Option<(&'a Account, Vec<Plain>)>,
}

/// An account of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) group: String,
}

/// What cannot be written in a job, and of which entry point it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unwritable {
    pub(super) entry: String,
}

/// All jobs, in a fixed order.
pub(super) fn jobs(input: &Input<'_>) -> Result<Vec<Job>, Unwritable> {
    let of_none = |_| Unwritable {
        entry: String::new(),
    };
    let mut jobs = vec![instance(input).map_err(of_none)?];
    if input.plain.is_some() {
        jobs.push(watch(input).map_err(of_none)?);
    } else if input.needs_resolver() {
        jobs.push(resolver(input).map_err(of_none)?);
    }
    for (at, entry) in input.manifest.entries.iter().enumerate() {
        let of_entry = |_| Unwritable {
            entry: entry.title.clone(),
        };
        jobs.push(of(input, entry, at).map_err(of_entry)?);
    }
    Ok(jobs)
}

impl Input<'_> {
    fn instance(&self) -> &str {
        &self.manifest.instance
    }

    fn needs_resolver(&self) -> bool {
        matches!(self.mode, Mode::Routed | Mode::Nat)
    }

    fn step(&self, words: &[&str]) -> Result<String, LineBreak> {
        command(&self.step_words(words))
    }

    /// A step that is metactl's own, with where its directories and programs are.
    pub(super) fn step_words(&self, words: &[&str]) -> Vec<String> {
        let mut all = vec!["/usr/bin/env".to_owned()];
        all.extend(self.surroundings());
        all.push(self.metactl.to_string_lossy().into_owned());
        all.extend(["-a", self.instance(), "unit"].map(str::to_owned));
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    }

    fn surroundings(&self) -> Vec<String> {
        let variable = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut all = vec![
            "METACTL_SERVICE_MANAGER=upstart".to_owned(),
            variable("METACTL_RUNTIME", self.runtime),
        ];
        let paths = self.paths;
        if *paths != Paths::under(Path::new("/")) {
            all.extend([
                variable("METACTL_CONFIG_DIR", &paths.config),
                variable("METACTL_STATE_DIR", &paths.state),
                variable("METACTL_CACHE_DIR", &paths.cache),
                variable("METACTL_LOG_DIR", &paths.log),
                variable("METACTL_RUN_DIR", &paths.run),
            ]);
        }
        all
    }
}

/// The text of a job, put together.
struct Text(String);

impl Text {
    fn new(instance: Option<&str>, entry: Option<&EntryRef>, description: &str) -> Text {
        let mut text = Text(String::new());
        text.line("# Written by metactl, which replaces it as a whole. Your own stanzas belong into a file .override beside it.");
        match instance {
            Some(instance) => text.line(&format!("{MARK}instance: {instance}")),
            None => text.line(&format!("{MARK}server: yes")),
        }
        if let Some(entry) = entry {
            text.line(&format!("{MARK}entry: {}", entry.name));
            let kind = match entry.kind {
                EntryKind::Daemon => "daemon",
                EntryKind::Cron => "cron",
            };
            text.line(&format!("{MARK}kind: {kind}"));
        }
        text.line("");
        text.line(&format!("description {}", shown(description)));
        text.line("author metactl");
        text
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn job(self, name: String, private: bool) -> Job {
        Job {
            name,
            text: self.0,
            private,
        }
    }
}

fn instance(input: &Input<'_>) -> Result<Job, LineBreak> {
    let instance = input.instance();
    let description = format!("{instance}: application {}", input.manifest.app);
    let mut text = Text::new(Some(instance), None, &description);
    // Where Upstart is 1.5 and newer, a runlevel comes after the file systems and the network.
    text.line("start on runlevel [2345]");
    text.line("stop on runlevel [!2345]");
    // The daemons start with it, unless metactl says otherwise to start some of them itself.
    text.line("env BOOT=yes");
    text.line("export BOOT");
    text.line("console log");
    if input.plain.is_none() {
        text.line(&format!("pre-start exec {}", input.step(&["prepare"])?));
    }
    text.line(&format!("post-start exec {}", input.step(&["booted"])?));
    if input.plain.is_none() {
        text.line(&format!(
            "post-stop exec {}",
            input.step(&["network-down"])?
        ));
    }
    Ok(text.job(names::instance(instance), false))
}

/// Upstart tells by an event how a job has ended, but not the job itself.
fn watch(input: &Input<'_>) -> Result<Job, LineBreak> {
    let instance = input.instance();
    let description = format!("{instance}: what has ended");
    let mut text = Text::new(Some(instance), None, &description);
    let all = names::entry(instance, "*");
    text.line(&format!("start on stopped JOB={}", argument(&all)?));
    text.line("instance $JOB");
    text.line("task");
    text.line("console log");
    text.line(&format!("exec {}", input.step(&["event"])?));
    Ok(text.job(names::watch(instance), false))
}

fn resolver(input: &Input<'_>) -> Result<Job, LineBreak> {
    let mut text = Text::new(None, None, "names for the instances of metactl");
    // Started with the first network; it ends by itself with the last.
    text.line("respawn");
    text.line("respawn limit 10 60");
    text.line("normal exit 0 TERM");
    text.line("console log");
    let mut words = vec![
        input.runtime.to_string_lossy().into_owned(),
        "resolve".to_owned(),
        "--server-dir".to_owned(),
        input
            .paths
            .run
            .join("server")
            .to_string_lossy()
            .into_owned(),
    ];
    for server in input.nameservers {
        words.extend(["--nameserver".to_owned(), server.to_string()]);
    }
    text.line(&format!("exec {}", command(&words)?));
    Ok(text.job(names::RESOLVER.to_owned(), false))
}

/// A daemon or a cron job.
fn of(input: &Input<'_>, entry: &EntryRef, at: usize) -> Result<Job, LineBreak> {
    let instance = input.instance();
    let description = format!("{instance} {}", entry.title);
    let mut text = Text::new(Some(instance), Some(entry), &description);
    events(&mut text, instance, entry)?;
    match entry.kind {
        EntryKind::Daemon => restarts(&mut text, entry, input.plain.is_some()),
        EntryKind::Cron => text.line("task"),
    }
    if let Some(signal) = stop_signal(entry.stop_signal) {
        text.line(&format!("kill signal {signal}"));
    }
    let seconds = entry.stop_timeout.as_millis().div_ceil(1000).max(1);
    text.line(&format!("kill timeout {seconds}"));
    text.line("console log");
    let plain = input
        .plain
        .as_ref()
        .and_then(|(account, all)| Some((account, all.get(at)?)));
    match plain {
        Some((account, plain)) => of_account(&mut text, account, plain)?,
        None => {
            let step = input.step(&["prepare", &entry.name])?;
            text.line(&format!("pre-start exec {step}"));
            let step = input.step(&["stopped", &entry.name])?;
            text.line(&format!("post-stop exec {step}"));
            text.line(&format!("exec {}", launch(input, entry)?));
        }
    }
    Ok(text.job(names::entry(instance, &entry.name), plain.is_some()))
}

/// When it starts and stops by itself. Nothing starts a cron job but cron.
fn events(text: &mut Text, instance: &str, entry: &EntryRef) -> Result<(), LineBreak> {
    let whole = argument(&names::instance(instance))?;
    let mut stop = format!("stopping {whole}");
    if entry.kind == EntryKind::Daemon {
        let mut start = format!("started {whole} BOOT=yes");
        for other in order::before(entry) {
            let other = argument(&names::entry(instance, other))?;
            start.push_str(&format!(" and started {other}"));
        }
        text.line(&format!("start on {start}"));
        for other in &entry.requires {
            // Not `stopping`, which also comes before one that failed is started again.
            let other = argument(&names::entry(instance, other))?;
            stop.push_str(&format!(" or stopped {other}"));
        }
    }
    text.line(&format!("stop on {stop}"));
    Ok(())
}

fn restarts(text: &mut Text, entry: &EntryRef, plain: bool) {
    if entry.restart != Restart::Never {
        let (count, within) = match (entry.restart_limit, plain) {
            (Some(limit), _) => (limit, u64::from(limit) * SHORT),
            (None, false) => (LIMIT, LIMIT_WITHIN.as_secs()),
            (None, true) => (PLAIN_LIMIT, PLAIN_WITHIN.as_secs()),
        };
        text.line("respawn");
        text.line(&format!("respawn limit {count} {within}"));
    }
    // With `respawn`, what is not in the list is started again, also after exit code 0.
    if entry.restart != Restart::Always {
        text.line("normal exit 0 143 TERM");
    }
}

/// `TERM` is what Upstart sends without being told.
fn stop_signal(number: i32) -> Option<String> {
    let name = Signal::try_from(number)
        .map(|signal| signal.as_str().trim_start_matches("SIG").to_owned())
        .unwrap_or_else(|_| number.to_string());
    (name != "TERM").then_some(name)
}

fn of_account(text: &mut Text, account: &Account, plain: &Plain) -> Result<(), LineBreak> {
    text.line(&format!("setuid {}", argument(&account.user)?));
    text.line(&format!("setgid {}", argument(&account.group)?));
    text.line(&format!("umask {:04o}", plain.umask.unwrap_or(0o022)));
    if let Some(files) = plain.files {
        text.line(&format!("limit nofile {files} {files}"));
    }
    text.line(&format!(
        "chdir {}",
        argument(&plain.dir.to_string_lossy())?
    ));
    for variable in &plain.env {
        text.line(&format!("env {}", argument(variable)?));
    }
    text.line(&format!("exec {}", command(&plain.args)?));
    Ok(())
}

fn launch(input: &Input<'_>, entry: &EntryRef) -> Result<String, LineBreak> {
    let instance = input.instance();
    let run = input.paths.instance_run(instance);
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec![
        shown(input.runtime),
        "--root".to_owned(),
        shown(&input.paths.runtime_root()),
        "run".to_owned(),
        "--keep".to_owned(),
        "--exit-file".to_owned(),
        shown(&super::exit_file(&run, &entry.name)),
    ];
    if input.mode != Mode::Host {
        words.extend(["--netns".to_owned(), shown(&run.join("netns"))]);
    }
    // What runs is of the bundle that the link leads to now, and not of that which it leads to later.
    let link = word(&shown(input.link))?;
    let dir = word(&shown(&entry.dir))?;
    Ok(format!(
        "{} --bundle \"$(readlink -f {link})\"/{dir} {}",
        command(&words)?,
        word(&format!("{instance}.{}", entry.name))?
    ))
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
