//! Fairness, whatever comes, goes, fills up and drains meanwhile.

use std::array;

use proptest::prelude::*;
use worker_proto::address::Address;
use worker_proto::ids::{Slot, WorkerId};

use super::{rotation, w};
use crate::dispatch::Reason;

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(usize),
    Leave(usize),
    Saturate(usize),
    Relieve(usize),
    Pick,
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..WORKERS;
    prop_oneof![
        2 => worker.clone().prop_map(Step::Enter),
        1 => worker.clone().prop_map(Step::Leave),
        1 => worker.clone().prop_map(Step::Saturate),
        2 => worker.prop_map(Step::Relieve),
        12 => Just(Step::Pick),
    ]
}

/// What the rotation should think of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Saturated,
    /// It has room, and since its own latest turn each worker had so many turns.
    Available {
        turns: Option<[usize; WORKERS]>,
    },
}

const FRESH: State = State::Available { turns: None };

/// Who was not available all the time, and oneself: any number of turns is fair.
const EXCUSED: usize = usize::MAX;

struct Model([State; WORKERS]);

impl Model {
    fn change(&mut self, worker: usize, state: State) {
        self.0[worker] = state;
        for other in &mut self.0 {
            if let State::Available { turns: Some(turns) } = other {
                turns[worker] = EXCUSED;
            }
        }
    }

    /// It had its turn: was everybody else served exactly once since its latest?
    fn turn(&mut self, worker: usize) -> Result<(), TestCaseError> {
        let fresh = array::from_fn(|other| match self.0[other] {
            State::Available { .. } if other != worker => 0,
            State::Available { .. } | State::Saturated | State::Absent => EXCUSED,
        });
        let State::Available { turns } = &mut self.0[worker] else {
            return Err(TestCaseError::fail(format!("{worker} is not available")));
        };
        if let Some(turns) = turns.replace(fresh) {
            let is_fair = turns.iter().all(|&it| it == EXCUSED || it == 1);
            prop_assert!(is_fair, "turns between two of {}: {:?}", worker, turns);
        }
        for state in &mut self.0 {
            if let State::Available { turns: Some(turns) } = state {
                turns[worker] = turns[worker].saturating_add(1);
            }
        }
        Ok(())
    }

    fn count(&self, is_counted: fn(&State) -> bool) -> usize {
        self.0.iter().filter(|state| is_counted(state)).count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// DESIGN's invariant 6: between two turns of a worker, each other one that had room all the
    /// time has exactly one. So within any span of time their turns differ by at most one.
    #[test]
    fn between_two_turns_everybody_else_has_one(steps in prop::collection::vec(step(), 1..300)) {
        let mut rotation = rotation(0);
        let mut model = Model([const { State::Absent }; WORKERS]);
        for step in steps {
            match step {
                Step::Enter(worker) => {
                    rotation.enter(id(worker), slot(worker));
                    if model.0[worker] == State::Absent {
                        model.change(worker, FRESH);
                    }
                }
                Step::Leave(worker) => {
                    rotation.leave(id(worker));
                    model.change(worker, State::Absent);
                }
                Step::Saturate(worker) => {
                    rotation.set_aside(id(worker), Reason::Saturated);
                    if model.0[worker] != State::Absent {
                        model.change(worker, State::Saturated);
                    }
                }
                Step::Relieve(worker) => {
                    rotation.restore(id(worker), Reason::Saturated);
                    if model.0[worker] == State::Saturated {
                        model.change(worker, FRESH);
                    }
                }
                Step::Pick => {
                    if let Some(picked) = rotation.pick(&Address::Unnamed, &mut ()) {
                        model.turn((0..WORKERS).find(|&it| id(it) == picked).unwrap())?;
                    }
                }
            }
            let available = model.count(|state| matches!(state, State::Available { .. }));
            let members = model.count(|state| *state != State::Absent);
            prop_assert_eq!(rotation.has_room(), available > 0);
            prop_assert_eq!(rotation.len(), members);
        }
    }
}

const WORKERS: usize = 12;

/// Ids run against the slots, as after many restarts.
fn id(worker: usize) -> WorkerId {
    w((WORKERS - worker) as u64)
}

/// Two workers share a slot, as during a reload.
fn slot(worker: usize) -> Slot {
    Slot(u32::try_from(worker / 2).unwrap())
}
