//! What is told, word for word.

use log::Level;

use super::script::*;
use crate::supervisor::*;

#[test]
fn a_life_in_log_lines() {
    let mut s = Script::of(plan(1, 1));
    s.starts()
        .advance(millis(5))
        .spawned(1)
        .advance(millis(250))
        .online(1)
        .ready(1);
    s.spawned(2).online(2).advance(millis(1_250)).ready(2);
    s.tells([
        "agent slot=0 gen=1 pid=101 spawned",
        "agent slot=0 gen=1 pid=101 online",
        "agent slot=0 gen=1 pid=101 ready after 250 ms",
        "w2 slot=0 gen=1 pid=102 spawned",
        "w2 slot=0 gen=1 pid=102 online",
        "w2 slot=0 gen=1 pid=102 ready after 1.25 s",
        "cluster ready: 1 worker, 1 agent after 1.5 s",
    ]);
    s.advance(secs(100)).stop(Stop::Graceful).listeners_closed();
    s.exits(2, code(0)).exits(1, code(0));
    s.tells([
        "stopping gracefully: asked to",
        "w2 slot=0 gen=1 pid=102 exited after 101.25 s: code 0",
        "agent slot=0 gen=1 pid=101 exited after 101.5 s: code 0",
    ]);
    drop(s.forget_the_past());
}

/// E41: both explain.
#[test]
fn a_failed_start_explains_itself() {
    let mut s = Script::of(plan(0, 1));
    s.starts()
        .spawned(1)
        .advance(secs(15))
        .exits(1, killed(SIGKILL));
    s.tells([
        "w1 slot=0 gen=1 pid=101 spawned",
        "w1 slot=0 gen=1 pid=101 not ready after 10 s and was never heard of: SIGTERM, not replaced",
        "stopping gracefully: a worker failed to start",
        "w1 slot=0 gen=1 pid=101 alive 5 s after SIGTERM: SIGKILL",
        "w1 slot=0 gen=1 pid=101 exited after 15 s: signal SIGKILL",
    ]);
    drop(s.forget_the_past());
}

/// N79, N85: at most one disconnect, before exactly one exit; what follows is told once.
#[test]
fn a_crash_is_told_once_with_what_follows() {
    let mut s = Script::with_workers(3);
    let status = ExitStatus::Signal {
        signal: SIGSEGV,
        core_dumped: true,
    };
    s.exits(1, status)
        .breaks_the_protocol(2)
        .exits(2, killed(64));
    s.closes_its_channel(3)
        .closes_its_channel(3)
        .exits(3, code(7))
        .closes_its_channel(3);
    s.tells([
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: signal SIGSEGV (core dumped), restart in 1 s",
        "w2 slot=1 gen=1 pid=102 broke the protocol: unknown frame: SIGTERM, restart in 1 s",
        "w2 slot=1 gen=1 pid=102 exited after 0 ms: signal 64",
        "w3 slot=2 gen=1 pid=103 closed its control channel, restart in 1 s",
        "w3 slot=2 gen=1 pid=103 exited after 0 ms: code 7",
    ]);
    drop(s.forget_the_past());
}

/// Out of the rotation before anybody is told, told before it is forgotten.
#[test]
fn an_exit_is_told_between_leave_and_forget() {
    let mut s = Script::with_workers(1);
    let now = s.now();
    let (worker, status) = (w(1), code(1));
    s.supervisor.handle(now, Event::Exited { worker, status });
    let who = Who {
        worker,
        slot: Slot(0),
        generation: Generation(1),
        role: Role::Worker,
        pid: Some(101),
    };
    let exited = Notice::Exited {
        who,
        status,
        uptime: secs(0),
        expected: false,
        next: Some(Next::RestartIn(secs(1))),
    };
    assert_eq!(exited.level(), Level::Warn);
    let actions: Vec<Action> = std::iter::from_fn(|| s.supervisor.poll_action()).collect();
    assert_eq!(actions, [leave(1), Action::Notify(exited), forget(1)]);
}

#[test]
fn a_goodbye_is_told_with_what_follows() {
    let mut s = Script::with_workers(1);
    s.goodbye(1)
        .closes_its_channel(1)
        .exits(1, code(0))
        .advance(secs(1))
        .spawn_fails(2);
    s.tells([
        "w1 slot=0 gen=1 pid=101 leaves unasked, restart in 1 s",
        "w1 slot=0 gen=1 pid=101 closed its control channel",
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: code 0",
        "w2 slot=0 gen=1 failed to spawn: no such file, restart in 1.5 s",
    ]);
    drop(s.forget_the_past());
}

/// F08: one line until restarts flow again, not one for each that waits.
#[test]
fn the_restart_limit_is_told_once_an_episode() {
    let mut s = Script::serving(Plan {
        restart: always(1, OnCrashLoop::Hold),
        ..plan(0, 1)
    });
    let mut id = 1;
    let mut crash = |s: &mut Script| {
        s.exits(id, code(1));
        while s.supervisor.workers().next().is_none() {
            s.advance(s.alarm().unwrap());
        }
        id += 1;
        s.spawned(id).ready(id);
    };
    for _ in 0..5 {
        crash(&mut s);
    }
    let told = s
        .notices()
        .filter(|it| matches!(it, Notice::RestartLimitReached { .. }));
    assert_eq!(told.count(), 1);
    s.advance(secs(120));
    let mut s = s.forget_the_past();
    crash(&mut s);
    crash(&mut s);
    let told = s
        .notices()
        .filter(|it| matches!(it, Notice::RestartLimitReached { .. }));
    assert_eq!(told.count(), 1);
    drop(s.forget_the_past());
}

#[test]
fn giving_up_is_told() {
    let mut s = Script::serving(Plan {
        restart: always(0, OnCrashLoop::Park),
        ..plan(0, 1)
    });
    s.exits(1, code(1)).advance(secs(1));
    s.tells([
        "w1 slot=0 gen=1 pid=101 exited after 0 ms: code 1, restart in 1 s",
        "restart limit reached: 0 in 60 s, slots are parked",
        "worker slot=0 parked",
        "stopping gracefully: gave up on a crash loop",
    ]);
    drop(s.forget_the_past());
}

#[test]
fn force_is_told() {
    let mut s = Script::with_workers(2);
    s.stop(Stop::Graceful)
        .listeners_closed()
        .advance(secs(35))
        .exits(1, killed(SIGKILL));
    s.tells([
        "stopping gracefully: asked to",
        "w1 slot=0 gen=1 pid=101 did not leave in time: SIGTERM",
        "w2 slot=1 gen=1 pid=102 did not leave in time: SIGTERM",
        "w1 slot=0 gen=1 pid=101 alive 5 s after SIGTERM: SIGKILL",
        "w2 slot=1 gen=1 pid=102 alive 5 s after SIGTERM: SIGKILL",
        "w1 slot=0 gen=1 pid=101 exited after 35 s: signal SIGKILL",
    ]);
    drop(s.forget_the_past());

    let mut s = Script::of(plan(0, 1));
    s.starts().spawned(1).stop(Stop::Fast);
    s.tells([
        "w1 slot=0 gen=1 pid=101 spawned",
        "stopping fast: asked to",
        "w1 slot=0 gen=1 pid=101 has to leave at once: SIGTERM",
    ]);
    drop(s.forget_the_past());
}

/// `error` is for what an operator must act upon.
#[test]
fn how_loud_it_is() {
    let who = Who {
        worker: w(1),
        slot: Slot(0),
        generation: Generation(1),
        role: Role::Worker,
        pid: Some(101),
    };
    let (after, next) = (secs(1), Next::NotReplaced);
    let stopping = |cause| Notice::Stopping {
        how: Stop::Graceful,
        cause,
    };
    let exited = |expected| Notice::Exited {
        who,
        status: code(0),
        uptime: after,
        expected,
        next: None,
    };
    for (notice, level) in [
        (stopping(StopCause::Asked), Level::Info),
        (stopping(StopCause::CrashLoop), Level::Error),
        (exited(true), Level::Info),
        (exited(false), Level::Warn),
        (
            Notice::ReadyTimeout {
                who,
                after,
                was_heard: true,
                next,
            },
            Level::Warn,
        ),
        (
            Notice::Killing {
                who,
                after,
                despite: Signal::Terminate,
            },
            Level::Warn,
        ),
        (
            Notice::Hung {
                who,
                symptom: Symptom::Silent { lasted: after },
                next,
            },
            Level::Warn,
        ),
        (Notice::Spawned { who }, Level::Info),
        (Notice::Online { who }, Level::Debug),
    ] {
        assert_eq!(notice.level(), level, "{notice}");
    }
}
