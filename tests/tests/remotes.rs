//! Source on other machines: git and Subversion by SSH and by https, who is trusted, and that a password is
//! seen by nobody else.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use metactl_tests::apps::Repository;
use metactl_tests::needs::{APACHE, GIT, OPENSSL, SSH_KEYGEN, SSHD, SUBVERSION};
use metactl_tests::servers::{NAME, Sshd, Web, svn_repository, tool};
use metactl_tests::tree::Tree;
use metactl_tests::{Host, eventually, on_host};

const SOON: Duration = Duration::from_secs(30);
const LAYER: &str = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n[build]\nwatch = 300ms\n";
/// As it stands in a URL, in a file, and in a header of HTTP.
const PASSWORDS: [&str; 3] = ["open%20sesame", "open sesame", "YnVpbGRlcjpvcGVuIHNlc2FtZQ"];

fn script(word: &str) -> String {
    format!("#!/bin/sh\necho version {word}\nexec sleep 1000\n")
}

fn says(host: &Host, what: &str) {
    eventually(what, SOON, || {
        let log = fs::read_to_string(host.log("app", "app")).ok()?;
        log.lines().last()?.contains(what).then_some(())
    });
}

/// A repository with the tag 1.0.
fn repository(dir: &Path, word: &str) -> Repository {
    let repository = Repository::empty(dir);
    repository
        .write(".metactl", LAYER)
        .write("app.sh", &script(word));
    repository.commit("1.0");
    repository
}

#[test]
fn git_and_subversion_by_ssh() {
    on_host(&[GIT, SSHD, SSH_KEYGEN, SUBVERSION], |host| {
        let sshd = Sshd::start(host);
        let git = repository(&host.work().join("app"), "of git");
        let url = format!("ssh://root@{NAME}:2222{}", git.dir.display());
        let known = host.work().join("known_hosts");
        let local = |repo: &str, more: &str| {
            host.local_layer("app", &format!("[build]\nrepo = {repo}\n{more}\n"));
        };
        let keys = format!(
            "ssh.key = {}\nssh.known_hosts = {}",
            sshd.key.display(),
            known.display()
        );

        // Nobody knows the host.
        fs::write(&known, "").unwrap();
        local(&url, &keys);
        let keyscan = format!("ssh-keyscan -p 2222 {NAME} >> {}", known.display());
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["Host key verification failed", &keyscan]);
        assert!(fs::read(&known).unwrap().is_empty(), "nothing is learned");
        // It has another key than the one that is known.
        let other = fs::read_to_string(sshd.key.with_extension("pub")).unwrap();
        fs::write(&known, format!("[{NAME}]:2222 {other}")).unwrap();
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["HAS CHANGED", "ask whoever runs that host"]);
        fs::write(&known, &sshd.known).unwrap();
        // The key is not there, is readable for all, and is not the right one.
        local(&url, "ssh.key = /no/such/key");
        host.run(&["app", "deploy", "1.0"])
            .fails(78)
            .says(&["[build] ssh.key: /no/such/key is not there"]);
        let wrong = sshd.key.with_file_name("host_key");
        local(
            &url,
            &keys.replace(
                &sshd.key.display().to_string(),
                &wrong.display().to_string(),
            ),
        );
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["Permission denied", "its public half known to that host"]);

        local(&url, &keys);
        host.run(&["app", "deploy", "1.0"]).ok();
        says(host, "version of git");

        let svn = host.work().join("svn");
        let files = [(".metactl", LAYER), ("app.sh", &script("of svn"))];
        svn_repository(&host.work(), &svn, &files);
        let url = format!("svn+ssh://root@{NAME}:2222{}", svn.display());
        local(&url, &keys);
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["was moved"]);
        host.run(&["app", "deploy", "--moved", "1.0"]).ok();
        says(host, "version of svn");
        fs::write(&known, "").unwrap();
        host.run(&["app", "deploy", "--moved", "1.0"])
            .fails(1)
            .says(&["Host key verification failed", &keyscan]);
        host.run(&["app", "stop"]).ok();
    });
}

/// Looks at every process until `over`; fails when a command line or an environment holds a password.
fn nobody_sees_it(mut over: impl FnMut() -> bool) -> usize {
    let mut seen = std::collections::BTreeSet::new();
    let begun = Instant::now();
    while !over() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no end");
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            for file in ["cmdline", "environ"] {
                let text = fs::read(entry.path().join(file)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).replace('\0', " ");
                for password in PASSWORDS {
                    assert!(!text.contains(password), "{file}: {text}");
                }
                if file == "cmdline" && text.contains("git") {
                    seen.insert(text);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    seen.len()
}

/// The configuration and the server's own files have it; nothing else may.
fn nothing_holds_it(host: &Host) {
    for top in ["var", "run"] {
        let top = host.root().join(top);
        for path in Tree::of(&top).paths() {
            let path = top.join(path);
            // A bundle has the layers that it was made from; it is root's alone.
            if !path.is_file() || path.ends_with("local.conf") {
                continue;
            }
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            for password in PASSWORDS {
                assert!(!text.contains(password), "{}", path.display());
                assert!(!path.display().to_string().contains(password));
            }
        }
    }
}

#[test]
fn git_and_subversion_by_https_with_a_password() {
    on_host(&[GIT, SUBVERSION, APACHE, OPENSSL], |host| {
        let work = host.work();
        let source = repository(&work.join("source"), "of git");
        let (git, svn) = (work.join("git"), work.join("svn"));
        fs::create_dir(&git).unwrap();
        let bare = |name: &str, of: &Repository| {
            let to = git.join(name).display().to_string();
            tool(
                &work,
                &[
                    "git",
                    "clone",
                    "--quiet",
                    "--bare",
                    &of.dir.display().to_string(),
                    &to,
                ],
            );
        };
        bare("app.git", &source);
        // With a submodule beside it.
        let lib = Repository::empty(&work.join("lib"));
        lib.write("word", "of a submodule\n").commit("x");
        bare("lib.git", &lib);
        source.write("app.sh", &script("$(cat lib/word)"));
        source.write(
            ".gitmodules",
            "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n",
        );
        let commit = tool(&lib.dir, &["git", "rev-parse", "HEAD"]);
        source.git(&[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{},lib", commit.trim()),
        ]);
        fs::create_dir(source.dir.join("lib")).unwrap();
        source.commit("2.0");
        bare("app2.git", &source);
        let files = [(".metactl", LAYER), ("app.sh", &script("of svn"))];
        svn_repository(&work, &svn, &files);
        tool(
            &work,
            &["chown", "-R", "nobody:nogroup", svn.to_str().unwrap()],
        );
        let web = Web::start(host, &git, &svn);

        let ca = format!("tls.ca = {}\n", web.authority.display());
        let secret = work.join("password");
        fs::write(&secret, "open sesame\n").unwrap();
        let login = format!("user = builder\npassword.file = {}\n", secret.display());
        let local = |repo: &str, more: &str| {
            host.local_layer("app", &format!("[build]\nrepo = {repo}\n{more}"));
        };
        let url = format!("https://{NAME}/git/app.git");

        // Nobody vouches for it; then nobody says who asks; then with a wrong password.
        local(&url, "");
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["certificate", "[build] tls.ca"]);
        local(&url, &ca);
        host.run(&["app", "deploy", "1.0"]).fails(1).says(&[
            "Authentication failed",
            "user and password.file say who asks",
        ]);
        local(&format!("https://builder:wrong@{NAME}/git/app.git"), &ca);
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["Authentication failed"])
            .never_says(&["wrong"]);

        // Looked at from outside, all the while.
        let inline = format!("https://builder:open%20sesame@{NAME}/git/app.git");
        local(&inline, &ca);
        let mut deployment = host.spawn(&["app", "deploy", "1.0"]);
        let seen = nobody_sees_it(|| !deployment.runs());
        assert!(seen > 2, "git was looked at");
        deployment.wait(SOON).ok().never_says(&PASSWORDS);
        says(host, "version of git");
        for words in [
            &["app", "status"][..],
            &["app", "releases", "--json"],
            &["app", "history"],
            &["app", "events"],
            &["app", "logs", "--deploy", "4"],
            &["app", "show", "build"],
            &["app", "deploy", "--dry-run", "--json", "1.0"],
            &["app", "deploy", "no-such-tag"],
        ] {
            host.run(words).never_says(&PASSWORDS);
        }
        nothing_holds_it(host);

        // From a file; the submodule's server is asked by the same person.
        local(
            &format!("https://{NAME}/git/app2.git"),
            &format!("{ca}{login}"),
        );
        let mut deployment = host.spawn(&["app", "deploy", "2.0"]);
        nobody_sees_it(|| !deployment.runs());
        deployment.wait(SOON).ok();
        says(host, "version of a submodule");

        // Sent elsewhere, it tells nobody there.
        local(
            &format!("https://{NAME}/moved/app.git"),
            &format!("{ca}{login}"),
        );
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["Authentication failed"]);
        let came = web.who_came_elsewhere();
        assert!(came.contains("/git/app.git/info/refs"), "{came}");
        assert!(!came.contains(PASSWORDS[2]), "{came}");

        // Subversion.
        let url = format!("svn+https://{NAME}/svn");
        local(&url, &login);
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["E230001", "[build] tls.ca"]);
        local(&url, &ca);
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["user and password.file say who asks"]);
        local(
            &format!("svn+https://builder:open%20sesame@{NAME}/svn"),
            &ca,
        );
        let mut deployment = host.spawn(&["app", "deploy", "--moved", "1.0"]);
        nobody_sees_it(|| !deployment.runs());
        deployment.wait(SOON).ok();
        says(host, "version of svn");
        nothing_holds_it(host);
        host.run(&["app", "stop"]).ok();
    });
}
