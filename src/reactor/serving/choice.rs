//! How the workers of one listener are chosen, and what they weigh.

use std::num::NonZeroU32;

use worker_proto::ids::{Slot, WorkerId};

use super::Serving;
use crate::dispatch::StrategyName;

impl Serving {
    /// How its workers are chosen.
    pub(crate) fn strategy(&self) -> StrategyName {
        self.strategy
    }

    /// They are chosen so from now on; answers how before, if that was otherwise. Who is a member,
    /// who stands aside and what was counted stays as it is.
    pub(crate) fn choose_by(&mut self, strategy: StrategyName) -> Option<StrategyName> {
        let before = std::mem::replace(&mut self.strategy, strategy);
        if before == strategy {
            return None;
        }
        // Chance is different in each master: what one gives the first worker, another does not.
        self.rotation.change(strategy.build(fastrand::u64(..)));
        Some(before)
    }

    /// What the worker weighs.
    pub(crate) fn weigh(&mut self, worker: WorkerId, weight: NonZeroU32) {
        self.rotation.weigh(worker, weight);
    }

    /// What everybody weighs.
    pub(crate) fn weigh_all(&mut self, weight: impl Fn(WorkerId, Slot) -> NonZeroU32) {
        self.rotation.weigh_all(weight);
    }
}
