//! Descriptors of a container that go to somebody else's socket: the outer end of its terminal
//! (runc's documentation, "Terminals and Standard IO"), and the one on which its filter asks
//! (runtime-spec, config-linux, "The Container Process State").

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;

use crate::launch::LaunchError;
use crate::state::{OCI_VERSION, OciState};
use crate::sys;

/// Sends `bytes` with a descriptor over the stream socket at `path`.
fn send(path: &Path, bytes: &[u8], fd: &OwnedFd) -> Result<(), std::io::Error> {
    let mut socket = UnixStream::connect(path)?;
    let fds = [fd.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(rustix::io::Errno::NOBUFS.into());
    }
    let parts = [IoSlice::new(bytes)];
    let sent =
        rustix::io::retry_on_intr(|| sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    socket.write_all(bytes.get(sent..).unwrap_or_default())
}

/// Hands the outer end of a terminal to whoever listens at `path`.
pub fn console(path: &Path, console: &OwnedFd) -> Result<(), LaunchError> {
    send(path, b"/dev/ptmx", console).map_err(|e| {
        let what = format!("send the terminal to the console socket {}", path.display());
        LaunchError::system(what, e)
    })
}

/// Hands a descriptor of the first process to whoever listens at `path`.
pub fn pidfd(path: &Path, pidfd: &OwnedFd) -> Result<(), LaunchError> {
    send(path, b"pidfd", pidfd).map_err(|e| {
        let what = format!("send the pidfd to the socket {}", path.display());
        LaunchError::system(what, e)
    })
}

/// Who decides about system calls for a container.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its socket.
    pub path: PathBuf,
    /// What it is told beside the state.
    pub metadata: String,
}

/// What the agent is told (runtime-spec, config-linux, "The Container Process State").
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'static str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: &'a OciState<'a>,
}

impl Agent {
    /// Takes the listening descriptor out of the process and hands it to the agent.
    pub fn hand_over(
        &self,
        pidfd: &OwnedFd,
        number: i32,
        pid: i32,
        state: &OciState<'_>,
    ) -> Result<(), LaunchError> {
        let listener = sys::pidfd_getfd(pidfd, number).map_err(|e| {
            let why = match e {
                Errno::PERM => " (without root that needs process.noNewPrivileges)",
                _ => " (needs Linux 5.6)",
            };
            let what = format!("take the seccomp listener out of the new process{why}");
            LaunchError::system(what, e)
        })?;
        let told = serde_json::to_vec(&ProcessState {
            oci_version: OCI_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: &self.metadata,
            state,
        });
        let told = told.map_err(std::io::Error::from);
        told.and_then(|told| send(&self.path, &told, &listener))
            .map_err(|e| {
                let path = self.path.display();
                let what = format!("go on without its agent: failed to connect with seccomp agent at linux.seccomp.listenerPath {path}");
                LaunchError::system(what, e)
            })
    }
}
