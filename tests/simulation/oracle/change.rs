//! What an operator changes: the answer that is due, and what is promised from then on.

use std::cmp::Ordering;

use super::*;

impl Oracle {
    /// Somebody wants this now. The answer that the supervisor has to give.
    pub(crate) fn order(&mut self, now: Instant, order: Order) -> Result<(), Refused> {
        self.is_called(now);
        let answer = self.obey(order);
        if answer.is_err() {
            self.tally.saw(Feat::Refusal);
        }
        answer
    }

    fn obey(&mut self, order: Order) -> Result<(), Refused> {
        match order {
            Order::Reload(plan) => {
                self.is_up()?;
                self.reload(plan)
            }
            Order::Abort => self.abort_reload(),
            Order::Scale { workers } => {
                self.is_up()?;
                if workers == 0 && self.plan.agents == 0 {
                    return Err(Refused::NobodyLeft);
                }
                let slots = workers + self.plan.spare;
                let mut left = (0..slots).map(|slot| self.seats.get(&(Role::Worker, Slot(slot))));
                let all_drained =
                    left.all(|seat| seat.is_some_and(|it| it.parked == Some(Parked::Drained)));
                if workers > 0 && workers != self.plan.workers && all_drained {
                    return Err(Refused::AllDrained);
                }
                self.scale(workers);
                Ok(())
            }
            Order::Drain { role, slot } => {
                self.is_up()?;
                self.has_slot(role, slot)?;
                self.tally.saw(Feat::SlotDrained);
                self.clear(role, slot);
                let seat = self.seat((role, slot));
                seat.due = None;
                seat.is_fresh = false;
                seat.parked = Some(Parked::Drained);
                Ok(())
            }
            Order::Restart { role, slot } => {
                self.is_up()?;
                self.has_slot(role, slot)?;
                self.tally.saw(Feat::SlotRestarted);
                self.restart_slot(role, slot);
                Ok(())
            }
            Order::Adopt {
                min_workers,
                unhealthy_exit,
                max_age,
            } => {
                self.tally.saw(Feat::Adopted);
                self.plan.min_workers = min_workers;
                self.plan.unhealthy_exit = unhealthy_exit;
                self.plan.max_age = max_age;
                Ok(())
            }
        }
    }

    fn is_up(&self) -> Result<(), Refused> {
        match self.era {
            Era::Before | Era::Boot => Err(Refused::NotReady),
            Era::Up => Ok(()),
            Era::Ending { .. } | Era::Over(_) => Err(Refused::Stopping),
        }
    }

    fn has_slot(&self, role: Role, slot: Slot) -> Result<(), Refused> {
        if slot.0 < self.slots(role) {
            Ok(())
        } else {
            Err(Refused::NoSuchSlot { role, slot })
        }
    }

    fn reload(&mut self, plan: RolloutPlan) -> Result<(), Refused> {
        if self.reload.is_some() {
            return Err(Refused::Reloading);
        }
        if plan.surge == 0 && plan.unavailable == 0 {
            return Err(Refused::NoWay);
        }
        let Generation(newest) = self.newest;
        self.newest = Generation(newest + 1);
        self.reload = Some(Reload::to(self.newest, plan));
        self.seats.values_mut().for_each(|it| it.is_passed = false);
        self.blur(plan);
        self.workers
            .values_mut()
            .for_each(|it| it.is_disturbed = true);
        self.tally.saw(Feat::Reload);
        Ok(())
    }

    fn abort_reload(&mut self) -> Result<(), Refused> {
        match &mut self.reload {
            Some(reload) if reload.way == Way::Forward => {
                reload.is_to_turn_back = true;
                self.tally.saw(Feat::Aborted);
                Ok(())
            }
            Some(_) | None => Err(Refused::NotReloading),
        }
    }

    fn scale(&mut self, workers: u32) {
        self.tally.saw(match workers.cmp(&self.plan.workers) {
            Ordering::Less => Feat::ScaleDown,
            Ordering::Equal => Feat::ScaleToTheSame,
            Ordering::Greater => Feat::ScaleUp,
        });
        let before = self.plan.slots();
        self.plan.workers = workers;
        let after = self.plan.slots();
        for slot in (after..before).map(Slot) {
            self.clear(Role::Worker, slot);
            self.seats.remove(&(Role::Worker, slot));
        }
        for slot in (before..after).map(Slot) {
            let is_fresh = true;
            let seat = Seat {
                is_fresh,
                ..Seat::default()
            };
            self.seats.insert((Role::Worker, slot), seat);
        }
    }

    /// A worker that serves is replaced; anything else gives way at once.
    fn restart_slot(&mut self, role: Role, slot: Slot) {
        if let Some(id) = self.incumbent(role, slot) {
            let worker = self.worker(id);
            if role == Role::Worker && worker.standing == Standing::Serving {
                worker.is_asked_for = true;
                return;
            }
            worker.part = Part::Nobody;
        }
        let seat = self.seat((role, slot));
        seat.due = None;
        seat.is_fresh = true;
        seat.parked = None;
    }

    /// Nobody is wanted there any more.
    fn clear(&mut self, role: Role, slot: Slot) {
        for worker in self.workers.values_mut() {
            if (worker.role, worker.slot) == (role, slot) {
                worker.part = Part::Nobody;
                worker.is_replaced = false;
            }
        }
    }
}
