//! The strategy: how the next worker is chosen among those that have room.

use std::fmt;

use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

/// A way to choose.
///
/// A strategy keeps no list of members: it sees them all each time, so it cannot disagree with
/// the rotation about who is there. What it remembers, it remembers by slot and worker id.
pub trait Strategy: Send + fmt::Debug {
    /// The index of the member that gets the next connection, from this peer.
    ///
    /// `members` is never empty, and ordered by slot, then by worker id. An index beyond its end
    /// chooses nobody.
    fn choose(&mut self, members: &[Member], peer: &Address) -> usize;
}

/// A worker that has room for a connection.
///
/// Ordered by slot, then by id: two workers share a slot while one replaces the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its position.
    pub slot: Slot,
    /// Its identity.
    pub worker: WorkerId,
    /// How much it has to do, as last reported to the rotation; 0 if nobody reports.
    pub load: u32,
}

impl Member {
    /// What orders the members.
    #[must_use]
    pub fn key(&self) -> (Slot, WorkerId) {
        (self.slot, self.worker)
    }
}
