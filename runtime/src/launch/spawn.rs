//! The clone, and the conversation with the new process until its program runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::compile::Program;
use crate::init::{self, Prepared};
use crate::launch::signals::Signals;
use crate::launch::{KILL_TIMEOUT, LaunchError};
use crate::plan::{Plan, Step};
use crate::process::wait_dead;
use crate::report::{self, Message};
use crate::shield;
use crate::sys::shield::{Filter, Trailer};
use crate::sys::{self, CloneArgs, Forked, Strings};

/// A new process on its way to its program.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the pid namespace of the runtime.
    pub pid: i32,
    /// A descriptor of it.
    pub pidfd: OwnedFd,
    /// Whether it is a child of this process (else of the parent of this process).
    pub own: bool,
    /// The runtime's end of the conversation.
    pub socket: OwnedFd,
}

/// What was heard until the program ran (or was ready to).
#[derive(Default)]
pub struct Heard<'a> {
    /// The outer end of the terminal.
    pub console: Option<OwnedFd>,
    /// The pid of the process that executes the program, if it is not the child itself.
    pub grandchild: Option<i32>,
    /// Who takes care of a filter that asks, once.
    pub agent: Option<&'a TakeListener<'a>>,
}

/// Takes the descriptor with this number out of the child, or out of the process with this pid.
pub type TakeListener<'a> = dyn Fn(i32, Option<i32>) -> Result<(), LaunchError> + 'a;

/// How far to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Another process goes on in its place.
    Reborn,
    /// It waits for a go.
    Prepared,
    /// The program runs.
    Executing,
}

/// How to clone.
#[derive(Default)]
pub struct Birth<'a> {
    /// `CLONE_NEW*`.
    pub flags: u64,
    /// The v2 cgroup to begin in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Another one, when that one takes no processes any more.
    pub other_cgroup: Option<&'a dyn Fn() -> Option<OwnedFd>>,
    /// Make it a child of this process's parent, if that can be had.
    pub sibling: bool,
    /// The pid namespace to be born into.
    pub join_pid: Option<BorrowedFd<'a>>,
    /// The plan needs the shield; the index of the step to blame in its reports.
    pub shield: Option<usize>,
}

/// Makes the new process, which carries `program` out.
pub fn spawn(program: Program, birth: &Birth<'_>) -> Result<Child, LaunchError> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|e| LaunchError::system("make a socket pair", e))?;
    let shield = birth
        .shield
        .map(|step| make_shield(&program, &theirs, step))
        .transpose()?;
    let prepared = Prepared {
        program: &program,
        arguments: match shield {
            Some(_) => Strings::new(program.shielded_arguments()),
            None => Strings::new(program.arguments()),
        },
        environment: Strings::new(program.environment()),
        shield,
    };
    let own_pid_ns = birth.join_pid.map(enter_pid_namespace).transpose()?;
    let mask = sys::block_signals().map_err(|e| LaunchError::system("block signals", e))?;
    let forked = clone(birth);
    let forked = match forked {
        Ok((Forked::Child(birth), _)) => {
            drop(ours);
            init::run(&prepared, theirs, birth)
        }
        Ok((Forked::Parent { pid, pidfd }, own)) => Ok((pid, pidfd, own)),
        Err(errno) => Err(errno),
    };
    mask.restore()
        .map_err(|e| LaunchError::system("unblock signals", e))?;
    if let Some(own) = own_pid_ns {
        sys::setns(own, libc::CLONE_NEWPID)
            .map_err(|e| LaunchError::system("return to the runtime's pid namespace", e))?;
    }
    match forked {
        Ok((pid, pidfd, own)) => Ok(Child {
            pid,
            pidfd,
            own,
            socket: ours,
        }),
        Err(errno) => {
            let why = match errno {
                Errno::NOSYS => {
                    " (this kernel has neither clone3(2) nor pidfd_open(2) and waitid(2) with P_PIDFD: \
                     Linux 5.4 or newer is needed, or a container engine that allows them)"
                }
                Errno::BUSY if birth.cgroup.is_some() => {
                    " (adding pid 0, itself, to cgroups: that one passes controllers down, so that \
                     processes live only in cgroups below it; cgroups(7))"
                }
                Errno::NOSPC => " (too many nested namespaces, or user.max_*_namespaces reached)",
                _ => "",
            };
            Err(LaunchError::system(
                format!("make the new process{why}"),
                errno,
            ))
        }
    }
}

fn make_shield(program: &Program, report: &OwnedFd, step: usize) -> Result<OwnedFd, LaunchError> {
    use std::os::fd::AsRawFd;
    let number = |step| u32::try_from(step).unwrap_or(u32::MAX);
    let trailer = Trailer {
        report: report.as_raw_fd().cast_unsigned(),
        step: number(step),
        wait: program
            .waits_apart()
            .map(|wait| wait.listener.map(|fd| fd.as_raw_fd())),
        filter: program.late_filter().map(|filter| Filter {
            step: number(filter.step),
            flags: filter.flags,
            notify: filter.notify,
            instructions: filter.program,
        }),
    };
    shield::make(trailer).map_err(|e| LaunchError::system("make the shield of the runtime", e))
}

/// Makes children be born into `target`; returns the way back.
fn enter_pid_namespace(target: BorrowedFd<'_>) -> Result<OwnedFd, LaunchError> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = openat(CWD, c"/proc/thread-self/ns/pid", flags, Mode::empty())
        .map_err(|e| LaunchError::system("open the runtime's pid namespace", e))?;
    sys::setns(target, libc::CLONE_NEWPID)
        .map_err(|e| LaunchError::system("join the pid namespace", e))?;
    Ok(own)
}

fn clone(birth: &Birth<'_>) -> Result<(Forked, bool), Errno> {
    match clone_into(birth, birth.cgroup) {
        // cgroups(7), "no internal processes" rule; or it is gone.
        Err(errno @ (Errno::BUSY | Errno::NODEV)) if birth.cgroup.is_some() => {
            match birth.other_cgroup.and_then(|other| other()) {
                Some(other) => clone_into(birth, Some(other.as_fd())),
                None => Err(errno),
            }
        }
        result => result,
    }
}

fn clone_into(birth: &Birth<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<(Forked, bool), Errno> {
    let args = CloneArgs {
        flags: birth.flags,
        cgroup,
    };
    if birth.sibling {
        let flags = birth.flags | u64::from(libc::CLONE_PARENT.cast_unsigned());
        match sys::clone3(CloneArgs { flags, ..args }) {
            // The init of a pid namespace can have no siblings.
            Err(Errno::INVAL) => {}
            result => return result.map(|forked| (forked, false)),
        }
    }
    sys::clone3(args).map(|forked| (forked, true))
}

impl Child {
    /// Tells the new process something. That it does not listen any more is no error here: why,
    /// it has reported itself.
    pub fn tell(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<(), LaunchError> {
        let sent = match fd {
            Some(fd) => report::send_with(&self.socket, message, fd),
            None => report::send_quietly(&self.socket, message),
        };
        match sent {
            Ok(()) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(e) => Err(LaunchError::system("talk to the new process", e)),
        }
    }

    /// Listens until it is as far as that.
    ///
    /// What is heard is there also when it ends badly.
    pub fn listen(
        &self,
        plan: &Plan,
        until: Until,
        mut signals: Option<&mut Signals>,
        heard: &mut Heard<'_>,
    ) -> Result<(), LaunchError> {
        let mut executing = false;
        // What is announced after hooks of the container's own programs is not believed.
        let prepared = plan
            .steps
            .iter()
            .any(|step| matches!(step, Step::AwaitStartHooks { .. }))
            && until == Until::Executing;
        loop {
            if let Some(signals) = signals.as_deref_mut() {
                wait_readable(&self.socket, signals)?;
            }
            // Somebody in the container may have got hold of the other end, and keeps it.
            if executing && self.has_executed(heard)? {
                return Ok(());
            }
            let message = report::receive(&self.socket)
                .map_err(|e| LaunchError::system("listen to the new process", e))?;
            match message {
                Some((Message::Fault { step, fault }, _)) => {
                    self.hear_out(heard);
                    return Err(LaunchError::fault(plan, step, &fault));
                }
                Some((Message::Child { pid }, _)) => {
                    self.check_child(pid)?;
                    heard.grandchild = Some(pid);
                    if until == Until::Reborn {
                        return Ok(());
                    }
                }
                // The rest is said before that: it would come from somebody in the container.
                Some((Message::Console, fd)) if !executing && !prepared => heard.console = fd,
                Some((Message::Executing, _)) => executing = true,
                Some((Message::Prepared, _)) if until == Until::Prepared => return Ok(()),
                Some((Message::Listener { fd }, _)) if heard.agent.is_some() => {
                    // The process that forked it may not have said so yet.
                    if plan.steps.contains(&Step::Fork) {
                        self.hear_out(heard);
                    }
                    self.hand_over(fd, heard)?;
                }
                Some(_) => {
                    let odd = std::io::Error::from(Errno::PROTO);
                    return Err(LaunchError::system("understand the new process", odd));
                }
                None if executing => return Ok(()),
                None => return Err(self.silent_death()),
            }
        }
    }

    /// Waits for the next message or the end of them, but not for ever: whether meanwhile the
    /// process runs its program, or has ended.
    fn has_executed(&self, heard: &Heard<'_>) -> Result<bool, LaunchError> {
        let pid = heard.grandchild.unwrap_or(self.pid);
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            };
            match poll(&mut fds, Some(&patience)) {
                Ok(0) => {}
                Ok(_) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(LaunchError::system("wait for the new process", e)),
            }
            let program = std::fs::read_link(format!("/proc/{pid}/exe"));
            let own = std::fs::read_link("/proc/self/exe");
            match (program, own) {
                (Ok(program), Ok(own)) if program == own => {}
                (Ok(program), _) if program.to_string_lossy().contains(shield::NAME) => {}
                // Its program, or nobody any more.
                _ => return Ok(true),
            }
        }
    }

    /// A pid that was only told is believed when it is that of a child of this process. (Where it
    /// becomes a sibling, nobody in a container can have said it.)
    fn check_child(&self, pid: i32) -> Result<(), LaunchError> {
        if !self.own {
            return Ok(());
        }
        let pidfd = super::exec::open_child(pid)?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(pidfd.as_fd()), options)
            .map(drop)
            .map_err(|e| LaunchError::system("recognise the new process", e))
    }

    /// A process that forked and the one that goes on speak at the same time: the pid of the second
    /// may come after its complaint, and somebody has to wait for it.
    fn hear_out(&self, heard: &mut Heard<'_>) {
        if heard.grandchild.is_some() {
            return;
        }
        let soon = |socket: &OwnedFd| {
            let patience = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&patience)).is_ok_and(|n| n > 0)
        };
        while soon(&self.socket)
            && let Ok(Some((message, _))) = report::receive(&self.socket)
        {
            if let Message::Child { pid } = message
                && self.check_child(pid).is_ok()
            {
                heard.grandchild = Some(pid);
                return;
            }
        }
    }

    fn hand_over(&self, fd: i32, heard: &mut Heard<'_>) -> Result<(), LaunchError> {
        if let Some(agent) = heard.agent.take() {
            agent(fd, heard.grandchild)?;
        }
        self.tell(&Message::Go, None)
    }

    /// Waits for the process that goes on in its place, and becomes that one. What else was said
    /// meanwhile is in `heard`.
    pub fn reborn(
        &mut self,
        plan: &Plan,
        signals: Option<&mut Signals>,
        heard: &mut Heard<'_>,
    ) -> Result<(), LaunchError> {
        self.listen(plan, Until::Reborn, signals, heard)?;
        let pid = heard.grandchild.take().unwrap_or(self.pid);
        let pidfd = super::exec::open_child(pid)?;
        // The first one is about to end.
        self.reap_soon();
        self.pid = pid;
        self.pidfd = pidfd;
        Ok(())
    }

    /// It ended without a report: only a signal does that.
    fn silent_death(&self) -> LaunchError {
        LaunchError::Died("; was it the out-of-memory killer? its memory limit may be too small")
    }

    /// What was wrong, of one that has ended before anybody listened. To be asked when it is dead: it says no more then.
    pub fn last_words(&self, plan: &Plan) -> Option<LaunchError> {
        let now = Timespec::default();
        let said = |socket: &OwnedFd| {
            poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&now)).is_ok_and(|n| n > 0)
        };
        while said(&self.socket)
            && let Ok(Some((message, _))) = report::receive(&self.socket)
        {
            if let Message::Fault { step, fault } = message {
                return Some(LaunchError::fault(plan, step, &fault));
            }
        }
        None
    }

    /// Kills it and waits for its end.
    pub fn kill(&self) -> Result<(), LaunchError> {
        match sys::pidfd_kill(&self.pidfd, libc::SIGKILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(LaunchError::system("kill the new process", e)),
        }
        wait_dead(&self.pidfd, Some(KILL_TIMEOUT))
            .map_err(|e| LaunchError::system("wait for the end of the new process", e))?;
        self.reap();
        Ok(())
    }

    /// Kills the process that it made in its place, if it is still there.
    pub fn kill_grandchild(heard: &Heard<'_>) {
        use rustix::process::{Pid, WaitOptions, kill_process, waitpid};
        let Some(pid) = heard.grandchild.and_then(Pid::from_raw) else {
            return;
        };
        // It is a child of this process and not yet waited for: the pid is still its own.
        if kill_process(pid, rustix::process::Signal::KILL).is_ok() {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }

    /// Takes the status of a child that is about to end by itself.
    pub fn reap_soon(&self) {
        if wait_dead(&self.pidfd, Some(KILL_TIMEOUT)).unwrap_or(false) {
            self.reap();
        }
    }

    /// Takes the status of a dead child, so that no zombie stays.
    pub fn reap(&self) {
        if self.own {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            // Somebody else in this program may have waited for all its children.
            let _ = waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        }
    }
}

/// Waits for the socket; a signal that would end a program ends the launch.
pub(super) fn wait_readable(socket: &OwnedFd, signals: &mut Signals) -> Result<(), LaunchError> {
    loop {
        let mut fds = [
            PollFd::new(socket, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(LaunchError::system("wait for the new process", e)),
        }
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        signals.unless_ended()?;
    }
}
