//! Jobs, for operators: what happens to them as events, and what there is to see of one.
//!
//! | name | when |
//! |---|---|
//! | `job-started` | a process was given a run: `job`, `run`, `attempt`, `worker`, `slot`, `role`, as in all that follow |
//! | `job-done`, `job-failed` | it has ended: `took_ms`, and `result` or `error`; failed is also one that took too long (`timeout`) |
//! | `job-ended` | one that took too long is over at last |
//! | `job-lost` | its process is gone: `took_ms`, `next` (`retried`, `dropped` or `given-up`) |
//! | `job-retried` | another process will run it, after `delay_ms` |
//! | `job-skipped` | it was due, and is left out: `job`, `why` |
//! | `job-registered`, `job-withdrawn` | processes want a job; nobody wants it any more |

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::Fact;
use super::time::UnixTime;
use crate::jobs::{Aftermath, Errand, JobView, Last, Notice, Now, Origin, Verdict, words};

/// What a notice tells, in the order in which it happened.
pub(crate) fn facts(notice: &Notice) -> Vec<Fact> {
    let text = notice.to_string();
    let fact = match notice {
        Notice::Started(errand) => about("job-started", errand, text, json!({})),
        Notice::Done {
            errand,
            took,
            result,
        } => {
            let more = json!({ "took_ms": millis(*took), "result": result });
            about("job-done", errand, text, more)
        }
        Notice::Failed {
            errand,
            took,
            error,
            in_a_row,
        } => {
            let more = json!({
                "took_ms": millis(*took), "error": error, "timeout": false, "in_a_row": in_a_row,
            });
            about("job-failed", errand, text, more)
        }
        Notice::TimedOut {
            errand,
            timeout,
            in_a_row,
        } => {
            let more = json!({
                "took_ms": millis(*timeout),
                "error": Verdict::TimedOut.to_string(),
                "timeout": true,
                "in_a_row": in_a_row,
            });
            about("job-failed", errand, text, more)
        }
        Notice::Ended { errand, took } => about(
            "job-ended",
            errand,
            text,
            json!({ "took_ms": millis(*took) }),
        ),
        Notice::Lost { errand, took, next } => {
            let next_name = match next {
                Aftermath::Retried { .. } => "retried",
                Aftermath::Dropped => "dropped",
                Aftermath::GivenUp => "given-up",
            };
            let more = json!({ "took_ms": millis(*took), "next": next_name });
            let lost = about("job-lost", errand, text.clone(), more);
            let Aftermath::Retried { after } = next else {
                return vec![lost];
            };
            let more = json!({ "delay_ms": millis(*after) });
            return vec![lost, about("job-retried", errand, text, more)];
        }
        Notice::Skipped { job, why, in_a_row } => {
            let fields = json!({ "job": job, "why": why.to_string(), "in_a_row": in_a_row });
            Fact::of_cluster("job-skipped", text, fields)
        }
        Notice::Registered { job } => {
            Fact::of_cluster("job-registered", text, json!({ "job": job }))
        }
        Notice::Withdrawn { job } => Fact::of_cluster("job-withdrawn", text, json!({ "job": job })),
    };
    vec![fact]
}

fn about(name: &'static str, errand: &Errand, text: String, more: Value) -> Fact {
    let Errand {
        job,
        run,
        attempt,
        by,
    } = errand;
    let mut fact = Fact::of_cluster(
        name,
        text,
        json!({
            "job": job,
            "run": run,
            "attempt": attempt,
            "worker": by.worker.0,
            "slot": by.slot.0,
            "role": by.role.to_string(),
        }),
    );
    if let Value::Object(more) = more {
        fact.fields.extend(more);
    }
    fact
}

/// A job as it is written on the control socket. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it is called.
    pub name: String,
    /// `every 30s`, `cron 30 4 * * * (Europe/Berlin)`, or `never`.
    pub schedule: String,
    /// `one`, `all`, `agent`, `agent:NAME` or `slot 3`.
    pub target: String,
    /// `skip`, `queue` or `allow`.
    pub overlap: String,
    /// `drop` or `retry`.
    pub on_lost: String,
    /// How long a run may take.
    pub timeout_ms: Option<u64>,
    /// `configuration`, `disabled`, `workers` or, while a run of it goes on, `nobody`.
    pub origin: String,
    /// How many processes have registered it.
    pub registrants: usize,
    /// Who runs it.
    pub running: Vec<Running>,
    /// How many of them take too long.
    pub overdue: usize,
    /// How many runs wait for somebody who can do them.
    pub waiting: usize,
    /// For how long it rests, since one process after the other died of it.
    pub rests_ms: Option<u64>,
    /// When it is due next.
    pub next: Option<UnixTime>,
    /// How long until then.
    pub next_in_ms: Option<u64>,
    /// How its last run ended.
    pub last: Option<Ended>,
    /// Given to a process.
    pub started: u64,
    /// Ended with a result.
    pub done: u64,
    /// Ended with an error, or took too long.
    pub failed: u64,
    /// Ended with the process.
    pub lost: u64,
    /// Given to another process after that.
    pub retried: u64,
    /// Due, and left out.
    pub skipped: u64,
}

/// A run under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its number.
    pub run: u64,
    /// Who has it.
    pub worker: u64,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its number.
    pub run: u64,
    /// When it ended.
    pub at: UnixTime,
    /// How long ago that was.
    pub ago_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// `done`, `failed`, `timeout`, `lost` or `dropped`.
    pub how: String,
    /// The result, or what went wrong.
    pub text: String,
}

impl Job {
    /// As it is now.
    pub(crate) fn of(view: JobView<'_>, now: Now) -> Self {
        let spec = view.spec;
        let (origin, registrants) = match view.origin {
            Origin::Configured => ("configuration", 0),
            Origin::Disabled => ("disabled", 0),
            Origin::Registered(count) => ("workers", count),
            Origin::Withdrawn => ("nobody", 0),
        };
        let running = view.running.into_iter();
        Job {
            name: spec.name.clone(),
            schedule: words::schedule(spec),
            target: words::target(spec),
            overlap: words::overlap(spec).to_owned(),
            on_lost: words::on_lost(spec).to_owned(),
            timeout_ms: spec.timeout.map(millis),
            origin: origin.to_owned(),
            registrants,
            running: running
                .map(|(run, worker)| Running {
                    run,
                    worker: worker.0,
                })
                .collect(),
            overdue: view.overdue,
            waiting: view.waiting,
            rests_ms: view.rests.map(millis),
            next: view.next.map(unix),
            next_in_ms: view.next.map(|next| between(now.wall, next)),
            last: view.last.map(|last| Ended::of(last, now)),
            started: view.counts.started,
            done: view.counts.done,
            failed: view.counts.failed,
            lost: view.counts.lost,
            retried: view.counts.retried,
            skipped: view.counts.skipped,
        }
    }
}

impl Ended {
    fn of(last: &Last, now: Now) -> Self {
        let how = match last.verdict {
            Verdict::Done(_) => "done",
            Verdict::Failed(_) => "failed",
            Verdict::TimedOut => "timeout",
            Verdict::Lost => "lost",
            Verdict::Dropped => "dropped",
        };
        Ended {
            run: last.run,
            at: unix(last.at),
            ago_ms: between(last.at, now.wall),
            took_ms: millis(last.took),
            how: how.to_owned(),
            text: last.verdict.to_string(),
        }
    }
}

fn unix(at: Timestamp) -> UnixTime {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    UnixTime(Duration::from_millis(millis))
}

/// Nothing if the wall clock has been set meanwhile.
fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
