//! Networks: of a container, and pinned ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;

use common::{Host, both, enter, eventually, processes, stderr, stdout};
use serde_json::{Value, json};

/// The host answers on two ports of 198.51.100.1; the sandbox may reach one of them by name.
fn host_with_services() -> Option<Host> {
    let host = enter()?;
    let done = std::process::Command::new("sh")
        .arg("-c")
        .arg(
            "ip link set lo up && ip link add up0 type veth peer name up1 && ip link set up1 up && \
             ip addr add 198.51.100.1/24 dev up0 && ip link set up0 up && \
             ip route add default via 198.51.100.254",
        )
        .status();
    if !done.is_ok_and(|status| status.success()) {
        eprintln!("SKIP: needs `ip` of iproute2 and veth");
        return None;
    }
    for port in [7001, 7002] {
        let listener = TcpListener::bind(("198.51.100.1", port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.write_all(format!("port {port}\n").as_bytes());
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read(&mut [0; 16]);
            }
        });
    }
    Some(host)
}

fn spec(address: &str) -> Value {
    json!({
        "format": 1,
        "instance": "shop",
        "mode": "nat",
        "addresses": [address],
        "pool": "10.77.0.0/16",
        "out": {"policy": "reject", "accept": [
            {"name": "api", "peer": {"host": "api.example.org"}, "ports": [{"first": 7001, "last": 7001}]},
        ]},
        "in": {"policy": "accept", "accept": []},
    })
}

fn files(host: &Host, address: &str) -> (PathBuf, PathBuf) {
    let (network, names) = (host.path("network.json"), host.path("names.json"));
    fs::write(&network, spec(address).to_string()).unwrap();
    fs::write(
        &names,
        json!({"api.example.org": ["198.51.100.1"]}).to_string(),
    )
    .unwrap();
    (network, names)
}

/// The devices there are. Not their state: the kernel brings that up to date a while after a change.
fn links() -> Vec<String> {
    let output = std::process::Command::new("ip")
        .args(["-o", "link"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let device = |line: &str| line.split(": ").take(2).collect::<Vec<_>>().join(": ");
    text.lines().map(device).collect()
}

const PROBE: &str = "ip -4 addr | grep inet; nc 198.51.100.1 7001 < /dev/null; \
                     nc 198.51.100.1 7002 < /dev/null 2>&1; true";

#[test]
fn a_container_has_an_address_and_a_firewall_from_its_first_instruction() {
    let Some(host) = host_with_services() else {
        return;
    };
    let (network, names) = files(&host, "10.77.0.2");
    let server = host.path("server");
    let options = [
        "--network",
        network.to_str().unwrap(),
        "--names",
        names.to_str().unwrap(),
        "--server-dir",
        server.to_str().unwrap(),
    ];
    let before = links();
    for round in 0..5 {
        let config = host.config("net", PROBE);
        let output = host.run_command("net", &config, &options).output().unwrap();
        let text = stdout(&output);
        assert!(
            text.contains("inet 10.77.0.2/32"),
            "{round}: {}",
            both(&output)
        );
        assert!(text.contains("port 7001"), "{round}: {}", both(&output));
        assert!(
            text.contains("refused") && !text.contains("port 7002"),
            "{}",
            both(&output)
        );
        host.assert_clean();
        assert!(metactl_netns::server::users(&server).unwrap().is_empty());
    }
    eventually("the devices are gone", || links() == before);
    // A network that cannot be made leaves nothing either.
    fs::write(&network, spec("198.51.100.1").to_string()).unwrap();
    let output = host
        .run_command("net", &host.config("net", PROBE), &options)
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(0), "{}", both(&output));
    host.assert_clean();
    eventually("the devices are gone", || links() == before);
}

#[test]
fn a_pinned_network_is_joined_and_taken_down() {
    let Some(host) = host_with_services() else {
        return;
    };
    let (network, names) = files(&host, "10.77.0.3");
    let (server, pin) = (host.path("server"), host.path("pin/netns"));
    let common = [
        "--server-dir",
        server.to_str().unwrap(),
        "--pin",
        pin.to_str().unwrap(),
        "--user",
        "shop",
    ];
    let up = |host: &Host| {
        let mut words = vec!["network", "up", "--spec", network.to_str().unwrap()];
        words.extend(["--names", names.to_str().unwrap()]);
        words.extend(common);
        host.must(&words)
    };
    let down = |host: &Host| {
        let mut words = vec!["network", "down"];
        words.extend(common);
        host.must(&words)
    };
    let before = links();
    down(&host);
    up(&host);
    let made = links();
    assert_ne!(made, before);
    up(&host);
    assert_eq!(links(), made, "a second `up` changes nothing");
    let config = host.config("joined", PROBE);
    for _ in 0..2 {
        let options = ["--netns", pin.to_str().unwrap()];
        let output = host
            .run_command("joined", &config, &options)
            .output()
            .unwrap();
        let text = stdout(&output);
        assert!(text.contains("inet 10.77.0.3/32"), "{}", both(&output));
        assert!(
            text.contains("port 7001") && !text.contains("port 7002"),
            "{}",
            both(&output)
        );
    }
    // Other files: it is made anew.
    fs::write(&network, spec("10.77.0.4").to_string()).unwrap();
    up(&host);
    let options = ["--netns", pin.to_str().unwrap()];
    let output = host
        .run_command("joined", &config, &options)
        .output()
        .unwrap();
    assert!(
        stdout(&output).contains("inet 10.77.0.4/32"),
        "{}",
        both(&output)
    );
    down(&host);
    down(&host);
    eventually("the devices are gone", || links() == before);
    assert!(fs::read_dir(host.path("pin")).unwrap().next().is_none());
    let output = host
        .run_command("joined", &config, &options)
        .output()
        .unwrap();
    assert!(stderr(&output).contains("pin/netns"), "{}", both(&output));
    host.assert_clean();
}

#[test]
fn a_network_command_killed_at_any_moment_is_taken_down_whole() {
    let Some(host) = host_with_services() else {
        return;
    };
    let (network, names) = files(&host, "10.77.0.5");
    let (server, pin) = (host.path("server"), host.path("pin/netns"));
    let common = [
        "--server-dir",
        server.to_str().unwrap(),
        "--pin",
        pin.to_str().unwrap(),
        "--user",
        "shop",
    ];
    let before = links();
    for round in 0..40u64 {
        let mut command = host.runtime(&["network", "up", "--spec", network.to_str().unwrap()]);
        command
            .args(["--names", names.to_str().unwrap()])
            .args(common);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 150));
        let _ = child.kill();
        child.wait().unwrap();
        let mut words = vec!["network", "down"];
        words.extend(common);
        host.must(&words);
        eventually("the devices are gone", || links() == before);
        assert!(metactl_netns::server::users(&server).unwrap().is_empty());
    }
    assert!(processes().is_empty());
    host.assert_clean();
}

#[test]
fn a_device_of_the_host_moves_in_with_its_addresses() {
    let Some(host) = enter() else { return };
    let ip = |words: &[&str]| {
        let status = std::process::Command::new("ip")
            .args(words)
            .status()
            .unwrap();
        assert!(status.success(), "ip {words:?}");
    };
    ip(&[
        "link", "add", "dev0", "type", "veth", "peer", "name", "dev1",
    ]);
    ip(&[
        "link",
        "set",
        "dev0",
        "mtu",
        "1400",
        "address",
        "02:00:00:00:00:07",
        "up",
    ]);
    ip(&["address", "add", "198.51.100.9/24", "dev", "dev0"]);
    ip(&["address", "add", "2001:db8::9/64", "dev", "dev0", "nodad"]);
    let script = "ip address show dev inside; sleep 0.1";
    let mut config = host.config("device", script);
    config["linux"]["netDevices"] = serde_json::json!({"dev0": {"name": "inside"}});
    let output = host.run("device", &config);
    let text = common::stdout(&output);
    assert!(output.status.success(), "{}", common::both(&output));
    for wanted in [
        "mtu 1400",
        "02:00:00:00:00:07",
        "198.51.100.9/24",
        "2001:db8::9/64",
        "UP",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    // It is gone with the container: a virtual device has no home to return to. That of a container that
    // could not be launched comes back, from a namespace of others as well.
    let output = host.run("device", &config);
    assert!(
        common::stderr(&output).contains("network device dev0"),
        "{}",
        common::both(&output)
    );
    ip(&[
        "link", "add", "dev0", "type", "veth", "peer", "name", "dev2",
    ]);
    ip(&["address", "add", "198.51.100.9/24", "dev", "dev0"]);
    ip(&["link", "set", "dev0", "up"]);
    let mut others = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", "echo; exec sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut word = [0];
    std::io::Read::read_exact(others.stdout.as_mut().unwrap(), &mut word).unwrap();
    let theirs = format!("/proc/{}/ns/net", others.id());
    let namespaces = config["linux"]["namespaces"].clone();
    for path in [None, Some(theirs.as_str())] {
        let mut config = config.clone();
        config["process"]["args"] = serde_json::json!(["/no/such/program"]);
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            if let (Some(path), Some("network")) = (path, namespace["type"].as_str()) {
                namespace["path"] = path.into();
            }
        }
        let output = host.run("device", &config);
        assert!(
            common::stderr(&output).contains("/no/such/program"),
            "{}",
            common::both(&output)
        );
        let show = std::process::Command::new("ip")
            .args(["address", "show", "dev", "dev0"])
            .output()
            .unwrap();
        let text = common::stdout(&show);
        assert!(text.contains("198.51.100.9/24"), "{path:?}: {text}");
    }
    others.kill().unwrap();
    others.wait().unwrap();
    ip(&["link", "delete", "dev0"]);
    config["linux"]["namespaces"] = namespaces;
    let output = host.run("device", &config);
    assert!(
        common::stderr(&output).contains("network device dev0"),
        "{}",
        common::both(&output)
    );
    config["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|ns| ns["type"] != "network");
    let output = host.run("device", &config);
    assert!(
        common::stderr(&output).contains("linux.netDevices"),
        "{}",
        common::both(&output)
    );
    host.assert_clean();
}
