//! A launch by a unit of systemd: the container's first process becomes the main process of the
//! unit, and the runtime goes away (sd_notify(3), systemd.service(5) `Type=notify`).

use std::ffi::OsStr;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::launch::LaunchError;

/// Where the service manager listens.
pub const SOCKET: &str = "NOTIFY_SOCKET";
/// How long it may take to have read what it was told.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the program finds the socket, when it tells the service manager itself.
pub const INSIDE: &str = "/dev/notify";

/// What a program gets that tells the service manager itself how it is (sd_notify(3),
/// sd_watchdog_enabled(3)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// The socket, on the host.
    pub socket: PathBuf,
    /// How often it has to say that it is alive, in microseconds.
    pub watchdog: Option<u64>,
}

impl Notify {
    /// As the service manager told the runtime.
    ///
    /// # Errors
    /// When it did not, or when its socket has no path.
    pub fn of_environment() -> Result<Notify, LaunchError> {
        let socket = PathBuf::from(socket()?);
        if !socket.is_absolute() {
            let why = std::io::Error::other("it is no path, and only files are shown in a sandbox");
            let what = format!("show the socket {} to the program", socket.display());
            return Err(LaunchError::system(what, why));
        }
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        // Without a pid it is for whoever reads it.
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Ok(Notify {
            socket,
            watchdog: number("WATCHDOG_USEC").filter(|_| for_us),
        })
    }
}

fn socket() -> Result<std::ffi::OsString, LaunchError> {
    let found = std::env::var_os(SOCKET).filter(|path| !path.is_empty());
    found.ok_or_else(|| {
        let why = std::io::Error::other(
            "NOTIFY_SOCKET is not set; a unit that launches a container has Type=notify",
        );
        LaunchError::system("hand over to the service manager", why)
    })
}

/// Says which process is the main one from now on, and with `ready` that the unit is up. Returns when the service
/// manager has read it: only then may this process end.
///
/// # Errors
/// When nobody listens, or nobody reads.
pub fn hand_over(pid: i32, ready: bool) -> Result<(), LaunchError> {
    let failed = |e: std::io::Error| {
        LaunchError::system(format!("hand process {pid} over to the service manager"), e)
    };
    let address = address(&socket()?).map_err(failed)?;
    tell(&address, pid, ready).map_err(failed)
}

/// A path, or a name in the abstract namespace after an `@` (sd_notify(3)).
fn address(socket: &OsStr) -> std::io::Result<SocketAddr> {
    match socket.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(socket),
    }
}

fn tell(address: &SocketAddr, pid: i32, ready: bool) -> std::io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(address)?;
    let word = if ready { "\nREADY=1" } else { "" };
    socket.send(format!("MAINPID={pid}{word}").as_bytes())?;
    // The barrier (sd_notify_barrier(3)): the service manager closes this descriptor when it has
    // read everything before it.
    let (mut end, given) = std::io::pipe()?;
    send_with(socket.as_fd(), b"BARRIER=1", given.as_fd())?;
    drop(given);
    let limit = Timespec {
        tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let polled =
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit)))?;
    if polled == 0 {
        let what = format!("it has not read it within {} s", PATIENCE.as_secs());
        return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, what));
    }
    // Nobody writes: it is the end of file.
    end.read(&mut [0]).map(drop)
}

fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(rustix::io::Errno::NOBUFS.into());
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::*;

    /// Reads a message and closes the descriptors that come with it, as systemd does.
    fn read(socket: &UnixDatagram) -> (String, usize) {
        let mut bytes = [0; 200];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
        let got = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        let mut count = 0;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                count += fds.count();
            }
        }
        (
            String::from_utf8_lossy(&bytes[..got.bytes]).into_owned(),
            count,
        )
    }

    #[test]
    fn it_waits_until_what_it_said_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let address = address(path.as_os_str()).unwrap();
        let told = std::thread::spawn(move || tell(&address, 4711, true));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!told.is_finished());
        assert_eq!(read(&listener), ("MAINPID=4711\nREADY=1".to_owned(), 0));
        assert_eq!(read(&listener), ("BARRIER=1".to_owned(), 1));
        told.join().unwrap().unwrap();
    }

    #[test]
    fn both_kinds_of_addresses_are_known() {
        let path = address(OsStr::new("/run/systemd/notify")).unwrap();
        assert!(path.as_pathname().is_some());
        let name = address(OsStr::new("@notify")).unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"notify"[..]));
    }
}
