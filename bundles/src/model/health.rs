//! `[health.NAME]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Builder;
use crate::app::Daemon;
use crate::health::{self, Check, Question};
use crate::keys::{suggest, values};
use crate::layers::Value;

/// What the table has as defaults.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
const TRIES: u32 = 15;
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl<'a> Builder<'a> {
    /// Gives every daemon the questions that are asked of it.
    pub(super) fn health(&mut self, daemons: &mut BTreeMap<String, Daemon>) {
        let sections: Vec<&'a str> = self
            .config
            .sections()
            .filter(|section| section.starts_with("health."))
            .collect();
        for section in sections {
            let Some(daemon) = self.asked_daemon(section, daemons) else {
                continue;
            };
            let port = daemons.get(&daemon).and_then(|daemon| daemon.port);
            let check = self.check_of(section, port);
            if let (Some(check), Some(daemon)) = (check, daemons.get_mut(&daemon)) {
                daemon.checks.push(check);
            }
        }
    }

    /// Who is asked: `daemon =`, else the one of the same name, else the only one.
    fn asked_daemon(
        &mut self,
        section: &'a str,
        daemons: &BTreeMap<String, Daemon>,
    ) -> Option<String> {
        let name = section.strip_prefix("health.").unwrap_or(section);
        let said = self.value(section, "daemon");
        let known = |name: &str| {
            // One that could not be made was told about.
            daemons.contains_key(name) || self.config.section(&format!("daemon.{name}")).is_some()
        };
        if let Some(value) = said {
            if known(&value.text) {
                return Some(value.text.to_string());
            }
            let near = suggest::nearest(&value.text, daemons.keys().map(String::as_str));
            let hint = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("there is no daemon `{}` to ask", value.text);
            self.error(&value.origin, message, hint.as_deref());
            return None;
        }
        if known(name) {
            return Some(name.to_owned());
        }
        let mut names = daemons.keys();
        match (names.next(), names.next()) {
            (Some(only), None) => Some(only.clone()),
            // Those who say what there is are still to come.
            (None, _) if self.partial => None,
            _ => {
                let origin = self.first_value(section)?.origin.clone();
                let message = format!("nothing says which daemon [{section}] asks");
                self.error(&origin, message, Some("say it: `daemon = NAME`"));
                None
            }
        }
    }

    fn check_of(&mut self, section: &'a str, port: Option<u16>) -> Option<Check> {
        let question = self.question(section, port)?;
        let duration = |text: &'a str| match values::duration(text) {
            Ok(long) if long > LONGEST => Err("must be a day at most".to_owned()),
            other => other,
        };
        Some(Check {
            name: section
                .strip_prefix("health.")
                .unwrap_or(section)
                .to_owned(),
            question,
            interval: self
                .typed(section, "interval", duration)
                .unwrap_or(INTERVAL),
            timeout: self.typed(section, "timeout", duration).unwrap_or(TIMEOUT),
            grace: self
                .typed(section, "grace", duration)
                .unwrap_or(Duration::ZERO),
            tries: self
                .typed(section, "tries", values::count)
                .map_or(TRIES, |tries| u32::try_from(tries).unwrap_or(u32::MAX)),
        })
    }

    fn question(&mut self, section: &'a str, port: Option<u16>) -> Option<Question> {
        let said = |key: &str| self.value(section, key);
        let (command, path) = (said("command"), said("path"));
        let kind = match said("kind").map(|value| value.text.as_str()) {
            Some(kind) => kind,
            None if command.is_some() => "command",
            None if path.is_some() || said("status").is_some() => "http",
            None => "tcp",
        };
        self.refuse_useless(section, kind);
        match kind {
            "command" => match command {
                Some(command) => Some(Question::Command {
                    command: command.text.to_string(),
                }),
                None => self.lacks(section, "command", "`command = bin/healthy`"),
            },
            "notify" => Some(Question::Notify),
            _ => {
                let own = self.typed(section, "port", values::port);
                let Some(port) = own.or(port) else {
                    return self.lacks(section, "port", "`port =` here or in the daemon's section");
                };
                if kind == "tcp" {
                    return Some(Question::Tcp { port });
                }
                Some(Question::Http {
                    port,
                    path: path.map_or_else(|| "/".to_owned(), |path| path.text.to_string()),
                    status: self
                        .typed(section, "status", health::statuses)
                        .or_else(|| health::statuses("200-399").ok())?,
                })
            }
        }
    }

    /// Keys that mean nothing to this kind.
    fn refuse_useless(&mut self, section: &'a str, kind: &str) {
        let useless: &[&str] = match kind {
            "http" => &["command"],
            "tcp" => &["command", "path", "status"],
            "command" => &["path", "status", "port"],
            _ => &["command", "path", "status", "port"],
        };
        for key in useless {
            // Defaults were written by nobody.
            let written = self
                .value(section, key)
                .filter(|value| value.origin.file.is_some());
            if let Some(value) = written {
                let message = format!("`{key}` means nothing to `kind = {kind}` in [{section}]");
                self.error(
                    &value.origin,
                    message,
                    Some("take one of the two lines away"),
                );
            }
        }
    }

    fn lacks<T>(&mut self, section: &'a str, key: &str, hint: &str) -> Option<T> {
        let origin = self.first_value(section)?.origin.clone();
        self.error(
            &origin,
            format!("[{section}] needs a `{key}`"),
            Some(&format!("add {hint}")),
        );
        None
    }

    /// The first line of a section that somebody wrote.
    fn first_value(&self, section: &str) -> Option<&'a Value> {
        let mut values = self.config.section(section)?;
        values
            .find(|(_, value)| value.origin.file.is_some())
            .map(|(_, value)| value)
    }
}
