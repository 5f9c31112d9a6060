//! The oracle: what has to be true of a supervisor, whatever happens.
//!
//! It sees what the supervisor sees and what it does, and keeps its own, simpler books: facts and
//! promises with a time, no plan of what to do. Everything it finds wrong is a panic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rr_master::ExitCode;
use rr_master::dispatch::Rotation;
use rr_master::supervisor::*;
use worker_proto::ids::{Role, Slot, WorkerId};

use crate::world::LATENESS_MAX;

pub(crate) struct Oracle {
    plan: Plan,
    pub(crate) era: Era,
    workers: BTreeMap<WorkerId, Worker>,
    seats: BTreeMap<(Role, Slot), Seat>,
    /// Every restart there ever was, of each role.
    restarts: BTreeMap<Role, Vec<Instant>>,
    listeners: Listeners,
    /// A process was forced to leave during the stop.
    is_forced: bool,
    announced: bool,
    /// How long the supervisor was awake: the time since its latest call, a quarter of the hang
    /// timeout at most for each.
    awake: Duration,
    called_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    Before,
    Boot,
    Up,
    Ending {
        how: Stop,
        cause: StopCause,
        since: Instant,
    },
    Over(ExitCode),
}

#[derive(Debug)]
struct Worker {
    role: Role,
    slot: Slot,
    standing: Standing,
    pid: Option<u32>,
    is_connected: bool,
    /// It broke the protocol, or was not ready at the end: no patience is due.
    is_outlaw: bool,
    is_announced: bool,
    is_drained: bool,
    /// Nobody waits longer than that to hear whether there is a process.
    spawn_due: Instant,
    /// Without a change, it has to get SIGTERM then, and not before.
    term_due: Option<Instant>,
    /// The same for SIGKILL, once it got SIGTERM.
    kill_due: Option<Instant>,
    signals: Vec<Signal>,
    ready_at: Option<Instant>,
    asked: u64,
    /// Whether it owes an answer, and since when, as long as the supervisor was awake.
    answer: Answer,
    /// The reactor found out that it hangs.
    is_unmoved: bool,
    hangs_told: u32,
    disconnects_told: u32,
    exits_told: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ordered,
    Starting,
    Serving,
    Leaving,
    /// Reaped, or never there.
    Gone,
    Forgotten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Given { at: Duration },
    Owed { since: Duration },
}

#[derive(Debug, Default)]
struct Seat {
    spawns: u32,
    /// Failures in a row.
    row: u32,
    due: Option<Instant>,
    is_parked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listeners {
    Open,
    Closing { deadline: Instant },
    Closed,
}

/// What happened.
impl Oracle {
    pub(crate) fn new(plan: Plan) -> Oracle {
        Oracle {
            plan,
            era: Era::Before,
            workers: BTreeMap::new(),
            seats: BTreeMap::new(),
            restarts: BTreeMap::new(),
            listeners: Listeners::Open,
            is_forced: false,
            announced: false,
            awake: Duration::ZERO,
            called_at: None,
        }
    }

    /// The supervisor is about to hear of this, and it is true.
    pub(crate) fn event(&mut self, now: Instant, event: &Event) {
        self.is_called(now);
        let awake = self.awake;
        match event {
            Event::Start => self.era = Era::Boot,
            Event::Spawned { worker, pid } => {
                let due = now + self.plan.ready_timeout;
                let worker = self.worker(*worker);
                worker.pid = Some(*pid);
                worker.standing = Standing::Starting;
                worker.term_due = Some(due);
            }
            Event::SpawnFailed { worker, .. } => {
                self.loses_seat(now, *worker);
                self.worker(*worker).standing = Standing::Gone;
            }
            Event::Online { .. } | Event::Tick => {}
            Event::Retiring { .. } | Event::Worn { .. } => unreachable!("not yet"),
            Event::Ready { worker } => {
                let worker = self.worker(*worker);
                if worker.standing == Standing::Starting {
                    worker.standing = Standing::Serving;
                    worker.ready_at = Some(now);
                    worker.term_due = None;
                    worker.answer = Answer::Given { at: awake };
                }
            }
            Event::Pong { worker, token } => {
                let worker = self.worker(*worker);
                worker.answer = match worker.answer {
                    Answer::Owed { .. } if *token != worker.asked => Answer::Owed { since: awake },
                    Answer::Owed { .. } | Answer::Given { .. } => Answer::Given { at: awake },
                };
            }
            Event::Untold { worker } => {
                let worker = self.worker(*worker);
                if let Answer::Owed { since } = &mut worker.answer {
                    *since = awake;
                }
            }
            Event::Hung { worker, .. } => {
                let worker = self.worker(*worker);
                worker.is_unmoved |= worker.standing == Standing::Serving;
            }
            Event::Goodbye { worker } => self.begins_to_leave(now, *worker, self.plan.stop_timeout),
            Event::Disconnected { worker, cause } => {
                self.worker(*worker).is_connected = false;
                if let Disconnect::Violation { .. } = cause {
                    self.begins_to_leave(now, *worker, Duration::ZERO);
                    let worker = self.worker(*worker);
                    worker.is_outlaw = true;
                    worker.term_due = worker.term_due.map(|due| due.min(now));
                } else {
                    self.begins_to_leave(now, *worker, Duration::from_secs(1));
                }
            }
            Event::Exited { worker, .. } => {
                self.loses_seat(now, *worker);
                let worker = self.worker(*worker);
                worker.standing = Standing::Gone;
                worker.term_due = None;
                worker.kill_due = None;
            }
            Event::ListenersClosed => self.listeners_closed(now),
            Event::Stop(how) => self.asked_to_stop(now, *how),
        }
    }

    fn is_called(&mut self, now: Instant) {
        let asleep = now - self.called_at.replace(now).unwrap_or(now);
        self.awake += asleep.min(self.period());
    }

    /// The time between two pings, for the timeouts that the world has.
    fn period(&self) -> Duration {
        self.plan.hang_timeout.unwrap_or_default() / 4
    }

    fn begins_to_leave(&mut self, now: Instant, id: WorkerId, patience: Duration) {
        if matches!(
            self.worker(id).standing,
            Standing::Starting | Standing::Serving
        ) {
            self.loses_seat(now, id);
            let worker = self.worker(id);
            worker.standing = Standing::Leaving;
            worker.term_due = Some(now + patience);
        }
    }

    /// The incumbent failed: if the cluster is up, its successor is due after the back-off.
    fn loses_seat(&mut self, now: Instant, id: WorkerId) {
        let worker = &self.workers[&id];
        if matches!(worker.standing, Standing::Leaving) {
            return;
        }
        let served = worker
            .ready_at
            .map_or(Duration::ZERO, |ready_at| now - ready_at);
        let role = worker.role;
        let seat = self
            .seats
            .get_mut(&(role, worker.slot))
            .expect("it was spawned into it");
        match (self.era, &self.plan.restart) {
            (Era::Boot, _) => {
                self.era = Era::Ending {
                    how: Stop::Graceful,
                    cause: match role {
                        Role::Agent => StopCause::AgentStart,
                        Role::Worker => StopCause::WorkerStart,
                    },
                    since: now,
                };
            }
            (Era::Up, Restart::Always { backoff, .. }) => {
                if served >= backoff.healthy_after {
                    seat.row = 0;
                }
                let exponent = i32::try_from(seat.row).expect("not so many");
                let delay = backoff
                    .first
                    .mul_f64(1.5_f64.powi(exponent))
                    .min(backoff.max);
                seat.row += 1;
                seat.due = Some(now + delay);
            }
            (Era::Up, Restart::Never) => seat.is_parked = true,
            (Era::Before | Era::Ending { .. } | Era::Over(_), _) => {}
        }
    }

    fn asked_to_stop(&mut self, now: Instant, how: Stop) {
        let (cause, since) = (StopCause::Asked, now);
        match &mut self.era {
            Era::Before => {
                // There is nothing to serve yet.
                self.listeners = Listeners::Closed;
                self.era = Era::Ending { how, cause, since };
            }
            Era::Boot | Era::Up => self.era = Era::Ending { how, cause, since },
            Era::Ending { how, .. } => *how = Stop::Fast,
            Era::Over(_) => {}
        }
    }

    fn listeners_closed(&mut self, now: Instant) {
        if let Listeners::Closing { .. } = self.listeners {
            self.workers_turn(now);
        }
    }

    fn workers_turn(&mut self, now: Instant) {
        let deadline = match self.listeners {
            Listeners::Closing { deadline } => deadline,
            Listeners::Open | Listeners::Closed => now + self.plan.stop_timeout,
        };
        self.listeners = Listeners::Closed;
        self.leave_by(Role::Worker, deadline.max(now));
        self.may_be_agents_turn(now);
    }

    /// A graceful stop has a deadline for all of a role, whoever began to leave before.
    fn leave_by(&mut self, role: Role, deadline: Instant) {
        for worker in self.workers.values_mut() {
            if worker.role == role && worker.standing == Standing::Leaving {
                worker.term_due = worker.term_due.map(|due| due.min(deadline));
            }
        }
    }

    fn may_be_agents_turn(&mut self, now: Instant) {
        let is_ending = matches!(self.era, Era::Ending { .. });
        if is_ending && self.listeners == Listeners::Closed && self.alive(Role::Worker) == 0 {
            self.leave_by(Role::Agent, now + self.plan.stop_timeout);
        }
    }

    fn worker(&mut self, id: WorkerId) -> &mut Worker {
        self.workers
            .get_mut(&id)
            .expect("only the spawned have events")
    }
}

/// What was done about it.
impl Oracle {
    pub(crate) fn action(&mut self, now: Instant, action: &Action) {
        assert!(
            !matches!(self.era, Era::Over(_)),
            "nothing happens after the end"
        );
        match action {
            Action::Spawn {
                worker, slot, role, ..
            } => self.spawn(now, *worker, *slot, *role),
            Action::Enter { worker } => {
                let worker = self.known(*worker);
                assert_eq!(worker.role, Role::Worker, "agents do not enter");
                assert_eq!(worker.standing, Standing::Serving, "only the ready enter");
            }
            Action::Leave { worker } => {
                let worker = self.known(*worker);
                assert_eq!(worker.role, Role::Worker, "agents do not leave");
            }
            Action::AnnounceReady { worker } => {
                let worker = self.known(*worker);
                assert_eq!(
                    worker.standing,
                    Standing::Serving,
                    "only the ready are told"
                );
                assert!(!worker.is_announced, "told once");
                worker.is_announced = true;
            }
            Action::Ping { worker, token } => {
                assert!(self.plan.hang_timeout.is_some(), "nobody wants that");
                let since = self.awake;
                let worker = self.known(*worker);
                assert_eq!(worker.standing, Standing::Serving, "only those are asked");
                assert!(
                    matches!(worker.answer, Answer::Given { .. }),
                    "asked before it has answered"
                );
                worker.asked = *token;
                worker.answer = Answer::Owed { since };
            }
            Action::CloseListeners => self.close_listeners(now),
            Action::AbandonListeners => {
                self.begin_ending(now);
                assert_ne!(self.listeners, Listeners::Closed, "closed once");
                let is_late = match self.listeners {
                    Listeners::Closing { deadline } => deadline <= now,
                    Listeners::Open | Listeners::Closed => false,
                };
                let is_right = self.is_fast() || is_late || !self.can_serve();
                assert!(is_right, "no patience with the backlog");
                self.workers_turn(now);
            }
            Action::Drain { worker, within } => self.drain(now, *worker, *within),
            Action::Signal { worker, signal } => match signal {
                Signal::Terminate => self.terminate(now, *worker),
                Signal::Abort => self.abort(now, *worker),
                Signal::Kill => self.kill(now, *worker),
            },
            Action::Forget { worker } => {
                let worker = self.known(*worker);
                assert_eq!(
                    worker.standing,
                    Standing::Gone,
                    "only the dead are forgotten"
                );
                worker.standing = Standing::Forgotten;
                if worker.role == Role::Worker {
                    self.may_be_agents_turn(now);
                }
            }
            Action::Notify(notice) => self.notice(now, notice),
            Action::Finish { code } => self.finish(*code),
        }
    }

    fn spawn(&mut self, now: Instant, id: WorkerId, slot: Slot, role: Role) {
        let slots = match role {
            Role::Worker => self.plan.workers,
            Role::Agent => self.plan.agents,
        };
        assert!(slot.0 < slots, "there is no such slot");
        let has_incumbent = self.workers.values().any(|other| {
            (other.role, other.slot) == (role, slot)
                && matches!(
                    other.standing,
                    Standing::Ordered | Standing::Starting | Standing::Serving
                )
        });
        assert!(!has_incumbent, "two incumbents in one slot");
        let is_alone = role == Role::Worker || !self.is_occupied(role, slot);
        assert!(is_alone, "two agents in one slot");
        let is_served = |slot| {
            let mut workers = self.workers.values();
            workers.any(|it| {
                (it.role, it.slot, it.standing) == (Role::Agent, Slot(slot), Standing::Serving)
            })
        };
        let seat = self.seats.entry((role, slot)).or_default();
        match self.era {
            Era::Boot => {
                assert_eq!(seat.spawns, 0, "no second try while the cluster starts");
                let agents_serve = (0..self.plan.agents).all(is_served);
                assert!(role == Role::Agent || agents_serve, "agents first");
            }
            Era::Up => {
                let due = seat.due.take().expect("a restart that was due");
                assert!(due <= now, "too early");
                assert!(!seat.is_parked, "a parked slot stays empty");
                self.restarts.entry(role).or_default().push(now);
            }
            Era::Before | Era::Ending { .. } | Era::Over(_) => panic!("nobody is wanted"),
        }
        seat.spawns += 1;
        let worker = Worker {
            role,
            slot,
            standing: Standing::Ordered,
            pid: None,
            is_connected: true,
            is_outlaw: false,
            is_announced: false,
            is_drained: false,
            spawn_due: now + SPAWN_TIMEOUT,
            term_due: None,
            kill_due: None,
            signals: Vec::new(),
            ready_at: None,
            asked: 0,
            answer: Answer::Given { at: Duration::ZERO },
            is_unmoved: false,
            hangs_told: 0,
            disconnects_told: 0,
            exits_told: 0,
        };
        assert!(
            self.workers.insert(id, worker).is_none(),
            "ids are not reused"
        );
        assert!(
            self.restarts_lately(now, role) <= self.limit(),
            "too many restarts"
        );
    }

    fn close_listeners(&mut self, now: Instant) {
        self.begin_ending(now);
        assert_eq!(self.listeners, Listeners::Open, "closed once");
        assert!(!self.is_fast());
        let deadline = now + self.plan.stop_timeout;
        self.listeners = Listeners::Closing { deadline };
    }

    /// The supervisor stops: had it a reason to?
    fn begin_ending(&mut self, now: Instant) {
        if self.era != Era::Up {
            assert!(
                matches!(self.era, Era::Ending { .. }),
                "nobody wants it to end"
            );
            return;
        }
        let is_too_much =
            |role| self.is_any_due(now, role) && self.restarts_lately(now, role) >= self.limit();
        let is_empty = !self.workers.values().any(|worker| {
            worker.role == Role::Worker
                && !matches!(worker.standing, Standing::Gone | Standing::Forgotten)
        });
        let is_parked = |slot| {
            let seat = self.seats.get(&(Role::Worker, Slot(slot)));
            seat.is_some_and(|seat| seat.is_parked)
        };
        let is_deserted = is_empty && (0..self.plan.workers).all(is_parked);
        let may_give_up = match self.plan.restart {
            Restart::Always {
                on_crash_loop: OnCrashLoop::Exit,
                ..
            } => is_too_much(Role::Agent) || is_too_much(Role::Worker),
            Restart::Never | Restart::Always { .. } => is_deserted,
        };
        assert!(may_give_up, "gave up without need");
        self.era = Era::Ending {
            how: Stop::Graceful,
            cause: StopCause::CrashLoop,
            since: now,
        };
    }

    fn drain(&mut self, now: Instant, id: WorkerId, within: Duration) {
        assert!(matches!(
            self.era,
            Era::Ending {
                how: Stop::Graceful,
                ..
            }
        ));
        assert_eq!(self.listeners, Listeners::Closed, "first the listeners");
        assert!(within <= self.plan.stop_timeout);
        let role = self.known(id).role;
        if role == Role::Agent {
            assert_eq!(self.alive(Role::Worker), 0, "agents leave last");
            assert_eq!(within, self.plan.stop_timeout);
            let slot = self.known(id).slot;
            let mut agents = self.workers.values().filter(|it| it.role == role);
            let is_first = agents.all(|it| it.standing != Standing::Serving || it.slot <= slot);
            assert!(is_first, "agents leave in reverse order");
        } else if let Era::Ending { since, .. } = self.era {
            assert_eq!(
                now + within,
                now.max(since + self.plan.stop_timeout),
                "one deadline"
            );
        }
        let worker = self.known(id);
        assert_eq!(worker.standing, Standing::Serving);
        assert!(!worker.is_drained, "asked once");
        worker.is_drained = true;
        worker.standing = Standing::Leaving;
        worker.term_due = Some(now + within);
    }

    fn terminate(&mut self, now: Instant, id: WorkerId) {
        let (era, is_listening) = (self.era, self.listeners != Listeners::Closed);
        let kill_due = now + self.plan.kill_timeout;
        let is_agents_turn = self.alive(Role::Worker) == 0;
        let worker = self.known(id);
        assert!(worker.pid.is_some(), "there is nobody to signal");
        assert_ne!(worker.standing, Standing::Gone, "nobody signals the dead");
        assert_eq!(worker.signals, [], "SIGTERM once");
        let is_overdue = worker.term_due.is_some_and(|due| due <= now);
        let may_be_dismissed = !is_listening && (worker.role == Role::Worker || is_agents_turn);
        let is_forced = match era {
            Era::Ending {
                how: Stop::Fast, ..
            } if may_be_dismissed => false,
            Era::Ending {
                how: Stop::Graceful,
                ..
            } => {
                let is_unready = worker.standing == Standing::Starting;
                assert!(
                    is_overdue || is_unready && may_be_dismissed,
                    "SIGTERM too early"
                );
                worker.standing == Standing::Leaving && !worker.is_outlaw
            }
            Era::Ending { .. } | Era::Before | Era::Boot | Era::Up | Era::Over(_) => {
                assert!(is_overdue, "SIGTERM too early");
                false
            }
        };
        worker.signals.push(Signal::Terminate);
        worker.term_due = None;
        worker.kill_due = Some(kill_due);
        if matches!(worker.standing, Standing::Starting | Standing::Serving) {
            self.loses_seat(now, id);
            self.known(id).standing = Standing::Leaving;
        }
        self.is_forced |= is_forced;
    }

    /// It was told that it hangs, and just now.
    fn abort(&mut self, now: Instant, id: WorkerId) {
        let kill_due = now + self.plan.kill_timeout;
        let worker = self.known(id);
        assert_eq!(worker.signals, [], "SIGABRT instead of SIGTERM");
        assert_eq!(worker.hangs_told, 1, "SIGABRT without a reason");
        worker.signals.push(Signal::Abort);
        worker.kill_due = Some(kill_due);
    }

    fn kill(&mut self, now: Instant, id: WorkerId) {
        let worker = self.known(id);
        assert_ne!(worker.standing, Standing::Gone, "nobody signals the dead");
        assert!(
            matches!(worker.signals[..], [Signal::Terminate | Signal::Abort]),
            "SIGKILL once, after something kinder"
        );
        assert!(
            worker.kill_due.is_some_and(|due| due <= now),
            "SIGKILL too early"
        );
        worker.kill_due = None;
        worker.signals.push(Signal::Kill);
        self.is_forced |= matches!(self.era, Era::Ending { .. });
    }

    fn notice(&mut self, now: Instant, notice: &Notice) {
        match notice {
            Notice::ClusterReady {
                workers, agents, ..
            } => {
                assert!(!self.announced, "the cluster becomes ready once");
                assert_eq!((*workers, *agents), (self.plan.workers, self.plan.agents));
                self.announced = true;
                self.era = Era::Up;
            }
            Notice::Hung { who, symptom, next } => self.hung(now, who.worker, *symptom, *next),
            Notice::Disconnected { who, .. } => {
                let worker = self.known(who.worker);
                assert!(!worker.is_connected);
                worker.disconnects_told += 1;
                assert_eq!((worker.disconnects_told, worker.exits_told), (1, 0));
            }
            Notice::Exited {
                who,
                next,
                expected,
                ..
            } => {
                let seat_due = self.seats[&(who.role, who.slot)].due;
                let worker = self.known(who.worker);
                assert_eq!(who.pid, worker.pid);
                worker.exits_told += 1;
                assert_eq!(worker.exits_told, 1);
                assert!(
                    next.is_none() || !expected,
                    "an expected exit needs no explanation"
                );
                if let Some(Next::RestartIn(delay)) = next {
                    assert_eq!(now + *delay, seat_due.expect("a restart is due"));
                }
            }
            Notice::Parked { role, slot } => {
                let room = self.restarts_lately(now, *role) < self.limit();
                assert!(!room, "parked although there is room");
                let seat = self.seats.get_mut(&(*role, *slot)).expect("a seat");
                assert!(seat.due.take().is_some_and(|due| due <= now));
                seat.is_parked = true;
            }
            Notice::RestartLimitReached { role, .. } => {
                assert!(self.restarts_lately(now, *role) >= self.limit());
            }
            Notice::SpawnFailed { who, next, .. } => self.not_spawned(now, *who, *next),
            Notice::Spawned { .. }
            | Notice::Online { .. }
            | Notice::Ready { .. }
            | Notice::ReadyTimeout { .. }
            | Notice::Goodbye { .. }
            | Notice::Terminating { .. }
            | Notice::Killing { .. }
            | Notice::Stopping { .. } => {}
            _ => panic!("nobody asked for that: {notice:?}"),
        }
    }

    /// If nobody said so, the time for that must have passed.
    fn not_spawned(&mut self, now: Instant, who: Who, next: Next) {
        let is_ending = matches!(self.era, Era::Ending { .. });
        let worker = self.known(who.worker);
        if worker.standing == Standing::Ordered {
            let waited = now + SPAWN_TIMEOUT - worker.spawn_due;
            let is_over = worker.spawn_due <= now || is_ending && waited >= SPAWN_GRACE;
            assert!(is_over, "the spawner may still answer");
            self.loses_seat(now, who.worker);
            self.known(who.worker).standing = Standing::Gone;
        }
        if let Next::RestartIn(delay) = next {
            assert_eq!(self.seats[&(who.role, who.slot)].due, Some(now + delay));
        }
    }

    /// Had it the time to show that it does not?
    fn hung(&mut self, now: Instant, id: WorkerId, symptom: Symptom, next: Next) {
        let (awake, timeout) = (self.awake, self.plan.hang_timeout);
        let worker = self.known(id);
        assert_eq!(worker.standing, Standing::Serving, "only those can hang");
        match (symptom, worker.answer) {
            (Symptom::Silent { .. }, Answer::Owed { since }) => {
                let is_overdue = timeout.is_some_and(|timeout| awake - since >= timeout);
                assert!(is_overdue, "given up too early");
            }
            (Symptom::Silent { .. }, Answer::Given { .. }) => panic!("it has answered"),
            (Symptom::Unmoved { .. }, _) => assert!(worker.is_unmoved, "nobody said so"),
        }
        worker.hangs_told += 1;
        self.loses_seat(now, id);
        let worker = self.known(id);
        worker.standing = Standing::Leaving;
        let (role, slot) = (worker.role, worker.slot);
        if let Next::RestartIn(delay) = next {
            assert_eq!(self.seats[&(role, slot)].due, Some(now + delay));
        }
    }

    fn finish(&mut self, code: ExitCode) {
        let Era::Ending { cause, .. } = self.era else {
            panic!("nobody wants it to end");
        };
        let expected = match cause {
            StopCause::AgentStart => ExitCode::AgentStart,
            StopCause::WorkerStart => ExitCode::WorkerStart,
            StopCause::CrashLoop => ExitCode::CrashLoop,
            StopCause::Unhealthy => ExitCode::Unhealthy,
            StopCause::Done => ExitCode::Clean,
            StopCause::Asked if self.is_forced => ExitCode::ForcedKill,
            StopCause::Asked => ExitCode::Clean,
        };
        assert_eq!(code, expected);
        assert_eq!(self.listeners, Listeners::Closed, "a listener is left open");
        let alive = self.alive(Role::Worker) + self.alive(Role::Agent);
        assert_eq!(alive, 0, "nobody is left behind");
        self.era = Era::Over(code);
    }

    /// An action is only ever about somebody who is not forgotten.
    fn known(&mut self, id: WorkerId) -> &mut Worker {
        let worker = self
            .workers
            .get_mut(&id)
            .expect("nobody was spawned under this id");
        assert_ne!(worker.standing, Standing::Forgotten, "{id} is forgotten");
        worker
    }
}

/// How it looks when everything was done.
impl Oracle {
    pub(crate) fn settled(&self, now: Instant, supervisor: &Supervisor, rotation: &Rotation) {
        for (&id, worker) in &self.workers {
            let is_serving = worker.standing == Standing::Serving;
            assert_ne!(worker.standing, Standing::Gone, "{id} is not forgotten");
            assert_eq!(supervisor.is_serving(id), is_serving, "{id}");
            let rotates = is_serving && worker.role == Role::Worker;
            assert_eq!(rotation.contains(id), rotates, "{id} in the rotation");
            let is_told = is_serving && self.era == Era::Up;
            assert!(worker.is_announced || !is_told, "{id} was not told");
            if worker.standing != Standing::Forgotten {
                let is_known = worker.standing != Standing::Ordered || worker.spawn_due > now;
                assert!(is_known, "{id} is waited for");
                assert!(
                    worker.term_due.is_none_or(|due| due > now),
                    "{id} needs SIGTERM"
                );
                assert!(
                    worker.kill_due.is_none_or(|due| due > now),
                    "{id} needs SIGKILL"
                );
                assert!(
                    !(worker.is_outlaw && worker.signals.is_empty()),
                    "{id} is an outlaw"
                );
                assert!(
                    !(worker.is_unmoved && worker.signals.is_empty()),
                    "{id} hangs"
                );
            }
            if is_serving {
                self.is_asked(worker);
            }
        }
        self.nothing_is_forgotten(now, supervisor);
        self.the_stage_fits(supervisor);
    }

    /// Whoever serves is asked, and not for ever. A beat may come late, and one that follows a pause
    /// comes with a period that the supervisor slept through.
    fn is_asked(&self, worker: &Worker) {
        let longest_beat = self.period() * 2 + LATENESS_MAX;
        let (since, beats) = match worker.answer {
            Answer::Given { at } => (at, 1),
            Answer::Owed { since } => (since, 4),
        };
        assert!(
            self.plan.hang_timeout.is_none() || self.awake - since <= longest_beat * beats,
            "nobody cares whether it lives: {worker:?}"
        );
    }

    /// Every wait has a deadline, and time that does not pass changes nothing.
    fn nothing_is_forgotten(&self, now: Instant, supervisor: &Supervisor) {
        let next_deadline = supervisor.next_deadline();
        assert!(
            next_deadline.is_none_or(|it| it > now),
            "a deadline was not met"
        );
        let of_workers = self
            .workers
            .values()
            .filter(|worker| worker.standing != Standing::Forgotten)
            .flat_map(|worker| [worker.term_due, worker.kill_due])
            .flatten();
        let of_listeners = match self.listeners {
            Listeners::Closing { deadline } => Some(deadline),
            Listeners::Open | Listeners::Closed => None,
        };
        for due in of_workers.chain(of_listeners) {
            assert!(
                next_deadline.is_some_and(|it| it <= due),
                "no alarm for {:?}",
                due - now
            );
        }
        if self.era == Era::Up {
            for role in [Role::Agent, Role::Worker] {
                let first_due = self.first_due(role);
                let moment = match first_due {
                    Some(due) if due <= now => self.window_opens_at(now, role).or(first_due),
                    due => due,
                };
                assert!(moment.is_none_or(|it| it > now), "a restart is overdue");
                let is_set = |moment| next_deadline.is_some_and(|it| it <= moment);
                assert!(moment.is_none_or(is_set), "no alarm for a restart");
            }
        }
    }

    fn the_stage_fits(&self, supervisor: &Supervisor) {
        let fits = match supervisor.stage() {
            Stage::Idle => self.era == Era::Before,
            Stage::Booting { .. } => self.era == Era::Boot,
            Stage::Serving => self.era == Era::Up,
            Stage::Closing { .. } => {
                matches!(self.listeners, Listeners::Closing { .. }) && self.can_serve()
            }
            Stage::Stopping { .. } => {
                matches!(self.era, Era::Ending { .. }) && self.listeners == Listeners::Closed
            }
            Stage::Finished => matches!(self.era, Era::Over(_)),
        };
        assert!(fits, "{:?} does not fit {:?}", supervisor.stage(), self.era);
    }

    /// Everybody behaved for long enough: is everybody there who is not given up?
    pub(crate) fn has_recovered(&self) {
        let parked = self.seats.values().filter(|seat| seat.is_parked).count();
        let serving = self
            .workers
            .values()
            .filter(|worker| worker.standing == Standing::Serving)
            .count();
        let wanted = (self.plan.workers + self.plan.agents) as usize;
        assert_eq!(serving + parked, wanted, "the cluster has not recovered");
    }

    /// How many were found to hang.
    pub(crate) fn hangs(&self) -> u32 {
        self.workers.values().map(|worker| worker.hangs_told).sum()
    }

    /// Whether it exists and has yet to become ready, so that a `Ready` would count.
    pub(crate) fn is_starting(&self, id: WorkerId) -> bool {
        let worker = self.workers.get(&id);
        worker.is_some_and(|worker| worker.standing == Standing::Starting)
    }

    /// Whether there is a worker for what waits in the backlogs, or will be.
    fn can_serve(&self) -> bool {
        self.workers.values().any(|worker| {
            worker.role == Role::Worker
                && matches!(
                    worker.standing,
                    Standing::Ordered | Standing::Starting | Standing::Serving
                )
        })
    }

    fn alive(&self, role: Role) -> usize {
        let is_alive = |worker: &&Worker| {
            worker.role == role && !matches!(worker.standing, Standing::Gone | Standing::Forgotten)
        };
        self.workers.values().filter(is_alive).count()
    }

    fn is_fast(&self) -> bool {
        matches!(
            self.era,
            Era::Ending {
                how: Stop::Fast,
                ..
            }
        )
    }

    fn is_any_due(&self, now: Instant, role: Role) -> bool {
        self.first_due(role).is_some_and(|due| due <= now)
    }

    /// When the next restart comes of those that nothing stands in the way of.
    fn first_due(&self, role: Role) -> Option<Instant> {
        let seats = self.seats.iter().filter(|((of, _), _)| *of == role);
        seats
            .filter(|((_, slot), _)| role == Role::Worker || !self.is_occupied(role, *slot))
            .filter_map(|(_, seat)| seat.due)
            .min()
    }

    /// Whether there is a process, even if it leaves.
    fn is_occupied(&self, role: Role, slot: Slot) -> bool {
        self.workers.values().any(|worker| {
            (worker.role, worker.slot) == (role, slot)
                && !matches!(worker.standing, Standing::Gone | Standing::Forgotten)
        })
    }

    fn limit(&self) -> usize {
        match self.plan.restart {
            Restart::Never => 0,
            Restart::Always { limit, .. } => limit.count as usize,
        }
    }

    pub(crate) fn restarts(&self) -> usize {
        self.restarts.values().map(Vec::len).sum()
    }

    fn restarts_of(&self, role: Role) -> &[Instant] {
        self.restarts.get(&role).map_or(&[], Vec::as_slice)
    }

    fn restarts_lately(&self, now: Instant, role: Role) -> usize {
        let Restart::Always { limit, .. } = self.plan.restart else {
            return 0;
        };
        let is_late = |it: &&Instant| **it + limit.window > now;
        let restarts = self.restarts_of(role).iter().rev();
        restarts.take_while(is_late).count()
    }

    /// If it is full, and restarts are to wait for it.
    fn window_opens_at(&self, now: Instant, role: Role) -> Option<Instant> {
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

/// So long may the spawner take, and so long at the end.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(120);
const SPAWN_GRACE: Duration = Duration::from_secs(5);
