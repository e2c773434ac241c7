//! Whatever would stop instances is made for real, found, mended by the command that is told, and gone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::net::IpAddr;
use std::path::Path;

use common::{MACHINE, World, names, reject, spec, world};
use metactl_bundles::network::{Mode, parse_publish};
use metactl_netns::doctor::{Finding, Subject, examine, glance, mend_legacy, mend_legacy_input};
use metactl_netns::server;

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";

struct Patient<'a> {
    world: &'a World,
    conf: std::path::PathBuf,
    pool: &'a str,
    pool6: Option<&'a str>,
    addresses: Vec<(String, IpAddr)>,
    uplink: Option<&'a str>,
}

impl<'a> Patient<'a> {
    fn new(world: &'a World) -> Patient<'a> {
        Patient {
            world,
            conf: world.dir.path().join("metactl.conf"),
            pool: "10.77.0.0/16",
            pool6: None,
            addresses: Vec::new(),
            uplink: None,
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let dir = self.world.server_dir();
        let subject = Subject {
            server_dir: &dir,
            uplink: self.uplink,
            pool: self.pool.parse().unwrap(),
            pool6: self.pool6.map(|pool| pool.parse().unwrap()),
            conf: &self.conf,
            addresses: self.addresses.clone(),
            refresh: ":",
        };
        self.world.server.run(|| examine(&subject)).unwrap()
    }

    /// The one finding there is.
    #[track_caller]
    fn one(&self, check: &str) -> Finding {
        let found = self.findings();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(found[0].check, check, "{found:#?}");
        assert!(
            !found[0].what.is_empty() && !found[0].why.is_empty() && !found[0].place.is_empty()
        );
        found[0].clone()
    }

    /// Runs the commands that are told; then nothing is found any more.
    #[track_caller]
    fn mend(&self, finding: &Finding) {
        assert!(!finding.mend.is_empty(), "{finding:#?}");
        for command in &finding.mend {
            self.world.server.sh(command);
        }
        let left = self.findings();
        assert!(left.is_empty(), "{finding:#?} {left:#?}");
    }
}

#[test]
fn a_server_in_order_has_no_findings() {
    let Some(world) = world("a_server_in_order_has_no_findings") else {
        return;
    };
    let patient = Patient::new(&world);
    assert_eq!(patient.findings(), []);
    let _app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    let mut pooled = spec("pooled", Mode::Nat, &["10.77.0.2"]);
    pooled.publish = parse_publish("8080:80").unwrap();
    let _pooled = world.start(pooled, &names(&[]));
    let addresses = [("myapp", APP), ("myapp", APP6), ("pooled", "10.77.0.2")];
    let patient = Patient {
        addresses: addresses
            .map(|(name, address)| (name.into(), address.parse().unwrap()))
            .to_vec(),
        ..patient
    };
    assert_eq!(patient.findings(), []);
    assert_eq!(world.server.run(|| glance(None)).unwrap(), []);
}

#[test]
fn rules_of_others_at_the_forward_hook_are_found() {
    let Some(world) = world("rules_of_others_at_the_forward_hook_are_found") else {
        return;
    };
    let patient = Patient::new(&world);
    let app = world.start(spec("myapp", Mode::Routed, &[APP]), &names(&[]));
    app.ns.serve_tcp(80);
    world.machine.serve_tcp(80);
    let passes =
        || world.machine.connect(APP, 80).0.is_ok() && app.ns.connect(MACHINE, 80).0.is_ok();
    let mut found = 0;
    for (owner, rules) in [
        // As Docker leaves it.
        (
            "Docker",
            "iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; \
                    iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
                    iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        ),
        ("iptables", "iptables -P FORWARD DROP"),
        (
            "iptables",
            "iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -A FORWARD -j REJECT",
        ),
        (
            "nftables",
            "nft 'table inet mine { chain passing { type filter hook forward priority 5; policy drop; \
                      ct state established,related accept; iifname \"lan*\" accept; }; }'",
        ),
        (
            "nftables",
            "nft 'table ip mine { chain rest { counter drop; }; \
                      chain passing { type filter hook forward priority 5; iif != \"lo\" jump rest; }; }'",
        ),
    ] {
        assert!(passes());
        world.server.sh(rules);
        assert!(!passes(), "{owner}");
        let finding = patient.one("forward");
        assert!(finding.what.contains(owner), "{finding:#?}");
        assert!(!world.server.run(|| glance(None)).unwrap().is_empty());
        patient.mend(&finding);
        assert!(passes(), "{owner}: {}", world.server.sh("nft list ruleset"));
        found += 1;
        world.server.sh("iptables -P FORWARD ACCEPT; iptables -F; iptables -X; nft delete table inet mine 2>/dev/null; nft delete table ip mine 2>/dev/null; true");
    }
    assert_eq!(found, 5);
    // What cannot be mended here, as the program is not: at least it is told whose rules they are.
    for (owner, table) in [("firewalld", "inet firewalld"), ("ufw", "ip filter")] {
        let jump = if owner == "ufw" {
            "chain ufw-before-forward { }; "
        } else {
            ""
        };
        world.server.sh(&format!(
            "nft 'table {table} {{ {jump}chain filter_FORWARD {{ type filter hook forward priority 10; reject; }}; }}'"
        ));
        let finding = patient.one("forward");
        assert!(
            finding.what.contains(owner)
                && finding
                    .mend
                    .iter()
                    .all(|line| line.contains("m-+") || owner == "firewalld")
        );
        world.server.sh(&format!("nft delete table {table}"));
    }
    // What drops only some of it is no finding: nobody can tell whom it is for.
    world.server.sh(
        "nft 'table inet mine { chain passing { type filter hook forward priority 5; tcp dport 25 drop; ip saddr 10.0.0.0/8 drop; }; }'",
    );
    assert_eq!(patient.findings(), []);
}

#[test]
fn rules_that_drop_questions_for_names_are_found() {
    let Some(world) = world("rules_that_drop_questions_for_names_are_found") else {
        return;
    };
    let patient = Patient::new(&world);
    let mut guarded = spec("myapp", Mode::Routed, &[APP, APP6]);
    guarded.out = reject(&[]);
    let app = world.start(guarded, &names(&[]));
    // Somebody who answers where the resolver does.
    for at in ["169.254.1.1:253", "[fd9b:6be1:3d5a::53]:253"] {
        let socket = world.server.run(|| std::net::UdpSocket::bind(at).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], from).unwrap_or_default();
            }
        });
    }
    let asks = |to: &str| app.ns.ask_udp(to, 53).is_ok();
    let passes = || asks("10.9.9.9") && asks("2001:db8:f::53");
    let answered = "ct state established,related accept; iif \"lo\" accept; \
                    meta l4proto ipv6-icmp accept";
    let mut found = 0;
    for (owner, rules) in [
        ("iptables", "iptables -P INPUT DROP".to_owned()),
        (
            "iptables",
            "iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -A INPUT -p tcp --dport 22 -j ACCEPT; \
             iptables -A INPUT -j REJECT"
                .to_owned(),
        ),
        (
            "nftables",
            format!("nft 'table inet mine {{ chain coming {{ type filter hook input priority 5; policy drop; {answered}; }}; }}'"),
        ),
        (
            "nftables",
            format!("nft 'table ip6 mine {{ chain coming {{ type filter hook input priority 5; {answered}; udp dport 53 accept; drop; }}; }}'"),
        ),
    ] {
        assert!(passes(), "before {rules}");
        world.server.sh(&rules);
        assert!(!passes(), "{rules}");
        let finding = patient.one("resolver");
        assert!(finding.what.contains(owner), "{finding:#?}");
        patient.mend(&finding);
        assert!(passes(), "{rules}: {}", world.server.sh("nft list ruleset"));
        found += 1;
        world.server.sh("iptables -P INPUT ACCEPT; iptables -F; nft delete table inet mine 2>/dev/null; nft delete table ip6 mine 2>/dev/null; true");
    }
    assert_eq!(found, 4);
    // Rules for other services, and one for everything of instances, are none.
    world.server.sh(
        "nft 'table inet mine { chain coming { type filter hook input priority 5; policy drop; \
         tcp dport 22 drop; iifgroup 28003 accept; }; }'",
    );
    assert_eq!(patient.findings(), []);
    let closed = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n";
    let finding = mend_legacy_input("iptables-legacy", closed).unwrap();
    assert_eq!(
        finding.mend[1],
        "iptables-legacy -I INPUT -i m-+ -d 169.254.1.1 -p tcp --dport 253 -j ACCEPT"
    );
    let rule = |protocol: &str| {
        format!(
            "-A INPUT -d 169.254.1.1/32 -i m-+ -p {protocol} -m {protocol} --dport 253 -j ACCEPT\n"
        )
    };
    let mended = format!("{closed}{}{}", rule("udp"), rule("tcp"));
    assert!(mend_legacy_input("iptables-legacy", &mended).is_none());
    assert!(mend_legacy_input("iptables-legacy", &closed.replace("DROP", "ACCEPT")).is_none());
}

#[test]
fn ipv6_has_rules_of_its_own() {
    let Some(world) = world("ipv6_has_rules_of_its_own") else {
        return;
    };
    let patient = Patient::new(&world);
    world.server.sh("ip6tables -P FORWARD DROP");
    let finding = patient.one("forward");
    assert!(finding.mend[0].starts_with("ip6tables "), "{finding:#?}");
    patient.mend(&finding);
}

#[test]
fn what_iptables_keeps_for_itself_is_read_from_its_program() {
    let closed = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n";
    let finding = mend_legacy("iptables-legacy", closed).unwrap();
    assert_eq!(
        finding.mend[0],
        "iptables-legacy -I FORWARD -i m-+ -j ACCEPT"
    );
    assert!(mend_legacy("iptables-legacy", &closed.replace("DROP", "ACCEPT")).is_none());
    let mended =
        format!("{closed}-A FORWARD -o m-+ -j ACCEPT\n-A FORWARD -i m-+ -j ACCEPT\nCOMMIT\n");
    assert!(mend_legacy("iptables-legacy", &mended).is_none());
    let docker = format!("{closed}:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n");
    assert!(
        mend_legacy("iptables-legacy", &docker).unwrap().mend[1].contains("-I DOCKER-USER -o m-+")
    );
}

#[test]
fn settings_that_were_taken_back_are_found() {
    let Some(world) = world("settings_that_were_taken_back_are_found") else {
        return;
    };
    let patient = Patient::new(&world);
    let app = world.start(spec("myapp", Mode::Routed, &[APP, APP6]), &names(&[]));
    app.ns.serve_tcp(80);
    for key in [
        "net/ipv4/conf/eth0/forwarding",
        "net/ipv4/neigh/eth0/proxy_delay",
        "net/ipv6/conf/eth0/proxy_ndp",
        "net/ipv6/conf/eth0/forwarding",
    ] {
        let wrong = if key.ends_with("delay") { 80 } else { 0 };
        world.server.sh(&format!("echo {wrong} > /proc/sys/{key}"));
        let finding = patient.one("sysctl");
        assert!(finding.place.ends_with(key), "{finding:#?}");
        patient.mend(&finding);
    }
    for (address, option) in [(APP, ""), (APP6, "-6")] {
        world.server.sh(&format!(
            "ip {option} neighbour del proxy {address} dev eth0"
        ));
        let finding = patient.one("proxy");
        assert!(finding.what.contains(address));
        patient.mend(&finding);
        assert!(world.machine.connect(address, 80).0.is_ok());
    }
    // The table: removed, and emptied in part. Its mending is one command for everything that is recorded.
    for accident in ["nft flush ruleset", "nft flush chain inet metactl sources"] {
        world.server.sh(accident);
        let finding = patient.one("table");
        world.server.sh(&finding.mend[0]);
        world
            .server
            .run(|| server::refresh(&world.server_dir()))
            .unwrap();
        assert_eq!(patient.findings(), []);
    }
}

#[test]
fn settings_that_get_in_the_way_are_found() {
    let Some(world) = world("settings_that_get_in_the_way_are_found") else {
        return;
    };
    let mut patient = Patient::new(&world);
    world.server.sh("echo 1 > /proc/sys/net/ipv6/conf/eth0/forwarding; echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra");
    let finding = patient.one("accept_ra");
    patient.mend(&finding);
    // Two ways out, sources checked strictly.
    world.server.sh(
        "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter; ip link add up1 type bridge; ip addr add 10.6.0.1/24 dev up1; \
         ip link set up1 up; ip route add default via 10.6.0.9 dev up1 metric 50",
    );
    let found = patient.findings();
    assert!(
        found.len() == 2 && found.iter().all(|one| one.check == "rp_filter"),
        "{found:#?}"
    );
    world.server.sh(&found[0].mend[0]);
    patient.mend(&found[1]);
    // IPv6 switched off.
    patient.addresses = vec![("myapp".into(), APP6.parse().unwrap())];
    world
        .server
        .sh("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    let finding = patient.one("sysctl");
    assert!(finding.what.contains("IPv6 is switched off"));
    patient.mend(&finding);
}

#[test]
fn addresses_that_others_have_are_found() {
    let Some(world) = world("addresses_that_others_have_are_found") else {
        return;
    };
    let mut patient = Patient::new(&world);
    patient.addresses = vec![
        ("myapp".into(), APP.parse().unwrap()),
        ("myapp".into(), APP6.parse().unwrap()),
    ];
    for (accident, words) in [
        (
            "ip addr add 198.51.100.5/24 dev eth0",
            "the server itself has 198.51.100.5",
        ),
        (
            "ip -6 addr add 2001:db8:1::5/64 dev eth0 nodad",
            "the server itself has 2001:db8:1::5",
        ),
        ("ip route add 198.51.100.5 dev eth0", "over eth0"),
        ("ip route add blackhole 198.51.100.5", "blackhole"),
    ] {
        world.server.sh(accident);
        let finding = patient.one("address");
        assert!(finding.what.contains(words), "{finding:#?}");
        patient.mend(&finding);
    }
    // A network of the server where the pool is.
    let mut patient = Patient::new(&world);
    std::fs::write(
        &patient.conf,
        "[server]\nsite = prod\npool = 10.77.0.0/16\n",
    )
    .unwrap();
    world.server.sh("ip addr add 10.77.3.1/24 dev eth0");
    let finding = patient.one("pool");
    assert!(
        finding.what.contains("10.77.3.0/24 on eth0"),
        "{finding:#?}"
    );
    for command in &finding.mend {
        world.server.sh(command);
    }
    let text = std::fs::read_to_string(&patient.conf).unwrap();
    let server = metactl_bundles::server::Server::parse(Path::new("metactl.conf"), &text).unwrap();
    assert_eq!(server.site.as_deref(), Some("prod"));
    let pool = server.pool.to_string();
    assert_ne!(pool, "10.77.0.0/16");
    patient.pool = &pool;
    assert_eq!(patient.findings(), []);
    // The same over IPv6.
    patient.pool6 = Some("fd77:1:2::/64");
    world
        .server
        .sh("ip addr add fd77:1:2:0:3::1/80 dev eth0 nodad");
    let finding = patient.one("pool");
    assert!(
        finding.what.contains("fd77:1:2:0:3::/80 on eth0"),
        "{finding:#?}"
    );
    for command in &finding.mend {
        world.server.sh(command);
    }
    let text = std::fs::read_to_string(&patient.conf).unwrap();
    let server = metactl_bundles::server::Server::parse(Path::new("metactl.conf"), &text).unwrap();
    let pool6 = server.pool6.unwrap().to_string();
    patient.pool6 = Some(&pool6);
    assert_eq!(patient.findings(), []);
    // An uplink that there is not.
    patient.uplink = Some("eth7");
    let finding = patient.one("uplink");
    std::fs::write(&patient.conf, "[server]\nuplink = eth7\n").unwrap();
    world.server.sh(&finding.mend[0]);
    assert_eq!(
        std::fs::read_to_string(&patient.conf).unwrap(),
        "[server]\n"
    );
}
