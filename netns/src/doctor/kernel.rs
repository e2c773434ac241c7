//! What the kernel has to be able to do: tried out in a network namespace that vanishes at once.

use std::fs::File;
use std::os::fd::AsFd;

use metactl_bundles::network::{
    Entry, FORMAT, Mode, NetworkSpec, Peer, Policy, PortRange, Verdict,
};

use super::Finding;
use crate::link::{Links, Veth};
use crate::netlink::{Netlink, Refusal};
use crate::plan::{INNER, INNER_MAC, OUTER_MAC};
use crate::{NetError, Resolved, nftables, policy, server, sys};

/// The modules that a modular kernel has these things in.
const MODULES: &str =
    "modprobe -a veth nf_tables nft_ct nft_fib_inet nft_masq nft_nat nft_reject_inet";

pub(super) fn examine() -> Vec<Finding> {
    let tried = std::thread::spawn(try_out).join();
    match tried {
        Ok(Ok(())) => Vec::new(),
        Ok(Err(error)) => vec![missing(&error.to_string())],
        Err(_) => vec![missing("the attempt crashed")],
    }
}

fn missing(what: &str) -> Finding {
    Finding {
        check: "kernel",
        what: format!("this kernel cannot do all that a sandbox needs: {what}"),
        place: "/proc/version".into(),
        why: "no instance with an address can start".into(),
        mend: vec![MODULES.into()],
        lasting: "name these modules in /etc/modules-load.d/metactl.conf; a kernel without them has to be replaced".into(),
    }
}

/// On a thread of its own, which never comes back from there.
fn try_out() -> Result<(), NetError> {
    let during = |what: &'static str| move |refusal: Refusal| refusal.during(what);
    sys::leave_network()
        .map_err(|error| Refusal::from(error).during("make a network namespace"))?;
    let own = File::open("/proc/thread-self/ns/net");
    let own = own.map_err(|error| Refusal::from(error).during("open the namespace"))?;
    let veth = Veth {
        outer: "m-doctor".into(),
        inner: INNER.into(),
        mtu: 1500,
        outer_mac: OUTER_MAC,
        inner_mac: INNER_MAC,
    };
    let mut links = Links::open().map_err(during("open a netlink socket"))?;
    links
        .add_veth(&veth, own.as_fd(), 1000)
        .map_err(during("make a veth pair"))?;
    for (what, ruleset) in [
        (
            "load the firewall of a sandbox",
            policy::ruleset(&sample(), &Resolved::new())?,
        ),
        ("load the table of the server", server::sample_table()),
    ] {
        let mut socket = Netlink::netfilter().map_err(|error| Refusal::from(error).during(what))?;
        nftables::load(&mut socket, &ruleset).map_err(during(what))?;
        nftables::remove_table(&mut socket).map_err(during(what))?;
    }
    Ok(())
}

/// An instance that needs everything: both kinds of sets, both directions closed.
fn sample() -> NetworkSpec {
    let entry = |net: &str| {
        Some(Entry {
            name: "sample".into(),
            peer: Peer::Net(net.parse().ok()?),
            ports: vec![PortRange {
                first: 80,
                last: 90,
            }],
            protocol: None,
        })
    };
    let closed = || Policy {
        policy: Verdict::Reject,
        accept: ["10.0.0.1/32", "10.1.0.0/16"]
            .into_iter()
            .filter_map(entry)
            .collect(),
        reject: Vec::new(),
    };
    NetworkSpec {
        format: FORMAT,
        instance: "doctor".into(),
        mode: Mode::Routed,
        addresses: vec![std::net::IpAddr::from([10, 0, 0, 2])],
        pool: None,
        pool6: None,
        publish: Vec::new(),
        apart: false,
        out: closed(),
        inbound: closed(),
    }
}
