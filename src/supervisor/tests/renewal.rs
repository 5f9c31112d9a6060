//! How a worker that could go on is replaced: its successor first, and one at a time.

use std::time::Duration;

use super::script::*;
use crate::ExitCode;
use crate::supervisor::*;

fn aging(workers: u32, max_age: Duration) -> Script {
    Script::serving(Plan {
        max_age: Some(max_age),
        ..plan(0, workers)
    })
}

#[test]
fn the_successor_takes_its_place_before_the_old_one_leaves() {
    let mut s = Script::with_workers(2);
    s.wears_out(1).expect([spawn(3, 0)]);
    s.spawned(3).advance(secs(3)).expect_nothing();
    s.ready(3)
        .expect([enter(3), announce(3), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
    assert_eq!(s.supervisor.serving(Role::Worker), 2);
    assert_eq!(s.alarm(), None);
    s.tells([
        "w1 slot=0 gen=1 pid=101 is to be replaced: has received 1000 connections",
        "w3 slot=0 gen=1 pid=103 spawned",
        "w3 slot=0 gen=1 pid=103 ready after 3 s",
        "w1 slot=0 gen=1 pid=101 replaced by w3 slot=0 gen=1 pid=103",
        "w1 slot=0 gen=1 pid=101 exited after 3 s: code 0",
    ]);
}

/// However many are worn out, and until the one before is gone.
#[test]
fn only_one_is_replaced_at_a_time() {
    let mut s = Script::with_workers(3);
    s.wears_out(2).wears_out(1).wears_out(3);
    s.expect([spawn(4, 1)]);
    s.spawned(4).ready(4);
    s.expect([enter(4), announce(4), leave(2), drain(2, secs(30))]);
    s.advance(secs(20)).expect_nothing();
    s.exits(2, code(0)).expect([forget(2), spawn(5, 0)]);
    s.spawned(5).ready(5).exits(1, code(0));
    s.expect([
        enter(5),
        announce(5),
        leave(1),
        drain(1, secs(30)),
        forget(1),
        spawn(6, 2),
    ]);
}

#[test]
fn who_is_old_enough_is_replaced() {
    let mut s = aging(1, secs(60));
    assert_eq!(s.alarm(), Some(secs(60)));
    s.advance(millis(59_999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(2, 0)]);
    s.advance(secs(1)).spawned(2).ready(2);
    s.expect([enter(2), announce(2), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
    s.advance(millis(59_999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(3, 0)]);
}

/// It is tried again like any restart, and the old one serves on.
#[test]
fn a_successor_that_fails_is_tried_again_after_the_delay() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).expect([spawn(2, 0)]);
    s.spawn_fails(2).expect([forget(2)]);
    s.advance(millis(999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(3, 0)]);
    s.spawned(3).exits(3, code(1)).expect([forget(3)]);
    s.advance(millis(1_499)).expect_nothing();
    s.advance(millis(1)).expect([spawn(4, 0)]);
    assert!(s.supervisor.is_serving(w(1)));
}

/// Its place is vacant like any other: that comes with a delay and counts as a restart.
#[test]
fn who_dies_before_it_is_its_turn_is_restarted_and_not_replaced() {
    let mut s = Script::with_workers(2);
    s.wears_out(1).wears_out(2).expect([spawn(3, 0)]);
    s.exits(2, killed(SIGSEGV)).expect([leave(2), forget(2)]);
    s.spawned(3).ready(3).exits(1, code(0));
    s.expect([
        enter(3),
        announce(3),
        leave(1),
        drain(1, secs(30)),
        forget(1),
    ]);
    s.advance(millis(999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(4, 1)]);
    s.spawned(4).ready(4).expect([enter(4), announce(4)]);
    s.advance(secs(3_600)).expect_nothing();
}

/// Whoever is ready first has the place.
#[test]
fn who_dies_while_its_successor_starts_is_restarted_too() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).expect([spawn(2, 0)]);
    s.spawned(2).exits(1, killed(SIGSEGV));
    s.expect([leave(1), forget(1)]);
    s.advance(secs(1)).expect([spawn(3, 0)]);
    s.spawned(3).ready(2);
    s.expect([announce(2), enter(2), terminate(3)]);
    s.exits(3, killed(SIGTERM)).expect([forget(3)]);
    s.advance(secs(3_600)).expect_nothing();
}

/// And if the successor fails as well, the restart is the only one that comes.
#[test]
fn a_successor_whose_predecessor_is_gone_is_not_tried_again() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).spawned(2).exits(1, killed(SIGSEGV));
    s.expect([spawn(2, 0), leave(1), forget(1)]);
    s.advance(millis(400)).exits(2, code(1)).expect([forget(2)]);
    s.tells([
        "w1 slot=0 gen=1 pid=101 is to be replaced: has received 1000 connections",
        "w2 slot=0 gen=1 pid=102 spawned",
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: signal SIGSEGV, restart in 1 s",
        "w2 slot=0 gen=1 pid=102 exited after 400 ms: code 1, restart in 600 ms",
    ]);
    s.advance(millis(600)).expect([spawn(3, 0)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
    s.advance(secs(3_600)).expect_nothing();
}

/// Nobody is promised anything by a cluster that ends.
#[test]
fn a_successor_that_leaves_at_the_end_is_no_news() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).spawned(2).stop(Stop::Graceful);
    s.listeners_closed().expect([
        spawn(2, 0),
        CloseListeners,
        leave(1),
        drain(1, secs(30)),
        terminate(2),
    ]);
    s.exits(2, killed(SIGTERM)).exits(1, code(0));
    s.expect([forget(2), forget(1), finish(ExitCode::Clean)]);
    s.tells([
        "w1 slot=0 gen=1 pid=101 is to be replaced: has received 1000 connections",
        "w2 slot=0 gen=1 pid=102 spawned",
        "stopping gracefully: asked to",
        "w2 slot=0 gen=1 pid=102 not ready yet: SIGTERM",
        "w2 slot=0 gen=1 pid=102 exited after 0 ms: signal SIGTERM",
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: code 0",
    ]);
}

/// The slot's own renewal is not over, but that was about somebody else.
#[test]
fn a_successor_can_be_asked_to_leave_while_the_one_before_still_leaves() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).spawned(2).ready(2);
    s.expect([
        spawn(2, 0),
        enter(2),
        announce(2),
        leave(1),
        drain(1, secs(30)),
    ]);
    s.restart_slot(Role::Worker, 0).expect_nothing();
    s.exits(1, code(0)).expect([forget(1), spawn(3, 0)]);
    s.spawned(3).ready(3);
    s.expect([enter(3), announce(3), leave(2), drain(2, secs(30))]);
    s.exits(2, code(0)).expect([forget(2)]);
}

#[test]
fn who_is_worn_out_during_a_rollout_that_goes_back_is_replaced_after_it() {
    let mut s = Script::with_workers(1);
    s.reload(GENTLY).wears_out(1).spawned(2).abort_reload();
    s.expect([spawn_of(2, 2, 0), terminate(2)]);
    s.exits(2, killed(SIGTERM)).expect([forget(2), spawn(3, 0)]);
    s.spawned(3).ready(3);
    s.expect([enter(3), announce(3), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
}

/// Whoever asked is told, and may ask again.
#[test]
fn a_successor_that_somebody_asked_for_is_tried_once() {
    let mut s = Script::with_workers(1);
    s.restart_slot(Role::Worker, 0).spawn_fails(2);
    s.expect([spawn(2, 0), forget(2)]);
    s.tells([
        "w1 slot=0 gen=1 pid=101 is to be replaced: asked to",
        "w2 slot=0 gen=1 failed to spawn: no such file, the one before it stays",
    ]);
    s.advance(secs(3_600)).expect_nothing();
    s.restart_slot(Role::Worker, 0).expect([spawn(3, 0)]);
}

/// Whose age was noted is not noted again, whatever came between.
#[test]
fn who_is_old_enough_during_a_rollout_that_goes_back_is_replaced_after_it() {
    let mut s = aging(1, secs(60));
    s.advance(secs(59))
        .reload(GENTLY)
        .spawned(2)
        .advance(secs(1));
    s.expect([spawn_of(2, 2, 0)]);
    s.abort_reload().expect([terminate(2)]);
    s.exits(2, killed(SIGTERM)).expect([forget(2), spawn(3, 0)]);
    s.spawned(3).ready(3);
    s.expect([enter(3), announce(3), leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1)]);
    assert_eq!(s.alarm(), Some(secs(60)));
}

/// Its start took longer than it may live, and then the one before did not leave.
#[test]
fn who_is_too_old_when_its_turn_comes_is_noticed_at_once() {
    let mut s = aging(1, secs(5));
    s.advance(secs(5)).expect([spawn(2, 0)]);
    s.spawned(2).ready(2);
    s.expect([enter(2), announce(2), leave(1), drain(1, secs(30))]);
    s.jump(secs(29)).expect_nothing();
    s.exits(1, code(0)).expect([forget(1), spawn(3, 0)]);
    assert_eq!(s.alarm(), Some(secs(120)));
}

/// A limit that everybody exceeds at once is no reason to do nothing else but replace workers.
#[test]
fn who_wears_out_as_early_as_the_one_before_stays_for_a_while() {
    let mut s = Script::with_workers(1);
    s.wears_out(1).spawned(2).ready(2).exits(1, code(0));
    for (id, wait) in [(2, 1_000), (3, 1_500), (4, 2_250), (5, 3_375), (6, 4_000)] {
        s.wears_out(id);
        assert_eq!(s.alarm(), Some(millis(wait)));
        s.advance(millis(wait)).spawned(id + 1).ready(id + 1);
        s.exits(id, code(0));
    }
    let first_delay =
        "w2 slot=0 gen=1 pid=102 is to be replaced in 1 s: has received 1000 connections";
    assert!(s.notices().any(|notice| notice.to_string() == first_delay));
    // One that serves as long as one should ends the row.
    let mut s = s.forget_the_past();
    s.advance(secs(20)).wears_out(7).expect([spawn(8, 0)]);
}

#[test]
fn an_operator_does_not_wait_for_a_worker_that_is_young() {
    let mut s = Script::with_workers(1);
    for id in 1..=3 {
        s.restart_slot(Role::Worker, 0).expect([spawn(id + 1, 0)]);
        s.spawned(id + 1).ready(id + 1).exits(id, code(0));
        s = s.forget_the_past();
    }
}

/// There is nothing to lose, and no reason to try as fast as possible.
#[test]
fn without_restarts_a_successor_that_fails_is_tried_again_a_minute_later() {
    let mut s = Script::serving(Plan {
        restart: Restart::Never,
        max_age: Some(secs(5)),
        ..plan(0, 1)
    });
    s.advance(secs(5)).expect([spawn(2, 0)]);
    s.spawn_fails(2).expect([forget(2)]);
    s.advance(millis(59_999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(3, 0)]);
}
