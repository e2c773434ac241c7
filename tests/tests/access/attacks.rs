//! Everybody who tries to get more.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use metactl_tests::command;
use metactl_tests::needs::{GIT, SUDO, TCPDUMP};
use metactl_tests::on_host;

use super::people::{by, home, sudo, uid, with_people};
use super::{ACCESS, APP, LIMIT};

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
        let rule = include_str!("../../../examples/sudoers").replace("/usr/bin/metactl", &metactl);
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
