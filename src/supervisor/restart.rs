//! Seats: how they fall vacant, and how they are filled again, with patience and within limits.

use std::time::Instant;

use super::*;

impl Supervisor {
    /// The process serves its seat no more: what becomes of that? `None` if there is nothing to
    /// say, since it lost its seat before, or was told to leave.
    ///
    /// Asked before the process leaves its phase, since it matters for how long it served. The seat
    /// is free from now on, even if the process takes its time to leave.
    pub(super) fn vacate(
        &mut self,
        now: Instant,
        worker: WorkerId,
        failure: &Failure,
    ) -> Option<Next> {
        let process = self.processes.get(&worker)?;
        let (who, served) = (process.who(), process.served(now));
        let was_serving = process.is_serving();
        let was_told = process.was_told_to_leave();
        let index = self.seats.iter().position(|seat| seat.is_held_by(worker))?;
        if self.seats[index].renewal.successor() == Some(worker) {
            let next = self.fail_successor(now, index, who, failure);
            return (!was_told).then_some(next);
        }
        // Before the delay is known: the seat is to be filled with the generation before.
        self.rolls_back(who, failure);
        let seat = &mut self.seats[index];
        let (occupancy, next) = match &self.plan.restart {
            _ if self.stage != Stage::Serving => (parked(Parked::Ending), Next::NotReplaced),
            Restart::Never => {
                let after = worker;
                (parked(Parked::NotRestarted { after }), Next::Parked)
            }
            Restart::Always { backoff, .. } => {
                let delay = match failure {
                    // It serves what it has while its replacement starts.
                    Failure::Retired { .. } if was_serving => Duration::ZERO,
                    Failure::Retired { .. }
                    | Failure::NotSpawned { .. }
                    | Failure::NotReady
                    | Failure::Disconnected
                    | Failure::Goodbye
                    | Failure::Hung
                    | Failure::Exited(_) => seat.backoff.fail(backoff, served),
                };
                let due = after(now, delay);
                let after = worker;
                (Occupancy::Vacant { due, after }, Next::RestartIn(delay))
            }
        };
        seat.occupancy = occupancy;
        seat.renewal = seat.renewal.without_incumbent();
        if self.stage.is_booting() {
            self.verdict.fail(match who.role {
                Role::Agent => StopCause::AgentStart,
                Role::Worker => StopCause::WorkerStart,
            });
        }
        (!was_told).then_some(next)
    }

    /// An exit code may say that its seat is not to be filled again.
    pub(super) fn heed_exit_code(&mut self, worker: WorkerId, status: ExitStatus) -> Option<Next> {
        let ExitStatus::Code(code) = status else {
            return None;
        };
        let why = match code {
            _ if self.plan.stop_exit_codes.contains(&code) => Parked::Done,
            EX_CONFIG => Parked::Hopeless,
            _ => return None,
        };
        let generation = self.processes.get(&worker)?.generation;
        let seat = self.seats.iter_mut().find(|seat| match seat.occupancy {
            Occupancy::Vacant { after, .. }
            | Occupancy::Parked {
                why: Parked::NotRestarted { after },
            } => after == worker,
            Occupancy::Fresh | Occupancy::Taken { .. } | Occupancy::Parked { .. } => false,
        })?;
        // It speaks for its own generation, and the rollout went back to another.
        if seat.role == Role::Worker && seat.generation != generation {
            return None;
        }
        seat.occupancy = parked(why);
        Some(Next::Parked)
    }

    /// Spawns whom the stage wants and who is not there.
    pub(super) fn fill_seats(&mut self, now: Instant) {
        if self.verdict.is_failure() {
            return;
        }
        for index in 0..self.seats.len() {
            let seat = &self.seats[index];
            if seat.occupancy == Occupancy::Fresh
                && self.stage.wish(seat.role) == Wish::All
                && self.is_free(seat)
            {
                self.fill(now, index);
            }
        }
        if self.stage == Stage::Serving {
            for role in [Role::Agent, Role::Worker] {
                self.restart(now, role);
            }
        }
    }

    /// Makes the restarts that are due, the one that waits longest first.
    fn restart(&mut self, now: Instant, role: Role) {
        let Restart::Always {
            limit,
            on_crash_loop: policy,
            ..
        } = self.plan.restart
        else {
            return;
        };
        while let Some((due, index)) = self.first_vacancy(role)
            && due <= now
        {
            let intensity = self.intensity.of(role);
            let room = intensity.room(limit);
            if room.is_open(now) {
                intensity.record(limit, now, due);
                self.fill(now, index);
                continue;
            }
            if intensity.refuse() {
                self.notify(Notice::RestartLimitReached {
                    role,
                    limit,
                    policy,
                });
            }
            match policy {
                OnCrashLoop::Hold if room != Room::Never => return,
                OnCrashLoop::Hold | OnCrashLoop::Park => self.park(index),
                OnCrashLoop::Exit => return self.verdict.fail(StopCause::CrashLoop),
            }
        }
    }

    fn fill(&mut self, now: Instant, index: usize) {
        let by = self.spawn(now, index, self.seats[index].generation);
        self.seats[index].occupancy = Occupancy::Taken { by };
    }

    /// Orders a process for the seat.
    pub(super) fn spawn(&mut self, now: Instant, index: usize, generation: Generation) -> WorkerId {
        let WorkerId(latest) = self.latest;
        let worker = WorkerId(latest + 1);
        self.latest = worker;
        let (role, slot) = (self.seats[index].role, self.seats[index].slot);
        let deadline = after(now, SPAWN_TIMEOUT);
        let process = Process::ordered(now, worker, (role, slot), generation, deadline);
        self.processes.insert(worker, process);
        self.order(Action::Spawn {
            worker,
            slot,
            generation,
            role,
        });
        worker
    }

    fn park(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        seat.occupancy = parked(Parked::GaveUp);
        let (role, slot) = (seat.role, seat.slot);
        let why = WhyParked::GaveUp;
        self.notify(Notice::Parked { role, slot, why });
    }

    /// When a restart is due, or if it was and has to wait, when the window allows it.
    pub(super) fn next_restart(&self, now: Instant) -> Option<Instant> {
        let Restart::Always { limit, .. } = self.plan.restart else {
            return None;
        };
        if self.stage != Stage::Serving {
            return None;
        }
        let next = |role| {
            let (due, _) = self.first_vacancy(role)?;
            match self.intensity.look_at(role).room(limit) {
                Room::At(moment) if due <= now => Some(moment),
                Room::At(_) | Room::Now | Room::Never => Some(due),
            }
        };
        next(Role::Agent)
            .into_iter()
            .chain(next(Role::Worker))
            .min()
    }

    fn first_vacancy(&self, role: Role) -> Option<(Instant, usize)> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.role == role && self.is_free(seat))
            .filter_map(|(index, seat)| Some((seat.due()?, index)))
            .min()
    }

    /// Whether somebody may come into the seat now. What an agent does must not be done by two, and a
    /// rollout that empties seats has no room for two.
    fn is_free(&self, seat: &Seat) -> bool {
        let may_overlap = seat.role == Role::Worker && seat.renewal != Renewal::Rebuilding;
        may_overlap
            || !self
                .of_role(seat.role)
                .any(|process| process.slot == seat.slot)
    }

    /// Whether no worker is left, nor will be.
    pub(super) fn is_deserted(&self) -> bool {
        let is_over = |seat: &Seat| match seat.occupancy {
            Occupancy::Parked { why } => why != Parked::Drained && !seat.renewal.is_begun(),
            Occupancy::Fresh | Occupancy::Taken { .. } | Occupancy::Vacant { .. } => false,
        };
        let mut seats = self.seats.iter().filter(|seat| seat.role == Role::Worker);
        self.plan.workers > 0 && seats.all(is_over) && self.of_role(Role::Worker).next().is_none()
    }

    /// Whether they all said that they are done.
    pub(super) fn is_done(&self) -> bool {
        let mut seats = self.seats.iter().filter(|seat| seat.role == Role::Worker);
        seats.all(|seat| seat.occupancy == parked(Parked::Done))
    }
}

fn parked(why: Parked) -> Occupancy {
    Occupancy::Parked { why }
}

/// How long the reactor may take to say whether there is a process. Only a file system that hangs
/// takes as long as that.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(120);

/// "Something was found in an unconfigured or misconfigured state", `sysexits.h`: starting it again
/// does not change that.
const EX_CONFIG: i32 = 78;
