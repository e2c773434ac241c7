//! `jvm`: a Java program from the release.
//!
//! | key | meaning |
//! | --- | --- |
//! | `jvm.jar` | a jar of the release and the program's arguments: `target/jobs.jar 9000` |
//! | `jvm.main` | instead of a jar: the main class and the program's arguments |
//! | `jvm.classpath` | with `jvm.main`: the class path, relative to the release (default `.:lib/*`) |
//! | `jvm.heap.max` | the largest heap, `256m`: `-Xmx` |
//! | `jvm.options` | more options of the JVM, as words |
//! | `jvm.properties` | system properties, as words: `a=1 b=2` |
//! | `jvm.home` | the Java to use; without it the host's default |
//!
//! The JVM handles SIGTERM and reaps what it starts, so it is PID 1 itself. It cannot see the
//! limits of its cgroup (the sandbox shows no cgroup files), so [`super::settle`] tells them to it.

use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError, in_app};
use crate::app::{Health, JavaNeed, Launch};

pub(super) const PLATFORM: Platform = Platform {
    names: &["jvm"],
    aliases: &[],
    keys: &[],
    implied_by: &["jvm.jar", "jvm.main"],
    port: None,
    health: Health::Tcp,
    web_keys: &[],
    stop_signal: "TERM",
    is_init: true,
    launch: |_, daemon| launch(daemon),
};

/// The class path of a `jvm.main` without `jvm.classpath`.
const DEFAULT_CLASSPATH: &str = ".:lib/*";

/// The launch of a `jvm` section.
pub(super) fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let mut launch = java(daemon, "jvm", "platform")?;
    let jar = (daemon.words)("jvm.jar").filter(|words| !words.is_empty());
    let main = (daemon.words)("jvm.main").filter(|words| !words.is_empty());
    match (jar, main) {
        (Some(_), Some(_)) => Err(daemon.error(
            "jvm.main",
            "jvm.jar and jvm.main are both there".to_owned(),
            "keep one of them; jvm.classpath works with jvm.main only".to_owned(),
        )),
        (Some(jar), None) => {
            if (daemon.get)("jvm.classpath").is_some() {
                return Err(daemon.error(
                    "jvm.classpath",
                    "jvm.classpath has no effect beside jvm.jar".to_owned(),
                    "use jvm.main, or put Class-Path into the jar's manifest".to_owned(),
                ));
            }
            launch.args.push("-jar".to_owned());
            launch.args.push(in_release(daemon, "jvm.jar", &jar[0])?);
            launch.args.extend(jar.into_iter().skip(1));
            Ok(launch)
        }
        (None, Some(main)) => {
            launch.args.push("-cp".to_owned());
            launch.args.push(
                daemon
                    .text("jvm.classpath")
                    .unwrap_or(DEFAULT_CLASSPATH)
                    .to_owned(),
            );
            launch.args.extend(main);
            Ok(launch)
        }
        (None, None) => Err(daemon.error(
            "jvm.jar",
            format!(
                "[daemon.{}] says platform = jvm but not what to run",
                daemon.name
            ),
            "add a line like `jvm.jar = app.jar` or `jvm.main = com.example.Main`".to_owned(),
        )),
    }
}

/// `java` and its options, up to where the program is named; for every platform on a JVM.
///
/// `reason` is the key that makes a Java necessary when there is no `jvm.home`.
pub(super) fn java(
    daemon: &DaemonSection<'_>,
    platform: &str,
    reason: &str,
) -> Result<Launch, PlatformError> {
    let mut args = vec!["java".to_owned()];
    if let Some(heap) = daemon.text("jvm.heap.max") {
        args.push(format!("-Xmx{}", heap_size(daemon, heap)?));
    }
    args.push("-Djava.io.tmpdir=/tmp".to_owned());
    args.push("-Djava.awt.headless=true".to_owned());
    for property in (daemon.words)("jvm.properties").unwrap_or_default() {
        args.push(format!("-D{property}"));
    }
    args.extend((daemon.words)("jvm.options").unwrap_or_default());
    Ok(Launch {
        platform: platform.to_owned(),
        args,
        cwd: PathBuf::from(APP_DIR),
        is_init: true,
        java: Some(java_need(daemon, reason)?),
        ..Launch::default()
    })
}

fn java_need(daemon: &DaemonSection<'_>, reason: &str) -> Result<JavaNeed, PlatformError> {
    let Some(home) = daemon.text("jvm.home") else {
        return Ok(JavaNeed {
            home: None,
            origin: daemon.origin(reason),
        });
    };
    if !home.starts_with('/') || in_app(home).is_none() {
        return Err(daemon.error(
            "jvm.home",
            format!("jvm.home is `{home}`, not a whole path"),
            "write it from the root, like /usr/lib/jvm/java-17-openjdk-amd64".to_owned(),
        ));
    }
    Ok(JavaNeed {
        home: Some(PathBuf::from(home)),
        origin: daemon.origin("jvm.home"),
    })
}

/// A heap size as `-Xmx` takes it: a number and one letter (java(1), "-Xmx size").
fn heap_size(daemon: &DaemonSection<'_>, text: &str) -> Result<String, PlatformError> {
    let size = text.trim().to_ascii_lowercase();
    let digits = size.trim_end_matches(['k', 'm', 'g', 't']);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && size.len() <= digits.len() + 1 && digits.bytes().any(|byte| byte != b'0') {
        return Ok(size);
    }
    Err(daemon.error(
        "jvm.heap.max",
        format!("`{text}` is not a heap size"),
        "write a number and k, m or g, like 256m".to_owned(),
    ))
}

/// A file of the release as an argument.
fn in_release(daemon: &DaemonSection<'_>, key: &str, path: &str) -> Result<String, PlatformError> {
    match in_app(path) {
        Some(inside) => Ok(inside.to_string_lossy().into_owned()),
        None => Err(daemon.error(
            key,
            format!("`{path}` leads out of the release"),
            "name a file of the release, without `..`".to_owned(),
        )),
    }
}
