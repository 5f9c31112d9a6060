//! The page that a worker writes and the master reads: whatever stands on it, the master reads a
//! possible score, believes all that is possible and nothing else, and neither side falls over it.

mod foreign;
mod image;
mod model;

use std::fs;

use super::descriptors::open_descriptors;
use super::input::Input;
use model::{Amount, Model};

/// A play of at most [`MOST_STEPS`] steps by a master and a worker, the worker being honest or not.
pub fn scoreboard(data: &[u8]) {
    let (descriptors, mappings) = (open_descriptors(), mapped_pages());
    let mut input = Input::new(data);
    let mut model = Model::new();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut model, &mut input);
        model.check();
    }
    model.read();
    model.resize(0);
    drop(model);
    assert_eq!(open_descriptors(), descriptors, "descriptors leaked");
    assert_eq!(mapped_pages(), mappings, "mappings leaked");
}

fn step(model: &mut Model, input: &mut Input<'_>) {
    match input.byte() % 20 {
        0 => model.hand_off(input.byte().into()),
        1 => model.reclaim(input.byte().into()),
        2 => model.set_handed_off(input.wide()),
        3 => model.read(),
        4 => model.ask_for_relief(),
        5 => model.forget(),
        6 => model.attach(),
        7 => model.receive(amount(input)),
        8 => model.finish(amount(input)),
        9 => model.request(),
        10 => model.drain(),
        11 => model.remain_asked(),
        12 => model.detach(),
        13 => model.write(offset(input), &input.bytes()),
        14 => model.resize(length(input)),
        15 => model.allocate(offset(input), length(input)),
        16 => model.punch(offset(input), length(input)),
        17 => model.seal(input.byte().into()),
        18 => model.truncate_by_opening(),
        _ => foreign::attach(input),
    }
}

/// One byte for what is possible, since all the others would be far from it.
fn amount(input: &mut Input<'_>) -> Amount {
    match input.byte() {
        255 => Amount::Any(input.wide()),
        few => Amount::Possible(few.into()),
    }
}

/// Of a field, or any.
fn offset(input: &mut Input<'_>) -> usize {
    match input.byte() {
        255 => input.number(),
        which => image::FIELDS[usize::from(which) % image::FIELDS.len()],
    }
}

/// Around that of a page, or any.
fn length(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.wide(),
        1 => input.byte().into(),
        _ => input.choice(&[0, 1, 4095, 4096, 4097, 8192, 65_536, 1 << 40]),
    }
}

/// How often this process has mapped a page.
fn mapped_pages() -> usize {
    let maps = fs::read("/proc/self/maps").expect("/proc is mounted");
    String::from_utf8_lossy(&maps).matches("/memfd:rr-").count()
}

/// More of them find nothing that fewer do not.
const MOST_STEPS: usize = 32;
