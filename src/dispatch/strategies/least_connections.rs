//! Least connections: whoever has the fewest open.
//!
//! Among equals it goes on in order after the latest, so that with equal loads, or where nothing
//! is known of anybody, it is round-robin.

use worker_proto::address::Address;

use super::latest::Latest;
use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// The one with the fewest open connections.
#[derive(Debug, Default)]
pub struct LeastConnections {
    latest: Latest,
}

impl Strategy for LeastConnections {
    fn choose(&mut self, members: &[Member], _: &Address, gauge: &mut dyn Gauge) -> usize {
        let mut least = None;
        for index in self.latest.order(members) {
            let open = gauge.load(members[index].worker).open;
            if least.is_none_or(|(fewest, _)| open < fewest) {
                least = Some((open, index));
            }
            if open == 0 {
                break;
            }
        }
        let chosen = least.map_or(0, |(_, index)| index);
        self.latest.set(members, chosen);
        chosen
    }
}
