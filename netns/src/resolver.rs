//! The resolver: one process on the server answers the questions for names of all instances.
//!
//! It listens at the addresses that the server has on the link of every sandbox ([`crate::plan::GATEWAY4`],
//! [`crate::plan::RESOLVER6`]), in the server's network namespace, and has nothing of its own in any sandbox: it opens the namespace for the moment in which an address goes
//! into the instance's sets, which is before the application gets the answer. It dies, and what is connected stays
//! connected, nothing opens, and addresses vanish after their time; the next one reads from the kernel what there is.
//!
//! With policy `reject` or `drop` a question that no entry lists is not passed on to anybody, with any policy none that the
//! reject list names, and what is passed on is the name alone: no way out. Answers are made anew from the records that belong to the chain of the
//! question. Nothing is cached: what one instance asked for cannot be seen by another.
//!
//! | room | what it holds | kernel |
//! | --- | --- | --- |
//! | `name`, [`message`] | names and messages, read strictly | no |
//! | [`system`] | resolv.conf, hosts | no |
//! | `grants` | addresses with their times, bounded | no |
//! | `rejected` | addresses that names of reject lists lead to | no |
//! | `record` | what was asked for, for people | files |
//! | `instances` | who is there, and their sets | netlink |
//! | `questions` | what becomes of a question | |
//! | `upstream`, `exchange` | asking the server's name servers | sockets |
//! | `clients` | datagrams and connections of applications | sockets |
//! | `pace` | how fast one instance may ask | no |
//! | `listen` | where questions come in | sockets |
//! | `follow` | names of entries are looked up again and again | |
//! | `serve` | the loop | epoll |

mod clients;
mod exchange;
mod follow;
mod grants;
mod instances;
mod joined;
mod listen;
pub mod message;
mod name;
mod pace;
mod questions;
mod record;
mod rejected;
mod serve;
pub mod system;
mod upstream;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use metactl_bundles::network::NetworkSpec;

pub use name::Name;
pub use record::{NameAsked, NameRefused, NamesAsked};

use crate::NetError;

/// How the resolver works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the server's part of the network is recorded ([`crate::server`]).
    pub server_dir: PathBuf,
    /// resolv.conf(5) of the server.
    pub resolv_conf: PathBuf,
    /// hosts(5) of the server.
    pub hosts: PathBuf,
    /// Who is asked instead of those in `resolv_conf`; empty: those.
    pub nameservers: Vec<IpAddr>,
    /// How long an address stays when the time of its answer is over: applications keep addresses longer than
    /// they should.
    pub grace: Duration,
    /// Replace the elements of sets to give them another time, as kernels before 6.12 need. Those are known
    /// without being told.
    pub replace_elements: bool,
    /// Where it says what went wrong; made when there is something to say, emptied when it is long. None: standard error.
    pub log: Option<PathBuf>,
}

impl Settings {
    /// The files of this server, and five minutes.
    pub fn of(server_dir: &Path) -> Settings {
        Settings {
            server_dir: server_dir.to_owned(),
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            nameservers: Vec::new(),
            grace: Duration::from_secs(300),
            replace_elements: false,
            log: None,
        }
    }
}

/// How instances are found: the resolver knows names and devices from [`crate::server`], and whoever made the
/// networks knows the rest.
pub trait Places {
    /// The policy of `user`, and a word that changes when it does. None when it is not there (any more).
    ///
    /// # Errors
    /// What keeps it from being read; it is tried again.
    fn policy(&self, user: &str) -> io::Result<Option<(NetworkSpec, String)>>;

    /// The word alone; None when there is nothing.
    fn version(&self, user: &str) -> Option<String>;

    /// Its network namespace, opened for a moment.
    ///
    /// # Errors
    /// It is not there any more.
    fn namespace(&self, user: &str) -> io::Result<OwnedFd>;
}

/// The sockets and the lock of the one resolver of this server.
pub struct Resolver {
    server: serve::Server,
    lock: Lock,
}

impl Resolver {
    /// Becomes the resolver of this server: opens its sockets, which needs CAP_NET_BIND_SERVICE. None when there is one
    /// already. From here on it answers; call [`Resolver::run`].
    ///
    /// # Errors
    /// The port is taken, or files cannot be made.
    pub fn open(settings: Settings, places: Box<dyn Places>) -> Result<Option<Resolver>, NetError> {
        let Some(lock) = Lock::take(&settings.server_dir)? else {
            return Ok(None);
        };
        record::remove_all(&settings.server_dir);
        let server = serve::Server::open(settings, places)?;
        Ok(Some(Resolver { server, lock }))
    }

    /// Answers until no instance is left and nobody waits for one ([`Wanted`]). Needs CAP_SYS_ADMIN, CAP_NET_ADMIN
    /// and CAP_SYS_PTRACE (of namespaces by process).
    ///
    /// # Errors
    /// What it cannot go on without.
    pub fn run(mut self) -> Result<(), NetError> {
        let wanted = &self.lock;
        let result = self.server.run(|| wanted.nobody_waits());
        record::remove_all(&self.server.settings().server_dir);
        result
    }
}

/// The lock of the process, and the one that its exit waits for.
struct Lock {
    _running: File,
    wanted: File,
}

impl Lock {
    fn take(server_dir: &Path) -> Result<Option<Lock>, NetError> {
        let running = open_lock(server_dir, RUNNING)?;
        let failed = |source| NetError::File {
            what: "lock",
            path: server_dir.join(RUNNING),
            source,
        };
        // The one before may be about to go.
        for _ in 0..20 {
            match running.try_lock() {
                Ok(()) => {
                    write_pid(&running).map_err(failed)?;
                    let wanted = open_lock(server_dir, WANTED)?;
                    return Ok(Some(Lock {
                        _running: running,
                        wanted,
                    }));
                }
                Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
                Err(fs::TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Ok(None)
    }

    /// True: nobody waits for the resolver, and until this process is gone, who wants to has to wait.
    fn nobody_waits(&self) -> bool {
        self.wanted.try_lock().is_ok()
    }
}

const RUNNING: &str = "resolver.lock";
const WANTED: &str = "resolver-wanted.lock";

fn open_lock(server_dir: &Path, name: &str) -> Result<File, NetError> {
    let path = server_dir.join(name);
    let open = || -> io::Result<File> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(server_dir)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o600).open(&path)
    };
    open().map_err(|source| NetError::File {
        what: "open",
        path: path.clone(),
        source,
    })
}

fn write_pid(mut file: &File) -> io::Result<()> {
    use std::io::Write;
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// Somebody needs the resolver: while this lives, it does not end for want of instances.
#[derive(Debug)]
pub struct Wanted {
    _file: File,
}

impl Wanted {
    /// Waits, when a resolver is just ending, until it has.
    ///
    /// # Errors
    /// The lock cannot be made or taken.
    pub fn hold(server_dir: &Path) -> Result<Wanted, NetError> {
        let file = open_lock(server_dir, WANTED)?;
        file.lock_shared().map_err(|source| NetError::File {
            what: "lock",
            path: server_dir.join(WANTED),
            source,
        })?;
        Ok(Wanted { _file: file })
    }
}

/// The process id of the resolver, if one runs.
///
/// # Errors
/// Its lock cannot be looked at.
pub fn running(server_dir: &Path) -> Result<Option<i32>, NetError> {
    let path = server_dir.join(RUNNING);
    if !path.exists() {
        return Ok(None);
    }
    let file = open_lock(server_dir, RUNNING)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(fs::TryLockError::WouldBlock) => {
            let text = fs::read_to_string(&path).unwrap_or_default();
            // Written right after the lock was taken.
            Ok(Some(text.trim().parse().unwrap_or_default()))
        }
        Err(fs::TryLockError::Error(source)) => Err(NetError::File {
            what: "lock",
            path,
            source,
        }),
    }
}
