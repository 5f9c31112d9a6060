//! A fake master: the other end of a worker's channels, for tests of worker programs in-process.
//!
//! It does what a master does on the wire and nothing else: no process, no real listener, no
//! clock. What it takes from the worker it answers at once, in a thread of its own.

mod relay;

use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use socket2::SockRef;

use self::relay::Relay;
use super::connection::{Connection, Stream};
use super::in_flight::InFlight;
use super::messenger::{Letter, Nonsense, Payload};
use super::worker::Worker;
use crate::address::Address;
use crate::frame::{
    Connections, DispatchMode, FromMaster, Limits, Listen, ListenOptions, Listening, ToMaster,
    Welcome,
};
use crate::handshake::PROTOCOL;
use crate::ids::{Generation, ListenerId, Role, Slot, WorkerId};
use crate::message::{Kind, MessageId, PeerState, Sender};
use crate::scm::Wait;
use crate::scoreboard::{Score, Scoreboard};
use crate::socket::{self, Inbox, MasterChannel, QueueReceiver, QueueSender, SendError};

/// The master of one worker that lives in the same process.
///
/// The worker is the whole cluster: the messages that it sends to itself, to all workers or to
/// everyone come back to it, and for every other recipient there is nobody. What
/// [other processes](Self::peer) say to it the test says with [`deliver`](Self::deliver).
///
/// ```
/// use std::io::{Read, Write};
/// use worker_proto::{FakeMaster, Server};
///
/// let (master, worker) = FakeMaster::new();
/// let listener = worker.listen("127.0.0.1:8000")?;
/// let mut client = master.connect("127.0.0.1:8000");
/// master.drain(std::time::Duration::from_secs(1));
///
/// let served = Server::new().serve([listener], |mut connection| {
///     connection.write_all(b"hello").unwrap();
/// })?;
/// assert_eq!(served.connections, 1);
///
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FakeMaster {
    desk: Arc<Desk>,
    frames: Receiver<ToMaster>,
    clerk: Option<JoinHandle<()>>,
}

/// What the test's thread and the answering thread share.
#[derive(Debug)]
struct Desk {
    channel: MasterChannel,
    welcome: Welcome,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    next_listener: u32,
    queues: Vec<Queue>,
    /// From which the worker is to accept itself, by what it asks for.
    lent: BTreeMap<String, OwnedFd>,
    /// `None` for an agent, which has no page.
    scoreboard: Option<Scoreboard>,
    relay: Relay,
    peer_state: PeerState,
    watches_peers: bool,
    last_message: u64,
    values: BTreeMap<String, Pushed>,
    /// What the worker leads, and what it follows, each with its term.
    led: BTreeMap<String, Led>,
    /// How many connections are in the queues or were received.
    handed_off: u64,
}

/// A value, and whether the worker wants to know of it.
#[derive(Debug, Default)]
struct Pushed {
    version: u64,
    payload: Option<Payload>,
    is_watched: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Led {
    term: u64,
    leader: Option<WorkerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    AtOnce,
    ByHand,
}

/// The master's half of an accept queue.
#[derive(Debug)]
struct Queue {
    target: String,
    listener: ListenerId,
    options: ListenOptions,
    sender: QueueSender,
    /// A copy of the worker's end, with which unread connections can be taken back.
    receiver: QueueReceiver,
    sequence: u64,
}

impl FakeMaster {
    /// A master that has nothing declared, and its worker: slot 0 of 1.
    ///
    /// # Panics
    /// When the system has no descriptors or threads left.
    #[must_use]
    pub fn new() -> (FakeMaster, Worker) {
        Self::with(Self::welcome())
    }

    /// What [`new`](Self::new) welcomes its worker with: change it and pass it to
    /// [`with`](Self::with), for an agent or for declared listeners.
    #[must_use]
    pub fn welcome() -> Welcome {
        Welcome {
            protocol: PROTOCOL,
            worker: WorkerId(1),
            slot: Slot(0),
            generation: Generation(1),
            role: Role::Worker,
            count: 1,
            listeners: Vec::new(),
            limits: Limits {
                orphan_grace: Duration::from_millis(500),
                max_message_bytes: 64 << 20,
            },
        }
    }

    /// A master that says `welcome`, and the worker that it welcomed.
    ///
    /// # Panics
    /// When the system has no descriptors or threads left.
    #[must_use]
    pub fn with(welcome: Welcome) -> (FakeMaster, Worker) {
        let (ours, theirs) = socket::pair().expect("socketpair(2)");
        let (scoreboard, page) = match welcome.role {
            Role::Worker => Some(Scoreboard::create().expect("memfd_create(2)")),
            Role::Agent => None,
        }
        .unzip();
        let desk = Arc::new(Desk {
            channel: ours,
            welcome: welcome.clone(),
            state: Mutex::new(State {
                manner: Manner::AtOnce,
                next_listener: 0,
                queues: Vec::new(),
                lent: BTreeMap::new(),
                scoreboard,
                relay: Relay::for_who_is_welcome(&welcome),
                peer_state: PeerState::Starting,
                watches_peers: false,
                last_message: 0,
                values: BTreeMap::new(),
                led: BTreeMap::new(),
                handed_off: 0,
            }),
        });
        let (tell, frames) = bounded(FRAMES);
        let clerk = {
            let desk = Arc::clone(&desk);
            thread::Builder::new()
                .name("rr-fake-master".to_owned())
                .spawn(move || desk.work(&tell))
                .expect("start a thread")
        };
        let master = FakeMaster {
            desk,
            frames,
            clerk: Some(clerk),
        };
        let page: Vec<BorrowedFd<'_>> = page.iter().map(AsFd::as_fd).collect();
        let answer = FromMaster::Welcome(welcome);
        let welcomed = master.desk.channel.send(&answer, &page, Wait::Never);
        welcomed.expect("an empty channel has room");
        let worker = Worker::over(theirs).expect("it is welcome");
        assert!(
            matches!(master.next_frame(), ToMaster::Hello(_)),
            "Hello is the first frame"
        );
        (master, worker)
    }

    /// From now on a worker that listens on `target` accepts itself, from this socket, as with
    /// `--dispatch shared`. What is [handed off](Self::hand_off) comes to it as well.
    ///
    /// ```
    /// use std::io::Read;
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let (master, worker) = worker_proto::FakeMaster::new();
    /// let socket = TcpListener::bind("127.0.0.1:0")?;
    /// let address = socket.local_addr()?;
    /// master.lend("web", socket.into());
    /// let listener = worker.listen("web")?;
    /// let client = TcpStream::connect(address)?;
    /// let connection = listener.accept()?.expect("nobody has asked the worker to finish");
    /// assert_eq!(connection.peer().inet(), Some(client.local_addr()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lend(&self, target: &str, socket: OwnedFd) {
        self.desk.state().lent.insert(target.to_owned(), socket);
    }

    /// A new client of the listener that the worker calls `target`: its end of the connection.
    ///
    /// # Panics
    /// When the worker does not listen there, or does not receive what it gets.
    #[must_use]
    pub fn connect(&self, target: &str) -> UnixStream {
        let (client, server) = UnixStream::pair().expect("socketpair(2)");
        let nonblocking = self.desk.state().queue(target).options.nonblocking;
        server.set_nonblocking(nonblocking).expect("ioctl(2)");
        let connection = Connection::new(Stream::Unix(server), Address::Unnamed);
        self.hand_off(target, vec![connection])
            .expect("the worker receives");
        client
    }

    /// Hands connections over, all in one packet.
    ///
    /// # Errors
    /// See [`SendError`]; `Full` when the worker does not receive.
    ///
    /// # Panics
    /// When the worker does not listen there.
    pub fn hand_off(&self, target: &str, connections: Vec<Connection>) -> Result<(), SendError> {
        let mut state = self.desk.state();
        let queue = state.queue(target);
        let frame = Connections {
            sequence: queue.sequence,
            peers: connections.iter().map(|one| one.peer().clone()).collect(),
            padding: Vec::new(),
        };
        let descriptors: Vec<BorrowedFd<'_>> = connections.iter().map(AsFd::as_fd).collect();
        queue.sender.send(&frame, &descriptors, Wait::Never)?;
        queue.sequence += 1;
        state.handed_off += connections.len() as u64;
        Ok(())
    }

    /// A packet that need not make sense.
    #[cfg(test)]
    pub(crate) fn hand_off_raw(
        &self,
        target: &str,
        peers: Vec<Address>,
        descriptors: &[BorrowedFd<'_>],
    ) {
        let frame = Connections {
            sequence: 0,
            peers,
            padding: Vec::new(),
        };
        let mut state = self.desk.state();
        let queue = state.queue(target);
        queue.sender.send(&frame, descriptors, Wait::Never).unwrap();
        state.handed_off += descriptors.len() as u64;
    }

    /// Takes back what was handed over and not yet received by the worker.
    ///
    /// # Panics
    /// When the worker does not listen there.
    #[must_use]
    pub fn reclaim(&self, target: &str) -> Vec<Connection> {
        let mut state = self.desk.state();
        let queue = state.queue(target);
        let mut inbox = Inbox::new();
        let mut reclaimed = Vec::new();
        while let Ok(packet) = queue.receiver.receive(&mut inbox, Wait::Never) {
            let descriptors = inbox.descriptors.drain(..);
            let connections = descriptors.zip(packet.frame.peers);
            reclaimed.extend(
                connections.map(|(fd, peer)| Connection::accepted(fd, peer, InFlight::uncounted())),
            );
        }
        state.handed_off -= reclaimed.len() as u64;
        reclaimed
    }

    /// What the worker says on its scoreboard, for instance how many connections it has
    /// [open](Score::open). `None` for an agent, which gets no scoreboard.
    ///
    /// # Panics
    /// When it says what cannot be.
    #[must_use]
    pub fn score(&self) -> Option<Score> {
        let mut state = self.desk.state();
        // Of what it accepts itself nobody knows.
        let handed_off = match state.lent.is_empty() {
            true => state.handed_off,
            false => u64::MAX,
        };
        let reading = state.scoreboard.as_mut()?.read(handed_off);
        if let Some(nonsense) = reading.nonsense {
            panic!("the worker's scoreboard makes no sense: {nonsense}");
        }
        reading.score
    }

    /// Asks the worker to say `Relieved` after the next connection that it finishes.
    pub fn ask_for_relief(&self) {
        if let Some(scoreboard) = &self.desk.state().scoreboard {
            scoreboard.ask_for_relief();
        }
    }

    /// Asks the worker to finish: nothing more comes after what is already handed over.
    pub fn drain(&self, within: Duration) {
        self.desk.drain(within);
    }

    /// Says that the whole cluster is ready.
    pub fn cluster_ready(&self) {
        self.send(FromMaster::ClusterReady);
    }

    /// Another process of the cluster, as the sender of a message to the worker: a worker in the slot
    /// of the same number.
    #[must_use]
    pub fn peer(worker: u32) -> Sender {
        Sender::Process {
            worker: WorkerId(u64::from(worker)),
            slot: Slot(worker),
            generation: Generation(1),
            role: Role::Worker,
            pid: u32::MAX - worker,
        }
    }

    /// Has the worker get a message, or a request, from somebody else. What it replies is among its
    /// [frames](Self::next_frame).
    pub fn deliver(
        &self,
        from: Sender,
        kind: Kind,
        action: &str,
        payload: impl Into<Payload>,
    ) -> MessageId {
        let mut state = self.desk.state();
        state.last_message += 1;
        let message = MessageId(state.last_message);
        let letter = Letter::new(from, message, kind, action.to_owned(), payload.into());
        state.relay.carry(letter, &self.desk.channel);
        message
    }

    /// Gives the worker a new version of a value, now or when it asks for it.
    pub fn push(&self, key: &str, payload: impl Into<Payload>) {
        let mut state = self.desk.state();
        let value = state.values.entry(key.to_owned()).or_default();
        value.version += 1;
        value.payload = Some(payload.into());
        if value.is_watched {
            state.carry_value(key, &self.desk.channel);
        }
    }

    /// Has somebody else lead what the worker has to do with, or nobody.
    pub fn elect(&self, name: &str, leader: Option<WorkerId>) {
        self.desk.elect(name, leader);
    }

    /// Sends any frame that carries no descriptor.
    pub fn send(&self, frame: FromMaster) {
        // A worker that has left hears nothing.
        _ = self.desk.channel.send(&frame, &[], Wait::AsSet);
    }

    /// The next frame of the worker, `Hello` excepted.
    ///
    /// # Panics
    /// When none comes within 5 s.
    #[must_use]
    pub fn next_frame(&self) -> ToMaster {
        self.frames
            .recv_timeout(PATIENCE)
            .expect("a frame of the worker")
    }

    /// From now on questions are answered only by [`answer`](Self::answer).
    pub fn answer_by_hand(&self) {
        self.desk.state().manner = Manner::ByHand;
    }

    /// Answers a frame as a master does.
    pub fn answer(&self, frame: &ToMaster) {
        self.desk.answer(frame);
    }

    /// Is gone, as after SIGKILL: every channel ends.
    pub fn die(self) {
        drop(self);
    }
}

impl Drop for FakeMaster {
    fn drop(&mut self) {
        _ = self.desk.channel.shutdown(Shutdown::Both);
        if let Some(clerk) = self.clerk.take() {
            _ = clerk.join();
        }
        self.desk.state().relay.end();
        self.desk.state().queues.clear();
    }
}

impl Desk {
    fn work(&self, tell: &crossbeam_channel::Sender<ToMaster>) {
        let mut inbox = Inbox::new();
        while let Ok(received) = self.channel.receive(&mut inbox, Wait::AsSet) {
            let frame = received.frame;
            if let ToMaster::Taken { bytes } = frame {
                self.state().relay.taken(bytes);
            }
            let manner = self.state().manner;
            if manner == Manner::AtOnce {
                self.answer(&frame);
            }
            // Full or not, the worker must not wait for the test.
            _ = tell.try_send(frame);
        }
        // The worker has closed its end, and waits for nothing.
        self.state().queues.clear();
    }

    fn answer(&self, frame: &ToMaster) {
        match frame {
            ToMaster::Listen(listen) => self.listen(listen),
            ToMaster::Unlisten { listener } => {
                self.state()
                    .queues
                    .retain(|queue| queue.listener != *listener);
                self.reply(&FromMaster::Unlistened {
                    listener: *listener,
                });
            }
            ToMaster::RegisterJob(spec) => self.reply(&FromMaster::JobRegistered {
                name: spec.name.clone(),
                problem: None,
            }),
            ToMaster::Goodbye => self.reply(&FromMaster::Farewell),
            // What it has not received stays in its queues, for `reclaim`.
            ToMaster::Retiring { .. } => self.drain(RETIRING_WITHIN),
            ToMaster::ReopenLogs => self.reply(&FromMaster::ReopenLogs),
            ToMaster::Send(send) => {
                let receipt = self.state().relay.send(send, &self.channel);
                self.give(receipt);
            }
            ToMaster::SendMore(more) => {
                let receipt = self.state().relay.more(more, &self.channel);
                self.give(receipt);
            }
            ToMaster::WatchPeers => {
                self.state().watches_peers = true;
                self.tell_peers();
            }
            ToMaster::Ready => self.change(PeerState::Ready),
            ToMaster::Lead { name } => self.elect(name, Some(self.welcome.worker)),
            ToMaster::Resign { name } => self.elect(name, None),
            ToMaster::Follow { name } => {
                let led = self.state().led.get(name).copied().unwrap_or_default();
                self.tell_leader(name, led);
            }
            ToMaster::Watch { key } => {
                let mut state = self.state();
                let value = state.values.entry(key.clone()).or_default();
                value.is_watched = true;
                match value.payload {
                    Some(_) => state.carry_value(key, &self.channel),
                    None => self.reply(&FromMaster::NoValue { key: key.clone() }),
                }
            }
            ToMaster::Hello(_)
            | ToMaster::Pong { .. }
            | ToMaster::NoRoom { .. }
            | ToMaster::Relieved
            | ToMaster::Report { .. }
            | ToMaster::Taken { .. }
            | ToMaster::Adopted { .. }
            | ToMaster::UnregisterJob { .. }
            | ToMaster::JobDone { .. }
            | ToMaster::Weight { .. }
            // Not said by programs that use the SDK.
            | ToMaster::Attach(_)
            | ToMaster::Inherit { .. } => {}
        }
    }

    fn drain(&self, within: Duration) {
        for queue in &self.state().queues {
            // Fails only when the worker has shut its end: then it has the end already.
            _ = queue.sender.shutdown(Shutdown::Write);
        }
        self.change(PeerState::Draining);
        self.reply(&FromMaster::Drain { within });
    }

    fn elect(&self, name: &str, leader: Option<WorkerId>) {
        let mut state = self.state();
        let led = state.led.entry(name.to_owned()).or_default();
        if led.leader != leader {
            (led.term, led.leader) = (led.term + 1, leader);
        }
        let led = *led;
        self.tell_leader(name, led);
    }

    fn tell_leader(&self, name: &str, Led { term, leader }: Led) {
        let name = name.to_owned();
        self.reply(&FromMaster::Leader { name, term, leader });
    }

    fn give(&self, receipt: Result<Option<FromMaster>, Nonsense>) {
        match receipt {
            Ok(Some(receipt)) => self.reply(&receipt),
            Ok(None) => {}
            Err(nonsense) => panic!("the worker's messages make no sense: {nonsense}"),
        }
    }

    fn change(&self, peer_state: PeerState) {
        self.state().peer_state = peer_state;
        self.tell_peers();
    }

    fn tell_peers(&self) {
        let state = self.state();
        if state.watches_peers {
            let own = state.relay.peer(state.peer_state);
            self.reply(&FromMaster::Peers(vec![own]));
        }
    }

    fn listen(&self, listen: &Listen) {
        let declared = self.welcome.listeners.iter();
        let known = declared
            .filter(|declared| declared.name == listen.target)
            .map(|declared| declared.address.clone())
            .next();
        let refused = |errno, reason: String| FromMaster::NotListening {
            request: listen.request,
            errno,
            reason,
        };
        let mut state = self.state();
        let lent = state.lent.get(&listen.target);
        let lent = lent.and_then(|socket| socket.try_clone().ok());
        let own = lent.as_ref().and_then(|socket| {
            let name = SockRef::from(socket).local_addr().ok()?;
            Some(Address::from(&name))
        });
        let known = known.or(own);
        let address = match known.map_or_else(|| listen.target.parse(), Ok) {
            Ok(address) => address,
            Err(err) => return self.reply(&refused(libc::EADDRNOTAVAIL, err.to_string())),
        };
        if state.queues.iter().any(|one| one.target == listen.target) {
            let reason = format!("this worker listens on {} already", listen.target);
            return self.reply(&refused(libc::EADDRINUSE, reason));
        }
        let (queue, receiver) = match Queue::new(listen, ListenerId(state.next_listener)) {
            Ok(made) => made,
            Err(err) => {
                let errno = err.raw_os_error().unwrap_or(libc::EIO);
                return self.reply(&refused(errno, err.to_string()));
            }
        };
        let listening = FromMaster::Listening(Listening {
            request: listen.request,
            listener: queue.listener,
            name: listen.target.clone(),
            address,
            mode: match lent {
                None => DispatchMode::HandOff,
                Some(_) => DispatchMode::Shared,
            },
        });
        state.next_listener += 1;
        state.queues.push(queue);
        let lent = lent.as_ref().map(AsFd::as_fd);
        let descriptors: Vec<_> = lent.into_iter().chain([receiver.as_fd()]).collect();
        _ = self.channel.send(&listening, &descriptors, Wait::AsSet);
    }

    fn reply(&self, frame: &FromMaster) {
        _ = self.channel.send(frame, &[], Wait::AsSet);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn carry_value(&mut self, key: &str, channel: &MasterChannel) {
        let Some(Pushed {
            version,
            payload: Some(payload),
            ..
        }) = self.values.get(key)
        else {
            return;
        };
        let kind = Kind::Value { version: *version };
        let letter = Letter::new(
            Sender::Master,
            MessageId(0),
            kind,
            key.to_owned(),
            payload.clone(),
        );
        self.relay.carry(letter, channel);
    }

    fn queue(&mut self, target: &str) -> &mut Queue {
        let found = self.queues.iter_mut().find(|one| one.target == target);
        found.unwrap_or_else(|| panic!("the worker does not listen on {target}"))
    }
}

impl Queue {
    /// The queue, and the worker's end of it.
    fn new(listen: &Listen, listener: ListenerId) -> io::Result<(Self, QueueReceiver)> {
        let (sender, receiver) = socket::pair()?;
        let copy = receiver.try_clone()?;
        // The worker must not be able to send anything back.
        receiver.shutdown(Shutdown::Write)?;
        let queue = Queue {
            target: listen.target.clone(),
            listener,
            options: listen.options,
            sender,
            receiver: copy,
            sequence: 0,
        };
        Ok((queue, receiver))
    }
}

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a worker that retires is given.
const RETIRING_WITHIN: Duration = Duration::from_secs(30);

/// How many frames wait for a test that does not look; later ones are dropped.
const FRAMES: usize = 1024;
