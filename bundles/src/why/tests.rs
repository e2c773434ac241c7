use std::net::IpAddr;
use std::path::PathBuf;

use super::network::{Direction, Network, Resolved};
use super::*;
use crate::app::App;
use crate::layers::{LayerKind, Source};
use crate::model;

/// The transcripts' application: `database` stands in line 20.
const APP: &str = "\
[app]
name = myapp

[webapp]
container = jetty8
jvm.heap.max = 256m

[env]
LEVEL = info
API_TOKEN = hush




[firewall.out]
policy = reject


[firewall.out.accept]
database = %(DB_HOST):%(DB_PORT)
testlan = 10.1.1.0/24
web = proxy.example.org:80,443/tcp
far = [2001:db8::1]:80
";
const SITE: &str = "[env]\nDB_HOST = mysql.example.org\nDB_PORT = 3306\n";
const LOCAL: &str = "[sandbox.net]\nip = 192.168.0.5\n[env]\nLEVEL = debug\n";

fn load(app: &str, site: &str, local: &str) -> (Config, App) {
    let source =
        |layer, path: &str, text: &str| Source::new(layer, PathBuf::from(path), text.to_owned());
    let sources = vec![
        source(LayerKind::App, ".metactl", app),
        source(LayerKind::Site, "/etc/metactl/sites/prod/myapp.conf", site),
        source(LayerKind::Local, "/etc/metactl/nodes/myapp.conf", local),
    ];
    model::load(sources, "myapp").unwrap_or_else(|report| panic!("{report}"))
}

/// An answer in one line: `yes: .metactl:20 database, with DB_HOST from sites/prod/myapp.conf:2`.
fn said(answer: &Answer) -> String {
    let because = answer.because.iter().map(|because| {
        let origin = because.origin.as_ref().map(|origin| format!("{origin} "));
        let names = because
            .names
            .iter()
            .map(|(name, origin)| format!(", with {name} from {origin}"));
        format!(
            "{}{}{}",
            origin.unwrap_or_default(),
            because.text,
            names.collect::<String>()
        )
    });
    let reasons = because.collect::<Vec<_>>().join(" | ");
    match &answer.how {
        Some(how) => format!("{}, {how}: {reasons}", answer.verdict.name()),
        None => format!("{}: {reasons}", answer.verdict.name()),
    }
}

struct Scene {
    config: Config,
    app: App,
    resolved: Resolved,
}

impl Scene {
    fn new(app: &str, site: &str, local: &str) -> Scene {
        let (config, app) = load(app, site, local);
        let resolved = Resolved::new();
        Scene {
            config,
            app,
            resolved,
        }
    }

    fn seed() -> Scene {
        Scene::new(APP, SITE, LOCAL)
    }

    fn knows(mut self, name: &str, addresses: &[&str]) -> Scene {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        self.resolved.insert(name.to_owned(), addresses.collect());
        self
    }

    fn ask(&self, text: &str, direction: Direction) -> Answer {
        let addresses: Vec<IpAddr> = self.app.sandbox.net.addresses.clone();
        let network = Network {
            config: &self.config,
            app: &self.app,
            addresses: &addresses,
            resolved: &self.resolved,
        };
        network.answer(&destination(text).unwrap(), direction)
    }

    fn out(&self, text: &str) -> String {
        said(&self.ask(text, Direction::Out))
    }

    fn key(&self, text: &str) -> Answer {
        match Question::understand(&self.config, text).unwrap() {
            Question::Key(selector) => key::answer(&self.config, &selector),
            other => panic!("{text} is {other:?}"),
        }
    }
}

#[test]
fn the_answer_of_the_transcripts() {
    let answer = Scene::seed().out("mysql.example.org:3306");
    assert_eq!(
        answer,
        "yes: .metactl:20 database, with DB_HOST from sites/prod/myapp.conf:2, \
         with DB_PORT from sites/prod/myapp.conf:3"
    );
}

#[test]
fn ports_protocols_and_prefixes() {
    let scene = Scene::seed();
    let starts = |asked: &str, wanted: &str| {
        let said = scene.out(asked);
        assert!(said.starts_with(wanted), "{asked}: {said}");
    };
    starts("mysql.example.org:3306/udp", "yes: .metactl:20 database,");
    starts(
        "MySQL.example.org",
        "yes: .metactl:20 database (only port 3306),",
    );
    starts(
        "mysql.example.org:3307",
        "no: .metactl:16 [firewall.out] policy: reject",
    );
    starts("10.1.1.7:22/tcp", "yes: .metactl:21 testlan");
    starts("10.1.1.7", "yes: .metactl:21 testlan");
    starts("10.1.1.0/25", "yes: .metactl:21 testlan");
    starts(
        "10.1.0.0/16",
        "partly: .metactl:21 testlan (of it only 10.1.1.0/24)",
    );
    starts("10.1.2.7", "no:");
    starts("proxy.example.org:443", "yes: .metactl:22 web (only TCP)");
    starts("proxy.example.org:443/udp", "no:");
    starts("proxy.example.org:80,443/tcp", "yes: .metactl:22 web");
    starts("proxy.example.org:80-81", "partly: .metactl:22 web");
    starts("proxy.example.org/icmp", "no:");
    starts("10.1.1.7/icmp", "yes: .metactl:21 testlan");
    // Only an instance with an IPv6 address comes there.
    starts(
        "[2001:db8::1]:80",
        "no: nodes/myapp.conf:2 [sandbox.net] ip: the instance has no IPv6",
    );
    starts("localhost:8080", "yes: localhost is the instance itself");
    starts("192.168.0.5", "yes: it is the instance's own address");
}

#[test]
fn a_no_names_what_would_allow_it() {
    let scene = Scene::seed();
    let allow = |asked: &str, direction| {
        let answer = scene.ask(asked, direction);
        let allow = answer.allow.last().expect("something would");
        (allow.command.join(" "), allow.lines.clone())
    };
    assert_eq!(
        allow("smtp.example.org:25", Direction::Out),
        (
            "allow smtp=smtp.example.org:25".to_owned(),
            "[firewall.out.accept]\nsmtp = smtp.example.org:25".to_owned()
        )
    );
    // A name that is taken would replace another entry.
    assert_eq!(
        allow("web.example.org:25", Direction::Out).0,
        "allow web-2=web.example.org:25"
    );
    assert_eq!(
        allow("10.9.9.0/24:5/udp", Direction::Out).0,
        "allow 10-9-9-0-24=10.9.9.0/24:5/udp"
    );
    let near = scene.out("mysql.example.org:3307");
    assert!(
        near.contains("| .metactl:20 database (only port 3306)"),
        "{near}"
    );
}

#[test]
fn names_and_addresses_meet_when_they_are_known() {
    let scene = Scene::seed()
        .knows("mysql.example.org", &["10.2.0.20"])
        .knows("inside.example.org", &["10.1.1.9"])
        .knows("half.example.org", &["10.1.1.9", "10.9.9.9"]);
    assert!(
        scene
            .out("10.2.0.20:3306")
            .starts_with("yes: .metactl:20 database (mysql.example.org is 10.2.0.20 now), with")
    );
    assert!(
        scene
            .out("10.2.0.0/24:3306")
            .starts_with("partly: .metactl:20 database")
    );
    assert!(
        scene
            .out("inside.example.org:22")
            .starts_with("yes: .metactl:21 testlan (inside")
    );
    assert!(
        scene
            .out("half.example.org:22")
            .starts_with("partly: .metactl:21 testlan (half")
    );
    assert!(Scene::seed().out("10.2.0.20:3306").starts_with("no:"));
}

#[test]
fn modes_and_policies_that_need_no_entry() {
    let open = Scene::new(APP, SITE, "[firewall.out]\npolicy = accept\n");
    assert_eq!(
        open.out("smtp.example.org:25"),
        "yes: nodes/myapp.conf:2 [firewall.out] policy: accepts everything"
    );
    let none = Scene::new(APP, SITE, "[sandbox.net]\nmode = none\n");
    assert!(
        none.out("10.1.1.7")
            .starts_with("no: nodes/myapp.conf:2 [sandbox.net] mode")
    );
    let local = "[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n";
    let host = Scene::new(APP, SITE, local);
    assert!(
        host.out("1.1.1.1")
            .starts_with("yes: nodes/myapp.conf:2 [sandbox.net] mode")
    );
    // What is served is open by default, and nothing else.
    let seed = Scene::seed();
    assert_eq!(
        said(&seed.ask("10.9.9.9:80", Direction::In)),
        "yes: default [daemon.webapp] serves this port"
    );
    assert_eq!(
        said(&seed.ask("10.9.9.9/icmp", Direction::In)),
        "yes: echo requests are answered"
    );
    assert!(
        said(&seed.ask("10.9.9.9:81", Direction::In))
            .starts_with("no: default [firewall.in] policy (what is served is open): reject")
    );
    let closed = "[firewall.in]\npolicy = drop\n[firewall.in.accept]\nlan = 10.1.0.0/16:80\n";
    let closed = Scene::new(APP, SITE, closed);
    assert!(
        said(&closed.ask("10.1.2.3:80", Direction::In)).starts_with("yes: nodes/myapp.conf:4 lan")
    );
    let no = closed.ask("10.9.9.9:80", Direction::In);
    assert!(said(&no).starts_with("no: nodes/myapp.conf:2 [firewall.in] policy: drop"));
    assert_eq!(
        no.allow[0].command,
        ["set", "firewall.in.accept:10-9-9-9=10.9.9.9:80"]
    );
}

#[test]
fn an_entry_that_the_site_does_not_let_in_is_named() {
    let site = format!("{SITE}[firewall.out]\ngrant = site\n");
    let scene = Scene::new(APP, &site, LOCAL);
    let answer = scene.ask("mysql.example.org:3306", Direction::Out);
    let text = said(&answer);
    assert!(text.starts_with("no:"), "{text}");
    assert!(
        text.contains(".metactl:20 database = %(DB_HOST):%(DB_PORT) is asked for, not granted"),
        "{text}"
    );
    assert_eq!(
        answer.allow[0].lines,
        "[firewall.out.accept]\ndatabase = %(DB_HOST):%(DB_PORT)"
    );
}

#[test]
fn a_setting_knows_its_history() {
    let scene = Scene::seed();
    let level = scene.key("LEVEL");
    assert_eq!(
        said(&level),
        "yes, debug: nodes/myapp.conf:4 LEVEL = debug, instead of info (.metactl:9)"
    );
    assert_eq!(
        said(&scene.key("env:API_TOKEN")),
        "yes, ***: .metactl:10 API_TOKEN = ***"
    );
    assert_eq!(
        said(&scene.key("sandbox.limits:memory")),
        "yes, 1g: memory = 1g is built in"
    );
    assert!(said(&scene.key("jvm.heap.max")).starts_with("yes, 256m: .metactl:6"));
    assert!(said(&scene.key("webapp:java.heap.max")).starts_with("yes, 256m: .metactl:6"));
    let database = said(&scene.key("firewall.out.accept:database"));
    assert!(
        database.starts_with("yes, mysql.example.org:3306: .metactl:20"),
        "{database}"
    );
    assert!(
        database.contains("DB_HOST from sites/prod/myapp.conf:2"),
        "{database}"
    );
    let missing = scene.key("env:NOT_THERE");
    assert_eq!(missing.verdict, Verdict::No);
    assert_eq!(missing.allow[0].command, ["set", "env:NOT_THERE=..."]);
    assert_eq!(scene.key("env").because.len(), 4);
}

#[test]
fn a_request_is_not_a_setting() {
    let app = format!("{APP}[sandbox]\ncapabilities = CAP_NET_RAW\n");
    let answer = Scene::new(&app, SITE, LOCAL).key("sandbox:capabilities");
    let text = said(&answer);
    assert!(
        text.starts_with("no: .metactl:25 capabilities = CAP_NET_RAW is asked for"),
        "{text}"
    );
    assert_eq!(
        answer.allow[0].lines,
        "[sandbox]\ncapabilities = CAP_NET_RAW"
    );
    assert_eq!(
        answer.allow[0].command,
        ["set", "sandbox:capabilities=CAP_NET_RAW"]
    );
}

#[test]
fn words_are_understood() {
    let scene = Scene::seed();
    let understand = |text: &str| Question::understand(&scene.config, text);
    assert!(matches!(understand("/srv/x"), Ok(Question::Path(_))));
    for key in [
        "env",
        "DB_HOST",
        "webapp",
        "sandbox.net:ip",
        "env:X",
        "webapp:port",
    ] {
        assert!(matches!(understand(key), Ok(Question::Key(_))), "{key}");
    }
    for destination in [
        "mysql",
        "mysql:3306",
        "webapp:80",
        "10.1.1.0/24",
        "[::1]:5",
        "a.b/tcp",
        "*.example.org:443",
    ] {
        assert!(
            matches!(understand(destination), Ok(Question::Destination(_))),
            "{destination}"
        );
    }
    for bad in ["", "a b", "*.*.example.org", "sandbox.net:ipp", "http://x/"] {
        assert!(understand(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn commands_are_quoted_for_a_shell() {
    assert_eq!(
        quoted("smtp=smtp.example.org:25"),
        "smtp=smtp.example.org:25"
    );
    assert_eq!(quoted("a=[::1]:5"), "'a=[::1]:5'");
    assert_eq!(quoted("it's"), r"'it'\''s'");
}

#[test]
fn what_a_list_rejects_is_told_with_its_line() {
    let local = "[firewall.out.reject]\nmail = 10.1.1.0/24:25/tcp\nbad = *.bad.example\nhost = shared.example.org\n";
    let scene = Scene::new(APP, SITE, local);
    let line = "no: nodes/myapp.conf:2 [firewall.out.reject] mail";
    for (asked, expected) in [
        ("10.1.1.7:80", "yes: .metactl:21 testlan"),
        ("10.1.1.7:25/tcp", line),
        ("10.1.1.7:25/udp", "yes: .metactl:21 testlan"),
        (
            "10.1.1.7:25",
            "partly: nodes/myapp.conf:2 [firewall.out.reject] mail (only TCP)",
        ),
        (
            "10.1.1.7",
            "partly: nodes/myapp.conf:2 [firewall.out.reject] mail (only port 25, TCP)",
        ),
        (
            "x.y.bad.example:443",
            "no: nodes/myapp.conf:3 [firewall.out.reject] bad",
        ),
        // Not accepted anyway: that comes first.
        (
            "10.9.9.9:25",
            "no: .metactl:16 [firewall.out] policy: reject",
        ),
    ] {
        assert!(
            scene.out(asked).starts_with(expected),
            "{asked}: {}",
            scene.out(asked)
        );
    }
    let answer = scene.ask("10.1.1.7:25/tcp", Direction::Out);
    assert_eq!(
        answer.allow[0].command,
        ["unset", "firewall.out.reject:mail"]
    );
    assert_eq!(answer.allow[0].lines, "[firewall.out.reject]\nunset mail");

    let open = format!(
        "[firewall.out]\npolicy = accept\n{local}[firewall.in.reject]\nguests = 10.9.0.0/16\n"
    );
    let scene = Scene::new(APP, SITE, &open);
    let rest =
        "yes: nodes/myapp.conf:2 [firewall.out] policy: accepts everything that is not rejected";
    assert!(
        scene.out("10.9.9.9:25").starts_with(rest),
        "{}",
        scene.out("10.9.9.9:25")
    );
    assert!(scene.out("10.1.1.7:25/tcp").starts_with("no:"));
    assert!(scene.out("10.1.0.0/16:25/tcp").starts_with("partly:"));
    let guests = said(&scene.ask("10.9.1.1:80", Direction::In));
    assert!(
        guests.starts_with("no: nodes/myapp.conf:8 [firewall.in.reject] guests"),
        "{guests}"
    );
}
