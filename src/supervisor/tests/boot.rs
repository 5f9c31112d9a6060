//! The start: agents, then workers, then everybody is told.

use super::script::*;
use crate::ExitCode::{AgentStart, WorkerStart};
use crate::supervisor::*;

/// N03, E31: ids count from 1; nobody but agents before the agents are ready.
#[test]
fn agents_start_before_the_first_worker() {
    let mut s = Script::of(plan(2, 2));
    s.starts().expect([spawn_agent(1, 0), spawn_agent(2, 1)]);
    s.spawned(1).spawned(2).online(2).ready(2).expect_nothing();
    s.ready(1).expect([spawn(3, 0), spawn(4, 1)]);
}

/// E18: the whole cluster is told once, agents too.
#[test]
fn everybody_is_told_when_the_last_worker_is_ready() {
    let mut s = Script::of(plan(1, 2));
    s.starts().spawned(1).ready(1);
    s.expect([spawn_agent(1, 0), spawn(2, 0), spawn(3, 1)]);
    s.spawned(3).ready(3).expect([enter(3)]);
    s.spawned(2).ready(2);
    s.expect([enter(2), announce(1), announce(2), announce(3)]);
    assert_eq!(s.supervisor.stage(), Stage::Serving);
}

#[test]
fn without_agents_workers_start_at_once() {
    let mut s = Script::of(plan(0, 1));
    s.starts().expect([spawn(1, 0)]);
    s.spawned(1).ready(1).expect([enter(1), announce(1)]);
}

/// N24: an agent alone is a cluster.
#[test]
fn without_workers_the_agents_are_the_cluster() {
    let mut s = Script::of(plan(1, 0));
    s.starts().expect([spawn_agent(1, 0)]);
    s.spawned(1).ready(1).expect([announce(1)]);
    assert_eq!(s.supervisor.stage(), Stage::Serving);
}

/// E18: the newcomer only.
#[test]
fn who_is_ready_later_is_told_alone() {
    let mut s = Script::with_workers(2);
    s.exits(1, killed(SIGKILL)).advance(secs(1));
    s.expect([leave(1), forget(1), spawn(3, 0)]);
    s.spawned(3).ready(3).expect([enter(3), announce(3)]);
}

#[test]
fn being_online_is_not_being_ready() {
    let mut s = Script::of(plan(0, 1));
    s.starts().spawned(1).expect([spawn(1, 0)]);
    s.online(1).expect_nothing();
    assert!(!s.supervisor.is_serving(w(1)));
}

/// E28.
#[test]
fn an_agent_that_dies_at_start_ends_the_start_before_any_worker() {
    let mut s = Script::of(plan(1, 2));
    s.starts().spawned(1).expect([spawn_agent(1, 0)]);
    s.exits(1, code(1));
    s.expect([forget(1), AbandonListeners, finish(AgentStart)]);
}

/// E31: the agent was ready already, the workers were not.
#[test]
fn an_agent_that_dies_while_workers_start_ends_the_start() {
    let mut s = Script::of(plan(1, 2));
    s.starts()
        .spawned(1)
        .ready(1)
        .spawned(2)
        .ready(2)
        .spawned(3);
    s.expect([spawn_agent(1, 0), spawn(2, 0), spawn(3, 1), enter(2)]);
    s.exits(1, code(0)).expect([forget(1), CloseListeners]);
    s.listeners_closed();
    s.expect([leave(2), drain(2, secs(30)), terminate(3)]);
    s.exits(3, killed(SIGTERM)).expect([forget(3)]);
    s.exits(2, code(0)).expect([forget(2), finish(AgentStart)]);
}

/// E36, E46: no second try while the cluster starts, whatever goes wrong.
#[test]
fn a_worker_that_fails_at_start_ends_the_start() {
    type Failure = fn(&mut Script) -> &mut Script;
    let failures: [(&str, Failure); 4] = [
        ("exits", |s| {
            s.exits(2, code(0)).expect([forget(2), CloseListeners])
        }),
        ("closes its channel", |s| {
            s.closes_its_channel(2).expect([CloseListeners]);
            s.exits(2, code(1)).expect([forget(2)])
        }),
        ("breaks the protocol", |s| {
            s.breaks_the_protocol(2)
                .expect([terminate(2), CloseListeners]);
            s.exits(2, killed(SIGTERM)).expect([forget(2)])
        }),
        ("says goodbye", |s| {
            s.goodbye(2).expect([CloseListeners]);
            s.exits(2, code(0)).expect([forget(2)])
        }),
    ];
    for (name, failure) in failures {
        let mut s = Script::of(plan(0, 2));
        s.starts().spawned(1).ready(1).spawned(2);
        s.expect([spawn(1, 0), spawn(2, 1), enter(1)]);
        failure(&mut s).advance(secs(1)).expect_nothing();
        s.listeners_closed().expect([leave(1), drain(1, secs(29))]);
        s.exits(1, code(0)).expect([forget(1), finish(WorkerStart)]);
        assert_eq!(s.supervisor.stage(), Stage::Finished, "{name}");
    }
}

/// C14.
#[test]
fn a_worker_that_cannot_be_spawned_ends_the_start() {
    let mut s = Script::of(plan(0, 2));
    s.starts().expect([spawn(1, 0), spawn(2, 1)]);
    s.spawn_fails(1).expect([forget(1), CloseListeners]);
    s.listeners_closed().spawned(2).expect([terminate(2)]);
    s.exits(2, killed(SIGTERM))
        .expect([forget(2), finish(WorkerStart)]);
}

/// E41.
#[test]
fn a_worker_that_is_not_ready_in_time_ends_the_start() {
    let mut s = Script::of(plan(0, 1));
    s.starts().spawned(1).online(1).expect([spawn(1, 0)]);
    s.advance(millis(9_999)).expect_nothing();
    s.advance(millis(1))
        .expect([terminate(1), AbandonListeners]);
    s.advance(secs(5)).expect([kill(1)]);
    s.exits(1, killed(SIGKILL))
        .expect([forget(1), finish(WorkerStart)]);
}

/// The time to be ready counts from the process's start, not from the order.
#[test]
fn a_slow_spawn_does_not_eat_up_the_time_to_be_ready() {
    let mut s = Script::of(plan(0, 1));
    s.starts().advance(secs(60)).expect([spawn(1, 0)]);
    s.spawned(1);
    assert_eq!(s.alarm(), Some(secs(10)));
    s.advance(secs(9)).ready(1).expect([enter(1), announce(1)]);
    assert_eq!(s.alarm(), None);
}
