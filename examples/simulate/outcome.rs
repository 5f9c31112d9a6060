//! What came of it.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::work::MEAN;

/// The result of one run. Waiting times are in means of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// How many connections were measured.
    pub(crate) connections: u64,
    /// How much of the time workers were busy.
    pub(crate) busy: f64,
    /// Of the worker with the most connections, how many times the mean it had.
    pub(crate) connections_spread: f64,
    /// Of the busiest worker, how many times the mean it was busy.
    pub(crate) busy_spread: f64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// How much of the time workers stood aside, for their accept queue was full.
    pub(crate) saturated: f64,
    /// How many connections found nobody with room, and waited in the listen backlog.
    pub(crate) held: f64,
    /// How many found the backlog full.
    pub(crate) refused: f64,
}

/// How long clients waited.
#[derive(Debug)]
pub(crate) struct Waits {
    histogram: Histogram<u64>,
    sum: Duration,
}

impl Waits {
    pub(crate) fn new() -> Waits {
        Waits {
            histogram: Histogram::new_with_max(LONGEST_NANOS, 3)
                .expect("three digits are possible"),
            sum: Duration::ZERO,
        }
    }

    pub(crate) fn note(&mut self, wait: Duration) {
        self.sum += wait;
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(nanos);
    }

    /// So many of them were no longer, in means of work.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        let wait = Duration::from_nanos(self.histogram.value_at_quantile(quantile));
        wait.div_duration_f64(MEAN)
    }

    /// In means of work.
    pub(crate) fn mean(&self) -> f64 {
        self.sum.div_duration_f64(MEAN) / self.histogram.len().max(1) as f64
    }
}

/// How many times the mean the greatest is; 1 if there is nothing.
pub(crate) fn spread(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let sum: f64 = values.clone().sum();
    let most = values.fold(0.0, f64::max);
    if sum == 0.0 { 1.0 } else { most * count / sum }
}

/// More than anybody waits: 11 days.
const LONGEST_NANOS: u64 = 1_000_000_000_000_000;
