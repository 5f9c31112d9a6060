//! What the jobs tell about themselves: once, in words for the log, and as data for everybody else.

use std::fmt;
use std::time::Duration;

use log::Level;
use worker_proto::ids::Role;

use super::roster::Member;

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody was given a run.
    Started(Errand),
    /// Its handler has come to a result.
    Done {
        /// Which.
        errand: Errand,
        /// How long it took.
        took: Duration,
        /// What the handler says.
        result: String,
    },
    /// Its handler has come to an error.
    Failed {
        /// Which.
        errand: Errand,
        /// How long it took.
        took: Duration,
        /// What the handler says.
        error: String,
        /// How many of this job failed since one did not, this one included.
        in_a_row: u32,
    },
    /// It took too long: it counts as failed, and nobody waits for it any more.
    TimedOut {
        /// Which.
        errand: Errand,
        /// How long it may take.
        timeout: Duration,
        /// As in `Failed`.
        in_a_row: u32,
    },
    /// One that took too long is over at last.
    Ended {
        /// Which.
        errand: Errand,
        /// How long it took.
        took: Duration,
    },
    /// The process that ran it is gone.
    Lost {
        /// Which.
        errand: Errand,
        /// Since when it had it.
        took: Duration,
        /// What becomes of it.
        next: Aftermath,
    },
    /// It was due, or wanted, and is left out.
    Skipped {
        /// Which job.
        job: String,
        /// Why.
        why: Skip,
        /// How many of this job were left out since one was not, this one included.
        in_a_row: u64,
    },
    /// Processes want a job run that nobody has wanted so far.
    Registered {
        /// Which job.
        job: String,
    },
    /// Nobody wants it any more.
    Withdrawn {
        /// Which job.
        job: String,
    },
}

/// A run in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Which job.
    pub job: String,
    /// The run's number.
    pub run: u64,
    /// 1, and more when those before were lost.
    pub attempt: u32,
    /// Who has it.
    pub by: Member,
}

/// What becomes of a run whose process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// Another process runs it.
    Retried {
        /// Not before so long.
        after: Duration,
    },
    /// Nothing: the job is one that is run at most once.
    Dropped,
    /// Nothing: it took too many along.
    GivenUp,
}

/// Why a job that was due is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// It is not to run beside itself.
    #[error("the run before has not ended")]
    Runs,
    /// There is one that has not begun.
    #[error("the run before has not begun")]
    Waits,
    /// Too many of them run side by side.
    #[error("too many runs have not ended")]
    Crowd,
    /// Its agent is not there any more.
    #[error("there is no such agent")]
    NoAgent,
    /// The cluster ends.
    #[error("the cluster stops")]
    Stopping,
    /// Nobody wants it any more.
    #[error("the job is gone")]
    Withdrawn,
}

impl Notice {
    /// How loud it is. What happens again and again is told aloud at the first time, the second, the
    /// fourth and so on.
    #[must_use]
    pub fn level(&self) -> Level {
        let now_and_then = |is_due: bool| if is_due { Level::Warn } else { Level::Debug };
        match self {
            Notice::Started(_) | Notice::Done { .. } | Notice::Ended { .. } => Level::Debug,
            Notice::Failed { in_a_row, .. } | Notice::TimedOut { in_a_row, .. } => {
                now_and_then(in_a_row.is_power_of_two())
            }
            Notice::Lost { .. } => Level::Warn,
            Notice::Skipped {
                why: Skip::Stopping | Skip::Withdrawn,
                ..
            } => Level::Debug,
            Notice::Skipped { in_a_row, .. } => now_and_then(in_a_row.is_power_of_two()),
            Notice::Registered { .. } | Notice::Withdrawn { .. } => Level::Info,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Started(errand) => write!(f, "{errand} started"),
            Notice::Done {
                errand,
                took,
                result,
            } => write!(f, "{errand} done after {}: {result}", shown(*took)),
            Notice::Failed {
                errand,
                took,
                error,
                in_a_row,
            } => {
                write!(f, "{errand} failed after {}: {error}", shown(*took))?;
                again(f, u64::from(*in_a_row))
            }
            Notice::TimedOut {
                errand,
                timeout,
                in_a_row,
            } => {
                let timeout = shown(*timeout);
                write!(f, "{errand} has not ended within {timeout}: cancelled")?;
                again(f, u64::from(*in_a_row))
            }
            Notice::Ended { errand, took } => {
                write!(f, "{errand} ended too late, after {}", shown(*took))
            }
            Notice::Lost { errand, took, next } => {
                write!(f, "{errand} lost with its process after {}, ", shown(*took))?;
                match next {
                    Aftermath::Retried { after } if after.is_zero() => f.write_str("run again"),
                    Aftermath::Retried { after } => write!(f, "run again in {}", shown(*after)),
                    Aftermath::Dropped => f.write_str("not run again"),
                    Aftermath::GivenUp => {
                        write!(f, "given up after {} attempts", errand.attempt)
                    }
                }
            }
            Notice::Skipped { job, why, in_a_row } => {
                write!(f, "job {job} skipped: {why}")?;
                again(f, *in_a_row)
            }
            Notice::Registered { job } => write!(f, "job {job} registered"),
            Notice::Withdrawn { job } => write!(f, "job {job} is gone"),
        }
    }
}

/// `job sweep run 7 (w3 slot=2)`
impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Errand {
            job,
            run,
            attempt,
            by,
        } = self;
        let Member { worker, role, slot } = by;
        match role {
            Role::Worker => write!(f, "job {job} run {run} ({worker} slot={slot}")?,
            Role::Agent => write!(f, "job {job} run {run} (agent slot={slot}")?,
        }
        match attempt {
            1 => f.write_str(")"),
            _ => write!(f, ", attempt {attempt})"),
        }
    }
}

fn again(f: &mut fmt::Formatter<'_>, in_a_row: u64) -> fmt::Result {
    match in_a_row {
        ..=1 => Ok(()),
        _ => write!(f, " ({in_a_row} in a row)"),
    }
}

/// To the millisecond.
fn shown(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    humantime::format_duration(Duration::from_millis(millis)).to_string()
}
