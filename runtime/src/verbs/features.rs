//! `features`: what this runtime can do, whatever the host (runtime-spec, features).

use lexopt::Parser;
use serde_json::json;

use crate::plan::mounts::OPTION_WORDS;
use crate::plan::namespaces::Namespaces;
use crate::verbs::{Failure, Globals, next, print_json, unexpected};

/// The oldest version of the specification whose configurations are understood.
const OLDEST: &str = "1.0.0";

pub(super) fn run(_: &Globals, parser: &mut Parser) -> Result<u8, Failure> {
    if let Some(word) = next(parser)? {
        return Err(unexpected(&word));
    }
    let all = Namespaces::default();
    let mut namespaces: Vec<&str> = all.each().iter().map(|(name, ..)| *name).collect();
    namespaces.push("mount");
    namespaces.sort_unstable();
    let mut capabilities: Vec<String> = caps::all().iter().map(ToString::to_string).collect();
    capabilities.sort();
    let mut options: Vec<String> = OPTION_WORDS.iter().map(|word| (*word).to_owned()).collect();
    options.extend(crate::plan::attributes::attribute_words());
    options.sort();
    options.dedup();
    print_json(&json!({
        "ociVersionMin": OLDEST,
        "ociVersionMax": crate::state::OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop"],
        "mountOptions": options,
        "linux": {
            "namespaces": namespaces,
            "capabilities": capabilities,
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": crate::seccomp::features(),
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "memoryPolicy": {
                "modes": ["MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
                    "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {
            "org.metactl.runtime.version": env!("CARGO_PKG_VERSION"),
        },
        "potentiallyUnsafeConfigAnnotations": [
            crate::plan::container::INIT_ANNOTATION,
            crate::plan::container::INSTANCE_ANNOTATION,
            "org.systemd.property.",
        ],
    }))?;
    Ok(0)
}
