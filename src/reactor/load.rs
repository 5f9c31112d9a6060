//! The load: how many connections each worker has, and whether it may have more.
//!
//! The master counts what it gives, the worker says on its scoreboard what it has finished. Of a
//! worker that has no scoreboard nothing is known but its descriptors: shortly before the master
//! would have given it more than it can open, the kernel is asked.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use worker_proto::ids::WorkerId;
use worker_proto::scoreboard::{Nonsense, Reading, Score, Scoreboard};

use crate::config::ConnectionLimits;
use crate::dispatch::{self, Gauge, Reason};
use crate::sys::headroom;

/// What every worker has to do.
#[derive(Debug)]
pub(crate) struct Loads {
    limits: ConnectionLimits,
    /// Found several times for each connection.
    workers: FxHashMap<WorkerId, Load>,
    /// Somebody is at a limit, and has been asked to say when a connection is closed. In case it
    /// does not: when to look again.
    recheck: Option<Instant>,
    nonsense: Vec<(WorkerId, Nonsense)>,
}

/// What one worker has to do.
#[derive(Debug)]
struct Load {
    pid: u32,
    /// On its way to the worker or with it, and not reclaimed, since it joined.
    given: u64,
    /// Given, and as far as its counts show not received: at the most what is on its way, less when it
    /// has accepted something itself meanwhile.
    on_the_way: u64,
    scoreboard: Option<Scoreboard>,
    score: Option<Score>,
    /// It accepts itself: what it was given says nothing about what it has.
    accepts: bool,
    /// How many more a worker without a scoreboard can take before the kernel is asked again.
    credit: u64,
}

/// What is known of one worker's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Who.
    pub worker: WorkerId,
    /// Handed to it and not reclaimed; `None` for one that accepts connections itself.
    pub given: Option<u64>,
    /// What it says itself, made possible; `None` for a program that does not use its scoreboard.
    pub score: Option<Score>,
}

impl Loads {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Loads {
            limits,
            workers: FxHashMap::default(),
            recheck: None,
            nonsense: Vec::new(),
        }
    }

    /// From now on these limits hold.
    pub(crate) fn limit(&mut self, limits: ConnectionLimits) {
        self.limits = limits;
    }

    /// How many connections each worker was given, and which were not taken back; of one that
    /// accepts itself what it says it has received.
    pub(crate) fn given(&mut self) -> impl Iterator<Item = (WorkerId, u64)> {
        let nonsense = &mut self.nonsense;
        let workers = self.workers.iter_mut();
        workers.map(|(&worker, load)| {
            if !load.accepts {
                return (worker, load.given);
            }
            load.look(nonsense, worker);
            (worker, load.score.map_or(0, |score| score.received))
        })
    }

    /// There are no limits any more: at a stop everybody who waits is served.
    pub(crate) fn lift_limits(&mut self) {
        self.limits = ConnectionLimits::default();
        self.recheck = None;
    }

    /// A worker that may be given connections from now on.
    pub(crate) fn join(&mut self, worker: WorkerId, pid: u32, scoreboard: Option<Scoreboard>) {
        let load = Load {
            pid,
            given: 0,
            on_the_way: 0,
            scoreboard,
            score: None,
            accepts: false,
            credit: 0,
        };
        self.workers.insert(worker, load);
    }

    /// The worker accepts connections itself from now on, beside those it is given.
    pub(crate) fn let_accept(&mut self, worker: WorkerId) {
        if let Some(load) = self.workers.get_mut(&worker) {
            load.accepts = true;
        }
    }

    /// The worker is no more.
    pub(crate) fn part(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    /// The worker gets a connection.
    pub(crate) fn give(&mut self, worker: WorkerId) {
        if let Some(load) = self.workers.get_mut(&worker) {
            load.given += 1;
            load.on_the_way += 1;
            load.credit = load.credit.saturating_sub(1);
        }
    }

    /// Connections were taken back that the worker has not received.
    pub(crate) fn take_back(&mut self, worker: WorkerId, count: u64) {
        if let Some(load) = self.workers.get_mut(&worker) {
            load.given = load.given.saturating_sub(count);
            load.on_the_way = load.on_the_way.saturating_sub(count);
        }
    }

    /// Why the worker should get nothing now, if there is a reason. `under_way` says how many
    /// connections of the asking listener are on their way to it.
    pub(crate) fn obstacle(
        &mut self,
        worker: WorkerId,
        now: Instant,
        under_way: impl FnOnce() -> u64,
    ) -> Option<Reason> {
        if self.is_at_limit(worker, now) {
            return Some(Reason::AtLimit);
        }
        let load = self.workers.get_mut(&worker)?;
        if load.credit == 0 && load.is_unscored(&mut self.nonsense, worker) {
            // In this order: what the worker receives in between counts twice, and not never.
            let under_way = under_way();
            load.credit = headroom::of(load.pid).map_or(u64::MAX, |headroom| {
                headroom.saturating_sub(under_way + SPARE_DESCRIPTORS)
            });
            if load.credit == 0 {
                return Some(Reason::NoRoom);
            }
        }
        None
    }

    /// How many more the worker may have at least, after it was found that there is no
    /// [`obstacle`](Self::obstacle).
    pub(crate) fn room(&self, worker: WorkerId) -> usize {
        let Some(load) = self.workers.get(&worker) else {
            return usize::MAX;
        };
        let limit = self.limits.per_worker.map_or(u64::MAX, NonZeroU64::get);
        let room = limit.saturating_sub(load.open()).min(load.credit);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Whether the worker has as many connections as it may have. It is then asked to say when one
    /// is closed.
    pub(crate) fn is_at_limit(&mut self, worker: WorkerId, now: Instant) -> bool {
        let Some(limit) = self.limits.per_worker else {
            return false;
        };
        let Some(load) = self.workers.get_mut(&worker) else {
            return false;
        };
        // Asked between two looks: one may be closed while it is being asked.
        let is_at_limit = load.open() >= limit.get()
            && load.look(&mut self.nonsense, worker) >= limit.get()
            && load.ask(&mut self.nonsense, worker) >= limit.get();
        if is_at_limit {
            self.recheck.get_or_insert(now + RECHECK_AFTER);
        }
        is_at_limit
    }

    /// Whether all workers together have as many connections as they may have.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        let Some(limit) = self.limits.total else {
            return false;
        };
        let sum = |loads: &mut Self, open: fn(&mut Load, &mut Vec<_>, WorkerId) -> u64| {
            let nonsense = &mut loads.nonsense;
            let workers = loads.workers.iter_mut();
            workers
                .map(|(&worker, load)| open(load, nonsense, worker))
                // Who accepts itself may claim any number.
                .fold(0, u64::saturating_add)
        };
        let is_full = sum(self, |load, _, _| load.open()) >= limit.get()
            && sum(self, Load::look) >= limit.get()
            && sum(self, Load::ask) >= limit.get();
        if is_full {
            self.recheck.get_or_insert(now + RECHECK_AFTER);
        }
        is_full
    }

    /// When to look again, although nobody said that a connection was closed.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.recheck
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.recheck = self.recheck.filter(|&at| now < at);
    }

    /// What the worker says, as far as it is possible.
    pub(crate) fn score(&mut self, worker: WorkerId) -> Option<Score> {
        let load = self.workers.get_mut(&worker)?;
        load.look(&mut self.nonsense, worker);
        load.score
    }

    /// Whether the worker has no connection, so far as it counts them. Of one that has not counted all
    /// it was given that is not certain before `has_counted_all`.
    pub(crate) fn is_idle(&mut self, worker: WorkerId, has_counted_all: bool) -> bool {
        let Some(load) = self.workers.get_mut(&worker) else {
            return true;
        };
        load.look(&mut self.nonsense, worker);
        match load.score {
            None => has_counted_all,
            Some(score) => {
                score.finished >= score.received
                    && (has_counted_all || score.received >= load.given)
            }
        }
    }

    /// What is known of every worker's connections.
    pub(crate) fn status(&mut self) -> Vec<WorkerLoad> {
        let nonsense = &mut self.nonsense;
        let workers = self.workers.iter_mut();
        let mut status: Vec<_> = workers
            .map(|(&worker, load)| {
                load.look(nonsense, worker);
                WorkerLoad {
                    worker,
                    given: (!load.accepts).then_some(load.given),
                    score: load.score,
                }
            })
            .collect();
        status.sort_unstable_by_key(|load| load.worker);
        status
    }

    /// Who has written something impossible on its scoreboard.
    pub(crate) fn poll_nonsense(&mut self) -> Option<(WorkerId, Nonsense)> {
        self.nonsense.pop()
    }
}

impl Gauge for Loads {
    fn load(&mut self, worker: WorkerId) -> dispatch::Load {
        let Some(load) = self.workers.get_mut(&worker) else {
            return dispatch::Load::default();
        };
        let open = load.look(&mut self.nonsense, worker);
        dispatch::Load {
            waiting: load.waiting(),
            open,
        }
    }
}

impl Load {
    /// How many connections it has, as of the last look; none that are known of, without a
    /// scoreboard.
    fn open(&self) -> u64 {
        let open = |score: Score| match self.accepts {
            true => score.open().saturating_add(self.on_the_way),
            false => self.given.saturating_sub(score.finished),
        };
        self.score.map_or(0, open)
    }

    /// How many it has not received, as of the last look; none that are known of, without a scoreboard.
    fn waiting(&self) -> u64 {
        let waiting = |score: Score| match self.accepts {
            true => self.on_the_way,
            false => self.given.saturating_sub(score.received),
        };
        self.score.map_or(0, waiting)
    }

    /// The same as `open`, now.
    fn look(&mut self, nonsense: &mut Vec<(WorkerId, Nonsense)>, worker: WorkerId) -> u64 {
        if let Some(scoreboard) = &mut self.scoreboard {
            let Reading {
                score,
                nonsense: what,
            } = scoreboard.read(if self.accepts { u64::MAX } else { self.given });
            let received = |score: Option<Score>| score.map_or(0, |score| score.received);
            let newly = received(score).saturating_sub(received(self.score));
            self.on_the_way = self.on_the_way.saturating_sub(newly);
            self.score = score;
            nonsense.extend(what.map(|what| (worker, what)));
        }
        self.open()
    }

    /// The same, after asking to be told when a connection is closed.
    fn ask(&mut self, nonsense: &mut Vec<(WorkerId, Nonsense)>, worker: WorkerId) -> u64 {
        if let Some(scoreboard) = &self.scoreboard {
            scoreboard.ask_for_relief();
        }
        self.look(nonsense, worker)
    }

    fn is_unscored(&mut self, nonsense: &mut Vec<(WorkerId, Nonsense)>, worker: WorkerId) -> bool {
        if self.score.is_none() {
            self.look(nonsense, worker);
        }
        if self.score.is_some() {
            // It looks after its own descriptors: never ask again.
            self.credit = u64::MAX;
        }
        self.score.is_none()
    }
}

/// How long a limit lasts at most without another look.
const RECHECK_AFTER: Duration = Duration::from_millis(100);

/// What a worker without a scoreboard is left to open for itself.
const SPARE_DESCRIPTORS: u64 = 8;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::FileExt;

    use worker_proto::tally::Tally;

    use super::*;
    use crate::reactor::clock;

    #[test]
    fn what_is_on_its_way_to_a_worker_that_also_accepts_counts() {
        let mut loads = Loads::new(ConnectionLimits::default());
        let page = join(&mut loads, A);
        let tally = Tally::attach(page.as_fd()).unwrap();
        loads.let_accept(A);
        tally.received(2);
        assert_eq!(of(&mut loads, A), (0, 2), "it has accepted them itself");
        (0..3).for_each(|_| loads.give(A));
        assert_eq!(of(&mut loads, A), (3, 5));
        tally.received(1);
        assert_eq!(of(&mut loads, A), (2, 5));
        loads.take_back(A, 1);
        assert_eq!(of(&mut loads, A), (1, 4));
        tally.received(1);
        let _ = tally.finished(4);
        assert_eq!(of(&mut loads, A), (0, 0));
    }

    #[test]
    fn workers_that_claim_any_number_are_full_and_no_more() {
        let limits = ConnectionLimits {
            total: NonZeroU64::new(7),
            ..ConnectionLimits::default()
        };
        let mut loads = Loads::new(limits);
        for worker in [A, B] {
            let page = File::from(join(&mut loads, worker));
            loads.let_accept(worker);
            page.write_all_at(&1u32.to_ne_bytes(), STATE).unwrap();
            page.write_all_at(&u64::MAX.to_ne_bytes(), RECEIVED)
                .unwrap();
        }
        assert_eq!(loads.status().len(), 2, "seen");
        assert!(loads.is_full(clock::now()));
        loads.give(A);
        assert_eq!(of(&mut loads, A), (1, u64::MAX));
    }

    fn join(loads: &mut Loads, worker: WorkerId) -> OwnedFd {
        let (scoreboard, page) = Scoreboard::create().unwrap();
        loads.join(worker, std::process::id(), Some(scoreboard));
        page
    }

    /// What waits for it, and what it has open.
    fn of(loads: &mut Loads, worker: WorkerId) -> (u64, u64) {
        let dispatch::Load { waiting, open } = Gauge::load(loads, worker);
        (waiting, open)
    }

    const A: WorkerId = WorkerId(1);
    const B: WorkerId = WorkerId(2);

    /// Where the fields are: see the scoreboard's own documentation.
    const STATE: u64 = 8;
    const RECEIVED: u64 = 64;
}
