//! The strategy: how the next worker is chosen among those that have room.

use std::fmt;
use std::num::NonZeroU32;

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
    /// chooses nobody. `gauge` says what each has to do, now: asking costs, so only of those is
    /// asked that matter.
    fn choose(&mut self, members: &[Member], peer: &Address, gauge: &mut dyn Gauge) -> usize;

    /// Whether everybody has a turn in order, so that one who stands aside misses its turns. With
    /// any other strategy nobody has turns that could be missed.
    fn goes_in_order(&self) -> bool {
        false
    }
}

/// Knows how much a worker has to do.
///
/// Of a program that does not say what it has finished nothing is known: it counts as having
/// nothing to do, so a strategy that goes by loads treats all such programs alike, and prefers
/// them to others.
pub trait Gauge {
    /// Now; nothing for a worker of whom nothing is known.
    fn load(&mut self, worker: WorkerId) -> Load;
}

/// How much a worker has to do. What it says itself is never more than what it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that it was given and has not received.
    pub waiting: u64,
    /// Connections that it was given and has not finished, those that wait included.
    pub open: u64,
}

/// Nothing is known of anybody.
impl Gauge for () {
    fn load(&mut self, _: WorkerId) -> Load {
        Load::default()
    }
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
    /// How many times the share of a worker of weight 1 it is to get, for a strategy that weighs.
    pub weight: NonZeroU32,
}

impl Member {
    /// What orders the members.
    #[must_use]
    pub fn key(&self) -> (Slot, WorkerId) {
        (self.slot, self.worker)
    }
}
