//! Reclaiming: what workers left unread goes to others.
//!
//! A packet at a time, and only when nothing is held: every connection taken back is a descriptor
//! of the master's.

use std::io;
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
    /// When it may have its turn again; `None` when it may.
    until: Option<Instant>,
    /// The first packet that was sent after it said so: those before are for others.
    end: u64,
}

/// What became of an attempt to take a packet back.
#[derive(Debug)]
pub(super) enum Taken {
    /// What was in it.
    Some(Vec<Accepted>),
    /// There was none.
    Nothing,
    /// The master may not open its descriptors: it stays where it is.
    NoDescriptors,
}

impl Short {
    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }
}

impl Serving {
    /// The worker cannot open the descriptors of what waits in its queue: others get it, and the
    /// worker nothing more for a moment.
    pub(crate) fn no_room(&mut self, worker: WorkerId, now: Instant) {
        let Some(queue) = self.queues.get(&worker) else {
            return;
        };
        let short = Short {
            worker,
            until: Some(now + TRY_AGAIN_AFTER),
            end: queue.sent(),
        };
        self.short.retain(|short| short.worker != worker);
        self.short.push(short);
        self.rotation.set_aside(worker, Reason::NoRoom);
        if self.may_warn(Trouble::NoRoom(worker), now) {
            log::warn!(
                "{worker} {}: may not open more descriptors, others get its connections: raise its limit (ulimit -n)",
                self.name
            );
        }
    }

    /// Tries those again that could not open more descriptors.
    pub(super) fn try_short_again(&mut self, now: Instant) {
        for short in &mut self.short {
            if short.until.is_some_and(|until| until <= now) {
                short.until = None;
                self.rotation.restore(short.worker, Reason::NoRoom);
            }
        }
    }

    /// When that is due.
    pub(super) fn short_deadline(&self) -> Option<Instant> {
        self.short.iter().filter_map(|short| short.until).min()
    }

    /// What is to be dispatched next: held, or taken back.
    pub(super) fn next_held(&mut self, turn: &mut Turn<'_>) -> Option<Accepted> {
        loop {
            if let Some(connection) = self.held.pop_front() {
                return Some(connection);
            }
            match self.reclaim(turn) {
                Taken::Some(connections) => self.held.extend(connections),
                Taken::Nothing | Taken::NoDescriptors => return None,
            }
        }
    }

    /// Holds a packet of a queue that lost its worker, so that it counts no longer as the worker's.
    pub(super) fn hold_retired(&mut self, turn: &mut Turn<'_>) {
        if self.held.is_empty()
            && self.paused_until.is_none()
            && let Taken::Some(connections) = self.reclaim_retired(turn)
        {
            self.held.extend(connections);
        }
    }

    /// Takes a packet back.
    fn reclaim(&mut self, turn: &mut Turn<'_>) -> Taken {
        match self.reclaim_retired(turn) {
            Taken::Nothing => self.reclaim_short(turn),
            taken @ (Taken::Some(_) | Taken::NoDescriptors) => taken,
        }
    }

    fn reclaim_retired(&mut self, turn: &mut Turn<'_>) -> Taken {
        while let Some(mut retired) = self.retired.pop_front() {
            let packet = retired.queue.reclaim(turn.inbox);
            match self.take_back(retired.worker, packet, turn) {
                Taken::Nothing if retired.reclaimed > 0 => log::info!(
                    "{} {}: {} unread connections reclaimed",
                    retired.worker,
                    self.name,
                    retired.reclaimed
                ),
                Taken::Nothing => {}
                taken @ (Taken::Some(_) | Taken::NoDescriptors) => {
                    if let Taken::Some(connections) = &taken {
                        retired.reclaimed += connections.len() as u64;
                    }
                    self.retired.push_front(retired);
                    return taken;
                }
            }
        }
        Taken::Nothing
    }

    fn reclaim_short(&mut self, turn: &mut Turn<'_>) -> Taken {
        let mut index = 0;
        while let Some(&Short { worker, until, end }) = self.short.get(index) {
            let queue = self.queues.get_mut(&worker);
            let packet = match queue.filter(|queue| queue.first_unread() < end) {
                Some(queue) => queue.reclaim(turn.inbox),
                None => Ok(None),
            };
            match self.take_back(worker, packet, turn) {
                taken @ (Taken::Some(_) | Taken::NoDescriptors) => return taken,
                Taken::Nothing if until.is_none() => drop(self.short.remove(index)),
                Taken::Nothing => index += 1,
            }
        }
        Taken::Nothing
    }

    /// Counts a packet as taken back from the worker, if it could be. Without descriptors for it
    /// everything rests for a moment.
    pub(super) fn take_back(
        &mut self,
        worker: WorkerId,
        packet: io::Result<Option<Vec<Accepted>>>,
        turn: &mut Turn<'_>,
    ) -> Taken {
        match packet {
            Ok(None) => Taken::Nothing,
            Ok(Some(connections)) => {
                let count = connections.len() as u64;
                self.counters.reclaimed += count;
                turn.loads.take_back(worker, count);
                Taken::Some(connections)
            }
            Err(err) => {
                self.pause(turn.now, &AcceptError::Exhausted(err));
                Taken::NoDescriptors
            }
        }
    }
}

/// How long a worker that cannot open more descriptors gets nothing.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
