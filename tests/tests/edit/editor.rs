//! The editor of `config`: what it may, and what becomes of what it writes; and the history that git keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use metactl_tests::command;
use metactl_tests::needs::GIT;
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, on_host};

use super::{APP, LIMIT, git, layer, repository, text};

/// A script that stands for an editor.
fn editor(host: &Host, script: &str) -> String {
    let path = host.work().join("editor");
    fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn config(host: &Host, editor: &str, sudo: bool) -> Command {
    let mut metactl = host.metactl(&["myapp", "config"]);
    metactl.env("EDITOR", editor);
    if sudo {
        metactl
            .env("SUDO_UID", "65534")
            .env("SUDO_GID", "65534")
            .env("SUDO_USER", "nobody");
    }
    metactl
}

/// A `/tmp` of the host's own. The programs under test stay where they are, should that be below it.
fn private_tmp(host: &Host) {
    let programs = host.binaries().metactl.parent().unwrap();
    let folder = fs::File::open(programs).unwrap();
    host.command("mount", &["-t", "tmpfs", "-o", "mode=1777", "tmp", "/tmp"])
        .ok();
    if programs.starts_with("/tmp") {
        fs::create_dir_all(programs).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let there = format!("/proc/{}/fd/{number}", std::process::id());
        // Not canonicalized: what it is called is what was just covered.
        let words = ["-c", "--bind", &there, programs.to_str().unwrap()];
        host.command("mount", &words).ok();
    }
}

fn temporary_files() -> Vec<PathBuf> {
    let all = fs::read_dir("/tmp")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("metactl-edit-"))
        .collect()
}

#[test]
fn an_editor_changes_a_copy_that_counts_when_it_is_right() {
    on_host(&[GIT], |host| {
        private_tmp(host);
        host.is_settled();
        fs::create_dir_all(host.work()).unwrap();
        let start = "# mine\n[env]\nA = 1\n";
        host.local_layer("myapp", start);
        let quit = editor(host, "true");
        command::run(config(host, &quit, false), LIMIT)
            .ok()
            .says(&["unchanged"]);
        let more = editor(host, "echo 'B = 2' >> \"$2\"; test \"$1\" = --wait");
        command::run(config(host, &format!("{more} --wait"), false), LIMIT)
            .ok()
            .says(&[
                "env:B = 2",
                "(new)",
                "valid",
                "Undo: metactl myapp revert --last",
            ]);
        assert_eq!(text(host, "myapp"), format!("{start}B = 2\n"));
        host.run(&["myapp", "revert", "--last", "--yes"]).ok();
        assert_eq!(text(host, "myapp"), start);

        // Wrong, and nobody to ask: as it was.
        let wrong = editor(host, "echo '[bulid]' >> \"$1\"");
        let told = command::run(config(host, &wrong, false), LIMIT)
            .fails(78)
            .says(&["unknown section [bulid]", "did you mean [build]?"]);
        let times = told.stderr.matches("unknown section").count();
        assert_eq!(times, 1, "{told}");
        assert_eq!(text(host, "myapp"), start);
        // Wrong first, then mended; then wrong and left.
        let learns = editor(
            host,
            "if grep -q bulid \"$1\"; then sed -i s/bulid/build/ \"$1\"; else echo '[bulid]\ntag = 2' >> \"$1\"; fi",
        );
        let mut terminal = Terminal::spawn(&config(host, &learns, false));
        terminal.wait_for("(e)dit again", LIMIT);
        terminal.press("e\n");
        assert_eq!(terminal.wait(LIMIT), 0);
        assert_eq!(text(host, "myapp"), format!("{start}[build]\ntag = 2\n"));
        let before = text(host, "myapp");
        let mut terminal = Terminal::spawn(&config(host, &wrong, false));
        terminal.wait_for("(e)dit again", LIMIT);
        terminal.press("Q\n");
        terminal.press("x\n");
        terminal.wait_for("unchanged", LIMIT);
        assert_eq!(terminal.wait(LIMIT), 0);
        assert_eq!(text(host, "myapp"), before);

        // Ctrl-C is the editor's.
        let patient = editor(
            host,
            "trap 'echo \"output = x\" >> \"$1\"; exit 0' INT; echo edits; while :; do sleep 0.1; done",
        );
        let mut terminal = Terminal::spawn(&config(host, &patient, false));
        terminal.wait_for("edits", LIMIT);
        terminal.press("\x03");
        terminal.wait_for("Undo: metactl myapp revert --last", LIMIT);
        assert_eq!(terminal.wait(LIMIT), 0);
        assert_eq!(text(host, "myapp"), format!("{before}output = x\n"));
        host.run(&["myapp", "revert", "--last", "--yes"]).ok();

        // An editor that fails or is not there.
        let fails = editor(host, "echo 'C = 1' >> \"$1\"; exit 3");
        command::run(config(host, &fails, false), LIMIT)
            .fails(69)
            .says(&["nothing was changed"]);
        command::run(config(host, "/no/such/editor", false), LIMIT).fails(69);
        assert_eq!(text(host, "myapp"), before);

        // Somebody else is faster.
        let slow = editor(
            host,
            &format!(
                "echo 'C = 1' >> \"$1\"; echo '# faster' >> {}",
                layer(host, "myapp").display()
            ),
        );
        command::run(config(host, &slow, false), LIMIT)
            .fails(78)
            .says(&["somebody else changed"]);
        assert_eq!(text(host, "myapp"), format!("{before}# faster\n"));
        assert_eq!(temporary_files(), Vec::<PathBuf>::new(), "no copy stays");
        host.command("umount", &["--recursive", "/tmp"]).ok();
    });
}

#[test]
fn the_editor_has_no_privilege_and_is_not_trusted() {
    on_host(&[GIT], |host| {
        private_tmp(host);
        host.is_settled();
        let start = "[env]\nA = 1\n";
        host.local_layer("myapp", start);
        let who = host.work().join("who");
        fs::write(&who, "").unwrap();
        fs::set_permissions(&who, fs::Permissions::from_mode(0o666)).unwrap();
        for dir in [host.root(), host.work()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let who = who.display();
        let looks = editor(
            host,
            &format!(
                "echo \"$(id -u) $(id -g) $(id -G)\" > {who}; stat -c '%u %a' \"$1\" >> {who}; grep CapEff /proc/self/status >> {who}; echo 'B = 2' >> \"$1\""
            ),
        );
        command::run(config(host, &looks, true), LIMIT).ok();
        assert_eq!(text(host, "myapp"), format!("{start}B = 2\n"));
        assert_eq!(
            fs::read_to_string(who.to_string()).unwrap(),
            "65534 65534 65534\n65534 600\nCapEff:\t0000000000000000\n"
        );
        let before = text(host, "myapp");
        fs::write(
            "/etc/hosts",
            "127.0.0.1 localhost\n[env]\nTAKEN = from a file of root\n",
        )
        .unwrap();
        for (script, says) in [
            ("rm \"$1\"; ln -s /etc/hosts \"$1\"", "a symbolic link"),
            ("rm \"$1\"; mkfifo \"$1\"", "no regular file"),
            ("rm \"$1\"", "gone"),
            ("printf '\\377' > \"$1\"", "not UTF-8"),
            ("head -c 1100000 /dev/zero > \"$1\"", "larger than 1 MiB"),
            // The folder itself is another one now.
            (
                "d=$(dirname \"$1\"); mv $d $d.old; ln -s /etc $d; rm $d.old/*; ln -s /etc/hosts $d.old/myapp.conf",
                "a symbolic link",
            ),
        ] {
            let bad = editor(host, script);
            command::run(config(host, &bad, true), LIMIT)
                .fails(78)
                .says(&[says])
                .never_says(&["TAKEN"]);
            assert_eq!(text(host, "myapp"), before, "{script}");
        }
        assert!(fs::metadata("/etc/passwd").is_ok() && fs::metadata("/etc/hosts").is_ok());
        host.command("umount", &["--recursive", "/tmp"]).ok();
    });
}

#[test]
fn git_keeps_every_change_with_its_author() {
    on_host(&[GIT], |host| {
        let etc = host.root().join("etc/metactl");
        git(host, &["init", "--quiet"]).ok();
        fs::write(etc.join("unrelated"), "x").unwrap();
        let repo = repository(host, APP);
        let sudo = |args: &[&str]| {
            let mut metactl = host.metactl(args);
            metactl
                .env("SUDO_UID", "65534")
                .env("SUDO_GID", "65534")
                .env("SUDO_USER", "nobody");
            command::run(metactl, LIMIT)
        };
        sudo(&["new", "myapp", &repo]).ok();
        sudo(&[
            "myapp",
            "set",
            "env:DB_HOST=10.9.9.9",
            "env:DB_PASSWORD=hidden-word",
        ])
        .ok();
        sudo(&["myapp", "unset", "env:DB_PASSWORD"]).ok();
        sudo(&["myapp", "allow", "x=10.0.0.1:80"]).ok();
        let more = editor(host, "echo 'y = 10.0.0.2:80' >> \"$1\"");
        host.metactl(&[]);
        let mut metactl = host.metactl(&["myapp", "config"]);
        command::run(
            {
                metactl.env("VISUAL", &more);
                metactl
            },
            LIMIT,
        )
        .ok();
        sudo(&["myapp", "delete", "--yes"]).ok();
        let log = git(
            host,
            &["log", "--reverse", "--format=%an <%ae> %s", "--name-only"],
        )
        .ok();
        let lines: Vec<&str> = log.stdout.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "nobody <nobody@server1> myapp: new",
                "nodes/myapp.conf",
                "nobody <nobody@server1> myapp: set env:DB_HOST env:DB_PASSWORD",
                "nodes/myapp.conf",
                "nobody <nobody@server1> myapp: unset env:DB_PASSWORD",
                "nodes/myapp.conf",
                "nobody <nobody@server1> myapp: allow firewall.out.accept:x",
                "nodes/myapp.conf",
                "root <root@server1> myapp: config",
                "nodes/myapp.conf",
                "nobody <nobody@server1> myapp: delete",
                "nodes/myapp.conf",
            ]
        );
        let status = git(host, &["status", "--porcelain"]).ok();
        assert_eq!(status.stdout, "?? unrelated\n");

        // A commit that fails is told with the command that makes it, and the change stays.
        fs::write(
            etc.join(".git/hooks/pre-commit"),
            "#!/bin/sh\necho not today >&2\nexit 1\n",
        )
        .unwrap();
        let hook = etc.join(".git/hooks/pre-commit");
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        let new =
            sudo(&["new", "other", &repo])
                .ok()
                .says(&["not committed", "not today", "git -C"]);
        assert!(layer(host, "other").is_file());
        fs::remove_file(&hook).unwrap();
        let by_hand = new
            .stdout
            .split("to do it: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", by_hand])
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        for role in ["AUTHOR", "COMMITTER"] {
            shell
                .env(format!("GIT_{role}_NAME"), "T")
                .env(format!("GIT_{role}_EMAIL"), "t@e");
        }
        command::run(shell, LIMIT).ok();
        git(host, &["log", "-1", "--format=%s"])
            .ok()
            .says(&["other: new"]);
        // What others may write to could run anything as root.
        fs::set_permissions(etc.join(".git"), fs::Permissions::from_mode(0o777)).unwrap();
        sudo(&["other", "set", "env:A=1"])
            .ok()
            .says(&["others may write"]);
    });
}
