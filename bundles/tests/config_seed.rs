//! The configuration samples of the original design note, as they are written there, and the
//! results that it implies.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use metactl_bundles::app::App;
use metactl_bundles::layers::{self, Config, LayerKind, Request, Source};
use metactl_bundles::model;
use metactl_bundles::network::{Mode, Peer, PortRange, Verdict};
use metactl_bundles::paths::Paths;

fn source(layer: LayerKind, path: &str, text: &str) -> Source {
    Source::new(layer, PathBuf::from(path), text.to_owned())
}

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("../testdata/seed/", $name))
    };
}

fn layers() -> (Config, App) {
    let sources = vec![
        source(LayerKind::App, ".metactl", sample!("app.metactl")),
        source(
            LayerKind::Site,
            "/etc/metactl/sites/prod/myapp.conf",
            sample!("site.conf"),
        ),
        source(
            LayerKind::Local,
            "/etc/metactl/nodes/myapp.conf",
            sample!("local.conf"),
        ),
    ];
    model::load(sources, "myapp").unwrap_or_else(|report| panic!("{report}"))
}

fn sandbox() -> (Config, App) {
    let sources = vec![
        source(LayerKind::App, ".metactl", sample!("sandbox-app.metactl")),
        source(
            LayerKind::Site,
            "/etc/metactl/sites/prod/myapp.conf",
            sample!("sandbox-site.conf"),
        ),
        source(
            LayerKind::Local,
            "/etc/metactl/nodes/myapp.conf",
            sample!("sandbox-local.conf"),
        ),
    ];
    model::load(sources, "myapp").unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn the_local_layer_changes_the_port_of_the_job_manager() {
    let (config, app) = layers();
    let port = config.get("env", "JOB_MANAGER_PORT").unwrap();
    assert_eq!(port.text, "9001");
    assert_eq!(port.origin.to_string(), "nodes/myapp.conf:3");
    assert_eq!(port.origin.layer, LayerKind::Local);
    let (replaced, text) = &port.overrides[0];
    assert_eq!(
        (replaced.to_string().as_str(), text.as_str()),
        (".metactl:2", "9000")
    );
    assert_eq!(
        config.words("daemon.jobmanager", "jvm.jar").unwrap(),
        ["jobmanager.jar", "9001"]
    );
    let args = &app.daemons["jobmanager"].launch.args;
    assert!(
        args.ends_with(&["-jar".into(), "/app/jobmanager.jar".into(), "9001".into()]),
        "{args:?}"
    );
    assert!(args.contains(&"-Xmx128m".to_owned()));
    assert_eq!(app.env["JOB_MANAGER_PORT"].value, "9001");
}

#[test]
fn the_entry_points_are_two_daemons_and_two_cron_jobs() {
    let (_, app) = layers();
    assert_eq!(app.name, "myapp");
    assert_eq!(
        app.daemons.keys().collect::<Vec<_>>(),
        ["jobmanager", "webapp"]
    );
    let webapp = &app.daemons["webapp"];
    assert_eq!(
        (webapp.launch.platform.as_str(), webapp.port),
        ("jetty6", Some(80))
    );
    assert!(webapp.launch.args.contains(&"-Xmx256m".to_owned()));
    assert_eq!(webapp.origin.to_string(), ".metactl:5");
    assert_eq!(app.daemons["jobmanager"].port, None);

    let jobs: Vec<_> = app
        .cron
        .iter()
        .map(|job| {
            (
                job.name.as_str(),
                job.schedule.as_str(),
                job.command.as_str(),
            )
        })
        .collect();
    assert_eq!(
        jobs,
        [
            (
                "daily housekeeping",
                "5 0 * * *",
                "curl http://localhost/housekeeping"
            ),
            (
                "harvest data on mondays",
                "10 0 * * 1",
                "java -jar harvest.jar"
            ),
        ]
    );
    assert_eq!(app.cron[0].slug, "daily-housekeeping");
    assert_eq!(app.cron[1].origin.to_string(), ".metactl:15");
}

#[test]
fn the_site_layer_says_what_to_build_and_its_password_is_not_shown() {
    let (config, app) = layers();
    assert_eq!(
        app.build.repo.as_deref(),
        Some("svn://svn.example.org/myapp")
    );
    assert_eq!(app.build.tag.as_deref(), Some("1.2.3"));
    let url = config.get("env", "DB_URL").unwrap();
    assert_eq!(
        url.text,
        "mysql://myapp:secret@mysql-prod.example.org/myapp"
    );
    assert!(url.sensitive);
    assert_eq!(
        config.shown("env", "DB_URL"),
        Some("mysql://myapp:***@mysql-prod.example.org/myapp")
    );
    assert!(config.warnings().is_empty() && config.requests().is_empty());
}

#[test]
fn without_a_word_about_the_network_an_address_of_the_pool_and_nothing_outward() {
    let (_, app) = layers();
    assert_eq!(app.sandbox.net.mode, Mode::Nat);
    assert_eq!(app.sandbox.out.policy, Verdict::Reject);
    assert!(app.sandbox.out.accept.is_empty());
    // The web application says which port it serves; what else comes in has to be written.
    assert_eq!(app.sandbox.inbound.policy, Verdict::Reject);
    assert_eq!(app.sandbox.inbound.accept[0].name, "daemon.webapp");
    assert_eq!(app.sandbox.limits.memory, Some(1 << 30));
    assert_eq!(app.sandbox.limits.pids, Some(1024));
}

#[test]
fn the_sandbox_samples() {
    let (config, app) = sandbox();
    let webapp = &app.daemons["webapp"];
    assert_eq!(
        (webapp.launch.platform.as_str(), webapp.port),
        ("jetty8", Some(80))
    );
    assert_eq!(
        config
            .get("daemon.webapp", "platform")
            .unwrap()
            .origin
            .to_string(),
        ".metactl:2"
    );

    let database = config.get("firewall.out.accept", "database").unwrap();
    assert_eq!(database.text, "mysql.example.org:3306");
    assert_eq!(database.raw, "%(DB_HOST):%(DB_PORT)");
    assert_eq!(app.sandbox.out.policy, Verdict::Reject);
    let [database, testlan] = app.sandbox.out.accept.as_slice() else {
        panic!("two entries")
    };
    assert_eq!(database.name, "database");
    assert_eq!(database.peer, Peer::Host("mysql.example.org".to_owned()));
    assert_eq!(
        database.ports,
        [PortRange {
            first: 3306,
            last: 3306
        }]
    );
    assert_eq!(
        testlan.peer,
        Peer::Net("10.1.1.0/24".parse::<IpNet>().unwrap())
    );
    assert!(testlan.ports.is_empty() && testlan.protocol.is_none());

    assert_eq!(app.sandbox.net.mode, Mode::Routed);
    assert_eq!(
        app.sandbox.net.addresses,
        ["192.168.0.5".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        app.sandbox.net.ip_origin.as_ref().unwrap().to_string(),
        "nodes/myapp.conf:2"
    );
}

#[test]
fn the_app_layer_alone_names_what_it_needs() {
    let app = || {
        vec![source(
            LayerKind::App,
            ".metactl",
            sample!("sandbox-app.metactl"),
        )]
    };
    let config = Config::check(app()).unwrap();
    let needed: Vec<_> = config
        .needed()
        .iter()
        .map(|n| (n.name.as_str(), n.origin.to_string()))
        .collect();
    assert_eq!(
        needed,
        [
            ("DB_HOST", ".metactl:9".to_owned()),
            ("DB_PORT", ".metactl:9".to_owned())
        ]
    );
    let app_model = model::build(&config, "myapp").unwrap();
    assert_eq!(app_model.sandbox.out.accept.len(), 1, "only what is known");

    let report = Config::from_sources(app()).unwrap_err().to_string();
    assert!(
        report.contains("unknown name `DB_HOST`") && report.contains(".metactl:9:12"),
        "{report}"
    );
}

#[test]
fn the_examples_are_right() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in ["hello", "myapp"] {
        let path = examples.join(name).join(".metactl");
        let text = std::fs::read_to_string(&path).unwrap();
        let config = Config::check(vec![source(LayerKind::App, ".metactl", &text)])
            .unwrap_or_else(|report| panic!("{report}"));
        assert!(
            config.requests().is_empty() && config.warnings().is_empty(),
            "{name}"
        );
        let app = model::build(&config, name).unwrap_or_else(|report| panic!("{report}"));
        assert!(!app.daemons.is_empty(), "{name}");
    }
}

#[test]
fn the_example_of_a_server_is_right() {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/myapp");
    let mut paths = Paths::under(&example);
    paths.config = example.join("server");
    let app_layer = example.join(".metactl");
    let request = Request {
        instance: "myapp",
        app_layer: Some(&app_layer),
    };
    let sources = layers::read(&paths, &request).unwrap_or_else(|report| panic!("{report}"));
    assert!(sources.len() >= 3);
    let (config, app) = model::load(sources, "myapp").unwrap_or_else(|report| panic!("{report}"));
    assert!(
        config.requests().is_empty() && config.warnings().is_empty(),
        "{:?}",
        config.warnings()
    );
    assert_eq!(app.sandbox.out.accept.len(), 2);
}
