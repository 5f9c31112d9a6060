//! Whether enough serve, and what becomes of a cluster in which they do not.

use super::script::*;
use crate::ExitCode;
use crate::supervisor::*;

/// Two agents and three workers, two of them at least, or ten seconds without.
fn delicate() -> Plan {
    Plan {
        min_workers: 2,
        unhealthy_exit: Some(secs(10)),
        restart: Restart::Never,
        ..plan(2, 3)
    }
}

#[test]
fn too_few_workers_for_too_long_are_the_end() {
    let mut s = Script::serving(delicate());
    s.exits(5, code(1)).expect([leave(5), forget(5)]);
    assert_eq!(s.alarm(), None);
    s.exits(4, code(1)).expect([leave(4), forget(4)]);
    assert_eq!(s.alarm(), Some(secs(10)));
    s.advance(millis(9_999)).expect_nothing();
    s.advance(millis(1)).expect([CloseListeners]);
    s.stop(Stop::Fast)
        .expect([AbandonListeners, leave(3), terminate(3)]);
    s.exits(3, killed(SIGTERM));
    s.expect([forget(3), terminate(2), terminate(1)]);
    s.exits(2, killed(SIGTERM)).exits(1, killed(SIGTERM));
    s.expect([forget(2), forget(1), finish(ExitCode::Unhealthy)]);
}

/// And the next time begins from the start.
#[test]
fn a_cluster_that_recovers_in_time_goes_on() {
    let mut s = Script::serving(delicate());
    s.exits(1, code(1)).advance(secs(9));
    s.expect([forget(1)]);
    s.restart_slot(Role::Agent, 0).spawned(6).ready(6);
    s.expect([spawn_agent(6, 0), announce(6)]);
    assert_eq!(s.alarm(), None);
    s.exits(6, code(1)).expect([forget(6)]);
    assert_eq!(s.alarm(), Some(secs(10)));
}

/// Whoever drains an agent knows that it is not there.
#[test]
fn a_drained_agent_is_missed_by_nobody() {
    let mut s = Script::serving(delicate());
    s.drain_slot(Role::Agent, 1).exits(2, code(0));
    s.expect([drain(2, secs(30)), forget(2)]);
    assert_eq!(s.alarm(), None);
}

/// No more than there should be can have to be there.
#[test]
fn fewer_workers_by_order_are_enough() {
    let mut s = Script::serving(delicate());
    s.scale(1).exits(4, code(0)).exits(5, code(0));
    s.expect([
        leave(4),
        drain(4, secs(30)),
        leave(5),
        drain(5, secs(30)),
        forget(4),
        forget(5),
    ]);
    assert_eq!(s.alarm(), None);
}

#[test]
fn a_new_plan_without_that_rule_ends_the_patience() {
    let mut s = Script::serving(delicate());
    s.exits(4, code(1)).exits(5, code(1));
    s.expect([leave(4), forget(4), leave(5), forget(5)]);
    s.adopt(Plan {
        unhealthy_exit: None,
        ..delicate()
    });
    assert_eq!(s.alarm(), None);
    s.advance(secs(3_600)).expect_nothing();
}

/// It has done what it was there for; one that is of no use has not.
#[test]
fn an_agent_that_is_done_is_not_missed() {
    for (status, is_missed) in [(code(3), false), (code(78), true)] {
        let mut s = Script::serving(Plan {
            stop_exit_codes: vec![3],
            restart: always(60, OnCrashLoop::Hold),
            ..delicate()
        });
        s.exits(1, status).expect([forget(1)]);
        assert_eq!(s.alarm().is_some(), is_missed, "{status}");
    }
}
