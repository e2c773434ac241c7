//! Plans as text, without any privilege: the same bundle on made-up hosts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use metactl_runtime::cgroup::{Hierarchy, Layout, Unified};
use metactl_runtime::facts::{HostFacts, SecurityModules};
use metactl_runtime::plan::{Plan, PlanError, plan};
use metactl_runtime::spec::Bundle;
use metactl_runtime::{ContainerId, LaunchRequest, Mode};
use serde_json::{Value, json};

fn v1() -> Layout {
    let hierarchy = |name: &str| Hierarchy {
        controllers: vec![name.to_owned()],
        mount_point: Path::new("/sys/fs/cgroup").join(name),
        root: "/".into(),
        own: Some("/".into()),
    };
    Layout::V1(vec![
        hierarchy("memory"),
        hierarchy("pids"),
        hierarchy("cpu"),
    ])
}

fn v2() -> Layout {
    Layout::V2(Unified {
        mount_point: "/sys/fs/cgroup".into(),
        root: "/".into(),
        own: Some("/".into()),
        controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
    })
}

fn facts(cgroups: Layout) -> HostFacts {
    HostFacts {
        uid: 0,
        cgroups: Some(cgroups),
        scopes_below: String::new(),
        executable_is_writable: true,
        modules: SecurityModules::default(),
        network: None,
    }
}

fn request(mode: Mode) -> LaunchRequest {
    LaunchRequest {
        mode,
        ..LaunchRequest::new(ContainerId::new("shop.web").unwrap(), "/b")
    }
}

fn config() -> Value {
    serde_json::from_str(include_str!("golden/config.json")).unwrap()
}

fn bundle(config: &Value) -> Bundle {
    Bundle::parse(Path::new("/b"), config.to_string().into_bytes()).unwrap()
}

fn plan_of(config: &Value, facts: &HostFacts, request: &LaunchRequest) -> Result<Plan, PlanError> {
    plan(&bundle(config), None, facts, request)
}

/// Compares with `golden/<name>.txt`; with `METACTL_BLESS=1` writes it.
fn compare(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("METACTL_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "{name}; METACTL_BLESS=1 takes the new text");
}

#[test]
fn an_entry_point_of_metactl_on_v1_and_v2() {
    let config = config();
    for (name, layout) in [("v1", v1()), ("v2", v2())] {
        let plan = plan_of(&config, &facts(layout), &request(Mode::Foreground)).unwrap();
        compare(&format!("app-{name}"), &plan.to_string());
    }
}

#[test]
fn a_privileged_container_with_joined_namespaces() {
    let mut config = config();
    config["annotations"] = json!({});
    config["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [4, 4, 20]});
    config["process"]["noNewPrivileges"] = json!(false);
    config["process"]["capabilities"] =
        json!({"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]});
    config["linux"]["namespaces"] = json!([
        {"type": "mount"}, {"type": "pid"}, {"type": "cgroup"},
        {"type": "network", "path": "/run/netns/x"}, {"type": "uts"},
    ]);
    config["linux"]["sysctl"] = json!({});
    let plan = plan_of(&config, &facts(v1()), &request(Mode::Create)).unwrap();
    compare("privileged", &plan.to_string());
    // The filter comes before the privileges go, as loading it takes one.
    let text = plan.to_string();
    assert!(
        text.find("seccomp filter") < text.find("capabilities: "),
        "{text}"
    );
}

#[test]
fn what_would_be_unsafe_is_refused() {
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = config();
        change(&mut config);
        plan_of(&config, &facts(v1()), &request(Mode::Foreground))
            .unwrap_err()
            .to_string()
    };
    let exposed = with(&|c| c["process"]["user"]["uid"] = json!(0));
    assert!(
        exposed.contains("rewrite"),
        "the init would show it the runtime: {exposed}"
    );
    let no_net = with(&|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "network");
    });
    assert!(no_net.contains("would change the host"), "{no_net}");
    let no_uts = with(&|c| {
        let namespaces = c["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != "uts");
    });
    assert!(no_uts.contains("rename the host"), "{no_uts}");
    let masked = with(&|c| c["linux"]["maskedPaths"] = json!(["/proc/../etc"]));
    assert!(masked.contains("linux.maskedPaths"), "{masked}");
    let mut not_root = facts(v1());
    not_root.uid = 1000;
    let error = plan_of(&config(), &not_root, &request(Mode::Foreground)).unwrap_err();
    assert!(matches!(error, PlanError::NotRoot { uid: 1000 }));
}
