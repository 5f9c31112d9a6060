//! Round-robin: everybody in turn.
//!
//! It remembers whom it served last, not where that one stood. Whoever comes or goes, the next one
//! in order is served next: between two turns of a worker every other that was there all the time
//! has exactly one.

use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

use super::strategy::{Gauge, Member, Strategy};

/// Everybody in turn, by slot.
#[derive(Debug, Default)]
pub struct RoundRobin {
    latest: Option<(Slot, WorkerId)>,
}

impl Strategy for RoundRobin {
    fn choose(&mut self, members: &[Member], _: &Address, _: &mut dyn Gauge) -> usize {
        let after_latest = members.partition_point(|member| Some(member.key()) <= self.latest);
        let next = if after_latest < members.len() {
            after_latest
        } else {
            0
        };
        self.latest = members.get(next).map(Member::key);
        next
    }
}
