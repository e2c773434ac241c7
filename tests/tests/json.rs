//! What `--json` prints, field by field: docs/json.md is written from what every command really prints, and every
//! field has to have a meaning in there.
//!
//! `METACTL_UPDATE_DOCS=1 cargo nextest run -p metactl-tests -E 'binary(json)'` writes the page again.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use metactl_tests::apps::Repository;
use metactl_tests::command;
use metactl_tests::needs::{GIT, JDK, NFT};
use metactl_tests::{Host, eventually, on_host};
use serde_json::Value;

mod json_fields;

use json_fields::MEANINGS;

const SOON: Duration = Duration::from_secs(30);

const APP: &str = "\
[env]
GREETING = hello
[daemon.web]
command = ./web.sh
[crontab]
nightly = @daily true
[sandbox.mounts]
/mnt/photos = /srv/photos
[firewall.out]
policy = reject
[firewall.out.accept]
database = %(DB_HOST):3306
[firewall.out.reject]
mail = 10.9.9.9:25
[health.up]
command = true
";

/// A JVM, and a daemon that tells how it is.
const JVM: &str = "\
[build]
command = javac -d . Wait.java
[daemon.java]
jvm.main = Wait
jvm.classpath = .
[daemon.teller]
platform = exec
command = perl teller.pl
notify = yes
[firewall.out]
policy = reject
";

const WAIT: &str = "\
public class Wait {
    public static void main(String[] args) throws Exception {
        System.out.println(\"waits\");
        Thread.sleep(1000000);
    }
}
";

const TELLER: &str = "\
use IO::Socket::UNIX;
my $to = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or die;
$to->send(\"STATUS=at work\\nREADY=1\");
sleep 1000;
";

const WEB: &str = "#!/bin/sh
echo begun
[ -e /data/bad ] && exit 3
exec sleep 1000
";

/// By command, the fields with their types.
#[derive(Default)]
struct Seen(BTreeMap<String, BTreeMap<String, BTreeSet<&'static str>>>);

impl Seen {
    /// What a command printed on standard output: one object, or one on each line.
    #[track_caller]
    fn take(&mut self, command: &str, text: &str) {
        let all: Vec<Value> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{command}: {error} in {text}"));
        assert!(!all.is_empty(), "{command} prints nothing");
        let fields = self.0.entry(command.to_owned()).or_default();
        for value in all {
            assert!(value.is_object(), "{command}: {value}");
            walk(&value, "", fields);
        }
    }
}

fn walk(value: &Value, path: &str, fields: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    };
    if !path.is_empty() {
        fields.entry(path.to_owned()).or_default().insert(kind);
    }
    match value {
        Value::Array(all) => {
            for one in all.iter().filter(|one| one.is_object() || one.is_array()) {
                let path = format!("{path}[]");
                match one {
                    Value::Object(_) => members(one, &path, fields),
                    _ => walk(one, &path, fields),
                }
            }
        }
        Value::Object(_) => members(value, path, fields),
        _ => {}
    }
}

fn members(value: &Value, path: &str, fields: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        // Where names are those of the user, one stands for all.
        let name = match path {
            "sections" => "{section}",
            "sections.{section}" => "{key}",
            _ if path.ends_with("entries") => "{name}",
            _ => name.as_str(),
        };
        let path = match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        walk(value, &path, fields);
    }
}

/// The meaning of a field: of its whole path behind the command, else of the end of its path.
fn meaning(command: &str, path: &str) -> Option<&'static str> {
    let whole = format!("{command}: {path}");
    let name = path.rsplit('.').next().unwrap_or(path);
    let name = name.trim_end_matches("[]");
    let find = |wanted: &str| MEANINGS.iter().find(|(field, _)| *field == wanted);
    find(&whole)
        .or_else(|| find(name))
        .map(|(_, meaning)| *meaning)
}

fn run(host: &Host, seen: &mut Seen, name: &str, args: &[&str]) {
    let mut all = args.to_vec();
    all.push("--json");
    let outcome = host.run(&all);
    seen.take(name, &outcome.stdout);
}

#[test]
fn every_field_is_documented() {
    on_host(&[GIT, JDK, NFT], |host| {
        let mut seen = Seen::default();
        let repository = Repository::empty(&host.work().join("repository"));
        repository
            .write(".metactl", APP)
            .write("web.sh", WEB)
            .commit("1.0");
        repository.write("more", "x").commit("1.1");
        let repo = repository.dir.to_str().unwrap().to_owned();
        host.server_conf("[server]\nsite = prod\n");
        host.site_layer("prod", "shop", "[env]\nDB_HOST = 10.9.9.9\n");
        host.site_layer("test", "shop", "[env]\nDB_HOST = 10.9.9.8\nMORE = 1\n");
        let mut go = |name: &str, args: &[&str]| run(host, &mut seen, name, args);

        go("version", &["version"]);
        go("help exit-codes", &["help", "exit-codes"]);
        go("help keys", &["help", "keys", "jvm.heap.max"]);
        go("new", &["new", "shop", &repo, "--tag", "1.0"]);
        go("check", &["check", &repo]);
        go("set", &["shop", "set", "env:COLOUR=red", "env:API_TOKEN=x"]);
        go("get", &["shop", "get", "env:COLOUR"]);
        go("unset", &["shop", "unset", "env:COLOUR"]);
        go("revert", &["shop", "revert", "--last", "--yes"]);
        go("allow", &["shop", "allow", "smtp=10.9.9.7:25"]);
        go("compare", &["shop", "compare", "prod", "test"]);
        go("list", &["list"]);
        go("deploy", &["shop", "deploy", "1.0"]);
        go("deploy", &["shop", "deploy", "1.1"]);
        go("status", &["shop", "status"]);
        go("show", &["shop", "show", "--origin"]);
        go("show --layer", &["shop", "show", "--layer", "site"]);
        go("dump", &["shop", "dump"]);
        go("why", &["shop", "why", "10.9.9.9:3306"]);
        go("why", &["shop", "why", "10.1.2.3:25"]);
        go("why", &["shop", "why", "env:DB_HOST"]);
        go("why", &["shop", "why", "/srv/photos"]);
        go("changed", &["shop", "changed"]);
        go("plan", &["shop", "plan"]);
        go("bundle", &["shop", "bundle"]);
        go("releases", &["shop", "releases"]);
        go("firewall", &["shop", "firewall"]);
        go("ps", &["shop", "ps"]);
        go("pid", &["shop", "pid"]);
        go("top", &["shop", "top"]);
        go("logs", &["shop", "logs"]);
        host.run(&["shop", "set", "env:GREETING=hi"]).ok();
        go("changed", &["shop", "changed"]);
        go("reload", &["shop", "reload"]);
        go("restart", &["shop", "restart"]);
        // A daemon that ends again and again.
        fs::write(host.state("shop").join("data/bad"), "").unwrap();
        let pid = host.run(&["shop", "pid", "web"]).ok().stdout;
        host.command("kill", &["-KILL", pid.trim()]).ok();
        eventually("web to fail", SOON, || {
            let events = host.run(&["shop", "events"]).ok().stdout;
            events.contains("exit code 3").then_some(())
        });
        go("status", &["shop", "status"]);
        go("list", &["list"]);
        go("events", &["shop", "events"]);
        fs::remove_file(host.state("shop").join("data/bad")).unwrap();
        go("rollback", &["shop", "rollback"]);
        go("stop", &["shop", "stop"]);
        go("start", &["shop", "start"]);
        go("mend", &["shop", "mend"]);
        go("history", &["shop", "history"]);
        go("doctor", &["doctor"]);
        let unit = host.work().join("mail.service");
        fs::write(
            &unit,
            "[Service]\nExecStart=/usr/bin/sleep 9\nUser=x\nFoo=bar\n",
        )
        .unwrap();
        go(
            "import",
            &["import", "systemd", unit.to_str().unwrap(), "--dry-run"],
        );
        go("delete", &["shop", "delete", "--yes", "--data"]);
        look_inside(host, &mut seen);
        // What fails says so on standard error.
        let failed = host.run(&["shop", "status", "--json"]);
        seen.take("(any failure)", &failed.stderr);
        host.local_layer("bad", "[env\n");
        let failed = host.run(&["bad", "show", "--json"]);
        seen.take("(any failure)", &failed.stderr);
        compare(&seen);
    });
}

/// What is printed of a JVM, of a daemon that tells how it is, by an editor, and of what passes a firewall.
fn look_inside(host: &Host, seen: &mut Seen) {
    let files = [
        (".metactl", JVM),
        ("Wait.java", WAIT),
        ("teller.pl", TELLER),
    ];
    host.application("inside", &files, "");
    host.run(&["inside", "deploy", "1.0"]).ok();
    eventually("the JVM to begin", SOON, || {
        let log = fs::read_to_string(host.log("inside", "java")).ok()?;
        log.contains("waits").then_some(())
    });
    run(host, seen, "status", &["inside", "status"]);
    run(host, seen, "stack", &["inside", "stack"]);
    run(host, seen, "heapdump", &["inside", "heapdump"]);

    let learn = host.spawn(&["inside", "firewall", "learn", "--for", "3s", "--json"]);
    let connect = "use IO::Socket::INET; \
        exit !IO::Socket::INET->new(PeerAddr => '10.9.9.7:25', Timeout => 1)";
    eventually("something to pass", SOON, || {
        let status = host.run(&["inside", "status", "--no-health"]);
        status.stdout.contains("learns for").then_some(())
    });
    // Whether anybody is there does not matter.
    host.run(&["inside", "exec", "teller", "--", "perl", "-e", connect]);
    seen.take("firewall learn", &learn.wait(SOON).ok().stdout);

    let editor = host.work().join("editor");
    fs::write(&editor, "#!/bin/sh\nprintf '[env]\\nA = 1\\n' >>\"$1\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&editor, mode).unwrap();
    let mut config = host.metactl(&["inside", "config", "--json"]);
    config.env("EDITOR", editor);
    seen.take("config", &command::run(config, SOON).ok().stdout);
    host.run(&["inside", "stop"]).ok();
}

fn compare(seen: &Seen) {
    let mut unknown = Vec::new();
    let mut page = HEAD.to_owned();
    for (command, fields) in &seen.0 {
        page.push_str(&format!(
            "\n## {command}\n\n| field | type | meaning |\n| --- | --- | --- |\n"
        ));
        for (path, kinds) in fields {
            let meaning = meaning(command, path).unwrap_or_else(|| {
                unknown.push(format!("{command}: {path}"));
                "?"
            });
            let kinds: Vec<&str> = kinds.iter().copied().collect();
            page.push_str(&format!(
                "| `{path}` | {} | {meaning} |\n",
                kinds.join(", ")
            ));
        }
    }
    assert!(
        unknown.is_empty(),
        "fields without a meaning in json_fields.rs:\n{}",
        unknown.join("\n")
    );
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md"));
    if std::env::var_os("METACTL_UPDATE_DOCS").is_some() {
        fs::write(&path, page).unwrap();
        return;
    }
    // What is not there this time (the memory of what just ended) may be another time.
    let current = fs::read_to_string(&path).unwrap_or_default();
    let mut section = "";
    let mut known = BTreeSet::new();
    for line in current.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        if line.starts_with("| `") {
            known.insert((section, line));
        }
    }
    for (command, fields) in &seen.0 {
        for (field, kinds) in fields {
            let documented = known.iter().find(|(section, line)| {
                section == command && line.starts_with(&format!("| `{field}` |"))
            });
            let Some((_, line)) = documented else {
                panic!("docs/json.md has no {field} of {command}; see the head of this test");
            };
            for kind in kinds {
                assert!(
                    line.split(" | ").nth(1).unwrap().contains(kind),
                    "{command}: {field} is {kind}, not as in {line}"
                );
            }
        }
    }
}

const HEAD: &str = "\
# What `--json` prints

<!-- Generated from what every command prints, by tests/tests/json.rs, which says how. -->

Every command that prints facts prints one JSON object with `--json`; `logs`, `events`, `top` and `firewall --watch` print one on each line.
`version` (not on the lines of `logs`) is the version of this form: it grows when a field changes its meaning or goes away. New fields may appear at any time, so readers
leave out what they do not know. A field whose value is not known is left out, or null. Times are RFC 3339 in UTC, sizes are bytes, durations seconds
unless their name says otherwise. `a[].b` is the field `b` of each object in the list `a`.

A command that fails prints its error as an object on standard error, and ends with the exit code that is in it
([exit-codes.md](exit-codes.md)).
";
