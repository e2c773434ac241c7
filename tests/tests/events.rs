//! What happens to an instance is told, and what it uses is weighed.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::GIT;
use metactl_tests::on_host;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_happens_is_told_and_what_runs_is_weighed() {
    on_host(&[GIT], |host| {
        let app = [
            (
                ".metactl",
                "[daemon.web]\ncommand = ./web.sh\n[daemon.busy]\ncommand = sh -c 'while :; do :; done'\n\
                 [crontab]\ntick = * * * * * true\n",
            ),
            (
                "web.sh",
                "#!/bin/sh\n[ -e /data/bad ] && exit 3\nexec sleep 1000\n",
            ),
        ];
        host.application("shop", &app, "");
        let mut follower = host.spawn(&["shop", "events", "-f", "--json"]);
        host.run(&["shop", "deploy", "1.0"]).ok();
        follower.wait_for("\"kind\":\"deployed\"", LIMIT);

        let top = host.run(&["shop", "top", "--json"]).ok();
        let top: Value = serde_json::from_str(&top.stdout).unwrap();
        let first = &top["processes"][0];
        assert!(
            first["command"].as_str().unwrap().contains("while"),
            "{top}"
        );
        assert!(first["percent"].as_f64().unwrap() > 5.0, "{top}");
        assert!(top["memory"].as_u64().unwrap() > 4096, "{top}");
        host.run(&["shop", "top", "web"])
            .ok()
            .says(&["COMMAND", "sleep"])
            .never_says(&["while"]);
        let twice = host
            .run(&["shop", "top", "-n", "2", "-d", "0.2", "--json"])
            .ok();
        assert_eq!(twice.stdout.lines().count(), 2, "{twice}");
        host.run(&["shop", "top", "-d", "0"]).fails(64);

        // A daemon that is killed, and one that ends by itself.
        let pid = host.run(&["shop", "pid", "web"]).ok().stdout;
        fs::write(host.state("shop").join("data/bad"), "").unwrap();
        host.command("kill", &["-KILL", pid.trim()]).ok();
        follower.wait_for("SIGKILL", LIMIT);
        follower.wait_for("exit code 3", LIMIT);
        follower.wait_for("restarted", LIMIT);
        host.run(&["shop", "restart", "web"]).fails(1);
        follower.wait_for("unhealthy", LIMIT);
        host.run(&["shop", "stop"]).ok();
        fs::remove_file(host.state("shop").join("data/bad")).unwrap();
        host.run(&["shop", "start", "web"]).ok();
        follower.wait_for("\"healthy\"", LIMIT);
        host.run(&["shop", "stop"]).ok();
        follower.wait_for("stopped", LIMIT);
        let words = ["not a line", "{\"at\":"].join("\n");
        let path = host.log("shop", "web").with_file_name("events.jsonl");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str(&words);
        fs::write(&path, text).unwrap();
        let all = host.run(&["shop", "events", "--since", "1h"]).ok();
        let all = all.says(&[
            "deployed",
            "healthy",
            "failed",
            "web",
            "exit code 3",
            "stopped",
        ]);
        all.never_says(&["not a line"]);
        let last = host.run(&["events", "shop", "-n", "1", "--json"]).ok();
        let last: Value = serde_json::from_str(&last.stdout).unwrap();
        assert_eq!(
            (&last["version"], &last["instance"]),
            (&1.into(), &"shop".into())
        );
        host.run(&["shop", "events", "--since", "soon"])
            .fails(64)
            .says(&["yesterday"]);
        host.run(&["shop", "top"]).fails(3);
        follower.signal(nix::sys::signal::Signal::SIGTERM);
        follower.wait(LIMIT);
    });
}
