//! The end: graceful, fast, and everything in between.

use log::Level;

use super::script::*;
use crate::ExitCode::{Clean, Unclean};
use crate::supervisor::*;

/// N25, N77: listeners, workers, agents, each with the time that is left.
#[test]
fn a_graceful_stop_lets_everybody_finish() {
    let mut s = Script::serving(plan(2, 2));
    s.stop(Stop::Graceful).expect([CloseListeners]);
    s.advance(secs(10)).listeners_closed();
    s.expect([leave(3), drain(3, secs(20)), leave(4), drain(4, secs(20))]);
    s.exits(4, code(0)).expect([forget(4)]);
    s.advance(secs(19)).exits(3, code(0));
    s.expect([forget(3), drain(2, secs(30)), drain(1, secs(30))]);
    s.advance(secs(29)).exits(1, code(0)).expect([forget(1)]);
    s.exits(2, code(0)).expect([forget(2), finish(Clean)]);
    assert_eq!(s.supervisor.stage(), Stage::Finished);
}

/// N87: the deadline is for all of it, listeners included.
#[test]
fn who_does_not_leave_in_time_is_forced() {
    let mut s = Script::serving(plan(1, 1));
    s.stop(Stop::Graceful).advance(secs(10)).listeners_closed();
    s.expect([CloseListeners, leave(2), drain(2, secs(20))]);
    s.advance(millis(19_999)).expect_nothing();
    s.advance(millis(1)).expect([terminate(2)]);
    s.advance(millis(4_999)).expect_nothing();
    s.advance(millis(1)).expect([kill(2)]);
    s.exits(2, killed(SIGKILL))
        .expect([forget(2), drain(1, secs(30))]);
    s.advance(secs(30)).expect([terminate(1)]);
    s.advance(secs(5)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL))
        .expect([forget(1), finish(Unclean)]);
}

/// SIGTERM at the deadline is force, even if it helps.
#[test]
fn a_stop_that_needs_sigterm_is_not_clean() {
    let mut s = Script::with_workers(1);
    s.stop(Stop::Graceful).listeners_closed().advance(secs(30));
    s.expect([CloseListeners, leave(1), drain(1, secs(30)), terminate(1)]);
    s.exits(1, code(0)).expect([forget(1), finish(Unclean)]);
}

/// It was free to finish, and did not.
#[test]
fn a_stop_in_which_a_process_fails_is_not_clean() {
    for status in [code(1), killed(SIGSEGV), killed(SIGTERM)] {
        let mut s = Script::with_workers(1);
        s.stop(Stop::Graceful).listeners_closed().exits(1, status);
        s.expect([
            CloseListeners,
            leave(1),
            drain(1, secs(30)),
            forget(1),
            finish(Unclean),
        ]);
        let last_words = s.notices().last().expect("its exit");
        assert_eq!(last_words.level(), Level::Warn, "{last_words}");
    }
}

#[test]
fn who_fails_before_it_is_told_to_leave_spoils_the_stop_as_well() {
    let mut s = Script::with_workers(2);
    s.stop(Stop::Graceful).exits(1, code(1)).listeners_closed();
    s.exits(2, code(0));
    s.expect([
        CloseListeners,
        leave(1),
        forget(1),
        leave(2),
        drain(2, secs(30)),
        forget(2),
        finish(Unclean),
    ]);
}

#[test]
fn an_exit_code_that_says_done_is_no_failure() {
    let mut s = Script::serving(Plan {
        stop_exit_codes: vec![3],
        ..plan(0, 1)
    });
    s.stop(Stop::Graceful).listeners_closed().exits(1, code(3));
    s.expect([
        CloseListeners,
        leave(1),
        drain(1, secs(30)),
        forget(1),
        finish(Clean),
    ]);
}

/// A backlog that cannot be emptied does not keep the cluster.
#[test]
fn listeners_that_do_not_close_in_time_are_abandoned() {
    let mut s = Script::with_workers(1);
    s.stop(Stop::Graceful).expect([CloseListeners]);
    s.advance(secs(30));
    s.expect([AbandonListeners, leave(1), drain(1, secs(0)), terminate(1)]);
    s.listeners_closed().expect_nothing();
    s.exits(1, killed(SIGTERM))
        .expect([forget(1), finish(Unclean)]);
}

/// N19: it has nothing to finish, so SIGTERM is no force.
#[test]
fn who_is_not_ready_is_terminated_without_ado() {
    let mut s = Script::of(plan(0, 3));
    s.starts().spawned(1).ready(1).spawned(2);
    s.expect([spawn(1, 0), spawn(2, 1), spawn(3, 2), enter(1)]);
    s.stop(Stop::Graceful).listeners_closed();
    s.expect([CloseListeners, leave(1), drain(1, secs(30)), terminate(2)]);
    s.spawned(3).expect([terminate(3)]);
    s.exits(1, code(0))
        .exits(2, killed(SIGTERM))
        .exits(3, killed(SIGTERM));
    s.expect([forget(1), forget(2), forget(3), finish(Clean)]);
}

#[test]
fn who_is_not_ready_and_ignores_sigterm_is_forced() {
    let mut s = Script::of(plan(0, 1));
    s.starts()
        .spawned(1)
        .stop(Stop::Graceful)
        .listeners_closed();
    s.expect([spawn(1, 0), CloseListeners, terminate(1)]);
    s.advance(secs(5)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL))
        .expect([forget(1), finish(Unclean)]);
}

#[test]
fn a_spawn_that_fails_during_the_stop_is_just_forgotten() {
    let mut s = Script::of(plan(0, 1));
    s.starts().stop(Stop::Graceful).listeners_closed();
    s.expect([spawn(1, 0), CloseListeners]);
    s.spawn_fails(1).expect([forget(1), finish(Clean)]);
}

/// What waits in the backlogs needs somebody to serve it.
#[test]
fn who_becomes_ready_while_the_listeners_close_helps() {
    let mut s = Script::of(plan(0, 1));
    s.starts()
        .spawned(1)
        .stop(Stop::Graceful)
        .expect([spawn(1, 0), CloseListeners]);
    s.ready(1).expect([enter(1)]);
    s.listeners_closed().expect([leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1), finish(Clean)]);
}

#[test]
fn nobody_is_replaced_during_the_stop() {
    let mut s = Script::serving(plan(1, 3));
    s.exits(2, code(1)).expect([leave(2), forget(2)]);
    s.stop(Stop::Graceful).exits(3, code(1)).exits(1, code(1));
    s.expect([CloseListeners, leave(3), forget(3), forget(1)]);
    s.advance(secs(2)).expect_nothing();
    s.listeners_closed().expect([leave(4), drain(4, secs(28))]);
    s.exits(4, code(0)).expect([forget(4), finish(Unclean)]);
}

/// Nobody will ever serve what waits there, so waiting for it would only delay the end.
#[test]
fn a_backlog_without_workers_is_abandoned() {
    let mut s = Script::with_workers(2);
    s.goodbye(1).stop(Stop::Graceful);
    s.expect([leave(1), CloseListeners]);
    s.exits(2, code(1));
    s.expect([leave(2), forget(2), AbandonListeners]);
    s.exits(1, code(0)).expect([forget(1), finish(Unclean)]);

    let mut s = Script::serving(plan(1, 0));
    s.stop(Stop::Graceful);
    s.expect([AbandonListeners, drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1), finish(Clean)]);
}

#[test]
fn a_stop_before_the_start_is_the_end() {
    for how in [Stop::Graceful, Stop::Fast] {
        let mut s = Script::of(plan(1, 1));
        s.stop(how).expect([finish(Clean)]);
        s.starts().stop(how).advance(secs(60)).expect_nothing();
    }
}

/// N85.
#[test]
fn a_fast_stop_gives_nobody_time() {
    let mut s = Script::serving(plan(1, 2));
    s.stop(Stop::Fast);
    s.expect([
        AbandonListeners,
        leave(2),
        terminate(2),
        leave(3),
        terminate(3),
    ]);
    s.exits(2, killed(SIGTERM)).exits(3, killed(SIGTERM));
    s.expect([forget(2), forget(3), terminate(1)]);
    s.exits(1, killed(SIGTERM))
        .expect([forget(1), finish(Clean)]);
}

#[test]
fn a_fast_stop_that_needs_sigkill_is_not_clean() {
    let mut s = Script::with_workers(1);
    s.stop(Stop::Fast)
        .expect([AbandonListeners, leave(1), terminate(1)]);
    s.advance(secs(5)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL))
        .expect([forget(1), finish(Unclean)]);
}

#[test]
fn a_second_stop_makes_it_fast() {
    for again in [Stop::Graceful, Stop::Fast] {
        let mut s = Script::with_workers(1);
        s.stop(Stop::Graceful)
            .advance(secs(1))
            .expect([CloseListeners]);
        s.stop(again)
            .expect([AbandonListeners, leave(1), terminate(1)]);
        s.exits(1, killed(SIGTERM))
            .expect([forget(1), finish(Clean)]);

        let mut s = Script::serving(plan(1, 1));
        s.stop(Stop::Graceful).listeners_closed();
        s.expect([CloseListeners, leave(2), drain(2, secs(30))]);
        s.stop(again).expect([terminate(2)]);
        s.stop(again).expect_nothing();
        s.exits(2, killed(SIGTERM))
            .expect([forget(2), terminate(1)]);
        s.exits(1, killed(SIGTERM))
            .expect([forget(1), finish(Clean)]);
    }
}

/// N22: nobody's leaving waits for another's.
#[test]
fn who_was_leaving_already_leaves_by_the_common_deadline() {
    let mut s = Script::with_workers(2);
    s.stop(Stop::Graceful)
        .advance(secs(10))
        .goodbye(1)
        .listeners_closed();
    s.expect([CloseListeners, leave(1), leave(2), drain(2, secs(20))]);
    s.exits(2, code(0))
        .advance(secs(20))
        .expect([forget(2), terminate(1)]);
    s.exits(1, code(0)).expect([forget(1), finish(Unclean)]);
}

/// N18, N21, N88: the drain's deadline stands, however the worker says that it goes.
#[test]
fn a_drained_worker_may_close_its_channel_before_it_is_done() {
    let mut s = Script::with_workers(2);
    s.stop(Stop::Graceful).listeners_closed();
    s.expect([
        CloseListeners,
        leave(1),
        drain(1, secs(30)),
        leave(2),
        drain(2, secs(30)),
    ]);
    s.closes_its_channel(1).goodbye(2).closes_its_channel(2);
    s.advance(secs(29)).exits(1, code(0)).exits(2, code(0));
    s.expect([forget(1), forget(2), finish(Clean)]);
}

/// The agents' turn comes last, even if a worker is spawned late.
#[test]
fn agents_wait_for_the_last_worker() {
    let mut s = Script::serving(plan(1, 1));
    s.exits(2, code(1))
        .advance(secs(1))
        .expect([leave(2), forget(2), spawn(3, 0)]);
    s.stop(Stop::Graceful)
        .listeners_closed()
        .expect([CloseListeners]);
    s.advance(secs(3)).spawned(3).expect([terminate(3)]);
    s.exits(3, killed(SIGTERM))
        .expect([forget(3), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1), finish(Clean)]);
}

/// The exit code of a cluster that failed to start says so, even if somebody had to be killed.
#[test]
fn a_failure_outweighs_a_forced_kill() {
    let mut s = Script::of(plan(0, 2));
    s.starts().spawned(1).ready(1).spawned(2).exits(2, code(1));
    s.expect([
        spawn(1, 0),
        spawn(2, 1),
        enter(1),
        forget(2),
        CloseListeners,
    ]);
    s.listeners_closed().expect([leave(1), drain(1, secs(30))]);
    s.advance(secs(35)).expect([terminate(1), kill(1)]);
    s.exits(1, killed(SIGKILL))
        .expect([forget(1), finish(crate::ExitCode::WorkerStart)]);
}

/// It may well be that the stop itself is what it fails of.
#[test]
fn who_was_never_ready_spoils_nothing() {
    let mut s = Script::with_workers(2);
    s.exits(1, killed(SIGSEGV)).advance(secs(1)).spawned(3);
    s.expect([leave(1), forget(1), spawn(3, 0)]);
    s.stop(Stop::Graceful).exits(3, code(101));
    s.expect([CloseListeners, forget(3)]);
    s.listeners_closed().exits(2, code(0));
    s.expect([leave(2), drain(2, secs(30)), forget(2), finish(Clean)]);
}
