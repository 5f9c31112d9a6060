//! Overflow: what becomes of clients while nobody has room for them.

use std::time::{Duration, Instant};

use super::{Serving, Trouble, Turn};
use crate::config::Overflow;
use crate::dispatch::Reason;
use crate::reactor::queue::AcceptQueue;
use crate::sys::listening::Accepted;

/// Whether somebody has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// No worker was ever ready: the clients wait for the first.
    Expected,
    Ample,
    /// Nobody has room, since then.
    Lacking {
        since: Instant,
    },
    /// Nobody has had room for so long that clients are refused.
    Overflowing {
        refused: u64,
    },
}

impl Serving {
    /// Looks whether somebody has room, and what follows from it.
    pub(super) fn update_room(&mut self, turn: &mut Turn<'_>) {
        if self.is_about_to_refuse(turn.now) && !self.rotation.has_room() {
            self.relieve_partly(turn);
        }
        let has_room = self.rotation.has_room() && !turn.loads.is_full(turn.now);
        let before = self.room;
        self.room = match (before, self.rules.overflow) {
            // Nobody new is let in any more.
            _ if has_room || self.is_closing() => Room::Ample,
            (Room::Expected, _) if self.rotation.is_empty() => Room::Expected,
            (Room::Expected | Room::Ample, _) => Room::Lacking { since: turn.now },
            (Room::Lacking { since }, Overflow::Refuse { after, .. })
                if turn.now >= since + after =>
            {
                self.report_overflow(turn.now, after);
                Room::Overflowing { refused: 0 }
            }
            (Room::Lacking { .. } | Room::Overflowing { .. }, _) => before,
        };
        if let (
            Room::Overflowing {
                refused: refused @ 1..,
            },
            Room::Ample,
        ) = (before, self.room)
            && has_room
        {
            log::info!(
                "{}: has room again, {refused} connections were refused",
                self.name
            );
        }
    }

    fn is_about_to_refuse(&self, now: Instant) -> bool {
        self.is_overflowing() || self.overflow_deadline().is_some_and(|at| at <= now)
    }

    /// The kernel tells of room when about three quarters are received. Nobody is refused while
    /// there is any.
    fn relieve_partly(&mut self, turn: &mut Turn<'_>) {
        for worker in self.rotation.aside_for(Reason::Saturated) {
            if self
                .queues
                .get_mut(&worker)
                .is_some_and(AcceptQueue::has_room)
            {
                self.relieve(worker, turn.registry);
            }
        }
    }

    pub(super) fn is_overflowing(&self) -> bool {
        matches!(self.room, Room::Overflowing { .. })
    }

    /// When clients begin to be refused.
    pub(super) fn overflow_deadline(&self) -> Option<Instant> {
        match (self.room, self.rules.overflow) {
            (Room::Lacking { since }, Overflow::Refuse { after, .. }) => Some(since + after),
            (Room::Expected | Room::Ample | Room::Lacking { .. } | Room::Overflowing { .. }, _) => {
                None
            }
        }
    }

    /// Refuses what is held or was reclaimed, while nobody has room for it.
    pub(super) fn refuse_overflowing(&mut self, turn: &mut Turn<'_>) {
        while let Some(connection) = self.next_held(turn) {
            self.refuse(connection);
        }
    }

    /// Closes a connection that nobody has room for.
    pub(super) fn refuse(&mut self, connection: Accepted) {
        if let Overflow::Refuse { how, .. } = self.rules.overflow {
            connection.refuse(how);
        }
        self.counters.refused.overflow += 1;
        if let Room::Overflowing { refused } = &mut self.room {
            *refused += 1;
        }
    }

    fn report_overflow(&mut self, now: Instant, after: Duration) {
        if self.may_warn(Trouble::Overflow, now) {
            log::warn!(
                "{}: no worker has had room for {after:?}: connections are refused until one has",
                self.name
            );
        }
    }
}
