//! The oracle: what has to be true of a supervisor, whatever happens.
//!
//! It sees what the supervisor sees and what it does, and keeps its own, simpler books: facts and
//! promises with a time, no plan of what to do. Everything it finds wrong is a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rr_master::ExitCode;
use rr_master::dispatch::Rotation;
use rr_master::supervisor::*;
use worker_proto::ids::{Generation, Role, Slot, WorkerId};

use self::reload::{Reload, Way};
use crate::operator::Order;
use crate::tally::{Feat, Tally};
use crate::world::LATENESS_MAX;

mod change;
mod reload;
mod seats;

pub(crate) struct Oracle {
    plan: Plan,
    pub(crate) era: Era,
    /// Those that are not forgotten.
    workers: BTreeMap<WorkerId, Worker>,
    latest: WorkerId,
    seats: BTreeMap<(Role, Slot), Seat>,
    /// The one that everybody is of, as long as nothing is rolled out.
    generation: Generation,
    newest: Generation,
    reload: Option<Reload>,
    /// See [`Oracle::blur`].
    is_blurred: bool,
    /// See [`Oracle::is_unsure`].
    unsure_until: Option<Instant>,
    /// When it is given up if too few go on serving.
    ailing: Option<Instant>,
    pub(crate) tally: Tally,
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
    generation: Generation,
    part: Part,
    standing: Standing,
    born_at: Option<Instant>,
    is_in_rotation: bool,
    /// It has to be replaced, and from when on.
    worn: Option<(Wear, Instant)>,
    /// It has ended, by itself and not well.
    is_failure: bool,
    /// A rollout came between, so its turn may come before that.
    is_disturbed: bool,
    /// Somebody wanted it replaced, and no successor has failed since.
    is_asked_for: bool,
    /// Its successor has taken over, so the renewal lasts until it is gone.
    is_replaced: bool,
    /// It is of a generation that was rolled back, but its successor failed.
    is_kept: bool,
    is_retired: bool,
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
    /// Whether it is to get its stop signal, or has got it.
    stop_signal: StopSignal,
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

/// What it is for its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Incumbent,
    /// Not ready yet. `None`: it is there for a rollout, or for somebody who is gone.
    Successor {
        why: Option<Wear>,
    },
    /// Ready, and watched until then.
    Canary {
        until: Instant,
    },
    /// Nobody wants it any more.
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ordered,
    Starting,
    Serving,
    Leaving,
    /// Reaped, or never there.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopSignal {
    Unsent,
    Due,
    Sent,
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
    /// Somebody wore out in it.
    has_worn: bool,
    /// Who was the last in it, if nobody is ever restarted.
    last: Option<WorkerId>,
    due: Option<Instant>,
    /// Whose place that restart would take.
    after: Option<WorkerId>,
    /// Its next process is no restart.
    is_fresh: bool,
    /// It has passed to the generation that is rolled out.
    is_passed: bool,
    parked: Option<Parked>,
}

/// Why a slot stays empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parked {
    GaveUp,
    Done,
    Hopeless,
    Drained,
}

/// How somebody came to serve no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Failure,
    Retirement,
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
            latest: WorkerId(0),
            seats: BTreeMap::new(),
            generation: Generation(1),
            newest: Generation(1),
            reload: None,
            is_blurred: false,
            unsure_until: None,
            ailing: None,
            tally: Tally::default(),
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
                worker.born_at = Some(now);
                worker.term_due = Some(due);
            }
            Event::SpawnFailed { worker, .. } => {
                self.loses_seat(now, *worker, Loss::Failure);
                self.worker(*worker).standing = Standing::Gone;
            }
            Event::Online { .. } | Event::Tick => {}
            Event::Worn { .. } => {}
            Event::Retiring { worker, .. } => {
                let id = *worker;
                if matches!(
                    self.worker(id).standing,
                    Standing::Starting | Standing::Serving
                ) {
                    self.tally.saw(Feat::Retirement);
                    // Nobody serves meanwhile who was not ready: that is a failure like any other.
                    let was_serving = self.worker(id).standing == Standing::Serving;
                    let loss = if was_serving {
                        Loss::Retirement
                    } else {
                        Loss::Failure
                    };
                    self.loses_seat(now, id, loss);
                    let patience = self.plan.stop_timeout;
                    let worker = self.worker(id);
                    worker.is_retired = true;
                    worker.standing = Standing::Leaving;
                    worker.term_due = Some(now + patience);
                }
            }
            Event::Ready { worker } => {
                let id = *worker;
                let worker = self.worker(id);
                if worker.standing == Standing::Starting {
                    worker.standing = Standing::Serving;
                    worker.ready_at = Some(now);
                    worker.term_due = None;
                    worker.answer = Answer::Given { at: awake };
                    self.may_succeed(now, id);
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
            Event::Idle { worker } => {
                let worker = self.worker(*worker);
                let is_free = worker.standing == Standing::Leaving && worker.signals.is_empty();
                if is_free && worker.stop_signal == StopSignal::Unsent {
                    worker.stop_signal = StopSignal::Due;
                }
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
            Event::Exited { worker, status } => {
                self.ends(*worker, *status);
                self.loses_seat(now, *worker, Loss::Failure);
                self.heeds_exit_code(*worker, *status);
                let worker = self.worker(*worker);
                worker.standing = Standing::Gone;
                worker.term_due = None;
                worker.kill_due = None;
            }
            Event::ListenersClosed => self.listeners_closed(now),
            Event::Stop(how) => self.asked_to_stop(now, *how),
        }
    }

    /// Whoever is left alone ends well, or the end is not a clean one.
    fn ends(&mut self, id: WorkerId, status: ExitStatus) {
        let is_failure = match status {
            ExitStatus::Code(code) => code != 0 && !self.plan.stop_exit_codes.contains(&code),
            ExitStatus::Signal { .. } => true,
        };
        let is_ending = matches!(self.era, Era::Ending { .. });
        let worker = self.worker(id);
        worker.is_failure =
            is_failure && worker.signals.is_empty() && worker.stop_signal != StopSignal::Sent;
        let is_failure = worker.is_failure;
        let was_ready = worker.ready_at.is_some();
        self.is_forced |= is_ending && is_failure && was_ready;
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
            self.loses_seat(now, id, Loss::Failure);
            let worker = self.worker(id);
            worker.standing = Standing::Leaving;
            worker.term_due = Some(now + patience);
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
                worker,
                slot,
                generation,
                role,
            } => self.spawn(now, *worker, (*role, *slot), *generation),
            Action::Enter { worker } => {
                let worker = self.known(*worker);
                assert_eq!(worker.role, Role::Worker, "agents do not enter");
                assert_eq!(worker.standing, Standing::Serving, "only the ready enter");
                worker.is_in_rotation = true;
                let was_spare = worker.ready_at.is_some_and(|ready_at| ready_at < now);
                if was_spare && worker.part == Part::Incumbent {
                    self.tally.saw(Feat::Promotion);
                }
            }
            Action::Leave { worker } => {
                let worker = self.known(*worker);
                assert_eq!(worker.role, Role::Worker, "agents do not leave");
                worker.is_in_rotation = false;
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
                assert!(matches!(self.era, Era::Ending { .. }), "nobody said so");
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
                Signal::Ask => {
                    let worker = self.known(*worker);
                    assert_eq!(
                        worker.stop_signal,
                        StopSignal::Due,
                        "asked without a reason"
                    );
                    assert_eq!(worker.signals, [], "asked after it was made to");
                    worker.stop_signal = StopSignal::Sent;
                }
                Signal::Terminate => self.terminate(now, *worker),
                Signal::Abort => self.abort(now, *worker),
                Signal::Kill => self.kill(now, *worker),
            },
            Action::Forget { worker } => {
                let id = *worker;
                let worker = self.known(id);
                assert_eq!(
                    worker.standing,
                    Standing::Gone,
                    "only the dead are forgotten"
                );
                let role = worker.role;
                self.workers.remove(&id);
                if role == Role::Worker {
                    self.may_be_agents_turn(now);
                }
            }
            Action::Notify(notice) => self.notice(now, notice),
            Action::Finish { code } => self.finish(*code),
        }
    }

    fn spawn(
        &mut self,
        now: Instant,
        id: WorkerId,
        (role, slot): (Role, Slot),
        generation: Generation,
    ) {
        assert!(slot.0 < self.slots(role), "there is no such slot");
        let part = match self.era {
            Era::Boot => {
                let agents_serve = (0..self.plan.agents).all(|slot| self.serves(Role::Agent, slot));
                assert!(role == Role::Agent || agents_serve, "agents first");
                assert_eq!(generation, Generation(1));
                let seat = self.seats.entry((role, slot)).or_default();
                assert_eq!(seat.spawns, 0, "no second try while the cluster starts");
                Part::Incumbent
            }
            Era::Up => self.part_of_new(now, (role, slot), generation),
            Era::Before | Era::Ending { .. } | Era::Over(_) => panic!("nobody is wanted"),
        };
        let seat = self.seats.get_mut(&(role, slot)).expect("a seat");
        seat.spawns += 1;
        let worker = Worker {
            role,
            slot,
            generation,
            part,
            standing: Standing::Ordered,
            born_at: None,
            is_in_rotation: false,
            worn: None,
            is_failure: false,
            is_disturbed: false,
            is_asked_for: false,
            is_replaced: false,
            is_kept: false,
            is_retired: false,
            pid: None,
            is_connected: true,
            is_outlaw: false,
            is_announced: false,
            is_drained: false,
            spawn_due: now + SPAWN_TIMEOUT,
            term_due: None,
            kill_due: None,
            stop_signal: StopSignal::Unsent,
            signals: Vec::new(),
            ready_at: None,
            asked: 0,
            answer: Answer::Given { at: Duration::ZERO },
            is_unmoved: false,
            hangs_told: 0,
            disconnects_told: 0,
            exits_told: 0,
        };
        assert!(id > self.latest, "ids are not reused");
        self.latest = id;
        self.workers.insert(id, worker);
        assert!(
            self.is_unsure(now, role) || self.restarts_lately(now, role) <= self.limit(),
            "too many restarts"
        );
    }

    fn close_listeners(&mut self, now: Instant) {
        assert!(matches!(self.era, Era::Ending { .. }), "nobody said so");
        assert_eq!(self.listeners, Listeners::Open, "closed once");
        assert!(!self.is_fast());
        let deadline = now + self.plan.stop_timeout;
        self.listeners = Listeners::Closing { deadline };
    }

    /// The supervisor stops: has it a reason to?
    fn stopping(&mut self, now: Instant, cause: StopCause) {
        if let Era::Ending { cause: known, .. } = self.era {
            assert_eq!(cause, known, "the first reason counts");
            return;
        }
        assert_eq!(self.era, Era::Up, "nobody wants it to end");
        let is_right = match cause {
            StopCause::Asked | StopCause::AgentStart | StopCause::WorkerStart => false,
            StopCause::CrashLoop => {
                self.is_crash_loop(now) || self.is_deserted() && !self.is_done()
            }
            StopCause::Done => self.is_deserted() && self.is_done(),
            StopCause::Unhealthy => {
                self.tally.saw(Feat::Unhealthy);
                !self.is_healthy() && self.ailing.is_some_and(|it| it <= now)
            }
        };
        assert!(
            is_right || self.is_blurred,
            "gave up without need: {cause:?}"
        );
        self.era = Era::Ending {
            how: Stop::Graceful,
            cause,
            since: now,
        };
    }

    /// Too many restarts, and no patience with that.
    fn is_crash_loop(&self, now: Instant) -> bool {
        let is_too_much = |role| {
            let mut dues = self.seats_of(role).filter_map(|seat| seat.due);
            dues.any(|due| due <= now) && !self.has_room(now, role)
        };
        match self.plan.restart {
            Restart::Always {
                on_crash_loop: OnCrashLoop::Exit,
                ..
            } => is_too_much(Role::Agent) || is_too_much(Role::Worker),
            Restart::Never | Restart::Always { .. } => false,
        }
    }

    /// Nobody is left, nobody will come, and no operator wants it so.
    fn is_deserted(&self) -> bool {
        let is_over = |parked: Option<Parked>| parked.is_some_and(|it| it != Parked::Drained);
        self.plan.workers > 0
            && self.alive(Role::Worker) == 0
            && self.seats_of(Role::Worker).all(|seat| is_over(seat.parked))
    }

    fn is_done(&self) -> bool {
        let done = Some(Parked::Done);
        self.seats_of(Role::Worker).all(|seat| seat.parked == done)
    }

    fn is_healthy(&self) -> bool {
        let agents = (0..self.plan.agents).all(|slot| {
            let seat = &self.seats[&(Role::Agent, Slot(slot))];
            let is_over = matches!(seat.parked, Some(Parked::Drained | Parked::Done));
            is_over || self.serves(Role::Agent, slot)
        });
        let least = self.plan.min_workers.min(self.plan.workers);
        agents && self.serving(Role::Worker) >= least as usize
    }

    fn drain(&mut self, now: Instant, id: WorkerId, within: Duration) {
        assert!(within <= self.plan.stop_timeout);
        let worker = self.known(id);
        assert!(!worker.is_drained, "asked once");
        worker.is_drained = true;
        if worker.is_retired {
            assert_eq!(worker.standing, Standing::Leaving);
            assert_eq!(within, self.plan.stop_timeout);
            return;
        }
        assert_eq!(worker.standing, Standing::Serving);
        let is_ending = matches!(
            self.era,
            Era::Ending {
                how: Stop::Graceful,
                ..
            }
        );
        if self.known(id).part == Part::Nobody {
            assert!(self.is_blurred || within == self.plan.stop_timeout);
        } else if is_ending {
            self.drain_at_the_end(now, id, within);
        } else {
            self.is_emptied(now, id);
        }
        let worker = self.known(id);
        worker.standing = Standing::Leaving;
        worker.part = Part::Nobody;
        worker.term_due = Some(now + within);
    }

    fn drain_at_the_end(&mut self, now: Instant, id: WorkerId, within: Duration) {
        assert_eq!(self.listeners, Listeners::Closed, "first the listeners");
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
    }

    fn terminate(&mut self, now: Instant, id: WorkerId) {
        let (era, is_listening) = (self.era, self.listeners != Listeners::Closed);
        let kill_due = now + self.plan.kill_timeout;
        let is_agents_turn = self.alive(Role::Worker) == 0;
        let role = self.known(id).role;
        let is_unsure = self.is_unsure(now, role);
        let is_up = matches!(self.era, Era::Up);
        let worker = self.known(id);
        let is_new = worker.born_at == Some(now) && worker.part == Part::Incumbent;
        let may_be_emptied = is_up || is_listening && is_unsure && is_new;
        let is_unready = worker.standing == Standing::Starting;
        let is_unwanted = worker.part == Part::Nobody && is_unready;
        let is_overdue = worker.term_due.is_some_and(|due| due <= now);
        if may_be_emptied && is_unready && !is_unwanted && !is_overdue && !worker.is_outlaw {
            self.is_emptied(now, id);
        }
        let worker = self.known(id);
        let is_unwanted = worker.part == Part::Nobody && is_unready;
        assert!(worker.pid.is_some(), "there is nobody to signal");
        assert_ne!(worker.standing, Standing::Gone, "nobody signals the dead");
        assert_eq!(worker.signals, [], "SIGTERM once");
        let may_be_dismissed = !is_listening && (worker.role == Role::Worker || is_agents_turn);
        let is_forced = match era {
            Era::Ending {
                how: Stop::Fast, ..
            } if may_be_dismissed => false,
            Era::Ending {
                how: Stop::Graceful,
                ..
            } => {
                assert!(
                    is_overdue || is_unready && (may_be_dismissed || is_unwanted),
                    "SIGTERM too early"
                );
                worker.standing == Standing::Leaving && !worker.is_outlaw
            }
            Era::Ending { .. } | Era::Before | Era::Boot | Era::Up | Era::Over(_) => {
                assert!(is_overdue || is_unwanted, "SIGTERM too early");
                false
            }
        };
        worker.signals.push(Signal::Terminate);
        worker.term_due = None;
        worker.kill_due = Some(kill_due);
        if matches!(worker.standing, Standing::Starting | Standing::Serving) {
            self.loses_seat(now, id, Loss::Failure);
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
            Notice::Hung { who, symptom, next } => self.hung(now, *who, *symptom, *next),
            Notice::Disconnected { who, next, .. } => {
                self.told_next(now, *who, *next);
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
                self.told_next(now, *who, *next);
                let worker = self.known(who.worker);
                assert_eq!(who.pid, worker.pid);
                worker.exits_told += 1;
                assert_eq!(worker.exits_told, 1);
                assert!(
                    next.is_none() || !expected,
                    "an expected exit needs no explanation"
                );
                assert!(!worker.is_failure || !expected, "it failed");
            }
            Notice::Parked { role, slot, .. } => self.is_parked(now, *role, *slot),
            Notice::RestartLimitReached { role, .. } => {
                assert!(!self.has_room(now, *role));
            }
            Notice::SpawnFailed { who, next, .. } => self.not_spawned(now, *who, *next),
            Notice::Goodbye { who, next }
            | Notice::Retiring { who, next, .. }
            | Notice::ReadyTimeout { who, next, .. } => self.told_next(now, *who, Some(*next)),
            Notice::Stopping { cause, .. } => self.stopping(now, *cause),
            Notice::Unhealthy { .. } => assert!(!self.is_healthy(), "it is well"),
            Notice::Worn { who, why, delay } => self.is_worn(now, who.worker, *why, *delay),
            Notice::Replaced { who, by } => self.is_replaced(now, *who, *by),
            Notice::Scaled { .. } | Notice::Reopened { .. } => {}
            Notice::ReloadStarted {
                generation, from, ..
            } => self.reload_starts(*generation, *from),
            Notice::ReloadProgress { renewed, .. } => self.reload_goes_on(now, *renewed),
            Notice::ReloadDone { generation, .. } => self.reload_is_done(*generation),
            Notice::RollingBack { cause, .. } => self.turns_back(now, cause),
            Notice::RolledBack { generation, .. } => self.is_rolled_back(*generation),
            Notice::Spawned { .. }
            | Notice::Online { .. }
            | Notice::Ready { .. }
            | Notice::Terminating { .. }
            | Notice::Killing { .. } => {}
        }
    }

    /// If nobody said so, the time for that must have passed.
    fn not_spawned(&mut self, now: Instant, who: Who, next: Next) {
        let is_ending = matches!(self.era, Era::Ending { .. });
        let may_be_emptied = self.is_unsure(now, who.role);
        let worker = self.known(who.worker);
        if worker.standing == Standing::Ordered {
            let waited = now + SPAWN_TIMEOUT - worker.spawn_due;
            let is_unwanted = is_ending || worker.part == Part::Nobody || may_be_emptied;
            let is_over = worker.spawn_due <= now || is_unwanted && waited >= SPAWN_GRACE;
            assert!(is_over, "the spawner may still answer");
            self.loses_seat(now, who.worker, Loss::Failure);
            self.known(who.worker).standing = Standing::Gone;
            self.tally.saw(Feat::Unanswered);
        }
        self.told_next(now, who, Some(next));
    }

    /// Had it the time to show that it does not?
    fn hung(&mut self, now: Instant, who: Who, symptom: Symptom, next: Next) {
        let (awake, timeout) = (self.awake, self.plan.hang_timeout);
        let worker = self.known(who.worker);
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
        self.tally.saw(Feat::Hang);
        self.loses_seat(now, who.worker, Loss::Failure);
        self.known(who.worker).standing = Standing::Leaving;
        self.told_next(now, who, Some(next));
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
            StopCause::Asked | StopCause::Done if self.is_forced => ExitCode::Unclean,
            StopCause::Asked | StopCause::Done => ExitCode::Clean,
        };
        assert_eq!(code, expected);
        assert_eq!(self.listeners, Listeners::Closed, "a listener is left open");
        let alive = self.alive(Role::Worker) + self.alive(Role::Agent);
        assert_eq!(alive, 0, "nobody is left behind");
        assert!(self.reload.is_none(), "a rollout without an end");
        self.era = Era::Over(code);
    }

    /// An action is only ever about somebody who is not forgotten.
    fn known(&mut self, id: WorkerId) -> &mut Worker {
        self.workers
            .get_mut(&id)
            .expect("it was spawned and is not forgotten")
    }
}

/// How it looks when everything was done.
impl Oracle {
    pub(crate) fn settled(&mut self, now: Instant, supervisor: &Supervisor, rotation: &Rotation) {
        for (&id, worker) in &self.workers {
            let is_serving = worker.standing == Standing::Serving;
            assert_ne!(worker.standing, Standing::Gone, "{id} is not forgotten");
            assert_eq!(supervisor.is_serving(id), is_serving, "{id}");
            assert_eq!(rotation.contains(id), worker.is_in_rotation, "{id}");
            assert!(is_serving || !worker.is_in_rotation, "{id} cannot serve");
            let is_there = is_serving || worker.standing == Standing::Starting;
            let is_wanted = worker.part != Part::Nobody;
            let is_clear = worker.role == Role::Agent || !self.is_blurred;
            let is_odd = is_there && !is_wanted && is_clear;
            assert!(!is_odd, "{id} holds no seat and stays");
            let is_told = is_serving && self.era == Era::Up;
            assert!(worker.is_announced || !is_told, "{id} was not told");
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
                worker.stop_signal != StopSignal::Due || !worker.signals.is_empty(),
                "{id} needs its stop signal"
            );
            assert!(
                !(worker.is_outlaw && worker.signals.is_empty()),
                "{id} is an outlaw"
            );
            assert!(
                !(worker.is_unmoved && worker.signals.is_empty()),
                "{id} hangs"
            );
            if is_serving {
                self.is_asked(worker);
            }
        }
        self.nobody_is_too_many();
        self.the_rotation_is_manned(rotation);
        self.renewals_go_on(now);
        self.reload_fits(supervisor);
        self.doubt(now);
        self.takes_temperature(now);
        self.nothing_is_forgotten(now, supervisor);
        self.the_stage_fits(supervisor);
    }

    /// Two agents of a slot never, and of a worker's slot one and its successor.
    fn nobody_is_too_many(&self) {
        let mut agents = BTreeSet::new();
        let mut parts = BTreeSet::new();
        let mut live = 0;
        for worker in self.workers.values() {
            let is_new = worker.role == Role::Worker || agents.insert(worker.slot);
            assert!(is_new, "two agents in {}", worker.slot);
            let is_successor = match worker.part {
                Part::Incumbent => false,
                Part::Successor { .. } | Part::Canary { .. } => true,
                Part::Nobody => continue,
            };
            let is_new = parts.insert((worker.role, worker.slot, is_successor));
            let is_right = is_new || self.is_blurred && worker.role == Role::Worker;
            assert!(is_right, "two for one place in {}", worker.slot);
            // Who was dismissed before it existed is told when it does.
            let is_counted = !self.is_blurred || worker.standing != Standing::Ordered;
            live += u32::from(worker.role == Role::Worker && is_counted);
        }
        let surge = self.reload.as_ref().map_or(1, |it| it.plan.surge.max(1));
        // At the end nothing is rolled out, and whoever is there finishes.
        let is_right = self.era != Era::Up || live <= self.plan.slots() + surge;
        assert!(is_right, "{live} workers");
    }

    /// As many as there should be if there are, and the canary; the others stand by.
    fn the_rotation_is_manned(&self, rotation: &Rotation) {
        let is_canary = |worker: &&Worker| matches!(worker.part, Part::Canary { .. });
        let canaries = self.workers.values().filter(is_canary).count();
        let seated = self.serving(Role::Worker) - canaries;
        let expected = seated.min(self.plan.workers as usize) + canaries;
        assert_eq!(rotation.len(), expected, "in the rotation");
    }

    fn takes_temperature(&mut self, now: Instant) {
        self.ailing = match self.plan.unhealthy_exit {
            Some(patience) if self.era == Era::Up && !self.is_healthy() => {
                Some(self.ailing.unwrap_or(now + patience))
            }
            Some(_) | None => None,
        };
        let is_over = self.ailing.is_some_and(|it| it <= now);
        assert!(!is_over, "it goes on although it is not well");
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
            .flat_map(|worker| {
                let is_ordered = worker.standing == Standing::Ordered;
                let spawn_due = is_ordered.then_some(worker.spawn_due);
                [worker.term_due, worker.kill_due, spawn_due]
            })
            .flatten();
        let of_renewals = self.next_renewal(now);
        let of_listeners = match self.listeners {
            Listeners::Closing { deadline } => Some(deadline),
            Listeners::Open | Listeners::Closed => None,
        };
        for due in of_workers
            .chain(of_listeners)
            .chain(of_renewals)
            .chain(self.ailing)
        {
            assert!(
                next_deadline.is_some_and(|it| it <= due),
                "no alarm for {:?}",
                due - now
            );
        }
        if self.era == Era::Up {
            let roles = [Role::Agent, Role::Worker];
            for role in roles.into_iter().filter(|it| !self.is_unsure(now, *it)) {
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
        let is_alive =
            |worker: &&Worker| worker.role == role && !matches!(worker.standing, Standing::Gone);
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

    /// Whether the incumbent serves.
    fn serves(&self, role: Role, slot: u32) -> bool {
        let incumbent = self.incumbent(role, Slot(slot));
        incumbent.is_some_and(|id| self.workers[&id].standing == Standing::Serving)
    }

    fn serving(&self, role: Role) -> usize {
        let is_serving =
            |worker: &&Worker| worker.role == role && worker.standing == Standing::Serving;
        self.workers.values().filter(is_serving).count()
    }

    fn slots(&self, role: Role) -> u32 {
        match role {
            Role::Worker => self.plan.slots(),
            Role::Agent => self.plan.agents,
        }
    }
}

/// So long may the spawner take, and so long at the end.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(120);
const SPAWN_GRACE: Duration = Duration::from_secs(5);
