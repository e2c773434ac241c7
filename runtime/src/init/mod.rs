//! The new process, from the clone to its program: carries out a [`Program`], one operation after
//! the other.
//!
//! It may be a copy of a multi-threaded program, of which only this thread is left: it allocates
//! nothing, takes no lock, and calls nothing but `sys`, `rustix` and [`crate::rootfs`]. The first
//! failure is reported with the index of its step, and ends it.

mod copy_up;
mod mounts;
mod program;
mod trees;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior};

use crate::compile::{Op, Program, Slot, Text};
use crate::fallback::birth::Remainder;
use crate::fallback::join;
use crate::identity;
use crate::report::{self, At, Detail, Fault, Message, Part};
use crate::rootfs::{self, Want};
use crate::sys::{self, Strings};
use crate::{pid1, terminal};

use mounts::{NewMount, link, set_host_propagation};
use program::{find, working_directory};

/// `PROC_SUPER_MAGIC`.
const PROC: i64 = 0x9fa0;

/// The exit code of a new process that failed; the report says why.
const FAILED: i32 = 127;

/// What the launcher made for the new process.
pub struct Prepared<'p> {
    /// The operations.
    pub program: &'p Program,
    /// The arguments of the program, ready for execve(2).
    pub arguments: Strings<'p>,
    /// Its environment.
    pub environment: Strings<'p>,
    /// The small program from which it is executed, see [`crate::shield`].
    pub shield: Option<OwnedFd>,
}

/// What the process holds on its way.
struct Sandbox<'p> {
    prepared: &'p Prepared<'p>,
    program: &'p Program,
    /// To the runtime, or to `start`.
    report: OwnedFd,
    /// The root mount.
    root: Option<OwnedFd>,
    /// How mount events of the root travel in the end; 0 for private.
    root_propagation: u64,
    /// `/dev` inside.
    dev: Option<OwnedFd>,
    /// The container's procfs, as it was mounted.
    proc: Option<OwnedFd>,
    /// The host's /dev/null, for masked files.
    null: Option<OwnedFd>,
    /// An empty read-only directory, for masked directories.
    empty: Option<OwnedFd>,
    /// The terminal of the process.
    terminal: Option<OwnedFd>,
    /// Whether the runtime was told that the program comes next, and all descriptors are closed
    /// that the program may not see.
    sealed: bool,
    /// The working directory, when only the user of the process may enter it.
    outside: Option<Text>,
}

/// Carries out the program. Never returns.
pub fn run(prepared: &Prepared<'_>, report: OwnedFd, birth: Remainder) -> ! {
    let program = prepared.program;
    let mut sandbox = Sandbox {
        prepared,
        program,
        report,
        root: None,
        root_propagation: 0,
        dev: None,
        proc: None,
        null: None,
        empty: None,
        terminal: None,
        sealed: false,
        outside: None,
    };
    if let Err(errno) = birth.carry_out() {
        sandbox.fail(0, errno.into());
    }
    for (step, op) in program.ops() {
        if let Err(fault) = sandbox.carry_out(op) {
            sandbox.fail(*step, fault);
        }
    }
    sys::exit(FAILED)
}

impl Sandbox<'_> {
    fn fail(&self, step: usize, fault: Fault) -> ! {
        // When even this cannot be sent nobody listens any more.
        let _ = report::send(&self.report, &Message::Fault { step, fault });
        sys::exit(FAILED)
    }

    fn carry_out(&mut self, op: &Op) -> Result<(), Fault> {
        let program = self.program;
        let text = |t: Text| program.text(t);
        match *op {
            Op::JoinCgroup(slot) => self.join_cgroup(slot),
            Op::Unshare(flags) => Ok(sys::unshare(flags)?),
            Op::Enter { fd, flags } => Ok(join::enter(self.descriptor(fd)?, flags)?),
            Op::EnterSent => self.enter_sent(),
            Op::Hide => Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?),
            Op::Show => Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?),
            Op::UserRoot { uid, gid } => identity::become_root(uid, gid),
            Op::TimeOffsets(offsets) => {
                // Who changed its user may not write to its own files until it may be looked at.
                set_dumpable_behavior(DumpableBehavior::Dumpable)?;
                write_own(c"timens_offsets", text(offsets))
            }
            Op::Rebirth => self.rebirth(),
            Op::LoopbackUp => Ok(sys::loopback_up()?),
            Op::Hostname(name) => Ok(rustix::system::sethostname(text(name).to_bytes())?),
            Op::Domainname(name) => Ok(rustix::system::setdomainname(text(name).to_bytes())?),
            Op::Await { announce } => self.wait(announce),
            Op::AwaitStartHooks { apart: true } => self.wait_apart(None),
            Op::AwaitStart {
                socket,
                apart: true,
            } => self.wait_apart(Some(socket)),
            Op::AwaitStartHooks { apart: false } => self.wait(true),
            Op::AwaitStart {
                socket,
                apart: false,
            } => self.await_start(socket),
            Op::Console {
                uid,
                bind,
                relayed,
                size,
            } => self.console(uid, bind, relayed, size),
            Op::Stdio { input, output } => self.stdio(input, output),
            Op::Session { terminal } => self.session(terminal),
            Op::Find { candidates } => find(program.texts(candidates)),
            Op::DieWithRuntime => self.die_with_runtime(),
            Op::Init => self.init(),
            Op::Fork => self.fork(),
            Op::Execute { candidates } => self.execute(program.texts(candidates)),
            _ => match self.mount_op(op) {
                Some(result) => result,
                None => self.identity_op(op),
            },
        }
    }

    /// The root and what is in it; none when the operation is another.
    fn mount_op(&mut self, op: &Op) -> Option<Result<(), Fault>> {
        let program = self.program;
        let text = |t: Text| program.text(t);
        Some(match *op {
            Op::Propagation(propagation) => set_host_propagation(propagation),
            Op::Root {
                path,
                tree,
                propagation,
            } => self.set_root(text(path), tree, propagation),
            Op::Mount {
                fstype,
                parameters,
                target,
                strict,
                attributes,
                copy_up,
            } => self.new_mount(&NewMount {
                fstype: text(fstype),
                parameters,
                target: text(target),
                strict,
                attributes,
                copy_up,
            }),
            Op::Bind {
                source,
                inside,
                tree,
                recursive,
                target,
                strict,
                attributes,
            } => {
                let target = text(target);
                match tree {
                    users if inside => self.bind_inside(
                        text(source),
                        recursive,
                        users,
                        target,
                        strict,
                        &attributes,
                    ),
                    Some(tree) => self.bind_opened(tree, target, strict, &attributes),
                    None => self.bind(text(source), recursive, target, strict, &attributes),
                }
            }
            Op::Introduce(helper) => self.introduce(helper),
            Op::EnterView => self.enter_view(),
            Op::Offer(offer) => self.offer(&offer),
            Op::Attributes { path, attr } => self.attributes(text(path), &attr),
            Op::Device {
                parent,
                name,
                device,
            } => self.device(text(parent), text(name), &device),
            Op::DeviceBind { path, number } => self.device_bind(text(path), number),
            Op::DeviceLink { name, target } => self
                .dev()
                .and_then(|dev| link(dev, text(name), text(target))),
            Op::Link {
                parent,
                name,
                target,
            } => self.link(text(parent), text(name), text(target)),
            Op::Sysctl { path, value } => self.sysctl(text(path), text(value)),
            Op::Mask(path) => self.mask(text(path)),
            Op::ReadOnly(path) => self.read_only(text(path)),
            Op::Directory(path) => self.directory(text(path)),
            Op::RootReadOnly => self.root_read_only(),
            Op::Pivot(how) => self.pivot(how),
            Op::EnterRoot(root) => self.enter_root(root),
            _ => return None,
        })
    }

    /// What the process itself becomes.
    fn identity_op(&mut self, op: &Op) -> Result<(), Fault> {
        let program = self.program;
        let text = |t: Text| program.text(t);
        match *op {
            Op::Keyring(name) => identity::session_keyring(text(name)),
            Op::Affinity(set) => Ok(sys::set_affinity(&set.bits)?),
            Op::Scheduler(scheduler) => Ok(sys::set_scheduler(&scheduler)?),
            Op::IoPriority(value) => Ok(sys::set_io_priority(value)?),
            Op::Personality(value) => Ok(sys::personality(value)?),
            Op::MemoryPolicy(policy) => Ok(sys::set_memory_policy(policy.mode, &policy.nodes)?),
            Op::Label { path, text: label } => write_own(text(path), text(label)),
            Op::Limit {
                resource,
                soft,
                hard,
            } => identity::limit(resource, soft, hard),
            Op::Filter {
                flags,
                last,
                notify,
                shown,
            } => self.filter(flags, last, notify, shown),
            Op::LateFilter { .. } => Ok(()),
            Op::Identity {
                uid,
                gid,
                groups,
                umask,
            } => {
                identity::become_user(uid, gid, program.groups(groups), umask)?;
                let Some(path) = self.outside.take() else {
                    return Ok(());
                };
                working_directory(text(path)).map_err(|fault| Fault {
                    detail: Detail::new(b"enter the working directory"),
                    ..fault
                })
            }
            Op::BoundingSet(bounding) => identity::bound(bounding),
            Op::Capabilities(sets) => {
                identity::set_capabilities(&sets)?;
                // What another user has, may be looked at again (proc(5), fs.suid_dumpable).
                Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
            }
            Op::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Op::WorkingDirectory(path) => match working_directory(text(path)) {
                Err(fault) if fault.errno == Errno::ACCESS && fault.part == Part::Whole => {
                    self.outside = Some(path);
                    Ok(())
                }
                result => result,
            },
            // An operation that nobody carries out would be a promise that is not kept.
            _ => Err(Errno::NOSYS.into()),
        }
    }

    fn descriptor(&self, slot: Slot) -> Result<BorrowedFd<'_>, Errno> {
        self.program.descriptor(slot).ok_or(Errno::BADF)
    }

    fn root(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn join_cgroup(&self, slot: Slot) -> Result<(), Fault> {
        // `0` is the writer; and `tasks` instead of `cgroup.procs` saves the wait for an RCU
        // grace period (12 ms).
        rustix::io::write(self.descriptor(slot)?, b"0")?;
        Ok(())
    }

    fn enter_sent(&self) -> Result<(), Fault> {
        match report::receive(&self.report)? {
            Some((Message::Namespace, Some(fd))) => Ok(sys::setns(fd.as_fd(), libc::CLONE_NEWNET)?),
            Some(_) => Err(Errno::PROTO.into()),
            // The runtime is gone, or gave up for a reason that it knows.
            None => sys::exit(FAILED),
        }
    }

    fn console(
        &mut self,
        uid: u32,
        bind: bool,
        relayed: bool,
        size: Option<(u16, u16)>,
    ) -> Result<(), Fault> {
        let pair = terminal::open(self.root.as_ref().map_or(CWD, AsFd::as_fd), uid)?;
        if let Some(size) = size {
            terminal::set_size(&pair.inside, size)?;
        }
        if relayed {
            terminal::keep_line_ends(&pair.inside)?;
        }
        if bind {
            let target = rootfs::ensure(self.root()?, c"/dev/console", Want::File, true)?;
            // Mounted by descriptor: CVE-2025-52565, a /dev/pts/N swapped for something else.
            let cover = rootfs::clone_fd(&pair.inside, false).at(Part::Source)?;
            rootfs::attach(cover, target).at(Part::Attach)?;
        }
        report::send_with(&self.report, &Message::Console, &pair.outside)?;
        terminal::use_as_stdio(&pair.inside)?;
        self.terminal = Some(pair.inside);
        Ok(())
    }

    fn wait(&self, announce: bool) -> Result<(), Fault> {
        if announce {
            report::send(&self.report, &Message::Prepared)?;
        }
        match report::receive(&self.report)? {
            Some((Message::Go, _)) => Ok(()),
            Some(_) => Err(Errno::PROTO.into()),
            // The runtime died or gave up: so does this process.
            None => sys::exit(FAILED),
        }
    }

    /// Waits for `start`. Until the runtime has said that everything is recorded, its death ends
    /// this process; from then on nothing of the runtime is held, not even its locks.
    fn await_start(&mut self, slot: Slot) -> Result<(), Fault> {
        self.wait(true)?;
        let listener = self.descriptor(slot)?;
        self.close_descriptors(Some(listener))?;
        let connection = rustix::io::retry_on_intr(|| {
            rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)
        })?;
        // Under the same number, which the shield knows.
        rustix::io::dup3(&connection, &mut self.report, rustix::io::DupFlags::CLOEXEC)?;
        Ok(())
    }

    fn session(&mut self, terminal: bool) -> Result<(), Fault> {
        rustix::process::setsid()?;
        if !terminal {
            return Ok(());
        }
        match self.terminal.take() {
            Some(inside) => terminal::control(inside),
            None => Ok(()),
        }
    }

    fn stdio(&self, input: Slot, output: Slot) -> Result<(), Fault> {
        rustix::stdio::dup2_stdin(self.descriptor(input)?)?;
        rustix::stdio::dup2_stdout(self.descriptor(output)?)?;
        Ok(rustix::stdio::dup2_stderr(self.descriptor(output)?)?)
    }

    /// Dies with the runtime, also when it died just before this was said: then the other end of
    /// the socket is gone.
    fn die_with_runtime(&self) -> Result<(), Fault> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let mut fds = [rustix::event::PollFd::new(
            &self.report,
            rustix::event::PollFlags::HUP,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let gone = rustix::event::poll(&mut fds, Some(&now))? > 0;
        if gone { sys::exit(FAILED) } else { Ok(()) }
    }

    fn filter(&mut self, flags: u32, last: bool, notify: bool, shown: bool) -> Result<(), Fault> {
        if last {
            self.seal()?;
        } else {
            identity::raise()?;
        }
        if shown {
            set_dumpable_behavior(DumpableBehavior::Dumpable)?;
        }
        let listener = sys::load_filter(self.program.filter(), flags, notify)?;
        let Some(listener) = listener else {
            return Ok(());
        };
        // The runtime takes the descriptor out of this process by its number: passing it would
        // need calls that the filter may want to ask about. write(2) is never asked about.
        let message = Message::Listener {
            fd: listener.as_raw_fd(),
        };
        report::send(&self.report, &message)?;
        let mut answer = [0; 64];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.report, &mut answer))?;
        if read == 0 {
            sys::exit(FAILED)
        }
        if shown {
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        }
        Ok(())
    }

    /// A process in all the new namespaces goes on, this one ends.
    fn rebirth(&mut self) -> Result<(), Fault> {
        match sys::fork(true)? {
            Some(pid) => {
                let told = report::send(&self.report, &Message::Child { pid });
                sys::exit(if told.is_ok() { 0 } else { FAILED })
            }
            None => Ok(()),
        }
    }

    /// PID 1 stays as the built-in init; its child goes on to the program.
    fn init(&mut self) -> Result<(), Fault> {
        match sys::fork(false)? {
            Some(child) => pid1::watch(child),
            None => Ok(()),
        }
    }

    /// setns(2) into a pid namespace concerns the children of the caller only. By now this process
    /// has nothing that the container may not have, so the child can be seen and reached by it.
    fn fork(&mut self) -> Result<(), Fault> {
        // CVE-2016-9962: a container with CAP_SYS_PTRACE can look into /proc/PID/fd of the child.
        self.close_descriptors(None)?;
        self.rebirth()
    }
}

/// Writes to a file of this process below /proc. The procfs is the host's, and that is verified
/// (CVE-2019-19921, CVE-2025-52881: a label written to something that only looks like one).
fn write_own(path: &CStr, text: &CStr) -> Result<(), Fault> {
    let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = openat(CWD, c"/proc/self", hold, Mode::empty()).at(Part::Source)?;
    if fstatfs(&own).at(Part::Verify)?.f_type != PROC {
        return Err(Errno::NODEV).at(Part::Verify);
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rootfs::open_beneath(own.as_fd(), path, flags).at(Part::Target)?;
    rustix::io::write(file, text.to_bytes())?;
    Ok(())
}
