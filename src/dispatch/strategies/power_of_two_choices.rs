//! The power of two choices: of two taken at random, the one with fewer connections.
//!
//! Nearly as even as asking everybody, and it asks two, however many there are. See Mitzenmacher,
//! "The Power of Two Choices in Randomized Load Balancing".

use fastrand::Rng;
use worker_proto::address::Address;

use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// The better of two.
#[derive(Debug)]
pub struct PowerOfTwoChoices {
    dice: Rng,
}

impl PowerOfTwoChoices {
    /// The same seed makes the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        PowerOfTwoChoices {
            dice: Rng::with_seed(seed),
        }
    }
}

impl Strategy for PowerOfTwoChoices {
    fn choose(&mut self, members: &[Member], _: &Address, gauge: &mut dyn Gauge) -> usize {
        if members.len() < 2 {
            return 0;
        }
        let one = self.dice.usize(..members.len());
        // Any of the others, each as likely.
        let other = self.dice.usize(..members.len() - 1);
        let other = if other < one { other } else { other + 1 };
        let mut open = |index: usize| gauge.load(members[index].worker).open;
        if open(other) < open(one) { other } else { one }
    }
}
