//! Reclaiming: what workers left unread goes to others.
//!
//! A packet at a time, and only when nothing is held: every connection taken back is a descriptor
//! of the master's.

use std::time::{Duration, Instant};

use worker_proto::ids::WorkerId;

use super::{Serving, Trouble, Turn};
use crate::dispatch::Reason;
use crate::reactor::queue::AcceptQueue;
use crate::sys::listening::Accepted;

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
        if !self.rotation.contains(worker) || self.short.iter().any(|short| short.worker == worker)
        {
            return;
        }
        if self.may_warn(Trouble::NoRoom, now) {
            log::warn!(
                "{worker} {}: may not open more descriptors, others get its connections: raise its limit (ulimit -n)",
                self.name
            );
        }
        self.rotation.set_aside(worker, Reason::NoRoom);
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

    /// Takes a packet back; answers whether there may be anything left to take.
    fn reclaim(&mut self, turn: &mut Turn<'_>) -> bool {
        if let Some(retired) = self.retired.front_mut() {
            if let Some(connections) = retired.queue.reclaim(turn.inbox) {
                let count = connections.len() as u64;
                retired.reclaimed += count;
                self.counters.reclaimed += count;
                turn.loads.take_back(retired.worker, count);
                self.held.extend(connections);
            } else {
                let Retired {
                    worker, reclaimed, ..
                } = retired;
                if *reclaimed > 0 {
                    log::info!(
                        "{worker} {}: {reclaimed} unread connections reclaimed",
                        self.name
                    );
                }
                self.retired.pop_front();
            }
            return true;
        }
        let Some(short) = self.short.iter_mut().find(|short| !short.is_emptied) else {
            return false;
        };
        let queue = self.queues.get_mut(&short.worker);
        match queue.and_then(|queue| queue.reclaim(turn.inbox)) {
            Some(connections) => {
                let count = connections.len() as u64;
                self.counters.reclaimed += count;
                turn.loads.take_back(short.worker, count);
                self.held.extend(connections);
            }
            None => short.is_emptied = true,
        }
        true
    }
}

impl Short {
    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }
}

/// How long a worker that cannot open more descriptors gets nothing.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
