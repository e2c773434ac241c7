//! The units of an instance, as text: from the manifest of a bundle and nothing else. Pure.
//!
//! ```text
//! metactl-<instance>.target            what is started at boot; everything below is part of it
//!   metactl-net@<instance>.service     makes and removes the network; everything below needs it
//!   metactl-<instance>-<entry>.service a daemon, or a cron job
//!   metactl-<instance>-<entry>.timer   when a cron job runs
//!   metactl-<instance>-<entry>.socket  what a daemon listens at, made in the network of the instance
//! metactl-<instance>.slice             the limits of the instance as a whole
//! metactl-resolver.service             answers for names, one for all instances
//! metactl-mend.timer, .service         looks after networks and names, for all instances (`mend`)
//! ```
//!
//! What metactl needs to know again stands in a section of its own, which systemd leaves alone (systemd.syntax(7)).

use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::app::Restart;
use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};
use metactl_bundles::network::Mode;
use metactl_bundles::paths::Paths;
use metactl_bundles::schedule::{Missed, Schedule};

use super::calendar;
use super::names;
use super::steps;

/// The first line.
const HEAD: &str = "# Written by metactl, which replaces it as a whole. Your own settings belong into drop-ins: systemctl edit.";
/// The section of what is metactl's own.
pub(super) const SECTION: &str = "[X-Metactl]";
/// The pause before a daemon is started again.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// A daemon that was started so often within [`LIMIT_WITHIN`] is given up.
const LIMIT: u32 = 300;
const LIMIT_WITHIN: Duration = Duration::from_secs(3600);
/// How long a program that tells itself when it is ready may take, and a launch at all.
const BEGIN: Duration = Duration::from_secs(90);

/// A unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    /// Its name, which is that of its file.
    pub(super) name: String,
    /// Its content.
    pub(super) text: String,
}

/// Everything that the units of an instance are made from.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) paths: &'a Paths,
    /// The programs.
    pub(super) metactl: &'a Path,
    pub(super) runtime: &'a Path,
    /// The directory of the bundle, and its digest.
    pub(super) bundle: &'a Path,
    pub(super) digest: &'a str,
    pub(super) manifest: &'a Manifest,
    pub(super) mode: Mode,
    /// The limits of the instance as a whole.
    pub(super) limits: Limits,
    /// Those of each entry point of the manifest, in its order.
    pub(super) own_limits: Vec<Limits>,
    /// The device towards the network, when `metactl.conf` names one.
    pub(super) uplink: Option<&'a str>,
    /// Who the resolver asks; empty: those of the server.
    pub(super) nameservers: &'a [IpAddr],
}

/// Limits as a unit has them (systemd.resource-control(5)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// `MemoryMax=`, in bytes.
    pub(super) memory: Option<u64>,
    /// `TasksMax=`.
    pub(super) tasks: Option<u64>,
    /// `CPUQuota=`, in thousandths of a processor.
    pub(super) cpu_millis: Option<u64>,
}

/// All units, in a fixed order.
pub(super) fn units(input: &Input<'_>) -> Vec<Unit> {
    let mut units = vec![target(input), slice(input)];
    if input.mode != Mode::Host {
        units.push(network(input));
    }
    if input.needs_resolver() {
        units.push(resolver(input));
        units.extend(super::mend::units(input));
    }
    for (at, entry) in input.manifest.entries.iter().enumerate() {
        let limits = input.own_limits.get(at).copied().unwrap_or_default();
        units.push(service(input, entry, limits));
        units.extend(timer(input, entry));
        units.extend(socket(input, entry));
    }
    units
}

impl Input<'_> {
    fn instance(&self) -> &str {
        &self.manifest.instance
    }

    fn needs_resolver(&self) -> bool {
        matches!(self.mode, Mode::Routed | Mode::Nat)
    }

    /// What the entry points of the instance need, and come after.
    fn below(&self) -> Vec<String> {
        match self.mode {
            Mode::Host => Vec::new(),
            _ => vec![names::network(self.instance())],
        }
    }
}

/// The text of a unit, put together.
pub(super) struct Text(String);

impl Text {
    /// A unit that is not of one instance, but of the server.
    pub(super) fn of_server(description: &str) -> Text {
        let mut text = Text(String::new());
        text.line(HEAD);
        text.line(SECTION);
        text.set("Server", "yes");
        text.section("Unit");
        text.set("Description", &escaped(description));
        text
    }

    fn new(input: &Input<'_>, entry: Option<&EntryRef>, description: &str) -> Text {
        let instance = input.instance();
        let mut text = Text(String::new());
        text.line(HEAD);
        text.line(SECTION);
        text.set("Instance", instance);
        if let Some(entry) = entry {
            text.set("Entry", &entry.name);
            let kind = match entry.kind {
                EntryKind::Daemon => "daemon",
                EntryKind::Cron => "cron",
            };
            text.set("Kind", kind);
        }
        text.set("Bundle", input.digest);
        text.section("Unit");
        text.set("Description", &escaped(description));
        text
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub(super) fn section(&mut self, name: &str) {
        self.line("");
        self.line(&format!("[{name}]"));
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        // Writing to a string cannot fail.
        writeln!(self.0, "{key}={value}").unwrap_or_default();
    }

    fn list(&mut self, key: &str, values: &[String]) {
        if !values.is_empty() {
            self.set(key, &values.join(" "));
        }
    }

    pub(super) fn seconds(&mut self, key: &str, time: Duration) {
        let text = match (time.as_secs(), time.subsec_millis()) {
            (seconds, 0) => format!("{seconds}s"),
            (_, _) => format!("{}ms", time.as_millis()),
        };
        self.set(key, &text);
    }

    fn limits(&mut self, limits: Limits) {
        if let Some(bytes) = limits.memory {
            self.set("MemoryMax", &bytes.to_string());
        }
        if let Some(count) = limits.tasks {
            self.set("TasksMax", &count.to_string());
        }
        if let Some(millis) = limits.cpu_millis {
            let (whole, part) = (millis / 10, millis % 10);
            let text = match part {
                0 => format!("{whole}%"),
                _ => format!("{whole}.{part}%"),
            };
            self.set("CPUQuota", &text);
        }
    }

    /// What the configuration says to systemd itself. It comes last, and so wins.
    fn settings(&mut self, input: &Input<'_>, section: &str) {
        let settings = input.manifest.systemd.get(section);
        for (key, value) in settings.into_iter().flatten() {
            self.set(key, value);
        }
    }

    /// Where metactl's directories and programs are, for the steps that are its own.
    pub(super) fn surroundings(&mut self, input: &Input<'_>) {
        let paths = input.paths;
        self.variable("METACTL_RUNTIME", input.runtime);
        if *paths == Paths::under(Path::new("/")) {
            return;
        }
        self.variable("METACTL_CONFIG_DIR", &paths.config);
        self.variable("METACTL_STATE_DIR", &paths.state);
        self.variable("METACTL_CACHE_DIR", &paths.cache);
        self.variable("METACTL_LOG_DIR", &paths.log);
        self.variable("METACTL_RUN_DIR", &paths.run);
    }

    fn variable(&mut self, name: &str, value: &Path) {
        let value = value.to_string_lossy();
        let value = quoted(&format!("{name}={value}"), false);
        self.set("Environment", &value);
    }

    pub(super) fn unit(self, name: String) -> Unit {
        Unit { name, text: self.0 }
    }
}

fn target(input: &Input<'_>) -> Unit {
    let instance = input.instance();
    let app = &input.manifest.app;
    let mut text = Text::new(input, None, &format!("{instance}: application {app}"));
    text.list("Wants", &parts(input));
    text.section("Install");
    text.set("WantedBy", "multi-user.target");
    text.unit(names::target(instance))
}

/// What is started with the instance.
fn parts(input: &Input<'_>) -> Vec<String> {
    let instance = input.instance();
    let entries = input.manifest.entries.iter();
    entries
        .map(|entry| match entry.kind {
            EntryKind::Daemon => names::service(instance, &entry.name),
            EntryKind::Cron => names::timer(instance, &entry.name),
        })
        .collect()
}

fn slice(input: &Input<'_>) -> Unit {
    let instance = input.instance();
    let mut text = Text::new(input, None, &format!("{instance}: limits of the instance"));
    text.section("Slice");
    text.limits(input.limits);
    text.unit(names::slice(instance))
}

fn network(input: &Input<'_>) -> Unit {
    let instance = input.instance();
    let mut text = Text::new(input, None, &format!("{instance}: network"));
    text.set("PartOf", &names::target(instance));
    let mut wants = vec!["network-online.target".to_owned()];
    text.set("After", "network-online.target");
    if input.needs_resolver() {
        wants.push(names::RESOLVER.to_owned());
        // It ends when there is no network.
        text.set("Before", names::RESOLVER);
        wants.push(names::MEND_TIMER.to_owned());
    }
    text.list("Wants", &wants);
    text.section("Service");
    text.set("Type", "oneshot");
    text.set("RemainAfterExit", "yes");
    text.surroundings(input);
    let step = |word: &str| {
        let mut words = vec![
            input.metactl.to_string_lossy().into_owned(),
            "-a".to_owned(),
            instance.to_owned(),
            "unit".to_owned(),
            word.to_owned(),
        ];
        if word == "network-up" {
            words.push(input.digest.to_owned());
            words.extend(input.uplink.map(|uplink| format!("--uplink={uplink}")));
        }
        command(&words)
    };
    text.set("ExecStart", &step("network-up"));
    text.set("ExecStop", &step("network-down"));
    text.seconds("TimeoutStartSec", BEGIN);
    text.set("SyslogIdentifier", &format!("{instance}-network"));
    text.unit(names::network(instance))
}

fn resolver(input: &Input<'_>) -> Unit {
    let mut text = Text::of_server("Names for the instances of metactl");
    text.section("Service");
    text.set("Type", "exec");
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
    text.set("ExecStart", &command(&words));
    // It ends by itself when the last instance is gone.
    text.set("Restart", "on-failure");
    text.set("RestartSec", "1s");
    text.set("SyslogIdentifier", "metactl-resolver");
    text.unit(names::RESOLVER.to_owned())
}

fn service(input: &Input<'_>, entry: &EntryRef, limits: Limits) -> Unit {
    let instance = input.instance();
    let is_daemon = entry.kind == EntryKind::Daemon;
    let release = &input.manifest.release;
    let description = format!("{instance} {} ({release})", entry.title);
    let mut text = Text::new(input, Some(entry), &description);
    text.set("PartOf", &names::target(instance));
    let ties = &entry.service;
    let mut requires = input.below();
    if !ties.sockets.is_empty() {
        requires.push(names::socket(instance, &entry.name));
    }
    let mut after = requires.clone();
    let needed = entry.requires.iter();
    requires.extend(needed.map(|other| names::service(instance, other)));
    text.list("Requires", &requires);
    if input.needs_resolver() {
        after.push(names::RESOLVER.to_owned());
    }
    after.extend(
        entry
            .after
            .iter()
            .map(|other| names::service(instance, other)),
    );
    text.list("After", &after);
    if is_daemon {
        text.seconds("StartLimitIntervalSec", LIMIT_WITHIN);
        text.set("StartLimitBurst", &LIMIT.to_string());
    } else {
        // Its times are its limit.
        text.set("StartLimitIntervalSec", "0");
    }
    text.settings(input, "unit");
    text.section("Service");
    text.set("Type", "notify");
    // Behind the small init of the sandbox it is not the main process that tells.
    text.set("NotifyAccess", if ties.notify { "all" } else { "main" });
    // The main process is the application: the runtime hands over and is gone.
    text.set("ExecStart", &launch(input, entry));
    text.surroundings(input);
    let ended = [
        &*input.metactl.to_string_lossy(),
        "-a",
        instance,
        "unit",
        "ended",
        &entry.name,
    ];
    text.set("ExecStopPost", &command(&ended.map(str::to_owned)));
    restarts(&mut text, entry);
    text.set("SuccessExitStatus", "143");
    text.set("KillMode", "mixed");
    text.set("KillSignal", &entry.stop_signal.to_string());
    text.seconds("TimeoutStartSec", BEGIN);
    text.seconds("TimeoutStopSec", entry.stop_timeout);
    if let Some(time) = ties.watchdog_ms {
        text.seconds("WatchdogSec", Duration::from_millis(time));
    }
    text.set("Slice", &names::slice(instance));
    text.limits(limits);
    // One process that is too large does not end the others.
    text.set("OOMPolicy", "continue");
    text.set("StandardOutput", "journal");
    text.set("StandardError", "journal");
    text.set("SyslogIdentifier", &format!("{instance}-{}", entry.name));
    text.settings(input, "service");
    text.unit(names::service(instance, &entry.name))
}

fn launch(input: &Input<'_>, entry: &EntryRef) -> String {
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut words = vec![
        shown(input.runtime.to_path_buf()),
        "--root".to_owned(),
        shown(input.paths.runtime_root()),
        "--cgroup-manager".to_owned(),
        "unit".to_owned(),
        "run".to_owned(),
        "--detach".to_owned(),
        "--bundle".to_owned(),
        shown(input.bundle.join(&entry.dir)),
    ];
    if input.mode != Mode::Host {
        words.push("--netns".to_owned());
        words.push(shown(
            input.paths.instance_run(input.instance()).join("netns"),
        ));
    }
    if entry.service.notify {
        words.push("--notify".to_owned());
    }
    words.push(format!("{}.{}", input.instance(), entry.name));
    command(&words)
}

/// The sockets that a daemon gets. They are made in the network of the instance: one of the server's would lead around
/// its firewall.
fn socket(input: &Input<'_>, entry: &EntryRef) -> Option<Unit> {
    if entry.service.sockets.is_empty() {
        return None;
    }
    let instance = input.instance();
    let description = format!("{instance} {}: sockets", entry.title);
    let mut text = Text::new(input, Some(entry), &description);
    text.set("PartOf", &names::target(instance));
    let below = input.below();
    text.list("Requires", &below);
    text.list("After", &below);
    text.section("Socket");
    for socket in &entry.service.sockets {
        text.set("ListenStream", socket);
    }
    if input.mode != Mode::Host {
        let pin = input.paths.instance_run(instance).join("netns");
        text.set("NetworkNamespacePath", &escaped(&pin.to_string_lossy()));
    }
    Some(text.unit(names::socket(instance, &entry.name)))
}

fn restarts(text: &mut Text, entry: &EntryRef) {
    let (word, stays) = match (entry.kind, entry.restart) {
        (EntryKind::Cron, _) => ("no", false),
        (EntryKind::Daemon, Restart::Always) => ("always", false),
        // One that has ended, as it may, is not stopped.
        (EntryKind::Daemon, Restart::OnFailure) => ("on-failure", true),
        (EntryKind::Daemon, Restart::Never) => ("no", true),
    };
    text.set("Restart", word);
    if stays {
        text.set("RemainAfterExit", "yes");
    }
    if word != "no" {
        text.seconds("RestartSec", PAUSE);
    }
}

/// The timer of a cron job. A schedule that cannot be understood, which the configuration refuses, has none.
fn timer(input: &Input<'_>, entry: &EntryRef) -> Option<Unit> {
    let instance = input.instance();
    let settings = &input.manifest.cron;
    let schedule = Schedule::parse(entry.schedule.as_deref()?).ok()?;
    let description = format!("{instance} {}: times", entry.title);
    let mut text = Text::new(input, Some(entry), &description);
    text.set("PartOf", &names::target(instance));
    // The network stays between two runs.
    let below = input.below();
    text.list("Requires", &below);
    text.list("After", &below);
    if schedule == Schedule::Boot {
        // Its end is marked, and the mark lasts until the next boot.
        let mark = steps::boot_mark(input.paths, instance, &entry.name);
        text.set(
            "ConditionPathExists",
            &format!("!{}", escaped(&mark.to_string_lossy())),
        );
    }
    text.section("Timer");
    match &schedule {
        Schedule::Boot => text.set("OnBootSec", "1s"),
        Schedule::Times(times) => {
            for event in calendar::events(times, settings.timezone.as_deref()) {
                text.set("OnCalendar", &event);
            }
            if settings.missed == Missed::Once {
                text.set("Persistent", "yes");
            }
        }
    }
    if !settings.delay.is_zero() {
        text.seconds("RandomizedDelaySec", settings.delay);
    }
    text.set("AccuracySec", "1s");
    Some(text.unit(names::timer(instance, &entry.name)))
}

/// A command line (systemd.service(5), "Command lines").
pub(super) fn command(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word, true)).collect();
    words.join(" ")
}

/// A word, in quotes where it needs them (systemd.syntax(7), "Quoting"). In a command line `$` begins a variable.
fn quoted(word: &str, in_command: bool) -> String {
    let mut text = escaped(word).replace('\\', "\\\\").replace('"', "\\\"");
    if in_command {
        text = text.replace('$', "$$");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/.,_-=:@%$+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("\"{text}\""),
    }
}

/// `%` begins a specifier (systemd.unit(5)); what is no text would end the line.
fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('%', "%%")
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
