//! Round-robin: everybody in turn.
//!
//! Between two turns of a worker every other that was there all the time has exactly one.

use worker_proto::address::Address;

use super::latest::Latest;
use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// Everybody in turn, by slot.
#[derive(Debug, Default)]
pub struct RoundRobin {
    latest: Latest,
}

impl Strategy for RoundRobin {
    fn choose(&mut self, members: &[Member], _: &Address, _: &mut dyn Gauge) -> usize {
        let next = self.latest.next(members);
        self.latest.set(members, next);
        next
    }

    fn goes_in_order(&self) -> bool {
        true
    }
}
