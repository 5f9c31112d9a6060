//! Whether the cluster has come to rest: for those who wait for what they have asked for.

use super::*;

impl Supervisor {
    /// Whether everything is as it should be: whoever there is serves, every slot that is not kept empty
    /// has somebody in it, and nobody is about to be replaced.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.stage == Stage::Serving
            && self.rollout.is_none()
            && self.seats.iter().all(is_at_rest)
            && self.processes.values().all(Process::is_serving)
    }

    /// Whether the slot, whatever happens in the others, is as it should be. One that is no more is,
    /// when those who were in it have left.
    #[must_use]
    pub fn is_slot_settled(&self, role: Role, slot: Slot) -> bool {
        let mut seats = self.seats.iter();
        let seat = seats.find(|seat| (seat.role, seat.slot) == (role, slot));
        let mut inside = self.of_role(role).filter(|it| it.slot == slot);
        self.stage == Stage::Serving
            && seat.is_none_or(is_at_rest)
            && inside.all(|process| process.is_serving() && process.worn.is_none())
    }
}

fn is_at_rest(seat: &Seat) -> bool {
    let is_filled = match seat.occupancy {
        Occupancy::Taken { .. } | Occupancy::Parked { .. } => true,
        Occupancy::Fresh | Occupancy::Vacant { .. } => false,
    };
    is_filled && seat.renewal == Renewal::None
}
