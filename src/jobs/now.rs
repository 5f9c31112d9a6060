//! Now, on both clocks: intervals are counted on the one that nobody sets, cron lines mean the other.

use std::time::Instant;

use jiff::Timestamp;

/// A moment, as it is told to [`Jobs`](super::Jobs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes backwards.
    pub monotonic: Instant,
    /// What a clock on the wall shows: may be set, forth and back.
    pub wall: Timestamp,
}

impl Now {
    /// What the wall clock showed at another moment of the other one, had nobody set it.
    pub(super) fn wall_at(&self, moment: Instant) -> Timestamp {
        let passed = self.monotonic.saturating_duration_since(moment);
        let to_come = moment.saturating_duration_since(self.monotonic);
        let wall = self.wall.checked_sub(passed).unwrap_or(Timestamp::MIN);
        wall.checked_add(to_come).unwrap_or(Timestamp::MAX)
    }
}
