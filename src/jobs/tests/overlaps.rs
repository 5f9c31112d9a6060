//! One run and the next.

use worker_proto::job::{JobSpec, OnLost, Overlap};

use super::script::{Heard, Script, concluded, done, every, run, secs};
use crate::jobs::{Skip, Verdict};

fn with(overlap: Overlap) -> Script {
    let spec = JobSpec {
        overlap,
        ..every(10)
    };
    Script::new(2, vec![spec])
}

#[test]
fn a_run_that_is_due_too_early_is_left_out() {
    let mut script = with(Overlap::Skip);
    script.advance(secs(30));
    let skipped = || Heard::Skipped(Skip::Runs);
    assert_eq!(script.heard(), [run(1, 1), skipped(), skipped()]);
    script.does(1, 1);
    script.advance(secs(10));
    assert_eq!(script.heard(), [done(1), run(2, 2)]);
}

#[test]
fn one_run_waits_for_the_end_of_the_one_before_and_no_more() {
    let mut script = with(Overlap::Queue);
    script.advance(secs(40));
    let skipped = || Heard::Skipped(Skip::Waits);
    assert_eq!(script.heard(), [run(1, 1), skipped(), skipped()]);
    script.does(1, 1);
    assert_eq!(script.heard(), [done(1), run(2, 2)]);
    script.does(2, 2);
    assert_eq!(script.heard(), [done(2)]);
}

#[test]
fn runs_that_may_go_on_side_by_side_do_so_within_reason() {
    let mut script = with(Overlap::Allow);
    script.advance(secs(10 * 17));
    let heard = script.heard();
    assert_eq!(heard[..3], [run(1, 1), run(2, 2), run(1, 3)]);
    assert_eq!(heard[16..], [Heard::Skipped(Skip::Crowd)]);
    script.does(2, 2);
    script.advance(secs(10));
    assert_eq!(script.heard(), [done(2), run(2, 17)]);
}

/// However it looks to those who wait, a run goes on until its process says that it does not.
#[test]
fn a_run_that_took_too_long_keeps_the_next_from_beginning() {
    let spec = JobSpec {
        timeout: Some(secs(3)),
        ..every(10)
    };
    let mut script = Script::new(2, vec![spec]);
    script.advance(secs(13));
    let cancelled = Heard::Cancel { worker: 1, run: 1 };
    let timed_out = concluded(1, Verdict::TimedOut);
    assert_eq!(script.heard(), [run(1, 1), cancelled, timed_out]);
    script.advance(secs(7));
    assert_eq!(script.heard(), [Heard::Skipped(Skip::Runs)]);
    assert_eq!(script.jobs.views(&script.now).next().unwrap().overdue, 1);
    script.does(1, 1);
    script.advance(secs(10));
    assert_eq!(script.heard(), [run(2, 2)], "what came of it is told");
    script.advance(secs(3));
    script.heard();
    script.is_gone(2);
    script.advance(secs(7));
    assert_eq!(script.heard(), [run(1, 3)], "or it is gone");
}

#[test]
fn who_has_fewer_runs_is_next_and_then_whose_turn_is_longest_ago() {
    let slow = JobSpec {
        name: "slow".to_owned(),
        ..every(10)
    };
    let mut script = Script::new(3, vec![slow, every(5)]);
    script.advance(secs(5));
    assert_eq!(script.begun(), [(1, 1)]);
    script.does(1, 1);
    script.advance(secs(5));
    // Both are due now; the one takes for ever.
    assert_eq!(script.begun(), [(2, 2), (3, 3)]);
    for (number, worker) in [(3, 1), (4, 3), (5, 1), (6, 3)] {
        let before = if worker == 1 { 3 } else { 1 };
        script.does(before, number);
        script.advance(secs(5));
        assert_eq!(script.begun(), [(worker, number + 1)]);
    }
}

#[test]
fn runs_that_went_side_by_side_do_so_no_more_once_they_may_not() {
    let spec = |overlap| JobSpec {
        overlap,
        on_lost: OnLost::Retry,
        ..every(10)
    };
    let mut script = Script::new(3, vec![spec(Overlap::Allow)]);
    script.advance(secs(20));
    assert_eq!(script.begun(), [(1, 1), (2, 2)]);
    script.adopt(vec![spec(Overlap::Skip)]);
    script.is_gone(1);
    assert_eq!(script.begun(), [], "the other one goes on");
    script.does(2, 2);
    assert_eq!(script.begun(), [(3, 1)]);
}
