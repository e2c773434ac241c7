use std::collections::BTreeMap;
use std::path::PathBuf;

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
        file: Some(PathBuf::from(".metactl")),
        line: 7,
        column: 1,
    };
    let values: BTreeMap<&str, Value> = pairs
        .iter()
        .map(|(key, text)| {
            let value = Value {
                text: (*text).to_owned(),
                raw: (*text).to_owned(),
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
        assert_eq!(default_port(name), Some(80));
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
    let error = try_launch("tomcat5", None, &[("platform", "tomcat5")]).unwrap_err();
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
    for (key, value) in [
        ("jvm.agents", "../x.jar"),
        ("jvm.agents", "=x"),
        ("jvm.properties.a b", "x"),
    ] {
        let pairs = [("jvm.jar", "a.jar"), (key, value)];
        assert_eq!(try_launch("jvm", None, &pairs).unwrap_err().key, key);
    }
}
