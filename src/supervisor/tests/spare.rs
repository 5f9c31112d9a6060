//! Workers that are ready and wait until somebody is missing.

use super::script::*;
use crate::supervisor::*;

/// Two workers in the rotation, one beside it.
fn spared() -> Script {
    Script::serving(Plan {
        spare: 1,
        ..plan(0, 2)
    })
}

/// No connection waits for the restart.
#[test]
fn a_spare_worker_takes_the_place_of_one_that_dies_at_once() {
    let mut s = spared();
    s.exits(1, killed(SIGSEGV))
        .expect([leave(1), forget(1), enter(3)]);
    s.advance(secs(1)).expect([spawn(4, 0)]);
    s.spawned(4).ready(4).expect([announce(4)]);
    assert_eq!(s.supervisor.serving(Role::Worker), 3);
}

#[test]
fn a_spare_worker_takes_the_place_of_one_that_hangs_or_retires() {
    let mut s = spared();
    s.hangs(1).expect([leave(1), abort(1), enter(3)]);
    let mut s = spared();
    s.retires(2);
    s.expect([leave(2), drain(2, secs(30)), enter(3), spawn(4, 1)]);
}

/// It was not missed, and nobody is called up.
#[test]
fn a_spare_worker_that_dies_is_replaced_like_any_other() {
    let mut s = spared();
    s.exits(3, code(1)).advance(secs(1));
    s.expect([forget(3), spawn(4, 2)]);
    s.spawned(4).ready(4).expect([announce(4)]);
}

#[test]
fn who_comes_back_while_a_spare_worker_stands_in_is_the_spare_one() {
    let mut s = spared();
    s.exits(1, code(1)).advance(secs(1)).spawned(4).ready(4);
    s.expect([leave(1), forget(1), enter(3), spawn(4, 0), announce(4)]);
    s.exits(2, code(1)).expect([leave(2), forget(2), enter(4)]);
}

/// Its successor is a spare one as well.
#[test]
fn a_spare_worker_that_wears_out_is_replaced_beside_the_rotation() {
    let mut s = spared();
    s.wears_out(3).spawned(4).ready(4);
    s.expect([spawn(4, 2), announce(4), drain(3, secs(30))]);
}
