//! Whether a job can be one: its limits, and what is said of one that breaks them.
//!
//! The same words for the configuration file and for a process that registers a job.

use std::time::Duration;

use thiserror::Error;
use worker_proto::job::{JobSpec, Schedule};
use worker_proto::message::MAX_NAME_BYTES;

use super::timetable::Timetable;
use jiff::tz::TimeZone;

/// Why a job cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    /// It has no name.
    #[error("a job needs a name")]
    NoName,
    /// Its name is too long.
    #[error("the name has {len} bytes: at most {MAX_NAME_BYTES}")]
    LongName {
        /// How long it is.
        len: usize,
    },
    /// Its name cannot be shown.
    #[error("name {name:?}: control characters are not for names")]
    OddName {
        /// As it was given.
        name: String,
    },
    /// It would be due too often, or too rarely.
    #[error(
        "interval {}: from {} to {LONGEST_DAYS} days; for what is rarer there is cron",
        time(interval), time(&LEAST_INTERVAL)
    )]
    Interval {
        /// As it was given.
        interval: Duration,
    },
    /// Its cron line is none.
    #[error("cron {expression:?}: {reason}")]
    Cron {
        /// As it was given.
        expression: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// There is no such time zone.
    #[error("time zone {name:?}: no such zone; write one such as Europe/Berlin, or UTC")]
    TimeZone {
        /// As it was given.
        name: String,
    },
    /// A run would have no time, or too much.
    #[error(
        "timeout {}: more than nothing, and at most {LONGEST_DAYS} days",
        time(timeout)
    )]
    Timeout {
        /// As it was given.
        timeout: Duration,
    },
    /// A run could come after the next one was due.
    #[error(
        "jitter {}: less than the interval, and less than {LONGEST_DAYS} days",
        time(jitter)
    )]
    Jitter {
        /// As it was given.
        jitter: Duration,
    },
}

/// Whether the job can be one.
///
/// # Errors
/// See [`Unfit`].
pub fn check(spec: &JobSpec) -> Result<(), Unfit> {
    timetable(spec, &TimeZone::UTC).map(drop)
}

/// When the job is due, if it can be one.
pub(super) fn timetable(spec: &JobSpec, home: &TimeZone) -> Result<Timetable, Unfit> {
    let name = &spec.name;
    if name.is_empty() {
        return Err(Unfit::NoName);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Unfit::LongName { len: name.len() });
    }
    if name.chars().any(char::is_control) {
        return Err(Unfit::OddName { name: name.clone() });
    }
    if let Some(timeout) = spec.timeout
        && (timeout.is_zero() || timeout > LONGEST)
    {
        return Err(Unfit::Timeout { timeout });
    }
    let longest_jitter = match spec.schedule {
        Schedule::Interval(interval) => {
            if !(LEAST_INTERVAL..=LONGEST).contains(&interval) {
                return Err(Unfit::Interval { interval });
            }
            interval
        }
        Schedule::Cron { .. } | Schedule::Never => LONGEST,
    };
    if spec.jitter > Duration::ZERO && spec.jitter >= longest_jitter {
        let jitter = spec.jitter;
        return Err(Unfit::Jitter { jitter });
    }
    Timetable::of(&spec.schedule, home)
}

fn time(time: &Duration) -> String {
    humantime::format_duration(*time).to_string()
}

/// What is due more often is no job but a loop.
const LEAST_INTERVAL: Duration = Duration::from_millis(10);

/// Keeps the sum of a time and another away from the clock's end.
const LONGEST: Duration = Duration::from_secs(LONGEST_DAYS * 24 * 3600);

const LONGEST_DAYS: u64 = 366;
