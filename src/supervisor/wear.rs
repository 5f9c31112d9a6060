//! Wear: why a worker that does nothing wrong is replaced, and how limits are spread so that workers
//! that started together do not wear out together.

use std::fmt;
use std::time::Duration;

use worker_proto::ids::WorkerId;

/// Why a worker is replaced that could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wear {
    /// It is as old as a worker may get.
    Age,
    /// It has received as many connections as one may.
    Connections {
        /// How many.
        received: u64,
    },
    /// It takes more memory than it may.
    Memory {
        /// Its resident set in bytes, see `proc_pid_statm(5)`.
        resident: u64,
    },
    /// An operator wants it.
    Asked,
}

/// By how much a limit is lowered for one worker: a share of it, the same for the worker's whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter {
    /// The most, in percent of the limit; up to 100.
    pub percent: u8,
}

impl Jitter {
    /// The limit as it is for this worker.
    #[must_use]
    pub fn limit(self, worker: WorkerId, limit: u64) -> u64 {
        let most = u128::from(limit) * u128::from(self.percent.min(100)) / 100;
        let share = most * u128::from(scatter(worker)) / u128::from(u64::MAX);
        limit - u64::try_from(share).unwrap_or(limit)
    }

    /// The same for a time.
    #[must_use]
    pub fn time(self, worker: WorkerId, limit: Duration) -> Duration {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.limit(worker, millis))
    }
}

/// Neighbouring ids to numbers that have nothing to do with each other: the finalizer of SplitMix64.
fn scatter(WorkerId(id): WorkerId) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl fmt::Display for Wear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wear::Age => f.write_str("old enough"),
            Wear::Connections { received } => write!(f, "has received {received} connections"),
            Wear::Memory { resident } => write!(f, "takes {} MiB of memory", resident >> 20),
            Wear::Asked => f.write_str("asked to"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_lowered_by_the_jitter_at_most_and_never_raised() {
        let jitter = Jitter { percent: 20 };
        let limits: Vec<u64> = (1..=100)
            .map(|id| jitter.limit(WorkerId(id), 1_000))
            .collect();
        assert!(limits.iter().all(|limit| (800..=1_000).contains(limit)));
        assert!(limits.iter().any(|limit| *limit < 840));
        assert!(limits.iter().any(|limit| *limit > 960));
    }

    #[test]
    fn without_jitter_a_limit_is_what_it_is() {
        let jitter = Jitter { percent: 0 };
        assert_eq!(jitter.limit(WorkerId(7), u64::MAX), u64::MAX);
        let hour = Duration::from_secs(3_600);
        assert_eq!(jitter.time(WorkerId(7), hour), hour);
    }
}
