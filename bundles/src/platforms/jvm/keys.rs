//! The keys of every platform on a JVM.

use crate::keys::table::HOST_PATH;
use crate::keys::{Grant, Key, Kind, row};

/// The platforms on a JVM: a word for each file.
const JAVA: &[&str] = &["jvm", "jetty", "tomcat"];

/// In the order of the reference.
pub(super) const KEYS: &[Key] = &[
    Key {
        platforms: &["jvm"],
        ..row(
            "daemon.*",
            "jvm.jar",
            Kind::Words,
            "The .jar of the release to run, and its arguments.",
        )
    },
    Key {
        platforms: &["jvm"],
        ..row(
            "daemon.*",
            "jvm.main",
            Kind::Words,
            "The main class to run, and its arguments; instead of `jvm.jar`.",
        )
    },
    Key {
        platforms: &["jvm"],
        ..row(
            "daemon.*",
            "jvm.classpath",
            Kind::Text,
            "The class path for `jvm.main`; `.:lib/*` when there is none.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.heap.max",
            Kind::HeapSize,
            "The largest heap (`-Xmx`); without it three quarters of what the other parts leave of the memory limit.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.heap.min",
            Kind::HeapSize,
            "The heap to begin with (`-Xms`).",
        )
    },
    Key {
        platforms: JAVA,
        default: Some("yes"),
        ..row(
            "daemon.*",
            "jvm.heap.dump",
            Kind::Choice(&["yes", "no"]),
            "Whether the heap is written to `heapdump-DAEMON.hprof` of the data when it is full; the JVM then ends and is started again.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.metaspace.max",
            Kind::HeapSize,
            "The most that classes take (`-XX:MaxMetaspaceSize`); not bounded without it, and counted as 24m.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.direct.max",
            Kind::HeapSize,
            "The most that buffers outside of the heap take (`-XX:MaxDirectMemorySize`); as much as the heap without it, and counted as 4m.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.codecache.max",
            Kind::HeapSize,
            "The most that compiled code takes (`-XX:ReservedCodeCacheSize`); the JVM's own bound without it, and counted as 16m.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.stack",
            Kind::HeapSize,
            "The stack of each thread (`-Xss`); the JVM's own, 1m, without it.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.threads",
            Kind::Count,
            "How many threads it may have, its own included: becomes `limits.pids`, and is counted with their stacks; not bounded without it, and counted as 20.",
        )
    },
    Key {
        platforms: JAVA,
        default: Some("off"),
        ..row(
            "daemon.*",
            "jvm.gc.log",
            Kind::Choice(&["data", "log", "off"]),
            "The garbage collector's log: `data` writes `gc-DAEMON.log` of the data, 5 files of 10m in turn; `log` writes into the daemon's log.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.properties",
            Kind::Words,
            "System properties, `name=value` words, each given as `-D`.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.properties.*",
            Kind::Variable,
            "One system property, given as `-D`; wins over the same one in `jvm.properties`. The value is part of the command line.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.agents",
            Kind::Words,
            "Jars of the release, each with `=options` if wanted, given as `-javaagent`.",
        )
    },
    Key {
        platforms: JAVA,
        ..row(
            "daemon.*",
            "jvm.options",
            Kind::Words,
            "Further options of `java`, last on its command line.",
        )
    },
    Key {
        platforms: JAVA,
        grant: Grant::Trusted,
        why: HOST_PATH,
        ..row(
            "daemon.*",
            "jvm.home",
            Kind::AbsolutePath,
            "The Java installation of the server; the default one without it.",
        )
    },
];
