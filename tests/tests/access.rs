//! Who may do what: persons behind sudo, members of the group `metactl`, and everybody who tries to get more.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use metactl_tests::command::{self, Outcome};
use metactl_tests::needs::{GIT, SUDO, TCPDUMP};
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, on_host};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Accounts of this host alone: alice, bob (in `web`), carol (in `metactl`), and eve, who is nobody.
const PEOPLE: [(&str, u32); 4] = [
    ("alice", 5001),
    ("bob", 5002),
    ("carol", 5003),
    ("eve", 5004),
];
const WEB: u32 = 5010;
const METACTL: u32 = 5011;

/// Gives the host an `/etc` of its own, with these people in it.
fn with_people(host: &Host) {
    let etc = host.work().join("etc");
    host.command("cp", &["-a", "/etc", etc.to_str().unwrap()])
        .ok();
    let mut passwd = fs::read_to_string(etc.join("passwd")).unwrap();
    let mut group = fs::read_to_string(etc.join("group")).unwrap();
    for (name, uid) in PEOPLE {
        let home = home(host, name);
        fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
        passwd.push_str(&format!(
            "{name}:x:{uid}:{uid}:{name}:{}:/bin/sh\n",
            home.display()
        ));
        group.push_str(&format!("{name}:x:{uid}:\n"));
    }
    group.push_str(&format!("web:x:{WEB}:bob\nmetactl:x:{METACTL}:carol\n"));
    let mut shadow = fs::read_to_string(etc.join("shadow")).unwrap_or_default();
    for (name, _) in PEOPLE {
        shadow.push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
    }
    fs::write(etc.join("passwd"), passwd).unwrap();
    fs::write(etc.join("shadow"), shadow).unwrap();
    fs::write(etc.join("group"), group).unwrap();
    host.command("mount", &["--bind", etc.to_str().unwrap(), "/etc"])
        .ok();
    host.is_settled();
}

fn home(host: &Host, name: &str) -> PathBuf {
    host.work().join("home").join(name)
}

fn uid(name: &str) -> u32 {
    PEOPLE.iter().find(|person| person.0 == name).unwrap().1
}

/// `sudo metactl ARGS`, typed by somebody.
fn sudo(host: &Host, name: &str, args: &[&str]) -> Command {
    let mut command = host.metactl(args);
    let id = uid(name).to_string();
    command
        .env("SUDO_UID", &id)
        .env("SUDO_GID", &id)
        .env("SUDO_USER", name);
    command
}

#[track_caller]
fn by(host: &Host, name: &str, args: &[&str]) -> Outcome {
    command::run(sudo(host, name, args), LIMIT)
}

/// `metactl ARGS` without sudo.
#[track_caller]
fn plainly(host: &Host, name: &str, args: &[&str]) -> Outcome {
    let metactl = host.metactl(args);
    let mut setpriv = Command::new("setpriv");
    let id = uid(name).to_string();
    setpriv.args(["--reuid", &id, "--regid", &id, "--init-groups", "--"]);
    setpriv
        .arg(metactl.get_program())
        .args(metactl.get_args())
        .env_clear();
    setpriv.envs(
        metactl
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    setpriv.current_dir("/");
    command::run(setpriv, LIMIT)
}

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
fn another_root_directory_grants_nothing() {
    on_host(&[GIT], |host| {
        with_people(host);
        host.application("shop", &APP, "");
        let evil = home(host, "bob").join("evil");
        let mark = host.work().join("mark");
        fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
        fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
        // While nobody is restricted on this server, sudo alone decides.
        by(host, "bob", &["list"]).ok();

        // The place where refusals are recorded is this host's own too.
        host.command("mount", &["-t", "tmpfs", "log", "/var/log"])
            .ok();
        host.is_settled();
        fs::create_dir_all("/etc/metactl").unwrap();
        fs::write(
            "/etc/metactl/metactl.conf",
            "[access]\ndeploy = @web\nadminister = alice\n",
        )
        .unwrap();
        by(host, "bob", &["list"])
            .fails(77)
            .says(&["another place", "METACTL_ROOT"]);
        by(host, "alice", &["list"]).ok();
        let at_home = |args: &[&str]| {
            let mut command = sudo(host, "bob", args);
            command
                .env_remove("METACTL_ROOT")
                .env_remove("METACTL_RUNTIME");
            command
        };
        let root = host.root();
        let option = at_home(&["--root", root.to_str().unwrap(), "list"]);
        command::run(option, LIMIT).fails(77).says(&["--root"]);
        for variable in [
            "METACTL_RUNTIME",
            "METACTL_CONFIG_DIR",
            "METACTL_STATE_DIR",
            "METACTL_ANYTHING",
        ] {
            let mut command = at_home(&["shop", "start"]);
            command.env(variable, &evil);
            command::run(command, LIMIT).fails(77).says(&[variable]);
        }
        assert!(!mark.exists());
        // It is recorded where it counts, not where it was wanted.
        let told = fs::read_to_string(root.join("var/log/metactl/history-refused.jsonl"))
            .unwrap_or_default();
        assert!(!told.contains("bob"), "{told}");
        fs::remove_dir_all("/etc/metactl").unwrap();
        let trail = Path::new("/var/log/metactl/history-refused.jsonl");
        let told = fs::read_to_string(trail).unwrap();
        assert!(told.contains("bob") && told.contains("refused"), "{told}");
    });
}

#[test]
fn nothing_of_a_persons_environment_runs_as_root() {
    on_host(&[GIT, TCPDUMP], |host| {
        with_people(host);
        host.application("shop", &APP, ACCESS);
        host.run(&["shop", "deploy", "1.0"]).ok();
        let bin = home(host, "bob").join("bin");
        let mark = host.work().join("mark");
        fs::create_dir_all(&bin).unwrap();
        let evil = format!("#!/bin/sh\nid -u >> {}\nexit 1\n", mark.display());
        for name in [
            "git",
            "sh",
            "vi",
            "less",
            "sensible-editor",
            "metactl-runtime",
            "ssh",
            "nft",
        ] {
            fs::write(bin.join(name), &evil).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(
            home(host, "bob").join(".gitconfig"),
            format!("[core]\nfsmonitor = {}\n", bin.join("git").display()),
        )
        .unwrap();
        let with_all = |args: &[&str]| {
            let program = bin.join("less");
            let mut command = sudo(host, "bob", args);
            command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
            command
                .env("HOME", home(host, "bob"))
                .env("LD_LIBRARY_PATH", &bin);
            for name in [
                "EDITOR",
                "VISUAL",
                "PAGER",
                "GIT_PAGER",
                "GIT_SSH_COMMAND",
                "GIT_EXTERNAL_DIFF",
                "GIT_ASKPASS",
                "SHELL",
                "BASH_ENV",
                "ENV",
            ] {
                command.env(name, &program);
            }
            command::run(command, LIMIT)
        };
        with_all(&["shop", "deploy", "1.0"]).ok();
        with_all(&["shop", "restart"]).ok();
        with_all(&["shop", "status"]).ok();
        with_all(&["shop", "show"]).ok();
        with_all(&["shop", "config"]).fails(77);
        assert!(!mark.exists(), "{:?}", fs::read_to_string(&mark));

        // An administrator's own settings of git do not run as root either.
        host.local_layer(
            "shop",
            &format!(
                "{}\n[access]\nadminister = bob\n",
                fs::read_to_string(host.root().join("etc/metactl/nodes/shop.conf"))
                    .unwrap()
                    .replace("[access]\noperate = alice\ndeploy = @web\n", "")
            ),
        );
        host.command(
            "git",
            &[
                "-C",
                host.root().join("etc/metactl").to_str().unwrap(),
                "init",
                "-q",
            ],
        )
        .ok();
        let hooks = format!("[core]\nfsmonitor = {0}\nhooksPath = {0}\n", bin.display());
        fs::write(home(host, "bob").join(".gitconfig"), hooks).unwrap();
        fs::copy(bin.join("git"), bin.join("pre-commit")).unwrap();
        let mut set = sudo(host, "bob", &["shop", "set", "env:A=b"]);
        set.env("HOME", home(host, "bob"));
        command::run(set, LIMIT).ok();
        assert!(!mark.exists(), "{:?}", fs::read_to_string(&mark));

        // What the person may run, runs as they; also where they named another program for it.
        let net = with_all(&["shop", "net", "id", "-u"]).ok();
        assert_eq!(net.stdout.trim(), "5002");
        with_all(&[
            "shop",
            "tcpdump",
            "-z",
            bin.join("sh").to_str().unwrap(),
            "-w",
            "x",
        ])
        .fails(64);
        let place = host.work().join("captured.pcap");
        let written = with_all(&["shop", "tcpdump", "-c", "1", "-w", place.to_str().unwrap()]);
        assert_ne!(written.code, 0, "{written}");
        let made = place.exists();
        assert!(!made, "{written}");
        with_all(&["shop", "tcpdump", "-F", "/etc/shadow", "-c", "1"])
            .never_says(&["root:", "$y$", "$6$"]);
        assert!(!mark.exists());
        host.run(&["shop", "stop"]).ok();
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
fn a_link_in_the_state_directory_leads_root_nowhere() {
    on_host(&[GIT], |host| {
        with_people(host);
        host.application("shop", &APP, ACCESS);
        host.run(&["shop", "deploy", "1.0"]).ok();
        host.run(&["shop", "stop"]).ok();
        let victim = host.work().join("victim");
        fs::write(&victim, "kept").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let log = host.log("shop", "web");
        let places = [
            host.state("shop").join("facts.json"),
            host.state("shop").join("enabled"),
            log.clone(),
            log.with_file_name("events.jsonl"),
            host.root().join("var/log/metactl/history.jsonl"),
        ];
        for place in &places {
            let _ = fs::remove_file(place);
            symlink(&victim, place).unwrap();
        }
        for args in [
            &["shop", "start"][..],
            &["shop", "status"],
            &["list"],
            &["shop", "stop"],
        ] {
            host.run(args);
        }
        let meta = victim.metadata().unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (0, 0, 0o600)
        );
        for place in &places {
            let _ = fs::remove_file(place);
        }
        host.run(&["shop", "start"]).ok();
        host.run(&["shop", "stop"]).ok();
    });
}

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
        // Of the network alone there is nothing to say about these.
        host.run(&["doctor", "network"])
            .never_says(&["mallory", "bad"]);
    });
}

/// The example of the documentation, with the real sudo, and metactl's directories where they belong.
#[test]
fn the_rule_for_sudo_is_safe() {
    on_host(&[GIT, SUDO], |host| {
        with_people(host);
        for dir in ["/var/lib", "/var/log", "/var/cache"] {
            host.command("mount", &["-t", "tmpfs", "-o", "mode=0755", "own", dir])
                .ok();
        }
        host.is_settled();
        let metactl = host.binaries().metactl.to_str().unwrap().to_owned();
        let rule = include_str!("../../examples/sudoers").replace("/usr/bin/metactl", &metactl);
        let place = Path::new("/etc/sudoers.d/metactl");
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, rule).unwrap();
        fs::set_permissions(place, fs::Permissions::from_mode(0o440)).unwrap();
        host.command("visudo", &["-c", "-f", place.to_str().unwrap()])
            .ok();

        let repository = host.application("shop", &APP, "");
        let layer = format!("[build]\nrepo = {}\n{ACCESS}", repository.dir.display());
        fs::create_dir_all("/etc/metactl/nodes").unwrap();
        fs::write("/etc/metactl/nodes/shop.conf", layer).unwrap();
        let root = |args: &[&str]| {
            let mut command = host.metactl(args);
            command
                .env_remove("METACTL_ROOT")
                .env_remove("METACTL_RUNTIME");
            command::run(command, LIMIT)
        };
        let evil = home(host, "alice").join("evil");
        let mark = host.work().join("mark");
        fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
        fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
        // As somebody, with everything in the environment that could matter.
        let by = |name: &str, sudo: &[&str], args: &[&str]| {
            let mut command = Command::new("setpriv");
            let id = uid(name).to_string();
            command.args([
                "--reuid",
                &id,
                "--regid",
                &id,
                "--init-groups",
                "--",
                "sudo",
                "-n",
            ]);
            command.args(sudo).arg(&metactl).args(args);
            for name in [
                "METACTL_RUNTIME",
                "METACTL_ROOT",
                "EDITOR",
                "PAGER",
                "GIT_SSH_COMMAND",
                "LD_PRELOAD",
            ] {
                command.env(name, &evil);
            }
            // Nothing of this test's own: the loader says what it cannot load.
            command
                .env("SUDO_UID", "0")
                .env("SUDO_USER", "root")
                .env_remove("LD_PRELOAD");
            command::run(command, LIMIT)
        };
        root(&["shop", "deploy", "1.0"]).ok();
        by("alice", &[], &["shop", "restart"]).ok();
        by("alice", &[], &["shop", "deploy", "1.0"])
            .fails(77)
            .says(&["alice may not deploy"]);
        by("bob", &[], &["shop", "deploy", "1.0"]).ok();
        by("bob", &[], &["shop", "set", "env:A=b"]).fails(77);
        let net = by("bob", &[], &["shop", "net", "id", "-un"]).ok();
        assert_eq!(net.stdout.trim(), "bob");
        // Neither by name nor as a whole is an environment passed on.
        by("bob", &["METACTL_ROOT=/tmp"], &["list"]).fails(1);
        by("bob", &["SUDO_UID=0"], &["shop", "set", "env:A=b"]).fails(1);
        by("bob", &["-E"], &["shop", "stop"]).fails(1);
        by("bob", &[], &["--root", "/tmp", "list"]).fails(77);
        // sudo itself has no word for these.
        by("eve", &[], &["shop", "stop"]).fails(1);
        assert!(!mark.exists());
        let history = root(&["history"]).ok();
        history.says(&["alice", "bob", "refused", "--root"]);
        root(&["shop", "stop"]).ok();
    });
}
