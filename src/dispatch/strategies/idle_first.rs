//! Idle first: whoever has been free longest.
//!
//! What the cluster module of Node really does under the name of round-robin: a worker is free
//! once it has received everything it was given, the free stand in line, and a connection goes to
//! the front of the line. A worker that is too busy to receive is not in line. Node lets a
//! connection wait when nobody is free; here it goes to who has the fewest waiting.

use worker_proto::address::Address;

use super::latest::Latest;
use super::memory::Memory;
use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// The one that has been free longest.
#[derive(Debug, Default)]
pub struct IdleFirst {
    /// The number that each drew when it was first seen free; none while it is not in line.
    line: Memory<Option<u64>>,
    /// How many numbers were drawn.
    drawn: u64,
    latest: Latest,
}

impl Strategy for IdleFirst {
    fn choose(&mut self, members: &[Member], _: &Address, gauge: &mut dyn Gauge) -> usize {
        let line = self.line.of(members);
        let mut least = None;
        // Those who became free since the last choice draw their numbers in order.
        for index in self.latest.order(members) {
            let waiting = gauge.load(members[index].worker).waiting;
            let place = &mut line[index].1;
            if waiting > 0 {
                *place = None;
            } else if place.is_none() {
                *place = Some(self.drawn);
                self.drawn += 1;
            }
            let rank = (waiting, place.unwrap_or(0));
            if least.is_none_or(|(best, _)| rank < best) {
                least = Some((rank, index));
            }
        }
        let chosen = least.map_or(0, |(_, index)| index);
        line[chosen].1 = None;
        self.latest.set(members, chosen);
        chosen
    }
}
