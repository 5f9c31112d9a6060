//! What the jobs show of one to those who ask.

use std::time::Duration;

use jiff::Timestamp;
use worker_proto::ids::WorkerId;
use worker_proto::job::JobSpec;

use super::run::Verdict;

/// A job as it is now.
#[derive(Clone, Debug)]
pub struct JobView<'a> {
    /// What it is.
    pub spec: &'a JobSpec,
    /// Who wants it.
    pub origin: Origin,
    /// Who runs it, and which run.
    pub running: Vec<(u64, WorkerId)>,
    /// How many of them should have ended.
    pub overdue: usize,
    /// How many runs have not begun.
    pub waiting: usize,
    /// For how long it rests, since its processes died.
    pub rests: Option<Duration>,
    /// When it is due next.
    pub next: Option<Timestamp>,
    /// How its last run ended.
    pub last: Option<&'a Last>,
    /// What came of all of them.
    pub counts: Counts,
}

/// Who wants a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    Configured,
    /// The configuration knows it, and it does not run by itself.
    Disabled,
    /// So many processes.
    Registered(usize),
    /// Nobody any more, but it runs.
    Withdrawn,
}

/// The last run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its number.
    pub run: u64,
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What came of it.
    pub verdict: Verdict,
}

/// How often what happened to a job. A run of several processes counts for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given to a process.
    pub started: u64,
    /// Ended with a result.
    pub done: u64,
    /// Ended with an error, or took too long.
    pub failed: u64,
    /// Ended with the process.
    pub lost: u64,
    /// Given to another process after that.
    pub retried: u64,
    /// Due, and left out.
    pub skipped: u64,
}
