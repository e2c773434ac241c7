//! The ids of user namespaces: written for a new process, or for a namespace that only a mount
//! needs.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

use rustix::io::Errno;

use crate::launch::LaunchError;
use crate::launch::spawn::{self, Birth};
use crate::plan::step::{IdMap, IdMaps};
use crate::plan::{Plan, Step};

/// Writes the maps of the user namespace of `pid` (user_namespaces(7)). Without privilege they
/// are written by newuidmap(1) and newgidmap(1), unless it is one id each, the runtime's own.
pub fn write(pid: i32, maps: &IdMaps) -> Result<(), LaunchError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        // The groups first: who may set users may not set groups any more in some namespaces.
        write_file(pid, "gid_map", &text(&maps.groups))?;
        return write_file(pid, "uid_map", &text(&maps.users));
    }
    let own = |maps: &[IdMap], id: u32| matches!(maps, [IdMap { outside, size: 1, .. }] if *outside == id);
    if own(&maps.groups, gid.as_raw()) {
        // CVE-2014-8989: who drops a group gains what the group was denied.
        write_file(pid, "setgroups", "deny")?;
        write_file(pid, "gid_map", &text(&maps.groups))?;
    } else {
        helper("newgidmap", pid, &maps.groups)?;
    }
    if own(&maps.users, uid.as_raw()) {
        write_file(pid, "uid_map", &text(&maps.users))
    } else {
        helper("newuidmap", pid, &maps.users)
    }
}

fn text(maps: &[IdMap]) -> String {
    let lines = maps.iter();
    lines
        .map(|m| format!("{} {} {}\n", m.inside, m.outside, m.size))
        .collect()
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<(), LaunchError> {
    let path = format!("/proc/{pid}/{name}");
    fs::write(&path, text).map_err(|e| {
        let hint = match e.raw_os_error() {
            Some(libc::EPERM) => "; may this user map these ids?",
            Some(libc::EINVAL) => "; the ids overlap, or are too many (340 ranges at most)",
            _ => "",
        };
        let what = format!("write {:?} to {path}{hint}", text.trim_end());
        LaunchError::system(what, e)
    })
}

fn helper(program: &str, pid: i32, maps: &[IdMap]) -> Result<(), LaunchError> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.inside, map.outside, map.size].map(|n| n.to_string()));
    }
    let problem = |e| {
        let what = format!("run {program} (package uidmap), which maps ids without privilege");
        LaunchError::system(what, e)
    };
    let output = command.output().map_err(problem)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let source = std::io::Error::other(format!("{program} said: {said}"));
    let what = "map the ids of the user namespace; are they yours in /etc/subuid and /etc/subgid?";
    Err(LaunchError::system(what, source))
}

/// A user namespace with these maps that nobody is in: an idmapped mount refers to it.
pub fn namespace(maps: &IdMaps) -> Result<OwnedFd, LaunchError> {
    // A process that waits for ever, until its namespace has been opened.
    let plan = Plan::of(vec![Step::AwaitMapping]);
    let program = crate::compile::compile(&plan, Default::default())
        .map_err(|_| LaunchError::system("make a user namespace", Errno::INVAL))?;
    let birth = Birth {
        flags: libc::CLONE_NEWUSER as u64,
        ..Birth::default()
    };
    let child = spawn::spawn(program, &birth)?;
    let opened = write(child.pid, maps).and_then(|()| {
        let path = format!("/proc/{}/ns/user", child.pid);
        let file = fs::File::open(&path);
        file.map_err(|e| LaunchError::system(format!("open {path}"), e))
    });
    child.kill()?;
    opened.map(OwnedFd::from)
}
