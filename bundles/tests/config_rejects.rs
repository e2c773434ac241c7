//! Reject lists: who may say them, what they are in the model, and what is worth a warning.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use metactl_bundles::app::App;
use metactl_bundles::diagnostics::Report;
use metactl_bundles::layers::{Config, LayerKind, Source};
use metactl_bundles::model;
use metactl_bundles::network::Verdict;
use metactl_bundles::why::network::text_of;

fn load(app: &str, site: &str, local: &str) -> Result<(Config, App), Report> {
    let source =
        |layer, path: &str, text: &str| Source::new(layer, PathBuf::from(path), text.to_owned());
    let sources = vec![
        source(LayerKind::App, ".metactl", app),
        source(LayerKind::Site, "/etc/metactl/sites/prod/site.conf", site),
        source(LayerKind::Local, "/etc/metactl/nodes/myapp.conf", local),
    ];
    model::load(sources, "myapp")
}

fn warnings(config: &Config) -> Vec<String> {
    let all = config.warnings().iter();
    all.map(|warning| warning.render(false)).collect()
}

#[test]
fn every_layer_may_reject_and_higher_ones_take_it_away() {
    let app = "[env]\nNET = 10.3.0.0\n[daemon.a]\ncommand = x\nport = 80\n\
               [firewall.out.reject]\nmine = %(NET)/16:80-90/tcp bad.example.org\nother = 10.4.4.4\n\
               [firewall.in.reject]\nguests = 10.9.0.0/16\n";
    // The entries of the application count also where those of its accept list do not.
    let site = "[firewall.out]\ngrant = site\n[firewall.out.reject]\nmeta = 169.254.169.254\n";
    let (config, loaded) = load(app, site, "[firewall.out.reject]\nunset other\n").unwrap();
    let out: Vec<String> = loaded.sandbox.out.reject.iter().map(text_of).collect();
    assert_eq!(
        out,
        [
            "10.3.0.0/16:80-90/tcp",
            "bad.example.org",
            "169.254.169.254"
        ]
    );
    // What is served is decided beside it.
    let inbound = &loaded.sandbox.inbound;
    assert_eq!(inbound.policy, Verdict::Reject);
    assert_eq!(
        inbound.reject.iter().map(text_of).collect::<Vec<_>>(),
        ["10.9.0.0/16"]
    );
    assert!(config.requests().is_empty() && warnings(&config).is_empty());
    let none = load(app, site, "[firewall.out.reject]\nunset *\n")
        .unwrap()
        .1;
    assert!(none.sandbox.out.reject.is_empty());
}

#[test]
fn what_cannot_be_understood_or_enforced_is_an_error() {
    for (local, words) in [
        ("[firewall.out.reject]\na = 10.0.0.1:0\n", "from 1 to 65535"),
        ("[firewall.in.reject]\na = *.example.org\n", "*.example.org"),
        (
            "[firewall.out.rejekt]\na = 10.0.0.1\n",
            "firewall.out.reject",
        ),
        (
            "[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n[firewall.out.reject]\na = 10.0.0.1\n",
            "[firewall.out] cannot be enforced",
        ),
    ] {
        let text = load("", "", local).expect_err(local).to_string();
        assert!(text.contains(words), "{local}: {text}");
    }
}

#[test]
fn an_entry_in_both_lists_is_told_with_both_lines() {
    let app = "[firewall.out.accept]\nfits = 10.1.2.3:80\nwider = 10.0.0.0/8\nname = a.evil.example:443\n";
    let site = "[firewall.out.reject]\nlan = 10.1.0.0/16\nevil = *.evil.example\n";
    let (config, _) = load(app, site, "").unwrap();
    let found = warnings(&config);
    assert_eq!(found.len(), 2, "{found:?}");
    for (text, words) in found.iter().zip([
        [
            "`fits` (10.1.2.3:80)",
            "`lan` of [firewall.out.reject]",
            ".metactl:2",
            "site.conf:2",
        ],
        [
            "`name` (a.evil.example:443)",
            "`evil`",
            ".metactl:4",
            "site.conf:3",
        ],
    ]) {
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    let without = "[sandbox.net]\nmode = none\n[firewall.out.reject]\na = 10.0.0.1\n";
    let found = warnings(&load("", "", without).unwrap().0);
    assert!(
        found.len() == 1 && found[0].contains("[firewall.out.reject] changes nothing"),
        "{found:?}"
    );
}

#[test]
fn long_lists_are_compared_quickly() {
    let list = |text: fn(usize) -> String| -> String { (0..20_000).map(text).collect() };
    let accept = list(|n| format!("a{n} = h{n}.example.org:80\n"));
    let reject = list(|n| format!("r{n} = 10.{}.{}.0/24 2001:db8::{:x}\n", n / 250, n % 250, n));
    let local = format!("[firewall.out.accept]\n{accept}[firewall.out.reject]\n{reject}");
    let (config, loaded) = load("", "", &local).unwrap();
    assert_eq!(loaded.sandbox.out.reject.len(), 40_000);
    assert!(config.warnings().is_empty());
}

#[test]
fn what_the_sandbox_says_to_itself_is_not_rejected() {
    let app = "[daemon.a]\ncommand = x\n[firewall.out.accept]\nlo = 127.0.0.1:5432\nten = 10.0.0.1:80\n\
               [firewall.out.reject]\nlo = 127.0.0.0/8\nname = localhost\nall = 0.0.0.0/0\n";
    let (config, _) = load(app, "", "").unwrap();
    let found = warnings(&config);
    let nothing = |line: &&String| line.contains("rejects nothing there");
    assert_eq!(found.iter().filter(nothing).count(), 2, "{found:?}");
    let again: Vec<_> = found
        .iter()
        .filter(|line| line.contains("all the same"))
        .collect();
    assert!(again.len() == 1 && again[0].contains("`ten`"), "{found:?}");
}

#[test]
fn an_accept_list_where_everything_is_accepted_may_say_who_answers_and_where_names_may_lead() {
    let warned = |entry: &str| {
        let local = format!("[firewall.out]\npolicy = accept\n[firewall.out.accept]\n{entry}\n");
        let (config, loaded) = load("[daemon.a]\ncommand = x\n", "", &local).unwrap();
        assert_eq!(loaded.sandbox.out.policy, Verdict::Accept);
        let found = warnings(&config);
        found.iter().any(|line| line.contains("changes nothing"))
    };
    for useful in [
        "ns = 198.51.100.53:53",
        "db = db.example.org",
        "meta = 169.254.169.254",
        "lan = 10.0.0.0/8",
    ] {
        assert!(!warned(useful), "{useful}");
    }
    assert!(warned("www = 198.51.100.80:443"));
}
