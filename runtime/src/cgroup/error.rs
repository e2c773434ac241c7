//! What can go wrong with control groups, said so that an administrator knows what to do next.

use std::io;
use std::path::PathBuf;

/// An error of the cgroup room. Every variant names the setting or path it is about.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file of `/proc` that describes the layout could not be read.
    #[error("cannot read {}: {source}; is /proc mounted?", path.display())]
    ReadLayout {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of `/proc/self/mountinfo` or `/proc/self/cgroup` has an unknown form.
    #[error("{file}, line {line}: not in the form of {manual}")]
    ParseLayout {
        /// The file's name.
        file: &'static str,
        /// Line number, from 1.
        line: usize,
        /// The manual page that describes the form.
        manual: &'static str,
    },
    /// No cgroup file system is mounted at all.
    #[error("no cgroup file system is mounted; mount one, for example cgroup2 on /sys/fs/cgroup")]
    NotMounted,
    /// `linux.cgroupsPath` cannot be used.
    #[error("linux.cgroupsPath {path:?}: {why}")]
    BadPath {
        /// The value as given.
        path: String,
        /// What is wrong with it, and what would be right.
        why: &'static str,
    },
    /// Something was asked for that no mounted hierarchy can do.
    #[error(
        "invalid configuration: {setting} needs the cgroup controller {controller:?}, which this host does not offer ({have}); remove the setting or enable the controller"
    )]
    MissingController {
        /// Name of the setting in config.json.
        setting: String,
        /// The controller.
        controller: String,
        /// What there is.
        have: String,
    },
    /// A setting cannot be enforced on this kind of hierarchy, or its value makes no sense.
    #[error("{setting}: {why}")]
    Unsupported {
        /// Name of the setting in config.json.
        setting: String,
        /// Why, and what to do instead.
        why: String,
    },
    /// Limits are asked for by somebody who may not make cgroups.
    #[error(
        "linux.resources asks for limits, or the container has no pid namespace of its own to end with, but no cgroup is delegated to this user (uid {uid}); remove the limits, add the namespace, or start it from a session of systemd with a delegated cgroup v2 (or with --systemd-cgroup)"
    )]
    NotDelegated {
        /// The effective uid of the runtime.
        uid: u32,
    },
    /// A cgroup is asked for by somebody who may not make it.
    #[error(
        "linux.cgroupsPath {}: permission denied: no cgroup is delegated to this user (uid {uid}); remove it, or start it from a session of systemd with a delegated cgroup v2 (or with --systemd-cgroup)",
        path.display()
    )]
    PathNotDelegated {
        /// The value as given.
        path: PathBuf,
        /// The effective uid of the runtime.
        uid: u32,
    },
    /// A cgroup below that of a container cannot be used.
    #[error("bad sub cgroup path {text:?}: {text} is not a sub cgroup path: {why}")]
    BadBelow {
        /// The value as given.
        text: String,
        /// What is wrong with it, and what would be right.
        why: &'static str,
    },
    /// A hierarchy was named in which the container is not.
    #[error("unknown controller {controller:?}: {why}")]
    NotInHierarchy {
        /// The controller.
        controller: String,
        /// What is there instead.
        why: &'static str,
    },
    /// Nothing would run in a cgroup.
    #[error("the cgroup {} is frozen: thaw it first (cgroup.freeze, freezer.state)", path.display())]
    Frozen {
        /// The directory.
        path: PathBuf,
    },
    /// A cgroup could not be joined.
    #[error(
        "cannot join a cgroup, which has to be there: adding pid 0 (the new process itself) to {}/cgroup.procs: {}",
        path.display(), source.to_string().to_lowercase()
    )]
    Join {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A cgroup directory could not be made.
    #[error("cannot create the cgroup {}: {source}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A limit could not be written.
    #[error("{setting}: cannot write {value:?} to {}: {source}{hint}", path.display())]
    Write {
        /// Name of the setting in config.json.
        setting: String,
        /// The control file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
        /// What to do next; empty when there is nothing useful to say.
        hint: &'static str,
    },
    /// A controller could not be enabled for the children of a v2 cgroup.
    #[error("cannot enable {controllers} for the children of {}: {source}{hint}", directory.display())]
    Enable {
        /// The words written, such as `+memory +pids`.
        controllers: String,
        /// The cgroup whose `cgroup.subtree_control` was written.
        directory: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do next; empty when there is nothing useful to say.
        hint: &'static str,
    },
    /// A device program could not be loaded or attached (cgroup v2).
    #[error("linux.resources.devices: cannot {action} the device program for {}: {source}", path.display())]
    DeviceProgram {
        /// `load`, `attach`, `look for` or `replace`.
        action: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A cgroup file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Processes of a cgroup survived SIGKILL for too long.
    #[error("{count} process(es) of {} are still there {seconds} s after SIGKILL (in uninterruptible sleep?)", path.display())]
    StillAlive {
        /// The cgroup.
        path: PathBuf,
        /// How many.
        count: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// A signal could not be sent to the processes of a cgroup.
    #[error("cannot kill the processes of {}: {source}", path.display())]
    Kill {
        /// The cgroup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An update failed, and what it had changed could not be changed back.
    #[error("{source}; and these could not be given their old values: {}", lost.join(", "))]
    HalfUpdated {
        /// Why the update failed.
        source: Box<CgroupError>,
        /// Control files and what they said.
        lost: Vec<String>,
    },
    /// No cgroup of the container can freeze its processes.
    #[error(
        "this host has neither the freezer controller of cgroup v1 nor cgroup.freeze of v2 (Linux 5.2): a container cannot be paused"
    )]
    NoFreezer,
    /// The processes of a cgroup could not be frozen or thawed.
    #[error("cannot {action} the processes of {}: {source}", path.display())]
    Freeze {
        /// `freeze` or `thaw`.
        action: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A cgroup directory could not be removed.
    #[error("cannot remove the cgroup {}: {source}; {left} process(es) are still in it", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// Processes still inside.
        left: usize,
    },
}

impl CgroupError {
    /// Whether something was missing, or went away while it was used (kernfs answers ENODEV then):
    /// perhaps because another container's end has just removed it. Looking again cannot tell,
    /// for another's start may have made it anew meanwhile.
    pub(crate) fn is_of_what_is_gone(&self) -> bool {
        let (Self::Create { source, .. }
        | Self::Enable { source, .. }
        | Self::Read { source, .. }
        | Self::Join { source, .. }
        | Self::Write { source, .. }) = self
        else {
            return false;
        };
        matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
    }
}
