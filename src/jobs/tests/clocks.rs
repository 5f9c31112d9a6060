//! When jobs are due, whatever becomes of the clocks.

use std::time::Duration;

use worker_proto::job::{JobSpec, Schedule};

use super::script::{Heard, Script, cron, done, every, job, run, secs};
use crate::jobs::{Event, Skip};

#[test]
fn nothing_is_due_before_everybody_is_ready() {
    let immediate = JobSpec {
        immediate: true,
        ..every(10)
    };
    let mut script = Script::booting(vec![immediate]);
    script.joins(1);
    script.advance(secs(100));
    assert_eq!(script.heard(), []);
    script.tell(Event::ClusterReady);
    assert_eq!(script.heard(), [run(1, 1)], "immediate");
    let mut early = Script::booting(vec![job(Schedule::Never)]);
    early.joins(1);
    assert_eq!(early.run("sweep"), Ok(1));
    assert_eq!(early.heard(), [], "it waits, too");
    early.tell(Event::ClusterReady);
    assert_eq!(early.heard(), [run(1, 1)]);
    script.does(1, 1);
    script.advance(secs(9));
    assert_eq!(script.heard(), [done(1)], "once");
    script.advance(secs(1));
    assert_eq!(script.heard(), [run(1, 2)], "the first interval is over");
}

/// S05.
#[test]
fn nothing_is_begun_after_the_stop_began() {
    let mut script = Script::new(1, vec![every(10)]);
    script.advance(secs(10));
    assert_eq!(script.heard(), [run(1, 1)]);
    script.tell(Event::Stopping);
    script.does(1, 1);
    script.advance(secs(100));
    assert_eq!(script.heard(), [done(1)], "what runs is finished");
    assert!(script.run("sweep").is_err());
    assert_eq!(script.jobs.next_deadline(), None);
}

/// S05: a timer of 2^31 ms or more must not be due at once.
#[test]
fn a_long_interval_is_as_long_as_it_is() {
    let mut script = Script::new(1, vec![every(365 * 24 * 3600)]);
    script.advance(secs(364 * 24 * 3600));
    assert_eq!(script.heard(), []);
    script.advance(secs(24 * 3600));
    assert_eq!(script.heard(), [run(1, 1)]);
}

#[test]
fn a_loop_that_stood_still_makes_up_for_it_once_and_keeps_the_beat() {
    let mut script = Script::new(1, vec![every(10)]);
    script.pass(secs(1000) + Duration::from_millis(1));
    script.tell(Event::Tick);
    assert_eq!(script.heard(), [run(1, 1)]);
    script.does(1, 1);
    script.heard();
    script.advance(Duration::from_millis(9_998));
    assert_eq!(script.heard(), []);
    script.advance(Duration::from_millis(1));
    assert_eq!(script.heard(), [run(1, 2)]);
}

#[test]
fn a_cron_line_means_the_wall_clock() {
    let mut script = Script::new(1, vec![cron("*/5 * * * *")]);
    script.advance(secs(299));
    assert_eq!(script.heard(), []);
    script.advance(secs(1));
    assert_eq!(script.heard(), [run(1, 1)]);
    assert_eq!(script.next(), Some("2026-01-31T12:10:00Z".parse().unwrap()));
}

#[test]
fn a_clock_that_is_set_forth_makes_up_for_it_once() {
    let mut script = Script::new(1, vec![cron("0 * * * *")]);
    script.set_clock("2026-02-05T09:30:00Z");
    assert_eq!(script.heard(), [run(1, 1)]);
    assert_eq!(script.next(), Some("2026-02-05T10:00:00Z".parse().unwrap()));
}

#[test]
fn a_clock_that_is_set_back_runs_no_moment_twice() {
    let mut script = Script::new(1, vec![cron("*/5 * * * *")]);
    script.advance(secs(300));
    script.does(1, 1);
    script.heard();
    script.set_clock("2026-01-31T11:30:00Z");
    script.advance(secs(34 * 60));
    assert_eq!(script.heard(), [], "it is 12:05 for the second time");
    script.advance(secs(5 * 60));
    assert_eq!(script.heard(), [run(1, 2)]);
}

#[test]
fn a_clock_that_was_wrong_by_years_is_believed_when_it_is_right() {
    let mut script = Script::new(1, vec![cron("*/5 * * * *")]);
    script.set_clock("2038-01-01T00:00:00Z");
    script.does(1, 1);
    script.advance(secs(4 * 60));
    script.does(1, 2);
    script.heard();
    script.set_clock("2026-01-31T12:00:00Z");
    script.advance(secs(4 * 60));
    assert_eq!(script.heard(), [run(1, 3)]);
}

/// Before anything was due there is nothing that could be due twice.
#[test]
fn a_clock_that_is_set_back_at_first_counts_as_it_is() {
    let mut script = Script::new(1, vec![cron("0 12 * * *")]);
    script.set_clock_unnoticed("2026-01-31T11:59:30Z");
    script.tell(Event::Tick);
    script.advance(secs(60));
    assert_eq!(script.heard(), [run(1, 1)]);
}

#[test]
fn an_interval_does_not_care_about_the_wall_clock() {
    let mut script = Script::new(1, vec![every(100)]);
    script.set_clock("2038-01-01T00:00:00Z");
    script.set_clock_unnoticed("1980-01-01T00:00:00Z");
    assert_eq!(script.heard(), []);
    script.advance(secs(40));
    assert_eq!(script.heard(), [run(1, 1)]);
}

#[test]
fn jitter_delays_each_run_and_never_by_more() {
    let spec = JobSpec {
        jitter: secs(5),
        ..every(10)
    };
    let mut script = Script::new(1, vec![spec]);
    let mut delays = Vec::new();
    for number in 1..=50 {
        let mut waited = Duration::ZERO;
        while script.begun() != [(1, number)] {
            script.advance(Duration::from_millis(100));
            waited += Duration::from_millis(100);
        }
        delays.push(waited);
        script.does(1, number);
        script.heard();
    }
    assert!(delays.iter().all(|it| (secs(5)..=secs(16)).contains(it)));
    delays.sort();
    delays.dedup();
    assert!(delays.len() > 10, "{delays:?}");
}

#[test]
fn a_job_without_a_schedule_waits_for_an_operator() {
    let mut script = Script::new(1, vec![job(Schedule::Never)]);
    script.advance(secs(1_000_000));
    assert_eq!(script.heard(), []);
    assert_eq!(script.run("sweep"), Ok(1));
    let again = script.run("sweep").unwrap_err();
    assert_eq!(again.to_string(), format!("job sweep: {}", Skip::Runs));
    let unknown = script.run("sweap").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "there is no job \"sweap\"; the jobs are: sweep"
    );
}

#[test]
fn a_reload_changes_what_differs_and_keeps_the_beat_of_what_does_not() {
    let mut script = Script::new(1, vec![every(10)]);
    script.advance(secs(6));
    let slower = JobSpec {
        timeout: Some(secs(1)),
        ..every(10)
    };
    script.adopt(vec![slower.clone()]);
    script.advance(secs(4));
    assert_eq!(script.heard(), [run(1, 1)]);
    script.advance(secs(1));
    assert!(matches!(script.heard()[0], Heard::Cancel { run: 1, .. }));
    script.does(1, 1);
    script.adopt(vec![JobSpec {
        schedule: Schedule::Interval(secs(20)),
        ..slower
    }]);
    script.advance(secs(19));
    assert_eq!(script.heard(), []);
    script.advance(secs(1));
    assert_eq!(script.heard(), [run(1, 2)]);
    script.adopt(vec![]);
    script.advance(secs(100));
    assert!(script.run("sweep").is_err());
    script.does(1, 2);
    assert_eq!(script.jobs.views(&script.now).count(), 0);
}

/// As one is that has lost its battery: what it showed says nothing about what is to come.
#[test]
fn a_calendar_that_seemed_to_be_over_goes_on_when_the_clock_is_right() {
    let mut script = Script::new(1, vec![cron("0 0 12 1 2 * 2026")]);
    script.set_clock("2038-01-01T00:00:00Z");
    script.does(1, 1);
    assert_eq!(script.next(), None);
    script.heard();
    script.set_clock("2026-01-31T12:00:00Z");
    script.advance(secs(24 * 3600));
    assert_eq!(script.heard(), [run(1, 2)]);
}
