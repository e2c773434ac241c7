//! The manifest of an instance (service_bundle(5)), as text: from the manifest of a bundle and the config.json of its
//! entry points, and nothing else. Pure.
//!
//! ```text
//! svc:/site/metactl/<instance>          what all have in common: what they come after, what they are of
//!   :default                            the instance as a whole; transient, runs nothing
//!   :<daemon>                           a daemon: its process is the application
//!   :<cron job>                         a cron job; transient, started when its time has come
//! ```
//!
//! Nothing in it is enabled: whether something runs now and at boot is said with `svcadm` and `svccfg`, and stays what it
//! was when a manifest is imported again. There is no `single_instance`: the instances are the entry points.

use std::path::Path;
use std::time::Duration;

use metactl_bundles::bundle::{EntryKind, EntryRef, Manifest};
use metactl_bundles::schedule::Schedule;
use metactl_bundles::smf;

use super::method;
use super::names;
use super::passthrough;
use super::process::Process;
use super::xml::{self, Element, element};
use crate::error::{LifecycleError, Result};

/// Where every Solaris has the grammar of manifests.
const DTD: &str = "/usr/share/lib/xml/dtd/service_bundle.dtd.1";
/// The longest value of a property (`scf_limit(SCF_LIMIT_MAX_VALUE_LENGTH)`).
const MAX_VALUE: usize = 4095;
/// The longest common name (service_bundle(5), `template`).
const MAX_COMMON_NAME: usize = 59;
/// How long a start method may take that has to end. (That of a daemon has no end.)
const START: Duration = Duration::from_secs(60);
/// For svc.startd, no limit.
const FOREVER: Duration = Duration::ZERO;
/// A daemon that has been started so often, each time less than [`QUICK`] after the last, is given up: svc.startd
/// starts again at once, and would do nothing else.
const QUICK_STARTS: u32 = 5;
const QUICK: Duration = Duration::from_secs(10);

/// What the instance comes after, at boot: the name of the group, the services, and whether it cannot do without.
const BOOT: [(&str, &str, bool); 4] = [
    ("filesystem", "svc:/system/filesystem/local:default", true),
    ("network", "svc:/milestone/network:default", true),
    (
        "name-services",
        "svc:/milestone/name-services:default",
        false,
    ),
    ("multi-user", "svc:/milestone/multi-user:default", true),
];

/// Everything that a manifest is made from.
#[derive(Debug)]
pub(super) struct Input<'a> {
    pub(super) manifest: &'a Manifest,
    /// The digest of the bundle.
    pub(super) digest: &'a str,
    /// The processes of the entry points of the manifest, in its order.
    pub(super) processes: &'a [Process],
}

/// The text of the manifest.
///
/// # Errors
/// What SMF or XML cannot hold: a value that is too long, a control character.
pub(super) fn manifest(input: &Input<'_>) -> Result<String> {
    let bundle = element("service_bundle")
        .with("type", "manifest")
        .with("name", format!("metactl-{}", input.manifest.instance))
        .containing(service(input));
    check(&bundle, &input.manifest.instance)?;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE service_bundle SYSTEM \"{DTD}\">\n<!-- Written by metactl, which replaces it as a whole. What you change with svccfg stays. -->\n"
    );
    bundle.write(&mut text, 0);
    Ok(text)
}

fn service(input: &Input<'_>) -> Element {
    let of = input.manifest;
    let mut service = element("service")
        .with("name", names::service_name(&of.instance))
        .with("type", "service")
        .with("version", "1")
        .containing(element("create_default_instance").with("enabled", "false"));
    for (name, needed, must) in BOOT {
        let grouping = if must { "require_all" } else { "optional_all" };
        service.push(dependency(name, grouping, "none", "service", needed));
    }
    for (name, further) in &of.smf.dependencies {
        service.push(passthrough::dependency(name, further));
    }
    service.push(exec("start", method::NOTHING, START));
    service.push(exec("stop", method::NOTHING, START));
    service.push(exec("refresh", method::NOTHING, START));
    service.push(group(
        "startd",
        "framework",
        &[("duration", "astring", "transient")],
    ));
    let facts = [
        ("instance", "astring", of.instance.as_str()),
        ("app", "astring", of.app.as_str()),
        ("release", "astring", of.release.as_str()),
        ("bundle", "astring", input.digest),
        ("version", "astring", of.version.as_str()),
    ];
    service.push(group("metactl", "application", &facts));
    for (name, properties) in &of.smf.properties {
        if name != passthrough::STARTD {
            service.push(passthrough::group(name, properties));
        }
    }
    for (entry, process) in of.entries.iter().zip(input.processes) {
        service.push(instance(of, entry, process));
    }
    service.push(element("stability").with("value", "Unstable"));
    let description = format!("application {}, release {}", of.app, of.release);
    service.push(template(&of.instance, &description));
    service
}

fn instance(of: &Manifest, entry: &EntryRef, process: &Process) -> Element {
    let mut instance = element("instance")
        .with("name", names::entry(&entry.name))
        .with("enabled", "false");
    // Without the release at its place the command would be another one than was meant.
    let place = format!("file://localhost{}", process.cwd);
    instance.push(dependency("release", "require_all", "none", "path", &place));
    for other in &entry.requires {
        let needed = names::fmri(&of.instance, other);
        let name = names::group("requires", other);
        instance.push(dependency(
            &name,
            "require_all",
            "restart",
            "service",
            &needed,
        ));
    }
    for other in entry
        .after
        .iter()
        .filter(|other| !entry.requires.contains(other))
    {
        let before = names::fmri(&of.instance, other);
        let name = names::group("after", other);
        instance.push(dependency(
            &name,
            "optional_all",
            "none",
            "service",
            &before,
        ));
    }
    instance.push(context(process, &of.smf));
    let mut facts = vec![
        ("name", "astring", entry.name.as_str()),
        ("title", "astring", entry.title.as_str()),
    ];
    match entry.kind {
        EntryKind::Daemon => {
            let stop = method::stop(entry.stop_signal);
            instance.push(exec("start", &method::start(process, entry.restart), START));
            instance.push(exec("stop", &stop, entry.stop_timeout));
            instance.push(exec("refresh", method::NOTHING, START));
            let (count, period) = (QUICK_STARTS.to_string(), QUICK.as_secs().to_string());
            let startd = [
                ("duration", "astring", "child"),
                // The end of the process counts, not that of one of its children.
                ("ignore_error", "astring", "core,signal"),
                ("critical_failure_count", "integer", &count),
                ("critical_failure_period", "integer", &period),
            ];
            instance.push(passthrough::startd(&startd, &of.smf));
            facts.push(("kind", "astring", "daemon"));
        }
        EntryKind::Cron => {
            instance.push(exec("start", &method::job(process), FOREVER));
            instance.push(exec("stop", method::NOTHING, START));
            instance.push(exec("refresh", method::NOTHING, START));
            instance.push(group(
                "startd",
                "framework",
                &[("duration", "astring", "transient")],
            ));
            facts.push((
                "kind",
                "astring",
                if is_boot_job(entry) { "boot" } else { "cron" },
            ));
        }
    }
    instance.push(group("entrypoint", "application", &facts));
    let description = format!("{} of {}, release {}", entry.title, of.app, of.release);
    instance.push(template(
        &format!("{} {}", of.instance, entry.title),
        &description,
    ));
    instance
}

/// Whether a cron job is one of `@reboot`, which svc.startd runs itself.
pub(super) fn is_boot_job(entry: &EntryRef) -> bool {
    let schedule = entry.schedule.as_deref();
    schedule.is_some_and(|text| Schedule::parse(text) == Ok(Schedule::Boot))
}

fn dependency(name: &str, grouping: &str, restart_on: &str, what: &str, fmri: &str) -> Element {
    element("dependency")
        .with("name", name)
        .with("grouping", grouping)
        .with("restart_on", restart_on)
        .with("type", what)
        .containing(element("service_fmri").with("value", fmri))
}

/// Who the methods run as, and what they find (smf_method(7)).
fn context(process: &Process, settings: &smf::Settings) -> Element {
    let groups: Vec<String> = process.groups.iter().map(u64::to_string).collect();
    // Left out, they would be those that the system knows of the user.
    let groups = match groups.is_empty() {
        true => process.gid.to_string(),
        false => groups.join(","),
    };
    let credential = element("method_credential")
        .with("user", process.uid.to_string())
        .with("group", process.gid.to_string())
        .with("supp_groups", groups)
        .with("privileges", process.privileges.as_str())
        .with("limit_privileges", process.limit_privileges.as_str());
    let mut context = element("method_context").with("working_directory", process.cwd.as_str());
    for (name, value) in [
        ("project", &settings.project),
        ("resource_pool", &settings.resource_pool),
    ] {
        if let Some(value) = value {
            context = context.with(name, value.as_str());
        }
    }
    let mut context = context.containing(credential);
    let mut environment = element("method_environment");
    for (name, value) in &process.env {
        let variable = element("envvar").with("name", name.as_str());
        environment.push(variable.with("value", value.as_str()));
    }
    if !process.env.is_empty() {
        context.push(environment);
    }
    context
}

fn exec(name: &str, command: &str, limit: Duration) -> Element {
    // A part of a second is a whole one: 0 would be for ever.
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    element("exec_method")
        .with("type", "method")
        .with("name", name)
        .with("exec", command)
        .with("timeout_seconds", seconds.to_string())
}

fn group(name: &str, kind: &str, properties: &[(&str, &str, &str)]) -> Element {
    let mut group = element("property_group")
        .with("name", name)
        .with("type", kind);
    for (name, kind, value) in properties {
        let property = element("propval").with("name", *name).with("type", *kind);
        group.push(property.with("value", *value));
    }
    group
}

fn template(name: &str, description: &str) -> Element {
    let text = |text: &str| element("loctext").with("xml:lang", "C").text(text);
    let short: String = name.chars().take(MAX_COMMON_NAME).collect();
    element("template")
        .containing(element("common_name").containing(text(&short)))
        .containing(element("description").containing(text(description)))
}

/// Refuses what cannot be held, before anything changes.
fn check(bundle: &Element, instance: &str) -> Result<()> {
    let mut wrong = None;
    let mut variable = String::new();
    bundle.values(&mut |element, attribute, value| {
        if (element, attribute) == ("envvar", "name") {
            value.clone_into(&mut variable);
        }
        let is_variable = (element, attribute) == ("envvar", "value");
        let what = match (element, attribute) {
            ("envvar", _) => format!("{variable} in the environment"),
            ("exec_method", "exec") => "a command line".to_owned(),
            ("method_context", "working_directory") => "a working directory".to_owned(),
            _ => format!("`{attribute}` of {element}"),
        };
        let length = value.len() + if is_variable { variable.len() + 1 } else { 0 };
        let why = match value.chars().find(|c| !xml::is_character(*c)) {
            Some(c) => format!("has the character {c:?}, which a manifest of SMF cannot have"),
            None if length > MAX_VALUE => {
                format!("has {length} bytes, and SMF has room for {MAX_VALUE}")
            }
            None => return,
        };
        wrong.get_or_insert(format!("{what} of {instance} {why}"));
    });
    match wrong {
        None => Ok(()),
        Some(what) => Err(LifecycleError::Setting {
            what,
            hint: "put it into a file of the release, and name that".to_owned(),
        }),
    }
}

/// The process of each entry point of a bundle.
///
/// # Errors
/// As [`super::process::read`].
pub(super) fn processes(manifest: &Manifest, bundle: &Path) -> Result<Vec<Process>> {
    let entries = manifest.entries.iter();
    entries
        .map(|entry| super::process::read(manifest, &entry.name, &bundle.join(&entry.dir)))
        .collect()
}

#[cfg(test)]
#[path = "render_tests.rs"]
pub(super) mod tests;
