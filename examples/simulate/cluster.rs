//! A cluster in virtual time: the rotation that the master has, and workers that only count.
//!
//! What is simulated is what happens around the rotation; who gets a connection is decided by the
//! very code that decides it in the master, and with the very same answer when a queue is full.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use rr_master::dispatch::{Gauge, Load, Reason, Rotation, Strategy};
use worker_proto::ids::{Slot, WorkerId};

use crate::agenda::Agenda;
use crate::arrivals::Gaps;
use crate::outcome::{Outcome, Waits, spread};
use crate::scenario::Renewal;
use crate::setting::Setting;
use crate::sources::{Origins, Source};
use crate::work::MEAN;
use crate::worker::{Subject, Task, Worker};

/// The state of one run.
#[derive(Debug)]
pub(crate) struct Cluster {
    setting: Setting,
    now: Duration,
    agenda: Agenda<Event>,
    rotation: Rotation,
    workers: Workers,
    /// Connections for whom nobody has room.
    backlog: VecDeque<(Source, Task)>,
    /// How many of the workers are saturated.
    saturated: u32,
    /// `None` in a closed loop.
    gaps: Option<Gaps>,
    origins: Origins,
    /// Chance of what a connection asks for.
    works: fastrand::Rng,
    arrived: u64,
    /// The last connection that is not measured, and the last one that is.
    last_unmeasured: u64,
    last_measured: u64,
    account: Account,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client comes.
    Arrival,
    /// A client that stays has another request.
    Request { worker: WorkerId, task: Task },
    /// A worker has done this.
    Done { worker: WorkerId, task: Task },
}

/// Every worker that there was; id 1 is the first.
#[derive(Debug)]
struct Workers(Vec<Worker>);

/// What was seen since the measurement began.
#[derive(Debug)]
struct Account {
    phase: Phase,
    waits: Waits,
    begun: Duration,
    /// Measured connections that nobody has begun with.
    outstanding: u64,
    held: u64,
    refused: u64,
    /// For how long workers were saturated, all together, until when.
    saturated: Duration,
    looked: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    WarmingUp,
    Measuring,
    /// Every connection to be measured has come.
    Finishing,
}

impl Cluster {
    /// The same seed brings the same clients at the same times, whatever the strategy.
    pub(crate) fn new(setting: Setting, strategy: Box<dyn Strategy>, seed: u64) -> Cluster {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let scenario = setting.scenario;
        let mut rotation = Rotation::new(strategy);
        let mut workers = Vec::new();
        for slot in 0..setting.workers {
            let worker = WorkerId(u64::from(slot) + 1);
            rotation.enter(worker, Slot(slot));
            let weight = NonZeroU32::new(scenario.workers.weight(slot));
            rotation.weigh(worker, weight.expect("weights begin with 1"));
            let speed = scenario.workers.speed(slot);
            workers.push(Worker::new(speed, setting.servers));
        }
        let warm_up = setting.warm_up();
        Cluster {
            setting,
            now: Duration::ZERO,
            agenda: Agenda::new(),
            rotation,
            workers: Workers(workers),
            backlog: VecDeque::new(),
            saturated: 0,
            gaps: Gaps::new(scenario.arrivals, setting.gap(), seeds.u64(..)),
            origins: Origins::new(scenario.sources, setting.workers, seeds.u64(..)),
            works: seeds.fork(),
            arrived: 0,
            last_unmeasured: warm_up,
            last_measured: warm_up + setting.measured(),
            account: Account::new(),
        }
    }

    /// Goes on until every connection to be measured has been begun with.
    pub(crate) fn run(mut self) -> Outcome {
        self.invite();
        while self.account.phase != Phase::Finishing || self.account.outstanding > 0 {
            let (at, event) = self.agenda.next().expect("clients never stop coming");
            self.account.pass(at, self.saturated);
            self.now = at;
            match event {
                Event::Arrival => self.arrive(),
                Event::Request { worker, task } => self.give(worker, task),
                Event::Done { worker, task } => self.done(worker, task),
            }
        }
        self.outcome()
    }

    /// The first clients.
    fn invite(&mut self) {
        match &mut self.gaps {
            Some(gaps) => self.agenda.note(gaps.draw(), Event::Arrival),
            None => {
                for _ in 0..self.setting.clients() {
                    self.agenda.note(self.now, Event::Arrival);
                }
            }
        }
    }

    fn arrive(&mut self) {
        if let Some(gaps) = &mut self.gaps {
            self.agenda.note(self.now + gaps.draw(), Event::Arrival);
        }
        self.arrived += 1;
        self.update_phase();
        let is_measured = self.account.phase == Phase::Measuring;
        if is_measured {
            self.account.outstanding += 1;
        }
        let scenario = self.setting.scenario;
        let task = Task {
            since: self.now,
            work: scenario.work.draw(&mut self.works),
            subject: Subject::Connection { is_measured },
            follow: scenario.stays.follow(self.works.f64()),
        };
        let source = self.origins.draw();
        if !self.backlog.is_empty() || !self.hand_off(source, task) {
            self.hold(source, task);
        }
    }

    /// Gives a connection to who is next; false if nobody has room.
    fn hand_off(&mut self, source: Source, task: Task) -> bool {
        let peer = source.address();
        while let Some(worker) = self.rotation.pick(&peer, &mut self.workers) {
            if self.workers.load(worker).waiting < self.setting.window {
                self.give(worker, task);
                return true;
            }
            self.rotation.miss(worker, Reason::Saturated, 1);
            self.rotation.set_aside(worker, Reason::Saturated);
            self.saturated += 1;
        }
        false
    }

    /// The backlog takes what it can.
    fn hold(&mut self, source: Source, task: Task) {
        let is_measured = task.subject == Subject::Connection { is_measured: true };
        self.account.held += u64::from(is_measured);
        if self.backlog.len() < BACKLOG {
            self.backlog.push_back((source, task));
            return;
        }
        if is_measured {
            self.account.refused += 1;
            self.account.outstanding -= 1;
        }
        // It does not know that it was refused before it has waited.
        self.come_again(MEAN);
    }

    fn give(&mut self, worker: WorkerId, task: Task) {
        self.workers.of(worker).add(task);
        self.go_on(worker);
    }

    fn done(&mut self, worker: WorkerId, task: Task) {
        self.workers.of(worker).end(&task);
        if let Some(follow) = task.follow.checked_sub(1) {
            let since = self.now + self.setting.scenario.stays.pause();
            let task = Task {
                since,
                work: MEAN,
                subject: Subject::Request,
                follow,
            };
            self.agenda.note(since, Event::Request { worker, task });
        } else {
            self.come_again(Duration::ZERO);
        }
        self.go_on(worker);
    }

    /// In a closed loop who was answered, or refused, comes again.
    fn come_again(&mut self, after: Duration) {
        if self.gaps.is_none() {
            self.agenda.note(self.now + after, Event::Arrival);
        }
    }

    /// The worker begins with what it can.
    fn go_on(&mut self, worker: WorkerId) {
        while let Some((task, takes)) = self.workers.of(worker).begin() {
            let now = self.now;
            self.agenda.note(now + takes, Event::Done { worker, task });
            self.account.begin(task, now);
            self.relieve(worker);
        }
    }

    /// As the kernel does, which says that there is room again when a quarter is left, see
    /// `unix(7)` on the send buffer.
    fn relieve(&mut self, worker: WorkerId) {
        let is_saturated = !self.rotation.reasons(worker).is_empty();
        if !is_saturated || self.workers.load(worker).waiting * 4 > self.setting.window {
            return;
        }
        self.rotation.restore(worker, Reason::Saturated);
        self.saturated -= 1;
        while let Some((source, task)) = self.backlog.pop_front() {
            if !self.hand_off(source, task) {
                return self.backlog.push_front((source, task));
            }
        }
    }

    fn update_phase(&mut self) {
        if self.arrived == self.last_unmeasured + 1 {
            self.account.phase = Phase::Measuring;
            self.account.begun = self.now;
            self.account.saturated = Duration::ZERO;
            for worker in &mut self.workers.0 {
                worker.given = 0;
                worker.busy = Duration::ZERO;
            }
            if self.setting.scenario.renewal == Renewal::First {
                self.renew();
            }
        } else if self.arrived == self.last_measured + 1 {
            self.account.phase = Phase::Finishing;
        }
    }

    /// The first worker gets nothing more, and a new one has its slot.
    fn renew(&mut self) {
        let Setting {
            scenario, servers, ..
        } = self.setting;
        let successor = Worker::new(scenario.workers.speed(0), servers);
        self.workers.0.push(successor);
        self.rotation.leave(WorkerId(1));
        let worker = WorkerId(self.workers.0.len() as u64);
        self.rotation.enter(worker, Slot(0));
    }

    fn outcome(&self) -> Outcome {
        let Account {
            waits,
            begun,
            held,
            refused,
            saturated,
            ..
        } = &self.account;
        let workers = self.workers.0.iter();
        let busy = workers.clone().map(|worker| worker.busy.as_secs_f64());
        let time = (self.now - *begun).as_secs_f64() * f64::from(self.setting.workers);
        let connections = self.setting.measured();
        Outcome {
            connections,
            busy: busy.clone().sum::<f64>() / time / f64::from(self.setting.servers),
            connections_spread: spread(workers.map(|worker| worker.given as f64)),
            busy_spread: spread(busy),
            mean: waits.mean(),
            p50: waits.quantile(0.5),
            p99: waits.quantile(0.99),
            p999: waits.quantile(0.999),
            saturated: saturated.as_secs_f64() / time,
            held: *held as f64 / connections as f64,
            refused: *refused as f64 / connections as f64,
        }
    }
}

impl Workers {
    fn of(&mut self, worker: WorkerId) -> &mut Worker {
        let index = usize::try_from(worker.0 - 1).expect("a number of workers");
        &mut self.0[index]
    }
}

/// The scoreboard, which is as current here as in the master: both read what the worker wrote last.
impl Gauge for Workers {
    fn load(&mut self, worker: WorkerId) -> Load {
        self.of(worker).load()
    }
}

impl Account {
    fn new() -> Account {
        Account {
            phase: Phase::WarmingUp,
            waits: Waits::new(),
            begun: Duration::ZERO,
            outstanding: 0,
            held: 0,
            refused: 0,
            saturated: Duration::ZERO,
            looked: Duration::ZERO,
        }
    }

    /// So many workers were saturated until now.
    fn pass(&mut self, now: Duration, saturated: u32) {
        self.saturated += (now - self.looked) * saturated;
        self.looked = now;
    }

    /// A worker has begun with it.
    fn begin(&mut self, task: Task, now: Duration) {
        let counts = match task.subject {
            Subject::Connection { is_measured } => is_measured,
            Subject::Request => self.phase == Phase::Measuring,
        };
        if counts {
            self.waits.note(now - task.since);
        }
        if task.subject == (Subject::Connection { is_measured: true }) {
            self.outstanding -= 1;
        }
    }
}

/// How many connections the kernel keeps for a listener that nobody accepts from: `somaxconn`.
const BACKLOG: usize = 4096;
