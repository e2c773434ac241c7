//! `network up` and `network down` are killed at the entry of system calls from all over them, and afterwards `up`
//! makes the network whole, or `down` takes all of it away. At no point is there a namespace from which anything
//! could leave without the policy: it is complete before the device inside goes up.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
#[path = "common/tracer.rs"]
mod tracer;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Host, both, enter, eventually, processes, reap};
use serde_json::json;
use tracer::Point;

/// The most points of a process, unless all are wanted (`METACTL_KILL_POINTS=all`).
const SAMPLE: usize = 40;
const MINIMUM: usize = 30;

struct Scene {
    host: Host,
    spec: PathBuf,
    server: PathBuf,
    pin: PathBuf,
}

impl Scene {
    fn new() -> Option<Scene> {
        let host = enter()?;
        let wire = "ip link set lo up && ip link add up0 type veth peer name up1 && ip link set up1 up && \
                    ip addr add 198.51.100.1/24 dev up0 && ip -6 addr add 2001:db8:1::1/64 dev up0 nodad && \
                    ip link set up0 up && ip route add default via 198.51.100.254 && \
                    ip -6 route add default via 2001:db8:1::fe";
        let made = Command::new("sh").args(["-c", wire]).status();
        if !made.is_ok_and(|status| status.success()) {
            common::skip("needs `ip` of iproute2 and veth");
            return None;
        }
        let spec = host.path("network.json");
        let text = json!({
            "format": 1,
            "instance": "shop",
            "mode": "routed",
            "addresses": ["198.51.100.5", "2001:db8:1::5"],
            "out": {"policy": "reject", "accept": [
                {"name": "api", "peer": {"net": "198.51.100.9/32"}, "ports": [{"first": 443, "last": 443}]},
            ]},
            "in": {"policy": "reject", "accept": []},
        });
        fs::write(&spec, text.to_string()).unwrap();
        let (server, pin) = (host.path("server"), host.path("pin/netns"));
        Some(Scene {
            host,
            spec,
            server,
            pin,
        })
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = self.host.runtime(&["network", verb]);
        if verb == "up" {
            command.arg("--spec").arg(&self.spec);
        }
        command.arg("--server-dir").arg(&self.server);
        command.arg("--pin").arg(&self.pin).args(["--user", "shop"]);
        command
    }

    fn must(&self, verb: &str, when: &str) {
        let output = self.command(verb).output().unwrap();
        assert!(output.status.success(), "{when}: {verb}: {}", both(&output));
    }

    /// What runs inside the pinned namespace says; none when nothing is pinned.
    fn inside(&self, line: &str) -> Option<String> {
        let types = Command::new("stat")
            .args(["-f", "-c", "%T"])
            .arg(&self.pin)
            .output()
            .unwrap();
        if String::from_utf8_lossy(&types.stdout).trim() != "nsfs" {
            return None;
        }
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.pin.display()));
        let output = command.args(["sh", "-c", line]).output().unwrap();
        Some(both(&output))
    }

    /// Where something could leave there is the whole policy.
    fn assert_never_open(&self, when: &str) {
        let Some(text) = self.inside("ip -o link show up; echo; nft list ruleset") else {
            return;
        };
        if text.contains("eth0") {
            for part in [
                "hook output priority",
                "policy drop",
                "goto refuse_out",
                "198.51.100.9",
            ] {
                assert!(
                    text.contains(part),
                    "{when}: a device without the policy: {text}"
                );
            }
        }
    }

    fn assert_whole(&self, when: &str) {
        let text = self
            .inside("ip addr; ip route; ip -6 route; nft list ruleset")
            .unwrap();
        for part in [
            "198.51.100.5/32",
            "2001:db8:1::5/128",
            "default via 169.254.1.1",
            "default via fe80::1",
            "goto refuse_out",
        ] {
            assert!(text.contains(part), "{when}: no {part}: {text}");
        }
        let server = picture(&self.host)
            .into_iter()
            .collect::<Vec<_>>()
            .join("\n");
        for part in [
            "198.51.100.5 dev m-shop",
            "2001:db8:1::5 dev m-shop",
            "198.51.100.5 dev up0",
            "table inet metactl",
        ] {
            assert!(server.contains(part), "{when}: no {part}: {server}");
        }
    }
}

/// What may be left on the server: files, mounts, devices, routes, neighbours, rules, settings.
fn picture(host: &Host) -> BTreeSet<String> {
    fn walk(dir: &Path, all: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("rootfs") {
                continue;
            }
            all.insert(path.display().to_string());
            if entry.file_type().unwrap().is_dir() {
                walk(&path, all);
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(&host.path(""), &mut all);
    let line = "cat /proc/self/mountinfo; ip -br link; ip -br addr; ip route; ip -6 route; ip neigh show proxy; \
                ip -6 neigh show proxy; nft list ruleset; \
                for f in /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/*forwarding \
                /proc/sys/net/ipv6/conf/*/proxy_ndp /proc/sys/net/ipv4/neigh/*/proxy_delay; do echo $f $(cat $f); done";
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    all.extend(
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned),
    );
    all
}

/// Kills `verb` at points from all over it; `before` brings the scene to where it begins.
fn scenario(scene: &Scene, verb: &str, before: &dyn Fn()) {
    // What the first command makes and every later one keeps.
    scene.must("up", "first");
    scene.must("down", "first");
    eventually("the devices are gone", || !links().contains("m-shop"));
    let clean = picture(&scene.host);
    before();
    let trace = tracer::run(&scene.command(verb), None);
    scene.must("down", "undisturbed");
    eventually("the devices are gone", || !links().contains("m-shop"));
    let all = std::env::var("METACTL_KILL_POINTS").is_ok_and(|value| value == "all");
    let mut points = 0;
    for (process, &calls) in trace.calls.iter().enumerate() {
        let take = if all { calls } else { calls.min(SAMPLE) };
        for at in 0..take {
            let point = Point {
                process,
                call: 1 + at * calls / take,
                hold: false,
            };
            let when = format!("{verb} {point:?}");
            before();
            let killed = tracer::run(&scene.command(verb), Some(point));
            points += usize::from(killed.reached);
            scene.assert_never_open(&when);
            // Every second time the next command wants the network, else it wants none.
            if at % 2 == 0 {
                scene.must("up", &when);
                scene.assert_never_open(&when);
                scene.assert_whole(&when);
            }
            scene.must("down", &when);
            reap();
            eventually("the devices are gone", || !links().contains("m-shop"));
            let after = picture(&scene.host);
            let left: Vec<_> = after.symmetric_difference(&clean).collect();
            assert!(left.is_empty(), "{when}: left or gone: {left:#?}");
        }
    }
    println!(
        "network {verb}: {points} points of {} system calls",
        trace.calls.iter().sum::<usize>()
    );
    assert!(points >= MINIMUM, "only {points} points");
    assert!(processes().is_empty());
    scene.host.assert_clean();
}

fn links() -> String {
    let output = Command::new("ip").args(["-o", "link"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn slow_network_up() {
    let Some(scene) = Scene::new() else { return };
    scenario(&scene, "up", &|| {});
}

#[test]
fn slow_network_down() {
    let Some(scene) = Scene::new() else { return };
    scenario(&scene, "down", &|| scene.must("up", "before"));
}
