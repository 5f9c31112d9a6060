//! The catalogue: which jobs there are, and who wants them.
//!
//! What the configuration says comes before what processes register. A job that nobody wants any more
//! stays until its runs have ended.

use std::sync::Arc;

use worker_proto::ids::{Role, Slot, WorkerId};
use worker_proto::job::JobSpec;

use super::clock::Clock;
use super::job::{Job, Source};
use super::offers::Offers;
use super::timetable::Timetable;
use super::{Action, Jobs, Notice, Now, Plan, Planned, Registrant, Skip, Stage, unfit};

impl Jobs {
    pub(super) fn adopt(&mut self, now: &Now, Plan { jobs, agents }: Plan) {
        self.agents = agents;
        let is_planned = |name: &str| jobs.iter().any(|planned| planned.spec.name == name);
        let configured = self.jobs.iter().filter(|(name, job)| {
            matches!(job.source, Source::Configured(..)) && !is_planned(name)
        });
        let obsolete: Vec<String> = configured.map(|(name, _)| name.clone()).collect();
        for name in obsolete {
            self.leave_to_registrants(now, &name);
        }
        for Planned { spec, standing } in jobs {
            let spec = Arc::new(spec);
            // Each was checked before: what is no job is none.
            if let Ok(timetable) = unfit::timetable(&spec, &self.home) {
                let job = self.jobs.get_mut(&spec.name);
                let offers = job.map(|job| job.source.take_offers()).unwrap_or_default();
                let source = Source::Configured(standing, offers);
                self.install(now, spec, timetable, source);
            }
        }
    }

    /// The configuration has it no more; whoever has registered it may want it still.
    fn leave_to_registrants(&mut self, now: &Now, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let offers = job.source.take_offers();
        if offers.is_over() {
            return self.withdraw(name);
        }
        job.source = Source::Registered(offers);
        self.heed_offers(now, name);
        self.wind(now, name);
    }

    /// From now on the job is this one. Its runs go on, and so does its clock if that is to tell the
    /// same.
    pub(super) fn install(
        &mut self,
        now: &Now,
        spec: Arc<JobSpec>,
        timetable: Timetable,
        source: Source,
    ) {
        let name = spec.name.clone();
        match self.jobs.get_mut(&name) {
            Some(job) => {
                let is_same =
                    (&job.spec.schedule, job.spec.jitter) == (&spec.schedule, spec.jitter);
                let is_for_others = job.spec.target != spec.target;
                (job.spec, job.timetable, job.source) = (spec, timetable, source);
                if !is_same && job.clock.is_some() {
                    let (timetable, jitter) = (job.timetable.clone(), job.spec.jitter);
                    job.clock = Some(Clock::start(timetable, jitter, now, &mut self.chance));
                }
                if is_for_others {
                    self.redirect(&name);
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
    pub(super) fn wind(&mut self, now: &Now, name: &str) {
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

    pub(super) fn register(&mut self, now: &Now, by: Registrant, spec: JobSpec) {
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
        // Also those that are gone and still run: or there would be no end to them.
        let others = self.jobs.len();
        let name = spec.name.clone();
        let mut spec = Arc::new(spec);
        match self.jobs.get_mut(&name) {
            Some(job) => {
                if job.spec == spec {
                    spec = Arc::clone(&job.spec);
                }
                match &mut job.source {
                    Source::Configured(_, offers) if job.spec == spec => {
                        offers.add(by, spec);
                        return Ok(());
                    }
                    Source::Configured(..) => {
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
            None if others >= MOST_JOBS => {
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

    pub(super) fn unregister(&mut self, worker: WorkerId, name: &str) {
        if let Some(job) = self.jobs.get_mut(name)
            && let Some(offers) = job.source.offers()
        {
            offers.withdraw(worker);
            self.withdraw_unwanted(name);
        }
    }

    fn withdraw_unwanted(&mut self, name: &str) {
        if let Some(job) = self.jobs.get(name)
            && let Source::Registered(offers) = &job.source
            && offers.is_over()
        {
            self.withdraw(name);
        }
    }

    /// The job is what its newest registrants want.
    pub(super) fn heed_offers(&mut self, now: &Now, name: &str) {
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

    /// Who was to register in that seat has done so, or will not.
    pub(super) fn settle_seat(&mut self, role: Role, slot: Slot) {
        for name in self.names() {
            if let Some(job) = self.jobs.get_mut(&name)
                && let Some(offers) = job.source.offers()
            {
                offers.settle(role, slot);
                self.withdraw_unwanted(&name);
            }
        }
    }

    /// Nobody wants the job any more. What runs of it goes on.
    pub(super) fn withdraw(&mut self, name: &str) {
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
}

/// How many jobs there may be of processes and the configuration together.
pub const MOST_JOBS: usize = 256;

/// How often a process may register what is refused: looking at it takes the master's time.
const MOST_REFUSED: u32 = 16;
