//! What an operator asks of one slot, and why that may not be possible.

use std::time::Instant;

use thiserror::Error;

use super::*;

/// Why an order was not followed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The cluster has not been ready yet.
    #[error("the cluster is not ready yet")]
    NotReady,
    /// The cluster is on its way out.
    #[error("the cluster is stopping")]
    Stopping,
    /// A rollout is under way.
    #[error("a reload is under way")]
    Reloading,
    /// No rollout is under way, or it is going back already.
    #[error("no reload is under way")]
    NotReloading,
    /// A rollout that may have nobody more and nobody less.
    #[error("with surge 0 and unavailable 0 nobody can be replaced: allow at least one of them")]
    NoWay,
    /// Without a worker there has to be an agent.
    #[error("without an agent at least one worker is needed")]
    NobodyLeft,
    /// Nobody would serve: an operator keeps empty what would be left.
    #[error("every slot that would be left is drained: restart one of them first")]
    AllDrained,
    /// There is no such slot.
    #[error("there is no {role} in slot {slot}")]
    NoSuchSlot {
        /// Of which role.
        role: Role,
        /// Which.
        slot: Slot,
    },
}

impl Supervisor {
    /// Somebody new for the slot: a worker's successor comes before it leaves, an agent's after. A slot
    /// that is empty is filled at once.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn restart_slot(&mut self, now: Instant, role: Role, slot: Slot) -> Result<(), Refused> {
        self.is_up()?;
        let index = self.seat_of(role, slot)?;
        let incumbent = self.seats[index].incumbent();
        match incumbent {
            Some(worker) if role == Role::Worker && self.is_serving(worker) => {
                self.worn(now, worker, Wear::Asked);
            }
            // There is nothing to keep of one that starts, and agents are never two.
            Some(_) | None => {
                self.seats[index].occupancy = Occupancy::Fresh;
                self.notify(Notice::Reopened { role, slot });
            }
        }
        self.settle(now);
        Ok(())
    }

    /// Whoever is in the slot finishes and leaves, and the slot stays empty until somebody wants it
    /// filled with [`restart_slot`](Self::restart_slot).
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn drain_slot(&mut self, now: Instant, role: Role, slot: Slot) -> Result<(), Refused> {
        self.is_up()?;
        let index = self.seat_of(role, slot)?;
        let seat = &mut self.seats[index];
        let why = Parked::Drained;
        seat.occupancy = Occupancy::Parked { why };
        seat.renewal = Renewal::None;
        let why = WhyParked::Drained;
        self.notify(Notice::Parked { role, slot, why });
        self.settle(now);
        Ok(())
    }

    /// Whether the cluster can be changed at all.
    pub(super) fn is_up(&self) -> Result<(), Refused> {
        match self.stage {
            Stage::Idle | Stage::Booting { .. } => Err(Refused::NotReady),
            Stage::Serving => Ok(()),
            Stage::Closing { .. } | Stage::Stopping { .. } | Stage::Finished => {
                Err(Refused::Stopping)
            }
        }
    }

    fn seat_of(&self, role: Role, slot: Slot) -> Result<usize, Refused> {
        let mut seats = self.seats.iter();
        seats
            .position(|seat| seat.role == role && seat.slot == slot)
            .ok_or(Refused::NoSuchSlot { role, slot })
    }
}
