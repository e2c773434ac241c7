//! The reference of keys and exit codes, the manual pages, completion in real shells, and what
//! installing puts where.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::needs::{BASH, FISH, GIT, GROFF, MAN, ZSH};
use metactl_tests::{Host, on_host};
use serde_json::Value;

#[test]
fn keys_and_exit_codes_are_explained() {
    on_host(&[], |host| {
        host.run(&["help", "keys", "jvm.heap.max"]).ok().says(&[
            "[daemon.NAME] jvm.heap.max",
            "-Xmx",
            "platforms",
            "java.heap.max",
            "any layer",
            "powers of 1024",
            "jvm.heap.max = ",
        ]);
        host.run(&["help", "keys", "sandbox:capabilities"])
            .ok()
            .says(&["site or local: a capability is a part of root's rights"]);
        let all = host.run(&["help", "keys", "--json"]).ok().stdout;
        let all: Value = serde_json::from_str(&all).unwrap();
        assert!(all["keys"].as_array().unwrap().len() > 40);
        host.run(&["help", "keys", "hepa"]).fails(64);
        host.run(&["help", "exit-codes"])
            .ok()
            .says(&["78", "configuration"]);
    });
}

#[test]
fn the_manual_pages_are_sound() {
    on_host(&[GROFF, MAN], |host| {
        for page in ["metactl.1", "metactl.conf.5", "metactl-keys.5"] {
            let text = host.run(&["manual", page]).ok().stdout;
            let path = host.work().join(page);
            fs::write(&path, &text).unwrap();
            let path = path.to_str().unwrap();
            let groff = host
                .command("groff", &["-ww", "-man", "-Tutf8", "-z", path])
                .ok();
            assert_eq!(groff.stderr, "", "{page}");
            let man = host
                .command("man", &["--warnings", "-P", "cat", "-l", path])
                .ok();
            assert_eq!(man.stderr, "", "{page}");
            assert!(man.stdout.contains("SEE ALSO"), "{man}");
        }
    });
}

/// Runs a script in a shell, with the environment of metactl and its program as `$METACTL`.
fn in_shell(host: &Host, shell: &[&str], script: &str) -> Vec<String> {
    let metactl = host.metactl(&[]);
    let mut command = std::process::Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).env_clear();
    let environment = metactl.get_envs();
    command.envs(environment.filter_map(|(name, value)| Some((name, value?))));
    command.env("METACTL", &host.binaries().metactl);
    // Where the need of it was looked up.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let outcome = metactl_tests::command::run(command, Duration::from_secs(20)).ok();
    assert_eq!(outcome.stderr, "");
    outcome
        .stdout
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// What bash makes of a half-typed line: the script is loaded, and its function called as for a tab.
fn tab(host: &Host, line: &str) -> Vec<String> {
    let script = format!(
        "source <(\"$METACTL\" completion bash)\n\
         metactl() {{ \"$METACTL\" \"$@\"; }}\n\
         compopt() {{ :; }}\n\
         COMP_LINE={line:?} COMP_POINT={}\n\
         _metactl && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    in_shell(host, &["bash", "--norc", "-c"], &script)
}

/// The same of zsh, with its command that takes candidates in the place of a terminal.
fn zsh_tab(host: &Host, line: &str) -> Vec<String> {
    let script = format!(
        "metactl() {{ \"$METACTL\" \"$@\"; }}\n\
         compadd() {{ while [[ $1 != -- ]]; do shift; done; shift; print -l -- \"$@\"; }}\n\
         words=(${{(s: :):-{line:?}}}) CURRENT=$#words\n\
         source <(\"$METACTL\" completion zsh)"
    );
    in_shell(host, &["zsh", "-f", "-c"], &script)
}

/// The same of fish, which completes by itself.
fn fish_tab(host: &Host, line: &str) -> Vec<String> {
    let script = format!(
        "function metactl; $METACTL $argv; end\n\
         $METACTL completion fish | source\n\
         complete -C {line:?}"
    );
    in_shell(host, &["fish", "--no-config", "-c"], &script)
}

#[test]
fn zsh_completes_instances_sections_and_keys() {
    on_host(&[ZSH], |host| {
        completed(host, zsh_tab);
    });
}

#[test]
fn fish_completes_instances_sections_and_keys() {
    on_host(&[FISH], |host| {
        completed(host, fish_tab);
    });
}

/// What every shell that does not break words at colons has to find.
fn completed(host: &Host, tab: fn(&Host, &str) -> Vec<String>) {
    host.local_layer("myapp", "[env]\nDB_HOST = x\nDB_PORT = 1\n");
    assert_eq!(tab(host, "metactl mya"), ["myapp"]);
    assert_eq!(tab(host, "metactl myapp sho"), ["show"]);
    assert_eq!(
        tab(host, "metactl myapp show sand"),
        ["sandbox", "sandbox.limits", "sandbox.mounts", "sandbox.net"]
    );
    assert_eq!(
        tab(host, "metactl myapp show env:"),
        ["env:DB_HOST", "env:DB_PORT"]
    );
}

#[test]
fn bash_completes_instances_sections_and_keys() {
    on_host(&[BASH], |host| {
        host.local_layer(
            "myapp",
            "[env]\nDB_HOST = x\nDB_PORT = 1\n[daemon.web]\ncommand = y\n",
        );
        assert_eq!(tab(host, "metactl mya"), ["myapp"]);
        assert_eq!(tab(host, "metactl myapp sho"), ["show"]);
        assert_eq!(
            tab(host, "metactl myapp show sand"),
            ["sandbox", "sandbox.limits", "sandbox.mounts", "sandbox.net"]
        );
        // bash breaks words at the colon: what stands before it is on the line already.
        assert_eq!(tab(host, "metactl myapp show env:"), ["DB_HOST", "DB_PORT"]);
        assert_eq!(tab(host, "metactl myapp show env:DB_H"), ["DB_HOST"]);
        assert_eq!(
            tab(host, "metactl show myapp daemon.web:stop."),
            ["stop.signal", "stop.timeout"]
        );
        assert_eq!(
            tab(host, "metactl myapp show --layer s"),
            ["server", "site"]
        );
        assert_eq!(tab(host, "metactl --root=/nowhere mya"), [] as [&str; 0]);
        for shell in ["bash", "zsh", "fish"] {
            host.run(&["completion", shell])
                .ok()
                .says(&["metactl", "complete"]);
        }
        let script = host.work().join("completion.bash");
        fs::write(&script, host.run(&["completion", "bash"]).stdout).unwrap();
        host.command("bash", &["-n", script.to_str().unwrap()]).ok();
    });
}

#[test]
fn install_puts_programs_pages_and_completions_where_they_belong() {
    on_host(&[BASH], |host| {
        let (target, prefix) = (host.work().join("target"), host.work().join("prefix"));
        fs::create_dir_all(target.join("metactl")).unwrap();
        let binaries = host.binaries();
        for (from, name) in [
            (&binaries.metactl, "metactl"),
            (&binaries.runtime, "metactl-runtime"),
        ] {
            fs::copy(from, target.join("metactl").join(name)).unwrap();
        }
        let script = metactl_tests::apps::top().join("scripts/install.sh");
        let install = |action: &str| {
            let mut bash = std::process::Command::new("bash");
            bash.arg(&script).arg(action).arg(&prefix);
            bash.env("CARGO_TARGET_DIR", &target);
            metactl_tests::command::run(bash, Duration::from_secs(60)).ok()
        };
        install("install").says(&["Undo: make uninstall"]);
        for path in [
            "bin/metactl",
            "bin/metactl-runtime",
            "share/man/man1/metactl.1",
            "share/man/man5/metactl.conf.5",
            "share/man/man5/metactl-keys.5",
            "share/bash-completion/completions/metactl",
            "share/zsh/site-functions/_metactl",
            "share/fish/vendor_completions.d/metactl.fish",
        ] {
            assert!(
                fs::metadata(prefix.join(path)).unwrap().len() > 100,
                "{path}"
            );
        }
        install("uninstall");
        let left = metactl_tests::tree::Tree::of(&prefix);
        let files = left.paths().filter(|path| prefix.join(path).is_file());
        assert_eq!(files.count(), 0);
    });
}

#[test]
fn every_shell_completes_releases_and_entry_points() {
    on_host(&[GIT, BASH, ZSH, FISH], |host| {
        let files = [(
            ".metactl",
            "[daemon.web]\ncommand = sleep 1000\n[crontab]\nnightly = @daily true\n",
        )];
        host.application("myapp", &files, "");
        host.run(&["myapp", "deploy", "1.0"]).ok();
        for tab in [tab, zsh_tab, fish_tab] {
            let releases = tab(host, "metactl myapp rollback 1");
            assert!(releases.contains(&"1.0".to_owned()), "{releases:?}");
            assert!(
                releases.iter().any(|id| id.starts_with("1.0-")),
                "{releases:?}"
            );
            assert_eq!(tab(host, "metactl myapp stop w"), ["web"]);
            assert_eq!(tab(host, "metactl logs myapp cron"), ["cron.nightly"]);
            assert_eq!(tab(host, "metactl myapp hist"), ["history"]);
        }
        host.run(&["myapp", "stop"]).ok();
    });
}
