//! `jvm`: a Java program from the release.
//!
//! | key | meaning |
//! | --- | --- |
//! | `jvm.jar` | a jar of the release and the program's arguments: `target/jobs.jar 9000` |
//! | `jvm.main` | instead of a jar: the main class and the program's arguments |
//! | `jvm.classpath` | with `jvm.main`: the class path, relative to the release (default `.:lib/*`) |
//! | `jvm.agents` | jars of the release, each with `=options` if wanted: `-javaagent` |
//! | `jvm.properties` | system properties, as words: `a=1 b=2` |
//! | `jvm.properties.NAME` | one system property; its value may have spaces |
//! | `jvm.options` | more options of the JVM, as words |
//! | `jvm.home` | the Java to use; without it the host's default |
//! | `jvm.heap.dump`, `jvm.gc.log` | what it leaves in `/data` |
//! | the rest | what bounds its memory: [`memory`] |
//!
//! The JVM handles SIGTERM and reaps what it starts, so it is PID 1 itself. It cannot see the
//! limits of its cgroup (the sandbox shows no cgroup files), so [`super::settle`] tells them to it.
//!
//! When it is out of memory it writes its heap into `/data` and ends with exit code 3, so that it is
//! started again: an application whose threads die one by one is worse than one that restarts.

#[path = "jvm/keys.rs"]
mod keys;
#[path = "jvm/memory.rs"]
pub mod memory;

use std::path::PathBuf;

use super::{APP_DIR, DaemonSection, Platform, PlatformError, in_app};
use crate::app::{GcLog, Health, JavaNeed, Launch, ReleaseNeed};
use crate::view::DATA_DIR;

pub(super) const PLATFORM: Platform = Platform {
    names: &["jvm"],
    aliases: &[],
    keys: keys::KEYS,
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

/// How many words the command line of a JVM mostly has at most.
const USUAL_ARGS: usize = 16;

/// What one system property's key begins with.
pub const PROPERTY: &str = "jvm.properties.";

/// The exit code of a JVM that was out of memory (`-XX:+ExitOnOutOfMemoryError`).
pub const OUT_OF_MEMORY: i32 = 3;

/// The file in `data/` that a JVM without memory writes its heap to. Each entry point has one: the
/// JVM writes none when the file is there, so whoever starts it again moves it away.
pub fn heap_dump(entry: &str) -> String {
    ["heapdump-", entry, ".hprof"].concat()
}

/// Whether entry points of a platform are JVMs.
pub fn is_jvm(platform: &str) -> bool {
    let options = keys::KEYS.iter().find(|key| key.name == "jvm.options");
    options.is_some_and(|key| key.serves(platform))
}

/// The same launch, when it takes a Java of this version or a newer one.
pub(super) fn with_java(mut launch: Launch, at_least: u32) -> Launch {
    if let Some(java) = &mut launch.java {
        java.at_least = Some(at_least);
    }
    launch
}

/// The launch of a `jvm` section.
pub(super) fn launch(daemon: &DaemonSection<'_>) -> Result<Launch, PlatformError> {
    let mut launch = java(daemon, "platform")?;
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
            let (path, need) = in_release(daemon, "jvm.jar", &jar[0])?;
            launch.args.push(path);
            launch.release.extend(need);
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
/// `reason` is the key that makes a Java necessary when there is no `jvm.home`. What the user says
/// comes last, because the last of two options that contradict each other counts (java(1)).
pub(super) fn java(daemon: &DaemonSection<'_>, reason: &str) -> Result<Launch, PlatformError> {
    let mut release = Vec::new();
    let mut args = Vec::with_capacity(USUAL_ARGS);
    args.push("java".to_owned());
    let memory = memory::read(daemon, &mut args)?;
    if daemon.text("jvm.heap.dump") != Some("no") {
        args.push("-XX:+HeapDumpOnOutOfMemoryError".to_owned());
        let file = heap_dump(daemon.name);
        args.push(["-XX:HeapDumpPath=", DATA_DIR, "/", &file].concat());
    }
    args.push("-Djava.io.tmpdir=/tmp".to_owned());
    args.push("-Djava.awt.headless=true".to_owned());
    args.extend(properties(daemon)?);
    for agent in (daemon.words)("jvm.agents").unwrap_or_default() {
        let (jar, need) = agent_jar(daemon, &agent)?;
        args.push(format!("-javaagent:{jar}"));
        release.extend(need);
    }
    args.extend((daemon.words)("jvm.options").unwrap_or_default());
    Ok(Launch {
        args,
        cwd: PathBuf::from(APP_DIR),
        java: Some(java_need(daemon, reason)?),
        memory: Some(Box::new(memory)),
        release,
        ..Launch::default()
    })
}

fn java_need(daemon: &DaemonSection<'_>, reason: &str) -> Result<JavaNeed, PlatformError> {
    let gc_log = match daemon.text("jvm.gc.log") {
        Some("data") => Some(GcLog::File(
            PathBuf::from(DATA_DIR).join(format!("gc-{}.log", daemon.name)),
        )),
        Some("log") => Some(GcLog::Stdout),
        _ => None,
    };
    let Some(home) = daemon.text("jvm.home") else {
        return Ok(JavaNeed {
            home: None,
            origin: daemon.origin(reason),
            gc_log,
            exit_on_oom: true,
            at_least: None,
        });
    };
    let climbs = || (home.as_bytes().split(|byte| *byte == b'/')).any(|part| part == b"..");
    if !home.starts_with('/') || climbs() {
        return Err(daemon.error(
            "jvm.home",
            format!("jvm.home is `{home}`, not a whole path"),
            "write it from the root, like /usr/lib/jvm/java-17-openjdk-amd64".to_owned(),
        ));
    }
    Ok(JavaNeed {
        home: Some(PathBuf::from(home)),
        origin: daemon.origin("jvm.home"),
        gc_log,
        exit_on_oom: true,
        at_least: None,
    })
}

/// `-D` for every property: the words first, so that a property's own key wins.
fn properties(daemon: &DaemonSection<'_>) -> Result<Vec<String>, PlatformError> {
    let mut args = Vec::new();
    for property in (daemon.words)("jvm.properties").unwrap_or_default() {
        args.push(format!("-D{property}"));
    }
    for (key, value) in (daemon.below)(PROPERTY) {
        let name = key.strip_prefix(PROPERTY).unwrap_or(key);
        if name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(daemon.error(
                key,
                format!("`{name}` is not the name of a system property"),
                "write jvm.properties.NAME = value, the name without spaces".to_owned(),
            ));
        }
        args.push(format!("-D{name}={}", value.text));
    }
    Ok(args)
}

/// `lib/agent.jar=options` with the path as it is inside; and the jar.
fn agent_jar(
    daemon: &DaemonSection<'_>,
    agent: &str,
) -> Result<(String, Option<ReleaseNeed>), PlatformError> {
    let (jar, options) = match agent.split_once('=') {
        Some((jar, options)) => (jar, Some(options)),
        None => (agent, None),
    };
    if jar.is_empty() {
        return Err(daemon.error(
            "jvm.agents",
            format!("`{agent}` names no jar"),
            "write jars of the release, like lib/agent.jar=options".to_owned(),
        ));
    }
    let (jar, need) = in_release(daemon, "jvm.agents", jar)?;
    let argument = options.map_or(jar.clone(), |options| format!("{jar}={options}"));
    Ok((argument, need))
}

/// A file of the release as an argument, and as something to be looked for there. One that the
/// sandbox has elsewhere (`/usr/share/java/x.jar`) is the JVM's to find.
fn in_release(
    daemon: &DaemonSection<'_>,
    key: &str,
    path: &str,
) -> Result<(String, Option<ReleaseNeed>), PlatformError> {
    let Some(inside) = in_app(path) else {
        return Err(daemon.error(
            key,
            format!("`{path}` leads out of the release"),
            "name a file of the release, without `..`".to_owned(),
        ));
    };
    let need = inside.strip_prefix(APP_DIR).ok().map(|path| ReleaseNeed {
        path: path.to_path_buf(),
        origin: daemon.origin(key),
        hint: [
            "build it into the release ([build] command, output), or correct ",
            key,
        ]
        .concat(),
    });
    Ok((inside.to_string_lossy().into_owned(), need))
}
