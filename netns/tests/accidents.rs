//! What happens to the network of a server while instances run: reloads of other firewalls, devices that go down or
//! get other names, routes, addresses and settings that vanish. The instance is never open meanwhile, and mending puts
//! everything back and says what it was.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use common::{MACHINE, MACHINE6, SERVER, SERVER6, Sandbox, World, names, reject, spec, world};
use metactl_bundles::network::Mode;
use metactl_netns::mend::mend;
use metactl_netns::server;

const APP: &str = "198.51.100.5";
const APP6: &str = "2001:db8:1::5";

/// An instance that may reach MACHINE's port 80 and nothing else, and serves port 8080.
struct Scene {
    world: World,
    app: Sandbox,
}

impl Scene {
    fn new(test: &str) -> Option<Scene> {
        let world = world(test)?;
        let mut spec = spec("myapp", Mode::Routed, &[APP, APP6]);
        spec.out = reject(&["web = 198.51.100.9:80", "web6 = [2001:db8:1::9]:80"]);
        let app = world.start(spec, &names(&[]));
        app.ns.serve_tcp(8080);
        for port in [80, 25] {
            world.machine.serve_tcp(port);
            world.server.serve_tcp(port);
        }
        let scene = Scene { world, app };
        scene.assert_well("before");
        Some(scene)
    }

    fn outer(&self) -> &str {
        self.app.applied.outer.as_deref().unwrap()
    }

    fn mend(&self) -> Vec<String> {
        self.try_mend().unwrap()
    }

    fn try_mend(&self) -> Result<Vec<String>, metactl_netns::NetError> {
        let (spec, netns, dir) = (&self.app.spec, self.app.ns.fd(), self.world.server_dir());
        self.world
            .server
            .run(|| mend(spec, &names(&[]), netns, &dir, "myapp", None))
    }

    /// Whatever is broken: nobody gets through who must not.
    #[track_caller]
    fn assert_closed(&self, when: &str) {
        for (to, port) in [
            (MACHINE, 25),
            (MACHINE6, 25),
            (SERVER, 80),
            (SERVER6, 80),
            (SERVER, 25),
        ] {
            let error = self.app.ns.connect(to, port).0.expect_err(when);
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{when}: {to} {port}"
            );
        }
    }

    #[track_caller]
    fn assert_well(&self, when: &str) {
        for to in [MACHINE, MACHINE6] {
            let (result, _) = self.app.ns.connect(to, 80);
            assert!(result.is_ok(), "{when}: {to}: {result:?}\n{}", self.world.server.sh("ip addr; ip route; ip -6 route; ip neigh; ip -6 neigh show proxy; nft list ruleset"));
        }
        for to in [APP, APP6] {
            let (result, _) = self.world.machine.connect(to, 8080);
            assert!(result.is_ok(), "{when}: {to} from outside: {result:?}");
            let (result, _) = self.world.server.connect(to, 8080);
            assert!(result.is_ok(), "{when}: {to} from the server: {result:?}");
        }
        self.assert_closed(when);
    }

    /// Everything that is metactl's on the server.
    fn picture(&self) -> String {
        self.world.server.sh(
            "nft list table inet metactl; ip route show proto static; ip -6 route show proto static; ip -br addr; \
             ip neigh show nud permanent; ip -6 neigh show nud permanent; ip neigh show proxy; ip -6 neigh show proxy; \
             cat /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/*forwarding",
        )
    }

    /// The accident happens; it is closed; it is mended, in words that hold `says`; then it is as it was.
    #[track_caller]
    fn accident(&self, accident: &str, says: &str) {
        let before = self.picture();
        self.world.server.sh(accident);
        self.assert_closed(accident);
        let said = self.mend();
        assert!(
            said.iter().any(|line| line.contains(says)),
            "{accident}: {said:?}"
        );
        assert_eq!(self.picture(), before, "{accident}: {said:?}");
        self.assert_well(accident);
        let said = self.mend();
        assert!(
            said.is_empty(),
            "{accident}: nothing is wrong any more: {said:?}"
        );
    }
}

#[test]
fn reloads_routes_and_settings_are_mended() {
    let Some(scene) = Scene::new("reloads_routes_and_settings_are_mended") else {
        return;
    };
    assert!(scene.mend().is_empty(), "nothing is wrong");
    let outer = scene.outer().to_string();
    scene.accident("nft flush ruleset", "inet metactl of the server was gone");
    // What firewalld does, more or less; its own table stays.
    scene.accident(
        "nft flush ruleset; nft add table inet firewalld; \
         nft 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }'",
        "inet metactl of the server was gone",
    );
    // The table is left, and is empty or has a hole.
    scene.accident("nft flush table inet metactl", "lost rules");
    scene.accident("nft flush chain inet metactl sources", "lost rules");
    scene.accident(&format!("ip link set {outer} down"), "ip link set");
    scene.accident(
        &format!("ip route del {APP}/32; ip -6 route del {APP6}/128"),
        "ip route add",
    );
    scene.accident(
        "for v in 1 0; do echo $v > /proc/sys/net/ipv4/ip_forward; echo $v > /proc/sys/net/ipv6/conf/all/forwarding; done",
        "forwarding",
    );
    scene.accident("echo 0 > /proc/sys/net/ipv4/conf/eth0/forwarding; echo 0 > /proc/sys/net/ipv6/conf/eth0/forwarding", "forwarding");
    scene.accident(
        &format!("ip neigh flush dev {outer} nud permanent; ip -6 addr flush dev {outer}"),
        "ip -6 address add",
    );
    scene.accident(
        &format!("ip neigh del proxy {APP} dev eth0; ip -6 neigh del proxy {APP6} dev eth0; nft delete table inet metactl"),
        "inet metactl",
    );
    // Who has taken an address meanwhile keeps it, and it is said who it is.
    scene.world.server.sh(&format!(
        "ip route del {APP}/32; ip addr add {APP}/32 dev lo"
    ));
    let error = scene.try_mend().unwrap_err().to_string();
    assert!(
        error.contains("already taken") && error.contains("the server itself"),
        "{error}"
    );
    scene
        .world
        .server
        .sh(&format!("ip addr del {APP}/32 dev lo"));
    scene.mend();
    scene.assert_well("after the conflict");
    // The firewall inside, by an administrator who was there.
    scene.app.ns.sh("nft flush ruleset");
    assert!(
        scene.app.ns.connect(MACHINE, 25).0.is_ok(),
        "this is what the policy holds back"
    );
    assert_eq!(scene.mend(), ["the firewall inside the sandbox was gone"]);
    scene.assert_well("after the flush inside");
    // Its rules alone: what is left of it drops everything.
    scene.app.ns.sh("nft flush table inet metactl");
    assert!(
        !scene.app.ns.try_sh("ping -n -c 1 -W 1 198.51.100.9").0,
        "nothing gets out"
    );
    let said = scene.mend();
    assert_eq!(said, ["the firewall inside the sandbox had lost its rules"]);
    scene.assert_well("after the rules inside were flushed");
    assert!(scene.mend().is_empty());
    // Beyond repair: said, with what to do.
    scene.world.server.sh(&format!("ip link del {outer}"));
    let error = scene.try_mend().unwrap_err().to_string();
    assert!(error.contains("restart it"), "{error}");
}

#[test]
fn an_uplink_may_be_renamed_replaced_and_lose_its_address() {
    let Some(scene) = Scene::new("an_uplink_may_be_renamed_replaced_and_lose_its_address") else {
        return;
    };
    let world = &scene.world;
    // A network that is none of the instances' business.
    world.server.sh("ip link add lan index 20 type veth peer name lan1; ip addr add 10.5.0.1/24 dev lan; ip link set lan up; ip link set lan1 up");
    world
        .server
        .sh("ip neigh add 10.5.0.5 lladdr 02:00:00:00:00:05 dev lan nud permanent");
    world
        .machine
        .sh(&format!("ip route add 10.5.0.0/24 via {SERVER}"));
    world.server.sh(
        "nft add table inet watch; nft 'add chain inet watch out { type filter hook postrouting priority 0; }'; \
         nft add rule inet watch out ip daddr 10.5.0.5 counter",
    );
    let forwarded = || {
        world.machine.try_sh("ping -n -c 1 -W 1 10.5.0.5");
        !world
            .server
            .sh("nft list table inet watch")
            .contains("packets 0")
    };
    assert!(!forwarded());
    let routes = format!(
        "ip route replace default via {MACHINE}; ip -6 route replace default via {MACHINE6}"
    );
    // Renamed: the table has to close the device under its new name.
    world
        .server
        .sh("ip link set eth0 down; ip link set eth0 name wan0; ip link set wan0 up");
    world.ready("wan0");
    world.server.sh(&format!("ip -6 addr add {SERVER6}/64 dev wan0 nodad; ip -6 addr add fe80::a/64 dev wan0 nodad; {routes}"));
    scene.assert_closed("renamed");
    let said = scene.mend();
    assert!(
        said.iter()
            .any(|line| line == "the uplink eth0 is called wan0 now"),
        "{said:?}"
    );
    scene.assert_well("renamed");
    assert!(
        !forwarded(),
        "the server did not become a router for others"
    );
    assert!(scene.mend().is_empty());
    // Its address goes, and comes back.
    world
        .server
        .sh(&format!("ip addr del {SERVER}/24 dev wan0"));
    scene.assert_closed_but_server("without an address");
    scene.mend();
    world
        .server
        .sh(&format!("ip addr add {SERVER}/24 dev wan0; {routes}"));
    scene.mend();
    scene.assert_well("with the address again");
    // Replaced: another card, another name; what the old one had is gone with it.
    let other = world.machine.fd().as_raw_fd();
    let netns = format!("/proc/{}/fd/{other}", std::process::id());
    world.server.sh("ip link del wan0");
    scene.mend();
    world.server.sh(&format!(
        "ip link add wan1 index 11 type veth peer name eth0 netns {netns}; ip link set wan1 addrgenmode none"
    ));
    world.machine.sh(&format!(
        "ip link set eth0 addrgenmode none; ip addr add fe80::b/64 dev eth0 nodad; ip addr add {MACHINE}/24 dev eth0; \
         ip addr add {MACHINE6}/64 dev eth0 nodad; ip link set eth0 up; ip route add 10.5.0.0/24 via {SERVER}"
    ));
    world.server.sh(&format!(
        "ip addr add fe80::a/64 dev wan1 nodad; ip addr add {SERVER}/24 dev wan1; ip addr add {SERVER6}/64 dev wan1 nodad; \
         ip link set wan1 up"
    ));
    world.ready("wan1");
    world.server.sh(&routes);
    let said = scene.mend();
    assert!(
        said.iter().any(|line| line.contains("other uplinks")),
        "{said:?}"
    );
    scene.assert_well("replaced");
    assert!(
        !forwarded(),
        "the server did not become a router for others"
    );
    assert!(scene.mend().is_empty());
    // All is given back under the last name.
    let Scene { world, app } = scene;
    world.stop(app);
    world.settle();
    assert_eq!(world.server.sysctl("net/ipv4/conf/wan1/forwarding"), "0");
    assert_eq!(world.server.sysctl("net/ipv6/conf/wan1/forwarding"), "0");
    assert!(
        !world
            .server
            .sh("nft list ruleset; ip neigh show proxy; ip -6 neigh show proxy")
            .contains("metactl")
    );
    let users = world
        .server
        .run(|| server::users(&world.server_dir()))
        .unwrap();
    assert!(users.is_empty());
    assert!(!world.server_dir().join("network.json").exists());
}

impl Scene {
    /// The same without the server's address, which is not there to be refused.
    #[track_caller]
    fn assert_closed_but_server(&self, when: &str) {
        for (to, port) in [(MACHINE, 25), (MACHINE6, 25), (SERVER6, 80)] {
            let error = self.app.ns.connect(to, port).0.expect_err(when);
            assert_eq!(
                error.kind(),
                ErrorKind::ConnectionRefused,
                "{when}: {to} {port}"
            );
        }
    }
}
