//! Looking into what runs, with the sandbox unchanged.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::{GIT, JDK, LSOF, PYTHON, STRACE};
use metactl_tests::{eventually, on_host};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// A daemon with a child, a command line that would move the cursor, and a file that is open.
const BUSY: &str = "#!/bin/sh
echo ready > /data/open
exec 7< /data/open
/usr/bin/python3 -c 'import time; time.sleep(600)' \"$(printf 'a\\033[2Jb')\" &
while :; do sleep 1; done
";

#[test]
fn processes_are_listed_and_looked_at_from_outside() {
    on_host(&[GIT, PYTHON, LSOF, STRACE], |host| {
        let files = [
            (".metactl", "[daemon.busy]\ncommand = ./busy.sh\n"),
            ("busy.sh", BUSY),
        ];
        host.application("busy", &files, "");
        let none = host.run(&["busy", "ps"]).fails(3);
        assert_eq!(none.stdout, "");
        host.run(&["busy", "pid"]).fails(3);
        host.run(&["busy", "lsof"])
            .fails(69)
            .says(&["metactl busy start"]);
        host.run(&["busy", "deploy", "1.0"]).ok();
        eventually("the child to run", SOON, || {
            let ps = host.run(&["busy", "ps"]).ok().stdout;
            ps.contains("time.sleep").then_some(())
        });
        let ps = host.run(&["busy", "ps", "busy"]).ok();
        assert!(!ps.stdout.contains('\x1b'), "{ps}");
        let json = host.run(&["busy", "ps", "--json"]).ok();
        let facts: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(facts["version"], 1);
        let all = facts["processes"].as_array().unwrap();
        let status = host.run(&["busy", "status", "--json"]).ok();
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        let shell = all
            .iter()
            .find(|process| process["command"].as_str().unwrap().contains("busy.sh"))
            .unwrap();
        assert_eq!(shell["uid"], status["uid"]);
        assert_eq!(shell["entry"], "busy");
        // The built-in init is the first process, and what it runs the second.
        assert_eq!(all[0]["pid"], status["entries"][0]["pid"]);
        assert_eq!(
            (&all[0]["inside"], &shell["inside"]),
            (&1.into(), &2.into())
        );
        assert!(shell["memory"].as_u64().unwrap() > 0);

        let pid = host.run(&["busy", "pid"]).ok().stdout;
        assert_eq!(pid.trim(), all[0]["pid"].to_string());
        host.run(&["busy", "pid", "nothing"])
            .fails(64)
            .says(&["busy"]);

        let open = host.run(&["busy", "lsof"]).ok();
        assert!(open.stdout.contains("/open"), "{open}");
        let number = host.run(&["busy", "lsof", "--", "-t"]).ok();
        assert!(
            number
                .stdout
                .lines()
                .any(|line| line.parse() == Ok(shell["pid"].as_i64().unwrap())),
            "{number}"
        );

        // Its output file is written with the rights of the application, not with root's.
        let trace = host.work().join("trace");
        let shown = trace.to_str().unwrap();
        let refused = host.run(&["busy", "strace", "--", "-o", shown]);
        assert_ne!(refused.code, 0, "{refused}");
        assert!(!trace.exists());
        let mut strace = host.spawn(&[
            "busy",
            "strace",
            "busy",
            "--",
            "-e",
            "trace=clone,fork,vfork",
        ]);
        strace.wait_for("fork", SOON);
        strace.signal(nix::sys::signal::Signal::SIGINT);
        strace.wait(SOON);
        host.run(&["busy", "status"]).ok();
        host.run(&["busy", "stack"])
            .fails(69)
            .says(&["no Java runs in busy", "metactl busy ps"]);
        host.run(&["busy", "stop"]).ok();
    });
}

const WAIT: &str = "
public class Wait {
    public static void main(String[] args) throws Exception {
        System.out.println(\"waits\");
        Thread.currentThread().setName(\"the-one-that-waits\");
        Thread.sleep(600000);
    }
}
";

#[test]
fn a_jvm_is_looked_into_with_the_tools_of_its_own_jdk() {
    on_host(&[GIT, JDK], |host| {
        let config = "[build]\ncommand = javac -d out Wait.java\noutput = out\n\n\
                      [daemon.wait]\njvm.main = Wait\njvm.classpath = .\n";
        let files = [(".metactl", config), ("Wait.java", WAIT)];
        host.application("java", &files, "");
        host.run(&["java", "deploy", "1.0"]).ok();
        eventually("the program to begin", SOON, || {
            let log = fs::read_to_string(host.log("java", "wait")).ok()?;
            log.contains("waits").then_some(())
        });
        let threads = host.run(&["java", "stack"]).ok();
        assert!(
            threads.stdout.contains("\"the-one-that-waits\""),
            "{threads}"
        );
        assert!(
            threads.stdout.contains("java.lang.Thread.sleep"),
            "{threads}"
        );
        let lines = host
            .run(&["java", "gcutil", "wait", "-n", "2", "-i", "10"])
            .ok();
        assert!(lines.stdout.contains("FGCT"), "{lines}");
        assert_eq!(lines.stdout.lines().count(), 3, "{lines}");
        let dump = host.run(&["java", "heapdump", "--json"]).ok();
        let dump: Value = serde_json::from_str(&dump.stdout).unwrap();
        let path = std::path::PathBuf::from(dump["path"].as_str().unwrap());
        assert!(path.starts_with(host.state("java").join("data")));
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(b"JAVA PROFILE"));
        assert_eq!(dump["size"].as_u64().unwrap(), bytes.len() as u64);
        host.run(&["java", "status"]).ok();
        host.run(&["java", "stop"]).ok();
        host.run(&["java", "stack"])
            .fails(69)
            .says(&["metactl java start"]);
    });
}
