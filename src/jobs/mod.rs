//! The jobs: what is to be run when, by whom, and what became of it.
//!
//! A pure state machine like the supervisor. [`handle`](Jobs::handle) takes in what happened,
//! [`poll_action`](Jobs::poll_action) gives out what to do about it, and
//! [`next_deadline`](Jobs::next_deadline) says when time itself becomes an event. It performs no I/O,
//! reads no clock, and knows processes by id only.
//!
//! Every event is handled in two strokes. First it is *noted*. Then all is *settled*: jobs that are
//! due get a run, runs that take too long are cancelled, and what waits is given to whoever can do
//! it. A run is bound to its process until that says it is done or is gone, whatever else is known
//! of either: that is why nothing runs beside itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use worker_proto::ids::{Role, Slot, WorkerId};

pub use self::action::Action;
pub use self::catalogue::MOST_JOBS;
pub use self::event::{Event, Plan, Planned, Standing};
pub use self::notice::{Aftermath, Errand, Notice, Skip};
pub use self::now::Now;
pub use self::offers::Registrant;
pub use self::roster::Member;
pub use self::run::Verdict;
pub use self::unfit::{Unfit, check};
pub use self::view::{Counts, JobView, Last, Origin};

use self::chance::Chance;
use self::job::Job;
use self::roster::Roster;
use self::run::{Doers, Run};

mod action;
mod catalogue;
mod chance;
mod clock;
mod event;
mod fate;
mod handout;
mod job;
mod notice;
mod now;
mod offers;
mod roster;
mod run;
mod setback;
#[cfg(test)]
mod tests;
mod timetable;
mod unfit;
mod view;
pub mod words;

/// The state machine that has jobs run.
#[derive(Debug)]
pub struct Jobs {
    stage: Stage,
    jobs: BTreeMap<String, Job>,
    roster: Roster,
    /// Their names, by slot.
    agents: Vec<String>,
    /// The zone of cron lines that name none.
    home: TimeZone,
    chance: Chance,
    /// The number of the latest run.
    latest: u64,
    /// How often a process was told that a job is none.
    refused: BTreeMap<WorkerId, u32>,
    actions: VecDeque<Action>,
    /// The earliest deadline of all, so that a `Tick` before it costs nothing.
    alarm: Option<Instant>,
    /// When something was handled last.
    before: Option<Now>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not everybody is ready yet.
    Booting,
    Open,
    /// The cluster ends.
    Closed,
}

/// Why a job is not run now that somebody wants run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotRun {
    /// There is none of that name.
    #[error("there is no job {name:?}; the jobs are: {there_are}")]
    NoSuchJob {
        /// As it was asked for.
        name: String,
        /// Those that there are.
        there_are: String,
    },
    /// It is left out, as one that is due would be.
    #[error("job {name}: {why}")]
    Skipped {
        /// Which.
        name: String,
        /// Why.
        why: Skip,
    },
}

impl Jobs {
    /// No job, in a cluster that is not ready. Jitter is the same for the same seed.
    #[must_use]
    pub fn new(home: TimeZone, seed: u64) -> Jobs {
        Jobs {
            stage: Stage::Booting,
            jobs: BTreeMap::new(),
            roster: Roster::default(),
            agents: Vec::new(),
            home,
            chance: Chance::new(seed),
            latest: 0,
            refused: BTreeMap::new(),
            actions: VecDeque::new(),
            alarm: None,
            before: None,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Now, event: Event) {
        if event == Event::Tick && !self.is_due(&now) {
            return;
        }
        self.notice_set_clock(&now);
        self.note(&now, event);
        self.settle(&now);
    }

    /// Runs a job although it is not due; answers the run's number.
    ///
    /// # Errors
    /// When there is no such job, or it would be left out if it were due.
    pub fn run(&mut self, now: Now, name: &str) -> Result<u64, NotRun> {
        if self.jobs.get(name).is_none_or(Job::is_withdrawn) {
            let jobs = self.jobs.iter().filter(|(_, job)| !job.is_withdrawn());
            let names: Vec<_> = jobs.map(|(name, _)| name.as_str()).collect();
            return Err(NotRun::NoSuchJob {
                name: name.to_owned(),
                there_are: match &names[..] {
                    [] => "none".to_owned(),
                    names => names.join(", "),
                },
            });
        }
        let run = self.demand(name, now.wall).map_err(|why| {
            let name = name.to_owned();
            NotRun::Skipped { name, why }
        })?;
        self.settle(&now);
        Ok(run)
    }

    /// The next thing to do, in order; `None` when all is done.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is needed at the latest, if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.alarm
    }

    /// Who can be given runs, as far as it was told.
    pub fn members(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.roster.ids()
    }

    /// Whether somebody is among them.
    #[must_use]
    pub fn has_member(&self, worker: WorkerId) -> bool {
        self.roster.has(worker)
    }

    /// Every job, by name.
    pub fn views<'a>(&'a self, now: &'a Now) -> impl Iterator<Item = JobView<'a>> {
        self.jobs.values().map(|job| job.view(now))
    }
}

/// First stroke: what happened.
impl Jobs {
    fn note(&mut self, now: &Now, event: Event) {
        match event {
            Event::Adopt(plan) => self.adopt(now, plan),
            Event::ClusterReady => self.open(now),
            Event::Joined(member) => {
                self.roster.join(member);
                self.settle_seat(member.role, member.slot);
            }
            Event::Left { worker } => self.roster.leave(worker),
            Event::Gone { worker } => self.gone(now, worker),
            Event::Vacant { role, slot } => self.vacant(role, slot),
            Event::Register { by, spec } => self.register(now, by, spec),
            Event::Unregister { worker, name } => self.unregister(worker, &name),
            Event::Done {
                worker,
                run,
                outcome,
            } => self.done(now, worker, run, outcome),
            Event::Stopping => self.close(),
            Event::Tick => {}
        }
    }

    /// Calendars are told if the wall clock was set back. If it was set forth, they see by themselves.
    fn notice_set_clock(&mut self, now: &Now) {
        let before = self.before.replace(*now);
        let Some(before) = before else {
            return;
        };
        let should_be = before.wall_at(now.monotonic);
        if now.wall.duration_since(should_be) < -TOLERANCE {
            for job in self.jobs.values_mut() {
                if let Some(clock) = &mut job.clock {
                    clock.set_back(now, before.monotonic);
                }
            }
        }
    }

    fn open(&mut self, now: &Now) {
        if self.stage != Stage::Booting {
            return;
        }
        self.stage = Stage::Open;
        for name in self.names() {
            self.wind(now, &name);
        }
    }

    /// Nothing is begun from now on; what runs is waited for by those who stop.
    fn close(&mut self) {
        self.stage = Stage::Closed;
        for name in self.names() {
            if let Some(job) = self.jobs.get_mut(&name) {
                job.clock = None;
            }
            self.drop_unbegun(&name, Skip::Stopping);
            self.give_up_waiting(&name, |_| true);
        }
    }

    fn gone(&mut self, now: &Now, worker: WorkerId) {
        self.roster.leave(worker);
        self.refused.remove(&worker);
        for name in self.names() {
            let Some(job) = self.jobs.get_mut(&name) else {
                continue;
            };
            if let Some(offers) = job.source.offers() {
                offers.lose(worker);
            }
            self.lose_errands(now, &name, worker);
            self.heed_offers(now, &name);
        }
    }

    /// Nobody else will be in the seat: what waits for somebody there after a loss waits in vain.
    fn vacant(&mut self, role: Role, slot: Slot) {
        self.settle_seat(role, slot);
        // The one who has gone may have been replaced before.
        if self.roster.in_seat(role, slot).is_some() {
            return;
        }
        for name in self.names() {
            self.give_up_waiting(&name, |doers| doers == Doers::Seat(role, slot));
        }
    }
}

/// Second stroke: what is to be done by now.
impl Jobs {
    fn settle(&mut self, now: &Now) {
        for name in self.names() {
            self.fall_due(now, &name);
            self.cancel_late(now, &name);
            self.conclude(now, &name);
            self.give_out(now, &name);
        }
        self.jobs
            .retain(|_, job| !(job.is_withdrawn() && job.runs.is_empty()));
        self.alarm = self.earliest_deadline(now);
    }

    fn fall_due(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let clock = job.clock.as_mut();
        if let Some(due) = clock.and_then(|clock| clock.poll(now, &mut self.chance))
            && let Err(why) = self.demand(name, due)
        {
            self.skip(name, why);
        }
    }

    /// A run of the job is wanted.
    fn demand(&mut self, name: &str, due: Timestamp) -> Result<u64, Skip> {
        if self.stage == Stage::Closed {
            return Err(Skip::Stopping);
        }
        let job = self.jobs.get(name).ok_or(Skip::Withdrawn)?;
        job.admits()?;
        let doers = self.doers(&job.spec.target).ok_or(Skip::NoAgent)?;
        self.latest += 1;
        let run = Run::new(self.latest, due, doers);
        let job = self.jobs.get_mut(name).ok_or(Skip::Withdrawn)?;
        job.skipped_in_a_row = 0;
        job.runs.push_back(run);
        Ok(self.latest)
    }

    fn skip(&mut self, name: &str, why: Skip) {
        if let Some(job) = self.jobs.get_mut(name) {
            job.counts.skipped += 1;
            job.skipped_in_a_row += 1;
            let skipped = Notice::Skipped {
                job: name.to_owned(),
                why,
                in_a_row: job.skipped_in_a_row,
            };
            self.actions.push_back(Action::Notify(skipped));
        }
    }

    fn is_due(&self, now: &Now) -> bool {
        self.alarm.is_some_and(|alarm| alarm <= now.monotonic)
    }

    fn earliest_deadline(&self, now: &Now) -> Option<Instant> {
        let jobs = self.jobs.values();
        jobs.flat_map(|job| {
            let errands = job.runs.iter().flat_map(|run| &run.errands);
            let timeouts = errands.filter_map(run::Errand::deadline);
            let rest = job.setback.rest(now.monotonic);
            let rest = rest.filter(|_| !job.runs.is_empty());
            let clock = job.clock.as_ref().and_then(|clock| clock.deadline(now));
            timeouts.chain(rest).chain(clock)
        })
        .min()
    }
}

/// Small tools.
impl Jobs {
    fn names(&self) -> Vec<String> {
        self.jobs.keys().cloned().collect()
    }
}

/// By how much two clocks may disagree without anybody having set one of them.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(500);
