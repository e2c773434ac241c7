//! Capability sets as the kernel counts them (capabilities(7)).

use std::fmt;
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, LinuxCapabilities};

/// The five sets of a process, each a bit mask: bit `n` is the capability with number `n`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What exec of a file with capabilities could gain at most.
    pub bounding: u64,
    /// What is checked.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What exec of a file with inheritable capabilities keeps.
    pub inheritable: u64,
    /// What every exec keeps.
    pub ambient: u64,
}

/// A capability that this runtime does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a capability that this version knows")]
pub struct UnknownCapability(pub String);

impl CapabilitySets {
    /// The sets of `process.capabilities`; all empty when there is none.
    ///
    /// Nothing is added: inheritable and ambient sets are empty unless they are asked for, which
    /// is the defence against CVE-2022-29162 and CVE-2022-27650.
    pub fn new(spec: Option<&LinuxCapabilities>) -> Result<CapabilitySets, UnknownCapability> {
        let Some(spec) = spec else {
            return Ok(CapabilitySets::default());
        };
        let permitted = mask(spec.permitted().as_ref())?;
        let inheritable = mask(spec.inheritable().as_ref())?;
        Ok(CapabilitySets {
            bounding: mask(spec.bounding().as_ref())?,
            effective: mask(spec.effective().as_ref())?,
            permitted,
            inheritable,
            // The kernel has none ambient that is not permitted and inheritable (capabilities(7)).
            // `runc spec` writes some all the same, and runc goes without them.
            ambient: mask(spec.ambient().as_ref())? & permitted & inheritable,
        })
    }

    /// Whether there is no capability at all, and none to be had.
    pub fn is_empty(&self) -> bool {
        *self == CapabilitySets::default()
    }

    /// Whether any set has this one.
    pub fn has(&self, capability: caps::Capability) -> bool {
        let all = self.bounding | self.permitted | self.inheritable | self.ambient;
        all & capability.bitmask() != 0
    }
}

fn mask(set: Option<&Capabilities>) -> Result<u64, UnknownCapability> {
    set.into_iter().flatten().try_fold(0, |mask, capability| {
        let name = format!("CAP_{capability}");
        match caps::Capability::from_str(&name) {
            Ok(known) => Ok(mask | known.bitmask()),
            Err(_) => Err(UnknownCapability(name)),
        }
    })
}

/// The ambient capabilities of `spec` that cannot be had: the kernel has none ambient that is not
/// permitted and inheritable too.
pub fn not_raised(spec: Option<&LinuxCapabilities>) -> Vec<String> {
    let Some(ambient) = spec.and_then(|s| s.ambient().as_ref()) else {
        return Vec::new();
    };
    let has = |set: &Option<Capabilities>, c| set.as_ref().is_some_and(|set| set.contains(c));
    let raised = |c| spec.is_some_and(|s| has(s.permitted(), c) && has(s.inheritable(), c));
    let lost = ambient.iter().filter(|c| !raised(*c));
    let mut names: Vec<String> = lost.map(|c| format!("CAP_{c}")).collect();
    names.sort();
    names
}

/// The sets of `spec` with `names` in all of them but the ambient one, as `exec --cap` wants them.
pub fn with_more(
    spec: Option<&LinuxCapabilities>,
    names: &[String],
) -> Result<LinuxCapabilities, UnknownCapability> {
    let mut more = Capabilities::default();
    for name in names {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let known = oci_spec::runtime::Capability::from_str(short);
        more.insert(known.map_err(|_| UnknownCapability(name.clone()))?);
    }
    let joined = |set: Option<&Capabilities>| {
        Some(set.into_iter().flatten().chain(&more).copied().collect())
    };
    let mut all = LinuxCapabilities::default();
    all.set_bounding(joined(spec.and_then(|s| s.bounding().as_ref())));
    all.set_effective(joined(spec.and_then(|s| s.effective().as_ref())));
    all.set_permitted(joined(spec.and_then(|s| s.permitted().as_ref())));
    // Inheritable ones stay as they are: CVE-2022-29162. Ambient ones need to be among them.
    all.set_inheritable(spec.and_then(|s| s.inheritable().clone()));
    let ambient = spec.and_then(|s| s.ambient().as_ref());
    all.set_ambient(match spec.and_then(|s| s.inheritable().as_ref()) {
        Some(_) => joined(ambient),
        None => ambient.cloned(),
    });
    Ok(all)
}

/// The names of a set, `none`, or `all but` a few.
fn names(mask: u64) -> String {
    let all = caps::all();
    let (have, lack): (Vec<_>, Vec<_>) = all.iter().partition(|c| mask & c.bitmask() != 0);
    let list = |caps: &[&caps::Capability]| {
        let mut names: Vec<String> = caps.iter().map(ToString::to_string).collect();
        names.sort();
        names.join(" ")
    };
    match (have.as_slice(), lack.as_slice()) {
        ([], _) => "none".to_owned(),
        (_, []) => "all".to_owned(),
        (have, lack) if lack.len() < 6 && have.len() > lack.len() => {
            format!("all but {}", list(lack))
        }
        (have, _) => list(have),
    }
}

impl fmt::Display for CapabilitySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        write!(f, "{}", names(self.permitted))?;
        for (name, set) in [
            ("effective", self.effective),
            ("bounding", self.bounding),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ] {
            if set != self.permitted {
                write!(f, "; {name}: {}", names(set))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_masks_and_nothing_is_added() {
        let json = r#"{"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL", "CAP_CHOWN"]}"#;
        let sets = CapabilitySets::new(Some(&serde_json::from_str(json).unwrap())).unwrap();
        assert_eq!((sets.bounding, sets.permitted), (1 << 5, 1 << 5 | 1));
        assert_eq!((sets.effective, sets.inheritable, sets.ambient), (0, 0, 0));
        assert!(sets.has(caps::Capability::CAP_CHOWN));
        let text = "CAP_CHOWN CAP_KILL; effective: none; bounding: CAP_KILL; \
                    inheritable: none; ambient: none";
        assert_eq!(sets.to_string(), text);
        assert_eq!(CapabilitySets::new(None).unwrap().to_string(), "none");
    }

    #[test]
    fn every_capability_of_the_specification_is_known() {
        let all: Vec<String> = caps::all().iter().map(|c| format!("\"{c}\"")).collect();
        let json = format!("{{\"bounding\": [{}]}}", all.join(","));
        let sets = CapabilitySets::new(Some(&serde_json::from_str(&json).unwrap())).unwrap();
        assert_eq!(sets.bounding, (1 << all.len()) - 1);
    }
}
