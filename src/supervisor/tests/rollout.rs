//! A new generation: one worker after the other, and back if it is no good.

use super::script::*;
use crate::supervisor::*;

/// Nobody who wears out has to prove anything, and nobody else is the canary.
#[test]
fn a_successor_that_was_on_the_way_before_is_no_canary() {
    let mut s = Script::with_workers(2);
    s.wears_out(1).spawned(3).reload(GENTLY);
    s.expect([spawn(3, 0)]);
    s.ready(3);
    s.expect([enter(3), announce(3), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1), spawn_of(2, 4, 0)]);
    s.spawned(4).ready(4).expect([enter(4), announce(4)]);
    s.advance(millis(4_999)).expect_nothing();
    s.advance(millis(1)).expect([leave(3), drain(3, secs(30))]);
}

/// It was no part of the rollout, so the slot is renewed like the others.
#[test]
fn a_successor_of_the_old_generation_that_fails_leaves_its_slot_to_the_rollout() {
    let mut s = Script::with_workers(1);
    s.restart_slot(Role::Worker, 0).spawned(2).reload(AT_ONCE);
    s.expect([spawn(2, 0)]);
    s.exits(2, code(1)).expect([forget(2), spawn_of(2, 3, 0)]);
    s.spawned(3).ready(3);
    s.expect([enter(3), announce(3), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
    assert_eq!(s.supervisor.generation(), Generation(2));
}

#[test]
fn a_rollback_spares_a_successor_that_is_no_part_of_the_rollout() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).spawned(2).reload(GENTLY).abort_reload();
    s.expect([spawn(2, 0)]);
    s.ready(2);
    s.expect([enter(2), announce(2), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
    assert_eq!(s.supervisor.rollout(), None);
}

/// One at a time is emptied; the slot that is empty anyway does not count.
#[test]
fn a_drained_slot_does_not_keep_the_others_from_being_emptied() {
    let mut s = Script::with_workers(3);
    s.drain_slot(Role::Worker, 2).exits(3, code(0));
    s.expect([leave(3), drain(3, secs(30)), forget(3)]);
    s.reload(ONE_LESS);
    s.expect([spawn_of(2, 4, 0)]);
    s.spawned(4).ready(4).exits(1, code(0));
    s.expect([
        enter(4),
        announce(4),
        leave(1),
        drain(1, secs(30)),
        leave(2),
        drain(2, secs(30)),
        forget(1),
    ]);
    s.exits(2, code(0)).expect([forget(2), spawn_of(2, 5, 1)]);
    s.spawned(5).ready(5).expect([enter(5), announce(5)]);
    assert_eq!(s.supervisor.rollout(), None);
}

/// There is nothing to wait for, so the rollout is over without it.
#[test]
fn a_slot_that_is_given_up_after_it_was_emptied_ends_no_later() {
    let mut s = Script::serving(Plan {
        restart: always(0, OnCrashLoop::Park),
        ..plan(0, 3)
    });
    s.reload(ONE_LESS).spawned(4).ready(4).exits(1, code(0));
    s.expect([
        spawn_of(2, 4, 0),
        enter(4),
        announce(4),
        leave(1),
        drain(1, secs(30)),
        leave(2),
        drain(2, secs(30)),
        forget(1),
    ]);
    s.exits(2, code(0)).spawned(5).exits(5, code(1));
    s.expect([forget(2), spawn_of(2, 5, 1), forget(5)]);
    s.advance(secs(1)).expect([leave(4), drain(4, secs(30))]);
    s.exits(4, code(0)).expect([forget(4), spawn(6, 0)]);
    s.spawned(6).ready(6).expect([enter(6), announce(6)]);
    assert_eq!(s.supervisor.rollout(), None);
    assert_eq!(s.supervisor.serving(Role::Worker), 2);
}

/// Nobody more, and one less.
const ONE_LESS: RolloutPlan = RolloutPlan {
    surge: 0,
    unavailable: 1,
    canary: secs(0),
};
