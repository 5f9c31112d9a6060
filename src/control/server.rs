//! The master's side of the control socket: whom it lets in, what they ask, what they are told.
//!
//! Nobody at the other end can keep the loop or make it grow. There are at most [`MOST_CLIENTS`]; a
//! request is at most [`LONGEST_LINE`](super::protocol::LONGEST_LINE) long; a turn reads one
//! request of each, and none from a client that has not read its answers. Events that it does not read
//! are left out and counted, and who reads nothing at all for [`PATIENCE`] is disconnected.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;
use worker_proto::scm::{self, Wait};

use super::event::ClusterEvent;
use super::protocol::{
    self, BadRequest, Fault, Hello, LONGEST_LINE, PROTOCOL, Reply, Request, Said,
};
use crate::sys::door::{Door, Peer};

/// One operator; counted from 0, never reused while the master lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// The control socket and everybody who is connected to it.
#[derive(Debug)]
pub(crate) struct Server {
    door: Door,
    clients: BTreeMap<ClientId, Client>,
    next: ClientId,
    /// Somebody may wait at the door without a new event to say so: when to look.
    look_again: Option<Instant>,
    /// What was sent along by mistake or malice: closing it may take long, so that is not for here.
    unwanted: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Client {
    socket: Socket,
    peer: Peer,
    /// Readiness is reported once per change (`epoll(7)`), here and below.
    is_readable: bool,
    is_writable: bool,
    inbound: Vec<u8>,
    /// Up to here `inbound` has no end of line.
    searched: usize,
    outbound: VecDeque<u8>,
    /// Since when it has read nothing of what there is for it.
    unread_since: Option<Instant>,
    /// It follows the events, each answered with this id.
    follows: Option<u64>,
    /// Events that were left out since the last one that was not.
    lost: u64,
    /// How many requests have no answer yet.
    unanswered: usize,
    /// When it was let in, or last asked for something.
    heard_at: Instant,
    /// It gets what is queued for it, and then the end.
    leaving: Option<Over>,
}

/// What an operator says.
#[derive(Debug)]
pub(crate) enum Heard {
    Request(Request),
    Bad(BadRequest),
}

/// Why a client is not there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Left,
    Failed,
    /// Somebody else wanted to come in, and it wanted nothing.
    MadeRoom,
    /// It did something that nobody does by accident.
    Misbehaved(&'static str),
}

impl Server {
    /// Binds the socket and watches it under this token.
    pub(crate) fn open(path: &Path, registry: &Registry, token: Token) -> io::Result<Self> {
        let door = Door::open(path)?;
        let fd = door.socket().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(Server {
            door,
            clients: BTreeMap::new(),
            next: ClientId(0),
            look_again: None,
            unwanted: Vec::new(),
        })
    }

    /// Lets in whoever waits at the door and may come in, a few at a time.
    pub(crate) fn let_in(
        &mut self,
        now: Instant,
        registry: &Registry,
        token: impl Fn(ClientId) -> Token,
        version: &str,
    ) {
        self.look_again = Some(now);
        for _ in 0..MOST_CLIENTS {
            match self.door.accept() {
                Ok(Some(socket)) => self.admit(now, socket, registry, &token, version),
                Ok(None) => {
                    self.look_again = None;
                    return;
                }
                // Out of descriptors or memory: trying again at once would spin.
                Err(err) => {
                    log::warn!("control socket: accept: {err}, tried again in {RETRY_AFTER:?}");
                    self.look_again = Some(now + RETRY_AFTER);
                    return;
                }
            }
        }
    }

    /// Whether somebody may wait at the door since a moment that has come.
    pub(crate) fn is_to_be_looked_at(&self, now: Instant) -> bool {
        self.look_again.is_some_and(|at| at <= now)
    }

    fn admit(
        &mut self,
        now: Instant,
        socket: Socket,
        registry: &Registry,
        token: impl Fn(ClientId) -> Token,
        version: &str,
    ) {
        let peer = match Peer::of(&socket) {
            Ok(peer) => peer,
            Err(err) => return log::warn!("control socket: ask who connects: {err}"),
        };
        if !peer.may_command() {
            log::warn!("control: uid {} pid {} is turned away", peer.uid, peer.pid);
            let message = format!(
                "uid {} may not command this master: use its own user, or root",
                peer.uid
            );
            return turn_away(&socket, "forbidden", message);
        }
        if self.clients.len() >= MOST_CLIENTS
            && let Some(idle) = self.longest_idle(now)
        {
            self.part(idle, Over::MadeRoom, registry);
        }
        if self.clients.len() >= MOST_CLIENTS {
            log::debug!("control: uid {} pid {}: too many", peer.uid, peer.pid);
            let message =
                format!("{MOST_CLIENTS} operators are connected already: try again later");
            return turn_away(&socket, "busy", message);
        }
        let client = self.next;
        let both = Interest::READABLE | Interest::WRITABLE;
        let fd = socket.as_raw_fd();
        if let Err(err) = registry.register(&mut SourceFd(&fd), token(client), both) {
            return log::warn!("control socket: watch a client: {err}");
        }
        self.next.0 += 1;
        self.clients.insert(client, Client::new(socket, peer, now));
        let hello = Hello {
            protocol: PROTOCOL,
            version: version.to_owned(),
            pid: std::process::id(),
        };
        self.tell(client, None, Said::Hello(hello));
    }

    /// Who wants nothing, and has wanted nothing for longest.
    fn longest_idle(&self, now: Instant) -> Option<ClientId> {
        let idle = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_idle(now));
        idle.min_by_key(|(_, client)| client.heard_at)
            .map(|(id, _)| *id)
    }

    /// The client has said something, or can be told something.
    pub(crate) fn note_ready(&mut self, client: ClientId) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_readable = true;
            client.is_writable = true;
        }
    }

    /// Sends and reads what can be, and sees off who is gone, or reads nothing.
    pub(crate) fn turn(&mut self, now: Instant, registry: &Registry) -> Vec<(ClientId, Heard)> {
        let mut heard = Vec::new();
        let mut over = Vec::new();
        for (&id, client) in &mut self.clients {
            let lines = &mut heard;
            let turn = client.turn(now, &mut self.unwanted, |line| lines.push((id, line)));
            if let Err(why) = turn {
                over.push((id, why));
            }
        }
        for (id, why) in over {
            self.part(id, why, registry);
        }
        heard
    }

    /// Sends what can be sent at once.
    pub(crate) fn flush(&mut self, now: Instant, registry: &Registry) {
        let clients = self.clients.iter_mut();
        let over: Vec<_> = clients
            .filter_map(|(&id, client)| Some((id, client.flush(now).err()?)))
            .collect();
        for (id, why) in over {
            self.part(id, why, registry);
        }
    }

    /// Queues a line for the client. It is sent with the next [`flush`](Self::flush).
    pub(crate) fn tell(&mut self, client: ClientId, id: Option<u64>, said: Said) {
        if let Some(client) = self.clients.get_mut(&client) {
            if matches!(said, Said::Ok(_) | Said::Error(_)) {
                client.unanswered = client.unanswered.saturating_sub(1);
            }
            client.outbound.extend(Reply { id, said }.to_line());
        }
    }

    /// As [`tell`](Self::tell), for what may be left out if the client does not read.
    pub(crate) fn tell_progress(&mut self, client: ClientId, id: u64, event: &ClusterEvent) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.tell_event(id, Said::Progress(event.clone()));
        }
    }

    /// Tells everybody who follows the events.
    pub(crate) fn publish(&mut self, event: &ClusterEvent) {
        for client in self.clients.values_mut() {
            if let Some(id) = client.follows {
                client.tell_event(id, Said::Event(event.clone()));
            }
        }
    }

    /// From now on the client is told of every event.
    pub(crate) fn follow(&mut self, client: ClientId, id: u64) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.follows = Some(id);
        }
    }

    /// Whether the client is still there.
    pub(crate) fn has(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    /// Who it is, for the log.
    pub(crate) fn peer(&self, client: ClientId) -> Option<Peer> {
        self.clients.get(&client).map(|client| client.peer)
    }

    /// What clients sent along, for somebody who may take his time to close it.
    pub(crate) fn take_unwanted(&mut self) -> Vec<OwnedFd> {
        mem::take(&mut self.unwanted)
    }

    /// Whether a turn would read something at once.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.clients.values().any(Client::can_go_on)
    }

    /// When the next client has read nothing for too long, or the door is to be looked at.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let unread = self.clients.values().filter_map(|it| it.unread_since);
        let patience = unread.map(|since| since + PATIENCE);
        patience.chain(self.look_again).min()
    }

    fn part(&mut self, id: ClientId, why: Over, registry: &Registry) {
        let Some(client) = self.clients.remove(&id) else {
            return;
        };
        let _ = registry.deregister(&mut SourceFd(&client.socket.as_raw_fd()));
        let Peer { uid, pid } = client.peer;
        match why {
            Over::Left | Over::Failed => log::debug!("control: uid {uid} pid {pid} has left"),
            Over::MadeRoom => log::debug!("control: uid {uid} pid {pid} makes room"),
            Over::Misbehaved(what) => {
                log::warn!("control: uid {uid} pid {pid} {what}: disconnected");
            }
        }
    }
}

impl Client {
    fn new(socket: Socket, peer: Peer, now: Instant) -> Self {
        Client {
            socket,
            peer,
            is_readable: true,
            is_writable: true,
            inbound: Vec::new(),
            searched: 0,
            outbound: VecDeque::new(),
            unread_since: None,
            follows: None,
            lost: 0,
            unanswered: 0,
            heard_at: now,
            leaving: None,
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.heard_at);
        self.unanswered == 0 && self.follows.is_none() && quiet >= IDLE_AFTER
    }

    fn turn(
        &mut self,
        now: Instant,
        unwanted: &mut Vec<OwnedFd>,
        mut hear: impl FnMut(Heard),
    ) -> Result<(), Over> {
        self.flush(now)?;
        for _ in 0..STEPS_PER_TURN {
            if self.leaving.is_some() || self.is_deaf() {
                break;
            }
            match self.next_line() {
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(line) => {
                    self.unanswered += 1;
                    self.heard_at = now;
                    hear(match protocol::decode(&line) {
                        Ok(request) => Heard::Request(request),
                        Err(bad) => Heard::Bad(bad),
                    });
                    // Its answer may be long: what else the loop has to do comes before the next one.
                    break;
                }
                None if self.inbound.len() > LONGEST_LINE => {
                    let message = format!(
                        "a request is at most {LONGEST_LINE} bytes long: push what is longer as a value"
                    );
                    let said = fault("bad-request", message);
                    self.outbound.extend(Reply { id: None, said }.to_line());
                    self.leaving = Some(Over::Misbehaved("sent a line without an end"));
                    self.flush(now)?;
                }
                None if self.is_readable => self.read(unwanted)?,
                None => break,
            }
        }
        Ok(())
    }

    /// The next whole line, without its end.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let new = &self.inbound[self.searched..];
        let Some(end) = new.iter().position(|&byte| byte == b'\n') else {
            self.searched = self.inbound.len();
            return None;
        };
        let rest = self.inbound.split_off(self.searched + end + 1);
        let mut line = mem::replace(&mut self.inbound, rest);
        self.searched = 0;
        line.pop();
        Some(line)
    }

    fn read(&mut self, unwanted: &mut Vec<OwnedFd>) -> Result<(), Over> {
        let mut chunk = [0; CHUNK];
        let before = unwanted.len();
        let received = scm::receive(self.socket.as_fd(), &mut chunk, unwanted, Wait::Never);
        match received {
            Ok(packet) if unwanted.len() > before || packet.descriptors_lost => {
                Err(Over::Misbehaved("sent descriptors"))
            }
            // It may have closed one direction only, and want its answers: `nc -N`.
            Ok(packet) if packet.len == 0 => {
                self.leaving = Some(Over::Left);
                Ok(())
            }
            Ok(packet) => {
                self.inbound.extend(&chunk[..packet.len]);
                Ok(())
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
                Ok(())
            }
            Err(_) => Err(Over::Failed),
        }
    }

    fn flush(&mut self, now: Instant) -> Result<(), Over> {
        while !self.outbound.is_empty() {
            if !self.is_writable {
                let since = *self.unread_since.get_or_insert(now);
                return match now.saturating_duration_since(since) >= PATIENCE {
                    true => Err(Over::Misbehaved("reads nothing")),
                    false => Ok(()),
                };
            }
            let (front, _) = self.outbound.as_slices();
            match self.socket.send_with_flags(front, libc::MSG_NOSIGNAL) {
                Ok(sent) => {
                    self.outbound.drain(..sent);
                    self.unread_since = None;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over::Failed),
            }
        }
        // Give back what one long answer took.
        self.outbound.shrink_to(CHUNK);
        match self.leaving {
            None => Ok(()),
            Some(Over::Left) if self.awaits_something() && !self.has_hung_up() => Ok(()),
            Some(why) => Err(why),
        }
    }

    fn awaits_something(&self) -> bool {
        self.unanswered > 0 || self.follows.is_some()
    }

    /// Whether it has closed both directions. Sending nothing is refused then, `unix_stream_sendmsg` in
    /// net/unix/af_unix.c.
    fn has_hung_up(&self) -> bool {
        self.socket
            .send_with_flags(&[], libc::MSG_NOSIGNAL)
            .is_err_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
    }

    fn tell_event(&mut self, id: u64, said: Said) {
        if self.outbound.len() >= UNREAD_EVENTS {
            self.lost += 1;
            return;
        }
        let id = Some(id);
        if self.lost > 0 {
            let said = Said::Lost(mem::take(&mut self.lost));
            self.outbound.extend(Reply { id, said }.to_line());
        }
        self.outbound.extend(Reply { id, said }.to_line());
    }

    /// It has not read its answers: what it asks has to wait.
    fn is_deaf(&self) -> bool {
        self.outbound.len() >= CHUNK
    }

    fn can_go_on(&self) -> bool {
        let has_line = || self.inbound[self.searched..].contains(&b'\n');
        self.leaving.is_none() && !self.is_deaf() && (self.is_readable || has_line())
    }
}

/// One line, as far as it fits: nobody waits for a stranger.
fn turn_away(socket: &Socket, kind: &str, message: String) {
    let said = fault(kind, message);
    let line = Reply { id: None, said }.to_line();
    let _ = socket.send_with_flags(&line, libc::MSG_NOSIGNAL);
}

/// An error as it is told.
pub(crate) fn fault(kind: &str, message: String) -> Said {
    let kind = kind.to_owned();
    Said::Error(Fault { kind, message })
}

/// How many operators may be connected at a time.
pub(crate) const MOST_CLIENTS: usize = 16;

/// How often a turn reads from a client, or finds an empty line, on the way to its next request.
const STEPS_PER_TURN: usize = 8;

/// Who has asked for nothing for so long makes room when there are too many.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// How long a client may read nothing of what there is for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long the door rests when descriptors or memory have run out.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many bytes may wait for a client before events are left out.
const UNREAD_EVENTS: usize = 256 * 1024;

/// What is read at a time, and how much may wait for a client before its requests have to wait.
const CHUNK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_turn_hears_one_request_of_each() {
        #[expect(clippy::disallowed_methods, reason = "there is no loop")]
        let now = Instant::now();
        let poll = mio::Poll::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("door.sock");
        let mut server = Server::open(&path, poll.registry(), Token(0)).unwrap();
        let requests = b"{\"id\":1,\"command\":\"events\"}\n".repeat(20);
        let mut operators: Vec<_> = (0..2)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        for operator in &mut operators {
            operator.write_all(&requests).unwrap();
        }
        server.let_in(now, poll.registry(), |_| Token(1), "0.1.0");
        for _ in 0..20 {
            let heard = server.turn(now, poll.registry());
            let whom: Vec<_> = heard.iter().map(|(client, _)| *client).collect();
            assert_eq!(whom, [ClientId(0), ClientId(1)]);
        }
        assert!(server.turn(now, poll.registry()).is_empty());
        assert!(!server.is_unfinished());
    }
}
