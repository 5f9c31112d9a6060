//! Stalls: workers that do not receive what waits for them.
//!
//! Nothing is asked of the worker: the kernel says how much of its queue is unread. What a stalled
//! worker left unread goes to workers that have nothing waiting, each connection once at most:
//! moving it between slow but healthy workers would gain nothing.

use std::time::{Duration, Instant};

use log::Level;
use worker_proto::address::Address;
use worker_proto::ids::WorkerId;
use worker_proto::scoreboard::Score;

use super::reclaim::Taken;
use super::{Serving, Trouble, Turn};
use crate::dispatch::{Reason, Sight, Stall, Verdict, Work};
use crate::reactor::queue::{AcceptQueue, Head};
use crate::sys::listening::Accepted;

/// A worker's stall, and what it said of itself at the last look.
#[derive(Debug)]
pub(super) struct Stalled {
    stall: Stall,
    score: Option<Score>,
    /// It has answered a `Ping` since: it runs.
    has_answered: bool,
    /// Whether the log was told.
    is_news: bool,
}

impl Stalled {
    /// What it did since the last look.
    fn note_work(&mut self, score: Option<Score>) -> Work {
        match std::mem::replace(&mut self.score, score) {
            _ if score.is_none() => Work::Unknown,
            before if before != score => Work::Done,
            _ => Work::NoneDone,
        }
    }

    /// Whether it answers, and has nothing that it could be busy with.
    fn is_free(&self) -> bool {
        self.has_answered && self.score.is_none_or(|score| score.open() == 0)
    }
}

/// What showed about a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It has stalled: a `Ping` shows whether it runs at all.
    Stalled(WorkerId),
    /// It has not received what waits for it for so long that it counts as hung.
    Hung(WorkerId, Duration),
}

/// When to move connections from stalled workers to others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rescue {
    at: Option<Instant>,
    pause: Duration,
}

impl Rescue {
    pub(super) fn deadline(self) -> Option<Instant> {
        self.at
    }

    /// Somebody has just stalled.
    fn begin(&mut self, now: Instant) {
        self.at = Some(now);
    }

    /// Goes on soon while it gets on, later and later while nobody has an empty queue.
    fn again(&mut self, now: Instant, moved: bool, longest: Duration) {
        self.pause = if moved {
            SHORTEST_PAUSE
        } else {
            (self.pause * 2).clamp(SHORTEST_PAUSE, longest.max(SHORTEST_PAUSE))
        };
        self.at = Some(now + self.pause);
    }
}

/// Looking.
impl Serving {
    /// A packet went to the worker. If that was to see whether it goes on, it is enough.
    pub(super) fn note_given(&mut self, worker: WorkerId) {
        if let Some(stalled) = self.stalled.get_mut(&worker)
            && stalled.stall.give()
        {
            self.rotation.set_aside(worker, Reason::Stalled);
        }
    }

    /// Something was handed off: look soon whether it is received.
    pub(super) fn expect_movement(&mut self, now: Instant) {
        if self.look_at.is_none() {
            self.look_at = self.period().map(|period| now + period);
        }
    }

    /// Looks at every queue in which something may wait, when it is time.
    pub(super) fn look(&mut self, turn: &mut Turn<'_>) {
        let (Some(period), Some(at)) = (self.period(), self.look_at) else {
            return;
        };
        if turn.now < at {
            return;
        }
        let mut busy: Vec<WorkerId> = self.queues.keys().copied().collect();
        busy.retain(|worker| self.stalled.contains_key(worker) || !self.queues[worker].is_idle());
        busy.sort();
        for &worker in &busy {
            self.look_at_worker(worker, period, turn);
        }
        let is_waiting = |worker| {
            self.queues
                .get(worker)
                .is_some_and(|queue| !queue.is_idle())
        };
        let mut stalled = self.stalled.values();
        let goes_on = stalled.any(|it| it.stall.is_pending()) || busy.iter().any(is_waiting);
        self.look_at = goes_on.then(|| turn.now + period);
    }

    fn look_at_worker(&mut self, worker: WorkerId, period: Duration, turn: &mut Turn<'_>) {
        let Some(queue) = self.queues.get_mut(&worker) else {
            return;
        };
        let pace = queue.look(turn.now, period);
        if self.short.iter().any(|short| short.worker() == worker) {
            // It has said why.
            queue.forgive();
            return self.recover(worker);
        }
        let (unmoved, is_empty) = (queue.watch().unmoved(), queue.is_idle());
        let score = turn.loads.score(worker);
        let limit = self.rules.stall_timeout.unwrap_or(Duration::MAX);
        let is_late = !is_empty && unmoved >= limit;
        let Some(stalled) = self.stalled.get_mut(&worker) else {
            if is_late {
                self.stall(worker, unmoved, score, turn);
            }
            return self.report_hang(worker, unmoved, turn);
        };
        let work = stalled.note_work(score);
        let verdict = stalled.stall.judge(Sight {
            now: turn.now,
            period,
            pace,
            is_empty,
            is_late,
            work,
            is_free: stalled.is_free(),
        });
        let still = stalled.stall.still();
        match verdict {
            Verdict::Over => return self.recover(worker),
            Verdict::Try => {
                log::debug!("{worker} {}: tried again", self.name);
                self.rotation.restore(worker, Reason::Stalled);
            }
            Verdict::Rescue => self.rescue.begin(turn.now),
            Verdict::Wait => {}
        }
        self.report_hang(worker, still, turn);
    }

    fn stall(
        &mut self,
        worker: WorkerId,
        still: Duration,
        score: Option<Score>,
        turn: &mut Turn<'_>,
    ) {
        let unread = self.queues.get(&worker).map_or(0, AcceptQueue::unread);
        let is_news = self.may_warn(Trouble::Stall(worker), turn.now);
        let level = if is_news { Level::Warn } else { Level::Debug };
        log::log!(
            level,
            "{worker} {}: has received nothing for {still:.0?} (unread packets: {unread}), passed over while others can serve",
            self.name
        );
        self.rotation.set_aside(worker, Reason::Stalled);
        let stalled = Stalled {
            stall: Stall::begin(turn.now, still),
            score,
            has_answered: false,
            is_news,
        };
        self.stalled.insert(worker, stalled);
        turn.findings.push(Finding::Stalled(worker));
        self.rescue.begin(turn.now);
    }

    fn recover(&mut self, worker: WorkerId) {
        if let Some(Stalled { stall, is_news, .. }) = self.stalled.remove(&worker) {
            let level = if is_news { Level::Info } else { Level::Debug };
            let still = stall.still();
            log::log!(level, "{worker} {}: goes on after {still:.0?}", self.name);
            self.rotation.restore(worker, Reason::Stalled);
        }
    }

    fn report_hang(&self, worker: WorkerId, still: Duration, turn: &mut Turn<'_>) {
        if self.rules.hang_timeout.is_some_and(|limit| still >= limit) {
            turn.findings.push(Finding::Hung(worker, still));
        }
    }

    /// The worker has answered a `Ping`.
    pub(crate) fn note_alive(&mut self, worker: WorkerId) {
        if let Some(stalled) = self.stalled.get_mut(&worker) {
            stalled.has_answered = true;
        }
    }

    /// How often one looks: often enough to see a stall soon after it is one.
    fn period(&self) -> Option<Duration> {
        let timeouts = [self.rules.stall_timeout, self.rules.hang_timeout];
        let shortest = timeouts.into_iter().flatten().min()?;
        Some((shortest / LOOKS_PER_TIMEOUT).clamp(SHORTEST_PERIOD, LONGEST_PERIOD))
    }
}

/// Moving.
impl Serving {
    /// Gives what stalled workers left unread to workers with an empty queue, when it is time.
    pub(super) fn rescue(&mut self, turn: &mut Turn<'_>) {
        if self.rescue.at.is_none_or(|at| turn.now < at) {
            return;
        }
        self.rescue.at = None;
        let mut has_moved = false;
        let mut is_left = false;
        let out = self.stalled.iter().filter(|(_, it)| it.stall.is_out());
        for worker in out.map(|(&worker, _)| worker).collect::<Vec<_>>() {
            while self.has_movable(worker, turn) {
                let Some(target) = self.suited(turn) else {
                    is_left = true;
                    break;
                };
                if !self.move_packet(worker, target, turn) {
                    is_left = true;
                    break;
                }
                has_moved = true;
            }
        }
        if is_left {
            let longest = self.period().unwrap_or(SHORTEST_PAUSE);
            self.rescue.again(turn.now, has_moved, longest);
        }
    }

    /// Whether the worker's queue begins with something that may be moved. What was moved before
    /// and stands in the way goes to the end of the same queue.
    fn has_movable(&mut self, worker: WorkerId, turn: &mut Turn<'_>) -> bool {
        loop {
            let Some(queue) = self.queues.get_mut(&worker) else {
                return false;
            };
            match queue.head() {
                Head::None | Head::Moved => return false,
                Head::Fresh => return true,
                // A queue that has ended takes nothing more.
                Head::MovedBeforeOthers => {
                    if !self.rotation.contains(worker) || !self.move_packet(worker, worker, turn) {
                        return false;
                    }
                }
            }
        }
    }

    /// Takes a packet out of one queue and puts it into another, or into the same behind the rest;
    /// answers whether it did. What its new worker may not have is held.
    fn move_packet(&mut self, from: WorkerId, to: WorkerId, turn: &mut Turn<'_>) -> bool {
        let Some(queue) = self.queues.get_mut(&from) else {
            return false;
        };
        let packet = queue.reclaim(turn.inbox);
        let Taken::Some(mut connections) = self.take_back(from, packet, turn) else {
            return false;
        };
        let room = if from == to {
            connections.len()
        } else {
            turn.loads.room(to)
        };
        let rest = connections.split_off(room.min(connections.len()));
        let count = connections.len() as u64;
        log::debug!("{from} {}: {count} connections moved to {to}", self.name);
        if from != to {
            self.counters.moved += count;
        }
        let is_whole = rest.is_empty();
        self.held.extend(rest);
        self.hand_over(connections, from, to, turn) && is_whole
    }

    /// Answers whether all of them could be handed over; what could not is held.
    fn hand_over(
        &mut self,
        connections: Vec<Accepted>,
        from: WorkerId,
        to: WorkerId,
        turn: &mut Turn<'_>,
    ) -> bool {
        let Some(queue) = self.queues.get_mut(&to) else {
            self.held.extend(connections);
            return false;
        };
        for _ in &connections {
            turn.loads.give(to);
        }
        let first = queue.sent();
        let (count, handed) = queue.hand_over(connections, turn.scratch, turn.closing);
        // To a stalled worker it went only to see whether that goes on.
        if from == to || !self.stalled.contains_key(&to) {
            queue.keep_from(first);
        }
        self.counters.handed_off += count as u64;
        self.note_given(to);
        self.expect_movement(turn.now);
        let is_done = handed.is_ok();
        if let Err(err) = handed {
            self.flush_failed(to, err, turn);
        }
        self.respect_limit(to, turn);
        is_done
    }

    /// A worker in the rotation for which nothing waits; one that has stalled and may be tried if
    /// there is no other.
    ///
    /// It is chosen before the packet is read that it gets, which may have several clients: their
    /// addresses decide nothing here, so with `source-hash` they may come to another slot than their
    /// next connections do.
    fn suited(&mut self, turn: &mut Turn<'_>) -> Option<WorkerId> {
        loop {
            let (queues, stalled) = (&self.queues, &self.stalled);
            let is_empty = |worker| {
                let queue: Option<&AcceptQueue> = queues.get(&worker);
                queue.is_some_and(|queue| queue.unread() == 0)
            };
            let is_sound = |worker| is_empty(worker) && !stalled.contains_key(&worker);
            let picked = self
                .rotation
                .pick_suited(&Address::Unnamed, turn.loads, is_sound);
            let picked = picked.or_else(|| {
                self.rotation
                    .pick_suited(&Address::Unnamed, turn.loads, is_empty)
            });
            let worker = picked?;
            if self.can_take(worker, turn) {
                return Some(worker);
            }
        }
    }
}

const LOOKS_PER_TIMEOUT: u32 = 4;
const SHORTEST_PERIOD: Duration = Duration::from_millis(5);
const LONGEST_PERIOD: Duration = Duration::from_secs(1);

/// How long a rescue waits for somebody to have an empty queue.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
