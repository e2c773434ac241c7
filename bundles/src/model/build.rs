//! `[build]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Builder;
use crate::app::{Build, BuildNetwork, Repository, Submodules, Tool, Verify};
use crate::keys::values;
use crate::layers::Value;
use crate::network::parse_entry;

impl<'a> Builder<'a> {
    pub(super) fn build(&mut self) -> Build {
        let text = |value: Option<&Value>| value.map(|value| value.text.to_string());
        let origin = |value: Option<&Value>| value.map(|value| value.origin.clone());
        let repo = self.value("build", "repo");
        let tag = self.value("build", "tag");
        let command = self.value("build", "command");
        let variables = self.usable_below("build", "env.");
        let env = variables.map(|(name, value)| (name.to_owned(), value.text.to_string()));
        let env = env.collect();
        let word = |key: &str| self.value("build", key).map(|value| value.text.as_str());
        let submodules = match word("submodules") {
            Some("any") => Submodules::Any,
            Some("none") => Submodules::None,
            _ => Submodules::SameHost,
        };
        let network = match word("network") {
            Some("none") => BuildNetwork::None,
            Some("host") => BuildNetwork::Host,
            _ => BuildNetwork::Nat,
        };
        let tool = word("tool").map_or(Tool::Auto, Tool::named);
        let path = |key: &str| {
            self.value("build", key)
                .map(|v| PathBuf::from(v.text.as_str()))
        };
        let verify = Verify {
            gpg: path("verify.gpg"),
            ssh: path("verify.ssh"),
        };
        let password_file = path("password.file");
        let fetch = text(self.value("build", "fetch"));
        let user = text(self.value("build", "user"));
        let accept = self.typed("build", "accept", |text| parse_entry("accept", text));
        let more = self.more_repositories();
        Build {
            repo: text(repo),
            tag: text(tag),
            command: text(command),
            more,
            fetch,
            user,
            password_file,
            submodules,
            verify,
            tool,
            network,
            accept: accept.unwrap_or_default(),
            memory: self
                .limit("build", "limits.memory", values::size)
                .or_else(|| self.default_memory()),
            env,
            output: self
                .typed("build", "output", values::relative_path)
                .unwrap_or_else(|| PathBuf::from(".")),
            timeout: self.typed("build", "timeout", values::duration),
            keep: self
                .typed("build", "keep", values::count)
                .and_then(|count| usize::try_from(count).ok()),
            watch: self
                .typed("build", "watch", values::duration)
                .unwrap_or(Duration::from_secs(7)),
            command_origin: origin(command),
            repo_origin: origin(repo),
            tag_origin: origin(tag),
        }
    }

    /// `unlimited` is none; nothing said is the built-in limit, which the table has too.
    fn default_memory(&self) -> Option<u64> {
        match self.value("build", "limits.memory") {
            Some(_) => None,
            None => Some(4 << 30),
        }
    }

    /// `repo.NAME` and `tag.NAME`: checked out into the folder `NAME`.
    fn more_repositories(&mut self) -> BTreeMap<String, Repository> {
        let mut more = BTreeMap::new();
        let repositories: Vec<_> = self.usable_below("build", "repo.").collect();
        for (name, value) in repositories {
            let key = format!("repo.{name}");
            if values::name(name).is_err() || name.starts_with('.') {
                let message = format!("`{key}` in [build]: {name} cannot be the name of a folder");
                self.error(&value.origin, message, Some("letters, digits, `-` and `_`"));
                continue;
            }
            let tag = self.value("build", &format!("tag.{name}"));
            let Some(tag) = tag else {
                let message = format!("nothing says which tag of `{key}` is wanted");
                self.error(
                    &value.origin,
                    message,
                    Some(&format!("add `tag.{name} = TAG` to [build]")),
                );
                continue;
            };
            let repository = Repository {
                repo: value.text.to_string(),
                tag: tag.text.to_string(),
            };
            more.insert(name.to_owned(), repository);
        }
        let tags: Vec<_> = self.usable_below("build", "tag.").collect();
        for (name, value) in tags {
            if !more.contains_key(name) && self.value("build", &format!("repo.{name}")).is_none() {
                let message = format!("`tag.{name}` in [build] is the tag of nothing");
                let hint = format!("add `repo.{name} = URL`, or take the line away");
                self.error(&value.origin, message, Some(&hint));
            }
        }
        more
    }
}
