//! One listener being served: its socket, its rotation, the accept queues of its workers.
//!
//! A connection is in exactly one place: the kernel's backlog, `held`, the packet being built for
//! one accept queue, or that queue. What cannot be handed off goes back to the front of `held`,
//! and nothing new is accepted while anything is held. A queue that lost its worker is emptied a
//! packet at a time, when `held` is empty and somebody has room.

#[cfg(test)]
mod allocations;
mod choice;
mod closing;
mod handoff;
mod interest;
mod lending;
mod overflow;
mod reclaim;
mod stall;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::Registry;
use mio::unix::SourceFd;
use worker_proto::address::Address;
use worker_proto::bind::PROBE_NAME;
use worker_proto::frame::DispatchMode;
use worker_proto::ids::{ListenerId, Slot, WorkerId};
use worker_proto::socket::Inbox;

use self::closing::Grace;
use self::interest::Interested;
use self::lending::Lending;
use self::overflow::Room;
use self::reclaim::{Retired, Short};
pub(crate) use self::stall::Finding;
use self::stall::{Rescue, Stalled};
use super::counters::{Counters, QueueCounters};
use super::delay::{Delays, HandoffDelay};
use super::load::Loads;
use super::queue::AcceptQueue;
use crate::config::Config;
use crate::config::Overflow;
use crate::dispatch::{Coalescing, Reason, Reasons, Rotation, StrategyName};
use crate::sys::closing::Closing;
use crate::sys::listening::{AcceptError, Accepted, ListeningSocket};

/// A listener, and everything that is on its way from it.
#[derive(Debug)]
pub(crate) struct Serving {
    id: ListenerId,
    name: String,
    /// The address really bound.
    address: Address,
    mode: DispatchMode,
    rules: Rules,
    tenure: Tenure,
    socket: Option<ListeningSocket>,
    /// Who accepts from it, or from others of its group, if it is not the master.
    lending: Lending,
    admission: Admission,
    room: Room,
    /// Out of descriptors or memory: nothing is accepted or handed off until then.
    paused_until: Option<Instant>,
    interest: Interested,
    coalescing: Coalescing,
    rotation: Rotation,
    strategy: StrategyName,
    queues: HashMap<WorkerId, AcceptQueue>,
    /// Queues that lost their worker, with what it left unread.
    retired: VecDeque<Retired>,
    /// Workers that cannot open more descriptors.
    short: Vec<Short>,
    /// Workers that do not receive what waits for them.
    stalled: BTreeMap<WorkerId, Stalled>,
    rescue: Rescue,
    /// When to look next at whether the workers receive; `None` while nothing waits.
    look_at: Option<Instant>,
    /// Queues with a packet being built.
    unflushed: Vec<WorkerId>,
    /// Accepted and not on its way to anybody; refilled only when it is empty.
    held: VecDeque<Accepted>,
    nonblocking: bool,
    /// The last time that each trouble was logged.
    warned: BTreeMap<Trouble, Instant>,
    counters: Counters,
    delays: Delays,
}

/// What every listener of a master keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) overflow: Overflow,
    pub(crate) stall_timeout: Option<Duration>,
    pub(crate) hang_timeout: Option<Duration>,
    /// How long a client may wait for others, when many come.
    pub(crate) coalesce: Duration,
}

impl Rules {
    pub(crate) fn of(config: &Config) -> Self {
        Rules {
            overflow: config.overflow,
            stall_timeout: config.stall_timeout,
            hang_timeout: config.hang_timeout,
            coalesce: config.coalesce,
        }
    }
}

/// How long a listener lives.
#[derive(Debug)]
pub(crate) enum Tenure {
    /// As long as the master: `--listen`.
    Declared,
    /// Until its last holder gives it back.
    OnDemand {
        /// The slots of holders that died: their next workers may claim it again.
        awaited: BTreeSet<Slot>,
    },
}

/// What the log is told of every few seconds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// The master is out of descriptors or memory.
    Resources,
    /// This worker is out of descriptors.
    NoRoom(WorkerId),
    /// This worker receives nothing.
    Stall(WorkerId),
    /// Nobody has had room for too long.
    Overflow,
    /// A worker has shut the socket down.
    Shut,
    /// Workers that do not serve get clients.
    Steering,
}

/// Whether clients are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Open,
    /// An operator wants clients to wait in the backlog.
    Paused,
    /// Serves who is in the backlog or about to be, and lets nobody else in.
    Closing(Grace),
}

/// One accept queue, as `Handle::status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueStatus {
    /// Whose.
    pub worker: WorkerId,
    /// What happened to its connections.
    pub counters: QueueCounters,
    /// How many packets its worker has not received.
    pub unread: u64,
    /// What its worker weighs, for a strategy that weighs.
    pub weight: NonZeroU32,
    /// Why its worker gets nothing for now; empty if it does.
    pub aside: Reasons,
}

/// What a turn shares among listeners.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    /// For encoding.
    pub(crate) scratch: &'a mut Vec<u8>,
    /// What was handed off.
    pub(crate) closing: &'a mut Closing,
    /// For reclaiming.
    pub(crate) inbox: &'a mut Inbox,
    pub(crate) loads: &'a mut Loads,
    /// What showed about workers, for the supervisor.
    pub(crate) findings: &'a mut Vec<Finding>,
}

impl Serving {
    /// From now on these rules hold.
    pub(crate) fn adopt(&mut self, rules: Rules) {
        self.rules = rules;
        self.coalescing.adopt(rules.coalesce);
    }

    pub(crate) fn new(
        id: ListenerId,
        name: String,
        mode: DispatchMode,
        rules: Rules,
        tenure: Tenure,
        socket: ListeningSocket,
    ) -> Self {
        Serving {
            id,
            name,
            address: socket.address().clone(),
            mode,
            rules,
            tenure,
            socket: Some(socket),
            lending: Lending::default(),
            admission: Admission::Open,
            room: Room::Expected,
            paused_until: None,
            interest: Interested::No,
            coalescing: Coalescing::new(rules.coalesce),
            rotation: Rotation::new(StrategyName::default().build(0)),
            strategy: StrategyName::default(),
            queues: HashMap::new(),
            retired: VecDeque::new(),
            short: Vec::new(),
            stalled: BTreeMap::new(),
            rescue: Rescue::default(),
            look_at: None,
            unflushed: Vec::new(),
            held: VecDeque::new(),
            nonblocking: false,
            warned: BTreeMap::new(),
            counters: Counters::default(),
            delays: Delays::default(),
        }
    }

    pub(crate) fn id(&self) -> ListenerId {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn mode(&self) -> DispatchMode {
        self.mode
    }

    pub(crate) fn is_declared(&self) -> bool {
        matches!(self.tenure, Tenure::Declared)
    }

    /// The socket, until it is closed.
    pub(crate) fn socket(&self) -> Option<&ListeningSocket> {
        self.socket.as_ref()
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            skipped: self.rotation.skipped_in_all(),
            ..self.counters
        }
    }

    /// Every accept queue of the listener, by worker.
    pub(crate) fn queues(&self) -> Vec<QueueStatus> {
        let status = self.queues.iter().map(|(&worker, queue)| QueueStatus {
            worker,
            counters: QueueCounters {
                skipped: self.rotation.skipped(worker),
                ..queue.counters()
            },
            unread: queue.unread(),
            weight: self.rotation.weight(worker),
            aside: self.rotation.reasons(worker),
        });
        let mut status: Vec<_> = status.collect();
        status.sort_by_key(|queue| queue.worker);
        status
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn handoff_delay(&self, now: Instant) -> HandoffDelay {
        self.delays.status(now)
    }

    /// Whether nobody needs it any more, nor will.
    pub(crate) fn is_unclaimed(&self) -> bool {
        match &self.tenure {
            Tenure::Declared => false,
            Tenure::OnDemand { awaited } => {
                self.queues.is_empty() && !self.has_borrowers() && awaited.is_empty()
            }
        }
    }

    /// The slot's holder died; its next worker may claim the listener again.
    pub(crate) fn await_claim(&mut self, slot: Slot) {
        if let Tenure::OnDemand { awaited } = &mut self.tenure {
            awaited.insert(slot);
        }
    }

    /// The slot's next worker has claimed the listener by now, or never will.
    pub(crate) fn settle(&mut self, slot: Slot) {
        if let Tenure::OnDemand { awaited } = &mut self.tenure {
            awaited.remove(&slot);
        }
    }

    /// Gives the worker a queue. It receives nothing before it [`enter`](Self::enter)s.
    pub(crate) fn add_queue(&mut self, worker: WorkerId, queue: AcceptQueue) {
        if self.queues.is_empty() {
            self.nonblocking = queue.is_nonblocking();
        }
        self.queues.insert(worker, queue);
    }

    /// The worker may receive from now on, if it asked for this listener.
    pub(crate) fn enter(&mut self, worker: WorkerId, slot: Slot, now: Instant) {
        self.let_serve(worker, now);
        if self.queues.contains_key(&worker) {
            self.rotation.enter(worker, slot);
        }
    }

    /// The worker gets nothing new; what is in its queue stays there.
    pub(crate) fn leave(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.rotation.leave(worker);
        self.let_leave(worker, turn.now);
        self.flush(worker, turn);
    }

    /// The worker's queue ends after what is in it.
    pub(crate) fn end(&mut self, worker: WorkerId, turn: &mut Turn<'_>) {
        self.leave(worker, turn);
        if let Some(queue) = self.queues.get(&worker)
            && let Err(err) = queue.end()
        {
            log::error!("{worker} {}: end its accept queue: {err}", self.name);
        }
    }

    /// Takes the worker's queue away; what is in it is dispatched again. Answers whether there was
    /// a queue.
    pub(crate) fn retire(&mut self, worker: WorkerId, turn: &mut Turn<'_>) -> bool {
        self.rotation.leave(worker);
        self.short.retain(|short| short.worker() != worker);
        self.stalled.remove(&worker);
        self.warned.remove(&Trouble::NoRoom(worker));
        self.warned.remove(&Trouble::Stall(worker));
        self.unflushed.retain(|&unflushed| unflushed != worker);
        let had_socket = self.take_back_socket(worker, turn.now);
        let Some(mut queue) = self.queues.remove(&worker) else {
            return had_socket;
        };
        // Not registered unless it was saturated.
        let _ = turn.registry.deregister(&mut SourceFd(&queue.as_raw_fd()));
        let pending = queue.take_pending();
        self.hold(worker, pending, turn);
        self.retired.push_back(Retired {
            worker,
            queue,
            reclaimed: 0,
        });
        true
    }

    /// A saturated queue has room again.
    pub(crate) fn relieve(&mut self, worker: WorkerId, registry: &Registry) {
        if let Some(queue) = self.queues.get(&worker) {
            let _ = registry.deregister(&mut SourceFd(&queue.as_raw_fd()));
            if let Err(err) = queue.note_room() {
                log::error!("{worker} {}: widen its accept queue: {err}", self.name);
            }
            self.rotation.restore(worker, Reason::Saturated);
        }
    }

    /// The poll reported a client, who may have been there since then.
    pub(crate) fn note_readable(&mut self, since: Instant) {
        if self.lends() {
            return self.mend(since);
        }
        if let Interested::Yes { readable } = &mut self.interest {
            *readable = true;
            self.delays.note_readable(since);
        }
    }

    /// When something is due that nothing else will say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [
            self.paused_until,
            self.look_at,
            self.rescue.deadline(),
            self.short_deadline(),
            self.overflow_deadline(),
            self.grace_deadline(),
            self.lending_deadline(),
            self.look_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether a turn would do something at once.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.can_accept() && self.interest.is_readable()
    }

    /// Hands off what is held, then accepts and hands off what waits, within the budget.
    pub(crate) fn turn(&mut self, turn: &mut Turn<'_>) {
        self.paused_until = self.paused_until.filter(|&until| turn.now < until);
        self.try_short_again(turn.now);
        self.lift_limits(turn);
        self.look(turn);
        self.rescue(turn);
        self.end_grace(turn.now);
        self.look_if_due(turn.now);
        let looks = self.interest.is_readable();
        let accepted_before = self.counters.accepted;
        let mut budget = ACCEPT_BUDGET;
        self.look_at_sockets(&mut budget, turn);
        loop {
            self.update_room(turn);
            self.hold_retired(turn);
            self.delays.begin_round(!self.held.is_empty());
            if self.is_overflowing() {
                self.refuse_overflowing(turn);
            } else {
                self.dispatch_held(turn);
            }
            self.update_interest(turn);
            let accepted = self.accept(&mut budget, turn);
            self.flush_all(turn);
            if !self.interest.is_readable() {
                self.delays.note_empty();
            }
            let goes_on = if self.held.is_empty() {
                !self.retired.is_empty() && self.paused_until.is_none()
            } else {
                self.can_dispatch(turn)
            };
            if !accepted && !goes_on {
                break;
            }
        }
        if looks {
            self.await_next(self.counters.accepted - accepted_before, turn);
        }
        self.update_room(turn);
        self.update_interest(turn);
    }

    /// Clients wait in the backlog from now on, unless the listener closes.
    pub(crate) fn pause_admission(&mut self) {
        if self.admission == Admission::Open && !self.lends() {
            self.admission = Admission::Paused;
        }
    }

    /// Clients are accepted again.
    pub(crate) fn resume_admission(&mut self) {
        if self.is_paused() {
            self.admission = Admission::Open;
        }
    }

    /// Whether an operator wants clients to wait in the backlog.
    pub(crate) fn is_paused(&self) -> bool {
        self.admission == Admission::Paused
    }

    /// Listens on this socket instead, whose address is the same; who waits at the other one is held.
    pub(crate) fn move_to(&mut self, socket: ListeningSocket, registry: &Registry) {
        self.deregister(registry);
        let Some(mut old) = self.socket.replace(socket) else {
            return;
        };
        // Fails only for what nobody can come to anyway.
        let _ = old.stop_admitting();
        while let Ok(connection) = old.accept(self.nonblocking) {
            self.counters.accepted += 1;
            self.held.push_back(connection);
        }
    }

    /// Closes the socket as it is.
    pub(crate) fn abandon(&mut self, registry: &Registry) {
        self.admission = Admission::Closing(Grace::Over);
        self.deregister(registry);
        self.shut_sockets(registry);
        self.socket = None;
    }

    /// Gives up on what is held or was left unread: there is no worker left to take it.
    pub(crate) fn refuse_held(&mut self, turn: &mut Turn<'_>) {
        let mut refused = self.refuse_backlogs();
        while let Some(connection) = self.next_held(turn) {
            connection.close();
            refused += 1;
        }
        // What the master may not even open is closed with its queue.
        for Retired { queue, .. } in self.retired.drain(..) {
            let unread = queue.unread();
            self.counters.reclaimed += unread;
            refused += unread;
        }
        if refused > 0 {
            log::warn!(
                "{}: {refused} connections refused: no worker is left to serve them",
                self.name
            );
            self.counters.refused.no_worker += refused;
        }
    }

    /// While closing, with no worker that could come to listen: whom nobody serves goes.
    pub(crate) fn give_up_unserved(&mut self, turn: &mut Turn<'_>) {
        let is_unserved = self.queues.is_empty() && !self.has_borrowers();
        if self.is_closing() && is_unserved && !self.is_closed() {
            self.refuse_held(turn);
            self.abandon(turn.registry);
        }
    }

    /// Nobody is waiting any more, and nobody can come.
    pub(crate) fn is_closed(&self) -> bool {
        let is_empty = self.socket.is_none() || self.is_empty_for_good();
        is_empty && self.held.is_empty() && self.retired.is_empty()
    }

    /// Accepts within the budget; answers whether there was anything.
    fn accept(&mut self, budget: &mut usize, turn: &mut Turn<'_>) -> bool {
        let mut any = false;
        while *budget > 0 && self.is_unfinished() && self.held.is_empty() {
            let Some(socket) = &self.socket else { break };
            match socket.accept(self.nonblocking) {
                Ok(connection) if is_probe(&connection.peer) => *budget -= 1,
                Ok(connection) => {
                    *budget -= 1;
                    any = true;
                    self.counters.accepted += 1;
                    self.note_client(turn.now);
                    if self.is_overflowing() {
                        self.refuse(connection);
                    } else {
                        self.dispatch(connection, turn);
                    }
                }
                Err(AcceptError::Empty) => {
                    self.note_nobody_waits();
                    self.note_empty(turn);
                }
                Err(AcceptError::Aborted(err)) => {
                    *budget -= 1;
                    self.counters.aborted += 1;
                    log::debug!("{}: {err}", self.name);
                }
                // What is about to be handed off, and closed here, may be what was lacking.
                Err(AcceptError::Exhausted(_)) if any => break,
                Err(err @ (AcceptError::Exhausted(_) | AcceptError::Broken(_))) => {
                    self.pause(turn.now, &err);
                }
            }
        }
        any
    }

    fn pause(&mut self, now: Instant, err: &AcceptError) {
        self.paused_until = Some(now + RETRY_AFTER);
        if self.may_warn(Trouble::Resources, now) {
            log::warn!(
                "{}: {err}; new connections wait, tried again every {RETRY_AFTER:?}",
                self.name
            );
        }
    }

    /// Whether the log can take a line about this trouble: one every few seconds.
    fn may_warn(&mut self, trouble: Trouble, now: Instant) -> bool {
        let again = self.warned.get(&trouble).map(|&at| at + WARN_AGAIN_AFTER);
        let may_warn = again.is_none_or(|again| now >= again);
        if may_warn {
            self.warned.insert(trouble, now);
        }
        may_warn
    }

    fn can_dispatch(&self, turn: &mut Turn<'_>) -> bool {
        self.paused_until.is_none() && self.rotation.has_room() && !turn.loads.is_full(turn.now)
    }

    /// While closing, one client may be held for a worker that is about to have room: only by
    /// accepting does it show whether anybody is waiting at all.
    fn can_accept(&self) -> bool {
        self.socket.is_some()
            && !self.lends()
            && self.paused_until.is_none()
            && match (self.admission, self.room) {
                (Admission::Closing(_), _) => true,
                (Admission::Open, Room::Ample | Room::Overflowing { .. }) => true,
                (Admission::Open, Room::Expected | Room::Lacking { .. }) => false,
                (Admission::Paused, _) => false,
            }
    }
}

/// Whether it is no client, but wants to see who listens.
fn is_probe(peer: &Address) -> bool {
    matches!(peer, Address::Abstract(name) if name.starts_with(PROBE_NAME))
}

/// How many connections one listener accepts before the loop looks at anything else.
const ACCEPT_BUDGET: usize = 64;

/// How long accepting rests when descriptors or memory have run out.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How often that is worth a line in the log.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(10);
