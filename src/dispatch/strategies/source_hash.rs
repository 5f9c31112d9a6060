//! Source hash: the connections of one client go to the same slot.
//!
//! Rendezvous hashing: each slot draws a number from the client's address, and the highest gets
//! it. So the worker that takes over a slot keeps the slot's clients, a slot that is lost loses
//! only its own, to all others evenly, and a slot that comes takes an even share of everybody's.
//!
//! A client is its IPv4 address, or the first 64 bits of its IPv6 address, which is what one
//! household or machine has; an IPv4 address written as IPv6 is the same client. Ports do not
//! count. A Unix client with a name is its name, and all without one are one client.
//!
//! The numbers are the same in every release and on every machine: [`draw`] is number `slot` of
//! the generator SplitMix64, seeded with the client.

use std::cmp::Ordering;

use worker_proto::address::Address;
use worker_proto::ids::Slot;

use crate::dispatch::strategy::{Gauge, Member, Strategy};

/// The slot that draws the highest number from the client's address.
#[derive(Debug)]
pub struct SourceHash;

impl Strategy for SourceHash {
    fn choose(&mut self, members: &[Member], peer: &Address, _: &mut dyn Gauge) -> usize {
        let client = client(peer);
        let ticket = |index: usize| Ticket {
            number: draw(client, members[index].slot),
            weight: members[index].weight.get(),
        };
        // Of two workers in one slot the newer one counts, which stands behind the other.
        let is_newest = |&index: &usize| {
            let next = members.get(index + 1);
            next.is_none_or(|next| next.slot != members[index].slot)
        };
        let newest = (0..members.len()).filter(is_newest);
        let tickets = newest.map(|index| (ticket(index), index));
        let best = tickets.max_by(|(one, _), (other, _)| one.compare(other));
        best.map_or(0, |(_, index)| index)
    }
}

/// What one slot has drawn.
#[derive(Clone, Copy)]
struct Ticket {
    number: u64,
    weight: u32,
}

impl Ticket {
    fn compare(&self, other: &Ticket) -> Ordering {
        if self.weight == other.weight {
            return self.number.cmp(&other.number);
        }
        self.score().total_cmp(&other.score())
    }

    /// Grows with the number, and is the highest of all with a chance that is in proportion to
    /// the weight: so a weight that changes moves clients to this slot or away from it, and
    /// nobody else.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn score(&self) -> f64 {
        // In (0, 1), without its ends.
        let fraction = ((self.number >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        -f64::from(self.weight) / fraction.ln()
    }
}

/// A number for each client; two that are different have the same by accident only.
fn client(peer: &Address) -> u64 {
    let (family, number) = match peer {
        Address::V4 { ip, .. } => (1, u64::from(u32::from_be_bytes(*ip))),
        Address::V6 { ip, .. } => match ip {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4 @ ..] => {
                (1, u64::from(u32::from_be_bytes(*v4)))
            }
            [a, b, c, d, e, f, g, h, ..] => {
                (2, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
        },
        Address::Path(name) => (3, of_name(name)),
        Address::Abstract(name) => (4, of_name(name)),
        Address::Unnamed => (5, 0),
    };
    mix(number ^ mix(family))
}

fn of_name(name: &[u8]) -> u64 {
    // Its length, too: zeros at its end count.
    let seed = mix(name.len() as u64);
    name.chunks(8).fold(seed, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

/// What the slot draws from this client.
fn draw(client: u64, slot: Slot) -> u64 {
    let step = u64::from(slot.0) + 1;
    mix(client.wrapping_add(step.wrapping_mul(GOLDEN)))
}

/// The finaliser of SplitMix64: every bit of what comes in changes about half of what goes out.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 2^64 divided by the golden ratio: the step of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
