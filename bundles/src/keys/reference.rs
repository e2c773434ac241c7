//! The reference of all keys: for `docs/keys.md`, the manual page, and a terminal.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Key, find, section};
use super::{Kind, SECTIONS, SectionMeaning, is_daemon_name, rows};

/// The beginning of `docs/keys.md`.
const HEAD: &str = "\
# All keys of the configuration

<!-- Generated from the table in bundles/src/keys: METACTL_UPDATE_DOCS=1 cargo test -p metactl-bundles --test config_docs -->

*who* is who may say it; \"site or local\" includes `metactl.conf`. What it means to be refused, and how layers are merged, is in
[configuration.md](configuration.md). `metactl help keys KEY` explains one key in full, with an example.
";

/// A key in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The section: `sandbox.net`, `daemon.NAME`.
    pub section: String,
    /// The key; `NAME` is any name.
    pub key: String,
    /// Other names that mean the same.
    pub also: Vec<String>,
    /// The type of its value, in a word or two.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the number counts; empty for what has none.
    pub unit: &'static str,
    /// The value when nobody says one.
    pub default: Option<&'static str>,
    /// The platforms that it serves; empty: all of them.
    pub platforms: Vec<&'static str>,
    /// Who may say it.
    pub who: String,
    /// Why site or local have to grant it, or nothing.
    pub why: &'static str,
    /// What it means, in one sentence.
    pub meaning: &'static str,
    /// It as lines of a configuration.
    pub example: String,
}

impl From<&Key> for Entry {
    fn from(key: &Key) -> Entry {
        Entry {
            section: key.section.replace(".*", ".NAME"),
            key: key.name.replace('*', "NAME"),
            also: also(key),
            kind: key.kind.describe(),
            unit: key.kind.unit(),
            default: key.default,
            platforms: key.platforms.to_vec(),
            who: key.grant.describe(),
            why: key.why,
            meaning: key.doc,
            example: format!("[{}]\n{}", key.section.replace(".*", ".webapp"), line(key)),
        }
    }
}

fn also(key: &Key) -> Vec<String> {
    let java = key
        .name
        .strip_prefix("jvm.")
        .map(|rest| format!("java.{rest}"));
    key.alias
        .into_iter()
        .map(str::to_owned)
        .chain(java)
        .collect()
}

/// A line that sets the key. Where the type alone says little, one as people write it.
fn line(key: &Key) -> String {
    let (name, value) = match (key.section, key.name) {
        ("env", "*") => ("DB_HOST", "mysql.example.org"),
        ("build", "repo.*") => ("repo.theme", Kind::Repository.example()),
        ("build", "tag.*") => ("tag.theme", Kind::Tag.example()),
        ("build", "fetch") => (
            key.name,
            "curl -fsS https://example.org/$METACTL_TAG.tar | tar -x",
        ),
        ("build", "user") => (key.name, "deployer"),
        ("build", "password.file") => (key.name, "/etc/metactl/git.password"),
        ("build", "ssh.key") => (key.name, "/etc/metactl/deploy_key"),
        ("build", "ssh.known_hosts") => (key.name, "/etc/metactl/known_hosts"),
        ("build", "tls.ca") => (key.name, "/etc/metactl/ca.pem"),
        ("build", "verify.gpg") => (key.name, "/etc/metactl/release-keys.gpg"),
        ("build", "verify.ssh") => (key.name, "/etc/metactl/allowed_signers"),
        ("health.*", "daemon") => (key.name, "webapp"),
        ("health.*", "command") => (key.name, "bin/healthy --quick"),
        ("health.*", "grace") => (key.name, "20s"),
        ("health.*", "kind") => (key.name, "http"),
        ("build", "env.*") => ("env.MAVEN_OPTS", "-Xmx512m"),
        ("crontab", "*") => ("daily housekeeping", Kind::Cron.example()),
        ("firewall.out.accept", "*") => ("database", "%(DB_HOST):%(DB_PORT)"),
        ("firewall.out.reject", "*") => ("metadata", "169.254.169.254"),
        ("firewall.in.accept", "*") => ("office", "10.1.0.0/16:80"),
        ("firewall.in.reject", "*") => ("guests", "10.1.9.0/24"),
        ("sandbox.mounts", "*") => ("/mnt/photos", Kind::Mount.example()),
        ("daemon.*", "jvm.jar") => (key.name, "jobmanager.jar %(JOB_MANAGER_PORT)"),
        ("daemon.*", "jvm.main") => (key.name, "org.example.Main --verbose"),
        ("daemon.*", "jvm.properties") => (key.name, "user.timezone=UTC log.level=info"),
        ("daemon.*", "jvm.options") => (key.name, "-XX:+UseSerialGC"),
        ("daemon.*", "jvm.home") => (key.name, "/usr/lib/jvm/java-17-openjdk-amd64"),
        ("daemon.*", "jvm.classpath") => (key.name, ".:lib/*"),
        ("daemon.*", "jetty.war") => (key.name, "target/myapp.war"),
        ("daemon.*", "jetty.home") => (key.name, "/usr/share/jetty9"),
        ("daemon.*", "jetty.context") => (key.name, "/myapp"),
        ("daemon.*", "jetty.modules") => (key.name, "http deploy"),
        ("app", "notify.command") => (key.name, "/usr/local/bin/tell-operators"),
        ("secrets", "*") => ("db.password", Kind::Secret.example()),
        ("secrets.env", "*") => ("DB_PASSWORD", Kind::SecretName.example()),
        ("dns", "key.file") => (key.name, "/etc/metactl/dns.key"),
        ("daemon.*", "jvm.agents") => (key.name, "lib/metrics.jar=port=9400"),
        ("daemon.*", "jvm.properties.*") => ("jvm.properties.log.level", "info"),
        ("daemon.*", "node.script") => (key.name, "server.js"),
        ("daemon.*", "node.options") => (key.name, "--max-old-space-size=64"),
        ("daemon.*", "perl.script") => (key.name, "bin/server.pl"),
        ("daemon.*", "perl.psgi") => (key.name, "app.psgi"),
        ("daemon.*", "perl.options") => (key.name, "--server Starman"),
        ("daemon.*", "php.root" | "static.root") => (key.name, "public"),
        ("daemon.*", "php.router") => (key.name, "router.php"),
        ("daemon.*", "php.script") => (key.name, "worker.php"),
        ("daemon.*", "php.options") => (key.name, "-d memory_limit=64M"),
        ("daemon.*", "python.module") => (key.name, "shop.worker --fast"),
        ("daemon.*", "python.script") => (key.name, "bin/run.py"),
        ("daemon.*", "python.wsgi") => (key.name, "shop.web:app"),
        ("daemon.*", "python.virtualenv") => (key.name, "venv"),
        ("daemon.*", "python.options") => (key.name, "--workers 4"),
        ("daemon.*", "ruby.script") => (key.name, "bin/worker.rb"),
        ("daemon.*", "ruby.rack") => (key.name, "config.ru"),
        ("daemon.*", "ruby.options") => (key.name, "-W0"),
        ("daemon.*", "tomcat.war") => (key.name, "target/myapp.war"),
        ("daemon.*", "tomcat.context") => (key.name, "/myapp"),
        ("daemon.*", "tomcat.home") => (key.name, "/usr/share/tomcat10"),
        (_, name) => (name, key.default.unwrap_or(key.kind.example())),
    };
    format!("{name} = {value}")
}

/// The keys that a word names exactly: `jvm.heap.max`, `sandbox.limits:memory`, `webapp:port`.
pub fn named(word: &str) -> Vec<Entry> {
    if let Some((written, key)) = word.split_once(':') {
        let spec = match section(written) {
            SectionMeaning::Known(spec) => spec,
            _ if is_daemon_name(written) => "daemon.*",
            _ => return Vec::new(),
        };
        return find(spec, key)
            .map(|(row, _)| row.into())
            .into_iter()
            .collect();
    }
    let is = |key: &&Key| key.name == word || also(key).iter().any(|name| name == word);
    rows().filter(is).map(Entry::from).collect()
}

/// The keys whose section, name or sentence has a word in it; all of them without one.
pub fn with(word: Option<&str>) -> Vec<Entry> {
    let has = |key: &&Key| match word {
        None => true,
        Some(word) => [key.section, key.name, key.doc]
            .iter()
            .any(|text| text.contains(word)),
    };
    rows().filter(has).map(Entry::from).collect()
}

impl Entry {
    /// Two lines for a list.
    pub fn short(&self) -> String {
        let default = self
            .default
            .map_or(String::new(), |text| format!(" (default: {text})"));
        format!(
            "[{}] {} = {}{default}\n    {}",
            self.section, self.key, self.kind, self.meaning
        )
    }

    /// What there is to say about it, as pairs of a word and a text, without what does not apply.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let platforms = self.platforms_text();
        let who = match self.why {
            "" => self.who.clone(),
            why => format!("{}: {why}", self.who),
        };
        let facts = [
            ("type", self.kind.clone()),
            ("unit", self.unit.to_owned()),
            ("default", self.default.unwrap_or("none").to_owned()),
            ("platforms", platforms),
            ("who", who),
            ("also", self.also.join(", ")),
        ];
        facts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect()
    }

    fn platforms_text(&self) -> String {
        let word = |name: &&'static str| match *name {
            "jetty" => "every jetty",
            name => name,
        };
        let names: Vec<&str> = self.platforms.iter().map(word).collect();
        names.join(", ")
    }
}

/// `docs/keys.md`.
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for section in SECTIONS {
        let _ = writeln!(out, "\n## `[{}]`\n\n{}\n", section.name, section.doc);
        out.push_str("| key | value | default | who | meaning | example |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for key in rows().filter(|key| key.section == section.name) {
            out.push_str(&markdown_row(key));
        }
    }
    out.push_str("\n## Values with a unit\n\n| value | unit |\n| --- | --- |\n");
    let mut told: Vec<String> = Vec::new();
    for key in rows().filter(|key| !key.kind.unit().is_empty()) {
        let kind = key.kind.describe();
        if !told.contains(&kind) {
            let _ = writeln!(out, "| {kind} | {} |", key.kind.unit());
            told.push(kind);
        }
    }
    out
}

fn markdown_row(key: &Key) -> String {
    let entry = Entry::from(key);
    let name = match key.name {
        "*" => "*any*".to_owned(),
        name => format!("`{name}`"),
    };
    let name = match key.alias {
        Some(alias) => format!("{name}, `{alias}`"),
        None => name,
    };
    let default = key
        .default
        .map_or(String::new(), |text| format!("`{text}`"));
    let meaning = match entry.platforms_text() {
        platforms if platforms.is_empty() => key.doc.to_owned(),
        platforms => format!("{} *Platforms: {platforms}.*", key.doc),
    };
    format!(
        "| {name} | {} | {default} | {} | {meaning} | `{}` |\n",
        entry.kind,
        entry.who,
        line(key)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ini;

    #[test]
    fn every_example_is_a_valid_line_of_its_key() {
        for key in rows() {
            let entry = Entry::from(key);
            let mut out = crate::diagnostics::Collector::default();
            let document = ini::parse("example".as_ref(), &entry.example, &mut out);
            assert_eq!(out.errors(), 0, "{}", entry.example);
            let section = &document.sections[0];
            let SectionMeaning::Known(spec) = super::section(&section.name) else {
                panic!("{}", section.name)
            };
            let (row, _) = find(spec, &section.entries[0].key).expect(&entry.example);
            assert_eq!((row.section, row.name), (key.section, key.name));
            let ini::Content::Value(value) = &section.entries[0].content else {
                panic!("{}", entry.example)
            };
            let value = value
                .text
                .replace("%(DB_HOST):%(DB_PORT)", "mysql.example.org:3306");
            assert_eq!(key.kind.check(&value), Ok(()), "{}", entry.example);
        }
    }

    #[test]
    fn keys_are_found_by_every_name() {
        for word in [
            "jvm.heap.max",
            "java.heap.max",
            "daemon.x:jvm.heap.max",
            "x:jvm.heap.max",
        ] {
            let found = named(word);
            assert_eq!(
                (found.len(), found[0].key.as_str()),
                (1, "jvm.heap.max"),
                "{word}"
            );
        }
        assert_eq!(named("container")[0].key, "platform");
        assert_eq!(named("policy").len(), 2);
        assert_eq!(named("env:ANYTHING")[0].key, "NAME");
        assert!(named("heap").is_empty() && !with(Some("heap")).is_empty());
        let facts = named("sandbox.net:ip")[0].facts();
        assert!(facts.contains(&("default", "none".to_owned())));
        assert!(
            facts
                .iter()
                .any(|(word, text)| *word == "who" && text.contains("somebody else"))
        );
    }
}
