//! Work: what is not a connection and has to be finished before the worker leaves.
//!
//! A worker that leaves waits until nobody holds any; the holders learn from `Draining` that they
//! are waited for.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

/// A piece of work that is under way until this is dropped, with all its clones: an upload to
/// finish, a message to acknowledge. See [`Worker::begin_work`](super::Worker::begin_work).
#[derive(Clone, Debug)]
#[must_use = "the work counts as finished when this is dropped"]
pub struct Work(
    #[expect(dead_code, reason = "held, never sent on: its end is the message")]
    Arc<Sender<Infallible>>,
);

/// Where work may begin on behalf of somebody else than the program, for as long as the worker or
/// some work is there: [`Workload::wait`] returns only when nothing can begin any more.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Weak<Sender<Infallible>>);

impl Gate {
    /// `None` if all work is finished for ever.
    pub(crate) fn begin(&self) -> Option<Work> {
        self.0.upgrade().map(Work)
    }
}

/// All the work of a worker.
#[derive(Debug)]
pub(crate) struct Workload {
    begin: Arc<Sender<Infallible>>,
    /// Ends with the last piece.
    end: Receiver<Infallible>,
}

impl Workload {
    pub(crate) fn none() -> Self {
        let (begin, end) = bounded(0);
        let begin = Arc::new(begin);
        Workload { begin, end }
    }

    pub(crate) fn begin(&self) -> Work {
        Work(Arc::clone(&self.begin))
    }

    pub(crate) fn gate(&self) -> Gate {
        Gate(Arc::downgrade(&self.begin))
    }

    /// Waits until all of it is finished, for ever or at most `within`; says whether it is.
    pub(crate) fn wait(self, within: Option<Duration>) -> bool {
        let Workload { begin, end } = self;
        drop(begin);
        let ended = match within {
            Some(within) => end.recv_timeout(within),
            None => end.recv().map_err(Into::into),
        };
        matches!(ended, Err(RecvTimeoutError::Disconnected))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_gate_closes_after_the_last_piece() {
        let workload = Workload::none();
        let gate = workload.gate();
        let piece = gate.begin().unwrap();
        assert!(!workload.wait(Some(Duration::from_millis(1))));
        let other = gate.begin().unwrap();
        drop((piece, other));
        assert!(gate.begin().is_none());
    }

    #[test]
    fn work_is_waited_for_to_the_last_piece() {
        assert!(Workload::none().wait(None));
        let workload = Workload::none();
        let pieces = [workload.begin(), workload.begin().clone()];
        assert!(!workload.wait(Some(Duration::from_millis(1))));
        drop(pieces);

        let workload = Workload::none();
        let piece = workload.begin();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| workload.wait(None));
            drop(piece);
            assert!(waiting.join().unwrap());
        });
    }
}
