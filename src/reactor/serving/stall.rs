//! Stalls: workers that do not receive what waits for them.
//!
//! Nothing is asked of the worker: the kernel says how much of its queue is unread. What a stalled
//! worker left unread goes to workers that have nothing waiting, each connection once at most:
//! moving it between slow but healthy workers would gain nothing.

use std::time::{Duration, Instant};

use worker_proto::address::Address;
use worker_proto::ids::WorkerId;
use worker_proto::scoreboard::Score;

use super::{Serving, Turn};
use crate::dispatch::{Pace, Reason};
use crate::reactor::queue::{AcceptQueue, Head};
use crate::sys::listening::{AcceptError, Accepted};

/// One worker's stall.
#[derive(Debug)]
pub(super) struct Stall {
    /// For how long it was seen to receive nothing, and when somebody looked last.
    still: Duration,
    looked: Instant,
    /// What it had received and finished when it stalled, if it says so.
    score: Option<Score>,
    /// It has answered a `Ping` since: it runs.
    has_answered: bool,
    standing: Standing,
    /// How often it was given something again and left that, too.
    relapses: u32,
}

/// Whether a stalled worker is given anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing. As long as something waits in its queue, that shows whether it goes on. An empty
    /// queue shows nothing: then it is given something again at this time at the latest.
    Out { until: Instant },
    /// It is in the rotation again, for one packet.
    Tried,
    /// It got the packet, which shows whether it receives again.
    Given,
}

impl Stall {
    fn begin(now: Instant, still: Duration, score: Option<Score>) -> Self {
        Stall {
            still,
            looked: now,
            score,
            has_answered: false,
            standing: Standing::Out {
                until: now + FIRST_PATIENCE,
            },
            relapses: 0,
        }
    }

    /// Counts the time since the last look, at most two periods, while it should do something.
    fn count(&mut self, now: Instant, period: Duration, is_empty: bool) {
        let since = now.saturating_duration_since(self.looked);
        self.looked = now;
        if self.is_pending() || !is_empty {
            self.still += since.min(period * 2);
        }
    }

    /// Whether to give it something, now that its queue is empty.
    fn is_worth_a_try(&self, now: Instant, score: Option<Score>) -> bool {
        let Standing::Out { until } = self.standing else {
            return false;
        };
        // Without connections of its own there is nothing that it could be busy with.
        let is_free = self.has_answered && score.is_none_or(|score| score.open() == 0);
        let seems_to_go_on = is_free || score != self.score;
        // Who seemed to go on and did not is not believed again.
        now >= until || (seems_to_go_on && self.relapses == 0)
    }

    /// It was given something, and left that, too.
    fn relapse(&mut self, now: Instant) {
        self.relapses += 1;
        let patience = FIRST_PATIENCE.saturating_mul(1 << self.relapses.min(16));
        self.standing = Standing::Out {
            until: now + patience.min(LONGEST_PATIENCE),
        };
    }

    /// Whether what waits for it is for others.
    fn is_out(&self) -> bool {
        matches!(self.standing, Standing::Out { .. })
    }

    /// Whether there is anything to look at: not before it is given something.
    fn is_pending(&self) -> bool {
        self.standing != Standing::Tried
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
        if let Some(stall) = self.stalled.get_mut(&worker)
            && stall.standing == Standing::Tried
        {
            stall.standing = Standing::Given;
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
        let goes_on = self.stalled.values().any(Stall::is_pending) || busy.iter().any(is_waiting);
        self.look_at = goes_on.then(|| turn.now + period);
    }

    fn look_at_worker(&mut self, worker: WorkerId, period: Duration, turn: &mut Turn<'_>) {
        let Some(queue) = self.queues.get_mut(&worker) else {
            return;
        };
        let pace = queue.look(turn.now, period);
        let (unmoved, is_empty) = (queue.watch().unmoved(), queue.is_idle());
        let score = turn.loads.score(worker);
        let is_stall = self
            .rules
            .stall_timeout
            .is_some_and(|limit| unmoved >= limit);
        let Some(stall) = self.stalled.get_mut(&worker) else {
            if is_stall {
                self.stall(worker, unmoved, score, turn);
            }
            return self.report_hang(worker, unmoved, turn);
        };
        if pace == Pace::Moving {
            return self.recover(worker);
        }
        stall.count(turn.now, period, is_empty);
        let still = stall.still;
        if is_empty && stall.is_worth_a_try(turn.now, score) {
            stall.standing = Standing::Tried;
            log::debug!("{worker} {}: tried again", self.name);
            self.rotation.restore(worker, Reason::Stalled);
        } else if stall.standing == Standing::Given && (is_stall || is_empty) {
            // Empty without having moved: it was taken back for another reason.
            stall.relapse(turn.now);
        }
        if stall.is_out() && !is_empty && self.rescue.at.is_none() {
            self.rescue.begin(turn.now);
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
        log::warn!(
            "{worker} {}: has received nothing for {still:.0?} while connections wait for it ({unread} packets): others get them",
            self.name
        );
        self.rotation.set_aside(worker, Reason::Stalled);
        let stall = Stall::begin(turn.now, still, score);
        self.stalled.insert(worker, stall);
        turn.findings.push(Finding::Stalled(worker));
        self.rescue.begin(turn.now);
    }

    fn recover(&mut self, worker: WorkerId) {
        if let Some(stall) = self.stalled.remove(&worker) {
            log::info!("{worker} {}: goes on after {:.0?}", self.name, stall.still);
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
        if let Some(stall) = self.stalled.get_mut(&worker) {
            stall.has_answered = true;
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
        let out = self.stalled.iter().filter(|(_, stall)| stall.is_out());
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
    /// answers whether it did.
    fn move_packet(&mut self, from: WorkerId, to: WorkerId, turn: &mut Turn<'_>) -> bool {
        let Some(queue) = self.queues.get_mut(&from) else {
            return false;
        };
        let connections = match queue.reclaim(turn.inbox) {
            Ok(Some(connections)) => connections,
            Ok(None) => return false,
            Err(err) => {
                self.pause(turn.now, &AcceptError::Exhausted(err));
                return false;
            }
        };
        let count = connections.len() as u64;
        self.counters.reclaimed += count;
        turn.loads.take_back(from, count);
        log::debug!("{from} {}: {count} connections moved to {to}", self.name);
        if from != to {
            self.counters.moved += count;
        }
        self.hand_over(connections, to, turn);
        true
    }

    fn hand_over(&mut self, connections: Vec<Accepted>, to: WorkerId, turn: &mut Turn<'_>) {
        let Some(queue) = self.queues.get_mut(&to) else {
            return self.held.extend(connections);
        };
        for _ in &connections {
            turn.loads.give(to);
        }
        let (count, handed) = queue.hand_over(connections, turn.scratch);
        self.counters.handed_off += count as u64;
        if let Err(err) = handed {
            self.flush_failed(to, err, turn);
        }
        self.respect_limit(to, turn);
    }

    /// A worker in the rotation for which nothing waits.
    fn suited(&mut self, turn: &mut Turn<'_>) -> Option<WorkerId> {
        loop {
            let queues = &self.queues;
            let worker = self.rotation.pick_suited(&Address::Unnamed, |worker| {
                queues.get(&worker).is_some_and(|queue| queue.unread() == 0)
            })?;
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

/// How long a stalled worker is left alone before it is tried with a connection, at first and at
/// most.
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_PATIENCE: Duration = Duration::from_secs(32);
