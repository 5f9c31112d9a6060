//! Jobs that processes want.

use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::job::{JobSpec, JobTarget};

use super::script::{Heard, Script, concluded, cron, every, run, secs};
use crate::jobs::{Event, Verdict};

fn answer(worker: u64) -> Heard {
    Heard::Answer {
        worker,
        problem: None,
    }
}

fn refusal(script: &mut Script) -> String {
    let heard = script.heard();
    let [
        Heard::Answer {
            problem: Some(problem),
            ..
        },
    ] = &heard[..]
    else {
        panic!("{heard:?}");
    };
    problem.clone()
}

fn count(script: &Script) -> usize {
    script.jobs.views(&script.now).count()
}

#[test]
fn several_register_one_job_and_it_ends_with_the_last_of_them() {
    let mut script = Script::new(3, vec![]);
    script.registers(1, 1, every(10));
    script.advance(secs(5));
    script.registers(2, 1, every(10));
    assert_eq!(script.heard(), [answer(1), answer(2)]);
    script.advance(secs(5));
    assert_eq!(script.heard(), [run(1, 1)], "the clock goes on");
    script.does(1, 1);
    let unregister = |worker| Event::Unregister {
        worker: WorkerId(worker),
        name: "sweep".to_owned(),
    };
    script.tell(unregister(1));
    script.tell(unregister(3));
    assert_eq!(count(&script), 1);
    script.tell(unregister(2));
    assert_eq!(count(&script), 0);
}

#[test]
fn a_job_outlives_the_crash_of_who_registered_it() {
    let mut script = Script::new(1, vec![]);
    script.registers(1, 1, every(10));
    script.advance(secs(8));
    script.is_gone(1);
    // Whoever comes into another slot has nothing to do with it.
    script.joins_slot(9, 7);
    script.leaves(9);
    script.registers(2, 1, every(10));
    script.heard();
    script.joins_slot(2, 0);
    script.advance(secs(2));
    assert_eq!(script.heard(), [run(2, 1)], "the clock goes on");
    // The next one in that slot does not want it.
    script.does(2, 1);
    script.is_gone(2);
    assert_eq!(count(&script), 1);
    script.joins_slot(3, 1);
    assert_eq!(count(&script), 0);
}

#[test]
fn a_job_goes_when_nobody_will_come_to_register_it_again() {
    let mut script = Script::new(2, vec![]);
    script.registers(2, 1, every(10));
    script.is_gone(2);
    assert_eq!(count(&script), 1);
    script.tell(Event::Vacant {
        role: Role::Worker,
        slot: Slot(1),
    });
    assert_eq!(count(&script), 0);
}

/// A reload: what the new code wants counts, and if it goes back, what the old code wants.
#[test]
fn the_newest_generation_says_what_a_job_is() {
    let mut script = Script::new(2, vec![]);
    script.registers(1, 1, every(10));
    script.registers(2, 1, every(20));
    let problem = "another process has registered it otherwise";
    assert_eq!(
        script.heard()[1],
        Heard::Answer {
            worker: 2,
            problem: Some(problem.to_owned())
        }
    );
    script.registers(3, 2, every(20));
    assert_eq!(script.heard(), [answer(3)]);
    script.advance(secs(10));
    assert_eq!(script.heard(), []);
    script.advance(secs(10));
    assert_eq!(script.begun().len(), 1);
    script.does(1, 1);
    script.heard();
    script.is_gone(3);
    script.advance(secs(10));
    assert_eq!(script.begun().len(), 1);
}

#[test]
fn who_registered_a_job_is_preferred_to_who_did_not() {
    let mut script = Script::new(3, vec![]);
    script.registers(2, 1, every(10));
    script.registers(3, 1, every(10));
    for (number, worker) in [(1, 2), (2, 3), (3, 2)] {
        script.heard();
        script.advance(secs(10));
        assert_eq!(script.begun(), [(worker, number)]);
        script.does(worker, number);
    }
    script.is_gone(2);
    script.is_gone(3);
    script.advance(secs(10));
    assert_eq!(script.begun(), [(1, 4)]);
}

#[test]
fn what_is_no_job_is_refused_in_words() {
    let mut script = Script::new(1, vec![cron("@daily")]);
    script.registers(1, 1, every(10));
    assert!(refusal(&mut script).contains("the configuration has another"));
    script.registers(1, 1, cron("@daily"));
    assert_eq!(script.heard(), [answer(1)], "it is the same");
    let other = |spec: JobSpec| JobSpec {
        name: "other".to_owned(),
        ..spec
    };
    script.registers(1, 1, other(cron("61 * * * *")));
    assert!(refusal(&mut script).contains("minute \"61\""));
    let nameless = JobSpec {
        name: String::new(),
        ..every(10)
    };
    script.registers(1, 1, nameless);
    assert!(refusal(&mut script).contains("name"));
    script.registers(1, 1, other(every(0)));
    assert!(refusal(&mut script).contains("interval"));
    let agents = JobSpec {
        target: JobTarget::Agent(Some("nobody".to_owned())),
        ..other(every(10))
    };
    script.registers(1, 1, agents);
    assert!(refusal(&mut script).contains("no such agent"));
    for _ in 0..20 {
        script.registers(1, 1, other(every(0)));
        script.heard();
    }
    script.registers(1, 1, other(every(10)));
    assert!(refusal(&mut script).contains("too much"));
}

#[test]
fn there_is_an_end_to_how_many_jobs_there_are() {
    let mut script = Script::new(1, vec![]);
    let numbered = |number: usize| JobSpec {
        name: format!("job {number}"),
        ..every(10)
    };
    for number in 0..256 {
        script.registers(1, 1, numbered(number));
        assert_eq!(script.heard(), [answer(1)]);
    }
    script.registers(1, 1, numbered(256));
    assert_eq!(refusal(&mut script), "there are 256 jobs already");
}

/// Or two of one name would run side by side.
#[test]
fn a_job_that_comes_back_waits_for_what_runs_of_it() {
    let mut script = Script::new(2, vec![]);
    script.registers(1, 1, every(10));
    script.advance(secs(10));
    script.heard();
    script.tell(Event::Unregister {
        worker: WorkerId(1),
        name: "sweep".to_owned(),
    });
    script.registers(2, 1, every(10));
    script.advance(secs(10));
    assert_eq!(script.begun(), []);
    script.ends(1, 1, Err("late".to_owned()));
    let failed = concluded(1, Verdict::Failed("late".to_owned()));
    assert_eq!(script.heard(), [failed]);
    script.advance(secs(10));
    assert_eq!(script.begun(), [(2, 2)]);
}

/// Whoever was told that its job is registered has it registered, also after a reload that failed.
#[test]
fn what_is_registered_is_so_again_when_the_configuration_has_it_no_more() {
    let mut script = Script::new(2, vec![]);
    script.registers(1, 1, every(10));
    script.adopt(vec![every(20)]);
    script.registers(2, 1, every(20));
    assert_eq!(script.heard(), [answer(1), answer(2)]);
    script.advance(secs(10));
    assert_eq!(script.heard(), [], "the configuration comes first");
    script.tell(unregister(2, "sweep"));
    script.adopt(vec![]);
    script.advance(secs(10));
    assert_eq!(script.begun(), [(1, 1)]);
    script.does(1, 1);
    script.adopt(vec![every(20)]);
    script.tell(unregister(1, "sweep"));
    script.adopt(vec![]);
    assert_eq!(count(&script), 0);
}

/// Each of them keeps the master from forgetting something.
#[test]
fn jobs_that_are_gone_count_while_they_run() {
    let mut script = Script::new(1, vec![]);
    for number in 0..300 {
        let name = format!("job {number}");
        let spec = JobSpec {
            name: name.clone(),
            immediate: true,
            ..every(10)
        };
        script.registers(1, 1, spec);
        script.tell(unregister(1, &name));
    }
    assert_eq!(count(&script), 256);
}

fn unregister(worker: u64, name: &str) -> Event {
    Event::Unregister {
        worker: WorkerId(worker),
        name: name.to_owned(),
    }
}
