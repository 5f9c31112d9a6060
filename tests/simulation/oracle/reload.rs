//! The book of a rollout and of whatever else replaces a worker that could go on.

use super::*;

/// A rollout under way.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) to: Generation,
    pub(super) plan: RolloutPlan,
    pub(super) way: Way,
    /// The first one was ready and served for long enough.
    pub(super) is_proven: bool,
    /// It was aborted, or somebody of the new generation failed.
    pub(super) is_to_turn_back: bool,
    renewed: u32,
    is_told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Back,
}

impl Reload {
    pub(super) fn to(to: Generation, plan: RolloutPlan) -> Reload {
        Reload {
            to,
            plan,
            way: Way::Forward,
            is_proven: false,
            is_to_turn_back: false,
            renewed: 0,
            is_told: false,
        }
    }
}

/// What is told about it.
impl Oracle {
    pub(super) fn reload_starts(&mut self, generation: Generation, from: Generation) {
        assert_eq!(from, self.generation);
        let reload = self.reload.as_mut().expect("somebody wants it");
        assert_eq!(generation, reload.to);
        assert!(!reload.is_told, "it begins once");
        reload.is_told = true;
    }

    pub(super) fn reload_goes_on(&mut self, now: Instant, renewed: u32) {
        self.canary_is_proven(now);
        let reload = self.reload.as_mut().expect("it was begun");
        assert_eq!(reload.way, Way::Forward);
        assert_eq!(renewed, reload.renewed + 1);
        assert!(reload.is_proven, "the first one has shown nothing yet");
        reload.renewed = renewed;
    }

    pub(super) fn reload_is_done(&mut self, generation: Generation) {
        let reload = self.reload.take().expect("it was begun");
        assert_eq!((generation, reload.way), (reload.to, Way::Forward));
        assert!(!reload.is_to_turn_back, "somebody has failed");
        for worker in self.workers.values() {
            let is_new = worker.generation == reload.to || worker.role == Role::Agent;
            let is_right = is_new || worker.part == Part::Nobody;
            assert!(is_right || self.is_blurred, "done too early");
        }
        self.generation = reload.to;
        self.tally.saw(Feat::ReloadDone);
    }

    pub(super) fn is_rolled_back(&mut self, generation: Generation) {
        let reload = self.reload.take().expect("it was begun");
        assert_eq!((generation, reload.way), (reload.to, Way::Back));
        for worker in self.workers.values() {
            let is_old = worker.generation != reload.to || worker.is_kept;
            let is_right = is_old || worker.part == Part::Nobody;
            assert!(is_right || self.is_blurred, "back too early");
        }
    }

    pub(super) fn turns_back(&mut self, now: Instant, cause: &RollbackCause) {
        let mut reload = self.reload.take().expect("it was begun");
        match cause {
            RollbackCause::Stopping => {
                assert!(matches!(self.era, Era::Ending { .. }));
                self.tally.saw(Feat::Interrupted);
                return;
            }
            RollbackCause::Asked => assert!(reload.is_to_turn_back, "nobody wants that"),
            RollbackCause::Failed { culprit, .. } => {
                assert_eq!(culprit.generation, reload.to);
                let worker = &self.workers[&culprit.worker];
                let has_failed = worker.part == Part::Nobody
                    || worker.term_due.is_some_and(|due| due <= now)
                    || worker.spawn_due <= now
                    || matches!(worker.answer, Answer::Owed { .. })
                    || worker.is_unmoved;
                assert!(has_failed, "it does what it should");
                self.tally.saw(Feat::RolledBack);
            }
        }
        assert_eq!(reload.way, Way::Forward, "it turns once");
        reload.way = Way::Back;
        reload.is_to_turn_back = false;
        for worker in self.workers.values_mut() {
            let is_on_the_way = match worker.part {
                Part::Successor { .. } | Part::Canary { .. } => true,
                Part::Incumbent | Part::Nobody => false,
            };
            if is_on_the_way && worker.generation == reload.to {
                worker.part = Part::Nobody;
            }
        }
        self.seats.values_mut().for_each(|it| it.is_passed = false);
        self.reload = Some(reload);
    }

    /// One of that generation failed: whether that has to end the rollout.
    pub(super) fn must_turn_back(&mut self, generation: Generation) -> bool {
        match &mut self.reload {
            Some(reload) if reload.way == Way::Forward && reload.to == generation => {
                reload.is_to_turn_back = true;
                true
            }
            Some(_) | None => false,
        }
    }

    /// If there is one, its time has to be over.
    pub(super) fn canary_is_proven(&mut self, now: Instant) {
        let mut workers = self.workers.iter();
        let canary = workers.find_map(|(id, worker)| match worker.part {
            Part::Canary { until } => Some((*id, until)),
            Part::Incumbent | Part::Successor { .. } | Part::Nobody => None,
        });
        let (Some((id, until)), Some(reload)) = (canary, &mut self.reload) else {
            return;
        };
        assert!(until <= now, "it has not served for long enough");
        reload.is_proven = true;
        self.tally.saw(Feat::Canary);
        self.takes_seat(id);
    }
}

/// Who comes and who goes for it.
impl Oracle {
    /// How many may be missing now.
    pub(super) fn may_be_missing(&self) -> u32 {
        match &self.reload {
            Some(reload) if reload.is_proven || reload.way == Way::Back => reload.plan.unavailable,
            Some(_) | None => 0,
        }
    }

    /// Where there may be more and fewer at the same time, nothing says for which of the two somebody
    /// is ordered into a slot that nobody serves in. What follows from that is not known any more;
    /// what is left is that everything comes to an end and everybody is there then.
    pub(super) fn blur(&mut self, plan: RolloutPlan) {
        self.is_blurred |= plan.surge > 0 && plan.unavailable > 0;
    }

    /// The best guess.
    pub(super) fn blurred_part(&mut self, place: (Role, Slot), generation: Generation) -> Part {
        let is_canary = self.reload.as_ref().is_some_and(|reload| {
            reload.way == Way::Forward && !reload.is_proven && reload.to == generation
        });
        if is_canary || self.incumbent(place.0, place.1).is_some() {
            return Part::Successor { why: None };
        }
        let seat = self.seat(place);
        seat.is_fresh = false;
        seat.due = None;
        seat.parked = None;
        Part::Incumbent
    }

    /// A rollout that empties slots says nothing of those that nobody serves in, so who is ordered
    /// for one may be a restart or not: until all these are too old to matter, it is not known
    /// whether there is room for another restart.
    pub(super) fn is_unsure(&self, now: Instant, role: Role) -> bool {
        let is_unsure = self.unsure_until.is_some_and(|until| now < until);
        role == Role::Worker && (self.is_blurred || self.may_be_missing() > 0 || is_unsure)
    }

    pub(super) fn doubt(&mut self, now: Instant) {
        if self.may_be_missing() > 0 {
            let window = match self.plan.restart {
                Restart::Never => Duration::ZERO,
                Restart::Always { limit, .. } => limit.window,
            };
            self.unsure_until = Some(now + window.max(SPAWN_GRACE));
        }
    }

    /// One of the generation that is rolled out is ordered.
    pub(super) fn part_of_next_generation(
        &mut self,
        place: (Role, Slot),
        generation: Generation,
    ) -> Part {
        let (incumbent, is_occupied) = (
            self.incumbent(place.0, place.1),
            self.is_occupied(place.0, place.1),
        );
        let may_be_missing = self.may_be_missing();
        let reload = self.reload.as_ref().expect("something is rolled out");
        assert_eq!((reload.way, reload.to), (Way::Forward, generation));
        assert_eq!(place.0, Role::Worker, "agents stay");
        let (surge, is_proven) = (reload.plan.surge as usize, reload.is_proven);
        let seat = &self.seats[&place];
        assert_ne!(seat.parked, Some(Parked::Drained), "it stays empty");
        let is_passed = seat.is_passed;
        if is_passed && seat.is_fresh {
            self.seat(place).is_fresh = false;
            return Part::Incumbent;
        }
        assert!(!is_passed, "it has passed already");
        let allowed = if is_proven { surge } else { 1 };
        if incumbent.is_none() && !is_occupied && may_be_missing > 0 && self.extra() >= allowed {
            self.tally.saw(Feat::Rebuild);
            let seat = self.seat(place);
            seat.is_fresh = false;
            seat.due = None;
            seat.parked = None;
            seat.is_passed = true;
            return Part::Incumbent;
        }
        assert!(self.extra() < allowed, "more than there may be");
        Part::Successor { why: None }
    }

    /// Whether somebody of that generation has to be replaced for the rollout.
    pub(super) fn is_outdated(&self, generation: Generation) -> bool {
        self.reload.as_ref().is_some_and(|reload| match reload.way {
            Way::Forward => generation != reload.to,
            Way::Back => generation != self.generation,
        })
    }

    /// How many there are beyond those that there should be, or were until now.
    fn extra(&self) -> usize {
        let is_extra = |worker: &&Worker| match worker.part {
            Part::Successor { .. } | Part::Canary { .. } => true,
            Part::Nobody => worker.is_replaced,
            Part::Incumbent => false,
        };
        self.workers.values().filter(is_extra).count()
    }

    /// The supervisor takes the slot from one who could go on, before another one is there: may it?
    pub(super) fn is_emptied(&mut self, now: Instant, id: WorkerId) {
        if self.is_blurred {
            self.worker(id).part = Part::Nobody;
            return;
        }
        let worker = &self.workers[&id];
        let (place, generation) = ((worker.role, worker.slot), worker.generation);
        let is_served = worker.standing == Standing::Serving;
        assert_eq!(worker.part, Part::Incumbent, "nobody wants it to leave");
        let was_there = worker.born_at.is_some_and(|born_at| born_at < now);
        assert_eq!(worker.role, Role::Worker, "nobody wants it to leave");
        let missing = (0..self.plan.slots()).filter(|slot| {
            let is_parked = self.seats[&(Role::Worker, Slot(*slot))].parked.is_some();
            !is_parked && !self.serves(Role::Worker, *slot)
        });
        let missing = u32::try_from(missing.count()).expect("not so many");
        let may_be_missing = self.may_be_missing();
        let way = self.reload.as_ref().map(|it| it.way);
        let is_outdated = self.is_outdated(generation);
        if !was_there && !is_outdated {
            // It was, when it was only ordered.
            assert!(self.is_unsure(now, Role::Worker), "it may stay");
            self.worker(id).part = Part::Nobody;
            self.seat(place).is_fresh = true;
            return;
        }
        assert!(is_outdated, "it may stay");
        assert!(may_be_missing > 0, "nobody may be missing");
        assert!(!is_served || missing < may_be_missing, "too many missing");
        let is_forward = way == Some(Way::Forward);
        self.worker(id).part = Part::Nobody;
        let seat = self.seat(place);
        seat.is_fresh = true;
        seat.is_passed = is_forward;
        self.tally.saw(Feat::Rebuild);
    }

    /// Whether somebody is being replaced.
    pub(super) fn is_renewing(&self) -> bool {
        self.extra() > 0
    }
}

/// Wear.
impl Oracle {
    pub(super) fn is_worn(&mut self, now: Instant, id: WorkerId, why: Wear, delay: Duration) {
        let (max_age, percent) = (self.plan.max_age, self.plan.jitter.percent);
        let is_blurred = self.is_blurred;
        let worker = self.known(id);
        assert_eq!(worker.standing, Standing::Serving);
        assert!(is_blurred || worker.part == Part::Incumbent);
        assert_eq!(worker.worn, None, "told once");
        if why == Wear::Age {
            let least = max_age.expect("a limit") * (100 - u32::from(percent)) / 100;
            let age = now - worker.born_at.expect("it exists");
            assert!(age + Duration::from_millis(1) >= least, "so young");
        }
        worker.worn = Some((why, now + delay));
        assert_eq!(worker.role, Role::Worker, "nobody takes its place");
        let place = (worker.role, worker.slot);
        let served = now - worker.ready_at.expect("it serves");
        if why == Wear::Asked {
            assert_eq!(delay, Duration::ZERO, "who asks is not kept waiting");
        } else if !is_blurred {
            assert_eq!(delay, self.wear_delay(place, served), "after {served:?}");
        }
    }

    /// Nothing that could go on waits.
    pub(super) fn renewals_go_on(&self, now: Instant) {
        if self.era != Era::Up {
            return;
        }
        for (id, worker) in &self.workers {
            if let Part::Canary { until } = worker.part {
                assert!(until > now, "{id} has proved itself");
            }
            let is_renewed = self.is_renewed(worker.slot);
            if worker.role == Role::Agent
                || worker.part != Part::Incumbent
                || worker.standing != Standing::Serving
                || self.reload.is_some()
                || self.is_blurred
                || is_renewed
            {
                continue;
            }
            if let Some(max_age) = self.plan.max_age {
                let born_at = worker.born_at.expect("it exists");
                let is_old = born_at + max_age <= now;
                assert!(!is_old || worker.worn.is_some(), "{id} is too old");
            }
            if let Some((_, from)) = worker.worn {
                assert!(from > now || self.is_renewing(), "{id} is not replaced");
            }
        }
    }

    /// Somebody starts in that slot, or leaves it.
    fn is_renewed(&self, slot: Slot) -> bool {
        self.workers.values().any(|it| {
            it.slot == slot
                && it.role == Role::Worker
                && (matches!(it.part, Part::Successor { .. }) || it.is_replaced)
        })
    }

    /// When something has to be done about it.
    pub(super) fn next_renewal(&self, now: Instant) -> Option<Instant> {
        if self.era != Era::Up {
            return None;
        }
        let moments = self
            .workers
            .values()
            .filter_map(|worker| match worker.part {
                Part::Canary { until } => Some(until),
                Part::Incumbent if worker.is_disturbed || self.is_blurred => None,
                // Its turn does not come before that is over.
                Part::Incumbent if self.reload.is_some() || self.is_renewed(worker.slot) => None,
                Part::Incumbent => worker.worn.map(|(_, from)| from).filter(|it| *it > now),
                Part::Successor { .. } | Part::Nobody => None,
            });
        moments.min()
    }

    pub(super) fn reload_fits(&self, supervisor: &Supervisor) {
        let is_back = self.reload.as_ref().map(|it| (it.to, it.way == Way::Back));
        let view = supervisor.rollout().map(|it| (it.to, it.is_rollback));
        assert_eq!(view, is_back);
        assert_eq!(supervisor.generation(), self.generation);
        assert_eq!(supervisor.wanted(), self.plan.workers);
        let must_turn = self.reload.as_ref().is_some_and(|it| it.is_to_turn_back);
        assert!(!must_turn, "it goes on with a bad generation");
    }
}
