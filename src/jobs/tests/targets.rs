//! Who runs a job.

use worker_proto::ids::{Role, Slot};
use worker_proto::job::{JobSpec, JobTarget, OnLost};

use super::script::{Heard, Script, attempt, concluded, done, every, run, secs};
use crate::jobs::{Event, Skip, Verdict};

fn for_whom(target: JobTarget) -> Vec<JobSpec> {
    vec![JobSpec {
        target,
        ..every(10)
    }]
}

#[test]
fn with_nobody_there_one_run_waits_and_those_after_it_are_left_out() {
    let mut script = Script::new(0, for_whom(JobTarget::One));
    script.advance(secs(30));
    let skipped = || Heard::Skipped(Skip::Waits);
    assert_eq!(script.heard(), [skipped(), skipped()]);
    script.joins(1);
    assert_eq!(script.heard(), [run(1, 1)]);
}

#[test]
fn who_is_asked_to_leave_gets_nothing_and_finishes_what_it_has() {
    let mut script = Script::new(2, for_whom(JobTarget::One));
    script.advance(secs(10));
    script.leaves(1);
    script.leaves(2);
    script.does(1, 1);
    assert_eq!(script.heard(), [run(1, 1), done(1)]);
    script.advance(secs(10));
    assert_eq!(script.heard(), []);
    script.joins_slot(3, 0);
    assert_eq!(script.heard(), [run(3, 2)]);
}

#[test]
fn everybody_who_serves_runs_what_is_for_all_and_it_is_done_when_all_are() {
    let mut script = Script::new(3, for_whom(JobTarget::All));
    script.joins_as(9, Role::Agent, 0);
    script.leaves(3);
    script.advance(secs(10));
    assert_eq!(script.heard(), [run(1, 1), run(2, 1)]);
    script.does(1, 1);
    assert_eq!(script.heard(), []);
    script.ends(2, 1, Err("no".to_owned()));
    let failed = "1 of 2 failed, one of them: no".to_owned();
    assert_eq!(script.heard(), [concluded(1, Verdict::Failed(failed))]);
    script.advance(secs(10));
    script.does(1, 2);
    script.does(2, 2);
    let done = concluded(2, Verdict::Done("2 of 2 done".to_owned()));
    assert_eq!(script.heard(), [run(1, 2), run(2, 2), done]);
}

/// While one takes over from another there are two in a slot.
#[test]
fn a_slot_runs_what_is_for_all_once() {
    let mut script = Script::new(1, for_whom(JobTarget::All));
    script.joins_slot(2, 0);
    script.advance(secs(10));
    assert_eq!(script.begun(), [(2, 1)]);
}

#[test]
fn an_agent_is_found_by_its_name() {
    let named = |name: &str| JobTarget::Agent(Some(name.to_owned()));
    let mut script = Script::new(1, for_whom(named("push")));
    script.joins_as(7, Role::Agent, 0);
    script.joins_as(8, Role::Agent, 1);
    script.advance(secs(10));
    assert_eq!(script.begun(), [(8, 1)]);
    let mut script = Script::new(1, for_whom(JobTarget::Agent(None)));
    script.joins_as(8, Role::Agent, 1);
    script.advance(secs(10));
    assert_eq!(script.heard(), []);
    script.joins_as(7, Role::Agent, 0);
    assert_eq!(script.heard(), [run(7, 1)]);
    let mut script = Script::new(1, for_whom(named("nobody")));
    script.advance(secs(10));
    assert_eq!(script.heard(), [Heard::Skipped(Skip::NoAgent)]);
}

#[test]
fn a_slot_that_is_given_up_keeps_nobody_waiting() {
    let spec = JobSpec {
        target: JobTarget::All,
        on_lost: OnLost::Retry,
        ..every(10)
    };
    let mut script = Script::new(2, vec![spec]);
    script.advance(secs(10));
    script.does(1, 1);
    script.is_gone(2);
    script.heard();
    script.tell(Event::Vacant {
        role: Role::Worker,
        slot: Slot(1),
    });
    let lost = "1 of 2 failed, one of them: its process died".to_owned();
    assert_eq!(script.heard(), [concluded(1, Verdict::Failed(lost))]);
}

/// Or it would wait for ever, and all that come after it are left out.
#[test]
fn a_run_that_waits_for_somebody_goes_to_whom_the_job_is_for_by_now() {
    let mut script = Script::new(1, for_whom(JobTarget::Slot(Slot(3))));
    script.advance(secs(10));
    assert_eq!(script.heard(), []);
    script.adopt(for_whom(JobTarget::One));
    assert_eq!(script.heard(), [run(1, 1)]);
    script.does(1, 1);
    let agents = for_whom(JobTarget::Agent(None));
    script.leaves(1);
    script.advance(secs(10));
    script.adopt(agents);
    script.heard();
    script.joins(2);
    script.joins_as(7, Role::Agent, 0);
    assert_eq!(script.heard(), [run(7, 2)]);
}

/// Who takes over is there before the other one goes.
#[test]
fn what_is_lost_in_a_slot_is_run_again_by_who_has_taken_it_over() {
    let spec = JobSpec {
        target: JobTarget::Slot(Slot(0)),
        on_lost: OnLost::Retry,
        ..every(10)
    };
    let mut script = Script::new(1, vec![spec]);
    script.advance(secs(10));
    script.is_gone(1);
    script.joins_slot(2, 0);
    assert_eq!(script.heard(), [run(1, 1), attempt(2, 1, 2)]);
    script.joins_slot(3, 0);
    script.leaves(2);
    script.is_gone(2);
    script.tell(Event::Vacant {
        role: Role::Worker,
        slot: Slot(0),
    });
    script.advance(secs(1));
    assert_eq!(script.heard(), [attempt(3, 1, 3)], "after a rest");
}
