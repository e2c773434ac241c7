//! What is shown of the host, what is refused, and how that is said.
#![allow(
    clippy::unwrap_used,
    reason = "a failed expectation is the failure of the test"
)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use metactl_bundles::app::{App, HostMount};
use metactl_bundles::bundle::{self, BundleError, Composition, Placement};
use metactl_bundles::layers::Config;
use metactl_bundles::view::{Fact, HostView, Kind};
use support::{
    app, compose, daemon, debian, json, mounts, origin, placement, seed_app, somewhere, with,
};

fn refused(app: &App, host: &HostView) -> String {
    refused_at(app, &somewhere(), host)
}

fn refused_at(app: &App, place: &Placement, host: &HostView) -> String {
    match bundle::compose(app, &Config::default(), place, host) {
        Err(BundleError::Refused(report)) => report.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

fn web(command: &str) -> App {
    with(app("myapp"), daemon("web", "exec", &[("command", command)]))
}

fn mount(source: &str, target: &str, writable: bool) -> HostMount {
    HostMount {
        source: source.into(),
        target: target.into(),
        writable,
        origin: origin(33),
    }
}

/// Adds mounts whose sources are folders of the host.
fn with_mounts(lines: &[(&str, &str, bool)]) -> (App, HostView) {
    let mut app = web("x");
    let mut host = debian();
    for (source, target, writable) in lines {
        app.sandbox.mounts.push(mount(source, target, *writable));
        let fact = Fact::Real(Kind::Directory, PathBuf::from(source));
        host.sources.insert(PathBuf::from(source), fact);
    }
    (app, host)
}

#[test]
fn a_missing_java_names_the_line_the_path_and_what_to_do() {
    let mut host = debian();
    host.java = None;
    let text = refused(
        &with(app("a"), daemon("jobs", "jvm", &[("jvm.jar", "a.jar")])),
        &host,
    );
    for part in [
        ".metactl:9",
        "Java is not on this host",
        "/usr/lib/jvm/default-java",
        "apt-get install",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let pairs = [("jvm.jar", "a.jar"), ("jvm.home", "/opt/jdk-21")];
    let text = refused(&with(app("a"), daemon("jobs", "jvm", &pairs)), &debian());
    for part in [
        ".metactl:11",
        "there is no /opt/jdk-21/bin/java",
        "jvm.home",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let mut cron_only = app("a");
    cron_only.cron.push(support::cron(
        "harvest",
        "harvest",
        "@daily",
        "java -jar h.jar",
    ));
    assert!(refused(&cron_only, &host).contains(".metactl:20"));
}

#[test]
fn a_missing_jetty_names_the_line_the_path_and_what_to_do() {
    let mut host = debian();
    host.needs.remove(Path::new("/usr/share/jetty9"));
    let text = refused(&with(app("a"), daemon("web", "jetty9", &[])), &host);
    for part in [
        ".metactl:9",
        "Jetty 9 is not on this host",
        "/usr/share/jetty9/start.jar",
        "apt-get install jetty9",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn everything_missing_is_said_in_one_go() {
    let mut host = debian();
    host.java = None;
    host.needs.clear();
    host.wars.clear();
    let text = refused(&seed_app("jetty9"), &host);
    assert!(
        text.matches("Java is not on this host").count() == 3,
        "{text}"
    );
    assert!(text.contains("Jetty 9 is not on this host"), "{text}");
    assert!(text.contains("no .war file"), "{text}");
}

#[test]
fn the_war_must_be_the_only_one_or_be_named() {
    let mut host = debian();
    host.wars.push("target/other.war".into());
    let text = refused(&with(app("a"), daemon("web", "jetty9", &[])), &host);
    for part in [
        "target/app.war, target/other.war",
        "jetty.war = target/app.war",
        ".metactl:9",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let war = |bundle: Composition| {
        bundle
            .text("rootfs/etc/metactl/web/jetty/webapps/ROOT.xml")
            .unwrap()
            .to_owned()
    };
    let named = with(
        app("a"),
        daemon("web", "jetty9", &[("jetty.war", "target/other.war")]),
    );
    assert!(war(compose(&named, &somewhere(), &host)).contains(">/app/target/other.war<"));

    host.wars.clear();
    let unnamed = with(app("a"), daemon("web", "jetty9", &[]));
    assert!(refused(&unnamed, &host).contains("[build]"));
    host.release_is_webapp = true;
    assert!(war(compose(&unnamed, &somewhere(), &host)).contains(">/app<"));

    host.wars = vec!["a&b<c>.war".into()];
    assert!(war(compose(&unnamed, &somewhere(), &host)).contains(">/app/a&amp;b&lt;c&gt;.war<"));
}

#[test]
fn a_java_outside_usr_is_shown_where_it_is() {
    let pairs = [("jvm.jar", "a.jar"), ("jvm.home", "/opt/jdk-21")];
    let app = with(app("a"), daemon("jobs", "jvm", &pairs));
    let mut host = debian();
    let real = PathBuf::from("/srv/java/21.0.1");
    let facts = metactl_bundles::view::NeedFacts {
        real: real.clone(),
        probed: true,
        etc: Default::default(),
    };
    host.needs.insert("/opt/jdk-21".into(), facts);
    let bundle = compose(&app, &somewhere(), &host);
    let config = json(&bundle, "jobs/config.json");
    assert_eq!(mounts(&config)["/opt/jdk-21"].1, "/srv/java/21.0.1");
    assert_eq!(config["process"]["args"][0], "/opt/jdk-21/bin/java");
    assert!(bundle.items.contains_key(Path::new("rootfs/opt/jdk-21")));
}

#[test]
fn mounts_are_added_read_only_or_writable() {
    let (app, host) = with_mounts(&[
        ("/srv/maps", "/mnt/maps", false),
        ("/srv/up", "/uploads", true),
    ]);
    let bundle = compose(&app, &somewhere(), &host);
    let config = json(&bundle, "web/config.json");
    let mounts = mounts(&config);
    assert!(mounts["/mnt/maps"].2.contains("ro"));
    assert!(mounts["/uploads"].2.contains("rw"));
    assert!(bundle.items.contains_key(Path::new("rootfs/mnt/maps")));
}

#[test]
fn mounts_over_the_sandbox_itself_are_refused() {
    for target in [
        "/",
        "/app",
        "/data",
        "/data/x",
        "/tmp",
        "/tmp/x",
        "/proc",
        "/proc/sys",
        "/dev",
        "/dev/shm",
        "/sys",
        "/sys/fs/cgroup",
        "/usr",
        "/etc",
        "/etc/hosts",
        "/etc/passwd",
        "/etc/passwd/x",
        "/etc/metactl/web",
        "/run",
        "/bin",
        "/bin/x",
        "mnt",
        "/mnt/../usr",
        "",
    ] {
        let (app, host) = with_mounts(&[("/srv/x", target, false)]);
        let text = refused(&app, &host);
        assert!(text.contains(".metactl:33"), "{target}: {text}");
        assert!(text.contains("help: "), "{target}: {text}");
    }
}

#[test]
fn mounts_of_the_kernel_and_of_metactl_are_refused() {
    for source in [
        "/",
        "/proc",
        "/proc/1",
        "/dev",
        "/dev/mem",
        "/sys",
        "/var/lib/metactl/myapp",
        "/var/lib",
        "/var/lib/metactl/myapp/data",
    ] {
        let (app, host) = with_mounts(&[(source, "/mnt/x", false)]);
        assert!(refused(&app, &host).contains(source), "{source}");
    }
    let (app, mut host) = with_mounts(&[("/srv/gone", "/mnt/x", false)]);
    host.sources.clear();
    let text = refused(&app, &host);
    assert!(
        text.contains("/srv/gone: there is no such file or folder"),
        "{text}"
    );
}

#[test]
fn mounts_into_something_shown_need_a_place_there() {
    let (app, mut host) = with_mounts(&[("/srv/x", "/app/uploads", true)]);
    assert!(refused(&app, &host).contains("no folder /app/uploads"));
    host.targets.insert("/app/uploads".into(), Kind::File);
    assert!(refused(&app, &host).contains("no folder /app/uploads"));
    host.targets.insert("/app/uploads".into(), Kind::Directory);
    let bundle = compose(&app, &somewhere(), &host);
    assert!(mounts(&json(&bundle, "web/config.json")).contains_key("/app/uploads"));
    assert!(!bundle.items.contains_key(Path::new("rootfs/app/uploads")));

    let (app, host) = with_mounts(&[("/srv/x", "/mnt", false), ("/srv/y", "/mnt", false)]);
    assert!(refused(&app, &host).contains("would hide /mnt"));
}

/// Makes files (`text`) and folders (ending in `/`) and links (`name -> target`).
fn make(dir: &Path, lines: &[&str]) {
    for line in lines {
        let (name, target) = line.split_once(" -> ").unwrap_or((line, ""));
        let path = dir.join(name.trim_start_matches('/'));
        fs::create_dir_all(if name.ends_with('/') {
            &path
        } else {
            path.parent().unwrap()
        })
        .unwrap();
        if !target.is_empty() {
            symlink(target, &path).unwrap();
        } else if !name.ends_with('/') {
            fs::write(&path, "").unwrap();
        }
    }
}

#[test]
fn a_tree_of_the_users_own_takes_the_place_of_the_hosts() {
    let dir = support::open_tempdir();
    let tree = dir.path().join("tree");
    make(
        &tree,
        &[
            "/usr/bin/",
            "/usr/lib/jvm/java-21/bin/java",
            "/bin -> usr/bin",
            "/var/lib/",
            "/opt/tool/",
            "/etc/passwd",
            "/etc/profile",
            "/etc/ssl/certs/",
            "/etc/os-release -> ../usr/lib/os-release",
            "/proc/",
            "/tmp/",
            "/app/",
            "/.hidden/",
            "/run/",
            "/vmlinuz",
        ],
    );
    make(dir.path(), &["a.jar"]);
    let pairs = [("jvm.jar", "a.jar")];
    let mut app = with(app("myapp"), daemon("jobs", "jvm", &pairs));
    app.sandbox.rootfs = Some(tree.clone());
    let place = placement(dir.path(), dir.path());
    let host = HostView::gather(&app, &place);
    assert_eq!(
        host.java.as_deref(),
        Some(Path::new("/usr/lib/jvm/java-21"))
    );
    let bundle = compose(&app, &place, &host);
    let config = json(&bundle, "jobs/config.json");
    assert_eq!(
        config["root"]["path"], "../rootfs",
        "nothing is made in the user's tree"
    );
    let mounts = mounts(&config);
    let source = |target: &str| mounts[target].1.clone();
    let inside = |path: &str| tree.join(path).to_str().unwrap().to_owned();
    for name in [
        "usr",
        "var",
        "opt",
        "vmlinuz",
        "etc/ssl",
        "etc/profile",
        ".hidden",
    ] {
        assert_eq!(source(&format!("/{name}")), inside(name));
    }
    assert!(!mounts.contains_key("/etc") && !mounts.contains_key("/etc/passwd"));
    assert!(mounts.contains_key("/proc") && mounts["/tmp"].1.ends_with("/tmp/jobs"));
    assert!(bundle.text("rootfs/etc/passwd").unwrap().contains("myapp"));
    for (target, (kind, _, options)) in &mounts {
        let own = ["/data", "/tmp"].contains(&target.as_str());
        assert!(kind != "bind" || own || options.contains("ro"), "{target}");
    }

    app.sandbox.rootfs = Some(dir.path().join("nowhere"));
    let host = HostView::gather(&app, &place);
    let text = refused(&app, &host);
    assert!(text.contains("nowhere: there is no such folder"), "{text}");
}

#[test]
fn links_of_a_tree_end_inside_it() {
    let dir = support::open_tempdir();
    let tree = dir.path().join("tree");
    // Links that climb out, or are absolute, lead to the tree's own paths.
    make(
        &tree,
        &[
            "/usr/lib/jvm/java-9 -> ../../../../../../../../opt/jdk",
            "/opt/jdk/bin/java -> /usr/bin/real",
            "/usr/bin/real",
        ],
    );
    make(&tree, &["/loop -> loop", "/usr/lib/jvm/java-1 -> /loop"]);
    let mut app = web("x");
    app.sandbox.rootfs = Some(tree);
    let host = HostView::gather(&app, &placement(dir.path(), dir.path()));
    assert_eq!(host.java.as_deref(), Some(Path::new("/opt/jdk")));
}

#[test]
fn wars_are_found_where_builds_put_them() {
    let dir = support::open_tempdir();
    let release = dir.path().join("release");
    make(
        &release,
        &[
            "target/app.war",
            "target/app/WEB-INF/lib/inner.war",
            ".git/old.war",
            "b/c/two.war",
            "x.war/",
        ],
    );
    symlink("/etc", release.join("elsewhere")).unwrap();
    let app = with(app("myapp"), daemon("web", "jetty9", &[]));
    let host = HostView::gather(&app, &placement(dir.path(), &release));
    assert_eq!(
        host.wars,
        [
            PathBuf::from("b/c/two.war"),
            PathBuf::from("target/app.war")
        ]
    );
    assert!(!host.release_is_webapp);
}

#[test]
fn a_release_that_cannot_be_entered_is_refused_before_it_fails() {
    let dir = support::open_tempdir();
    let release = dir.path().join("release");
    let app = web("./server");
    let place = placement(dir.path(), &release);
    let text = refused_at(&app, &place, &HostView::gather(&app, &place));
    assert!(text.contains("release: there is no such folder"), "{text}");
    fs::create_dir(&release).unwrap();
    fs::set_permissions(&release, fs::Permissions::from_mode(0o700)).unwrap();
    let text = refused_at(&app, &place, &HostView::gather(&app, &place));
    assert!(
        text.contains("has mode 0700") && text.contains("chmod a+rX"),
        "{text}"
    );
    fs::set_permissions(&release, fs::Permissions::from_mode(0o755)).unwrap();
    compose(&app, &place, &HostView::gather(&app, &place));
}

#[test]
fn placements_are_whole_paths() {
    let place = placement(Path::new("/state"), Path::new("checkout"));
    let error = bundle::compose(&web("x"), &Config::default(), &place, &debian()).unwrap_err();
    assert!(matches!(error, BundleError::Relative { .. }), "{error}");
}

#[test]
fn sources_that_are_links_are_resolved() {
    let dir = support::open_tempdir();
    make(dir.path(), &["real/file", "link -> real"]);
    let (link, real) = (dir.path().join("link"), dir.path().join("real"));
    let mut app = web("x");
    app.sandbox
        .mounts
        .push(mount(link.to_str().unwrap(), "/mnt/x", false));
    let place = placement(&dir.path().join("state"), dir.path());
    let bundle = compose(&app, &place, &HostView::gather(&app, &place));
    let real = fs::canonicalize(real).unwrap();
    assert_eq!(
        mounts(&json(&bundle, "web/config.json"))["/mnt/x"].1,
        real.to_str().unwrap()
    );
}

#[test]
fn only_public_places_in_etc_are_shown_for_links() {
    let dir = support::open_tempdir();
    let tree = dir.path().join("tree");
    make(
        &tree,
        &[
            "/usr/lib/jvm/java-21/bin/java",
            "/usr/lib/jvm/java-21/conf/a -> /etc/java-21/a",
            "/usr/lib/jvm/java-21/conf/b -> /etc/private/b",
            "/usr/lib/jvm/java-21/conf/c -> ../../../../../etc/single",
            "/usr/lib/jvm/java-21/conf/d -> /etc/gone",
            "/etc/java-21/a",
            "/etc/private/b",
            "/etc/single",
        ],
    );
    fs::set_permissions(tree.join("etc/private"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(tree.join("etc/single"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(tree.join("etc/java-21"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut app = with(app("myapp"), daemon("jobs", "jvm", &[("jvm.jar", "a.jar")]));
    app.sandbox.rootfs = Some(tree);
    let host = HostView::gather(&app, &placement(dir.path(), dir.path()));
    let facts = &host.needs[Path::new("/usr/lib/jvm/java-21")];
    let found: Vec<_> = facts
        .etc
        .iter()
        .map(|(path, kind)| (path.to_str().unwrap(), *kind))
        .collect();
    assert_eq!(
        found,
        [
            ("/etc/java-21", Kind::Directory),
            ("/etc/single", Kind::File)
        ]
    );
}

#[test]
fn this_host_is_seen() {
    if !Path::new("/usr/bin/java").exists() || !Path::new("/usr/share/jetty9").exists() {
        eprintln!("SKIP this_host_is_seen: jetty9 and a Java are not installed");
        return;
    }
    let dir = support::open_tempdir();
    let release = dir.path().join("release");
    make(&release, &["app.war", "jobmanager.jar"]);
    let place = placement(&dir.path().join("state"), &release);
    let app = seed_app("jetty9");
    let host = HostView::gather(&app, &place);
    assert_eq!(HostView::gather(&app, &place), host);
    let config = json(&compose(&app, &place, &host), "webapp/config.json");
    let mounts = mounts(&config);
    assert!(mounts.contains_key("/usr") && mounts.contains_key("/etc/jetty9"));
    let sources: Vec<&str> = mounts.values().map(|mount| mount.1.as_str()).collect();
    for hidden in [
        "/etc",
        "/var/log/jetty9",
        "/var/lib/jetty9",
        "/etc/shadow",
        "/home",
        "/root",
    ] {
        assert!(!sources.contains(&hidden), "{hidden}");
    }
}
