//! The layers as a person sees them: `metactl APP show`.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use metactl_tests::needs::GIT;
use metactl_tests::{Host, on_host};

/// The seed's three layers, with platforms that need nothing of the machine.
fn layers(host: &Host) {
    let app = "\
[env]
JOB_MANAGER_PORT = 9000

[daemon.webapp]
platform = exec
command = sleep 1001

[daemon.jobmanager]
platform = exec
command = sleep %(JOB_MANAGER_PORT)

[crontab]
daily housekeeping = 5 0 * * * curl http://localhost/housekeeping

[firewall.out]
policy = reject

[firewall.out.accept]
database = %(DB_HOST):%(DB_PORT)
testlan = 10.1.1.0/24
";
    host.server_conf("[server]\nsite = prod\n");
    host.site_layer(
        "prod",
        "myapp",
        "[env]\nDB_URL = mysql://myapp:secret@mysql-prod.example.org/myapp\nDB_HOST = mysql.example.org\n\
         DB_PORT = 3306\n\n[build]\ntag = 1.0\n",
    );
    let repository = host.application("myapp", &[(".metactl", app)], "");
    host.instance_of(
        "myapp",
        &repository,
        "\n[env]\n# change port because 9000 is already taken on this server\nJOB_MANAGER_PORT = 9001",
    );
}

#[test]
fn every_value_knows_where_it_comes_from() {
    on_host(&[GIT], |host| {
        layers(host);
        // The tag is the site's.
        host.run(&["myapp", "deploy"]).ok();
        let show = |args: &[&str]| host.run(&[&["myapp", "show"][..], args].concat()).ok();
        assert_eq!(show(&["env:JOB_MANAGER_PORT"]).stdout.trim(), "9001");
        show(&["env:JOB_MANAGER_PORT", "--origin"]).says(&[
            "9001",
            "nodes/myapp.conf:6",
            ".metactl:2",
            "9000",
        ]);
        show(&["daemon.jobmanager", "--origin"]).says(&["sleep 9001", ".metactl:10"]);
        show(&["env:DB_HOST", "--origin"]).says(&["mysql.example.org", "sites/prod/myapp.conf:3"]);
        show(&["firewall.out.accept"]).says(&["mysql.example.org:3306", "10.1.1.0/24"]);
        show(&["--origin"]).says(&["build", "1.0", "crontab"]);
        // A password in a URL is for nobody who did not ask.
        show(&[])
            .never_says(&["secret"])
            .says(&["mysql-prod.example.org"]);
        show(&["env:DB_URL", "--origin"]).never_says(&["secret"]);
        show(&["env:DB_URL", "--secrets"])
            .says(&["mysql://myapp:secret@mysql-prod.example.org/myapp"]);
        let json = show(&["--json"]);
        serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap();
        assert!(!json.stdout.contains("secret"), "{json}");
        host.run(&[
            "myapp",
            "exec",
            "--",
            "sh",
            "-c",
            "echo $JOB_MANAGER_PORT $DB_URL",
        ])
        .ok()
        .says(&["9001 mysql://myapp:secret@mysql-prod.example.org/myapp"]);
        let missing = host
            .run(&["myapp", "show", "env:NOT_THERE"])
            .says(&["NOT_THERE"]);
        assert_ne!(missing.code, 0);
        host.run(&["myapp", "stop"]).ok();
    });
}

#[test]
fn nothing_that_metactl_prints_or_logs_has_the_password() {
    on_host(&[GIT], |host| {
        layers(host);
        let mut printed = String::new();
        for args in [
            &["myapp", "deploy"][..],
            &["myapp", "status"],
            &["myapp", "plan"],
            &["myapp", "bundle"],
            &["myapp", "firewall"],
            &["myapp", "logs"],
            &["myapp", "restart"],
            &["list"],
            &["myapp", "stop"],
        ] {
            let outcome = host.run(args);
            printed += &format!("{}{}", outcome.stdout, outcome.stderr);
        }
        assert!(!printed.contains("secret"), "{printed}");
        let copy = host.work().join("audit");
        host.run(&["myapp", "bundle", "--redacted", copy.to_str().unwrap()])
            .ok();
        host.command("grep", &["-r", "secret@", copy.to_str().unwrap()])
            .fails(1);
    });
}
