//! Rules of others at the input hook that drop the questions of instances for names: without an answer an application
//! reaches nothing by name.

use std::net::IpAddr;

use super::follow::{End, Owner, Packet, Service, drops, hooked, owner};
use super::{Finding, has_ipv6};
use crate::facts::HostFacts;
use crate::nftables::At;
use crate::nftables::dump::FoundChain;
use crate::plan::{GATEWAY4, RESOLVER6};
use crate::policy::RESOLVER_PORT;

const PROTOCOLS: [(u8, &str); 2] = [(17, "udp"), (6, "tcp")];

pub(super) fn examine(chains: &[FoundChain], facts: &HostFacts) -> Vec<Finding> {
    let finding = |chain: &FoundChain| {
        let addresses: &[IpAddr] = match (chain.family, has_ipv6(facts)) {
            (1, true) => &[IpAddr::V4(GATEWAY4), IpAddr::V6(RESOLVER6)],
            (1 | 2, _) => &[IpAddr::V4(GATEWAY4)],
            (10, true) => &[IpAddr::V6(RESOLVER6)],
            _ => &[],
        };
        let from = End::instance();
        let dropped = |address: &IpAddr| {
            PROTOCOLS.iter().any(|(protocol, _)| {
                let service = Service {
                    address: *address,
                    protocol: *protocol,
                    port: RESOLVER_PORT,
                };
                let packet = Packet {
                    from: &from,
                    to: None,
                    family: if address.is_ipv6() { 10 } else { 2 },
                    service: Some(service),
                };
                drops(chains, chain, &packet)
            })
        };
        let stopped: Vec<IpAddr> = addresses.iter().copied().filter(dropped).collect();
        (!stopped.is_empty()).then(|| describe(owner(chains, chain), chain, &stopped))
    };
    hooked(chains, At::Input).filter_map(finding).collect()
}

fn describe(owner: Owner, chain: &FoundChain, stopped: &[IpAddr]) -> Finding {
    let family = match chain.family {
        1 => "inet",
        2 => "ip",
        _ => "ip6",
    };
    let (table, name) = (&chain.table, &chain.name);
    let program = if chain.family == 10 {
        "ip6tables"
    } else {
        "iptables"
    };
    let (mend, lasting) = match owner {
        Owner::Firewalld => (
            [
                "firewall-cmd --permanent --zone=trusted --add-interface=m-+",
                "firewall-cmd --reload",
            ]
            .map(str::to_owned)
            .to_vec(),
            "",
        ),
        Owner::Ufw => {
            let allow =
                |address: &IpAddr| format!("ufw allow in on m-+ to {address} port {RESOLVER_PORT}");
            // It keeps the rules of both families.
            let both = [IpAddr::V4(GATEWAY4), IpAddr::V6(RESOLVER6)];
            let all = both
                .iter()
                .filter(|address| address.is_ipv4() || stopped.contains(address));
            (all.map(allow).collect(), "")
        }
        Owner::Nft => {
            let insert = |address: &IpAddr| {
                let word = if address.is_ipv6() { "ip6" } else { "ip" };
                PROTOCOLS.map(|(_, protocol)| {
                    format!(
                        "nft 'insert rule {family} {table} {name} iifname \"m-*\" {word} daddr {address} \
                         {protocol} dport {RESOLVER_PORT} accept'"
                    )
                })
            };
            (
                stopped.iter().flat_map(insert).collect(),
                "write the rules into the file that the table comes from (/etc/nftables.conf)",
            )
        }
        Owner::Docker | Owner::Iptables | Owner::Legacy => (
            stopped
                .iter()
                .flat_map(|address| inserts(program, *address))
                .collect(),
            "have the same lines set at boot (iptables-persistent: netfilter-persistent save)",
        ),
    };
    finding(
        owner,
        format!("nft list chain {family} {table} {name}"),
        mend,
        lasting,
    )
}

fn finding(owner: Owner, place: String, mend: Vec<String>, lasting: &str) -> Finding {
    Finding {
        check: "resolver",
        what: format!("the rules of {owner} drop what instances ask for by name"),
        place,
        why: format!(
            "instances ask the resolver of this server, at port {RESOLVER_PORT} of its end of their links; without \
             an answer no name leads anywhere"
        ),
        mend,
        lasting: lasting.to_owned(),
    }
}

fn inserts(program: &str, address: IpAddr) -> [String; 2] {
    PROTOCOLS.map(|(_, protocol)| {
        format!(
            "{program} -I INPUT -i m-+ -d {address} -p {protocol} --dport {RESOLVER_PORT} -j ACCEPT"
        )
    })
}

/// The finding for rules that `iptables-legacy-save -t filter` prints, which no netlink shows: a policy of `INPUT`, or
/// a rule for everything, that drops, and none for the resolver. `program` is `iptables-legacy` or `ip6tables-legacy`.
pub fn mend_legacy_input(program: &str, rules: &str) -> Option<Finding> {
    let drops = rules.lines().any(|line| {
        line.starts_with(":INPUT DROP")
            || line.starts_with("-A INPUT -j DROP")
            || line.starts_with("-A INPUT -j REJECT")
    });
    let passes = |protocol: &str| {
        let words = [
            " -i m-+ ",
            &format!(" -p {protocol} "),
            " --dport 253 ",
            " -j ACCEPT",
        ];
        rules.lines().any(|line| {
            let inserted = line.starts_with("-A INPUT ");
            let all = line == "-A INPUT -i m-+ -j ACCEPT";
            inserted && (all || words.iter().all(|word| line.contains(word)))
        })
    };
    if !drops || PROTOCOLS.iter().all(|(_, protocol)| passes(protocol)) {
        return None;
    }
    let address = match program.starts_with("ip6") {
        true => RESOLVER6.into(),
        false => GATEWAY4.into(),
    };
    let mend = inserts(program, address).to_vec();
    let place = format!("{program} -S INPUT");
    Some(finding(
        Owner::Legacy,
        place,
        mend,
        "have the same lines set at boot",
    ))
}
