//! One listener being served: its socket, its rotation, the accept queues of its workers.
//!
//! A connection is in exactly one place: the kernel's backlog, `held`, the packet being built for
//! one accept queue, or that queue. What cannot be handed off goes back to the front of `held`,
//! and nothing new is accepted while anything is held.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use worker_proto::ids::{ListenerId, Slot, WorkerId};
use worker_proto::socket::{Inbox, SendError};

use super::counters::Counters;
use super::queue::{self, AcceptQueue};
use super::token::Source;
use crate::dispatch::{Rotation, RoundRobin};
use crate::sys::listening::{AcceptError, Accepted, ListeningSocket};

/// A listener, and everything that is on its way from it.
#[derive(Debug)]
pub(crate) struct Serving {
    id: ListenerId,
    name: String,
    tenure: Tenure,
    socket: Option<ListeningSocket>,
    admission: Admission,
    /// Out of descriptors or memory: nothing is accepted or handed off until then.
    paused_until: Option<Instant>,
    interest: Interested,
    rotation: Rotation,
    queues: HashMap<WorkerId, AcceptQueue>,
    /// Queues with a packet being built.
    unflushed: Vec<WorkerId>,
    /// Accepted and not on its way to anybody; refilled only when it is empty.
    held: VecDeque<Accepted>,
    nonblocking: bool,
    /// The last time that running out of resources was logged.
    warned: Option<Instant>,
    counters: Counters,
}

/// How long a listener lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// As long as the master: `--listen`.
    Declared,
    /// Until its last holder leaves. After a crash the slot's next worker may claim it again.
    OnDemand {
        /// The last worker's slot.
        holder: Slot,
    },
}

/// Whether clients are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Open,
    /// Serves who is in the backlog and lets nobody else in.
    Closing,
}

/// What the poll was asked to report about the socket, and what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interested {
    /// Not registered: every new client would wake the master for nothing.
    No,
    Yes {
        /// There may be more to accept: readiness is reported once per change (`epoll(7)`).
        readable: bool,
    },
}

/// What a turn shares among listeners.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    /// For encoding.
    pub(crate) scratch: &'a mut Vec<u8>,
    /// For reclaiming.
    pub(crate) inbox: &'a mut Inbox,
}

impl Serving {
    pub(crate) fn new(
        id: ListenerId,
        name: String,
        tenure: Tenure,
        socket: ListeningSocket,
    ) -> Self {
        Serving {
            id,
            name,
            tenure,
            socket: Some(socket),
            admission: Admission::Open,
            paused_until: None,
            interest: Interested::No,
            rotation: Rotation::new(Box::new(RoundRobin::default())),
            queues: HashMap::new(),
            unflushed: Vec::new(),
            held: VecDeque::new(),
            nonblocking: false,
            warned: None,
            counters: Counters::default(),
        }
    }

    pub(crate) fn id(&self) -> ListenerId {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tenure(&self) -> Tenure {
        self.tenure
    }

    /// The socket, until it is closed.
    pub(crate) fn socket(&self) -> Option<&ListeningSocket> {
        self.socket.as_ref()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn has_queue(&self, worker: WorkerId) -> bool {
        self.queues.contains_key(&worker)
    }

    pub(crate) fn is_unclaimed(&self) -> bool {
        self.queues.is_empty()
    }

    /// Gives the worker a queue. It receives nothing before it [`enter`](Self::enter)s.
    pub(crate) fn add_queue(&mut self, worker: WorkerId, slot: Slot, queue: AcceptQueue) {
        if self.queues.is_empty() {
            self.nonblocking = queue.is_nonblocking();
        }
        if let Tenure::OnDemand { holder } = &mut self.tenure {
            *holder = slot;
        }
        self.queues.insert(worker, queue);
    }

    /// The worker may receive from now on, if it asked for this listener.
    pub(crate) fn enter(&mut self, worker: WorkerId, slot: Slot) {
        if self.queues.contains_key(&worker) && !self.rotation.contains(worker) {
            self.rotation.enter(worker, slot);
        }
    }

    /// The worker gets nothing new; what is in its queue stays there.
    pub(crate) fn leave(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.rotation.leave(worker);
        self.flush(worker, turn);
    }

    /// The worker's queue ends after what is in it.
    pub(crate) fn end(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.leave(worker, turn);
        if let Some(queue) = self.queues.get(&worker)
            && let Err(err) = queue.end()
        {
            log::error!("{worker} {}: end its accept queue: {err}", self.name);
        }
    }

    /// Takes the worker's queue away, and back what is in it.
    pub(crate) fn retire(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.rotation.leave(worker);
        self.unflushed.retain(|&unflushed| unflushed != worker);
        let Some(mut queue) = self.queues.remove(&worker) else {
            return;
        };
        // Not registered unless it was saturated.
        let _ = turn.registry.deregister(&mut SourceFd(&queue.as_raw_fd()));
        let unsent = queue.take_pending();
        let unread = queue.reclaim(turn.inbox);
        if !unread.is_empty() {
            log::info!(
                "{worker} {}: {} unread connections reclaimed",
                self.name,
                unread.len()
            );
        }
        self.counters.reclaimed += unread.len() as u64;
        for connection in unread.into_iter().chain(unsent).rev() {
            self.held.push_front(connection);
        }
    }

    /// A saturated queue has room again.
    pub(crate) fn relieve(&mut self, worker: WorkerId, registry: &Registry) {
        if let Some(queue) = self.queues.get(&worker) {
            let _ = registry.deregister(&mut SourceFd(&queue.as_raw_fd()));
            self.rotation.relieve(worker);
        }
    }

    /// The poll reported a client.
    pub(crate) fn note_readable(&mut self) {
        if let Interested::Yes { readable } = &mut self.interest {
            *readable = true;
        }
    }

    /// When to try again after running out of resources.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Whether a turn would do something at once.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.can_accept() && matches!(self.interest, Interested::Yes { readable: true })
    }

    /// Hands off what is held, then accepts and hands off what waits, within the budget.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) {
        self.paused_until = self.paused_until.filter(|&until| turn.now < until);
        let mut budget = ACCEPT_BUDGET;
        loop {
            self.dispatch_held(turn);
            self.update_interest(turn.registry);
            let accepted = self.accept(&mut budget, turn);
            self.flush_all(turn);
            if !accepted && (self.held.is_empty() || !self.can_dispatch()) {
                break;
            }
        }
        self.update_interest(turn.registry);
    }

    /// Lets no new client in; [`turn`](Self::turn) serves those who are in the backlog.
    pub(crate) fn close(&mut self) {
        self.admission = Admission::Closing;
        if let Some(socket) = &self.socket
            && let Err(err) = socket.stop_admitting()
        {
            log::warn!("{}: clients may be reset while it closes: {err}", self.name);
        }
        if let Interested::Yes { readable } = &mut self.interest {
            *readable = true;
        }
    }

    /// Closes the socket as it is.
    pub(crate) fn abandon(&mut self, registry: &Registry) {
        self.admission = Admission::Closing;
        self.deregister(registry);
        self.socket = None;
    }

    /// Gives up on what is held: there is no worker left to take it.
    pub(crate) fn refuse_held(&mut self) {
        if !self.held.is_empty() {
            log::warn!(
                "{}: {} connections refused: no worker is left",
                self.name,
                self.held.len()
            );
            self.counters.refused += self.held.len() as u64;
            self.held.clear();
        }
    }

    /// Nobody is waiting any more, and nobody can come.
    pub(crate) fn is_closed(&self) -> bool {
        self.socket.is_none() && self.held.is_empty()
    }

    /// Accepts within the budget; answers whether there was anything.
    fn accept(&mut self, budget: &mut usize, turn: &mut Turn<'_>) -> bool {
        let mut any = false;
        while *budget > 0 && self.is_unfinished() && self.held.is_empty() {
            let Some(socket) = &self.socket else { break };
            match socket.accept(self.nonblocking) {
                Ok(connection) => {
                    *budget -= 1;
                    any = true;
                    self.counters.accepted += 1;
                    self.dispatch(connection, turn);
                }
                Err(AcceptError::Empty) => {
                    self.interest = Interested::Yes { readable: false };
                    if self.admission == Admission::Closing {
                        self.abandon(turn.registry);
                    }
                }
                Err(AcceptError::Aborted(err)) => {
                    *budget -= 1;
                    self.counters.aborted += 1;
                    log::debug!("{}: {err}", self.name);
                }
                Err(err @ (AcceptError::Exhausted(_) | AcceptError::Broken(_))) => {
                    self.pause(turn.now, &err);
                }
            }
        }
        any
    }

    fn dispatch_held(&mut self, turn: &mut Turn<'_>) {
        while self.can_dispatch()
            && let Some(connection) = self.held.pop_front()
        {
            self.dispatch(connection, turn);
        }
    }

    /// Gives the connection to the next worker in rotation, or holds it.
    fn dispatch(&mut self, connection: Accepted, turn: &mut Turn<'_>) {
        let Some(worker) = self.rotation.pick(&connection.peer) else {
            self.held.push_back(connection);
            return;
        };
        let queue = self
            .queues
            .get_mut(&worker)
            .expect("a member of the rotation has a queue");
        if queue.is_nonblocking() != self.nonblocking
            && let Err(err) = queue::set_nonblocking(&connection, queue.is_nonblocking())
        {
            log::error!("{worker} {}: set O_NONBLOCK: {err}", self.name);
        }
        if !self.unflushed.contains(&worker) {
            self.unflushed.push(worker);
        }
        if queue.push(connection) {
            self.flush(worker, turn);
        }
    }

    fn flush_all(&mut self, turn: &mut Turn<'_>) {
        while let Some(&worker) = self.unflushed.last() {
            self.flush(worker, turn);
        }
    }

    /// Sends the worker's packet; what cannot be sent is held again.
    fn flush(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.unflushed.retain(|&unflushed| unflushed != worker);
        let Some(queue) = self.queues.get_mut(&worker) else {
            return;
        };
        let err = match queue.flush(turn.scratch) {
            Ok(count) => {
                self.counters.handed_off += count as u64;
                return;
            }
            Err(err) => err,
        };
        for connection in queue.take_pending().into_iter().rev() {
            self.held.push_front(connection);
        }
        match err {
            SendError::Full => self.saturate(worker, turn.registry),
            SendError::Exhausted(err) => self.pause(turn.now, &AcceptError::Exhausted(err)),
            SendError::Gone => {
                log::warn!("{worker} {}: shut its accept queue", self.name);
                self.retire(worker, turn);
            }
            SendError::TooLarge(_) | SendError::Io(_) => {
                log::error!("{worker} {}: hand off: {err}", self.name);
                self.retire(worker, turn);
            }
        }
    }

    /// The worker is skipped until its queue has room. Only now is the queue watched: otherwise
    /// every connection that a worker receives would wake the master.
    fn saturate(&mut self, worker: WorkerId, registry: &Registry) {
        log::debug!("{worker} {}: saturated", self.name);
        self.rotation.saturate(worker);
        let Some(queue) = self.queues.get(&worker) else {
            return;
        };
        let token = Source::Queue(worker, self.id).into();
        let watched =
            registry.register(&mut SourceFd(&queue.as_raw_fd()), token, Interest::WRITABLE);
        match watched {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                log::error!("{worker} {}: watch its accept queue: {err}", self.name);
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn pause(&mut self, now: Instant, err: &AcceptError) {
        self.paused_until = Some(now + RETRY_AFTER);
        if self
            .warned
            .is_none_or(|warned| now >= warned + WARN_AGAIN_AFTER)
        {
            self.warned = Some(now);
            log::warn!(
                "{}: {err}; new connections wait, tried again every {RETRY_AFTER:?}",
                self.name
            );
        }
    }

    fn can_dispatch(&self) -> bool {
        self.rotation.has_room() && self.paused_until.is_none()
    }

    /// While closing, one client may be held for a worker that is about to have room: only by
    /// accepting does it show whether anybody is waiting at all.
    fn can_accept(&self) -> bool {
        self.socket.is_some()
            && self.paused_until.is_none()
            && match self.admission {
                Admission::Open => self.rotation.has_room(),
                Admission::Closing => true,
            }
    }

    /// The socket is watched exactly while a client could be served.
    fn update_interest(&mut self, registry: &Registry) {
        match (self.interest, self.can_accept() && self.held.is_empty()) {
            (Interested::No, true) => {
                let socket = self.socket.as_ref().expect("can accept");
                let token = Source::Listener(self.id).into();
                match registry.register(
                    &mut SourceFd(&socket.as_raw_fd()),
                    token,
                    Interest::READABLE,
                ) {
                    // Somebody may have come while nobody looked.
                    Ok(()) => self.interest = Interested::Yes { readable: true },
                    Err(err) => log::error!("{}: watch the listener: {err}", self.name),
                }
            }
            (Interested::Yes { .. }, false) => self.deregister(registry),
            (Interested::No, false) | (Interested::Yes { .. }, true) => {}
        }
    }

    fn deregister(&mut self, registry: &Registry) {
        if let (Interested::Yes { .. }, Some(socket)) = (self.interest, &self.socket) {
            let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
        }
        self.interest = Interested::No;
    }
}

/// How many connections one listener accepts before the loop looks at anything else.
const ACCEPT_BUDGET: usize = 64;

/// How long accepting rests when descriptors or memory have run out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How often that is worth a line in the log.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(10);
