//! What happened to connections, each counted where it happens and none computed from the others.
//!
//! accepted = handed off - reclaimed + refused + held, at the end of every turn.

/// What happened to the connections of one listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken from the kernel.
    pub accepted: u64,
    /// Put into an accept queue; a reclaimed connection counts each time.
    pub handed_off: u64,
    /// Taken back out of an accept queue, unread.
    pub reclaimed: u64,
    /// Closed by the master, because no worker was left to take them.
    pub refused: u64,
    /// Failed before they were accepted: not part of `accepted`.
    pub aborted: u64,
}
