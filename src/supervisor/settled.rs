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
}

fn is_at_rest(seat: &Seat) -> bool {
    let is_filled = match seat.occupancy {
        Occupancy::Taken { .. } | Occupancy::Parked { .. } => true,
        Occupancy::Fresh | Occupancy::Vacant { .. } => false,
    };
    is_filled && seat.renewal == Renewal::None
}
