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
        name: "health.*",
        doc: "A question to a daemon; `deploy`, `start` and `rollback` wait until all are answered well.",
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
        name: "access",
        doc: "Which persons behind sudo may do what; without any such section on the server, sudo alone decides.",
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
        name: "systemd",
        instead: "limits are set in [sandbox.limits]",
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

/// A key of `[access]`.
const fn access(name: &'static str, doc: &'static str) -> Key {
    Key {
        grant: Grant::Trusted,
        why: "it decides who may do something with the server's rights",
        ..key("access", name, Kind::Persons, doc)
    }
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
    access(
        "operate",
        "Who may start, stop and restart it and look into its configuration: accounts, and groups with an `@`.",
    ),
    access(
        "deploy",
        "Who may also deploy it, go back to a release, and enter its sandbox and its network.",
    ),
    access(
        "administer",
        "Who may everything, also change its configuration: as root itself.",
    ),
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
    Key {
        grant: Grant::Trusted,
        why: "it decides which source is fetched, with the rights of the server",
        ..key(
            "build",
            "repo.*",
            Kind::Repository,
            "A further repository, put into the folder of that name; `tag.NAME` says what of it.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it decides which source is fetched",
        ..key(
            "build",
            "tag.*",
            Kind::Tag,
            "The tag, branch or commit of `repo.NAME`.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it runs a program of the server that reaches the network",
        ..key(
            "build",
            "fetch",
            Kind::Shell,
            "A shell command that writes the source into the folder in which it is run, instead of git; as an unprivileged user in a sandbox, with `METACTL_TAG` and `METACTL_REPO`.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it decides who the server is for the repository",
        ..key(
            "build",
            "user",
            Kind::Name,
            "Who asks a Subversion repository.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server",
        ..key(
            "build",
            "password.file",
            Kind::AbsolutePath,
            "The file with the password of `user`; it is on no command line.",
        )
    },
    Key {
        default: Some("same-host"),
        grant: Grant::Trusted,
        why: "it decides what else the server fetches, with its rights",
        ..key(
            "build",
            "submodules",
            Kind::Choice(&["same-host", "any", "none"]),
            "Which submodules of git are fetched: those from the host of the repository or from beside it, all, or none.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server, and who is trusted",
        ..key(
            "build",
            "verify.gpg",
            Kind::AbsolutePath,
            "The file with the public keys of GPG of which one has to have signed the tag.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server, and who is trusted",
        ..key(
            "build",
            "verify.ssh",
            Kind::AbsolutePath,
            "The file with the allowed signers (ssh-keygen(1)) of which one has to have signed the tag.",
        )
    },
    key(
        "build",
        "command",
        Kind::Shell,
        "The shell command that builds a release, run in the checkout by an unprivileged user; without it `tool` decides.",
    ),
    Key {
        default: Some("auto"),
        ..key(
            "build",
            "tool",
            Kind::Choice(crate::app::Tool::NAMES),
            "What builds when there is no `command`: `auto` looks for nla-deploy.sh, pom.xml, build.gradle, package.json, Cargo.toml, Makefile, setup.py; `none`: the checkout is the release.",
        )
    },
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
        default: Some("nat"),
        grant: Grant::AnyBut(&["host"]),
        why: "then a build reaches the services of the server",
        ..key(
            "build",
            "network",
            Kind::Choice(&["nat", "none", "host"]),
            "What the build reaches: the world but not the server, nothing, or all that the server reaches.",
        )
    },
    Key {
        default: Some("4g"),
        ..key(
            "build",
            "limits.memory",
            Kind::SizeOrUnlimited,
            "The memory that the build may use.",
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
    Key {
        default: Some("3"),
        ..key(
            "build",
            "keep",
            Kind::Count,
            "How many releases are kept besides the one in use and the one before.",
        )
    },
    Key {
        default: Some("7s"),
        ..key(
            "build",
            "watch",
            Kind::Duration,
            "How long a new release has to stay up before it counts, when there is one to go back to.",
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
            "In `nat` mode: ports of the server that lead to the instance, `PORT` or `PORT:INSIDE`, or ranges of them, with `/udp` if it is not TCP; at every address of the server, or at the one in front, `ADDRESS:PORT:INSIDE`. The application sees the address of the client.",
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
        "Where instances without an `ip` get their address from.",
    ),
    server(
        "pool6",
        Kind::Pool6,
        None,
        "Where they get an IPv6 address from, too: of unique local addresses (RFC 4193), translated on the way out. Without it they have IPv4 alone.",
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
