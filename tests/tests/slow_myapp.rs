//! The whole road of a real application: from a tag in git to a sandboxed, supervised, reachable
//! Jetty with a job manager beside it and cron jobs.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::time::Duration;

use metactl_tests::lan::{Lan, Node, SERVER};
use metactl_tests::needs::{self, CRUN, NFT, Need, RUNC, TRACEROUTE};
use metactl_tests::{Host, apps, eventually, machine, on_host};

/// How long a JVM may take on a busy machine.
const JVM: Duration = Duration::from_secs(60);
const ADDRESS: &str = "10.20.0.5";

fn needs_of_the_road() -> Vec<Need> {
    [needs::MYAPP, &[NFT, TRACEROUTE]].concat()
}

/// The samples of examples/myapp/server, with this host's repository and names.
fn configure(host: &Host, local: &str) {
    let repository = host.example("myapp", "1.2.3");
    let sample =
        |path: &str| fs::read_to_string(apps::example("myapp").join("server").join(path)).unwrap();
    host.server_conf(&sample("metactl.conf"));
    let site = sample("sites/prod/myapp.conf");
    let repo = repository.dir.to_str().unwrap();
    host.site_layer(
        "prod",
        "myapp",
        &site.replace("https://git.example.org/myapp.git", repo),
    );
    host.local_layer("myapp", &format!("{}\n{local}", sample("nodes/myapp.conf")));
}

/// mysql-prod.example.org at 10.20.0.20, testlan 10.1.1.7, client 10.20.0.9.
fn neighbours(host: &Host, lan: &Lan) -> Node {
    host.name("10.20.0.20", "mysql-prod.example.org");
    let dbserver = lan.node("dbserver", &["10.20.0.20/24"]);
    lan.server_address("10.1.1.1/24");
    let testlan = lan.node("testlan", &["10.1.1.7/24"]);
    testlan.route("default via 10.1.1.1");
    dbserver.listen(3306);
    dbserver.listen(22);
    testlan.listen(8000);
    lan.node("client", &["10.20.0.9/24"])
}

fn page(from: &Node, path: &str) -> String {
    from.get(&format!("http://{ADDRESS}/{path}"))
        .unwrap()
        .body
        .trim()
        .to_owned()
}

#[test]
fn from_a_tag_to_a_reachable_application() {
    on_host(&needs_of_the_road(), |host| {
        let lan = host.lan();
        let client = neighbours(host, &lan);
        // The job runs every minute here, so that the test sees it.
        configure(
            host,
            "[crontab]\ndaily housekeeping = * * * * * curl http://localhost/housekeeping\n",
        );

        let deploy = host.run(&["myapp", "deploy", "1.2.3"]).ok();
        deploy.says(&["build", "1.2.3"]);
        client.get_when_up(&format!("http://{ADDRESS}/"), JVM);
        assert_eq!(page(&client, ""), "Hello from myapp 1.2.3");
        let status = host.run(&["myapp", "status"]).ok();
        status.says(&["webapp", "jobmanager", "running", ADDRESS]);

        // The release was built by its own command, and not as root.
        let releases = host.state("myapp").join("releases");
        let files = metactl_tests::tree::Tree::of(&releases);
        for name in ["root.war", "jobmanager.jar", "harvest.jar"] {
            assert!(
                files.paths().any(|path| path.ends_with(name)),
                "{name} in {files:?}"
            );
        }

        // The server is a hop on the way.
        let trace = client
            .run(&["traceroute", "-n", "-q", "1", "-w", "2", ADDRESS])
            .ok();
        let hops: Vec<&str> = trace
            .stdout
            .lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(hops, [SERVER, ADDRESS], "{trace}");

        // The job manager answers the web application over localhost, and nobody else.
        assert_eq!(page(&client, "jobs?add=mow-the-lawn"), "added mow-the-lawn");
        assert_eq!(page(&client, "jobs"), "mow-the-lawn\n1 jobs");
        let direct = client.connect(&format!("{ADDRESS}:9001")).unwrap_err();
        assert_eq!(direct.kind(), std::io::ErrorKind::ConnectionRefused);
        assert!(
            Node::server().connect("127.0.0.1:9001").is_err(),
            "localhost is not the server's"
        );

        // One named server and one subnet, nothing else.
        for (to, outcome) in [
            ("mysql-prod.example.org:3306", "connected"),
            ("10.1.1.7:8000", "connected"),
            ("10.20.0.20:22", "not connected"),
            ("10.20.0.9:80", "not connected"),
            ("10.20.0.1:22", "not connected"),
        ] {
            let answer = page(&client, &format!("connect?to={to}"));
            assert!(answer.starts_with(outcome), "{answer}");
            if outcome == "not connected" {
                assert!(answer.contains("refused"), "{answer}");
                let took: u64 = answer
                    .split(" after ")
                    .nth(1)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert!(took < 1000, "at once: {answer}");
            }
        }
        host.run(&["myapp", "firewall"]).ok().says(&[
            "mysql-prod.example.org:3306",
            "10.20.0.9:80",
            "mysql-prod.example.org:22 (10.20.0.20)",
        ]);

        // Cron: `localhost` is the application.
        eventually("the cron job to run", Duration::from_secs(75), || {
            page(&client, "housekeeping/count")
                .parse::<u32>()
                .ok()
                .filter(|count| *count > 0)
        });
        let data = host.state("myapp").join("data/housekeeping.log");
        eventually("its line in the data, asked by localhost", JVM, || {
            fs::read_to_string(&data)
                .ok()
                .filter(|text| text.contains("asked by 127.0.0.1"))
        });

        // Every value knows where it comes from.
        let origin = |what: &str| host.run(&["myapp", "show", what, "--origin"]).ok();
        origin("env:JOB_MANAGER_PORT").says(&["9001", "nodes/myapp.conf:5", "9000", ".metactl:6"]);
        origin("env:DB_HOST").says(&["mysql-prod.example.org", "sites/prod/myapp.conf:5"]);
        origin("build:tag").says(&["1.2.3", "sites/prod/myapp.conf:10"]);
        origin("daemon.jobmanager").says(&["jobmanager.jar 9001", ".metactl:19"]);
        origin("daemon.webapp:jvm.heap.max").says(&["256m", ".metactl:15"]);
        origin("sandbox.net:ip").says(&["10.20.0.5", "nodes/myapp.conf:8"]);

        // It ends when asked: a JVM's 143 is no failure.
        host.run(&["myapp", "restart"]).ok();
        client.get_when_up(&format!("http://{ADDRESS}/"), JVM);
        assert_eq!(page(&client, "jobs"), "0 jobs");
        host.run(&["myapp", "stop"]).ok();
        host.run(&["myapp", "status"]).fails(3);
        host.run(&["myapp", "logs"])
            .ok()
            .says(&["job manager: listening", "housekeeping"]);
    });
}

#[test]
fn an_unchanged_second_deploy_and_a_new_version() {
    on_host(&needs_of_the_road(), |host| {
        let lan = host.lan();
        let client = neighbours(host, &lan);
        configure(host, "");
        host.run(&["myapp", "deploy"]).ok();
        client.get_when_up(&format!("http://{ADDRESS}/"), JVM);
        let repository = metactl_tests::apps::Repository {
            dir: host.work().join("repositories/myapp"),
        };
        repository.write("VERSION", "1.2.4\n").commit("1.2.4");
        host.run(&["myapp", "deploy", "1.2.4"]).ok();
        client.get_when_up(&format!("http://{ADDRESS}/"), JVM);
        assert_eq!(page(&client, ""), "Hello from myapp 1.2.4");
        // A release whose build fails does not disturb it.
        repository
            .write("src/harvest/Broken.java", "class Broken {\n  int x\n}\n")
            .commit("1.2.5");
        host.run(&["myapp", "deploy", "1.2.5"])
            .fails(1)
            .says(&["Broken.java:2", "./build.sh"]);
        assert_eq!(page(&client, ""), "Hello from myapp 1.2.4");
        host.run(&["myapp", "stop"]).ok();
    });
}

#[test]
fn the_job_manager_is_killed_and_comes_back() {
    on_host(&needs_of_the_road(), |host| {
        let lan = host.lan();
        let client = neighbours(host, &lan);
        configure(host, "");
        host.run(&["myapp", "deploy"]).ok();
        client.get_when_up(&format!("http://{ADDRESS}/jobs"), JVM);
        let web = machine::pids_of(&["java", "jetty"]);
        for pid in machine::pids_of(&["java", "jobmanager.jar"]) {
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            )
            .ok();
        }
        client.get_when_up(&format!("http://{ADDRESS}/jobs"), JVM);
        assert_eq!(
            machine::pids_of(&["java", "jetty"]),
            web,
            "the other one is not concerned"
        );
        host.run(&["myapp", "stop"]).ok();
    });
}

/// The entry points of the example under another runtime: what each writes when it has begun.
fn entry_points_start(host: &Host, runtime: &str) {
    configure(host, "");
    let lan = host.lan();
    neighbours(host, &lan);
    host.run(&["myapp", "deploy"]).ok();
    host.run(&["myapp", "stop"]).ok();
    let bundle = host.state("myapp").join("bundle");
    for (entry, text) in [
        ("webapp", "Started"),
        ("jobmanager", "job manager: listening"),
        ("cron/harvest-data-on-mondays", "harvest: wrote"),
        ("cron/daily-housekeeping", "curl:"),
    ] {
        metactl_tests::oci::starts(host, runtime, &bundle.join(entry), text);
    }
}

#[test]
fn crun_starts_every_entry_point() {
    on_host(&[needs_of_the_road(), vec![CRUN]].concat(), |host| {
        entry_points_start(host, "crun")
    });
}

#[test]
fn runc_starts_every_entry_point() {
    on_host(&[needs_of_the_road(), vec![RUNC]].concat(), |host| {
        entry_points_start(host, "runc")
    });
}
