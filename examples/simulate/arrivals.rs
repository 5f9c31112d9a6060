//! When clients come.

use std::time::Duration;

use fastrand::Rng;

use crate::work::exponential;

/// How clients come, on the average as often as the utilisation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// Each by itself, as many independent people do.
    Poisson,
    /// For 2 ms on the average three times as many as otherwise, then for 4 ms nobody.
    Bursts,
    /// So many clients for each worker, each of whom comes again when it was answered, as those
    /// of `ab -c` do. They decide themselves how much there is to do.
    Closed {
        /// How many.
        per_worker: u32,
    },
}

/// The gaps between arrivals, one after the other.
#[derive(Debug)]
pub(crate) struct Gaps {
    kind: Kind,
    mean: Duration,
    rng: Rng,
}

#[derive(Debug)]
enum Kind {
    Poisson,
    /// How long the burst goes on.
    Burst {
        left: Duration,
    },
}

impl Gaps {
    /// `None` if clients come when they are answered.
    pub(crate) fn new(arrivals: Arrivals, mean: Duration, seed: u64) -> Option<Gaps> {
        let kind = match arrivals {
            Arrivals::Poisson => Kind::Poisson,
            Arrivals::Bursts => Kind::Burst {
                left: Duration::ZERO,
            },
            Arrivals::Closed { .. } => return None,
        };
        let rng = Rng::with_seed(seed);
        Some(Gaps { kind, mean, rng })
    }

    /// How long nobody comes.
    pub(crate) fn draw(&mut self) -> Duration {
        match &mut self.kind {
            Kind::Poisson => exponential(self.mean, &mut self.rng),
            Kind::Burst { left } => {
                let mut passed = Duration::ZERO;
                loop {
                    let gap = exponential(self.mean / BURST_FACTOR, &mut self.rng);
                    if gap <= *left {
                        *left -= gap;
                        return passed + gap;
                    }
                    // Nobody remembers how long it was waited for: draw again in the next burst.
                    passed += *left + exponential(BETWEEN_BURSTS, &mut self.rng);
                    *left = exponential(BURST, &mut self.rng);
                }
            }
        }
    }
}

/// How long bursts last, how long it is quiet between them, and so how much denser they are.
const BURST: Duration = Duration::from_millis(2);
const BETWEEN_BURSTS: Duration = Duration::from_millis(4);
const BURST_FACTOR: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_they_come_as_many_come() {
        let mean = Duration::from_micros(10);
        for arrivals in [Arrivals::Poisson, Arrivals::Bursts] {
            let mut gaps = Gaps::new(arrivals, mean, 1).unwrap();
            let total: Duration = (0..2_000_000).map(|_| gaps.draw()).sum();
            let ratio = total.div_duration_f64(mean * 2_000_000);
            assert!((0.95..1.05).contains(&ratio), "{arrivals:?}: {ratio}");
        }
    }
}
