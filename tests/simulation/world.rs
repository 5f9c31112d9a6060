//! The world around the supervisor: a clock that jumps, a fake reactor, fake workers, and somebody
//! who wants it all to end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rr_master::dispatch::{Reason, Rotation, RoundRobin};
use rr_master::supervisor::*;
use worker_proto::address::Address;
use worker_proto::ids::{Generation, WorkerId};

use crate::operator::{self, Order};
use crate::oracle::{Era, Oracle};
use crate::rng::Rng;
use crate::tally::{Feat, Tally};
use crate::worker::{
    AGE_MAX_MS, Character, Deed, Nature, SPAWN_MAX_MS, STOP_CODE, Spawn, Temper, killed,
};

pub(crate) struct World {
    rng: Rng,
    plan: Plan,
    /// How bad those are that are ordered during the boot, and after it until the peace.
    tempers: (Temper, Temper),
    /// What the others have in common is what those of the first generation have.
    natures: BTreeMap<Generation, Nature>,
    nature: Nature,
    supervisor: Supervisor,
    rotation: Rotation,
    oracle: Oracle,
    workers: BTreeMap<WorkerId, Fake>,
    agenda: BTreeMap<(Instant, u64), Item>,
    entries: u64,
    beginning: Instant,
    now: Instant,
    /// From then on everybody who is ordered is good.
    peace: Instant,
    /// At most so long after a deadline is the supervisor woken.
    lateness: Duration,
    trace: Trace,
    steps: usize,
    events: usize,
    has_recovered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    Off,
    On,
}

/// A process as the kernel knows it.
struct Fake {
    character: Character,
    life: Life,
    is_connected: bool,
    is_frozen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Ordered,
    Alive,
    Dead,
}

/// What is going to happen.
#[derive(Debug)]
enum Item {
    Spawn(WorkerId),
    Deed(WorkerId, Deed),
    ListenersClosed,
    /// Everybody who was going to fail has failed.
    Recovered,
    Start,
    Stop(Stop),
    Order,
    /// Time in which the supervisor is not called: it passes for the workers too, or for nobody
    /// but the clock.
    Pause {
        of: Pause,
        lasts: Duration,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Master,
    Machine,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "any moment will do as the beginning"
    )]
    pub(crate) fn by_chance(seed: u64, trace: Trace) -> World {
        let mut rng = Rng::seeded(seed);
        let nature = rng.pick(&[
            Nature::Plain,
            Nature::Plain,
            Nature::Ordinary,
            Nature::Ordinary,
            Nature::Ordinary,
        ]);
        let plan = plan(&mut rng, nature);
        let boot = rng.pick(&[Temper::Mortal, Temper::Mortal, Temper::Mortal, Temper::Bad]);
        let beginning = Instant::now();
        let mut world = World {
            tempers: (boot, rng.pick(&[Temper::Mortal, Temper::Bad])),
            natures: BTreeMap::new(),
            nature,
            supervisor: Supervisor::new(plan.clone()),
            rotation: Rotation::new(Box::new(RoundRobin::default())),
            oracle: Oracle::new(plan.clone()),
            workers: BTreeMap::new(),
            agenda: BTreeMap::new(),
            entries: 0,
            beginning,
            now: beginning,
            peace: beginning + rng.millis(0, 300_000),
            lateness: rng.pick(&[Duration::ZERO, Duration::ZERO, LATENESS_MAX]),
            trace,
            steps: 0,
            events: 0,
            has_recovered: false,
            plan,
            rng,
        };
        world.trace(|world| format!("{:?}", world.plan));
        world.plan_the_end();
        if nature == Nature::Ordinary {
            world.plan_the_orders();
        }
        world
    }

    /// Somebody wants it to end, mostly when it has recovered from everything.
    fn plan_the_end(&mut self) {
        let time_to_be_found = self.plan.hang_timeout.unwrap_or_default() * 3;
        let recovered = self.peace + time_to_be_found + self.time_to_recover();
        let start = self.rng.millis(0, 5);
        let is_impatient = self.rng.percent(30);
        let stop = if is_impatient {
            self.now
                + self
                    .rng
                    .millis(0, 60_000)
                    .mul_f64(self.rng.pick(&[0.0001, 0.01, 1.0]))
        } else {
            recovered + self.rng.millis(1, 1_000)
        };
        self.add(self.now + start, Item::Start);
        for _ in 0..self.rng.below(4) {
            let of = self.rng.pick(&[Pause::Master, Pause::Machine]);
            let at = (self.peace - self.now).mul_f64(f64::from(self.rng.between(0, 100)) / 100.0);
            let lasts = self.rng.millis(100, 10_000) * self.rng.pick(&[1, 1, 1_000]);
            self.add(self.now + at, Item::Pause { of, lasts });
        }
        self.add(recovered, Item::Recovered);
        let how = self.rng.pick(&[Stop::Graceful, Stop::Graceful, Stop::Fast]);
        self.add(stop, Item::Stop(how));
        if self.rng.percent(30) {
            let later = self
                .rng
                .millis(0, 2_000)
                .mul_f64(self.rng.pick(&[0.01, 1.0, 5.0]));
            let how = self.rng.pick(&[Stop::Graceful, Stop::Fast]);
            self.add(stop + later, Item::Stop(how));
        }
    }

    /// Most of them come while there is no peace, some one after the other, and a few too late.
    fn plan_the_orders(&mut self) {
        let orders = self.rng.pick(&[0, 2, 5, 10, 20]);
        let mut at = self.now;
        for _ in 0..orders {
            at = if self.rng.percent(40) {
                at + self.rng.millis(0, 3_000)
            } else {
                let share = f64::from(self.rng.between(0, 1_000)) / 1_000.0;
                self.now + (self.peace - self.now).mul_f64(share)
            };
            self.add(at.min(self.peace), Item::Order);
        }
    }

    /// The last misfortune, its consequences, and the restarts that have to wait for the window.
    fn time_to_recover(&self) -> Duration {
        let Restart::Always { backoff, limit, .. } = self.plan.restart else {
            return Duration::from_millis(u64::from(AGE_MAX_MS))
                + self.plan.ready_timeout * 3
                + self.time_to_renew();
        };
        let seats = self.seats_max();
        let rounds = 2 + 2 * seats / limit.count.max(1);
        Duration::from_millis(u64::from(AGE_MAX_MS + SPAWN_MAX_MS))
            + self.plan.ready_timeout * 3
            + backoff.max * 2
            + limit.window * rounds
            + self.time_to_renew()
    }

    /// A start that is never answered, and everybody replaced forward, and back.
    fn time_to_renew(&self) -> Duration {
        if self.nature == Nature::Plain {
            return Duration::ZERO;
        }
        let one = self.plan.ready_timeout + self.plan.stop_timeout + self.plan.kill_timeout;
        let slack = Duration::from_millis(u64::from(SPAWN_MAX_MS)) + LATENESS_MAX * 5;
        Duration::from_secs(130) + (one + slack) * self.seats_max() * 3
    }

    fn seats_max(&self) -> u32 {
        let workers = if self.nature == Nature::Plain {
            self.plan.workers
        } else {
            operator::WORKERS_MAX
        };
        workers + self.plan.spare + self.plan.agents
    }

    /// Lets everything happen until the supervisor has finished.
    pub(crate) fn run(mut self) -> Tally {
        let mut ending_since = None;
        while !self.is_over() {
            self.step();
            self.steps += 1;
            if self.steps == STEPS_MAX {
                self.add(self.now, Item::Stop(Stop::Fast));
            }
            if let Era::Ending { since, .. } = self.oracle.era {
                let since = *ending_since.get_or_insert(since);
                assert!(self.now - since <= self.time_to_end(), "it does not end");
            }
        }
        let is_alive = |fake: &Fake| fake.life != Life::Dead;
        assert!(
            !self.workers.values().any(is_alive),
            "somebody is left behind"
        );
        assert!(self.rotation.is_empty());
        self.noise();
        let Era::Over(code) = self.oracle.era else {
            unreachable!("it is over");
        };
        let mut tally = self.oracle.tally;
        tally.saw_often(Feat::Event, self.events);
        tally.saw_often(Feat::Recovery, usize::from(self.has_recovered));
        tally.ended_with(code);
        tally
    }

    fn is_over(&self) -> bool {
        matches!(self.oracle.era, Era::Over(_))
            && self.workers.values().all(|it| it.life == Life::Dead)
    }

    fn time_to_end(&self) -> Duration {
        // Some starts are never answered.
        let grace = if self.nature == Nature::Plain {
            0
        } else {
            5_000
        };
        let slack = Duration::from_millis((u64::from(SPAWN_MAX_MS) + grace) * 2 + 1_000);
        self.plan.stop_timeout * 2 + self.plan.kill_timeout * 2 + slack
    }

    /// The next thing on the agenda, or the supervisor's alarm, whichever comes first.
    fn step(&mut self) {
        let percent = self.rng.between(0, 100);
        let lateness = self.lateness * percent / 100;
        let alarm = self.supervisor.next_deadline().map(|it| it + lateness);
        let next = self.agenda.first_key_value().map(|(&(at, _), _)| at);
        match (next, alarm) {
            (Some(at), alarm) if alarm.is_none_or(|alarm| at <= alarm) => {
                self.now = self.now.max(at);
                let (_, item) = self.agenda.pop_first().expect("it has a first");
                self.happen(item);
            }
            (_, Some(alarm)) => {
                self.now = self.now.max(alarm);
                self.tell(Event::Tick);
            }
            (_, None) => panic!("nothing will ever happen again"),
        }
        if self.rng.percent(5) {
            self.noise();
        }
        if self.rng.percent(20) {
            self.connections_arrive();
        }
    }
}

/// What happens.
impl World {
    fn happen(&mut self, item: Item) {
        match item {
            Item::Start => {
                if self.oracle.era == Era::Before {
                    self.tell(Event::Start);
                }
            }
            Item::Stop(how) => self.tell(Event::Stop(how)),
            Item::ListenersClosed => self.tell(Event::ListenersClosed),
            Item::Spawn(worker) => self.spawn(worker),
            Item::Order => {
                let plan = Plan {
                    workers: self.supervisor.wanted(),
                    ..self.plan.clone()
                };
                let order = Order::by_chance(&mut self.rng, &plan);
                self.obey(order);
            }
            Item::Deed(worker, deed) => self.deed(worker, deed),
            // A start and an end that take so long are other stories.
            Item::Pause { of, lasts } => {
                if self.oracle.era == Era::Up {
                    self.pause(of, lasts);
                }
            }
            Item::Recovered => {
                if self.oracle.era == Era::Up {
                    self.oracle.has_recovered(&self.supervisor);
                    self.has_recovered = true;
                }
            }
        }
    }

    /// What the world is about comes that much later. What the workers do does too if the whole
    /// machine slept; if the master alone was stopped, it finds it all done.
    fn pause(&mut self, of: Pause, lasts: Duration) {
        self.now += lasts;
        let agenda = std::mem::take(&mut self.agenda);
        for ((at, entry), item) in agenda {
            let is_late = match item {
                Item::Spawn(_) | Item::Deed(..) | Item::ListenersClosed => of == Pause::Machine,
                Item::Recovered
                | Item::Start
                | Item::Stop(_)
                | Item::Order
                | Item::Pause { .. } => true,
            };
            let at = if is_late { at + lasts } else { at };
            self.agenda.insert((at, entry), item);
        }
    }

    fn spawn(&mut self, worker: WorkerId) {
        let fake = self.workers.get_mut(&worker).expect("it was ordered");
        if fake.life == Life::Dead {
            // It was given up, and the reactor ends it.
            return;
        }
        match fake.character.spawn.1 {
            Spawn::Works => {
                fake.life = Life::Alive;
                let life = fake.character.life.clone();
                let pid = u32::try_from(worker.0).expect("not so many") + 1_000;
                self.add_deeds(worker, life);
                self.tell(Event::Spawned { worker, pid });
            }
            Spawn::Fails => {
                fake.life = Life::Dead;
                let reason = "no".to_owned();
                self.tell(Event::SpawnFailed { worker, reason });
            }
            Spawn::IsNotAnswered => {}
        }
    }

    /// Somebody wants something, sensible or not.
    fn obey(&mut self, order: Order) {
        // Not everything that is asked for makes the supervisor look at the clock.
        self.tell(Event::Tick);
        self.trace(|world| format!("{} {order:?}", world.time()));
        let expected = self.oracle.order(self.now, order);
        let (now, supervisor) = (self.now, &mut self.supervisor);
        let answer = match order {
            Order::Reload(plan) => supervisor.reload(now, plan).map(|generation| {
                let nature = operator::nature(&mut self.rng);
                self.natures.insert(generation, nature);
            }),
            Order::Abort => supervisor.abort_reload(now),
            Order::Scale { workers } => supervisor.scale(now, workers),
            Order::Drain { role, slot } => supervisor.drain_slot(now, role, slot),
            Order::Restart { role, slot } => supervisor.restart_slot(now, role, slot),
            Order::Adopt {
                min_workers,
                unhealthy_exit,
                max_age,
            } => {
                let plan = Plan {
                    min_workers,
                    unhealthy_exit,
                    max_age,
                    // Not for a new plan to say.
                    workers: 1_000,
                    agents: 1_000,
                    spare: 1_000,
                    ..self.plan.clone()
                };
                supervisor.adopt(now, plan);
                Ok(())
            }
        };
        assert_eq!(answer, expected, "{order:?}");
        self.settle();
    }

    fn deed(&mut self, worker: WorkerId, deed: Deed) {
        let fake = self.workers.get_mut(&worker).expect("it was ordered");
        if fake.life != Life::Alive {
            return;
        }
        match deed {
            Deed::Die => self.exit(worker, killed(9)),
            _ if fake.is_frozen => {}
            Deed::Freeze => fake.is_frozen = true,
            Deed::Exit(status) => self.exit(worker, status),
            _ if !fake.is_connected => {}
            Deed::SayHello => self.tell(Event::Online { worker }),
            Deed::GetReady => self.tell(Event::Ready { worker }),
            Deed::SayGoodbye => self.tell(Event::Goodbye { worker }),
            Deed::SeemIdle => self.tell(Event::Idle { worker }),
            Deed::Retire => self.tell(Event::Retiring {
                worker,
                reason: "heap corrupt".to_owned(),
            }),
            Deed::WearOut(why) => self.tell(Event::Worn { worker, why }),
            Deed::EndChannel(cause) => {
                fake.is_connected = false;
                self.tell(Event::Disconnected { worker, cause });
            }
            Deed::Answer { token } => {
                // A pong does not make the supervisor look at the clock.
                self.tell(Event::Tick);
                self.tell(Event::Pong { worker, token });
            }
            Deed::StayUntold => self.tell(Event::Untold { worker }),
            Deed::NeglectConnections => {
                if let Some(lasted) = self.plan.hang_timeout {
                    let symptom = Symptom::Unmoved { lasted };
                    self.tell(Event::Hung { worker, symptom });
                }
            }
        }
    }

    fn exit(&mut self, worker: WorkerId, status: ExitStatus) {
        let fake = self.workers.get_mut(&worker).expect("it was ordered");
        fake.life = Life::Dead;
        self.tell(Event::Exited { worker, status });
    }

    /// Something that is not true, too late, or for the second time: it changes nothing.
    fn noise(&mut self) {
        // Not every step is one that the supervisor hears of, and a pong does not make it look at
        // the clock.
        self.tell(Event::Tick);
        let id = self.rng.below(self.workers.len() as u64 + 3);
        let worker = WorkerId(id);
        let (life, is_connected) = self
            .workers
            .get(&worker)
            .map_or((Life::Dead, false), |fake| (fake.life, fake.is_connected));
        let is_starting = self.oracle.is_starting(worker);
        let event = match self.rng.below(14) {
            0 if self.oracle.era != Era::Before => Event::Start,
            1 if !matches!(self.supervisor.stage(), Stage::Closing { .. }) => {
                Event::ListenersClosed
            }
            2 if life != Life::Ordered => Event::Spawned { worker, pid: 1 },
            3 if life != Life::Ordered => Event::SpawnFailed {
                worker,
                reason: String::new(),
            },
            4 => Event::Online { worker },
            5 if !is_starting => Event::Ready { worker },
            6 if life != Life::Alive => Event::Goodbye { worker },
            7 if life != Life::Alive || !is_connected => Event::Disconnected {
                worker,
                cause: Disconnect::Closed,
            },
            8 if life != Life::Alive => Event::Pong { worker, token: 1 },
            9 if life != Life::Alive => Event::Untold { worker },
            10 if !self.supervisor.is_serving(worker) => Event::Hung {
                worker,
                symptom: Symptom::Unmoved {
                    lasted: Duration::ZERO,
                },
            },
            11 if life == Life::Dead => Event::Exited {
                worker,
                status: ExitStatus::Code(0),
            },
            12 if life != Life::Alive => Event::Retiring {
                worker,
                reason: String::new(),
            },
            13 if !self.supervisor.is_serving(worker) => Event::Worn {
                worker,
                why: Wear::Asked,
            },
            _ => return,
        };
        self.trace(|world| format!("{} noise {event:?}", world.time()));
        self.supervisor.handle(self.now, event);
        self.settle();
    }

    fn connections_arrive(&mut self) {
        for _ in 0..self.rng.below(8) {
            let Some(worker) = self.rotation.pick(&Address::Unnamed, &mut ()) else {
                assert!(!self.rotation.has_room());
                return;
            };
            assert!(self.supervisor.is_serving(worker), "{worker} cannot serve");
            match self.rng.below(6) {
                0 => self.rotation.set_aside(worker, Reason::Saturated),
                1 => {
                    let any = self.rng.below(self.workers.len() as u64 + 1);
                    self.rotation.restore(WorkerId(any), Reason::Saturated);
                }
                _ => {}
            }
        }
    }
}

/// The fake reactor.
impl World {
    fn tell(&mut self, event: Event) {
        self.trace(|world| format!("{} {event:?}", world.time()));
        self.events += 1;
        self.oracle.event(self.now, &event);
        self.supervisor.handle(self.now, event);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            self.trace(|_| {
                if let Action::Notify(notice) = &action {
                    format!("{:14}# {notice}", "")
                } else {
                    format!("{:14}{action:?}", "")
                }
            });
            self.oracle.action(self.now, &action);
            self.execute(action);
        }
        self.oracle
            .settled(self.now, &self.supervisor, &self.rotation);
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::Spawn {
                worker, generation, ..
            } => self.order(worker, generation),
            Action::Enter { worker } => {
                assert!(!self.rotation.contains(worker), "enters once");
                let view = self.supervisor.worker(worker).expect("it exists");
                self.rotation.enter(worker, view.slot);
            }
            Action::Leave { worker } => {
                assert!(self.rotation.contains(worker), "leaves once");
                self.rotation.leave(worker);
            }
            Action::CloseListeners => {
                let late = self.rng.pick(&[0.0, 0.01, 0.5, 2.0]);
                let work = self.plan.stop_timeout.mul_f64(late);
                self.add(self.now + work, Item::ListenersClosed);
            }
            Action::AbandonListeners => {
                self.agenda
                    .retain(|_, item| !matches!(item, Item::ListenersClosed));
            }
            Action::Drain { worker, .. } => {
                let deeds = self.workers[&worker].character.drain.clone();
                self.add_deeds(worker, deeds);
                if self.rng.percent(20) {
                    let after = Duration::from_millis(self.rng.between(0, 2_000).into());
                    let idle = (after, Deed::SeemIdle);
                    self.add_deeds(worker, vec![idle.clone(), idle]);
                }
            }
            Action::Ping { worker, token } => {
                let mut answer_after = self.workers[&worker].character.reaction;
                if self.rng.percent(3) {
                    let rest = Duration::from_millis(100);
                    let rests = self.rng.between(1, 10);
                    let untold = (0..rests).map(|so_far| (rest * so_far, Deed::StayUntold));
                    self.add_deeds(worker, untold.collect());
                    answer_after += rest * rests;
                }
                if self.rng.percent(5) {
                    let token = token - 1;
                    self.add_deeds(worker, vec![(answer_after / 2, Deed::Answer { token })]);
                }
                self.add_deeds(worker, vec![(answer_after, Deed::Answer { token })]);
            }
            Action::Signal { worker, signal } => {
                let fake = &self.workers[&worker];
                assert_eq!(fake.life, Life::Alive, "nobody signals the dead");
                let deeds = match signal {
                    Signal::Ask | Signal::Terminate => fake.character.term.clone(),
                    Signal::Abort => fake.character.abort.clone(),
                    Signal::Kill => vec![(fake.character.death, Deed::Die)],
                };
                self.add_deeds(worker, deeds);
            }
            Action::Forget { worker } => {
                let fake = self.workers.get_mut(&worker).expect("it was ordered");
                assert_ne!(fake.life, Life::Alive, "forgotten while it lives");
                fake.life = Life::Dead;
            }
            Action::AnnounceReady { .. } | Action::Notify(_) | Action::Finish { .. } => {}
        }
    }

    fn order(&mut self, worker: WorkerId, generation: Generation) {
        let temper = match self.oracle.era {
            _ if self.now >= self.peace => Temper::Good,
            Era::Boot => self.tempers.0,
            Era::Before | Era::Up | Era::Ending { .. } | Era::Over(_) => self.tempers.1,
        };
        let nature = self.natures.get(&generation).unwrap_or(&self.nature);
        let character = Character::by_chance(&mut self.rng, &self.plan, temper, *nature);
        self.trace(|_| format!("{:14}> {worker} is {character:?}", ""));
        self.add(self.now + character.spawn.0, Item::Spawn(worker));
        let fake = Fake {
            character,
            life: Life::Ordered,
            is_connected: true,
            is_frozen: false,
        };
        self.workers.insert(worker, fake);
    }

    fn add_deeds(&mut self, worker: WorkerId, deeds: Vec<(Duration, Deed)>) {
        for (after, deed) in deeds {
            self.add(self.now + after, Item::Deed(worker, deed));
        }
    }

    fn add(&mut self, at: Instant, item: Item) {
        self.entries += 1;
        self.agenda.insert((at, self.entries), item);
    }

    fn time(&self) -> String {
        format!("{:>12.3}s", (self.now - self.beginning).as_secs_f64())
    }

    fn trace(&self, line: impl FnOnce(&World) -> String) {
        if self.trace == Trace::On {
            println!("{}", line(self));
        }
    }
}

/// At most so late is the supervisor woken, unless it is not woken at all.
pub(crate) const LATENESS_MAX: Duration = Duration::from_millis(20);

/// Whoever has not come to an end by then is told to.
const STEPS_MAX: usize = 2_000;

fn plan(rng: &mut Rng, nature: Nature) -> Plan {
    let plan = plain_plan(rng);
    if nature == Nature::Plain {
        return plan;
    }
    Plan {
        spare: rng.pick(&[0, 0, 1, 2]),
        stop_exit_codes: rng.pick(&[vec![], vec![STOP_CODE]]),
        max_age: operator::max_age(rng),
        jitter: Jitter {
            percent: rng.pick(&[0, 10, 50]),
        },
        min_workers: rng.between(0, plan.workers),
        unhealthy_exit: operator::unhealthy_exit(rng),
        ..plan
    }
}

fn plain_plan(rng: &mut Rng) -> Plan {
    let first = rng.millis(0, 1_000);
    let always = Restart::Always {
        backoff: BackoffPlan {
            first,
            max: first * rng.between(1, 8),
            healthy_after: rng.millis(500, 10_000),
        },
        limit: RestartLimit {
            count: rng.pick(&[0, 1, 2, 5, 10, 10, 30, 30]),
            window: rng.millis(1_000, 20_000),
        },
        on_crash_loop: rng.pick(&[
            OnCrashLoop::Hold,
            OnCrashLoop::Hold,
            OnCrashLoop::Park,
            OnCrashLoop::Exit,
        ]),
    };
    Plan {
        workers: rng.between(0, 8),
        agents: rng.between(0, 3).saturating_sub(1),
        ready_timeout: rng.millis(300, 5_000),
        stop_timeout: rng.millis(0, 5_000),
        kill_timeout: rng.millis(0, 2_000),
        // Every ping is two events or three: no more of them than it takes.
        hang_timeout: rng.percent(30).then(|| rng.millis(2_000, 10_000)),
        restart: if rng.percent(10) {
            Restart::Never
        } else {
            always
        },
        spare: 0,
        stop_exit_codes: Vec::new(),
        max_age: None,
        jitter: Jitter { percent: 0 },
        min_workers: 0,
        unhealthy_exit: None,
    }
}
