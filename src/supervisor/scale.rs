//! The number of slots: workers come and go at the upper end.

use std::time::Instant;

use super::*;

impl Supervisor {
    /// From now on there are that many workers, beside the spare ones. The highest slots leave.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn scale(&mut self, now: Instant, workers: u32) -> Result<(), Refused> {
        self.is_up()?;
        if workers == 0 && self.slots(Role::Agent) == 0 {
            return Err(Refused::NobodyLeft);
        }
        let from = self.plan.workers;
        if workers == from {
            return Ok(());
        }
        if workers > 0 && self.would_be_drained(workers) {
            return Err(Refused::AllDrained);
        }
        self.plan.workers = workers;
        self.notify(Notice::Scaled { from, to: workers });
        let slots = self.plan.slots();
        self.seats
            .retain(|seat| seat.role == Role::Agent || seat.slot.0 < slots);
        let target = self.generation;
        for slot in self.slots(Role::Worker)..slots {
            self.seats
                .push(Seat::fresh(Role::Worker, Slot(slot), target));
        }
        self.settle(now);
        Ok(())
    }

    /// Whether an operator keeps every slot empty that would be left.
    fn would_be_drained(&self, workers: u32) -> bool {
        let slots = self.plan.slots_for(workers);
        let mut left = self
            .seats
            .iter()
            .filter(|seat| seat.role == Role::Worker && seat.slot.0 < slots);
        let why = Parked::Drained;
        slots <= self.slots(Role::Worker)
            && left.all(|seat| seat.occupancy == Occupancy::Parked { why })
    }

    /// How many slots the role has, filled or not.
    #[must_use]
    pub fn slots(&self, role: Role) -> u32 {
        let seats = self.seats.iter().filter(|seat| seat.role == role).count();
        u32::try_from(seats).unwrap_or(u32::MAX)
    }
}
