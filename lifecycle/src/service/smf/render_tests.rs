use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use metactl_bundles::app::Restart;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::service::sample;

pub(in crate::service::smf) fn entry(name: &str, kind: EntryKind) -> EntryRef {
    EntryRef {
        stop_timeout: Duration::from_millis(30_500),
        ..sample::entry(name, kind)
    }
}

pub(in crate::service::smf) fn job(name: &str, schedule: &str) -> EntryRef {
    EntryRef {
        schedule: Some(schedule.to_owned()),
        ..entry(name, EntryKind::Cron)
    }
}

pub(in crate::service::smf) fn manifest(instance: &str, entries: Vec<EntryRef>) -> Manifest {
    sample::manifest(instance, "shop & <co>", entries)
}

fn process(args: &[&str], env: &[(&str, &str)]) -> Process {
    Process {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: "/app".to_owned(),
        env: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        uid: 66000,
        gid: 66000,
        privileges: "basic,!proc_info".to_owned(),
        limit_privileges: "basic".to_owned(),
        ..Process::default()
    }
}

fn rendered(of: &Manifest, processes: &[Process]) -> Result<String> {
    super::manifest(&Input {
        manifest: of,
        digest: "0123abcd",
        processes,
    })
}

/// An application with everything: daemons that need each other, jobs, secrets, hostile words.
fn shop() -> String {
    let mut web = entry("web", EntryKind::Daemon);
    web.after = vec!["cache".to_owned(), "db".to_owned()];
    web.requires = vec!["db".to_owned()];
    web.stop_signal = 2;
    let mut once = entry("once", EntryKind::Daemon);
    once.restart = Restart::OnFailure;
    let entries = vec![
        entry("cache", EntryKind::Daemon),
        entry("db", EntryKind::Daemon),
        once,
        web,
        job("cron.daily-housekeeping", "5 0 * * *"),
        job("cron.warm.up", "@reboot"),
    ];
    let env = [
        ("GREETING", "it's \"100%\" <ok>\n& more"),
        ("PATH", "/usr/bin"),
    ];
    let mut secret = process(&["/app/bin/web", "--name", "a b", "%d"], &env);
    secret.secrets = BTreeMap::from([("PW".to_owned(), "db.pw".to_owned())]);
    secret.groups = vec![7, 8];
    let plain = || process(&["/app/bin/run"], &[("PATH", "/usr/bin")]);
    let shell = process(&["/bin/sh", "-c", "echo 'x' >&2"], &[]);
    let processes = [plain(), plain(), plain(), secret, shell, plain()];
    rendered(&manifest("my.shop", entries), &processes).unwrap()
}

/// What an administrator says besides: each type, alone and as a list.
fn passed_through() -> String {
    let mut of = manifest(
        "a",
        vec![entry("web", EntryKind::Daemon), job("cron.x", "@reboot")],
    );
    of.smf.project = Some("user.web".to_owned());
    of.smf.resource_pool = Some("web".to_owned());
    for (name, text) in [
        ("ldap", "svc:/network/ldap/client:default"),
        (
            "mail",
            "require_any/restart svc:/network/smtp:sendmail svc:/network/smtp:postfix",
        ),
        (
            "settings",
            "exclude_all/refresh file://localhost/etc/nologin",
        ),
    ] {
        let dependency = smf::dependency(text).unwrap();
        of.smf.dependencies.insert(name.to_owned(), dependency);
    }
    let mut say = |name: &str, text: &str| {
        let (group, name) = smf::property_name(name).unwrap();
        let group = of.smf.properties.entry(group.to_owned()).or_default();
        group.insert(name.to_owned(), smf::property(text).unwrap());
    };
    say("general/action_authorization", "astring: site.manage.web");
    say("startd/ignore_error", "astring: core");
    say("startd/need_session", "boolean: true");
    for kind in smf::TYPES {
        let value = match kind {
            "boolean" => "true",
            "fmri" => "svc:/a:b",
            "net_address_v6" => "2001:db8::1",
            "net_address" | "net_address_v4" => "10.0.0.1",
            "uri" => "http://a/?b&c=<d>",
            "opaque" => "00ff",
            _ => "7",
        };
        say(&format!("app/{kind}"), &format!("{kind}: {value}"));
        say(
            &format!("lists/{kind}"),
            &format!("{kind}: ('{value}' '{value}')"),
        );
    }
    let process = || process(&["/app/run"], &[]);
    rendered(&of, &[process(), process()]).unwrap()
}

#[test]
fn what_the_configuration_says_to_smf_is_in_the_manifest() {
    let found = read(&passed_through());
    let all = |name: &str| -> Vec<&BTreeMap<String, String>> {
        let named = found.iter().filter(|one| one.name == name);
        named.map(|one| &one.attributes).collect()
    };
    for context in all("method_context") {
        assert_eq!(
            (
                context["project"].as_str(),
                context["resource_pool"].as_str()
            ),
            ("user.web", "web")
        );
    }
    let mail = all("dependency")
        .into_iter()
        .find(|one| one["name"] == "mail")
        .unwrap();
    assert_eq!(
        (mail["grouping"].as_str(), mail["restart_on"].as_str()),
        ("require_any", "restart")
    );
    let values = |name: &str| -> Vec<String> {
        let named = all("propval").into_iter().filter(|one| one["name"] == name);
        named.map(|one| one["value"].clone()).collect()
    };
    // The administrator's word is the only one, and is said of the daemon alone.
    assert_eq!(values("ignore_error"), ["core"]);
    assert_eq!(values("need_session"), ["true"]);
    assert_eq!(values("critical_failure_count"), ["5"]);
    assert_eq!(values("action_authorization"), ["site.manage.web"]);
    assert_eq!(values("uri"), ["http://a/?b&c=<d>"]);
    let groups = all("property_group");
    let general = groups.iter().find(|one| one["name"] == "general").unwrap();
    assert_eq!(general["type"], "framework");
    let lists = all("property");
    assert_eq!(lists.len(), smf::TYPES.len());
    assert_eq!(all("value_node").len(), 2 * smf::TYPES.len());
}

fn data(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/data/smf", name]
        .iter()
        .collect()
}

/// The manifest as it was when somebody last read it. `METACTL_UPDATE_DOCS=1` writes it anew.
#[test]
fn the_manifest_is_as_it_was() {
    let path = data("shop.xml");
    let text = shop();
    if std::env::var_os("METACTL_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

/// What `xmllint` says of these texts by a grammar.
fn validated(dtd: &std::path::Path, texts: &[String]) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("xmllint");
    command.args(["--noout", "--nonet", "--dtdvalid"]).arg(dtd);
    for (at, text) in texts.iter().enumerate() {
        let path = dir.path().join(format!("{at}.xml"));
        std::fs::write(&path, text).unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", dtd.display());
}

fn has_xmllint() -> bool {
    let there = Command::new("xmllint").arg("--version").output().is_ok();
    if !there {
        // As the tests of whole hosts have it.
        let skip = "SKIP service::smf::render: no xmllint: apt-get install libxml2-utils";
        assert!(std::env::var_os("METACTL_NO_SKIP").is_none(), "{skip}");
        eprintln!("{skip}");
    }
    there
}

#[test]
fn manifests_are_valid_by_the_grammar() {
    if !has_xmllint() {
        return;
    }
    let texts = [
        shop(),
        passed_through(),
        rendered(&manifest("empty", Vec::new()), &[]).unwrap(),
    ];
    validated(&data("manifest.dtd"), &texts);
    // The real one, where it is: METACTL_SMF_DTD=/usr/share/lib/xml/dtd/service_bundle.dtd.1
    if let Some(real) = std::env::var_os("METACTL_SMF_DTD") {
        validated(real.as_ref(), &texts);
    }
}

#[test]
fn the_grammar_refuses_what_it_should() {
    if !has_xmllint() {
        return;
    }
    let text = shop();
    let dtd = data("manifest.dtd");
    for (from, to) in [
        ("enabled=\"false\"", "enabled=\"maybe\""),
        ("<stability value=\"Unstable\"/>", ""),
        (" timeout_seconds=\"0\"", ""),
        ("grouping=\"require_all\"", "grouping=\"all\""),
    ] {
        assert!(text.contains(from), "{from}");
        let wrong = text.replacen(from, to, 1);
        let refused = std::panic::catch_unwind(|| validated(&dtd, &[wrong]));
        assert!(refused.is_err(), "{from} -> {to}");
    }
}

#[test]
fn what_cannot_be_held_is_refused() {
    let of = manifest("a", vec![entry("web", EntryKind::Daemon)]);
    for (process, says) in [
        (
            process(&["x", &"y".repeat(4096)], &[]),
            "SMF has room for 4095",
        ),
        (
            process(&["x"], &[("A", &"y".repeat(4094))]),
            "A in the environment of a has 4096 bytes",
        ),
        (
            process(&["x", "a\u{1b}[2J"], &[]),
            "a command line of a has the character '\\u{1b}'",
        ),
        (process(&["x"], &[("A", "\u{7}")]), "A in the environment"),
    ] {
        let error = rendered(&of, &[process]).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    rendered(&of, &[process(&["x"], &[("A", &"y".repeat(4093))])]).unwrap();
}

/// An element as a reader has it.
#[derive(Debug)]
struct Read {
    name: String,
    attributes: BTreeMap<String, String>,
    text: String,
}

/// Reads XML as strictly as metactl writes it; anything else is a panic. Not the code that wrote it.
fn read(text: &str) -> Vec<Read> {
    let mut found: Vec<Read> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let between = &rest[..at];
        match found.last_mut() {
            Some(last) if !between.trim().is_empty() => last.text = unescaped(between),
            _ => assert!(between.trim().is_empty(), "{between:?}"),
        }
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (tag, is_empty) = tag
            .strip_suffix('/')
            .map_or((tag, false), |tag| (tag, true));
        let (name, mut list) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = BTreeMap::new();
        while !list.is_empty() {
            let (key, value) = list.split_once("=\"").unwrap();
            let (value, more) = value.split_once('"').unwrap();
            assert!(
                !value.contains(['\n', '\t', '\r']),
                "a parser would take {value:?} for spaces"
            );
            attributes.insert(key.to_owned(), unescaped(value));
            list = more.trim_start();
        }
        if !is_empty {
            open.push(name.to_owned());
        }
        found.push(Read {
            name: name.to_owned(),
            attributes,
            text: String::new(),
        });
    }
    assert!(open.is_empty() && rest.trim().is_empty());
    found
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap());
    for part in parts {
        let (entity, rest) = part.split_once(';').unwrap();
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            number => {
                let number = number.strip_prefix('#').unwrap().parse().unwrap();
                char::from_u32(number).unwrap()
            }
        });
        out.push_str(rest);
    }
    out
}

/// What svc.startd makes of a method, and the shell of that.
fn words_of(exec: &str) -> Vec<String> {
    let line = exec.replace("%%", "%");
    let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words: Vec<String> = text.split('\0').map(str::to_owned).collect();
    words.pop();
    words
}

fn values_of(text: &str) -> (Vec<Read>, String) {
    let found = read(text);
    let mut methods = found.iter().filter(|one| one.name == "exec_method");
    let exec = methods
        .find(|one| one.attributes["name"] == "start" && one.attributes["exec"] != method::NOTHING);
    let exec = exec
        .map(|one| one.attributes["exec"].clone())
        .unwrap_or_default();
    (found, exec)
}

/// Any text that XML can have; and often what hurts.
fn hostile() -> impl Strategy<Value = String> {
    let nasty = prop_oneof![
        Just('"'),
        Just('\''),
        Just('<'),
        Just('>'),
        Just('&'),
        Just('%'),
        Just('\n'),
        Just('\t'),
        Just('\r'),
        Just(';'),
        Just('$'),
        Just('`'),
        Just('\\'),
        Just(' '),
        Just(']'),
        Just('#'),
    ];
    let any = any::<char>().prop_filter("in XML", |c| xml::is_character(*c));
    proptest::collection::vec(prop_oneof![nasty, any], 0..30)
        .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn hostile_values_come_back(
        instance in "[a-zA-Z0-9_+][a-zA-Z0-9_+.-]{0,62}",
        name in "[a-zA-Z0-9_+][a-zA-Z0-9_+.-]{0,99}",
        title in hostile(),
        args in proptest::collection::vec(hostile(), 1..5),
        env in proptest::collection::btree_map("[A-Z_]{1,8}", hostile(), 0..4),
    ) {
        let mut web = entry(&name, EntryKind::Daemon);
        web.title = title.clone();
        let of = manifest(&instance, vec![web]);
        let process = Process { args: args.clone(), env: env.clone(), ..process(&["x"], &[]) };
        let (found, exec) = values_of(&rendered(&of, &[process]).unwrap());
        prop_assert_eq!(words_of(&exec), args);
        let variables: BTreeMap<String, String> = found
            .iter()
            .filter(|one| one.name == "envvar")
            .map(|one| (one.attributes["name"].clone(), one.attributes["value"].clone()))
            .collect();
        prop_assert_eq!(variables, env);
        let facts: BTreeMap<&str, &str> = found
            .iter()
            .filter(|one| one.name == "propval")
            .map(|one| (one.attributes["name"].as_str(), one.attributes["value"].as_str()))
            .collect();
        prop_assert_eq!(facts["name"], name);
        prop_assert_eq!(facts["instance"], instance);
        prop_assert_eq!(facts["title"], title);
    }
}

#[test]
fn a_reader_of_xml_finds_hostile_values_well_formed() {
    if !has_xmllint() {
        return;
    }
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let texts: Vec<String> = (0..100)
        .map(|_| {
            let value = hostile().new_tree(&mut runner).unwrap().current();
            let mut web = entry("web", EntryKind::Daemon);
            web.title.clone_from(&value);
            let process = process(&[&value], &[("A", &value)]);
            rendered(&manifest("a", vec![web]), &[process]).unwrap()
        })
        .collect();
    validated(&data("manifest.dtd"), &texts);
}

#[test]
fn the_texts_of_a_template_are_held_to_their_length() {
    let mut web = entry("web", EntryKind::Daemon);
    web.title = "ü<".repeat(80);
    let text = rendered(&manifest("a", vec![web]), &[process(&["x"], &[])]).unwrap();
    let texts: Vec<String> = read(&text).into_iter().map(|one| one.text).collect();
    let longest = texts.iter().find(|text| text.starts_with("a ü<")).unwrap();
    assert_eq!(longest.chars().count(), 59);
}
