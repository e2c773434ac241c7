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
        let sudo = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
        let (uid, gid) = match (own.is_root(), sudo("SUDO_UID"), sudo("SUDO_GID")) {
            (true, Some(uid), gid) => (Uid::from_raw(uid), gid.map(Gid::from_raw)),
            _ => (own, None),
        };
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
