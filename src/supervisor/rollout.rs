//! The rollout: a new generation, one seat after the other, and back again if it is no good.
//!
//! The first of the new generation is the canary: until it was ready and has served for a while, nobody
//! of the old one leaves. If one of the new generation fails while the rollout is under way, every
//! seat goes back to the generation before, in the same way.

use std::time::{Duration, Instant};

use super::*;

/// How a rollout is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutPlan {
    /// How many workers there may be beyond those that there should be. The canary comes on top of
    /// nothing even if this is 0.
    pub surge: u32,
    /// How many of those that there should be may be missing.
    pub unavailable: u32,
    /// How long the first of the new generation has to serve before the others follow.
    pub canary: Duration,
}

/// A rollout under way.
#[derive(Debug)]
pub(super) struct Rollout {
    from: Generation,
    to: Generation,
    plan: RolloutPlan,
    course: Course,
    since: Instant,
    /// How many seats have passed to the new generation.
    renewed: u32,
}

/// Where a rollout is heading.
#[derive(Debug)]
enum Course {
    /// Forward, one seat only.
    Canary,
    /// Forward.
    All,
    /// Back.
    Back { cause: RollbackCause },
}

/// How many may be too many and too few for a renewal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    pub(super) surge: u32,
    pub(super) unavailable: u32,
}

impl Allowance {
    pub(super) const ONE_MORE: Allowance = Allowance {
        surge: 1,
        unavailable: 0,
    };
}

impl Rollout {
    /// The generation that every seat has to pass to.
    pub(super) fn target(&self) -> Generation {
        match self.course {
            Course::Canary | Course::All => self.to,
            Course::Back { .. } => self.from,
        }
    }

    pub(super) fn allowance(&self) -> Allowance {
        match self.course {
            Course::Canary => Allowance::ONE_MORE,
            Course::All | Course::Back { .. } => Allowance {
                surge: self.plan.surge,
                unavailable: self.plan.unavailable,
            },
        }
    }

    /// How long one of that generation that is ready now has to prove itself; `None` if it has not.
    pub(super) fn canary(&self, generation: Generation) -> Option<Duration> {
        match self.course {
            Course::Canary if generation == self.to => Some(self.plan.canary),
            Course::Canary | Course::All | Course::Back { .. } => None,
        }
    }

    pub(super) fn is_backward(&self) -> bool {
        !self.is_forward()
    }

    fn is_forward(&self) -> bool {
        matches!(self.course, Course::Canary | Course::All)
    }
}

impl Supervisor {
    /// Begins a rollout; answers with the new generation.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn reload(&mut self, now: Instant, plan: RolloutPlan) -> Result<Generation, Refused> {
        self.is_up()?;
        if self.rollout.is_some() {
            return Err(Refused::Reloading);
        }
        if plan.surge == 0 && plan.unavailable == 0 {
            return Err(Refused::NoWay);
        }
        let Generation(newest) = self.newest;
        let to = Generation(newest + 1);
        self.newest = to;
        let from = self.generation;
        self.rollout = Some(Rollout {
            from,
            to,
            plan,
            course: Course::Canary,
            since: now,
            renewed: 0,
        });
        let workers = self.slots(Role::Worker);
        self.notify(Notice::ReloadStarted {
            generation: to,
            from,
            workers,
        });
        self.settle(now);
        Ok(to)
    }

    /// Takes every seat back to the generation before.
    ///
    /// # Errors
    /// When no rollout is under way that could be.
    pub fn abort_reload(&mut self, now: Instant) -> Result<(), Refused> {
        if !self.turn_back(RollbackCause::Asked) {
            return Err(Refused::NotReloading);
        }
        self.settle(now);
        Ok(())
    }

    /// Whether a rollout is under way, and how far it is.
    #[must_use]
    pub fn rollout(&self) -> Option<RolloutView> {
        let rollout = self.rollout.as_ref()?;
        Some(RolloutView {
            from: rollout.from,
            to: rollout.to,
            is_rollback: rollout.is_backward(),
            renewed: rollout.renewed,
            since: rollout.since,
        })
    }

    /// One of the new generation failed: whether that turns the rollout back.
    pub(super) fn rolls_back(&mut self, culprit: Who, what: &Failure) -> bool {
        let is_new = |rollout: &Rollout| rollout.is_forward() && rollout.to == culprit.generation;
        let what = what.clone();
        self.rollout.as_ref().is_some_and(is_new)
            && self.turn_back(RollbackCause::Failed { culprit, what })
    }

    /// How the one that turned the rollout back ended is a better reason than how that began.
    pub(super) fn explain_rollback(&mut self, who: Who, status: ExitStatus) {
        if let Some(Rollout {
            course:
                Course::Back {
                    cause: RollbackCause::Failed { culprit, what },
                },
            ..
        }) = &mut self.rollout
            && culprit.worker == who.worker
            && matches!(what, Failure::Disconnected | Failure::Goodbye)
        {
            *what = Failure::Exited(status);
        }
    }

    /// One more seat has passed to that generation.
    pub(super) fn advance_rollout(&mut self, generation: Generation) {
        let workers = self.slots(Role::Worker);
        let Some(rollout) = &mut self.rollout else {
            return;
        };
        if rollout.is_forward() && generation == rollout.to {
            rollout.course = Course::All;
            rollout.renewed += 1;
            let renewed = rollout.renewed;
            self.notify(Notice::ReloadProgress {
                generation,
                renewed,
                workers,
            });
        }
    }

    /// Ends the rollout when every seat is where it should be and nobody is on the way.
    pub(super) fn end_rollout(&mut self, now: Instant) {
        let Some(rollout) = &self.rollout else {
            return;
        };
        let target = rollout.target();
        let is_settled = |seat: &Seat| match seat.renewal {
            Renewal::None | Renewal::Due { .. } => !self.is_outdated(seat, target),
            Renewal::Starting { .. }
            | Renewal::Proving { .. }
            | Renewal::Leaving { .. }
            | Renewal::Rebuilding => false,
            Renewal::GivenUp => true,
        };
        if !self.seats.iter().all(is_settled) || self.has_strangers(target) {
            return;
        }
        let Some(rollout) = self.rollout.take() else {
            return;
        };
        // Slots that an operator keeps empty, and agents, follow without a successor.
        for seat in &mut self.seats {
            seat.generation = target;
            if seat.renewal == Renewal::GivenUp {
                seat.renewal = Renewal::None;
            }
        }
        self.generation = target;
        let took = now.saturating_duration_since(rollout.since);
        self.notify(match rollout.course {
            Course::Canary | Course::All => Notice::ReloadDone {
                generation: rollout.to,
                took,
            },
            Course::Back { cause } => Notice::RolledBack {
                generation: rollout.to,
                to: rollout.from,
                cause,
                took,
            },
        });
    }

    /// Whether somebody of another generation is still there who holds no seat.
    fn has_strangers(&self, target: Generation) -> bool {
        let holds_one = |worker| self.seats.iter().any(|seat| seat.is_held_by(worker));
        self.of_role(Role::Worker)
            .any(|process| process.generation != target && !holds_one(process.worker))
    }

    /// The cluster stops: that is the end of every rollout.
    pub(super) fn drop_rollout(&mut self) {
        if let Some(rollout) = self.rollout.take() {
            let (generation, to) = (rollout.to, rollout.from);
            let cause = RollbackCause::Stopping;
            self.notify(Notice::RollingBack {
                generation,
                to,
                cause,
            });
        }
    }

    /// From now on the way leads back; answers whether it led forward until now.
    fn turn_back(&mut self, cause: RollbackCause) -> bool {
        let Some(rollout) = self.rollout.as_mut().filter(|it| it.is_forward()) else {
            return false;
        };
        let (from, to) = (rollout.from, rollout.to);
        rollout.course = Course::Back {
            cause: cause.clone(),
        };
        let is_new = |worker| {
            let process = self.processes.get(&worker);
            process.is_some_and(|it| it.generation == to)
        };
        for seat in &mut self.seats {
            if seat.generation == to {
                seat.generation = from;
            }
            // Whoever has no seat any more leaves; whoever was put into an emptied one is replaced.
            let was_filled = seat.renewal == Renewal::Rebuilding && seat.incumbent().is_some();
            if seat.renewal.successor().is_some_and(is_new) || was_filled {
                seat.renewal = Renewal::None;
            }
        }
        self.notify(Notice::RollingBack {
            generation: to,
            to: from,
            cause,
        });
        true
    }
}
