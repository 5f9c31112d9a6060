//! Weighted: everybody in turn, some more often, and evenly spread.
//!
//! Smooth weighted round-robin, as nginx has it: at each choice everybody gains its weight, and
//! who then has the most is chosen and pays for all. Weights 3 and 1 make `a a b a`. Over as many
//! choices as the sum of the weights each gets exactly its weight.

use worker_proto::address::Address;

use super::memory::Memory;
use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// Each as often as its weight says.
#[derive(Debug, Default)]
pub struct Weighted {
    /// What each has saved up; negative while it is ahead of its share.
    savings: Memory<i64>,
}

impl Strategy for Weighted {
    fn choose(&mut self, members: &[Member], _: &Address, _: &mut dyn Gauge) -> usize {
        let savings = self.savings.of(members);
        let mut all = 0;
        let mut richest = 0;
        for index in 0..members.len() {
            let weight = i64::from(members[index].weight.get());
            all += weight;
            savings[index].1 += weight;
            if savings[index].1 > savings[richest].1 {
                richest = index;
            }
        }
        savings[richest].1 -= all;
        richest
    }
}
