//! How a process that has to be gone is made to leave, while the cluster serves on.

use super::script::*;
use crate::supervisor::*;

/// N83, N87: it can hear nothing any more, but may finish.
#[test]
fn who_closes_its_channel_gets_a_second_to_exit() {
    let mut s = Script::with_workers(1);
    s.closes_its_channel(1).expect([leave(1)]);
    s.advance(millis(999)).expect_nothing();
    s.advance(millis(1)).expect([terminate(1), spawn(2, 0)]);
    s.advance(millis(4_999)).expect_nothing();
    s.advance(millis(1)).expect([kill(1)]);
    s.spawned(2).ready(2).expect([enter(2), announce(2)]);
    s.advance(secs(3_600)).expect_nothing();
    s.exits(1, killed(SIGKILL)).expect([forget(1)]);
}

/// N75, N76: the delay counts from the disconnect, and the exit is no second crash.
#[test]
fn a_slot_may_have_one_that_leaves_and_one_that_comes() {
    let mut s = Script::with_workers(1);
    s.closes_its_channel(1)
        .exits(1, code(1))
        .expect([leave(1), forget(1)]);
    s.advance(secs(1)).expect([spawn(2, 0)]);
    s.spawned(2)
        .closes_its_channel(2)
        .advance(millis(900))
        .expect_nothing();
    s.exits(2, code(1))
        .advance(millis(600))
        .expect([forget(2), spawn(3, 0)]);
    s.advance(secs(60)).expect_nothing();
}

#[test]
fn who_breaks_the_protocol_is_terminated_at_once() {
    let mut s = Script::with_workers(1);
    s.breaks_the_protocol(1).expect([leave(1), terminate(1)]);
    s.advance(secs(1)).expect([spawn(2, 0)]);
    s.advance(secs(4)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL)).expect([forget(1)]);
}

/// N18: it has the time of a drain, since it may be finishing what it has begun.
#[test]
fn who_says_goodbye_has_time_to_leave_and_is_replaced_meanwhile() {
    let mut s = Script::with_workers(1);
    s.goodbye(1).expect([leave(1)]);
    s.advance(secs(1)).expect([spawn(2, 0)]);
    s.spawned(2).ready(2).expect([enter(2), announce(2)]);
    s.closes_its_channel(1)
        .advance(millis(28_999))
        .expect_nothing();
    s.advance(millis(1)).expect([terminate(1)]);
    s.advance(secs(5)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL)).expect([forget(1)]);
}

/// N18, G07: its successor does not wait for it, and its end is no second failure.
#[test]
fn who_retires_is_replaced_at_once_and_finishes_meanwhile() {
    let mut s = Script::with_workers(1);
    s.retires(1)
        .expect([leave(1), drain(1, secs(30)), spawn(2, 0)]);
    s.tells(["w1 slot=0 gen=1 pid=101 retires: heap corrupt, restart in 0 ms"]);
    s.spawned(2).ready(2).expect([enter(2), announce(2)]);
    s.retires(1).goodbye(1).closes_its_channel(1);
    s.exits(1, code(42)).expect([forget(1)]);
    s.advance(secs(3_600)).expect_nothing();
}

/// It has served nobody, so it is like any other start that failed.
#[test]
fn who_retires_before_it_is_ready_is_replaced_after_the_delay() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).advance(secs(1)).spawned(2);
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.retires(2).expect([drain(2, secs(30))]);
    s.advance(millis(1_499)).expect_nothing();
    s.advance(millis(1)).expect([spawn(3, 0)]);
    s.exits(2, code(1)).expect([forget(2)]);
}

#[test]
fn a_goodbye_does_not_excuse_a_violation() {
    let mut s = Script::with_workers(1);
    s.goodbye(1)
        .breaks_the_protocol(1)
        .expect([leave(1), terminate(1)]);
    s.exits(1, killed(SIGTERM)).expect([forget(1)]);
}

#[test]
fn who_is_not_ready_in_time_is_terminated_then_killed() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).advance(secs(1)).spawned(2);
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.advance(secs(10)).expect([terminate(2)]);
    s.ready(2).advance(millis(1_500)).expect([spawn(3, 0)]);
    s.advance(millis(3_500)).expect([kill(2)]);
    s.exits(2, killed(SIGKILL)).expect([forget(2)]);
}

#[test]
fn a_violation_after_sigterm_or_sigkill_changes_nothing() {
    for patience in [secs(30), secs(35)] {
        let mut s = Script::with_workers(1);
        s.goodbye(1).advance(patience);
        let mut s = s.forget_the_past();
        let alarm = s.alarm();
        s.breaks_the_protocol(1).expect_nothing();
        assert_eq!(s.alarm(), alarm);
    }
}

/// An agent is nobody's target, so there is nothing to leave.
#[test]
fn an_agent_never_enters_or_leaves_the_rotation() {
    let mut s = Script::of(plan(1, 0));
    s.starts()
        .spawned(1)
        .ready(1)
        .expect([spawn_agent(1, 0), announce(1)]);
    s.closes_its_channel(1).expect_nothing();
    s.exits(1, code(0)).expect([forget(1)]);
}

/// Timeouts of zero are steps without a pause, and never a loop.
#[test]
fn without_patience_every_step_comes_at_once() {
    let mut s = Script::serving(Plan {
        stop_timeout: secs(0),
        kill_timeout: secs(0),
        ..plan(0, 1)
    });
    s.goodbye(1).expect([leave(1), terminate(1), kill(1)]);
    s.exits(1, killed(SIGKILL)).expect([forget(1)]);
}

/// "Never" is a very long time, and no overflow.
#[test]
fn endless_patience_is_possible() {
    let mut s = Script::serving(Plan {
        ready_timeout: std::time::Duration::MAX,
        stop_timeout: std::time::Duration::MAX,
        kill_timeout: std::time::Duration::MAX,
        ..plan(1, 1)
    });
    s.stop(Stop::Graceful)
        .listeners_closed()
        .advance(secs(1_000_000));
    s.expect([
        CloseListeners,
        leave(2),
        drain(2, secs(100 * 365 * 24 * 3600)),
    ]);
}
