use std::collections::BTreeMap;

use super::*;
use crate::layers::LayerKind;

/// A section made of `(key, value)` pairs, all in line 7 of `.metactl`.
pub(super) fn try_launch(
    platform: &str,
    port: Option<u16>,
    pairs: &[(&str, &str)],
) -> Result<Launch, PlatformError> {
    let origin = Origin {
        layer: LayerKind::App,
        file: Some(Path::new(".metactl").into()),
        line: 7,
        column: 1,
    };
    let values: BTreeMap<&str, Value> = pairs
        .iter()
        .map(|(key, text)| {
            let value = Value {
                text: (*text).into(),
                raw: (*text).into(),
                origin: origin.clone(),
                overrides: Vec::new(),
                sensitive: false,
            };
            (*key, value)
        })
        .collect();
    let get = |key: &str| values.get(key);
    let words =
        |key: &str| get(key).map(|value| value.text.split(' ').map(str::to_owned).collect());
    let below = |prefix: &str| -> Vec<(&str, &Value)> {
        let found = values.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(key, value)| (*key, value)).collect()
    };
    launch(
        platform,
        &DaemonSection {
            name: "web",
            get: &get,
            words: &words,
            below: &below,
            port,
            limits: &Limits::default(),
            env: &BTreeMap::new(),
        },
    )
}

#[test]
fn exec_takes_programs_with_a_slash_from_the_release() {
    let launch = try_launch("exec", None, &[("command", "./bin/server --port 80")]).unwrap();
    assert_eq!(launch.args, ["/app/bin/server", "--port", "80"]);
    assert!(!launch.is_init && launch.java.is_none());
    let launch = try_launch("exec", None, &[("command", "perl server.pl")]).unwrap();
    assert_eq!(launch.args, ["perl", "server.pl"]);
    let launch = try_launch("exec", None, &[("command", "/usr/bin/env x")]).unwrap();
    assert_eq!(launch.args, ["/usr/bin/env", "x"]);
}

#[test]
fn exec_without_a_command_or_out_of_the_release_is_an_error() {
    let error = try_launch("exec", None, &[]).unwrap_err();
    assert_eq!((error.key.as_str(), error.origin), ("command", None));
    let error = try_launch("exec", None, &[("command", "../x")]).unwrap_err();
    assert_eq!(error.origin.unwrap().line, 7);
}

#[test]
fn jvm_runs_a_jar_with_arguments() {
    let pairs = [
        ("jvm.jar", "target/jobmanager.jar 9001"),
        ("jvm.heap.max", "128M"),
    ];
    let launch = try_launch("jvm", None, &pairs).unwrap();
    assert_eq!(launch.args[..2], ["java", "-Xmx128m"]);
    assert_eq!(
        launch.args[launch.args.len() - 3..],
        ["-jar", "/app/target/jobmanager.jar", "9001"]
    );
    assert!(launch.is_init && launch.java.is_some());
}

#[test]
fn jvm_runs_a_main_class() {
    let pairs = [("jvm.main", "org.Main a"), ("jvm.options", "-ea -Dx=1")];
    let launch = try_launch("jvm", None, &pairs).unwrap();
    assert!(launch.args.ends_with(&[
        "-cp".into(),
        ".:lib/*".into(),
        "org.Main".into(),
        "a".into()
    ]));
    assert!(launch.args.contains(&"-ea".to_owned()));
}

#[test]
fn jvm_refuses_what_cannot_work() {
    for (pairs, key) in [
        (vec![], "jvm.jar"),
        (vec![("jvm.jar", "a.jar"), ("jvm.main", "B")], "jvm.main"),
        (
            vec![("jvm.jar", "a.jar"), ("jvm.classpath", "lib")],
            "jvm.classpath",
        ),
        (vec![("jvm.jar", "../a.jar")], "jvm.jar"),
        (
            vec![("jvm.jar", "a.jar"), ("jvm.heap.max", "256 mb")],
            "jvm.heap.max",
        ),
        (
            vec![("jvm.jar", "a.jar"), ("jvm.heap.max", "0m")],
            "jvm.heap.max",
        ),
        (vec![("jvm.jar", "a.jar"), ("jvm.home", "java")], "jvm.home"),
    ] {
        assert_eq!(
            try_launch("jvm", None, &pairs).unwrap_err().key,
            key,
            "{pairs:?}"
        );
    }
}

#[test]
fn jetty_is_jetty9_with_a_base_of_its_own() {
    let launch = try_launch("jetty", Some(8080), &[("platform", "jetty")]).unwrap();
    assert_eq!(launch.platform, "jetty9");
    let tail = &launch.args[launch.args.len() - 3..];
    let wanted = [
        "/usr/share/jetty9/start.jar",
        "jetty.home=/usr/share/jetty9",
        "jetty.base=/etc/metactl/web/jetty",
    ];
    assert_eq!(tail, wanted);
    let ini = &launch.files[Path::new("/etc/metactl/web/jetty/start.d/metactl.ini")];
    assert!(ini.text.contains("jetty.http.port=8080\n"), "{}", ini.text);
    let webapp = launch.webapp.unwrap();
    assert_eq!(
        webapp.file,
        Path::new("/etc/metactl/web/jetty/webapps/ROOT.xml")
    );
    assert_eq!(webapp.origin.unwrap().line, 7);
    assert_eq!(launch.needs[0].what, "Jetty 9");
}

#[test]
fn every_jetty_has_a_launch_port_and_context() {
    for name in names().iter().filter(|name| name.starts_with("jetty")) {
        assert_eq!(default_port(name, |_| false), Some(80));
        let launch = try_launch(name, None, &[("jetty.context", "/shop")]).unwrap();
        assert!(
            launch
                .webapp
                .unwrap()
                .template
                .contains("<Set name=\"contextPath\">/shop</Set>")
        );
    }
    let old = try_launch("jetty6", Some(81), &[("jetty.home", "/opt/jetty6")]).unwrap();
    assert!(old.args.contains(&"-Djetty.port=81".to_owned()));
    assert!(old.args.contains(&"/opt/jetty6/etc/jetty.xml".to_owned()));
}

#[test]
fn jetty_refuses_paths_and_words_that_are_none() {
    for (key, value) in [
        ("jetty.home", "jetty"),
        ("jetty.war", "/x.war"),
        ("jetty.war", "../x.war"),
        ("jetty.context", "/<x>"),
        ("jetty.modules", "http\n--exec"),
    ] {
        assert_eq!(
            try_launch("jetty9", None, &[(key, value)]).unwrap_err().key,
            key
        );
    }
}

#[test]
fn an_unknown_platform_names_the_known_ones() {
    let error = try_launch("cobol", None, &[("platform", "cobol")]).unwrap_err();
    assert!(error.hint.contains("jetty9") && error.origin.is_some());
}

#[test]
fn cron_lines_run_in_a_shell() {
    let origin = Origin {
        layer: LayerKind::App,
        file: None,
        line: 3,
        column: 1,
    };
    let launch = cron("java -jar harvest.jar", &origin);
    assert_eq!(launch.args, ["/bin/sh", "-c", "java -jar harvest.jar"]);
    assert_eq!(launch.java.unwrap().origin.unwrap().line, 3);
    assert!(cron("curl http://localhost/", &origin).java.is_none());
}

#[test]
fn jvm_takes_agents_and_properties() {
    let pairs = [
        ("jvm.jar", "a.jar"),
        ("jvm.agents", "lib/one.jar=a=b,c /app/two.jar"),
        ("jvm.properties", "x=1 y=2"),
        ("jvm.properties.x", "one  two"),
        ("jvm.properties.db.url", ""),
        ("jvm.heap.min", "64m"),
        ("jvm.stack", "512K"),
        ("jvm.heap.dump", "no"),
    ];
    let launch = try_launch("jvm", None, &pairs).unwrap();
    let wanted = [
        "java",
        "-Xms64m",
        "-Xss512k",
        "-Djava.io.tmpdir=/tmp",
        "-Djava.awt.headless=true",
        "-Dx=1",
        "-Dy=2",
        "-Ddb.url=",
        "-Dx=one  two",
        "-javaagent:/app/lib/one.jar=a=b,c",
        "-javaagent:/app/two.jar",
        "-jar",
        "/app/a.jar",
    ];
    assert_eq!(launch.args, wanted);
    let release: Vec<_> = launch.release.iter().map(|need| &need.path).collect();
    assert_eq!(
        release,
        ["lib/one.jar", "two.jar", "a.jar"].map(Path::new).to_vec()
    );
    for (key, value) in [
        ("jvm.agents", "../x.jar"),
        ("jvm.agents", "=x"),
        ("jvm.properties.a b", "x"),
    ] {
        let pairs = [("jvm.jar", "a.jar"), (key, value)];
        assert_eq!(try_launch("jvm", None, &pairs).unwrap_err().key, key);
    }
}

/// The command line of a section, with port 8080.
fn args(platform: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    try_launch(platform, Some(8080), pairs).unwrap().args
}

/// Every platform has a section that works; the key of the error without one.
const SMALLEST: &[(&str, &str, &str)] = &[
    ("exec", "command", "./x"),
    ("node", "node.script", "x.js"),
    ("perl", "perl.script", "x.pl"),
    ("php", "php.root", "public"),
    ("python", "python.module", "x"),
    ("ruby", "ruby.script", "x.rb"),
    ("static", "static.root", "public"),
];

#[test]
fn what_to_run_is_asked_for_and_says_the_platform() {
    for (platform, key, value) in SMALLEST {
        let error = try_launch(platform, None, &[]).unwrap_err();
        assert_eq!(error.key, *key);
        assert!(error.hint.starts_with("add a line like `"), "{error}");
        let launch = try_launch(platform, None, &[(key, value)]).unwrap();
        assert_eq!(launch.platform, *platform);
        assert_eq!(launch.cwd, Path::new("/app"));
        assert_eq!(implied(|there| there == *key), Some(*platform));
    }
    assert_eq!(implied(|there| there == "port"), None);
}

#[test]
fn python_runs_modules_scripts_and_wsgi() {
    let module = [
        ("python.module", "shop.worker --fast"),
        ("python.options", "-X dev"),
    ];
    assert_eq!(
        args("python", &module),
        [
            "/usr/bin/python3",
            "-X",
            "dev",
            "-m",
            "shop.worker",
            "--fast"
        ]
    );
    let script = try_launch("python", None, &[("python.script", "bin/run.py 1")]).unwrap();
    assert_eq!(script.args, ["/usr/bin/python3", "/app/bin/run.py", "1"]);
    assert_eq!(script.release[0].path, Path::new("bin/run.py"));
    assert_eq!(script.needs[0].hint, "apt-get install python3");
    assert_eq!(script.health, Health::Tcp);

    let pairs = [
        ("python.wsgi", "shop.web:app"),
        ("python.options", "--workers 4"),
    ];
    let wsgi = try_launch("python", Some(8080), &pairs).unwrap();
    let wanted = "/usr/bin/python3 -m gunicorn --bind 0.0.0.0:8080 --worker-tmp-dir /dev/shm \
                  --workers 4 shop.web:app";
    assert_eq!(wsgi.args.join(" "), wanted);
    assert_eq!(wsgi.health, Health::Http);
    assert!(
        wsgi.needs
            .iter()
            .any(|need| need.path == Path::new("/usr/bin/gunicorn"))
    );
    assert!(!wsgi.is_init);
}

#[test]
fn python_of_a_virtual_environment_is_of_the_release() {
    let pairs = [("python.wsgi", "web:app"), ("python.virtualenv", "venv")];
    let launch = try_launch("python", None, &pairs).unwrap();
    assert_eq!(launch.args[..3], ["/app/venv/bin/python", "-m", "gunicorn"]);
    assert_eq!(launch.env["VIRTUAL_ENV"], "/app/venv");
    assert!(launch.env["PATH"].starts_with("/app/venv/bin:/usr/local/sbin:"));
    assert_eq!(launch.release[0].path, Path::new("venv/bin/python"));
    assert!(launch.needs.iter().all(|need| need.what != "gunicorn"));
}

#[test]
fn node_runs_a_script() {
    let pairs = [
        ("node.script", "server.js a"),
        ("node.options", "--max-old-space-size=64"),
    ];
    let wanted = [
        "/usr/bin/node",
        "--max-old-space-size=64",
        "/app/server.js",
        "a",
    ];
    assert_eq!(args("node", &pairs), wanted);
}

#[test]
fn ruby_has_two_servers_for_rack() {
    let launch = try_launch("ruby", Some(8080), &[("ruby.rack", "config.ru")]).unwrap();
    let ways: Vec<String> = launch
        .choice
        .unwrap()
        .ways
        .iter()
        .map(|way| way.args.join(" "))
        .collect();
    assert_eq!(
        ways,
        [
            "/usr/bin/ruby /usr/bin/puma --environment production --bind tcp://0.0.0.0:8080 \
             /app/config.ru",
            "/usr/bin/ruby /usr/bin/rackup --server webrick --env production --host 0.0.0.0 \
             --port 8080 /app/config.ru",
        ]
    );
    let script = [("ruby.script", "x.rb 1"), ("ruby.options", "-W0")];
    assert_eq!(
        args("ruby", &script),
        ["/usr/bin/ruby", "-W0", "/app/x.rb", "1"]
    );
}

#[test]
fn php_serves_a_folder_or_runs_a_script() {
    let served = [
        ("php.root", "public"),
        ("php.router", "router.php"),
        ("php.options", "-d memory_limit=64M"),
    ];
    let wanted = "/usr/bin/php -d memory_limit=64M -S 0.0.0.0:8080 -t /app/public /app/router.php";
    assert_eq!(args("php", &served).join(" "), wanted);
    assert_eq!(
        args("php", &[("php.script", "x.php 1")]),
        ["/usr/bin/php", "/app/x.php", "1"]
    );
    assert_eq!(default_stop_signal("php"), Some("INT"));
}

#[test]
fn perl_runs_a_script_or_plackup() {
    let script = [("perl.script", "x.pl 1"), ("perl.options", "-w")];
    assert_eq!(
        args("perl", &script),
        ["/usr/bin/perl", "-w", "/app/x.pl", "1"]
    );
    let psgi = [
        ("perl.psgi", "app.psgi"),
        ("perl.options", "--server Starman"),
    ];
    let wanted = "/usr/bin/perl /usr/bin/plackup --env deployment --host 0.0.0.0 --port 8080 \
                  --server Starman /app/app.psgi";
    assert_eq!(args("perl", &psgi).join(" "), wanted);
}

#[test]
fn static_files_have_a_server_of_their_own() {
    let launch = try_launch("static", None, &[("static.root", "public")]).unwrap();
    let server = "/etc/metactl/web/static.py";
    assert_eq!(
        launch.args,
        ["/usr/bin/python3", "-I", server, "/app/public", "80"]
    );
    assert!(launch.files.contains_key(Path::new(server)));
    // The release itself.
    let launch = try_launch("static", None, &[("static.root", ".")]).unwrap();
    assert_eq!(launch.args[3], "/app");
}

#[test]
fn paths_stay_in_the_release_and_two_ways_to_run_are_one_too_many() {
    for (platform, pairs, key) in [
        (
            "python",
            vec![("python.script", "../x.py")],
            "python.script",
        ),
        (
            "python",
            vec![("python.module", "x.py; y")],
            "python.module",
        ),
        ("python", vec![("python.wsgi", "--config=x")], "python.wsgi"),
        (
            "python",
            vec![("python.module", "x"), ("python.virtualenv", "/venv")],
            "python.virtualenv",
        ),
        (
            "python",
            vec![("python.module", "x"), ("python.wsgi", "x:y")],
            "python.wsgi",
        ),
        ("node", vec![("node.script", "/etc/passwd")], "node.script"),
        ("node", vec![("node.script", "")], "node.script"),
        ("ruby", vec![("ruby.rack", "../config.ru")], "ruby.rack"),
        (
            "php",
            vec![("php.script", "x.php"), ("php.router", "y.php")],
            "php.router",
        ),
        ("perl", vec![("perl.psgi", "/app.psgi")], "perl.psgi"),
        ("static", vec![("static.root", "..")], "static.root"),
    ] {
        let error = try_launch(platform, None, &pairs).unwrap_err();
        assert_eq!(error.key, key, "{pairs:?}");
        assert!(error.origin.is_some(), "{pairs:?}");
    }
}

#[test]
fn ports_and_checks_are_for_web_applications() {
    let port = |platform: &str, key: &str| default_port(platform, |there| there == key);
    assert_eq!(port("python", "python.wsgi"), Some(80));
    assert_eq!(port("python", "python.script"), None);
    assert_eq!(port("static", "static.root"), Some(80));
    assert_eq!(port("node", "node.script"), None);
    let health = |pairs: &[(&str, &str)]| try_launch("php", None, pairs).unwrap().health;
    assert_eq!(health(&[("php.root", "p")]), Health::Http);
    assert_eq!(health(&[("php.root", "p"), ("health", "tcp")]), Health::Tcp);
    assert_eq!(health(&[("php.script", "p")]), Health::Tcp);
    assert_eq!(
        health(&[("php.script", "p"), ("health", "http")]),
        Health::Http
    );
}

#[test]
fn every_platform_is_whole() {
    for platform in &PLATFORMS {
        for name in platform
            .names
            .iter()
            .chain(platform.aliases.iter().map(|(word, _)| word))
        {
            let (found, canonical) = find(name).unwrap();
            assert!(std::ptr::eq(found, platform) && platform.names.contains(&canonical));
        }
        for row in platform.keys {
            assert_eq!(row.section, "daemon.*");
            assert!(!row.platforms.is_empty(), "{}", row.name);
        }
        for key in platform.implied_by.iter().chain(platform.web_keys) {
            let (row, _) = crate::keys::find("daemon.*", key).unwrap();
            assert!(row.serves(platform.names[0]), "{key}");
        }
        assert_eq!(
            crate::keys::Kind::Signal.check(platform.stop_signal),
            Ok(())
        );
    }
    let mut all = names().to_vec();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), names().len(), "no name stands for two platforms");
}
