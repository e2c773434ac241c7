//! The packets behind the firewall, the tools that show them, and why they pass.

use std::time::Duration;

use metactl_tests::command::Background;
use metactl_tests::hello::{ADDRESS, connect, is_refused, reaches, start};
use metactl_tests::lan::Node;
use metactl_tests::needs::{CURL, GIT, NFT, TCPDUMP};
use metactl_tests::on_host;
use nix::sys::signal::Signal;

use super::{LOCAL, NEEDS, SOON, neighbours};

#[test]
fn packets_are_seen_from_the_first_one_on() {
    on_host(&[GIT, NFT, TCPDUMP], |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        start(host, LOCAL);
        // What runs: on its device, to the end of tcpdump's own count, with its exit code.
        let mut dump = host.spawn(&["hello", "tcpdump", "-nn", "-c", "1", "tcp", "port", "3306"]);
        dump.wait_for("listening on m-hello-", SOON);
        reaches("10.20.0.20:3306");
        dump.wait(SOON)
            .ok()
            .says(&["IP 10.20.0.5.", "10.20.0.20.3306"]);
        let failed = host.run(&["hello", "tcpdump", "-nn", "nonsense", "here"]);
        assert_eq!(failed.code, 1, "{failed}");
        for args in [["-z", "sh"], ["-i", "eth0"], ["-Z", "root"]] {
            let line = [&["hello", "tcpdump"][..], &args].concat();
            host.run(&line).fails(64);
        }
        host.run(&["hello", "stop"]).ok();

        // Before it runs, into a file: the first packet that goes over the wire is there.
        let file = host.work().join("first.pcap");
        let name = file.to_str().unwrap();
        let mut dump = host.spawn(&["hello", "tcpdump", "-w", name, "-U", "tcp"]);
        dump.wait_for("listening on any", SOON);
        host.run(&["hello", "start"]).ok();
        Node::server().get_when_up(&format!("http://{ADDRESS}/"), SOON);
        reaches("10.20.0.20:3306");
        // The kernel hands packets to tcpdump in blocks, after a second at the latest.
        std::thread::sleep(Duration::from_millis(1500));
        dump.signal(Signal::SIGINT);
        let dumped = dump.wait(SOON).ok();
        let shown = host.command("tcpdump", &["-nn", "-r", name]).ok();
        let first = shown.stdout.lines().next();
        let first = first.unwrap_or_else(|| panic!("no packet: {dumped}\n{shown}"));
        assert!(first.contains("10.20.0.5.80: Flags [S]"), "{first}");
        let opened = shown.stdout.lines().filter(|line| {
            line.contains("10.20.0.20.3306: Flags [S]") && line.contains("10.20.0.5.")
        });
        assert_eq!(opened.count(), 1, "each packet once: {shown}");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn tools_of_the_server_run_in_the_network_of_the_instance() {
    on_host(&[GIT, NFT, TCPDUMP, CURL], |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        Node::server().listen(8080);
        start(host, LOCAL);
        host.run(&["hello", "net", "ip", "-br", "addr"])
            .ok()
            .says(&["10.20.0.5/32"]);
        host.run(&["hello", "net", "ss", "-Hltnp"])
            .ok()
            .says(&[":80", "perl"]);
        host.run(&["net", "hello", "curl", "-s", "http://localhost/"])
            .ok()
            .says(&["Hello, sandbox"]);
        // The names of the instance, the firewall of the instance.
        let ask = [
            "hello",
            "net",
            "curl",
            "-s",
            "-m",
            "5",
            "--http0.9",
            "http://mysql.example.org:3306/",
        ];
        host.run(&ask)
            .says(&["this is dbserver, you are 10.20.0.5"]);
        host.run(&[
            "hello",
            "net",
            "curl",
            "-s",
            "-m",
            "5",
            "http://10.20.0.66/",
        ])
        .fails(7);
        host.run(&["hello", "net", "sh", "-c", "exit 42"]).fails(42);
        host.run(&["hello", "net", "no-such-command"]).fails(69);
        // The files of the server, and nothing of its network that could be changed.
        host.run(&["hello", "net", "test", "-d", host.root().to_str().unwrap()])
            .ok();
        for command in [
            &["nft", "flush", "ruleset"][..],
            &["ip", "link", "set", "eth0", "down"],
            &["ip", "route", "flush", "default"],
        ] {
            let outcome = host.run(&[&["hello", "net"][..], command].concat());
            assert_ne!(outcome.code, 0, "{outcome}");
        }
        is_refused("10.20.0.66:25");
        // As the person behind sudo, with raw sockets and nothing else.
        let as_person = |args: &[&str]| {
            let mut command = host.metactl(args);
            command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
            Background::spawn(command)
        };
        let status = as_person(&["hello", "net", "cat", "/proc/self/status"])
            .wait(SOON)
            .ok();
        status.says(&[
            "Uid:\t65534\t65534\t65534\t65534",
            "CapEff:\t0000000000002000",
            "NoNewPrivs:\t1",
        ]);
        as_person(&["hello", "net", "ping", "-c", "1", "-W", "2", "10.1.1.1"]).wait(SOON);
        let mut dump = as_person(&["hello", "tcpdump", "-nn", "-c", "1", "tcp", "port", "3306"]);
        dump.wait_for("listening on m-hello-", SOON);
        reaches("10.20.0.20:3306");
        dump.wait(SOON).ok();
        host.run(&["hello", "stop"]).ok();
        host.run(&["hello", "net", "true"])
            .fails(69)
            .says(&["does not run"]);
    });
}

#[test]
fn devices_have_names_that_people_recognise() {
    on_host(NEEDS, |host| {
        host.lan();
        let long = "shop-production-".to_owned() + &"x".repeat(46);
        let names = [
            "shop-production-a",
            "shop-production-b",
            &(long.clone() + "1"),
            &(long + "2"),
        ];
        assert_eq!(names[3].len(), 63);
        let mut outer = Vec::new();
        for (index, name) in names.iter().enumerate() {
            host.hello(
                name,
                &format!("[sandbox.net]\nip = 10.20.0.{}\n", 50 + index),
            );
        }
        for (index, name) in names.iter().enumerate() {
            let link = host
                .command("ip", &["link", "show", "dev", &format!("metactl-{name}")])
                .ok();
            let device = link.stdout.split_whitespace().nth(1).unwrap();
            assert!(device.starts_with("m-shop-pro-"), "{link}");
            outer.push(device.to_owned());
            let route = host
                .command("ip", &["route", "show", &format!("10.20.0.{}", 50 + index)])
                .ok();
            assert!(
                device.starts_with(route.stdout.split_whitespace().nth(2).unwrap()),
                "{route}{link}"
            );
        }
        outer.sort();
        outer.dedup();
        assert_eq!(outer.len(), names.len());
        for name in names {
            host.run(&[name, "stop"]).ok();
        }
    });
}

#[test]
fn why_says_what_the_rules_do() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        neighbours(host, &lan);
        lan.server_address("10.1.1.1/24");
        let testlan = lan.node("testlan", &["10.1.1.7/24"]);
        testlan.route("default via 10.1.1.1");
        testlan.listen(80);
        start(host, LOCAL);
        let agree = || {
            for to in [
                "mysql.example.org:3306",
                "10.20.0.20:3306",
                "10.20.0.20:80",
                "10.1.1.7:80",
                "10.20.0.66:25",
                "smtp.example.org:25",
                "10.20.0.66:3306",
            ] {
                let said = host.run(&["hello", "why", to]).code == 0;
                let is_so = connect(to).starts_with("connected");
                assert_eq!(said, is_so, "{to}");
            }
        };
        agree();
        host.run(&[
            "hello",
            "allow",
            "smtp=smtp.example.org:25",
            "web=10.20.0.0/24:80",
        ])
        .ok();
        agree();
        host.run(&["hello", "unset", "firewall.out.accept:web"])
            .ok();
        agree();
        host.run(&["hello", "stop"]).ok();
    });
}
