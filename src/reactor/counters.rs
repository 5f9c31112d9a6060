//! What happened to connections, each counted where it happens and none computed from the others.
//!
//! accepted = handed off - reclaimed + refused + held, at the end of every turn.

use crate::dispatch::Skipped;

/// What happened to the connections of one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken from the kernel.
    pub accepted: u64,
    /// Put into an accept queue; a reclaimed connection counts each time.
    pub handed_off: u64,
    /// Taken back out of an accept queue, unread.
    pub reclaimed: u64,
    /// Those of the reclaimed that were taken from a stalled worker.
    pub moved: u64,
    /// Those of the accepted that waited in a socket that had lost its worker.
    pub rescued: u64,
    /// How often a worker had shut the listening socket down, and it was listened again.
    pub mended: u64,
    /// Closed by the master.
    pub refused: Refused,
    /// Failed before they were accepted: not part of `accepted`.
    pub aborted: u64,
    /// Turns that workers missed, by reason. Those that were passed over while a worker stood aside
    /// are counted only with a strategy that goes in order, `round-robin`.
    pub skipped: Skipped,
}

/// Why the master closed connections that it had accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// No worker was left to take them, nor would be.
    pub no_worker: u64,
    /// No worker had room for them for too long: `--overflow`.
    pub overflow: u64,
}

impl Refused {
    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.no_worker + self.overflow
    }
}

/// What happened to the connections of one accept queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Put into it.
    pub handed_off: u64,
    /// Taken back out of it, unread.
    pub reclaimed: u64,
    /// The turns that its worker missed, by reason; see [`Counters::skipped`].
    pub skipped: Skipped,
}
