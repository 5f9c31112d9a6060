//! The setback: how long a job rests whose processes die.
//!
//! A process may die for any reason while it runs a job, so once is nothing. A job that takes one
//! process after the other along would soon have taken the whole cluster.

use std::time::{Duration, Instant};

/// How many of a job's runs were lost in a row, and until when it rests because of that.
#[derive(Debug, Default)]
pub(super) struct Setback {
    losses: u32,
    until: Option<Instant>,
}

impl Setback {
    /// A run was lost; answers for how long the job rests.
    pub(super) fn suffer(&mut self, now: Instant) -> Duration {
        self.losses = self.losses.saturating_add(1);
        let rest = match self.losses.checked_sub(2) {
            None => Duration::ZERO,
            Some(more) => FIRST_REST
                .saturating_mul(1 << more.min(16))
                .min(LONGEST_REST),
        };
        self.until = (!rest.is_zero()).then(|| now + rest);
        rest
    }

    /// A run has come to its end, good or bad.
    pub(super) fn recover(&mut self) {
        *self = Setback::default();
    }

    /// Until when the job rests, if it does.
    pub(super) fn rest(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

/// How often a run is tried in all, where it is retried.
pub(super) const MOST_ATTEMPTS: u32 = 5;

const FIRST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(30);
