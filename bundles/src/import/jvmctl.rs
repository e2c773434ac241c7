//! A `.conf` of jvmctl: `KEY=value` lines, of which those that are no option of its are variables of
//! the application's environment, and sections that it hands on to systemd.

use std::collections::BTreeMap;

use super::shell::{Content, Statement, parse, quoted};
use super::{Imported, literal, systemd};
use crate::keys::values::split_words;

/// The daemon that the application becomes.
const DAEMON: &str = "daemon.webapp";

/// The account that jvmctl takes when none is named.
const DEFAULT_USER: &str = "webapp";

/// Options of jvmctl that have a place of their own, or none.
const OPTIONS: [&str; 24] = [
    "APP_OPTS",
    "CONTAINER",
    "EXEC_PREFIX",
    "EXTRA_FIREWALL_PORTS",
    "GC_LOG_OPTS",
    "GIT_BRANCH",
    "HEAP_DUMP_PATH",
    "HEAP_SIZE",
    "JAVA_HOME",
    "JAVA_OPTS",
    "JETTY_USER",
    "JETTY_VERSION",
    "LOG_DIR",
    "NODE",
    "OOM_EMAIL",
    "PORT",
    "REPO",
    "ROOT_URL_PREFIX",
    "SOCKET",
    "SOCKET_GROUP",
    "SOCKET_MODE",
    "SOCKET_USER",
    "USER",
    "WEBAPPS_PATH",
];

/// The layers of the application `node`.
pub fn import(node: &str, text: &str) -> Imported {
    let mut out = Imported::default();
    let mut options: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut variables = Vec::new();
    for Statement {
        line,
        section,
        content,
    } in parse(text)
    {
        match (section.as_deref(), content) {
            (_, Content::Other(what, why)) => out.leave(line, &what, why),
            (None | Some("jvm"), Content::Value(key, value)) => {
                if OPTIONS.contains(&key.as_str()) {
                    // The last one counts, as there.
                    options.insert(key, (line, value));
                } else {
                    variables.push((line, key, value));
                }
            }
            (Some("systemd.service.Service"), Content::Value(key, value)) => {
                systemd::service(&mut out, DAEMON, (line, &key, &value));
            }
            (Some(section), Content::Value(key, value)) => {
                let why = format!("[{section}] has nothing that corresponds");
                out.leave(line, &format!("{key}={value}"), why);
            }
        }
    }
    let names: Vec<String> = variables.iter().map(|(_, key, _)| key.clone()).collect();
    let mut reader = Reader {
        node,
        out,
        options,
        names,
    };
    for (line, key, value) in variables {
        reader.variable(line, &key, &value);
    }
    reader.options();
    reader.out.left.sort_by_key(|left| left.line);
    reader.out
}

struct Reader<'a> {
    node: &'a str,
    out: Imported,
    options: BTreeMap<String, (usize, String)>,
    /// The names of the variables of the environment.
    names: Vec<String>,
}

impl Reader<'_> {
    /// `$NAME` and `${NAME}` as metactl has it: a variable is a reference, an option its value.
    fn replaced(&self, value: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('$') {
            out.push_str(&literal(&rest[..at]));
            let behind = &rest[at + 1..];
            let (name, after) = match behind.strip_prefix('{') {
                Some(braced) => braced.split_once('}').ok_or("`${` is not closed")?,
                None => {
                    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    behind.split_at(behind.find(|c| !is_name(c)).unwrap_or(behind.len()))
                }
            };
            if self.names.iter().any(|known| known == name) {
                out.push_str(&format!("%({name})"));
            } else if name == "NODE" {
                out.push_str(self.node);
            } else if let Some((_, value)) =
                self.options.get(name).filter(|(_, v)| !v.contains('$'))
            {
                out.push_str(&literal(value));
            } else {
                return Err(format!("`${name}` is not in this file"));
            }
            rest = after;
        }
        out.push_str(&literal(rest));
        Ok(out)
    }

    fn variable(&mut self, line: usize, key: &str, value: &str) {
        let result = self
            .replaced(value)
            .and_then(|value| self.out.local.set("env", key, &value));
        self.out.take(line, &format!("{key}={value}"), result);
    }

    /// Takes an option away, with its value replaced, and does something with it.
    fn option(&mut self, key: &str, act: impl FnOnce(&mut Self, &str) -> Result<(), String>) {
        let Some((line, value)) = self.options.get(key).cloned() else {
            return;
        };
        if value.is_empty() {
            return;
        }
        let result = self.replaced(&value).and_then(|value| act(self, &value));
        self.out.take(line, &format!("{key}={value}"), result);
    }

    fn options(&mut self) {
        let is_jetty = self.platform();
        self.option("PORT", |this, value| {
            this.out.local.set(DAEMON, "port", value)
        });
        self.option("HEAP_SIZE", |this, value| {
            this.out.app.set(DAEMON, "jvm.heap.max", value)
        });
        self.option("JAVA_HOME", |this, value| {
            this.out.local.set(DAEMON, "jvm.home", value)
        });
        for key in ["GC_LOG_OPTS", "JAVA_OPTS"] {
            self.option(key, |this, value| {
                this.out.app.append(DAEMON, "jvm.options", value)
            });
        }
        self.option("ROOT_URL_PREFIX", |this, value| match (value, is_jetty) {
            ("/", _) => Ok(()),
            (_, true) => this.out.app.set(DAEMON, "jetty.context", value),
            (_, false) => Err("it is for a servlet container".to_owned()),
        });
        self.user();
        self.repository();
        for (key, why) in [
            (
                "EXEC_PREFIX",
                "the command line is the platform's: put a wrapper into the repository and use `platform = exec`",
            ),
            (
                "EXTRA_FIREWALL_PORTS",
                "connections to the instance's own address are accepted unless [firewall.in] says otherwise",
            ),
            (
                "HEAP_DUMP_PATH",
                "/var of the server is not in the sandbox: -XX:HeapDumpPath=/data in jvm.options",
            ),
            (
                "LOG_DIR",
                "its output is in `metactl APP logs`; what it writes itself belongs into /data",
            ),
            ("OOM_EMAIL", "nobody is written to"),
            ("SOCKET", "sockets are not handed over"),
            ("SOCKET_USER", "sockets are not handed over"),
            ("SOCKET_GROUP", "sockets are not handed over"),
            ("SOCKET_MODE", "sockets are not handed over"),
            (
                "WEBAPPS_PATH",
                "the web application is the .war of the release, or jetty.war of it",
            ),
        ] {
            self.option(key, |_, _| Err(why.to_owned()));
        }
        self.option("NODE", |this, value| match value == this.node {
            true => Ok(()),
            false => Err("the instance is called like the file".to_owned()),
        });
    }

    /// Whether it runs in Jetty; `none` is a program of its own.
    fn platform(&mut self) -> bool {
        let container = self
            .options
            .get("CONTAINER")
            .map_or("jetty", |(_, value)| value.as_str());
        let container = container.to_owned();
        match container.as_str() {
            "none" => {
                self.options.remove("JETTY_VERSION");
                let result = self.out.app.set(DAEMON, "platform", "jvm");
                self.out.take(1, "CONTAINER=none", result);
                self.option("APP_OPTS", |this, value| this.program(value));
                false
            }
            _ => {
                let version = self
                    .options
                    .get("JETTY_VERSION")
                    .map(|(line, value)| (*line, value.clone()));
                let (line, version) = version.unwrap_or_else(|| (1, "9".to_owned()));
                let major = version.split('.').next().unwrap_or_default();
                let named = if container == "jetty" {
                    format!("jetty{major}")
                } else {
                    container.clone()
                };
                let result = self.out.app.set(DAEMON, "platform", &named);
                self.out.take(
                    line,
                    &format!("CONTAINER={container} JETTY_VERSION={version}"),
                    result,
                );
                self.option(
                    "APP_OPTS",
                    |_, _| Err("it is for CONTAINER=none".to_owned()),
                );
                true
            }
        }
    }

    /// The words behind `java`: options, then `-jar FILE` or a class, then arguments.
    fn program(&mut self, value: &str) -> Result<(), String> {
        let words = split_words(value).map_err(|error| error.to_string())?;
        let line = |words: &[String]| {
            words
                .iter()
                .map(|word| quoted(word))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let app = &mut self.out.app;
        let mut at = 0;
        while let Some(word) = words.get(at) {
            match word.as_str() {
                "-jar" => return app.set(DAEMON, "jvm.jar", &line(&words[at + 1..])),
                "-cp" | "-classpath" | "--class-path" => {
                    let path = words
                        .get(at + 1)
                        .ok_or("there is no class path behind it")?;
                    app.set(DAEMON, "jvm.classpath", path)?;
                    at += 2;
                }
                option if option.starts_with('-') => {
                    app.append(DAEMON, "jvm.options", &quoted(option))?;
                    at += 1;
                }
                _ => return app.set(DAEMON, "jvm.main", &line(&words[at..])),
            }
        }
        Err("there is neither `-jar FILE` nor a class in it".to_owned())
    }

    /// Files of the application belong to this account: it stays.
    fn user(&mut self) {
        for key in ["JETTY_USER", "USER"] {
            self.option(key, |this, value| {
                this.out.local.set("sandbox", "user", value)
            });
        }
        if self.out.local.get("sandbox", "user").is_none() {
            let result = self.out.local.set("sandbox", "user", DEFAULT_USER);
            self.out.take(1, "USER", result);
        }
    }

    fn repository(&mut self) {
        self.option("REPO", |this, value| {
            let mut all = value.split_whitespace();
            let first = all.next().unwrap_or_default();
            this.out.local.set("build", "repo", first)?;
            match all.next() {
                Some(_) => Err(format!(
                    "a release has one repository, {first}: the others are left"
                )),
                None => Ok(()),
            }
        });
        self.option("GIT_BRANCH", |this, value| {
            this.out.local.set("build", "tag", value)
        });
    }
}
