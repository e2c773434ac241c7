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

mod entries;
mod restarts;

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};
use metactl_bundles::network::Mode;
use metactl_bundles::paths::Paths;

use super::names;

/// The first line.
const HEAD: &str = "# Written by metactl, which replaces it as a whole. Your own settings belong into drop-ins: systemctl edit.";
/// The section of what is metactl's own.
pub(super) const SECTION: &str = "[X-Metactl]";
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
    /// The version of systemd, as far as it is known.
    pub(super) version: Option<u32>,
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
        units.push(entries::service(input, entry, limits));
        units.extend(entries::timer(input, entry));
        units.extend(entries::socket(input, entry));
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

    /// Somebody may start and stop it as often as they like: systemd refuses the sixth time within 10 s otherwise.
    pub(super) fn unlimited(&mut self) {
        self.set("StartLimitIntervalSec", "0");
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
    text.unlimited();
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
