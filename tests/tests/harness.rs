//! The harness itself: is a private host private, and does it notice what is left behind?

use std::fs;
use std::time::Duration;

use metactl_tests::lan::Node;
use metactl_tests::machine::{self, Machine};
use metactl_tests::on_host;

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
fn what_is_left_behind_is_noticed() {
    on_host(&[], |host| {
        let before = Machine::now(&host.run_dir());
        assert!(
            before
                .differences(&Machine::now(&host.run_dir()))
                .is_empty()
        );
        let notices = |kind: &str| {
            let found = before.differences(&Machine::now(&host.run_dir()));
            assert!(
                found
                    .iter()
                    .any(|line| line.starts_with(&format!("+ {kind}"))),
                "{found:?}"
            );
        };
        let ip = |words: &str| {
            host.command("ip", &words.split(' ').collect::<Vec<_>>())
                .ok();
        };

        ip("link add left type veth peer name peer");
        notices("link: left");
        notices("sysctl: /proc/sys/net/ipv4/conf/left/");
        ip("link delete left");

        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        notices("sysctl: /proc/sys/net/ipv4/conf/all/forwarding = 1");
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();

        let dir = host.run_dir().join("app");
        fs::create_dir_all(&dir).unwrap();
        let dir_text = dir.to_str().unwrap();
        host.command("mount", &["-t", "tmpfs", "left", dir_text])
            .ok();
        notices("mount: ");
        host.command("umount", &[dir_text]).ok();
        fs::write(dir.join("journal"), "").unwrap();
        notices("run file: app/journal");
        fs::remove_dir_all(host.run_dir()).unwrap();

        let cgroups = fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        let hierarchy = cgroups
            .into_iter()
            .find(|path| path.join("cgroup.procs").exists())
            .unwrap();
        fs::create_dir(hierarchy.join("left")).unwrap();
        notices("cgroup: ");
        fs::remove_dir(hierarchy.join("left")).unwrap();

        let mut sleep = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        metactl_tests::eventually("sleep to begin", Duration::from_secs(5), || {
            machine::pids_of(&["sleep 60"]).pop()
        });
        notices("process: ");
        sleep.kill().unwrap();
        sleep.wait().unwrap();
    });
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
