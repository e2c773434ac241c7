use super::super::tests::try_launch;
use super::*;
use crate::layers::Config;

const HOME: &str = "/usr/lib/jvm/java";

/// What is settled on a host with a Java of this version, or what is wrong.
fn settled(platform: &str, pairs: &[(&str, &str)], version: Option<u32>) -> Result<Launch, String> {
    let launch = try_launch(platform, None, pairs).unwrap();
    let mut host = HostView {
        java: Some(PathBuf::from(HOME)),
        wars: vec![PathBuf::from("a.war")],
        ..HostView::default()
    };
    host.java_versions
        .extend(version.map(|version| (PathBuf::from(HOME), version)));
    let config = Config::default();
    let mut problems = Problems::new(&config);
    let settled = settle(&launch, &Limits::default(), &host, &mut problems);
    problems
        .finish()
        .map(|()| settled)
        .map_err(|report| report.to_string())
}

fn options(gc_log: &str, version: Option<u32>) -> Vec<String> {
    let pairs = [("jvm.jar", "a.jar"), ("jvm.gc.log", gc_log)];
    let args = settled("jvm", &pairs, version).unwrap().args;
    let wanted = |arg: &String| arg.contains("GC") || arg.contains("gc") || arg.contains("Exit");
    args.into_iter().filter(wanted).collect()
}

#[test]
fn the_log_of_the_collector_depends_on_the_java() {
    for version in [None, Some(9), Some(17)] {
        assert_eq!(
            options("data", version),
            [
                "-XX:+ExitOnOutOfMemoryError",
                "-Xlog:gc*:file=/data/gc-web.log:time,uptime,level,tags:filecount=5,filesize=10m",
            ]
        );
    }
    assert_eq!(
        options("data", Some(8)),
        [
            "-XX:+ExitOnOutOfMemoryError",
            "-Xloggc:/data/gc-web.log",
            "-XX:+PrintGCDetails",
            "-XX:+PrintGCDateStamps",
            "-XX:+UseGCLogFileRotation",
            "-XX:NumberOfGCLogFiles=5",
            "-XX:GCLogFileSize=10M",
        ]
    );
    assert_eq!(
        options("log", Some(21))[1],
        "-Xlog:gc*:stdout:time,uptime,level,tags"
    );
    assert_eq!(
        options("log", Some(7)),
        ["-XX:+PrintGCDetails", "-XX:+PrintGCDateStamps"]
    );
    assert_eq!(options("off", None), ["-XX:+ExitOnOutOfMemoryError"]);
}

#[test]
fn a_java_that_is_too_old_is_refused() {
    let error = settled("jetty12", &[], Some(11)).unwrap_err();
    assert!(
        error.contains("jetty12 needs Java 17 or newer, and /usr/lib/jvm/java is Java 11"),
        "{error}"
    );
    for version in [Some(17), Some(25), None] {
        assert!(settled("jetty12", &[], version).is_ok());
    }
}

#[test]
fn a_war_can_be_part_of_an_attribute() {
    let launch = try_launch("tomcat", None, &[("tomcat.war", "a \"b\" & <c>.war")]).unwrap();
    let config = Config::default();
    let mut problems = Problems::new(&config);
    let host = HostView {
        java: Some(PathBuf::from(HOME)),
        ..HostView::default()
    };
    let settled = settle(&launch, &Limits::default(), &host, &mut problems);
    let server = &settled.files[Path::new("/etc/metactl/web/tomcat/conf/server.xml")];
    assert!(
        server
            .text
            .contains("docBase=\"/app/a &quot;b&quot; &amp; &lt;c&gt;.war\""),
        "{}",
        server.text
    );
}
