//! What an operator wants of one slot.

use super::script::*;
use crate::supervisor::*;

#[test]
fn a_drained_slot_stays_empty_until_it_is_wanted_again() {
    let mut s = Script::with_workers(2);
    s.drain_slot(Role::Worker, 0);
    s.expect([leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).advance(secs(3_600)).expect([forget(1)]);
    assert!(!s.supervisor.is_awaited(Role::Worker, Slot(0)));
    s.restart_slot(Role::Worker, 0).expect([spawn(3, 0)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
}

/// Its successor is of no use any more.
#[test]
fn draining_a_slot_ends_its_renewal() {
    let mut s = Script::with_workers(2);
    s.wears_out(1).spawned(3).drain_slot(Role::Worker, 0);
    s.expect([spawn(3, 0), leave(1), drain(1, secs(30)), terminate(3)]);
    s.exits(3, killed(SIGTERM))
        .exits(1, code(0))
        .advance(secs(3_600));
    s.expect([forget(3), forget(1)]);
}

/// An agent that is drained is not needed; its workers are.
#[test]
fn with_every_slot_drained_the_cluster_waits() {
    let mut s = Script::serving(plan(1, 1));
    s.drain_slot(Role::Worker, 0).drain_slot(Role::Agent, 0);
    s.expect([leave(2), drain(2, secs(30)), drain(1, secs(30))]);
    s.exits(1, code(0)).exits(2, code(0)).advance(secs(3_600));
    s.expect([forget(1), forget(2)]);
    assert_eq!(s.supervisor.stage(), Stage::Serving);
}

/// What it does must not be done by two.
#[test]
fn an_agent_leaves_before_the_next_one_starts() {
    let mut s = Script::serving(plan(1, 1));
    s.restart_slot(Role::Agent, 0).expect([drain(1, secs(30))]);
    s.advance(secs(29)).expect_nothing();
    s.exits(1, code(0)).expect([forget(1), spawn_agent(3, 0)]);
    s.spawned(3).ready(3).expect([announce(3)]);
}

/// There is nothing to keep of it.
#[test]
fn a_worker_that_starts_is_replaced_at_once() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).advance(secs(1)).spawned(2);
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.restart_slot(Role::Worker, 0);
    s.expect([terminate(2), spawn(3, 0)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
}

/// Nobody has to wait for the back-off, and it is not counted.
#[test]
fn a_restart_that_waits_comes_at_once_if_it_is_asked_for() {
    let mut s = Script::serving(Plan {
        restart: always(1, OnCrashLoop::Exit),
        ..plan(0, 2)
    });
    s.exits(1, code(1)).expect([leave(1), forget(1)]);
    s.restart_slot(Role::Worker, 0).expect([spawn(3, 0)]);
    s.exits(2, code(1)).advance(secs(1));
    s.expect([leave(2), forget(2), spawn(4, 1)]);
}

#[test]
fn a_slot_that_does_not_exist_is_refused() {
    let mut s = Script::with_workers(1);
    for (role, slot) in [(Role::Worker, Slot(1)), (Role::Agent, Slot(0))] {
        let why = Refused::NoSuchSlot { role, slot };
        s.refuses(why, |s, now| s.drain_slot(now, role, slot));
        s.refuses(why, |s, now| s.restart_slot(now, role, slot));
    }
    s.expect_nothing();
}
