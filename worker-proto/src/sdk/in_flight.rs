//! In flight: the mark of a connection that the master counts as open.

use super::scorekeeper::Scorekeeper;
use crate::origin::Origin;

/// One connection that counts as open until this is dropped; see
/// [`Connection::into_parts`](super::Connection::into_parts).
///
/// After `fork(2)` parent and child have one each, and only that of the process which received the
/// connection counts.
#[derive(Debug)]
#[must_use = "the connection counts as finished when this is dropped"]
pub struct InFlight {
    scorekeeper: Scorekeeper,
    receiver: Origin,
}

impl InFlight {
    /// The mark of a connection that `scorekeeper` has counted as received.
    pub(crate) fn counted(scorekeeper: Scorekeeper) -> Self {
        InFlight {
            scorekeeper,
            receiver: Origin::here(),
        }
    }

    /// The mark of a connection that did not come from an accept queue, or is counted already.
    pub(crate) fn uncounted() -> Self {
        Self::counted(Scorekeeper::default())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if Origin::here() == self.receiver {
            self.scorekeeper.finished();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::origin::tests::in_a_child;
    use crate::scoreboard::Scoreboard;
    use crate::socket::{self, MasterChannel, WorkerChannel};

    #[test]
    fn a_connection_that_a_child_serves_is_finished_once() {
        let (mut scoreboard, page) = Scoreboard::create().unwrap();
        let (_master, channel): (MasterChannel, WorkerChannel) = socket::pair().unwrap();
        let scorekeeper = Scorekeeper::on(page, &Arc::new(channel));
        scorekeeper.received(1);
        let in_flight = InFlight::counted(scorekeeper);
        let mut in_flight = Some(in_flight);
        assert!(in_a_child(|| in_flight.take().is_some()));
        assert_eq!(scoreboard.read(1).score.unwrap().finished, 0);
        drop(in_flight);
        assert_eq!(scoreboard.read(1).score.unwrap().finished, 1);
    }
}
