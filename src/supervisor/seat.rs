//! One slot of one role: who is in it, and who is about to take it over.
//!
//! A seat has at most one incumbent and at most one successor. Whoever holds no seat leaves.

use std::time::{Duration, Instant};

use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use super::backoff::Backoff;
use super::notice::Next;
use super::renewal::Renewal;

/// A slot that has to be filled.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) role: Role,
    pub(super) slot: Slot,
    /// What a vacancy is filled with.
    pub(super) generation: Generation,
    pub(super) occupancy: Occupancy,
    pub(super) renewal: Renewal,
    pub(super) backoff: Backoff,
}

/// Who is in a seat, or what keeps it empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// Its next process is no restart: nobody was in it yet, or an operator wants somebody in it.
    Fresh,
    /// The incumbent.
    Taken { by: WorkerId },
    /// A restart comes then, if the restart limit lets it.
    Vacant { due: Instant, after: WorkerId },
    /// It is not filled again until somebody wants it.
    Parked { why: Parked },
}

/// Why a seat is not filled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// The restart limit was reached, or nobody is ever restarted.
    GaveUp,
    /// Its incumbent said with its exit code that it is done.
    Done,
    /// Its incumbent said with its exit code that starting it again is of no use.
    Hopeless,
    /// An operator wants it empty.
    Drained,
    /// The cluster is not up, or stops.
    Ending,
}

impl Seat {
    pub(super) fn fresh(role: Role, slot: Slot, generation: Generation) -> Seat {
        Seat {
            role,
            slot,
            generation,
            occupancy: Occupancy::Fresh,
            renewal: Renewal::None,
            backoff: Backoff::default(),
        }
    }

    pub(super) fn incumbent(&self) -> Option<WorkerId> {
        match self.occupancy {
            Occupancy::Taken { by } => Some(by),
            Occupancy::Fresh | Occupancy::Vacant { .. } | Occupancy::Parked { .. } => None,
        }
    }

    /// How many processes hold it.
    pub(super) fn holders(&self) -> usize {
        usize::from(self.incumbent().is_some()) + usize::from(self.renewal.successor().is_some())
    }

    pub(super) fn is_held_by(&self, worker: WorkerId) -> bool {
        self.incumbent() == Some(worker) || self.renewal.successor() == Some(worker)
    }

    /// What becomes of it without its successor.
    pub(super) fn next(&self, now: Instant) -> Next {
        match self.occupancy {
            Occupancy::Taken { .. } => Next::PredecessorStays,
            Occupancy::Fresh => Next::RestartIn(Duration::ZERO),
            Occupancy::Vacant { due, .. } => Next::RestartIn(due.saturating_duration_since(now)),
            Occupancy::Parked { .. } => Next::Parked,
        }
    }

    /// When its restart comes, if one comes.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.occupancy {
            Occupancy::Vacant { due, .. } => Some(due),
            Occupancy::Fresh | Occupancy::Taken { .. } | Occupancy::Parked { .. } => None,
        }
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.occupancy, Occupancy::Parked { .. })
    }
}
