//! A script: a small cluster whose time is advanced by hand, and what its jobs want of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};
use worker_proto::job::{JobSpec, Schedule};

use crate::jobs::{Action, Event, Jobs, Member, NotRun, Notice, Now, Plan, Planned, Registrant};
use crate::jobs::{Skip, Standing, Verdict};

pub(super) struct Script {
    pub(super) jobs: Jobs,
    pub(super) now: Now,
    /// What was said about the jobs and not asked for.
    pub(super) heard: Vec<Heard>,
}

/// What the jobs want, or tell, as far as a test asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Run {
        worker: u64,
        run: u64,
        attempt: u32,
    },
    Cancel {
        worker: u64,
        run: u64,
    },
    Answer {
        worker: u64,
        problem: Option<String>,
    },
    Skipped(Skip),
    Concluded {
        run: u64,
        verdict: Verdict,
    },
}

impl Script {
    /// A cluster that is not ready.
    pub(super) fn booting(jobs: Vec<JobSpec>) -> Self {
        let mut script = Script {
            jobs: Jobs::new(TimeZone::UTC, 1),
            now: Now {
                #[expect(clippy::disallowed_methods, reason = "any moment to begin with")]
                monotonic: Instant::now(),
                wall: "2026-01-31T12:00:00Z".parse().unwrap(),
            },
            heard: Vec::new(),
        };
        script.adopt(jobs);
        script
    }

    /// A cluster that is ready, with workers 1 to `workers` in slots 0 and up.
    pub(super) fn new(workers: u64, jobs: Vec<JobSpec>) -> Self {
        let mut script = Self::booting(jobs);
        for id in 1..=workers {
            script.joins(id);
        }
        script.tell(Event::ClusterReady);
        script
    }

    pub(super) fn adopt(&mut self, jobs: Vec<JobSpec>) {
        let standing = Standing::Enabled;
        let jobs = jobs.into_iter();
        let jobs = jobs.map(|spec| Planned { spec, standing }).collect();
        let agents = vec!["rotate".to_owned(), "push".to_owned()];
        self.tell(Event::Adopt(Plan { jobs, agents }));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.jobs.handle(self.now, event);
        self.listen();
    }

    pub(super) fn run(&mut self, name: &str) -> Result<u64, NotRun> {
        let run = self.jobs.run(self.now, name);
        self.listen();
        run
    }

    fn listen(&mut self) {
        while let Some(action) = self.jobs.poll_action() {
            self.heard.extend(match action {
                Action::Run { worker, run } => Some(Heard::Run {
                    worker: worker.0,
                    run: run.run,
                    attempt: run.attempt,
                }),
                Action::Cancel { worker, run } => Some(Heard::Cancel {
                    worker: worker.0,
                    run,
                }),
                Action::Answer {
                    worker, problem, ..
                } => Some(Heard::Answer {
                    worker: worker.0,
                    problem,
                }),
                Action::Notify(Notice::Skipped { why, .. }) => Some(Heard::Skipped(why)),
                Action::Notify(_) => None,
                Action::Conclude { run, verdict, .. } => Some(Heard::Concluded { run, verdict }),
            });
        }
    }

    /// Worker `id`, in slot `id - 1`, serves.
    pub(super) fn joins(&mut self, id: u64) {
        self.joins_slot(id, u32::try_from(id - 1).unwrap());
    }

    pub(super) fn joins_slot(&mut self, id: u64, slot: u32) {
        self.joins_as(id, Role::Worker, slot);
    }

    pub(super) fn joins_as(&mut self, id: u64, role: Role, slot: u32) {
        let member = Member {
            worker: WorkerId(id),
            role,
            slot: Slot(slot),
        };
        self.tell(Event::Joined(member));
    }

    pub(super) fn leaves(&mut self, id: u64) {
        self.tell(Event::Left {
            worker: WorkerId(id),
        });
    }

    pub(super) fn is_gone(&mut self, id: u64) {
        self.tell(Event::Gone {
            worker: WorkerId(id),
        });
    }

    pub(super) fn does(&mut self, id: u64, run: u64) {
        self.ends(id, run, Ok("ok".to_owned()));
    }

    pub(super) fn ends(&mut self, id: u64, run: u64, outcome: Result<String, String>) {
        let worker = WorkerId(id);
        self.tell(Event::Done {
            worker,
            run,
            outcome,
        });
    }

    pub(super) fn registers(&mut self, id: u64, generation: u64, spec: JobSpec) {
        let by = Registrant {
            worker: WorkerId(id),
            role: Role::Worker,
            slot: Slot(u32::try_from(id - 1).unwrap()),
            generation: Generation(generation),
        };
        self.tell(Event::Register { by, spec });
    }

    /// Both clocks go on, and every deadline on the way is kept.
    pub(super) fn advance(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while let Some(at) = self.jobs.next_deadline().filter(|at| *at <= end) {
            let step = at.saturating_duration_since(self.now.monotonic);
            self.pass(step);
            self.tell(Event::Tick);
        }
        let left = end.saturating_duration_since(self.now.monotonic);
        self.pass(left);
        self.tell(Event::Tick);
    }

    /// Both clocks go on, and nobody looks.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall = self.now.wall.checked_add(time).unwrap();
    }

    /// Somebody sets the wall clock; it is noticed a minute later at the latest.
    pub(super) fn set_clock(&mut self, to: &str) {
        self.now.wall = to.parse().unwrap();
        self.advance(Duration::from_secs(60));
    }

    pub(super) fn set_clock_unnoticed(&mut self, to: &str) {
        self.now.wall = to.parse().unwrap();
    }

    /// What was heard since the last time somebody asked.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// The same, runs that were begun only: who has which.
    pub(super) fn begun(&mut self) -> Vec<(u64, u64)> {
        let heard = self.heard().into_iter();
        let begun = heard.filter_map(|heard| match heard {
            Heard::Run { worker, run, .. } => Some((worker, run)),
            Heard::Cancel { .. }
            | Heard::Answer { .. }
            | Heard::Skipped(_)
            | Heard::Concluded { .. } => None,
        });
        begun.collect()
    }

    /// When the only job is due next.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.jobs.views(&self.now).next().unwrap().next
    }
}

pub(super) fn job(schedule: Schedule) -> JobSpec {
    JobSpec::new("sweep", schedule)
}

pub(super) fn every(seconds: u64) -> JobSpec {
    job(Schedule::Interval(secs(seconds)))
}

pub(super) fn cron(expression: &str) -> JobSpec {
    job(Schedule::Cron {
        expression: expression.to_owned(),
        time_zone: None,
    })
}

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn run(worker: u64, run: u64) -> Heard {
    attempt(worker, run, 1)
}

pub(super) fn attempt(worker: u64, run: u64, attempt: u32) -> Heard {
    Heard::Run {
        worker,
        run,
        attempt,
    }
}

pub(super) fn concluded(run: u64, verdict: Verdict) -> Heard {
    Heard::Concluded { run, verdict }
}

pub(super) fn done(run: u64) -> Heard {
    concluded(run, Verdict::Done("ok".to_owned()))
}
