//! Which records an instance should have. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use metactl_bundles::app::Dns;
use metactl_bundles::network::{Mode, NetworkSpec};
use metactl_netns::dns_update::{Data, Name, Record};

/// Where an instance is registered, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) via: Dns,
    /// `<instance>.<host>.<zone>`.
    own: Name,
    /// `<app>.<zone>`.
    app: Name,
    addresses: Vec<IpAddr>,
}

impl Registration {
    /// That of an instance with addresses of its own; addresses of the pool are known on this server only.
    ///
    /// # Errors
    /// Names that cannot be, as a sentence.
    pub(crate) fn of(
        via: &Dns,
        spec: &NetworkSpec,
        instance: &str,
        host: &str,
    ) -> Result<Option<Registration>, String> {
        if spec.mode != Mode::Routed || spec.addresses.is_empty() {
            return Ok(None);
        }
        let host = via.host.as_deref().unwrap_or(host);
        let zone = Name::parse(&via.zone).map_err(|why| format!("`zone` in [dns] {why}"))?;
        let name = |labels: &str| {
            zone.child(labels)
                .map_err(|_| format!("{labels}.{zone} cannot be a name: it is too long"))
        };
        Ok(Some(Registration {
            own: name(&format!("{}.{}", label(instance)?, label(host)?))?,
            app: name(&label(&via.app)?)?,
            addresses: spec.addresses.clone(),
            via: via.clone(),
        }))
    }

    /// The name of all healthy instances.
    pub(crate) fn app(&self) -> &Name {
        &self.app
    }

    /// The records that there should be.
    pub(crate) fn records(&self, healthy: bool) -> BTreeSet<Record> {
        let mut records = BTreeSet::new();
        for address in &self.addresses {
            let data = Data::Address(*address);
            records.insert(Record {
                owner: self.own.clone(),
                data: data.clone(),
            });
            records.insert(Record {
                owner: Name::reverse(*address),
                data: Data::Pointer(self.own.clone()),
            });
            if healthy {
                let owner = self.app.clone();
                records.insert(Record { owner, data });
            }
        }
        records
    }
}

/// A name of metactl's as a label of a host name: what cannot be in one becomes `-`.
fn label(name: &str) -> Result<String, String> {
    let as_label = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let text: String = name.chars().map(as_label).collect();
    let text = text.trim_matches('-');
    match text.len() {
        1..=63 => Ok(text.to_owned()),
        _ => Err(format!("{name:?} cannot be part of a name in the DNS")),
    }
}

/// What this server is called: its host name up to the first dot.
pub(crate) fn host_label() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    name.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use metactl_bundles::network::{FORMAT, Policy, Verdict};

    use super::*;

    pub(crate) fn dns() -> Dns {
        Dns {
            zone: "apps.example.org".to_owned(),
            app: "shop".to_owned(),
            servers: vec!["10.0.0.53:53".parse().unwrap()],
            key_file: "/etc/metactl/dns.key".into(),
            host: None,
            ttl: 60,
            reverse: None,
        }
    }

    fn spec(mode: Mode) -> NetworkSpec {
        let policy = Policy {
            policy: Verdict::Reject,
            accept: Vec::new(),
            reject: Vec::new(),
        };
        NetworkSpec {
            format: FORMAT,
            instance: "shop_2".to_owned(),
            mode,
            addresses: vec!["10.0.0.5".parse().unwrap(), "2001:db8::5".parse().unwrap()],
            pool: None,
            pool6: None,
            publish: Vec::new(),
            apart: false,
            out: policy.clone(),
            inbound: policy,
        }
    }

    fn of(via: &Dns, mode: Mode) -> Option<Registration> {
        Registration::of(via, &spec(mode), "shop_2", "Web1").unwrap()
    }

    #[test]
    fn names_for_every_address_and_back() {
        let registration = of(&dns(), Mode::Routed).unwrap();
        let lines = |healthy: bool| -> Vec<String> {
            let records = registration.records(healthy);
            let line = |record: &Record| {
                format!("{} {} {}", record.owner, record.data.kind(), record.data)
            };
            records.iter().map(line).collect()
        };
        let own = [
            "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa PTR shop-2.web1.apps.example.org",
            "5.0.0.10.in-addr.arpa PTR shop-2.web1.apps.example.org",
            "shop-2.web1.apps.example.org A 10.0.0.5",
            "shop-2.web1.apps.example.org AAAA 2001:db8::5",
        ];
        assert_eq!(lines(false), own);
        let healthy = lines(true);
        assert_eq!(healthy.len(), 6);
        assert!(healthy.contains(&"shop.apps.example.org AAAA 2001:db8::5".to_owned()));
    }

    #[test]
    fn only_addresses_that_others_reach_have_names() {
        for mode in [Mode::Nat, Mode::None, Mode::Host] {
            assert_eq!(of(&dns(), mode), None);
        }
        let named = Dns {
            host: Some("rack7".to_owned()),
            ..dns()
        };
        let text = format!("{:?}", of(&named, Mode::Routed).unwrap());
        assert!(text.contains("shop-2.rack7.apps.example.org"), "{text}");
    }

    #[test]
    fn what_cannot_be_a_name_is_told() {
        let refused = |via: Dns, host: &str| {
            Registration::of(&via, &spec(Mode::Routed), "shop", host).unwrap_err()
        };
        assert!(refused(dns(), "").contains("cannot be part"));
        let long = Dns {
            zone: "a.".repeat(110) + "org",
            ..dns()
        };
        assert!(refused(long, &"b".repeat(60)).contains("too long"));
    }
}
