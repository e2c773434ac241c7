//! The applications: their datagrams and connections.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::exchange::{framed, take_framed};
use super::listen::Listener;
use super::pace;
use super::serve::{Id, Server};
use super::upstream::Who;
use crate::sys::datagram;

/// How long a silent connection is kept.
const IDLE: Duration = Duration::from_secs(10);
/// So many connections of one instance.
const CONNECTIONS_MOST: usize = 32;
/// So many questions of one connection are under way; more wait in the connection.
const PIPELINE: usize = 16;
/// So many bytes of answers wait for who does not read them; what that one asks waits in the connection, too.
const OUTPUT_MOST: usize = 64 << 10;
/// So many datagrams are read before others get their turn.
const DATAGRAMS: usize = 64;

/// A connection of an application.
pub(super) struct Connection {
    user: String,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    pending: usize,
    pub deadline: Instant,
}

impl Connection {
    /// Whether another question is taken. Those that are answered at once are never under way, so the answers count.
    fn takes_more(&self) -> bool {
        self.pending < PIPELINE && self.output.len() < OUTPUT_MOST
    }
}

impl Server {
    /// Reads datagrams of one listener.
    pub(super) fn datagrams(&mut self, listener: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..DATAGRAMS {
            let Some(Listener { udp, .. }) = self.listeners.get(listener) else {
                break;
            };
            let (length, from, device) = match datagram::receive(udp.as_fd(), &mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // An error of an earlier answer (nobody waits for it any more) is told here.
                Err(_) => continue,
            };
            let user = self.who_asks(&from.ip(), Some(device));
            if let Some(user) = user
                && self.has_room_for(&user)
            {
                let message = buffer.get(..length).unwrap_or_default().to_vec();
                self.ask(&user, &message, Who::Datagram(from));
            }
        }
        self.buffer = buffer;
    }

    /// False when the instance asks faster than anybody does who waits for answers: all of them share one queue, which
    /// has to be emptied faster than one of them fills it.
    fn has_room_for(&mut self, user: &str) -> bool {
        let instance = self.instances.by_user.get_mut(user);
        let has_room = instance.is_some_and(|one| one.pace.take(Instant::now()));
        if !has_room {
            self.say(&format!(
                "{user} asks for more than {} names a second; what is too much is left unanswered",
                pace::RATE
            ));
        }
        has_room
    }

    /// Who asks; of those that nobody knows it is looked whether they are new.
    fn who_asks(&mut self, address: &IpAddr, device: Option<u32>) -> Option<String> {
        if self.instances.asking(address, device).is_none() {
            self.look_if_due();
        }
        self.instances.asking(address, device).map(str::to_owned)
    }

    /// Takes new connections of one listener.
    pub(super) fn connections(&mut self, listener: usize) {
        while let Some(Listener { tcp, .. }) = self.listeners.get(listener)
            && let Ok((stream, from)) = tcp.accept()
        {
            // A connection is made only when what is sent to the address arrives there: by its own device.
            let Some(user) = self.who_asks(&from.ip(), None) else {
                continue;
            };
            let Some(instance) = self.instances.by_user.get(&user) else {
                continue;
            };
            if instance.connections >= CONNECTIONS_MOST || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let id = self.new_id();
            let connection = Connection {
                user,
                stream,
                input: Vec::new(),
                output: Vec::new(),
                pending: 0,
                deadline: Instant::now() + IDLE,
            };
            if self
                .watch(connection.stream.as_fd(), id, EventFlags::IN)
                .is_err()
            {
                continue;
            }
            if let Some(instance) = self.instances.by_user.get_mut(&connection.user) {
                instance.connections += 1;
            }
            self.timers.insert((connection.deadline, id));
            self.clients.insert(id, connection);
        }
    }

    /// Something came, or can be sent, on a connection.
    pub(super) fn connection_ready(&mut self, id: Id) {
        // Answers first: they make room for questions that are here already, of which nobody tells again.
        if self.write_answers(id).is_err() || self.read_questions(id).is_err() {
            return self.hang_up(id);
        }
        if let Some(client) = self.clients.get(&id) {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, client.takes_more());
            flags.set(EventFlags::OUT, !client.output.is_empty());
            self.watch_again(client.stream.as_fd(), id, flags);
        }
    }

    /// Reads what there is, and asks for what is whole; when that is much, others get their turn in between. An error is
    /// the end of the connection.
    fn read_questions(&mut self, id: Id) -> io::Result<()> {
        for _ in 0..PIPELINE {
            let Some(client) = self.clients.get_mut(&id).filter(|one| one.takes_more()) else {
                return Ok(());
            };
            if let Some(message) = take_framed(&mut client.input) {
                client.pending += 1;
                client.deadline = Instant::now() + IDLE;
                let user = client.user.clone();
                self.ask(&user, &message, Who::Connection(id));
                continue;
            }
            let mut buffer = [0; 4096];
            match client.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    client
                        .input
                        .extend_from_slice(buffer.get(..length).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.due_connections.push(id);
        Ok(())
    }

    fn write_answers(&mut self, id: Id) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Ok(());
        };
        while !client.output.is_empty() {
            match client.stream.write(&client.output) {
                Ok(length) => {
                    client.output.drain(..length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A connection was silent for too long, unless it is busy.
    pub(super) fn connection_late(&mut self, id: Id) {
        self.hang_up(id);
    }

    fn hang_up(&mut self, id: Id) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        if let Some(instance) = self.instances.by_user.get_mut(&client.user) {
            instance.connections = instance.connections.saturating_sub(1);
        }
    }

    /// Sends an answer. Who does not wait for it any more does not get it.
    pub(super) fn reply(&mut self, who: &Who, answer: &[u8]) {
        match who {
            Who::Datagram(to) => {
                let of = |one: &&Listener| one.is_v6 == to.is_ipv6();
                let Some(listener) = self.listeners.iter().find(of) else {
                    return;
                };
                let sent = listener.udp.send_to(answer, to);
                // A full queue loses answers as the network does; they ask again.
                sent.map(drop).unwrap_or_default();
            }
            Who::Connection(id) => {
                let Some(client) = self.clients.get_mut(id) else {
                    return;
                };
                client.pending = client.pending.saturating_sub(1);
                client.output.extend(framed(answer));
                self.due_connections.push(*id);
            }
        }
    }
}
