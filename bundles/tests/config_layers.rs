//! Layers on disk: which files are read, who wins, what can be taken back, and who may say what.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use metactl_bundles::layers::{self, Config, LayerKind, Request, render};
use metactl_bundles::model;
use metactl_bundles::paths::Paths;
use tempfile::TempDir;

/// A configuration directory with these files, relative to `etc/metactl`.
fn server(files: &[(&str, &str)]) -> (TempDir, Paths) {
    let root = TempDir::new().unwrap();
    let paths = Paths::under(root.path());
    for (name, text) in files {
        let path = paths.config.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    (root, paths)
}

fn app_layer(root: &TempDir, text: &str) -> std::path::PathBuf {
    let path = root.path().join(".metactl");
    fs::write(&path, text).unwrap();
    path
}

fn config(paths: &Paths, app: Option<&Path>) -> Config {
    let request = Request {
        instance: "myapp",
        app_layer: app,
    };
    let sources = layers::read(paths, &request).unwrap_or_else(|report| panic!("{report}"));
    Config::from_sources(sources).unwrap_or_else(|report| panic!("{report}"))
}

fn text<'a>(config: &'a Config, section: &str, key: &str) -> &'a str {
    &config.get(section, key).unwrap().text
}

#[test]
fn later_layers_win_and_remember() {
    let (root, paths) = server(&[
        (
            "metactl.conf",
            "[server]\nsite = prod\n[env]\nA = server\nB = server\n",
        ),
        ("sites/prod/site.conf", "[env]\nA = all\nB = all\nC = all\n"),
        (
            "sites/prod/myapp.conf",
            "[env]\nA = site\nB = site\nC = site\n",
        ),
        ("nodes/myapp.conf", "[env]\nA = local\n"),
        ("nodes/other.conf", "[env]\nA = other\n"),
        ("sites/test/site.conf", "[env]\nA = test\n"),
    ]);
    let app = app_layer(&root, "[env]\nA = app\nB = app\nC = app\nD = app\n");
    let config = config(&paths, Some(&app));
    let values = ["A", "B", "C", "D"].map(|key| text(&config, "env", key));
    assert_eq!(values, ["local", "server", "site", "app"]);
    let a = config.get("env", "A").unwrap();
    let history: Vec<String> = a
        .overrides
        .iter()
        .map(|(origin, text)| format!("{text} {origin}"))
        .collect();
    assert_eq!(
        history,
        [
            "app .metactl:2",
            "all sites/prod/site.conf:2",
            "site sites/prod/myapp.conf:2",
            "server metactl.conf:4",
        ]
    );
    assert_eq!(a.origin.to_string(), "nodes/myapp.conf:2");
    assert_eq!(config.sources().len(), 5);
    assert!(config.section("server").is_none());
}

#[test]
fn the_local_layer_names_the_application_the_app_layer_does_not() {
    let (root, paths) = server(&[
        ("metactl.conf", "[server]\nsite = prod\n"),
        ("sites/prod/payroll.conf", "[env]\nSALARY = much\n"),
        ("sites/prod/shop.conf", "[env]\nSHOP = yes\n"),
    ]);
    let app = app_layer(&root, "[app]\nname = payroll\n");
    assert!(config(&paths, Some(&app)).get("env", "SALARY").is_none());
    fs::create_dir_all(paths.config.join("nodes")).unwrap();
    fs::write(paths.local_layer("myapp"), "[app]\nname = shop\n").unwrap();
    assert_eq!(text(&config(&paths, Some(&app)), "env", "SHOP"), "yes");
}

#[test]
fn a_later_layer_takes_back_keys_and_sections() {
    let (root, paths) = server(&[(
        "nodes/myapp.conf",
        "[env]\nunset A\n[crontab]\nunset daily job\n[daemon.jobs]\nunset *\n[firewall.out.accept]\nunset *\nown = 10.0.0.1\n[firewall.out]\nunset policy\n[build]\nunset tag\n",
    )]);
    let app = app_layer(
        &root,
        "[env]\nA = 1\nB = 2\n[crontab]\ndaily job = @daily x\nother = @daily y\n[jobs]\nplatform = exec\ncommand = x\n[daemon.web]\ncommand = y\n[firewall.out.accept]\na = b\nc = d\n[firewall.out]\npolicy = drop\n",
    );
    let config = config(&paths, Some(&app));
    assert!(config.get("env", "A").is_none());
    assert_eq!(text(&config, "env", "B"), "2");
    assert!(
        config.get("crontab", "daily job").is_none() && config.get("crontab", "other").is_some()
    );
    assert!(config.section("daemon.jobs").is_none() && config.section("daemon.web").is_some());
    let accept: Vec<&str> = config
        .section("firewall.out.accept")
        .unwrap()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(accept, ["own"]);
    assert_eq!(
        text(&config, "firewall.out", "policy"),
        "reject",
        "the default stays"
    );
    let warning = &config.warnings()[0];
    assert_eq!(config.warnings().len(), 1);
    assert!(
        warning
            .message
            .contains("no lower layer has `tag` in [build]"),
        "{warning}"
    );
}

#[test]
fn a_value_for_all_daemons_is_left_out_where_it_means_nothing() {
    let (root, paths) = server(&[
        (
            "metactl.conf",
            "[daemon.*]\njvm.home = /usr/lib/jvm/java-17\nstop.timeout = 5s\n",
        ),
        (
            "nodes/myapp.conf",
            "[daemon.jobs]\nstop.timeout = 9s\n[daemon.*]\nrestart = never\n",
        ),
    ]);
    let app = app_layer(
        &root,
        "[daemon.jobs]\nplatform = jvm\njvm.jar = a.jar\n[daemon.web]\ncommand = x\n",
    );
    let config = config(&paths, Some(&app));
    assert_eq!(
        text(&config, "daemon.jobs", "jvm.home"),
        "/usr/lib/jvm/java-17"
    );
    assert!(config.get("daemon.web", "jvm.home").is_none());
    assert_eq!(text(&config, "daemon.web", "stop.timeout"), "5s");
    assert_eq!(text(&config, "daemon.jobs", "stop.timeout"), "9s");
    assert_eq!(text(&config, "daemon.jobs", "restart"), "never");
    assert!(config.section("daemon.*").is_none());
}

#[test]
fn what_widens_the_sandbox_is_a_request_in_the_app_layer() {
    let (root, paths) = server(&[]);
    let restricted = "[sandbox]\nuser = www-data\ncapabilities = CAP_NET_RAW\nrootfs = /srv/root\n\
        [sandbox.mounts]\n/mnt = /home rw\n[sandbox.net]\nip = 10.0.0.1\nmode = host\n\
        [firewall.out]\npolicy = accept\ngrant = any\n[sandbox.limits]\nmemory = unlimited\n\
        [daemon.a]\nplatform = jvm\njvm.jar = a.jar\njvm.home = /root\n[build]\nrepo = https://h/x\ntag = 1\n";
    let app = app_layer(&root, restricted);
    let config = config(&paths, Some(&app));
    let asked: Vec<String> = config
        .requests()
        .iter()
        .map(|denied| format!("{}:{}", denied.section, denied.key))
        .collect();
    assert_eq!(
        asked,
        [
            "sandbox:user",
            "sandbox:capabilities",
            "sandbox:rootfs",
            "sandbox.mounts:/mnt",
            "sandbox.net:ip",
            "sandbox.net:mode",
            "firewall.out:policy",
            "firewall.out:grant",
            "sandbox.limits:memory",
            "daemon.a:jvm.home",
            "build:repo",
            "build:tag",
        ]
    );
    let mount = &config.requests()[3];
    assert_eq!(mount.grant, "[sandbox.mounts]\n/mnt = /home rw");
    assert_eq!(mount.origin.to_string(), ".metactl:6");
    assert!(mount.reason.contains("a path of the server"));
    let model = model::build(&config, "myapp").unwrap();
    assert!(model.sandbox.mounts.is_empty() && model.sandbox.user.is_none());
    assert_eq!(model.sandbox.limits.memory, Some(1 << 30));

    // The lines of the requests, said by the local layer, grant them all.
    let lines: Vec<&str> = config
        .requests()
        .iter()
        .map(|denied| denied.grant.as_str())
        .collect();
    let lines: String = lines
        .join("\n")
        .replace("ip = 10.0.0.1\n", "")
        .replace("mode = host", "mode = nat");
    let lines = lines.replace("[sandbox.net]\n[sandbox.net]", "[sandbox.net]");
    fs::create_dir_all(paths.config.join("nodes")).unwrap();
    fs::write(paths.local_layer("myapp"), lines).unwrap();
    let granted = Config::from_sources(
        layers::read(
            &paths,
            &Request {
                instance: "myapp",
                app_layer: Some(&app),
            },
        )
        .unwrap(),
    );
    let granted = granted.unwrap_or_else(|report| panic!("{report}"));
    let left: Vec<&str> = granted
        .requests()
        .iter()
        .map(|denied| denied.key.as_str())
        .collect();
    assert_eq!(left, ["ip"]);
    let model = model::build(&granted, "myapp").unwrap();
    assert_eq!(
        (model.sandbox.mounts.len(), model.sandbox.limits.memory),
        (1, None)
    );
}

#[test]
fn a_site_can_keep_the_firewall_to_itself() {
    let (root, paths) = server(&[
        ("metactl.conf", "[server]\nsite = prod\n"),
        (
            "sites/prod/site.conf",
            "[firewall.out]\ngrant = site\n[firewall.out.accept]\nproxy = %(PROXY)\n",
        ),
        (
            "nodes/myapp.conf",
            "[firewall.out.accept]\ndb = 10.0.0.9\n[env]\nPROXY = 10.0.0.8:3128\n",
        ),
    ]);
    let app = app_layer(
        &root,
        "[firewall.out.accept]\ndb = 10.0.0.1\nall = 0.0.0.0/0\n[env]\nPROXY = 0.0.0.0/0\n",
    );
    let merged = config(&paths, Some(&app));
    let entries: Vec<&str> = merged
        .section("firewall.out.accept")
        .unwrap()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(entries, ["proxy", "db"]);
    assert_eq!(merged.requests().len(), 1);
    assert!(merged.requests()[0].reason.contains("grant = site"));

    // Not even by a name that only the app layer defines.
    fs::write(paths.local_layer("myapp"), "").unwrap();
    let sources = layers::read(
        &paths,
        &Request {
            instance: "myapp",
            app_layer: Some(&app),
        },
    )
    .unwrap();
    let report = Config::from_sources(sources).unwrap_err().to_string();
    assert!(
        report.contains("takes `PROXY` from the app layer"),
        "{report}"
    );
}

#[test]
fn a_restricted_value_does_not_come_from_the_app_layer_by_a_name() {
    let (root, paths) = server(&[(
        "nodes/myapp.conf",
        "[sandbox.mounts]\n/mnt = %(SHARE)\n[sandbox.net]\nmode = %(MODE)\n",
    )]);
    let app = app_layer(&root, "[env]\nSHARE = %(DIR)\nDIR = /root\nMODE = host\n");
    let sources = layers::read(
        &paths,
        &Request {
            instance: "myapp",
            app_layer: Some(&app),
        },
    )
    .unwrap();
    let report = Config::from_sources(sources).unwrap_err().to_string();
    assert!(
        report.contains("`/mnt` in [sandbox.mounts] takes `DIR` from the app layer"),
        "{report}"
    );
    assert!(
        report.contains("`mode` in [sandbox.net] takes `MODE` from the app layer"),
        "{report}"
    );
    assert!(report.contains(".metactl:3:7"), "{report}");
}

#[test]
fn unreadable_files_are_reported_with_their_path() {
    let (root, paths) = server(&[("metactl.conf", "[server]\nsite = prod\n")]);
    fs::create_dir_all(paths.config.join("nodes")).unwrap();
    let read = |app_layer: Option<&Path>| {
        layers::read(
            &paths,
            &Request {
                instance: "myapp",
                app_layer,
            },
        )
    };
    let failure = |app: Option<&Path>| read(app).unwrap_err().to_string();

    fs::write(paths.local_layer("myapp"), b"[env]\nA = \xff\xfe\n").unwrap();
    let text = failure(None);
    assert!(
        text.contains("nodes/myapp.conf:2:5") && text.contains("0xff"),
        "{text}"
    );
    fs::remove_file(paths.local_layer("myapp")).unwrap();
    fs::create_dir(paths.local_layer("myapp")).unwrap();
    assert!(failure(None).contains("not a regular file"));
    fs::remove_dir(paths.local_layer("myapp")).unwrap();

    // A link in a checkout could show any file of the server in a message.
    let secret = root.path().join("shadow");
    fs::write(&secret, "root:hash\n").unwrap();
    let app = root.path().join(".metactl");
    symlink(&secret, &app).unwrap();
    let text = failure(Some(&app));
    assert!(
        text.contains("symbolic link") && !text.contains("hash"),
        "{text}"
    );
    fs::remove_file(&app).unwrap();
    assert!(read(Some(&app)).is_ok(), "no app layer is no error");

    fs::write(
        &app,
        vec![b'#'; usize::try_from(layers::MAX_FILE).unwrap() + 1],
    )
    .unwrap();
    assert!(failure(Some(&app)).contains("larger than 1 MiB"));
}

#[test]
fn a_pipe_does_not_block_and_a_bad_name_reads_nothing() {
    let (root, paths) = server(&[]);
    let pipe = root.path().join(".metactl");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    let text = layers::read(
        &paths,
        &Request {
            instance: "a",
            app_layer: Some(&pipe),
        },
    )
    .unwrap_err()
    .to_string();
    assert!(text.contains("not a regular file"), "{text}");
    for instance in ["", "../x", "a/b", ".x", "a b"] {
        assert!(
            layers::read(
                &paths,
                &Request {
                    instance,
                    app_layer: None
                }
            )
            .is_err(),
            "{instance}"
        );
    }
    let (_root, paths) = server(&[("metactl.conf", "[server]\nsite = ../../root\n")]);
    assert!(
        layers::read(
            &paths,
            &Request {
                instance: "a",
                app_layer: None
            }
        )
        .is_err()
    );
}

#[test]
fn show_prints_what_the_parser_reads_back() {
    let (root, paths) = server(&[(
        "nodes/myapp.conf",
        "[env]\nA = 2\nDB_PASSWORD = hush\nURL = db://me:%(DB_PASSWORD)@h\n[sandbox.net]\nip = 10.0.0.1\n",
    )]);
    let app = app_layer(
        &root,
        "[env]\nA = 1\nLONG = one\n  two\n[web]\nplatform = exec\ncommand = run %(A)\n",
    );
    let config = config(&paths, Some(&app));
    let all = render(&config.rows(None), true);
    for expected in [
        "[env]\nA = 2\n    # nodes/myapp.conf:2, was 1 (.metactl:2)\n",
        "LONG = one\n    two\n    # .metactl:3\n",
        "DB_PASSWORD = ***\n",
        "URL = db://me:***@h\n",
        "[daemon.web]\nplatform = exec\n    # .metactl:6\ncommand = run 2\n",
        "mode = routed\n    # default\n",
    ] {
        assert!(all.contains(expected), "{expected}\n{all}");
    }
    assert!(!all.contains("hush"), "{all}");

    let section = config.select("web").unwrap();
    assert_eq!(config.rows(Some(&section))[0].section, "daemon.web");
    let one = config.select("web:container").unwrap();
    assert_eq!(
        render(&config.rows(Some(&one)), false),
        "[daemon.web]\nplatform = exec\n"
    );
    let report = config.select("evn").unwrap_err().to_string();
    assert!(report.contains("did you mean `env`?"), "{report}");
    assert!(
        config
            .select("build:rep")
            .unwrap_err()
            .to_string()
            .contains("`repo`")
    );

    // Read back as a configuration, it says the same.
    let source = layers::Source::new(LayerKind::Local, Path::new("shown"), all.clone());
    let again = Config::from_sources(vec![source]).unwrap_or_else(|report| panic!("{report}"));
    let plain = |config: &Config| render(&config.rows(None), false);
    assert_eq!(plain(&again), plain(&config));
}
