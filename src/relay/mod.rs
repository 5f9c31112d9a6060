//! The relay: messages between processes. It stamps the sender, finds the receivers, and keeps what
//! they have not room for yet.
//!
//! First in, first out for every pair of a sender and a receiver, and at most once: a message is
//! copied to a process when it is known whole, and never a second time, nor to its successor. It
//! never looks into a payload and never believes a sender's name.

mod assembly;
mod envelope;
mod held;
mod member;
mod outbox;
mod receipts;
mod recipients;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use worker_proto::frame::FromMaster;
use worker_proto::ids::WorkerId;
use worker_proto::message::{Kind, MessageId, More, PeerState, Receipt, Recipient, Send, Sender};

pub use self::assembly::Nonsense;
pub use self::envelope::Envelope;
pub use self::member::Identity;

use self::assembly::Whole;
use self::held::{Held, Item};
use self::member::Member;
use self::receipts::Receipts;
use self::recipients::Found;
use self::requests::Requests;
use crate::supervisor::WorkerState;

/// How much it may keep, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload.
    pub max_message: u64,
    /// All messages together.
    pub memory: u64,
    /// How long one waits for an agent that is not there, and a request for its reply, if nobody says.
    pub hold: Duration,
}

/// Everything that is said between processes.
#[derive(Debug)]
pub struct Relay {
    limits: Limits,
    /// The names of the agents that there should be; messages for others do not wait.
    agents: Vec<String>,
    /// How many slots of workers there should be.
    workers: u32,
    members: BTreeMap<WorkerId, Member>,
    /// Those to whom something may be sent.
    active: BTreeSet<WorkerId>,
    /// In whose outbox something may have waited long enough, and when.
    expiries: BTreeSet<(Instant, WorkerId)>,
    held: Held,
    receipts: Receipts,
    requests: Requests,
    /// For the master itself.
    own: VecDeque<Arc<Envelope>>,
    /// Its own requests that were lost.
    own_receipts: VecDeque<(MessageId, Receipt)>,
    is_cluster_ready: bool,
    /// What the messages that came whole count for, each once.
    whole: u64,
    /// What the others count for.
    partial: u64,
    dice: fastrand::Rng,
    totals: Totals,
}

/// What became of messages, counted since the start: a message to many counts for each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// On the channel of its receiver.
    pub delivered: u64,
    /// There was no room for it.
    pub full: u64,
    /// Its receiver was not there, was leaving, was gone before it could get it, or came too late.
    pub unreachable: u64,
    /// It was none.
    pub refused: u64,
}

impl Relay {
    /// A relay for a cluster of these agents and that many workers, none of whom is there yet.
    #[must_use]
    pub fn new(limits: Limits, agents: Vec<String>, workers: u32, seed: u64) -> Self {
        Relay {
            limits,
            agents,
            workers,
            members: BTreeMap::new(),
            active: BTreeSet::new(),
            expiries: BTreeSet::new(),
            held: Held::default(),
            receipts: Receipts::default(),
            requests: Requests::default(),
            own: VecDeque::new(),
            own_receipts: VecDeque::new(),
            is_cluster_ready: false,
            whole: 0,
            partial: 0,
            dice: fastrand::Rng::with_seed(seed),
            totals: Totals::default(),
        }
    }

    /// A process has joined: it gets what waited for it, first of all.
    pub fn join(&mut self, now: Instant, identity: Identity) {
        let worker = identity.worker;
        let member = Member::new(identity, self.outbox_bound());
        self.members.insert(worker, member);
        self.announce(worker, None);
        let member = &self.members[&worker];
        let is_for_it = |item: &Item| recipients::is_for(&item.recipient, member);
        let is_for_others = |item: &Item| recipients::is_for_many(&item.recipient);
        for item in self.held.hand_out(is_for_it, is_for_others) {
            if is_for_others(&item) {
                self.receipts.add(&item.envelope);
            }
            self.await_reply(now, &item.envelope, worker, item.until);
            self.push(worker, item.envelope, item.until);
        }
    }

    /// A process is in another state.
    pub fn note_state(&mut self, worker: WorkerId, state: WorkerState) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let before = member.peer();
        member.state = state;
        if member.peer() != before {
            self.announce(worker, None);
        }
    }

    /// A process's channel has ended: what it has not got it will not get, nor will its successor.
    pub fn part(&mut self, worker: WorkerId) {
        if !self.members.contains_key(&worker) {
            return;
        }
        self.announce(worker, Some(PeerState::Gone));
        let Some(mut member) = self.members.remove(&worker) else {
            return;
        };
        self.active.remove(&worker);
        if let Some(deadline) = member.outbox.deadline() {
            self.expiries.remove(&(deadline, worker));
        }
        self.partial -= member.assembly.held();
        for envelope in member.outbox.empty() {
            self.miss(&envelope, Receipt::NoSuchPeer);
            self.release(envelope);
        }
        for (asker, message) in self.requests.part(worker) {
            self.tell_receipt(asker, message, Receipt::NoSuchPeer);
        }
    }

    /// Everybody is there: what has found nobody until now finds nobody.
    pub fn note_cluster_ready(&mut self, now: Instant) {
        self.is_cluster_ready = true;
        for item in self.held.take(|_| true) {
            if recipients::is_for_agent(&item.recipient) {
                let until = item.until.or(Some(now + self.limits.hold));
                self.hold(item.recipient, until, &item.envelope);
                self.release(item.envelope);
            } else {
                self.give_up(item, Receipt::NoSuchPeer);
            }
        }
    }

    /// A process sends a message, or its beginning.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn send(&mut self, now: Instant, from: WorkerId, send: Send) -> Result<(), Nonsense> {
        self.assemble(now, from, |assembly, sender, max, room| {
            assembly.begin(sender, send, max, room)
        })
    }

    /// A process sends a further piece of its message.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn send_more(&mut self, now: Instant, from: WorkerId, more: More) -> Result<(), Nonsense> {
        self.assemble(now, from, |assembly, _, _, room| assembly.go_on(more, room))
    }

    fn assemble(
        &mut self,
        now: Instant,
        from: WorkerId,
        step: impl FnOnce(&mut assembly::Assembly, Sender, u64, u64) -> Result<Option<Whole>, Nonsense>,
    ) -> Result<(), Nonsense> {
        let Some(member) = self.members.get_mut(&from) else {
            return Ok(());
        };
        let sender = member.sender();
        let others = self.whole + self.partial - member.assembly.held();
        let room = self.limits.memory.saturating_sub(others);
        let came = step(&mut member.assembly, sender, self.limits.max_message, room);
        self.partial = others - self.whole + member.assembly.held();
        if let Some(whole) = came? {
            self.route(now, whole);
        }
        Ok(())
    }

    /// A process's program has taken messages.
    pub fn note_taken(&mut self, worker: WorkerId, bytes: u64) {
        if let Some(member) = self.members.get_mut(&worker) {
            member.outbox.note_taken(bytes);
            self.activate(worker);
        }
    }

    /// A process wants to know its peers.
    pub fn watch_peers(&mut self, worker: WorkerId) {
        let peers: Vec<_> = self.members.values().map(Member::peer).collect();
        if let Some(member) = self.members.get_mut(&worker) {
            member.watch(peers.into_iter());
            self.activate(worker);
        }
    }

    /// The master itself sends a message; answers to how many. A reply to it comes by
    /// [`poll_own`](Self::poll_own), and that there will be none by
    /// [`poll_own_receipt`](Self::poll_own_receipt).
    ///
    /// # Errors
    /// Why it reaches nobody.
    pub fn post(
        &mut self,
        now: Instant,
        recipient: &Recipient,
        envelope: Envelope,
        within: Duration,
    ) -> Result<u32, Receipt> {
        if envelope.kind == Kind::Request && recipients::is_for_many(recipient) {
            return Err(Receipt::NoSuchPeer);
        }
        let envelope = self.admit(envelope)?;
        let receivers = match self.find(recipient, &envelope) {
            Found::Members(members) => members,
            Found::Nobody(why) => {
                self.release(envelope);
                return Err(why);
            }
            // Only processes are waited for by processes.
            Found::Later | Found::Master => {
                self.release(envelope);
                return Err(Receipt::NoSuchPeer);
            }
        };
        // Who asks does not wait any longer for the reply.
        let until = (envelope.kind == Kind::Request).then_some(now + within);
        let mut reached = 0;
        for worker in &receivers {
            self.await_reply(now, &envelope, *worker, until);
            reached += u32::from(self.push(*worker, Arc::clone(&envelope), until));
        }
        self.release(envelope);
        match (reached, receivers.is_empty()) {
            (0, true) => Err(Receipt::NoSuchPeer),
            (0, false) => Err(Receipt::Full),
            (reached, _) => Ok(reached),
        }
    }

    /// The next message for the master itself.
    pub fn poll_own(&mut self) -> Option<Arc<Envelope>> {
        let envelope = self.own.pop_front()?;
        self.whole -= envelope.charge();
        Some(envelope)
    }

    /// The next of the master's requests that nobody will answer, and why.
    pub fn poll_own_receipt(&mut self) -> Option<(MessageId, Receipt)> {
        self.own_receipts.pop_front()
    }

    /// Those to whom something may be sent.
    pub fn active(&self) -> &BTreeSet<WorkerId> {
        &self.active
    }

    /// What is to be sent to a process next. [`note_sent`](Self::note_sent) follows when it is.
    pub fn frame(&mut self, worker: WorkerId) -> Option<FromMaster> {
        self.members.get_mut(&worker)?.frame()
    }

    /// What [`frame`](Self::frame) gave last is on the process's channel.
    pub fn note_sent(&mut self, worker: WorkerId) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let whole = member.note_sent();
        if !member.has_frame() {
            self.active.remove(&worker);
        }
        if let Some(envelope) = whole {
            self.totals.delivered += 1;
            let receipt = self.receipts.deliver(&envelope);
            self.pass_on(&envelope, receipt);
            self.release(envelope);
        }
    }

    /// Whether nothing is to be read of a process for now: it does not read itself.
    #[must_use]
    pub fn is_swamped(&self, worker: WorkerId) -> bool {
        self.members.get(&worker).is_some_and(Member::is_swamped)
    }

    /// What has waited long enough waits no more.
    pub fn tick(&mut self, now: Instant) {
        for (asker, message) in self.requests.expire(now) {
            // Processes know by themselves when they have waited long enough.
            if asker == MASTER {
                self.own_receipts.push_back((message, Receipt::Expired));
            }
        }
        while let Some((due, worker)) = self.expiries.first().copied()
            && due <= now
        {
            self.expiries.remove(&(due, worker));
            self.expire(now, worker);
        }
        if self.held.deadline().is_none_or(|until| until > now) {
            return;
        }
        let is_over = |item: &Item| item.until.is_some_and(|until| until <= now);
        for item in self.held.take(is_over) {
            self.give_up(item, Receipt::Expired);
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_outboxes = self.expiries.first().map(|(due, _)| *due);
        [self.requests.deadline(), self.held.deadline(), of_outboxes]
            .into_iter()
            .flatten()
            .min()
    }

    /// What all messages count for that it holds.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.whole + self.partial
    }

    /// What the replies and values count for that wait for a process.
    #[must_use]
    pub fn awaited_bytes(&self, worker: WorkerId) -> u64 {
        let member = self.members.get(&worker);
        member.map_or(0, |member| member.outbox.awaited_bytes())
    }

    /// How many messages wait for a process, and what they count for.
    #[cfg(test)]
    fn backlog(&self, worker: WorkerId) -> (usize, u64) {
        let member = self.members.get(&worker);
        member.map_or((0, 0), |member| member.outbox.backlog())
    }

    /// What became of messages since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

impl Relay {
    /// A message is known whole.
    fn route(&mut self, now: Instant, whole: Whole) {
        let Whole {
            recipient,
            within_ms,
            envelope,
            refused,
        } = whole;
        if let Some(refused) = refused {
            return self.refuse(&envelope, refused);
        }
        if let Err(refused) = self.check(&recipient, &envelope) {
            return self.refuse(&envelope, refused);
        }
        let within = within_ms.map(|ms| Duration::from_millis(ms.into()));
        let until = within.map(|within| now + within);
        self.whole += envelope.charge();
        let envelope = Arc::new(envelope);
        self.receipts.open(&envelope);
        match self.find(&recipient, &envelope) {
            Found::Master => self.push_own(&envelope),
            Found::Nobody(why) => self.miss(&envelope, why),
            Found::Later => {
                let until = match until {
                    None if self.is_cluster_ready => Some(now + self.limits.hold),
                    until => until,
                };
                self.hold(recipient, until, &envelope);
            }
            Found::Members(members) => {
                let is_for_more = recipients::is_for_many(&recipient) && !self.is_cluster_ready;
                for worker in &members {
                    self.receipts.add(&envelope);
                    self.await_reply(now, &envelope, *worker, until);
                    self.push(*worker, Arc::clone(&envelope), until);
                }
                if is_for_more {
                    self.hold(recipient, until, &envelope);
                } else if members.is_empty() {
                    self.miss(&envelope, Receipt::NoSuchPeer);
                } else {
                    self.settle(&envelope);
                }
            }
        }
        self.release(envelope);
    }

    /// What a message may not be, beside what its bytes show.
    fn check(&mut self, recipient: &Recipient, envelope: &Envelope) -> Result<(), Receipt> {
        let Some(sender) = envelope.sender() else {
            return Ok(());
        };
        match envelope.kind {
            Kind::Message | Kind::Value { .. } => Ok(()),
            // A request is for one, and the master has no answers.
            Kind::Request if recipients::is_for_many(recipient) => Err(Receipt::NoSuchPeer),
            Kind::Request if *recipient == Recipient::Master => Err(Receipt::NoSuchPeer),
            Kind::Request if !self.requests.has_room(sender) => Err(Receipt::TooManyRequests),
            Kind::Request => Ok(()),
            Kind::Reply { to } => {
                let asker = if let Recipient::Worker(asker) = *recipient {
                    Some(asker)
                } else {
                    (*recipient == Recipient::Master).then_some(MASTER)
                };
                let is_awaited =
                    asker.is_some_and(|asker| self.requests.close((asker, to), sender));
                is_awaited.then_some(()).ok_or(Receipt::NoSuchPeer)
            }
        }
    }

    /// Takes over a message of the master's own.
    fn admit(&mut self, envelope: Envelope) -> Result<Arc<Envelope>, Receipt> {
        let charge = envelope.charge();
        if envelope.len_bytes > self.limits.max_message {
            return Err(Receipt::TooLarge);
        }
        if self.memory() + charge > self.limits.memory {
            return Err(Receipt::Full);
        }
        self.whole += charge;
        Ok(Arc::new(envelope))
    }

    fn refuse(&mut self, envelope: &Envelope, why: Receipt) {
        self.totals.refused += 1;
        let wants = envelope.wants_receipt || envelope.kind == Kind::Request;
        if let Some(sender) = envelope.sender().filter(|_| wants) {
            self.tell_receipt(sender, envelope.message, why);
        }
    }

    fn push_own(&mut self, envelope: &Arc<Envelope>) {
        if self.own.len() >= MOST_OWN {
            return self.miss(envelope, Receipt::Full);
        }
        self.totals.delivered += 1;
        self.own.push_back(Arc::clone(envelope));
        let receipt = self.receipts.deliver(envelope);
        self.pass_on(envelope, receipt);
    }

    /// What has waited reaches nobody any more, or of many nobody else.
    fn give_up(&mut self, item: Item, why: Receipt) {
        if recipients::is_for_many(&item.recipient) {
            self.settle(&item.envelope);
        } else {
            self.miss(&item.envelope, why);
        }
        self.release(item.envelope);
    }

    fn hold(&mut self, recipient: Recipient, until: Option<Instant>, envelope: &Arc<Envelope>) {
        let bound = self.outbox_bound();
        let item = Item {
            recipient,
            until,
            envelope: Arc::clone(envelope),
        };
        if let Err(item) = self.held.push(item, bound) {
            self.give_up(item, Receipt::Full);
        }
    }

    /// Puts a message into a process's outbox; answers whether there was room.
    fn push(&mut self, worker: WorkerId, envelope: Arc<Envelope>, until: Option<Instant>) -> bool {
        let Some(member) = self.members.get_mut(&worker) else {
            self.release(envelope);
            return false;
        };
        let before = member.outbox.deadline();
        match member.outbox.push(envelope, until) {
            Ok(()) => {
                self.note_deadline(worker, before);
                self.activate(worker);
                true
            }
            Err(envelope) => {
                self.miss(&envelope, Receipt::Full);
                self.release(envelope);
                false
            }
        }
    }

    /// What has waited for that process long enough does not go to it any more.
    fn expire(&mut self, now: Instant, worker: WorkerId) {
        let Some(member) = self.members.get_mut(&worker) else {
            return;
        };
        let over = member.outbox.expire(now);
        // What comes next may be small enough; or nothing comes.
        self.active.remove(&worker);
        self.activate(worker);
        self.note_deadline(worker, None);
        for envelope in over {
            // Of the master's own requests those that wait for a reply tell as much.
            if envelope.sender().is_some() {
                self.miss(&envelope, Receipt::Expired);
            }
            self.release(envelope);
        }
    }

    /// Looks at the outbox when something in it may have waited long enough.
    fn note_deadline(&mut self, worker: WorkerId, before: Option<Instant>) {
        let member = self.members.get(&worker);
        let deadline = member.and_then(|member| member.outbox.deadline());
        if deadline != before {
            self.expiries
                .extend(deadline.map(|deadline| (deadline, worker)));
            if let Some(before) = before {
                self.expiries.remove(&(before, worker));
            }
        }
    }

    /// A request is on its way to that process, which owes the reply.
    fn await_reply(
        &mut self,
        now: Instant,
        envelope: &Envelope,
        asked: WorkerId,
        until: Option<Instant>,
    ) {
        if envelope.kind == Kind::Request {
            let asker = envelope.sender().unwrap_or(MASTER);
            let until = until.unwrap_or(now + self.limits.hold);
            self.requests.open((asker, envelope.message), asked, until);
        }
    }

    /// One of its receivers will not get it.
    fn miss(&mut self, envelope: &Envelope, why: Receipt) {
        if why == Receipt::Full {
            self.totals.full += 1;
        } else {
            self.totals.unreachable += 1;
        }
        if envelope.kind == Kind::Request {
            let asker = envelope.sender().unwrap_or(MASTER);
            self.requests.drop(asker, envelope.message);
            if asker == MASTER {
                self.own_receipts.push_back((envelope.message, why));
            }
        }
        let receipt = self.receipts.miss(envelope, why);
        self.pass_on(envelope, receipt);
    }

    /// Nobody else will get it.
    fn settle(&mut self, envelope: &Envelope) {
        let receipt = self.receipts.settle(envelope);
        self.pass_on(envelope, receipt);
    }

    fn pass_on(&mut self, envelope: &Envelope, receipt: Option<Receipt>) {
        if let (Some(sender), Some(receipt)) = (envelope.sender(), receipt) {
            self.tell_receipt(sender, envelope.message, receipt);
        }
    }

    fn tell_receipt(&mut self, sender: WorkerId, message: MessageId, receipt: Receipt) {
        if sender == MASTER {
            self.own_receipts.push_back((message, receipt));
        } else if let Some(member) = self.members.get_mut(&sender) {
            member.push_receipt(FromMaster::Receipt { message, receipt });
            self.activate(sender);
        }
    }

    /// Lets go of a message; the last one to do so gives its memory back.
    fn release(&mut self, envelope: Arc<Envelope>) {
        if let Some(envelope) = Arc::into_inner(envelope) {
            self.whole -= envelope.charge();
        }
    }

    fn activate(&mut self, worker: WorkerId) {
        if self.members.get(&worker).is_some_and(Member::has_frame) {
            self.active.insert(worker);
        }
    }

    /// Tells those who want to know of a process.
    fn announce(&mut self, worker: WorkerId, gone: Option<PeerState>) {
        let Some(member) = self.members.get(&worker) else {
            return;
        };
        let peer = gone.map_or_else(|| member.peer(), |state| member.peer_in(state));
        for (watcher, member) in &mut self.members {
            if !member.note_peer(&peer) {
                continue;
            }
            if member.has_frame() {
                self.active.insert(*watcher);
            } else {
                self.active.remove(watcher);
            }
        }
    }

    /// How much may wait for one process, or for those who are not there.
    fn outbox_bound(&self) -> u64 {
        self.limits.max_message.max(LEAST_BOUND)
    }
}

/// Who asks when the master does: the ids of processes count from 1.
const MASTER: WorkerId = WorkerId(0);

/// How many messages may wait for the master itself: it looks once a turn.
const MOST_OWN: usize = 1024;

/// What an outbox has room for however short messages have to be.
const LEAST_BOUND: u64 = 1024 * 1024;
