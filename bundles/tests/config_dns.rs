//! `[dns]`: where instances are registered by name, and who may say so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use metactl_bundles::app::{App, Dns};
use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;

const APP: &str = "[daemon.main]\nplatform = exec\ncommand = sleep 1\n";
const DNS: &str = "[dns]\nzone = Apps.Example.org.\nserver = 10.0.0.53 [2001:db8::53]:5353\nkey.file = /etc/metactl/dns.key\n";

fn load(layers: &[(LayerKind, &str)]) -> Result<(Config, App), Report> {
    let source = |(layer, text): &(LayerKind, &str)| {
        let path = PathBuf::from(format!("{}.conf", layer.name()));
        let text = match layer {
            LayerKind::App => format!("{APP}{text}"),
            _ => (*text).to_owned(),
        };
        Source::new(*layer, path, text)
    };
    model::load(layers.iter().map(source).collect(), "shop-2")
}

fn dns(layers: &[(LayerKind, &str)]) -> Option<Dns> {
    load(layers).unwrap().1.dns
}

#[test]
fn a_site_says_it_once() {
    let found = dns(&[(LayerKind::App, ""), (LayerKind::Site, DNS)]).unwrap();
    assert_eq!(found.zone, "apps.example.org");
    assert_eq!(found.app, "shop-2");
    assert_eq!(found.servers.len(), 2);
    assert_eq!(found.key_file, Path::new("/etc/metactl/dns.key"));
    assert_eq!((found.ttl, found.host, found.reverse), (60, None, None));
    let more = "[dns]\nttl = 5m\nhost = Rack7\nreverse = none\n";
    let layers = [
        (LayerKind::App, ""),
        (LayerKind::Site, DNS),
        (LayerKind::Server, more),
    ];
    let found = dns(&layers).unwrap();
    assert_eq!((found.ttl, found.host.as_deref()), (300, Some("rack7")));
    assert_eq!(found.reverse, Some(Vec::new()));
    // One instance can stay out of it.
    let out = "[dns]\nunset zone\n";
    let layers = [
        (LayerKind::App, ""),
        (LayerKind::Site, DNS),
        (LayerKind::Local, out),
    ];
    assert_eq!(dns(&layers), None);
}

#[test]
fn a_repository_takes_no_names() {
    // Neither the zone of somebody, nor the name of another application.
    let (config, app) = load(&[(LayerKind::App, DNS)]).unwrap();
    assert_eq!(app.dns, None);
    let asked: Vec<&str> = config
        .requests()
        .iter()
        .map(|request| request.key.as_str())
        .collect();
    assert!(
        asked.contains(&"zone") && asked.contains(&"key.file"),
        "{asked:?}"
    );
    let named = "[app]\nname = mail\n";
    let layers = [(LayerKind::App, named), (LayerKind::Site, DNS)];
    let (_, app) = load(&layers).unwrap();
    assert_eq!(
        (app.name.as_str(), app.dns.unwrap().app.as_str()),
        ("mail", "shop-2")
    );
    let local = "[app]\nname = shop\n";
    let layers = [
        (LayerKind::App, named),
        (LayerKind::Site, DNS),
        (LayerKind::Local, local),
    ];
    assert_eq!(dns(&layers).unwrap().app, "shop");
}

#[test]
fn a_zone_alone_is_an_error() {
    let report = load(&[
        (LayerKind::App, ""),
        (LayerKind::Site, "[dns]\nzone = example.org\n"),
    ])
    .unwrap_err();
    let text = report.to_string();
    assert_eq!(report.diagnostics().len(), 2, "{text}");
    for part in [
        "of no use without `server`",
        "of no use without `key.file`",
        "tsig-keygen",
        "site.conf:2",
    ] {
        assert!(text.contains(part), "{text}");
    }
    for (line, problem) in [
        ("zone = a..b", "must be a domain"),
        ("server = ns.example.org", "must be addresses"),
        ("key.file = dns.key", "from the root"),
        ("host = a.b", "one label"),
        ("reverse = ?", "is no domain"),
        ("ttl = 60", "must have a unit"),
        ("secret = x", "unknown key"),
    ] {
        let text = format!("[dns]\n{line}\n");
        let report = load(&[(LayerKind::App, ""), (LayerKind::Site, &text)]).unwrap_err();
        assert!(report.to_string().contains(problem), "{report}");
    }
}
