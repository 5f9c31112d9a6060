//! What comes too late, too early or twice changes nothing.

use super::script::*;
use crate::supervisor::*;

/// Every event that is about one worker.
const EVENTS: [fn(&mut Script, u64) -> &mut Script; 11] = [
    Script::spawned,
    Script::spawn_fails,
    Script::online,
    Script::ready,
    |s, id| s.pong(id, 1),
    Script::untold,
    Script::hangs,
    Script::goodbye,
    Script::closes_its_channel,
    Script::breaks_the_protocol,
    |s, id| s.exits(id, code(0)),
];

/// N86: a late event is never taken for one of the successor's, since ids are not reused.
#[test]
fn events_of_the_forgotten_and_the_unknown_change_nothing() {
    let mut s = Script::with_workers(1);
    s.exits(1, code(1)).expect([leave(1), forget(1)]);
    for id in [0, 1, 99] {
        for event in EVENTS {
            event(&mut s, id).expect_nothing();
        }
    }
    s.advance(secs(1)).expect([spawn(2, 0)]);
    s.spawned(2).ready(2).expect([enter(2), announce(2)]);
    EVENTS.iter().for_each(|event| {
        event(&mut s, 1).expect_nothing();
    });
    assert!(s.supervisor.is_serving(w(2)));
}

#[test]
fn what_comes_twice_counts_once() {
    let mut s = Script::of(plan(0, 2));
    s.starts().starts().expect([spawn(1, 0), spawn(2, 1)]);
    s.spawned(1).spawned(1).ready(1).ready(1).expect([enter(1)]);
    s.spawned(1).spawn_fails(1).online(1).expect_nothing();
    s.spawned(2)
        .ready(2)
        .expect([enter(2), announce(1), announce(2)]);
    s.goodbye(1).goodbye(1).ready(1).expect([leave(1)]);
    s.closes_its_channel(1)
        .breaks_the_protocol(1)
        .expect_nothing();
    s.exits(1, code(0)).exits(1, code(0)).expect([forget(1)]);
}

#[test]
fn what_comes_before_spawned_changes_nothing() {
    let mut s = Script::of(plan(0, 1));
    s.starts().expect([spawn(1, 0)]);
    s.online(1)
        .ready(1)
        .goodbye(1)
        .closes_its_channel(1)
        .expect_nothing();
    s.spawned(1).ready(1).expect([enter(1), announce(1)]);
}

/// C10: what the reactor read last may have been `Ready`; the exit counts.
#[test]
fn an_exit_is_final_in_every_phase() {
    let phases: [fn(&mut Script) -> &mut Script; 7] = [
        |s| s,
        |s| s.spawned(2),
        |s| s.spawned(2).ready(2),
        |s| s.spawned(2).goodbye(2),
        |s| s.spawned(2).ready(2).hangs(2),
        |s| s.spawned(2).breaks_the_protocol(2),
        |s| s.spawned(2).breaks_the_protocol(2).advance(secs(5)),
    ];
    for phase in phases {
        let mut s = Script::with_workers(1);
        s.exits(1, code(1)).advance(secs(1));
        phase(&mut s);
        let mut s = s.forget_the_past();
        let in_rotation = s.supervisor.is_serving(w(2));
        s.exits(2, code(1));
        if in_rotation {
            s.expect([leave(2), forget(2)]);
        } else {
            s.expect([forget(2)]);
        }
        assert_eq!(s.supervisor.worker(w(2)), None);
    }
}

#[test]
fn listeners_that_close_without_being_told_to_change_nothing() {
    let mut s = Script::with_workers(1);
    s.listeners_closed().expect_nothing();
    assert_eq!(s.supervisor.stage(), Stage::Serving);
}

#[test]
fn after_the_end_nothing_happens() {
    let mut s = Script::with_workers(1);
    s.stop(Stop::Fast).exits(1, killed(SIGTERM)).expect([
        AbandonListeners,
        leave(1),
        terminate(1),
        forget(1),
        finish(crate::ExitCode::Clean),
    ]);
    for event in EVENTS {
        event(&mut s, 1).expect_nothing();
    }
    s.starts()
        .stop(Stop::Graceful)
        .stop(Stop::Fast)
        .listeners_closed();
    s.advance(secs(3_600)).expect_nothing();
    assert_eq!(s.alarm(), None);
}

#[test]
fn a_tick_before_the_deadline_does_nothing() {
    let mut s = Script::with_workers(1);
    s.goodbye(1)
        .advance(secs(1))
        .expect([leave(1), spawn(2, 0)]);
    assert_eq!(s.alarm(), Some(secs(29)));
    s.advance(millis(28_999)).expect_nothing();
    s.advance(millis(1)).expect([terminate(1)]);
}
