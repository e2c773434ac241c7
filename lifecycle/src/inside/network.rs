//! Tools of the server in the network of an instance: `tcpdump` and `net`.
//!
//! They run without the rights of root: as the person behind sudo, with one capability (raw sockets). Root
//! itself keeps its uid, for its files, and loses the capabilities that could change something: the rules and
//! routes of an instance are configuration.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use metactl_bundles::network::{Mode, NetworkSpec};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space};

use super::require_sandbox;
use crate::error::{LifecycleError, OnPath, Result};
use crate::files;
use crate::instance::Instance;
use crate::manager::require_root;
use crate::person::Person;

/// Options of tcpdump(8) with a value that are a letter.
const WITH_VALUE: &str = "BcCEFGijMmQrsTVwWyzZ";
/// Long options with a value, and what they are called.
const LONG_WITH_VALUE: [&str; 8] = [
    "interface",
    "relinquish-privileges",
    "buffer-size",
    "snapshot-length",
    "time-stamp-type",
    "time-stamp-precision",
    "linktype",
    "direction",
];

impl Instance {
    /// Becomes a command of the server in the network of the instance: the server's files and programs, the
    /// instance's addresses, routes, names and firewall. Returns only when that fails; the exit code is the command's.
    ///
    /// # Errors
    /// When the instance does not run, or there is no such command.
    pub fn net(&self, argv: &[OsString]) -> Result<Infallible> {
        require_root("entering the network of an instance")?;
        require_sandbox(self)?;
        let live = self.live_network()?;
        let Some((program, args)) = argv.split_first() else {
            return Err(LifecycleError::Usage {
                what: "which command?".to_owned(),
                hint: format!("metactl {} net ss -tn", self.name),
            });
        };
        let netns = live.netns.as_fd();
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .on("enter", &live.run.netns())?;
        drop(live);
        self.show_names()?;
        let root =
            CapabilitySet::NET_RAW | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
        let command = Command::new(program);
        become_command(command, args, root)
    }

    /// Names are looked up as the instance does: with its hosts and its servers. Seen by this process alone.
    fn show_names(&self) -> Result<()> {
        let hosts = self.state_dir().join("etc/hosts");
        let servers = self
            .current()?
            .map(|current| current.dir.join("rootfs/etc/resolv.conf"));
        let private = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).on("separate the mounts of", Path::new("/"))?;
        mount(none, "/", none, private, none).on("separate the mounts of", Path::new("/"))?;
        let files = [(Some(hosts), "/etc/hosts"), (servers, "/etc/resolv.conf")];
        for (file, place) in files {
            // A placeholder is no file of servers.
            let file = file.filter(|file| file.metadata().is_ok_and(|meta| meta.len() > 0));
            if let Some(file) = file.filter(|_| Path::new(place).exists()) {
                mount(Some(&file), place, none, MsFlags::MS_BIND, none).on("show", &file)?;
            }
        }
        Ok(())
    }

    /// Becomes tcpdump on the device of the instance; when it does not run yet, on whatever device its packets
    /// will come by, so that the first one is seen. Returns only when that fails; the exit code is tcpdump's.
    ///
    /// # Errors
    /// Options that would make tcpdump run something or look elsewhere; when there is no tcpdump.
    pub fn tcpdump(&self, args: &[OsString]) -> Result<Infallible> {
        require_root("watching the packets of an instance")?;
        require_sandbox(self)?;
        let words = Words::read(args)?;
        let mut command = Command::new("tcpdump");
        let device = self.device()?;
        let args: Vec<OsString> = match device {
            Some(device) => [OsString::from("-i"), device.into()]
                .into_iter()
                .chain(args.iter().cloned())
                .collect(),
            None => {
                let filter = words.filter_for(&self.addresses_to_come()?)?;
                let any = ["-i", "any"].map(OsString::from);
                any.into_iter()
                    .chain(words.options)
                    .chain([filter.into()])
                    .collect()
            }
        };
        if !Person::behind().is_other {
            // Else it would become the user `tcpdump`, who may not write where root does.
            command.args(["-Z", "root"]);
        }
        let root = CapabilitySet::NET_RAW | CapabilitySet::SETUID | CapabilitySet::SETGID;
        become_command(command, &args, root)
    }

    /// The server's end of the pair of devices.
    fn device(&self) -> Result<Option<String>> {
        let links = metactl_netns::link::outer_links()?;
        let own = |link: &metactl_netns::link::OuterLink| {
            link.alive && link.instance.as_deref() == Some(&self.name)
        };
        let found = links.into_iter().find(own).map(|link| link.name);
        if found.is_some() {
            return Ok(found);
        }
        // Its alternative name may have been somebody else's; what was made is recorded.
        #[derive(serde::Deserialize)]
        struct Made {
            outer: Option<String>,
        }
        let mut record = self.run_dir().netns().into_os_string();
        record.push(".json");
        let made: Option<Made> = files::read_json(Path::new(&record))?;
        let exists = |name: &String| Path::new("/sys/class/net").join(name).exists();
        Ok(made.and_then(|made| made.outer).filter(exists))
    }

    fn addresses_to_come(&self) -> Result<Vec<IpAddr>> {
        let current = self.deployed()?;
        let path = current.dir.join("network.json");
        let spec: Option<NetworkSpec> = files::read_json(&path)?;
        match spec {
            Some(spec) if matches!(spec.mode, Mode::Routed | Mode::Nat) => Ok(spec.addresses),
            _ => Err(LifecycleError::Unavailable {
                what: format!(
                    "{} has no address of its own whose packets could be watched",
                    self.name
                ),
                hint: "[sandbox.net] mode = routed gives it one".to_owned(),
            }),
        }
    }
}

/// The arguments of tcpdump, taken apart as getopt(3) does.
#[derive(Debug, Default, PartialEq)]
struct Words {
    options: Vec<OsString>,
    /// The expression.
    filter: Vec<String>,
    /// `-F`: the expression is in a file.
    from_file: bool,
}

impl Words {
    fn read(args: &[OsString]) -> Result<Words> {
        let mut words = Words::default();
        let mut args = args.iter();
        while let Some(word) = args.next() {
            let text = word.to_str().unwrap_or_default();
            if text == "--" {
                words.filter.extend(
                    args.by_ref()
                        .map(|word| word.to_string_lossy().into_owned()),
                );
                break;
            }
            let long = text.strip_prefix("--");
            let takes = match long {
                Some(long) => long_option(long)?,
                None if text.starts_with('-') && text.len() > 1 => {
                    let (takes, letter) = short_options(text)?;
                    words.from_file |= letter == Some('F');
                    takes
                }
                None => {
                    words.filter.push(word.to_string_lossy().into_owned());
                    continue;
                }
            };
            words.options.push(word.clone());
            if takes {
                words.options.extend(args.next().cloned());
            }
        }
        Ok(words)
    }

    /// Packets from the addresses when they come in from the sandbox, those to them when they go out into it: each once,
    /// whatever other device they pass.
    fn filter_for(&self, addresses: &[IpAddr]) -> Result<String> {
        if self.from_file {
            return Err(LifecycleError::Usage {
                what: "-F cannot be used before the instance runs".to_owned(),
                hint: "write the expression out, or start the instance first".to_owned(),
            });
        }
        let either = |side: &str| {
            let hosts = addresses
                .iter()
                .map(|address| format!("{side} host {address}"));
            hosts.collect::<Vec<_>>().join(" or ")
        };
        let own = format!(
            "((inbound and ({})) or (outbound and ({})))",
            either("src"),
            either("dst")
        );
        Ok(match self.filter.is_empty() {
            true => own,
            false => format!("{own} and ({})", self.filter.join(" ")),
        })
    }
}

/// Whether the value of an option is the next word.
fn long_option(long: &str) -> Result<bool> {
    let (name, value) = match long.split_once('=') {
        Some((name, _)) => (name, true),
        None => (long, false),
    };
    // Any beginning that is clear will do for getopt.
    let mut meant = LONG_WITH_VALUE.iter().filter(|full| full.starts_with(name));
    let Some(full) = meant.next() else {
        return Ok(false);
    };
    if ["interface", "relinquish-privileges"].contains(full) {
        return Err(refused(&format!("--{full}")));
    }
    Ok(!value)
}

/// The same for `-nnw`; also the letter that takes the value.
fn short_options(text: &str) -> Result<(bool, Option<char>)> {
    let mut letters = text.chars().skip(1);
    while let Some(letter) = letters.next() {
        if "izZ".contains(letter) {
            return Err(refused(&format!("-{letter}")));
        }
        if WITH_VALUE.contains(letter) {
            return Ok((letters.next().is_none(), Some(letter)));
        }
    }
    Ok((false, None))
}

fn refused(option: &str) -> LifecycleError {
    let why = match option {
        "-z" => "it would run a command",
        "-i" | "--interface" => "the device is that of the instance",
        _ => "metactl decides as whom it runs",
    };
    LifecycleError::Usage {
        what: format!("tcpdump {option} is not for this: {why}"),
        hint: "tcpdump itself takes it".to_owned(),
    }
}

/// Becomes a program with the rights of the person behind this process. Root keeps the capabilities `root`.
fn become_command(
    mut command: Command,
    args: &[OsString],
    root: CapabilitySet,
) -> Result<Infallible> {
    let program = command.get_program().to_owned();
    let person = Person::behind();
    limit(&person, root).on("give up rights as", Path::new(&person.login))?;
    if person.is_other {
        command
            .env("HOME", &person.home)
            .env("USER", &person.login)
            .env("LOGNAME", &person.login);
    }
    let error = command.args(args).exec();
    Err(absent(&program, &error))
}

fn absent(program: &OsStr, error: &std::io::Error) -> LifecycleError {
    let name = program.to_string_lossy();
    LifecycleError::Unavailable {
        what: format!("cannot run {name}: {error}"),
        hint: format!("apt-get install {name}, or whatever package of this server has it"),
    }
}

/// Gives up what the command must not have; this process has one thread.
fn limit(person: &Person, root: CapabilitySet) -> std::io::Result<()> {
    let keep = if person.is_other {
        CapabilitySet::NET_RAW
    } else {
        root
    };
    for number in 0..64 {
        let Some(one) = CapabilitySet::from_bits(1 << number) else {
            continue;
        };
        if !keep.contains(one) {
            match rustix::thread::remove_capability_from_bounding_set(one) {
                // A capability that this kernel does not know.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    if person.is_other {
        rustix::thread::set_keep_capabilities(true)?;
        let login = CString::new(person.login.as_bytes().to_vec())?;
        // Whoever has no account has no other groups either.
        match nix::unistd::User::from_uid(person.uid) {
            Ok(Some(_)) => nix::unistd::initgroups(&login, person.gid)?,
            _ => nix::unistd::setgroups(&[person.gid])?,
        }
        nix::unistd::setresgid(person.gid, person.gid, person.gid)?;
        nix::unistd::setresuid(person.uid, person.uid, person.uid)?;
    }
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: keep,
            permitted: keep,
            inheritable: keep,
        },
    )?;
    if person.is_other {
        rustix::thread::configure_capability_in_ambient_set(CapabilitySet::NET_RAW, true)?;
    }
    Ok(rustix::thread::set_no_new_privs(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Words> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Words::read(&args)
    }

    #[test]
    fn expressions_are_found_among_options() {
        let words = read("-nn -c 5 -w out.pcap port 3306 -v").unwrap();
        assert_eq!(words.options, ["-nn", "-c", "5", "-w", "out.pcap", "-v"]);
        assert_eq!(words.filter, ["port", "3306"]);
        let words = read("-nnwout.pcap --snapshot-length=96 --snap 96 -- -x").unwrap();
        assert_eq!(words.options.len(), 4);
        assert_eq!(words.filter, ["-x"]);
        let filter = read("port 80 or port 81")
            .unwrap()
            .filter_for(&["10.0.0.5".parse().unwrap()]);
        assert_eq!(
            filter.unwrap(),
            "((inbound and (src host 10.0.0.5)) or (outbound and (dst host 10.0.0.5))) and (port 80 or port 81)"
        );
        assert!(read("-F file").unwrap().filter_for(&[]).is_err());
    }

    #[test]
    fn what_runs_commands_or_looks_elsewhere_is_refused() {
        for line in [
            "-z sh",
            "-nz sh",
            "-i eth0",
            "-nieth0",
            "-Z root",
            "--rel root",
            "--interface=x",
            "--int x",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        // Values are no options.
        for line in ["-w -z", "-c 1 -s0 -v", "-wz"] {
            assert!(read(line).is_ok(), "{line}");
        }
    }
}
