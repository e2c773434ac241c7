//! The harness itself: is a private host private, and does it notice what is left behind?

use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::{machine, on_host};

#[test]
fn a_private_host_is_private() {
    on_host(&[], |host| {
        let links = std::fs::read_dir("/sys/class/net").unwrap().count();
        assert_eq!(links, 1, "only the loopback");
        assert!(
            machine::processes().is_empty(),
            "{:?}",
            machine::processes()
        );
        assert_eq!(host.command("hostname", &[]).stdout, "server1\n");
        host.name("10.20.0.9", "name.example.org");
        host.command("getent", &["hosts", "name.example.org"])
            .ok()
            .says(&["10.20.0.9"]);
    });
}

#[test]
#[should_panic(expected = "failed in its private host")]
fn what_is_left_behind_fails_a_test() {
    on_host(&[], |host| {
        host.command("ip", &["link", "add", "left", "type", "dummy"])
            .ok();
    });
    // Where the test is skipped there is nothing to fail.
    assert!(
        !nix::unistd::geteuid().is_root(),
        "failed in its private host: needs root"
    );
}

#[test]
fn hosts_of_a_lan_reach_each_other() {
    on_host(&[], |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        let other = lan.node("other", &["10.20.0.20/24"]);
        other.listen(3306);
        client.connect("10.20.0.20:3306").unwrap();
        assert!(client.connect("10.20.0.20:3307").is_err());
        client
            .run(&["ping", "-c", "1", "-W", "2", "10.20.0.1"])
            .ok();
        Node::server().listen(80);
        assert!(client.connect("10.20.0.1:80").unwrap() < Duration::from_secs(1));
    });
}
