//! Packets with anything beside their bytes, through a real pair of sockets: what arrives is what
//! was sent or is said to be lost, and afterwards no descriptor more is open than before.

mod model;
mod sockets;

use worker_proto::codec::MAX_FRAME_BYTES;

use super::descriptors::open_descriptors;
use super::input::Input;
use model::{Ancillary, Model};

/// A play of at most [`MOST_STEPS`] steps by a sender that keeps to nothing, with a receiver that
/// shares its socket with somebody who keeps to nothing either.
pub fn ancillary(data: &[u8]) {
    let before = open_descriptors();
    let mut input = Input::new(data);
    let mut model = Model::new();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut model, &mut input);
    }
    drop(model);
    assert_eq!(open_descriptors(), before, "descriptors leaked");
}

fn step(model: &mut Model, input: &mut Input<'_>) {
    match input.byte() % 10 {
        0 | 1 => {
            let len = size(input);
            let messages: Vec<Ancillary> =
                (0..input.byte() % 4).map(|_| ancillary_of(input)).collect();
            model.send(len, &messages);
        }
        2 => model.send_connections(input.byte().into(), input.byte().into()),
        3 => {
            let len = size(input);
            model.receive(len, room(input));
        }
        4 => {
            let len = size(input);
            model.peek(len, room(input));
        }
        5 => model.receive_connections(room(input)),
        6 => model.look_for_room(room(input)),
        7 => model.ask_for_credentials(input.yes()),
        8 => model.ask_for_pidfds(input.yes()),
        _ => model.hang_up(),
    }
}

/// Around every limit that there is, or any.
fn size(input: &mut Input<'_>) -> usize {
    match input.byte() % 8 {
        0 => input.choice(&[0, 1, 2, 16, 64]),
        1 => input.choice(&[MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1]),
        // What the kernel takes at most with the usual `SO_SNDBUF`, see unix(7).
        2 => input.choice(&[212_959, 212_960, 212_961]),
        3 => input.number(),
        _ => input.byte().into(),
    }
}

fn ancillary_of(input: &mut Input<'_>) -> Ancillary {
    match input.byte() % 4 {
        0 => Ancillary::Rights(input.choice(&[0, 1, 2, 63, 64, 65, 252, 253])),
        1 => Ancillary::Rights(input.byte()),
        2 => Ancillary::Credentials,
        _ => Ancillary::FalseCredentials,
    }
}

/// How many descriptors the receiver may open, if fewer than it wants.
fn room(input: &mut Input<'_>) -> Option<u8> {
    match input.byte() {
        0..=199 => None,
        few => Some(few - 200),
    }
}

/// More of them find nothing that fewer do not.
const MOST_STEPS: usize = 24;
