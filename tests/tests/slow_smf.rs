//! SMF keeps instances running: against a FAKE of its programs (`fakes/smf.py`), because no Solaris can be had here. It
//! imports the real manifest, runs the methods as svc.startd does, in a root where the release is at `/app`, and keeps the
//! crontab. What a real SMF would say, these tests cannot tell.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use metactl_tests::command::{self, Outcome};
use metactl_tests::needs::{GIT, NFT, PYTHON};
use metactl_tests::{Host, eventually, machine, on_host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);
const NAMES: [&str; 8] = [
    "svccfg", "svcprop", "svcs", "svcadm", "startd", "crontab", "pkill", "boot",
];

/// The fake, on a host whose metactl is told that there is SMF.
struct Smf<'a> {
    host: &'a Host,
    bin: PathBuf,
}

impl Smf<'_> {
    fn install(host: &Host) -> Smf<'_> {
        let bin = host.work().join("smf");
        fs::create_dir_all(bin.join("state")).unwrap();
        for name in NAMES {
            let path = bin.join(name);
            fs::write(&path, include_str!("../fakes/smf.py")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        host.server_conf("[server]\nservice-manager = smf\n");
        let smf = Smf { host, bin };
        smf.zone(true);
        fs::write(smf.crontab(), "# mine\n1 1 * * * /usr/bin/true\n").unwrap();
        smf
    }

    /// Whether the zone shows the release.
    fn zone(&self, shows: bool) {
        let state = self.host.root().join("var/lib/metactl");
        let zone = serde_json::json!({"state": state, "shows": shows});
        fs::write(self.bin.join("state/zone.json"), zone.to_string()).unwrap();
    }

    fn path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.bin.display())
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Outcome {
        let mut metactl = self.host.metactl(args);
        metactl.env("PATH", self.path());
        command::run(metactl, LIMIT)
    }

    fn crontab(&self) -> PathBuf {
        self.bin.join("state/crontab")
    }

    fn status(&self) -> serde_json::Value {
        let said = self.run(&["app", "status", "--json"]);
        serde_json::from_str(&said.stdout).unwrap()
    }

    /// An entry point, as `status` has it.
    fn entry(&self, name: &str) -> serde_json::Value {
        let status = self.status();
        let mut entries = status["entries"].as_array().unwrap().iter();
        entries.find(|entry| entry["name"] == name).unwrap().clone()
    }

    fn pid(&self, name: &str) -> i32 {
        let entry = self.entry(name);
        i32::try_from(entry["pid"].as_i64().unwrap_or_else(|| panic!("{entry}"))).unwrap()
    }

    fn services(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.bin.join("state/repository")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["services"].clone()
    }
}

/// What the fake saw, for who has to understand a failure.
impl Drop for Smf<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for log in fs::read_dir(self.bin.join("state/log"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = fs::read_to_string(log.path()).unwrap_or_default();
            eprintln!("--- {}\n{text}", log.path().display());
        }
        eprintln!(
            "--- crontab\n{}",
            fs::read_to_string(self.crontab()).unwrap_or_default()
        );
    }
}

const CONFIG: &str = "[daemon.web]\nplatform = exec\ncommand = sh bin/web\nrequires = db\n\
    [daemon.db]\nplatform = exec\ncommand = sleep 4711\n\
    [daemon.once]\nplatform = exec\ncommand = echo once\nrestart = on-failure\n\
    [env]\nGREETING = it's \"100%\" <ok> & more\n\
    [crontab]\nsay it = 5 0 * * * echo \"ran $GREETING\"; exit 7\nlong = @daily sleep 4712\n";
const PASSED: &str = "[smf.property]\ngeneral/action_authorization = astring: site.manage.app\n\
    app/ports = count: (80 443)\nstartd/ignore_error = astring: core\n\
    [smf.method]\nproject = user.app\n\
    [smf.dependency]\nldap = optional_all/none svc:/network/ldap/client:default\n";
const WEB: &str =
    "echo \"web: $GREETING in $(pwd)\"\ntrap 'exit 0' TERM\nwhile :; do sleep 1; done\n";

#[test]
fn every_verb_is_said_to_smf() {
    on_host(&[GIT, NFT, PYTHON], |host| {
        let smf = Smf::install(host);
        smf.run(&["doctor"])
            .says(&["service manager: smf: [server] service-manager in"]);
        host.application("app", &[(".metactl", CONFIG), ("bin/web", WEB)], PASSED);
        smf.run(&["app", "deploy", "1.0"]).ok();

        // What is said to SMF itself arrives, beside what metactl says.
        let service = &smf.services()["site/metactl/app"];
        let web = &service["instances"]["web"]["groups"];
        assert_eq!(
            service["groups"]["general"]["action_authorization"][1],
            "site.manage.app"
        );
        assert_eq!(
            service["groups"]["app"]["ports"][1],
            serde_json::json!(["80", "443"])
        );
        assert_eq!(service["groups"]["ldap"]["grouping"][1], "optional_all");
        assert_eq!(web["method_context"]["project"][1], "user.app");
        assert_eq!(web["startd"]["ignore_error"][1], "core");
        assert_eq!(web["startd"]["duration"][1], "child");

        // The application is the process, as its user, with its environment, at its place.
        let status = smf.status();
        assert_eq!(status["state"], "running", "{status}");
        assert_eq!(status["enabled"], true);
        let (web, db) = (smf.pid("web"), smf.pid("db"));
        let uid = fs::metadata(format!("/proc/{web}")).unwrap().uid();
        assert_eq!(Some(u64::from(uid)), status["uid"].as_u64());
        assert!(
            fs::read_to_string(format!("/proc/{db}/cmdline"))
                .unwrap()
                .contains("sleep\0")
        );
        smf.run(&["app", "logs", "web"])
            .ok()
            .says(&["web: it's \"100%\" <ok> & more in /app"]);
        let once = smf.entry("once");
        assert_eq!(
            (&once["state"], &once["lastExit"]["code"]),
            (&"ended".into(), &0.into())
        );

        // What ends is started again by SMF; what needs it, with it.
        kill(Pid::from_raw(web), Signal::SIGKILL).unwrap();
        eventually("another process", SOON, || {
            let entry = smf.entry("web");
            (entry["restarts"] == 1 && entry["pid"].as_i64() != Some(web.into())).then_some(())
        });
        assert_eq!(smf.pid("db"), db);
        // There is no sandbox to look into; who can look is said.
        for words in [
            &["exec", "--", "true"][..],
            &["shell"],
            &["ps"],
            &["strace"],
            &["net", "id"],
        ] {
            let words: Vec<&str> = std::iter::once("app")
                .chain(words.iter().copied())
                .collect();
            smf.run(&words)
                .fails(69)
                .says(&["the zone is the sandbox", "zlogin ZONE"]);
        }
        smf.run(&["app", "restart", "web"]).ok();
        assert_eq!(
            (smf.pid("db"), &smf.entry("web")["restarts"]),
            (db, &0.into())
        );

        // Somebody stops it by hand: that counts.
        let stop = ["disable", "-s", "-t", "svc:/site/metactl/app:web"];
        command::run(
            {
                let mut svcadm = std::process::Command::new(smf.bin.join("svcadm"));
                svcadm.args(stop);
                svcadm
            },
            LIMIT,
        )
        .ok();
        assert_eq!(smf.entry("web")["state"], "stopped");
        smf.run(&["app", "start", "web"]).ok();

        smf.run(&["app", "stop"]).ok();
        smf.run(&["app", "status"]).fails(3);
        assert!(machine::pids_of(&["sleep 4711"]).is_empty());
        smf.run(&["app", "start"]).ok();
        smf.run(&["app", "stop"]).ok();

        // Enabled, it comes with the server; with no metactl at work.
        command::run(std::process::Command::new(smf.bin.join("boot")), LIMIT).ok();
        eventually("everything after a boot", SOON, || {
            (smf.status()["state"] == "running").then_some(())
        });
        smf.run(&["app", "disable"]).ok();
        assert_eq!(smf.status()["state"], "running");
        smf.run(&["app", "stop"]).ok();
        command::run(std::process::Command::new(smf.bin.join("boot")), LIMIT).ok();
        smf.run(&["app", "status"]).fails(3);

        smf.run(&["app", "delete", "--yes", "--data"]).ok();
        assert_eq!(smf.services(), serde_json::json!({}));
        let crontab = fs::read_to_string(smf.crontab()).unwrap();
        assert_eq!(crontab, "# mine\n1 1 * * * /usr/bin/true\n");
    });
}

#[test]
fn cron_jobs_stand_in_the_crontab() {
    on_host(&[GIT, NFT, PYTHON], |host| {
        let smf = Smf::install(host);
        host.application("app", &[(".metactl", CONFIG), ("bin/web", WEB)], "");
        smf.run(&["app", "deploy", "1.0"]).ok();
        let crontab = fs::read_to_string(smf.crontab()).unwrap();
        assert!(crontab.starts_with("# mine\n1 1 * * * /usr/bin/true\n# metactl app: begin"));
        let line = crontab
            .lines()
            .find(|line| line.contains("cron.say-it"))
            .unwrap();
        let command = line.strip_prefix("5 0 * * * ").unwrap();

        let run = smf.run(&["app", "cron", "run", "say it"]).fails(7);
        run.says(&["ran it's \"100%\" <ok> & more"]);
        // Its time has come.
        let mut due = std::process::Command::new("sh");
        due.args(["-c", command])
            .env_clear()
            .env("PATH", smf.path());
        command::run(due, LIMIT).ok();
        smf.run(&["app", "cron"])
            .ok()
            .says(&["say it", "exit code 7, 2 times in a row"]);

        // One that runs is not run a second time, and ends with its instance.
        let mut long = smf.host.metactl(&["app", "cron", "run", "long"]);
        long.env("PATH", smf.path());
        let long = host.spawn_command(long);
        eventually("the job", SOON, || {
            (!machine::pids_of(&["sleep 4712"]).is_empty()).then_some(())
        });
        smf.run(&["app", "cron", "run", "long"])
            .fails(69)
            .says(&["runs already"]);
        assert_eq!(smf.entry("cron.long")["state"], "running");
        smf.run(&["app", "stop"]).ok();
        assert!(machine::pids_of(&["sleep 4712"]).is_empty());
        long.wait(SOON);
        smf.run(&["app", "cron", "run", "say it"]).fails(69);
        smf.run(&["app", "delete", "--yes", "--data"]).ok();
    });
}

#[test]
fn what_does_not_come_up_leaves_what_ran() {
    on_host(&[GIT, NFT, PYTHON], |host| {
        let smf = Smf::install(host);
        let simple = "[daemon.web]\nplatform = exec\ncommand = sh bin/web\n";
        let repository = host.application("app", &[(".metactl", simple), ("bin/web", WEB)], "");
        smf.run(&["app", "deploy", "1.0"]).ok();
        repository.write("bin/web", "echo broken; exit 3\n");
        repository.commit("2.0");
        smf.run(&["app", "deploy", "2.0"])
            .fails(10)
            .says(&["broken"]);
        let status = smf.status();
        assert_eq!(
            (&status["state"], &status["release"]["tag"]),
            (&"running".into(), &"1.0".into())
        );

        // What everybody on the server could read is refused, and nothing is run.
        smf.run(&["app", "stop"]).ok();
        smf.run(&["app", "set", "env:DB_URL=mysql://me:geheim@db/x"])
            .ok();
        smf.run(&["app", "start"])
            .fails(78)
            .says(&["DB_URL in [env]", "[secrets.env]"]);
        assert!(!smf.services().to_string().contains("geheim"));
        smf.run(&["app", "unset", "env:DB_URL"]).ok();

        // Without the release at its place nothing is run, and SMF says why.
        smf.zone(false);
        let refused = smf.run(&["app", "start"]).fails(1);
        refused.says(&["Dependency file://localhost/app is absent"]);
        smf.run(&["app", "stop"]).ok();
        smf.run(&["app", "delete", "--yes", "--data"]).ok();
    });
}

#[test]
fn secrets_are_read_from_their_files() {
    on_host(&[GIT, NFT, PYTHON], |host| {
        let smf = Smf::install(host);
        let config = "[daemon.web]\nplatform = exec\ncommand = sh bin/web\n";
        let web = "echo \"the word is $WORD\"\nwhile :; do sleep 1; done\n";
        let local = "[secrets]\ndb.word = geheim\n[secrets.env]\nWORD = db.word\n";
        host.application("app", &[(".metactl", config), ("bin/web", web)], local);
        let layer = host.root().join("etc/metactl/nodes/app.conf");
        fs::set_permissions(layer, fs::Permissions::from_mode(0o600)).unwrap();
        smf.run(&["app", "deploy", "1.0"]).ok();
        smf.run(&["app", "logs", "web"])
            .ok()
            .says(&["the word is geheim"]);
        let known = smf.services().to_string();
        assert!(known.contains("/run/secrets/db.word") && !known.contains("geheim"));
        smf.run(&["app", "delete", "--yes", "--data"]).ok();
    });
}
