//! `tomcat9` to `tomcat11`, `tomcat` (tomcat10): a Java web application in a Tomcat of the host.
//!
//! | key | meaning |
//! | --- | --- |
//! | `tomcat.war` | the web application, an archive or a folder of the release; without it the only `*.war` there |
//! | `tomcat.context` | the path below which it is served (`/` by default) |
//! | `tomcat.home` | where Tomcat is (`/usr/share/tomcat10` and so on by default) |
//! | `port` | the port it listens on (80 by default) |
//! | `jvm.*` | as for platform `jvm` |
//!
//! Tomcat's own files stay as they are installed: CATALINA_HOME. What is particular to the daemon
//! is a CATALINA_BASE of its own ("Introduction", "Advanced Configuration" of RUNNING.txt), generated
//! into `/etc/metactl/<daemon>/tomcat`, read-only. What Tomcat writes (the unpacked application,
//! compiled pages) goes to `/tmp`, what it logs to the daemon's log. `java` is started as
//! `catalina.sh run` does, without the shell, so that it is PID 1. Only tomcat10 is run in the tests,
//! with Debian's package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::webapp::{self, WAR, generate};
use super::{DaemonSection, GENERATED_DIR, Platform, PlatformError, jvm};
use crate::app::{GeneratedFile, Health, HostNeed, Launch, WebappNeed};
use crate::keys::table::HOST_PATH;
use crate::keys::{Grant, Key, Kind, row};

#[path = "tomcat/mime.rs"]
mod mime;

const TOMCAT: &[&str] = &["tomcat"];

pub(super) const PLATFORM: Platform = Platform {
    names: &["tomcat9", "tomcat10", "tomcat11"],
    aliases: &[("tomcat", "tomcat10")],
    keys: &[
        Key {
            platforms: TOMCAT,
            ..row(
                "daemon.*",
                "tomcat.war",
                Kind::RelativePath,
                "The web application, an archive or folder of the release; without it the only `*.war` there.",
            )
        },
        Key {
            platforms: TOMCAT,
            ..row(
                "daemon.*",
                "tomcat.context",
                Kind::Text,
                "The path below which it is served, `/` without it.",
            )
        },
        Key {
            platforms: TOMCAT,
            grant: Grant::Trusted,
            why: HOST_PATH,
            ..row(
                "daemon.*",
                "tomcat.home",
                Kind::AbsolutePath,
                "The Tomcat installation of the server; `/usr/share/tomcat10` and so on without it.",
            )
        },
    ],
    implied_by: &[],
    port: Some(super::WEB_PORT),
    health: Health::Http,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: true,
    launch,
};

/// The launch of a `tomcatN` section.
fn launch(platform: &str, daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let launch = jvm::java(daemon, "platform")?;
    // "Which Version Do I Want?" of tomcat.apache.org.
    let oldest_java = match platform {
        "tomcat9" => 8,
        "tomcat10" => 11,
        _ => 17,
    };
    let mut launch = jvm::with_java(launch, oldest_java);
    let home = webapp::home(daemon, "tomcat.home", platform)?;
    let base = PathBuf::from(GENERATED_DIR)
        .join(daemon.name)
        .join("tomcat");
    let context = webapp::context(daemon, "tomcat.context")?;
    launch.args.extend(arguments(&home, &base));
    configuration(&mut launch.files, &base);
    let origin = |key: &str| daemon.origin(key).or_else(|| daemon.origin("platform"));
    launch.webapp = Some(WebappNeed {
        war: webapp::war(daemon, "tomcat.war")?,
        key: "tomcat.war",
        template: server_xml(daemon.web_port(), &context),
        file: base.join("conf/server.xml"),
        origin: origin("tomcat.war"),
    });
    launch.needs.push(HostNeed {
        path: home,
        probe: Some(PathBuf::from("bin/bootstrap.jar")),
        what: format!("Tomcat {}", platform.trim_start_matches("tomcat")).into(),
        origin: origin("tomcat.home"),
        hint: format!(
            "apt-get install {platform}-common, or unpack one and name its folder with tomcat.home"
        )
        .into(),
    });
    Ok(launch)
}

/// What `catalina.sh run` gives to `java`.
fn arguments(home: &Path, base: &Path) -> Vec<String> {
    let (home, base) = (home.display(), base.display());
    vec![
        format!("-Djava.util.logging.config.file={base}/conf/logging.properties"),
        "-Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager".to_owned(),
        format!("-Dcatalina.base={base}"),
        format!("-Dcatalina.home={home}"),
        "-cp".to_owned(),
        format!("{home}/bin/bootstrap.jar:{home}/bin/tomcat-juli.jar"),
        "org.apache.catalina.startup.Bootstrap".to_owned(),
        "start".to_owned(),
    ]
}

/// `conf/` of the CATALINA_BASE, but for server.xml, which needs the path of the application.
fn configuration(files: &mut BTreeMap<PathBuf, GeneratedFile>, base: &Path) {
    let conf = base.join("conf");
    generate(files, conf.join("catalina.properties"), CATALINA.to_owned());
    generate(files, conf.join("logging.properties"), LOGGING.to_owned());
    generate(files, conf.join("web.xml"), web_xml());
}

/// Where classes are ("Class Loader How-To"): Tomcat's own; a base of ours has none.
const CATALINA: &str = "\
common.loader=\"${catalina.home}/lib\",\"${catalina.home}/lib/*.jar\"
server.loader=
shared.loader=
";

/// Everything to the console, which is the daemon's log ("Logging in Tomcat", java.util.logging).
const LOGGING: &str = "\
handlers = java.util.logging.ConsoleHandler
.handlers = java.util.logging.ConsoleHandler
java.util.logging.ConsoleHandler.level = INFO
java.util.logging.ConsoleHandler.formatter = org.apache.juli.OneLineFormatter
java.util.logging.ConsoleHandler.encoding = UTF-8
";

/// `conf/server.xml` ("Configuration Reference": Server, Service, Connector, Engine, Host, Context):
/// one application, no port for a shutdown command, nothing that watches folders for changes.
/// `path` is allowed here because nothing is deployed by itself (Context, "path").
fn server_xml(port: u16, context: &str) -> String {
    let path = context.trim_end_matches('/');
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1">
  <Service name="Catalina">
    <Connector port="{port}" protocol="HTTP/1.1"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="/tmp/webapps" xmlBase="/tmp/contexts" workDir="/tmp/work"
            unpackWARs="true" autoDeploy="false" deployOnStartup="false" deployXML="false">
        <Valve className="org.apache.catalina.valves.ErrorReportValve"
               showReport="false" showServerInfo="false"/>
        <Context path="{path}" docBase="{WAR}" reloadable="false">
          <JarScanner scanClassPath="false"/>
        </Context>
      </Host>
    </Engine>
  </Service>
</Server>
"#
    )
}

/// `conf/web.xml`: what every application has before its own `web.xml` is read. Files, JSP pages,
/// welcome files, sessions of 30 minutes, types of files. ("Default Servlet Reference", "Jasper 2 JSP
/// Engine How To", and chapter 8.2 of the servlet specification for what is merged.)
fn web_xml() -> String {
    let types: String = mime::TYPES
        .iter()
        .map(|(extension, kind)| {
            format!(
                "  <mime-mapping><extension>{extension}</extension><mime-type>{kind}</mime-type></mime-mapping>\n"
            )
        })
        .collect();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<web-app version="4.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
    <init-param><param-name>listings</param-name><param-value>false</param-value></init-param>
    <load-on-startup>1</load-on-startup>
  </servlet>
  <servlet>
    <servlet-name>jsp</servlet-name>
    <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class>
    <init-param><param-name>fork</param-name><param-value>false</param-value></init-param>
    <init-param><param-name>development</param-name><param-value>false</param-value></init-param>
    <load-on-startup>3</load-on-startup>
  </servlet>
  <servlet-mapping>
    <servlet-name>default</servlet-name>
    <url-pattern>/</url-pattern>
  </servlet-mapping>
  <servlet-mapping>
    <servlet-name>jsp</servlet-name>
    <url-pattern>*.jsp</url-pattern>
    <url-pattern>*.jspx</url-pattern>
  </servlet-mapping>
  <session-config><session-timeout>30</session-timeout></session-config>
{types}  <welcome-file-list>
    <welcome-file>index.html</welcome-file>
    <welcome-file>index.htm</welcome-file>
    <welcome-file>index.jsp</welcome-file>
  </welcome-file-list>
</web-app>
"#
    )
}

#[cfg(test)]
#[path = "tomcat/tests.rs"]
mod tests;
