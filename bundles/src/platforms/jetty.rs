//! `jetty6` to `jetty12`: a Java web application in a Jetty of the host.
//!
//! | key | meaning |
//! | --- | --- |
//! | `jetty.war` | the web application, an archive or a folder of the release; without it the only `*.war` there |
//! | `jetty.context` | the path below which it is served (`/` by default) |
//! | `jetty.home` | where Jetty is (`/usr/share/jetty9` and so on by default) |
//! | `jetty.modules` | jetty9 and later: the modules, as words |
//! | `jetty.environment` | jetty12: the version of Jakarta EE, `ee8` to `ee11` (`ee10` by default) |
//! | `port` | the port it listens on (80 by default) |
//! | `jvm.*` | as for platform `jvm` |
//!
//! Jetty's own files stay as they are installed. What is particular to the daemon is generated
//! into `/etc/metactl/<daemon>/jetty`, read-only: for 9 and later a `jetty.base`, before that a
//! configuration file more on the command line. The layouts are those of the vendor:
//!
//! | version | layout | documented in |
//! | --- | --- | --- |
//! | 6 | `start.jar` with configuration files; contexts by a `ContextDeployer` | "A look at the start.jar mechanism", "ContextDeployer" (docs.codehaus.org) |
//! | 7, 8 | OPTIONS for the class path, `etc/*.xml`; `--ini` instead of `start.ini` | "Jetty/Feature/Start.jar", "Jetty/Feature/ContextDeployer" (wiki.eclipse.org/Jetty) |
//! | 9 to 11 | `jetty.base` with `start.d/*.ini` of modules and properties, `webapps/*.xml` | "Starting Jetty" (9), Operations Guide, "Jetty Start Mechanism" and "Web Application Deployment" (10, 11) |
//! | 12 | the same, a set of modules and a context class for each version of Jakarta EE, `environment` in `webapps/*.properties` | Operations Guide of 12.0 and 12.1, "Web Application Deployment" |
//!
//! Only jetty9 is run in the tests, with Debian's package. The others are compared with what is
//! documented, word by word (`jetty/tests.rs`), and have never been run.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::webapp::{self, WAR, generate};
use super::{DaemonSection, GENERATED_DIR, Platform, PlatformError, jvm};
use crate::app::{Health, HostNeed, Launch, WebappNeed};
use crate::keys::table::HOST_PATH;
use crate::keys::{Grant, Key, Kind, row};

const JETTY: &[&str] = &["jetty"];
const MODULAR_JETTY: &[&str] = &["jetty9", "jetty10", "jetty11", "jetty12"];

pub(super) const PLATFORM: Platform = Platform {
    names: &[
        "jetty6", "jetty7", "jetty8", "jetty9", "jetty10", "jetty11", "jetty12",
    ],
    aliases: &[("jetty", "jetty9")],
    keys: &[
        Key {
            platforms: JETTY,
            ..row(
                "daemon.*",
                "jetty.war",
                Kind::RelativePath,
                "The web application, an archive or folder of the release; without it the only `*.war` there.",
            )
        },
        Key {
            platforms: JETTY,
            ..row(
                "daemon.*",
                "jetty.context",
                Kind::Text,
                "The path below which it is served, `/` without it.",
            )
        },
        Key {
            platforms: MODULAR_JETTY,
            ..row(
                "daemon.*",
                "jetty.modules",
                Kind::Words,
                "Modules of Jetty, instead of the usual ones.",
            )
        },
        Key {
            platforms: JETTY,
            grant: Grant::Trusted,
            why: HOST_PATH,
            ..row(
                "daemon.*",
                "jetty.home",
                Kind::AbsolutePath,
                "The Jetty installation of the server; `/usr/share/jetty9` and so on without it.",
            )
        },
    ],
    implied_by: &[],
    port: Some(80),
    health: Health::Http,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: true,
    launch,
};

/// How a generation of Jetty is started.
enum Style {
    /// Jetty 6: packages `org.mortbay`, everything in `etc/jetty.xml`.
    Mortbay,
    /// Jetty 7 and 8: OPTIONS choose the class path, files of `etc` the parts.
    Options,
    /// Jetty 9 and later: modules, and a `jetty.base` beside `jetty.home`.
    Modules {
        /// The modules when the section names none.
        default: Cow<'static, str>,
        /// The class of a context.
        class: Cow<'static, str>,
        dtd: &'static str,
        /// The Jakarta EE of Jetty 12.
        environment: Option<String>,
    },
}

const CONTEXT: &str = "org.eclipse.jetty.webapp.WebAppContext";
const DTD_9: &str = "https://www.eclipse.org/jetty/configure_9_3.dtd";
const DTD_10: &str = "https://www.eclipse.org/jetty/configure_10_0.dtd";

fn style(platform: &str, daemon: &DaemonSection<'_>) -> Style {
    let modules = |dtd| Style::Modules {
        default: Cow::Borrowed("http,deploy,annotations,jsp,jstl"),
        class: Cow::Borrowed(CONTEXT),
        dtd,
        environment: None,
    };
    match platform {
        "jetty6" => Style::Mortbay,
        "jetty7" | "jetty8" => Style::Options,
        "jetty12" => {
            let ee = daemon.text("jetty.environment").unwrap_or("ee10");
            Style::Modules {
                default: format!("http,{ee}-deploy,{ee}-annotations,{ee}-jsp,{ee}-jstl").into(),
                class: format!("org.eclipse.jetty.{ee}.webapp.WebAppContext").into(),
                dtd: DTD_10,
                environment: Some(ee.to_owned()),
            }
        }
        "jetty10" | "jetty11" => modules(DTD_10),
        _ => modules(DTD_9),
    }
}

/// The launch of a `jettyN` section.
pub(super) fn launch(platform: &str, daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let launch = jvm::java(daemon, "platform")?;
    let mut launch = jvm::with_java(launch, oldest_java(platform));
    let home = webapp::home(daemon, "jetty.home", platform)?;
    let base = PathBuf::from([GENERATED_DIR, "/", daemon.name, "/jetty"].concat());
    let context = webapp::context(daemon, "jetty.context")?;
    let port = daemon.port.unwrap_or(80);

    let (file, template) = match style(platform, daemon) {
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
                eclipse_context(dtd, CONTEXT, &context),
            )
        }
        Style::Modules {
            default,
            class,
            dtd,
            environment,
        } => {
            push_start_jar(&mut launch, &home);
            launch.args.push(option("jetty.home=", &home));
            launch.args.push(option("jetty.base=", &base));
            let ini = start_ini(&modules(daemon, default)?, port);
            generate(&mut launch.files, base.join("start.d/metactl.ini"), ini);
            if let Some(environment) = environment {
                let text = format!("environment={environment}\n");
                generate(
                    &mut launch.files,
                    base.join("webapps/ROOT.properties"),
                    text,
                );
            }
            (
                base.join("webapps/ROOT.xml"),
                eclipse_context(dtd, &class, &context),
            )
        }
    };
    launch.webapp = Some(WebappNeed {
        war: webapp::war(daemon, "jetty.war")?,
        key: "jetty.war",
        template,
        file,
        origin: daemon
            .origin("jetty.war")
            .or_else(|| daemon.origin("platform")),
    });
    launch.needs.push(HostNeed {
        path: home,
        probe: Some(PathBuf::from("start.jar")),
        what: ["Jetty ", version(platform)].concat().into(),
        origin: daemon
            .origin("jetty.home")
            .or_else(|| daemon.origin("platform")),
        hint: missing_hint(platform),
    });
    Ok(launch)
}

/// The oldest Java that it runs on ("Jetty Version Comparison Table").
fn oldest_java(platform: &str) -> u32 {
    match platform {
        "jetty6" | "jetty7" => 5,
        "jetty8" => 6,
        "jetty9" => 8,
        "jetty10" | "jetty11" => 11,
        _ => 17,
    }
}

fn version(platform: &str) -> &str {
    platform.trim_start_matches("jetty")
}

fn missing_hint(platform: &str) -> Cow<'static, str> {
    match platform {
        "jetty9" => "apt-get install jetty9, or name its folder with jetty.home".into(),
        _ => format!(
            "unpack Jetty {} and name its folder with jetty.home",
            version(platform)
        )
        .into(),
    }
}

fn push_start_jar(launch: &mut Launch, home: &Path) {
    launch.args.push("-jar".to_owned());
    launch.args.push(option("", &home.join("start.jar")));
}

/// A word of the command line that ends in a path; all of them come from text.
fn option(name: &str, path: &Path) -> String {
    [name, &path.to_string_lossy()].concat()
}

fn modules(
    daemon: &DaemonSection<'_>,
    default: Cow<'static, str>,
) -> Result<Cow<'static, str>, PlatformError> {
    let Some(words) = (daemon.words)("jetty.modules").filter(|words| !words.is_empty()) else {
        return Ok(default);
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.,/[]".contains(c);
    match words.iter().find(|word| !word.chars().all(allowed)) {
        None => Ok(words.join(",").into()),
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

#[cfg(test)]
#[path = "jetty/tests.rs"]
mod tests;
