//! The loop of the resolver: one thread that waits for datagrams, connections, answers, times and changes.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::inotify;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::clients::Connection;
use super::follow::Follow;
use super::instances::{Instances, Kernel, is_gone};
use super::joined::Joined;
use super::listen::{self, Listener};
use super::system::{Hosts, Resolving, Watched};
use super::upstream::Job;
use super::{Places, Settings};
use crate::NetError;
use crate::netlink::Refusal;
use crate::plan::{GATEWAY4, RESOLVER6};
use crate::policy::RESOLVER_PORT;

/// What an event is about.
pub(super) type Id = u64;
const CHANGES: Id = 0;
/// The sockets of the first listener; those of the next one follow.
const LISTENERS: Id = 2;
const FIRST: Id = 16;

/// How often it is looked whether something has changed that nobody tells of.
const TICK: Duration = Duration::from_secs(3);
/// How soon after a change it is looked again: who makes it may not be ready.
const SOON: Duration = Duration::from_millis(20);
/// For how long after a change.
const UNREST: Duration = Duration::from_secs(1);
/// How often files are looked at while questions come.
const FILES: Duration = Duration::from_millis(500);
/// How often unknown askers make it look for new instances.
const LOOK: Duration = Duration::from_millis(50);
/// So many events at a time.
const EVENTS: usize = 128;

pub(super) struct Server {
    settings: Settings,
    pub(super) places: Box<dyn Places>,
    pub(super) kernel: Kernel,
    epoll: OwnedFd,
    changes: OwnedFd,
    pub(super) listeners: Vec<Listener>,
    pub(super) instances: Instances,
    pub(super) resolving: Resolving,
    /// Name servers that did not answer, by their place, and until when that counts.
    pub(super) silent: HashMap<usize, Instant>,
    resolv_conf: Watched,
    pub(super) hosts: Hosts,
    hosts_file: Watched,
    pub(super) jobs: HashMap<Id, Job>,
    pub(super) joined: Joined,
    pub(super) clients: HashMap<Id, Connection>,
    /// Connections with answers to be written, or with questions that waited for their turn.
    pub(super) due_connections: Vec<Id>,
    pub(super) timers: BTreeSet<(Instant, Id)>,
    pub(super) follow: Follow,
    pub(super) next_id: Id,
    pub(super) turn: usize,
    pub(super) buffer: Vec<u8>,
    files_at: Instant,
    looked: Instant,
    changed: Instant,
    ticked: Instant,
    kept: Instant,
    said: Instant,
    unsaid: usize,
}

impl Server {
    pub(super) fn open(settings: Settings, places: Box<dyn Places>) -> Result<Server, NetError> {
        let what = format!(
            "listen at {GATEWAY4} and {RESOLVER6} port {RESOLVER_PORT} for questions of instances"
        );
        let listeners = listen::open().map_err(|error| Refusal::from(error).during(what))?;
        let set_up = || -> io::Result<_> {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
            let changes = inotify::init(flags)?;
            let events = inotify::WatchFlags::MOVED_TO
                | inotify::WatchFlags::DELETE
                | inotify::WatchFlags::CLOSE_WRITE;
            inotify::add_watch(&changes, &settings.server_dir, events)?;
            let sockets = listeners
                .iter()
                .flat_map(|one| [one.udp.as_fd(), one.tcp.as_fd()]);
            for (fd, id) in sockets.zip(LISTENERS..).chain([(changes.as_fd(), CHANGES)]) {
                epoll::add(
                    &epoll,
                    fd,
                    epoll::EventData::new_u64(id),
                    epoll::EventFlags::IN,
                )?;
            }
            Ok((epoll, changes, Kernel::open(settings.replace_elements)?))
        };
        let (epoll, changes, kernel) =
            set_up().map_err(|error| Refusal::from(error).during("set the resolver up"))?;
        let past = Instant::now()
            .checked_sub(TICK * 100)
            .unwrap_or_else(Instant::now);
        let mut server = Server {
            resolv_conf: Watched::new(settings.resolv_conf.clone()),
            hosts_file: Watched::new(settings.hosts.clone()),
            resolving: Resolving::parse("", |_| None),
            hosts: Hosts::default(),
            silent: HashMap::new(),
            settings,
            places,
            kernel,
            epoll,
            changes,
            listeners,
            instances: Instances::default(),
            jobs: HashMap::new(),
            joined: Joined::default(),
            clients: HashMap::new(),
            due_connections: Vec::new(),
            timers: BTreeSet::new(),
            follow: Follow::default(),
            next_id: FIRST,
            turn: 0,
            buffer: vec![0; 65_536],
            files_at: past,
            looked: past,
            changed: Instant::now(),
            ticked: past,
            kept: Instant::now(),
            said: past,
            unsaid: 0,
        };
        server.read_files(true);
        Ok(server)
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Until there is no instance, and `may_end`.
    pub(super) fn run(&mut self, may_end: impl Fn() -> bool) -> Result<(), NetError> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            if self.ticked.elapsed() >= self.pace() {
                self.ticked = Instant::now();
                self.tick();
                if self.is_idle() && may_end() {
                    return Ok(());
                }
            }
            self.follow_due();
            let pause = self.pause();
            let limit = Timespec {
                tv_sec: i64::try_from(pause.as_secs()).unwrap_or(1),
                tv_nsec: pause.subsec_nanos().into(),
            };
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&limit),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Refusal::from(errno).during("wait for questions")),
            }
            for event in &events {
                let data = event.data;
                self.ready(data.u64());
            }
            self.late();
            self.connections_due();
        }
    }

    fn ready(&mut self, id: Id) {
        match id {
            CHANGES => self.something_changed(),
            id if id < FIRST => {
                let listener = usize::try_from((id - LISTENERS) / 2).unwrap_or_default();
                match (id - LISTENERS) % 2 {
                    0 => self.datagrams(listener),
                    _ => self.connections(listener),
                }
            }
            id if self.jobs.contains_key(&id) => self.job_ready(id),
            id => self.connection_ready(id),
        }
    }

    /// What has waited for too long.
    fn late(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            if self.jobs.get(&id).is_some_and(|job| job.deadline <= now) {
                self.job_late(id);
            } else if let Some(client) = self.clients.get(&id) {
                // One time for each connection, however often it was put off.
                match client.deadline <= now {
                    true => self.connection_late(id),
                    false => {
                        self.timers.insert((client.deadline, id));
                    }
                }
            }
        }
    }

    /// Answers on connections, after everything that led to them. Once each: who asks faster than it is answered comes
    /// after the others again.
    fn connections_due(&mut self) {
        let mut due = std::mem::take(&mut self.due_connections);
        due.sort_unstable();
        due.dedup();
        for id in due {
            self.connection_ready(id);
        }
    }

    fn pause(&self) -> Duration {
        if !self.due_connections.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let mut until = self.ticked + self.pace();
        let timers = self.timers.first().map(|(at, _)| *at);
        for at in [timers, self.follow.next()].into_iter().flatten() {
            until = until.min(at);
        }
        until.saturating_duration_since(now)
    }

    fn pace(&self) -> Duration {
        if self.changed.elapsed() < UNREST {
            return SOON;
        }
        match self.instances.is_unwritten() {
            true => TICK.min(Duration::from_secs(1)),
            false => TICK,
        }
        .min(self.keep_pace())
    }

    /// How often it is looked whether something is connected to addresses whose time is nearly over.
    fn keep_pace(&self) -> Duration {
        (self.settings.grace / 8).clamp(Duration::from_millis(500), Duration::from_secs(30))
    }

    /// Somebody came or went: an instance, or who waits for one.
    fn something_changed(&mut self) {
        let mut space = [const { std::mem::MaybeUninit::uninit() }; 4096];
        let mut events = inotify::Reader::new(&self.changes, &mut space);
        let mut matters = false;
        // Until there are no more.
        while let Ok(event) = events.next() {
            let name = event.file_name().map(std::ffi::CStr::to_bytes);
            matters |= matches!(name, Some(b"network.json" | b"resolver-wanted.lock"));
        }
        if matters {
            self.changed = Instant::now();
            self.ticked = self.changed.checked_sub(TICK).unwrap_or(self.changed);
        }
    }

    fn tick(&mut self) {
        self.look();
        self.read_files(false);
        let failed = self.instances.write(&self.settings.server_dir);
        failed.iter().for_each(|line| self.say(line));
        if self.kept.elapsed() >= self.keep_pace() {
            self.kept = Instant::now();
            self.keep();
        }
    }

    /// Addresses with connections stay.
    fn keep(&mut self) {
        let mut failed = Vec::new();
        for instance in self.instances.by_user.values_mut() {
            let places = self.places.as_ref();
            let kept = instance.keep_connected(&self.kernel, places, self.settings.grace);
            if let Err(refusal) = kept
                && !is_gone(&refusal)
            {
                failed.push(format!("{}: {}", instance.user, refusal.source));
            }
        }
        failed.iter().for_each(|line| self.say(line));
    }

    pub(super) fn look_if_due(&mut self) {
        if self.looked.elapsed() >= LOOK {
            self.look();
        }
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        let places = self.places.as_ref();
        let (server_dir, grace) = (&self.settings.server_dir, self.settings.grace);
        match self.instances.look(&self.kernel, places, server_dir, grace) {
            Ok((new, failed)) => {
                failed.iter().for_each(|line| self.say(line));
                if !new.is_empty() {
                    self.follow_new(&new);
                }
            }
            Err(error) => self.say(&format!("looking for instances: {error}")),
        }
    }

    /// No instance needs it: of those that are written down there is none.
    fn is_idle(&self) -> bool {
        self.instances.users.is_empty()
    }

    /// The files are looked at when questions come, too: who has just changed one expects it to count.
    pub(super) fn look_at_files(&mut self) {
        if self.files_at.elapsed() >= FILES {
            self.read_files(false);
        }
    }

    fn read_files(&mut self, first: bool) {
        self.files_at = Instant::now();
        let mut changed = false;
        if let Some(text) = self.resolv_conf.changed(first) {
            self.resolving = Resolving::parse(&text, index_of);
            self.silent.clear();
            if !self.settings.nameservers.is_empty() {
                let servers = self.settings.nameservers.iter();
                self.resolving.servers = servers.map(|server| (*server, 53).into()).collect();
            }
            changed = true;
        }
        if let Some(text) = self.hosts_file.changed(first) {
            self.hosts = Hosts::parse(&text);
            changed = true;
        }
        if changed {
            self.follow_all();
        }
    }

    pub(super) fn new_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn watch(
        &self,
        fd: BorrowedFd<'_>,
        id: Id,
        flags: epoll::EventFlags,
    ) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(id),
            flags,
        )?)
    }

    /// For a descriptor that is watched already.
    pub(super) fn watch_again(&self, fd: BorrowedFd<'_>, id: Id, flags: epoll::EventFlags) {
        // It is watched, so the kernel knows it; what fails here ends by its time.
        epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(id), flags).unwrap_or_default();
    }

    /// A line in the log; at most one a second.
    pub(super) fn say(&mut self, line: &str) {
        if self.said.elapsed() < Duration::from_secs(1) {
            self.unsaid += 1;
            return;
        }
        self.said = Instant::now();
        let more = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            count => format!(" ({count} lines before were left out)"),
        };
        match &self.settings.log {
            // Who cannot say it has nobody to tell that.
            Some(log) => append(log, &format!("{line}{more}\n")).unwrap_or_default(),
            None => eprintln!("metactl resolver: {line}{more}"),
        }
    }
}

/// A log that is longer begins anew.
const LOG_MOST: u64 = 1 << 20;

fn append(log: &std::path::Path, line: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).mode(0o640).open(log)?;
    if file.metadata()?.len() > LOG_MOST {
        file.set_len(0)?;
    }
    let now = super::record::unix_now();
    file.write_all(format!("{now} {line}").as_bytes())
}

fn index_of(device: &str) -> Option<u32> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .ok()?;
    netdevice::name_to_index(&socket, device).ok()
}
