//! The person behind this process: behind sudo too.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User};

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    /// The account.
    pub(crate) login: String,
    /// What people call them.
    pub(crate) name: String,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) home: PathBuf,
    /// Whether this process has more rights than they have: their programs must run without.
    pub(crate) is_other: bool,
}

impl Person {
    /// Root that sudo made of somebody is that somebody; everybody else is who they are.
    pub(crate) fn behind() -> Person {
        let own = nix::unistd::geteuid();
        let uid = match asker() {
            Asker::Nobody => own,
            Asker::Somebody(uid) => uid,
            // Programs of who cannot be told run as nobody.
            Asker::Unclear(_) => Uid::from_raw(65534),
        };
        let gid = std::env::var("SUDO_GID")
            .ok()
            .and_then(|gid| gid.parse().ok());
        let gid = gid.filter(|gid| uid != own && *gid != 0).map(Gid::from_raw);
        let account = User::from_uid(uid).ok().flatten();
        let own_gid = account.as_ref().map(|account| account.gid);
        // Without a group of theirs nobody's: never that of root.
        let nobody = if uid == own {
            nix::unistd::getegid()
        } else {
            Gid::from_raw(65534)
        };
        let login = match &account {
            Some(account) => clean(&account.name),
            None => format!("uid-{uid}"),
        };
        let name = account.as_ref().map(|account| full_name(&account.gecos));
        Person {
            name: name
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| login.clone()),
            login,
            uid,
            gid: gid.or(own_gid).unwrap_or(nobody),
            home: account.map_or_else(|| PathBuf::from("/"), |account| account.dir),
            is_other: uid != own,
        }
    }

    /// `alice@server1`.
    pub(crate) fn email(&self) -> String {
        let host = nix::unistd::gethostname().unwrap_or_default();
        format!("{}@{}", self.login, clean(&host.to_string_lossy()))
    }
}

/// Whom this process, which is root, does something for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Root itself; or this is not root, and then everybody is who they are.
    Nobody,
    /// Somebody who became root by `sudo`, `pkexec` or `doas`.
    Somebody(Uid),
    /// What that program left cannot be understood.
    Unclear(String),
}

/// Who asks. `sudo` and its like set these variables themselves, whatever was in the environment before.
pub(crate) fn asker() -> Asker {
    if !nix::unistd::geteuid().is_root() {
        return Asker::Nobody;
    }
    let real = nix::unistd::getuid();
    if !real.is_root() {
        // A set-user-ID bit that somebody put on the program.
        return Asker::Somebody(real);
    }
    let asker = asker_in(|name| std::env::var_os(name));
    match asker {
        Asker::Somebody(uid) if uid.is_root() => Asker::Nobody,
        other => other,
    }
}

fn asker_in(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Asker {
    for name in ["SUDO_UID", "PKEXEC_UID"] {
        let Some(value) = var(name) else { continue };
        let uid = value.to_str().and_then(|text| text.parse::<u32>().ok());
        return match uid {
            Some(uid) => Asker::Somebody(Uid::from_raw(uid)),
            None => Asker::Unclear(format!("{name} is no user id")),
        };
    }
    let Some(login) = var("DOAS_USER") else {
        return Asker::Nobody;
    };
    let account = login.to_str().map(User::from_name);
    match account {
        Some(Ok(Some(account))) => Asker::Somebody(account.uid),
        _ => Asker::Unclear("DOAS_USER is no account".to_owned()),
    }
}

/// Who logged in for this process: the kernel keeps it through `su` and `sudo` (proc(5), `loginuid`). None where
/// nobody did, as under a service manager, and where the kernel does not keep it.
pub(crate) fn login_uid() -> Option<Uid> {
    let text = std::fs::read_to_string("/proc/self/loginuid").ok()?;
    let uid = text.trim().parse::<u32>().ok()?;
    (uid != u32::MAX).then(|| Uid::from_raw(uid))
}

/// The first field of the comment of passwd(5).
fn full_name(gecos: &CString) -> String {
    let text = gecos.to_string_lossy();
    clean(text.split(',').next().unwrap_or_default())
}

/// Without what means something in the head of a commit.
fn clean(text: &str) -> String {
    let harmless = |c: &char| !c.is_control() && !"<>\"".contains(*c);
    let text: String = text.chars().filter(harmless).take(64).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(vars: &[(&str, &str)]) -> Asker {
        asker_in(|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn who_asks_is_told_or_unclear() {
        assert_eq!(asks(&[]), Asker::Nobody);
        assert_eq!(
            asks(&[("SUDO_UID", "1000")]),
            Asker::Somebody(Uid::from_raw(1000))
        );
        assert_eq!(
            asks(&[("PKEXEC_UID", "7")]),
            Asker::Somebody(Uid::from_raw(7))
        );
        assert_eq!(
            asks(&[("DOAS_USER", "root")]),
            Asker::Somebody(Uid::from_raw(0))
        );
        for (name, value) in [
            ("SUDO_UID", ""),
            ("SUDO_UID", "-1"),
            ("SUDO_UID", "0x0"),
            ("DOAS_USER", "no such one"),
        ] {
            assert!(
                matches!(asks(&[(name, value)]), Asker::Unclear(_)),
                "{name}={value}"
            );
        }
    }
}
