//! Seats: how they fall vacant, and how they are filled again, with patience and within limits.

use std::time::Instant;

use super::*;

impl Supervisor {
    /// The process serves its seat no more: what becomes of that? `None` if there is nothing to
    /// say, since it lost its seat before, or was told to leave.
    ///
    /// Asked before the process leaves its phase, since it matters for how long it served. The seat
    /// is free from now on, even if the process takes its time to leave.
    pub(super) fn vacate(&mut self, now: Instant, worker: WorkerId) -> Option<Next> {
        let process = self.processes.get(&worker)?;
        let (role, served) = (process.role, process.served(now));
        let was_told = process.was_told_to_leave();
        let taken = Occupancy::Taken { by: worker };
        let seat = self.seats.iter_mut().find(|seat| seat.occupancy == taken)?;
        let (occupancy, next) = match &self.plan.restart {
            _ if self.stage != Stage::Serving => (Occupancy::Parked, Next::NotReplaced),
            Restart::Never => (Occupancy::Parked, Next::Parked),
            Restart::Always { backoff, .. } => {
                let delay = seat.backoff.fail(backoff, served);
                let due = after(now, delay);
                (Occupancy::Vacant { due }, Next::RestartIn(delay))
            }
        };
        seat.occupancy = occupancy;
        if self.stage.is_booting() {
            self.verdict.fail(match role {
                Role::Agent => StopCause::AgentStart,
                Role::Worker => StopCause::WorkerStart,
            });
        }
        (!was_told).then_some(next)
    }

    /// Spawns whom the stage wants and who is not there.
    pub(super) fn fill_seats(&mut self, now: Instant) {
        if self.verdict.is_failure() {
            return;
        }
        for index in 0..self.seats.len() {
            let seat = &self.seats[index];
            if seat.occupancy == Occupancy::Fresh && self.stage.wish(seat.role) == Wish::All {
                self.fill(now, index);
            }
        }
        if self.stage == Stage::Serving {
            self.restart(now);
        }
    }

    /// Makes the restarts that are due, the one that waits longest first.
    fn restart(&mut self, now: Instant) {
        let Restart::Always {
            limit,
            on_crash_loop: policy,
            ..
        } = self.plan.restart
        else {
            return;
        };
        while let Some((due, index)) = self.first_vacancy()
            && due <= now
        {
            let room = self.intensity.room(limit);
            if room.is_open(now) {
                self.intensity.record(limit, now, due);
                self.fill(now, index);
                continue;
            }
            if self.intensity.refuse() {
                self.notify(Notice::RestartLimitReached { limit, policy });
            }
            match policy {
                OnCrashLoop::Hold if room != Room::Never => return,
                OnCrashLoop::Hold | OnCrashLoop::Park => self.park(index),
                OnCrashLoop::Exit => return self.verdict.fail(StopCause::CrashLoop),
            }
        }
    }

    fn fill(&mut self, now: Instant, index: usize) {
        let WorkerId(latest) = self.latest;
        let worker = WorkerId(latest + 1);
        self.latest = worker;
        let seat = &mut self.seats[index];
        seat.occupancy = Occupancy::Taken { by: worker };
        let (role, slot, generation) = (seat.role, seat.slot, self.generation);
        let process = Process::ordered(now, worker, (role, slot), generation);
        self.processes.insert(worker, process);
        self.order(Action::Spawn {
            worker,
            slot,
            generation,
            role,
        });
    }

    fn park(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        seat.occupancy = Occupancy::Parked;
        let (role, slot) = (seat.role, seat.slot);
        self.notify(Notice::Parked { role, slot });
    }

    /// When a restart is due, or if it was and has to wait, when the window allows it.
    pub(super) fn next_restart(&self, now: Instant) -> Option<Instant> {
        let Restart::Always { limit, .. } = self.plan.restart else {
            return None;
        };
        if self.stage != Stage::Serving {
            return None;
        }
        let (due, _) = self.first_vacancy()?;
        match self.intensity.room(limit) {
            Room::At(moment) if due <= now => Some(moment),
            Room::At(_) | Room::Now | Room::Never => Some(due),
        }
    }

    fn first_vacancy(&self) -> Option<(Instant, usize)> {
        let due = |(index, seat): (usize, &Seat)| Some((seat.due()?, index));
        self.seats.iter().enumerate().filter_map(due).min()
    }

    /// Whether no worker is left, nor will be.
    pub(super) fn is_deserted(&self) -> bool {
        let mut seats = self.seats.iter().filter(|seat| seat.role == Role::Worker);
        self.plan.workers > 0
            && seats.all(|seat| seat.occupancy == Occupancy::Parked)
            && self.of_role(Role::Worker).next().is_none()
    }
}
