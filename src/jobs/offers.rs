//! The offers: which processes have registered a job, and whether it outlives them.
//!
//! A job outlives a crash of its last registrant: its clock goes on, and the next process in that
//! seat may register it again. It goes when that process is ready without having done so, or when
//! nobody will take the seat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use worker_proto::ids::{Generation, Role, Slot, WorkerId};
use worker_proto::job::JobSpec;

/// A process that registers a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registrant {
    /// Its identity.
    pub worker: WorkerId,
    /// What it is for.
    pub role: Role,
    /// Its position.
    pub slot: Slot,
    /// The version of the program: a newer one may want the job otherwise.
    pub generation: Generation,
}

/// Everybody who has registered a job.
#[derive(Debug, Default)]
pub(super) struct Offers {
    offers: BTreeMap<WorkerId, Offer>,
    /// Seats of registrants that are gone, and may be taken by others who register it.
    awaited: BTreeSet<(Role, Slot)>,
}

#[derive(Debug)]
struct Offer {
    seat: (Role, Slot),
    generation: Generation,
    spec: Arc<JobSpec>,
}

impl Offers {
    pub(super) fn of(by: Registrant, spec: Arc<JobSpec>) -> Self {
        let mut offers = Offers::default();
        offers.add(by, spec);
        offers
    }

    pub(super) fn add(&mut self, by: Registrant, spec: Arc<JobSpec>) {
        let offer = Offer {
            seat: (by.role, by.slot),
            generation: by.generation,
            spec,
        };
        self.awaited.remove(&offer.seat);
        self.offers.insert(by.worker, offer);
    }

    /// Whether somebody of the same generation has registered it with something else.
    pub(super) fn contradict(&self, by: Registrant, spec: &JobSpec) -> bool {
        let others = self
            .offers
            .iter()
            .filter(|(worker, offer)| **worker != by.worker && offer.generation == by.generation);
        others.into_iter().any(|(_, offer)| *offer.spec != *spec)
    }

    pub(super) fn has(&self, worker: WorkerId) -> bool {
        self.offers.contains_key(&worker)
    }

    /// It wants the job no more.
    pub(super) fn withdraw(&mut self, worker: WorkerId) {
        self.offers.remove(&worker);
    }

    /// It is gone.
    pub(super) fn lose(&mut self, worker: WorkerId) {
        if let Some(offer) = self.offers.remove(&worker) {
            self.awaited.insert(offer.seat);
        }
    }

    /// Somebody is ready in the seat, or nobody will be.
    pub(super) fn settle(&mut self, role: Role, slot: Slot) {
        self.awaited.remove(&(role, slot));
    }

    pub(super) fn len(&self) -> usize {
        self.offers.len()
    }

    pub(super) fn is_over(&self) -> bool {
        self.offers.is_empty() && self.awaited.is_empty()
    }

    /// What the job is to be: as the newest generation has it. `None` while nobody is there to say.
    pub(super) fn spec(&self) -> Option<&Arc<JobSpec>> {
        let newest = self.offers.values().max_by_key(|offer| offer.generation);
        newest.map(|offer| &offer.spec)
    }
}
