//! When those who wait for a change are told that it is done.

use super::script::*;
use crate::supervisor::*;

#[test]
fn a_cluster_is_settled_again_when_the_last_newcomer_is_ready() {
    let mut s = Script::with_workers(2);
    assert!(s.supervisor.is_settled());
    let now = s.now();
    s.supervisor.scale(now, 3).unwrap();
    assert!(!s.supervisor.is_settled());
    s.spawned(3);
    assert!(!s.supervisor.is_settled(), "it is not ready");
    s.ready(3);
    assert!(s.supervisor.is_settled());
    s.forget_the_past();
}

#[test]
fn a_cluster_is_settled_again_when_the_last_leaver_is_gone() {
    let mut s = Script::with_workers(2);
    let now = s.now();
    s.supervisor.drain_slot(now, Role::Worker, Slot(1)).unwrap();
    assert!(!s.supervisor.is_settled());
    s.exits(2, ExitStatus::Code(0));
    assert!(
        s.supervisor.is_settled(),
        "an empty slot is as it should be"
    );
    s.forget_the_past();
}
