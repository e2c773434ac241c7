//! `[daemon.*]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Builder, place};
use crate::app::{Daemon, EnvValue, Limits, Restart, ServiceTies, Stop};
use crate::diagnostics::Diagnostic;
use crate::keys::{suggest, values};
use crate::layers::{Origin, Section, Value};
use crate::maps::HashSet;
use crate::platforms::{self, DaemonSection, PlatformError};
use crate::text::Str;

/// Names in a bundle that a daemon's directory cannot have.
const RESERVED: [&str; 2] = ["cron", "rootfs"];

impl<'a> Builder<'a> {
    pub(super) fn daemons(&mut self, env: &BTreeMap<Str, EnvValue>) -> BTreeMap<String, Daemon> {
        let config = self.config;
        let sections = config
            .sections()
            .filter(|section| section.starts_with("daemon."));
        let mut daemons = BTreeMap::new();
        for section in sections {
            let name = section.strip_prefix("daemon.").unwrap_or(section);
            if let Some(daemon) = self.daemon(section, name, env) {
                daemons.insert(name.to_owned(), daemon);
            }
        }
        self.check_order(&daemons);
        self.check_ports(&daemons);
        daemons
    }

    fn daemon(
        &mut self,
        section: &'a str,
        name: &str,
        env: &BTreeMap<Str, EnvValue>,
    ) -> Option<Daemon> {
        let origin = self.first_origin(section)?;
        if RESERVED.contains(&name) {
            let message = format!("a daemon cannot be called `{name}`");
            self.error(
                &origin,
                message,
                Some("the bundle has a file of this name; choose another"),
            );
        }
        let platform = self.value(section, "platform")?;
        let port = self.typed(section, "port", values::port);
        let limits = self.limits(
            section,
            ["limits.memory", "limits.pids", "limits.cpu", "limits.files"],
        );
        let stop = Stop {
            signal: self.typed(section, "stop.signal", values::signal)?,
            timeout: self
                .typed(section, "stop.timeout", values::duration)
                .unwrap_or(Duration::from_secs(30)),
        };
        let restart = match self
            .value(section, "restart")
            .map(|value| value.text.as_str())
        {
            Some("never") => Restart::Never,
            Some("on-failure") => Restart::OnFailure,
            _ => Restart::Always,
        };
        let service = self.ties(section);
        let requires = self.names(section, "requires");
        let mut after = self.names(section, "after");
        // Who is needed is there first.
        let needed = requires.iter().filter(|name| !after.contains(name));
        let needed: Vec<String> = needed.cloned().collect();
        after.extend(needed);
        let restart_limit = self
            .typed(section, "restart.limit", values::count)
            .and_then(|count| u32::try_from(count).ok());
        // A key about which something was told already would only be told again by the platform.
        let part = self.part(section).filter(|part| part.is_usable())?;
        let get = |key: &str| part.get(key);
        let words = |key: &str| part.words(key).map(<[String]>::to_vec);
        let below = |prefix: &str| -> Vec<(&str, &Value)> { part.below(prefix).collect() };
        let view = DaemonSection {
            name,
            get: &get,
            words: &words,
            below: &below,
            port,
            limits: &limits,
            env,
        };
        match platforms::launch(&platform.text, &view) {
            Ok(launch) => {
                let name = name.to_owned();
                Some(Daemon {
                    name,
                    launch,
                    port,
                    limits,
                    stop,
                    restart,
                    restart_limit,
                    after,
                    checks: Vec::new(),
                    requires,
                    service,
                    origin,
                })
            }
            Err(error) => {
                self.platform_error(section, error, &origin);
                None
            }
        }
    }

    fn names(&self, section: &str, key: &str) -> Vec<String> {
        let value = self.value(section, key);
        let names = value.map(|value| values::list(&value.text));
        names.into_iter().flatten().map(str::to_owned).collect()
    }

    /// What the daemon and the service manager do for each other.
    fn ties(&mut self, section: &'a str) -> ServiceTies {
        let says = self.value(section, "notify");
        let notify = says.is_some_and(|value| value.text == *"yes");
        let watchdog = self.typed(section, "watchdog", values::duration);
        if let (Some(value), false) = (self.value(section, "watchdog"), notify) {
            let message = format!("`watchdog` in [{section}] needs `notify = yes`");
            self.error(
                &value.origin,
                message,
                Some("who never tells that it is alive would be killed again and again"),
            );
        }
        ServiceTies {
            notify,
            watchdog_ms: watchdog.and_then(|time| u64::try_from(time.as_millis()).ok()),
            sockets: self
                .typed(section, "socket", values::sockets)
                .unwrap_or_default(),
        }
    }

    /// Where a section was first written: its first value, or the one that it replaced.
    fn first_origin(&self, section: &str) -> Option<Origin> {
        let values = self.part(section).into_iter().flat_map(Section::iter);
        let mut origins = values.map(|(_, value)| {
            value
                .overrides
                .first()
                .map_or(&value.origin, |(origin, _)| origin)
        });
        origins.find(|origin| origin.file.is_some()).cloned()
    }

    fn platform_error(&mut self, section: &str, error: PlatformError, first: &Origin) {
        let PlatformError {
            key,
            origin,
            message,
            hint,
        } = error;
        // The platform's message may quote the value.
        let secret = self
            .config
            .get(section, &key)
            .is_some_and(|value| value.sensitive);
        let message = if secret {
            format!("`{key}` in [{section}] cannot be used")
        } else {
            message
        };
        self.error(origin.as_ref().unwrap_or(first), message, Some(&hint));
    }

    /// The limits in a section, by its keys for memory, processes, processors and files.
    pub(super) fn limits(&mut self, section: &str, keys: [&str; 4]) -> Limits {
        let [memory, pids, cpu, files] = keys;
        Limits {
            memory: self.limit(section, memory, values::size),
            pids: self.limit(section, pids, values::count),
            cpu_millis: self.limit(section, cpu, values::cpu_millis),
            files: self.limit(section, files, values::count),
        }
    }

    /// `after` and `requires` name daemons that there are, and never lead back.
    fn check_order(&mut self, daemons: &BTreeMap<String, Daemon>) {
        for (name, daemon) in daemons.iter().filter(|(_, one)| !one.after.is_empty()) {
            let section = ["daemon.", name].concat();
            for other in &daemon.after {
                let key = match daemon.requires.contains(other) {
                    true => "requires",
                    false => "after",
                };
                let Some(value) = self.config.get(&section, key) else {
                    continue;
                };
                // One that could not be made was told about.
                if self.config.part(&["daemon.", other].concat()).is_some() {
                    continue;
                }
                let hint = match suggest::nearest(other, daemons.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        let names: Vec<&str> =
                            daemons.keys().map(String::as_str).take(20).collect();
                        format!("daemons are {}", names.join(", "))
                    }
                };
                self.error(
                    &value.origin,
                    format!("there is no daemon `{other}` to start after"),
                    Some(&hint),
                );
            }
        }
        if let Some(cycle) = cycle(daemons) {
            let first = cycle.first().cloned().unwrap_or_default();
            let section = format!("daemon.{first}");
            let value = self.config.get(&section, "after");
            if let Some(value) = value.or_else(|| self.config.get(&section, "requires")) {
                let chain = cycle.join(" after ");
                let hint = "take one of these lines away";
                self.error(
                    &value.origin,
                    format!("daemons wait for each other: {chain}"),
                    Some(hint),
                );
            }
        }
    }

    /// All daemons share one network, so each port is free for one of them.
    fn check_ports(&mut self, daemons: &BTreeMap<String, Daemon>) {
        let mut taken: BTreeMap<u16, &str> = BTreeMap::new();
        for (name, daemon) in daemons {
            let Some(port) = daemon.port else { continue };
            let Some(first) = taken.insert(port, name) else {
                continue;
            };
            let value = |name: &str| self.config.get(&format!("daemon.{name}"), "port");
            let place_of = |name: &str, fallback: &Origin| {
                let origin = value(name)
                    .map(|value| &value.origin)
                    .filter(|origin| origin.file.is_some());
                place(self.config, origin.unwrap_or(fallback))
            };
            let (second, first_place) = (
                place_of(name, &daemon.origin),
                place_of(first, &daemons[first].origin),
            );
            self.out.error(|| {
                Diagnostic::error(format!(
                    "daemons `{first}` and `{name}` both have port {port}"
                ))
                .at(second)
                .related(first_place, format!("`{first}` has it too"))
                .hint(format!(
                    "give one of them another, with `port =` in [daemon.{name}]"
                ))
            });
        }
    }

    /// A limit of a daemon is inside of the instance's.
    pub(super) fn check_limits(&mut self, daemons: &BTreeMap<String, Daemon>, instance: &Limits) {
        for (name, daemon) in daemons {
            let pairs = [
                ("memory", daemon.limits.memory, instance.memory),
                ("pids", daemon.limits.pids, instance.pids),
                ("cpu", daemon.limits.cpu_millis, instance.cpu_millis),
            ];
            for (limit, own, whole) in pairs {
                if own.zip(whole).is_some_and(|(own, whole)| own > whole) {
                    let (section, key) = (format!("daemon.{name}"), format!("limits.{limit}"));
                    let (own, whole) = (
                        self.value(&section, &key),
                        self.value("sandbox.limits", limit),
                    );
                    self.too_much(&section, &key, limit, own, whole);
                }
            }
        }
    }

    fn too_much(
        &mut self,
        section: &str,
        key: &str,
        limit: &str,
        own: Option<&Value>,
        whole: Option<&Value>,
    ) {
        let (Some(own), Some(whole)) = (own, whole) else {
            return;
        };
        let config = self.config;
        self.out.error(|| {
            let (text, most, from) = (&own.text, &whole.text, &whole.origin);
            Diagnostic::error(format!(
                "`{key}` of [{section}] is {text}, more than the limit of {most} ({from})"
            ))
            .at(place(config, &own.origin))
            .related(place(config, from), "the limit")
            .hint(format!(
                "raise `{limit}` in [sandbox.limits], or lower this"
            ))
        });
    }
}

/// A chain of `after` that leads back: `a`, `b`, `a`. Every line is followed once.
fn cycle(daemons: &BTreeMap<String, Daemon>) -> Option<Vec<String>> {
    let mut finished: HashSet<&str> = HashSet::default();
    let mut on_path: HashSet<&str> = HashSet::default();
    // Who waits for nobody is on no way back.
    let waits = |name: &str| daemons.get(name).is_some_and(|one| !one.after.is_empty());
    for start in daemons.keys() {
        if !waits(start) || finished.contains(start.as_str()) {
            continue;
        }
        // The way from `start`, each with how many of its `after` were followed.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        on_path.insert(start);
        while let Some((name, followed)) = path.last_mut() {
            let next = daemons
                .get(*name)
                .and_then(|daemon| daemon.after.get(*followed));
            *followed += 1;
            match next.map(String::as_str) {
                None => {
                    on_path.remove(name);
                    finished.insert(name);
                    path.pop();
                }
                Some(next) if on_path.contains(next) => {
                    let back = path.iter().skip_while(|(name, _)| *name != next);
                    let mut names: Vec<String> = back.map(|(name, _)| (*name).to_owned()).collect();
                    names.push(next.to_owned());
                    return Some(names);
                }
                Some(next) if !waits(next) || finished.contains(next) => {}
                Some(next) => {
                    on_path.insert(next);
                    path.push((next, 0));
                }
            }
        }
    }
    None
}
