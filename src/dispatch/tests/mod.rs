//! What a rotation promises, as tables; `fairness` has it as a property.

use std::num::NonZeroU32;

use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

use super::*;

mod fairness;
mod strategies;

pub(super) fn w(id: u64) -> WorkerId {
    WorkerId(id)
}

/// A rotation of workers `1..=n` in slots `0..n`.
pub(super) fn rotation(workers: u32) -> Rotation {
    let mut rotation = Rotation::new(Box::new(RoundRobin::default()));
    for slot in 0..workers {
        rotation.enter(w(u64::from(slot) + 1), Slot(slot));
    }
    rotation
}

#[track_caller]
fn expect_picks<const N: usize>(rotation: &mut Rotation, expected: [u64; N]) {
    let picks = expected.map(|_| rotation.pick(&Address::Unnamed, &mut ()));
    assert_eq!(picks, expected.map(|id| Some(w(id))));
}

#[test]
fn everybody_in_turn_by_slot() {
    let mut rotation = Rotation::new(Box::new(RoundRobin::default()));
    for (worker, slot) in [(7, 2), (3, 1), (9, 0)] {
        rotation.enter(w(worker), Slot(slot));
    }
    expect_picks(&mut rotation, [9, 3, 7, 9, 3, 7, 9]);
}

#[test]
fn nobody_is_there_to_be_picked() {
    let mut rotation = rotation(0);
    assert_eq!(rotation.pick(&Address::Unnamed, &mut ()), None);
    assert!(rotation.is_empty());
    assert!(!rotation.has_room());
}

#[test]
fn nobody_is_skipped_or_served_twice_when_another_comes_or_goes() {
    type Change = fn(&mut Rotation);
    let table: [(&str, Change, [u64; 5]); 8] = [
        ("nothing", |_| (), [3, 4, 1, 2, 3]),
        ("the latest leaves", |r| r.leave(w(2)), [3, 4, 1, 3, 4]),
        ("an earlier one leaves", |r| r.leave(w(1)), [3, 4, 2, 3, 4]),
        ("the next one leaves", |r| r.leave(w(3)), [4, 1, 2, 4, 1]),
        (
            "one comes first",
            |r| r.enter(w(9), Slot(0)),
            [3, 4, 1, 9, 2],
        ),
        (
            "one comes next",
            |r| r.enter(w(9), Slot(1)),
            [9, 3, 4, 1, 2],
        ),
        (
            "the latest is saturated",
            |r| r.set_aside(w(2), Reason::Saturated),
            [3, 4, 1, 3, 4],
        ),
        (
            "the next one is saturated",
            |r| r.set_aside(w(3), Reason::Saturated),
            [4, 1, 2, 4, 1],
        ),
    ];
    for (name, change, expected) in table {
        let mut rotation = rotation(4);
        expect_picks(&mut rotation, [1, 2]);
        change(&mut rotation);
        println!("{name}");
        expect_picks(&mut rotation, expected);
    }
}

#[test]
fn a_saturated_worker_is_a_member_without_a_turn() {
    let mut rotation = rotation(2);
    rotation.set_aside(w(1), Reason::Saturated);
    expect_picks(&mut rotation, [2, 2]);
    rotation.set_aside(w(2), Reason::Saturated);
    assert_eq!(rotation.pick(&Address::Unnamed, &mut ()), None);
    assert!(!rotation.has_room());
    assert_eq!(rotation.len(), 2);
    assert!(rotation.contains(w(1)));
    rotation.restore(w(1), Reason::Saturated);
    assert!(rotation.has_room());
    expect_picks(&mut rotation, [1, 1]);
}

#[test]
fn a_worker_comes_back_when_its_last_reason_is_gone() {
    let mut rotation = rotation(2);
    rotation.set_aside(w(1), Reason::Saturated);
    rotation.set_aside(w(1), Reason::Stalled);
    assert_eq!(
        rotation.reasons(w(1)),
        Reasons::from([Reason::Stalled, Reason::Saturated])
    );
    rotation.restore(w(1), Reason::Saturated);
    expect_picks(&mut rotation, [2, 2]);
    assert_eq!(rotation.aside_for(Reason::Stalled), [w(1)]);
    assert_eq!(rotation.aside_for(Reason::Saturated), []);
    rotation.restore(w(1), Reason::Stalled);
    assert_eq!(rotation.reasons(w(1)), Reasons::new());
    expect_picks(&mut rotation, [1, 2]);
}

#[test]
fn the_stalled_have_turns_only_when_everybody_is() {
    let mut rotation = rotation(4);
    for id in 1..=3 {
        rotation.set_aside(w(id), Reason::Stalled);
    }
    expect_picks(&mut rotation, [4, 4]);
    // Full, but moving: to wait for it is better than to wait in a queue that stands still.
    rotation.set_aside(w(4), Reason::Saturated);
    assert!(!rotation.has_room());
    assert_eq!(rotation.pick(&Address::Unnamed, &mut ()), None);
    rotation.set_aside(w(4), Reason::Stalled);
    assert!(rotation.has_room());
    expect_picks(&mut rotation, [1, 2, 3, 1]);
    rotation.restore(w(4), Reason::Saturated);
    expect_picks(&mut rotation, [2, 3, 4, 1]);
}

#[test]
fn a_turn_that_is_passed_over_is_counted_with_its_reason() {
    let mut rotation = rotation(4);
    expect_picks(&mut rotation, [1]);
    rotation.set_aside(w(2), Reason::Saturated);
    rotation.set_aside(w(3), Reason::Saturated);
    rotation.set_aside(w(3), Reason::AtLimit);
    expect_picks(&mut rotation, [4, 1, 4]);
    rotation.restore(w(2), Reason::Saturated);
    expect_picks(&mut rotation, [1, 2, 4]);
    rotation.miss(w(4), Reason::NoRoom, 2);
    let skipped = |saturated, at_limit, no_room| Skipped {
        saturated,
        at_limit,
        no_room,
        ..Skipped::default()
    };
    let missed = [1, 2, 3, 4].map(|id| rotation.skipped(w(id)));
    let nothing = Skipped::default();
    assert_eq!(
        missed,
        [
            nothing,
            skipped(2, 0, 0),
            skipped(0, 3, 0),
            skipped(0, 0, 2)
        ]
    );
    rotation.leave(w(2));
    assert_eq!(rotation.skipped(w(2)), nothing);
    assert_eq!(rotation.skipped_in_all(), skipped(2, 3, 2));
}

#[test]
fn the_only_one_with_room_passes_over_everybody_else_each_time() {
    let mut rotation = rotation(3);
    rotation.set_aside(w(1), Reason::Stalled);
    rotation.set_aside(w(3), Reason::NoRoom);
    expect_picks(&mut rotation, [2, 2, 2]);
    // Before the first pick nobody stands between but the first.
    assert_eq!(rotation.skipped(w(1)).stalled, 3);
    assert_eq!(rotation.skipped(w(3)).no_room, 2);
}

#[test]
fn one_can_be_picked_among_the_suited() {
    let mut rotation = rotation(4);
    rotation.set_aside(w(2), Reason::Saturated);
    let pick = |rotation: &mut Rotation, suited: &[u64]| {
        rotation.pick_suited(&Address::Unnamed, &mut (), |worker| {
            suited.contains(&worker.0)
        })
    };
    assert_eq!(pick(&mut rotation, &[2, 3, 4]), Some(w(3)));
    assert_eq!(pick(&mut rotation, &[2, 3, 4]), Some(w(4)));
    assert_eq!(pick(&mut rotation, &[2]), None);
    // It was a turn like any other.
    expect_picks(&mut rotation, [1, 3]);
}

#[test]
fn a_saturated_worker_may_leave() {
    let mut rotation = rotation(1);
    rotation.set_aside(w(1), Reason::Saturated);
    rotation.leave(w(1));
    rotation.restore(w(1), Reason::Saturated);
    assert!(rotation.is_empty());
    assert_eq!(rotation.pick(&Address::Unnamed, &mut ()), None);
}

#[test]
fn what_is_said_twice_or_of_strangers_changes_nothing() {
    let mut rotation = rotation(2);
    rotation.enter(w(1), Slot(1));
    for stranger in [w(0), w(3)] {
        rotation.leave(stranger);
        rotation.set_aside(stranger, Reason::Saturated);
        rotation.restore(stranger, Reason::Saturated);
        rotation.weigh(stranger, NonZeroU32::MAX);
    }
    rotation.restore(w(1), Reason::Saturated);
    rotation.set_aside(w(2), Reason::Saturated);
    rotation.set_aside(w(2), Reason::Saturated);
    rotation.enter(w(2), Slot(1));
    assert_eq!(rotation.len(), 2);
    expect_picks(&mut rotation, [1, 1]);
}

#[test]
fn a_strategy_sees_the_load_of_those_with_room() {
    struct Open([u64; 3]);
    impl Gauge for Open {
        fn load(&mut self, worker: WorkerId) -> Load {
            let open = self.0[usize::try_from(worker.0).unwrap() - 1];
            Load { waiting: 0, open }
        }
    }
    #[derive(Debug)]
    struct LeastLoaded;
    impl Strategy for LeastLoaded {
        fn choose(&mut self, members: &[Member], _: &Address, gauge: &mut dyn Gauge) -> usize {
            let indices = 0..members.len();
            let open = |&it: &usize| gauge.load(members[it].worker).open;
            indices.min_by_key(open).unwrap()
        }
    }
    let mut rotation = Rotation::new(Box::new(LeastLoaded));
    for id in 1..=3 {
        rotation.enter(w(id), Slot(0));
    }
    let pick = |rotation: &mut Rotation, open| {
        let picked = rotation.pick(&Address::Unnamed, &mut Open(open));
        picked.unwrap().0
    };
    assert_eq!(pick(&mut rotation, [9, 8, 7]), 3);
    rotation.set_aside(w(3), Reason::Saturated);
    assert_eq!(pick(&mut rotation, [9, 8, 0]), 2);
    rotation.restore(w(3), Reason::Saturated);
    assert_eq!(pick(&mut rotation, [9, 100, 0]), 3);
}

#[test]
fn a_strategy_that_chooses_nobody_breaks_nothing() {
    #[derive(Debug)]
    struct Lost;
    impl Strategy for Lost {
        fn choose(&mut self, members: &[Member], _: &Address, _: &mut dyn Gauge) -> usize {
            members.len()
        }
    }
    let mut rotation = Rotation::new(Box::new(Lost));
    rotation.enter(w(1), Slot(0));
    assert_eq!(rotation.pick(&Address::Unnamed, &mut ()), None);
}
