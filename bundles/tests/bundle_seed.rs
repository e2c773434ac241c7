//! The samples of the design note, from their text to their bundles.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is the failure of the test"
)]

mod support;

use std::path::PathBuf;

use metactl_bundles::app::App;
use metactl_bundles::bundle::{self, Composition};
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::network::{Mode, Verdict};
use metactl_bundles::view::HostView;
use support::{debian, json, somewhere};

macro_rules! layers {
    ($app:literal, $site:literal, $local:literal) => {
        [
            (
                LayerKind::App,
                ".metactl",
                include_str!(concat!("../testdata/seed/", $app)),
            ),
            (
                LayerKind::Site,
                "/etc/metactl/sites/prod/myapp.conf",
                include_str!(concat!("../testdata/seed/", $site)),
            ),
            (
                LayerKind::Local,
                "/etc/metactl/nodes/myapp.conf",
                include_str!(concat!("../testdata/seed/", $local)),
            ),
        ]
    };
}

fn load(layers: [(LayerKind, &str, &str); 3]) -> (Config, App) {
    let source = |(layer, path, text): (LayerKind, &str, &str)| {
        Source::new(layer, PathBuf::from(path), text.to_owned())
    };
    model::load(layers.map(source).to_vec(), "myapp").unwrap_or_else(|report| panic!("{report}"))
}

fn compose((config, app): &(Config, App), host: &HostView) -> Composition {
    bundle::compose(app, config, &somewhere(), host).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_configuration_sample_becomes_bundles() {
    let loaded = load(layers!("app.metactl", "site.conf", "local.conf"));
    let bundle = compose(&loaded, &debian());
    let jobs = json(&bundle, "jobmanager/config.json");
    let args = jobs["process"]["args"].as_array().unwrap();
    // The port of the local layer, in the argument and in the environment.
    assert_eq!(args[args.len() - 2..], ["/app/jobmanager.jar", "9001"]);
    assert!(
        jobs["process"]["env"]
            .to_string()
            .contains("\"JOB_MANAGER_PORT=9001\"")
    );
    // The defaults: 1 GiB and 1024 processes for the instance.
    assert_eq!(jobs["linux"]["resources"]["memory"]["limit"], 1 << 30);
    assert_eq!(jobs["linux"]["resources"]["pids"]["limit"], 1024);

    let webapp = json(&bundle, "webapp/config.json");
    let args = webapp["process"]["args"].to_string();
    assert!(args.contains("/usr/share/jetty6/start.jar") && args.contains("-Djetty.port=80"));
    assert!(bundle.text("cron/daily-housekeeping/config.json").is_some());
    assert!(
        bundle
            .text("cron/harvest-data-on-mondays/config.json")
            .is_some()
    );

    // The manifest knows where everything was said, and shows no password.
    let manifest = bundle.text("manifest.json").unwrap();
    assert!(!manifest.contains("secret@"), "{manifest}");
    let port = bundle
        .manifest
        .settings
        .iter()
        .find(|s| s.key == "JOB_MANAGER_PORT")
        .unwrap();
    assert_eq!(
        (port.value.as_str(), port.origin.as_str()),
        ("9001", "nodes/myapp.conf:3")
    );
    assert_eq!(bundle.manifest.layers.len(), 3);
    for text in bundle
        .redacted()
        .items
        .keys()
        .filter_map(|path| bundle.redacted().text(path).map(str::to_owned))
    {
        assert!(!text.contains("myapp:secret"), "{text}");
    }
    assert_eq!(compose(&loaded, &debian()).digest(), bundle.digest());
}

#[test]
fn the_sandbox_sample_becomes_a_network() {
    let loaded = load(layers!(
        "sandbox-app.metactl",
        "sandbox-site.conf",
        "sandbox-local.conf"
    ));
    let mut place = somewhere();
    place.addresses.clear();
    let bundle = bundle::compose(&loaded.1, &loaded.0, &place, &debian()).unwrap();
    let network = &bundle.network;
    assert_eq!(network.mode, Mode::Routed);
    assert_eq!(
        network.addresses,
        ["192.168.0.5".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(network.out.policy, Verdict::Reject);
    assert_eq!(network.host_names(), ["mysql.example.org"]);
    assert_eq!(network.pool, None, "the pool is of nat mode");
    assert!(
        bundle
            .text("webapp/config.json")
            .unwrap()
            .contains("/usr/share/jetty8/start.jar")
    );
}

#[test]
fn what_is_missing_points_at_the_line() {
    let (config, app) = load(layers!("app.metactl", "site.conf", "local.conf"));
    let mut host = debian();
    host.java = None;
    host.needs.clear();
    let error = bundle::compose(&app, &config, &somewhere(), &host)
        .unwrap_err()
        .to_string();
    for part in [
        ".metactl:5:12",
        "platform = jetty6",
        "Jetty 6 is not on this host: there is no /usr/share/jetty6/start.jar",
        "Java is not on this host",
        "jetty.home",
    ] {
        assert!(error.contains(part), "no `{part}` in:\n{error}");
    }
}
