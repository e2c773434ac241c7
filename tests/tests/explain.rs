//! The commands that explain: `show`, `dump`, `why`, `check`, `compare`.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::GIT;
use metactl_tests::{Host, on_host};
use serde_json::Value;

/// The design note's sandbox sample, with a platform that needs nothing of the machine. The accept
/// list begins in line 17; `database` is line 18.
const APP: &str = "\
[app]
name = myapp

[env]
LEVEL = info

[daemon.webapp]
platform = exec
command = sleep 1001

[sandbox.mounts]
/mnt/asked = /srv/asked rw

[firewall.out]
policy = reject

[firewall.out.accept]
database = %(DB_HOST):%(DB_PORT)
testlan = 10.1.1.0/24
";
const PROD: &str = "[env]\nDB_HOST = mysql.example.org\nDB_PORT = 3306\n\
                    DB_URL = mysql://myapp:hunter2@mysql.example.org/myapp\n[build]\ntag = 1.0\n";
const TEST: &str = "[env]\nDB_HOST = mysql.test.example.org\nDB_PORT = 3306\n\
                    DB_URL = mysql://myapp:hunter3@mysql.example.org/myapp\n[build]\ntag = 1.0\n";

fn deployed(host: &Host) {
    host.server_conf("[server]\nsite = prod\n");
    host.site_layer("prod", "myapp", PROD);
    host.site_layer("test", "myapp", TEST);
    let photos = host.work().join("photos");
    fs::create_dir_all(&photos).unwrap();
    fs::write(photos.join("cat.jpg"), "cat").unwrap();
    let local = format!(
        "\n[env]\nLEVEL = debug\n\n[sandbox.mounts]\n/mnt/photos = {}\n",
        photos.display()
    );
    host.application("myapp", &[(".metactl", APP)], &local);
    host.run(&["myapp", "deploy"]).ok();
}

#[test]
fn show_and_dump_tell_layers_apart() {
    on_host(&[GIT], |host| {
        deployed(host);
        let show = |args: &[&str]| host.run(&[&["myapp", "show"][..], args].concat()).ok();
        show(&["env:LEVEL", "--origin"]).says(&[
            "debug",
            "nodes/myapp.conf:5",
            "info",
            ".metactl:5",
        ]);
        // What is built in is dump's.
        show(&[])
            .never_says(&["memory = 1g"])
            .says(&["LEVEL = debug"]);
        show(&["sandbox.limits"]).says(&["memory = 1g"]);
        host.run(&["myapp", "dump", "--origin"]).ok().says(&[
            "memory = 1g",
            "# default",
            "LEVEL = debug",
        ]);
        // As written, and one layer alone.
        show(&["firewall.out.accept:database"]).says(&["mysql.example.org:3306"]);
        let written = show(&["-i", "firewall.out.accept:database"]);
        assert_eq!(written.stdout.trim(), "%(DB_HOST):%(DB_PORT)");
        show(&["--layer", "app"])
            .says(&["LEVEL = info", ".metactl:5", "/mnt/asked = /srv/asked rw"])
            .never_says(&["debug", "DB_HOST ="]);
        show(&["--layer", "site", "env"])
            .says(&["DB_HOST = mysql.example.org", "sites/prod/myapp.conf:2"])
            .never_says(&["hunter2", "[build]"]);
        show(&["--layer", "site", "--secrets"]).says(&["hunter2"]);
        let lines = show(&["--layer", "local", "--json"]).json();
        assert_eq!(lines["layer"], "local");
        assert!(lines["lines"].as_array().unwrap().iter().any(|line| {
            line["key"] == "LEVEL" && line["value"] == "debug" && line["origin"]["line"] == 5
        }));
        show(&["--layer", "default"]).says(&["memory = 1g", "stop.timeout = 30s"]);
        host.run(&["myapp", "show", "--layer", "ap"]).fails(64);
        host.run(&["myapp", "stop"]).ok();
    });
}

#[test]
fn why_names_the_line_and_is_what_the_sandbox_does() {
    on_host(&[GIT], |host| {
        deployed(host);
        let why = |what: &str| host.run(&["myapp", "why", what]);
        let yes = why("mysql.example.org:3306").ok();
        assert_eq!(
            yes.stdout,
            "yes: .metactl:18 database, with DB_HOST from sites/prod/myapp.conf:2, \
             DB_PORT from sites/prod/myapp.conf:3\n"
        );
        why("10.1.1.7:22").ok().says(&["yes: .metactl:19 testlan"]);
        why("smtp.example.org:25").fails(2).says(&[
            "no: .metactl:15",
            "allow: metactl myapp allow smtp=smtp.example.org:25",
        ]);
        why("10.1.0.0/16")
            .fails(2)
            .says(&["partly: .metactl:19 testlan"]);
        host.run(&["myapp", "why", "10.9.9.9:80", "--from"])
            .ok()
            .says(&["[firewall.in] policy"]);
        // A name of the list is known by its address as well.
        host.name("10.2.0.20", "mysql.example.org");
        why("10.2.0.20:3306")
            .ok()
            .says(&["mysql.example.org is 10.2.0.20"]);

        why("env:LEVEL")
            .ok()
            .says(&["yes: nodes/myapp.conf:5 LEVEL = debug, instead of info (.metactl:5)"]);
        why("DB_URL")
            .ok()
            .never_says(&["hunter2"])
            .says(&["sites/prod/myapp.conf:4"]);
        why("env:MISSING")
            .fails(2)
            .says(&["no:", "metactl myapp set env:MISSING=..."]);
        why("env:LEVEL:").fails(64);
        why("a b").fails(64).says(&["ask for one after the other"]);
        host.run(&["myapp", "show", "sandbox.net:ipp"])
            .fails(64)
            .says(&["did you mean `ip`?"]);

        // The sandbox agrees about paths.
        for (path, wanted, test) in [
            (
                "/mnt/photos/cat.jpg",
                "yes, read-only: nodes/myapp.conf:8",
                "-r",
            ),
            ("/data", "yes, read-write", "-w"),
            ("/usr/bin/env", "yes, read-only", "-x"),
            ("/etc/passwd", "yes, read-only", "-r"),
        ] {
            why(path).ok().says(&[wanted]);
            host.run(&["myapp", "exec", "--", "test", test, path]).ok();
        }
        for path in ["/srv", "/root", "/etc/shadow", "/mnt/asked"] {
            why(path).fails(2).says(&["no:"]);
            host.run(&["myapp", "exec", "--", "test", "-e", path])
                .fails(1);
        }
        why("/mnt/asked").says(&[
            ".metactl:12",
            "asked for, not granted",
            "allow: metactl myapp set 'sandbox.mounts:/mnt/asked=/srv/asked rw'",
        ]);
        host.run(&["myapp", "exec", "--", "test", "-w", "/usr"])
            .fails(1);

        let answer = host
            .run(&["myapp", "why", "mysql.example.org:3306", "--json"])
            .ok()
            .json();
        assert_eq!(
            (&answer["answer"], &answer["kind"]),
            (&"yes".into(), &"destination".into())
        );
        assert_eq!(answer["because"][0]["origin"]["line"], 18);
        assert_eq!(answer["because"][0]["names"][0]["name"], "DB_HOST");
        let no = host
            .run(&["myapp", "why", "/srv", "--json"])
            .fails(2)
            .json();
        assert_eq!(no["answer"], "no");
        assert_eq!(no["allow"][0]["lines"], "[sandbox.mounts]\n/srv = /srv ro");
        host.run(&["myapp", "stop"]).ok();
    });
}

#[test]
fn why_and_show_answer_before_the_first_deployment() {
    on_host(&[GIT], |host| {
        host.application(
            "myapp",
            &[(".metactl", APP)],
            "tag = 1.0\n[env]\nDB_HOST = db\n",
        );
        let why = |what: &str| host.run(&["myapp", "why", what]);
        // Nothing is fetched for a question.
        let unknown = "what the application itself says is not known yet";
        why("10.1.1.7:22")
            .fails(2)
            .says(&["no:", unknown, "metactl myapp deploy --dry-run"]);
        why("/srv/photos")
            .fails(2)
            .says(&["nothing shows /srv/photos", unknown]);
        why("/usr/bin/env").ok().says(&["yes, read-only", unknown]);

        host.run(&["myapp", "set", "env:DB_PORT=3306"]).ok();
        host.run(&["myapp", "deploy", "--dry-run"]).ok();
        why("10.1.1.7:22")
            .ok()
            .says(&["yes: .metactl:19 testlan"])
            .never_says(&[unknown]);
        why("db:3306")
            .ok()
            .says(&["yes: .metactl:18 database, with DB_HOST from nodes/myapp.conf:"]);
        why("/mnt/asked")
            .fails(2)
            .says(&[".metactl:12", "asked for, not granted"]);
        why("/app/index.html").ok().says(&[
            "the release",
            "nothing is deployed yet: metactl myapp deploy",
        ]);
        why("/data").ok().says(&["yes, read-write"]);
        host.run(&["myapp", "show", "--origin"])
            .ok()
            .says(&["LEVEL", ".metactl:5"]);
    });
}

#[test]
fn check_judges_a_repository_without_root_or_installation() {
    on_host(&[], |host| {
        let repository = host.work().join("myapp");
        fs::create_dir_all(&repository).unwrap();
        fs::write(repository.join(".metactl"), APP).unwrap();
        let path = repository.to_str().unwrap();
        host.run(&["check", path]).ok().says(&[
            "needed from site:",
            "DB_HOST",
            ".metactl:18",
            "asked for, not granted:",
            "[sandbox.mounts] /mnt/asked = /srv/asked rw",
            "is valid: 1 daemon (webapp)",
        ]);
        let found = host.run(&["check", path, "--json"]).ok().json();
        assert_eq!(found["version"], 1);
        assert_eq!(found["needed"][1]["name"], "DB_PORT");
        assert_eq!(found["requests"][0]["origin"]["line"], 12);
        // The same as nobody, for the folder of now.
        let mut nobody = host.metactl(&["check"]);
        std::os::unix::process::CommandExt::uid(&mut nobody, 65534);
        nobody.current_dir(&repository).env_remove("METACTL_ROOT");
        metactl_tests::command::run(nobody, Duration::from_secs(20)).ok();

        host.site_layer("prod", "myapp", PROD);
        host.site_layer("half", "myapp", "[env]\nDB_HOST = x.example.org\n");
        host.run(&["check", path, "--site", "prod"])
            .ok()
            .never_says(&["needed"]);
        host.run(&["check", path, "--site", "half"])
            .fails(2)
            .says(&["still needed", "DB_PORT"]);
        host.run(&["check", path, "--site", "prd"])
            .fails(78)
            .says(&["there is no site", "did you mean `prod`?"]);
        fs::write(
            repository.join(".metactl"),
            format!("{APP}[daemon.sh]\ncommand = a | b\n"),
        )
        .unwrap();
        host.run(&["check", path])
            .fails(2)
            .says(&["no shell in between"]);
    });
}

#[test]
fn faults_of_all_layers_are_one_report_in_text_and_json() {
    on_host(&[], |host| {
        host.server_conf("[server]\nsite = prod\n");
        host.site_layer("prod", "myapp", "[bulid]\ncommand = x\n");
        host.local_layer(
            "myapp",
            "[env]\nA = %(B)\nB = %(C)\n[sandbox.limits]\nmemory = lots\n",
        );
        host.run(&["myapp", "show"]).fails(78).says(&[
            "sites/prod/myapp.conf:1:2",
            "did you mean [build]?",
            "nodes/myapp.conf:5:10",
        ]);
        let outcome = host.run(&["myapp", "show", "--json"]).fails(78);
        assert_eq!(outcome.stdout, "");
        let report: Value = serde_json::from_str(&outcome.stderr).unwrap();
        assert_eq!(
            (&report["version"], &report["error"]["exit"]),
            (&1.into(), &78.into())
        );
        let found = report["error"]["diagnostics"].as_array().unwrap();
        assert_eq!(report["error"]["total"], found.len());
        let bulid = found
            .iter()
            .find(|one| one["message"] == "unknown section [bulid]")
            .unwrap();
        for (field, value) in [
            ("severity", Value::from("error")),
            ("line", 1.into()),
            ("column", 2.into()),
            ("length", 5.into()),
            ("label", "not a section".into()),
            ("hint", "did you mean [build]?".into()),
        ] {
            assert_eq!(bulid[field], value, "{field}");
        }
        assert!(
            bulid["file"]
                .as_str()
                .unwrap()
                .ends_with("sites/prod/myapp.conf")
        );
        assert!(
            found
                .iter()
                .any(|one| one["line"] == 5 && one["column"] == 10),
            "{report}"
        );
    });
}

#[test]
fn compare_tells_two_sites_apart() {
    on_host(&[], |host| {
        host.site_layer(
            "prod",
            "myapp",
            &format!("{PROD}[sandbox.limits]\nmemory = 2g\n"),
        );
        host.site_layer("test", "myapp", TEST);
        host.run(&["myapp", "compare", "prod", "test"])
            .ok()
            .says(&[
                "[env] DB_HOST",
                "mysql.example.org",
                "sites/prod/myapp.conf:2",
                "mysql.test.example.org",
                "sites/test/myapp.conf:2",
                "[env] DB_URL",
                "***@mysql.example.org/myapp (differs)",
                "2g",
                "built in",
            ])
            .never_says(&["hunter", "DB_PORT"]);
        let found = host
            .run(&["compare", "myapp", "prod", "test", "--json"])
            .ok()
            .json();
        let memory = &found["differences"][2];
        assert_eq!(memory["key"], "memory");
        assert_eq!(memory["values"][1]["value"], "1g");
        host.run(&["myapp", "compare", "prod", "prod"])
            .ok()
            .says(&["say the same"]);
        host.run(&["nobody", "compare", "prod", "test"]).fails(69);
        host.run(&["myapp", "compare", "prod", "tset"])
            .fails(78)
            .says(&["`test`?"]);
    });
}
