//! The table itself, but for the keys of single platforms, which stand in their files.

use super::{FutureSection, Grant, Key, Kind, SectionSpec};

/// Every section there is, in the order of the reference.
pub const SECTIONS: &[SectionSpec] = &[
    SectionSpec {
        name: "app",
        doc: "The application.",
    },
    SectionSpec {
        name: "env",
        doc: "The environment of every daemon and cron job, and the names that `%(NAME)` knows.",
    },
    SectionSpec {
        name: "secrets",
        doc: "What the application may know and nobody else: each is a file `/run/secrets/NAME` in the sandbox, never printed.",
    },
    SectionSpec {
        name: "secrets.env",
        doc: "Secrets that are also variables of the environment.",
    },
    SectionSpec {
        name: "build",
        doc: "From version control to a release.",
    },
    SectionSpec {
        name: "daemon.*",
        doc: "Something that runs all the time; `[daemon.*]` itself is for all of them.",
    },
    SectionSpec {
        name: "crontab",
        doc: "What runs at certain times.",
    },
    SectionSpec {
        name: "firewall.out",
        doc: "What may leave the sandbox.",
    },
    SectionSpec {
        name: "firewall.out.accept",
        doc: "Where the application may connect to.",
    },
    SectionSpec {
        name: "firewall.in",
        doc: "What may enter the sandbox.",
    },
    SectionSpec {
        name: "firewall.in.accept",
        doc: "Who may connect to the application.",
    },
    SectionSpec {
        name: "sandbox",
        doc: "What the application is and sees.",
    },
    SectionSpec {
        name: "sandbox.net",
        doc: "How the sandbox reaches the network.",
    },
    SectionSpec {
        name: "sandbox.limits",
        doc: "What the instance may use as a whole; a daemon's own limits are inside these.",
    },
    SectionSpec {
        name: "sandbox.mounts",
        doc: "What else of the server the application sees.",
    },
    SectionSpec {
        name: "systemd.unit",
        doc: "Under systemd: what else stands in `[Unit]` of the services of the daemons and cron jobs.",
    },
    SectionSpec {
        name: "systemd.service",
        doc: "Under systemd: what else stands in `[Service]` of the services of the daemons and cron jobs; it comes last, and so wins.",
    },
    SectionSpec {
        name: "dns",
        doc: "The zone in which instances with addresses of their own get names: said once, in `site.conf` or `metactl.conf`.",
    },
    SectionSpec {
        name: "server",
        doc: "Facts of one server, in `metactl.conf` only.",
    },
];

/// Sections that are planned.
pub const FUTURE: &[FutureSection] = &[
    FutureSection {
        name: "health",
        instead: "until then `health = http` or `health = tcp` in [daemon.NAME] says how it is asked",
    },
    FutureSection {
        name: "access",
        instead: "until then only root changes anything",
    },
    FutureSection {
        name: "upstart",
        instead: "limits are set in [sandbox.limits]",
    },
    FutureSection {
        name: "smf",
        instead: "limits are set in [sandbox.limits]",
    },
];

/// A row that every layer may say and that has neither default nor other names; the table's own
/// name for [`super::row`].
const fn key(section: &'static str, name: &'static str, kind: Kind, doc: &'static str) -> Key {
    super::row(section, name, kind, doc)
}

/// Why site or local grant what shows a path of the server.
pub(crate) const HOST_PATH: &str = "it shows the application a path of the server";

/// Every key that is not one platform's own; [`super::KEYS`] has them all.
pub(super) const KEYS: &[Key] = &[
    key(
        "app",
        "name",
        Kind::Name,
        "The name of the application, when the instance is called otherwise; only the local layer's decides which site file is read.",
    ),
    Key {
        grant: Grant::Trusted,
        why: "it runs a program of the server",
        ..key(
            "app",
            "notify.command",
            Kind::Words,
            "A program of the server, by its whole path, that is run when an entry point fails; as `nobody`, with the facts in its environment and as text on its standard input.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it sends mail in the name of the server",
        ..key(
            "app",
            "notify.mail",
            Kind::Mail,
            "Who gets a mail when an entry point fails, through the server's `sendmail`.",
        )
    },
    key("env", "*", Kind::Variable, "A variable of the environment."),
    Key {
        grant: Grant::Trusted,
        why: "it is for those who run the server to say what is secret, and a file is one of the server",
        ..key(
            "secrets",
            "*",
            Kind::Secret,
            "The secret itself, as written; or `file:/PATH`: the content of that file of the server.",
        )
    },
    key(
        "secrets.env",
        "*",
        Kind::SecretName,
        "The name of a secret, whose value this variable of the environment gets.",
    ),
    // [build]
    Key {
        grant: Grant::Trusted,
        why: "it decides which source is fetched, with the rights of the server",
        ..key(
            "build",
            "repo",
            Kind::Repository,
            "Where the source is: a URL or path that git understands.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it decides which source is fetched",
        ..key(
            "build",
            "tag",
            Kind::Tag,
            "The tag, branch or commit to deploy when the command line names none.",
        )
    },
    key(
        "build",
        "command",
        Kind::Shell,
        "The shell command that builds a release, run in the checkout by an unprivileged user; without it the checkout is the release.",
    ),
    Key {
        default: Some("."),
        ..key(
            "build",
            "output",
            Kind::RelativePath,
            "The folder of the checkout that becomes the release.",
        )
    },
    Key {
        default: Some("30m"),
        ..key(
            "build",
            "timeout",
            Kind::Duration,
            "How long the build may take.",
        )
    },
    key(
        "build",
        "env.*",
        Kind::Variable,
        "A variable of the build's environment.",
    ),
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
    Key {
        default: Some("always"),
        ..key(
            "daemon.*",
            "restart",
            Kind::Choice(&["always", "on-failure", "never"]),
            "When it is started again after it ended.",
        )
    },
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
    key(
        "daemon.*",
        "requires",
        Kind::Daemons,
        "Daemons that are started before this one, and without which it does not run: under systemd it stops when they are stopped.",
    ),
    Key {
        default: Some("no"),
        ..key(
            "daemon.*",
            "notify",
            Kind::Choice(&["yes", "no"]),
            "Whether it tells by itself that it is ready (sd_notify(3)); under systemd a start waits for that.",
        )
    },
    key(
        "daemon.*",
        "watchdog",
        Kind::Duration,
        "How often it tells that it is alive (sd_watchdog_enabled(3)), with `notify = yes`; under systemd it is killed and started again when it does not.",
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
    // [firewall.*]
    Key {
        default: Some("reject"),
        grant: Grant::AnyBut(&["accept"]),
        why: "it lets the application connect to everything",
        ..key(
            "firewall.out",
            "policy",
            POLICY,
            "What happens to what no entry accepts.",
        )
    },
    Key {
        default: Some("any"),
        grant: Grant::Trusted,
        why: "it decides who may open the firewall",
        ..key(
            "firewall.out",
            "grant",
            GRANT,
            "Whose entries of `[firewall.out.accept]` take effect: `site` leaves out those of the app layer.",
        )
    },
    Key {
        grant: Grant::UnlessSite("firewall.out"),
        why: "`[firewall.out] grant = site`",
        ..key(
            "firewall.out.accept",
            "*",
            Kind::Destinations,
            "Destinations: host name, `*.` and a name for all names below it, address or prefix, each with `:port` and `/tcp`, `/udp` or `/icmp` if wanted.",
        )
    },
    key(
        "firewall.in",
        "policy",
        POLICY,
        "What happens to what no entry accepts. Unless this is written, the `port` of each daemon is open to everybody (or to whom an entry for that port names), ping is answered, and the rest is rejected; everything is accepted when no daemon says a port.",
    ),
    Key {
        default: Some("any"),
        grant: Grant::Trusted,
        why: "it decides who may open the firewall",
        ..key(
            "firewall.in",
            "grant",
            GRANT,
            "Whose entries of `[firewall.in.accept]` take effect: `site` leaves out those of the app layer.",
        )
    },
    Key {
        grant: Grant::UnlessSite("firewall.in"),
        why: "`[firewall.in] grant = site`",
        ..key(
            "firewall.in.accept",
            "*",
            Kind::Sources,
            "Who may come in, written like a destination; the port is the application's own.",
        )
    },
    // [sandbox]
    Key {
        grant: Grant::Trusted,
        why: HOST_PATH,
        ..key(
            "sandbox",
            "rootfs",
            Kind::AbsolutePath,
            "A root tree of your own instead of the view of the server's operating system.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it runs the application with an existing account",
        ..key(
            "sandbox",
            "user",
            Kind::Account,
            "An existing account instead of a uid of the instance's own.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "a capability is a part of root's rights",
        ..key(
            "sandbox",
            "capabilities",
            Kind::Capabilities,
            "Capabilities that the application keeps; none without it.",
        )
    },
    Key {
        grant: Grant::AnyBut(&["host"]),
        why: "it puts the application into the server's own network",
        ..key(
            "sandbox.net",
            "mode",
            Kind::Choice(&["routed", "nat", "none", "host"]),
            "`routed` with addresses of its own (the default when there is an `ip`), `nat` with one of the server's pool (the default otherwise), `none` with nothing but itself, `host` the server's own network.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "an address may belong to somebody else",
        ..key(
            "sandbox.net",
            "ip",
            Kind::Addresses,
            "The addresses of the instance.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it takes a port of the server",
        ..key(
            "sandbox.net",
            "publish",
            Kind::Published,
            "In `nat` mode: ports of the server that lead to the instance, `PORT` or `PORT:INSIDE`, with `/udp` if it is not TCP. On every IPv4 address of the server; the application sees the address of the client.",
        )
    },
    Key {
        default: Some("1g"),
        grant: Grant::AnyBut(&["unlimited"]),
        why: UNLIMITED,
        ..key("sandbox.limits", "memory", Kind::SizeOrUnlimited, "Memory.")
    },
    Key {
        default: Some("1024"),
        grant: Grant::AnyBut(&["unlimited"]),
        why: UNLIMITED,
        ..key(
            "sandbox.limits",
            "pids",
            Kind::CountOrUnlimited,
            "Processes and threads.",
        )
    },
    key("sandbox.limits", "cpu", Kind::Cpu, "Processors."),
    key(
        "sandbox.limits",
        "files",
        Kind::Count,
        "Open files of each process.",
    ),
    Key {
        grant: Grant::Trusted,
        why: HOST_PATH,
        ..key(
            "sandbox.mounts",
            "*",
            Kind::Mount,
            "The path inside; the value is the path on the server, and `rw` when the application may write there.",
        )
    },
    passthrough("systemd.unit", "A setting of systemd.unit(5)."),
    passthrough(
        "systemd.service",
        "A setting of systemd.service(5), systemd.exec(5), systemd.kill(5) or systemd.resource-control(5).",
    ),
    // [dns]
    dns(
        "zone",
        Kind::Domain,
        None,
        "Where the names are: `<instance>.<host>.<zone>`, and `<app>.<zone>` for all healthy instances. Without it nothing is registered.",
    ),
    dns(
        "server",
        Kind::NameServers,
        None,
        "The name servers that take updates of the zone (RFC 2136), the first one that answers: addresses, with `:port` if it is not 53.",
    ),
    dns(
        "key.file",
        Kind::AbsolutePath,
        None,
        "The key that signs the updates (TSIG, HMAC-SHA2): a file as `tsig-keygen` writes it, root's alone.",
    ),
    dns(
        "host",
        Kind::Label,
        None,
        "What this server is called in `<instance>.<host>.<zone>`; its host name up to the first dot without it.",
    ),
    dns(
        "ttl",
        Kind::Duration,
        Some("60s"),
        "How long others may remember the names.",
    ),
    dns(
        "reverse",
        Kind::Domains,
        None,
        "The zones of the names of addresses (PTR), or `none`; the name server is asked for them without it.",
    ),
    // [server]
    server(
        "site",
        Kind::Name,
        None,
        "The site that this server belongs to: the folder of `sites/` that is read.",
    ),
    server(
        "pool",
        Kind::Pool,
        Some("10.77.0.0/16"),
        "Where instances without an `ip` get their address from; IPv4 only.",
    ),
    server(
        "uid.range",
        Kind::UidRange,
        Some("66000-69999"),
        "Where instances get their uid from.",
    ),
    server(
        "uplink",
        Kind::Interfaces,
        None,
        "The interfaces towards other machines; without it every one that has a route to a network.",
    ),
    server(
        "nameservers",
        Kind::Addresses,
        None,
        "Name servers that answer for all instances; those of the server (`/etc/resolv.conf`) without it.",
    ),
    server(
        "service-manager",
        Kind::Choice(crate::server::ServiceManager::NAMES),
        None,
        "Who keeps instances running; without it systemd where it runs, else metactl itself (`standalone`).",
    ),
];

const POLICY: Kind = Kind::Choice(&["accept", "reject", "drop"]);
const GRANT: Kind = Kind::Choice(&["any", "site"]);
const UNLIMITED: &str = "without a limit it can take everything that the server has";

/// What a unit of systemd has besides.
const fn passthrough(section: &'static str, doc: &'static str) -> Key {
    Key {
        grant: Grant::Trusted,
        why: "it is said to systemd as it is, which runs it with the rights of the server",
        ..key(section, "*", Kind::UnitSetting, doc)
    }
}

/// A row of `[dns]`.
const fn dns(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key {
        default,
        grant: Grant::Trusted,
        why: "it changes what the names of others mean, with a key of the server",
        ..key("dns", name, kind, doc)
    }
}

/// A row of `[server]`.
const fn server(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> Key {
    Key {
        default,
        grant: Grant::Server,
        ..key("server", name, kind, doc)
    }
}
