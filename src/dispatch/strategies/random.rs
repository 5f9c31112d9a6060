//! Random: anybody, each as likely.

use fastrand::Rng;
use worker_proto::address::Address;

use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// Anybody.
#[derive(Debug)]
pub struct Random {
    dice: Rng,
}

impl Random {
    /// The same seed makes the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random {
            dice: Rng::with_seed(seed),
        }
    }
}

impl Strategy for Random {
    fn choose(&mut self, members: &[Member], _: &Address, _: &mut dyn Gauge) -> usize {
        self.dice.usize(..members.len())
    }
}
