//! Who hangs, and what becomes of it; above all, who does not.

use super::script::*;
use crate::supervisor::*;

/// A process may be silent for a second: four beats.
fn guarded(agents: u32, workers: u32) -> Plan {
    Plan {
        hang_timeout: Some(secs(1)),
        ..plan(agents, workers)
    }
}

/// One worker, asked for the first time and silent ever since.
fn asked() -> Script {
    let mut s = Script::serving(guarded(0, 1));
    s.advance(millis(250)).expect([ping(1, 1)]);
    s
}

#[test]
fn who_is_silent_for_too_long_is_aborted_killed_and_replaced() {
    let mut s = asked();
    s.advance(millis(999)).expect_nothing();
    s.advance(millis(1)).expect([leave(1), abort(1)]);
    s.advance(secs(1)).expect([spawn(2, 0)]);
    s.spawned(2)
        .ready(2)
        .expect([enter(2), announce(2)])
        .goodbye(2)
        .advance(millis(3_999))
        .expect([leave(2), spawn(3, 0)]);
    s.advance(millis(1)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL)).expect([forget(1)]);
    s.tells([
        "w1 slot=0 gen=1 pid=101 hangs: no answer to a ping for 1 s: SIGABRT, restart in 1 s",
        "w2 slot=0 gen=1 pid=102 spawned",
        "w2 slot=0 gen=1 pid=102 ready after 0 ms",
        "w2 slot=0 gen=1 pid=102 leaves unasked, restart in 1.5 s",
        "w1 slot=0 gen=1 pid=101 alive 5 s after SIGABRT: SIGKILL",
        "w1 slot=0 gen=1 pid=101 exited after 6.25 s: signal SIGKILL",
    ]);
}

#[test]
fn whoever_answers_is_asked_again_a_beat_later_and_left_alone() {
    let mut s = asked();
    for token in 1..100 {
        s.pong(1, token).advance(millis(249)).expect_nothing();
        s.advance(millis(1)).expect([ping(1, token + 1)]);
    }
}

/// What it has to read is one ping, so that none of ours fills its channel.
#[test]
fn nobody_is_asked_a_second_time_before_it_has_answered() {
    let mut s = asked();
    s.advance(millis(990)).expect_nothing();
    s.pong(1, 1).advance(millis(10)).expect([ping(1, 2)]);
    // Without having read anything it says that it is alive: so it is.
    for _ in 0..100 {
        s.pong(1, 1).advance(secs(1)).expect_nothing();
    }
    s.advance(millis(250)).expect([leave(1), abort(1)]);
}

#[test]
fn nobody_is_asked_without_a_hang_timeout() {
    let mut s = Script::serving(plan(1, 1));
    assert_eq!(s.alarm(), None);
    s.advance(secs(1_000_000)).expect_nothing();
}

/// A machine that slept, a clock that jumped, a master that was stopped: one beat.
#[test]
fn time_in_which_the_master_did_not_run_kills_nobody() {
    let mut s = asked();
    s.jump(secs(3_600)).expect_nothing();
    s.jump(secs(60)).expect_nothing();
    s.advance(millis(499)).expect_nothing();
    s.pong(1, 1).advance(millis(1)).expect([ping(1, 2)]);
    s.advance(millis(500)).jump(secs(3_600)).expect_nothing();
    s.pong(1, 2).advance(millis(250)).expect([ping(1, 3)]);
}

/// Ticks in between are no beats: silence has to last.
#[test]
fn a_busy_loop_does_not_hasten_the_end() {
    let mut s = asked();
    for _ in 0..999 {
        s.jump(millis(1)).expect_nothing();
    }
    s.jump(millis(1)).expect([leave(1), abort(1)]);
}

#[test]
fn who_could_not_be_asked_owes_no_answer() {
    let mut s = asked();
    for _ in 0..10 {
        s.advance(millis(500)).untold(1).expect_nothing();
    }
    s.advance(millis(1_249)).expect_nothing();
    s.advance(millis(1)).expect([leave(1), abort(1)]);
}

/// The reactor saw it: nothing is done twice, whoever finds out first.
#[test]
fn an_accept_queue_that_does_not_move_is_a_hang_too() {
    let mut s = Script::with_workers(2);
    s.hangs(1).hangs(1).expect([leave(1), abort(1)]);
    s.exits(1, killed(SIGABRT)).expect([forget(1)]);
    s.tells([
        "w1 slot=0 gen=1 pid=101 hangs: its accept queue did not move for 1 s: SIGABRT, restart in 1 s",
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: signal SIGABRT",
    ]);
    s.advance(secs(1)).expect([spawn(3, 0)]);
}

#[test]
fn an_agent_that_hangs_is_replaced_as_well() {
    let mut s = Script::serving(guarded(1, 0));
    s.advance(millis(1_250)).expect([ping(1, 1), abort(1)]);
    s.exits(1, killed(SIGABRT))
        .advance(secs(1))
        .expect([forget(1), spawn_agent(2, 0)]);
}

/// Its time is the ready timeout's, and whoever leaves has its own deadlines.
#[test]
fn who_starts_or_leaves_does_not_hang() {
    let mut s = asked();
    s.exits(1, code(1)).advance(secs(1)).spawned(2);
    s.expect([leave(1), forget(1), spawn(2, 0)]);
    s.hangs(2).advance(millis(9_999)).expect_nothing();
    s.advance(millis(1)).expect([terminate(2)]);
    s.hangs(2).expect_nothing();
    s.exits(2, killed(SIGTERM)).expect([forget(2)]);

    let mut s = asked();
    s.goodbye(1).expect([leave(1)]);
    s.hangs(1).advance(millis(999)).expect_nothing();
}

/// A hang while the cluster starts is a failed start, as any other death is.
#[test]
fn a_hang_at_boot_is_not_tried_again() {
    let mut s = Script::of(guarded(1, 1));
    s.starts().spawned(1).ready(1).spawned(2);
    s.advance(millis(250));
    s.expect([spawn_agent(1, 0), spawn(2, 0), ping(1, 1)]);
    s.advance(secs(1))
        .listeners_closed()
        .expect([abort(1), CloseListeners, terminate(2)]);
    s.exits(1, killed(SIGABRT)).exits(2, killed(SIGTERM));
    s.expect([forget(1), forget(2), finish(crate::ExitCode::AgentStart)]);
}

/// Who was asked to leave is not pinged; who waits for its turn is, and is not replaced.
#[test]
fn who_hangs_while_the_cluster_stops_is_aborted_and_not_replaced() {
    let mut s = Script::serving(guarded(1, 1));
    s.stop(Stop::Graceful).listeners_closed();
    s.expect([CloseListeners, leave(2), drain(2, secs(30))]);
    s.advance(millis(250)).expect([ping(1, 1)]);
    s.advance(secs(1)).expect([abort(1)]);
    s.advance(secs(5)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL)).exits(2, code(0));
    s.expect([forget(1), forget(2), finish(crate::ExitCode::Unclean)]);
}

#[test]
fn who_is_aborted_is_not_asked_to_leave_as_well() {
    for how in [Stop::Graceful, Stop::Fast] {
        let mut s = Script::with_workers(1);
        s.hangs(1).expect([leave(1), abort(1)]);
        s.breaks_the_protocol(1)
            .stop(how)
            .expect([AbandonListeners]);
        s.advance(millis(4_999)).expect_nothing();
        s.advance(millis(1)).expect([kill(1)]);
        s.exits(1, killed(SIGKILL));
        s.expect([forget(1), finish(crate::ExitCode::Unclean)]);
    }
}

/// Hangs count as failures: the delay grows, and too many are too many.
#[test]
fn who_hangs_again_and_again_is_restarted_within_limits() {
    let mut s = Script::serving(Plan {
        restart: always(1, OnCrashLoop::Park),
        ..plan(0, 1)
    });
    s.hangs(1).exits(1, killed(SIGABRT));
    s.advance(secs(1)).spawned(2).ready(2);
    s.expect([
        leave(1),
        abort(1),
        forget(1),
        spawn(2, 0),
        enter(2),
        announce(2),
    ]);
    s.hangs(2).exits(2, killed(SIGABRT));
    s.advance(millis(1_500));
    s.expect([
        leave(2),
        abort(2),
        forget(2),
        AbandonListeners,
        finish(crate::ExitCode::CrashLoop),
    ]);
}
