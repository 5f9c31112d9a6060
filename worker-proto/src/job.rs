//! Jobs, as data: what is to be done, when, by whom, and what if not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Slot;

/// A job: a name, and everything that the master needs to have it run in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What it is called, everywhere; at most [`MAX_NAME_BYTES`](crate::message::MAX_NAME_BYTES).
    pub name: String,
    /// When it is due.
    pub schedule: Schedule,
    /// Due once as soon as the cluster is ready, too.
    pub immediate: bool,
    /// Who runs it.
    pub target: JobTarget,
    /// What happens when it is due while it still runs.
    pub overlap: Overlap,
    /// How long one run may take.
    pub timeout: Option<Duration>,
    /// Each run comes later than due by a random part of this.
    pub jitter: Duration,
    /// What happens when the process that runs it dies.
    pub on_lost: OnLost,
}

impl JobSpec {
    /// A job with every default: in one worker, not beside itself, and not again where it was lost.
    ///
    /// ```
    /// use std::time::Duration;
    /// use worker_proto::job::{JobSpec, OnLost, Schedule};
    ///
    /// let nightly = Schedule::Cron {
    ///     expression: "30 4 * * *".to_owned(),
    ///     time_zone: Some("Europe/Berlin".to_owned()),
    /// };
    /// let sweep = JobSpec {
    ///     timeout: Some(Duration::from_secs(600)),
    ///     on_lost: OnLost::Retry,
    ///     ..JobSpec::new("sweep", nightly)
    /// };
    /// assert!(!sweep.immediate);
    /// ```
    #[must_use]
    pub fn new(name: &str, schedule: Schedule) -> Self {
        JobSpec {
            name: name.to_owned(),
            schedule,
            immediate: false,
            target: JobTarget::One,
            overlap: Overlap::Skip,
            timeout: None,
            jitter: Duration::ZERO,
            on_lost: OnLost::Drop,
        }
    }
}

/// When a job is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// Never by itself: by an operator, or `immediate`.
    Never,
    /// Every so often, on the clock that nobody sets.
    Interval(Duration),
    /// When the calendar says so.
    Cron {
        /// `30 4 * * *`, `*/5 * * * * *` with seconds, `@hourly`.
        expression: String,
        /// An IANA time zone such as `Europe/Berlin`; the master's own without one.
        time_zone: Option<String>,
    },
}

/// Who runs a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JobTarget {
    /// Exactly one worker that serves.
    One,
    /// Every worker that serves.
    All,
    /// The agent of this name; without a name the first one.
    Agent(Option<String>),
    /// The worker in this slot.
    Slot(Slot),
}

/// What happens when a job is due while it still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Overlap {
    /// The new run is left out.
    Skip,
    /// The new run begins after the old one; at most one waits.
    Queue,
    /// They run side by side.
    Allow,
}

/// What happens to a run whose process dies, or leaves without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnLost {
    /// It is lost: at most once.
    Drop,
    /// Another process runs it again: at least once.
    Retry,
}

/// One run, for the process that is to do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRun {
    /// The run's number, never reused while the master lives; the same for each who runs it, and
    /// for each attempt.
    pub run: u64,
    /// The job.
    pub name: String,
    /// When it was due, in milliseconds since 1970.
    pub due_ms: u64,
    /// 1, and more when those before were lost.
    pub attempt: u32,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// How much of a job's result or error is of use to anybody, in bytes.
pub const MAX_RESULT_BYTES: usize = 4 * 1024;
