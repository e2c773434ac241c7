//! What is read, and what is refused.

use super::*;

const MINIMAL: &str = r#"{"ociVersion": "1.2.0", "root": {"path": "rootfs"},
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}}"#;

fn parse(text: &str) -> Result<Bundle, SpecError> {
    Bundle::parse(Path::new("/b"), text.as_bytes().to_vec())
}

fn with(from: &str, to: &str) -> String {
    let text = MINIMAL.replace(from, to);
    assert_ne!(text, MINIMAL);
    parse(&text).unwrap_err().to_string()
}

#[test]
fn a_minimal_bundle_is_read() {
    let bundle = parse(MINIMAL).unwrap();
    assert_eq!(bundle.rootfs(), Path::new("/b/rootfs"));
}

#[test]
fn unknown_fields_are_named() {
    let text = with(r#""cwd": "/""#, r#""cwd": "/", "cvd": "/", "user2": {}"#);
    assert!(
        text.contains("unknown fields process.cvd, process.user2"),
        "{text}"
    );
    let text = MINIMAL.replace(r#""linux": {"#, r#""freebsd": {"jail": {}}, "linux": {"#);
    assert_eq!(parse(&text).unwrap().ignored, ["freebsd"]);
}

#[test]
fn what_is_not_enforced_is_refused_by_name() {
    for (from, to, want) in [
        (r#""cwd": "/""#, r#""cwd": "x""#, "process.cwd"),
        (
            r#""linux": {"#,
            r#""linux": {"intelRdt": {}, "#,
            "linux.intelRdt",
        ),
        (
            r#"{"type": "pid"}"#,
            r#"{"type": "user"}], "uidMappings": [{"containerID": 0, "hostID": 5, "size": 0}"#,
            "linux.uidMappings",
        ),
        (
            r#"{"type": "pid"}"#,
            r#"{"type": "user"}], "gidMappings": [{"containerID": 0, "hostID": 5, "size": 9},
                {"containerID": 8, "hostID": 50, "size": 9}"#,
            "mapped twice",
        ),
        (
            r#""linux": {"#,
            r#""linux": {"netDevices": {"a/b": {}}, "#,
            "linux.netDevices",
        ),
        (r#"{"type": "pid"}"#, r#"{"type": "mount"}"#, "twice"),
        (
            r#"{"type": "mount"}, "#,
            r#"{"type": "user"}, "#,
            "needs a mount namespace too",
        ),
        (r#""1.2.0""#, r#""2.0.0""#, "ociVersion"),
        // "Leave it as it is": root's.
        (r#""uid": 0"#, r#""uid": 4294967295"#, "process.user.uid"),
        (r#""gid": 0"#, r#""gid": 4294967295"#, "process.user.gid"),
        (
            r#""gid": 0"#,
            r#""gid": 0, "additionalGids": [4294967295]"#,
            "process.user.additionalGids",
        ),
        (
            r#""linux": {"#,
            r#""linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 4294967295}], "#,
            "linux.devices",
        ),
        (r#"["/bin/true"]"#, "[]", "process.args"),
        (
            r#""root":"#,
            r#""hooks": {"poststop": [{"path": "x"}]}, "root":"#,
            "hooks.poststop[0].path",
        ),
        (
            r#""root":"#,
            r#""hooks": {"prestart": [{"path": "/x", "timeout": 0}]}, "root":"#,
            "hooks.prestart[0].timeout",
        ),
        (
            r#""root":"#,
            r#""windows": {"layerFolders": []}, "root":"#,
            "windows",
        ),
        (
            r#""root":"#,
            r#""mounts": [{"destination": "/a/../../b", "source": "/x"}], "root":"#,
            "mounts[0].destination",
        ),
    ] {
        let text = with(from, to);
        assert!(text.contains(want), "{want}: {text}");
    }
}

#[test]
fn broken_json_tells_the_line() {
    let text = parse("{\n  \"ociVersion\": 7\n}").unwrap_err().to_string();
    assert!(text.contains("line 2"), "{text}");
    assert!(parse(&format!("{MINIMAL} x")).is_err());
}

#[test]
fn capital_letters_of_resources_do_not_matter() {
    let text = MINIMAL.replace(
        r#""linux": {"#,
        r#""linux": {"resources": {"CPU": {"Cpus": "0"}}, "#,
    );
    let bundle = parse(&text).unwrap();
    let linux = bundle.spec.linux().as_ref().unwrap();
    let cpu = linux.resources().as_ref().unwrap().cpu().as_ref().unwrap();
    assert_eq!(cpu.cpus().as_deref(), Some("0"));
    let text = text.replace("CPU", "CPUX");
    assert!(parse(&text).unwrap_err().to_string().contains("CPUX"));
}

#[test]
fn clean_paths_are_absolute_and_never_lead_upwards() {
    for (path, clean) in [
        ("/", "/"),
        ("//", "/"),
        ("/.", "/"),
        ("/a//b/./c/", "/a/b/c"),
        ("/..a/b..", "/..a/b.."),
    ] {
        let got = clean_path(Path::new(path)).unwrap();
        assert_eq!(got.as_os_str(), clean, "{path}");
    }
    for path in ["", "a", "./a", "/..", "/a/../b", "/a/.."] {
        assert!(clean_path(Path::new(path)).is_err(), "{path}");
    }
}
