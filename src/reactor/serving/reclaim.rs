//! Reclaiming: what workers left unread goes to others.
//!
//! A packet at a time, and only when nothing is held: every connection taken back is a descriptor
//! of the master's.

use std::time::{Duration, Instant};

use worker_proto::ids::WorkerId;

use super::{Serving, Trouble, Turn};
use crate::dispatch::Reason;
use crate::reactor::queue::AcceptQueue;
use crate::sys::listening::{AcceptError, Accepted};

/// A queue that lost its worker.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) worker: WorkerId,
    pub(super) queue: AcceptQueue,
    pub(super) reclaimed: u64,
}

/// A worker that cannot open more descriptors.
#[derive(Debug)]
pub(super) struct Short {
    worker: WorkerId,
    /// When it is tried again.
    until: Instant,
    /// Whether its queue may have something left to take back.
    is_emptied: bool,
}

impl Serving {
    /// The worker cannot open the descriptors of what waits in its queue: others get it, and the
    /// worker nothing more for a moment.
    pub(crate) fn no_room(&mut self, worker: WorkerId, now: Instant) {
        if !self.rotation.contains(worker) {
            return;
        }
        if self.may_warn(Trouble::NoRoom, now) {
            log::warn!(
                "{worker} {}: may not open more descriptors, others get its connections: raise its limit (ulimit -n)",
                self.name
            );
        }
        self.rotation.set_aside(worker, Reason::NoRoom);
        self.short.retain(|short| short.worker != worker);
        self.short.push(Short {
            worker,
            until: now + TRY_AGAIN_AFTER,
            is_emptied: false,
        });
    }

    /// Tries those again that could not open more descriptors.
    pub(super) fn try_short_again(&mut self, now: Instant) {
        let due = self.short.extract_if(.., |short| short.until <= now);
        for short in due {
            self.rotation.restore(short.worker, Reason::NoRoom);
        }
    }

    /// When that is due.
    pub(super) fn short_deadline(&self) -> Option<Instant> {
        self.short.iter().map(|short| short.until).min()
    }

    /// What is to be dispatched next: held, or taken back.
    pub(super) fn next_held(&mut self, turn: &mut Turn<'_>) -> Option<Accepted> {
        loop {
            if let Some(connection) = self.held.pop_front() {
                return Some(connection);
            }
            if !self.reclaim(turn) {
                return None;
            }
        }
    }

    /// Takes a packet back; answers whether there may be anything left to take now.
    fn reclaim(&mut self, turn: &mut Turn<'_>) -> bool {
        if let Some(mut retired) = self.retired.pop_front() {
            let taken = self.take_back(retired.worker, &mut retired.queue, turn);
            match taken {
                Some(count) => {
                    retired.reclaimed += count;
                    self.retired.push_front(retired);
                }
                None if self.paused_until.is_some() => self.retired.push_front(retired),
                None if retired.reclaimed > 0 => log::info!(
                    "{} {}: {} unread connections reclaimed",
                    retired.worker,
                    self.name,
                    retired.reclaimed
                ),
                None => {}
            }
            return taken.is_some() || self.paused_until.is_none();
        }
        let next = self.short.iter().position(|short| !short.is_emptied);
        let Some(next) = next else {
            return false;
        };
        let worker = self.short[next].worker;
        let queue = self.queues.remove(&worker);
        let taken = queue.and_then(|mut queue| {
            let taken = self.take_back(worker, &mut queue, turn);
            self.queues.insert(worker, queue);
            taken
        });
        self.short[next].is_emptied = taken.is_none();
        taken.is_some() || self.paused_until.is_none()
    }

    /// Takes a packet out of this queue and holds what was in it; answers how many connections
    /// that were. Without descriptors for them everything rests for a moment.
    fn take_back(
        &mut self,
        worker: WorkerId,
        queue: &mut AcceptQueue,
        turn: &mut Turn<'_>,
    ) -> Option<u64> {
        match queue.reclaim(turn.inbox) {
            Ok(connections) => {
                let connections = connections?;
                let count = connections.len() as u64;
                self.counters.reclaimed += count;
                turn.loads.take_back(worker, count);
                self.held.extend(connections);
                Some(count)
            }
            Err(err) => {
                self.pause(turn.now, &AcceptError::Exhausted(err));
                None
            }
        }
    }
}

impl Short {
    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }
}

/// How long a worker that cannot open more descriptors gets nothing.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
