//! Cron jobs: listed, run by hand, run when their time has come; on small applications.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::{GIT, NFT};
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(15);

const WAITER: &str = "[daemon.waiter]\nplatform = exec\ncommand = sleep 1000\n";

fn deploy(host: &Host, crontab: &str) {
    let config = format!("{WAITER}{crontab}");
    host.application("app", &[(".metactl", &config)], "");
    host.run(&["app", "deploy", "1.0"]).ok();
}

fn log_of(host: &Host, job: &str) -> String {
    fs::read_to_string(host.log("app", &format!("cron.{job}"))).unwrap_or_default()
}

fn jobs(host: &Host) -> serde_json::Value {
    let list = host.run(&["app", "cron", "list", "--json"]).ok();
    serde_json::from_str(&list.stdout).unwrap()
}

fn supervisor() -> Pid {
    Pid::from_raw(machine::pids_of(&["supervise"])[0])
}

/// Changes what is remembered of a job, as time would.
fn remember(host: &Host, job: &str, key: &str, value: &str) {
    let path = host.state("app").join(format!("cron/cron.{job}.json"));
    let text = fs::read_to_string(&path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record[key] = value.into();
    fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn localhost_is_the_application() {
    on_host(&[GIT, NFT], |host| {
        let fetch =
            "exec 3<>/dev/tcp/localhost/80; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3";
        let local = format!("[crontab]\ndaily housekeeping = 5 0 * * * bash -c '{fetch}'\n");
        host.hello("hello", &local);
        host.run(&["hello", "cron", "run", "daily housekeeping"])
            .ok()
            .says(&["Hello, sandbox"]);
        host.run(&["hello", "logs", "cron.daily-housekeeping"])
            .ok()
            .says(&["Hello, sandbox"]);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_job_is_run_by_hand() {
    on_host(&[GIT, NFT], |host| {
        deploy(
            host,
            "[env]\nGREETING = good morning\n[cron]\ntimezone = Australia/Sydney\n[crontab]\n\
             say it = 5 0 * * * echo \"$GREETING, 100% $(date +%Y) $METACTL_ENTRY\"; exit 7\n\
             killed = @weekly kill -9 $$\nlong = @yearly echo begun; sleep 4711\n",
        );
        let run = host.run(&["app", "cron", "run", "say it"]).fails(7);
        run.says(&["good morning, 100% 20", " cron.say-it"]);
        host.run(&["cron", "app", "run", "say-it"]).fails(7);
        host.run(&["app", "cron", "run", "killed"]).fails(137);
        assert_eq!(log_of(host, "say-it").matches("good morning").count(), 2);

        // Failures are told, also by a supervisor after this one.
        host.run(&["app", "status"])
            .ok()
            .says(&["cron.say-it", "exit code 7"]);
        kill(supervisor(), Signal::SIGKILL).unwrap();
        host.run(&["app", "status"])
            .ok()
            .says(&["cron.say-it", "exit code 7"]);
        host.run(&["app", "cron"]).ok().says(&[
            "say it",
            "5 0 * * * (Australia/Sydney)",
            "exit code 7, 2 times in a row",
            "SIGKILL",
        ]);
        let list = jobs(host);
        let job = &list["jobs"][0];
        assert_eq!(job["lastExit"]["code"], 7, "{list}");
        // 00:05 in Sydney is 13:05 or 14:05 of the day before in UTC.
        let next = job["next"].as_str().unwrap();
        assert!(
            next.contains("T13:05:00") || next.contains("T14:05:00"),
            "{list}"
        );

        // A job that runs is not run a second time.
        let mut long = host.spawn(&["app", "cron", "run", "long"]);
        long.wait_for("begun", SOON);
        host.run(&["app", "cron", "run", "long"])
            .fails(69)
            .says(&["runs already, since 2"]);
        host.run(&["app", "cron"]).ok().says(&["runs"]);
        // Who interrupts the command does not stop the job.
        long.signal(Signal::SIGINT);
        long.wait(SOON);
        assert!(!machine::pids_of(&["sleep 4711"]).is_empty());

        host.run(&["app", "cron", "run", "nothing"])
            .fails(64)
            .says(&["cron.say-it"]);
        host.run(&["app", "cron", "run", "waiter"]).fails(64);
        host.run(&["app", "cron", "run"]).fails(64);
        host.run(&["app", "cron", "run", "killed", "--json"])
            .fails(137)
            .says(&["\"code\": 137"]);
        host.run(&["app", "stop"]).ok();
        assert!(machine::pids_of(&["sleep 4711"]).is_empty());
        host.assert_nothing_left();
        host.run(&["app", "cron", "run", "killed"])
            .fails(69)
            .says(&["metactl app start"]);
        host.run(&["app", "cron"])
            .ok()
            .says(&["say it", "exit code 7"]);
    });
}

#[test]
fn what_was_missed_and_what_comes_after_a_boot() {
    on_host(&[GIT, NFT], |host| {
        deploy(
            host,
            "[cron]\nmissed = once\n[crontab]\nat boot = @reboot echo booted\n\
             nightly = 5 0 * * * echo caught up\nyearly = @yearly echo not missed\n",
        );
        let count = |job: &str, word: &str| log_of(host, job).matches(word).count();
        let soon = |job: &str, word: &str, times: usize| {
            eventually(word, SOON, || (count(job, word) == times).then_some(()));
        };
        soon("at-boot", "booted", 1);
        host.run(&["app", "restart"]).ok();
        kill(supervisor(), Signal::SIGKILL).unwrap();
        host.run(&["app", "start"]).ok();
        host.run(&["app", "stop"]).ok();
        assert_eq!(
            (count("at-boot", "booted"), count("nightly", "caught up")),
            (1, 0)
        );
        // The server was off for three days, and has been booted.
        let then = host.command("date", &["-u", "-d", "3 days ago", "+%FT%TZ"]);
        remember(host, "nightly", "attended", then.ok().stdout.trim());
        remember(host, "at-boot", "boot", "another");
        host.run(&["app", "start"]).ok();
        soon("at-boot", "booted", 2);
        soon("nightly", "caught up", 1);
        host.run(&["app", "restart"]).ok();
        host.run(&["app", "stop"]).ok();
        assert_eq!(
            (count("at-boot", "booted"), count("nightly", "caught up")),
            (2, 1)
        );
        assert_eq!(count("yearly", "not missed"), 0);
        // A record that somebody damaged is told of, and is no reason not to run.
        fs::write(host.state("app").join("cron/cron.nightly.json"), "{").unwrap();
        host.run(&["app", "start"]).ok();
        host.run(&["app", "status"])
            .ok()
            .says(&["cron.nightly.json"]);
        host.run(&["app", "cron", "run", "nightly"]).ok();
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_time_zone_that_the_server_does_not_know_is_refused() {
    on_host(&[GIT], |host| {
        let config = format!("{WAITER}[cron]\ntimezone = Europe/Nowhere\n");
        host.application("app", &[(".metactl", &config)], "");
        host.run(&["app", "deploy", "1.0"])
            .fails(78)
            .says(&["Europe/Nowhere", "/usr/share/zoneinfo"]);
    });
}

#[test]
fn every_minute_slow() {
    on_host(&[GIT], |host| {
        deploy(
            host,
            "[crontab]\noften = * * * * * echo begun; sleep 70; echo over\nevery minute = */1 * * * * date +%H:%M:%S\n",
        );
        let limit = Duration::from_secs(130);
        eventually("two runs", limit, || {
            (log_of(host, "every-minute").lines().count() == 2).then_some(())
        });
        // At the very minute; and the long one was not begun a second time.
        let log = log_of(host, "every-minute");
        assert!(
            log.lines()
                .all(|line| line.ends_with(":00") || line.ends_with(":01")),
            "{log}"
        );
        assert_eq!(log_of(host, "often").matches("begun").count(), 1);
        let supervisor = fs::read_to_string(host.log("app", "supervisor")).unwrap();
        assert!(supervisor.contains("cron.often still runs"), "{supervisor}");
        host.run(&["app", "stop"]).ok();
    });
}
