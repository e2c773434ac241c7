//! The commands that change the local layer: set, unset, get, allow, config, changed, revert, new, delete.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod editor;
mod new;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use metactl_tests::apps::Repository;
use metactl_tests::command::{self, Outcome};
use metactl_tests::needs::GIT;
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, on_host};

const LIMIT: Duration = Duration::from_secs(60);

const APP: &str = "\
[env]
JOB_MANAGER_PORT = 9000
GREETING = from the app

[daemon.webapp]
command = sleep 1001

[daemon.jobmanager]
command = sleep %(JOB_MANAGER_PORT)
stop.timeout = 6s

[crontab]
daily housekeeping = 5 0 * * * true

[firewall.out.accept]
database = %(DB_HOST):%(DB_PORT)
";

fn layer(host: &Host, instance: &str) -> PathBuf {
    host.root()
        .join(format!("etc/metactl/nodes/{instance}.conf"))
}

fn text(host: &Host, instance: &str) -> String {
    fs::read_to_string(layer(host, instance)).unwrap()
}

/// A value by standard input is on no command line: piped, or typed without being shown.
#[test]
fn a_value_comes_by_standard_input() {
    on_host(&[GIT], |host| {
        host.run(&["new", "myapp", &repository(host, APP)]).ok();
        let before = text(host, "myapp");
        let value = |key: &str| {
            let got = host.run(&["myapp", "get", key, "--secrets"]).ok();
            got.stdout
        };
        set_from_input(host, &["secrets:db.pw=-", "env:A=1"], b"pa=ss word\r\n")
            .ok()
            .never_says(&["pa=ss"]);
        assert_eq!(value("secrets:db.pw"), "pa=ss word\n");
        set_from_input(
            host,
            &["secrets:key=-"],
            b"-----BEGIN-----\nabc\n-----END-----\n",
        )
        .ok();
        assert_eq!(
            value("secrets:key"),
            "-----BEGIN-----\nabc\n-----END-----\n"
        );
        set_from_input(host, &["env:A=-"], b"-").ok();
        assert_eq!(value("env:A"), "-\n");

        // What cannot be a value changes nothing, and is not repeated.
        let now = text(host, "myapp");
        let twice = set_from_input(host, &["env:A=-", "env:B=-"], b"x");
        twice.fails(64).says(&["only one value"]);
        let nothing = set_from_input(host, &["secrets:db.pw=-"], b"\n");
        nothing.fails(64).says(&["nothing came for secrets:db.pw"]);
        set_from_input(host, &["secrets:db.pw=-"], b"pa\xffss")
            .fails(64)
            .says(&["not UTF-8"]);
        let long = vec![b'x'; 200_000];
        set_from_input(host, &["env:A=-"], &long)
            .fails(64)
            .says(&["longer than"])
            .never_says(&["xxx"]);
        assert_eq!(text(host, "myapp"), now);

        // On a terminal it is asked for.
        let mut typing = Terminal::spawn(&host.metactl(&["myapp", "set", "secrets:db.pw=-"]));
        typing.wait_for("secrets:db.pw (not shown): ", LIMIT);
        typing.press("wrong\x15tuped\x7f\x7f\x7f\x7fyped\r");
        typing.wait_for("db.pw = ***", LIMIT);
        assert!(!typing.screen().contains("yped"), "{}", typing.screen());
        assert_eq!(typing.wait(LIMIT), 0);
        assert_eq!(value("secrets:db.pw"), "typed\n");
        let mut given_up = Terminal::spawn(&host.metactl(&["myapp", "set", "secrets:db.pw=-"]));
        given_up.wait_for("(not shown): ", LIMIT);
        given_up.press("abc\x03");
        assert_eq!(given_up.wait(LIMIT), 1);
        assert_eq!(value("secrets:db.pw"), "typed\n");
        assert_ne!(text(host, "myapp"), before);
        let recorded = fs::read_to_string(host.root().join("var/log/metactl/history.jsonl"));
        let recorded = recorded.unwrap();
        for secret in ["pa=ss", "BEGIN", "typed"] {
            assert!(!recorded.contains(secret), "{secret}");
        }
    });
}

/// A repository that only has to be read.
fn repository(host: &Host, app: &str) -> String {
    let repository = Repository::empty(&host.work().join("repository"));
    repository.write(".metactl", app).commit("1.2.2");
    repository.write("more", "x").commit("1.2.3");
    repository.dir.to_str().unwrap().to_owned()
}

fn git(host: &Host, args: &[&str]) -> Outcome {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(host.root().join("etc/metactl"))
        .args(args);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null");
    command::run(git, LIMIT)
}

/// `metactl myapp set ...` with something on its standard input.
fn set_from_input(host: &Host, args: &[&str], input: &[u8]) -> Outcome {
    let file = host.work().join("input");
    fs::write(&file, input).unwrap();
    let metactl = host.metactl(&[&["myapp", "set"], args].concat());
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" "$@" < "$INPUT""#]);
    shell.arg(metactl.get_program()).args(metactl.get_args());
    let envs = metactl.get_envs();
    shell.envs(envs.filter_map(|(name, value)| Some((name, value?))));
    shell.env("INPUT", &file);
    command::run(shell, LIMIT)
}

/// Runs the command that `Undo:` names, as a person would paste it.
fn undo(host: &Host, outcome: &Outcome) -> Outcome {
    let line = outcome
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("Undo: "))
        .unwrap_or_else(|| panic!("no Undo in {outcome}"));
    let metactl = host.binaries().metactl.display();
    let line = line.replace("metactl myapp", &format!("{metactl} myapp"));
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    shell.env("METACTL_ROOT", host.root());
    shell.env("METACTL_RUNTIME", &host.binaries().runtime);
    command::run(shell, LIMIT)
}

/// An instance with a few lines of its own, deployed.
fn deployed(host: &Host) {
    let local = "\n# mine\n[env]\nDB_HOST = 10.9.9.9\nDB_PORT = 3306\n\n; end\n[daemon.webapp]\nstop.timeout = 5s";
    host.application("myapp", &[(".metactl", APP)], local);
    host.run(&["myapp", "deploy", "1.0"]).ok();
}

#[test]
fn single_keys_change_and_nothing_else() {
    on_host(&[GIT], |host| {
        deployed(host);
        let run = |args: &[&str]| host.run(&[&["myapp"], args].concat());
        let before = text(host, "myapp");
        assert_eq!(run(&["get", "JOB_MANAGER_PORT"]).ok().stdout, "9000\n");
        assert_eq!(run(&["get", "webapp:stop.timeout"]).ok().stdout, "5s\n");
        run(&["get", "NOT_THERE"]).fails(64);
        run(&["get", "env:NOT_THERE"]).fails(1);
        run(&["get", "stop.timeout"]).fails(64).says(&[
            "daemon.webapp:stop.timeout",
            "daemon.jobmanager:stop.timeout",
        ]);

        // Several at once, each way of naming a key; a value of a lower layer.
        let set = run(&[
            "set",
            "JOB_MANAGER_PORT=9001",
            "env:NEW=a = b",
            "webapp:stop.timeout=4s",
        ])
        .ok()
        .says(&[
            "JOB_MANAGER_PORT = 9001",
            "NEW = a = b",
            "stop.timeout = 4s",
            "metactl myapp restart",
        ]);
        let now = text(host, "myapp");
        assert_eq!(
            now,
            before
                .replace("3306\n", "3306\nJOB_MANAGER_PORT = 9001\nNEW = a = b\n")
                .replace("5s", "4s")
        );
        assert_eq!(run(&["get", "JOB_MANAGER_PORT"]).ok().stdout, "9001\n");
        run(&["show", "daemon.jobmanager"])
            .ok()
            .says(&["sleep 9001"]);
        run(&["changed"]).fails(2).says(&[
            "env:JOB_MANAGER_PORT",
            "9000 → 9001",
            "jobmanager is started otherwise",
        ]);
        undo(host, &set).ok();
        assert_eq!(text(host, "myapp"), before);
        run(&["changed"]).ok();

        // One wrong value, and nothing is written.
        run(&["set", "env:A=1", "webapp:stop.timeout=lots"])
            .fails(78)
            .says(&["stop.timeout"]);
        run(&["set", "env:A=1", "env:A=2"])
            .fails(78)
            .says(&["twice"]);
        run(&["set", "bulid:command=x"])
            .fails(78)
            .says(&["did you mean `build`?"]);
        run(&["set", "daemon.webapp:prot=1"])
            .fails(78)
            .says(&["port"]);
        run(&["set", "NEW=1"]).fails(78).says(&["env:NEW"]);
        run(&["set", "env:A= x"]).fails(78).says(&["space"]);
        run(&["set", "env:A=a\n\nb"])
            .fails(78)
            .says(&["empty line"]);
        run(&["set", "env:A=%(NOWHERE)"])
            .fails(78)
            .says(&["NOWHERE"]);
        run(&["set", "server:pool=10.0.0.0/8"])
            .fails(78)
            .says(&["[server]"]);
        run(&["set", "secret-without-key"])
            .fails(64)
            .never_says(&["secret-without-key"]);
        run(&["unset", "env:NOT_THERE"]).fails(1);
        // What only site or local may say cannot take a name of the application's.
        run(&["set", "sandbox.mounts:/x=%(GREETING)"])
            .fails(78)
            .says(&["GREETING"]);
        assert_eq!(text(host, "myapp"), before);
        run(&["set", "env:DB_PORT=3306"])
            .ok()
            .says(&["unchanged", "as before"]);
        assert_eq!(text(host, "myapp"), before);

        // First the own word, then that of the application; and all the way back.
        let own = run(&["unset", "env:DB_PORT", "env:DB_HOST", "--gone"]).fails(78);
        assert!(own.stderr.contains("DB_HOST"), "{own}");
        let gone = run(&["unset", "GREETING"])
            .ok()
            .says(&["unset GREETING", "unset --inherit"]);
        run(&["get", "env:GREETING"]).fails(1);
        let set = run(&["set", "env:GREETING=mine"])
            .ok()
            .says(&["unset --gone env:GREETING"]);
        undo(host, &set).ok();
        run(&["get", "env:GREETING"]).fails(1);
        undo(host, &gone).ok();
        assert_eq!(text(host, "myapp"), before);
        run(&["set", "env:GREETING=mine"]).ok();
        run(&["unset", "env:GREETING"])
            .ok()
            .says(&["env:GREETING is from the app (.metactl:3)"]);
        assert_eq!(text(host, "myapp"), before);

        // Passwords are not repeated, and the undo does not need them.
        run(&["set", "env:DB_PASSWORD=first-secret"])
            .ok()
            .never_says(&["first-secret"]);
        let second = run(&["set", "env:DB_PASSWORD=second-secret"])
            .ok()
            .says(&["DB_PASSWORD = ***"])
            .never_says(&["first-secret", "second-secret"]);
        run(&["get", "env:DB_PASSWORD"])
            .fails(64)
            .never_says(&["second-secret"]);
        assert_eq!(
            run(&["get", "env:DB_PASSWORD", "--secrets"]).ok().stdout,
            "second-secret\n"
        );
        let line = second.stdout.lines().last().unwrap();
        assert_eq!(line, "Undo: metactl myapp revert --last");
        run(&["revert", "--last"])
            .fails(64)
            .says(&["--yes"])
            .never_says(&["secret-"]);
        run(&["revert", "--last", "--yes"])
            .ok()
            .never_says(&["first-secret", "second-secret"]);
        assert_eq!(
            run(&["get", "env:DB_PASSWORD", "--secrets"]).ok().stdout,
            "first-secret\n"
        );
        run(&["changed"]).fails(2).never_says(&["first-secret"]);

        // A secret of `[secrets]` is none less.
        run(&["set", "secrets:db.pw=third-secret"])
            .ok()
            .says(&["db.pw = ***", "Undo: metactl myapp unset secrets:db.pw"])
            .never_says(&["third-secret"]);
        let other = run(&["set", "secrets:db.pw=fourth-secret"]).ok();
        let other = other.never_says(&["third-secret", "fourth-secret"]);
        assert_eq!(
            other.stdout.lines().last(),
            Some("Undo: metactl myapp revert --last")
        );

        // What runs is the way back from everything.
        run(&["revert", "--yes"]).ok();
        assert_eq!(text(host, "myapp"), before);
        run(&["changed"]).ok();
        run(&["revert", "--yes"]).ok().says(&["unchanged"]);

        run(&["allow", "smtp=10.9.2.9:25"]).ok().says(&[
            "nodes/myapp.conf:15  smtp = 10.9.2.9:25",
            "live, open connections kept",
            "Undo: metactl myapp unset firewall.out.accept:smtp",
        ]);
        run(&["allow", "smtp=10.9.2.9:25:x"]).fails(78);
        run(&["changed"]).ok();
        run(&["allow", "--later", "imap=10.9.2.9:143"])
            .ok()
            .says(&["not running yet: metactl myapp reload"]);
        run(&["changed"])
            .fails(2)
            .says(&["firewall.out.accept:imap", "addresses or firewall"]);
        run(&["restart"]).ok();
        run(&["changed"]).ok();
        run(&["firewall"]).ok().says(&["10.9.2.9:25"]);
        let json = run(&["set", "env:A=1", "--json"]).ok();
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["undo"], "metactl myapp unset env:A");
        assert_eq!(json["keys"][0]["line"], 9);
        run(&["stop"]).ok();
    });
}

#[test]
fn the_file_itself_is_replaced_whole_and_nothing_else() {
    on_host(&[GIT], |host| {
        host.local_layer("myapp", "[env]\r\nA = 1\r\n# end\r\n");
        let path = layer(host, "myapp");
        // Owner and mode stay; so do the ends of lines.
        std::os::unix::fs::chown(&path, None, Some(4321)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        host.run(&["myapp", "set", "env:B=2"]).ok();
        assert_eq!(text(host, "myapp"), "[env]\r\nA = 1\r\nB = 2\r\n# end\r\n");
        let meta = path.metadata().unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (0, 4321, 0o640)
        );

        // Many at once: each one lands.
        let mut all: Vec<_> = (0..8)
            .map(|number| host.spawn(&["myapp", "set", &format!("env:N{number}={number}")]))
            .collect();
        for one in all.drain(..) {
            one.wait(LIMIT).ok();
        }
        let now = text(host, "myapp");
        assert!(
            (0..8).all(|number| now.contains(&format!("N{number} = {number}\r\n"))),
            "{now}"
        );

        // A full disk: the file is as it was, and nothing is beside it.
        let nodes = path.parent().unwrap().to_owned();
        fs::write(host.work().join("text"), &now).unwrap();
        let small = [
            "-t",
            "tmpfs",
            "-o",
            "size=8k,mode=0755",
            "small",
            nodes.to_str().unwrap(),
        ];
        host.command("mount", &small).ok();
        fs::write(&path, "[env]\nA = 1\n").unwrap();
        let mut filler = 0;
        while fs::write(nodes.join(format!("filler{filler}")), [0; 4096]).is_ok() {
            filler += 1;
        }
        host.run(&["myapp", "set", "env:B=2"])
            .fails(1)
            .says(&["nodes/myapp.conf", "No space left"]);
        assert_eq!(text(host, "myapp"), "[env]\nA = 1\n");
        assert!(!nodes.join(".myapp.conf.new").exists());
        host.command("umount", &[nodes.to_str().unwrap()]).ok();
        assert_eq!(text(host, "myapp"), now);

        // A link is not written through, and not replaced.
        let elsewhere = host.work().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        for args in [
            &["myapp", "set", "env:B=3"][..],
            &["myapp", "unset", "env:B"],
            &["myapp", "allow", "x=10.0.0.1"],
            &["myapp", "config"],
        ] {
            host.run(args).fails(78).says(&["symbolic link"]);
        }
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), now);
        assert!(path.is_symlink());
        // What is wrong already is told, and not made worse.
        fs::remove_file(&path).unwrap();
        host.local_layer("myapp", "[env]\nA = 1\nA = 2\n");
        host.run(&["myapp", "set", "env:B=3"])
            .fails(78)
            .says(&["nodes/myapp.conf:3:1", "twice"]);
        assert_eq!(text(host, "myapp"), "[env]\nA = 1\nA = 2\n");
    });
}

#[test]
fn an_instance_that_was_never_deployed_is_checked_with_its_repository() {
    on_host(&[GIT], |host| {
        let repo = repository(host, APP);
        host.local_layer("myapp", &format!("[build]\nrepo = {repo}\ntag = 1.2.3\n"));
        let set = |word: &str| host.run(&["myapp", "set", word]);
        set("daemon.webapp:stop.timeout=5s")
            .ok()
            .says(&["still needed: DB_HOST"]);
        set("daemon.webap:stop.timeout=5s")
            .fails(78)
            .says(&["did you mean [daemon.webapp]?"]);
        // Without its repository nobody knows that daemon.
        host.local_layer("other", "[env]\nA = 1\n");
        let other = host.run(&["other", "set", "daemon.webapp:stop.timeout=5s"]);
        other.fails(78).says(&["has no platform"]);
        host.run(&["other", "set", "env:A=2"]).ok();
    });
}
