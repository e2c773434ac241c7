//! Who is kept from the server itself and from other instances, though its own policy accepts everything: a build, whose
//! commands come from whoever can push. Here and not in its sandbox, since addresses come and go while it runs.

use std::net::IpAddr;

use ipnet::IpNet;
use metactl_bundles::network::Protocol;

use super::super::record::Record;
use super::GROUP;
use crate::nftables::{At, Chain, End, Family, Hook, Rule};
use crate::plan::{GATEWAY4, Listed, RESOLVER6, ServerEffect};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The chains for it; none while nobody is kept apart.
pub(super) fn chains(record: &Record) -> Vec<Chain> {
    let mut to_server = Vec::new();
    let mut to_others = Vec::new();
    for effect in record.effects() {
        let ServerEffect::Apart { source, listed } = effect else {
            continue;
        };
        let from = || {
            let rule = Rule::new().in_by_group(GROUP, true);
            rule.address(End::Source, &IpNet::from(*source), true)
        };
        let resolver = IpNet::from(match source {
            IpAddr::V4(_) => IpAddr::from(GATEWAY4),
            IpAddr::V6(_) => IpAddr::from(RESOLVER6),
        });
        let accepted: Vec<Rule> = listed.iter().flat_map(|one| accept(&from(), one)).collect();
        to_server.push(from().address(End::Destination, &resolver, true).accept());
        to_server.extend(accepted.iter().cloned());
        // Whatever its destination: at this hook it is for the server, also what goes to everybody (broadcast, multicast).
        to_server.extend(refuse(&from()));
        to_others.extend(accepted);
        to_others.extend(refuse(&from().out_by_group(GROUP, true)));
    }
    let both = [
        ("apart", At::Input, to_server),
        ("apart_others", At::Forward, to_others),
    ];
    both.into_iter()
        .filter(|(_, _, rules)| !rules.is_empty())
        .map(|(name, at, rules)| Chain {
            name: name.into(),
            hook: Some(Hook {
                kind: "filter",
                at,
                priority: 0,
                drop: false,
            }),
            rules,
        })
        .collect()
}

fn accept(from: &Rule, listed: &Listed) -> Vec<Rule> {
    let to = from.clone().address(End::Destination, &listed.net, true);
    let icmp = match Family::of(&listed.net.addr()) {
        Family::V4 => 1,
        Family::V6 => 58,
    };
    let protocols: &[u8] = match (listed.protocol, listed.ports) {
        (Some(Protocol::Tcp), _) => &[TCP],
        (Some(Protocol::Udp), _) => &[UDP],
        (Some(Protocol::Icmp), _) => return vec![to.protocol(icmp).accept()],
        (None, Some(_)) => &[TCP, UDP],
        (None, None) => return vec![to.accept()],
    };
    let rules = protocols.iter().map(|number| {
        let to = to.clone();
        let rule = match listed.ports {
            Some(ports) if ports.first == ports.last => {
                to.transport(*number).port(End::Destination, ports.first)
            }
            Some(ports) => to
                .transport(*number)
                .ports(End::Destination, ports.first, ports.last),
            None => to.protocol(*number),
        };
        rule.accept()
    });
    rules.collect()
}

/// At once, and as [`prohibit`](Rule::prohibit) for what is not TCP.
fn refuse(rule: &Rule) -> [Rule; 2] {
    [rule.clone().protocol(TCP).reset(), rule.clone().prohibit()]
}

#[cfg(test)]
mod tests {
    use metactl_bundles::network::PortRange;

    use super::*;

    #[test]
    fn only_what_is_listed_of_the_server_and_of_instances() {
        let source: IpAddr = "10.77.0.9".parse().unwrap();
        let listed = vec![
            Listed {
                net: "10.20.0.1/32".parse().unwrap(),
                protocol: None,
                ports: Some(PortRange {
                    first: 7000,
                    last: 7999,
                }),
            },
            Listed {
                net: "10.77.0.4/32".parse().unwrap(),
                protocol: Some(Protocol::Tcp),
                ports: None,
            },
        ];
        let mut record = Record::default();
        assert!(chains(&record).is_empty());
        let effect = ServerEffect::Apart { source, listed };
        let user = record.users.entry("build".to_owned()).or_default();
        user.needs.insert(effect);
        let chains = chains(&record);
        let lines = |at: usize| -> Vec<String> {
            let rules = chains[at].rules.iter().map(ToString::to_string);
            rules
                .map(|rule| rule.replace("iifgroup 28003 ip saddr 10.77.0.9 ", ""))
                .collect()
        };
        let accepted = [
            "ip daddr 10.20.0.1 tcp dport 7000-7999 accept",
            "ip daddr 10.20.0.1 udp dport 7000-7999 accept",
            "ip daddr 10.77.0.4 meta l4proto tcp accept",
        ];
        let mut server = vec!["ip daddr 169.254.1.1 accept"];
        server.extend(accepted);
        server.extend([
            "meta l4proto tcp reject with tcp reset",
            "reject with icmpx admin-prohibited",
        ]);
        assert_eq!(lines(0), server);
        let mut others = Vec::from(accepted);
        others.extend([
            "oifgroup 28003 meta l4proto tcp reject with tcp reset",
            "oifgroup 28003 reject with icmpx admin-prohibited",
        ]);
        assert_eq!(lines(1), others);
    }
}
