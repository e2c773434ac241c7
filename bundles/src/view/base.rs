//! The fixed part of what an application sees: lists of paths, and the small files made for it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

/// Where Linux distributions install Java.
pub(super) const JVM_DIR: &str = "/usr/lib/jvm";

/// Links of the root into `/usr` on a merged system, folders on an older one (hier(7)).
const SYSTEM_TOP: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];

/// Names in the root that are made for the instance, whatever a tree of the user's own has there.
const OWN_TOP: &[&str] = &["app", "data", "dev", "etc", "proc", "run", "sys", "tmp"];

/// What of the host's `/etc` is shown, when it is there: certificates, time zone, the linker's
/// cache, alternatives, fonts, and tables that everybody may know. Nothing with a secret in it.
pub(super) const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/java",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

/// Files of `/etc` that are made for the instance. `hosts` changes while it runs and is mounted.
pub(super) const OWN_ETC: &[&str] = &[
    "group",
    "hostname",
    "hosts",
    "metactl",
    "mtab",
    "nsswitch.conf",
    "passwd",
    "resolv.conf",
];

/// Whether a name of the host's root is part of the operating system's own tree.
pub(super) fn is_system_top(name: &str) -> bool {
    SYSTEM_TOP.contains(&name)
}

/// Whether a name in the root belongs to the sandbox.
pub(super) fn is_own_top(name: &str) -> bool {
    OWN_TOP.contains(&name)
}

/// Whether a path of the host is in the tree that is always shown.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM_TOP
        .iter()
        .any(|top| path.starts_with(Path::new("/").join(top)))
}

/// `path` without `.` and `..`, by its text alone.
pub(crate) fn normalized(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// The account of the instance inside.
pub(super) struct Account<'a> {
    /// The name of the instance, or of the account that `[sandbox] user` names.
    pub name: &'a str,
    pub uid: u32,
    pub gid: u32,
}

impl Account<'_> {
    /// A name that passwd(5) can hold and that is not one of ours.
    fn login(&self) -> String {
        let name: String = self
            .name
            .chars()
            .filter(|c| !":/\n,".contains(*c))
            .collect();
        match name.as_str() {
            "" | "root" | "nobody" | "nogroup" => "app".to_owned(),
            _ => name,
        }
    }

    /// `/etc/passwd`: without a line for its uid, Java says that the user is `?`.
    pub fn passwd(&self) -> String {
        let mut text = "root:x:0:0:root:/:/usr/sbin/nologin\n".to_owned();
        if self.uid != 0 && self.uid != 65534 {
            let login = self.login();
            let _ = writeln!(
                text,
                "{login}:x:{}:{}:{login}:/data:/bin/sh",
                self.uid, self.gid
            );
        }
        text.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
        text
    }

    /// `/etc/group`.
    pub fn group(&self) -> String {
        let mut text = "root:x:0:\n".to_owned();
        if self.gid != 0 && self.gid != 65534 {
            let _ = writeln!(text, "{}:x:{}:", self.login(), self.gid);
        }
        text.push_str("nogroup:x:65534:\n");
        text
    }
}

/// `/etc/nsswitch.conf`: files, and DNS when there is a server that may be asked. (An empty
/// resolv.conf(5) would make the resolver ask 127.0.0.1.)
pub(super) fn nsswitch(servers: &[IpAddr]) -> String {
    let hosts = if servers.is_empty() {
        "files"
    } else {
        "files dns"
    };
    format!(
        "passwd: files\ngroup: files\nhosts: {hosts}\nnetworks: files\nservices: files\n\
         protocols: files\n"
    )
}

/// `/etc/resolv.conf` with these servers.
pub(super) fn resolv_conf(servers: &[IpAddr]) -> String {
    if servers.is_empty() {
        return "\
# No DNS in this sandbox: the names that its accept list has are in /etc/hosts.\n"
            .to_owned();
    }
    let mut text = String::new();
    // resolv.conf(5): at most three.
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    text
}

/// `/etc/hosts` before any name of an accept list is known.
pub(super) fn hosts(hostname: &str, addresses: &[IpAddr]) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    if addresses.is_empty() {
        let _ = writeln!(text, "127.0.1.1 {hostname}");
    }
    for address in addresses {
        let _ = writeln!(text, "{address} {hostname}");
    }
    text
}
