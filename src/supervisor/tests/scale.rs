//! More workers, or fewer, as an operator wants it.

use super::script::*;
use crate::supervisor::*;

#[test]
fn more_workers_come_at_once_and_enter_when_they_are_ready() {
    let mut s = Script::with_workers(1);
    s.scale(3).expect([spawn(2, 1), spawn(3, 2)]);
    s.spawned(2).ready(2).expect([enter(2), announce(2)]);
    s.tells([
        "scale from 1 to 3 workers",
        "w2 slot=1 gen=1 pid=102 spawned",
        "w2 slot=1 gen=1 pid=102 ready after 0 ms",
    ]);
}

/// They finish what they have.
#[test]
fn fewer_workers_are_those_in_the_lowest_slots() {
    let mut s = Script::with_workers(3);
    s.scale(1)
        .expect([leave(2), drain(2, secs(30)), leave(3), drain(3, secs(30))]);
    s.exits(3, code(0)).exits(2, code(0)).advance(secs(3_600));
    s.expect([forget(3), forget(2)]);
}

#[test]
fn as_many_as_before_are_no_change() {
    let mut s = Script::with_workers(2);
    s.scale(2).expect_nothing();
    s.tells([]);
}

/// A slot that is there again has nothing to do with who still leaves it.
#[test]
fn up_again_does_not_wait_for_those_who_still_leave() {
    let mut s = Script::with_workers(2);
    s.scale(1).scale(2);
    s.expect([leave(2), drain(2, secs(30)), spawn(3, 1)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
}

/// The spare ones stay, in lower slots.
#[test]
fn spare_workers_are_scaled_with_the_others() {
    let mut s = Script::serving(Plan {
        spare: 1,
        ..plan(0, 3)
    });
    s.scale(2).expect([leave(3), drain(4, secs(30))]);
    assert!(s.supervisor.is_serving(w(3)));
    s.scale(3).expect([enter(3), spawn(5, 3)]);
}

#[test]
fn a_restart_that_waits_is_not_made_if_its_slot_goes() {
    let mut s = Script::with_workers(2);
    s.exits(2, code(1)).scale(1).advance(secs(3_600));
    s.expect([leave(2), forget(2)]);
}

#[test]
fn without_an_agent_somebody_has_to_stay() {
    let mut s = Script::with_workers(1);
    s.refuses(Refused::NobodyLeft, |s, now| s.scale(now, 0));
    let mut s = Script::serving(plan(1, 1));
    s.scale(0).exits(2, code(0)).advance(secs(3_600));
    s.expect([leave(2), drain(2, secs(30)), forget(2)]);
    assert_eq!(s.supervisor.stage(), Stage::Serving);
}

#[test]
fn nothing_is_scaled_before_the_cluster_is_ready_or_when_it_stops() {
    let mut s = Script::of(plan(0, 1));
    s.refuses(Refused::NotReady, |s, now| s.scale(now, 2));
    let mut s = Script::with_workers(1);
    s.stop(Stop::Graceful).expect([CloseListeners]);
    s.refuses(Refused::Stopping, |s, now| s.scale(now, 2));
}

/// The highest slots leave; if the others are drained, that would be everybody who serves.
#[test]
fn who_serves_last_is_not_scaled_away() {
    let mut s = Script::with_workers(2);
    s.drain_slot(Role::Worker, 0);
    s.expect([leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
    let now = s.now();
    assert_eq!(s.supervisor.scale(now, 1), Err(Refused::AllDrained));
    s.restart_slot(Role::Worker, 0).expect([spawn(3, 0)]);
    assert_eq!(s.supervisor.scale(now, 1), Ok(()));
    s.spawned(3).expect([leave(2), drain(2, secs(30))]);
}
