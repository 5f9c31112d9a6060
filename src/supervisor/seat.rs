//! One slot of one role, and who is in it.
//!
//! A seat has at most one incumbent. Whoever lost it may still be leaving while the next is
//! already in it.

use std::time::Instant;

use worker_proto::ids::{Role, Slot, WorkerId};

use super::backoff::Backoff;

/// A slot that has to be filled.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) role: Role,
    pub(super) slot: Slot,
    pub(super) occupancy: Occupancy,
    pub(super) backoff: Backoff,
}

/// Who is in a seat, or what keeps it empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// Nobody was in it yet; its first process is not a restart.
    Fresh,
    /// The incumbent.
    Taken { by: WorkerId },
    /// A restart comes then, if the restart limit lets it.
    Vacant { due: Instant },
    /// It is not filled again.
    Parked,
}

impl Seat {
    pub(super) fn fresh(role: Role, slot: Slot) -> Seat {
        Seat {
            role,
            slot,
            occupancy: Occupancy::Fresh,
            backoff: Backoff::default(),
        }
    }

    /// When its restart comes, if one comes.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.occupancy {
            Occupancy::Vacant { due } => Some(due),
            Occupancy::Fresh | Occupancy::Taken { .. } | Occupancy::Parked => None,
        }
    }
}
