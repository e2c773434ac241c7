//! What platforms need of the host and of the release, when a bundle is composed.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use metactl_bundles::app::{App, Health};
use metactl_bundles::bundle::{self, BundleError};
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::view::{HostView, NeedFacts};
use support::{app, compose, daemon, debian, json, open_tempdir, placement, somewhere, with};

/// Composing `app` on `host` is refused with this text.
fn refused(app: &App, host: &HostView) -> String {
    match bundle::compose(app, &Config::default(), &somewhere(), host) {
        Err(BundleError::Refused(report)) => report.to_string(),
        other => panic!("it was not refused: {other:?}"),
    }
}

/// [`debian`] with these programs.
fn with_programs(paths: &[&str]) -> HostView {
    let mut host = debian();
    for path in paths {
        let facts = NeedFacts {
            real: PathBuf::from(path),
            probed: true,
            etc: BTreeMap::new(),
        };
        host.needs.insert(PathBuf::from(path), facts);
    }
    host
}

#[test]
fn a_missing_program_names_the_line_the_path_and_the_package() {
    for (platform, key, value, what, path, hint) in [
        (
            "node",
            "node.script",
            "x.js",
            "Node.js",
            "/usr/bin/node",
            "nodejs",
        ),
        (
            "perl",
            "perl.script",
            "x.pl",
            "Perl",
            "/usr/bin/perl",
            "perl",
        ),
        (
            "perl",
            "perl.psgi",
            "x",
            "plackup",
            "/usr/bin/plackup",
            "libplack-perl",
        ),
        ("php", "php.root", "x", "PHP", "/usr/bin/php", "php-cli"),
        (
            "python",
            "python.module",
            "x",
            "Python 3",
            "/usr/bin/python3",
            "python3",
        ),
        (
            "python",
            "python.wsgi",
            "x:y",
            "gunicorn",
            "/usr/bin/gunicorn",
            "gunicorn",
        ),
        (
            "ruby",
            "ruby.script",
            "x.rb",
            "Ruby",
            "/usr/bin/ruby",
            "ruby",
        ),
        (
            "ruby",
            "ruby.rack",
            "config.ru",
            "a server for Rack",
            "/usr/bin/puma",
            "puma",
        ),
        (
            "static",
            "static.root",
            "x",
            "Python 3",
            "/usr/bin/python3",
            "python3",
        ),
    ] {
        let text = refused(
            &with(app("a"), daemon("web", platform, &[(key, value)])),
            &debian(),
        );
        for part in [
            ".metactl:10",
            &format!("{what} is not on this host: there is no {path}"),
            &format!("apt-get install {hint}"),
        ] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
    }
}

#[test]
fn the_first_server_that_is_there_serves_rack() {
    let rack = with(
        app("a"),
        daemon("web", "ruby", &[("ruby.rack", "config.ru")]),
    );
    let args = |host: &HostView| {
        let config = json(&compose(&rack, &somewhere(), host), "web/config.json");
        config["process"]["args"][1].as_str().unwrap().to_owned()
    };
    let both = ["/usr/bin/ruby", "/usr/bin/puma", "/usr/bin/rackup"];
    assert_eq!(args(&with_programs(&both)), "/usr/bin/puma");
    let one = ["/usr/bin/ruby", "/usr/bin/rackup"];
    assert_eq!(args(&with_programs(&one)), "/usr/bin/rackup");
}

#[test]
fn the_health_check_is_in_the_manifest() {
    let app = with(app("a"), daemon("web", "php", &[("php.root", ".")]));
    let bundle = compose(&app, &somewhere(), &with_programs(&["/usr/bin/php"]));
    let manifest = json(&bundle, "manifest.json");
    assert_eq!(manifest["entries"][0]["health"], "http");
    assert_eq!(manifest["entries"][0]["port"], 80);
}

#[test]
fn the_release_is_looked_at() {
    let dir = open_tempdir();
    fs::create_dir(dir.path().join("public")).unwrap();
    fs::write(dir.path().join("public/run.js"), "").unwrap();
    let lacks = |script: &str| {
        let app = with(app("a"), daemon("web", "node", &[("node.script", script)]));
        HostView::gather(&app, &placement(Path::new("/nowhere"), dir.path())).release_lacks
    };
    assert!(lacks("public/run.js --fast").is_empty());
    assert!(lacks("public").is_empty());
    assert!(lacks("run.js").contains(Path::new("run.js")));
    let mut host = with_programs(&["/usr/bin/node"]);
    host.release_lacks.insert("run.js".into());
    let text = refused(
        &with(
            app("a"),
            daemon("web", "node", &[("node.script", "run.js")]),
        ),
        &host,
    );
    assert!(
        text.contains("the release has no run.js") && text.contains(".metactl:10"),
        "{text}"
    );
}

/// The application of this `.metactl`, and its warnings.
fn load(text: &str) -> (Vec<String>, App) {
    let sources = vec![Source::new(
        LayerKind::App,
        PathBuf::from(".metactl"),
        text.to_owned(),
    )];
    let (config, app) = model::load(sources, "a").unwrap_or_else(|report| panic!("{report}"));
    let warnings = config
        .warnings()
        .iter()
        .map(|warning| warning.message.clone());
    (warnings.collect(), app)
}

#[test]
fn defaults_are_those_of_the_platform_that_the_keys_say() {
    let (warnings, app) = load("[web]\nphp.root = public\n[daemon.job]\nphp.script = job.php\n");
    assert!(warnings.is_empty(), "{warnings:?}");
    let (web, job) = (&app.daemons["web"], &app.daemons["job"]);
    assert_eq!((web.launch.platform.as_str(), web.port), ("php", Some(80)));
    assert_eq!((web.launch.health, web.stop.signal), (Health::Http, 2));
    assert_eq!(
        (job.port, job.launch.health, job.stop.signal),
        (None, Health::Tcp, 2)
    );
    let (_, app) = load("[daemon.web]\nphp.root = public\nport = 81\nstop.signal = TERM\n");
    assert_eq!(
        (app.daemons["web"].port, app.daemons["web"].stop.signal),
        (Some(81), 15)
    );
    let (_, app) = load("[daemon.web]\ncommand = ./x\n");
    assert_eq!(app.daemons["web"].stop.signal, 15);
}

#[test]
fn a_check_of_nothing_is_a_warning() {
    let (warnings, _) = load("[daemon.job]\nnode.script = x.js\nhealth = http\n");
    assert_eq!(
        warnings,
        ["`health = http` asks nobody: [daemon.job] has no port"]
    );
}
