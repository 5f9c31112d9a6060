//! Health: whether enough processes serve, and the end of a cluster in which they do not for too long.

use std::time::Instant;

use super::*;

impl Supervisor {
    /// Notes whether enough serve; gives up after too long a time in which they did not.
    pub(super) fn take_temperature(&mut self, now: Instant) {
        let patience = match self.plan.unhealthy_exit {
            Some(patience) if self.stage == Stage::Serving && !self.is_healthy() => patience,
            Some(_) | None => {
                self.ailing = None;
                return;
            }
        };
        match self.ailing {
            None => {
                self.ailing = Some(after(now, patience));
                self.notify(Notice::Unhealthy {
                    serving: self.serving(Role::Worker),
                    least: self.least(),
                    agents: self.serving(Role::Agent),
                    patience,
                });
            }
            Some(deadline) if deadline <= now => self.verdict.fail(StopCause::Unhealthy),
            Some(_) => {}
        }
    }

    /// When the cluster is given up if nobody comes.
    pub(super) fn next_temperature(&self) -> Option<Instant> {
        self.ailing.filter(|_| !self.verdict.is_failure())
    }

    /// Every agent that somebody wants and that is not done, and as many workers as there have to be
    /// at least.
    fn is_healthy(&self) -> bool {
        let is_missing = |seat: &Seat| match seat.occupancy {
            Occupancy::Parked { why } => !matches!(why, Parked::Drained | Parked::Done),
            Occupancy::Taken { by } => !self.is_serving(by),
            Occupancy::Fresh | Occupancy::Vacant { .. } => true,
        };
        let mut agents = self.seats.iter().filter(|seat| seat.role == Role::Agent);
        !agents.any(is_missing) && self.serving(Role::Worker) >= self.least() as usize
    }

    /// How many workers have to serve.
    fn least(&self) -> u32 {
        self.plan.min_workers.min(self.plan.workers)
    }
}
