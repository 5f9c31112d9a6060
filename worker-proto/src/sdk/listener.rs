//! A listener: where connections come from, whichever way they come.
//!
//! The accept queue's descriptor is shared with the master, so it stays blocking and is closed
//! only after the master has closed its copy: epoll would go on reporting it otherwise.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::resource::{Resource, getrlimit};

use super::connection::Connection;
use super::control::{self, Control, Sockets};
use super::draining::Draining;
use super::in_flight::InFlight;
use super::inherit;
use super::lent::{IdleWakeups, LentSocket, Waking};
use super::proxy::{Greeting, Porch, ProxyProtocol, Ways};
use super::standalone::OwnSocket;
use super::wait;
use crate::address::{Address, AddressError};
use crate::frame::{DispatchMode, Listening, MAX_CONNECTIONS_BYTES, ToMaster};
use crate::ids::ListenerId;
use crate::scm::Wait;
use crate::socket::{Inbox, QueueReceiver, ReceiveError, SendError, Violation};

/// Where connections come from.
///
/// Dropping it gives it back to the master, which serves what still waits there elsewhere.
/// A program with a poll loop of its own asks for a non-blocking one, waits for the descriptor to
/// become readable, accepts until `WouldBlock`, and deregisters the descriptor before it drops
/// the listener.
pub struct Listener {
    name: String,
    address: Address,
    source: Source,
    porch: Option<Porch>,
}

enum Source {
    Queue(AcceptQueue),
    Lent(LentSocket),
    Socket(OwnSocket),
}

impl Listener {
    pub(crate) fn granted(
        (listening, sockets): (Listening, Sockets),
        nonblocking: bool,
        control: Arc<Control>,
        draining: Draining,
    ) -> io::Result<Self> {
        let scorekeeper = control.scorekeeper().clone();
        let wait = if nonblocking || sockets.lent.is_some() {
            Wait::Never
        } else {
            Wait::AsSet
        };
        let queue = sockets.queue.into();
        let queue = AcceptQueue::new(listening.listener, queue, wait, control);
        let source = match sockets.lent {
            None => Source::Queue(queue),
            Some(socket) => {
                let waking = match listening.mode {
                    DispatchMode::HandOff | DispatchMode::Shared => inherit::waking(),
                    // Nobody else waits at this one.
                    DispatchMode::ReusePort => Waking::All,
                };
                let us = (draining, scorekeeper);
                let how = (nonblocking, waking);
                Source::Lent(LentSocket::new(socket, queue, us, how)?)
            }
        };
        Ok(Listener {
            name: listening.name,
            address: listening.address,
            source,
            porch: None,
        })
    }

    pub(crate) fn over_socket(name: &str, socket: OwnSocket) -> io::Result<Self> {
        Ok(Listener {
            name: name.to_owned(),
            address: socket.address()?,
            source: Source::Socket(socket),
            porch: None,
        })
    }

    /// The same listener behind a load balancer that speaks the PROXY protocol: a connection is
    /// given to the program when its header is whole, and its [`peer`](Connection::peer) is then
    /// the client that the balancer names. Every other connection is closed. What follows the header is the
    /// program's, to the byte.
    ///
    /// A connection that says nothing keeps no other one waiting; in a [`Server`](super::Server) it
    /// occupies its own thread. From now on the descriptor is another one, so call this before it is
    /// registered anywhere.
    ///
    /// ```
    /// # let (master, worker) = worker_proto::FakeMaster::new();
    /// use worker_proto::ProxyProtocol;
    ///
    /// let balancers = ["10.0.0.0/8".parse()?, "fd00::/8".parse()?];
    /// let protocol = ProxyProtocol::trusting(balancers);
    /// let listener = worker.listen("127.0.0.1:8000")?.behind_proxy(&protocol)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of `epoll_create1(2)` and `timerfd_create(2)`.
    pub fn behind_proxy(mut self, protocol: &ProxyProtocol) -> io::Result<Self> {
        let protocol = match &self.source {
            Source::Queue(queue) => protocol.clone().reporting_to(queue.control()),
            Source::Lent(lent) => protocol.clone().reporting_to(lent.control()),
            Source::Socket(_) => protocol.clone(),
        };
        let wait = self.source.waits();
        self.porch = Some(Porch::new(protocol, wait, &self.source)?);
        Ok(self)
    }

    /// The name it was declared with, otherwise the address it was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address really bound.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection; `None` when there will be no more: the process is to finish.
    ///
    /// # Errors
    /// `WouldBlock` when a non-blocking listener has nothing now. `EMFILE` when this process may
    /// not open more descriptors: the master is told, takes back what waits and tries again a
    /// little later, so accept again when a connection was closed, and raise the limit (as it was
    /// when the listener was made; with less than that, or many descriptors opened at once between
    /// two connections, one may be lost). Otherwise the listener is of no more use.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        match &self.porch {
            Some(porch) => porch.accept(&self.source),
            None => self.source.accept(),
        }
    }

    /// Accepts what one call to the kernel gives, which is one packet's connections, and appends them;
    /// answers how many they are. 0, as of a read: there will be no more.
    ///
    /// It is for a poll loop that hears again while there is more, as `epoll(7)` and `poll(2)` do it
    /// unless they are asked for changes only: [`accept`](Self::accept) has to be called until it finds
    /// nothing, which is a system call for nothing. How many come together is the listener's
    /// [`max_batch`](crate::frame::ListenOptions::max_batch); unless they come in packets it is one.
    ///
    /// ```
    /// # let (master, worker) = worker_proto::FakeMaster::new();
    /// use worker_proto::frame::ListenOptions;
    ///
    /// let options = ListenOptions { nonblocking: true, max_batch: 8, ..ListenOptions::default() };
    /// let listener = worker.listen_with("127.0.0.1:8000", options)?;
    /// # let _client = master.connect("127.0.0.1:8000");
    /// let mut connections = Vec::new();
    /// // When epoll says that the listener is readable:
    /// listener.accept_batch(&mut connections)?;
    /// for connection in connections.drain(..) {
    ///     // Read it at once; tell epoll of it if that finds nothing.
    /// #   drop(connection);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`accept`](Self::accept).
    pub fn accept_batch(&self, connections: &mut Vec<Connection>) -> io::Result<usize> {
        match (&self.porch, &self.source) {
            (None, Source::Queue(queue)) => queue.accept_batch(connections),
            (Some(_), _) | (None, Source::Lent(_) | Source::Socket(_)) => {
                let accepted = self.accept()?;
                let count = usize::from(accepted.is_some());
                connections.extend(accepted);
                Ok(count)
            }
        }
    }

    /// The next connection for a thread that may wait with it until it is known whose it is.
    pub(crate) fn receive(&self) -> io::Result<Option<Arrival>> {
        let Some(porch) = &self.porch else {
            return Ok(self.source.accept()?.map(Arrival::Client));
        };
        loop {
            if let Some(greeting) = porch.take() {
                return Ok(Some(Arrival::Stranger(greeting)));
            }
            let Some(connection) = self.source.accept()? else {
                return Ok(None);
            };
            if let Some(greeting) = Greeting::begin(connection, porch.protocol()) {
                return Ok(Some(Arrival::Stranger(greeting)));
            }
        }
    }

    /// Waits until [`receive`](Self::receive) has something to say.
    pub(crate) fn wait(&self) -> io::Result<()> {
        match &self.source {
            Source::Queue(queue) => wait::readable([queue.receiver.as_fd()], None).map(drop),
            Source::Lent(lent) => lent.wait(),
            Source::Socket(socket) => socket.wait(),
        }
    }

    /// Counts how often this listener wakes the process and has nothing for it: with `--dispatch
    /// shared` another process may be faster. Otherwise it stays at 0, and so it does for a program
    /// with a poll loop of its own.
    #[must_use]
    pub fn idle_wakeups(&self) -> IdleWakeups {
        match &self.source {
            Source::Lent(lent) => lent.idle_wakeups(),
            Source::Queue(_) | Source::Socket(_) => IdleWakeups::default(),
        }
    }

    /// The connections as they come, to the last. Ends after the first error that is not
    /// `WouldBlock` or a lack of descriptors.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: self,
            over: false,
        }
    }

    /// Gives the listener back and waits until the master has taken it: after that it may be
    /// listened to again. What waits in the queue is served by other workers; what was already
    /// received in a packet with others is returned, for it is yours alone. Empty unless
    /// `max_batch` was more than 1, or the listener is [`behind_proxy`](Self::behind_proxy): then it
    /// also waits for the headers of those connections.
    pub fn close(mut self) -> Vec<Connection> {
        let porch = self.porch.take();
        let received = match self.source {
            Source::Queue(queue) => queue.close(),
            Source::Lent(lent) => lent.close(),
            Source::Socket(_) => Vec::new(),
        };
        let Some(porch) = porch else {
            return received;
        };
        let protocol = porch.protocol().clone();
        let begin = |connection| Greeting::begin(connection, &protocol);
        let greetings = porch.into_greetings();
        let greetings = greetings.chain(received.into_iter().filter_map(begin));
        // Begun together: the time that they have is the same.
        let greetings: Vec<Greeting> = greetings.collect();
        greetings.into_iter().filter_map(Greeting::finish).collect()
    }
}

/// A connection for a thread of its own.
pub(crate) enum Arrival {
    Client(Connection),
    /// Whose it is, it has still to say.
    Stranger(Greeting),
}

impl Arrival {
    /// Waits until it is known whose it is; `None` when it was refused.
    pub(crate) fn greet(self) -> Option<Connection> {
        match self {
            Arrival::Client(connection) => Some(connection),
            Arrival::Stranger(greeting) => greeting.finish(),
        }
    }
}

impl Source {
    fn accept(&self) -> io::Result<Option<Connection>> {
        match self {
            Source::Queue(queue) => queue.accept(queue.wait),
            Source::Lent(lent) => lent.accept(),
            Source::Socket(socket) => socket.accept(),
        }
    }

    /// Whether accepting waits.
    fn waits(&self) -> Wait {
        match self {
            Source::Queue(queue) => queue.wait,
            Source::Lent(lent) => lent.waits(),
            Source::Socket(socket) => socket.waits(),
        }
    }
}

impl Ways for Source {
    fn accept_now(&self) -> io::Result<Option<Connection>> {
        match self {
            Source::Queue(queue) => queue.accept(Wait::Never),
            Source::Lent(lent) => lent.accept_now(),
            Source::Socket(socket) => socket.accept_now(),
        }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Source::Queue(queue) => vec![queue.receiver.as_fd()],
            Source::Lent(lent) => vec![lent.as_fd()],
            Source::Socket(socket) => socket.descriptors().into(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.porch, &self.source) {
            (Some(porch), _) => porch.as_fd(),
            (None, Source::Queue(queue)) => queue.receiver.as_fd(),
            (None, Source::Lent(lent)) => lent.as_fd(),
            (None, Source::Socket(socket)) => socket.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("fd", &self.as_raw_fd())
            .finish_non_exhaustive()
    }
}

/// See [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a Listener,
    over: bool,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<Connection>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.listener.accept().transpose();
        self.over = match &next {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(err)) => err.kind() != io::ErrorKind::WouldBlock && !is_shortage(err),
        };
        next
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The master says no.
    #[error("the master refuses: {reason}")]
    Refused {
        /// The error number of `bind(2)` or of the master's policy, such as `EADDRINUSE`.
        errno: i32,
        /// What is wrong, for a person.
        reason: String,
    },
    /// Without a master there are no names, and this is not an address either.
    #[error("without a master there are no named listeners, and {0}")]
    Address(#[from] AddressError),
    /// Without a master: the address cannot be bound.
    #[error("bind {address}: {source}")]
    Bind {
        /// The address.
        address: Address,
        /// What the kernel said.
        source: io::Error,
    },
    /// The master did not answer.
    #[error("the master did not answer within {within:?}")]
    NoAnswer {
        /// How long it was waited for.
        within: Duration,
    },
    /// The master is gone, or was left.
    #[error("the master is gone")]
    MasterGone,
    /// The master's answer breaks the protocol.
    #[error("the master's answer is {0}")]
    Answer(#[source] Violation),
    /// The question could not be sent.
    #[error("ask the master: {0}")]
    Send(#[source] SendError),
}

/// A refusal becomes the error that `bind(2)` would have given.
impl From<ListenError> for io::Error {
    fn from(err: ListenError) -> Self {
        let kind = match &err {
            ListenError::Refused { errno, .. } => return io::Error::from_raw_os_error(*errno),
            ListenError::Address(_) => io::ErrorKind::InvalidInput,
            ListenError::Bind { source, .. } => match source.raw_os_error() {
                Some(errno) => return io::Error::from_raw_os_error(errno),
                None => source.kind(),
            },
            ListenError::NoAnswer { .. } => io::ErrorKind::TimedOut,
            ListenError::MasterGone => io::ErrorKind::BrokenPipe,
            ListenError::Answer(_) => io::ErrorKind::InvalidData,
            ListenError::Send(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, err)
    }
}

/// Whether an error of `accept` passes when descriptors or memory are freed.
pub(crate) fn is_shortage(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// The receiving end of an accept queue.
pub(super) struct AcceptQueue {
    listener: ListenerId,
    receiver: Arc<QueueReceiver>,
    wait: Wait,
    intake: Mutex<Intake>,
    control: Arc<Control>,
    /// Dropped by the last who holds it when the master has closed its copy of the queue.
    released: (Sender<()>, Receiver<()>),
}

/// What is on its way from packet to program.
struct Intake {
    inbox: Inbox,
    /// The clients of the packet that is being received.
    peers: Vec<Address>,
    received: VecDeque<Connection>,
    /// Descriptors ran out and nothing has arrived since: it is in the log already.
    short: bool,
    /// The last packet that was left where it is, and the master told.
    refused: Option<u64>,
    /// How many descriptors this process may have open.
    limit: u64,
    /// The highest number of the last packet, or the highest there is after one that was lost. The
    /// kernel gives out the lowest free one, so it shows how near the limit is.
    highest: RawFd,
}

impl AcceptQueue {
    pub(super) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    fn new(
        listener: ListenerId,
        receiver: QueueReceiver,
        wait: Wait,
        control: Arc<Control>,
    ) -> Self {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
        let highest = receiver.as_raw_fd();
        AcceptQueue {
            listener,
            receiver: Arc::new(receiver),
            wait,
            intake: Mutex::new(Intake {
                inbox: Inbox::with_room(MAX_CONNECTIONS_BYTES),
                peers: Vec::new(),
                received: VecDeque::new(),
                short: false,
                refused: None,
                limit,
                highest,
            }),
            control,
            released: bounded(0),
        }
    }

    pub(super) fn accept(&self, wait: Wait) -> io::Result<Option<Connection>> {
        Ok(self.intake(wait)?.received.pop_front())
    }

    fn accept_batch(&self, connections: &mut Vec<Connection>) -> io::Result<usize> {
        let received = &mut self.intake(self.wait)?.received;
        let count = received.len();
        connections.extend(received.drain(..));
        Ok(count)
    }

    /// What was received, a packet if nothing was; nothing if there will be no more.
    fn intake(&self, wait: Wait) -> io::Result<MutexGuard<'_, Intake>> {
        // Held while waiting: several threads that accept take turns, as at a listening socket.
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // The process retires: what it has not received is for others.
            if !intake.received.is_empty() || self.control.is_sated() {
                return Ok(intake);
            }
            match self.receive(&mut intake, wait) {
                Ok(()) => intake.short = false,
                Err(ReceiveError::Closed) => return Ok(intake),
                Err(ReceiveError::Empty) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(ReceiveError::Io(err)) if is_shortage(&err) => {
                    if !intake.short {
                        log::warn!(
                            "connections wait: this process may not open more descriptors, raise RLIMIT_NOFILE (ulimit -n)"
                        );
                    }
                    intake.short = true;
                    return Err(err);
                }
                Err(ReceiveError::Violation(Violation::DescriptorsLost)) => {
                    if !intake.short {
                        log::error!(
                            "connections were lost: this process may not open more descriptors, raise RLIMIT_NOFILE (ulimit -n)"
                        );
                    }
                    intake.short = true;
                    // As near the limit as can be: look before the next one.
                    intake.highest = RawFd::MAX;
                    return Err(io::Error::from_raw_os_error(libc::EMFILE));
                }
                Err(ReceiveError::Violation(violation)) => {
                    log::error!("dropped a packet of an accept queue: {violation}");
                }
                Err(ReceiveError::Io(err)) => return Err(err),
            }
        }
    }

    /// Receives one packet, whole or not at all.
    fn receive(&self, intake: &mut Intake, wait: Wait) -> Result<(), ReceiveError> {
        let result = self.receive_packet(intake, wait);
        // Whatever came with an unwelcome packet is closed now.
        intake.inbox.descriptors.clear();
        result
    }

    fn receive_packet(&self, intake: &mut Intake, wait: Wait) -> Result<(), ReceiveError> {
        // Beyond the limit a packet arrives without its descriptors, and they are lost. To look
        // first takes a system call more, so only near the limit.
        if intake.is_near_limit()
            && let Some(next) = self.receiver.next_beyond_limit(&mut intake.inbox, wait)?
        {
            self.refuse(intake, next.sequence);
            let full = io::Error::from_raw_os_error(libc::EMFILE);
            return Err(ReceiveError::Io(full));
        }
        let (inbox, peers) = (&mut intake.inbox, &mut intake.peers);
        self.receiver.receive_connections(inbox, peers, wait)?;
        intake.note_highest();
        let scorekeeper = self.control.scorekeeper();
        scorekeeper.received(intake.peers.len());
        let connections = intake.inbox.descriptors.drain(..);
        let connections = connections.zip(intake.peers.drain(..));
        intake.received.extend(connections.map(|(fd, peer)| {
            Connection::accepted(fd, peer, InFlight::counted(scorekeeper.clone()))
        }));
        Ok(())
    }

    /// Tells the master, once for each packet, that this one was left where it is.
    fn refuse(&self, intake: &mut Intake, sequence: u64) {
        if intake.refused == Some(sequence) {
            return;
        }
        let listener = self.listener;
        match self.control.try_send(&ToMaster::NoRoom { listener }) {
            Ok(()) => intake.refused = Some(sequence),
            // Told when the packet is looked at again.
            Err(err) => log::debug!("failed to tell the master of a lack of room: {err}"),
        }
    }

    pub(super) fn close(self) -> Vec<Connection> {
        let started = self
            .intake
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .received
            .drain(..)
            .collect();
        let released = self.released.1.clone();
        drop(self);
        if !control::released(&released, CLOSE_WITHIN) {
            log::warn!("the master has not taken a listener back within {CLOSE_WITHIN:?}");
        }
        started
    }
}

impl AsFd for AcceptQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl Intake {
    fn note_highest(&mut self) {
        let numbers = self.inbox.descriptors.iter().map(AsRawFd::as_raw_fd);
        self.highest = numbers.max().unwrap_or(self.highest);
    }

    fn is_near_limit(&self) -> bool {
        u64::try_from(self.highest).is_ok_and(|highest| highest + NEAR >= self.limit)
    }
}

impl Drop for AcceptQueue {
    fn drop(&mut self) {
        let intake = self
            .intake
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if !intake.received.is_empty() {
            log::warn!(
                "{} connections were received and never accepted: close the listener to get them",
                intake.received.len()
            );
        }
        self.control.unlisten(
            self.listener,
            Arc::clone(&self.receiver),
            self.released.0.clone(),
        );
    }
}

/// How far from the limit the numbers of descriptors may jump between two packets.
const NEAR: u64 = 64;

/// How long `close` waits for the master.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;
    use crate::frame::{ListenOptions, ToMaster};
    use crate::sdk::{FakeMaster, Stream};

    #[test]
    fn a_drained_listener_ends_after_what_is_queued() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        let mut clients = [(); 3].map(|()| master.connect(WEB));
        master.drain(Duration::ZERO);
        let served: Vec<Connection> = listener.incoming().map(Result::unwrap).collect();
        assert_eq!(served.len(), 3);
        for (mut connection, client) in served.into_iter().zip(&mut clients) {
            connection.write_all(b"x").unwrap();
            assert_eq!(client.read(&mut [0; 2]).unwrap(), 1);
        }
        assert!(listener.accept().unwrap().is_none(), "ended for good");
    }

    #[test]
    fn a_non_blocking_listener_leaves_the_queue_itself_blocking() {
        let (master, worker) = FakeMaster::new();
        let options = ListenOptions {
            nonblocking: true,
            ..ListenOptions::default()
        };
        let listener = worker.listen_with(WEB, options).unwrap();
        let would_block = |result: io::Result<Option<Connection>>| {
            result.unwrap_err().kind() == io::ErrorKind::WouldBlock
        };
        assert!(would_block(listener.accept()));
        let _client = master.connect(WEB);
        let mut connection = listener.accept().unwrap().unwrap();
        let err = connection.read(&mut [0]).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::WouldBlock);
        assert!(would_block(listener.accept()));
        // The master shares the open file: a flag set here would be set there.
        let flags = fcntl(listener.as_fd(), FcntlArg::F_GETFL).unwrap();
        assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
        master.drain(Duration::ZERO);
        assert!(listener.accept().unwrap().is_none());
    }

    #[test]
    fn a_packet_of_several_connections_is_served_in_its_order() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen_with(WEB, BATCH).unwrap();
        let (mut clients, servers): (Vec<_>, Vec<_>) = (0..4).map(|_| pair()).unzip();
        master.hand_off(WEB, servers).unwrap();
        for (number, client) in (0_u8..).zip(&mut clients) {
            client.write_all(&[number]).unwrap();
        }
        for number in 0..2 {
            let mut connection = listener.accept().unwrap().unwrap();
            let mut byte = [0xff];
            connection.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
        assert!(master.reclaim(WEB).is_empty(), "the packet came whole");
        // Received and not accepted: nobody else has them.
        assert_eq!(listener.close().len(), 2);
    }

    #[test]
    fn a_packet_that_lies_is_dropped_and_the_next_one_is_served() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen_with(WEB, BATCH).unwrap();
        let (mut lost, server) = pair();
        let peers = vec![Address::Unnamed, Address::Unnamed];
        master.hand_off_raw(WEB, peers, &[server.as_fd()]);
        drop(server);
        master.hand_off_raw(WEB, Vec::new(), &[]);
        let mut client = master.connect(WEB);
        listener.accept().unwrap().unwrap().write_all(b"x").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
        assert_eq!(lost.read(&mut [0]).unwrap(), 0, "closed, not leaked");
    }

    #[test]
    fn a_listener_may_be_given_back_and_asked_for_again_and_again() {
        let (master, worker) = FakeMaster::new();
        for round in 0..50 {
            let listener = worker.listen(WEB).unwrap();
            let _client = master.connect(WEB);
            assert!(listener.accept().unwrap().is_some());
            if round % 2 == 0 {
                assert!(listener.close().is_empty());
            } else {
                // The frames keep their order, so the next question finds it given back.
                drop(listener);
            }
        }
    }

    #[test]
    fn a_listener_is_closed_only_after_the_master_let_go() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        assert!(matches!(master.next_frame(), ToMaster::Listen(_)));
        let _client = master.connect(WEB);
        master.answer_by_hand();
        let closed = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                listener.close();
                closed.store(true, Ordering::SeqCst);
            });
            let unlisten = master.next_frame();
            assert!(matches!(unlisten, ToMaster::Unlisten { .. }));
            // What nobody received goes to another worker.
            assert_eq!(master.reclaim(WEB).len(), 1);
            assert!(!closed.load(Ordering::SeqCst));
            master.answer(&unlisten);
        });
        assert!(closed.load(Ordering::SeqCst));
    }

    #[test]
    fn the_peer_says_what_kind_of_stream_it_is() {
        let (master, worker) = FakeMaster::new();
        let listener = worker.listen(WEB).unwrap();
        let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(own.local_addr().unwrap()).unwrap();
        let (server, peer) = own.accept().unwrap();
        let connection = Connection::new(Stream::Tcp(server), peer.into());
        master.hand_off(WEB, vec![connection]).unwrap();
        let connection = listener.accept().unwrap().unwrap();
        assert_eq!(
            connection.to_string(),
            client.local_addr().unwrap().to_string()
        );
        let connection = connection.into_unix().unwrap_err();
        assert!(connection.into_tcp().is_ok());
        let _client = master.connect(WEB);
        let connection = listener.accept().unwrap().unwrap();
        connection.set_nodelay(true).unwrap();
        assert!(connection.into_tcp().unwrap_err().into_unix().is_ok());
    }

    fn pair() -> (UnixStream, Connection) {
        let (client, server) = UnixStream::pair().unwrap();
        (
            client,
            Connection::new(Stream::Unix(server), Address::Unnamed),
        )
    }

    const WEB: &str = "127.0.0.1:8000";

    const BATCH: ListenOptions = ListenOptions {
        nonblocking: false,
        max_batch: 8,
        backlog: None,
        v6only: None,
    };
}
