//! What is wrong is told in one go, with file, line, column, the line, a caret and a hint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{LayerKind, Source};
use metactl_bundles::model;

fn app(text: &str) -> Source {
    let path = PathBuf::from(".metactl");
    Source::new(LayerKind::App, path, text.to_owned())
}

fn local(text: &str) -> Source {
    let path = PathBuf::from("/etc/metactl/nodes/myapp.conf");
    Source::new(LayerKind::Local, path, text.to_owned())
}

fn report(sources: Vec<Source>) -> Report {
    model::load(sources, "myapp").expect_err("a report")
}

/// The report of an app layer alone.
fn text(app_layer: &str) -> String {
    report(vec![app(app_layer)]).to_string()
}

#[test]
fn everything_wrong_in_all_layers_is_told_together() {
    let report = report(vec![
        app(include_str!("../testdata/broken/app.metactl")),
        local(include_str!("../testdata/broken/local.conf")),
    ]);
    let text = report.to_string();
    for expected in [
        ".metactl:2:11",
        "unknown name `DB_HSOT`",
        "`A` refers to itself: A -> B -> A",
        "note: `A` refers to `B`",
        "did you mean %(DB_HOST)?",
        "`1X` in [env] must be letters",
        ".metactl:8:2",
        "unknown section [bulid]",
        "did you mean [build]?",
        "did you mean `jetty9`?",
        "`port` in [daemon.web] must be a port from 1 to 65535",
        "did you mean `jvm.heap.max`?",
        "must close the \" at character 1",
        "`command` means nothing to platform jvm",
        "did you mean [daemon.web]?",
        "`path` in [health.web] must be a path of a URL",
        "it belongs into [build]",
        "this is `99999:x`",
        "no other star",
        "must have a minute from 0 to 59",
        "/etc/metactl/nodes/myapp.conf:4:2",
        "[daemon.wb] has no platform",
    ] {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let lines: Vec<usize> = report
        .diagnostics()
        .iter()
        .filter_map(|diagnostic| diagnostic.place.as_ref())
        .filter(|place| place.file.as_os_str() == ".metactl")
        .map(|place| place.line)
        .collect();
    assert!(lines.is_sorted(), "{lines:?}");
    assert!(
        report.render(true).contains("\u{1b}["),
        "colours for a terminal"
    );
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn a_caret_points_at_the_word() {
    let expected = "\
error: unknown section [bulid]
 --> .metactl:1:2
  |
1 | [bulid]
  |  ^^^^^ not a section
  |
help: did you mean [build]?";
    assert_eq!(text("[bulid]\ncommand = make\n"), expected);
}

#[test]
fn a_section_of_its_own_is_a_daemon_only_with_a_key_that_says_so() {
    for key in [
        "platform = exec\ncommand = x",
        "container = exec\ncommand = x",
        "java.main = X",
        "jvm.jar = x.jar",
    ] {
        let loaded = model::load(vec![app(&format!("[web]\n{key}\n"))], "a");
        assert!(
            loaded.is_ok_and(|(_, app)| app.daemons.contains_key("web")),
            "{key}"
        );
    }
    let text = text("[web]\ncommand = x\n");
    assert!(text.contains("a daemon is written [daemon.web]"), "{text}");
}

#[test]
fn a_bare_section_in_a_higher_layer_is_the_daemon_below() {
    let sources = vec![
        app("[web]\nplatform = jetty9\n"),
        local("[web]\nport = 81\n"),
    ];
    let (config, app) = model::load(sources, "a").unwrap();
    assert_eq!(app.daemons["web"].port, Some(81));
    assert_eq!(
        config.get("daemon.web", "port").unwrap().origin.layer,
        LayerKind::Local
    );
}

#[test]
fn two_names_of_one_key_are_one_key() {
    let text =
        text("[web]\nplatform = exec\ncontainer = jvm\ncommand = x\n[daemon.web]\ncommand = y\n");
    assert!(
        text.contains("`container` in [web] was set before, as `platform`"),
        "{text}"
    );
    assert!(
        text.contains("`command` in [daemon.web] was set before"),
        "{text}"
    );
}

#[test]
fn chains_of_references_are_shown_whole() {
    let report = report(vec![
        app("[firewall.out.accept]\ndb = %(DB)\n[env]\nDB = %(HOST):3306\n"),
        local("[env]\nHOST = db.%(DOMAIN)\n"),
    ]);
    let text = report.to_string();
    assert_eq!(report.diagnostics().len(), 1, "{text}");
    assert!(text.contains("unknown name `DOMAIN`: "), "{text}");
    assert!(text.contains("DB -> HOST -> DOMAIN"), "{text}");
    assert!(
        text.contains("/etc/metactl/nodes/myapp.conf:2:11"),
        "{text}"
    );
    assert!(text.contains(".metactl:4:6"), "{text}");
}

#[test]
fn contradictions_between_keys_are_found() {
    for (layer, expected) in [
        (
            "[daemon.a]\ncommand = x\nport = 80\n[daemon.b]\ncommand = y\nport = 80\n",
            "both have port 80",
        ),
        (
            "[daemon.a]\ncommand = x\nafter = b\n[daemon.b]\ncommand = y\nafter = a\n",
            "wait for each other: a after b after a",
        ),
        (
            "[daemon.a]\ncommand = x\nafter = a\n",
            "wait for each other: a after a",
        ),
        (
            "[daemon.web]\ncommand = x\nafter = wbe\n[daemon.wbx]\ncommand = y\n",
            "no daemon `wbe`",
        ),
        (
            "[daemon.a]\ncommand = x\nlimits.memory = 2g\n",
            "more than the limit of 1g (default)",
        ),
        (
            "[daemon.a]\nplatform = jvm\njvm.jar = a.jar\njvm.heap.max = 2g\n",
            "the JVM of [daemon.a] may take 2112m, more than the 1g",
        ),
        ("[daemon.cron]\ncommand = x\n", "cannot be called `cron`"),
        ("[daemon.a]\nport = 80\n", "has no platform"),
        (
            "[sandbox.net]\nmode = routed\n",
            "`mode = routed` needs an address",
        ),
        ("[daemon.a]\nplatform = jvm\n", "jvm.jar"),
    ] {
        let text = text(layer);
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
}

#[test]
fn the_servers_own_network_is_only_had_without_a_firewall() {
    let text = report(vec![local("[sandbox.net]\nmode = host\nip = 10.0.0.1\n")]).to_string();
    assert!(text.contains("[firewall.out] cannot be enforced"), "{text}");
    assert!(
        text.contains("`ip` in [sandbox.net] has no use with `mode = host`"),
        "{text}"
    );
    let both = "[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n";
    assert!(model::load(vec![local(both)], "a").is_ok());
}

#[test]
fn what_works_but_is_not_meant_is_a_warning() {
    let layer = "[daemon.a]\ncommand = a | b\n[firewall.in.accept]\nx = 10.0.0.1\n";
    let (config, _) = model::load(vec![app(layer)], "a").unwrap();
    let texts: Vec<&str> = config
        .warnings()
        .iter()
        .map(|w| w.message.as_str())
        .collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(
        texts[0].contains("no shell") && texts[1].contains("changes nothing"),
        "{texts:?}"
    );
}

#[test]
fn facts_of_the_server_do_not_belong_into_a_layer() {
    assert!(text("[server]\nsite = x\n").contains("put it into metactl.conf"));
}

#[test]
fn secret_values_are_not_in_messages() {
    let text = text(
        "[env]\nAPI_TOKEN = t0p %(X)\nU = http://u:t0p@h\n[build]\ntag = %(U) x\n[firewall.out.accept]\nx = http://u:t0p@h/\n[daemon.a]\ncommand = x\nport = t0p%(API_TOKEN)\n[daemon.b]\ncommand = ../%(U)\n",
    );
    assert!(!text.replace("port = t0p", "").contains("t0p"), "{text}");
}
