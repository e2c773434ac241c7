//! `metactl doctor`: what would stop instances is found, and the printed commands mend it.

// A failed expectation is a failed test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use metactl_tests::lan::SERVER;
use metactl_tests::needs::{GIT, NFT, Need};
use metactl_tests::{Host, on_host};

const SOON: Duration = Duration::from_secs(15);
const NEEDS: &[Need] = &[GIT, NFT];

/// The findings as JSON.
fn findings(host: &Host) -> Vec<serde_json::Value> {
    let outcome = host.run(&["doctor", "network", "--json"]);
    let facts: serde_json::Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("no JSON ({error}) from {outcome}"));
    assert!(facts["version"].is_number(), "{outcome}");
    let found = facts["findings"].as_array().unwrap().clone();
    assert_eq!(
        outcome.code,
        if found.is_empty() { 0 } else { 2 },
        "{outcome}"
    );
    found
}

/// Runs what is printed as the mending of the one finding. What metactl is asked for, its supervisor may do a moment later.
fn mend(host: &Host, check: &str) {
    let found = findings(host);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["check"], check);
    for command in found[0]["mend"].as_array().unwrap() {
        let command = command.as_str().unwrap();
        match command.strip_prefix("metactl ") {
            Some(words) => host.run(&words.split(' ').collect::<Vec<_>>()).ok(),
            None => host.command("sh", &["-c", command]).ok(),
        };
    }
    let begun = Instant::now();
    while !findings(host).is_empty() && begun.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(findings(host), Vec::<serde_json::Value>::new());
}

#[test]
fn what_stops_instances_is_found_and_mended_by_what_is_printed() {
    on_host(NEEDS, |host| {
        let lan = host.lan();
        let client = lan.node("client", &["10.20.0.9/24"]);
        host.run(&["doctor"])
            .ok()
            .says(&["nothing stops instances", "eth0"]);

        // A firewall of the administrator's own: told when something is deployed, and by doctor.
        let closed = "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }";
        host.command("nft", &[closed]).ok();
        let repository = host.example("hello", "1.0");
        host.instance_of("hello", &repository, "[sandbox.net]\npublish = 8080:80\n");
        host.run(&["hello", "deploy", "1.0"])
            .ok()
            .says(&["the rules of nftables drop", "metactl doctor network"]);
        let page = format!("http://{SERVER}:8080/");
        assert!(client.get(&page).is_err());
        let told = host.run(&["doctor", "network"]).fails(2);
        told.says(&[
            "nft list chain inet filter forward",
            "mend:",
            "insert rule inet filter forward iifname",
            "changed by metactl",
            "net/ipv4/conf/eth0/forwarding",
        ]);
        mend(host, "forward");
        client.get_when_up(&page, SOON);
        host.command("nft", &["delete", "table", "inet", "filter"])
            .ok();

        // Somebody flushes everything.
        host.command("nft", &["flush", "ruleset"]).ok();
        mend(host, "table");
        client.get_when_up(&page, SOON);
        // Or only what stands in the table.
        host.command("nft", &["flush", "table", "inet", "metactl"])
            .ok();
        mend(host, "table");
        client.get_when_up(&page, SOON);
        // Who asks for it learns what it was.
        host.command("nft", &["flush", "table", "inet", "metactl"])
            .ok();
        host.run(&["mend"])
            .ok()
            .says(&["hello: network: ", "had lost rules"]);
        host.run(&["mend"]).ok().says(&["nothing was missing"]);
        client.get_when_up(&page, SOON);
        // Also when another command is at work on the instance.
        let lock = std::fs::File::create(host.run_dir().join("locks/hello.lock")).unwrap();
        lock.lock().unwrap();
        host.command("nft", &["flush", "table", "inet", "metactl"])
            .ok();
        let asked = host.spawn(&["mend"]);
        std::thread::sleep(Duration::from_millis(500));
        drop(lock);
        asked.wait(SOON).ok().says(&["had lost rules"]);
        host.run(&["hello", "stop"]).ok();
    });
}

#[test]
fn an_address_that_two_machines_have_is_found() {
    on_host(NEEDS, |host| {
        let other = host.lan().node("other", &["10.20.0.9/24"]);
        host.hello("hello", "[sandbox.net]\nip = 10.20.0.5\n");
        assert_eq!(findings(host), Vec::<serde_json::Value>::new());
        other
            .run(&["ip", "address", "add", "10.20.0.5/24", "dev", "eth0"])
            .ok();
        let found = findings(host);
        assert_eq!(found.len(), 1, "{found:#?}");
        let what = found[0]["what"].as_str().unwrap();
        assert!(
            what.contains("answers for 10.20.0.5 of instance hello on eth0"),
            "{what}"
        );
        host.run(&["hello", "stop"]).ok();
    });
}
