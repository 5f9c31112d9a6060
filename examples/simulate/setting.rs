//! One thing to simulate: a scenario, of one size.

use std::time::Duration;

use crate::arrivals::Arrivals;
use crate::scenario::{Renewal, Scenario};
use crate::work::MEAN;

/// A scenario and its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setting {
    pub(crate) scenario: Scenario,
    pub(crate) workers: u32,
    /// What there is to do, in percent of what all workers can do; clients in a closed loop decide
    /// themselves.
    pub(crate) utilisation: u32,
    /// How many connections wait in one worker's accept queue at most, as `--window` says.
    pub(crate) window: u64,
    /// How many things one worker does at a time.
    pub(crate) servers: u32,
    /// How many connections are measured.
    pub(crate) connections: u64,
}

impl Setting {
    /// What all workers together do in the time of one, working at the usual speed.
    pub(crate) fn capacity(&self) -> f64 {
        let slots = 0..self.workers;
        let speeds = slots.map(|slot| self.scenario.workers.speed(slot));
        f64::from(self.servers) * speeds.sum::<f64>()
    }

    /// How long it is between two connections, on the average.
    pub(crate) fn gap(&self) -> Duration {
        let load = self.capacity() * self.load() / self.scenario.stays.work();
        MEAN.div_f64(load)
    }

    /// How many connections come before it is worth measuring: until what happens hardly depends on
    /// how it began any more. For one queue that takes some times 1/(1-√ρ)² (see Kleinrock,
    /// "Queueing Systems", on the relaxation time).
    pub(crate) fn warm_up(&self) -> u64 {
        let relaxation = (1.0 - self.load().min(0.97).sqrt()).powi(-2);
        let settling = MEAN.mul_f64(2.0 * relaxation);
        let settling = settling.max(self.scenario.stays.settling());
        times(settling, self.gap())
    }

    /// How many are measured.
    pub(crate) fn measured(&self) -> u64 {
        match self.scenario.renewal {
            Renewal::Never => self.connections,
            Renewal::First => times(Duration::from_secs(1), self.gap()),
        }
    }

    /// How many clients there are in a closed loop.
    pub(crate) fn clients(&self) -> u32 {
        match self.scenario.arrivals {
            Arrivals::Closed { per_worker } => per_worker * self.workers,
            Arrivals::Poisson | Arrivals::Bursts => 0,
        }
    }

    fn load(&self) -> f64 {
        f64::from(self.utilisation) / 100.0
    }
}

/// How often one duration fits into another.
fn times(long: Duration, short: Duration) -> u64 {
    let times = long.as_nanos() / short.as_nanos().max(1);
    u64::try_from(times).unwrap_or(u64::MAX)
}
