//! `deploy`: builds, and every failure that has to leave the old release running.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use metactl_tests::apps::Repository;
use metactl_tests::needs::{CURL, GIT, NFT, PERL};
use metactl_tests::terminal::Terminal;
use metactl_tests::{Host, eventually, machine, on_host};

const SOON: Duration = Duration::from_secs(15);
const DAEMON: &str = "[daemon.app]\nplatform = exec\ncommand = ./app.sh\n";
const WATCH: &str = "[build]\nwatch = 300ms\n";

fn script(word: &str) -> String {
    format!("#!/bin/sh\necho version {word}\nexec sleep 1000\n")
}

/// An instance that runs 1.0.
fn deployed(host: &Host, build: &str) -> Repository {
    let layer = format!("{DAEMON}{WATCH}{build}");
    let files = [(".metactl", layer.as_str()), ("app.sh", &script("one"))];
    let repository = host.application("app", &files, "");
    host.run(&["app", "deploy", "1.0"]).ok();
    repository
}

fn says(host: &Host, what: &str) {
    eventually(what, SOON, || {
        let log = fs::read_to_string(host.log("app", "app")).ok()?;
        log.lines().last()?.contains(what).then_some(())
    });
}

/// The release before runs, was not even started anew, and nothing of the other one is left.
fn nothing_happened(host: &Host, before: &str) {
    assert_eq!(process(host), before, "it was not touched");
    host.run(&["app", "status"]).ok().says(&["· 1.0 ("]);
    let releases = fs::read_dir(host.state("app").join("releases")).unwrap();
    let dirs = releases.filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(dirs.count(), 1);
    assert!(!host.state("app").join("deploy.json").exists());
}

fn process(host: &Host) -> String {
    let pids = machine::pids_of(&["sleep 1000"]);
    assert_eq!(pids.len(), 1, "{:?}", machine::processes());
    host.run(&["app", "status"]).ok();
    format!("{pids:?}")
}

#[test]
fn a_build_reaches_nothing_of_the_server() {
    on_host(&[GIT, PERL], |host| {
        // Somebody listens on localhost of the server.
        let listener = TcpListener::bind("127.0.0.1:7777").unwrap();
        listener.set_nonblocking(true).unwrap();
        let probe = "perl -MIO::Socket::INET -e 'print STDERR (IO::Socket::INET->new(\"127.0.0.1:7777\") \
            ? \"reached\" : \"not there: $!\"), \"\\n\"'; id -u >&2; ls -A /data /src >&2; \
            touch /data/cache; grep -c . /proc/net/dev >&2";
        let repository = deployed(host, &format!("command = {probe}\n"));
        host.run(&["app", "logs", "--deploy", "1"])
            .ok()
            .says(&["not there: Connection refused"]);
        assert!(listener.accept().is_err(), "nobody came");
        // A user of its own: not the application's.
        let log = host.run(&["app", "logs", "--deploy", "1"]).ok().stdout;
        let own = log
            .lines()
            .find(|line| line.starts_with("66"))
            .unwrap()
            .to_owned();
        let pid = machine::pids_of(&["sleep 1000"])[0];
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(!status.contains(&format!("Uid:\t{own}")), "{own}: {status}");
        // What it left at home is there for the next one; -x tells every line.
        repository.write("x", "2").commit("2.0");
        host.run(&["app", "deploy", "-x", "2.0"])
            .ok()
            .says(&["cache", "not there"]);
        // With the network of the server only when site or local say so.
        let asked = format!("{DAEMON}{WATCH}command = {probe}\nnetwork = host\n");
        repository.write(".metactl", &asked).commit("3.0");
        host.run(&["app", "deploy", "3.0"]).ok();
        host.run(&["app", "logs", "--deploy", "3"])
            .ok()
            .says(&["not there"]);
        host.run(&["app", "set", "build:network=host"]).ok();
        host.run(&["app", "deploy", "3.0"]).ok();
        host.run(&["app", "logs", "--deploy", "4"])
            .ok()
            .says(&["reached"]);
        host.run(&["app", "logs", "--deploy", "9"])
            .fails(69)
            .says(&["1 to 4 are kept"]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_build_is_kept_from_the_server_and_from_instances() {
    on_host(&[CURL, GIT, NFT, PERL], |host| {
        let own = ["address", "add", "10.30.0.1/32", "dev", "lo"];
        host.command("ip", &own).ok();
        let listener = TcpListener::bind("10.30.0.1:7778").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = "[sandbox.net]\npublish = 8080:80\n[firewall.in]\npolicy = accept\n";
        let address = host.hello("hello", port);
        let ask = |to: &str| {
            format!(
                "perl -MIO::Socket::INET -e 'print STDERR \"{to} \", (IO::Socket::INET->new(PeerAddr => \"{to}\", Timeout => 5) \
                 ? \"reached\" : \"no: $!\"), \"\\n\"'"
            )
        };
        let instance = format!("{address}:80");
        let all = ["10.30.0.1:7778", "10.30.0.1:8080", &instance];
        let probes = all.map(ask).join("; ");
        deployed(host, &format!("command = {probes}\n"));
        let log = |number: &str| host.run(&["app", "logs", "--deploy", number]).ok().stdout;
        let said = log("1");
        for to in all {
            let refused = format!("{to} no: Connection refused");
            assert!(said.contains(&refused), "{refused} in {said}");
        }
        assert!(listener.accept().is_err(), "nobody came");
        // Others than a build go on.
        host.command("curl", &["-s", "http://10.30.0.1:8080/"]).ok();
        let accept = format!("build:accept=10.30.0.1:7000-7999 {address}:80/tcp");
        host.run(&["app", "set", &accept]).ok();
        host.run(&["app", "deploy", "1.0"]).ok();
        let said = log("2");
        for to in ["10.30.0.1:7778", &instance] {
            assert!(said.contains(&format!("{to} reached")), "{to} in {said}");
        }
        let table = host
            .command("nft", &["list", "table", "inet", "metactl"])
            .ok();
        assert!(!table.stdout.contains("chain apart"), "{}", table.stdout);
        host.run(&["app", "stop"]).ok();
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn a_build_that_hangs_or_eats_memory_is_ended() {
    on_host(&[GIT, PERL], |host| {
        let repository = deployed(host, "");
        let before = process(host);
        let with = |build: &str| format!("{DAEMON}{WATCH}{build}");
        let build = with("command = echo begun; sleep 4714\ntimeout = 1s\n");
        repository.write(".metactl", &build).commit("2.0");
        let begun = Instant::now();
        host.run(&["app", "deploy", "2.0"]).fails(1).says(&[
            "no end after 1 s",
            "begun",
            "logs --deploy 2",
        ]);
        assert!(begun.elapsed() < Duration::from_secs(20));
        assert!(machine::pids_of(&["sleep 4714"]).is_empty());
        nothing_happened(host, &before);
        let eater =
            "command = perl -e 'my $x = \"x\" x 400_000_000; sleep 1'\nlimits.memory = 64m\n";
        repository.write(".metactl", &with(eater)).commit("3.0");
        host.run(&["app", "deploy", "3.0"])
            .fails(1)
            .says(&["the build failed"]);
        nothing_happened(host, &before);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn what_is_wrong_before_the_switch_changes_nothing() {
    on_host(&[GIT], |host| {
        let repository = deployed(host, "");
        let before = process(host);
        // A tag that moved.
        repository.write("app.sh", &script("two"));
        repository.git(&["commit", "--quiet", "--all", "--message", "moved"]);
        repository.git(&["tag", "--force", "1.0"]);
        host.run(&["app", "deploy", "1.0"]).fails(1).says(&[
            "\"1.0\" was moved",
            "1.0-",
            "deploy --moved 1.0",
        ]);
        nothing_happened(host, &before);
        // An invalid configuration, of the release and of the server.
        repository
            .write(".metactl", &format!("{DAEMON}nonsense = 1\n"))
            .commit("2.0");
        host.run(&["app", "deploy", "2.0"])
            .fails(78)
            .says(&["nonsense"]);
        nothing_happened(host, &before);
        // A program that is not there is a release that does not come up.
        // A vanished remote.
        let away = host.work().join("away");
        fs::rename(&repository.dir, &away).unwrap();
        host.run(&["app", "deploy", "2.0"])
            .fails(1)
            .says(&["no such directory"]);
        nothing_happened(host, &before);
        fs::rename(&away, &repository.dir).unwrap();
        repository
            .write(".metactl", &format!("{DAEMON}{WATCH}"))
            .commit("3.0");
        host.run(&["app", "deploy", "3.0"]).ok();
        says(host, "version two");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_full_disk_changes_nothing() {
    on_host(&[GIT], |host| {
        // The state on a file system of its own, so that it can be filled.
        let state = host.root().join("var/lib/metactl");
        fs::create_dir_all(&state).unwrap();
        let path = state.display().to_string();
        host.command("mount", &["-t", "tmpfs", "-o", "size=3m", "small", &path])
            .ok();
        let repository = deployed(host, "");
        let before = process(host);
        for (tag, megabytes) in [("2.0", 2), ("3.0", 5)] {
            let large = "0123456789abcdef".repeat(megabytes << 16);
            repository.write("large", &large).commit(tag);
            fs::write(state.join("filler"), vec![1; 1 << 20]).unwrap();
            let failed = host.run(&["app", "deploy", tag]).fails(1);
            assert!(
                failed.stderr.contains("No space left") || failed.stderr.contains("MiB are free"),
                "{failed}"
            );
            nothing_happened(host, &before);
        }
        // To the last byte: stop and status still work.
        let rest = fs::write(state.join("rest"), vec![1; 4 << 20]);
        assert!(rest.is_err(), "it is full");
        host.run(&["app", "deploy", "2.0"]).fails(1);
        assert_eq!(process(host), before);
        fs::remove_file(state.join("rest")).unwrap();
        fs::remove_file(state.join("filler")).unwrap();
        nothing_happened(host, &before);
        host.run(&["app", "stop"]).ok();
        host.command("umount", &["--lazy", &path]).ok();
    });
}

#[test]
fn the_second_of_two_deployments_is_told_who_has_the_lock() {
    on_host(&[GIT], |host| {
        let repository = deployed(host, "");
        let layer = format!("{DAEMON}{WATCH}command = sleep 8\n");
        repository.write(".metactl", &layer).commit("2.0");
        let first = host.spawn(&["app", "deploy", "2.0"]);
        eventually("the build", SOON, || {
            (!machine::pids_of(&["sleep 8"]).is_empty()).then_some(())
        });
        host.run(&["app", "deploy", "1.0"]).fails(1).says(&[
            "app is being changed by root, pid ",
            "metactl app deploy 2.0, since 2",
        ]);
        first.wait(Duration::from_secs(60)).ok();
        host.run(&["app", "status"]).ok().says(&["· 2.0 ("]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn known_build_files_need_no_key() {
    on_host(&[GIT], |host| {
        let layer = format!("{DAEMON}{WATCH}");
        let made = "all:\n\tprintf '#!/bin/sh\\necho version made $$METACTL_TAG\\nexec sleep 1000\\n' > app.sh\n\tchmod +x app.sh\n";
        let files = [(".metactl", layer.as_str()), ("Makefile", made)];
        let repository = host.application("app", &files, "");
        if !std::path::Path::new("/usr/bin/make").exists() {
            // The shell says so, and deploy with it.
            host.run(&["app", "deploy", "1.0"])
                .fails(1)
                .says(&["make: not found"]);
        }
        // The contract of the ancestor: TARGET ENV APPS.
        let nla = "#!/bin/bash\nset -e\nprintf '#!/bin/sh\\necho version %s %s\\nexec sleep 1000\\n' \
            \"$2\" \"$3\" > \"$1/app.sh\"\nchmod +x \"$1/app.sh\"\n";
        repository.write("nla-deploy.sh", nla).commit("2.0");
        host.server_conf("[server]\nsite = prod\n");
        host.run(&["app", "deploy", "2.0", "--dry-run"])
            .ok()
            .says(&[
                "would deploy 2.0",
                "nla-deploy.sh",
                "nla-target",
                "Nothing was changed",
            ]);
        assert!(!host.state("app").join("bundle").exists());
        host.run(&["app", "deploy", "2.0"])
            .ok()
            .says(&["nla-deploy.sh"]);
        says(host, "version prod app");
        // Only what it put there is the release.
        let releases = host.state("app").join("releases");
        let release = fs::read_dir(&releases).unwrap().map(|e| e.unwrap().path());
        let release = release.into_iter().find(|path| path.is_dir()).unwrap();
        assert!(release.join("app.sh").exists() && !release.join("nla-deploy.sh").exists());
        let plan = host
            .run(&["app", "deploy", "--dry-run", "--json", "2.0"])
            .ok();
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
        assert_eq!(
            (&plan["tag"], &plan["output"]),
            (&"2.0".into(), &"nla-target".into())
        );
        assert!(plan["current"].as_str().unwrap().starts_with("2.0-"));
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn releases_are_pruned_but_never_those_that_run_or_ran() {
    on_host(&[GIT], |host| {
        let repository = deployed(host, "");
        let count = || {
            let dir = host.state("app").join("releases");
            let entries = fs::read_dir(dir).unwrap();
            entries
                .filter(|e| e.as_ref().unwrap().path().is_dir())
                .count()
        };
        for tag in ["2.0", "3.0", "4.0"] {
            repository.write("app.sh", &script(tag)).commit(tag);
            host.run(&["app", "deploy", tag]).ok();
        }
        assert_eq!(count(), 4);
        // Back to the first one: now it runs, and 4.0 ran last.
        host.run(&["app", "rollback", "1.0"]).ok();
        repository.write("app.sh", &script("5.0")).commit("5.0");
        host.run(&["app", "deploy", "--keep", "0", "5.0"]).ok();
        assert_eq!(count(), 2);
        host.run(&["app", "rollback"]).ok().says(&["app runs 1.0"]);
        says(host, "version one");
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn what_runs_already_is_left_alone() {
    on_host(&[GIT], |host| {
        deployed(host, "command = echo built\n");
        let before = process(host);
        host.run(&["app", "deploy", "1.0"])
            .ok()
            .says(&["app already runs 1.0 (", "metactl app deploy --again"]);
        let json = host.run(&["app", "deploy", "--json", "1.0"]).ok().stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["unchanged"], true, "{json}");
        host.run(&["app", "deploy", "--dry-run", "1.0"])
            .ok()
            .says(&["would change nothing"]);
        nothing_happened(host, &before);
        // Nothing was deployed, so there is no log of it.
        host.run(&["app", "logs", "--deploy", "2"]).fails(69);
        // When somebody insists; when its configuration is another; when it does not run.
        let runs_anew = |words: &[&str], before: &str| {
            let all: Vec<&str> = ["app", "deploy"].iter().chain(words).copied().collect();
            host.run(&all).ok().never_says(&["already"]);
            let now = process(host);
            assert_ne!(now, before, "{words:?}");
            now
        };
        let before = runs_anew(&["--again", "1.0"], &before);
        host.run(&["app", "set", "env:GREETING=hello"]).ok();
        let before = runs_anew(&["1.0"], &before);
        host.run(&["app", "stop"]).ok();
        runs_anew(&["1.0"], &before);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn on_a_terminal() {
    on_host(&[GIT], |host| {
        let repository = deployed(host, "");
        let before = process(host);
        let build = "command = echo skip=$METACTL_SKIP_TESTS; echo second line; sleep 1; test -z \"$METACTL_SKIP_TESTS\" && sleep 4715; true\n";
        let layer = format!("{DAEMON}{WATCH}{build}");
        repository.write(".metactl", &layer).commit("2.0");
        // Ctrl-C during the build.
        let mut terminal = Terminal::spawn(&host.metactl(&["app", "deploy", "2.0"]));
        eventually("the build", SOON, || {
            (!machine::pids_of(&["sleep 4715"]).is_empty()).then_some(())
        });
        terminal.wait_for("second line", SOON);
        terminal.press("\x03");
        assert_ne!(terminal.wait(SOON), 0);
        eventually("the end of the build", SOON, || {
            machine::pids_of(&["sleep 4715"]).is_empty().then_some(())
        });
        nothing_happened(host, &before);
        // All at once: each line of the build, without tests, and no old release.
        let words = ["app", "deploy", "-x", "-s", "--keep", "0", "2.0"];
        let terminal = Terminal::spawn(&host.metactl(&words));
        terminal.wait_for("skip=1", SOON);
        terminal.wait_for("app runs 2.0", SOON);
        terminal.wait_for("Undo: metactl app deploy 1.0", SOON);
        assert_eq!(terminal.wait(SOON), 0);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn a_shell_before_the_build() {
    on_host(&[GIT], |host| {
        let repository = deployed(host, "");
        let layer = format!("{DAEMON}{WATCH}command = test -e touched\n");
        repository.write(".metactl", &layer).commit("2.0");
        let mut terminal = Terminal::spawn(&host.metactl(&["app", "deploy", "-d", "2.0"]));
        terminal.wait_for("a shell in the build sandbox", SOON);
        terminal.press("pwd; touch touched; exit 1\n");
        terminal.wait_for("nothing is built", SOON);
        assert_ne!(terminal.wait(SOON), 0);
        host.run(&["app", "status"]).ok().says(&["· 1.0 ("]);
        let mut terminal = Terminal::spawn(&host.metactl(&["app", "deploy", "-d", "2.0"]));
        terminal.wait_for("a shell in the build sandbox", SOON);
        terminal.press("touch touched; exit\n");
        assert_eq!(terminal.wait(Duration::from_secs(30)), 0);
        host.run(&["app", "status"]).ok().says(&["· 2.0 ("]);
        host.run(&["app", "stop"]).ok();
    });
}

#[test]
fn the_log_of_a_deployment_tells_how_it_ended() {
    on_host(&[GIT], |host| {
        let repository = deployed(host, "command = echo built it\n");
        repository
            .write("app.sh", "#!/bin/sh\necho no database\nexit 3\n")
            .commit("2.0");
        host.run(&["app", "deploy", "2.0"])
            .fails(10)
            .says(&["Log: metactl app logs --deploy 2"]);
        let mut text = String::new();
        let path = host.log("app", "build-2");
        fs::File::open(path)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        for part in ["deploy 2.0, by root", "built it", "failed: ", "no database"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        host.run(&["app", "logs", "--deploy", "1"])
            .ok()
            .says(&["built it", " runs"]);
        host.run(&["app", "stop"]).ok();
    });
}
