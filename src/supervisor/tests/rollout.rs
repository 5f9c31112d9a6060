//! A new generation: one worker after the other, and back if it is no good.

use super::script::*;
use crate::ExitCode;
use crate::supervisor::*;

/// The first has to be ready and to serve for a while; then one more at a time.
#[test]
fn a_reload_replaces_everybody_and_nobody_is_missed() {
    let mut s = Script::with_workers(2);
    s.reload(GENTLY).expect([spawn_of(2, 3, 0)]);
    s.spawned(3).advance(secs(9)).expect_nothing();
    s.ready(3).expect([enter(3), announce(3)]);
    s.advance(millis(4_999)).expect_nothing();
    s.advance(millis(1)).expect([leave(1), drain(1, secs(30))]);
    s.exits(1, code(0)).expect([forget(1), spawn_of(2, 4, 1)]);
    s.spawned(4).ready(4);
    s.expect([enter(4), announce(4), leave(2), drain(2, secs(30))]);
    assert!(s.supervisor.rollout().is_some());
    s.exits(2, code(0)).expect([forget(2)]);
    assert_eq!(s.supervisor.generation(), Generation(2));
    assert_eq!((s.supervisor.rollout(), s.alarm()), (None, None));
}

#[test]
fn a_reload_is_told_from_its_start_to_its_end() {
    let mut s = Script::with_workers(1);
    s.reload(AT_ONCE).spawned(2).ready(2);
    s.advance(secs(1)).exits(1, code(0));
    s.expect([
        spawn_of(2, 2, 0),
        enter(2),
        announce(2),
        leave(1),
        drain(1, secs(30)),
        forget(1),
    ]);
    s.tells([
        "reload: generation 2 begins, 1 has 1 worker",
        "w2 slot=0 gen=2 pid=102 spawned",
        "w2 slot=0 gen=2 pid=102 ready after 0 ms",
        "w1 slot=0 gen=1 pid=101 replaced by w2 slot=0 gen=2 pid=102",
        "reload: 1 of 1 at generation 2",
        "w1 slot=0 gen=1 pid=101 exited after 1 s: code 0",
        "reload: all at generation 2 after 1 s",
    ]);
}

/// The old ones have never left.
#[test]
fn a_canary_that_fails_takes_the_reload_back() {
    let mut s = Script::with_workers(2);
    s.reload(GENTLY).spawned(3).ready(3).advance(secs(4));
    s.expect([spawn_of(2, 3, 0), enter(3), announce(3)]);
    s.exits(3, killed(SIGSEGV)).expect([leave(3), forget(3)]);
    assert_eq!(s.supervisor.generation(), Generation(1));
    assert_eq!((s.supervisor.rollout(), s.alarm()), (None, None));
    // Its number is not used again.
    s.reload(GENTLY).expect([spawn_of(3, 4, 0)]);
}

#[test]
fn a_canary_that_does_not_start_or_is_not_ready_takes_the_reload_back() {
    let mut s = Script::with_workers(1);
    s.reload(GENTLY).spawn_fails(2);
    s.expect([spawn_of(2, 2, 0), forget(2)]);
    s.reload(GENTLY).spawned(3).advance(secs(10));
    s.expect([spawn_of(3, 3, 0), terminate(3)]);
    // It is over when nobody of the new generation is left.
    assert!(s.supervisor.rollout().is_some());
    s.exits(3, killed(SIGTERM)).expect([forget(3)]);
    assert_eq!(s.supervisor.rollout(), None);
}

/// Who has passed goes back the same way: its successor first.
#[test]
fn one_that_fails_later_takes_everybody_back() {
    let mut s = Script::with_workers(3);
    s.reload(AT_ONCE).spawned(4).ready(4).exits(1, code(0));
    s.expect([
        spawn_of(2, 4, 0),
        enter(4),
        announce(4),
        leave(1),
        drain(1, secs(30)),
        forget(1),
        spawn_of(2, 5, 1),
    ]);
    s.spawned(5).exits(5, code(1));
    s.expect([forget(5), spawn(6, 0)]);
    s.spawned(6).ready(6);
    s.expect([enter(6), announce(6), leave(4), drain(4, secs(30))]);
    s.exits(4, code(0)).expect([forget(4)]);
    assert_eq!(s.supervisor.rollout(), None);
    s.exits(6, code(1)).advance(secs(1));
    s.expect([leave(6), forget(6), spawn(7, 0)]);
}

/// What it said does not hold for the generation before.
#[test]
fn an_exit_code_of_a_generation_that_is_given_up_empties_no_slot() {
    let mut s = Script::with_workers(2);
    s.reload(AT_ONCE).spawned(3).ready(3).exits(1, code(0));
    s.expect([
        spawn_of(2, 3, 0),
        enter(3),
        announce(3),
        leave(1),
        drain(1, secs(30)),
        forget(1),
        spawn_of(2, 4, 1),
    ]);
    s.exits(3, code(78))
        .spawned(4)
        .expect([leave(3), forget(3), terminate(4)]);
    s.exits(4, killed(SIGTERM)).advance(secs(1));
    s.expect([forget(4), spawn(5, 0)]);
}

/// It is of the generation that its slot belongs to.
#[test]
fn a_crash_during_a_reload_brings_back_what_was_there() {
    let mut s = Script::with_workers(2);
    s.reload(GENTLY).exits(2, code(1)).advance(secs(1));
    s.expect([spawn_of(2, 3, 0), leave(2), forget(2), spawn(4, 1)]);
}

#[test]
fn a_second_reload_is_refused_and_so_is_one_that_can_replace_nobody() {
    let mut s = Script::with_workers(1);
    s.refuses(Refused::NoWay, |s, now| {
        let plan = RolloutPlan {
            surge: 0,
            unavailable: 0,
            ..GENTLY
        };
        s.reload(now, plan)
    });
    s.refuses(Refused::NotReloading, Supervisor::abort_reload);
    s.reload(GENTLY).expect([spawn_of(2, 2, 0)]);
    s.refuses(Refused::Reloading, |s, now| s.reload(now, GENTLY));
    s.abort_reload().spawned(2).expect([terminate(2)]);
    s.refuses(Refused::NotReloading, Supervisor::abort_reload);
}

/// Nobody is of a generation that nobody has asked for.
#[test]
fn a_stop_ends_the_reload() {
    let mut s = Script::with_workers(1);
    s.reload(GENTLY).spawned(2).ready(2).stop(Stop::Graceful);
    s.expect([spawn_of(2, 2, 0), enter(2), announce(2), CloseListeners]);
    assert_eq!(s.supervisor.rollout(), None);
    s.listeners_closed().exits(1, code(0)).exits(2, code(0));
    s.expect([
        leave(1),
        drain(1, secs(30)),
        leave(2),
        drain(2, secs(30)),
        forget(1),
        forget(2),
        finish(ExitCode::Clean),
    ]);
}

/// Agents stay; the next one of a slot is of the new generation.
#[test]
fn agents_follow_when_they_are_restarted() {
    let mut s = Script::serving(plan(1, 1));
    s.reload(AT_ONCE).spawned(3).ready(3).exits(2, code(0));
    s.expect([
        spawn_of(2, 3, 0),
        enter(3),
        announce(3),
        leave(2),
        drain(2, secs(30)),
        forget(2),
    ]);
    s.exits(1, code(1)).advance(secs(1));
    s.expect([
        forget(1),
        Action::Spawn {
            worker: w(4),
            slot: Slot(0),
            generation: Generation(2),
            role: Role::Agent,
        },
    ]);
}

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
    s.spawned(6).exits(6, code(1)).expect([forget(6)]);
    assert!(s.supervisor.rollout().is_some());
    s.advance(secs(1)).expect_nothing();
    assert_eq!(s.supervisor.rollout(), None);
    assert_eq!(s.supervisor.serving(Role::Worker), 1);
}

/// Nobody more, and one less.
const ONE_LESS: RolloutPlan = RolloutPlan {
    surge: 0,
    unavailable: 1,
    canary: secs(0),
};

/// Whoever sees the reload go back sees why, and not only what followed from that.
#[test]
fn a_rollback_says_from_the_beginning_how_the_culprit_ended() {
    let mut s = Script::with_workers(1);
    s.reload(GENTLY).spawned(2);
    let (worker, status) = (WorkerId(2), code(3));
    let cause = Disconnect::Ended { status };
    s.happens(Event::Disconnected { worker, cause });
    let back = "reload: back from generation 2 to 1: w2 slot=0 gen=2 pid=102 exited: code 3";
    assert!(s.notices().any(|notice| notice.to_string() == back));
    s.exits(2, status);
    s.forget_the_past();
}
