//! Why a member of the rotation gets nothing for now, and what that cost it.

use std::collections::BTreeSet;

/// Why a member stands aside. Ordered by what tells most: a turn that several reasons take away
/// counts for the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It has not taken anything out of its queue for too long.
    Stalled,
    /// It may not open more descriptors.
    NoRoom,
    /// It has as many connections as it may have.
    AtLimit,
    /// Its queue is full.
    Saturated,
}

/// Every reason why one member stands aside; none while it is in the ring.
pub type Reasons = BTreeSet<Reason>;

/// The same in the rotation's own books, in a byte: under load queues are full and have room again all
/// the time, which is to cost no allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    pub(super) fn insert(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    pub(super) fn remove(&mut self, reason: Reason) {
        self.0 &= !reason.bit();
    }

    pub(super) fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// The reason that tells most.
    pub(super) fn first(self) -> Option<Reason> {
        Reason::ALL
            .into_iter()
            .find(|&reason| self.contains(reason))
    }

    pub(super) fn is_empty(self) -> bool {
        self == Marks::default()
    }

    /// Whether this is the only reason.
    pub(super) fn is_only(self, reason: Reason) -> bool {
        self.0 == reason.bit()
    }

    pub(super) fn reasons(self) -> Reasons {
        let all = Reason::ALL.into_iter();
        all.filter(|&reason| self.contains(reason)).collect()
    }
}

impl Reason {
    /// In their order.
    const ALL: [Reason; 4] = [
        Reason::Stalled,
        Reason::NoRoom,
        Reason::AtLimit,
        Reason::Saturated,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// How many turns were passed over, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// [`Reason::Stalled`].
    pub stalled: u64,
    /// [`Reason::NoRoom`].
    pub no_room: u64,
    /// [`Reason::AtLimit`].
    pub at_limit: u64,
    /// [`Reason::Saturated`].
    pub saturated: u64,
}

impl Skipped {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.stalled + self.no_room + self.at_limit + self.saturated
    }

    pub(super) fn add(&mut self, reason: Reason, turns: u64) {
        *match reason {
            Reason::Stalled => &mut self.stalled,
            Reason::NoRoom => &mut self.no_room,
            Reason::AtLimit => &mut self.at_limit,
            Reason::Saturated => &mut self.saturated,
        } += turns;
    }
}
