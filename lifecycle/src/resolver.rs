//! The resolver of the server, which answers what applications ask for by name
//! (`metactl_netns::resolver`): one process for all instances, kept running by whoever needs it.
//!
//! Who needs it says so with a lock that the kernel takes back (`Wanted`), and starts it when there
//! is none. So there is always somebody who does, and nobody has to end it: it ends with the last
//! instance. A unit of a service manager can take the place of [`Keeper::ensure`] and nothing else.

use std::io::{self, BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use metactl_netns::resolver::{Wanted, running};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::error::{LifecycleError, OnPath, Result};
use crate::launcher::Runtime;

/// How long it may take to begin.
const BEGIN: Duration = Duration::from_secs(5);
/// How soon one that ended is started again.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon after one that could not be started.
const LATER: Duration = Duration::from_secs(15);

/// Somebody who needs the resolver.
#[derive(Debug)]
pub(crate) struct Keeper {
    runtime: Runtime,
    log: PathBuf,
    nameservers: Vec<IpAddr>,
    wanted: Option<Wanted>,
    /// The process that answers, whoever started it.
    process: Option<OwnedFd>,
    /// One that this one started, to be buried.
    child: Option<Child>,
    tried: Option<Instant>,
    /// Why there is none.
    trouble: Option<String>,
    /// A unit of a service manager keeps it running.
    of_unit: bool,
}

impl Keeper {
    /// `nameservers` are asked instead of those of the server, if there are any.
    pub(crate) fn new(runtime: Runtime, log: PathBuf, nameservers: Vec<IpAddr>) -> Keeper {
        Keeper {
            runtime,
            log,
            nameservers,
            wanted: None,
            process: None,
            child: None,
            tried: None,
            trouble: None,
            of_unit: false,
        }
    }

    /// For who has a unit that keeps it running.
    pub(crate) fn of_unit(keeper: Keeper) -> Keeper {
        Keeper {
            of_unit: true,
            ..keeper
        }
    }

    /// Sees to it that there is one, and that it stays. Where none can be started, names have no
    /// answer and nothing is opened; [`Keeper::look_after`] tries again, [`Keeper::trouble`] says why.
    pub(crate) fn ensure(&mut self) {
        if self.of_unit {
            return;
        }
        self.trouble = self.try_ensure().err().map(|error| error.to_string());
    }

    /// Why there is none.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn try_ensure(&mut self) -> Result<()> {
        let server_dir = self.runtime.server_dir().to_owned();
        if self.wanted.is_none() {
            self.wanted = Some(Wanted::hold(&server_dir)?);
        }
        self.tried = Some(Instant::now());
        self.bury();
        if running(&server_dir)?.is_none() {
            self.start()?;
        }
        let pid = running(&server_dir)?.and_then(Pid::from_raw);
        self.process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(())
    }

    /// Starts it again when it has ended. Returns what is worth a line in the log.
    pub(crate) fn look_after(&mut self) -> Option<String> {
        self.bury();
        if self.deadline().is_none_or(|at| at > Instant::now()) {
            return None;
        }
        let before = self.trouble.take();
        self.ensure();
        match &self.trouble {
            Some(trouble) if before.as_ref() == Some(trouble) => None,
            Some(trouble) => Some(format!("names have no answer: {trouble}")),
            None => Some("the resolver had ended, and runs again".to_owned()),
        }
    }

    /// Needs it no longer.
    pub(crate) fn release(&mut self) {
        (self.wanted, self.process, self.tried) = (None, None, None);
    }

    /// Becomes readable when the process ends.
    pub(crate) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    /// When [`Keeper::look_after`] has something to do again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waits = self
            .tried
            .filter(|_| self.wanted.is_some() || self.trouble.is_some());
        let pause = match self.trouble {
            Some(_) => LATER,
            None => AGAIN,
        };
        waits
            .filter(|_| !self.is_there())
            .map(|tried| tried + pause)
    }

    fn is_there(&self) -> bool {
        let ended = |fd: &OwnedFd| {
            let mut polled = [PollFd::new(fd, PollFlags::IN)];
            poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        self.process.as_ref().is_some_and(|process| !ended(process))
    }

    fn bury(&mut self) {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            self.child = None;
        }
    }

    fn start(&mut self) -> Result<()> {
        let mut command = self.runtime.resolve(&self.nameservers, &self.log);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| self.runtime.absent(&error))?;
        let said = first_line(child.stdout.take()).on("read", &self.log)?;
        if said.as_deref() == Some("ready") {
            self.child = Some(child);
            return Ok(());
        }
        // It is given up either way.
        let _killed = child.kill().and_then(|()| child.wait());
        let reason = first_line(child.stderr.take()).on("read", &self.log)?;
        Err(LifecycleError::Runtime {
            verb: "resolve".to_owned(),
            why: reason.unwrap_or_else(|| "it does not begin".to_owned()),
        })
    }
}

/// The first line that a program says, when it says one in time.
fn first_line<T: Read + AsFd>(output: Option<T>) -> io::Result<Option<String>> {
    let Some(output) = output else {
        return Ok(None);
    };
    let limit = Timespec {
        tv_sec: i64::try_from(BEGIN.as_secs()).unwrap_or(1),
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(&output, PollFlags::IN)];
    if !poll(&mut polled, Some(&limit)).is_ok_and(|ready| ready > 0) {
        return Ok(None);
    }
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let line = line.trim();
    Ok((!line.is_empty()).then(|| line.to_owned()))
}
