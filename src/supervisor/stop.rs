//! The stop: close the listeners, let the workers finish, then the agents, then say how it went.
//!
//! A graceful stop has one deadline for the listeners and the workers together, and one for the
//! agents. Asked for once more, or fast, nobody is given time to finish.

use std::time::{Duration, Instant};

use super::*;

impl Supervisor {
    /// Somebody wants the cluster to end.
    pub(super) fn stop(&mut self, now: Instant, how: Stop) {
        match self.stage {
            Stage::Idle => self.finish(),
            Stage::Booting { .. } | Stage::Serving => self.begin_stop(now, how),
            Stage::Closing { deadline } => {
                self.tell_of_stop(Stop::Fast);
                self.order(Action::AbandonListeners);
                self.stop_workers(deadline, Stop::Fast);
            }
            Stage::Stopping {
                role,
                how: Stop::Graceful,
                deadline,
            } => {
                self.tell_of_stop(Stop::Fast);
                let how = Stop::Fast;
                self.stage = Stage::Stopping {
                    role,
                    how,
                    deadline,
                };
            }
            Stage::Stopping {
                how: Stop::Fast, ..
            }
            | Stage::Finished => {}
        }
    }

    /// Somebody wants it, or something failed.
    pub(super) fn begin_stop(&mut self, now: Instant, how: Stop) {
        self.tell_of_stop(how);
        self.drop_rollout();
        let deadline = after(now, self.plan.stop_timeout);
        if how == Stop::Graceful && self.can_serve() {
            self.order(Action::CloseListeners);
            self.stage = Stage::Closing { deadline };
        } else {
            self.order(Action::AbandonListeners);
            self.stop_workers(deadline, how);
        }
    }

    /// Whether there is somebody for what waits in the backlogs, or will be.
    pub(super) fn can_serve(&self) -> bool {
        self.of_role(Role::Worker)
            .any(|worker| !worker.is_leaving())
    }

    /// What waited in the backlogs is in the workers' queues.
    pub(super) fn listeners_closed(&mut self) {
        if let Stage::Closing { deadline } = self.stage {
            self.stop_workers(deadline, Stop::Graceful);
        }
    }

    pub(super) fn stop_workers(&mut self, deadline: Instant, how: Stop) {
        let role = Role::Worker;
        self.stage = Stage::Stopping {
            role,
            how,
            deadline,
        };
    }

    pub(super) fn stop_agents(&mut self, now: Instant, how: Stop) {
        let role = Role::Agent;
        let deadline = after(now, self.plan.stop_timeout);
        self.stage = Stage::Stopping {
            role,
            how,
            deadline,
        };
    }

    pub(super) fn finish(&mut self) {
        self.stage = Stage::Finished;
        let code = self.verdict.code();
        self.order(Action::Finish { code });
    }

    /// Asks everybody to leave who holds no seat, and has not been asked yet.
    pub(super) fn dismiss_seatless(&mut self, now: Instant) {
        // Who holds a seat does not leave, so these are the same unless somebody lost one. Thousands of
        // workers make the difference between this and looking for each of them.
        let staying = self
            .processes
            .values()
            .filter(|it| !it.is_leaving())
            .count();
        if staying == self.seats.iter().map(Seat::holders).sum::<usize>() {
            return;
        }
        let deadline = after(now, self.plan.stop_timeout);
        for role in [Role::Worker, Role::Agent] {
            for worker in self.order_of_leaving(role) {
                let holds_one = self.seats.iter().any(|seat| seat.is_held_by(worker));
                if !holds_one && !self.processes[&worker].is_leaving() {
                    self.ask(now, worker, deadline);
                }
            }
        }
    }

    /// Asks everybody to leave whom the stage does not want, and has not asked yet.
    pub(super) fn dismiss_unwanted(&mut self, now: Instant) {
        for role in [Role::Worker, Role::Agent] {
            if let Wish::None { how, deadline } = self.stage.wish(role) {
                for worker in self.order_of_leaving(role) {
                    match how {
                        Stop::Graceful => self.ask(now, worker, deadline),
                        Stop::Fast => self.hurry(now, worker),
                    }
                }
            }
        }
    }

    /// It may finish what it has begun, until the deadline.
    fn ask(&mut self, now: Instant, worker: WorkerId, deadline: Instant) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        match &mut process.phase {
            Phase::Serving { .. } => {
                let within = deadline.saturating_duration_since(now);
                self.let_go(now, worker, Departure::Ordered, within);
                self.order(Action::Drain { worker, within });
            }
            Phase::Starting { .. } => self.send_off(now, worker, Why::NotReady),
            Phase::Leaving { step, .. } => match step {
                Step::Free { until } | Step::Asked { until } => *until = deadline.min(*until),
                Step::Terminated { .. } | Step::Aborted { .. } | Step::Killed => {}
            },
            // Its turn comes with `Spawned`.
            Phase::Spawning { deadline: given } => {
                *given = deadline.max(after(now, SPAWN_GRACE)).min(*given);
            }
        }
    }

    /// It has to leave at once.
    fn hurry(&mut self, now: Instant, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        match &mut process.phase {
            Phase::Starting { .. } | Phase::Serving { .. } => {
                self.send_off(now, worker, Why::Hurry);
            }
            Phase::Leaving { step, .. } => match step {
                Step::Free { .. } | Step::Asked { .. } => {
                    self.send_off(now, worker, Why::Hurry);
                }
                Step::Terminated { .. } | Step::Aborted { .. } | Step::Killed => {}
            },
            // Its turn comes with `Spawned`.
            Phase::Spawning { deadline } => *deadline = after(now, SPAWN_GRACE).min(*deadline),
        }
    }

    fn send_off(&mut self, now: Instant, worker: WorkerId, why: Why) {
        self.terminate(now, worker, Departure::Ordered);
        if let Some(process) = self.processes.get(&worker) {
            let who = process.who();
            self.notify(Notice::Terminating { who, why });
        }
    }

    /// Workers by slot; agents the other way round, since they started that way.
    fn order_of_leaving(&self, role: Role) -> Vec<WorkerId> {
        let mut processes: Vec<&Process> = self.of_role(role).collect();
        processes.sort_by_key(|process| (process.slot, process.worker));
        if role == Role::Agent {
            processes.reverse();
        }
        processes.iter().map(|process| process.worker).collect()
    }

    fn tell_of_stop(&mut self, how: Stop) {
        let cause = self.verdict.cause();
        self.notify(Notice::Stopping { how, cause });
    }
}

/// How long the reactor may take at the end to say whether there is a process.
const SPAWN_GRACE: Duration = Duration::from_secs(5);
