//! Every key that only those who run the server may say, from the table: the app layer cannot grant
//! it to itself, the key is listed as a request, and the printed lines grant it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use metactl_bundles::app::App;
use metactl_bundles::diagnostics::Report;
use metactl_bundles::keys::{Grant, KEYS, Key};
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;

/// Values of many types: the first one that a key takes is used.
const SAMPLES: &[&str] = &[
    "file:/srv/widened",
    "/srv/widened rw",
    "/srv/widened",
    "unlimited",
    "10.9.8.7",
    "10.9.0.0/24",
    "CAP_SYS_ADMIN",
    "www-data",
    "widened",
    "https://widened.example.org/x.git",
    "9g",
    "99",
    "99s",
    "widened.example.org:80",
    "5 0 * * * widened",
    "svc:/site/widened:default",
    "astring: widened",
];

const APP: &str = "[daemon.main]\nplatform = exec\ncommand = sleep 1\n";

fn source(layer: LayerKind, text: &str) -> Source {
    let name = match layer {
        LayerKind::App => ".metactl",
        _ => "local.conf",
    };
    Source::new(layer, PathBuf::from(name), text.to_owned())
}

fn load(app: &str, local: &str) -> Result<(Config, App), Report> {
    let sources = vec![source(LayerKind::App, app), source(LayerKind::Local, local)];
    model::load(sources, "myapp")
}

/// A section, a key and values of it, each of which only site or local may say.
fn widening(key: &'static Key) -> Vec<(String, String, &'static str)> {
    let section = match key.section {
        "daemon.*" => "daemon.main".to_owned(),
        plain => plain.to_owned(),
    };
    let name = match key.name {
        "*" => ["/widened", "widened", "WIDENED", "widened/x"]
            .into_iter()
            .find(|name| key.kind.check_name(name).is_ok())
            .expect("a name for it"),
        "repo.*" => "repo.widened",
        "tag.*" => "tag.widened",
        prefix if prefix.ends_with('*') => return vec![],
        plain => plain,
    };
    let values: Vec<&str> = match key.grant {
        Grant::Any | Grant::Server | Grant::UnlessSite(_) => return vec![],
        Grant::AnyBut(values) => values.to_vec(),
        Grant::Trusted => {
            let sample = SAMPLES.iter().find(|text| key.kind.check(text).is_ok());
            let choice = match key.kind {
                metactl_bundles::keys::Kind::Choice(words) => words.first(),
                _ => None,
            };
            let found = sample.or(choice);
            vec![found.unwrap_or_else(|| panic!("no sample for {section}:{name}"))]
        }
    };
    values
        .into_iter()
        .map(|value| (section.clone(), name.to_owned(), value))
        .collect()
}

#[test]
fn the_app_layer_cannot_grant_itself_any_key_of_the_table_that_is_not_its_to_say() {
    let (_, plain) = load(APP, "").unwrap();
    let mut seen = Vec::new();
    for key in KEYS.iter() {
        assert!(
            !key.name.ends_with(".*")
                || matches!(key.grant, Grant::Any)
                || matches!(key.name, "repo.*" | "tag.*"),
            "{} {}: this test has to learn such keys",
            key.section,
            key.name
        );
        for (section, name, value) in widening(key) {
            let what = format!("[{section}] {name} = {value}");
            let app = format!("{APP}[{section}]\n{name} = {value}\n");
            let (config, model) =
                load(&app, "").unwrap_or_else(|report| panic!("{what}\n{report}"));
            // It is as if the line were not there.
            assert_eq!(model, plain, "{what}");
            let said = config.get(&section, &name);
            assert!(
                said.is_none_or(|value| value.origin.layer == LayerKind::Defaults),
                "{what}: {said:?}"
            );
            // It is told, with its place, a reason, and what would grant it.
            let [request] = config.requests() else {
                panic!("{what}: {:?}", config.requests());
            };
            assert_eq!(
                (request.section.as_str(), request.key.as_str()),
                (section.as_str(), name.as_str())
            );
            assert_eq!(request.origin.to_string(), ".metactl:5", "{what}");
            assert!(request.reason.len() > 5, "{what}");
            // The printed lines are configuration, and do it.
            let granted = match load(&app, &request.grant) {
                Ok((config, _)) => config,
                // What contradicts the rest (host mode and addresses) is a fault of another kind,
                // and names the local layer.
                Err(report) => {
                    assert!(
                        report.to_string().contains("local.conf"),
                        "{what}\n{report}"
                    );
                    seen.push(what);
                    continue;
                }
            };
            let value_now = granted.get(&section, &name);
            // A key of another platform than this daemon's is granted, and left out.
            if key.platforms.is_empty() {
                let value_now = value_now.unwrap_or_else(|| panic!("{what}"));
                assert_eq!(value_now.text, value, "{what}");
                assert_eq!(value_now.origin.layer, LayerKind::Local, "{what}");
            }
            assert!(granted.requests().is_empty(), "{what}");
            seen.push(what);
        }
    }
    // The ones that people think of first are among them.
    for known in [
        "[sandbox.mounts] /widened",
        "[sandbox] user",
        "[sandbox] capabilities",
        "[sandbox] rootfs",
        "[sandbox.net] mode = host",
        "[sandbox.net] ip",
        "[firewall.out] policy = accept",
        "[firewall.out] grant",
        "[sandbox.limits] memory = unlimited",
        "[sandbox.limits] pids = unlimited",
        "[build] repo",
        "[secrets] widened",
    ] {
        assert!(
            seen.iter().any(|what| what.starts_with(known)),
            "{known} of {seen:?}"
        );
    }
}

#[test]
fn no_name_of_the_app_layer_gets_into_what_is_not_its_to_say() {
    for key in KEYS.iter() {
        for (section, name, value) in widening(key) {
            // Taken as written, not as a reference.
            if section == "secrets" {
                continue;
            }
            let app = format!("{APP}[env]\nMINE = {value}\n");
            let local = format!("[{section}]\n{name} = %(MINE)\n");
            // `platform` decides which keys a daemon has; the name is refused before.
            let text = match load(&app, &local) {
                Err(report) => report.to_string(),
                Ok((config, _)) => {
                    // Words are split before names are replaced: their type does not matter then.
                    panic!("[{section}] {name}: {:?}", config.get(&section, &name))
                }
            };
            let refused = text.contains("from the app layer")
                // Written like this it is no value of the type, whatever the name stands for.
                || text.contains("local.conf:2");
            assert!(refused, "[{section}] {name}\n{text}");
        }
    }
}

#[test]
fn entries_of_the_app_layer_are_requests_when_the_site_has_the_say() {
    for key in KEYS.iter() {
        let Grant::UnlessSite(closed) = key.grant else {
            continue;
        };
        let section = key.section;
        let app = format!("{APP}[{section}]\nmine = 10.9.8.7:80\n");
        let (open, _) = load(&app, "").unwrap();
        assert!(open.get(section, "mine").is_some() && open.requests().is_empty());
        let (config, _) = load(&app, &format!("[{closed}]\ngrant = site\n")).unwrap();
        assert!(config.get(section, "mine").is_none(), "{section}");
        assert_eq!(config.requests().len(), 1, "{section}");
        // The app layer cannot open it again.
        let again = format!("{app}[{closed}]\ngrant = any\n");
        let (config, _) = load(&again, &format!("[{closed}]\ngrant = site\n")).unwrap();
        assert!(config.get(section, "mine").is_none(), "{section}");
    }
}

#[test]
fn what_goes_to_systemd_is_for_who_runs_the_server_to_say() {
    for (section, key, value) in [
        (
            "systemd.service",
            "ExecStartPre",
            "/bin/sh -c 'id > /root/x'",
        ),
        ("systemd.unit", "OnFailure", "x.service"),
    ] {
        let lines = format!("[{section}]\n{key} = {value}\n");
        let (asked, _) = load(&format!("{APP}{lines}"), "").unwrap();
        assert!(asked.get(section, key).is_none(), "{section}");
        assert_eq!(asked.requests().len(), 1, "{section}");
        let (granted, _) = load(APP, &lines).unwrap();
        assert_eq!(granted.get(section, key).unwrap().text, *value);
        // More lines than one would be more settings than one.
        let two = format!("[{section}]\n{key} = a\n  ExecStart=/bin/sh\n");
        let text = load(APP, &two).unwrap_err().to_string();
        assert!(text.contains("must be one line"), "{text}");
        let text = load(APP, &format!("[{section}]\nno-key = a\n")).unwrap_err();
        assert!(text.to_string().contains("as systemd has it"), "{text}");
    }
}

#[test]
fn what_goes_to_smf_is_for_who_runs_the_server_to_say() {
    for (section, key, value, wrong) in [
        ("smf.method", "project", "user.web", "a b"),
        (
            "smf.dependency",
            "ldap",
            "svc:/network/ldap/client:default",
            "ldap",
        ),
        (
            "smf.property",
            "general/action_authorization",
            "astring: site.web",
            "text: x",
        ),
    ] {
        let lines = format!("[{section}]\n{key} = {value}\n");
        let (asked, app) = load(&format!("{APP}{lines}"), "").unwrap();
        assert!(asked.get(section, key).is_none(), "{section}");
        assert_eq!(asked.requests().len(), 1, "{section}");
        assert!(app.smf.is_empty());
        let (granted, app) = load(APP, &lines).unwrap();
        assert_eq!(granted.get(section, key).unwrap().text, *value);
        assert!(!app.smf.is_empty(), "{section}");
        let text = load(APP, &format!("[{section}]\n{key} = {wrong}\n"))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("local.conf:2:") && text.contains("must "),
            "{text}"
        );
    }
    // Names that are metactl's, that are none, and that two sections would give to one group.
    for (lines, says) in [
        (
            "[smf.property]\nmetactl/bundle = astring: x\n",
            "metactl or SMF itself writes",
        ),
        ("[smf.property]\nthreads = count: 8\n", "must be GROUP/NAME"),
        (
            "[smf.dependency]\nnetwork = svc:/a:b\n",
            "metactl or SMF itself writes",
        ),
        ("[smf.method]\nuser = root\n", "user"),
        ("[smf]\nx = y\n", "unknown section [smf]"),
        (
            "[smf.dependency]\nldap = svc:/a:b\n[smf.property]\nldap/x = count: 1\n",
            "another name",
        ),
    ] {
        let text = load(APP, lines).unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
}
