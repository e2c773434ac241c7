//! Descriptors of a container that go to somebody else's socket: the outer end of its terminal
//! (runc's documentation, "Terminals and Standard IO"), and the one on which its filter asks
//! (runtime-spec, config-linux, "The Container Process State").

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg, socket_with,
};
use serde::Serialize;

use crate::launch::LaunchError;
use crate::state::{OCI_VERSION, OciState};
use crate::sys;

/// How long somebody who listens may take to accept and to read.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// Connects to the stream socket at `path`; TimedOut when whoever listens there accepts nothing.
fn connect(path: &Path) -> Result<UnixStream, std::io::Error> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // It counts for connect(2) too (unix(7)): whoever listens must not keep a container half made.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    let address = SocketAddrUnix::new(path)?;
    match retry_on_intr(|| rustix::net::connect(&socket, &address)) {
        Err(Errno::AGAIN) => {
            let why = format!("nobody accepts it for {} s", PATIENCE.as_secs());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
        }
        connected => {
            connected?;
            Ok(UnixStream::from(socket))
        }
    }
}

/// Sends `bytes` with a descriptor over the stream socket at `path`.
fn send(path: &Path, bytes: &[u8], fd: &OwnedFd) -> Result<(), std::io::Error> {
    let mut socket = connect(path)?;
    let fds = [fd.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(rustix::io::Errno::NOBUFS.into());
    }
    let parts = [IoSlice::new(bytes)];
    let sent = retry_on_intr(|| sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{bind, listen};

    /// Somebody who listens and never accepts would keep a container half made, and locked, for ever.
    #[test]
    fn who_does_not_accept_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let flags = SocketFlags::CLOEXEC;
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&listener, 0).unwrap();
        // The queue holds one.
        let _first = connect(&path).unwrap();
        let error = connect(&path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    }
}
