//! The boot: agents first, then workers, then everybody is told. Nothing is tried twice.

use std::time::Instant;

use super::*;

impl Supervisor {
    /// The listeners are bound.
    pub(super) fn start(&mut self, now: Instant) {
        if self.stage == Stage::Idle {
            self.stage = Stage::Booting {
                role: Role::Agent,
                since: now,
            };
        }
    }

    /// Whether every slot of this role is served.
    pub(super) fn is_complete(&self, role: Role) -> bool {
        self.seats
            .iter()
            .filter(|seat| seat.role == role)
            .all(|seat| match seat.occupancy {
                Occupancy::Taken { by } => self.is_serving(by),
                Occupancy::Fresh | Occupancy::Vacant { .. } | Occupancy::Parked { .. } => false,
            })
    }

    /// Everybody is there: let everybody know.
    pub(super) fn cluster_ready(&mut self, now: Instant, since: Instant) {
        self.stage = Stage::Serving;
        for index in 0..self.seats.len() {
            if let Occupancy::Taken { by: worker } = self.seats[index].occupancy {
                self.order(Action::AnnounceReady { worker });
            }
        }
        self.notify(Notice::ClusterReady {
            workers: self.plan.workers,
            agents: self.plan.agents,
            took: now.saturating_duration_since(since),
        });
    }
}
