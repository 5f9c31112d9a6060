//! What is replaced, when, and how often.

use super::script::*;
use crate::ExitCode::{Clean, CrashLoop};
use crate::supervisor::*;

fn limited(workers: u32, count: u32, policy: OnCrashLoop) -> Script {
    Script::serving(Plan {
        restart: always(count, policy),
        ..plan(0, workers)
    })
}

/// N86, E39: out of the rotation, then forgotten; the same slot is filled under a new id.
#[test]
fn a_worker_that_dies_is_replaced_after_the_delay() {
    let mut s = Script::with_workers(2);
    s.exits(1, killed(SIGSEGV)).expect([leave(1), forget(1)]);
    s.advance(millis(999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(3, 0)]);
}

/// N74, N79: whatever the code, nobody asked for it.
#[test]
fn an_exit_with_code_0_that_nobody_asked_for_is_a_crash_too() {
    for status in [code(0), code(42), killed(SIGTERM)] {
        let mut s = Script::with_workers(1);
        s.exits(1, status).expect([leave(1), forget(1)]);
        s.advance(secs(1)).expect([spawn(2, 0)]);
    }
}

/// E29, F07: the workers do not notice.
#[test]
fn an_agent_that_dies_is_replaced_alone() {
    let mut s = Script::serving(plan(1, 2));
    s.exits(1, code(1)).expect([forget(1)]);
    s.advance(secs(1)).expect([spawn_agent(4, 0)]);
    s.spawned(4).ready(4).expect([announce(4)]);
    assert_eq!(s.supervisor.serving(Role::Worker), 2);
}

/// E45, P06: 1 s, 1.5 s, 2.25 s, 3.375 s, 4 s, 4 s.
#[test]
fn failures_in_a_row_make_the_slot_wait_longer() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).expect([leave(1), forget(1)]);
    for (id, delay) in (2..).zip([1_000, 1_500, 2_250, 3_375, 4_000, 4_000]) {
        s.advance(millis(delay - 1)).expect_nothing();
        s.advance(millis(1)).expect([spawn(id, 0)]);
        s.spawned(id).exits(id, code(1)).expect([forget(id)]);
    }
}

/// P06.
#[test]
fn a_worker_that_served_long_enough_is_replaced_with_the_first_delay() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).advance(secs(1));
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.spawned(2).ready(2).expect([enter(2), announce(2)]);
    s.advance(secs(20))
        .exits(2, code(1))
        .expect([leave(2), forget(2)]);
    s.advance(secs(1)).expect([spawn(3, 0)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
    s.advance(millis(19_999))
        .exits(3, code(1))
        .expect([leave(3), forget(3)]);
    s.advance(secs(1)).expect_nothing();
    s.advance(millis(500)).expect([spawn(4, 0)]);
}

/// The time until it was ready is no service: it served 10 s of its 60.
#[test]
fn a_slow_start_does_not_count_as_service() {
    let mut s = Script::serving(Plan {
        ready_timeout: secs(60),
        ..plan(0, 1)
    });
    s.exits(1, code(1)).advance(secs(1)).spawned(2);
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.advance(secs(50)).ready(2).expect([enter(2), announce(2)]);
    s.advance(secs(10)).exits(2, code(1));
    s.expect([leave(2), forget(2)]);
    s.advance(millis(1_499)).expect_nothing();
    s.advance(millis(1)).expect([spawn(3, 0)]);
}

#[test]
fn every_slot_has_its_own_row() {
    let mut s = Script::with_workers(2);
    s.exits(1, code(1))
        .advance(secs(1))
        .spawned(3)
        .exits(3, code(1));
    s.expect([leave(1), forget(1), spawn(3, 0), forget(3)]);
    s.exits(2, code(1)).expect([leave(2), forget(2)]);
    s.advance(secs(1)).expect([spawn(4, 1)]);
    s.advance(millis(500)).expect([spawn(5, 0)]);
}

/// C14.
#[test]
fn a_spawn_that_fails_is_tried_again() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1))
        .advance(secs(1))
        .expect([leave(1), forget(1), spawn(2, 0)]);
    s.spawn_fails(2).expect([forget(2)]);
    s.advance(millis(1_500)).expect([spawn(3, 0)]);
}

/// E41.
#[test]
fn a_replacement_that_is_not_ready_in_time_is_replaced() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).advance(secs(1)).spawned(2);
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.advance(secs(10)).expect([terminate(2)]);
    s.advance(millis(1_500)).expect([spawn(3, 0)]);
    s.exits(2, killed(SIGTERM)).expect([forget(2)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
}

/// E40: and when nobody is left, there is nothing to wait for.
#[test]
fn with_no_refork_a_slot_stays_empty() {
    let mut s = Script::serving(Plan {
        restart: Restart::Never,
        ..plan(0, 2)
    });
    s.exits(2, killed(SIGKILL)).advance(secs(3_600));
    s.expect([leave(2), forget(2)]);
    s.exits(1, code(0))
        .expect([leave(1), forget(1), AbandonListeners, finish(CrashLoop)]);
}

/// E40: an agent that is gone for good does not end the service.
#[test]
fn with_no_refork_the_workers_outlive_the_agent() {
    let mut s = Script::serving(Plan {
        restart: Restart::Never,
        ..plan(1, 1)
    });
    s.exits(1, code(0)).advance(secs(3_600)).expect([forget(1)]);
    assert_eq!(s.supervisor.stage(), Stage::Serving);
}

/// F08: the limit is for all slots together; what waits longest comes first.
#[test]
fn restarts_beyond_the_limit_wait_for_the_window() {
    let mut s = limited(3, 2, OnCrashLoop::Hold);
    s.exits(3, code(1)).advance(millis(1)).exits(2, code(1));
    s.advance(millis(1)).exits(1, code(1)).advance(secs(1));
    s.expect([
        leave(3),
        forget(3),
        leave(2),
        forget(2),
        leave(1),
        forget(1),
        spawn(4, 2),
        spawn(5, 1),
    ]);
    s.advance(secs(60)).expect([spawn(6, 0)]);
}

/// F08: nobody has to do anything for it to go on.
#[test]
fn a_held_restart_is_made_when_the_window_allows() {
    let mut s = limited(2, 1, OnCrashLoop::Hold);
    s.exits(1, code(1)).exits(2, code(1)).advance(secs(1));
    s.expect([leave(1), forget(1), leave(2), forget(2), spawn(3, 0)]);
    assert_eq!(s.alarm(), Some(secs(60)));
    s.advance(millis(59_999)).expect_nothing();
    s.advance(millis(1)).expect([spawn(4, 1)]);
}

/// F08, P08: the slot is given up, the others serve on.
#[test]
fn beyond_the_limit_a_slot_is_parked_if_so_planned() {
    let mut s = limited(2, 1, OnCrashLoop::Park);
    s.exits(1, code(1)).advance(secs(1)).spawned(3).ready(3);
    s.expect([leave(1), forget(1), spawn(3, 0), enter(3), announce(3)]);
    s.exits(3, code(1))
        .advance(secs(3_600))
        .expect([leave(3), forget(3)]);
    assert!(s.supervisor.is_serving(w(2)));
}

/// P08: but not before the last process is gone, which may still serve what it has.
#[test]
fn when_every_slot_is_parked_and_nobody_is_left_the_master_gives_up() {
    let mut s = limited(2, 0, OnCrashLoop::Park);
    s.exits(1, code(1))
        .advance(secs(1))
        .expect([leave(1), forget(1)]);
    s.goodbye(2).advance(secs(2)).expect([leave(2)]);
    s.exits(2, code(0));
    s.expect([forget(2), AbandonListeners, finish(CrashLoop)]);
}

/// P08.
#[test]
fn beyond_the_limit_the_master_gives_up_if_so_planned() {
    let mut s = limited(2, 1, OnCrashLoop::Exit);
    s.exits(1, code(1))
        .advance(secs(1))
        .spawned(3)
        .exits(3, code(1));
    s.expect([leave(1), forget(1), spawn(3, 0), forget(3)]);
    s.advance(millis(1_500)).expect([CloseListeners]);
    s.listeners_closed().expect([leave(2), drain(2, secs(30))]);
    s.exits(2, code(0)).expect([forget(2), finish(CrashLoop)]);
}

/// A limit of none allows nothing, ever: holding would be waiting for ever.
#[test]
fn holding_with_a_limit_of_none_is_parking() {
    let mut s = limited(2, 0, OnCrashLoop::Hold);
    s.exits(1, code(1))
        .advance(secs(1))
        .expect([leave(1), forget(1)]);
    assert_eq!(s.alarm(), None);
    s.tells([
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: code 1, restart in 1 s",
        "restart limit reached: 0 in 60 s, restarts wait",
        "worker slot=0 parked",
    ]);
}

/// The boot is no restart: it does not use up the limit.
#[test]
fn the_first_processes_are_no_restarts() {
    let mut s = limited(8, 1, OnCrashLoop::Exit);
    s.exits(8, code(1)).advance(secs(1));
    s.expect([leave(8), forget(8), spawn(9, 7)]);
}

/// It serves what it has while the next one starts, and is not held to have failed.
#[test]
fn who_retires_is_replaced_at_once_and_drained() {
    let mut s = Script::with_workers(1);
    s.retires(1);
    s.expect([leave(1), drain(1, secs(30)), spawn(2, 0)]);
    s.tells(["w1 slot=0 gen=1 pid=101 retires: heap corrupt, restart in 0 ms"]);
    s.advance(millis(29_999)).expect_nothing();
    s.advance(millis(1)).expect([terminate(1)]);
}

/// 78 is `EX_CONFIG`: starting it again changes nothing.
#[test]
fn an_exit_code_may_say_that_the_slot_is_to_stay_empty() {
    let mut s = Script::serving(Plan {
        stop_exit_codes: vec![3],
        ..plan(0, 3)
    });
    s.exits(1, code(78)).exits(2, code(3)).advance(secs(3_600));
    s.expect([leave(1), forget(1), leave(2), forget(2)]);
    s.restart_slot(Role::Worker, 0).expect([spawn(4, 0)]);
}

/// That is no failure.
#[test]
fn when_everybody_is_done_the_cluster_ends_well() {
    for restart in [always(60, OnCrashLoop::Hold), Restart::Never] {
        let mut s = Script::serving(Plan {
            stop_exit_codes: vec![0],
            restart,
            ..plan(1, 1)
        });
        s.closes_its_channel(2).exits(2, code(0));
        s.expect([leave(2), forget(2), AbandonListeners, drain(1, secs(30))]);
        s.exits(1, code(0)).expect([forget(1), finish(Clean)]);
    }
}

/// Workers that die one after the other do not keep an agent from coming back.
#[test]
fn agents_have_a_limit_of_their_own() {
    let mut s = Script::serving(Plan {
        restart: always(1, OnCrashLoop::Hold),
        ..plan(1, 2)
    });
    s.exits(2, code(1)).exits(3, code(1)).exits(1, code(1));
    s.advance(secs(1)).expect([
        leave(2),
        forget(2),
        leave(3),
        forget(3),
        forget(1),
        spawn_agent(4, 0),
        spawn(5, 0),
    ]);
}

/// The one before may still be doing what must not be done by two.
#[test]
fn an_agent_is_restarted_when_the_one_before_is_gone() {
    let mut s = Script::serving(plan(1, 1));
    s.goodbye(1).advance(secs(29)).expect_nothing();
    s.exits(1, code(0)).expect([forget(1), spawn_agent(3, 0)]);
}

/// A file system that hangs.
#[test]
fn a_start_that_is_not_answered_is_given_up() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).advance(secs(1));
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.advance(millis(119_999)).expect_nothing();
    s.advance(millis(1)).expect([forget(2)]);
    s.spawned(2).expect_nothing();
    s.advance(millis(1_500)).expect([spawn(3, 0)]);
}
