//! `[health.NAME]`: what deploy, start and rollback wait for, and what is told when it fails.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::command::Background;
use metactl_tests::needs::{GIT, NFT, PERL};
use metactl_tests::{Host, eventually, machine, on_host};

const SOON: Duration = Duration::from_secs(15);

/// A web server whose pages have the statuses that `pages` says.
fn server(pages: &str) -> String {
    format!(
        r#"#!/usr/bin/perl
use strict; use IO::Socket::INET;
my %pages = ({pages});
my $server = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die $!;
print STDERR "serves\n";
while (my $client = $server->accept) {{
    my $line = <$client> // next;
    my ($path) = $line =~ m{{^GET (\S+) }};
    while (defined(my $rest = <$client>)) {{ last if $rest =~ /^\r?$/; }}
    my $status = $pages{{$path}} // 404;
    print STDERR "asked for $path\n";
    print $client "HTTP/1.1 $status X\r\nContent-Length: 0\r\n\r\n";
    close $client;
}}
"#
    )
}

const DAEMON: &str = "[daemon.web]\nplatform = exec\ncommand = perl server.pl\nport = 80\n\
    [build]\nwatch = 1s\n";

fn runs(host: &Host, tag: &str) {
    host.run(&["app", "status"])
        .ok()
        .says(&[&format!("· {tag} ("), "running"]);
}

#[test]
fn a_page_with_another_status_leads_back_to_the_release_before() {
    on_host(&[GIT, NFT, PERL], |host| {
        let check =
            "[health.page]\npath = /up?deep=1\nstatus = 200 204\ninterval = 100ms\ntries = 4\n";
        let layer = format!("{DAEMON}{check}");
        let good = server("'/up?deep=1' => 204, '/' => 500");
        let files = [(".metactl", layer.as_str()), ("server.pl", &good)];
        let repository = host.application("app", &files, "");
        host.run(&["app", "deploy", "1.0"]).ok().says(&[
            "✓ health",
            "GET /up?deep=1 → 204",
            " at http://10.77.",
        ]);
        repository
            .write("server.pl", &server("'/up?deep=1' => 503, '/' => 200"))
            .commit("2.0");
        let failed = host.run(&["app", "deploy", "2.0"]).fails(10);
        failed.says(&[
            "✗ health",
            "✓ back",
            "GET /up?deep=1 → 204",
            "[health.page] GET /up?deep=1 → 503, 4 of 4 tries",
            "asked for /up?deep=1",
            "runs again (",
            " s lost)",
        ]);
        runs(host, "1.0");
        // The same for who goes there by another way: the release is gone, so is every trace of it.
        host.run(&["app", "releases"]).ok();
        // A configuration that asks for more than the application has is no start.
        host.run(&["app", "set", "health.page:status=200"]).ok();
        host.run(&["app", "restart"])
            .fails(10)
            .says(&["→ 204, 4 of 4 tries"]);
        runs(host, "1.0");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_command_is_asked_inside_and_what_it_says_is_told() {
    on_host(&[GIT], |host| {
        let layer = "[daemon.job]\nplatform = exec\ncommand = ./job.sh\n\
            [health.done]\ncommand = test -e /tmp/ready || { echo not ready yet >&2; exit 7; }\n\
            interval = 100ms\ntries = 5\ngrace = 3s\n[build]\nwatch = 1s\n";
        let job = "#!/bin/sh\nsleep 1\ntouch /tmp/ready\nexec sleep 1000\n";
        let files = [(".metactl", layer), ("job.sh", job)];
        let repository = host.application("app", &files, "");
        let took = host.run(&["app", "deploy", "1.0"]).ok().took;
        assert!(took > Duration::from_secs(1), "it waited: {took:?}");
        repository
            .write("job.sh", "#!/bin/sh\nexec sleep 1000\n")
            .commit("2.0");
        host.run(&["app", "deploy", "2.0"])
            .fails(10)
            .says(&["exit code 7: not ready yet, 5 of 5 tries", "✓ back"]);
        runs(host, "1.0");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn status_asks_what_runs() {
    on_host(&[GIT, PERL], |host| {
        let layer = format!(
            "{DAEMON}[health.page]\ndaemon = web\npath = /up\ninterval = 100ms\n[daemon.job]\nplatform = exec\n\
             command = sleep 1000\n[health.job]\ncommand = test ! -e /data/slow || sleep 4714\ntimeout = 9s\n\
             [daemon.open]\nplatform = exec\ncommand = perl open.pl\nport = 81\nhealth = tcp\n"
        );
        // The status is that of the moment in which it is asked.
        let ill = server("").replace(
            "my $status = $pages{$path} // 404;",
            "my $status = -e '/data/ill' ? 503 : 200;",
        );
        let open = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 81, Listen => 5) or die; sleep 1000";
        let files = [
            (".metactl", layer.as_str()),
            ("server.pl", &ill),
            ("open.pl", open),
        ];
        host.application("app", &files, "[sandbox.limits]\nmemory = 64m\n");
        host.run(&["app", "deploy", "1.0"]).ok();
        let status = host.run(&["app", "status"]).ok();
        status.says(&[
            "· healthy",
            "GET /up → 200",
            "→ exit code 0",
            "port 81 → listens",
            " of 64",
        ]);
        let quiet = host.run(&["app", "status", "--no-health"]).ok().stdout;
        assert!(
            !quiet.contains("GET /up") && !quiet.contains("healthy"),
            "{quiet}"
        );

        let data = host.state("app").join("data");
        fs::write(data.join("ill"), "").unwrap();
        // Who waits waits until it is well, but no longer than was said.
        host.run(&["app", "status"]).ok();
        let waited = host.run(&["app", "status", "--wait=700ms"]).fails(4);
        assert!(waited.took > Duration::from_millis(700), "{waited}");
        waited.says(&["GET /up → 503"]);
        host.run(&["app", "status", "--wait=soon"])
            .fails(64)
            .says(&["--wait=soon"]);
        let mut waiting = Background::spawn(host.metactl(&["app", "status", "--wait"]));
        std::thread::sleep(Duration::from_millis(600));
        assert!(waiting.runs());
        fs::remove_file(data.join("ill")).unwrap();
        waiting.wait(SOON).ok().says(&["GET /up → 200"]);
        fs::write(data.join("ill"), "").unwrap();
        fs::write(data.join("slow"), "").unwrap();
        let status = host.run(&["app", "status"]).ok();
        status
            .clone()
            .says(&["· ill", "GET /up → 503", "unknown, no answer within 2 s"]);
        assert!(status.took < Duration::from_secs(5), "{status}");
        eventually("the end of the command", SOON, || {
            machine::pids_of(&["sleep 4714"]).is_empty().then_some(())
        });
        let json: serde_json::Value =
            serde_json::from_str(&host.run(&["app", "status", "--json"]).ok().stdout).unwrap();
        let page = json["entries"]
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["name"] == "web")
            .unwrap();
        let page = &page["health"][0];
        assert_eq!(
            (&page["name"], &page["state"]),
            (&"page".into(), &"ill".into())
        );
        assert!(page["at"].is_string() && json["healthy"] == false, "{json}");

        // The whole group: more than any part of it, and never without what the limit is.
        let parts = json["entries"].as_array().unwrap().iter();
        let parts: u64 = parts
            .filter_map(|entry| entry["memory"].as_u64())
            .max()
            .unwrap();
        assert!(json["memory"].as_u64().unwrap() >= parts, "{json}");
        assert_eq!(json["memoryLimit"], 64 << 20);
        host.run(&["app", "stop"]).ok();
        let stopped = host.run(&["app", "status", "--wait"]).fails(3);
        assert!(stopped.took < Duration::from_secs(10), "{stopped}");
    });
}

#[test]
fn a_command_that_hangs_is_ended() {
    on_host(&[GIT], |host| {
        let layer = "[daemon.job]\nplatform = exec\ncommand = sleep 1000\n\
            [health.slow]\ncommand = sleep 4713\ntimeout = 300ms\ninterval = 100ms\ntries = 2\n";
        host.application("app", &[(".metactl", layer)], "");
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["no end after", "2 of 2 tries"]);
        eventually("the end of the command", SOON, || {
            metactl_tests::machine::pids_of(&["sleep 4713"])
                .is_empty()
                .then_some(())
        });
        host.run(&["app", "status"]).fails(3);
    });
}

#[test]
fn who_says_that_it_is_ready_is_heard() {
    on_host(&[GIT, PERL], |host| {
        let layer = "[daemon.job]\nplatform = exec\ncommand = perl job.pl\n\
            [health.ready]\nkind = notify\ninterval = 200ms\ntries = 10\n";
        let job = "use IO::Socket::UNIX; use Socket; sleep 1;\n\
            my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET}) \
            or die \"no socket: $!\";\n\
            $s->send(\"STATUS=up\\nREADY=1\\n\") if -e '/app/says'; sleep 1000;\n";
        let files = [(".metactl", layer), ("job.pl", job), ("says", "")];
        let repository = host.application("app", &files, "[build]\nwatch = 1s\n");
        let took = host.run(&["app", "deploy", "1.0"]).ok().took;
        assert!(took > Duration::from_secs(1), "it waited: {took:?}");
        host.run(&["app", "restart"]).ok();
        fs::remove_file(repository.dir.join("says")).unwrap();
        repository.commit("2.0");
        host.run(&["app", "deploy", "2.0"])
            .fails(10)
            .says(&["READY=1 → not said, 10 of 10 tries"]);
        runs(host, "1.0");
        // Nobody listens while nobody waits.
        let socket = host.state("app").join("etc/notify/job");
        assert!(!socket.exists());
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_release_that_dies_after_five_seconds_is_no_release_slow() {
    on_host(&[GIT, NFT, PERL], |host| {
        let layer = "[daemon.web]\nplatform = exec\ncommand = ./app.sh\n";
        let files = [
            (".metactl", layer),
            ("app.sh", "#!/bin/sh\nexec sleep 1000\n"),
        ];
        let repository = host.application("app", &files, "");
        host.run(&["app", "deploy", "1.0"]).ok();
        repository
            .write(
                "app.sh",
                "#!/bin/sh\nsleep 5\necho no memory left\nexit 9\n",
            )
            .commit("2.0");
        host.run(&["app", "deploy", "2.0"]).fails(10).says(&[
            "✗ watch",
            "exit code 9",
            "no memory left",
            "✓ back",
        ]);
        runs(host, "1.0");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_question_to_nobody_is_refused_with_the_line() {
    on_host(&[GIT], |host| {
        let layer = "[daemon.job]\nplatform = exec\ncommand = sleep 1000\n\
            [health.a]\nkind = tcp\n[health.b]\ndaemon = jobb\nkind = notify\n\
            [health.c]\nkind = notify\npath = /x\n";
        host.application("app", &[(".metactl", layer)], "");
        host.run(&["app", "deploy", "1.0"]).fails(78).says(&[
            "[health.a] needs a `port`",
            "there is no daemon `jobb` to ask",
            "did you mean `job`?",
            "`path` means nothing to `kind = notify`",
        ]);
    });
}
