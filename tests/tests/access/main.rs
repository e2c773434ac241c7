//! Who may do what: persons behind sudo, members of the group `metactl`, and everybody who tries to get more.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod people;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use metactl_tests::command;
use metactl_tests::needs::GIT;
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, on_host};
use people::{METACTL, by, plainly, sudo, with_people};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

const APP: [(&str, &str); 2] = [
    (
        ".metactl",
        "[daemon.web]\ncommand = ./web.sh\n[access]\noperate = eve\n",
    ),
    ("web.sh", "#!/bin/sh\necho begun\nexec sleep 1000\n"),
];
const ACCESS: &str = "[access]\noperate = alice\ndeploy = @web\n[env]\nDB_PASSWORD = hunter2\n";

fn history(host: &Host, args: &[&str]) -> Vec<Value> {
    let mut all = args.to_vec();
    all.extend(["history", "--json", "-n", "1000"]);
    let facts: Value = serde_json::from_str(&host.run(&all).ok().stdout).unwrap();
    facts["history"].as_array().unwrap().clone()
}

#[test]
fn persons_behind_sudo_may_what_the_configuration_says() {
    on_host(&[GIT], |host| {
        with_people(host);
        host.application("shop", &APP, ACCESS);
        host.application("other", &APP, "");
        host.run(&["shop", "deploy", "1.0"]).ok();
        host.run(&["other", "deploy", "1.0"]).ok();

        by(host, "alice", &["shop", "restart"]).ok();
        by(host, "alice", &["shop", "show", "env"])
            .ok()
            .never_says(&["hunter2"]);
        by(host, "alice", &["shop", "deploy", "1.0"])
            .fails(77)
            .says(&[
                "alice may not deploy shop",
                "`operate` at most",
                "`deploy = alice`",
            ]);
        by(host, "bob", &["shop", "deploy", "1.0"]).ok();
        by(host, "bob", &["shop", "stop"]).ok();
        by(host, "bob", &["start", "shop"]).ok();
        // What is configuration, or reads or writes files of root, is not theirs.
        let refused: [&[&str]; 12] = [
            &["shop", "set", "sandbox.mounts:/etc=rw"],
            &["shop", "config"],
            &["shop", "revert", "--yes"],
            &["shop", "delete", "--yes"],
            &["shop", "show", "--secrets"],
            &["shop", "get", "env:DB_PASSWORD", "--secrets"],
            &["shop", "firewall", "learn"],
            &["shop", "bundle", "--redacted", "/etc/cron.d"],
            &["new", "mine", "/root/repository"],
            &["check", "/etc/shadow"],
            &["run", "/home"],
            &["import", "systemd", "/etc/shadow"],
        ];
        for args in refused {
            let outcome = by(host, "bob", args).fails(77).says(&["bob may not"]);
            outcome.never_says(&["hunter2", "root:"]);
        }
        // The shell before a build is in the sandbox of the build, and nobody's.
        by(host, "bob", &["shop", "stop"]).ok();
        host.run(&["shop", "set", "build:command=true"]).ok();
        let mut terminal = Terminal::spawn(&sudo(host, "bob", &["shop", "deploy", "-d", "1.0"]));
        terminal.wait_for("a shell in the build sandbox", LIMIT);
        terminal.press(
            "echo user-$(id -u); grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'; \
             cat /etc/shadow /root/.profile; echo x >/usr/x || echo read-''only; ls /proc | grep -c '^[0-9]'; exit 3\n",
        );
        terminal.wait_for("nothing is built", LIMIT);
        let text = terminal.screen();
        for part in [
            "CapEff:0000000000000000",
            "CapBnd:0000000000000000",
            "NoNewPrivs:1",
            "Seccomp:2",
            "read-only",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            !text.contains("root:") && !text.contains("user-0"),
            "{text}"
        );
        assert_ne!(terminal.wait(LIMIT), 0);
        by(host, "bob", &["shop", "start"]).ok();
        // Names that would be paths lead nowhere.
        by(host, "alice", &["shop", "compare", "../../../etc", "prod"]).never_says(&["root:"]);
        by(
            host,
            "alice",
            &["shop", "logs", "build-/../../../../../etc/shadow"],
        )
        .never_says(&["root:"]);
        by(host, "alice", &["shop", "logs", "../../../../etc/passwd"]).fails(64);
        by(host, "bob", &["shop", "rollback", "../../x"]).never_says(&["root:"]);
        by(host, "bob", &["shop", "deploy", "--", "--upload-pack=id"]).fails(64);
        // Nothing says that they may anything with this one, or with the server.
        by(host, "alice", &["other", "stop"])
            .fails(77)
            .says(&["grants them nothing"]);
        // An application grants nothing itself.
        by(host, "eve", &["shop", "stop"]).fails(77);
        by(host, "eve", &["shop", "status"])
            .fails(77)
            .says(&["usermod -aG metactl eve"]);
        by(host, "eve", &["list"]).fails(77);
        by(host, "eve", &["help", "stop"]).ok();
        // Members of the group may look, under sudo too.
        by(host, "carol", &["shop", "status"]).ok();
        by(host, "carol", &["list"]).ok();
        by(host, "carol", &["shop", "stop"]).fails(77);
        // Root itself may everything.
        host.run(&["other", "restart"]).ok();

        let all = history(host, &["shop"]);
        let find = |person: &str, command: &str, result: &str| {
            all.iter().any(|deed| {
                deed["person"] == person && deed["command"] == command && deed["result"] == result
            })
        };
        assert!(find("alice", "restart", "done"), "{all:#?}");
        assert!(find("alice", "deploy", "refused"), "{all:#?}");
        assert!(
            find("bob", "deploy", "done") && find("root", "deploy", "done"),
            "{all:#?}"
        );
        assert!(
            find("eve", "status", "refused") && !find("alice", "show", "done"),
            "{all:#?}"
        );
        let deploy = all.iter().find(|deed| deed["person"] == "bob").unwrap();
        assert_eq!((&deploy["exit"], &deploy["uid"]), (&0.into(), &5002.into()));
        assert_eq!(deploy["arguments"][0], "1.0");
        assert!(
            history(host, &[])
                .iter()
                .any(|deed| deed["instance"] == "mine")
        );
        for name in ["shop", "other"] {
            host.run(&[name, "stop"]).ok();
        }
    });
}

#[test]
fn who_asks_has_to_be_clear() {
    on_host(&[GIT], |host| {
        with_people(host);
        host.application("shop", &APP, ACCESS);
        let changed = |change: &dyn Fn(&mut Command)| {
            let mut command = sudo(host, "bob", &["shop", "deploy", "1.0"]);
            change(&mut command);
            command::run(command, LIMIT)
        };
        // A name and a number that do not belong together, and what is neither.
        changed(&|c| {
            c.env("SUDO_UID", "5003");
        })
        .fails(77)
        .says(&["not clear who asks"]);
        for uid in ["", "-1", "root", "4294967295", "77777"] {
            changed(&|c| {
                c.env("SUDO_UID", uid).env_remove("SUDO_USER");
            })
            .fails(77)
            .says(&["not clear who asks"]);
        }
        changed(&|c| {
            c.env_remove("SUDO_UID")
                .env_remove("SUDO_USER")
                .env("DOAS_USER", "eve");
        })
        .fails(77);
        changed(&|c| {
            c.env_remove("SUDO_UID")
                .env_remove("SUDO_USER")
                .env("PKEXEC_UID", "5004");
        })
        .fails(77);
        // Who logged in is somebody else than who asks (`su bob`, then sudo), as far as the kernel can be told here.
        let metactl = sudo(host, "bob", &["shop", "status"]);
        let logged_in_as = |uid: u32| {
            let mut shell = Command::new("sh");
            shell.args([
                "-c",
                "echo $1 > /proc/self/loginuid && shift && exec \"$@\"",
                "-",
            ]);
            shell
                .arg(uid.to_string())
                .arg(metactl.get_program())
                .args(metactl.get_args());
            shell.env_clear();
            let all = metactl.get_envs();
            shell.envs(all.filter_map(|(name, value)| Some((name, value?))));
            command::run(shell, LIMIT)
        };
        if fs::write("/proc/thread-self/loginuid", "5002").is_ok() {
            logged_in_as(5004)
                .fails(77)
                .says(&["user id 5004 logged in"]);
            logged_in_as(5002).fails(3);
            // Root who became somebody has more rights than they.
            logged_in_as(0).fails(3);
        }
        // Names that are none, and names that look like options.
        for name in ["shop x", "shop;id", "../shop", "shop\n", "$(id)"] {
            by(host, "bob", &["-a", name, "stop"])
                .fails(64)
                .says(&["cannot be the name"]);
        }
        by(host, "bob", &["-a", "--root=/tmp", "stop"]).fails(64);
        by(host, "bob", &["-a", "-shop", "stop"]).fails(64);
        // A layer that cannot be understood says nothing about who may.
        host.local_layer("shop", "[access]\ndeploy = 1000\n");
        by(host, "bob", &["shop", "stop"])
            .fails(78)
            .says(&["names of accounts"]);
        // Root without sudo mends it.
        host.run(&["shop", "status"]).fails(3);
    });
}

#[test]
fn members_of_the_group_may_look_and_nobody_else() {
    on_host(&[GIT], |host| {
        with_people(host);
        host.application("shop", &APP, ACCESS);
        host.run(&["shop", "deploy", "1.0"]).ok();
        plainly(host, "carol", &["list"])
            .ok()
            .says(&["shop", "running", "1.0"]);
        let status = plainly(host, "carol", &["shop", "status", "--json"]).ok();
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(
            (&status["state"], &status["release"]["tag"]),
            (&"running".into(), &"1.0".into())
        );
        assert_eq!(status["entries"][0]["name"], "web");
        assert!(status["entries"][0]["pid"].is_number(), "{status}");
        plainly(host, "carol", &["shop", "logs"])
            .ok()
            .says(&["begun"]);
        plainly(host, "carol", &["shop", "logs", "web"])
            .ok()
            .says(&["begun"]);
        plainly(host, "carol", &["shop", "history"])
            .ok()
            .says(&["root", "deploy 1.0", "done"]);
        plainly(host, "carol", &["shop", "releases"])
            .ok()
            .says(&["1.0"]);
        // To look is not to change, and configuration is for root.
        for args in [
            ["shop", "stop"],
            ["shop", "show"],
            ["shop", "restart"],
            ["shop", "plan"],
        ] {
            plainly(host, "carol", &args)
                .fails(77)
                .says(&["sudo"])
                .never_says(&["hunter2"]);
        }
        // Everybody else is told what to do.
        for args in [
            &["list"][..],
            &["shop", "status"],
            &["shop", "logs"],
            &["shop", "history"],
            &["shop", "releases"],
        ] {
            plainly(host, "eve", args)
                .fails(77)
                .says(&["usermod -aG metactl"]);
        }
        // Nothing that others can read has a secret in it.
        for dir in [
            "var/lib/metactl",
            "var/log/metactl",
            "run/metactl",
            "etc/metactl",
        ] {
            no_secret(&host.root().join(dir), "hunter2", METACTL);
        }
        host.run(&["shop", "stop"]).ok();
        plainly(host, "carol", &["shop", "status"]).fails(3);
    });
}

/// Fails when a file that others than root, or the group, can reach and read holds `secret`.
fn no_secret(dir: &Path, secret: &str, group: u32) {
    let open = |meta: &fs::Metadata, bits: u32| {
        let as_group = meta.gid() == group && meta.mode() & (bits << 3) == bits << 3;
        as_group || meta.mode() & bits == bits
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() && open(&meta, 0o1) {
            no_secret(&entry.path(), secret, group);
        } else if meta.is_file() && open(&meta, 0o4) {
            // The test writes the local layer itself, for everybody to read.
            // (A pinned namespace is a file that cannot be read.)
            let text = fs::read(entry.path()).unwrap_or_default();
            let found = text
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(
                !found || entry.path().ends_with("nodes/shop.conf"),
                "{}",
                entry.path().display()
            );
        }
    }
}

#[test]
fn doctor_looks_at_the_whole_server() {
    on_host(&[GIT], |host| {
        with_people(host);
        host.application("shop", &APP, "[access]\ndeploy = @web, mallory\n");
        host.local_layer("bad", "[env\n");
        fs::create_dir_all(host.root().join("var/log/metactl")).unwrap();
        let log = host.root().join("var/log/metactl");
        fs::set_permissions(&log, fs::Permissions::from_mode(0o777)).unwrap();
        host.run(&["doctor"]).fails(2).says(&[
            "the configuration of bad is wrong",
            "metactl bad config",
            "no account mallory",
            "others than root may write to",
        ]);
        // A site that is spelt otherwise than its layers would be missing without a word.
        host.site_layer("production", "shop", "[env]\nA = 1\n");
        host.server_conf("[server]\nsite = porduction\n");
        let slip = [
            "no layer of site porduction",
            "did you mean `site = production`?",
        ];
        host.run(&["doctor"]).fails(2).says(&slip);
        host.run(&["new", "other"]).ok().says(&slip);
        host.server_conf("[server]\nsite = production\n");
        host.run(&["doctor"]).never_says(&["no layer of site"]);
        // Of the network alone there is nothing to say about these.
        host.run(&["doctor", "network"])
            .never_says(&["mallory", "bad"]);
    });
}
