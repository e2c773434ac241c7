//! The exact command line and files of each layout, as the vendor documents it (see `jetty.rs`).

use super::super::tests::try_launch;

/// What every JVM begins with.
const JAVA: [&str; 5] = [
    "java",
    "-XX:+HeapDumpOnOutOfMemoryError",
    "-XX:HeapDumpPath=/data/heapdump-web.hprof",
    "-Djava.io.tmpdir=/tmp",
    "-Djava.awt.headless=true",
];

/// The whole command line, and all files with the web application's.
fn check(platform: &str, pairs: &[(&str, &str)], args: &[&str], files: &[(&str, &str)]) {
    let launch = try_launch(platform, Some(8080), pairs).unwrap();
    assert_eq!(launch.args, [&JAVA, args].concat(), "{platform}");
    let webapp = launch.webapp.unwrap();
    let mut found: Vec<(String, String)> = launch
        .files
        .iter()
        .map(|(path, file)| (path.display().to_string(), file.text.clone()))
        .collect();
    found.push((webapp.file.display().to_string(), webapp.template));
    let wanted: Vec<(String, String)> = files
        .iter()
        .map(|(path, text)| (format!("/etc/metactl/web/jetty/{path}"), (*text).to_owned()))
        .collect();
    assert_eq!(found, wanted, "{platform}");
}

/// `java -jar start.jar [configuration files]`; the port is a system property of `etc/jetty.xml`,
/// whose ids are `Server` and `Contexts`.
#[test]
fn jetty6() {
    check(
        "jetty6",
        &[],
        &[
            "-Djetty.home=/usr/share/jetty6",
            "-Djetty.port=8080",
            "-Djetty.logs=/tmp",
            "-jar",
            "/usr/share/jetty6/start.jar",
            "/usr/share/jetty6/etc/jetty.xml",
            "/etc/metactl/web/jetty/deploy.xml",
        ],
        &[
            (
                "deploy.xml",
                r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://jetty.mortbay.org/configure.dtd">
<Configure id="Server" class="org.mortbay.jetty.Server">
  <Call name="addLifeCycle">
    <Arg>
      <New class="org.mortbay.jetty.deployer.ContextDeployer">
        <Set name="contexts"><Ref id="Contexts"/></Set>
        <Set name="configurationDir">/etc/metactl/web/jetty/contexts</Set>
        <Set name="scanInterval">0</Set>
      </New>
    </Arg>
  </Call>
</Configure>
"#,
            ),
            (
                "contexts/ROOT.xml",
                r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://jetty.mortbay.org/configure.dtd">
<Configure class="org.mortbay.jetty.webapp.WebAppContext">
  <Set name="contextPath">/</Set>
  <Set name="war">@WAR@</Set>
</Configure>
"#,
            ),
        ],
    );
}

/// `OPTIONS` and files of `etc`, as in the `start.ini` that comes with it.
#[test]
fn jetty7_and_8() {
    for (platform, home) in [("jetty7", "/opt/jetty-7"), ("jetty8", "/opt/jetty-8")] {
        check(
            platform,
            &[("jetty.home", home)],
            &[
                &format!("-Djetty.home={home}"),
                "-Djetty.port=8080",
                "-jar",
                &format!("{home}/start.jar"),
                "--ini",
                "OPTIONS=Server,jsp,resources,websocket,ext",
                &format!("{home}/etc/jetty.xml"),
                &format!("{home}/etc/jetty-deploy.xml"),
                "/etc/metactl/web/jetty/deploy.xml",
            ],
            &[
                (
                    "deploy.xml",
                    r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure.dtd">
<Configure id="Server" class="org.eclipse.jetty.server.Server">
  <Ref id="DeploymentManager">
    <Call name="addAppProvider">
      <Arg>
        <New class="org.eclipse.jetty.deploy.providers.ContextProvider">
          <Set name="monitoredDirName">/etc/metactl/web/jetty/contexts</Set>
          <Set name="scanInterval">0</Set>
        </New>
      </Arg>
    </Call>
  </Ref>
</Configure>
"#,
                ),
                (
                    "contexts/ROOT.xml",
                    r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure.dtd">
<Configure class="org.eclipse.jetty.webapp.WebAppContext">
  <Set name="contextPath">/</Set>
  <Set name="war">@WAR@</Set>
</Configure>
"#,
                ),
            ],
        );
    }
}

fn context(dtd: &str, class: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "https://www.eclipse.org/jetty/{dtd}.dtd">
<Configure class="{class}">
  <Set name="contextPath">/</Set>
  <Set name="war">@WAR@</Set>
</Configure>
"#
    )
}

/// Modules in `start.d` of a `jetty.base`.
#[test]
fn jetty9_to_11() {
    for (platform, dtd) in [
        ("jetty9", "configure_9_3"),
        ("jetty10", "configure_10_0"),
        ("jetty11", "configure_10_0"),
    ] {
        check(
            platform,
            &[("jvm.options", "-server")],
            &[
                "-server",
                "-jar",
                &format!("/usr/share/{platform}/start.jar"),
                &format!("jetty.home=/usr/share/{platform}"),
                "jetty.base=/etc/metactl/web/jetty",
            ],
            &[
                (
                    "start.d/metactl.ini",
                    "--module=http,deploy,annotations,jsp,jstl\njetty.http.port=8080\n\
                     jetty.deploy.scanInterval=0\n",
                ),
                (
                    "webapps/ROOT.xml",
                    &context(dtd, "org.eclipse.jetty.webapp.WebAppContext"),
                ),
            ],
        );
    }
}

/// Modules and a class for each Jakarta EE, and which one it is.
#[test]
fn jetty12() {
    for (pairs, ee) in [
        (vec![], "ee10"),
        (vec![("jetty.environment", "ee8")], "ee8"),
        (vec![("jetty.environment", "ee9")], "ee9"),
        (vec![("jetty.environment", "ee11")], "ee11"),
    ] {
        check(
            "jetty12",
            &pairs,
            &[
                "-jar",
                "/usr/share/jetty12/start.jar",
                "jetty.home=/usr/share/jetty12",
                "jetty.base=/etc/metactl/web/jetty",
            ],
            &[
                (
                    "start.d/metactl.ini",
                    &format!(
                        "--module=http,{ee}-deploy,{ee}-annotations,{ee}-jsp,{ee}-jstl\n\
                         jetty.http.port=8080\njetty.deploy.scanInterval=0\n"
                    ),
                ),
                ("webapps/ROOT.properties", &format!("environment={ee}\n")),
                (
                    "webapps/ROOT.xml",
                    &context(
                        "configure_10_0",
                        &format!("org.eclipse.jetty.{ee}.webapp.WebAppContext"),
                    ),
                ),
            ],
        );
    }
}

#[test]
fn a_java_that_is_too_old_is_known() {
    let least = |platform| {
        try_launch(platform, None, &[])
            .unwrap()
            .java
            .unwrap()
            .at_least
    };
    assert_eq!(least("jetty9"), Some(8));
    assert_eq!(least("jetty11"), Some(11));
    assert_eq!(least("jetty12"), Some(17));
    assert_eq!(least("tomcat11"), Some(17));
}
