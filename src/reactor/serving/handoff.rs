//! The hand-off: a connection on its way to the next worker that can take it.
//!
//! One packet per worker and turn. What cannot be sent is held again, in its order, and the worker
//! stands aside for the reason that showed.

use std::io;
use std::os::fd::AsRawFd;

use mio::Interest;
use mio::unix::SourceFd;
use worker_proto::ids::WorkerId;
use worker_proto::socket::SendError;

use super::{Serving, Turn};
use crate::dispatch::Reason;
use crate::reactor::clock;
use crate::reactor::queue::AcceptQueue;
use crate::reactor::token::Source;
use crate::sys::listening::{AcceptError, Accepted};

impl Serving {
    pub(super) fn dispatch_held(&mut self, turn: &mut Turn<'_>) {
        while self.can_dispatch(turn)
            && let Some(connection) = self.next_held(turn)
        {
            self.dispatch(connection, turn);
        }
    }

    /// Gives the connection to the next worker in rotation, or holds it.
    pub(super) fn dispatch(&mut self, connection: Accepted, turn: &mut Turn<'_>) {
        let Some(worker) = self.choose(&connection, turn) else {
            self.held.push_back(connection);
            return;
        };
        let queue = self
            .queues
            .get_mut(&worker)
            .expect("a member of the rotation has a queue");
        if !self.unflushed.contains(&worker) {
            self.unflushed.push(worker);
        }
        turn.loads.give(worker);
        if queue.push(connection) {
            self.flush(worker, turn);
        }
        self.respect_limit(worker, turn);
    }

    /// Who gets the connection: the next in rotation that may have one more.
    fn choose(&mut self, connection: &Accepted, turn: &mut Turn<'_>) -> Option<WorkerId> {
        if turn.loads.is_full(turn.now) {
            return None;
        }
        loop {
            let worker = self.rotation.pick(&connection.peer, turn.loads)?;
            if self.can_take(worker, turn) {
                return Some(worker);
            }
        }
    }

    /// Whether the worker may have one more connection; it stands aside if not.
    pub(super) fn can_take(&mut self, worker: WorkerId, turn: &mut Turn<'_>) -> bool {
        let queue = self.queues.get(&worker);
        let under_way = || queue.map_or(0, AcceptQueue::under_way);
        let Some(reason) = turn.loads.obstacle(worker, turn.now, under_way) else {
            return true;
        };
        self.rotation.miss(worker, reason, 1);
        self.rotation.set_aside(worker, reason);
        if reason == Reason::NoRoom {
            self.no_room(worker, turn.now);
        }
        false
    }

    /// A worker that has got as many connections as it may have stands aside at once.
    pub(super) fn respect_limit(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        if turn.loads.is_at_limit(worker, turn.now) {
            self.rotation.set_aside(worker, Reason::AtLimit);
        }
    }

    /// Lets those have connections again that are no longer at their limit.
    pub(super) fn lift_limits(&mut self, turn: &mut Turn<'_>) {
        for worker in self.rotation.aside_for(Reason::AtLimit) {
            if !turn.loads.is_at_limit(worker, turn.now) {
                self.rotation.restore(worker, Reason::AtLimit);
            }
        }
    }

    /// Holds again what could not be sent to the worker.
    pub(super) fn hold(&mut self, worker: WorkerId, pending: Vec<Accepted>, turn: &mut Turn<'_>) {
        turn.loads.take_back(worker, pending.len() as u64);
        for connection in pending.into_iter().rev() {
            self.held.push_front(connection);
        }
    }

    pub(super) fn flush_all(&mut self, turn: &mut Turn<'_>) {
        while let Some(&worker) = self.unflushed.last() {
            self.flush(worker, turn);
        }
        turn.closing.close();
    }

    /// Sends the worker's packet; what cannot be sent is held again.
    pub(super) fn flush(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.unflushed.retain(|&unflushed| unflushed != worker);
        let Some(queue) = self.queues.get_mut(&worker) else {
            return;
        };
        match queue.flush(turn.scratch, turn.closing) {
            Ok(count) => {
                self.counters.handed_off += count as u64;
                self.delays.note_sent(count as u64, turn.now, clock::now());
                self.note_given(worker);
                self.expect_movement(turn.now);
            }
            Err(err) => self.flush_failed(worker, err, turn),
        }
    }

    /// What was to be sent to the worker is held again.
    pub(super) fn flush_failed(&mut self, worker: WorkerId, err: SendError, turn: &mut Turn<'_>) {
        let Some(queue) = self.queues.get_mut(&worker) else {
            return;
        };
        let pending = queue.take_pending();
        let turns = pending.len() as u64;
        self.hold(worker, pending, turn);
        match err {
            SendError::Full => {
                self.rotation.miss(worker, Reason::Saturated, turns);
                self.saturate(worker, turn);
            }
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
    fn saturate(&mut self, worker: WorkerId, turn: &Turn<'_>) {
        log::debug!("{worker} {}: saturated", self.name);
        self.rotation.set_aside(worker, Reason::Saturated);
        let Some(queue) = self.queues.get(&worker) else {
            return;
        };
        let token = Source::Queue(worker, self.id).into();
        if let Err(err) = queue.await_room() {
            log::error!("{worker} {}: narrow its accept queue: {err}", self.name);
        }
        let watched =
            turn.registry
                .register(&mut SourceFd(&queue.as_raw_fd()), token, Interest::WRITABLE);
        match watched {
            Err(err) if err.kind() != io::ErrorKind::AlreadyExists => {
                log::error!("{worker} {}: watch its accept queue: {err}", self.name);
                // Nothing will say when it has room: try again.
                self.rotation.restore(worker, Reason::Saturated);
                self.pause(turn.now, &AcceptError::Exhausted(err));
            }
            Ok(()) | Err(_) => {}
        }
    }
}
