//! The new process, from the clone to its program: carries out a [`Program`], one operation after
//! the other.
//!
//! It may be a copy of a multi-threaded program, of which only this thread is left: it allocates
//! nothing, takes no lock, and calls nothing but `sys`, `rustix` and [`crate::rootfs`]. The first
//! failure is reported with the index of its step, and ends it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{DumpableBehavior, Signal, fchdir, pivot_root, set_dumpable_behavior};

use crate::compile::{Device, Op, Program, Slot, Text};
use crate::fallback::birth::Remainder;
use crate::fallback::join;
use crate::identity;
use crate::plan::mounts::Attributes;
use crate::report::{self, At, Detail, Fault, Message, Part};
use crate::rootfs::{self, Want};
use crate::sys::{self, MountAttr, Strings};
use crate::{pid1, terminal};

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
    /// Whether the runtime was told that the program comes next.
    announced: bool,
}

/// Carries out the program. Never returns.
pub fn run(prepared: &Prepared<'_>, report: OwnedFd, birth: Remainder) -> ! {
    let program = prepared.program;
    let mut sandbox = Sandbox {
        prepared,
        program,
        report,
        root: None,
        dev: None,
        proc: None,
        null: None,
        empty: None,
        terminal: None,
        announced: false,
    };
    // Nobody may look into this process, whatever namespaces it joins (CVE-2016-9962).
    if let Err(errno) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        sandbox.fail(0, errno.into());
    }
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
            Op::Hostname(name) => Ok(rustix::system::sethostname(text(name).to_bytes())?),
            Op::Domainname(name) => Ok(rustix::system::setdomainname(text(name).to_bytes())?),
            Op::Propagation(propagation) => set_host_propagation(propagation),
            Op::Root(path) => self.set_root(text(path)),
            Op::Mount {
                fstype,
                parameters,
                target,
                strict,
                attributes,
            } => {
                let tree = rootfs::new_filesystem(
                    text(fstype),
                    program.parameters(parameters),
                    attributes.own.set,
                )?;
                self.place(
                    tree.as_fd(),
                    text(target),
                    Want::Directory,
                    strict,
                    &attributes,
                )?;
                if text(fstype) == c"proc" && self.proc.is_none() {
                    self.proc = Some(tree);
                }
                Ok(())
            }
            Op::Bind {
                source,
                recursive,
                target,
                strict,
                attributes,
            } => {
                let tree = rootfs::clone_host(text(source), recursive).at(Part::Source)?;
                let directory = rootfs::is_directory(&tree).at(Part::Source)?;
                let want = if directory {
                    Want::Directory
                } else {
                    Want::File
                };
                rootfs::set_attributes(&tree, &attributes).at(Part::Attributes)?;
                self.place(tree.as_fd(), text(target), want, strict, &attributes)
            }
            Op::Attributes { path, attr } => {
                let fd = rootfs::open_in(self.root()?, text(path), false).at(Part::Target)?;
                rootfs::change(fd, &attr, false).at(Part::Attributes)
            }
            Op::Device {
                parent,
                name,
                device,
            } => self.device(text(parent), text(name), &device),
            Op::DeviceLink { name, target } => {
                let dev = self.dev()?;
                link(dev, text(name), text(target))
            }
            Op::Link {
                parent,
                name,
                target,
            } => {
                let parent = rootfs::ensure(self.root()?, text(parent), Want::Directory, false)?;
                link(parent.as_fd(), text(name), text(target))
            }
            Op::Sysctl { path, value } => self.sysctl(text(path), text(value)),
            Op::Mask(path) => self.mask(text(path)),
            Op::ReadOnly(path) => self.read_only(text(path)),
            Op::Directory(path) => self.directory(text(path)),
            Op::Console { uid, bind } => self.console(uid, bind),
            Op::RootReadOnly => {
                let attr = MountAttr {
                    set: libc::MOUNT_ATTR_RDONLY,
                    ..MountAttr::default()
                };
                rootfs::change(self.root()?, &attr, false).at(Part::Attributes)
            }
            Op::Pivot => self.pivot(),
            Op::AwaitRuntime => self.await_runtime(),
            Op::AwaitStart(slot) => self.await_start(slot),
            Op::Session { terminal } => self.session(terminal),
            Op::Limit {
                resource,
                soft,
                hard,
            } => identity::limit(resource, soft, hard),
            Op::Filter { flags, last } => {
                if last {
                    self.announce()?;
                }
                Ok(sys::load_filter(program.filter(), flags)?)
            }
            Op::Identity {
                uid,
                gid,
                groups,
                umask,
            } => identity::become_user(uid, gid, program.groups(groups), umask),
            Op::BoundingSet(bounding) => identity::bound(bounding),
            Op::Capabilities(sets) => identity::set_capabilities(&sets),
            Op::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Op::WorkingDirectory(path) => working_directory(text(path)),
            Op::DieWithRuntime => self.die_with_runtime(),
            Op::Init => self.init(),
            Op::Fork => self.fork(),
            Op::Execute { candidates } => self.execute(program.texts(candidates)),
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

    fn set_root(&mut self, path: &CStr) -> Result<(), Fault> {
        let tree = rootfs::clone_host(path, true).at(Part::Source)?;
        let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = openat(CWD, path, hold, Mode::empty()).at(Part::Source)?;
        rootfs::attach(&tree, place).at(Part::Attach)?;
        self.root = Some(tree);
        // Device nodes and directories get exactly the mode that is asked for.
        rustix::process::umask(Mode::empty());
        Ok(())
    }

    /// Mounts `tree` on `target`.
    fn place(
        &self,
        tree: BorrowedFd<'_>,
        target: &CStr,
        want: Want,
        strict: bool,
        attributes: &Attributes,
    ) -> Result<(), Fault> {
        let target = rootfs::ensure(self.root()?, target, want, strict)?;
        rootfs::attach(tree, target).at(Part::Attach)?;
        rootfs::set_propagation(tree, attributes).at(Part::Attributes)
    }

    /// `/dev` of the root, resolved once for everything that is made in it (CVE-2026-41579,
    /// CVE-2026-47766: a /dev that is, or becomes, a symlink).
    fn dev(&mut self) -> Result<BorrowedFd<'_>, Fault> {
        if self.dev.is_none() {
            self.dev = Some(rootfs::ensure(
                self.root()?,
                c"/dev",
                Want::Directory,
                true,
            )?);
        }
        Ok(self.dev.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)?)
    }

    fn device(&mut self, parent: &CStr, name: &CStr, device: &Device) -> Result<(), Fault> {
        if parent.is_empty() {
            return rootfs::make_device(self.dev()?, name, device);
        }
        let parent = rootfs::ensure(self.root()?, parent, Want::Directory, true)?;
        rootfs::make_device(parent, name, device)
    }

    /// Writes a kernel parameter through the procfs that this process mounted itself, never by
    /// a path of the container (CVE-2019-16884, CVE-2025-52881).
    fn sysctl(&mut self, path: &CStr, value: &CStr) -> Result<(), Fault> {
        let open = |proc: BorrowedFd<'_>| {
            rootfs::open_beneath(proc, path, OFlags::WRONLY | OFlags::CLOEXEC)
        };
        let file = match &self.proc {
            Some(proc) => open(proc.as_fd()),
            None => Err(Errno::NOENT),
        };
        let file = match file {
            // None mounted, or a read-only one, or one that shows only processes.
            Err(Errno::NOENT | Errno::ROFS) => {
                let nothing = std::iter::empty();
                let proc = rootfs::new_filesystem(c"proc", nothing, 0)?;
                open(proc.as_fd()).at(Part::Target)?
            }
            result => result.at(Part::Target)?,
        };
        rustix::io::write(file, value.to_bytes())?;
        Ok(())
    }

    fn mask(&mut self, path: &CStr) -> Result<(), Fault> {
        let target = match rootfs::open_in(self.root()?, path, false) {
            // What is not there needs no mask.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            result => result.at(Part::Target)?,
        };
        if rootfs::is_directory(&target).at(Part::Target)? {
            return self.mask_directory(target);
        }
        if self.null.is_none() {
            let hold = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let null = openat(CWD, c"/dev/null", hold, Mode::empty()).at(Part::Source)?;
            // CVE-2025-31133: the host's own, and really the null device.
            if !rootfs::is_char_device(&null, (1, 3)).at(Part::Verify)? {
                return Err(Errno::NODEV).at(Part::Verify);
            }
            self.null = Some(null);
        }
        let null = self.null.as_ref().ok_or(Errno::BADF)?;
        let cover = rootfs::clone_fd(null, false).at(Part::Source)?;
        rootfs::attach(cover, target).at(Part::Attach)
    }

    fn mask_directory(&mut self, target: OwnedFd) -> Result<(), Fault> {
        if let Some(empty) = &self.empty {
            let cover = rootfs::clone_fd(empty, false).at(Part::Source)?;
            return rootfs::attach(cover, target).at(Part::Attach);
        }
        let attributes = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        let parameters = [(c"mode", Some(c"755")), (c"nr_inodes", Some(c"2"))];
        let empty = rootfs::new_filesystem(c"tmpfs", parameters.into_iter(), attributes)?;
        rootfs::attach(&empty, target).at(Part::Attach)?;
        self.empty = Some(empty);
        Ok(())
    }

    fn read_only(&self, path: &CStr) -> Result<(), Fault> {
        let target = match rootfs::open_in(self.root()?, path, false) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            result => result.at(Part::Target)?,
        };
        let cover = rootfs::clone_fd(&target, true).at(Part::Source)?;
        let attr = MountAttr {
            set: libc::MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        rootfs::change(&cover, &attr, true).at(Part::Attributes)?;
        rootfs::attach(cover, target).at(Part::Attach)
    }

    fn directory(&self, path: &CStr) -> Result<(), Fault> {
        match rootfs::ensure(self.root()?, path, Want::Directory, false) {
            // It cannot be made: changing to it will tell, should it really be missing.
            Err(Fault {
                errno: Errno::ROFS | Errno::ACCESS | Errno::PERM,
                ..
            }) => Ok(()),
            result => result.map(drop),
        }
    }

    fn console(&mut self, uid: u32, bind: bool) -> Result<(), Fault> {
        let pair = terminal::open(self.root.as_ref().map_or(CWD, AsFd::as_fd), uid)?;
        if bind {
            let target = rootfs::ensure(self.root()?, c"/dev/console", Want::File, true)?;
            // Mounted by descriptor: CVE-2025-52565, a /dev/pts/N swapped for something else.
            let cover = rootfs::clone_fd(&pair.inside, false).at(Part::Source)?;
            rootfs::attach(cover, target).at(Part::Attach)?;
        }
        report::send_with(&self.report, &Message::Console, &pair.outside)?;
        self.terminal = Some(pair.inside);
        Ok(())
    }

    fn pivot(&mut self) -> Result<(), Fault> {
        let root = self.root.take().ok_or(Errno::BADF)?;
        fchdir(&root)?;
        // The old root comes to lie under the new one (pivot_root(2), NOTES) and is detached from
        // there: no directory for it is needed, and no moment when it could be seen.
        pivot_root(c".", c".")?;
        unmount(c".", UnmountFlags::DETACH)?;
        Ok(())
    }

    fn await_runtime(&self) -> Result<(), Fault> {
        match report::receive(&self.report)? {
            Some((Message::Go, _)) => Ok(()),
            Some(_) => Err(Errno::PROTO.into()),
            // The runtime died or gave up: so does this process.
            None => sys::exit(FAILED),
        }
    }

    fn await_start(&mut self, slot: Slot) -> Result<(), Fault> {
        report::send(&self.report, &Message::Prepared)?;
        let listener = self.descriptor(slot)?;
        let connection = rustix::io::retry_on_intr(|| {
            rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)
        })?;
        // Under the same number, which the shield knows.
        rustix::io::dup3(&connection, &mut self.report, rustix::io::DupFlags::CLOEXEC)?;
        Ok(())
    }

    fn session(&mut self, terminal: bool) -> Result<(), Fault> {
        rustix::process::setsid()?;
        match &self.terminal {
            Some(inside) if terminal => terminal::control(inside),
            _ => Ok(()),
        }
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

    fn announce(&mut self) -> Result<(), Fault> {
        if !self.announced {
            self.announced = true;
            report::send(&self.report, &Message::Executing)?;
        }
        Ok(())
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
        match sys::fork(true)? {
            Some(pid) => {
                let told = report::send(&self.report, &Message::Child { pid });
                sys::exit(if told.is_ok() { 0 } else { FAILED })
            }
            None => Ok(()),
        }
    }

    fn execute<'t>(&mut self, candidates: impl Iterator<Item = &'t CStr>) -> Result<(), Fault> {
        self.announce()?;
        // CVE-2024-21626, CVE-2016-9962: no descriptor of the runtime, and none that it inherited,
        // reaches the program.
        sys::close_on_exec_from(3)?;
        sys::default_signal_actions();
        sys::unblock_signals()?;
        let Prepared {
            arguments,
            environment,
            shield,
            ..
        } = self.prepared;
        if let Some(shield) = shield {
            // It makes the report close-on-exec itself.
            rustix::io::fcntl_setfd(&self.report, rustix::io::FdFlags::empty())?;
            return Err(sys::execve_fd(shield, arguments, environment).into());
        }
        let mut worst = Fault::from(Errno::NOENT);
        for path in candidates {
            let errno = sys::execve(path, arguments, environment);
            let fault = Fault {
                errno,
                part: Part::Whole,
                detail: Detail::new(path.to_bytes()),
            };
            match errno {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => worst = fault,
                _ => return Err(fault),
            }
        }
        Err(worst)
    }
}

fn set_host_propagation(propagation: u64) -> Result<(), Fault> {
    let hold = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, c"/", hold, Mode::empty())?;
    let attr = MountAttr {
        propagation,
        ..MountAttr::default()
    };
    Ok(rootfs::change(top, &attr, true)?)
}

fn link(parent: BorrowedFd<'_>, name: &CStr, target: &CStr) -> Result<(), Fault> {
    match rustix::fs::symlinkat(target, parent, name) {
        // What is there already is the business of whoever put it there.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e).at(Part::Create),
    }
}

/// Changes to the working directory as the user that the process has become.
fn working_directory(path: &CStr) -> Result<(), Fault> {
    rustix::process::chdir(path)?;
    // CVE-2024-21626: a working directory outside the root, by way of /proc/self/fd, would be
    // told as "(unreachable)/...".
    let mut buffer = [0u8; 4096];
    match sys::current_directory(&mut buffer) {
        Ok(path) if path.first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(Errno::ACCESS).at(Part::Verify),
        Err(e) => Err(e).at(Part::Verify),
    }
}
