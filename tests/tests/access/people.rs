//! Persons of a host of its own, and what they type.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use metactl_tests::Host;
use metactl_tests::command::{self, Outcome};

use super::LIMIT;

/// Accounts of this host alone: alice, bob (in `web`), carol (in `metactl`), and eve, who is nobody.
pub const PEOPLE: [(&str, u32); 4] = [
    ("alice", 5001),
    ("bob", 5002),
    ("carol", 5003),
    ("eve", 5004),
];
pub const WEB: u32 = 5010;
pub const METACTL: u32 = 5011;

/// Gives the host an `/etc` of its own, with these people in it.
pub fn with_people(host: &Host) {
    let etc = host.work().join("etc");
    host.command("cp", &["-a", "/etc", etc.to_str().unwrap()])
        .ok();
    let mut passwd = fs::read_to_string(etc.join("passwd")).unwrap();
    let mut group = fs::read_to_string(etc.join("group")).unwrap();
    for (name, uid) in PEOPLE {
        let home = home(host, name);
        fs::create_dir_all(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
        passwd.push_str(&format!(
            "{name}:x:{uid}:{uid}:{name}:{}:/bin/sh\n",
            home.display()
        ));
        group.push_str(&format!("{name}:x:{uid}:\n"));
    }
    group.push_str(&format!("web:x:{WEB}:bob\nmetactl:x:{METACTL}:carol\n"));
    let mut shadow = fs::read_to_string(etc.join("shadow")).unwrap_or_default();
    for (name, _) in PEOPLE {
        shadow.push_str(&format!("{name}:*:19000:0:99999:7:::\n"));
    }
    fs::write(etc.join("passwd"), passwd).unwrap();
    fs::write(etc.join("shadow"), shadow).unwrap();
    fs::write(etc.join("group"), group).unwrap();
    host.command("mount", &["--bind", etc.to_str().unwrap(), "/etc"])
        .ok();
    host.is_settled();
}

pub fn home(host: &Host, name: &str) -> PathBuf {
    host.work().join("home").join(name)
}

pub fn uid(name: &str) -> u32 {
    PEOPLE.iter().find(|person| person.0 == name).unwrap().1
}

/// `sudo metactl ARGS`, typed by somebody.
pub fn sudo(host: &Host, name: &str, args: &[&str]) -> Command {
    let mut command = host.metactl(args);
    let id = uid(name).to_string();
    command
        .env("SUDO_UID", &id)
        .env("SUDO_GID", &id)
        .env("SUDO_USER", name);
    command
}

#[track_caller]
pub fn by(host: &Host, name: &str, args: &[&str]) -> Outcome {
    command::run(sudo(host, name, args), LIMIT)
}

/// `metactl ARGS` without sudo.
#[track_caller]
pub fn plainly(host: &Host, name: &str, args: &[&str]) -> Outcome {
    let metactl = host.metactl(args);
    let mut setpriv = Command::new("setpriv");
    let id = uid(name).to_string();
    setpriv.args(["--reuid", &id, "--regid", &id, "--init-groups", "--"]);
    setpriv
        .arg(metactl.get_program())
        .args(metactl.get_args())
        .env_clear();
    setpriv.envs(
        metactl
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    setpriv.current_dir("/");
    command::run(setpriv, LIMIT)
}
