//! The keys of daemons and of the questions to them.

use super::*;

pub(in crate::keys) const DAEMONS: &[Key] = &[
    // [daemon.*]
    Key {
        alias: Some("container"),
        ..key(
            "daemon.*",
            "platform",
            Kind::Platform,
            "What starts it. Without it, keys that say what to run tell: `command` is `exec`, `jvm.jar` is `jvm`, `python.script` is `python`.",
        )
    },
    key(
        "daemon.*",
        "port",
        Kind::Port,
        "The TCP port that it serves; 80 for what is served by a web server of the platform. It is `PORT` in the daemon's environment.",
    ),
    key(
        "daemon.*",
        "health",
        Kind::Choice(&["http", "tcp"]),
        "How `deploy` and `start` find out that it is up, when it has a port: it answers `GET /` with a status below 500, or it listens. As its platform says without it.",
    ),
    key(
        "daemon.*",
        "after",
        Kind::Daemons,
        "Daemons that are started before this one.",
    ),
    key(
        "daemon.*",
        "requires",
        Kind::Daemons,
        "Daemons that this one needs: they are started before it, and it is stopped when one of them is, or has ended for good.",
    ),
    Key {
        default: Some("always"),
        ..key(
            "daemon.*",
            "restart",
            Kind::Choice(&["always", "on-failure", "never"]),
            "When it is started again after it ended.",
        )
    },
    key(
        "daemon.*",
        "restart.limit",
        Kind::Count,
        "How often in a row it is started again when it ends within 10 seconds; then it is given up. For ever without it, after pauses of up to 30 seconds.",
    ),
    Key {
        default: Some("TERM"),
        ..key(
            "daemon.*",
            "stop.signal",
            Kind::Signal,
            "The signal that asks it to stop; `INT` for platform php.",
        )
    },
    Key {
        default: Some("30s"),
        ..key(
            "daemon.*",
            "stop.timeout",
            Kind::Duration,
            "How long it has to stop before it is killed.",
        )
    },
    key(
        "daemon.*",
        "limits.memory",
        Kind::Size,
        "Memory of this daemon alone.",
    ),
    key(
        "daemon.*",
        "limits.pids",
        Kind::Count,
        "Processes and threads of this daemon alone.",
    ),
    key(
        "daemon.*",
        "limits.cpu",
        Kind::Cpu,
        "Processors of this daemon alone.",
    ),
    key(
        "daemon.*",
        "limits.files",
        Kind::Count,
        "Open files of each of its processes.",
    ),
    // [health.*]
    key(
        "health.*",
        "daemon",
        Kind::Text,
        "The daemon that is asked; without it the one of the same name, or the only one.",
    ),
    key(
        "health.*",
        "kind",
        Kind::Choice(crate::health::KINDS),
        "What is asked: `http` a page, `tcp` whether the port is listened on, `command` whether it ends with exit code 0, `notify` whether the daemon has said `READY=1` (sd_notify(3)). Without it: `command` where there is one, `http` where there is a `path` or `status`, else `tcp`.",
    ),
    key(
        "health.*",
        "port",
        Kind::Port,
        "The port that is asked, when it is not the daemon's own.",
    ),
    key(
        "health.*",
        "path",
        Kind::UrlPath,
        "The page that is asked for, by `GET`; `/` without it.",
    ),
    key(
        "health.*",
        "status",
        Kind::Statuses,
        "The statuses that are a good answer; `200-399` without it.",
    ),
    key(
        "health.*",
        "command",
        Kind::Shell,
        "A shell command, run in the daemon's sandbox; exit code 0 is a good answer.",
    ),
    Key {
        default: Some("2s"),
        ..key(
            "health.*",
            "interval",
            Kind::Duration,
            "The time from one try to the next.",
        )
    },
    Key {
        default: Some("5s"),
        ..key(
            "health.*",
            "timeout",
            Kind::Duration,
            "How long one answer may take.",
        )
    },
    key(
        "health.*",
        "grace",
        Kind::Duration,
        "How long after the start a failure does not count; 0 without it.",
    ),
    Key {
        default: Some("15"),
        ..key(
            "health.*",
            "tries",
            Kind::Count,
            "How many failures in a row are a failure of the daemon.",
        )
    },
    Key {
        default: Some("no"),
        ..key(
            "daemon.*",
            "notify",
            Kind::Choice(&["yes", "no"]),
            "Whether it tells by itself that it is ready (sd_notify(3)): a start waits for that, and so do daemons that are started after it; what it says of itself (`STATUS=`) is shown by `status`. Under systemd and metactl's own supervisor.",
        )
    },
    key(
        "daemon.*",
        "watchdog",
        Kind::Duration,
        "How often it tells that it is alive (sd_watchdog_enabled(3)), with `notify = yes`; when it does not, it gets SIGABRT, after `stop.timeout` SIGKILL, and is started again as after a failure. Under systemd and metactl's own supervisor.",
    ),
    key(
        "daemon.*",
        "socket",
        Kind::Sockets,
        "TCP sockets that it gets when it is started (sd_listen_fds(3)): a port, or an address and a port. They are made in the instance's own network, and stay when it is restarted. Needs systemd.",
    ),
    key(
        "crontab",
        "*",
        Kind::Cron,
        "Five fields or `@daily` and the like, then a shell command that runs in the sandbox.",
    ),
    key(
        "cron",
        "timezone",
        Kind::TimeZone,
        "The time zone of the schedules; that of the server without it.",
    ),
    Key {
        default: Some("skip"),
        ..key(
            "cron",
            "missed",
            Kind::Choice(&["skip", "once"]),
            "What happens to times that pass while the server is off or the instance stopped: nothing, or one run at the next start, however many they were.",
        )
    },
    key(
        "cron",
        "delay",
        Kind::Duration,
        "Each run begins a random time later, less than this, so that not everything begins at once.",
    ),
];
