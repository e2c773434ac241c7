//! What a test needs of the machine, and the loud skip when it is not there.

use std::io::Write;
use std::path::Path;

/// Something that a test cannot do without.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// A command looked up in `PATH`, or an absolute path.
    what: &'static str,
    /// How to get it.
    hint: &'static str,
}

/// Version control.
pub const GIT: Need = Need {
    what: "git",
    hint: "apt-get install git",
};
/// Another version control, with its server.
pub const SUBVERSION: Need = Need {
    what: "svnserve",
    hint: "apt-get install subversion",
};
/// Signs, and verifies.
pub const GPG: Need = Need {
    what: "gpg",
    hint: "apt-get install gnupg",
};
/// The same with keys of SSH.
pub const SSH_KEYGEN: Need = Need {
    what: "ssh-keygen",
    hint: "apt-get install openssh-client",
};
/// Lets them in.
pub const SSHD: Need = Need {
    what: "/usr/sbin/sshd",
    hint: "apt-get install openssh-server",
};
/// A web server, which serves Subversion too.
pub const APACHE: Need = Need {
    what: "/usr/lib/apache2/modules/mod_dav_svn.so",
    hint: "apt-get install libapache2-mod-svn",
};
/// Makes certificates.
pub const OPENSSL: Need = Need {
    what: "openssl",
    hint: "apt-get install openssl",
};
/// The rules of a namespace can be listed.
pub const NFT: Need = Need {
    what: "nft",
    hint: "apt-get install nftables",
};
/// The rules of others.
pub const IPTABLES: Need = Need {
    what: "iptables",
    hint: "apt-get install iptables",
};
/// What firewalld is asked by.
pub const DBUS: Need = Need {
    what: "dbus-daemon",
    hint: "apt-get install dbus",
};
/// The firewall of Fedora and others.
pub const FIREWALLD: Need = Need {
    what: "firewalld",
    hint: "apt-get install firewalld",
};
/// The firewall of Ubuntu.
pub const UFW: Need = Need {
    what: "ufw",
    hint: "apt-get install ufw",
};
/// A name server.
pub const NAMED: Need = Need {
    what: "named",
    hint: "apt-get install bind9",
};
/// Asks name servers.
pub const DIG: Need = Need {
    what: "dig",
    hint: "apt-get install bind9-dnsutils",
};
/// A C compiler.
pub const CC: Need = Need {
    what: "cc",
    hint: "apt-get install gcc libc6-dev",
};
/// A shell with programmable completion.
pub const BASH: Need = Need {
    what: "bash",
    hint: "apt-get install bash",
};
/// Another one.
pub const ZSH: Need = Need {
    what: "zsh",
    hint: "apt-get install zsh",
};
/// And another.
pub const FISH: Need = Need {
    what: "fish",
    hint: "apt-get install fish",
};
/// Reads manual pages.
pub const GROFF: Need = Need {
    what: "groff",
    hint: "apt-get install groff",
};
/// Shows manual pages.
pub const MAN: Need = Need {
    what: "man",
    hint: "apt-get install man-db",
};
/// Becomes root for somebody.
pub const SUDO: Need = Need {
    what: "sudo",
    hint: "apt-get install sudo",
};
/// Lists open files.
pub const LSOF: Need = Need {
    what: "lsof",
    hint: "apt-get install lsof",
};
/// Follows system calls.
pub const STRACE: Need = Need {
    what: "strace",
    hint: "apt-get install strace",
};
/// A Java compiler.
pub const JDK: Need = Need {
    what: "javac",
    hint: "apt-get install openjdk-17-jdk-headless",
};
/// Builds Java.
pub const MAVEN: Need = Need {
    what: "/usr/bin/mvn",
    hint: "apt-get install maven",
};
/// What it needs to make a jar without any network.
pub const MAVEN_PLUGINS: Need = Need {
    what: "/usr/share/maven-repo/org/apache/maven/plugins/maven-compiler-plugin",
    hint: "apt-get install libmaven-resources-plugin-java libmaven-compiler-plugin-java libmaven-jar-plugin-java libsurefire-java",
};
/// Builds Java, too; a hundred megabytes, so that it is not installed for tests alone.
pub const GRADLE: Need = Need {
    what: "/usr/bin/gradle",
    hint: "apt-get install gradle",
};
/// Comes with Node.js from elsewhere; Debian's has four hundred packages.
pub const NPM: Need = Need {
    what: "/usr/bin/npm",
    hint: "apt-get install npm",
};
/// The Rust compiler.
pub const RUST: Need = Need {
    what: "rustc",
    hint: "rustup, from https://rustup.rs",
};
/// make(1).
pub const MAKE: Need = Need {
    what: "/usr/bin/make",
    hint: "apt-get install make",
};
/// Debian's Python with virtual environments.
pub const PYTHON_VENV: Need = Need {
    what: "/usr/share/doc/python3-venv",
    hint: "apt-get install python3-venv",
};
/// Debian's Jetty.
pub const JETTY: Need = Need {
    what: "/usr/share/jetty9/start.jar",
    hint: "apt-get install jetty9",
};
/// Debian's Tomcat, without its service.
pub const TOMCAT: Need = Need {
    what: "/usr/share/tomcat10/bin/bootstrap.jar",
    hint: "apt-get install tomcat10-common",
};
/// The servlet API, to compile against.
pub const SERVLET_API: Need = Need {
    what: "/usr/share/java/servlet-api.jar",
    hint: "apt-get install libservlet-api-java",
};
/// Debian's Python.
pub const PYTHON: Need = Need {
    what: "/usr/bin/python3",
    hint: "apt-get install python3",
};
/// A server for WSGI.
pub const GUNICORN: Need = Need {
    what: "/usr/bin/gunicorn",
    hint: "apt-get install gunicorn",
};
/// JavaScript.
pub const NODE: Need = Need {
    what: "/usr/bin/node",
    hint: "apt-get install nodejs",
};
/// Ruby.
pub const RUBY: Need = Need {
    what: "/usr/bin/ruby",
    hint: "apt-get install ruby",
};
/// A server for Rack.
pub const PUMA: Need = Need {
    what: "/usr/bin/puma",
    hint: "apt-get install puma",
};
/// Another server for Rack; rackup comes with ruby-rack.
pub const WEBRICK: Need = Need {
    what: "/usr/share/doc/ruby-webrick",
    hint: "apt-get install ruby-webrick ruby-rack",
};
/// PHP on the command line, with its own web server.
pub const PHP: Need = Need {
    what: "/usr/bin/php",
    hint: "apt-get install php-cli",
};
/// Perl.
pub const PERL: Need = Need {
    what: "/usr/bin/perl",
    hint: "apt-get install perl",
};
/// A server for PSGI.
pub const PLACKUP: Need = Need {
    what: "/usr/bin/plackup",
    hint: "apt-get install libplack-perl",
};
/// The hops on the way to an address.
pub const TRACEROUTE: Need = Need {
    what: "traceroute",
    hint: "apt-get install traceroute",
};
/// A name server, what makes keys for it, and what asks it.
pub const BIND: &[Need] = &[
    Need {
        what: "named",
        hint: "apt-get install bind9",
    },
    Need {
        what: "tsig-keygen",
        hint: "apt-get install bind9",
    },
    Need {
        what: "dig",
        hint: "apt-get install bind9-dnsutils",
    },
];
/// Shows packets with the names of their addresses.
pub const TCPDUMP: Need = Need {
    what: "tcpdump",
    hint: "apt-get install tcpdump",
};
/// Fetches a page; the cron job of the example uses it.
pub const CURL: Need = Need {
    what: "curl",
    hint: "apt-get install curl",
};
/// An OCI runtime in C.
pub const CRUN: Need = Need {
    what: "crun",
    hint: "apt-get install crun",
};
/// The OCI reference runtime.
pub const RUNC: Need = Need {
    what: "runc",
    hint: "apt-get install runc",
};
/// A container engine, with its monitor and its tool for networks.
pub const PODMAN: &[Need] = &[
    Need {
        what: "podman",
        hint: "apt-get install podman",
    },
    Need {
        what: "conmon",
        hint: "apt-get install conmon",
    },
    Need {
        what: "/usr/lib/podman/netavark",
        hint: "apt-get install netavark",
    },
    Need {
        what: "/usr/bin/catatonit",
        hint: "apt-get install catatonit",
    },
    BUSYBOX,
];
/// A container engine, with its command line.
pub const CONTAINERD: &[Need] = &[
    Need {
        what: "containerd",
        hint: "apt-get install containerd",
    },
    Need {
        what: "ctr",
        hint: "apt-get install containerd",
    },
    BUSYBOX,
];
/// Commands in one static file: what the images of the tests consist of.
const BUSYBOX: Need = Need {
    what: "busybox",
    hint: "apt-get install busybox-static",
};

/// Everything that the `myapp` example needs.
pub const MYAPP: &[Need] = &[GIT, JDK, JETTY, SERVLET_API, CURL];

/// The first reason why this machine cannot run a test with these needs.
pub fn missing(needs: &[Need]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, to make a host of namespaces".to_owned());
    }
    const ALWAYS: [Need; 3] = [
        Need {
            what: "unshare",
            hint: "apt-get install util-linux",
        },
        Need {
            what: "ip",
            hint: "apt-get install iproute2",
        },
        Need {
            what: "perl",
            hint: "apt-get install perl-base",
        },
    ];
    let gone = ALWAYS
        .iter()
        .chain(needs)
        .find(|need| !is_there(need.what))?;
    Some(format!("{} is missing ({})", gone.what, gone.hint))
}

fn is_there(what: &str) -> bool {
    if what.starts_with('/') {
        return Path::new(what).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(what).is_file())
}

/// Says that a test is skipped, and counts it; fails where nothing may be skipped.
pub fn skip(test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}");
    assert!(
        std::env::var_os("METACTL_NO_SKIP").is_none(),
        "{line}, but METACTL_NO_SKIP is set"
    );
    eprintln!("{line}");
    if let Some(file) = std::env::var_os("METACTL_SKIPS") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
}
