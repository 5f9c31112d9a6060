//! Processes that die while they run a job.

use std::time::Duration;

use worker_proto::ids::WorkerId;
use worker_proto::job::{JobSpec, JobTarget, OnLost, Overlap};

use super::script::{Heard, Script, attempt, concluded, done, every, run, secs};
use crate::jobs::{Event, Skip, Verdict};

fn retried() -> Vec<JobSpec> {
    vec![JobSpec {
        on_lost: OnLost::Retry,
        ..every(10)
    }]
}

#[test]
fn a_run_whose_process_dies_is_dropped() {
    let mut script = Script::new(2, vec![every(10)]);
    script.advance(secs(10));
    script.is_gone(1);
    assert_eq!(script.heard(), [run(1, 1), concluded(1, Verdict::Lost)]);
    script.advance(secs(10));
    assert_eq!(script.heard(), [run(2, 2)]);
}

/// Its channel may be closed for long, and it still runs.
#[test]
fn a_run_is_lost_only_when_its_process_is_gone() {
    let mut script = Script::new(2, retried());
    script.advance(secs(10));
    script.leaves(1);
    script.advance(secs(10));
    assert_eq!(script.heard(), [run(1, 1), Heard::Skipped(Skip::Runs)]);
    script.is_gone(1);
    assert_eq!(script.heard(), [attempt(2, 1, 2)]);
    script.does(2, 1);
    assert_eq!(script.heard(), [done(1)]);
}

#[test]
fn the_last_words_of_a_process_count() {
    let mut script = Script::new(2, retried());
    script.advance(secs(10));
    script.does(1, 1);
    script.is_gone(1);
    assert_eq!(script.heard(), [run(1, 1), done(1)]);
}

#[test]
fn a_job_that_kills_whoever_runs_it_is_given_up_and_rests() {
    let mut script = Script::new(100, retried());
    script.advance(secs(10));
    let mut rests = Vec::new();
    for _ in 0..5 {
        let Some(Heard::Run { worker, .. }) = script.heard().first().cloned() else {
            panic!("not tried again");
        };
        script.is_gone(worker);
        let view = script.jobs.views(&script.now).next().unwrap();
        rests.push(view.rests.unwrap_or_default().as_millis());
        if rests.len() < 5 {
            script.advance(Duration::from_millis(1600));
        }
    }
    assert_eq!(rests, [0, 200, 400, 800, 1600]);
    assert_eq!(script.heard(), [concluded(1, Verdict::Lost)]);
    // The next one waits, too, and longer.
    script.advance(secs(10));
    let [Heard::Run { worker, run: 2, .. }] = script.heard()[..] else {
        panic!("the next one");
    };
    script.is_gone(worker);
    script.heard();
    script.advance(secs(3));
    assert_eq!(script.heard(), []);
    script.advance(Duration::from_millis(200));
    let [Heard::Run { worker, run: 2, .. }] = script.heard()[..] else {
        panic!("after its rest");
    };
    script.does(worker, 2);
    script.heard();
    script.advance(secs(10));
    let [Heard::Run { worker, run: 3, .. }] = script.heard()[..] else {
        panic!("and on");
    };
    script.is_gone(worker);
    let view = script.jobs.views(&script.now).next().unwrap();
    assert_eq!(view.rests, None, "all is forgiven");
}

#[test]
fn what_is_for_a_slot_waits_for_its_next_worker() {
    let spec = JobSpec {
        target: JobTarget::All,
        ..retried().remove(0)
    };
    let mut script = Script::new(2, vec![spec]);
    script.advance(secs(10));
    script.is_gone(2);
    script.does(1, 1);
    assert_eq!(script.heard(), [run(1, 1), run(2, 1)]);
    script.joins_slot(7, 1);
    script.does(7, 1);
    let done = concluded(1, Verdict::Done("2 of 2 done".to_owned()));
    assert_eq!(script.heard(), [attempt(7, 1, 2), done]);
}

#[test]
fn who_dies_takes_all_its_runs_along() {
    let spec = JobSpec {
        overlap: Overlap::Allow,
        ..retried().remove(0)
    };
    let mut script = Script::new(1, vec![spec]);
    script.advance(secs(20));
    assert_eq!(script.begun(), [(1, 1), (1, 2)]);
    script.is_gone(1);
    script.joins(2);
    script.advance(secs(1));
    assert_eq!(script.heard(), [attempt(2, 1, 2), attempt(2, 2, 2)]);
}

#[test]
fn nothing_is_tried_again_after_the_stop_began() {
    let mut script = Script::new(2, retried());
    script.advance(secs(10));
    script.tell(Event::Stopping);
    script.is_gone(1);
    assert_eq!(script.heard(), [run(1, 1), concluded(1, Verdict::Lost)]);
}

#[test]
fn what_nobody_asked_for_changes_nothing() {
    let mut script = Script::new(2, retried());
    script.does(1, 1);
    script.advance(secs(10));
    script.does(2, 1);
    script.does(1, 7);
    script.ends(9, 1, Err("liar".to_owned()));
    script.tell(Event::Unregister {
        worker: WorkerId(1),
        name: "sweep".to_owned(),
    });
    assert_eq!(script.heard(), [run(1, 1)]);
    script.does(1, 1);
    script.does(1, 1);
    assert_eq!(script.heard(), [done(1)]);
}

/// Somebody could do it: it is the job that rests.
#[test]
fn what_waits_for_the_end_of_a_rest_does_not_wait_for_somebody() {
    let mut script = Script::new(3, vec![every(3600)]);
    for worker in [1, 2] {
        script.run("sweep").unwrap();
        script.is_gone(worker);
    }
    assert_eq!(script.run("sweep"), Ok(3));
    let again = script.run("sweep").unwrap_err();
    let expected = "job sweep: the run before has not begun";
    assert_eq!(again.to_string(), expected);
}
