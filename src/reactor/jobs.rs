//! Jobs, for the loop: what processes and the supervisor tell goes in, frames and events come out.
//!
//! Before anything else is told to the jobs they are told who serves, so that no run is given to
//! somebody who has been asked to leave.

use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use worker_proto::frame::FromMaster;
use worker_proto::ids::{Role, WorkerId};
use worker_proto::job::{JobSpec, Schedule};

use super::Reactor;
use super::clock;
use super::problems::one_line;
use super::waiting::Goal;
use crate::config::Config;
use crate::config::program::Program;
use crate::control::denied::Denied;
use crate::control::job::{self, Job};
use crate::control::outcome::Outcome;
use crate::jobs::{Action, Event, Jobs, Member, Notice, Now, Plan, Planned, Registrant, Verdict};
use crate::supervisor::{WorkerState, WorkerView};

impl Reactor {
    /// Jobs as the configuration has them.
    pub(super) fn jobs_of(config: &Config) -> Jobs {
        let now = both();
        let seed = u64::try_from(now.wall.as_nanosecond()).unwrap_or_default();
        let mut jobs = Jobs::new(home(config), seed ^ u64::from(std::process::id()));
        jobs.handle(now, Event::Adopt(plan(config)));
        jobs
    }

    /// The configuration is another one.
    pub(super) fn adopt_jobs(&mut self, now: Instant) {
        let plan = plan(&self.config);
        self.tell_jobs(now, Event::Adopt(plan));
    }

    /// Something happened that may be about a job.
    pub(super) fn tell_jobs(&mut self, now: Instant, event: Event) {
        let is_early = self.jobs.next_deadline().is_none_or(|at| at > now);
        if event == Event::Tick && is_early {
            return;
        }
        let both = both();
        self.muster_at(both);
        self.jobs.handle(both, event);
        self.execute_job_actions(now);
    }

    /// Tells the jobs who serves by now.
    pub(super) fn muster(&mut self, now: Instant) {
        self.muster_at(both());
        self.execute_job_actions(now);
    }

    fn muster_at(&mut self, now: Now) {
        let supervisor = &self.supervisor;
        let serves = |worker| supervisor.worker(worker).is_some_and(|view| is_able(&view));
        let left = self.jobs.members().filter(|worker| !serves(*worker));
        for worker in left.collect::<Vec<_>>() {
            self.jobs.handle(now, Event::Left { worker });
        }
        for view in self.supervisor.workers().filter(is_able) {
            if !self.jobs.has_member(view.worker) && self.is_heard(view.worker) {
                let WorkerView {
                    worker, role, slot, ..
                } = view;
                let member = Member { worker, role, slot };
                self.jobs.handle(now, Event::Joined(member));
            }
        }
    }

    pub(super) fn register_job(&mut self, worker: WorkerId, spec: JobSpec, now: Instant) {
        if let Some(process) = self.processes.get(&worker) {
            let by = Registrant {
                worker,
                role: process.role,
                slot: process.slot,
                generation: process.generation,
            };
            self.tell_jobs(now, Event::Register { by, spec });
        }
    }

    /// An operator wants it run.
    pub(super) fn run_job(
        &mut self,
        now: Instant,
        name: &str,
    ) -> Result<(Outcome, Option<Goal>), Denied> {
        let both = both();
        self.muster_at(both);
        let run = self.jobs.run(both, name)?;
        self.execute_job_actions(now);
        let job = name.to_owned();
        Ok((
            Outcome::JobRunning { job, run },
            Some(Goal::JobEnded { run }),
        ))
    }

    /// Every job, for operators.
    pub(super) fn job_list(&self) -> Vec<Job> {
        let now = both();
        let views = self.jobs.views(&now);
        views.map(|view| Job::of(view, now)).collect()
    }

    pub(super) fn execute_job_actions(&mut self, now: Instant) {
        while let Some(action) = self.jobs.poll_action() {
            match action {
                Action::Run { worker, run } => self.tell(worker, FromMaster::Job(run), None, now),
                Action::Cancel { worker, run } => {
                    self.tell(worker, FromMaster::JobCancelled { run }, None, now);
                }
                Action::Answer {
                    worker,
                    name,
                    problem,
                } => {
                    if let Some(problem) = &problem
                        && let Some(process) = self.processes.get_mut(&worker)
                    {
                        let what = format!("may not register job {name:?}: {problem}");
                        process.complain(&one_line(&what));
                    }
                    let registered = FromMaster::JobRegistered { name, problem };
                    self.tell(worker, registered, None, now);
                }
                Action::Notify(notice) => self.note_job(&notice, now),
                Action::Conclude { job, run, verdict } => self.note_job_end(&job, run, &verdict),
            }
        }
    }

    fn note_job(&mut self, notice: &Notice, now: Instant) {
        if matches!(notice, Notice::Registered { .. } | Notice::Withdrawn { .. })
            && !self.registrations.may_be_told(now)
        {
            return log::debug!("{}", one_line(&notice.to_string()));
        }
        log::log!(notice.level(), "{}", one_line(&notice.to_string()));
        for fact in job::facts(notice) {
            self.announce(clock::wall(), fact);
        }
    }

    fn note_job_end(&mut self, job: &str, run: u64, verdict: &Verdict) {
        self.resolve(|goal| {
            if !matches!(goal, Goal::JobEnded { run: awaited } if *awaited == run) {
                return None;
            }
            Some(match verdict {
                Verdict::Done(result) => Ok(Outcome::JobDone {
                    job: job.to_owned(),
                    run,
                    result: result.clone(),
                }),
                Verdict::Failed(_) | Verdict::TimedOut | Verdict::Lost | Verdict::Dropped => {
                    Err(Denied::Failed(format!("job {job} run {run}: {verdict}")))
                }
            })
        });
    }
}

/// Whether it can be given runs: a worker in the rotation, or an agent that is ready.
fn is_able(view: &WorkerView) -> bool {
    match view.role {
        Role::Worker => view.state == WorkerState::Serving,
        Role::Agent => view.state == WorkerState::Standby,
    }
}

fn plan(config: &Config) -> Plan {
    Plan {
        jobs: config.jobs.clone(),
        agents: config.agents.iter().map(Program::name).collect(),
    }
}

/// The zone of cron lines that name none. Who wrote one has to know if it is not the one they meant.
fn home(config: &Config) -> TimeZone {
    TimeZone::try_system().unwrap_or_else(|err| {
        let means_it = |job: &Planned| {
            matches!(&job.spec.schedule, Schedule::Cron { time_zone, .. } if time_zone.is_none())
        };
        let level = match config.jobs.iter().any(means_it) {
            true => log::Level::Warn,
            false => log::Level::Debug,
        };
        log::log!(level, "time zone: {err}: cron lines without one mean UTC");
        TimeZone::UTC
    })
}

/// Both clocks at the same moment: a turn may be long, and the one that is set by nobody shows
/// whether the other one was.
fn both() -> Now {
    let wall = i64::try_from(clock::wall().0.as_millis()).unwrap_or(i64::MAX);
    Now {
        monotonic: clock::now(),
        wall: Timestamp::from_millisecond(wall).unwrap_or(Timestamp::MAX),
    }
}
