//! Inputs that are almost right: bytes by chance rarely come past the first tag.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// One of the seeds after a few mutations.
pub(crate) fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutation = any_mutation(seeds.clone());
    (select(seeds), vec(mutation, 0..5)).prop_map(|(mut data, mutations)| {
        for mutation in mutations {
            mutation.apply(&mut data);
        }
        data
    })
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
    /// A part of another seed goes in.
    Splice(Index, Vec<u8>),
}

impl Mutation {
    fn apply(self, data: &mut Vec<u8>) {
        match self {
            Mutation::Insert(place, byte) => data.insert(place.index(data.len() + 1), byte),
            Mutation::Splice(place, part) => {
                let at = place.index(data.len() + 1);
                data.splice(at..at, part);
            }
            // The others need something to change.
            _ if data.is_empty() => {}
            Mutation::Set(place, byte) => {
                let at = place.index(data.len());
                data[at] = byte;
            }
            Mutation::Remove(place) => {
                data.remove(place.index(data.len()));
            }
            Mutation::Truncate(place) => data.truncate(place.index(data.len())),
        }
    }
}

fn any_mutation(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    let byte = || prop_oneof![any::<u8>(), select(EDGES)];
    let part = (select(seeds), place(), place()).prop_map(|(seed, one, other)| {
        let (one, other) = (one.index(seed.len() + 1), other.index(seed.len() + 1));
        seed[one.min(other)..one.max(other)].to_vec()
    });
    prop_oneof![
        (place(), byte()).prop_map(|(place, byte)| Mutation::Set(place, byte)),
        (place(), byte()).prop_map(|(place, byte)| Mutation::Insert(place, byte)),
        place().prop_map(Mutation::Remove),
        place().prop_map(Mutation::Truncate),
        (place(), part).prop_map(|(place, part)| Mutation::Splice(place, part)),
    ]
}

/// Where lengths and numbers change their form, and what separates words.
const EDGES: &[u8] = &[
    0, 1, 0x7f, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff, b',', b'=', b':', b'@', b'-',
];
