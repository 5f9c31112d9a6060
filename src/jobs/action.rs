//! What the jobs want done. The reactor does it, in this order.

use worker_proto::ids::WorkerId;
use worker_proto::job::JobRun;

use super::notice::Notice;
use super::run::Verdict;

/// An order to the reactor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Have it run this; answered by `Done`, or by `Gone`.
    Run {
        /// Whom.
        worker: WorkerId,
        /// What.
        run: JobRun,
    },
    /// Tell it that nobody waits for the result any more.
    Cancel {
        /// Whom.
        worker: WorkerId,
        /// Which.
        run: u64,
    },
    /// Answer its `RegisterJob`.
    Answer {
        /// Whom.
        worker: WorkerId,
        /// Which job.
        name: String,
        /// What is wrong with it, if something is.
        problem: Option<String>,
    },
    /// Tell whoever is interested.
    Notify(Notice),
    /// Tell whoever waits for this run.
    Conclude {
        /// Which job.
        job: String,
        /// Which run.
        run: u64,
        /// What came of it.
        verdict: Verdict,
    },
}
