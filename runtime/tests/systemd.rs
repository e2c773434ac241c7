//! The D-Bus client against a real dbus-daemon, and the systemd cgroup driver against a real
//! systemd. Where there is none, the test says so and is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use metactl_runtime::systemd::bus::Bus;
use metactl_runtime::systemd::wire::{Target, Writer};
use metactl_runtime::systemd::{self};
use metactl_runtime::systemd::{Property, Scope, ScopeRequest, SystemdError, Value};

const DBUS: Target<'_> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "GetNameOwner",
};

fn eventually(what: &str, mut test: impl FnMut() -> bool) {
    let start = Instant::now();
    while !test() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_real_bus_is_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let address = format!("--address=unix:path={}", socket.display());
    let daemon = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--nopidfile", &address])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut daemon) = daemon else {
        eprintln!("SKIP a_real_bus_is_spoken_to: dbus-daemon is missing");
        return;
    };
    eventually("the bus listens", || {
        Bus::connect_to(socket.to_str().unwrap_or_default()).is_ok()
    });
    let talk = || -> Result<(), SystemdError> {
        let mut bus = Bus::connect_to(socket.to_str().unwrap())?;
        let mut body = Writer::default();
        body.str("org.freedesktop.DBus");
        let answer = bus.call(DBUS, "s", &body.into_bytes(), "x")?;
        assert_eq!(answer.strings()?, ["org.freedesktop.DBus"]);
        let mut body = Writer::default();
        body.str("no.such.name");
        let error = bus.call(DBUS, "s", &body.into_bytes(), "x").unwrap_err();
        assert!(error.to_string().contains("NameHasNoOwner"), "{error}");
        // The daemon takes a body only if it is laid out as its signature says.
        let mut body = Writer::default();
        body.properties(&[
            Property::new("a", Value::Bytes(vec![1, 2, 3])),
            Property::new("b", Value::U32s(vec![1])),
            Property::new("c", Value::Strs(vec!["x".into(), String::new()])),
            Property::new("d", Value::I64(-1)),
            Property::new("e", Value::Str("é".into())),
        ]);
        body.array(8, |_| {});
        let target = Target {
            member: "NoSuchMethod",
            ..DBUS
        };
        let body = body.into_bytes();
        let error = bus.call(target, "a(sv)a(sa(sv))", &body, "x").unwrap_err();
        assert!(error.to_string().contains("UnknownMethod"), "{error}");
        Ok(())
    };
    let result = talk();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    result.unwrap();
}

/// `None` without a systemd that could be asked.
fn booted(test: &str) -> Option<()> {
    if Path::new("/run/systemd/private").exists() && rustix::process::geteuid().is_root() {
        return Some(());
    }
    eprintln!("SKIP {test}: systemd does not run here");
    None
}

fn scope(id: &str, resources: &str, annotations: &[(&str, &str)]) -> Scope {
    let resources = serde_json::from_str(resources).unwrap();
    let annotations: BTreeMap<String, String> = annotations
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Scope::plan(&ScopeRequest {
        id,
        cgroups_path: Some(&format!("metactltest.slice:metactl-test:{id}")),
        resources: Some(&resources),
        annotations: &annotations,
        user: false,
        v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
    })
    .unwrap()
}

fn show(unit: &str, property: &str) -> String {
    let output = Command::new("systemctl")
        .args(["show", "--value", "--property", property, unit])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_scope_is_started_changed_and_stopped() {
    let test = "a_scope_is_started_changed_and_stopped";
    let Some(()) = booted(test) else { return };
    let annotations = [("org.systemd.property.TimeoutStopSec", "uint64 7")];
    let limits = r#"{"pids":{"limit":20},"cpu":{"cpus":"0","quota":20000}}"#;
    let scope = scope("one", limits, &annotations);
    let started = systemd::start(&scope).unwrap();
    let unit = scope.unit.as_str();
    assert_eq!(show(unit, "ActiveState"), "active");
    assert_eq!(show(unit, "TasksMax"), "20");
    assert_eq!(show(unit, "AllowedCPUs"), "0");
    assert_eq!(show(unit, "CPUQuotaPerSecUSec"), "200ms");
    assert_eq!(show(unit, "TimeoutStopUSec"), "7s");
    assert_eq!(show(unit, "Delegate"), "yes");
    assert_eq!(show(unit, "ControlGroup"), scope.cgroup_path(""));
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", started.pid())).unwrap();
    assert!(groups.contains(&scope.cgroup_path("")), "{groups}");
    // A second one of the same name.
    let error = systemd::start(&scope).unwrap_err().to_string();
    assert!(error.contains("UnitExists"), "{error}");
    let more = [
        Property::new("TasksMax", Value::U64(31)),
        Property {
            optional: true,
            ..Property::new("NoSuchProperty", Value::Bool(true))
        },
    ];
    systemd::set_properties(unit, false, &more).unwrap();
    assert_eq!(show(unit, "TasksMax"), "31");
    let must = [Property::new("NoSuchProperty", Value::Bool(true))];
    assert!(systemd::set_properties(unit, false, &must).is_err());
    // Stopping kills what is in it, and stopping twice is as good.
    systemd::stop(unit, false).unwrap();
    let state = format!("/proc/{}/stat", started.pid());
    eventually("the placeholder is dead", || {
        std::fs::read_to_string(&state).map_or(true, |text| text.contains(") Z"))
    });
    drop(started);
    systemd::stop(unit, false).unwrap();
    systemd::stop("metactl-test-never.scope", false).unwrap();
    eventually("the unit is gone", || {
        show(unit, "LoadState") == "not-found"
    });
}

#[test]
fn a_scope_goes_with_its_last_process() {
    let Some(()) = booted("a_scope_goes_with_its_last_process") else {
        return;
    };
    let scope = scope("two", "{}", &[]);
    let started = systemd::start(&scope).unwrap();
    drop(started);
    eventually("the unit is gone", || {
        show(&scope.unit, "LoadState") == "not-found"
    });
    // And the name is free again.
    drop(systemd::start(&scope).unwrap());
}

/// The way over a bus: the system's bus passed off as that of a user.
#[test]
fn a_scope_is_started_over_a_bus() {
    let test = "a_scope_is_started_over_a_bus";
    let Some(()) = booted(test) else { return };
    let socket = "/run/dbus/system_bus_socket";
    if std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_none() {
        if !Path::new(socket).exists() {
            eprintln!("SKIP {test}: no system bus");
            return;
        }
        // In a process of its own: the environment belongs to all threads.
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={socket}"))
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let mut scope = scope("three", r#"{"pids":{"limit":9}}"#, &[]);
    scope.user = true;
    assert!(systemd::control_group(true).is_ok());
    let started = systemd::start(&scope).unwrap();
    assert_eq!(show(&scope.unit, "TasksMax"), "9");
    systemd::stop(&scope.unit, true).unwrap();
    drop(started);
    systemd::stop(&scope.unit, true).unwrap();
}

/// A user's service finds the cgroup that systemd delegated to it, and nothing when there is
/// none.
#[test]
fn what_is_delegated_is_found_without_privileges() {
    use metactl_runtime::cgroup::Layout;
    let test = "what_is_delegated_is_found_without_privileges";
    const DELEGATED: &str = "METACTL_TEST_DELEGATED";
    match std::env::var(DELEGATED).as_deref() {
        Ok("yes") => {
            let layout = Layout::detect_delegated().unwrap().unwrap();
            let unified = layout.unified().unwrap();
            assert!(
                unified.controllers.iter().any(|c| c == "pids"),
                "{unified:?}"
            );
            let dir = unified.mount_point.join("metactl-test");
            std::fs::create_dir(&dir).unwrap();
            std::fs::remove_dir(&dir).unwrap();
            return;
        }
        Ok(_) => {
            assert_eq!(Layout::detect_delegated().unwrap(), None);
            return;
        }
        Err(_) => {}
    }
    let Some(()) = booted(test) else { return };
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        eprintln!("SKIP {test}: cgroup v2 is not all there is");
        return;
    }
    // Where everybody may execute it.
    let program = tempfile::Builder::new().tempdir_in("/run").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(program.path(), mode).unwrap();
    let copy = program.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    for delegated in ["yes", "no"] {
        let output = Command::new("systemd-run")
            .args(["--wait", "--pipe", "--quiet", "--uid=nobody"])
            .arg(format!("--property=Delegate={delegated}"))
            .arg(format!("--setenv={DELEGATED}={delegated}"))
            .arg(&copy)
            .args(["--exact", test, "--nocapture"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{delegated}: {text}");
        assert!(text.contains("1 passed"), "{text}");
    }
}
