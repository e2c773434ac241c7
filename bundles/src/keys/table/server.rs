//! The keys of the sandbox, its network, and the server.

use super::*;

pub(in crate::keys) const SERVER: &[Key] = &[
    // [firewall.*]
    Key {
        default: Some("reject"),
        grant: Grant::AnyBut(&["accept"]),
        why: "it lets the application connect to everything",
        ..key(
            "firewall.out",
            "policy",
            POLICY,
            "What happens to what no entry names.",
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
        "firewall.out.reject",
        "*",
        Kind::Destinations,
        "Destinations that are refused whatever the policy and `[firewall.out.accept]` say, written like those there. Questions for such a name are refused, and the addresses that it has.",
    ),
    key(
        "firewall.in",
        "policy",
        POLICY,
        "What happens to what no entry names. Unless this is written, the `port` of each daemon is open to everybody (or to whom an entry for that port names), ping is answered, and the rest is rejected; everything is accepted when no daemon says a port.",
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
    key(
        "firewall.in.reject",
        "*",
        Kind::Sources,
        "Who may not come in whatever the policy and `[firewall.in.accept]` say, written like those there.",
    ),
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
    passthrough("systemd.unit", "A setting of systemd.unit(5)."),
    passthrough(
        "systemd.service",
        "A setting of systemd.service(5), systemd.exec(5), systemd.kill(5) or systemd.resource-control(5).",
    ),
    // [smf.*]
    smf(
        "smf.method",
        "project",
        Kind::Project,
        "The project that they run in, by which resource controls and accounting know them (project(5)).",
    ),
    smf(
        "smf.method",
        "resource_pool",
        Kind::Project,
        "The pool of processors that they run on (pooladm(8)).",
    ),
    smf(
        "smf.dependency",
        "*",
        Kind::SmfDependency,
        "Services or files, by their FMRIs; before them, if wanted, how many of them (`require_all`, `require_any`, `optional_all`, `exclude_all`), and behind a `/` what of them restarts it (`none`, `error`, `restart`, `refresh`).",
    ),
    smf(
        "smf.property",
        "*",
        Kind::SmfProperty,
        "A property, called GROUP/NAME; the value is TYPE: VALUE, or TYPE: (VALUE VALUE...), as svccfg(8) has it.",
    ),
    // [upstart]
    Key {
        default: Some("yes"),
        grant: Grant::AnyBut(&["no"]),
        why: "without a sandbox the application sees and reaches everything that its account can",
        ..key(
            "upstart",
            "sandbox",
            Kind::Choice(&["yes", "no"]),
            "`no`: under Upstart the plain commands are started, as the account of `[sandbox] user`, on a kernel that is too old for a sandbox. There is no firewall then, and no limit but those of the account: only with `[sandbox.net] mode = host`.",
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
        "Who keeps instances running; without it systemd, Upstart or SMF where one of them runs, else metactl itself (`standalone`).",
    ),
];

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
