//! The book of slots: who is in each, what was promised to it, and how many restarts there were.

use super::*;

impl Oracle {
    /// It serves its slot no more. What that leads to depends on what it was.
    pub(super) fn loses_seat(&mut self, now: Instant, id: WorkerId, how: Loss) {
        let worker = self.worker(id);
        let part = std::mem::replace(&mut worker.part, Part::Nobody);
        let (role, slot, generation) = (worker.role, worker.slot, worker.generation);
        let served = worker
            .ready_at
            .map_or(Duration::ZERO, |ready_at| now - ready_at);
        if part == Part::Nobody {
            return;
        }
        match self.era {
            Era::Boot => {
                self.era = Era::Ending {
                    how: Stop::Graceful,
                    cause: match role {
                        Role::Agent => StopCause::AgentStart,
                        Role::Worker => StopCause::WorkerStart,
                    },
                    since: now,
                };
            }
            Era::Up => {
                let turns_back = role == Role::Worker && self.must_turn_back(generation);
                match part {
                    Part::Incumbent => self.incumbent_fails(now, id, (role, slot), served, how),
                    Part::Successor { why } if !turns_back => {
                        self.successor_fails(now, slot, why);
                    }
                    Part::Successor { .. } | Part::Canary { .. } | Part::Nobody => {}
                }
            }
            Era::Before | Era::Ending { .. } | Era::Over(_) => {}
        }
    }

    /// The next one is due after the back-off.
    fn incumbent_fails(
        &mut self,
        now: Instant,
        id: WorkerId,
        place: (Role, Slot),
        served: Duration,
        how: Loss,
    ) {
        for other in self.workers.values_mut() {
            // For whom it was started is gone.
            if let Part::Successor { why } = &mut other.part
                && (other.role, other.slot) == place
            {
                *why = None;
            }
        }
        match self.plan.restart {
            Restart::Never => {
                let seat = self.seat(place);
                seat.parked = Some(Parked::GaveUp);
                seat.last = Some(id);
            }
            Restart::Always { .. } => {
                let delay = match how {
                    Loss::Failure => self.delay(place, served),
                    Loss::Retirement => Duration::ZERO,
                };
                let seat = self.seat(place);
                seat.due = Some(now + delay);
                seat.after = Some(id);
            }
        }
    }

    /// The incumbent goes on. What wears out is tried again after the back-off.
    fn successor_fails(&mut self, now: Instant, slot: Slot, why: Option<Wear>) {
        let place = (Role::Worker, slot);
        let is_rollout = self.reload.is_some();
        let is_back = self.reload.as_ref().is_some_and(|it| it.way == Way::Back);
        let again = why.filter(|why| *why != Wear::Asked).map(|why| {
            let delay = match self.plan.restart {
                Restart::Always { .. } => self.delay(place, Duration::ZERO),
                Restart::Never => Duration::from_secs(60),
            };
            (why, now + delay)
        });
        let Some(incumbent) = self.incumbent(Role::Worker, slot) else {
            return;
        };
        let incumbent = self.worker(incumbent);
        if why.is_some() {
            incumbent.worn = again;
            incumbent.is_disturbed = is_rollout;
            incumbent.is_asked_for &= again.is_some();
        } else {
            incumbent.is_kept |= is_back;
        }
    }

    /// How long the next restart of a slot waits, after somebody who served that long.
    fn delay(&mut self, place: (Role, Slot), served: Duration) -> Duration {
        let Restart::Always { backoff, .. } = self.plan.restart else {
            return Duration::ZERO;
        };
        let seat = self.seat(place);
        if served >= backoff.healthy_after {
            seat.row = 0;
        }
        // More is longer than any delay, and longer than a float can say.
        let exponent = i32::try_from(seat.row.min(100)).expect("not so many");
        seat.row += 1;
        backoff
            .first
            .mul_f64(1.5_f64.powi(exponent))
            .min(backoff.max)
    }

    /// How long a worker that wears out after so long stays: a row of those that do so early slows down.
    pub(super) fn wear_delay(&mut self, place: (Role, Slot), served: Duration) -> Duration {
        let Restart::Always { backoff, .. } = self.plan.restart else {
            return Duration::ZERO;
        };
        let seat = self.seat(place);
        let is_in_row = seat.row > 0 || seat.has_worn;
        seat.has_worn = true;
        if is_in_row && served < backoff.healthy_after {
            return self.delay(place, served);
        }
        seat.row = 0;
        Duration::ZERO
    }

    /// Some codes say that the slot is to stay empty.
    pub(super) fn heeds_exit_code(&mut self, id: WorkerId, status: ExitStatus) {
        let ExitStatus::Code(code) = status else {
            return;
        };
        let (why, feat) = match code {
            _ if self.plan.stop_exit_codes.contains(&code) => (Parked::Done, Feat::Done),
            78 => (Parked::Hopeless, Feat::Hopeless),
            _ => return,
        };
        let worker = &self.workers[&id];
        if worker.role == Role::Worker && worker.generation != self.generation {
            // It is given up, and what comes is of the generation before.
            return;
        }
        let mut seats = self.seats.values_mut();
        let is_its_own = |seat: &Seat| match seat.parked {
            Some(Parked::GaveUp) => seat.last == Some(id),
            Some(_) | None => seat.after == Some(id) && seat.due.is_some(),
        };
        if let Some(seat) = seats.find(|seat| is_its_own(seat)) {
            seat.due = None;
            seat.parked = Some(why);
            self.tally.saw(feat);
        }
    }

    /// What a process is for its slot that is ordered now, and whether it may be.
    pub(super) fn part_of_new(
        &mut self,
        now: Instant,
        place: (Role, Slot),
        generation: Generation,
    ) -> Part {
        let (role, slot) = place;
        assert!(
            role == Role::Worker || !self.is_occupied(role, slot),
            "two agents in one slot"
        );
        if self.is_blurred && role == Role::Worker {
            return self.blurred_part(place, generation);
        }
        let incumbent = self.incumbent(role, slot);
        let seat = &self.seats[&place];
        if generation != self.generation {
            return self.part_of_next_generation(place, generation);
        }
        if seat.is_fresh {
            assert_eq!(incumbent, None, "two incumbents in one slot");
            let seat = self.seat(place);
            seat.is_fresh = false;
            return Part::Incumbent;
        }
        if let Some(id) = incumbent {
            assert_eq!(role, Role::Worker);
            let incumbent = &self.workers[&id];
            let why = match (&self.reload, incumbent.worn) {
                (Some(reload), _) => {
                    assert_eq!(reload.way, Way::Back, "one more of the old generation");
                    assert_ne!(incumbent.generation, generation, "it has gone back");
                    None
                }
                (None, Some((why, from))) => {
                    assert!(from <= now || incumbent.is_disturbed, "too early");
                    assert_eq!(incumbent.standing, Standing::Serving);
                    assert!(!self.is_renewing(), "two renewals at once");
                    Some(why)
                }
                (None, None) => panic!("nobody wanted it replaced"),
            };
            return Part::Successor { why };
        }
        let is_unsure = self.is_unsure(now, role);
        let seat = self.seat(place);
        if is_unsure && seat.due.is_none_or(|due| due > now) {
            seat.due = None;
            self.tally.saw(Feat::Rebuild);
            return Part::Incumbent;
        }
        let due = seat.due.take().expect("a restart that was due");
        assert!(due <= now, "too early");
        assert_eq!(seat.parked, None, "a parked slot stays empty");
        self.restarts.entry(role).or_default().push(now);
        self.tally.saw(match role {
            Role::Worker => Feat::Restart,
            Role::Agent => Feat::AgentRestart,
        });
        Part::Incumbent
    }

    /// It takes the slot if it can.
    pub(super) fn may_succeed(&mut self, now: Instant, id: WorkerId) {
        let worker = &self.workers[&id];
        let Part::Successor { why } = worker.part else {
            return;
        };
        match &self.reload {
            Some(reload)
                if reload.way == Way::Forward
                    && !reload.is_proven
                    && reload.to == worker.generation =>
            {
                let until = now + reload.plan.canary;
                self.worker(id).part = Part::Canary { until };
            }
            Some(_) | None => {
                if why.is_some() {
                    self.tally.saw(Feat::Recycled);
                }
                self.takes_seat(id);
            }
        }
    }

    /// From now on it is the incumbent; whoever was before leaves.
    pub(super) fn takes_seat(&mut self, id: WorkerId) {
        let worker = &self.workers[&id];
        let place = (worker.role, worker.slot);
        let is_new = worker.generation != self.generation;
        if let Some(predecessor) = self.incumbent(place.0, place.1) {
            let predecessor = self.worker(predecessor);
            predecessor.part = Part::Nobody;
            predecessor.is_replaced = true;
        }
        self.worker(id).part = Part::Incumbent;
        let seat = self.seat(place);
        seat.due = None;
        seat.is_fresh = false;
        seat.parked = None;
        seat.is_passed = is_new;
    }

    pub(super) fn is_replaced(&mut self, now: Instant, who: Who, by: Who) {
        assert_eq!((who.role, who.slot), (by.role, by.slot));
        self.canary_is_proven(now);
        if self.is_blurred {
            self.known(by.worker).part = Part::Incumbent;
            let who = self.known(who.worker);
            who.part = Part::Nobody;
            who.is_replaced = true;
            return;
        }
        assert!(self.known(who.worker).is_replaced, "it has the slot");
        let by = self.known(by.worker);
        assert_eq!(
            (by.part, by.standing),
            (Part::Incumbent, Standing::Serving),
            "its successor is not ready"
        );
    }

    /// What was said about the slot has to be what becomes of it.
    pub(super) fn told_next(&mut self, now: Instant, who: Who, next: Option<Next>) {
        if self.is_blurred && who.role == Role::Worker {
            return;
        }
        let seat = self.seats.get(&(who.role, who.slot));
        match next {
            Some(Next::RestartIn(delay)) => {
                let incumbent = self.incumbent(who.role, who.slot);
                let worn = incumbent.and_then(|id| self.workers[&id].worn);
                let worn = worn.map(|(_, from)| from);
                let moment = Some(now + delay);
                let due = seat.and_then(|seat| seat.due);
                assert!(
                    moment == due || moment == worn || due.is_some_and(|due| due <= now),
                    "it comes {due:?} or {worn:?}, not {moment:?}"
                );
            }
            Some(Next::Parked) => {
                assert!(seat.is_some_and(|seat| seat.parked.is_some()));
            }
            Some(Next::PredecessorStays) => {
                assert!(self.incumbent(who.role, who.slot).is_some(), "who stays?");
            }
            // It was to be replaced already, but not told since it did not exist.
            Some(Next::NotReplaced) if self.era == Era::Up => {
                let is_unsure = self.is_unsure(now, who.role);
                let seat = self.seats.get_mut(&(who.role, who.slot));
                if let Some(seat) = seat.filter(|it| it.after == Some(who.worker)) {
                    assert!(is_unsure, "why not?");
                    seat.row -= 1;
                    seat.due = None;
                    seat.is_fresh = true;
                }
            }
            Some(Next::NotReplaced | Next::RolledBack) | None => {}
        }
    }

    /// Either an operator wants it, or there were too many restarts.
    pub(super) fn is_parked(&mut self, now: Instant, role: Role, slot: Slot) {
        if self.seats[&(role, slot)].parked == Some(Parked::Drained) {
            return;
        }
        assert!(!self.has_room(now, role), "parked although there is room");
        let is_blurred = self.is_blurred && role == Role::Worker;
        let seat = self.seat((role, slot));
        let was_due = seat.due.take().is_some_and(|due| due <= now);
        assert!(was_due || is_blurred);
        seat.parked = Some(Parked::GaveUp);
    }

    /// Everybody behaved for long enough: is everybody there who is not given up?
    pub(crate) fn has_recovered(&self, supervisor: &Supervisor) {
        assert!(self.reload.is_none(), "the rollout does not end");
        for (&(role, slot), seat) in &self.seats {
            let mut workers = self.workers.values();
            let is_awaited = !self.is_blurred || supervisor.is_awaited(role, slot);
            let is_there = seat.parked.is_some()
                || !is_awaited
                || workers
                    .any(|it| (it.role, it.slot, it.standing) == (role, slot, Standing::Serving));
            assert!(is_there, "nobody serves in {role} {slot}");
        }
        for (id, worker) in &self.workers {
            if worker.part == Part::Incumbent && !self.is_blurred {
                let is_right = worker.generation == self.generation
                    || worker.is_kept
                    || worker.role == Role::Agent;
                assert!(is_right, "{id} is of another generation");
                assert!(!worker.is_asked_for, "{id} was to be replaced");
            }
        }
    }
}

/// Queries.
impl Oracle {
    pub(super) fn seat(&mut self, place: (Role, Slot)) -> &mut Seat {
        self.seats.get_mut(&place).expect("a seat")
    }

    pub(super) fn seats_of(&self, role: Role) -> impl Iterator<Item = &Seat> {
        let seats = self.seats.iter();
        seats.filter_map(move |((of, _), seat)| (*of == role).then_some(seat))
    }

    pub(super) fn incumbent(&self, role: Role, slot: Slot) -> Option<WorkerId> {
        let mut workers = self.workers.iter();
        let incumbent = workers.find(|(_, worker)| {
            (worker.role, worker.slot, worker.part) == (role, slot, Part::Incumbent)
        });
        incumbent.map(|(id, _)| *id)
    }

    /// Whether there is a process, even if it leaves.
    pub(super) fn is_occupied(&self, role: Role, slot: Slot) -> bool {
        self.workers.values().any(|worker| {
            (worker.role, worker.slot) == (role, slot) && worker.standing != Standing::Gone
        })
    }

    /// When the next restart comes of those that nothing stands in the way of.
    pub(super) fn first_due(&self, role: Role) -> Option<Instant> {
        let may_wait = role == Role::Agent || self.may_be_missing() > 0;
        let seats = self.seats.iter().filter(|((of, _), _)| *of == role);
        seats
            .filter(|((_, slot), _)| !may_wait || !self.is_occupied(role, *slot))
            .filter_map(|(_, seat)| seat.due)
            .min()
    }

    pub(super) fn limit(&self) -> usize {
        match self.plan.restart {
            Restart::Never => 0,
            Restart::Always { limit, .. } => limit.count as usize,
        }
    }

    /// Whether a restart need not wait.
    pub(super) fn has_room(&self, now: Instant, role: Role) -> bool {
        !self.is_unsure(now, role) && self.restarts_lately(now, role) < self.limit()
    }

    fn restarts_of(&self, role: Role) -> &[Instant] {
        self.restarts.get(&role).map_or(&[], Vec::as_slice)
    }

    pub(super) fn restarts_lately(&self, now: Instant, role: Role) -> usize {
        let Restart::Always { limit, .. } = self.plan.restart else {
            return 0;
        };
        let is_late = |it: &&Instant| **it + limit.window > now;
        let restarts = self.restarts_of(role).iter().rev();
        restarts.take_while(is_late).count()
    }

    /// If it is full, and restarts are to wait for it.
    pub(super) fn window_opens_at(&self, now: Instant, role: Role) -> Option<Instant> {
        match self.plan.restart {
            Restart::Always {
                limit,
                on_crash_loop: OnCrashLoop::Hold,
                ..
            } if limit.count > 0 && self.restarts_lately(now, role) == self.limit() => {
                let restarts = self.restarts_of(role);
                Some(restarts[restarts.len() - self.limit()] + limit.window)
            }
            Restart::Never | Restart::Always { .. } => None,
        }
    }
}
