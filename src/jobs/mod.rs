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

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::job::{JobRun, JobSpec, JobTarget, MAX_RESULT_BYTES, OnLost};

pub use self::action::Action;
pub use self::event::{Event, Plan, Planned, Standing};
pub use self::notice::{Aftermath, Errand, Notice, Skip};
pub use self::now::Now;
pub use self::offers::Registrant;
pub use self::roster::Member;
pub use self::run::Verdict;
pub use self::unfit::{Unfit, check};
pub use self::view::{Counts, JobView, Last, Origin};

use self::chance::Chance;
use self::clock::Clock;
use self::job::{Job, Source};
use self::offers::Offers;
use self::roster::Roster;
use self::run::{Doers, Run, State};
use self::setback::MOST_ATTEMPTS;

mod action;
mod chance;
mod clock;
mod event;
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

    fn adopt(&mut self, now: &Now, Plan { jobs, agents }: Plan) {
        self.agents = agents;
        let is_planned = |name: &str| jobs.iter().any(|planned| planned.spec.name == name);
        let configured = self
            .jobs
            .iter()
            .filter(|(name, job)| matches!(job.source, Source::Configured(_)) && !is_planned(name));
        let obsolete: Vec<String> = configured.map(|(name, _)| name.clone()).collect();
        for name in obsolete {
            self.withdraw(&name);
        }
        for Planned { spec, standing } in jobs {
            let spec = Arc::new(spec);
            // Each was checked before: what is no job is none.
            if let Ok(timetable) = unfit::timetable(&spec, &self.home) {
                self.install(now, spec, timetable, Source::Configured(standing));
            }
        }
    }

    /// From now on the job is this one. Its runs go on, and so does its clock if that is to tell the
    /// same.
    fn install(
        &mut self,
        now: &Now,
        spec: Arc<JobSpec>,
        timetable: timetable::Timetable,
        source: Source,
    ) {
        let name = spec.name.clone();
        match self.jobs.get_mut(&name) {
            Some(job) => {
                let is_same =
                    (&job.spec.schedule, job.spec.jitter) == (&spec.schedule, spec.jitter);
                (job.spec, job.timetable, job.source) = (spec, timetable, source);
                if !is_same && job.clock.is_some() {
                    let (timetable, jitter) = (job.timetable.clone(), job.spec.jitter);
                    job.clock = Some(Clock::start(timetable, jitter, now, &mut self.chance));
                }
            }
            None => {
                let job = Job::new(spec, timetable, source);
                self.jobs.insert(name.clone(), job);
            }
        }
        self.wind(now, &name);
    }

    /// Starts the clock of a job that is to run by itself from now on, or stops it.
    fn wind(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        match (self.stage, &job.clock) {
            (Stage::Open, None) if job.is_enabled() => {
                let (timetable, jitter) = (job.timetable.clone(), job.spec.jitter);
                job.clock = Some(Clock::start(timetable, jitter, now, &mut self.chance));
                if job.spec.immediate {
                    // It may be left out like any other.
                    let _ = self.demand(name, now.wall);
                }
            }
            (Stage::Open, Some(_)) if !job.is_enabled() => job.clock = None,
            (Stage::Booting | Stage::Open | Stage::Closed, _) => {}
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
            if let Source::Registered(offers) = &mut job.source {
                offers.lose(worker);
            }
            self.lose_errands(now, &name, worker);
            self.heed_offers(now, &name);
        }
    }

    fn lose_errands(&mut self, now: &Now, name: &str, worker: WorkerId) {
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

    /// Nobody will be in the seat: what waits for somebody there after a loss waits in vain.
    fn vacant(&mut self, role: Role, slot: Slot) {
        self.settle_seat(role, slot);
        for name in self.names() {
            self.give_up_waiting(&name, |doers| doers == Doers::Seat(role, slot));
        }
    }

    /// Who was to register in that seat has done so, or will not.
    fn settle_seat(&mut self, role: Role, slot: Slot) {
        for name in self.names() {
            if let Some(job) = self.jobs.get_mut(&name)
                && let Source::Registered(offers) = &mut job.source
            {
                offers.settle(role, slot);
                if offers.is_over() {
                    self.withdraw(&name);
                }
            }
        }
    }

    fn register(&mut self, now: &Now, by: Registrant, spec: JobSpec) {
        let name = spec.name.clone();
        let problem = self.try_register(now, by, spec).err();
        if problem.is_some() {
            *self.refused.entry(by.worker).or_default() += 1;
        }
        self.actions.push_back(Action::Answer {
            worker: by.worker,
            name,
            problem,
        });
    }

    fn try_register(&mut self, now: &Now, by: Registrant, spec: JobSpec) -> Result<(), String> {
        if self.refused.get(&by.worker).copied().unwrap_or(0) >= MOST_REFUSED {
            return Err("this process has registered too much that was refused".to_owned());
        }
        let other = self.jobs.values().filter(|job| !job.is_withdrawn()).count();
        let name = spec.name.clone();
        let mut spec = Arc::new(spec);
        match self.jobs.get_mut(&name) {
            Some(job) => {
                if job.spec == spec {
                    spec = Arc::clone(&job.spec);
                }
                match &mut job.source {
                    Source::Configured(_) if job.spec == spec => return Ok(()),
                    Source::Configured(_) => {
                        return Err("the configuration has another job of that name".to_owned());
                    }
                    Source::Registered(offers) if offers.contradict(by, &spec) => {
                        return Err("another process has registered it otherwise".to_owned());
                    }
                    Source::Registered(offers) => {
                        if job.spec != spec {
                            unfit::timetable(&spec, &self.home).map_err(|err| err.to_string())?;
                        }
                        offers.add(by, spec);
                        self.heed_offers(now, &name);
                        return Ok(());
                    }
                    Source::Withdrawn => {}
                }
            }
            None if other >= MOST_JOBS => {
                return Err(format!("there are {MOST_JOBS} jobs already"));
            }
            None => {}
        }
        let timetable = unfit::timetable(&spec, &self.home).map_err(|err| err.to_string())?;
        if self.doers(&spec.target).is_none() {
            return Err(Skip::NoAgent.to_string());
        }
        let offers = Offers::of(by, Arc::clone(&spec));
        let registered = Notice::Registered { job: name };
        self.actions.push_back(Action::Notify(registered));
        self.install(now, spec, timetable, Source::Registered(offers));
        Ok(())
    }

    fn unregister(&mut self, worker: WorkerId, name: &str) {
        if let Some(job) = self.jobs.get_mut(name)
            && let Source::Registered(offers) = &mut job.source
        {
            offers.withdraw(worker);
            if offers.is_over() {
                self.withdraw(name);
            }
        }
    }

    /// The job is what its newest registrants want.
    fn heed_offers(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let Source::Registered(offers) = &job.source else {
            return;
        };
        let Some(spec) = offers.spec().filter(|spec| **spec != job.spec).cloned() else {
            return;
        };
        if let Ok(timetable) = unfit::timetable(&spec, &self.home) {
            let source = std::mem::replace(&mut job.source, Source::Withdrawn);
            self.install(now, spec, timetable, source);
        }
    }

    fn done(&mut self, now: &Now, worker: WorkerId, number: u64, outcome: Result<String, String>) {
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
                let result = beginning(result);
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
                let error = beginning(error);
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

    /// Nobody wants the job any more. What runs of it goes on.
    fn withdraw(&mut self, name: &str) {
        if let Some(job) = self.jobs.get_mut(name) {
            job.source = Source::Withdrawn;
            job.clock = None;
            let withdrawn = Notice::Withdrawn {
                job: name.to_owned(),
            };
            self.actions.push_back(Action::Notify(withdrawn));
        }
        self.drop_unbegun(name, Skip::Withdrawn);
        self.give_up_waiting(name, |_| true);
    }

    /// Leaves out what has not begun.
    fn drop_unbegun(&mut self, name: &str, why: Skip) {
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

    /// Nobody will try again what was lost.
    fn give_up_waiting(&mut self, name: &str, is_meant: impl Fn(Doers) -> bool) {
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

    fn cancel_late(&mut self, now: &Now, name: &str) {
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

    /// Gives what waits to those who can do it.
    fn give_out(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if self.stage != Stage::Open || job.setback.rest(now.monotonic).is_some() {
            return;
        }
        let width = job.width();
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

    /// Tells what came of runs, and forgets those that are over.
    fn conclude(&mut self, now: &Now, name: &str) {
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

    /// Whose errand a job is; `None` if there is no such agent.
    fn doers(&self, target: &JobTarget) -> Option<Doers> {
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
        Source::Configured(_) | Source::Withdrawn => None,
    };
    move |member| offers.is_none_or(|offers| offers.has(member.worker))
}

/// As much of a result as is of use to anybody.
fn beginning(mut text: String) -> String {
    if text.len() > MAX_RESULT_BYTES {
        let mut end = MAX_RESULT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// How many jobs there may be of processes and the configuration together.
pub const MOST_JOBS: usize = 256;

/// How often a process may register what is refused: looking at it takes the master's time.
const MOST_REFUSED: u32 = 16;

/// By how much two clocks may disagree without anybody having set one of them.
const TOLERANCE: SignedDuration = SignedDuration::from_millis(500);
