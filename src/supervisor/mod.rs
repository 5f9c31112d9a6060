//! The supervisor: which processes there should be, and what to do about the difference.
//!
//! A pure state machine. [`handle`](Supervisor::handle) takes in what happened,
//! [`poll_action`](Supervisor::poll_action) gives out what to do about it,
//! [`next_deadline`](Supervisor::next_deadline) says when time itself becomes an event. It performs
//! no I/O, reads no clock, and knows processes by id only; descriptors live in the reactor.
//!
//! Every event is handled in two strokes. First it is *noted*: one process changes its phase, its
//! seat may fall vacant. Then the whole is *reconciled*: deadlines that have passed are acted upon,
//! whom the stage does not want is asked to leave, vacant seats are filled, and the stage moves on
//! when its work is done. So a crash, a stop, and whatever changes the plan are one code. Whoever
//! holds no seat leaves, whatever took the seat from it.
//!
//! The reactor's side of the bargain: each `Spawn` is answered by `Spawned` or `SpawnFailed`, unless
//! it is given up with `Forget` before, and `Spawned` comes before any other event of that worker. Events that break the order, or that are
//! about a worker already forgotten, change nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use worker_proto::ids::{Generation, Role, Slot, WorkerId};

pub use self::action::{Action, Signal};
pub use self::event::{Disconnect, Event, ExitStatus, Stop, Symptom};
pub use self::failure::Failure;
pub use self::notice::{Next, Notice, RollbackCause, StopCause, Who, Why, WhyParked};
pub use self::order::Refused;
pub use self::plan::{BackoffPlan, OnCrashLoop, Plan, Restart, RestartLimit};
pub use self::rollout::RolloutPlan;
pub use self::stage::Stage;
pub use self::view::{RolloutView, WorkerState, WorkerView};
pub use self::wear::{Jitter, Wear};

use self::deadline::after;
use self::intensity::{Intensities, Room};
use self::phase::{Departure, Phase, Post, Step};
use self::process::{Channel, Process};
use self::pulse::Rhythm;
use self::renewal::Renewal;
use self::rollout::{Allowance, Rollout};
use self::seat::{Occupancy, Parked, Seat};
use self::stage::Wish;
use self::verdict::Verdict;

mod action;
mod backoff;
mod boot;
mod deadline;
mod event;
mod failure;
mod hang;
mod health;
mod intensity;
mod leave;
mod notice;
mod order;
mod phase;
mod plan;
mod process;
mod pulse;
mod renewal;
mod restart;
mod rollout;
mod rotation;
mod scale;
mod seat;
mod settled;
mod stage;
mod stop;
#[cfg(test)]
mod tests;
mod verdict;
mod view;
mod wear;

/// The state machine that keeps a cluster as planned.
#[derive(Debug)]
pub struct Supervisor {
    plan: Plan,
    stage: Stage,
    /// Every process from its `Spawn` to its `Forget`.
    processes: BTreeMap<WorkerId, Process>,
    /// The seats of the agents, then those of the workers, both by slot.
    seats: Vec<Seat>,
    intensity: Intensities,
    /// `None` if nobody is asked whether it is alive.
    rhythm: Option<Rhythm>,
    verdict: Verdict,
    /// The one that the cluster is at.
    generation: Generation,
    /// The one that was begun last: never reused, even if it was rolled back.
    newest: Generation,
    rollout: Option<Rollout>,
    /// Until when the cluster may be unhealthy, if it is.
    ailing: Option<Instant>,
    latest: WorkerId,
    actions: VecDeque<Action>,
    /// The earliest deadline of all, so that a `Tick` before it costs nothing.
    alarm: Option<Instant>,
}

impl Supervisor {
    /// A cluster in which nothing has been started.
    #[must_use]
    pub fn new(plan: Plan) -> Supervisor {
        let generation = Generation(1);
        let fresh = |role, slot| Seat::fresh(role, Slot(slot), generation);
        let agents = (0..plan.agents).map(|slot| fresh(Role::Agent, slot));
        let workers = (0..plan.slots()).map(|slot| fresh(Role::Worker, slot));
        Supervisor {
            stage: Stage::Idle,
            processes: BTreeMap::new(),
            seats: agents.chain(workers).collect(),
            intensity: Intensities::default(),
            rhythm: plan.hang_timeout.map(Rhythm::new),
            verdict: Verdict::clean(),
            generation,
            newest: generation,
            rollout: None,
            ailing: None,
            latest: WorkerId(0),
            actions: VecDeque::new(),
            alarm: None,
            plan,
        }
    }

    /// Takes in what happened at `now`, which never goes backwards.
    pub fn handle(&mut self, now: Instant, event: Event) {
        if event == Event::Tick && !self.is_due(now) {
            return;
        }
        // Thousands of workers answer at every beat, and nothing is to be done about it.
        let is_no_news = matches!(event, Event::Pong { .. });
        self.note(now, event);
        if is_no_news {
            return;
        }
        self.settle(now);
    }

    /// From now on the rules of this plan hold; how many workers there are is for
    /// [`scale`](Self::scale) to say, and the agents stay.
    pub fn adopt(&mut self, now: Instant, plan: Plan) {
        let (workers, agents, spare) = (self.plan.workers, self.plan.agents, self.plan.spare);
        if plan.hang_timeout != self.plan.hang_timeout {
            self.rhythm = plan.hang_timeout.map(Rhythm::new);
        }
        self.plan = Plan {
            workers,
            agents,
            spare,
            ..plan
        };
        self.settle(now);
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

    /// The generation that the cluster is at; during a rollout the one that it comes from.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How many workers there are to be, beside the spare ones.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        self.plan.workers
    }

    /// How far the cluster has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Every process, worker or agent, in the order in which they were spawned.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> + '_ {
        self.processes.values().map(WorkerView::from)
    }

    /// One process; `None` once it is forgotten.
    #[must_use]
    pub fn worker(&self, worker: WorkerId) -> Option<WorkerView> {
        self.processes.get(&worker).map(WorkerView::from)
    }

    /// Whether it is ready and has not begun to leave.
    #[must_use]
    pub fn is_serving(&self, worker: WorkerId) -> bool {
        self.processes.get(&worker).is_some_and(Process::is_serving)
    }

    /// Whether it receives connections.
    #[must_use]
    pub fn is_in_rotation(&self, worker: WorkerId) -> bool {
        self.processes
            .get(&worker)
            .is_some_and(Process::is_in_rotation)
    }

    /// Whether somebody has yet to become ready in the slot.
    #[must_use]
    pub fn is_awaited(&self, role: Role, slot: Slot) -> bool {
        let mut seats = self.seats.iter();
        seats.any(|seat| {
            (seat.role, seat.slot) == (role, slot)
                && !seat.is_parked()
                && !seat.incumbent().is_some_and(|by| self.is_serving(by))
        })
    }

    /// How many processes of this role are serving.
    #[must_use]
    pub fn serving(&self, role: Role) -> usize {
        self.of_role(role)
            .filter(|process| process.is_serving())
            .count()
    }
}

/// First stroke: what happened to whom.
impl Supervisor {
    fn note(&mut self, now: Instant, event: Event) {
        match event {
            Event::Start => self.start(now),
            Event::Spawned { worker, pid } => self.spawned(now, worker, pid),
            Event::SpawnFailed { worker, reason } => self.spawn_failed(now, worker, reason),
            Event::Online { worker } => self.online(worker),
            Event::Ready { worker } => self.ready(now, worker),
            Event::Pong { worker, token } => self.pong(worker, token),
            Event::Untold { worker } => self.untold(worker),
            Event::Hung { worker, symptom } => self.hung(now, worker, symptom),
            Event::Idle { worker } => self.idle(worker),
            Event::Goodbye { worker } => self.goodbye(now, worker),
            Event::Retiring { worker, reason } => self.retiring(now, worker, reason),
            Event::Worn { worker, why } => self.worn(now, worker, why),
            Event::Disconnected { worker, cause } => self.disconnected(now, worker, cause),
            Event::Exited { worker, status } => self.exited(now, worker, status),
            Event::ListenersClosed => self.listeners_closed(),
            Event::Stop(how) => self.stop(now, how),
            Event::Tick => {}
        }
    }

    fn spawned(&mut self, now: Instant, worker: WorkerId, pid: u32) {
        let deadline = after(now, self.plan.ready_timeout);
        let Some(process) = self.in_phase(worker, is_spawning) else {
            return;
        };
        process.pid = Some(pid);
        process.born = now;
        process.turn(now, Phase::Starting { deadline });
        let who = process.who();
        self.notify(Notice::Spawned { who });
    }

    fn spawn_failed(&mut self, now: Instant, worker: WorkerId, reason: String) {
        let Some(process) = self.in_phase(worker, is_spawning) else {
            return;
        };
        let who = process.who();
        let failure = Failure::NotSpawned {
            reason: reason.clone(),
        };
        let next = self
            .vacate(now, worker, &failure)
            .unwrap_or(Next::NotReplaced);
        self.notify(Notice::SpawnFailed { who, reason, next });
        self.forget(worker);
    }

    fn online(&mut self, worker: WorkerId) {
        if let Some(process) = self.in_phase(worker, is_starting) {
            process.channel = Channel::Open;
            let who = process.who();
            self.notify(Notice::Online { who });
        }
    }

    fn ready(&mut self, now: Instant, worker: WorkerId) {
        let Some(process) = self.in_phase(worker, is_starting) else {
            return;
        };
        let post = Post::Standby;
        process.ready_at = Some(now);
        process.turn(now, Phase::Serving { post });
        let (who, took) = (process.who(), process.uptime(now));
        self.notify(Notice::Ready { who, took });
        let mut seats = self.seats.iter();
        match seats.position(|seat| seat.renewal.successor() == Some(worker)) {
            Some(index) => self.succeed(now, index, worker),
            None => self.man_rotation(),
        }
        if self.stage == Stage::Serving {
            self.order(Action::AnnounceReady { worker });
        }
    }

    fn goodbye(&mut self, now: Instant, worker: WorkerId) {
        let Some(process) = self.in_phase(worker, is_starting_or_serving) else {
            return;
        };
        let who = process.who();
        let next = self
            .vacate(now, worker, &Failure::Goodbye)
            .unwrap_or(Next::NotReplaced);
        self.let_go(now, worker, Departure::Unasked, self.plan.stop_timeout);
        self.notify(Notice::Goodbye { who, next });
    }

    fn retiring(&mut self, now: Instant, worker: WorkerId, reason: String) {
        let Some(process) = self.in_phase(worker, is_starting_or_serving) else {
            return;
        };
        let who = process.who();
        let failure = Failure::Retired {
            reason: reason.clone(),
        };
        let next = self
            .vacate(now, worker, &failure)
            .unwrap_or(Next::NotReplaced);
        let within = self.plan.stop_timeout;
        self.let_go(now, worker, Departure::Unasked, within);
        self.order(Action::Drain { worker, within });
        self.notify(Notice::Retiring { who, reason, next });
    }

    fn disconnected(&mut self, now: Instant, worker: WorkerId, cause: Disconnect) {
        let Some(process) = self.in_phase(worker, |phase| !is_spawning(phase)) else {
            return;
        };
        if process.channel == Channel::Over {
            return;
        }
        let was_heard = process.channel != Channel::Silent;
        process.channel = Channel::Over;
        let who = process.who();
        let failure = match cause {
            Disconnect::Ended { status } => Failure::Exited(status),
            Disconnect::Closed | Disconnect::Rejected { .. } | Disconnect::Violation { .. } => {
                Failure::Disconnected
            }
        };
        let next = self.vacate(now, worker, &failure);
        match cause {
            Disconnect::Closed | Disconnect::Ended { .. } | Disconnect::Rejected { .. } => {
                self.let_go(now, worker, Departure::Unasked, DISCONNECT_GRACE);
            }
            Disconnect::Violation { .. } => self.terminate(now, worker, Departure::Unasked),
        }
        self.notify(Notice::Disconnected {
            who,
            cause,
            was_heard,
            next,
        });
    }

    fn exited(&mut self, now: Instant, worker: WorkerId, status: ExitStatus) {
        let Some(process) = self.processes.get(&worker) else {
            return;
        };
        let (who, uptime) = (process.who(), process.uptime(now));
        // What a signal has made of it is no choice of its own.
        let is_failure = !process.is_pressed() && !self.is_success(status);
        let expected = process.was_told_to_leave() && !is_failure;
        // Who was still starting may fail because the cluster stops, and serves nobody.
        if is_failure && process.ready_at.is_some() && self.stage.stopping().is_some() {
            self.verdict.spoil();
        }
        let next = self.vacate(now, worker, &Failure::Exited(status));
        let next = self.heed_exit_code(worker, status).or(next);
        self.explain_rollback(who, status);
        self.leave_rotation(worker);
        self.notify(Notice::Exited {
            who,
            status,
            uptime,
            expected,
            next,
        });
        self.forget(worker);
    }
}

/// Second stroke: what should be against what is.
impl Supervisor {
    fn reconcile(&mut self, now: Instant) {
        loop {
            let done = self.actions.len();
            self.renew(now);
            self.man_rotation();
            self.dismiss_seatless(now);
            self.dismiss_unwanted(now);
            self.beat(now);
            self.enforce_deadlines(now);
            self.fill_seats(now);
            self.take_temperature(now);
            // Whatever changes is told to somebody. Stages only ever move forward, and so does
            // everything else as long as no time passes, so this ends.
            if !self.move_on(now) && self.actions.len() == done {
                break;
            }
        }
    }

    /// Enters the next stage if the work of this one is done.
    fn move_on(&mut self, now: Instant) -> bool {
        match self.stage {
            Stage::Booting { .. } | Stage::Serving if self.verdict.is_failure() => {
                self.begin_stop(now, Stop::Graceful);
            }
            Stage::Booting { role, since } if self.is_complete(role) => match role {
                Role::Agent => {
                    let role = Role::Worker;
                    self.stage = Stage::Booting { role, since };
                }
                Role::Worker => self.cluster_ready(now, since),
            },
            Stage::Serving if self.is_deserted() => self.verdict.fail(match self.is_done() {
                true => StopCause::Done,
                false => StopCause::CrashLoop,
            }),
            Stage::Closing { deadline } if deadline <= now || !self.can_serve() => {
                self.order(Action::AbandonListeners);
                self.stop_workers(deadline, Stop::Graceful);
            }
            Stage::Stopping { role, how, .. } if self.of_role(role).next().is_none() => {
                match role {
                    Role::Worker => self.stop_agents(now, how),
                    Role::Agent => self.finish(),
                }
            }
            Stage::Idle
            | Stage::Booting { .. }
            | Stage::Serving
            | Stage::Closing { .. }
            | Stage::Stopping { .. }
            | Stage::Finished => return false,
        }
        true
    }

    /// After something was noted.
    fn settle(&mut self, now: Instant) {
        self.reconcile(now);
        self.alarm = self.earliest_deadline(now);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.alarm.is_some_and(|alarm| alarm <= now)
    }

    fn earliest_deadline(&self, now: Instant) -> Option<Instant> {
        let phases = self
            .processes
            .values()
            .filter_map(|process| process.phase.deadline());
        phases
            .chain(self.stage.deadline())
            .chain(self.next_restart(now))
            .chain(self.next_renewal(now))
            .chain(self.next_temperature())
            .chain(self.next_beat())
            .min()
    }
}

/// Small tools.
impl Supervisor {
    fn is_success(&self, status: ExitStatus) -> bool {
        match status {
            ExitStatus::Code(code) => code == 0 || self.plan.stop_exit_codes.contains(&code),
            ExitStatus::Signal { .. } => false,
        }
    }

    /// The process, if there is one and its phase is right.
    fn in_phase(&mut self, worker: WorkerId, is_right: fn(Phase) -> bool) -> Option<&mut Process> {
        self.processes
            .get_mut(&worker)
            .filter(|process| is_right(process.phase))
    }

    fn of_role(&self, role: Role) -> impl Iterator<Item = &Process> {
        self.processes
            .values()
            .filter(move |process| process.role == role)
    }

    fn leave_rotation(&mut self, worker: WorkerId) {
        if self
            .processes
            .get(&worker)
            .is_some_and(Process::is_in_rotation)
        {
            self.order(Action::Leave { worker });
        }
    }

    fn forget(&mut self, worker: WorkerId) {
        self.processes.remove(&worker);
        self.order(Action::Forget { worker });
    }

    fn notify(&mut self, notice: Notice) {
        self.order(Action::Notify(notice));
    }

    fn order(&mut self, action: Action) {
        self.actions.push_back(action);
    }
}

fn is_spawning(phase: Phase) -> bool {
    matches!(phase, Phase::Spawning { .. })
}

fn is_starting(phase: Phase) -> bool {
    matches!(phase, Phase::Starting { .. })
}

fn is_starting_or_serving(phase: Phase) -> bool {
    matches!(phase, Phase::Starting { .. } | Phase::Serving { .. })
}

/// How long a process without a control channel may take to exit by itself. It can hear nothing
/// any more, so there is nothing to wait for but the end of its `main`.
const DISCONNECT_GRACE: Duration = Duration::from_secs(1);
