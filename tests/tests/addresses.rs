//! The addresses and ports of instances: taken into use, told to the network, and never taken from anybody.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use metactl_tests::lan::{Node, SERVER};
use metactl_tests::needs::{GIT, NFT, Need};
use metactl_tests::{eventually, on_host};

const SOON: Duration = Duration::from_secs(15);
const NEEDS: &[Need] = &[GIT, NFT];

#[test]
fn a_moved_address_is_told_to_the_network() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        lan.server_address("2001:db8::1/64");
        let client = lan.node("client", &["10.20.0.9/24", "2001:db8::9/64"]);
        for address in ["10.20.0.5", "2001:db8::5"] {
            let entry =
                format!("neigh replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud stale");
            let words: Vec<&str> = ["ip"].into_iter().chain(entry.split(' ')).collect();
            client.run(&words).ok();
        }
        host.hello("hello", "[sandbox.net]\nip = 10.20.0.5 2001:db8::5\n");
        for address in ["10.20.0.5", "2001:db8::5"] {
            eventually("the client to learn where the address is", SOON, || {
                let entry = client.run(&["ip", "neigh", "show", address]).ok();
                (!entry.stdout.contains("02:00:00:00:00:99")).then_some(())
            });
        }
        client.get_when_up("http://10.20.0.5/", SOON);
        client.get_when_up("http://[2001:db8::5]:80/", SOON);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn ports_of_the_server_lead_to_an_instance() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        host.hello("first", "[sandbox.net]\npublish = 8080:80\n");
        let page = format!("http://{SERVER}:8080/");
        assert_eq!(client.get_when_up(&page, SOON), "Hello, sandbox\n");
        for page in [&page, "http://127.0.0.1:8080/"] {
            assert_eq!(Node::server().get_when_up(page, SOON), "Hello, sandbox\n");
        }
        host.run(&["first", "plan"])
            .ok()
            .says(&["published { tcp . 8080 : 10.77.0.2 . 80 }"]);
        // Everybody else is told before anything is made, whether they run or not.
        let second = host.example("hello", "1.0");
        host.instance_of(
            "second",
            &second,
            "[sandbox.net]\npublish = 9090:80 8080:80\n",
        );
        let refused = host.run(&["second", "deploy", "1.0"]);
        assert_ne!(refused.code, 0, "{refused}");
        refused.says(&["8080/tcp", "first", "nodes/first.conf:", "publish"]);
        host.local_layer("second", "");
        let own = "[sandbox.net]\nmode = host\n[firewall.out]\npolicy = accept\n[daemon.web]\nport = 8080\n";
        host.instance_of("second", &second, own);
        let refused = host.run(&["second", "deploy", "1.0"]);
        assert_ne!(refused.code, 0, "{refused}");
        refused.says(&["8080", "instance first publishes it"]);
        // So is who takes a port that a program of the server listens on.
        Node::server().listen(8081);
        host.instance_of("second", &second, "[sandbox.net]\npublish = 8081:80\n");
        let refused = host.run(&["second", "deploy", "1.0"]);
        assert_ne!(refused.code, 0, "{refused}");
        refused.says(&["8081/tcp", "listens on it"]);
        host.run(&["first", "stop"]).ok();
        assert!(client.get(&page).is_err());
    });
}

#[test]
fn ports_at_one_address_of_the_server_and_ranges() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        lan.server_address("10.20.0.2/24");
        host.hello(
            "first",
            "[sandbox.net]\npublish = 10.20.0.2:8080:80 8000-8002:80-82\n",
        );
        let page = "http://10.20.0.2:8080/";
        assert_eq!(client.get_when_up(page, SOON), "Hello, sandbox\n");
        assert!(client.get(&format!("http://{SERVER}:8080/")).is_err());
        assert!(client.get(&format!("http://{SERVER}:8000/")).is_ok());
        host.run(&["first", "plan"])
            .ok()
            .says(&["published_at { 10.20.0.2 . tcp . 8080 : 10.77.0.2 . 80 }"]);
        // Another instance may have the port at another address, and neither all of them nor a part of the range.
        let second = host.example("hello", "1.0");
        for (ports, says) in [
            ("8080:80", "8080/tcp"),
            ("10.20.0.2:8080", "10.20.0.2:8080/tcp"),
            ("8002-8004:80-82", "8002/tcp"),
            ("10.20.0.77:8080:80", "the server has no such address"),
        ] {
            let local = format!("[sandbox.net]\npublish = {ports}\n");
            host.instance_of("second", &second, &local);
            let refused = host.run(&["second", "deploy", "1.0"]);
            assert_ne!(refused.code, 0, "{refused}");
            refused.says(&[says]);
        }
        let local = format!("[sandbox.net]\npublish = {SERVER}:8080:80\n");
        host.instance_of("second", &second, &local);
        host.run(&["second", "deploy", "1.0"]).ok();
        let page = format!("http://{SERVER}:8080/");
        assert_eq!(client.get_when_up(&page, SOON), "Hello, sandbox\n");
        host.run(&["second", "stop"]).ok();
        host.run(&["first", "stop"]).ok();
    });
}

#[test]
fn a_pool_of_ipv6_gives_a_second_address() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        lan.server_address("2001:db8::1/64");
        let client = lan.node("client", &["10.20.0.9/24", "2001:db8::9/64"]);
        client.listen(7000);
        host.server_conf("[server]\npool6 = fd12:3456:789a::/64\n");
        host.hello(
            "hello",
            "[firewall.out.accept]\nclient = [2001:db8::9]:7000\n[sandbox.net]\npublish = 8080:80\n",
        );
        // It is reached over both, and speaks with the server's address.
        for page in [
            &format!("http://{SERVER}:8080/"),
            "http://[2001:db8::1]:8080/",
        ] {
            assert_eq!(client.get_when_up(page, SOON), "Hello, sandbox\n");
        }
        let page =
            Node::server().get("http://[fd12:3456:789a::2]:80/connect?to=[2001:db8::9]:7000");
        let answer = page.unwrap().body;
        assert!(answer.starts_with("connected"), "{answer}");
        let page =
            Node::server().get("http://[fd12:3456:789a::2]:80/connect?to=[2001:db8::9]:7001");
        let answer = page.unwrap().body;
        assert!(answer.contains("refused"), "{answer}");
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn an_application_asks_for_ports_and_for_the_servers_network() {
    on_host(NEEDS, |host| {
        let dir = host.work().join("greedy");
        std::fs::create_dir_all(&dir).unwrap();
        let config = "[daemon.main]\nplatform = exec\ncommand = ./main\nport = 8080\n\
                      [sandbox.net]\nmode = host\npublish = 8080\n[firewall.out]\npolicy = accept\n";
        std::fs::write(dir.join(".metactl"), config).unwrap();
        let checked = host.run(&["check", dir.to_str().unwrap()]);
        checked.says(&[
            "asked for, not granted",
            "publish = 8080",
            "it takes a port of the server",
            "mode = host",
        ]);
    });
}

#[test]
fn ports_are_published_only_where_that_means_something() {
    on_host(NEEDS, |host| {
        let repository = host.example("hello", "1.0");
        for (net, problem) in [
            (
                "ip = 10.20.0.5\npublish = 80",
                "no use with `mode = routed`",
            ),
            ("mode = none\npublish = 80", "no use with `mode = none`"),
            ("publish = 80 80:8080", "must not name port 80/tcp twice"),
            ("publish = 8010-8000", "must be ports from 1 to 65535"),
            ("publish = 8000-8010:80", "as many ports"),
            ("publish = 10.20.0.300:80", "must be ports from 1 to 65535"),
        ] {
            host.instance_of("hello", &repository, &format!("[sandbox.net]\n{net}\n"));
            let refused = host.run(&["hello", "deploy", "1.0"]).fails(78);
            refused.says(&[problem, "nodes/hello.conf:"]);
        }
    });
}

#[test]
fn an_address_that_somebody_has_is_found_before_it_is_used() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        lan.server_address("2001:db8::1/64");
        let other = lan.node("other", &["10.20.0.66/24", "2001:db8::66/64"]);
        eventually(
            "the other machine to have its address for good",
            SOON,
            || {
                let addresses = other.run(&["ip", "-6", "addr", "show", "dev", "eth0"]).ok();
                (!addresses.stdout.contains("tentative")).then_some(())
            },
        );
        host.hello("first", "[sandbox.net]\nip = 2001:db8::5\n");
        let second = host.example("hello", "1.0");
        for (address, holder) in [
            ("10.20.0.66", "answers for it on eth0"),
            ("2001:db8::66", "answers for it on eth0"),
            ("2001:db8::1", "an address of this server itself"),
            ("2001:db8::5", "instance first"),
        ] {
            host.instance_of(
                "second",
                &second,
                &format!("[sandbox.net]\nip = {address}\n"),
            );
            let refused = host.run(&["second", "deploy", "1.0"]);
            assert_ne!(refused.code, 0, "{refused}");
            refused.says(&[address, holder, "nodes/second.conf:"]);
        }
        host.run(&["first", "stop"]).ok();
    });
}
