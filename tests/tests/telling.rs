//! Daemons that tell by themselves how they are (`notify = yes`, sd_notify(3)), without systemd: a start waits for
//! READY=1, `status` shows STATUS=, and who does not say in time that it is alive is ended and started again.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::{GIT, PERL};
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(15);

const LAYER: &str = "[daemon.app]\nplatform = exec\ncommand = perl app.pl\nnotify = yes\nwatchdog = 1s\n\
    stop.timeout = 1s\n[daemon.late]\nplatform = exec\ncommand = sleep 1000\nafter = app\n\
    [health.ready]\ndaemon = app\nkind = notify\n";

/// It is ready when there is `/data/go`, and silent while there is `/data/silent`; deaf to SIGABRT with `/data/deaf`.
const APP: &str = r#"use strict; use IO::Socket::UNIX; $| = 1;
sub tell_manager {
    my $to = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) or return;
    $to->send($_[0]);
}
$SIG{ABRT} = 'IGNORE' if -e '/data/deaf';
tell_manager("STATUS=warming up");
select(undef, undef, undef, 0.05) until -e '/data/go';
unlink '/data/silent', '/data/deaf';
tell_manager("READY=1\nSTATUS=serves \e[31m3 of 5");
print "watchdog $ENV{WATCHDOG_USEC}\n";
while (1) {
    tell_manager("WATCHDOG=1") unless -e '/data/silent';
    select(undef, undef, undef, 0.2);
}
"#;

fn status(host: &Host) -> serde_json::Value {
    let text = host.run(&["app", "status", "--json"]).stdout;
    serde_json::from_str(&text).unwrap()
}

fn app(host: &Host) -> serde_json::Value {
    status(host)["entries"][0].clone()
}

fn touch(host: &Host, name: &str) {
    fs::write(host.state("app").join("data").join(name), "").unwrap();
}

/// The pid of the app when it is another one.
fn another(host: &Host, before: &serde_json::Value) -> serde_json::Value {
    eventually("another one", SOON, || {
        let now = app(host);
        (now["state"] == "running" && now["pid"] != before["pid"]).then_some(now)
    })
}

#[test]
fn a_start_waits_until_it_is_ready_and_who_is_silent_is_started_again() {
    on_host(&[GIT, PERL], |host| {
        host.application("app", &[(".metactl", LAYER), ("app.pl", APP)], "");
        let deploy = host.spawn(&["app", "deploy", "1.0"]);
        let data = host.state("app").join("data");
        eventually("its data", SOON, || data.is_dir().then_some(()));
        std::thread::sleep(Duration::from_secs(1));
        touch(host, "go");
        let deploy = deploy.wait(SOON).ok();
        assert!(deploy.took > Duration::from_secs(1), "it waited: {deploy}");
        host.run(&["app", "stop"]).ok();
        fs::remove_file(data.join("go")).unwrap();
        let start = host.spawn(&["app", "start"]);
        let beginning = eventually("it to say how it is", SOON, || {
            let now = host.run(&["app", "status", "--json"]).stdout;
            let now: serde_json::Value = serde_json::from_str(&now).ok()?;
            (now["entries"][0]["says"] == "warming up").then_some(now)
        });
        let (first, late) = (&beginning["entries"][0], &beginning["entries"][1]);
        assert_eq!(
            (&first["state"], &late["state"]),
            (&"starting".into(), &"starting".into())
        );
        assert!(
            first["pid"].is_number() && late["pid"].is_null(),
            "{beginning}"
        );
        assert_eq!(first["health"][0]["answer"], "not said");
        touch(host, "go");
        start.wait(SOON).ok();
        eventually("what it says of itself", SOON, || {
            (app(host)["says"] == "serves [31m3 of 5").then_some(())
        });
        host.run(&["app", "status"]).ok().says(&[
            "healthy",
            "READY=1 → said",
            "“serves [31m3 of 5”",
        ]);
        host.run(&["app", "logs", "app"])
            .ok()
            .says(&["watchdog 1000000"]);

        // It is alive for longer than its watchdog has patience, and then says nothing any more.
        let before = app(host);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(app(host)["pid"], before["pid"]);
        touch(host, "silent");
        let after = another(host, &before);
        assert_eq!(after["restarts"], 1);
        let reason = after["lastExit"]["reason"].as_str().unwrap();
        assert!(
            reason.contains("SIGABRT") && reason.contains("watchdog"),
            "{reason}"
        );
        host.run(&["app", "events"]).ok().says(&["watchdog"]);

        // The same under a supervisor that has adopted it; and with one that is deaf to SIGABRT.
        let supervisor = machine::pids_of(&["metactl", "supervise"])[0];
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        eventually("a new supervisor", SOON, || {
            host.run(&["app", "status"]);
            let now = machine::pids_of(&["metactl", "supervise"]);
            now.iter().any(|pid| *pid != supervisor).then_some(())
        });
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(
            app(host)["pid"],
            after["pid"],
            "it has been adopted, and is alive"
        );
        touch(host, "silent");
        let third = another(host, &after);
        touch(host, "deaf");
        host.run(&["app", "restart", "app"]).ok();
        let deaf = app(host);
        assert_ne!(deaf["pid"], third["pid"]);
        touch(host, "silent");
        let last = another(host, &deaf);
        let reason = last["lastExit"]["reason"].as_str().unwrap();
        assert!(
            reason.contains("SIGKILL") && reason.contains("watchdog"),
            "{reason}"
        );
        host.run(&["app", "stop"]).ok();
    });
}
