//! Rules of others at the forward hook: a packet that any chain drops is dropped, whatever metactl's own table says.
//!
//! Each base chain is followed with the first packet of a connection from an instance, and of one to an instance: so
//! only what would drop all connections is a finding.

use super::follow::{End, Owner, Packet, drops, hooked, owner};
use super::{Finding, has_ipv6};
use crate::facts::HostFacts;
use crate::nftables::At;
use crate::nftables::dump::FoundChain;

pub(super) fn examine(chains: &[FoundChain], facts: &HostFacts) -> Vec<Finding> {
    let finding = |chain: &FoundChain| {
        let stopped: Vec<Direction> = Direction::ALL
            .into_iter()
            .filter(|direction| stops(chains, chain, facts, *direction))
            .collect();
        (!stopped.is_empty()).then(|| describe(chains, chain, &stopped))
    };
    hooked(chains, At::Forward).filter_map(finding).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    From,
    To,
}

impl Direction {
    const ALL: [Direction; 2] = [Direction::From, Direction::To];
}

/// Whether the chain drops the packet, whichever uplink it takes.
fn stops(
    chains: &[FoundChain],
    base: &FoundChain,
    facts: &HostFacts,
    direction: Direction,
) -> bool {
    let families: &[u8] = match base.family {
        1 if has_ipv6(facts) => &[2, 10],
        1 | 2 => &[2],
        _ if has_ipv6(facts) => &[10],
        _ => &[],
    };
    let ours = End::instance();
    let mut uplinks = facts.uplinks.iter().map(|uplink| End {
        index: uplink.index,
        name: uplink.name.clone(),
        group: 0,
    });
    uplinks.any(|uplink| {
        families.iter().any(|family| {
            let (from, to) = match direction {
                Direction::From => (&ours, &uplink),
                Direction::To => (&uplink, &ours),
            };
            let packet = Packet {
                from,
                to: Some(to),
                family: *family,
                service: None,
            };
            drops(chains, base, &packet)
        })
    })
}

fn describe(chains: &[FoundChain], chain: &FoundChain, stopped: &[Direction]) -> Finding {
    let family = match chain.family {
        1 => "inet",
        2 => "ip",
        _ => "ip6",
    };
    let (table, name) = (&chain.table, &chain.name);
    let owner = owner(chains, chain);
    let whose = match stopped {
        [Direction::From] => "from instances",
        [Direction::To] => "to instances",
        _ => "from and to instances",
    };
    let program = if chain.family == 10 {
        "ip6tables"
    } else {
        "iptables"
    };
    let (mend, lasting) = match owner {
        Owner::Docker => (
            inserts(program, "DOCKER-USER"),
            "Docker keeps these rules, but not beyond a reboot: have them set at boot after Docker (a unit with After=docker.service)".to_owned(),
        ),
        Owner::Firewalld => (
            [
                "firewall-cmd --permanent --zone=trusted --add-interface=m-+",
                "firewall-cmd --permanent --new-policy metactl",
                "firewall-cmd --permanent --policy metactl --add-ingress-zone ANY",
                "firewall-cmd --permanent --policy metactl --add-egress-zone trusted",
                "firewall-cmd --permanent --policy metactl --set-target ACCEPT",
                "firewall-cmd --reload",
            ]
            .map(str::to_owned)
            .to_vec(),
            String::new(),
        ),
        Owner::Ufw => (
            vec![
                "ufw route allow in on m-+".to_owned(),
                "ufw route allow out on m-+".to_owned(),
            ],
            String::new(),
        ),
        Owner::Iptables | Owner::Legacy => (
            inserts(program, name),
            "have the same lines set at boot (iptables-persistent: netfilter-persistent save)".to_owned(),
        ),
        Owner::Nft => (
            ["iifname", "oifname"]
                .map(|word| format!("nft 'insert rule {family} {table} {name} {word} \"m-*\" accept'"))
                .to_vec(),
            "write both rules into the file that the table comes from (/etc/nftables.conf)".to_owned(),
        ),
    };
    Finding {
        check: "forward",
        what: format!("the rules of {owner} drop what is forwarded {whose}"),
        place: format!("nft list chain {family} {table} {name}"),
        why: "what one chain drops is dropped: metactl's own table cannot let it pass. The firewall of each instance \
              stays as it is"
            .into(),
        mend,
        lasting,
    }
}

fn inserts(program: &str, chain: &str) -> Vec<String> {
    ["-i", "-o"]
        .map(|option| format!("{program} -I {chain} {option} m-+ -j ACCEPT"))
        .to_vec()
}

/// The finding for rules that `iptables-legacy-save -t filter` prints (`rules`), which no netlink shows: a policy of
/// `FORWARD`, or a rule for everything at its end, that drops, and no rule before that lets instances pass. `program` is
/// `iptables-legacy` or `ip6tables-legacy`.
pub fn mend_legacy(program: &str, rules: &str) -> Option<Finding> {
    let drops = rules.lines().any(|line| {
        line.starts_with(":FORWARD DROP")
            || line.starts_with("-A FORWARD -j DROP")
            || line.starts_with("-A FORWARD -j REJECT")
    });
    let docker = rules.lines().any(|line| line.starts_with(":DOCKER-USER "));
    let chain = if docker { "DOCKER-USER" } else { "FORWARD" };
    let passes = |option: &str| {
        ["FORWARD", chain].iter().any(|chain| {
            let rule = format!("-A {chain} {option} m-+ -j ACCEPT");
            rules.lines().any(|line| line == rule)
        })
    };
    if !drops || (passes("-i") && passes("-o")) {
        return None;
    }
    let owner = if docker { Owner::Docker } else { Owner::Legacy };
    Some(Finding {
        check: "forward",
        what: format!("the rules of {owner} drop what is forwarded from and to instances"),
        place: format!("{program} -S FORWARD"),
        why: "what one chain drops is dropped: metactl's own table cannot let it pass. The firewall of each instance \
              stays as it is"
            .into(),
        mend: inserts(program, chain),
        lasting: "have the same lines set at boot".into(),
    })
}
