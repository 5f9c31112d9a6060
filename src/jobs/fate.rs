//! What becomes of runs: results, deaths, time that is over, and runs that are not begun.

use worker_proto::ids::WorkerId;
use worker_proto::job::{MAX_RESULT_BYTES, OnLost};
use worker_proto::text::beginning;

use super::run::{Doers, State};
use super::setback::MOST_ATTEMPTS;
use super::{Action, Aftermath, Errand, Jobs, Last, Notice, Now, Skip, Stage, Verdict};

impl Jobs {
    pub(super) fn done(
        &mut self,
        now: &Now,
        worker: WorkerId,
        number: u64,
        outcome: Result<String, String>,
    ) {
        let Some((name, job)) = self
            .jobs
            .iter_mut()
            .find(|(_, job)| job.runs.iter().any(|run| run.number == number))
        else {
            return;
        };
        let run = job.runs.iter_mut().find(|run| run.number == number);
        let Some(errand) = run.and_then(|run| run.errand_of(worker)) else {
            return;
        };
        let told = |by| Errand {
            job: name.clone(),
            run: number,
            attempt: errand.attempt,
            by,
        };
        let took = |since| now.monotonic.saturating_duration_since(since);
        let (notice, verdict) = match (&errand.state, outcome) {
            (State::Overdue { by, since }, _) => {
                let (errand, took) = (told(*by), took(*since));
                (Notice::Ended { errand, took }, Verdict::TimedOut)
            }
            (State::Running { by, since, .. }, Ok(result)) => {
                let result = beginning(&result, MAX_RESULT_BYTES).to_owned();
                job.counts.done += 1;
                job.failed_in_a_row = 0;
                let done = Notice::Done {
                    errand: told(*by),
                    took: took(*since),
                    result: result.clone(),
                };
                (done, Verdict::Done(result))
            }
            (State::Running { by, since, .. }, Err(error)) => {
                let error = beginning(&error, MAX_RESULT_BYTES).to_owned();
                job.counts.failed += 1;
                job.failed_in_a_row = job.failed_in_a_row.saturating_add(1);
                let failed = Notice::Failed {
                    errand: told(*by),
                    took: took(*since),
                    error: error.clone(),
                    in_a_row: job.failed_in_a_row,
                };
                (failed, Verdict::Failed(error))
            }
            (State::Waiting | State::Over(_), _) => return,
        };
        errand.state = State::Over(verdict);
        job.setback.recover();
        self.roster.end(worker);
        self.actions.push_back(Action::Notify(notice));
    }

    pub(super) fn lose_errands(&mut self, now: &Now, name: &str, worker: WorkerId) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let may_go_on = !job.is_withdrawn() && self.stage != Stage::Closed;
        for run in &mut job.runs {
            let number = run.number;
            let Some(errand) = run.errand_of(worker) else {
                continue;
            };
            let (by, since) = match errand.state {
                State::Running { by, since, .. } => (by, since),
                State::Overdue { .. } | State::Waiting | State::Over(_) => {
                    errand.state = State::Over(Verdict::TimedOut);
                    continue;
                }
            };
            job.counts.lost += 1;
            let rest = job.setback.suffer(now.monotonic);
            let told = Errand {
                job: name.to_owned(),
                run: number,
                attempt: errand.attempt,
                by,
            };
            let next = match job.spec.on_lost {
                OnLost::Retry if !may_go_on => Aftermath::Dropped,
                OnLost::Retry if errand.attempt >= MOST_ATTEMPTS => Aftermath::GivenUp,
                OnLost::Retry => Aftermath::Retried { after: rest },
                OnLost::Drop => Aftermath::Dropped,
            };
            match next {
                Aftermath::Retried { .. } => {
                    errand.attempt += 1;
                    errand.state = State::Waiting;
                }
                Aftermath::Dropped | Aftermath::GivenUp => {
                    errand.state = State::Over(Verdict::Lost);
                }
            }
            let took = now.monotonic.saturating_duration_since(since);
            let lost = Notice::Lost {
                errand: told,
                took,
                next,
            };
            self.actions.push_back(Action::Notify(lost));
        }
    }

    pub(super) fn cancel_late(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        for run in &mut job.runs {
            for errand in &mut run.errands {
                let State::Running {
                    by,
                    since,
                    deadline: Some(deadline),
                } = errand.state
                else {
                    continue;
                };
                if deadline > now.monotonic {
                    continue;
                }
                errand.state = State::Overdue { by, since };
                job.counts.failed += 1;
                job.failed_in_a_row = job.failed_in_a_row.saturating_add(1);
                let (worker, number) = (by.worker, run.number);
                let timed_out = Notice::TimedOut {
                    errand: Errand {
                        job: name.to_owned(),
                        run: number,
                        attempt: errand.attempt,
                        by,
                    },
                    timeout: deadline.saturating_duration_since(since),
                    in_a_row: job.failed_in_a_row,
                };
                self.actions.push_back(Action::Cancel {
                    worker,
                    run: number,
                });
                self.actions.push_back(Action::Notify(timed_out));
            }
        }
    }

    /// Nobody will try again what was lost.
    pub(super) fn give_up_waiting(&mut self, name: &str, is_meant: impl Fn(Doers) -> bool) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        for run in job.runs.iter_mut().filter(|run| run.has_begun()) {
            for errand in &mut run.errands {
                if errand.state == State::Waiting && is_meant(errand.for_whom) {
                    errand.state = State::Over(Verdict::Lost);
                }
            }
        }
    }

    /// Leaves out what has not begun.
    pub(super) fn drop_unbegun(&mut self, name: &str, why: Skip) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let mut dropped = 0;
        for run in job.runs.iter_mut().filter(|run| !run.has_begun()) {
            for errand in &mut run.errands {
                errand.state = State::Over(Verdict::Dropped);
            }
            dropped += 1;
        }
        for _ in 0..dropped {
            self.skip(name, why);
        }
    }

    /// Tells what came of runs, and forgets those that are over.
    pub(super) fn conclude(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        for run in job.runs.iter_mut().filter(|run| run.conclusion.is_none()) {
            let Some(verdict) = run.verdict() else {
                continue;
            };
            run.conclusion = Some(verdict.clone());
            if let Some(since) = run.since {
                job.last = Some(Last {
                    run: run.number,
                    at: now.wall,
                    took: now.monotonic.saturating_duration_since(since),
                    verdict: verdict.clone(),
                });
            }
            self.actions.push_back(Action::Conclude {
                job: name.to_owned(),
                run: run.number,
                verdict,
            });
        }
        job.runs.retain(|run| !run.is_over());
    }
}
