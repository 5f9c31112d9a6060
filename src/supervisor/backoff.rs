//! The back-off of one slot: each failure in a row makes the next restart wait longer.

use std::time::Duration;

use super::plan::BackoffPlan;

/// How long the next restart of a slot waits.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// The latest delay; `None` before the first failure.
    latest: Option<Duration>,
}

impl Backoff {
    /// The incumbent failed after it had served that long: how long does its successor wait?
    pub(super) fn fail(&mut self, plan: &BackoffPlan, served: Duration) -> Duration {
        let in_a_row = self.latest.filter(|_| served < plan.healthy_after);
        let delay = in_a_row.map_or(plan.first, half_more);
        let delay = delay.max(plan.first).min(plan.max);
        self.latest = Some(delay);
        delay
    }

    /// The same before a worker is replaced that wears out: that is in order, unless it served no
    /// longer than one that fails, and is not the first.
    pub(super) fn wear_out(&mut self, plan: &BackoffPlan, served: Duration) -> Duration {
        if self.latest.is_some() && served < plan.healthy_after {
            return self.fail(plan, served);
        }
        self.latest = Some(Duration::ZERO);
        Duration::ZERO
    }
}

fn half_more(delay: Duration) -> Duration {
    delay.saturating_add(delay / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: BackoffPlan = BackoffPlan {
        first: Duration::from_millis(100),
        max: Duration::from_millis(500),
        healthy_after: Duration::from_secs(10),
    };

    /// P06.
    #[test]
    fn delays_grow_by_half_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..6)
            .map(|_| backoff.fail(&PLAN, Duration::ZERO).as_micros())
            .collect();
        assert_eq!(
            delays,
            [100_000, 150_000, 225_000, 337_500, 500_000, 500_000]
        );
    }

    /// P06.
    #[test]
    fn a_worker_that_served_long_enough_ends_the_row() {
        let mut backoff = Backoff::default();
        for (served, expected) in [
            (0, 100),
            (9_999, 150),
            (10_000, 100),
            (0, 150),
            (99_999, 100),
        ] {
            let delay = backoff.fail(&PLAN, Duration::from_millis(served));
            assert_eq!(delay.as_millis(), expected, "after {served} ms");
        }
    }

    #[test]
    fn who_wears_out_early_waits_unless_it_is_the_first() {
        let mut backoff = Backoff::default();
        for (served, expected) in [(0, 0), (0, 100), (9_999, 150), (10_000, 0), (0, 100)] {
            let delay = backoff.wear_out(&PLAN, Duration::from_millis(served));
            assert_eq!(delay.as_millis(), expected, "after {served} ms");
        }
        let mut backoff = Backoff::default();
        backoff.wear_out(&PLAN, Duration::ZERO);
        assert_eq!(backoff.fail(&PLAN, Duration::ZERO), PLAN.first);
    }

    #[test]
    fn the_extremes_neither_overflow_nor_exceed_the_longest() {
        for (first, max) in [
            (Duration::ZERO, Duration::ZERO),
            (Duration::MAX, Duration::MAX),
            (Duration::MAX, Duration::from_secs(1)),
        ] {
            let plan = BackoffPlan { first, max, ..PLAN };
            let mut backoff = Backoff::default();
            assert!((0..1_000).all(|_| backoff.fail(&plan, Duration::ZERO) == max));
        }
    }
}
