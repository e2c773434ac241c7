//! Where source comes from: Subversion, folders, archives, a command, submodules, several
//! repositories, signed tags.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use metactl_tests::apps::Repository;
use metactl_tests::needs::{GIT, GPG, SSH_KEYGEN, SUBVERSION};
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, eventually, on_host};

const SOON: Duration = Duration::from_secs(15);
const LAYER: &str = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n[build]\nwatch = 300ms\n";

fn script(word: &str) -> String {
    format!("#!/bin/sh\necho version {word}\nexec sleep 1000\n")
}

fn says(host: &Host, what: &str) {
    eventually(what, SOON, || {
        let log = fs::read_to_string(host.log("app", "app")).ok()?;
        log.lines().last()?.contains(what).then_some(())
    });
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a tool that has to succeed, with a home of its own.
fn tool(host: &Host, dir: &Path, words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(dir);
    command
        .env("HOME", host.work())
        .env("GNUPGHOME", host.work().join("gnupg"));
    command.env("GIT_CONFIG_GLOBAL", host.work().join("gitconfig"));
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Test");
        command.env(format!("GIT_{role}_EMAIL"), "test@example.org");
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn subversion_by_its_server_with_a_password() {
    on_host(&[SUBVERSION], |host| {
        let (repo, work) = (host.work().join("svn"), host.work().join("wc"));
        let run = |words: &[&str]| tool(host, &host.work(), words);
        let path = repo.to_str().unwrap();
        run(&["svnadmin", "create", path]);
        let url = format!("file://{path}");
        for dir in ["trunk", "tags", "branches"] {
            run(&["svn", "mkdir", "-q", "-m", dir, &format!("{url}/{dir}")]);
        }
        run(&[
            "svn",
            "checkout",
            "-q",
            &format!("{url}/trunk"),
            work.to_str().unwrap(),
        ]);
        write(&work.join(".metactl"), LAYER);
        write(&work.join("app.sh"), &script("one"));
        tool(host, &work, &["svn", "add", "-q", ".metactl", "app.sh"]);
        // A repository does not decide what else is fetched.
        let externals = format!("{url}/branches outside");
        tool(
            host,
            &work,
            &["svn", "propset", "-q", "svn:externals", &externals, "."],
        );
        tool(host, &work, &["svn", "commit", "-q", "-m", "one"]);
        let tag = |name: &str| {
            let to = format!("{url}/tags/{name}");
            run(&[
                "svn",
                "copy",
                "-q",
                "-m",
                name,
                &format!("{url}/trunk"),
                &to,
            ]);
        };
        tag("1.9");
        write(&work.join("app.sh"), &script("two"));
        tool(host, &work, &["svn", "commit", "-q", "-m", "two"]);
        tag("1.10");
        write(
            &repo.join("conf/svnserve.conf"),
            "[general]\nanon-access = none\nauth-access = read\npassword-db = passwd\n",
        );
        write(
            &repo.join("conf/passwd"),
            "[users]\nbuilder = sesame open\n",
        );
        let mut server = Command::new("svnserve");
        server.args([
            "--daemon",
            "--foreground",
            "--listen-host",
            "127.0.0.1",
            "--root",
        ]);
        server.arg(&repo);
        let server = host.spawn_command(server);
        eventually("the server", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", 3690))
                .ok()
                .map(drop)
        });

        host.local_layer("app", "[build]\nrepo = svn://127.0.0.1/trunk\n");
        host.run(&["app", "deploy", "1.9"])
            .fails(1)
            .says(&["svn://127.0.0.1", "user and password.file"]);
        let secret = host.work().join("password");
        write(&secret, "sesame open\n");
        let login = format!(
            "[build]\nrepo = svn://127.0.0.1/trunk\nuser = builder\npassword.file = {}\n",
            secret.display()
        );
        host.local_layer("app", &login);
        host.run(&["app", "deploy"])
            .fails(78)
            .says(&["the newest tags are: 1.10, 1.9"]);
        host.run(&["app", "deploy", "1.9"]).ok().says(&["1.9 (r"]);
        says(host, "version one");
        let release = fs::read_dir(host.state("app").join("releases")).unwrap();
        let names: Vec<_> = release.map(|e| e.unwrap().path().join("outside")).collect();
        assert!(names.iter().all(|path| !path.exists()), "{names:?}");
        host.run(&["app", "deploy", "trunk"]).ok();
        says(host, "version two");
        // The revision of the trunk, by its number.
        host.run(&["app", "deploy", "r4"]).ok();
        says(host, "version one");
        host.run(&["app", "deploy", "9.9"])
            .fails(1)
            .says(&["no tag, branch or commit \"9.9\"", "1.10"]);
        host.run(&["app", "deploy", "..%2f..%2fx"]).fails(64);
        // Vanished: what runs goes on.
        drop(server);
        host.run(&["app", "deploy", "1.10"])
            .fails(1)
            .says(&["svn://127.0.0.1"]);
        host.run(&["app", "status"]).ok();
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_folder_and_an_archive() {
    on_host(&[], |host| {
        let folder = host.work().join("folder");
        write(&folder.join(".metactl"), LAYER);
        write(&folder.join("app.sh"), &script("folder"));
        host.run(&["new", "app", folder.to_str().unwrap()]).ok();
        host.run(&["app", "deploy"]).ok().says(&["snapshot"]);
        says(host, "version folder");
        host.run(&["app", "deploy", "1.0"])
            .fails(64)
            .says(&["has no tags", "{tag}"]);
        symlink("/etc/shadow", folder.join("shadow")).unwrap();
        host.run(&["app", "deploy"])
            .fails(1)
            .says(&["shadow", "leads out of it"]);
        fs::remove_file(folder.join("shadow")).unwrap();

        // Tar files, one for each tag.
        write(&folder.join("app.sh"), &script("archive"));
        let tars = host.work().join("tars");
        fs::create_dir(&tars).unwrap();
        let pack = |name: &str| {
            let to = tars.join(name).display().to_string();
            tool(
                host,
                &host.work(),
                &["tar", "--create", "--gzip", "--file", &to, "folder"],
            );
        };
        pack("app-1.0.tgz");
        let repo = format!("[build]\nrepo = {}/app-{{tag}}.tgz\n", tars.display());
        host.local_layer("app", &repo);
        host.run(&["app", "deploy", "1.0"]).ok();
        says(host, "version archive");
        host.run(&["app", "deploy", "2.0"])
            .fails(1)
            .says(&["app-2.0.tgz"]);
        host.run(&["app", "deploy", "../1.0"]).fails(64);
        // The same name with another content is another thing.
        write(&folder.join("app.sh"), &script("changed"));
        pack("app-1.0.tgz");
        host.run(&["app", "deploy", "1.0"])
            .fails(1)
            .says(&["was moved", "deploy --moved 1.0"]);
        says(host, "version archive");
        host.run(&["app", "deploy", "--moved", "1.0"]).ok();
        says(host, "version changed");
        // One that wants to get out.
        let evil = tars.join("app-6.6.tgz").display().to_string();
        let script = "s,^,../../../../,";
        tool(
            host,
            &host.work(),
            &[
                "tar",
                "--create",
                "--gzip",
                "--absolute-names",
                "--transform",
                script,
                "--file",
                &evil,
                "folder/app.sh",
            ],
        );
        host.run(&["app", "deploy", "6.6"])
            .fails(1)
            .says(&["leads out of it"]);
        says(host, "version changed");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn any_tool_by_a_command() {
    on_host(&[], |host| {
        let layer = LAYER.replace('\n', "\\n");
        // Fetched as nobody in particular, with what `[build]` says, where nothing of the server is.
        let command = format!(
            "printf '{layer}' > .metactl; printf '#!/bin/sh\\necho version %s\\nexec sleep 1000\\n' \
             \"$METACTL_TAG of $METACTL_REPO as $(id -u)\" > app.sh; chmod +x app.sh; \
             test ! -e {}",
            host.state("app").display()
        );
        host.local_layer(
            "app",
            &format!("[build]\nrepo = hg://example.org/app\nfetch = {command}\n"),
        );
        host.run(&["app", "deploy", "1.0"]).ok();
        says(host, "version 1.0 of hg://example.org/app as 66");
        host.local_layer("app", "[build]\nfetch = echo no such release >&2; exit 5\n");
        host.run(&["app", "deploy", "2.0"])
            .fails(1)
            .says(&["no such release", "exit code 5"]);
        says(host, "version 1.0");
        // What stands in the command is on no command line, and the password of a URL in no error and no log.
        let command =
            "tr '\\0' ' ' < /proc/$$/cmdline; : https://me:s3cret@git.example.org/app; exit 6";
        host.local_layer("app", &format!("[build]\nfetch = {command}\n"));
        host.run(&["app", "deploy", "3.0"])
            .fails(1)
            .says(&["/bin/sh -c eval \"$(/bin/cat)\"", "https://me:***@"])
            .never_says(&["s3cret"]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn submodules_and_further_repositories() {
    on_host(&[GIT], |host| {
        let files = [
            (".metactl", LAYER),
            ("app.sh", &script("$(cat lib/word theme/word)")),
        ];
        let app = host.application("app", &files, "");
        let dir = |name: &str| app.dir.parent().unwrap().join(name);
        let lib = Repository::empty(&dir("lib"));
        lib.write("word", "from a submodule\n").commit("x");
        let theme = Repository::empty(&dir("theme"));
        theme.write("word", "and another\n").commit("3.0");
        let git = |words: &[&str]| tool(host, &app.dir, words);
        git(&[
            "git",
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            "../lib",
            "lib",
        ]);
        app.commit("2.0");
        let local = |more: &str| {
            let text = format!(
                "[build]\nrepo = {}\nrepo.theme = {}\ntag.theme = 3.0\n{more}\n",
                app.dir.display(),
                theme.dir.display()
            );
            host.local_layer("app", &text);
        };
        local("");
        host.run(&["app", "deploy", "2.0"])
            .ok()
            .says(&["theme: 3.0 ("]);
        says(host, "version from a submodule and another");
        // Somewhere else on this server is not beside the repository.
        let secret = Repository::empty(&host.work().join("secret"));
        secret.write("word", "secret\n").commit("x");
        let other = secret.dir.display().to_string();
        git(&[
            "git",
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            &other,
            "other",
        ]);
        app.commit("3.0");
        host.run(&["app", "deploy", "3.0"])
            .fails(1)
            .says(&["submodule \"other\"", "on another host"]);
        says(host, "version from a submodule");
        local("submodules = any");
        host.run(&["app", "deploy", "3.0"]).ok();
        local("submodules = none");
        host.run(&["app", "deploy", "2.0"]).ok();
        says(host, "version and another");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn tags_signed_by_ssh_and_gpg() {
    on_host(&[GIT, GPG, SSH_KEYGEN], |host| {
        let files = [(".metactl", LAYER), ("app.sh", &script("one"))];
        let app = host.application("app", &files, "");
        let work = host.work();
        let run = |words: &[&str]| tool(host, &app.dir, words);
        let key = |name: &str| {
            let path = work.join(name).display().to_string();
            run(&[
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                name,
                "-f",
                &path,
            ]);
            path
        };
        let (good, bad) = (key("good"), key("bad"));
        let public = fs::read_to_string(format!("{good}.pub")).unwrap();
        let signers = work.join("allowed_signers");
        write(&signers, &format!("dev@example.org {public}"));
        let gnupg = work.join("gnupg");
        fs::create_dir(&gnupg).unwrap();
        fs::set_permissions(&gnupg, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        run(&[
            "gpg",
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-generate-key",
            "dev@example.org",
            "ed25519",
            "sign",
            "never",
        ]);
        let keyring = work.join("keys.gpg").display().to_string();
        run(&[
            "gpg",
            "--batch",
            "--quiet",
            "--output",
            &keyring,
            "--export",
            "dev@example.org",
        ]);
        let sign = |tag: &str, format: &str, key: &str| {
            let (format, key) = (
                format!("gpg.format={format}"),
                format!("user.signingkey={key}"),
            );
            run(&[
                "git", "-c", &format, "-c", &key, "tag", "-s", "-m", tag, tag,
            ]);
        };
        sign("s1", "ssh", &format!("{good}.pub"));
        sign("s2", "ssh", &format!("{bad}.pub"));
        sign("g1", "openpgp", "dev@example.org");
        run(&["git", "tag", "-a", "-m", "nobody", "plain"]);
        // The object of a signed tag under another name.
        let object = run(&["git", "rev-parse", "s1"]);
        run(&["git", "update-ref", "refs/tags/s9", object.trim()]);

        let local = |lines: &str| {
            host.local_layer(
                "app",
                &format!("[build]\nrepo = {}\n{lines}\n", app.dir.display()),
            );
        };
        local(&format!("verify.ssh = {}", signers.display()));
        host.run(&["app", "deploy", "s1"]).ok();
        // What a shell before the build changes was signed by nobody.
        host.run(&["app", "set", "build:command=test ! -e typed"])
            .ok();
        let mut terminal = Terminal::spawn(&host.metactl(&["app", "deploy", "-d", "s1"]));
        terminal.wait_for("a shell in the build sandbox", SOON);
        terminal.press("touch typed; exit\n");
        terminal.wait_for("is not built", SOON);
        assert_eq!(terminal.wait(SOON), 0);
        for (tag, why) in [
            ("s2", "its key is not in"),
            ("g1", "no key for signatures of GPG"),
            ("plain", "no signature"),
            ("1.0", "a plain name for a commit"),
            ("main", "it is no tag"),
            ("s9", "is the tag \"s1\""),
        ] {
            host.run(&["app", "deploy", tag])
                .fails(1)
                .says(&["is not signed", why]);
        }
        local(&format!("verify.gpg = {keyring}"));
        host.run(&["app", "deploy", "g1"]).ok();
        host.run(&["app", "deploy", "s1"])
            .fails(1)
            .says(&["no key for signatures of SSH"]);
        // Another key than the one that signed.
        run(&[
            "gpg",
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--quick-generate-key",
            "other@example.org",
            "ed25519",
            "sign",
            "never",
        ]);
        fs::remove_file(&keyring).unwrap();
        run(&[
            "gpg",
            "--batch",
            "--quiet",
            "--output",
            &keyring,
            "--export",
            "other@example.org",
        ]);
        host.run(&["app", "deploy", "g1"])
            .fails(1)
            .says(&["is not signed"]);
        run(&["gpgconf", "--kill", "all"]);
        host.run(&["app", "status"]).ok().says(&["· g1 ("]);
        host.run(&["app", "stop"]).ok();
    });
}
