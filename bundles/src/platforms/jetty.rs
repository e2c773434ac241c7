//! `jetty6` to `jetty12`: a Java web application in a Jetty of the host.
//!
//! | key | meaning |
//! | --- | --- |
//! | `jetty.war` | the web application, an archive or a folder of the release; without it the only `*.war` there |
//! | `jetty.context` | the path below which it is served (`/` by default) |
//! | `jetty.home` | where Jetty is (`/usr/share/jetty9` and so on by default) |
//! | `jetty.modules` | jetty9 and later: the modules, as words |
//! | `port` | the port it listens on (80 by default) |
//! | `jvm.*` | as for platform `jvm` |
//!
//! Jetty's own files stay as they are installed. What is particular to the daemon is generated
//! into `/etc/metactl/<daemon>/jetty`, read-only: for 9 and later a `jetty.base`, before that a
//! configuration file more on the command line. The layouts are those that the vendor documents
//! for each version (start.jar of 6; OPTIONS and `etc/*.xml` of 7 and 8; modules from 9 on; one
//! set of modules for each Jakarta EE version in 12). Only jetty9 is run in the tests, with
//! Debian's package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{DaemonSection, GENERATED_DIR, Platform, PlatformError, in_app, jvm};
use crate::app::{GeneratedFile, Health, HostNeed, Launch, WebappNeed};

pub(super) const PLATFORM: Platform = Platform {
    names: &[
        "jetty6", "jetty7", "jetty8", "jetty9", "jetty10", "jetty11", "jetty12",
    ],
    aliases: &[("jetty", "jetty9")],
    keys: &[],
    implied_by: &[],
    port: Some(80),
    health: Health::Http,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: true,
    launch,
};

/// Stands for the path of the web application in a template.
pub(super) const WAR: &str = "@WAR@";

/// How a generation of Jetty is started.
enum Style {
    /// Jetty 6: packages `org.mortbay`, everything in `etc/jetty.xml`.
    Mortbay,
    /// Jetty 7 and 8: OPTIONS choose the class path, files of `etc` the parts.
    Options,
    /// Jetty 9 and later: modules, and a `jetty.base` beside `jetty.home`.
    Modules {
        default: &'static str,
        class: &'static str,
        dtd: &'static str,
    },
}

const EE8: &str = "org.eclipse.jetty.webapp.WebAppContext";
const EE10: &str = "org.eclipse.jetty.ee10.webapp.WebAppContext";

fn style(platform: &str) -> Style {
    match platform {
        "jetty6" => Style::Mortbay,
        "jetty7" | "jetty8" => Style::Options,
        "jetty12" => Style::Modules {
            default: "http,ee10-deploy,ee10-annotations,ee10-jsp,ee10-jstl",
            class: EE10,
            dtd: "https://www.eclipse.org/jetty/configure_10_0.dtd",
        },
        "jetty10" | "jetty11" => Style::Modules {
            default: "http,deploy,annotations,jsp,jstl",
            class: EE8,
            dtd: "https://www.eclipse.org/jetty/configure_10_0.dtd",
        },
        _ => Style::Modules {
            default: "http,deploy,annotations,jsp,jstl",
            class: EE8,
            dtd: "https://www.eclipse.org/jetty/configure_9_3.dtd",
        },
    }
}

/// The launch of a `jettyN` section.
pub(super) fn launch(platform: &str, daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let mut launch = jvm::java(daemon, platform, "platform")?;
    let home = home(platform, daemon)?;
    let base = PathBuf::from(GENERATED_DIR).join(daemon.name).join("jetty");
    let context = context(daemon)?;
    let port = daemon.port.unwrap_or(80);

    let template = match style(platform) {
        Style::Mortbay => {
            launch.args.push(format!("-Djetty.home={}", home.display()));
            launch.args.push(format!("-Djetty.port={port}"));
            // The request log of etc/jetty.xml would go to ./logs, which is read-only.
            launch.args.push("-Djetty.logs=/tmp".to_owned());
            push_start_jar(&mut launch, &home);
            launch
                .args
                .push(home.join("etc/jetty.xml").display().to_string());
            launch
                .args
                .push(base.join("deploy.xml").display().to_string());
            generate(
                &mut launch.files,
                base.join("deploy.xml"),
                mortbay_deployer(&base),
            );
            (base.join("contexts/ROOT.xml"), mortbay_context(&context))
        }
        Style::Options => {
            launch.args.push(format!("-Djetty.home={}", home.display()));
            launch.args.push(format!("-Djetty.port={port}"));
            push_start_jar(&mut launch, &home);
            // An --ini without a file: nothing from start.ini of the installation.
            let words = ["--ini", "OPTIONS=Server,jsp,resources,websocket,ext"];
            launch.args.extend(words.map(str::to_owned));
            launch
                .args
                .push(home.join("etc/jetty.xml").display().to_string());
            launch
                .args
                .push(home.join("etc/jetty-deploy.xml").display().to_string());
            launch
                .args
                .push(base.join("deploy.xml").display().to_string());
            generate(
                &mut launch.files,
                base.join("deploy.xml"),
                options_deployer(&base),
            );
            let dtd = "http://www.eclipse.org/jetty/configure.dtd";
            (
                base.join("contexts/ROOT.xml"),
                eclipse_context(dtd, EE8, &context),
            )
        }
        Style::Modules {
            default,
            class,
            dtd,
        } => {
            push_start_jar(&mut launch, &home);
            launch.args.push(format!("jetty.home={}", home.display()));
            launch.args.push(format!("jetty.base={}", base.display()));
            let ini = start_ini(&modules(daemon, default)?, port);
            generate(&mut launch.files, base.join("start.d/metactl.ini"), ini);
            (
                base.join("webapps/ROOT.xml"),
                eclipse_context(dtd, class, &context),
            )
        }
    };
    launch.webapp = Some(WebappNeed {
        war: war(daemon)?,
        template: template.1,
        file: template.0,
        origin: daemon
            .origin("jetty.war")
            .or_else(|| daemon.origin("platform")),
    });
    launch.needs.push(HostNeed {
        path: home,
        probe: Some(PathBuf::from("start.jar")),
        what: format!("Jetty {}", version(platform)),
        origin: daemon
            .origin("jetty.home")
            .or_else(|| daemon.origin("platform")),
        hint: missing_hint(platform),
    });
    Ok(launch)
}

fn version(platform: &str) -> &str {
    platform.trim_start_matches("jetty")
}

fn missing_hint(platform: &str) -> String {
    match platform {
        "jetty9" => "apt-get install jetty9, or name its folder with jetty.home".to_owned(),
        _ => format!(
            "unpack Jetty {} and name its folder with jetty.home",
            version(platform)
        ),
    }
}

fn push_start_jar(launch: &mut Launch, home: &Path) {
    launch.args.push("-jar".to_owned());
    launch
        .args
        .push(home.join("start.jar").display().to_string());
}

fn generate(files: &mut BTreeMap<PathBuf, GeneratedFile>, path: PathBuf, text: String) {
    files.insert(path, GeneratedFile { text, mode: 0o644 });
}

fn home(platform: &str, daemon: &DaemonSection<'_>) -> Result<PathBuf, PlatformError> {
    let Some(home) = daemon.text("jetty.home") else {
        return Ok(PathBuf::from(format!("/usr/share/{platform}")));
    };
    match in_app(home) {
        Some(path) if home.starts_with('/') => Ok(path),
        _ => Err(daemon.error(
            "jetty.home",
            format!("jetty.home is `{home}`, not a whole path"),
            "write it from the root, like /opt/jetty-home-12.0.8".to_owned(),
        )),
    }
}

/// `jetty.war`, relative to the release.
fn war(daemon: &DaemonSection<'_>) -> Result<Option<PathBuf>, PlatformError> {
    let Some(text) = daemon.text("jetty.war") else {
        return Ok(None);
    };
    let inside = in_app(text).filter(|_| !text.starts_with('/') && !text.is_empty());
    match inside {
        Some(path) => Ok(path
            .strip_prefix(super::APP_DIR)
            .ok()
            .map(Path::to_path_buf)),
        None => Err(daemon.error(
            "jetty.war",
            format!("`{text}` is not a path inside the release"),
            "name a .war of the release, like target/app.war".to_owned(),
        )),
    }
}

fn context(daemon: &DaemonSection<'_>) -> Result<String, PlatformError> {
    let context = daemon.text("jetty.context").unwrap_or("/");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    if context.starts_with('/') && context.chars().all(allowed) {
        return Ok(context.to_owned());
    }
    Err(daemon.error(
        "jetty.context",
        format!("`{context}` is not the path of a web application"),
        "write it like /shop: a slash, letters, digits and -_.~".to_owned(),
    ))
}

fn modules(daemon: &DaemonSection<'_>, default: &str) -> Result<String, PlatformError> {
    let Some(words) = (daemon.words)("jetty.modules").filter(|words| !words.is_empty()) else {
        return Ok(default.to_owned());
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.,/[]".contains(c);
    match words.iter().find(|word| !word.chars().all(allowed)) {
        None => Ok(words.join(",")),
        Some(word) => Err(daemon.error(
            "jetty.modules",
            format!("`{word}` is not the name of a Jetty module"),
            format!("the default is `{}`", default.replace(',', " ")),
        )),
    }
}

/// `start.d/metactl.ini` of a `jetty.base`: one argument of start.jar in a line.
fn start_ini(modules: &str, port: u16) -> String {
    format!("--module={modules}\njetty.http.port={port}\njetty.deploy.scanInterval=0\n")
}

/// A context file for Jetty 7 and later.
fn eclipse_context(dtd: &str, class: &str, context: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "{dtd}">
<Configure class="{class}">
  <Set name="contextPath">{context}</Set>
  <Set name="war">{WAR}</Set>
</Configure>
"#
    )
}

/// A context file for Jetty 6.
fn mortbay_context(context: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://jetty.mortbay.org/configure.dtd">
<Configure class="org.mortbay.jetty.webapp.WebAppContext">
  <Set name="contextPath">{context}</Set>
  <Set name="war">{WAR}</Set>
</Configure>
"#
    )
}

/// Adds our folder of contexts to what `etc/jetty.xml` of Jetty 6 sets up (its id `Contexts`).
fn mortbay_deployer(base: &Path) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://jetty.mortbay.org/configure.dtd">
<Configure id="Server" class="org.mortbay.jetty.Server">
  <Call name="addLifeCycle">
    <Arg>
      <New class="org.mortbay.jetty.deployer.ContextDeployer">
        <Set name="contexts"><Ref id="Contexts"/></Set>
        <Set name="configurationDir">{}</Set>
        <Set name="scanInterval">0</Set>
      </New>
    </Arg>
  </Call>
</Configure>
"#,
        base.join("contexts").display()
    )
}

/// Adds our folder of contexts to the `DeploymentManager` of `etc/jetty-deploy.xml` (7 and 8).
fn options_deployer(base: &Path) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE Configure PUBLIC "-//Jetty//Configure//EN" "http://www.eclipse.org/jetty/configure.dtd">
<Configure id="Server" class="org.eclipse.jetty.server.Server">
  <Ref id="DeploymentManager">
    <Call name="addAppProvider">
      <Arg>
        <New class="org.eclipse.jetty.deploy.providers.ContextProvider">
          <Set name="monitoredDirName">{}</Set>
          <Set name="scanInterval">0</Set>
        </New>
      </Arg>
    </Call>
  </Ref>
</Configure>
"#,
        base.join("contexts").display()
    )
}
