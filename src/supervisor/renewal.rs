//! Renewal: how a seat passes from its incumbent to a successor, so that somebody serves at every
//! moment. Reload, recycling and an operator's restart are all this.
//!
//! The successor starts first, and takes the seat when it is ready; whoever loses a seat leaves. Only
//! a rollout that may do without somebody, and the agents, who must never be two, empty the seat first.

use std::time::{Duration, Instant};

use super::*;

/// How far the renewal of one seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// Nobody thinks of it.
    None,
    /// Its incumbent is to be replaced, when it is its turn, and not before then.
    Due { why: Wear, from: Instant },
    /// Its successor is not ready yet.
    Starting { successor: WorkerId, why: Errand },
    /// Its successor serves beside the incumbent until then, to show that it can.
    Proving { successor: WorkerId, until: Instant },
    /// The successor has the seat, and the one before has not left yet.
    Leaving { predecessor: WorkerId },
    /// It was emptied, and its next incumbent does not serve yet, if one comes.
    Rebuilding,
    /// Its successor failed on the way back: until the rollout is over the seat keeps whom it has.
    GivenUp,
}

/// What a successor is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Rollout,
    Wear(Wear),
    /// Whom it was to replace is gone: it takes the seat if it is ready first.
    Vacancy,
}

impl Renewal {
    pub(super) fn successor(self) -> Option<WorkerId> {
        match self {
            Renewal::Starting { successor, .. } | Renewal::Proving { successor, .. } => {
                Some(successor)
            }
            Renewal::None
            | Renewal::Due { .. }
            | Renewal::Leaving { .. }
            | Renewal::Rebuilding
            | Renewal::GivenUp => None,
        }
    }

    /// Whether there is, or was until now, one process more for it.
    fn is_surge(self) -> bool {
        match self {
            Renewal::Starting { .. } | Renewal::Proving { .. } | Renewal::Leaving { .. } => true,
            Renewal::None | Renewal::Due { .. } | Renewal::Rebuilding | Renewal::GivenUp => false,
        }
    }

    pub(super) fn is_begun(self) -> bool {
        !matches!(self, Renewal::None | Renewal::Due { .. } | Renewal::GivenUp)
    }

    /// What is left of it when the incumbent fails: who wears out is not there any more.
    pub(super) fn without_incumbent(self) -> Renewal {
        match self {
            Renewal::Due { .. } => Renewal::None,
            Renewal::Starting {
                successor,
                why: Errand::Wear(_),
            } => Renewal::Starting {
                successor,
                why: Errand::Vacancy,
            },
            Renewal::None
            | Renewal::Starting { .. }
            | Renewal::Proving { .. }
            | Renewal::Leaving { .. }
            | Renewal::Rebuilding
            | Renewal::GivenUp => self,
        }
    }

    /// When the supervisor has to look at it again.
    fn alarm(self, now: Instant) -> Option<Instant> {
        match self {
            Renewal::Proving { until, .. } => Some(until),
            // Once it is due it waits for its turn, which comes with an event.
            Renewal::Due { from, .. } => Some(from).filter(|from| *from > now),
            Renewal::None
            | Renewal::Starting { .. }
            | Renewal::Leaving { .. }
            | Renewal::Rebuilding
            | Renewal::GivenUp => None,
        }
    }
}

impl Supervisor {
    /// Takes every renewal as far as it can go now.
    pub(super) fn renew(&mut self, now: Instant) {
        if self.stage != Stage::Serving {
            return;
        }
        for index in 0..self.seats.len() {
            self.go_on(now, index);
        }
        self.note_age(now);
        self.begin_renewals(now);
        self.end_rollout(now);
    }

    /// A worker that could go on is to be replaced, if nobody does that already. Agents never
    /// wear out.
    pub(super) fn worn(&mut self, now: Instant, worker: WorkerId, why: Wear) {
        let mut seats = self.seats.iter();
        let index = seats.position(|seat| seat.incumbent() == Some(worker));
        if let Some(index) = index
            && let Some(process) = self.processes.get_mut(&worker)
            && process.role == Role::Worker
            && process.is_serving()
            && process.worn.is_none()
        {
            let served = process.served(now);
            let delay = match &self.plan.restart {
                // Limits that are too low are no reason to do nothing else but replace.
                Restart::Always { backoff, .. } if why != Wear::Asked => {
                    self.seats[index].backoff.wear_out(backoff, served)
                }
                Restart::Always { .. } | Restart::Never => Duration::ZERO,
            };
            process.worn = Some((why, after(now, delay)));
            let who = process.who();
            self.notify(Notice::Worn { who, why, delay });
            self.go_on(now, index);
        }
    }

    /// Its successor failed, and that is that.
    fn unworn(&mut self, index: usize) {
        let incumbent = self.seats[index].incumbent();
        if let Some(process) = incumbent.and_then(|it| self.processes.get_mut(&it)) {
            process.worn = None;
        }
    }

    /// The successor is ready: it takes the seat, unless it has to prove itself before.
    pub(super) fn succeed(&mut self, now: Instant, index: usize, successor: WorkerId) {
        let generation = self.processes.get(&successor).map(|it| it.generation);
        let rollout = self.rollout.as_ref();
        match rollout.and_then(|rollout| rollout.canary(generation?)) {
            Some(canary) => {
                let until = after(now, canary);
                self.seats[index].renewal = Renewal::Proving { successor, until };
                self.enter(successor);
            }
            None => self.take_over(index, successor),
        }
    }

    /// The successor of a seat will never serve: what becomes of the renewal?
    pub(super) fn fail_successor(
        &mut self,
        now: Instant,
        index: usize,
        culprit: Who,
        what: &Failure,
    ) -> Next {
        let seat = &mut self.seats[index];
        let renewal = std::mem::replace(&mut seat.renewal, Renewal::None);
        if self.stage != Stage::Serving {
            return Next::NotReplaced;
        }
        if self.rolls_back(culprit, what) {
            return Next::RolledBack;
        }
        let errand = match renewal {
            Renewal::Starting { why, .. } => why,
            Renewal::None
            | Renewal::Due { .. }
            | Renewal::Proving { .. }
            | Renewal::Leaving { .. }
            | Renewal::Rebuilding
            | Renewal::GivenUp => Errand::Rollout,
        };
        let seat = &mut self.seats[index];
        match (errand, &self.plan.restart) {
            (Errand::Wear(why), restart) if why != Wear::Asked => {
                let delay = match restart {
                    Restart::Always { backoff, .. } => seat.backoff.fail(backoff, Duration::ZERO),
                    Restart::Never => SECOND_TRY,
                };
                let from = after(now, delay);
                seat.renewal = Renewal::Due { why, from };
                return Next::RestartIn(delay);
            }
            (Errand::Wear(_), _) => self.unworn(index),
            (Errand::Rollout | Errand::Vacancy, _) => {
                if self.rollout.as_ref().is_some_and(Rollout::is_backward) {
                    seat.renewal = Renewal::GivenUp;
                }
            }
        }
        self.seats[index].next(now)
    }

    /// The earliest moment at which a renewal goes on by itself.
    pub(super) fn next_renewal(&self, now: Instant) -> Option<Instant> {
        if self.stage != Stage::Serving {
            return None;
        }
        let renewals = self.seats.iter().filter_map(|seat| seat.renewal.alarm(now));
        renewals.chain(self.next_birthday()).min()
    }
}

/// Steps.
impl Supervisor {
    fn go_on(&mut self, now: Instant, index: usize) {
        match self.seats[index].renewal {
            Renewal::Proving { successor, until } if until <= now => {
                self.take_over(index, successor);
            }
            Renewal::Leaving { predecessor } if !self.processes.contains_key(&predecessor) => {
                self.seats[index].renewal = Renewal::None;
            }
            Renewal::Rebuilding => {
                let seat = &self.seats[index];
                if self.serves(seat) || seat.is_parked() {
                    self.seats[index].renewal = Renewal::None;
                }
            }
            Renewal::None
            | Renewal::Due { .. }
            | Renewal::Starting { .. }
            | Renewal::Proving { .. }
            | Renewal::Leaving { .. }
            | Renewal::GivenUp => {}
        }
        let seat = &self.seats[index];
        let incumbent = seat.incumbent().and_then(|by| self.processes.get(&by));
        if seat.renewal == Renewal::None
            && let Some((why, from)) = incumbent
                .filter(|it| it.is_serving())
                .and_then(|it| it.worn)
        {
            self.seats[index].renewal = Renewal::Due { why, from };
        }
    }

    /// From now on the seat is its; whoever had it holds none, and so leaves.
    fn take_over(&mut self, index: usize, successor: WorkerId) {
        let Some(process) = self.processes.get(&successor) else {
            return;
        };
        let (by, generation) = (process.who(), process.generation);
        let seat = &mut self.seats[index];
        let predecessor = seat.incumbent();
        seat.occupancy = Occupancy::Taken { by: successor };
        seat.generation = generation;
        seat.renewal = match predecessor {
            Some(predecessor) => Renewal::Leaving { predecessor },
            None => Renewal::None,
        };
        let predecessor = predecessor.and_then(|it| self.processes.get(&it));
        if let Some(predecessor) = predecessor {
            let who = predecessor.who();
            if predecessor.is_in_rotation() {
                self.enter(successor);
            }
            self.notify(Notice::Replaced { who, by });
        }
        self.advance_rollout(generation);
    }

    /// Begins as many renewals as there may be at a time: of those that are no rollout never two.
    fn begin_renewals(&mut self, now: Instant) {
        let allowance = match &self.rollout {
            Some(rollout) => rollout.allowance(),
            None => Allowance::ONE_MORE,
        };
        while let Some(index) = self.next_due(now) {
            let surge = self.count(Renewal::is_surge);
            if surge < allowance.surge as usize {
                self.start_successor(now, index);
            } else if self.can_do_without(index, allowance.unavailable) {
                self.rebuild(index);
            } else {
                return;
            }
        }
    }

    /// The seat whose turn it is: those that nobody serves in first, then by slot.
    fn next_due(&self, now: Instant) -> Option<usize> {
        let is_due = |seat: &Seat| match (&self.rollout, seat.renewal) {
            (Some(rollout), Renewal::None | Renewal::Due { .. }) => {
                self.is_outdated(seat, rollout.target())
            }
            (None, Renewal::Due { from, .. }) => from <= now,
            _ => false,
        };
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.role == Role::Worker && is_due(seat))
            .map(|(index, seat)| (self.serves(seat), seat.slot, index))
            .min()
            .map(|(.., index)| index)
    }

    /// Whether the seat has to pass to another generation.
    pub(super) fn is_outdated(&self, seat: &Seat, target: Generation) -> bool {
        if let (
            Occupancy::Parked {
                why: Parked::Drained,
            },
            _,
        )
        | (_, Role::Agent) = (seat.occupancy, seat.role)
        {
            return false;
        }
        let incumbent = seat.incumbent().and_then(|by| self.processes.get(&by));
        seat.generation != target || incumbent.is_some_and(|it| it.generation != target)
    }

    fn count(&self, which: fn(Renewal) -> bool) -> usize {
        self.seats.iter().filter(|seat| which(seat.renewal)).count()
    }

    fn serves(&self, seat: &Seat) -> bool {
        seat.incumbent().is_some_and(|by| self.is_serving(by))
    }

    /// Whether so many serve that one may be missed, or this seat is missed already. Nobody is
    /// missed in a seat that is to be empty.
    fn can_do_without(&self, index: usize, unavailable: u32) -> bool {
        let seats = self.seats.iter().filter(|seat| seat.role == Role::Worker);
        let missing = seats
            .filter(|seat| !seat.is_parked() && !self.serves(seat))
            .count();
        unavailable > 0 && (!self.serves(&self.seats[index]) || missing < unavailable as usize)
    }

    fn start_successor(&mut self, now: Instant, index: usize) {
        let seat = &self.seats[index];
        let (why, generation) = match (&self.rollout, seat.renewal) {
            (Some(rollout), _) => (Errand::Rollout, rollout.target()),
            (None, Renewal::Due { why, .. }) => (Errand::Wear(why), seat.generation),
            (None, _) => return,
        };
        let successor = self.spawn(now, index, generation);
        self.seats[index].renewal = Renewal::Starting { successor, why };
    }

    /// Takes the seat from its incumbent, who leaves; the next one comes when it is gone.
    fn rebuild(&mut self, index: usize) {
        let Some(rollout) = &self.rollout else { return };
        let target = rollout.target();
        let seat = &mut self.seats[index];
        seat.generation = target;
        seat.occupancy = Occupancy::Fresh;
        seat.renewal = Renewal::Rebuilding;
        self.advance_rollout(target);
    }
}

/// Age.
impl Supervisor {
    fn note_age(&mut self, now: Instant) {
        while let Some((birthday, worker)) = self.oldest()
            && birthday <= now
        {
            self.worn(now, worker, Wear::Age);
        }
    }

    fn next_birthday(&self) -> Option<Instant> {
        self.oldest().map(|(birthday, _)| birthday)
    }

    /// Who of those that nobody replaces yet is the first to be as old as it may get, and when.
    fn oldest(&self) -> Option<(Instant, WorkerId)> {
        let max_age = self.plan.max_age?;
        let candidates = self.seats.iter().filter(|seat| {
            seat.role == Role::Worker && seat.renewal == Renewal::None && self.serves(seat)
        });
        candidates
            .filter_map(|seat| {
                let process = self.processes.get(&seat.incumbent()?)?;
                if process.worn.is_some() {
                    return None;
                }
                let age = self.plan.jitter.time(process.worker, max_age);
                Some((after(process.born, age), process.worker))
            })
            .min()
    }
}

/// Without restarts there is no back-off, but whoever wears out does not last for ever: so long after
/// a successor that failed comes the next one.
const SECOND_TRY: Duration = Duration::from_secs(60);
