//! Settling a launch: which Java, which war, and what the limits mean to a JVM.
//!
//! [`super::launch`] knows the configuration only. Here the host's facts come in, when a bundle is
//! composed.

use std::path::{Path, PathBuf};

use super::webapp::WAR;
use super::{APP_DIR, choose};
use crate::app::{GcLog, GeneratedFile, HostNeed, JavaNeed, Launch, Limits, WebappNeed};
use crate::bundle::Problems;
use crate::view::{self, HostView};

/// What to do when there is no Java.
const JAVA_HINT: &str = "apt-get install default-jre-headless, or name a Java with jvm.home";

/// The launch with every need that depends on the host decided. `limits` are those that hold for
/// the entry point, its own or the instance's.
///
/// What is missing goes into `problems`.
pub fn settle(
    launch: &Launch,
    limits: &Limits,
    host: &HostView,
    problems: &mut Problems<'_>,
) -> Launch {
    let mut settled = launch.clone();
    if let Some(need) = &launch.java {
        settle_java(&mut settled, need, limits, host, problems);
    }
    if let Some(need) = &launch.webapp {
        settle_webapp(&mut settled, need, host, problems);
    }
    if let Some(choice) = &launch.choice {
        choose::choose(&mut settled, choice, host, problems);
    }
    choose::check_release(launch, host, problems);
    settled
}

fn settle_java(
    launch: &mut Launch,
    need: &JavaNeed,
    limits: &Limits,
    host: &HostView,
    problems: &mut Problems<'_>,
) {
    let Some(home) = need.home.as_ref().or(host.java.as_ref()) else {
        let root = host.root.display().to_string();
        let root = root.trim_end_matches('/');
        problems.at(
            need.origin.as_ref(),
            format!(
                "Java is not on this host: looked for {root}/usr/lib/jvm/default-java, \
                 {root}/etc/alternatives/java and {root}/usr/lib/jvm/java-*"
            ),
            JAVA_HINT,
        );
        return;
    };
    launch.needs.push(HostNeed {
        path: home.clone(),
        probe: Some(PathBuf::from("bin/java")),
        what: "Java".into(),
        origin: need.origin.clone(),
        hint: JAVA_HINT.into(),
    });
    let version = host.java_versions.get(home).copied();
    if let (Some(least), Some(version)) = (need.at_least, version)
        && version < least
    {
        problems.at(
            need.origin.as_ref(),
            format!(
                "{} needs Java {least} or newer, and {} is Java {version}",
                launch.platform,
                home.display()
            ),
            "name a newer one with jvm.home",
        );
    }
    let shown = home.display();
    launch.env.insert("JAVA_HOME".to_owned(), shown.to_string());
    launch
        .env
        .insert("PATH".to_owned(), format!("{shown}/bin:{}", view::PATH));
    if launch.args.first().is_some_and(|program| program == "java") {
        launch.args[0] = format!("{shown}/bin/java");
        // A platform on a JVM; `command = java ...` chooses its options by itself.
        if launch.is_init {
            let options = limit_options(limits)
                .into_iter()
                .chain(version_options(need, version));
            launch.args.splice(1..1, options);
        }
    }
}

/// A JVM reads its limits from the files of its cgroup, which the sandbox does not show
/// (java(1), `-XX:MaxRAM` and `-XX:ActiveProcessorCount`).
fn limit_options(limits: &Limits) -> Vec<String> {
    let memory = limits.memory.map(|bytes| format!("-XX:MaxRAM={bytes}"));
    let processors = limits
        .cpu_millis
        .map(|millis| format!("-XX:ActiveProcessorCount={}", millis.div_ceil(1000).max(1)));
    memory.into_iter().chain(processors).collect()
}

/// The newest Java that writes the log of its collector by the old options.
const LAST_OLD_LOG: u32 = 8;
/// The first Java that can be told to end when it is out of memory (8u92, java(1)).
const FIRST_EXIT: u32 = 8;

/// Options that not every Java has. A Java whose version cannot be found out counts as a new one.
fn version_options(need: &JavaNeed, version: Option<u32>) -> Vec<String> {
    let mut options = Vec::new();
    if need.exit_on_oom && version.is_none_or(|version| version >= FIRST_EXIT) {
        options.push("-XX:+ExitOnOutOfMemoryError".to_owned());
    }
    let old = version.is_some_and(|version| version <= LAST_OLD_LOG);
    match (&need.gc_log, old) {
        // "Enable Logging with the JVM Unified Logging Framework" in java(1).
        (Some(GcLog::File(path)), false) => options.push(format!(
            "-Xlog:gc*:file={}:time,uptime,level,tags:filecount=5,filesize=10m",
            path.display()
        )),
        (Some(GcLog::Stdout), false) => {
            options.push("-Xlog:gc*:stdout:time,uptime,level,tags".to_owned());
        }
        // "Convert GC Logging Flags to Xlog" in java(1) has these on its left side.
        (Some(GcLog::File(path)), true) => options.extend([
            format!("-Xloggc:{}", path.display()),
            "-XX:+PrintGCDetails".to_owned(),
            "-XX:+PrintGCDateStamps".to_owned(),
            "-XX:+UseGCLogFileRotation".to_owned(),
            "-XX:NumberOfGCLogFiles=5".to_owned(),
            "-XX:GCLogFileSize=10M".to_owned(),
        ]),
        (Some(GcLog::Stdout), true) => options.extend([
            "-XX:+PrintGCDetails".to_owned(),
            "-XX:+PrintGCDateStamps".to_owned(),
        ]),
        (None, _) => {}
    }
    options
}

fn settle_webapp(
    launch: &mut Launch,
    need: &WebappNeed,
    host: &HostView,
    problems: &mut Problems<'_>,
) {
    let war = match (&need.war, host.wars.as_slice()) {
        (Some(war), _) => war.clone(),
        (None, [war]) => war.clone(),
        (None, []) if host.release_is_webapp => PathBuf::new(),
        (None, []) => {
            problems.at(
                need.origin.as_ref(),
                format!(
                    "the release has no .war file for {} to serve",
                    launch.platform
                ),
                &format!(
                    "build one into the release ([build] command, output), or name a folder with {}",
                    need.key
                ),
            );
            return;
        }
        (None, several) => {
            let names: Vec<String> = several
                .iter()
                .take(5)
                .map(|war| war.display().to_string())
                .collect();
            let more = if several.len() > 5 { " and more" } else { "" };
            problems.at(
                need.origin.as_ref(),
                format!(
                    "the release has several .war files: {}{more}",
                    names.join(", ")
                ),
                &format!("name one of them: {} = {}", need.key, names[0]),
            );
            return;
        }
    };
    let path = Path::new(APP_DIR).join(war);
    let path = xml_escaped(path.to_string_lossy().trim_end_matches('/'));
    let text = need.template.replace(WAR, &path);
    launch
        .files
        .insert(need.file.clone(), GeneratedFile { text, mode: 0o644 });
}

/// Text as the content of an XML element or attribute (XML 1.0, section 2.4).
fn xml_escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
