//! Any bytes as config.json, up to the plan: parsed, checked, planned for hosts of each kind and
//! for each mode, with the seccomp program and the plan of `exec`. Nothing of it may panic, hang
//! or take memory without bound. It touches nothing of the system.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use metactl_runtime::cgroup::{Hierarchy, Layout, Unified};
use metactl_runtime::facts::{HostFacts, SecurityModules};
use metactl_runtime::plan::{ExecRequest, Watch, plan, plan_exec};
use metactl_runtime::spec::Bundle;
use metactl_runtime::{ContainerId, LaunchRequest, Mode};

const CONTROLLERS: [&str; 10] = [
    "memory", "pids", "cpu", "cpuset", "cpuacct", "blkio", "devices", "freezer", "hugetlb", "io",
];

fn v1() -> Vec<Hierarchy> {
    let hierarchy = |name: &&str| Hierarchy {
        controllers: vec![(*name).to_owned()],
        mount_point: Path::new("/sys/fs/cgroup").join(name),
        root: "/".into(),
        own: Some("/own".into()),
    };
    CONTROLLERS.iter().map(hierarchy).collect()
}

fn v2(mount_point: &str) -> Unified {
    Unified {
        mount_point: mount_point.into(),
        root: "/".into(),
        own: Some("/".into()),
        controllers: CONTROLLERS.map(str::to_owned).to_vec(),
    }
}

fn hosts() -> [HostFacts; 4] {
    let layouts = [
        None,
        Some(Layout::V1(v1())),
        Some(Layout::V2(v2("/sys/fs/cgroup"))),
        Some(Layout::Hybrid(v1(), v2("/sys/fs/cgroup/unified"))),
    ];
    let mut writable = false;
    layouts.map(|cgroups| {
        writable = !writable;
        HostFacts {
            uid: 0,
            cgroups,
            scopes_below: String::new(),
            executable_is_writable: writable,
            modules: SecurityModules {
                apparmor: writable,
                selinux: !writable,
            },
            home: None,
            network: None,
        }
    })
}

fn request(id: &ContainerId, mode: Mode) -> LaunchRequest {
    LaunchRequest {
        mode,
        ..LaunchRequest::new(id.clone(), "/b")
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(bundle) = Bundle::parse(Path::new("/b"), data.to_vec()) else {
        return;
    };
    let Ok(id) = ContainerId::new("fuzz") else {
        return;
    };
    for facts in hosts() {
        for mode in [Mode::Foreground, Mode::Create] {
            match plan(&bundle, None, &facts, &request(&id, mode)) {
                // What people read of it.
                Ok(plan) => drop(plan.to_string()),
                Err(error) => drop(error.to_string()),
            }
        }
    }
    if let Some(process) = bundle.spec.process() {
        let cgroups = ["/sys/fs/cgroup/memory/fuzz".into()];
        let exec = ExecRequest {
            bundle: &bundle,
            process,
            cgroups: &cgroups,
            hierarchies: 1,
            watch: Watch::Independent,
            keyring: None,
            modules: SecurityModules::default(),
            shield: true,
            asks_in_shield: false,
            relayed: false,
        };
        match plan_exec(&exec) {
            Ok(plan) => drop(plan.to_string()),
            Err(error) => drop(error.to_string()),
        }
    }
});
