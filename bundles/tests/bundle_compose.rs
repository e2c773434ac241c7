//! What a composed bundle holds: files, config.json by the OCI schema, the same bytes each time.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is the failure of the test"
)]

mod support;

use std::path::{Path, PathBuf};

use metactl_bundles::app::Limits;
use metactl_bundles::bundle::{Composition, EntryKind, Item};
use metactl_bundles::network::{Entry, Mode, Peer, PortRange, Verdict};
use serde_json::Value as Json;
use support::{app, compose, daemon, debian, env, json, mounts, seed_app, somewhere, with};

/// Checks every config.json of a bundle against the schema of the OCI.
fn assert_valid(composition: &Composition) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/oci-schema");
    let read = |name: &str| -> Json {
        serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
    };
    let draft = jsonschema::Draft::Draft4;
    let mut registry = jsonschema::Registry::new();
    for entry in std::fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".json") {
            let uri = format!("http://schema.invalid/{name}");
            registry = registry
                .add(uri, draft.create_resource(read(&name)))
                .unwrap();
        }
    }
    let registry = registry.prepare().unwrap();
    let validator = jsonschema::options()
        .with_draft(draft)
        .with_registry(&registry)
        .with_base_uri("http://schema.invalid/config-schema.json")
        .build(&read("config-schema.json"))
        .unwrap();
    let mut checked = 0;
    for path in composition
        .items
        .keys()
        .filter(|path| path.ends_with("config.json"))
    {
        let config = json(composition, path.to_str().unwrap());
        let errors: Vec<String> = validator
            .iter_errors(&config)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        checked += 1;
        // The check itself must be able to see something wrong, deep inside.
        let mut wrong = config.clone();
        wrong["linux"]["seccomp"]["syscalls"][0]["action"] = "SCMP_ACT_PERHAPS".into();
        assert!(!validator.is_valid(&wrong));
    }
    assert!(checked > 0);
}

fn strings(value: &Json) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

#[test]
fn the_seed_application_becomes_four_oci_bundles() {
    for jetty in [
        "jetty6", "jetty7", "jetty8", "jetty9", "jetty10", "jetty11", "jetty12",
    ] {
        let bundle = compose(&seed_app(jetty), &somewhere(), &debian());
        assert_valid(&bundle);
        let configs: Vec<&str> = bundle
            .items
            .keys()
            .filter(|path| path.ends_with("config.json"))
            .map(|path| path.parent().unwrap().to_str().unwrap())
            .collect();
        let wanted = ["cron/daily-housekeeping", "cron/harvest-data-on-mondays"];
        assert_eq!(configs, [&wanted[..], &["jobmanager", "webapp"]].concat());
    }
}

#[test]
fn the_sandbox_is_closed_without_asking() {
    let app = with(
        app("myapp"),
        daemon("web", "exec", &[("command", "perl server.pl")]),
    );
    let bundle = compose(&app, &somewhere(), &debian());
    assert_valid(&bundle);
    let config = json(&bundle, "web/config.json");
    let process = &config["process"];
    for set in [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ] {
        assert_eq!(process["capabilities"][set], serde_json::json!([]), "{set}");
    }
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(process["terminal"], false);
    assert_eq!(
        process["user"],
        serde_json::json!({"uid": 66000, "gid": 66000})
    );
    assert_eq!(process["cwd"], "/app");
    assert!(process.get("rlimits").is_none());
    assert_eq!(
        config["root"],
        serde_json::json!({"path": "../rootfs", "readonly": true})
    );
    assert_eq!(config["hostname"], "myapp");

    let linux = &config["linux"];
    let types: Vec<&str> = linux["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["pid", "mount", "ipc", "uts", "cgroup", "network"]);
    assert_eq!(linux["cgroupsPath"], "/metactl/myapp/web");
    assert_eq!(
        linux["sysctl"],
        serde_json::json!({"net.ipv4.ip_unprivileged_port_start": "0"})
    );
    assert!(strings(&linux["maskedPaths"]).contains(&"/proc/kcore"));
    assert!(strings(&linux["readonlyPaths"]).contains(&"/proc/sys"));
    assert!(linux["resources"].get("devices").is_none());
    assert_eq!(
        strings(&linux["seccomp"]["architectures"]),
        ["SCMP_ARCH_X86_64"]
    );
    assert_eq!(config["annotations"]["org.metactl.init"], "true");
}

#[test]
fn mounts_show_the_system_read_only_and_nothing_recursively() {
    let bundle = compose(&seed_app("jetty9"), &somewhere(), &debian());
    let config = json(&bundle, "webapp/config.json");
    let mounts = mounts(&config);
    for (target, (kind, source, options)) in &mounts {
        assert!(!options.contains("rbind"), "{target}");
        if kind == "bind" {
            assert!(
                options.contains("nosuid") && options.contains("nodev"),
                "{target}"
            );
            let writable = ["/data", "/tmp"].contains(&target.as_str());
            assert_eq!(options.contains("rw"), writable, "{target}");
            assert_ne!(options.contains("ro"), writable, "{target}");
            assert!(source.starts_with('/'), "{target}");
        }
    }
    let source = |target: &str| mounts[target].1.as_str();
    assert_eq!(source("/usr"), "/usr");
    assert_eq!(source("/app"), "/var/lib/metactl/myapp/releases/1");
    assert_eq!(source("/data"), "/var/lib/metactl/myapp/data");
    assert_eq!(source("/tmp"), "/var/lib/metactl/myapp/tmp/webapp");
    assert_eq!(source("/etc/hosts"), "/var/lib/metactl/myapp/etc/hosts");
    assert_eq!(source("/etc/java-17-openjdk"), "/etc/java-17-openjdk");
    assert_eq!(source("/etc/jetty9"), "/etc/jetty9");
    // Inside /etc/ssl/certs already.
    assert!(!mounts.contains_key("/etc/ssl/certs/java"));
    for hidden in ["/home", "/var", "/opt", "/srv", "/sys", "/etc", "/run"] {
        assert!(!mounts.contains_key(hidden), "{hidden}");
    }
    // Every entry point sees the same, but for /tmp.
    let other = json(&bundle, "cron/daily-housekeeping/config.json");
    let mut other = support::mounts(&other);
    assert_eq!(
        other["/tmp"].1,
        "/var/lib/metactl/myapp/tmp/cron.daily-housekeeping"
    );
    other.insert("/tmp".to_owned(), mounts["/tmp"].clone());
    assert_eq!(other, mounts);
}

#[test]
fn the_skeleton_has_a_place_for_every_mount() {
    let bundle = compose(&seed_app("jetty9"), &somewhere(), &debian());
    let config = json(&bundle, "webapp/config.json");
    for (target, (_, source, _)) in mounts(&config) {
        let inside_dev = target.starts_with("/dev/");
        let place = bundle.items.get(&Path::new("rootfs").join(&target[1..]));
        let is_file = ["/etc/ld.so.cache", "/etc/hosts"].contains(&target.as_str());
        match place {
            Some(Item::File { text, .. }) => assert!(is_file && text.is_empty(), "{target}"),
            Some(Item::Directory { mode: 0o755 }) => assert!(!is_file, "{target}"),
            other => assert!(inside_dev, "{target} from {source}: {other:?}"),
        }
    }
    let link = |path: &str| match &bundle.items[&PathBuf::from(path)] {
        Item::Link { target } => target.clone(),
        other => panic!("{path}: {other:?}"),
    };
    assert_eq!(link("rootfs/bin"), "usr/bin");
    assert_eq!(link("rootfs/etc/localtime"), "/usr/share/zoneinfo/Etc/UTC");
    let passwd = bundle.text("rootfs/etc/passwd").unwrap();
    assert!(
        passwd.contains("\nmyapp:x:66000:66000:myapp:/data:/bin/sh\n"),
        "{passwd}"
    );
}

#[test]
fn the_environment_is_put_together_in_order() {
    let mut app = seed_app("jetty9");
    env(&mut app, "LANG", "de_AU.UTF-8", false);
    env(&mut app, "METACTL_INSTANCE", "somebody", false);
    let bundle = compose(&app, &somewhere(), &debian());
    let config = json(&bundle, "webapp/config.json");
    let env = strings(&config["process"]["env"]);
    for wanted in [
        "DB_URL=mysql://myapp:secret@mysql-prod.example.org/myapp",
        "HOME=/data",
        "JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64",
        "JOB_MANAGER_PORT=9001",
        "LANG=de_AU.UTF-8",
        "METACTL_APP_DIR=/app",
        "METACTL_DATA_DIR=/data",
        "METACTL_ENTRY=webapp",
        "METACTL_INSTANCE=myapp",
        "METACTL_PORT=80",
        "METACTL_RELEASE=1.2.3-9f2c1e4",
        "METACTL_SITE=prod",
        "METACTL_TMP_DIR=/tmp",
        "PORT=80",
    ] {
        assert!(env.contains(&wanted), "{wanted} not in {env:?}");
    }
    assert!(env.is_sorted());
    // `java -jar harvest.jar` of the crontab finds the same Java.
    let cron = json(&bundle, "cron/harvest-data-on-mondays/config.json");
    let path = "PATH=/usr/lib/jvm/java-17-openjdk-amd64/bin:";
    assert!(
        strings(&cron["process"]["env"])
            .iter()
            .any(|value| value.starts_with(path))
    );
    assert_eq!(
        strings(&cron["process"]["args"]),
        ["/bin/sh", "-c", "java -jar harvest.jar"]
    );
    assert_eq!(cron["root"]["path"], "../../rootfs");
}

#[test]
fn jetty_serves_the_only_war_of_the_release() {
    let bundle = compose(&seed_app("jetty9"), &somewhere(), &debian());
    let context = bundle
        .text("rootfs/etc/metactl/webapp/jetty/webapps/ROOT.xml")
        .unwrap();
    assert!(
        context.contains("<Set name=\"war\">/app/target/app.war</Set>"),
        "{context}"
    );
    let ini = bundle
        .text("rootfs/etc/metactl/webapp/jetty/start.d/metactl.ini")
        .unwrap();
    assert!(ini.contains("jetty.http.port=80"));
    let config = json(&bundle, "webapp/config.json");
    let args = strings(&config["process"]["args"]);
    assert_eq!(args[0], "/usr/lib/jvm/java-17-openjdk-amd64/bin/java");
    // The JVM cannot see its cgroup: the memory of the instance is told to it.
    assert!(args.contains(&"-XX:MaxRAM=1073741824") && args.contains(&"-Xmx256m"));
    assert!(
        config["annotations"].get("org.metactl.init").is_none(),
        "a JVM is its own init"
    );
}

#[test]
fn limits_are_the_entry_points_own_or_the_instances() {
    let mut app = with(app("myapp"), daemon("a", "exec", &[("command", "a")]));
    app = with(app, daemon("b", "exec", &[("command", "b")]));
    app.sandbox.limits.cpu_millis = Some(1500);
    app.daemons.get_mut("a").unwrap().limits = Limits {
        memory: Some(64 << 20),
        files: Some(256),
        ..Limits::default()
    };
    let bundle = compose(&app, &somewhere(), &debian());
    assert_valid(&bundle);
    let a = json(&bundle, "a/config.json");
    let wanted = serde_json::json!({
        "memory": {"limit": 67108864},
        "pids": {"limit": 1024},
        "cpu": {"quota": 150000, "period": 100000},
    });
    assert_eq!(a["linux"]["resources"], wanted);
    let nofile = serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 256, "hard": 256}]);
    assert_eq!(a["process"]["rlimits"], nofile);
    let b = json(&bundle, "b/config.json");
    assert_eq!(b["linux"]["resources"]["memory"]["limit"], 1 << 30);
    for config in [&a, &b] {
        let text = config["annotations"]["org.metactl.instance.resources"]
            .as_str()
            .unwrap();
        let instance: Json = serde_json::from_str(text).unwrap();
        assert_eq!(instance["memory"]["limit"], 1 << 30);
    }
    app.sandbox.limits = Limits::default();
    app.daemons.remove("a");
    let b = json(&compose(&app, &somewhere(), &debian()), "b/config.json");
    assert!(b["linux"].get("resources").is_none());
    assert!(
        b["annotations"]
            .get("org.metactl.instance.resources")
            .is_none()
    );
}

#[test]
fn the_host_network_is_the_hosts() {
    let mut app = with(app("myapp"), daemon("a", "exec", &[("command", "a")]));
    app.sandbox.net.mode = Mode::Host;
    let bundle = compose(&app, &somewhere(), &debian());
    let config = json(&bundle, "a/config.json");
    assert!(
        !config["linux"]["namespaces"]
            .to_string()
            .contains("network")
    );
    assert!(config["linux"].get("sysctl").is_none());
    assert!(bundle.network.addresses.is_empty());
}

#[test]
fn the_name_server_is_the_own_one_unless_the_policy_names_another() {
    let mut app = with(app("myapp"), daemon("a", "exec", &[("command", "a")]));
    let resolv = |app: &metactl_bundles::app::App| {
        let bundle = compose(app, &somewhere(), &debian());
        let text = |path: &str| bundle.text(path).unwrap().to_owned();
        (
            text("rootfs/etc/resolv.conf"),
            text("rootfs/etc/nsswitch.conf"),
        )
    };
    let (conf, switch) = resolv(&app);
    assert_eq!(conf, "nameserver 169.254.1.1\n");
    assert!(switch.contains("hosts: files dns\n"), "{switch}");
    app.sandbox.out.accept.push(Entry {
        name: "dns".to_owned(),
        peer: Peer::Net("10.1.1.0/24".parse().unwrap()),
        ports: vec![PortRange {
            first: 53,
            last: 53,
        }],
        protocol: None,
    });
    let (conf, switch) = resolv(&app);
    assert_eq!(conf, "nameserver 10.1.1.1\n");
    assert!(switch.contains("hosts: files dns\n"), "{switch}");
    app.sandbox.out.accept.clear();
    app.sandbox.out.policy = Verdict::Accept;
    assert_eq!(resolv(&app).0, "nameserver 169.254.1.1\n");
    app.sandbox.net.addresses = vec!["2001:db8::5".parse().unwrap()];
    for policy in [Verdict::Accept, Verdict::Reject] {
        app.sandbox.out.policy = policy;
        assert_eq!(resolv(&app).0, "nameserver fd9b:6be1:3d5a::53\n");
    }
    app.sandbox.net.mode = Mode::None;
    let (conf, switch) = resolv(&app);
    assert!(!conf.contains("nameserver"), "{conf}");
    assert!(switch.contains("hosts: files\n"), "{switch}");
}

#[test]
fn granted_capabilities_are_in_every_set() {
    let mut app = with(app("myapp"), daemon("a", "exec", &[("command", "a")]));
    app.sandbox.capabilities = vec!["CAP_NET_RAW".to_owned(), "CAP_CHOWN".to_owned()];
    let bundle = compose(&app, &somewhere(), &debian());
    assert_valid(&bundle);
    let config = json(&bundle, "a/config.json");
    for set in [
        "bounding",
        "effective",
        "inheritable",
        "permitted",
        "ambient",
    ] {
        let names = strings(&config["process"]["capabilities"][set]);
        assert_eq!(names, ["CAP_CHOWN", "CAP_NET_RAW"], "{set}");
    }
    app.sandbox.capabilities = vec!["CAP_EVERYTHING".to_owned()];
    let config = metactl_bundles::layers::Config::default();
    let error =
        metactl_bundles::bundle::compose(&app, &config, &somewhere(), &debian()).unwrap_err();
    assert!(error.to_string().contains("CAP_EVERYTHING"), "{error}");
}

#[test]
fn the_manifest_says_all_that_supervision_needs() {
    let mut app = seed_app("jetty9");
    app.daemons.get_mut("webapp").unwrap().after = vec!["jobmanager".to_owned()];
    let bundle = compose(&app, &somewhere(), &debian());
    let manifest = &bundle.manifest;
    let names: Vec<&str> = manifest
        .entries
        .iter()
        .map(|entry| entry.name.as_str())
        .collect();
    let crons = ["cron.daily-housekeeping", "cron.harvest-data-on-mondays"];
    assert_eq!(names, [&["jobmanager", "webapp"], &crons[..]].concat());
    let webapp = &manifest.entries[1];
    assert_eq!((webapp.port, webapp.after.len()), (Some(80), 1));
    let cron = &manifest.entries[2];
    assert_eq!(cron.kind, EntryKind::Cron);
    assert_eq!(cron.schedule.as_deref(), Some("5 0 * * *"));
    assert_eq!(cron.title, "daily housekeeping");
    assert_eq!(cron.dir, Path::new("cron/daily-housekeeping"));
    let text = json(&bundle, "manifest.json");
    assert_eq!(text["format"], 1);
    assert_eq!(text["entries"][1]["stopTimeoutMs"], 30000);
    assert_eq!(
        json(&bundle, "network.json")["addresses"],
        serde_json::json!(["10.77.0.2"])
    );
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let first = compose(&seed_app("jetty9"), &somewhere(), &debian());
    for _ in 0..20 {
        let again = compose(&seed_app("jetty9"), &somewhere(), &debian());
        assert_eq!(first.items, again.items);
        assert_eq!(first.digest(), again.digest());
    }
    let mut place = somewhere();
    place.uid += 1;
    assert_ne!(
        first.digest(),
        compose(&seed_app("jetty9"), &place, &debian()).digest()
    );
}

#[test]
fn a_redacted_copy_tells_everything_but_passwords() {
    let mut app = seed_app("jetty9");
    env(&mut app, "API_TOKEN", "t0psecret\"quoted", true);
    let pairs = [(
        "command",
        "client --url mysql://myapp:secret@mysql-prod.example.org/myapp",
    )];
    app = with(app, daemon("client", "exec", &pairs));
    let bundle = compose(&app, &somewhere(), &debian());
    let copy = bundle.redacted();
    assert_eq!(
        copy.items.keys().collect::<Vec<_>>(),
        bundle.items.keys().collect::<Vec<_>>()
    );
    for (path, item) in &copy.items {
        if let Item::File { text, .. } = item {
            assert!(!text.contains(":secret@"), "{}", path.display());
            assert!(!text.contains("t0psecret"), "{}", path.display());
        }
    }
    assert_valid(&copy);
    let config = json(&copy, "client/config.json");
    let url = "mysql://myapp:***@mysql-prod.example.org/myapp";
    assert_eq!(strings(&config["process"]["args"])[2], url);
    assert!(strings(&config["process"]["env"]).contains(&"API_TOKEN=***"));
}

#[test]
fn names_that_cannot_be_folders_are_refused() {
    for name in [
        "rootfs",
        "cron",
        "manifest.json",
        "cron.x",
        "..",
        "a/b",
        "",
        "a b",
    ] {
        let mut daemon = daemon("x", "exec", &[("command", "a")]);
        daemon.name = name.to_owned();
        let app = with(app("myapp"), daemon);
        let config = metactl_bundles::layers::Config::default();
        let result = metactl_bundles::bundle::compose(&app, &config, &somewhere(), &debian());
        assert!(result.is_err(), "{name}");
    }
}
