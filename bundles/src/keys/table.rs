//! The table itself, but for the keys of single platforms, which stand in their files.

pub(super) mod daemons;
pub(super) mod server;

use super::{Grant, Key, Kind, SectionSpec};

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
        name: "cron",
        doc: "How the lines of `[crontab]` are run.",
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
        name: "firewall.out.reject",
        doc: "Where the application may not connect to, whatever accepts it.",
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
        name: "firewall.in.reject",
        doc: "Who may not connect to the application, whatever accepts them.",
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
        name: "systemd.unit",
        doc: "Under systemd: what else stands in `[Unit]` of the services of the daemons and cron jobs.",
    },
    SectionSpec {
        name: "systemd.service",
        doc: "Under systemd: what else stands in `[Service]` of the services of the daemons and cron jobs; it comes last, and so wins.",
    },
    SectionSpec {
        name: "smf.method",
        doc: "Under SMF: where the methods of the daemons and cron jobs run (smf_method(7)).",
    },
    SectionSpec {
        name: "smf.dependency",
        doc: "Under SMF: what else the service of the instance depends on.",
    },
    SectionSpec {
        name: "smf.property",
        doc: "Under SMF: further properties of the service of the instance; those of the group `startd` are its daemons'.",
    },
    SectionSpec {
        name: "upstart",
        doc: "Under Upstart, whose servers have kernels that are too old for a sandbox.",
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

/// Those of the application, its environment and its build; [`super::KEYS`] has all keys.
pub(super) const APPLICATION: &[Key] = &[
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
            "Who asks a repository that wants a password.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server",
        ..key(
            "build",
            "password.file",
            Kind::AbsolutePath,
            "The file with the password of `user`, in its first line; it is on no command line.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server, and decides who the server is for the repository",
        ..key(
            "build",
            "ssh.key",
            Kind::AbsolutePath,
            "The file with the private key, without a passphrase, for repositories reached by SSH; without it those of whoever deploys.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server, and which servers are trusted",
        ..key(
            "build",
            "ssh.known_hosts",
            Kind::AbsolutePath,
            "The file with the keys of hosts (sshd(8)) that repositories are on; without it that of whoever deploys. A host with another key, or in no file, is refused.",
        )
    },
    Key {
        grant: Grant::Trusted,
        why: "it names a file of the server, and which servers are trusted",
        ..key(
            "build",
            "tls.ca",
            Kind::AbsolutePath,
            "The file with the certificates, in PEM, of the authorities that vouch for repositories reached by https; without it those of the server.",
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
        grant: Grant::Trusted,
        why: "then a build reaches services of the server, or of other instances",
        ..key(
            "build",
            "accept",
            Kind::Sources,
            "What of the server and of other instances a build reaches with `network = nat`: destinations as in `[firewall.out.accept]`, names as they are when it begins.",
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

/// What a service of SMF has besides.
const fn smf(section: &'static str, name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        grant: Grant::Trusted,
        why: "it is said to SMF as it is, which acts on it with the rights of the server",
        ..key(section, name, kind, doc)
    }
}
