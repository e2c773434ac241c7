//! Text to typed values. Every error is the end of a sentence: "must be ...".

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};

mod cron;
mod domains;
mod numbers;
mod persons;
mod units;
mod words;

pub(crate) use cron::checked_cron;
pub use cron::{cron, time_zone};
pub use domains::{domain, domains, label, name_servers};
pub use numbers::{count, cpu_millis, duration, heap_size, port, size};
pub use persons::{Somebody, persons};
pub use units::{sockets, unit_key, unit_setting};
pub use words::{WordsError, split_words};

type Parsed<T> = Result<T, String>;

/// A variable of the environment is at most this long (MAX_ARG_STRLEN of Linux).
pub const MAX_VARIABLE: usize = 128 * 1024;

/// Text that says something.
pub fn text(text: &str) -> Parsed<&str> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(text)
    }
}

/// A value of the environment; it may be empty.
pub fn variable(text: &str) -> Parsed<()> {
    if text.len() < MAX_VARIABLE {
        return Ok(());
    }
    Err(format!(
        "must be shorter than 128 KiB; it is {} bytes long",
        text.len()
    ))
}

/// The name of a variable (POSIX "Environment Variables", 8.1, and lower case).
pub fn variable_name(name: &str) -> Parsed<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(good) {
        return Err("must be letters, digits and `_`, not beginning with a digit".to_owned());
    }
    if name.starts_with("METACTL_") {
        return Err("must not begin with METACTL_: these are set by metactl".to_owned());
    }
    Ok(())
}

/// A name that can be the name of a file: of an instance, an application, a site.
pub fn name(name: &str) -> Parsed<&str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.');
    if name.is_empty()
        || name.len() > 100
        || name.starts_with(['.', '-'])
        || !name.chars().all(good)
    {
        return Err(
            "must be letters, digits, `-`, `_`, `+` and dots, not beginning with `.` or `-`"
                .to_owned(),
        );
    }
    Ok(name)
}

/// The words of a list, separated by spaces or commas.
pub fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
}

/// Signals by their numbers on Linux (signal(7), x86 and ARM).
const SIGNALS: [(&str, i32); 12] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("WINCH", 28),
    ("PWR", 30),
];

/// A signal by name, with or without `SIG`, or number.
pub fn signal(text: &str) -> Parsed<i32> {
    let name = match text.split_at_checked(3) {
        Some((sig, name)) if sig.eq_ignore_ascii_case("SIG") => name,
        _ => text,
    };
    let by_name = SIGNALS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, number)| *number);
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let by_number = || {
        text.parse()
            .ok()
            .filter(|number| digits && (1..=64).contains(number))
    };
    by_name.or_else(by_number).ok_or_else(|| {
        let names: Vec<&str> = SIGNALS.iter().map(|(name, _)| *name).collect();
        format!(
            "must be one of {} or a number from 1 to 64",
            names.join(", ")
        )
    })
}

/// Unicast addresses, each once, at least one.
pub fn addresses(text: &str) -> Parsed<Vec<IpAddr>> {
    let mut found = Vec::new();
    for word in list(text) {
        let address: IpAddr = word.parse().map_err(|_| match word.split_once('/') {
            Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
                format!("must be an address without a prefix length: {address}")
            }
            _ => format!("must be an IP address such as 192.168.0.5; `{word}` is none"),
        })?;
        if !is_usable(address) {
            return Err(format!(
                "must be an address of one machine; {address} is not"
            ));
        }
        if found.contains(&address) {
            return Err(format!(
                "must have each address once; {address} stands there twice"
            ));
        }
        found.push(address);
    }
    match found.len() {
        0 => Err("must be an IP address such as 192.168.0.5".to_owned()),
        1..=16 => Ok(found),
        _ => Err("must be 16 addresses at most".to_owned()),
    }
}

fn is_usable(address: IpAddr) -> bool {
    let v4_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || v4_broadcast
        || mapped)
}

/// An IPv4 prefix from which addresses are given out.
pub fn pool(text: &str) -> Parsed<Ipv4Net> {
    let net: Ipv4Net = text
        .parse()
        .map_err(|_| "must be an IPv4 prefix such as 10.77.0.0/16".to_owned())?;
    if net.trunc() != net {
        return Err(format!("must begin at its first address: {}", net.trunc()));
    }
    if !(8..=29).contains(&net.prefix_len()) {
        return Err("must have a prefix length from 8 to 29".to_owned());
    }
    Ok(net)
}

/// An IPv6 prefix from which addresses are given out. Others must not be masqueraded by mistake, so they are of
/// those that lead nowhere (RFC 4193).
pub fn pool6(text: &str) -> Parsed<Ipv6Net> {
    let net: Ipv6Net = text.parse().map_err(|_| {
        "must be an IPv6 prefix of unique local addresses such as fd12:3456:789a::/64".to_owned()
    })?;
    if net.trunc() != net {
        return Err(format!("must begin at its first address: {}", net.trunc()));
    }
    if !(48..=120).contains(&net.prefix_len()) {
        return Err("must have a prefix length from 48 to 120".to_owned());
    }
    if !net.network().is_unique_local() {
        return Err(
            "must be of unique local addresses (fd00::/8): with others an instance needs no translation, give it \
             one with [sandbox.net] ip"
                .to_owned(),
        );
    }
    Ok(net)
}

/// `66000-69999`.
pub fn uid_range(text: &str) -> Parsed<RangeInclusive<u32>> {
    const WRONG: &str = "must be first-last, like 66000-69999";
    let (first, last) = text.split_once('-').ok_or(WRONG)?;
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| WRONG.to_owned());
    let (first, last) = (number(first)?, number(last)?);
    if first < 1000 || last > 2_000_000_000 {
        return Err("must lie between 1000 and 2000000000".to_owned());
    }
    if first > last {
        Err(WRONG.to_owned())
    } else {
        Ok(first..=last)
    }
}

/// The name of a network interface (IFNAMSIZ).
fn interface(text: &str) -> Parsed<&str> {
    let good = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if text.is_empty() || text.len() > 15 || matches!(text, "." | "..") || !text.chars().all(good) {
        return Err("must be the name of a network interface, like eth0".to_owned());
    }
    Ok(text)
}

/// Names of network interfaces, separated by spaces or commas.
pub fn interfaces(text: &str) -> Parsed<Vec<&str>> {
    let names: Vec<&str> = list(text).collect();
    if names.is_empty() {
        return interface(text).map(|name| vec![name]);
    }
    names.into_iter().map(interface).collect()
}

/// A path from the root, without `..`, cleaned of `.` and doubled slashes.
pub fn absolute_path(text: &str) -> Parsed<PathBuf> {
    if !text.starts_with('/') {
        return Err("must be a path from the root: /...".to_owned());
    }
    cleaned(text)
}

/// A path below some folder, without `..`; `.` is the folder itself.
pub fn relative_path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() || text.starts_with('/') {
        return Err("must be a relative path".to_owned());
    }
    cleaned(text)
}

fn cleaned(text: &str) -> Parsed<PathBuf> {
    // Mostly there is nothing to clean.
    let inside = text.strip_prefix('/').unwrap_or(text);
    let is_clean = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let mut parts = inside.as_bytes().split(|byte| *byte == b'/');
    if text.len() <= 4000 && !text.as_bytes().contains(&b'\n') && parts.all(is_clean) {
        return Ok(PathBuf::from(text));
    }
    let mut path = PathBuf::with_capacity(text.len());
    for component in Path::new(text).components() {
        match component {
            Component::ParentDir => return Err("must not contain `..`".to_owned()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    if text.len() > 4000 || text.contains('\n') {
        return Err("must be one path".to_owned());
    }
    if path.as_os_str().is_empty() {
        Ok(PathBuf::from("."))
    } else {
        Ok(path)
    }
}

/// What is handed to `git`. Nothing that it would read as an option or as a command to run.
pub fn repository(text: &str) -> Parsed<&str> {
    if text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace) {
        return Err("must be a URL or path without spaces, not beginning with `-`".to_owned());
    }
    // `ext::sh -c ...` runs a command (git-remote-ext(1)).
    let helper = text.find("::").map(|at| &text[..at]);
    if helper.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
        return Err("must not name a remote helper of git (`ext::`)".to_owned());
    }
    Ok(text)
}

/// A tag, branch or commit (git-check-ref-format(1)).
pub fn tag(text: &str) -> Parsed<&str> {
    let bad = |c: char| c.is_whitespace() || "~^:?*[\\".contains(c);
    let forbidden = text.contains(bad) || text.contains("..") || text.contains("@{");
    if text.is_empty() || text.len() > 255 || text.starts_with('-') || forbidden {
        return Err("must be a tag, branch or commit, like 1.2.3".to_owned());
    }
    Ok(text)
}

/// An account by name.
pub fn account(text: &str) -> Parsed<&str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if text.len() > 32 || !text.starts_with(first) || !text.chars().all(good) {
        return Err("must be the name of an account".to_owned());
    }
    if text == "root" {
        Err("must not be root".to_owned())
    } else {
        Ok(text)
    }
}

/// Addresses of mail: names of this server, or `name@domain`. Nothing that `sendmail` would take for
/// an option, a pipe or a file.
pub fn mail_addresses(text: &str) -> Parsed<Vec<String>> {
    let local = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{}~.-".contains(c);
    let domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let good = |word: &str| {
        let (name, host) = word.split_once('@').unwrap_or((word, "localhost"));
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        begins && !host.is_empty() && name.chars().all(local) && host.chars().all(domain)
    };
    let words: Vec<String> = list(text).map(str::to_owned).collect();
    match words.iter().find(|word| !good(word)) {
        Some(word) => Err(format!(
            "must be addresses such as admin@example.org; `{word}` is none"
        )),
        None if words.is_empty() => Err("must be addresses such as admin@example.org".to_owned()),
        None => Ok(words),
    }
}

/// The capabilities of Linux 6.x (capabilities(7)), without `CAP_`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Capabilities, with or without `CAP_`; sorted, each once, as `CAP_NET_RAW`.
pub fn capabilities(text: &str) -> Parsed<Vec<String>> {
    let mut found = BTreeSet::new();
    for word in list(text) {
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if !CAPABILITIES.contains(&name) {
            let near = super::suggest::nearest(name, CAPABILITIES);
            let hint = near.map_or(String::new(), |near| format!("; did you mean CAP_{near}?"));
            return Err(format!(
                "must be capabilities, like CAP_NET_RAW; `{word}` is none{hint}"
            ));
        }
        found.insert(format!("CAP_{name}"));
    }
    Ok(found.into_iter().collect())
}

/// `/path/on/the/server`, `... rw`: the path, and whether it is writable.
pub fn mount(text: &str) -> Parsed<(PathBuf, bool)> {
    let (path, writable) = match text.rsplit_once(char::is_whitespace) {
        Some((path, "rw")) => (path.trim_end(), true),
        Some((path, "ro")) => (path.trim_end(), false),
        _ => (text, false),
    };
    let path = absolute_path(path)
        .map_err(|error| format!("{error}; write `/path/on/the/server`, and `rw` if writable"))?;
    Ok((path, writable))
}

#[cfg(test)]
mod tests;
