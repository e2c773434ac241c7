//! What the tests of bundles share: applications, placements, hosts that are not there, and a
//! private host for what needs a real one.
#![allow(dead_code, reason = "not every test file uses everything")]

pub mod private;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::app::{
    App, Build, CronJob, Daemon, EnvValue, Launch, Limits, Net, Notify, Restart, Sandbox, Stop,
};
use metactl_bundles::bundle::{self, Composition, Placement};
use metactl_bundles::layers::{Config, LayerKind, Origin, Value};
use metactl_bundles::network::{Mode, Policy, Verdict};
use metactl_bundles::platforms::{self, DaemonSection};
use metactl_bundles::view::{Fact, HostView, Kind, NeedFacts};
use serde_json::Value as Json;

/// Line `line` of `.metactl`.
pub fn origin(line: usize) -> Origin {
    Origin {
        layer: LayerKind::App,
        file: Some(Path::new(".metactl").into()),
        line,
        column: 1,
    }
}

/// The launch of a section made of pairs; the words of a value are split at blanks.
pub fn launch(name: &str, platform: &str, port: Option<u16>, pairs: &[(&str, &str)]) -> Launch {
    let value = |text: &str, line| Value {
        text: text.into(),
        raw: text.into(),
        origin: origin(line),
        overrides: Vec::new(),
        sensitive: false,
    };
    let mut values: BTreeMap<&str, Value> = pairs
        .iter()
        .enumerate()
        .map(|(at, (key, text))| (*key, value(text, at + 10)))
        .collect();
    values.insert("platform", value(platform, 9));
    let get = |key: &str| values.get(key);
    let words =
        |key: &str| get(key).map(|value| value.text.split(' ').map(str::to_owned).collect());
    let below = |prefix: &str| -> Vec<(&str, &Value)> {
        let found = values.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (*key, value)).collect()
    };
    let section = DaemonSection {
        name,
        get: &get,
        words: &words,
        below: &below,
        port,
        limits: &Limits::default(),
        env: &BTreeMap::new(),
    };
    platforms::launch(platform, &section).unwrap()
}

/// A daemon.
pub fn daemon(name: &str, platform: &str, pairs: &[(&str, &str)]) -> Daemon {
    let port = platforms::default_port(platform, |key| pairs.iter().any(|(name, _)| *name == key));
    Daemon {
        checks: Vec::new(),
        name: name.to_owned(),
        launch: launch(name, platform, port, pairs),
        port,
        limits: Limits::default(),
        stop: Stop {
            signal: 15,
            timeout: Duration::from_secs(30),
        },
        restart: Restart::Always,
        after: Vec::new(),
        requires: Vec::new(),
        restart_limit: None,
        service: Default::default(),
        origin: origin(9),
    }
}

/// A cron job.
pub fn cron(name: &str, slug: &str, schedule: &str, command: &str) -> CronJob {
    CronJob {
        name: name.to_owned(),
        slug: slug.to_owned(),
        schedule: schedule.to_owned(),
        command: command.to_owned(),
        launch: platforms::cron(command, &origin(20)),
        origin: origin(20),
    }
}

/// An application without entry points.
pub fn app(name: &str) -> App {
    App {
        name: name.to_owned(),
        notify: Notify::default(),
        dns: None,
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        build: Build::default(),
        daemons: BTreeMap::new(),
        cron: Vec::new(),
        cron_settings: Default::default(),
        systemd: Default::default(),
        smf: Default::default(),
        plain: false,
        sandbox: Sandbox {
            rootfs: None,
            user: None,
            limits: Limits {
                memory: Some(1 << 30),
                pids: Some(1024),
                ..Limits::default()
            },
            mounts: Vec::new(),
            capabilities: Vec::new(),
            net: Net {
                mode: Mode::Nat,
                addresses: Vec::new(),
                ip_origin: None,
                publish: Vec::new(),
                publish_origin: None,
                apart: false,
            },
            out: Policy {
                policy: Verdict::Reject,
                accept: Vec::new(),
                reject: Vec::new(),
            },
            inbound: Policy {
                policy: Verdict::Accept,
                accept: Vec::new(),
                reject: Vec::new(),
            },
        },
    }
}

/// With one more daemon.
pub fn with(mut app: App, daemon: Daemon) -> App {
    app.daemons.insert(daemon.name.clone(), daemon);
    app
}

/// The application of the seed note, on `jetty`.
pub fn seed_app(jetty: &str) -> App {
    let mut app = with(
        app("myapp"),
        daemon("webapp", jetty, &[("jvm.heap.max", "256m")]),
    );
    let pairs = [("jvm.jar", "jobmanager.jar 9001"), ("jvm.heap.max", "128m")];
    app = with(app, daemon("jobmanager", "jvm", &pairs));
    env(&mut app, "JOB_MANAGER_PORT", "9001", false);
    env(
        &mut app,
        "DB_URL",
        "mysql://myapp:secret@mysql-prod.example.org/myapp",
        true,
    );
    app.cron.push(cron(
        "daily housekeeping",
        "daily-housekeeping",
        "5 0 * * *",
        "curl http://localhost/housekeeping",
    ));
    app.cron.push(cron(
        "harvest data on mondays",
        "harvest-data-on-mondays",
        "10 0 * * 1",
        "java -jar harvest.jar",
    ));
    app
}

/// Adds a variable.
pub fn env(app: &mut App, name: &str, value: &str, sensitive: bool) {
    let value = EnvValue {
        value: value.into(),
        origin: origin(2),
        sensitive,
    };
    app.env.insert(name.into(), value);
}

/// A placement below `state`, with the release `release`.
pub fn placement(state: &Path, release: &Path) -> Placement {
    Placement {
        instance: "myapp".to_owned(),
        state_dir: state.to_path_buf(),
        release: release.to_path_buf(),
        release_id: "1.2.3-9f2c1e4".to_owned(),
        uid: 66000,
        gid: 66000,
        addresses: vec!["10.77.0.2".parse().unwrap()],
        pool: Some("10.77.0.0/16".parse().unwrap()),
        pool6: None,
        hostname: "myapp".to_owned(),
        nameservers: vec!["10.1.1.1".parse::<IpAddr>().unwrap()],
        site: Some("prod".to_owned()),
        secrets: state.join("secrets/1"),
    }
}

/// The placement of tests that write nothing.
pub fn somewhere() -> Placement {
    placement(
        Path::new("/var/lib/metactl/myapp"),
        Path::new("/var/lib/metactl/myapp/releases/1"),
    )
}

/// A Debian with Java 17 and every Jetty, and a release with one war.
pub fn debian() -> HostView {
    let link = |text: &str| Fact::Link(text.to_owned());
    let dir = |path: &str| Fact::Real(Kind::Directory, PathBuf::from(path));
    let file = |path: &str| Fact::Real(Kind::File, PathBuf::from(path));
    let mut view = HostView {
        root: PathBuf::from("/"),
        root_exists: true,
        java: Some(PathBuf::from("/usr/lib/jvm/java-17-openjdk-amd64")),
        wars: vec![PathBuf::from("target/app.war")],
        ..HostView::default()
    };
    for name in ["bin", "lib", "lib64", "sbin"] {
        view.top
            .insert(name.to_owned(), link(&format!("usr/{name}")));
    }
    view.top.insert("usr".to_owned(), dir("/usr"));
    for (name, fact) in [
        ("alternatives", dir("/etc/alternatives")),
        ("ld.so.cache", file("/etc/ld.so.cache")),
        ("localtime", link("/usr/share/zoneinfo/Etc/UTC")),
        ("ssl/certs", dir("/etc/ssl/certs")),
    ] {
        view.etc.insert(PathBuf::from(name), fact);
    }
    let etc = |paths: &[&str]| {
        paths
            .iter()
            .map(|path| (PathBuf::from(path), Kind::Directory))
            .collect()
    };
    let java = PathBuf::from("/usr/lib/jvm/java-17-openjdk-amd64");
    let facts = NeedFacts {
        real: java.clone(),
        probed: true,
        etc: etc(&["/etc/java-17-openjdk", "/etc/ssl/certs/java"]),
    };
    view.needs.insert(java, facts);
    for version in 6..=12 {
        let home = PathBuf::from(format!("/usr/share/jetty{version}"));
        let etc = etc(&[&format!("/etc/jetty{version}")]);
        view.needs.insert(
            home.clone(),
            NeedFacts {
                real: home,
                probed: true,
                etc,
            },
        );
    }
    view
}

/// A folder for a test that everybody may enter.
pub fn open_tempdir() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Composes with no configuration behind the application.
pub fn compose(app: &App, place: &Placement, host: &HostView) -> Composition {
    bundle::compose(app, &Config::default(), place, host).unwrap_or_else(|error| panic!("{error}"))
}

/// A file of a bundle as JSON.
pub fn json(composition: &Composition, path: &str) -> Json {
    let text = composition
        .text(path)
        .unwrap_or_else(|| panic!("there is no {path}"));
    serde_json::from_str(text).unwrap()
}

/// The mounts of a config.json: target to (type, source, options).
pub fn mounts(config: &Json) -> BTreeMap<String, (String, String, BTreeSet<String>)> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let mount = |mount: &Json| {
        let options = mount["options"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect();
        (
            text(&mount["destination"]),
            (text(&mount["type"]), text(&mount["source"]), options),
        )
    };
    config["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(mount)
        .collect()
}
