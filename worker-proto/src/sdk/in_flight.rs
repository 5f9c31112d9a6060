//! In flight: the mark of a connection that the master counts as open.

use super::scorekeeper::Scorekeeper;

/// One connection that counts as open until this is dropped; see
/// [`Connection::into_parts`](super::Connection::into_parts).
///
/// After `fork(2)` parent and child have one each, and a connection is finished once: of the two,
/// the one that does not serve it does not drop it either, see [`std::mem::forget`].
#[derive(Debug)]
#[must_use = "the connection counts as finished when this is dropped"]
pub struct InFlight(Scorekeeper);

impl InFlight {
    /// The mark of a connection that `scorekeeper` has counted as received.
    pub(crate) fn counted(scorekeeper: Scorekeeper) -> Self {
        InFlight(scorekeeper)
    }

    /// The mark of a connection that did not come from an accept queue, or is counted already.
    pub(crate) fn uncounted() -> Self {
        InFlight(Scorekeeper::default())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.finished();
    }
}
