//! Instances kept running by jobs of Upstart, by way of a FAKE initctl (`tests/src/upstart/fake-initctl.sh`): there is no
//! Upstart on this machine. What it runs is real. `tests/vm/upstart.sh` does the same and more with the real one.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use metactl_tests::command::{self, Outcome};
use metactl_tests::needs::{GIT, NFT};
use metactl_tests::{Host, eventually, on_host};

const SOON: Duration = Duration::from_secs(20);

/// A host with places for Upstart's files, and the fake.
struct Upstart<'a> {
    host: &'a Host,
    dir: PathBuf,
}

impl<'a> Upstart<'a> {
    fn on(host: &'a Host) -> Upstart<'a> {
        let dir = host.work().join("fake");
        for name in ["etc/init", "etc/cron.d", "over"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        for name in ["hosts", "resolv.conf"] {
            fs::copy(format!("/etc/{name}"), dir.join("etc").join(name)).unwrap();
        }
        let options = format!(
            "lowerdir=/etc,upperdir={0}/etc,workdir={0}/over",
            dir.display()
        );
        host.command("mount", &["-t", "overlay", "-o", &options, "etc", "/etc"])
            .ok();
        host.command("mount", &["-t", "tmpfs", "log", "/var/log"])
            .ok();
        host.command("mount", &["-t", "tmpfs", "bin", "/usr/local/sbin"])
            .ok();
        let fake = "/usr/local/sbin/initctl";
        fs::write(fake, include_str!("../src/upstart/fake-initctl.sh")).unwrap();
        fs::set_permissions(fake, fs::Permissions::from_mode(0o755)).unwrap();
        Upstart { host, dir }
    }

    fn metactl(&self, args: &[&str]) -> Command {
        let mut metactl = self.host.metactl(args);
        metactl.env("METACTL_SERVICE_MANAGER", "upstart");
        metactl
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Outcome {
        command::run(self.metactl(args), Duration::from_secs(60))
    }

    fn initctl(&self, args: &[&str]) -> Outcome {
        self.host.command("initctl", args)
    }

    fn state(&self, job: &str) -> String {
        self.initctl(&["status", job]).ok().stdout.trim().to_owned()
    }

    fn status(&self, instance: &str) -> serde_json::Value {
        serde_json::from_str(&self.run(&[instance, "status", "--json"]).stdout).unwrap()
    }

    /// The line that cron would run for a job of every minute.
    fn cron_line(&self, instance: &str) -> String {
        let text = fs::read_to_string(format!("/etc/cron.d/metactl-{instance}")).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("* * * * * root "));
        line.unwrap().to_owned()
    }

    fn end(self) {
        for place in ["/usr/local/sbin", "/var/log", "/etc"] {
            self.host.command("umount", &[place]).ok();
        }
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

#[test]
fn an_instance_in_its_sandbox() {
    on_host(&[GIT, NFT], |host| {
        let upstart = Upstart::on(host);
        let config = "[daemon.db]\nplatform = exec\ncommand = sleep 1000\n\
             [daemon.web]\nplatform = exec\ncommand = sleep 1000\nrequires = db\n\
             [crontab]\nsay it = 5 0 * * * echo said; exit 7\ntick = * * * * * echo tick\n";
        host.application("app", &[(".metactl", config)], "");
        upstart.run(&["app", "deploy", "1.0"]).ok();
        let status = upstart.status("app");
        assert_eq!(
            (&status["state"], &status["enabled"]),
            (&"running".into(), &true.into())
        );
        assert!(upstart.state("metactl@app").ends_with(" start/running"));
        assert!(
            upstart
                .state("metactl-app-web")
                .contains(" start/running, process ")
        );

        // One that is killed comes again, and how it ended is known.
        let pid = |name: &str| {
            let entries = upstart.status("app")["entries"].clone();
            let entry = entries
                .as_array()
                .unwrap()
                .iter()
                .find(|e| e["name"] == name)
                .cloned();
            entry.unwrap_or_default()
        };
        let before = pid("db");
        host.command("kill", &["-KILL", &before["pid"].to_string()])
            .ok();
        eventually("it runs again", SOON, || {
            let now = pid("db");
            (now["pid"].is_u64() && now["pid"] != before["pid"]).then_some(now)
        });
        let db = pid("db");
        assert_eq!(
            (&db["restarts"], &db["lastExit"]["reason"]),
            (&1.into(), &"exit code 137, SIGKILL".into())
        );

        // Cron jobs, by hand and as cron starts them.
        upstart
            .run(&["app", "cron", "run", "say it"])
            .fails(7)
            .says(&["said"]);
        upstart.run(&["app", "cron"]).ok().says(&["exit code 7"]);
        host.command("sh", &["-c", &upstart.cron_line("app")]).ok();
        eventually("the job has run", SOON, || {
            let log = upstart.run(&["app", "logs", "cron.tick"]).stdout;
            log.contains("tick").then_some(())
        });

        // What is stopped by hand is stopped.
        upstart.initctl(&["stop", "metactl-app-web"]).ok();
        assert_eq!(upstart.status("app")["state"], "partial");
        upstart.run(&["app", "start"]).ok();
        assert_eq!(upstart.status("app")["state"], "running");

        // The boot starts what is enabled.
        upstart.run(&["app", "stop"]).ok();
        assert!(!host.run_dir().join("app").exists());
        upstart.initctl(&["emit", "runlevel"]).ok();
        eventually("it runs after a boot", SOON, || {
            (upstart.status("app")["state"] == "running").then_some(())
        });
        upstart.run(&["app", "disable"]).ok();
        upstart.run(&["app", "stop"]).ok();
        upstart.initctl(&["emit", "runlevel"]).ok();
        assert_eq!(upstart.state("metactl@app"), "metactl@app stop/waiting");
        upstart.run(&["app", "delete", "--data", "--yes"]).ok();
        let left = fs::read_dir("/etc/init").unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        upstart.end();
    });
}

#[test]
fn plain_commands_where_there_is_no_sandbox() {
    on_host(&[GIT, NFT], |host| {
        let upstart = Upstart::on(host);
        let config = "[env]\nGREETING = it's \"x\" \\ y # z\n[daemon.web]\nplatform = exec\n\
             command = sh -c 'echo \"$GREETING|$0|$(id -un)|$PWD\"; exec sleep 1000' \"a  b\"\n\
             [crontab]\nfails = 5 0 * * * echo \"in $METACTL_DATA_DIR\"; exit 7\n";
        let plain = "[upstart]\nsandbox = no\n";
        let repository = host.application("app", &[(".metactl", config)], plain);
        // The firewall that the configuration has is not left out silently, and neither is the account.
        let refused = upstart.run(&["app", "deploy", "1.0"]).fails(78);
        refused.says(&["[sandbox.net] mode = host"]);
        let host_net =
            format!("{plain}[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n");
        host.instance_of("app", &repository, &host_net);
        upstart
            .run(&["app", "deploy", "1.0"])
            .fails(78)
            .says(&["[sandbox] user = "]);
        let account = format!("{host_net}[sandbox]\nuser = games\n");
        host.instance_of("app", &repository, &account);
        upstart.run(&["app", "deploy", "1.0"]).ok();

        upstart
            .run(&["app", "status"])
            .ok()
            .says(&["WITHOUT A SANDBOX"]);
        upstart
            .run(&["app", "logs", "web"])
            .ok()
            .says(&["it's \"x\" \\ y # z|a  b|games|"]);
        let job = fs::metadata("/etc/init/metactl-app-web.conf").unwrap();
        assert_eq!(job.permissions().mode() & 0o777, 0o600);
        upstart
            .run(&["app", "cron", "run", "fails"])
            .fails(7)
            .says(&["/var/lib/metactl/app/data"]);
        upstart.run(&["app", "cron"]).ok().says(&["exit code 7"]);
        upstart.run(&["app", "delete", "--data", "--yes"]).ok();
        upstart.end();
    });
}
