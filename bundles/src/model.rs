//! From merged text to the typed model: every word understood, every contradiction told.
//!
//! | room | makes |
//! | --- | --- |
//! | `build` | `[build]` |
//! | `daemons` | `[daemon.*]`: platform, port, order, limits |
//! | `memory` | what JVMs may take of the memory limits, and the heaps that nobody set |
//! | `sandbox` | `[sandbox.*]` and `[firewall.*]` |
//! | `cron` | `[crontab]` |
//! | `dns` | `[dns]` |
//! | `health` | `[health.*]` |
//! | `secrets` | `[secrets]` |
//! | `smf` | `[smf.*]` |
//! | `warnings` | what works but is probably not meant |

mod build;
mod cron;
mod daemons;
mod dns;
mod health;
pub(crate) mod inbound;
mod memory;
mod sandbox;
mod secrets;
mod smf;
mod warnings;

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::app::{App, EnvValue, Notify, UnitSettings};
use crate::diagnostics::{Collector, Diagnostic, Report};
use crate::keys::values;
use crate::layers::{Config, Origin, Section, Source, Value};
use crate::maps::Named;
use crate::text::Str;

pub use warnings::warnings;

/// Merges the layers and makes the model of them, so that everything that is wrong in either step is
/// told in one go. Warnings of both are in [`Config::warnings`].
///
/// # Errors
/// Everything that is wrong.
pub fn load(sources: Vec<Source>, instance: &str) -> Result<(Config, App), Report> {
    load_layers(sources, instance, false)
}

/// As [`load`], for layers that are not all there yet: what only a further one can say is not
/// missed. A name that nobody defines is one of [`Config::needed`], and what takes such a name is
/// left out of the model.
///
/// # Errors
/// Everything else that is wrong.
pub fn check(sources: Vec<Source>, instance: &str) -> Result<(Config, App), Report> {
    load_layers(sources, instance, true)
}

fn load_layers(
    sources: Vec<Source>,
    instance: &str,
    partial: bool,
) -> Result<(Config, App), Report> {
    let (config, out) = Config::assemble(sources, partial);
    let mut builder = Builder::new(&config, out, partial);
    let app = builder.app(instance);
    let mut out = builder.out;
    for warning in warnings(&config, &app) {
        out.warning(|| warning);
    }
    Ok((config.with_warnings(out)?, app))
}

/// The model of the application `instance`.
///
/// # Errors
/// Everything that contradicts itself or is missing, in one report.
pub fn build(config: &Config, instance: &str) -> Result<App, Report> {
    let mut builder = Builder::new(config, Collector::default(), false);
    let app = builder.app(instance);
    builder.out.finish()?;
    Ok(app)
}

/// Builds the model and collects what is wrong. A value about which something was told already
/// counts as not there.
struct Builder<'a> {
    config: &'a Config,
    out: Collector,
    /// Further layers are still to come.
    partial: bool,
    /// The section that was asked for last: mostly it is asked for again.
    latest: Cell<Option<&'a Section>>,
}

impl<'a> Builder<'a> {
    fn new(config: &'a Config, out: Collector, partial: bool) -> Builder<'a> {
        Builder {
            config,
            out,
            partial,
            latest: Cell::new(None),
        }
    }

    fn app(&mut self, instance: &str) -> App {
        let name = self
            .value("app", "name")
            .map_or(instance, |value| value.text.as_str());
        let env = self.env();
        let mut daemons = self.daemons(&env);
        self.health(&mut daemons);
        let sandbox = self.sandbox(&daemons);
        self.check_limits(&daemons, &sandbox.limits);
        self.divide_memory(&mut daemons, &sandbox.limits);
        App {
            name: name.to_owned(),
            notify: self.notify(),
            dns: self.dns(instance),
            env,
            secrets: self.secrets(),
            build: self.build(),
            daemons,
            cron: self.cron(),
            cron_settings: self.cron_settings(),
            sandbox,
            systemd: self.systemd(),
            smf: self.smf(),
            plain: self
                .value("upstart", "sandbox")
                .is_some_and(|value| value.text == *"no"),
        }
    }

    fn systemd(&self) -> UnitSettings {
        let mut found = UnitSettings::new();
        for (name, section) in [("unit", "systemd.unit"), ("service", "systemd.service")] {
            let settings = self.usable(section);
            let settings: BTreeMap<String, String> = settings
                .map(|(key, value)| (key.to_owned(), value.text.to_string()))
                .collect();
            if !settings.is_empty() {
                found.insert(name.to_owned(), settings);
            }
        }
        found
    }

    fn env(&self) -> BTreeMap<Str, EnvValue> {
        let value = |value: &Value| EnvValue {
            value: value.text.clone(),
            origin: value.origin.clone(),
            sensitive: value.sensitive,
        };
        let Some(section) = self.part("env") else {
            return BTreeMap::new();
        };
        let mut variables = Vec::with_capacity(section.len());
        let found = section.usable_entries();
        variables.extend(found.map(|(name, found)| (name.clone(), value(found))));
        variables.into_iter().collect()
    }

    fn notify(&mut self) -> Notify {
        let mut command = Vec::new();
        if let Some(value) = self.value("app", "notify.command") {
            let words = self.config.words("app", "notify.command");
            command = words.unwrap_or_default();
            // Where it is looked up must not depend on who starts a supervisor.
            if !command.first().is_some_and(|name| name.starts_with('/')) {
                let message =
                    "`notify.command` in [app] must begin with a path from the root".to_owned();
                let hint = "write it whole, like /usr/local/bin/tell";
                self.error(&value.origin, message, Some(hint));
            }
        }
        Notify {
            command,
            mail: self
                .typed("app", "notify.mail", values::mail_addresses)
                .unwrap_or_default(),
        }
    }

    fn part(&self, section: &str) -> Option<&'a Section> {
        let latest = self.latest.get().filter(|one| *one.name() == *section);
        let found = latest.or_else(|| self.config.part(section));
        self.latest.set(found);
        found
    }

    /// A value that nothing was told about.
    fn value(&self, section: &str, key: &str) -> Option<&'a Value> {
        self.part(section)?.usable(key)
    }

    /// A value, whatever was told about it.
    fn said(&self, section: &str, key: &str) -> Option<&'a Value> {
        self.part(section)?.get(key)
    }

    /// The usable values of a section.
    fn usable(&self, section: &str) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        let section = self.part(section);
        section.into_iter().flat_map(Section::usable_values)
    }

    /// The usable values of a section whose keys begin with `prefix`, by what stands behind it.
    fn usable_below<'p>(
        &self,
        section: &str,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a, 'p> {
        let section = self.part(section).into_iter();
        let found = section.flat_map(move |section| section.usable_below(prefix));
        found.map(|(key, value)| (&key[prefix.len()..], value))
    }

    /// A value as `parse` understands it.
    fn typed<T, E: ToString>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl Fn(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.value(section, key)?;
        self.typed_value(section, key, value, parse)
    }

    /// As [`Builder::typed`], of the value that it has.
    fn typed_value<T, E: ToString>(
        &mut self,
        section: &str,
        key: &str,
        value: &'a Value,
        parse: impl Fn(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&value.text) {
            Ok(typed) => Some(typed),
            Err(problem) => {
                let message = format!("`{key}` in [{section}] {}", problem.to_string());
                self.error(&value.origin, message, None);
                None
            }
        }
    }

    /// As [`Builder::typed`], `None` for `unlimited`.
    fn limit<T, E: ToString>(
        &mut self,
        section: &str,
        key: &str,
        parse: impl Fn(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.value(section, key)?;
        match value.text == *"unlimited" {
            true => None,
            false => self.typed_value(section, key, value, parse),
        }
    }

    fn error(&mut self, origin: &Origin, message: String, hint: Option<&str>) {
        let config = self.config;
        self.out.error(|| {
            let diagnostic = Diagnostic::error(message).at(place(config, origin));
            hint.into_iter().fold(diagnostic, Diagnostic::hint)
        });
    }
}

/// The value that begins at `origin`, to the end of its line.
fn place(config: &Config, origin: &Origin) -> Option<crate::diagnostics::Place> {
    config.place_of(origin, usize::MAX)
}

#[cfg(test)]
mod tests;
