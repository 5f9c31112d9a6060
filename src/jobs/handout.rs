//! The hand-out: what waits is given to whoever can do it.

use std::collections::BTreeSet;

use worker_proto::ids::{Role, Slot};
use worker_proto::job::{JobRun, JobTarget};

use super::job::Source;
use super::roster::Roster;
use super::run::{self, Doers, Run, State};
use super::{Action, Errand, Jobs, Member, Notice, Now, Skip, Stage};

impl Jobs {
    /// Gives what waits to those who can do it.
    pub(super) fn give_out(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if self.stage != Stage::Open || job.setback.rest(now.monotonic).is_some() {
            return;
        }
        let width = job.width();
        // They were given out when more might go on at a time.
        if job.runs.iter().skip(width).any(Run::is_in_hand) {
            return;
        }
        for run in job.runs.iter_mut().take(width) {
            if run.errands.iter().any(|it| it.for_whom == Doers::Everybody) {
                let able = self
                    .roster
                    .workers()
                    .filter(is_able(&job.source, &self.roster));
                // While one takes over from another there may be two in a seat.
                let seats: BTreeSet<_> = able.map(|it| (it.role, it.slot)).collect();
                if seats.is_empty() {
                    continue;
                }
                let for_seat = |(role, slot)| run::Errand::new(Doers::Seat(role, slot));
                run.errands = seats.into_iter().map(for_seat).collect();
            }
            for errand in &mut run.errands {
                if errand.state != State::Waiting {
                    continue;
                }
                let doer = match errand.for_whom {
                    Doers::Anybody => {
                        let is_able = is_able(&job.source, &self.roster);
                        self.roster.next(|member| is_able(member))
                    }
                    Doers::Seat(role, slot) => self.roster.in_seat(role, slot),
                    Doers::Everybody => None,
                };
                let Some(by) = doer else {
                    continue;
                };
                let timeout = job.spec.timeout;
                errand.state = State::Running {
                    by,
                    since: now.monotonic,
                    deadline: timeout.and_then(|timeout| now.monotonic.checked_add(timeout)),
                };
                run.since.get_or_insert(now.monotonic);
                self.roster.begin(by.worker);
                job.counts.started += 1;
                if errand.attempt > 1 {
                    job.counts.retried += 1;
                }
                self.actions.push_back(Action::Run {
                    worker: by.worker,
                    run: JobRun {
                        run: run.number,
                        name: name.to_owned(),
                        due_ms: u64::try_from(run.due.as_millisecond()).unwrap_or(0),
                        attempt: errand.attempt,
                        timeout,
                    },
                });
                let started = Notice::Started(Errand {
                    job: name.to_owned(),
                    run: run.number,
                    attempt: errand.attempt,
                    by,
                });
                self.actions.push_back(Action::Notify(started));
            }
        }
    }

    /// Somebody else is to do the job: also what has not begun of it.
    pub(super) fn redirect(&mut self, name: &str) {
        let target = self.jobs.get(name).map(|job| job.spec.target.clone());
        let Some(doers) = target.and_then(|target| self.doers(&target)) else {
            return self.drop_unbegun(name, Skip::NoAgent);
        };
        if let Some(job) = self.jobs.get_mut(name) {
            for run in job.runs.iter_mut().filter(|run| !run.has_begun()) {
                run.errands = vec![run::Errand::new(doers)];
            }
        }
    }

    /// Whose errand a job is; `None` if there is no such agent.
    pub(super) fn doers(&self, target: &JobTarget) -> Option<Doers> {
        Some(match target {
            JobTarget::One => Doers::Anybody,
            JobTarget::All => Doers::Everybody,
            JobTarget::Slot(slot) => Doers::Seat(Role::Worker, *slot),
            JobTarget::Agent(name) => {
                let slot = match name {
                    None => (!self.agents.is_empty()).then_some(0),
                    Some(name) => self.agents.iter().position(|agent| agent == name),
                };
                Doers::Seat(Role::Agent, Slot(u32::try_from(slot?).ok()?))
            }
        })
    }
}

/// Who is asked for a job: workers that have registered it know how to run it, so they are preferred
/// to those that have not.
fn is_able<'a>(source: &'a Source, roster: &Roster) -> impl Fn(&Member) -> bool + use<'a> {
    let offers = match source {
        Source::Registered(offers) => {
            let mut workers = roster.workers();
            workers.any(|it| offers.has(it.worker)).then_some(offers)
        }
        Source::Configured(..) | Source::Withdrawn => None,
    };
    move |member| offers.is_none_or(|offers| offers.has(member.worker))
}
