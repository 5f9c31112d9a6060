//! A listener: where connections come from, whichever way they come.
//!
//! The accept queue's descriptor is shared with the master, so it stays blocking and is closed
//! only after the master has closed its copy: epoll would go on reporting it otherwise.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::connection::Connection;
use super::control::{self, Control};
use super::standalone::OwnSocket;
use crate::address::{Address, AddressError};
use crate::frame::{DispatchMode, Listening};
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
}

enum Source {
    Queue(AcceptQueue),
    Socket(OwnSocket),
}

impl Listener {
    pub(crate) fn over_queue(
        listening: Listening,
        queue: OwnedFd,
        nonblocking: bool,
        control: Arc<Control>,
    ) -> Self {
        match listening.mode {
            DispatchMode::HandOff => Listener {
                name: listening.name,
                address: listening.address,
                source: Source::Queue(AcceptQueue::new(
                    listening.listener,
                    queue.into(),
                    if nonblocking {
                        Wait::Never
                    } else {
                        Wait::AsSet
                    },
                    control,
                )),
            },
        }
    }

    pub(crate) fn over_socket(name: &str, socket: OwnSocket) -> io::Result<Self> {
        Ok(Listener {
            name: name.to_owned(),
            address: socket.address()?,
            source: Source::Socket(socket),
        })
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
    /// not open more descriptors; connections that the master handed over are lost then, so
    /// keep fewer open or raise the limit. Otherwise the listener is of no more use.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        match &self.source {
            Source::Queue(queue) => queue.accept(),
            Source::Socket(socket) => socket.accept().map(Some),
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
    /// `max_batch` was more than 1.
    pub fn close(self) -> Vec<Connection> {
        match self.source {
            Source::Queue(queue) => queue.close(),
            Source::Socket(_) => Vec::new(),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Queue(queue) => queue.receiver.as_fd(),
            Source::Socket(socket) => socket.as_fd(),
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
struct AcceptQueue {
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
    received: VecDeque<Connection>,
    /// Descriptors were lost and nothing has arrived since: it is in the log already.
    short: bool,
}

impl AcceptQueue {
    fn new(
        listener: ListenerId,
        receiver: QueueReceiver,
        wait: Wait,
        control: Arc<Control>,
    ) -> Self {
        AcceptQueue {
            listener,
            receiver: Arc::new(receiver),
            wait,
            intake: Mutex::new(Intake {
                inbox: Inbox::new(),
                received: VecDeque::new(),
                short: false,
            }),
            control,
            released: bounded(0),
        }
    }

    fn accept(&self) -> io::Result<Option<Connection>> {
        // Held while waiting: several threads that accept take turns, as at a listening socket.
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(connection) = intake.received.pop_front() {
                return Ok(Some(connection));
            }
            match intake.receive(&self.receiver, self.wait) {
                Ok(()) => intake.short = false,
                Err(ReceiveError::Closed) => return Ok(None),
                Err(ReceiveError::Empty) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(ReceiveError::Violation(Violation::DescriptorsLost)) => {
                    if !intake.short {
                        log::error!(
                            "connections were lost: this process may not open more descriptors, raise RLIMIT_NOFILE (ulimit -n)"
                        );
                    }
                    intake.short = true;
                    return Err(io::Error::from_raw_os_error(libc::EMFILE));
                }
                Err(ReceiveError::Violation(violation)) => {
                    log::error!("dropped a packet of an accept queue: {violation}");
                }
                Err(ReceiveError::Io(err)) => return Err(err),
            }
        }
    }

    fn close(self) -> Vec<Connection> {
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

impl Intake {
    fn receive(&mut self, receiver: &QueueReceiver, wait: Wait) -> Result<(), ReceiveError> {
        let result = self.receive_packet(receiver, wait);
        // Whatever came with an unwelcome packet is closed now.
        self.inbox.descriptors.clear();
        result
    }

    fn receive_packet(&mut self, receiver: &QueueReceiver, wait: Wait) -> Result<(), ReceiveError> {
        let peers = receiver.receive(&mut self.inbox, wait)?.frame.peers;
        let descriptors = self.inbox.take_descriptors(peers.len())?;
        let connections = descriptors.into_iter().zip(peers);
        self.received
            .extend(connections.map(|(fd, peer)| Connection::from_parts(fd, peer)));
        Ok(())
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

/// How long `close` waits for the master.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
